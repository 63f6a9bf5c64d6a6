//! `[[optimizer.groups]]`: a list of tables.

use super::Converter;
use crate::field::Limit;
use crate::tree::{Entry, Node, Value};
use llmc_base::Diagnostic;
use llmc_base::diag::nearest;
use serde_json::{Map, Value as Json};

/// What a group may say.
const NAMES: [&str; 3] = ["pattern", "lr_scale", "weight_decay"];

impl Converter<'_> {
    /// Tables with a pattern and what is different for its parameters; a factor of 1 is written out.
    pub(super) fn groups(&self, node: &Node) -> Result<Json, Vec<Diagnostic>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let (mut groups, mut diagnostics) = (Vec::new(), Vec::new());
        for item in items {
            match &item.value {
                Value::Table(entries) => match self.group(item, entries) {
                    Ok(group) => groups.push(group),
                    Err(found) => diagnostics.extend(found),
                },
                _ => diagnostics.push(self.wrong_type(item, "a list of tables")),
            }
        }
        if diagnostics.is_empty() { Ok(Json::Array(groups)) } else { Err(diagnostics) }
    }

    fn group(&self, node: &Node, entries: &[Entry]) -> Result<Json, Vec<Diagnostic>> {
        let mut map = Map::new();
        let mut diagnostics = Vec::new();
        for entry in entries {
            let (key, path) = (entry.key.as_str(), self.field.path);
            if map.contains_key(key) {
                let message = format!("`{path}.{key}` is written twice");
                diagnostics.push(self.twice(message, &entry.node));
                continue;
            }
            let value = match key {
                "pattern" => self.item_text(&entry.node).map(Json::from),
                "lr_scale" | "weight_decay" => {
                    self.float(&entry.node, Limit::Closed(0.0), Limit::Open).map(Json::from)
                }
                _ => {
                    let message = format!("`{path}` has no field `{key}`");
                    let help = match nearest(key, NAMES) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("its fields are {}", NAMES.join(", ")),
                    };
                    let d = Diagnostic::error("spec::unknown_key", message)
                        .help(help)
                        .field(format!("{path}.{key}"));
                    diagnostics.push(self.place.label(d, &entry.key_span, "unknown"));
                    continue;
                }
            };
            match value {
                Ok(value) => {
                    map.insert(key.to_string(), value);
                }
                Err(found) => diagnostics.extend(found),
            }
        }
        if diagnostics.is_empty() && !map.contains_key("pattern") {
            let message = format!("a group of `{}` has no `pattern`", self.field.path);
            diagnostics.push(self.error("spec::wrong_type", message, node, "no pattern"));
        }
        map.entry("lr_scale").or_insert(Json::from(1.0));
        map.sort_keys();
        if diagnostics.is_empty() { Ok(Json::Object(map)) } else { Err(diagnostics) }
    }
}
