//! `runs list|show|diff` and `verify`.

use super::{DIFFERENCE, DONE, run_folder, value};
use crate::args::{RunArg, Runs};
use crate::format::{Align, bytes, grouped, short, table};
use crate::output::Output;
use llmc::manifest::{self, Inputs, Manifest, ProblemKind, Role};
use llmc::pipeline::{Failure, runs};
use llmc::store::FsStore;
use serde_json::{Value, json};
use std::path::Path;

/// `llmc runs …`.
pub fn runs(args: &Runs, out: &mut Output) -> Result<u8, Failure> {
    match args {
        Runs::List { runs } => list(runs, out),
        Runs::Show(run) => show(run, out),
        Runs::Diff { a, b, runs } => diff(a, b, runs, out),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_string(), |v| format!("{v:.4}"))
}

fn list(folder: &Path, out: &mut Output) -> Result<u8, Failure> {
    let found = runs::list(&FsStore, folder)?;
    if out.is_json {
        out.json(&json!({ "runs": found }));
        return Ok(DONE);
    }
    if found.is_empty() {
        out.note(&format!(
            "there is no run in `{}`; `llmc train SPEC` makes one",
            folder.display()
        ));
        return Ok(DONE);
    }
    let titles = ["run", "model", "status", "steps", "parameters", "loss", "held out", "bits/byte"];
    let mut rows = vec![titles.map(str::to_string).to_vec()];
    for run in &found {
        rows.push(vec![
            run.id.clone(),
            run.name.clone(),
            run.status.clone(),
            format!("{}/{}", run.step, run.max_steps),
            short(run.parameters as f64),
            number(run.loss),
            number(run.validation.as_ref().map(|v| v.loss)),
            number(run.validation.as_ref().map(|v| v.bits_per_byte)),
        ]);
    }
    let align = [
        Align::Left,
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
    ];
    table(&align, &rows).iter().for_each(|line| out.line(line));
    Ok(DONE)
}

fn show(args: &RunArg, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(args)?;
    let summary = runs::summary(&FsStore, &run)?;
    let project = runs::project(&FsStore, &run)?;
    let manifest = Manifest::read(&FsStore, &run).ok();
    if out.is_json {
        out.json(&json!({
            "summary": summary, "solution": project.solution(), "manifest": manifest,
        }));
        return Ok(DONE);
    }
    let line =
        |out: &mut Output, name: &str, value: String| out.line(format!("  {name:<14} {value}"));
    out.line(out.bold(&format!("{} ({})", summary.name, summary.id)));
    line(out, "folder", run.display().to_string());
    line(
        out,
        "status",
        format!("{} at step {} of {}", summary.status, summary.step, summary.max_steps),
    );
    line(out, "parameters", grouped(summary.parameters));
    line(out, "dims", dims(&project)?);
    line(out, "loss", number(summary.loss));
    if let Some(v) = &summary.validation {
        line(out, "held out", format!("loss {:.4}, {:.4} bits per byte", v.loss, v.bits_per_byte));
    }
    if let Some(b) = &summary.baselines {
        line(
            out,
            "beside it",
            format!("gzip -9 {}, 5-gram {} bits per byte", number(b.gzip), number(b.five_gram)),
        );
    }
    if let Some(parent) = runs::parent(&FsStore, &run)? {
        let what = if parent.is_weights_only { "the weights of " } else { "" };
        let text = format!("{what}step {} of {}", parent.step, parent.run.display());
        line(out, "starts from", text);
    }
    let Some(manifest) = manifest else { return Ok(DONE) };
    line(out, "recipe", manifest.recipe.to_string());
    if let Some(content) = &summary.content {
        line(out, "content", content.to_string());
    }
    out.line("");
    out.line(out.bold("artifacts"));
    let rows: Vec<Vec<String>> = manifest
        .artifacts
        .iter()
        .map(|a| vec![a.name.clone(), a.content.short(), bytes(a.length), a.path.clone()])
        .collect();
    let align = [Align::Left, Align::Left, Align::Right, Align::Left];
    table(&align, &rows).iter().for_each(|line| out.line(format!("  {line}")));
    Ok(DONE)
}

fn dims(project: &llmc::pipeline::Project) -> Result<String, Failure> {
    let d = project.model()?.dims;
    Ok(format!(
        "{} layers, hidden {}, {} heads ({} key-value) of {}, ffn {}, vocabulary {}, context {}",
        d.num_layers,
        d.hidden_size,
        d.num_heads,
        d.num_kv_heads,
        d.head_dim,
        d.intermediate_size,
        d.vocab_size,
        d.context_length
    ))
}

