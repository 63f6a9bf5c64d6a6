//! `train`, `resume`, `rerun`, `quickstart`.

use super::{DIFFERENCE, DONE, project, run_folder, value};
use crate::args::{Quickstart, Rerun, Resume, Train};
use crate::environment::{self, Cache};
use crate::format::{bytes, grouped, seconds, short};
use crate::output::Output;
use crate::progress::{INTERRUPTED, Leaves, Progress, catch_interrupt};
use llmc::cache::StageCache;
use llmc::manifest;
use llmc::metrics::{self, Record};
use llmc::pipeline::finetune::{self, Start};
use llmc::pipeline::train::{
    Parent, TrainOptions, TrainResult, TrainStatus, train as train_project,
};
use llmc::pipeline::{Defaults, Failure, Project, quickstart as first, rerun as again, runs};
use llmc::shell::quote;
use llmc::store::FsStore;
use llmc_spec::{Format, Goal};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Steps between plain lines, where the spec's own number is not at hand.
fn log_interval(project: &Project) -> u64 {
    project.resolved.training.as_ref().map_or(1, |t| t.log_interval)
}

fn stages(cache: &Option<Cache>) -> Option<&StageCache<'static>> {
    cache.as_ref().map(|c| &c.stages)
}

/// Says what the stage cache did, to programs.
fn cache_event(cache: &Option<Cache>, out: &mut Output) {
    let Some(cache) = cache.as_ref().filter(|_| out.is_json) else { return };
    let counts: Map<String, Value> =
        cache.stages.counts().into_iter().map(|(stage, counts)| (stage, value(&counts))).collect();
    out.json_line(&json!({"event": "cache", "stages": counts}));
}

/// Shows what a run came to. The result is the exit code.
fn finish(
    result: &TrainResult,
    checkpoint: Option<PathBuf>,
    cache: &Option<Cache>,
    out: &mut Output,
) -> u8 {
    cache_event(cache, out);
    let is_interrupted = result.status == TrainStatus::Interrupted;
    let code = if is_interrupted { INTERRUPTED } else { DONE };
    let run = result.run.display();
    if out.is_json {
        let mut document = value(result);
        document["event"] = json!("result");
        out.json_line(&document);
        return code;
    }
    if is_interrupted {
        let written = checkpoint.unwrap_or_else(|| result.run.clone());
        out.line(format!("interrupted at step {}; wrote {}", result.step, written.display()));
        out.line(format!("go on with: llmc resume {}", quote(&result.run)));
        return code;
    }
    let status = match result.status {
        TrainStatus::AlreadyComplete => "was complete already; every hash is as recorded",
        _ => "complete",
    };
    out.line(format!("{} {status}", out.bold(&format!("{run}"))));
    let mut row = |name: &str, text: String| out.line(format!("  {name:<10} {text}"));
    let early = if result.is_stopped_early { ", the held-out loss fell no more" } else { "" };
    row("steps", format!("{}{early}", result.step));
    let spikes = result.skipped - result.overflows;
    if spikes > 0 {
        row("skipped", format!("{spikes} of them, as spikes"));
    }
    if result.overflows > 0 {
        let overflows = result.overflows;
        row("skipped", format!("{overflows} of them, because gradients overflow float16"));
    }
    row("parameters", grouped(result.parameters));
    if let Some(loss) = result.loss {
        row("loss", format!("{loss:.4}"));
    }
    if let Some(v) = &result.validation {
        row("held out", format!("loss {:.4}, {:.4} bits per byte", v.loss, v.bits_per_byte));
    }
    if let Some(plan) = &result.plan {
        let step = &plan.step_s;
        let (predicted, actual) = (seconds(step.predicted), seconds(step.actual));
        row("step", format!("{actual}, predicted {predicted} ({:+.1} %)", step.error_percent()));
        if let Some(growth) = plan.peak_growth.filter(|growth| growth.actual > 0.0) {
            let (predicted, actual) = (bytes(growth.predicted as u64), bytes(growth.actual as u64));
            row(
                "memory",
                format!(
                    "grew by {actual}, predicted {predicted} ({:+.1} %)",
                    growth.error_percent()
                ),
            );
        }
    }
    row("weights", result.weights.to_string());
    row("recipe", result.recipe.to_string());
    if let Some(content) = &result.content {
        row("content", content.to_string());
    }
    row("report", result.run.join("report.html").display().to_string());
    code
}

