//! Typed attributes of ops, as the text form and the hashes see them.

use crate::types::DType;
use llmc_base::Expr;
use std::fmt;

/// One attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// `true` or `false`.
    Bool(bool),
    /// An integer, e.g. `axis = 2`.
    Int(i64),
    /// A float, always printed with a point, an exponent, `inf` or `nan`.
    Float(f64),
    /// A bare word from a closed set, e.g. `kind = add`.
    Word(String),
    /// A quoted text.
    Text(String),
    /// `[1, 2]`.
    Ints(Vec<i64>),
    /// `[0.5, 1.0]`.
    Floats(Vec<f64>),
    /// Dims: `<B, T, 64>`.
    Dims(Vec<Expr>),
    /// An element type, e.g. `dtype = f32`.
    DType(DType),
    /// A function, e.g. `@layer`.
    Function(String),
}

/// Attributes in the order the op declares them. An attribute with its default value is left out.
pub type Attrs = Vec<(&'static str, Attr)>;

/// Why attributes do not make an op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AttrError(pub String);

/// Reads attributes by name and reports what is missing, mistyped or left over.
pub struct AttrReader {
    left: Vec<(String, Attr)>,
    asked: Vec<String>,
}

impl AttrReader {
    /// A reader over attributes as parsed.
    pub fn new(attrs: Vec<(String, Attr)>) -> Self {
        AttrReader { left: attrs, asked: Vec::new() }
    }

    /// Takes an attribute if it is there.
    pub fn take(&mut self, name: &str) -> Option<Attr> {
        if !self.asked.iter().any(|asked| asked == name) {
            self.asked.push(name.to_string());
        }
        let at = self.left.iter().position(|(n, _)| n == name)?;
        Some(self.left.remove(at).1)
    }

    /// Takes an optional attribute of one type.
    pub fn opt<T: FromAttr>(&mut self, name: &str) -> Result<Option<T>, AttrError> {
        match self.take(name) {
            None => Ok(None),
            Some(attr) => T::from_attr(attr).map(Some).map_err(|got| {
                AttrError(format!("attribute `{name}` is `{got}`, expected {}", T::EXPECTED))
            }),
        }
    }

    /// Takes a required attribute of one type.
    pub fn req<T: FromAttr>(&mut self, name: &str) -> Result<T, AttrError> {
        self.opt(name)?.ok_or_else(|| AttrError(format!("attribute `{name}` is missing")))
    }

    /// Names of the attributes that nothing has taken.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.left.iter().map(|(name, _)| name.as_str())
    }

    /// Names that were asked for, whether they were there or not.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().map(String::as_str)
    }

    /// An error if anything is left.
    pub fn finish(&self) -> Result<(), AttrError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(AttrError(format!("unknown attribute `{name}`"))),
        }
    }
}

/// What an attribute can be read as.
pub trait FromAttr: Sized {
    /// For messages: "an integer".
    const EXPECTED: &'static str;
    /// The value, or the attribute back.
    fn from_attr(attr: Attr) -> Result<Self, Attr>;
}

macro_rules! from_attr {
    ($($t:ty, $expected:literal, $($pattern:pat => $value:expr),+;)*) => {$(
        impl FromAttr for $t {
            const EXPECTED: &'static str = $expected;
            fn from_attr(attr: Attr) -> Result<Self, Attr> {
                match attr { $($pattern => Ok($value),)+ other => Err(other) }
            }
        }
    )*};
}
from_attr! {
    bool, "`true` or `false`", Attr::Bool(b) => b;
    i64, "an integer", Attr::Int(i) => i;
    f64, "a float", Attr::Float(f) => f, Attr::Int(i) => i as f64;
    Vec<i64>, "a list of integers", Attr::Ints(v) => v;
    Vec<f64>, "a list of floats", Attr::Floats(v) => v, Attr::Ints(v) => v.iter().map(|i| *i as f64).collect();
    Vec<Expr>, "dims", Attr::Dims(v) => v;
    DType, "a dtype", Attr::DType(d) => d;
}

impl FromAttr for usize {
    const EXPECTED: &'static str = "an integer of at least 0";
    fn from_attr(attr: Attr) -> Result<Self, Attr> {
        match attr {
            Attr::Int(i) => usize::try_from(i).map_err(|_| attr),
            other => Err(other),
        }
    }
}

impl FromAttr for String {
    const EXPECTED: &'static str = "a word or a quoted text";
    fn from_attr(attr: Attr) -> Result<Self, Attr> {
        match attr {
            Attr::Word(s) | Attr::Text(s) | Attr::Function(s) => Ok(s),
            other => Err(other),
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::Bool(b) => write!(f, "{b}"),
            Attr::Int(i) => write!(f, "{i}"),
            // `{:?}` is the shortest text that reads back to the same bits.
            Attr::Float(x) => write!(f, "{x:?}"),
            Attr::Word(w) => f.write_str(w),
            Attr::Text(t) => write!(f, "{t:?}"),
            Attr::Ints(v) => {
                f.write_str("[")?;
                list(f, v)?;
                f.write_str("]")
            }
            Attr::Floats(v) => {
                let texts: Vec<_> = v.iter().map(|x| format!("{x:?}")).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Attr::Dims(v) => {
                f.write_str("<")?;
                list(f, v)?;
                f.write_str(">")
            }
            Attr::DType(d) => write!(f, "{d}"),
            Attr::Function(name) => write!(f, "@{name}"),
        }
    }
}
