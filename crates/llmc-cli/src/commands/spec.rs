//! `new`, `check`, `solve`, `count`.

use super::{DONE, project, value};
use crate::args::{New, SpecArgs};
use crate::format::{Align, bytes, grouped, short, table};
use crate::output::Output;
use llmc::pipeline::{Defaults, Failure, Project, inspect};
use llmc::shell::quote;
use llmc::store::{FsStore, write_atomic};
use llmc_base::{Diagnostic, Hash};
use llmc_spec::solver::Lattice;
use llmc_spec::{Dim, Dims, Format, Goal};
use serde_json::json;
use std::path::Path;

/// `llmc new`.
pub fn new(args: &New, out: &mut Output) -> Result<u8, Failure> {
    let stem = args.name.strip_suffix(".toml").unwrap_or(&args.name);
    let path = format!("{stem}.toml");
    let path = Path::new(&path);
    let name = Path::new(stem).file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| {
        let d = Diagnostic::error("new::name", format!("`{}` is no name", args.name));
        d.help("e.g. `llmc new my-model`")
    })?;
    if path.exists() && !args.force {
        let message = format!("`{}` exists already", path.display());
        let d = Diagnostic::error("new::exists", message);
        return Err(d.help("choose another name, or write over it with `--force`").into());
    }
    let text = template(&name, &args.params, &args.data);
    // A bad `--params` is told before anything is written.
    let parsed =
        Project::parse(&text, Format::Toml, "--params", &[], Goal::Training, Defaults::Record);
    parsed.map_err(|failure| {
        let told = failure.diagnostics().into_iter();
        let told = told.map(|d| Diagnostic { code: "new::params".to_string(), ..d });
        told.collect::<Vec<_>>()
    })?;
    write_atomic(&FsStore, path, text.as_bytes())?;
    match out.is_json {
        true => out.json(&json!({ "path": path })),
        false => {
            out.line(format!("wrote {}", path.display()));
            let path = quote(path);
            out.note(&format!("next: llmc solve {path}; llmc train {path}"));
        }
    }
    Ok(DONE)
}

/// A line of a spec, with what it means.
type Line<'a> = (String, &'a str);

/// Column at which the comments of a spec stand.
const COMMENTS: usize = 40;

/// Lines with their comments in one column; without a comment a line stands as it is.
fn lined(lines: &[Line]) -> String {
    let line = |(text, comment): &Line| match comment {
        &"" => format!("{text}\n"),
        comment => format!("{text:<COMMENTS$}# {comment}\n"),
    };
    lines.iter().map(line).collect()
}

