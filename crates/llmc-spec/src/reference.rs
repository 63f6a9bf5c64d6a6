//! The reference of the spec as Markdown, made from the field table.
//!
//! `docs/spec.md` is this text; a test fails when it is stale, and
//! `UPDATE_DOCS=1 cargo test -p llmc-spec` rewrites it.

#[cfg(test)]
mod tests;

use crate::SPEC_VERSION;
use crate::field::{self, Choice, DefaultRule, Field, Hashing, Kind, Limit, Section};
use serde_json::Value;
use std::fmt::Write;

const INTRODUCTION: &str = "\
A spec is one file in TOML, YAML or JSON with up to five tables. All three formats have one
meaning and one hash; comments, formatting, key order and the names that are listed under
\"also\" change neither. An unknown key, a wrong type and a value out of range are errors, all of them at
once, each with its place and the nearest name.

A dimension (`dim`) is an integer, `\"free\"`, or a table of bounds: `{ min = 512, max = 4096, multiple_of = 64 }`.
Dimensions that are not numbers are solved for `target_params`; [solver.md](solver.md) says how.
An optional field is written `\"none\"` (or `null`) for nothing. A table such as `schedule = { type = \"wsd\" }` may be
written with dots, too: `schedule.type = \"wsd\"`.

No default is silent: `solution.json` lists each value that was not written, with the rule
that set it, and `--explicit` refuses them. `--set training.lr=3e-4` overrides any field; the value is a TOML value, a bare
word is a text, and the recorded spec names the override.

**Editors.** `docs/spec.schema.json` is the same table as a JSON Schema; in YAML, `# yaml-language-server: $schema=PATH` as the
first line, in TOML, `#:schema PATH`.

**Recipe.** The hash that names an artifact is over the resolved values with `spec_version` and `numerics_version`.
Fields marked *label* are not part of it: they change neither the numbers nor which artifact
is meant. A value that equals its default is left out, so writing it changes nothing. The model, the dataset, the tokenizer
(with its dataset) and the run (with optimizer, model, dataset and tokenizer) each have one.
";

pub(crate) const CODES: &[(&str, &str)] = &[
    ("spec::syntax", "the text is not TOML, YAML or JSON, or nests too deep"),
    ("spec::encoding", "the file is not UTF-8; the byte is named"),
    ("spec::empty", "the spec has no section"),
    ("spec::too_many", "more than 100 problems; the rest is counted only"),
    ("spec::unknown_key", "no field or section has this name"),
    ("spec::duplicate_key", "a field is written twice, perhaps under two names"),
    ("spec::wrong_type", "a text where a number should be, and the like"),
    ("spec::out_of_range", "a number outside its range"),
    ("spec::unknown_value", "a word that the field does not take"),
    ("spec::not_supported_yet", "a word that parses, for something that is not built yet"),
    ("spec::missing", "a field that has no default"),
    ("spec::conflict", "two fields that contradict each other, or one that has no effect"),
    ("spec::infeasible", "constraints that no dimensions satisfy together: a minimal set of them"),
    ("spec::unsolvable", "a parameter count that is no polynomial in the dimensions"),
    ("spec::hash_mismatch", "a written hash that is not the hash of the section beside it"),
    ("spec::implicit", "with `--explicit`: a value that is not written"),
];

/// The whole reference.
pub fn reference() -> String {
    let mut out = format!(
        "# The spec\n\n<!-- Made from the field table of llmc-spec: UPDATE_DOCS=1 cargo test -p llmc-spec -->\n\n\
         `spec_version = {SPEC_VERSION}` (it may be written at the top of the file).\n\n{INTRODUCTION}"
    );
    for section in Section::ALL {
        let _ = write!(
            out,
            "\n## [{section}]\n\n| field | takes | default | meaning |\n|---|---|---|---|\n"
        );
        for field in field::fields().filter(|f| f.section() == section) {
            let _ = writeln!(out, "{}", row(field));
        }
    }
    out.push_str("\n## Diagnostics\n\n| code | says |\n|---|---|\n");
    for (code, text) in CODES {
        let _ = writeln!(out, "| `{code}` | {text} |");
    }
    out
}

