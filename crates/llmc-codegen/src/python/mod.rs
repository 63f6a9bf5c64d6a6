//! Python as text: expressions with precedence, identifiers, numbers, and lines that fit.
//!
//! Nothing here knows PyTorch or the IR's ops.

mod layout;
#[cfg(test)]
mod tests;

pub use layout::Block;

use llmc_base::{Expr, Symbol};

/// How tightly an expression binds, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prec {
    /// `a, b`, `a if c else b`, `lambda`: always in parentheses inside another expression.
    Loose,
    /// `a < b`.
    Compare,
    /// `a | b`.
    BitOr,
    /// `a ^ b`.
    BitXor,
    /// `a & b`.
    BitAnd,
    /// `a << b`.
    Shift,
    /// `a + b`.
    Sum,
    /// `a * b`.
    Product,
    /// `-a`, `~a`.
    Unary,
    /// `a ** b`.
    Power,
    /// Names, numbers, calls, subscripts, anything in brackets.
    Atom,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    text: String,
    prec: Prec,
}

impl Code {
    /// An expression of this text and binding strength.
    pub fn new(text: impl Into<String>, prec: Prec) -> Self {
        Code { text: text.into(), prec }
    }

    /// A name, call, subscript or bracketed expression.
    pub fn atom(text: impl Into<String>) -> Self {
        Code::new(text, Prec::Atom)
    }

    /// An integer.
    pub fn int(value: i128) -> Self {
        Code::new(value.to_string(), if value < 0 { Prec::Unary } else { Prec::Atom })
    }

    /// A float that reads back to the same bits.
    pub fn float(value: f64) -> Self {
        let text = match value {
            _ if value.is_nan() => return Code::atom("torch.nan"),
            f64::INFINITY => return Code::atom("torch.inf"),
            f64::NEG_INFINITY => return Code::new("-torch.inf", Prec::Unary),
            // `{:?}` is the shortest text that reads back to the same bits.
            _ => format!("{value:?}"),
        };
        Code::new(text, if value.is_sign_negative() { Prec::Unary } else { Prec::Atom })
    }

    /// The text, for places where any expression may stand.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, in parentheses if it binds weaker than `prec`.
    pub fn at(&self, prec: Prec) -> String {
        if self.prec < prec { format!("({})", self.text) } else { self.text.clone() }
    }

    /// `a op b`, left to right: the order of operations is that of the arguments.
    pub fn binary(a: &Code, op: &str, b: &Code, prec: Prec) -> Code {
        // Comparisons chain and powers bind to the right, so neither side may be one itself.
        let left = if matches!(prec, Prec::Compare | Prec::Power) { tighter(prec) } else { prec };
        Code::new(format!("{} {op} {}", a.at(left), b.at(tighter(prec))), prec)
    }

    /// `f(arguments)`.
    pub fn call(function: &str, arguments: &[String]) -> Code {
        Code::atom(format!("{function}({})", arguments.join(", ")))
    }

    /// `self.name(arguments)`.
    pub fn method(&self, name: &str, arguments: &[String]) -> Code {
        Code::call(&format!("{}.{name}", self.at(Prec::Atom)), arguments)
    }

    /// `self[index]`.
    pub fn subscript(&self, index: &str) -> Code {
        Code::atom(format!("{}[{index}]", self.at(Prec::Atom)))
    }
}

fn tighter(prec: Prec) -> Prec {
    use Prec::*;
    const ORDER: [Prec; 11] =
        [Loose, Compare, BitOr, BitXor, BitAnd, Shift, Sum, Product, Unary, Power, Atom];
    let next = ORDER.iter().position(|p| *p == prec).map_or(0, |i| i + 1);
    ORDER.get(next).copied().unwrap_or(Atom)
}

/// A dim expression, each symbol spelled by `spell`.
pub fn dim(expr: &Expr, spell: &mut dyn FnMut(&Symbol) -> String) -> Code {
    let mut terms: Vec<_> = expr.terms().collect();
    let degree = |factors: &[(Symbol, u32)]| factors.iter().map(|(_, power)| *power).sum::<u32>();
    terms.sort_by(|(_, a), (_, b)| degree(b).cmp(&degree(a)).then(a.cmp(b)));
    let mut sum: Option<Code> = None;
    for (coefficient, factors) in terms {
        let magnitude = i128::try_from(coefficient.unsigned_abs()).unwrap_or(i128::MAX);
        let mut product = (magnitude != 1 || factors.is_empty()).then(|| Code::int(magnitude));
        for (symbol, power) in factors {
            for _ in 0..*power {
                let factor = Code::atom(spell(symbol));
                product = Some(match product {
                    None => factor,
                    Some(left) => Code::binary(&left, "*", &factor, Prec::Product),
                });
            }
        }
        let term = product.unwrap_or_else(|| Code::int(1));
        sum = Some(match (sum, coefficient < 0) {
            (None, false) => term,
            (None, true) => Code::new(format!("-{}", term.at(Prec::Unary)), Prec::Unary),
            (Some(left), false) => Code::binary(&left, "+", &term, Prec::Sum),
            (Some(left), true) => Code::binary(&left, "-", &term, Prec::Sum),
        });
    }
    sum.unwrap_or_else(|| Code::int(0))
}

/// Words that are no identifiers.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

/// Whether `name` may name a variable or an attribute.
pub fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.contains(&name)
}

/// Whether `name` stands in `text` as a word.
pub fn mentions(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word)
            && !text[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// The identifier nearest to `name`: other characters become `_`.
pub fn identifier(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut out: String = name.chars().map(legal).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if KEYWORDS.contains(&out.as_str()) {
        out.push('_');
    }
    out
}

/// `attention_block` → `AttentionBlock`, `mlp` → `MLP`.
pub fn class_name(name: &str) -> String {
    let capital = |word: &str| {
        if matches!(word, "mlp" | "ffn") {
            return word.to_ascii_uppercase();
        }
        let mut chars = word.chars();
        chars.next().map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + chars.as_str())
    };
    let name: String = identifier(name).split('_').map(capital).collect();
    if is_identifier(&name) { name } else { format!("Module{name}") }
}

/// A string literal.
pub fn string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
