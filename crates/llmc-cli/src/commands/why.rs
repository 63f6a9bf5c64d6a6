//! `why`: a step of a run, executed again and looked at.

use super::{DONE, run_folder, value};
use crate::args::Why;
use crate::environment;
use crate::format::{Align, grouped, table};
use crate::output::Output;
use llmc::pipeline::why::{DocumentPlace, WhyReport, why as look};
use llmc::pipeline::{Event, Failure, Observer};
use llmc::store::FsStore;

/// Documents and layers that people are shown; programs get all.
const MAX_SHOWN: usize = 24;

/// Says what it does while it takes long.
struct Notes<'a>(&'a mut Output);

impl Observer for Notes<'_> {
    fn event(&mut self, event: &Event) {
        if let (Event::Stage { name: "steps", detail }, false) = (event, self.0.is_json) {
            self.0.note(&format!("executing again: {detail}"));
        }
    }
}

/// `llmc why`.
pub fn why(args: &Why, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let isa = environment::isa()?;
    let report = look(&FsStore, &run, args.step, args.threads, isa, &mut Notes(out))?;
    match out.is_json {
        true => out.json(&value(&report)),
        false => show(&report, out),
    }
    Ok(DONE)
}

fn show(report: &WhyReport, out: &mut Output) {
    out.line(out.bold(&format!("{} step {}", report.run.display(), report.step)));
    let mut row = |name: &str, text: String| out.line(format!("  {name:<14} {text}"));
    let recorded = match report.is_as_recorded {
        Some(true) => ", as recorded",
        Some(false) => ", not as recorded in metrics.jsonl",
        None => "",
    };
    row("loss", format!("{:.6}{recorded}", report.loss));
    row("gradient norm", format!("{:.6}", report.grad_norm));
    if let Some(scale) = report.loss_scale {
        let end =
            if report.grad_norm.is_finite() { "" } else { "; with it gradients overflow float16" };
        row("loss scale", format!("{scale}{end}"));
    }
    row("learning rate", format!("{:.3e}", report.lr));
    row("tokens", grouped(report.tokens));
    match &report.non_finite {
        None => row("finite", "every number".to_string()),
        Some(fault) => {
            let node = fault.node.as_deref().unwrap_or("only a sum over micro-batches");
            row("not finite", format!("`{}`, first at {node}", fault.quantity));
            let [first, last] = fault.rows;
            row("", format!("in rows {first} to {last}: {}", names(&fault.documents)));
        }
    }
    if !report.bad_weights.is_empty() {
        let paths = report.bad_weights.join(", ");
        row("bad weights", format!("not finite before the step: {paths}"));
    }
    out.line("");
    out.line(out.bold("gradient norms"));
    let rows: Vec<Vec<String>> = report
        .layers
        .iter()
        .map(|l| {
            vec![l.layer.clone(), format!("{:.6}", l.grad_norm), format!("most in {}", l.largest)]
        })
        .collect();
    shown(&[Align::Left, Align::Right, Align::Left], &rows, out);
    out.line("");
    out.line(out.bold("documents"));
    let rows: Vec<Vec<String>> = report
        .documents
        .iter()
        .map(|d| {
            let rows: Vec<String> = d.rows.iter().map(usize::to_string).collect();
            vec![format!("{} #{}", d.source, d.index), format!("rows {}", rows.join(", "))]
        })
        .collect();
    shown(&[Align::Left; 2], &rows, out);
}

/// The first rows of a table, and how many there are beyond them.
fn shown(align: &[Align], rows: &[Vec<String>], out: &mut Output) {
    let first = &rows[..rows.len().min(MAX_SHOWN)];
    table(align, first).iter().for_each(|line| out.line(format!("  {line}")));
    if rows.len() > MAX_SHOWN {
        out.line(out.dim(&format!("  and {} more; `--json` has all", rows.len() - MAX_SHOWN)));
    }
}

fn names(documents: &[DocumentPlace]) -> String {
    let names: Vec<String> =
        documents.iter().map(|d| format!("{} #{}", d.source, d.index)).collect();
    let more = names.len().saturating_sub(MAX_SHOWN);
    let end = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{end}", names[..names.len() - more].join(", "))
}
