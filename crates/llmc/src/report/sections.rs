//! The parts of the page other than charts.

use super::html::{duration, escape, grouped, scaled, significant, table};
use super::{Dimension, HashRow, NextStep, ReportData, Summary, toml};
use crate::doctor::show_bytes;
use crate::machine::Machine;
use crate::manifest::{RunStatus, Tool};
use crate::metrics::Record;
use crate::pipeline::plan::{Compared, PlanCheck};
use llmc_base::Hash;
use std::fmt::Write;

/// Title, status, tiles and the comparison with other predictors.
pub(super) fn head(data: &ReportData) -> String {
    let (class, status) = match data.status {
        RunStatus::Complete => ("good", "complete"),
        RunStatus::Unfinished => ("warn", "unfinished"),
        RunStatus::Interrupted => ("warn", "interrupted"),
        RunStatus::Failed => ("bad", "failed"),
    };
    let mut out = format!(
        "<header><div class=\"title\"><h1>{}</h1><span class=\"status {class}\">{status}</span></div>\n",
        escape(&data.name)
    );
    if !data.description.is_empty() {
        let _ = writeln!(out, "<p class=\"lead\">{}</p>", escape(&data.description));
    }
    let _ = writeln!(out, "<p class=\"recipe\">recipe {}</p>", hash(&data.recipe));
    if let Some(note) = &data.status_note {
        let _ = writeln!(out, "<p class=\"note {class}\">{}</p>", escape(note));
    }
    let comparison = comparison(&data.summary);
    let class = if comparison.is_empty() { "tiles" } else { "tiles beside" };
    let _ = write!(
        out,
        "</header>\n<div class=\"overview\">{comparison}<dl class=\"{class}\">{}</dl></div>\n",
        tiles(&data.summary)
    );
    out
}

/// Bars of bits per byte, the model first.
fn comparison(summary: &Summary) -> String {
    let Some(own) = summary.bits_per_byte.filter(|v| v.is_finite()) else {
        return String::new();
    };
    let mut rows = vec![("this model", own, true)];
    rows.extend(summary.baselines.iter().map(|b| (b.name.as_str(), b.bits_per_byte, false)));
    rows.retain(|(_, value, _)| value.is_finite());
    let longest = rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut out = String::from(
        "<div class=\"card comparison\"><h3>Held-out bits per byte</h3>\
         <p class=\"hint\">lower is better</p><ol>",
    );
    for (name, value, is_own) in &rows {
        let _ = write!(
            out,
            "<li{}><span class=\"name\">{}</span><span class=\"bar\"><i style=\"width:{:.2}%\"></i></span>\
             <span class=\"value\">{value:.3}</span></li>",
            if *is_own { " class=\"own\"" } else { "" },
            escape(name),
            (value / longest * 100.0).clamp(0.0, 100.0)
        );
    }
    out.push_str("</ol>");
    let verdicts: Vec<String> = summary
        .baselines
        .iter()
        .filter(|b| b.bits_per_byte.is_finite() && b.bits_per_byte > 0.0)
        .map(|b| {
            let percent = (1.0 - own / b.bits_per_byte) * 100.0;
            let word = if percent >= 0.0 { "fewer" } else { "more" };
            format!("{:.0} % {word} than {}", percent.abs(), escape(&b.name))
        })
        .collect();
    if !verdicts.is_empty() {
        let _ = write!(out, "<p>{}.</p>", verdicts.join(", "));
    }
    out.push_str("</div>");
    out
}

fn tiles(summary: &Summary) -> String {
    let mut out = String::new();
    let mut tile = |label: &str, value: String, unit: &str, detail: String| {
        let _ = write!(
            out,
            "<div class=\"card tile\"><dt>{label}</dt><dd><b>{}</b> {}<small>{}</small></dd></div>",
            escape(&value),
            escape(unit),
            escape(&detail)
        );
    };
    if let Some(parameters) = summary.parameters {
        let (value, unit) = scaled(parameters);
        let detail = if unit.is_empty() { String::new() } else { grouped(parameters) };
        tile("Parameters", value, unit, detail);
    }
    let (value, unit) = scaled(summary.tokens_seen);
    let detail = match summary.parameters {
        Some(parameters) if parameters > 0 => {
            let ratio = summary.tokens_seen as f64 / parameters as f64;
            format!("{} per parameter", significant(ratio, 2))
        }
        _ => String::new(),
    };
    tile("Tokens seen", value, unit, detail);
    let detail = match summary.steps_planned {
        planned if planned == summary.steps => "as planned".to_string(),
        planned => format!("of {} planned", grouped(planned)),
    };
    tile("Steps", grouped(summary.steps), "", detail);
    if let Some(rate) = summary.tokens_per_s.filter(|r| r.is_finite() && *r >= 0.0) {
        tile("Speed", grouped(rate.round() as u64), "tokens/s", "mean of the run".into());
    }
    if let Some(seconds) = summary.seconds {
        tile("Training time", duration(seconds), "", String::new());
    }
    out
}

