//! Shared by the tests: a parameter count written by hand, and rendering of diagnostics.
//!
//! The count is independent of the template, which lives in `llmc-model`; it is what a
//! decoder of this architecture has on paper.

use crate::*;
use llmc_base::{Diagnostic, Expr};

/// Parameters of a decoder, on paper.
pub(crate) fn params(a: &Architecture) -> Expr {
    let s = |name: &str| Expr::symbol(name);
    let (v, c, l, e) = (s("vocab_size"), s("context_length"), s("num_layers"), s("hidden_size"));
    let q = s("num_heads") * s("head_dim");
    let kv = s("num_kv_heads") * s("head_dim");
    let f = s("intermediate_size");
    let matrix = |rows: &Expr, columns: &Expr, has_bias: bool| {
        let weights = rows.clone() * columns.clone();
        if has_bias { weights + rows.clone() } else { weights }
    };
    let norm = match (a.norm, a.biases.norm) {
        (Norm::None, _) => Expr::constant(0),
        (_, false) => e.clone(),
        (_, true) => e.clone() * 2,
    };
    let mut block = matrix(&q, &e, a.biases.q)
        + matrix(&kv, &e, a.biases.k)
        + matrix(&kv, &e, a.biases.v)
        + matrix(&e, &q, a.biases.o)
        + matrix(&f, &e, a.biases.up)
        + matrix(&e, &f, a.biases.down)
        + norm.clone() * 2;
    if a.activation.is_gated() {
        block += matrix(&f, &e, a.biases.gate);
    }
    let mut total = v.clone() * e.clone() + l * block + norm;
    if !a.tie_embeddings {
        total += matrix(&v, &e, a.biases.lm_head);
    }
    if a.position == Position::Learned {
        total += c * e;
    }
    total
}

/// The count of a LLaMA-shaped decoder with tied embeddings and no biases.
pub(crate) fn llama() -> Expr {
    Expr::parse(
        "vocab_size*hidden_size + hidden_size + num_layers*(2*hidden_size*num_heads*head_dim \
         + 2*hidden_size*num_kv_heads*head_dim + 3*hidden_size*intermediate_size + 2*hidden_size)",
    )
    .unwrap()
}

/// A spec that must be good.
pub(crate) fn good(text: &str) -> Spec {
    let (spec, diagnostics) = parse(text, Format::Toml, "spec.toml");
    assert!(diagnostics.is_empty(), "{}", show(&diagnostics, text));
    spec.unwrap()
}

/// A spec that must resolve.
pub(crate) fn resolved(text: &str) -> Resolved {
    match resolve(&good(text), Goal::Written, &params) {
        Ok(resolved) => resolved,
        Err(diagnostics) => panic!("{}", show(&diagnostics, text)),
    }
}

/// Diagnostics as a person would see them: code, message, marked text, help.
pub(crate) fn show(diagnostics: &[Diagnostic], text: &str) -> String {
    let mut out = String::new();
    for d in diagnostics {
        out.push_str(&format!("{}: {}\n", d.code, d.message));
        for label in &d.labels {
            let text = label.span.argument().unwrap_or(text);
            let (line, column) = label.span.line_column(text);
            let marked = text.get(label.span.start..label.span.end).unwrap_or("?");
            out.push_str(&format!("  {}:{line}:{column}: {marked:?}", label.span.file));
            if !label.text.is_empty() {
                out.push_str(&format!(" {}", label.text));
            }
            out.push('\n');
        }
        if let Some(help) = &d.help {
            out.push_str(&format!("  help: {help}\n"));
        }
    }
    out
}