/// The same, and what can be done with the run.
fn finish_with_hint(
    result: &TrainResult,
    checkpoint: Option<PathBuf>,
    cache: &Option<Cache>,
    out: &mut Output,
) -> u8 {
    let code = finish(result, checkpoint, cache, out);
    if code == DONE {
        let run = quote(&result.run);
        out.note(&format!("next: llmc generate {run} --prompt '…'; llmc verify {run}"));
    }
    code
}

/// The checkpoint that `--from RUN[@STEP]` means.
fn parent(args: &Train, project: &Project, out: &mut Output) -> Result<Option<Parent>, Failure> {
    let Some(wanted) = &args.from else { return Ok(None) };
    let (run, start) = match wanted.rsplit_once('@') {
        Some((run, "best")) => (run, Start::Best),
        Some((run, step)) => match step.parse() {
            Ok(step) => (run, Start::Step(step)),
            Err(_) => (wanted.as_str(), Start::Last),
        },
        None => (wanted.as_str(), Start::Last),
    };
    let run = runs::find(&FsStore, &args.output, Some(run))?;
    let (parent, warnings) = finetune::parent(&FsStore, &run, start, project)?;
    out.warnings(&warnings);
    Ok(Some(parent))
}

/// `llmc train`.
pub fn train(args: &Train, out: &mut Output) -> Result<u8, Failure> {
    let (project, warnings) = project(&args.spec, Goal::Training)?;
    out.warnings(&warnings);
    let parent = parent(args, &project, out)?;
    let isa = environment::isa()?;
    let cache = environment::cache(out);
    let options = TrainOptions {
        output: &args.output,
        threads: args.threads,
        isa,
        cache: stages(&cache),
        store: &FsStore,
        parent,
    };
    let interrupt = catch_interrupt(Leaves::Checkpoint)?;
    let mut progress = Progress::new(out, interrupt, log_interval(&project)).on_screen(args.tui);
    let result = train_project(&project, &options, &mut progress);
    let checkpoint = progress.done();
    Ok(finish_with_hint(&result?, checkpoint, &cache, out))
}

/// `llmc resume`.
pub fn resume(args: &Resume, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let interval = log_interval(&runs::project(&FsStore, &run)?);
    let isa = environment::isa()?;
    let cache = environment::cache(out);
    let output = match run.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let options = TrainOptions {
        output,
        threads: args.threads,
        isa,
        cache: stages(&cache),
        store: &FsStore,
        parent: None,
    };
    let interrupt = catch_interrupt(Leaves::Checkpoint)?;
    let mut progress = Progress::new(out, interrupt, interval).on_screen(args.tui);
    let result = again::resume(&run, args.steps, options, &mut progress);
    let checkpoint = progress.done();
    Ok(finish_with_hint(&result?, checkpoint, &cache, out))
}

