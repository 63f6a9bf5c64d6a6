//! `docs/ops.md` is the doc comments of the ops, and `docs/how-to/add-an-op.md` quotes a real one.
//!
//! `UPDATE_DOCS=1 cargo test -p llmc-ir --test ops` rewrites both.

use llmc_ir::ops::{BinaryKind, CompareKind, Order, ReduceKind, UnaryKind};
use llmc_ir::{Class, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops")
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// The doc comment of a struct and of its fields.
#[derive(Default)]
struct Doc {
    text: String,
    fields: Vec<(String, String, String)>,
}

/// Doc comments of all public structs of the op files, by name.
fn docs() -> BTreeMap<String, Doc> {
    let mut all = BTreeMap::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut comment = String::new();
        let mut current: Option<(String, Doc)> = None;
        for line in text.lines() {
            let line = line.trim();
            if let Some(doc) = line.strip_prefix("///") {
                comment.push_str(doc.strip_prefix(' ').unwrap_or(doc));
                comment.push('\n');
                continue;
            }
            if line.starts_with("#[") {
                continue;
            }
            if let Some(rest) = line.strip_prefix("pub struct ") {
                let name = rest.trim_end_matches([' ', '{', ';']).to_string();
                let doc = Doc { text: std::mem::take(&mut comment), fields: Vec::new() };
                match rest.ends_with(';') {
                    true => drop(all.insert(name, doc)),
                    false => current = Some((name, doc)),
                }
            } else if let (Some((_, doc)), Some(field)) = (&mut current, line.strip_prefix("pub "))
            {
                let (name, ty) = field.trim_end_matches(',').split_once(": ").unwrap();
                let text = std::mem::take(&mut comment);
                doc.fields.push((name.to_string(), ty.to_string(), text));
            } else if line == "}"
                && let Some((name, doc)) = current.take()
            {
                all.insert(name, doc);
            }
            comment.clear();
        }
    }
    all
}

/// `[`Linear`]` as the name in the text form.
fn without_links(text: &str) -> String {
    Op::LIST.iter().fold(text.to_string(), |text, (name, ty, _)| {
        text.replace(&format!("[`{ty}`]"), &format!("`{name}`"))
    })
}

