//! Every stage of a small model, as a page that people read and tests compare.
//!
//! `UPDATE_GOLDEN=1 cargo test -p llmc-passes --test suite golden` writes it anew.

use crate::common::{arch, verified};
use llmc_ir::text::print;
use llmc_ir::{Function, Module};
use llmc_model::parameter_polynomial;
use llmc_passes::{PASSES, autodiff, cse, dce, inline, legalise, simplify};
use llmc_spec::{DimExprs, Dims};
use std::fmt::Write;
use std::path::Path;

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    if stored == text {
        return;
    }
    let line = stored.lines().zip(text.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| stored.lines().count().min(text.lines().count()));
    panic!(
        "tests/golden/{name} differs from line {}:\n  stored: {}\n  now:    {}\n\
         if that is meant, run the test with UPDATE_GOLDEN=1",
        line + 1,
        stored.lines().nth(line).unwrap_or("(end)"),
        text.lines().nth(line).unwrap_or("(end)"),
    );
}

/// The module with only these functions.
fn only(module: &Module, names: &[&str]) -> Module {
    let keep = |f: &&Function| names.contains(&f.name.as_str());
    Module { functions: module.functions.iter().filter(keep).cloned().collect(), ..module.clone() }
}

#[test]
fn every_stage_of_a_tiny_model() {
    let dims = Dims {
        vocab_size: 32,
        context_length: 16,
        num_layers: 2,
        hidden_size: 16,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 8,
        intermediate_size: 40,
    };
    let arch = arch();
    let model = verified(llmc_model::build(&arch, &DimExprs::from(&dims)).unwrap());
    let skeleton = llmc_model::skeleton(&arch, &DimExprs::symbolic()).unwrap();
    let polynomial = parameter_polynomial(&arch).unwrap();
    let differentiated = verified(autodiff(&model, &Default::default()).unwrap());
    let derived: Vec<&str> = differentiated
        .functions
        .iter()
        .filter(|f| model.find(&f.name).is_none())
        .map(|f| f.name.as_str())
        .collect();
    let simplified = verified(dce(&cse(&simplify(&differentiated).unwrap()).unwrap()).unwrap());
    let one_layer = Dims { num_layers: 1, ..dims };
    let flat = llmc_model::build(&arch, &DimExprs::from(&one_layer)).unwrap();
    let flat = verified(inline(&only(&flat, &["layer", "forward"])).unwrap());
    let primitives = verified(legalise(&flat, &|_| false).unwrap());
    let primitives = verified(dce(&cse(&simplify(&primitives).unwrap()).unwrap()).unwrap());

    let mut page = String::new();
    let mut section = |title: &str, words: &str, language: &str, text: &str| {
        let fence = "```";
        write!(
            page,
            "## {title}\n\n{words}\n\n{fence}{language}\n{}\n{fence}\n\n",
            text.trim_end()
        )
        .unwrap();
    };
    let spec = "[model]\ntemplate = \"decoder_only\"\nvocab_size = 32\ncontext_length = 16\n\
                num_layers = 2\nhidden_size = 16\nnum_heads = 2\nnum_kv_heads = 1\n\
                head_dim = 8\nintermediate_size = 40\nnorm = \"rmsnorm\"\n\
                activation = \"swiglu\"\nposition = \"rope\"\ntie_embeddings = true\n";
    section("Spec", "What was asked.", "toml", spec);
    let count = polynomial.eval(&dims.env()).unwrap();
    section(
        "Parameters",
        &format!("The count of the functions with symbolic dims; here {count}."),
        "text",
        &polynomial.to_string(),
    );
    section(
        "Skeleton",
        "The same functions with symbolic dims; one call stands for all layers.",
        "text",
        &print(&only(&skeleton.module, &["layer", "forward"])),
    );
    section(
        "Forward",
        "The model with numbers.",
        "text",
        &print(&only(&model, &["layer", "forward"])),
    );
    section(
        "Loss",
        "The loss of a batch is folded into a state in token order.",
        "text",
        &print(&only(&model, &["loss"])),
    );
    section(
        "Autodiff",
        "Both halves of a layer, once; `@grad` calls them for every layer.",
        "text",
        &print(&only(&differentiated, &derived)),
    );
    section(
        "Simplified",
        "After `simplify`, `cse` and `dce`.",
        "text",
        &print(&only(&simplified, &derived)),
    );
    section(
        "Primitives",
        "`@forward` of a one-layer model after `inline`, `legalise`, `simplify`, `cse` and `dce`.",
        "text",
        &print(&primitives),
    );
    check("tiny.md", &format!("# Every stage of a small model\n\n{}\n", page.trim_end()));
}

#[test]
fn passes_are_found_by_name() {
    for pass in PASSES {
        assert_eq!(llmc_passes::find(pass.name).map(|p| p.summary), Some(pass.summary));
    }
    assert!(llmc_passes::find("no such pass").is_none());
}
