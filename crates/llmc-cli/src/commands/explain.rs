//! `explain`.

use super::{DONE, project, value};
use crate::args::{Explain, SpecArgs};
use crate::environment;
use crate::format::{Align, bytes, grouped, seconds, short, table};
use crate::output::Output;
use llmc::calibration;
use llmc::pipeline::explain::{Explanation, FunctionMemory, KernelGroup, Phase, explain as why};
use llmc::pipeline::generate::WeightFormat;
use llmc::pipeline::plan::PlanOptions;
use llmc::pipeline::{Failure, Project, runs as run_folders};
use llmc::store::FsStore;
use llmc_base::Decision;
use llmc_spec::Goal;
use std::path::Path;

/// Launches that a summary shows of a phase; asked for by name, all are.
const MAX_SHOWN: usize = 10;

/// `llmc explain`.
pub fn explain(args: &Explain, out: &mut Output) -> Result<u8, Failure> {
    let found = read(args, out)?;
    let options = PlanOptions { threads: args.threads, isa: environment::isa()? };
    let threads = options.threads(&found)?;
    let cache = environment::cache(out);
    let stages = cache.as_ref().map(|c| &c.stages);
    let calibration = stages.and_then(|stages| calibration::cached(stages, options.isa(), threads));
    let format = args.weights.unwrap_or(WeightFormat::F32);
    let all = why(&found, &options, format, calibration.as_ref())?;
    let said = match &args.what {
        Some(what) => all.about(what)?,
        None => all,
    };
    match out.is_json {
        true => out.json(&value(&said)),
        false => show(&said, args.what.is_none(), out),
    }
    Ok(DONE)
}

/// The spec of a file, or of a run.
fn read(args: &Explain, out: &mut Output) -> Result<Project, Failure> {
    let path = Path::new(&args.of);
    let is_spec = path.is_file() || path.extension().is_some_and(|e| e == "toml");
    if is_spec {
        let spec = SpecArgs { spec: path.into(), set: args.set.clone(), explicit: false };
        let (found, warnings) = project(&spec, Goal::Training)?;
        out.warnings(&warnings);
        return Ok(found);
    }
    let run = run_folders::find(&FsStore, &args.runs, Some(&args.of))?;
    let spec = run.join("spec.toml");
    match args.set.is_empty() {
        true => run_folders::project(&FsStore, &run),
        false => {
            Ok(project(&SpecArgs { spec, set: args.set.clone(), explicit: false }, Goal::Training)?
                .0)
        }
    }
}

fn show(said: &Explanation, is_summary: bool, out: &mut Output) {
    let threads = format!("{} thread{}", said.threads, if said.threads == 1 { "" } else { "s" });
    out.line(out.bold(&format!("{}, {threads} on {}", said.name, said.isa)));
    for phase in &said.phases {
        launches(phase, is_summary, out);
    }
    decisions(&said.decisions, is_summary, out);
    memory(&said.memory, is_summary, out);
    if said.phases.iter().any(|p| p.name == "training" && p.seconds.is_none()) {
        out.note("no times: this machine is not calibrated; `llmc plan SPEC` does it");
    }
    if is_summary {
        out.note("`llmc explain SPEC WHAT` has all of a part: training, decode, decisions, memory, an op, a kernel, a function or a value");
    }
}

fn launches(phase: &Phase, is_summary: bool, out: &mut Output) {
    out.line("");
    let time = phase.seconds.map_or(String::new(), |s| format!(", {}", seconds(s)));
    out.line(out.bold(&format!("{}: {}", phase.name, phase.what)));
    out.line(format!(
        "  {} launches, {} FLOPs, {} moved{time}",
        grouped(phase.launches),
        short(phase.flops as f64),
        bytes(phase.bytes)
    ));
    match is_summary {
        true => summary(phase, out),
        false => {
            // In the order in which they run, by function.
            let mut functions: Vec<&str> = Vec::new();
            for kernel in &phase.kernels {
                if !functions.contains(&kernel.function.as_str()) {
                    functions.push(&kernel.function);
                }
            }
            for function in functions {
                let of = phase.kernels.iter().filter(|k| k.function == function);
                details(phase, &of.collect::<Vec<_>>(), out);
            }
        }
    }
}

