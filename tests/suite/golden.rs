//! Every stage of a small model, as a page that people read and tests compare.
//!
//! `UPDATE_GOLDEN=1 cargo test -p llmc-tests golden` writes it anew.

#![allow(clippy::unwrap_used)]

use llmc_base::{Symbol, expr::Env};
use llmc_codegen::pytorch;
use llmc_ir::text::print;
use llmc_ir::{Function, Module};
use llmc_model::parameter_polynomial;
use llmc_passes::{autodiff, cse, dce, inline, legalise, simplify};
use llmc_plan::{AddressSpace, PlanRequest, plan_all};
use llmc_spec::{DimExprs, Dims, Format, Goal, parse, resolve};
use llmc_train::optim;
use std::fmt::Write;
use std::path::Path;

const SPEC: &str = r#"[model]
template = "decoder_only"
vocab_size = 32
context_length = 16
num_layers = 2
hidden_size = 16
num_heads = 2
num_kv_heads = 1
intermediate_size = 40
attention = "gqa"
norm = "rmsnorm"
activation = "swiglu"
positional_encoding = "rope"
tie_embeddings = true

[dataset]
domains = ["synthetic"]
target_tokens = 1000

[tokenizer]
type = "char"

[optimizer]
type = "adamw"
lr = 1e-3

[training]
batch_size = 2
microbatch_size = 1
max_steps = 10
"#;

fn verified(module: Module) -> Module {
    let found = llmc_ir::verify::verify(&module);
    assert!(found.is_empty(), "{found:#?}");
    module
}

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
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
        "golden/{name} differs from line {}:\n  stored: {}\n  now:    {}\n\
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
    let (spec, found) = parse(SPEC, Format::Toml, "tiny.toml");
    let spec = spec.unwrap_or_else(|| panic!("{found:#?}"));
    let polynomial = |arch: &llmc_spec::Architecture| parameter_polynomial(arch).unwrap();
    let resolved = resolve(&spec, Goal::Training, &polynomial).unwrap();
    let (model, optimizer) = (resolved.model.unwrap(), resolved.optimizer.unwrap());
    let (arch, dims) = (model.architecture, model.dims);
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
    let parameters = optim::parameters(&differentiated, "grad").unwrap();
    let update = verified(optim::update_module(&optimizer, None, &parameters).unwrap());
    let merge = verified(optim::merge_module(&parameters).unwrap());
    let sizes = [("B", 1), ("T", 16)].map(|(name, n)| (Symbol::new(name), n));
    let request =
        PlanRequest { module: &model, entry: model.find("loss").unwrap(), env: Env::from(sizes) };
    let plans = plan_all(&[request], &mut AddressSpace::default()).unwrap();
    let emitted = pytorch::emit(&model, &pytorch::Options::new("tiny")).unwrap();

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
    section("Spec", "What was asked.", "toml", SPEC);
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
    section(
        "Merge",
        "The gradients of a parameter that is used twice become one, in order.",
        "text",
        &print(&merge),
    );
    section(
        "Update",
        "The optimiser: one function per shape, one call per parameter.",
        "text",
        &print(&update),
    );
    section(
        "Plan",
        "`@loss` for one row of 16 tokens: kernel launches over one address space of 4-byte words.",
        "text",
        &plans[0].to_string(),
    );
    section("PyTorch", "The emitted program.", "python", &emitted);
    check("tiny.md", &format!("# Every stage of a small model\n\n{}\n", page.trim_end()));
}
