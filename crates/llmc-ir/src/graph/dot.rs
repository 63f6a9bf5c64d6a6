//! DOT text for Graphviz.

use super::picture::{Look, picture};
use crate::module::{FuncId, Module};
use std::fmt::Write;

/// The graph of a function as DOT text, runs of layers folded into clusters.
pub fn dot(module: &Module, function: FuncId) -> String {
    let picture = picture(module, function);
    let mut out = format!("digraph {} {{\n", quoted(&picture.title));
    out.push_str(
        "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fontname=\"monospace\"];\n",
    );
    out.push_str("  edge [fontname=\"monospace\", fontsize=10];\n");
    for frame in (0..picture.frames.len()).map(Some).chain([None]) {
        let mut indent = "  ";
        if let Some(index) = frame {
            let title = quoted(&picture.frames[index].title);
            _ = write!(out, "  subgraph cluster_{index} {{\n    label={title};\n");
            indent = "    ";
        }
        for (i, shape) in picture.shapes.iter().enumerate().filter(|(_, s)| s.frame == frame) {
            let mut label = escaped(&shape.title);
            for line in &shape.lines {
                label += "\\n";
                label += &escaped(line);
            }
            let colour = fill(shape.look);
            _ = writeln!(out, "{indent}n{i} [label=\"{label}\", fillcolor=\"{colour}\"];");
        }
        if frame.is_some() {
            out.push_str("  }\n");
        }
    }
    for link in &picture.links {
        let style = match link.is_carried {
            true => ", style=dashed, constraint=false",
            false => "",
        };
        let label = quoted(&link.label);
        _ = writeln!(out, "  n{} -> n{} [label={label}{style}];", link.from, link.to);
    }
    out.push_str("}\n");
    out
}

fn fill(look: Look) -> &'static str {
    match look {
        Look::Input => "#e3eefa",
        Look::Output => "#fdeedd",
        Look::Primitive => "#f2f2ef",
        Look::Composite => "#e2f3e8",
        Look::Region => "#f1e8fa",
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}
