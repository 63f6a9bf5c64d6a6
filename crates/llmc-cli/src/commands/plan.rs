//! `plan`.

use super::{DONE, project, value};
use crate::args::PlanArgs;
use crate::environment;
use crate::format::{Align, bytes, duration, grouped, seconds, short, table};
use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llmc::calibration;
use llmc::pipeline::Failure;
use llmc::pipeline::plan::{DataEstimate, PlanOptions, RunPlan, TimePlan, plan as plan_run};
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use llmc_spec::Goal;
use std::io::IsTerminal;

/// `llmc plan`.
pub fn plan(args: &PlanArgs, out: &mut Output) -> Result<u8, Failure> {
    let (found, warnings) = project(&args.spec, Goal::Training)?;
    out.warnings(&warnings);
    let options = PlanOptions { threads: args.threads, isa: environment::isa()? };
    let threads = options.threads(&found)?;
    let cache = environment::cache(out);
    let stages = cache.as_ref().map(|c| &c.stages);
    let calibration = match args.no_calibrate {
        true => stages.and_then(|stages| calibration::cached(stages, options.isa(), threads)),
        false => {
            let mut progress = Progress::new(out);
            let measured = calibration::get_or_measure(
                stages,
                options.isa(),
                threads,
                args.recalibrate,
                &mut |done, of| progress.show(done, of),
            );
            progress.done();
            Some(measured.map_err(|e| {
                let d = Diagnostic::error("plan::calibration", e.to_string());
                Failure::Work(Box::new(d.help("`--no-calibrate` plans without times")))
            })?)
        }
    };
    let plan = plan_run(&found, &options, calibration.as_ref(), &FsStore)?;
    match out.is_json {
        true => out.json(&value(&plan)),
        false => show(&plan, out),
    }
    Ok(DONE)
}

/// A bar on a terminal, one line elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    is_told: bool,
    is_quiet: bool,
}

impl Progress {
    fn new(out: &Output) -> Self {
        Progress { bar: None, is_told: false, is_quiet: out.is_quiet || out.is_json }
    }

