//! What the solver is asked: bounds on dims, a target, and the named constraints
//! that follow.

use super::poly::Poly;
use crate::architecture::{Architecture, AttentionKind, Position};
use crate::check::dim_span;
use crate::dims::Dim;
use crate::spec::Spec;
use crate::view::View;
use llmc_base::{Expr, Span};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is written about one dim; all `None` is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The value itself.
    pub fixed: Option<u64>,
    /// Smallest value.
    pub min: Option<u64>,
    /// Largest value.
    pub max: Option<u64>,
    /// The value is a multiple of this.
    pub multiple_of: Option<u64>,
}

impl Bound {
    /// A number.
    pub fn fixed(value: u64) -> Bound {
        Bound { fixed: Some(value), ..Bound::default() }
    }

    /// Whether nothing is written.
    pub fn is_free(&self) -> bool {
        *self == Bound::default()
    }
}

/// Wanted parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// How many.
    pub params: u64,
    /// Largest accepted distance, as a share of `params`, in [0, 1).
    pub tolerance: f64,
}

/// A question to [`super::solve`].
#[derive(Clone, Debug)]
pub struct Problem {
    /// The parameter count in the symbols of [`crate::DimExprs::symbolic`].
    pub params: Expr,
    pub(super) poly: Poly,
    /// What is written about each dim, in the order of [`Dim::ALL`].
    pub bounds: [Bound; 8],
    /// What to come close to; without one the cost alone decides.
    pub target: Option<Target>,
    /// How heads are grouped.
    pub attention: AttentionKind,
    /// Whether the feed-forward block is gated (8/3 instead of 4 as usual width).
    pub is_gated: bool,
    /// Whether heads are rotated, which needs an even `head_dim`.
    pub is_rotary: bool,
    /// Where bounds stand, by constraint name.
    pub(super) spans: Vec<(String, Span)>,
    /// Rules that set a bound that was not written, by dim.
    pub(super) defaulted: Vec<(Dim, &'static str)>,
}

/// One named constraint; a conflict lists them.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// Stable name: a field path with the bound (`model.num_layers.max`), or a rule.
    pub name: String,
    /// What it says, with values.
    pub text: String,
    /// What it demands.
    pub rule: Rule,
    /// Where it is written.
    pub span: Option<Span>,
}

/// What a constraint demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The dim is this number.
    Equals(Dim, u64),
    /// The dim is at least this.
    Min(Dim, u64),
    /// The dim is at most this.
    Max(Dim, u64),
    /// The dim is a multiple of this.
    MultipleOf(Dim, u64),
    /// `hidden_size = num_heads * head_dim`.
    HiddenIsHeads,
    /// `num_kv_heads` divides `num_heads`.
    KvDivides,
    /// `num_kv_heads = num_heads`.
    KvEqualsHeads,
    /// The parameter count is within `max_gap` of `params`.
    Target {
        /// Wanted parameters.
        params: u64,
        /// Largest accepted distance.
        max_gap: u64,
    },
}

impl Rule {
    /// The dim whose domain it narrows; `num_kv_heads` or `hidden_size` for relations.
    pub(super) fn dim(&self) -> Option<Dim> {
        match *self {
            Rule::Equals(dim, _) | Rule::Min(dim, _) | Rule::Max(dim, _) => Some(dim),
            Rule::MultipleOf(dim, _) => Some(dim),
            Rule::HiddenIsHeads => Some(Dim::HiddenSize),
            Rule::KvDivides | Rule::KvEqualsHeads => Some(Dim::NumKvHeads),
            Rule::Target { .. } => Some(Dim::VocabSize),
        }
    }
}

impl Problem {
    /// A problem with every dim free and no target.
    ///
    /// Errors: a message if `params` has a symbol that is no dim, a negative
    /// coefficient, or a power above 8.
    pub fn new(params: Expr, attention: AttentionKind) -> Result<Problem, String> {
        Ok(Problem {
            poly: Poly::new(&params)?,
            params,
            bounds: std::array::from_fn(|_| Bound::default()),
            target: None,
            attention,
            is_gated: true,
            is_rotary: true,
            spans: Vec::new(),
            defaulted: Vec::new(),
        })
    }

    /// The problem that a spec poses.
    ///
    /// Errors: as [`Problem::new`].
    pub fn from_spec(
        spec: &Spec,
        architecture: &Architecture,
        params: Expr,
    ) -> Result<Problem, String> {
        let mut problem = Problem::new(params, architecture.attention)?;
        problem.is_gated = architecture.activation.is_gated();
        problem.is_rotary = matches!(architecture.position, Position::Rope { .. });
        for dim in Dim::ALL {
            let Some(setting) = spec.get(&format!("model.{dim}")) else { continue };
            let part = |name: &str| setting.value.get(name).and_then(Value::as_u64);
            problem.bounds[dim.idx()] = Bound {
                fixed: setting.value.as_u64(),
                min: part("min"),
                max: part("max"),
                multiple_of: part("multiple_of"),
            };
            for part in ["", ".min", ".max", ".multiple_of"] {
                if let Some(span) = dim_span(spec, dim, part.trim_start_matches('.')) {
                    problem.spans.push((format!("model.{dim}{part}"), span));
                }
            }
        }
        let number = |path: &str| spec.get(path).and_then(|s| s.value.as_u64());
        if problem.bounds[Dim::VocabSize.idx()].is_free()
            && let Some(vocab_size) = number("tokenizer.vocab_size")
        {
            problem.set_default(Dim::VocabSize, vocab_size, "`tokenizer.vocab_size`");
        }
        if problem.bounds[Dim::ContextLength.idx()].is_free() {
            match number("training.sequence_length") {
                Some(length) => {
                    problem.set_default(Dim::ContextLength, length, "`training.sequence_length`");
                }
                None => problem.set_default(Dim::ContextLength, 1024, "1024"),
            }
        }
        problem.target = number("model.target_params").map(|params| Target {
            params,
            tolerance: View::new(spec, &BTreeMap::new())
                .value("model.param_tolerance")
                .and_then(|v| v.as_f64())
                .unwrap_or(0.0),
        });
        let places = ["model.target_params", "model.attention", "model.positional_encoding"];
        for path in places {
            if let Some(span) = spec.get(path).and_then(|s| s.span.clone()) {
                problem.spans.push((path.to_string(), span));
            }
        }
        Ok(problem)
    }

