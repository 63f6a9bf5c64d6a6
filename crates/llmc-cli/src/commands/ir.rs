//! `ir` and `graph`.

use super::DONE;
use crate::args::{Graph, GraphFormat, Ir};
use crate::format::{Align, table};
use crate::output::Output;
use llmc::pipeline::{Failure, inspect};
use llmc::store::{FsStore, write_atomic};
use llmc_base::Diagnostic;
use llmc_ir::{graph as draw, text};
use serde_json::json;
use std::path::Path;

/// `--after help`.
fn stages(out: &mut Output) -> u8 {
    let stages = inspect::stages();
    if out.is_json {
        out.json(&json!({ "stages": stages }));
        return DONE;
    }
    out.line("stages in order; `--after` prints what is there after one and all before it:");
    let rows: Vec<Vec<String>> =
        stages.iter().map(|s| vec![s.name.to_string(), s.summary.to_string()]).collect();
    table(&[Align::Left; 2], &rows).iter().for_each(|line| out.line(format!("  {line}")));
    DONE
}

/// `llmc ir`.
pub fn ir(args: &Ir, out: &mut Output) -> Result<u8, Failure> {
    if args.after == "help" {
        return Ok(stages(out));
    }
    let (module, warnings) = inspect::module_after(&FsStore, &args.file, &args.set, &args.after)?;
    out.warnings(&warnings);
    let printed = match &args.function {
        Some(name) => {
            let id = inspect::function(&module, name)?;
            text::print_function(&module, id, text::PrintOptions::default())
        }
        None => text::print(&module),
    };
    match out.is_json {
        true => out.json(&json!({
            "stage": args.after,
            "module": module.name,
            "functions": module.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
            "text": printed,
        })),
        false => {
            out.text(&printed);
        }
    }
    Ok(DONE)
}

/// The format that is asked for, or that the name of the output says; svg without either.
///
/// Errors: `graph::extension` if the name says another format, or none that is known.
fn graph_format(asked: Option<GraphFormat>, output: Option<&Path>) -> Result<GraphFormat, Failure> {
    let extension = output.and_then(Path::extension).map(|e| e.to_string_lossy().to_lowercase());
    let (Some(output), Some(extension)) = (output, extension) else {
        return Ok(asked.unwrap_or(GraphFormat::Svg));
    };
    let named = match extension.as_str() {
        "svg" => Some(GraphFormat::Svg),
        "dot" | "gv" => Some(GraphFormat::Dot),
        _ => None,
    };
    let (path, message) = (output.display(), |why: String| {
        let d = Diagnostic::error("graph::extension", why);
        Failure::from(d.help("svg goes into .svg; dot into .dot or .gv, `dot -Tpng` draws it"))
    });
    match (named, asked) {
        (None, _) => Err(message(format!("`{path}`: no format has the extension `.{extension}`"))),
        (Some(named), Some(asked)) if named != asked => {
            let asked = graph_name(asked);
            Err(message(format!(
                "`{path}` has the extension `.{extension}`, `--format` is {asked}"
            )))
        }
        (Some(named), _) => Ok(named),
    }
}

fn graph_name(format: GraphFormat) -> &'static str {
    match format {
        GraphFormat::Svg => "svg",
        GraphFormat::Dot => "dot",
    }
}

/// `llmc graph`.
pub fn graph(args: &Graph, out: &mut Output) -> Result<u8, Failure> {
    if args.after == "help" {
        return Ok(stages(out));
    }
    let format = graph_format(args.format, args.output.as_deref())?;
    let (module, warnings) = inspect::module_after(&FsStore, &args.file, &args.set, &args.after)?;
    out.warnings(&warnings);
    let id = inspect::function(&module, &args.function)?;
    let drawn = match format {
        GraphFormat::Svg => draw::svg(&module, id),
        GraphFormat::Dot => draw::dot(&module, id),
    };
    if let Some(path) = &args.output {
        write_atomic(&FsStore, path, drawn.as_bytes())?;
    }
    let name = graph_name(format);
    match (&args.output, out.is_json) {
        (Some(path), true) => out.json(&json!({"format": name, "path": path})),
        (Some(path), false) => out.line(format!("wrote {}", path.display())),
        (None, true) => out.json(&json!({"format": name, "text": drawn})),
        (None, false) => {
            out.text(&drawn);
        }
    }
    Ok(DONE)
}