/// One field, as `llmc` prints it for a field path: takes, default, meaning.
fn row(field: &Field) -> String {
    let mut meaning = meaning(field);
    if !field.aliases.is_empty() {
        let aliases: Vec<_> =
            field.aliases.iter().map(|a| format!("`{}`", local(a, field))).collect();
        let _ = write!(meaning, " Also {}.", aliases.join(", "));
    }
    if field.hashing == Hashing::Never && !field.is_shorthand() {
        meaning.push_str(" *label*");
    }
    let cells = [format!("`{}`", field.local_path()), takes(field), default(field), meaning];
    format!("| {} |", cells.map(|c| c.replace('|', "\\|")).join(" | "))
}

/// What a field means, and where.
pub(crate) fn meaning(field: &Field) -> String {
    let mut meaning = field.doc.to_string();
    if let Some(condition) = field.applies {
        let words: Vec<_> = condition.any_of.iter().map(|w| format!("\"{w}\"")).collect();
        let _ = write!(meaning, " Only with `{}` = {}.", condition.path, words.join(" or "));
    }
    if field.is_later {
        meaning.push_str(" Other values than the default are not supported yet.");
    }
    meaning
}

/// An alias as it is written inside the field's own section, or in full.
fn local(alias: &'static str, field: &Field) -> &'static str {
    let own = alias.strip_prefix(field.section().name()).and_then(|rest| rest.strip_prefix('.'));
    own.unwrap_or(alias)
}

fn takes(field: &Field) -> String {
    let kind = match field.kind {
        Kind::Dim => "dim".to_string(),
        Kind::Int { min, max } if max == 1 << 53 => format!("integer ≥ {min}"),
        Kind::Int { min, max } => format!("integer {min} to {max}"),
        Kind::Size => "integer or \"125M\"".to_string(),
        Kind::Float { min, max } => format!("number{}", range(min, max)),
        Kind::Bool => "true, false".to_string(),
        Kind::Text => "text".to_string(),
        Kind::Texts => "list of texts".to_string(),
        Kind::TextSet => "set of texts".to_string(),
        Kind::Hash => "64 hexadecimal digits".to_string(),
        Kind::Choice(choices) => words(choices),
        Kind::Choices(choices) => format!("list of {}", words(choices)),
        Kind::Weights => "table of names to numbers > 0".to_string(),
        Kind::Pair => "two numbers".to_string(),
        Kind::Checkpointing => "none, block, `{ budget = \"2 GiB\" }`".to_string(),
        Kind::Groups => "list of tables".to_string(),
    };
    if field.is_optional { format!("{kind}, or \"none\"") } else { kind }
}

/// Words that work, then words that do not yet.
fn words(choices: &[Choice]) -> String {
    let list = |is_built: bool| {
        let names = choices.iter().filter(|c| c.is_built == is_built);
        let with_aliases = names.map(|c| match c.aliases {
            [] => format!("`{}`", c.name),
            aliases => format!("`{}` ({})", c.name, aliases.join(", ")),
        });
        with_aliases.collect::<Vec<_>>().join(", ")
    };
    match (list(true), list(false)) {
        (built, later) if later.is_empty() => built,
        (built, later) if built.is_empty() => format!("not yet: {later}"),
        (built, later) => format!("{built}; not yet: {later}"),
    }
}

fn range(min: Limit, max: Limit) -> String {
    let low = match min {
        Limit::Open => String::new(),
        Limit::Closed(end) => format!(" ≥ {end}"),
        Limit::Beyond(end) => format!(" > {end}"),
    };
    let high = match max {
        Limit::Open => String::new(),
        Limit::Closed(end) => format!(" ≤ {end}"),
        Limit::Beyond(end) => format!(" < {end}"),
    };
    if low.is_empty() || high.is_empty() { low + &high } else { format!("{low},{high}") }
}

/// What holds when a field is not written, in words.
pub(crate) fn default(field: &Field) -> String {
    match field.default {
        DefaultRule::Is(lit) => match lit.value() {
            Value::Array(items) if items.is_empty() => "`[]`".to_string(),
            value => format!("`{}`", crate::print::toml_value(&value)),
        },
        DefaultRule::Nothing(text) | DefaultRule::Solved(text) => text.to_string(),
        DefaultRule::Rule { text, .. } => text.to_string(),
        DefaultRule::Shorthand { text, .. } => format!("stands for {text}"),
        DefaultRule::Required(_) => "required".to_string(),
    }
}