    fn set_default(&mut self, dim: Dim, value: u64, rule: &'static str) {
        self.bounds[dim.idx()] = Bound::fixed(value);
        self.defaulted.push((dim, rule));
    }

    /// Sets what is known about a dim.
    pub fn bound(mut self, dim: Dim, bound: Bound) -> Problem {
        self.bounds[dim.idx()] = bound;
        self
    }

    /// Sets a dim to a number.
    pub fn fix(self, dim: Dim, value: u64) -> Problem {
        self.bound(dim, Bound::fixed(value))
    }

    /// Sets the target.
    pub fn target(mut self, params: u64, tolerance: f64) -> Problem {
        self.target = Some(Target { params, tolerance });
        self
    }

    /// Every constraint of the problem by name. Relations and defaults come first, so
    /// that a conflict is explained by what was written where there is a choice.
    pub fn constraints(&self) -> Vec<Constraint> {
        let mut out = Vec::new();
        let span_of =
            |name: &str| self.spans.iter().find(|(n, _)| n == name).map(|(_, span)| span.clone());
        let mut push = |name: String, text: String, rule: Rule, place: &str| {
            out.push(Constraint { span: span_of(place), name, text, rule });
        };
        let [hidden, heads, kv_heads, head_dim] =
            [Dim::HiddenSize, Dim::NumHeads, Dim::NumKvHeads, Dim::HeadDim]
                .map(|dim| &self.bounds[dim.idx()]);
        if [hidden, heads, head_dim].iter().any(|bound| bound.fixed.is_none()) {
            let text = "hidden_size = num_heads * head_dim".to_string();
            push("hidden_size = num_heads * head_dim".to_string(), text, Rule::HiddenIsHeads, "");
        }
        let text = "num_kv_heads divides num_heads".to_string();
        push("num_kv_heads divides num_heads".to_string(), text, Rule::KvDivides, "");
        if self.is_rotary {
            let text = "rotary positions need an even head_dim".to_string();
            let name = "positional_encoding = rope".to_string();
            let rule = Rule::MultipleOf(Dim::HeadDim, 2);
            push(name, text, rule, "model.positional_encoding");
        }
        match self.attention {
            AttentionKind::Mha => {
                let text = "mha: num_kv_heads = num_heads".to_string();
                push("attention = mha".to_string(), text, Rule::KvEqualsHeads, "model.attention");
            }
            AttentionKind::Mqa => {
                let text = "mqa: num_kv_heads = 1".to_string();
                let rule = Rule::Equals(Dim::NumKvHeads, 1);
                push("attention = mqa".to_string(), text, rule, "model.attention");
            }
            AttentionKind::Gqa if heads.fixed.is_some() && kv_heads.is_free() => {
                let text = "num_kv_heads = num_heads, by default where num_heads is a number";
                let name = "num_kv_heads = num_heads by default".to_string();
                push(name, text.to_string(), Rule::KvEqualsHeads, "");
            }
            AttentionKind::Gqa => {}
        }
        for dim in Dim::ALL {
            let bound = &self.bounds[dim.idx()];
            let name = format!("model.{dim}");
            if let Some(value) = bound.fixed {
                let text = match self.defaulted.iter().find(|(d, _)| *d == dim) {
                    Some((_, rule)) => format!("{dim} = {value}, by default: {rule}"),
                    None => format!("{dim} = {value}"),
                };
                push(name.clone(), text, Rule::Equals(dim, value), &name);
            }
            if let Some(value) = bound.min {
                let name = format!("{name}.min");
                push(name.clone(), format!("{dim} ≥ {value}"), Rule::Min(dim, value), &name);
            }
            if let Some(value) = bound.max {
                let name = format!("{name}.max");
                push(name.clone(), format!("{dim} ≤ {value}"), Rule::Max(dim, value), &name);
            }
            if let Some(value) = bound.multiple_of {
                let name = format!("{name}.multiple_of");
                let text = format!("{dim} is a multiple of {value}");
                push(name.clone(), text, Rule::MultipleOf(dim, value), &name);
            }
        }
        if let Some(target) = self.target {
            let max_gap = target.max_gap();
            let text = format!("{} parameters ± {max_gap}", target.params);
            let rule = Rule::Target { params: target.params, max_gap };
            push("model.target_params".to_string(), text, rule, "model.target_params");
        }
        out
    }
}

impl Target {
    /// The largest accepted distance in parameters, rounded down.
    pub fn max_gap(&self) -> u64 {
        (self.params as f64 * self.tolerance) as u64
    }
}