fn diff(a: &str, b: &str, folder: &Path, out: &mut Output) -> Result<u8, Failure> {
    let find = |name: &str| runs::find(&FsStore, folder, Some(name));
    let diff = runs::diff(&FsStore, &find(a)?, &find(b)?)?;
    let code = if diff.is_empty() { DONE } else { DIFFERENCE };
    if out.is_json {
        out.json(&value(&diff));
        return Ok(code);
    }
    if diff.is_empty() {
        out.line("the same in spec, artifacts and losses");
        return Ok(code);
    }
    if !diff.values.is_empty() {
        out.line(out.bold("values"));
        let text =
            |value: &Value| if value.is_null() { "none".to_string() } else { value.to_string() };
        let rows: Vec<Vec<String>> = diff
            .values
            .iter()
            .map(|(path, [a, b])| vec![path.clone(), text(a), "→".to_string(), text(b)])
            .collect();
        table(&[Align::Left; 4], &rows).iter().for_each(|line| out.line(format!("  {line}")));
    }
    if !diff.artifacts.is_empty() {
        out.line(format!("{}  {}", out.bold("artifacts"), diff.artifacts.join(", ")));
    }
    match diff.first_step {
        Some(step) => out.line(format!("{}  from step {step} on", out.bold("losses"))),
        None => out.line("the losses of the steps that both have are the same"),
    }
    out.line(format!(
        "{}  {} → {}",
        out.bold("last loss"),
        number(diff.losses[0]),
        number(diff.losses[1])
    ));
    Ok(code)
}

/// Exit code of a verification that found a whole run, but not its inputs.
const NOT_FOUND: u8 = 3;

/// `llmc verify`.
pub fn verify(args: &RunArg, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(args)?;
    let report = manifest::verify(&FsStore, &run)?;
    let is_whole = report.outputs_are_whole() && report.observations_damaged.is_empty();
    let inputs = report.inputs();
    let code = match (is_whole, inputs) {
        (true, Inputs::Unchanged) => DONE,
        (true, Inputs::NotFound) => NOT_FOUND,
        _ => DIFFERENCE,
    };
    if out.is_json {
        let mut document = value(&report);
        document["run"] = json!(run);
        document["ok"] = json!(code == DONE);
        document["outputs_ok"] = json!(report.outputs_are_whole());
        document["inputs"] = json!(inputs);
        out.json(&document);
        return Ok(code);
    }
    let (extra, wrong): (Vec<_>, Vec<_>) =
        report.problems.iter().partition(|p| p.kind == ProblemKind::Extra);
    for problem in wrong {
        let artifact = problem.artifact.as_deref().unwrap_or("problem");
        out.line(format!("  {artifact}: {problem}"));
    }
    if !extra.is_empty() {
        let mut folders: Vec<&str> =
            extra.iter().map(|p| p.path.rsplit_once('/').map_or(".", |(f, _)| f)).collect();
        folders.dedup();
        out.line(format!(
            "  {} files are not of the run itself, in {}; `--json` lists them",
            extra.len(),
            folders.join(", ")
        ));
    }
    for problem in &report.observations_damaged {
        out.line(format!("  not hashed, but damaged: {problem}"));
    }
    let files = format!("{} files, {}", grouped(report.n_files), bytes(report.n_bytes));
    let place = run.display();
    out.line(match code {
        DONE => format!("{} {place}: {files}, every hash as recorded", out.bold("ok")),
        NOT_FOUND => {
            let n = report.problems.iter().filter(|p| p.role == Role::Input).count();
            format!(
                "{place}: weights and outputs are whole ({files} read); {n} inputs were not found, neither from here nor from where the run was started"
            )
        }
        _ if is_whole => {
            format!("{place}: weights and outputs are whole ({files} read); inputs are others now")
        }
        _ => format!("{place}: not as recorded ({files} read)"),
    });
    if code == DONE {
        out.line(format!("  recipe      {}", report.recipe));
        out.line(format!("  content     {}", report.content));
    }
    // The manifest was held against its own hashes, and the lock says nothing.
    let is_told = |file: &&str| ![manifest::FILE, llmc::lock::FILE].contains(file);
    let seen: Vec<&str> = report.observations.iter().map(String::as_str).filter(is_told).collect();
    if !seen.is_empty() {
        out.line(format!("  not hashed  {} (observations)", seen.join(", ")));
    }
    if !report.observations_missing.is_empty() {
        out.line(format!("  missing     {} (not hashed)", report.observations_missing.join(", ")));
    }
    Ok(code)
}