/// A folder that is gone when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind in the system's folder of temporary files hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `llmc rerun`.
pub fn rerun(args: &Rerun, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let interval = log_interval(&runs::project(&FsStore, &run)?);
    let isa = environment::isa()?;
    let name = format!("llmc-rerun-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let interrupt = catch_interrupt(Leaves::Nothing(scratch.0.clone()))?;
    let mut progress = Progress::new(out, Arc::clone(&interrupt), interval);
    let report = again::rerun(&FsStore, &run, &scratch.0, args.threads, isa, &mut progress);
    drop(progress);
    interrupt.go_on();
    let report = report?;
    let code = if report.is_same() { DONE } else { DIFFERENCE };
    if out.is_json {
        let mut document = value(&report);
        document["event"] = json!("result");
        document["same"] = json!(report.is_same());
        out.json_line(&document);
        return Ok(code);
    }
    out.line(match report.is_same() {
        true => format!("same: every bit of the weights at step {}", report.step),
        false => format!("different weights at step {}", report.step),
    });
    out.line(format!("  original  {}", report.original));
    out.line(format!("  repeated  {} on {} threads", report.repeated, report.threads));
    Ok(code)
}

/// `llmc quickstart`.
pub fn quickstart(args: &Quickstart, out: &mut Output) -> Result<u8, Failure> {
    let library = first::python_library();
    let start = first::spec(library.as_deref(), Some(args.steps));
    let name = "quickstart.toml";
    let (project, warnings) = Project::parse(
        &start.spec,
        Format::Toml,
        name,
        &args.set,
        Goal::Training,
        Defaults::Record,
    )?;
    out.warnings(&warnings);
    let model = project.model()?;
    let dims = model.dims;
    out.note(&format!("a small language model, trained on {}", start.text));
    out.note(&format!(
        "  {:<10} {} parameters: {} layers, hidden {}, {} heads, ffn {}",
        "solved",
        grouped(model.solution.params),
        dims.num_layers,
        dims.hidden_size,
        dims.num_heads,
        dims.intermediate_size
    ));
    let isa = environment::isa()?;
    let cache = environment::cache(out);
    let options = TrainOptions {
        output: &args.output,
        threads: args.threads,
        isa,
        cache: stages(&cache),
        store: &FsStore,
        parent: None,
    };
    let interrupt = catch_interrupt(Leaves::Checkpoint)?;
    let mut progress = Progress::new(out, interrupt, log_interval(&project));
    let result = train_project(&project, &options, &mut progress);
    let checkpoint = progress.done();
    let result = result?;
    if result.status == TrainStatus::Interrupted {
        return Ok(finish(&result, checkpoint, &cache, out));
    }
    let summary = runs::summary(&FsStore, &result.run)?;
    let report = manifest::verify(&FsStore, &result.run)?;
    if out.is_json {
        out.json_line(&json!({
            "event": "baselines", "baselines": summary.baselines, "is_real_text": start.is_real_text,
        }));
        out.json_line(&json!({"event": "verified", "ok": report.outputs_are_whole(), "files": report.n_files}));
        return Ok(finish(&result, checkpoint, &cache, out));
    }
    compare(&summary, out);
    sample(&result.run, out)?;
    out.line("");
    finish(&result, checkpoint, &cache, out);
    out.line(match report.outputs_are_whole() {
        true => format!("  {:<10} {} files, every hash as recorded", "verified", report.n_files),
        false => {
            format!("  {:<10} no: `llmc verify {}` says why", "verified", quote(&result.run))
        }
    });
    out.line("");
    out.line(out.bold("what to try next"));
    let run = quote(&result.run);
    for (command, why) in [
        (format!("llmc generate {run} --prompt 'def '"), "more text"),
        (format!("llmc resume {run} --steps {}", result.step * 2), "train twice as long"),
        (format!("llmc rerun {run} --threads 1"), "the same bits again"),
        (format!("llmc emit {run} --to huggingface"), "a folder that transformers loads"),
        ("llmc new my-model".to_string(), "a spec of your own"),
    ] {
        out.line(format!("  {command:<60} {}", out.dim(why)));
    }
    Ok(if report.outputs_are_whole() { DONE } else { DIFFERENCE })
}

/// Bits per byte beside those of simple models.
fn compare(summary: &runs::RunSummary, out: &mut Output) {
    let Some(validation) = &summary.validation else { return };
    let baselines = summary.baselines.unwrap_or_default();
    out.line("");
    out.line(out.bold("bits per byte of held-out text (less is better)"));
    let ours = format!("this model, {} parameters", short(summary.parameters as f64));
    let rows = [
        (ours, Some(validation.bits_per_byte)),
        ("5-gram model".to_string(), baselines.five_gram),
        ("gzip -9".to_string(), baselines.gzip),
    ];
    let most = rows.iter().filter_map(|(_, v)| *v).fold(f64::MIN_POSITIVE, f64::max);
    for (name, bits) in rows {
        let Some(bits) = bits else { continue };
        let bar = "━".repeat((bits / most * 30.0).round() as usize);
        out.line(format!("  {name:<28} {bits:.3}  {}", out.dim(&bar)));
    }
}

/// The last sample of a run.
fn sample(run: &Path, out: &mut Output) -> Result<(), Failure> {
    let (records, _) = metrics::read(&FsStore, run)?;
    let last = records.into_iter().rev().find_map(|r| match r {
        Record::Sample(sample) => Some(sample),
        _ => None,
    });
    let Some(last) = last else { return Ok(()) };
    out.line("");
    out.line(out.bold("a sample"));
    for line in format!("{}{}", last.prompt, last.text).lines() {
        out.line(format!("  │ {line}"));
    }
    Ok(())
}