/// The launches with the largest shares.
fn summary(phase: &Phase, out: &mut Output) {
    let mut largest: Vec<&KernelGroup> = phase.kernels.iter().collect();
    // Stable: equal shares stay in the order in which they run.
    largest.sort_by(|a, b| b.share.total_cmp(&a.share));
    let mut rows = vec![row(&["kernel", "count", "FLOPs", "bytes", phase.share_of, "in", "way"])];
    for k in largest.iter().take(MAX_SHOWN) {
        rows.push(vec![
            k.kernel.clone(),
            grouped(k.count),
            short(k.flops as f64),
            bytes(k.bytes),
            percent(k.share),
            format!("@{}", k.function),
            k.path.clone(),
        ]);
    }
    use Align::{Left, Right};
    let align = [Left, Right, Right, Right, Right, Left, Left];
    table(&align, &rows).iter().for_each(|line| out.line(format!("  {line}")));
    if phase.kernels.len() > MAX_SHOWN {
        let more = phase.kernels.len() - MAX_SHOWN;
        out.line(out.dim(&format!("  and {more} more kinds of launch")));
    }
}

/// Every launch of a function, with what it came from and why.
fn details(phase: &Phase, kernels: &[&KernelGroup], out: &mut Output) {
    let Some(first) = kernels.first() else { return };
    let scopes: Vec<&str> =
        first.scopes.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
    let at = match scopes[..] {
        [] => String::new(),
        [one] => format!("  {one}"),
        [from, to, ..] => format!("  {from} to {to}"),
    };
    out.line("");
    out.line(format!("  @{}{at}", first.function));
    for k in kernels {
        let time = k.seconds.map_or(String::new(), |s| format!(", {}", seconds(s)));
        out.line(format!(
            "    {} ×{}: {} FLOPs, {}{time}, {} of the {}",
            k.kernel,
            grouped(k.count),
            short(k.flops as f64),
            bytes(k.bytes),
            percent(k.share),
            phase.share_of
        ));
        out.line(out.dim(&format!("      from   {}", k.ops.join(", "))));
        out.line(out.dim(&format!("      shapes {}", k.shapes)));
        out.line(out.dim(&format!("      way    {}", k.path)));
        out.line(out.dim(&format!("      why    {}", k.why)));
    }
}

fn decisions(found: &[Decision], is_summary: bool, out: &mut Output) {
    let mut stages: Vec<&str> = Vec::new();
    for decision in found {
        if !stages.contains(&decision.stage) {
            stages.push(decision.stage);
        }
    }
    for stage in stages {
        let of: Vec<&Decision> = found.iter().filter(|d| d.stage == stage).collect();
        out.line("");
        out.line(out.bold(&format!("decided by {stage}")));
        let shown = if is_summary { of.len().min(MAX_SHOWN) } else { of.len() };
        let rows: Vec<Vec<String>> = of[..shown]
            .iter()
            .map(|d| {
                let at = match d.function.as_str() {
                    "" => String::new(),
                    name => format!("@{name}"),
                };
                vec![at, d.subject.clone(), d.choice.to_string(), d.why.clone()]
            })
            .collect();
        table(&[Align::Left; 4], &rows).iter().for_each(|line| out.line(format!("  {line}")));
        if of.len() > shown {
            out.line(out.dim(&format!("  and {} more", of.len() - shown)));
        }
    }
}

fn memory(found: &[FunctionMemory], is_summary: bool, out: &mut Output) {
    if found.is_empty() {
        return;
    }
    out.line("");
    out.line(out.bold("memory"));
    use Align::{Left, Right};
    if is_summary {
        let mut rows = vec![row(&["function", "frame", "without reuse", ""])];
        for m in found.iter().filter(|m| m.frame_bytes > 0) {
            let (frame, unshared) = (bytes(m.frame_bytes), bytes(m.unshared_bytes));
            rows.push(vec![format!("@{}", m.function), frame, unshared, m.phase.to_string()]);
        }
        let lines = table(&[Left, Right, Right, Left], &rows);
        lines.iter().for_each(|line| out.line(format!("  {line}")));
        return;
    }
    for m in found {
        out.line(format!(
            "  @{} ({}): frame {}, {} without reuse",
            m.function,
            m.phase,
            bytes(m.frame_bytes),
            bytes(m.unshared_bytes)
        ));
        let rows: Vec<Vec<String>> = m
            .buffers
            .iter()
            .map(|b| {
                let place = b.offset.map_or(String::new(), |at| format!("at {}", grouped(at)));
                vec![
                    b.value.clone(),
                    b.ty.clone(),
                    bytes(b.bytes),
                    place,
                    b.storage.to_string(),
                    b.why.clone(),
                ]
            })
            .collect();
        let lines = table(&[Left, Left, Right, Left, Left, Left], &rows);
        lines.iter().for_each(|line| out.line(format!("    {line}")));
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_string()).collect()
}