fn kinds(ty: &str) -> Option<String> {
    fn words<K>(words: &[(K, &'static str)]) -> String {
        words.iter().map(|(_, w)| format!("`{w}`")).collect::<Vec<_>>().join(" ")
    }
    Some(match ty {
        "UnaryKind" => words(&UnaryKind::WORDS),
        "BinaryKind" => words(&BinaryKind::WORDS),
        "CompareKind" => words(&CompareKind::WORDS),
        "ReduceKind" => words(&ReduceKind::WORDS),
        "Order" => words(&Order::WORDS),
        "RopeScaling" => "`linear` (`factor`) or `llama3` (`factor`, `low_freq_factor`, \
                          `high_freq_factor`, `original_context_length`)"
            .to_string(),
        _ => return None,
    })
}

fn rendered() -> String {
    let docs = docs();
    let doc = |ty: &str| docs.get(ty).unwrap_or_else(|| panic!("no doc comment of {ty}"));
    let mut out = String::from(
        "# The ops\n\n\
         Written by `UPDATE_DOCS=1 cargo test -p llmc-ir --test ops` from the doc comments of \
         `crates/llmc-ir/src/ops`; a test fails when it is stale.\n\n\
         `[...]` stands for any leading dims. Codes like `linear::c1` come with the error that \
         refuses the operands; `<op>::arity` is a wrong number of them, `<op>::size` a shape that \
         is negative or absurdly large. The order of every sum is in [numerics.md](numerics.md); \
         [add-an-op.md](how-to/add-an-op.md) shows how to add one.\n",
    );
    let classes = [
        (Class::Primitive, "Primitives", "The closed set that everything means in the end."),
        (Class::Composite, "Composites", "Names for a decomposition into primitives."),
        (Class::Region, "Regions", "Ops that run other functions of the module."),
    ];
    for (class, title, _) in classes {
        let _ = write!(out, "\n| {} | |\n|---|---|\n", title.to_lowercase());
        for (name, ty, _) in Op::LIST.iter().filter(|(_, _, c)| *c == class) {
            let purpose: Vec<&str> =
                doc(ty).text.lines().take_while(|line| !line.is_empty()).collect();
            let purpose = without_links(&purpose.join(" "));
            let _ = writeln!(out, "| [`{name}`](#{name}) | {purpose} |");
        }
    }
    for (class, title, about) in classes {
        let _ = write!(out, "\n## {title}\n\n{about}\n");
        for (name, ty, _) in Op::LIST.iter().filter(|(_, _, c)| *c == class) {
            let doc = doc(ty);
            let _ = write!(out, "\n### {name}\n\n{}", without_links(&doc.text));
            if !doc.fields.is_empty() {
                out.push_str("\n| attribute | |\n|---|---|\n");
            }
            for (field, ty, text) in &doc.fields {
                let field = field.trim_end_matches("_fn");
                let mut text = without_links(text.trim()).replace('\n', " ");
                if let Some(kinds) = kinds(ty) {
                    let _ = write!(text, " {kinds}");
                }
                let _ = writeln!(out, "| `{field}` | {text} |");
            }
        }
    }
    out
}

/// Fails, or rewrites with `UPDATE_DOCS`, unless a page has this text.
fn expect_page(name: &str, want: &str) {
    let path = page(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, want).unwrap();
    }
    let got = fs::read_to_string(&path).unwrap_or_default();
    assert!(got == want, "docs/{name} is stale; UPDATE_DOCS=1 cargo test -p llmc-ir --test ops");
}

#[test]
fn the_page_of_ops_is_their_doc_comments() {
    expect_page("ops.md", &rendered());
}

/// The codes `<op>::cN` that a doc comment names, ranges included.
fn documented_codes(name: &str, text: &str) -> BTreeSet<String> {
    let text = text.replace('\n', " ");
    let parts: Vec<&str> = text.split('`').collect();
    let number =
        |part: &str| -> Option<u32> { part.strip_prefix(name)?.strip_prefix("::c")?.parse().ok() };
    let mut codes = BTreeSet::new();
    for (i, part) in parts.iter().enumerate() {
        let Some(first) = number(part) else { continue };
        let follows = |word: &str| parts.get(i + 1) == Some(&word);
        let second = parts.get(i + 2).and_then(|p| p.strip_prefix('c')?.parse().ok());
        let last = match second {
            Some(n) if follows(" to ") || follows(" and ") => n,
            _ => first,
        };
        codes.extend((first..=last).map(|n| format!("{name}::c{n}")));
    }
    codes
}

#[test]
fn every_documented_code_has_a_bad_sample() {
    let docs = docs();
    for (name, samples) in Op::all_samples() {
        let (_, ty, class) = Op::LIST.iter().find(|(n, _, _)| *n == name).unwrap();
        if *class == Class::Region {
            continue;
        }
        let shown: BTreeSet<String> = samples
            .bad
            .iter()
            .map(|bad| bad.code.to_string())
            .filter(|code| !code.ends_with("::arity") && !code.ends_with("::size"))
            .collect();
        assert_eq!(documented_codes(name, &docs[*ty].text), shown, "{name}");
    }
}

#[test]
fn composites_name_their_source() {
    let docs = docs();
    for (name, ty, class) in Op::LIST {
        let plain = ["linear", "embedding", "relu", "cross_entropy", "sgd_step"];
        let derived = name.ends_with("_backward") || name.ends_with("_grad");
        if *class == Class::Composite && !derived && !plain.contains(name) {
            assert!(docs[*ty].text.contains("Source: "), "{name} names no source");
        }
    }
}

/// The block of the page that starts with this line, without its fences.
fn quoted<'p>(page: &'p str, first: &str) -> &'p str {
    let start = page.find(first).unwrap_or_else(|| panic!("the page does not quote `{first}`"));
    &page[start..start + page[start..].find("```").unwrap()]
}

#[test]
fn the_how_to_quotes_a_real_op() {
    let path = page("how-to/add-an-op.md");
    let file = fs::read_to_string(source().join("relu_squared.rs")).unwrap();
    let mut text = fs::read_to_string(&path).unwrap();
    let first = file.lines().next().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        text = text.replace(quoted(&text, first), &file);
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(quoted(&text, first), file, "UPDATE_DOCS=1 cargo test -p llmc-ir --test ops");
    let list = fs::read_to_string(source().join("mod.rs")).unwrap();
    for line in quoted(&text, "mod relu_squared;").lines().filter(|line| !line.is_empty()) {
        assert!(list.contains(&format!("{line}\n")), "`{line}` is not in ops/mod.rs");
    }
}
