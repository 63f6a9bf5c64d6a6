//! `ir` and `graph`.

use super::DONE;
use crate::args::{Graph, GraphFormat, Ir};
use crate::format::{Align, table};
use crate::output::Output;
use llmc::pipeline::{Failure, inspect};
use llmc::store::{FsStore, write_atomic};
use llmc_ir::{graph as draw, text};
use serde_json::json;

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

/// `llmc graph`.
pub fn graph(args: &Graph, out: &mut Output) -> Result<u8, Failure> {
    if args.after == "help" {
        return Ok(stages(out));
    }
    let (module, warnings) = inspect::module_after(&FsStore, &args.file, &args.set, &args.after)?;
    out.warnings(&warnings);
    let id = inspect::function(&module, &args.function)?;
    let extension = args.output.as_ref().and_then(|p| p.extension());
    let named = match extension.and_then(|e| e.to_str()) {
        Some("dot" | "gv") => GraphFormat::Dot,
        _ => GraphFormat::Svg,
    };
    let format = args.format.unwrap_or(named);
    let drawn = match format {
        GraphFormat::Svg => draw::svg(&module, id),
        GraphFormat::Dot => draw::dot(&module, id),
    };
    if let Some(path) = &args.output {
        write_atomic(&FsStore, path, drawn.as_bytes())?;
    }
    let name = if format == GraphFormat::Svg { "svg" } else { "dot" };
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
