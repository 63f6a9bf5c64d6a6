//! What may be written for a field, in words: the help of every refused value.

use crate::field::{Choice, DefaultRule, Field, Kind, Limit};
use crate::print::toml_value;
use crate::read::MAX_DIM;

/// An order that says what to write, with the default where there is a constant one.
pub(crate) fn what_to_write(field: &Field) -> String {
    let mut text = match field.kind {
        Kind::Dim => format!(
            "write an integer from 1 to {MAX_DIM}, \"free\", or bounds such as {{ min = 64, multiple_of = 64 }}"
        ),
        Kind::Int { min, max } => format!("write an integer from {min} to {max}"),
        Kind::Size => "write an integer, or a text such as \"125M\" or \"1.3B\"".to_string(),
        Kind::Float { min: Limit::Open, max: Limit::Open } => "write a number".to_string(),
        Kind::Float { min, max } => format!("write a number {}", range_text(min, max)),
        Kind::Bool => "write `true` or `false`, without quotes".to_string(),
        Kind::Text => "write a text in double quotes".to_string(),
        Kind::Texts | Kind::TextSet => {
            "write a list of texts in double quotes, e.g. [\"a\", \"b\"]".to_string()
        }
        Kind::Hash => "write the 64 hexadecimal digits that `llmc check` prints".to_string(),
        Kind::Choice(choices) => can_be(choices, field.is_optional),
        Kind::Choices(choices) => format!("a list; each {}", can_be(choices, false)),
        Kind::Weights => {
            "write a table from names to numbers above 0, e.g. { en = 1.0 }".to_string()
        }
        Kind::Groups => {
            "write [[optimizer.groups]] with `pattern`, e.g. pattern = \"*.norm.weight\", and `lr_scale` or `weight_decay`"
                .to_string()
        }
        Kind::Pair => {
            "write two numbers, each at least 0 and less than 1, e.g. [0.9, 0.95]".to_string()
        }
        Kind::Checkpointing => {
            "it can be \"none\", \"block\", or a budget of memory such as { budget = \"2 GiB\" }"
                .to_string()
        }
    };
    if field.is_optional && !matches!(field.kind, Kind::Choice(_)) {
        text.push_str(", or \"none\"");
    }
    if let DefaultRule::Is(lit) = field.default {
        text.push_str(&format!("; the default is {}", toml_value(&lit.value())));
    }
    text
}

/// Words that work, then those that do not yet.
pub(super) fn can_be(choices: &[Choice], is_optional: bool) -> String {
    let list = |is_built: bool| -> Vec<&str> {
        choices.iter().filter(|c| c.is_built == is_built).map(|c| c.name).collect()
    };
    let (mut built, later) = (list(true), list(false));
    if is_optional && !built.contains(&"none") {
        built.push("none");
    }
    let mut text = format!("it can be {}", built.join(", "));
    if !later.is_empty() {
        text.push_str(&format!("; not supported yet: {}", later.join(", ")));
    }
    text
}

/// Both ends of a range in words.
pub(super) fn range_text(min: Limit, max: Limit) -> String {
    match (low_text(min), high_text(max)) {
        (Some(low), Some(high)) => format!("{low} and {high}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "a finite number".to_string(),
    }
}

/// The lower end in words.
pub(super) fn low_text(min: Limit) -> Option<String> {
    match min {
        Limit::Open => None,
        Limit::Closed(end) => Some(format!("at least {end}")),
        Limit::Beyond(end) => Some(format!("greater than {end}")),
    }
}

/// The upper end in words.
pub(super) fn high_text(max: Limit) -> Option<String> {
    match max {
        Limit::Open => None,
        Limit::Closed(end) => Some(format!("at most {end}")),
        Limit::Beyond(end) => Some(format!("less than {end}")),
    }
}