/// What the model wrote, newest first and open.
pub(super) fn samples(records: &[Record]) -> String {
    let samples: Vec<_> = records
        .iter()
        .filter_map(|r| if let Record::Sample(sample) = r { Some(sample) } else { None })
        .collect();
    let mut out = String::new();
    let newest = samples.iter().map(|sample| sample.step).max();
    for sample in samples.iter().rev() {
        let open = if Some(sample.step) == newest { " open" } else { "" };
        let _ = writeln!(
            out,
            "<details class=\"card sample\"{open}><summary>step {}</summary>\
             <pre><span class=\"prompt\">{}</span>{}</pre></details>",
            grouped(sample.step),
            escape(&sample.prompt),
            escape(&sample.text)
        );
    }
    match out.is_empty() {
        true => out,
        false => format!(
            "<p class=\"hint\">The prompt is <span class=\"prompt\">marked</span>; what follows, the model wrote.</p>\n{out}"
        ),
    }
}

/// The spec, coloured.
pub(super) fn spec(text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    format!("<pre class=\"card code\"><code>{}</code></pre>\n", toml::highlight(text))
}

/// The plan beside the run.
pub(super) fn plan(plan: Option<&PlanCheck>) -> String {
    let Some(plan) = plan else { return String::new() };
    let row = |name: &str, of: &Compared, show: &dyn Fn(f64) -> String| {
        let error = format!("{:+.1} %", of.error_percent());
        [name.to_string(), show(of.predicted), show(of.actual), error]
    };
    let milliseconds = |s: f64| format!("{} ms", significant(s * 1e3, 3));
    let mut rows = vec![row("Step", &plan.step_s, &milliseconds)];
    if let Some(growth) = plan.peak_growth.as_ref().filter(|growth| growth.actual > 0.0) {
        rows.push(row("Peak growth of memory", growth, &|b| show_bytes(b as u64)));
    }
    table(["", "Predicted", "Actual", "Difference"], &rows)
}

/// Solved dimensions with their rules.
pub(super) fn dimensions(dimensions: &[Dimension]) -> String {
    if dimensions.is_empty() {
        return String::new();
    }
    let row = |d: &Dimension| {
        let name = format!("<code>{}</code>", escape(&d.name));
        [name, format!("<b>{}</b>", escape(&d.value)), escape(&d.rule)]
    };
    let rows: Vec<_> = dimensions.iter().map(row).collect();
    table(["Field", "Value", "Why"], &rows)
}

/// Artifacts by hash.
pub(super) fn hashes(hashes: &[HashRow]) -> String {
    if hashes.is_empty() {
        return String::new();
    }
    let row = |h: &HashRow| {
        let recipe = h.recipe.as_ref().map_or("–".to_string(), hash);
        [escape(&h.name), format!("<code>{}</code>", escape(&h.path)), recipe, hash(&h.content)]
    };
    let rows: Vec<_> = hashes.iter().map(row).collect();
    let hint = "The recipe hash names what was asked, the content hash proves what came out. \
                <code>llmc verify</code> recomputes them; all digits are in <code>manifest.json</code>.";
    format!(
        "<p class=\"hint\">{hint}</p>\n{}",
        table(["Artifact", "Path", "Recipe", "Content"], &rows)
    )
}

/// The machine, or nothing.
pub(super) fn machine(machine: Option<&Machine>, tool: &Tool) -> String {
    let Some(machine) = machine else { return String::new() };
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |label: &str, value: String| {
        if !value.is_empty() {
            rows.push([label.to_string(), escape(&value)]);
        }
    };
    let system = [machine.os.as_str(), machine.kernel.as_str(), machine.architecture.as_str()];
    let system: Vec<&str> = system.into_iter().filter(|text| !text.is_empty()).collect();
    row("System", system.join(", "));
    row("Processor", machine.cpu.clone());
    let physical = machine.physical_cores.map(|n| format!(", {n} physical")).unwrap_or_default();
    row("Cores", format!("{} usable{physical}", machine.usable_cores));
    row("Instruction sets", machine.instruction_sets.join(" "));
    let memory = machine.memory_limit_bytes.unwrap_or(machine.memory_bytes);
    row("Memory", if memory == 0 { String::new() } else { show_bytes(memory) });
    row("Made by", format!("{} {}", tool.name, tool.version));
    let hint = "For the times only: neither the machine nor the number of threads changes a bit of the weights.";
    format!("<p class=\"hint\">{hint}</p>\n{}", table(["What", "Found"], &rows))
}

/// Commands to try.
pub(super) fn next_steps(steps: &[NextStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut out = String::from("<ul class=\"next\">\n");
    for step in steps {
        let _ = writeln!(
            out,
            "<li class=\"card\"><p>{}</p><pre class=\"command\"><code>{}</code></pre></li>",
            escape(&step.text),
            escape(&step.command)
        );
    }
    out.push_str("</ul>\n");
    out
}

fn hash(hash: &Hash) -> String {
    format!("<code class=\"hash\" title=\"{hash}\">{}</code>", hash.short())
}
