//! One spec seen through its defaults: what a field's value is, whoever set it.

use crate::field::{self, DefaultRule, Field};
use crate::spec::Spec;
use serde_json::Value;
use std::collections::BTreeMap;

/// A spec together with values that were worked out from it (solved dims).
#[derive(Clone, Copy)]
pub struct View<'a> {
    spec: &'a Spec,
    solved: &'a BTreeMap<&'static str, Value>,
}

impl<'a> View<'a> {
    pub(crate) fn new(spec: &'a Spec, solved: &'a BTreeMap<&'static str, Value>) -> Self {
        View { spec, solved }
    }

    /// What was written, in its normal form.
    pub fn written(&self, path: &str) -> Option<&'a Value> {
        self.spec.get(path).map(|setting| &setting.value)
    }

    /// Whether the field was written.
    pub fn is_written(&self, path: &str) -> bool {
        self.spec.get(path).is_some()
    }

    /// The value: solved, written, or by default. `None` where the field does not
    /// apply, must be written but was not, or is a dimension that is not solved.
    pub fn value(&self, path: &str) -> Option<Value> {
        if let Some(value) = self.solved.get(path) {
            return Some(value.clone());
        }
        let field = field::find(path)?;
        if !self.applies(field) {
            return None;
        }
        match self.written(path) {
            Some(value) => Some(value.clone()),
            None => self.default(field),
        }
    }

    /// The value that the default gives, whatever was written.
    pub fn default(&self, field: &Field) -> Option<Value> {
        match field.default {
            DefaultRule::Is(lit) => Some(lit.value()),
            DefaultRule::Nothing(_) => Some(Value::Null),
            DefaultRule::Rule { compute, .. } => compute(self),
            DefaultRule::Solved(_) | DefaultRule::Shorthand { .. } | DefaultRule::Required(_) => {
                None
            }
        }
    }

    /// Whether the field has an effect in this spec.
    pub fn applies(&self, field: &Field) -> bool {
        field.applies.is_none_or(|condition| {
            self.text(condition.path).is_some_and(|word| condition.any_of.contains(&word.as_str()))
        })
    }

    /// The value as a text, if it is one.
    pub fn text(&self, path: &str) -> Option<String> {
        self.value(path)?.as_str().map(str::to_string)
    }

    /// The value as an integer, if it is one.
    pub fn int(&self, path: &str) -> Option<u64> {
        self.value(path)?.as_u64()
    }
}