/// A spec to start from.
fn template(name: &str, params: &str, data: &[String]) -> String {
    let s = |text: &str| text.to_string();
    let mut lines = vec![
        (
            s(
                "# A model, its data and its training. `llmc check` finds every problem in it, `llmc solve`",
            ),
            "",
        ),
        (
            s(
                "# says which dimensions it gets and why, `llmc train` makes it. docs/spec.md has every field.",
            ),
            "",
        ),
        (s(""), ""),
        (s("[model]"), ""),
        (format!("name = {}", quoted(name)), "for people; changes no hash"),
        (s("template = \"decoder_only\""), "how the parts are put together"),
        (format!("target_params = {}", quoted(params)), "the solver comes as close as it can"),
        (s("# hidden_size = { min = 128, multiple_of = 64 }"), ""),
        (
            s(
                "# Any dimension may be a number or bounds, as above; num_layers, num_heads, … likewise.",
            ),
            "",
        ),
        // The generated corpus has few words: it has no use for more tokens.
        (
            format!("vocab_size = {}", if data.is_empty() { 512 } else { 4096 }),
            "rows of the embedding, and tokens of the tokenizer",
        ),
        (s("context_length = 256"), "tokens that the model sees at once"),
        (s("attention = \"gqa\""), "mha, gqa, mqa, sliding_window"),
        (s("activation = \"swiglu\""), "gelu, gelu_tanh, relu, silu, swiglu"),
        (s("norm = \"rmsnorm\""), "rmsnorm, layernorm, none"),
        (s("positional_encoding = \"rope\""), "rope, learned, none"),
        (s("tie_embeddings = true"), "the head uses the embedding table"),
        (s(""), ""),
        (s("[dataset]"), ""),
        (format!("name = {}", quoted(name)), "for people; changes no hash"),
    ];
    match data {
        [] => lines.extend([
            (s("# Files, folders or globs of text go here: paths = [\"corpus/**/*.txt\"]"), ""),
            (s("# Without them a small generated corpus shows that everything works."), ""),
            (s("domains = [\"synthetic\"]"), "the generated corpus"),
            (s("languages = { en = 1.0 }"), "its languages, and their shares"),
            (s("target_tokens = 200_000"), "its size in words between blanks"),
            (s("min_length = 20"), "of a document, in words"),
            (s("max_length = 200"), "of a document, in words"),
        ]),
        paths => {
            let paths: Vec<String> = paths.iter().map(|p| quoted(p)).collect();
            lines.push((s("# Files, folders or globs, from the folder where llmc runs."), ""));
            lines.push((format!("paths = [{}] ", paths.join(", ")), "the text to train on"));
        }
    }
    lines.extend([
        (s("validation_fraction = 0.05"), "held out, whole documents"),
        (s(""), ""),
        (s("[tokenizer]"), ""),
        (s("type = \"byte_bpe\""), "byte_bpe, bpe, char"),
        (s("special_tokens = { eos = \"<|endoftext|>\" } "), "stands between documents"),
        (s(""), ""),
        (s("[optimizer]"), ""),
        (s("type = \"adamw\""), "adamw, sgd, muon, lion"),
        (s("lr = 2e-3"), "the highest rate of the schedule"),
        (s("weight_decay = 0.1"), "pulls matrices towards zero"),
        (s("max_grad_norm = 1.0"), "longer gradients are scaled down to it"),
        (s(""), ""),
        (s("[training]"), ""),
        (s("batch_size = 16"), "sequences per step"),
        (s("microbatch_size = 8"), "at a time; never changes a bit of the result"),
        (s("max_steps = 500"), "steps in all"),
        (
            s("schedule = { type = \"cosine\", warmup_steps = 50, min_lr_ratio = 0.1 } "),
            "the rate rises for 50 steps, then falls to a tenth",
        ),
        (s("eval_interval = 100"), "steps between looks at the held-out text"),
        (s("checkpoint_interval = 100"), "steps between checkpoints"),
        (s("sample_tokens = 64"), "length of the sample at the end; 0 for none"),
    ]);
    lined(&lines)
}

/// A TOML string; JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// `llmc check`.
pub fn check(args: &SpecArgs, out: &mut Output) -> Result<u8, Failure> {
    // What is written decides: data or training make it the spec of a run.
    let (mut found, mut warnings) = project(args, Goal::Written)?;
    if found.resolved.dataset.is_some() || found.resolved.training.is_some() {
        (found, warnings) = project(args, Goal::Training)?;
    }
    if found.resolved.model.is_some() {
        found.build()?;
    }
    let hashes = &found.resolved.hashes;
    let recipes: Vec<(&str, &Hash)> = [
        ("model", &hashes.model),
        ("dataset", &hashes.dataset),
        ("tokenizer", &hashes.tokenizer),
        ("training", &hashes.training),
    ]
    .into_iter()
    .filter_map(|(name, hash)| hash.as_ref().map(|hash| (name, hash)))
    .collect();
    if out.is_json {
        let recipes: serde_json::Map<_, _> =
            recipes.iter().map(|(name, hash)| (name.to_string(), json!(hash))).collect();
        out.json(&json!({
            "ok": true, "recipes": recipes, "defaults": found.resolved.defaults,
            "diagnostics": warnings,
        }));
        return Ok(DONE);
    }
    out.warnings(&warnings);
    out.line("ok");
    for (name, hash) in recipes {
        out.line(format!("  {name:<10} {hash}"));
    }
    let n = found.resolved.defaults.len();
    if n > 0 {
        out.note(&format!("  {n} values are not written and follow from rules; `--json` lists them, `--explicit` refuses them"));
    }
    Ok(DONE)
}

