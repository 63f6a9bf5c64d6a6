//! `tokenizer …` and `data …`.

use super::{DONE, project};
use crate::args::{Data, SpecArgs, Tokenizer};
use crate::environment;
use crate::format::{bytes, grouped};
use crate::output::Output;
use llmc::pipeline::data::{self, TextSet};
use llmc::pipeline::train::thread_count;
use llmc::pipeline::{Failure, Project, inspect};
use llmc::store::{FsStore, write_atomic};
use llmc_base::Diagnostic;
use llmc_data::dataset::Split;
use llmc_spec::Goal;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// The folder in which runs are looked for by name.
const RUNS: &str = "runs";

fn missing(section: &str) -> Failure {
    let d = Diagnostic::error("spec::missing", format!("the spec has no `[{section}]`"));
    d.help(format!("add a `[{section}]` section")).into()
}

/// The documents of a spec.
fn documents(args: &SpecArgs, goal: Goal, out: &Output) -> Result<(Project, TextSet), Failure> {
    let (found, mut warnings) = project(args, goal)?;
    let dataset = found.resolved.dataset.as_ref().ok_or_else(|| missing("dataset"))?;
    let cache = environment::cache(out);
    // A template may write special tokens, which a run has also where `[tokenizer]` is not written.
    let whole = match (&dataset.chat_template, &found.resolved.tokenizer) {
        (Some(_), None) => project(args, Goal::Training).ok().map(|(whole, _)| whole),
        _ => None,
    };
    let resolved = whole.as_ref().map_or(&found.resolved, |whole| &whole.resolved);
    let tokenizer = resolved.tokenizer.as_ref();
    let cache = cache.as_ref().map(|c| &c.stages);
    let (set, more) =
        data::documents(dataset, tokenizer, &FsStore, cache).map_err(|e| e.located(&found.spec))?;
    warnings.extend(more);
    out.warnings(&warnings);
    Ok((found, set))
}

/// `llmc tokenizer …`.
pub fn tokenizer(args: &Tokenizer, out: &mut Output) -> Result<u8, Failure> {
    match args {
        Tokenizer::Train { spec, output } => train(spec, output, out),
        Tokenizer::Encode { tokenizer, text } => {
            let tokenizer = inspect::tokenizer(&FsStore, Path::new(RUNS), tokenizer)?;
            let text = match text.as_str() {
                "-" => standard_input()?,
                text => text.to_string(),
            };
            let ids = tokenizer.encode(&text);
            match out.is_json {
                true => {
                    let pieces = ids.iter().map(|id| tokenizer.decode(&[*id]));
                    let pieces: Vec<String> = pieces.collect();
                    out.json(&json!({"ids": ids, "pieces": pieces}));
                }
                false => {
                    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                    out.line(ids.join(" "));
                }
            }
            Ok(DONE)
        }
        Tokenizer::Decode { tokenizer, ids } => {
            let tokenizer = inspect::tokenizer(&FsStore, Path::new(RUNS), tokenizer)?;
            let n = tokenizer.vocab_size();
            if let Some(id) = ids.iter().find(|id| **id >= n) {
                let message = format!("there is no token {id}");
                let d = Diagnostic::error("tokenizer::id", message);
                return Err(d.help(format!("ids go from 0 to {}", n.saturating_sub(1))).into());
            }
            let text = tokenizer.decode(ids);
            match out.is_json {
                true => out.json(&json!({ "text": text })),
                false => out.line(text),
            }
            Ok(DONE)
        }
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| {
        Diagnostic::error("tokenizer::input", format!("cannot read standard input: {e}"))
            .help("it must be UTF-8 text")
    })?;
    Ok(text)
}

