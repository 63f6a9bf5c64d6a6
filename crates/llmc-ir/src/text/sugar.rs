//! Short spellings: `add(%a, %b)` for `binary(%a, %b) {kind = add}`.
//!
//! Ops with a closed set of kinds are written by their kind. One table serves
//! printer and parser.

use crate::attr::Attr;
use crate::ops::{BinaryKind, CompareKind, Op, ReduceKind, UnaryKind};

/// Spelling, op and kind, for all of them. No spelling occurs twice, and none is the name of an op.
pub(super) fn spellings() -> Vec<(String, &'static str, &'static str)> {
    let mut all = Vec::new();
    let mut add = |op: &'static str, prefix: &str, kind: &'static str| {
        all.push((format!("{prefix}{kind}"), op, kind));
    };
    UnaryKind::WORDS.iter().for_each(|(_, kind)| add("unary", "", kind));
    BinaryKind::WORDS.iter().for_each(|(_, kind)| add("binary", "", kind));
    CompareKind::WORDS.iter().for_each(|(_, kind)| add("compare", "", kind));
    ReduceKind::WORDS.iter().for_each(|(_, kind)| add("reduce", "reduce_", kind));
    all
}

/// The name to print, and the attributes that it does not say.
pub(crate) fn contract(op: &Op) -> (String, Vec<(&'static str, Attr)>) {
    let mut attrs = op.attrs();
    let prefix = match op {
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => "",
        Op::Reduce(_) => "reduce_",
        _ => return (op.name().to_string(), attrs),
    };
    match attrs.iter().position(|(name, _)| *name == "kind") {
        Some(at) => {
            let (_, kind) = attrs.remove(at);
            (format!("{prefix}{kind}"), attrs)
        }
        None => (op.name().to_string(), attrs),
    }
}
