//! The syntax tree: what was written, with its places, before any meaning.

use crate::attr::Attr;
use crate::types::TensorType;
use std::ops::Range;

/// A byte range.
pub(super) type Place = Range<usize>;

/// Something with its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) it: T,
    pub(super) place: Place,
}

/// `module @name { … }`.
#[derive(Debug)]
pub(super) struct ModuleSyntax {
    pub(super) name: String,
    pub(super) symbols: Vec<SymbolSyntax>,
    pub(super) origins: Vec<At<String>>,
    pub(super) functions: Vec<FunctionSyntax>,
    /// Names of functions that could not be read; their errors are reported.
    pub(super) broken: Vec<String>,
}

/// `symbol T >= 1, multiple_of 8`.
#[derive(Debug)]
pub(super) struct SymbolSyntax {
    pub(super) name: At<String>,
    pub(super) min: i64,
    pub(super) multiple_of: i64,
}

/// `fn @f(…) -> (…) { … }`.
#[derive(Debug)]
pub(super) struct FunctionSyntax {
    pub(super) name: At<String>,
    pub(super) is_composite: bool,
    pub(super) params: Vec<ParamSyntax>,
    pub(super) results: Vec<ResultSyntax>,
    pub(super) body: Vec<StatementSyntax>,
    /// `None`: the closing brace came without it; that has been reported.
    pub(super) returned: Option<At<Vec<UseSyntax>>>,
}

/// Which role, and the path of a weight or state.
#[derive(Clone, Debug)]
pub(super) enum RoleSyntax {
    /// No keyword.
    Plain,
    /// `weight`.
    Weight(String),
    /// `state`.
    State(String),
}

/// `%x: f32[B]`, `weight %w "a.w": f32[64]`, `state %s "a.s": f32[64]`.
#[derive(Debug)]
pub(super) struct ParamSyntax {
    pub(super) role: RoleSyntax,
    pub(super) target: TargetSyntax,
    pub(super) ty: At<TensorType>,
}

/// `y: f32[B]` or `state "a.s": f32[64]`.
#[derive(Debug)]
pub(super) struct ResultSyntax {
    pub(super) role: RoleSyntax,
    /// The output's name, or the path once more.
    pub(super) name: At<String>,
    pub(super) ty: At<TensorType>,
}

/// A value's name as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueName {
    /// `%12`.
    Unnamed(u32),
    /// `%x`.
    Named(String),
}

impl std::fmt::Display for ValueName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ValueName::Unnamed(id) => write!(f, "%{id}"),
            ValueName::Named(name) => write!(f, "%{name}"),
        }
    }
}

/// `scale · i + offset` over the index of a `repeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affine {
    pub(crate) scale: i64,
    pub(crate) offset: i64,
}

impl Affine {
    /// Its value; the limits of scale and index keep it in range.
    pub(crate) fn at(self, i: i64) -> i64 {
        self.scale * i + self.offset
    }

    /// `{i+1}` without the braces.
    pub(crate) fn written(self) -> String {
        let factor = match self.scale {
            0 => return self.offset.to_string(),
            1 => "i".to_string(),
            scale => format!("{scale}*i"),
        };
        match self.offset {
            0 => factor,
            offset => format!("{factor}{offset:+}"),
        }
    }
}

/// A text with index expressions in it, `layers.{i}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(pub(super) Vec<Piece>);

/// A part of a [`Pattern`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// As it stands.
    Text(String),
    /// `{i+1}`.
    Index(Affine),
}

impl Pattern {
    /// A pattern that is a plain text.
    pub(super) fn plain(text: String) -> Self {
        Pattern(vec![Piece::Text(text)])
    }

    /// With braces around index expressions and doubled braces for plain ones.
    pub(super) fn written(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(plain) => plain.replace('{', "{{").replace('}', "}}"),
            Piece::Index(affine) => format!("{{{}}}", affine.written()),
        };
        self.0.iter().map(piece).collect()
    }

    /// The text for one index.
    pub(super) fn at(&self, i: i64) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Index(affine) => out.push_str(&affine.at(i).to_string()),
            }
        }
        out
    }
}

/// `%x`, or an element of a family, `%h[i+1]`.
#[derive(Clone, Debug)]
pub(super) struct UseSyntax {
    pub(super) name: ValueName,
    pub(super) element: Option<Affine>,
    pub(super) place: Place,
}

/// A definition: `%x`, `%x#12`, `%h[i+1]`, `%h[i+1] as "h_{i}"`.
#[derive(Clone, Debug)]
pub(super) struct TargetSyntax {
    pub(super) name: ValueName,
    pub(super) id: Option<u32>,
    pub(super) element: Option<Affine>,
    pub(super) named: Option<Pattern>,
    pub(super) place: Place,
}

/// `%y = op(%x) {…} : type from "…"`.
#[derive(Clone, Debug)]
pub(super) struct OpSyntax {
    pub(super) targets: Vec<TargetSyntax>,
    pub(super) name: At<String>,
    /// For `call @f`.
    pub(super) callee: Option<At<String>>,
    pub(super) operands: Vec<UseSyntax>,
    pub(super) attrs: Vec<At<(String, Attr)>>,
    /// The attribute `scope` inside a `repeat`.
    pub(super) scope: Option<At<Pattern>>,
    pub(super) types: Option<Vec<At<TensorType>>>,
    pub(super) origin: Option<Pattern>,
    /// A syntax error was reported after the targets.
    pub(super) is_broken: bool,
    pub(super) place: Place,
}

/// `repeat i in 0..4 reversed with %h[0] = %x { … }`.
#[derive(Debug)]
pub(super) struct RepeatSyntax {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) is_reversed: bool,
    /// Family, element, value.
    pub(super) initial: Vec<(UseSyntax, UseSyntax)>,
    pub(super) body: Vec<OpSyntax>,
    pub(super) place: Place,
}

/// A statement.
#[derive(Debug)]
pub(super) enum StatementSyntax {
    /// One node.
    Op(OpSyntax),
    /// Many.
    Repeat(RepeatSyntax),
}