fn train(spec: &SpecArgs, output: &Path, out: &mut Output) -> Result<u8, Failure> {
    // The sections of a run are filled in where `[tokenizer]` is not written.
    let (written, _) = project(spec, Goal::Written)?;
    let goal = match written.resolved.tokenizer {
        Some(_) => Goal::Written,
        None => Goal::Training,
    };
    let (found, set) = documents(spec, goal, out)?;
    let config = found.resolved.tokenizer.as_ref().ok_or_else(|| missing("tokenizer"))?;
    let cache = environment::cache(out);
    let cache = cache.as_ref().map(|c| &c.stages);
    let tokenizer = data::tokenizer(config, &set, thread_count(None, None)?, cache)?;
    write_atomic(&FsStore, output, tokenizer.to_json().as_bytes())?;
    let beside = output.with_file_name("tokenizer_config.json");
    write_atomic(&FsStore, &beside, tokenizer.to_config_json().as_bytes())?;
    let (kind, n, hash) =
        (tokenizer.kind().name(), tokenizer.vocab_size(), tokenizer.content_hash());
    match out.is_json {
        true => out.json(&json!({
            "path": output, "type": kind, "vocab_size": n, "content": hash,
        })),
        false => {
            let path = output.display();
            out.line(format!("wrote {path}: {kind} with {n} tokens, {}", hash.short()));
        }
    }
    Ok(DONE)
}

/// `llmc data …`.
pub fn data(args: &Data, out: &mut Output) -> Result<u8, Failure> {
    match args {
        Data::Build(spec) => build(spec, out),
        Data::Show { spec, count } => show(spec, *count, out),
    }
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "validation",
    }
}

fn build(spec: &SpecArgs, out: &mut Output) -> Result<u8, Failure> {
    let (found, set) = documents(spec, Goal::Written, out)?;
    let ledger: Value =
        serde_json::from_str(&set.ledger).map_err(|e| Failure::Internal(e.to_string()))?;
    if out.is_json {
        out.json(&ledger);
        return Ok(DONE);
    }
    for split in [Split::Train, Split::Validation] {
        let documents = set.split(split).count() as u64;
        let words: u64 = set.split(split).map(|(_, d)| d.words).sum();
        out.line(format!(
            "  {:<12} {} documents, {} words, {}",
            split_name(split),
            grouped(documents),
            grouped(words),
            match set.is_masked() {
                true => {
                    let learned = bytes(set.learned_bytes(split));
                    format!("{}, of which {learned} learned", bytes(set.bytes(split)))
                }
                false => bytes(set.bytes(split)),
            },
        ));
    }
    for (name, what) in [("duplicates", "left out"), ("invalid_utf8", "not UTF-8")] {
        let n = ledger.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        if n > 0 {
            out.line(format!("  {name:<12} {n} {what}; `--json` lists them"));
        }
    }
    if let Some(recipe) = found.resolved.hashes.dataset {
        out.line(format!("  {:<12} {recipe}", "recipe"));
    }
    out.line(format!("  {:<12} {}", "text", set.recipe));
    out.line(format!("  {:<12} {}", "content", set.content));
    Ok(DONE)
}

fn show(spec: &SpecArgs, count: usize, out: &mut Output) -> Result<u8, Failure> {
    let (_, set) = documents(spec, Goal::Written, out)?;
    let shown = set.documents.iter().take(count);
    if out.is_json {
        let documents: Vec<Value> = shown
            .map(|d| {
                let mut told = json!({
                    "source": d.source, "index": d.index, "split": split_name(d.split),
                    "words": d.words, "hash": d.hash, "text": d.text,
                });
                if !d.cuts.is_empty() {
                    let part = |(text, is_learned)| json!({"text": text, "is_learned": is_learned});
                    told["parts"] = d.parts().map(part).collect();
                }
                told
            })
            .collect();
        out.json(&json!({"of": set.documents.len(), "documents": documents}));
        return Ok(DONE);
    }
    for d in shown {
        let title = format!("{} #{}", d.source, d.index);
        let note = format!("  {}, {} words, {}", split_name(d.split), d.words, d.hash.short());
        let line = format!("{}{}", out.bold(&title), out.dim(&note));
        out.line(line);
        let shown = |(part, is_learned): (&str, bool)| match is_learned {
            true => part.to_string(),
            false => out.dim(part),
        };
        let text: String = d.parts().map(shown).collect();
        out.line(text.trim_end());
        out.line("");
    }
    out.note(&format!("{} of {} documents", count.min(set.documents.len()), set.documents.len()));
    Ok(DONE)
}