    fn show(&mut self, done: usize, of: usize) {
        if self.is_quiet {
            return;
        }
        if !self.is_told {
            self.is_told = true;
            match std::io::stderr().is_terminal() {
                true => {
                    let bar = ProgressBar::with_draw_target(
                        Some(of as u64),
                        ProgressDrawTarget::stderr(),
                    );
                    if let Ok(style) = ProgressStyle::with_template(
                        "measuring this machine, once  {bar:30} {percent} %",
                    ) {
                        bar.set_style(style);
                    }
                    self.bar = Some(bar);
                }
                false => crate::output::say("measuring this machine, once; takes a few seconds"),
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_string()).collect()
}

fn show(plan: &RunPlan, out: &mut Output) {
    let how = format!("{}, {} on {}", plan.name, threads(plan.threads), plan.isa);
    out.line(out.bold(&how));
    memory(plan, out);
    alternatives(plan, out);
    work(plan, out);
    if let Some(time) = &plan.time {
        times(time, &plan.data, out);
    }
    disk(plan, out);
    launches(plan, out);
    if plan.time.is_none() {
        out.note("no times: this machine is not calibrated; `llmc plan` without `--no-calibrate` does it");
    }
}

fn threads(n: usize) -> String {
    format!("{n} thread{}", if n == 1 { "" } else { "s" })
}

/// A heading and its rows.
fn section(title: &str, align: &[Align], rows: &[Vec<String>], out: &mut Output) {
    out.line("");
    out.line(out.bold(title));
    table(align, rows).iter().for_each(|line| out.line(format!("  {line}")));
}

const NAMED: [Align; 3] = [Align::Left, Align::Right, Align::Left];

fn memory(plan: &RunPlan, out: &mut Output) {
    let m = &plan.memory;
    let mut rows = vec![
        row(&["weights", &bytes(m.weights), ""]),
        row(&["gradients", &bytes(m.gradients), ""]),
        row(&["optimiser state", &bytes(m.optimizer), ""]),
        row(&["activations", &bytes(m.activations), "largest frame, inputs and outputs in it"]),
        row(&["kernel scratch", &bytes(m.scratch), ""]),
        row(&["plans", &bytes(m.plans), ""]),
        row(&["code and planning", &bytes(m.working), "estimated"]),
    ];
    if m.frozen > 0 {
        rows.insert(1, row(&["frozen weights", &bytes(m.frozen), "beside the adapters"]));
    }
    if m.staged > 0 {
        rows.push(row(&["staged state", &bytes(m.staged), "checkpoints are written from a copy"]));
    }
    if m.best_state > 0 {
        rows.push(row(&["best state", &bytes(m.best_state), "waits for the next checkpoint"]));
    }
    rows.push(row(&[
        "peak growth",
        &bytes(m.peak_growth),
        "of the resident memory, by the training",
    ]));
    rows.push(row(&["text and rows", &bytes(m.data), "estimated"]));
    rows.push(row(&["program", &bytes(m.process), "estimated"]));
    section("memory", &NAMED, &rows, out);
}

fn alternatives(plan: &RunPlan, out: &mut Output) {
    let mut rows = vec![row(&["gradient_checkpointing", "peak growth", "FLOPs", "step"])];
    for other in &plan.gradient_checkpointing {
        let name = format!("{}{}", other.value, if other.is_chosen { " (the spec)" } else { "" });
        let step = other.step_s.map_or("-".to_string(), seconds);
        rows.push(vec![name, bytes(other.peak_growth), short(other.flops as f64), step]);
    }
    let align = [Align::Left, Align::Right, Align::Right, Align::Right];
    out.line("");
    table(&align, &rows).iter().for_each(|line| out.line(format!("  {line}")));
}

fn work(plan: &RunPlan, out: &mut Output) {
    let w = &plan.work;
    let split = match w.micro_batches {
        1 => "in one micro-batch".to_string(),
        n => format!("in {n} micro-batches"),
    };
    let rows = [
        row(&["tokens", &grouped(w.tokens), &split]),
        row(&["FLOPs", &short(w.flops as f64), &format!("exactly {}", grouped(w.flops))]),
        row(&["bytes moved", &bytes(w.bytes), "without any reuse"]),
        row(&["launches", &grouped(w.launches), ""]),
    ];
    section("a step", &NAMED, &rows, out);
}

fn times(time: &TimePlan, data: &DataEstimate, out: &mut Output) {
    let rate = format!("{} tokens/s", short(time.tokens_per_s));
    let rows_held = format!("{} rows held out, estimated", grouped(data.held_out_rows));
    let rows = [
        row(&["step", &seconds(time.step_s), &rate]),
        row(&["steps", &duration(time.steps as f64 * time.step_s), &grouped(time.steps)]),
        row(&[
            "validations",
            &duration(time.evaluations_s),
            &format!("{}, {rows_held}", grouped(time.evaluations)),
        ]),
        row(&["checkpoints", &duration(time.checkpoints_s), &grouped(time.checkpoints)]),
        row(&["samples", &duration(time.samples_s), ""]),
        row(&["run", &duration(time.run_s), "without preparing text, and baselines at the end"]),
    ];
    section("time", &NAMED, &rows, out);
}

fn disk(plan: &RunPlan, out: &mut Output) {
    let d = &plan.disk;
    let each = format!("{} of {}", d.checkpoints, bytes(d.checkpoint_bytes));
    let kept = d.checkpoint_bytes.saturating_mul(d.checkpoints);
    let rows = [
        row(&["checkpoints", &bytes(kept), &each]),
        row(&["rows", &bytes(d.data_bytes), "estimated"]),
        row(&["metrics and accounts", &bytes(d.records_bytes), "estimated"]),
        row(&["in all", &bytes(d.total_bytes), ""]),
    ];
    section("disk", &NAMED, &rows, out);
}

fn launches(plan: &RunPlan, out: &mut Output) {
    let mut rows = vec![row(&["launch", "count", "FLOPs", "time", "share"])];
    for launch in &plan.launches {
        rows.push(vec![
            launch.launch.clone(),
            grouped(launch.count),
            short(launch.flops as f64),
            launch.seconds.map_or("-".to_string(), seconds),
            format!("{:.1} %", launch.share * 100.0),
        ]);
    }
    let align = [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right];
    let by = if plan.time.is_some() { "time" } else { "FLOPs" };
    section(&format!("what takes most of a step, by {by}"), &align, &rows, out);
}