/// `llmc solve`.
pub fn solve(args: &SpecArgs, out: &mut Output) -> Result<u8, Failure> {
    let (found, warnings) = project(args, Goal::Model)?;
    if out.is_json {
        out.json(&found.solution());
        return Ok(DONE);
    }
    out.warnings(&warnings);
    let model = found.model()?;
    let solution = &model.solution;
    out.line(out.bold(&model.name));
    let mut rows = Vec::new();
    for why in &solution.why {
        rows.push(vec![why.dim.to_string(), grouped(why.value), why.text.clone()]);
    }
    rows.push(vec!["parameters".to_string(), grouped(solution.params), target(solution)]);
    let lines = table(&[Align::Left, Align::Right, Align::Left], &rows);
    lines.iter().for_each(|line| out.line(format!("  {line}")));
    if solution.lattice == Lattice::Wide {
        out.line("  no shape of the preferred lattice fits; this one is from the wide lattice");
    }
    if !solution.alternatives.is_empty() {
        out.line("");
        out.line(out.bold("next best"));
        let shown = [
            Dim::NumLayers,
            Dim::HiddenSize,
            Dim::NumHeads,
            Dim::NumKvHeads,
            Dim::HeadDim,
            Dim::IntermediateSize,
        ];
        let mut titles = vec!["parameters".to_string()];
        titles.extend(
            shown
                .iter()
                .map(|d| d.name().replace("intermediate_size", "ffn_size").replace("num_", "")),
        );
        titles.push("cost".to_string());
        let row = |dims: &Dims, params: u64, cost: u64| {
            let mut row = vec![grouped(params)];
            row.extend(shown.iter().map(|dim| dims.get(*dim).to_string()));
            row.push(cost.to_string());
            row
        };
        let mut rows = vec![titles];
        rows.extend(solution.alternatives.iter().map(|a| row(&a.dims, a.params, a.cost)));
        let align = [Align::Right; 8];
        table(&align, &rows).iter().for_each(|line| out.line(format!("  {line}")));
    }
    Ok(DONE)
}

/// The count beside what was wanted.
fn target(solution: &llmc_spec::Solution) -> String {
    let Some(target) = solution.target_params else { return "as the dims give".to_string() };
    if target == solution.params {
        return "exactly the target".to_string();
    }
    let off = (solution.params as f64 - target as f64) / target as f64 * 100.0;
    format!("the target is {}; {off:+.3} %, the closest there is", grouped(target))
}

/// `llmc count`.
pub fn count(args: &SpecArgs, out: &mut Output) -> Result<u8, Failure> {
    let (found, warnings) = project(args, Goal::Model)?;
    let counts = inspect::counts(&found)?;
    if out.is_json {
        out.json(&value(&counts));
        return Ok(DONE);
    }
    out.warnings(&warnings);
    out.line(out.bold(&found.model()?.name));
    let training = counts.training_flops_per_token;
    let forward = counts.forward_flops_per_token;
    let row = |name: &str, value: String, note: String| vec![name.to_string(), value, note];
    let rows = [
        row("parameters", grouped(counts.parameters), bytes(counts.bytes)),
        row("  non-embedding", grouped(counts.non_embedding), "without embedding tables".into()),
        row("  stored", grouped(counts.stored), "with a tied head written out".into()),
        row(
            "FLOPs per token, forward",
            short(forward),
            format!("mean over {} tokens", grouped(counts.sequence_length)),
        ),
        row(
            "FLOPs per token, training",
            short(training),
            format!("of the gradient function, {:.2} times forward", training / forward.max(1.0)),
        ),
        row(
            "KV cache per token",
            bytes(counts.kv_cache_bytes_per_token),
            format!(
                "{} for the whole context",
                bytes(counts.kv_cache_bytes_per_token.saturating_mul(counts.sequence_length))
            ),
        ),
    ];
    let lines = table(&[Align::Left, Align::Right, Align::Left], &rows);
    lines.iter().for_each(|line| out.line(format!("  {line}")));
    out.line("");
    out.line(out.bold(&format!("a forward pass over {} tokens", counts.sequence_length)));
    let titles = ["op", "count", "FLOPs", "share", "read", "written"];
    let mut rows = vec![titles.map(str::to_string).to_vec()];
    let all = counts.ops.iter().map(|op| op.flops).sum::<u64>().max(1);
    for op in &counts.ops {
        rows.push(vec![
            op.op.clone(),
            grouped(op.count),
            short(op.flops as f64),
            format!("{:.1} %", op.flops as f64 * 100.0 / all as f64),
            bytes(op.bytes_read),
            bytes(op.bytes_written),
        ]);
    }
    let mut align = [Align::Right; 6];
    align[0] = Align::Left;
    table(&align, &rows).iter().for_each(|line| out.line(format!("  {line}")));
    Ok(DONE)
}
