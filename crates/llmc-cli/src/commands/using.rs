//! `generate`, `emit`, `doctor`.

use super::{DONE, run_folder, value};
use crate::args::{Emit, Generate, Weights};
use crate::environment;
use crate::format::{Align, table};
use crate::output::Output;
use llmc::doctor::{DoctorOptions, Mark, doctor as look};
use llmc::pipeline::Failure;
use llmc::pipeline::emit::emit as export;
use llmc::pipeline::generate::{
    Chosen, Model, Request, Scored, Which, generate as continue_prompt,
};
use llmc::shell::quote;
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use llmc_runtime::Sampling;
use serde_json::json;

/// `llmc generate`.
pub fn generate(args: &Generate, out: &mut Output) -> Result<u8, Failure> {
    let prompt = match args.prompt.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| {
            let message = format!("cannot read the prompt from standard input: {e}");
            Diagnostic::error("generate::stdin", message).help("it must be UTF-8 text")
        })?,
        prompt => prompt.to_string(),
    };
    let request = Request {
        prompt,
        max_tokens: args.tokens,
        sampling: Sampling {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            typical_p: args.typical_p,
            repetition_penalty: args.repetition_penalty,
            frequency_penalty: args.frequency_penalty,
            presence_penalty: args.presence_penalty,
            logit_bias: args.logit_bias.iter().copied().collect(),
            seed: args.seed,
        },
        stop: args.stop.clone(),
        logprobs: args.logprobs,
    };
    let run = run_folder(&args.run)?;
    let which = if args.best { Which::Best } else { Which::Last };
    let model = Model::open_weights(&FsStore, &run, which, args.weights.into())?;
    let mut session = model.session(None, environment::isa()?)?;
    let is_json = out.is_json;
    if !is_json {
        out.text(&request.prompt);
        out.flush();
    }
    let mut next = |ids: &[u32]| {
        let logits = session.next_logits(ids);
        logits.map(<[f32]>::to_vec).map_err(|e| Failure::Internal(e.to_string()))
    };
    let mut each = |piece: &str| is_json || (out.text(piece) && out.flush());
    let generated = continue_prompt(&mut next, &model.tokenizer, &request, &mut each)?;
    if is_json {
        let mut document = json!({
            "run": run, "step": model.checkpoint.step, "prompt": request.prompt,
        });
        if let (Some(document), serde_json::Value::Object(said)) =
            (document.as_object_mut(), value(&generated))
        {
            document.extend(said);
        }
        out.json(&document);
        return Ok(DONE);
    }
    out.text("\n");
    if let Some(tokens) = &generated.logprobs {
        logprobs(tokens, out);
    }
    Ok(DONE)
}

/// A line per token: the logarithm of its probability, and the likely others.
fn logprobs(tokens: &[Chosen], out: &mut Output) {
    let shown = |token: &Scored| format!("{:?} {:.3}", token.text, token.logprob);
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|chosen| {
            let token = &chosen.token;
            let others: Vec<String> = chosen.top.iter().map(shown).collect();
            let logprob = format!("{:.3}", token.logprob);
            vec![token.id.to_string(), format!("{:?}", token.text), logprob, others.join("  ")]
        })
        .collect();
    let columns = [Align::Right, Align::Left, Align::Right, Align::Left];
    table(&columns, &rows).iter().for_each(|line| out.line(format!("  {line}")));
}

/// `llmc emit`.
pub fn emit(args: &Emit, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let model = Model::open_weights(&FsStore, &run, Which::Last, args.weights.into())?;
    let average = if args.weights == Weights::Ema { "-ema" } else { "" };
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => run.join("exports").join(format!("{}{average}", args.to.name)),
    };
    let exported = export(&FsStore, &model, args.to, &folder)?;
    if out.is_json {
        out.json(&value(&exported));
        return Ok(DONE);
    }
    out.line(format!("wrote {} as {}", exported.path.display(), exported.kind));
    let rows: Vec<Vec<String>> =
        exported.files.iter().map(|(name, hash)| vec![name.clone(), hash.short()]).collect();
    table(&[Align::Left; 2], &rows).iter().for_each(|line| out.line(format!("  {line}")));
    out.line(format!("certificate: {}", exported.certificate.replace('_', " ")));
    if args.to.is_program {
        let folder = quote(&exported.path);
        out.note(&format!("to check it: cd {folder} && python check_export.py"));
    }
    Ok(DONE)
}

/// `llmc doctor`.
pub fn doctor(out: &mut Output) -> Result<u8, Failure> {
    let report = look(&FsStore, &DoctorOptions::default());
    if out.is_json {
        out.json(&value(&report));
        return Ok(DONE);
    }
    for section in report.sections() {
        out.line(out.bold(&section.title));
        for row in &section.rows {
            let mark = match row.mark {
                Mark::Good => "✓",
                Mark::Note => "·",
                Mark::Missing => "-",
                Mark::Bad => "✗",
            };
            out.line(format!("  {mark} {:<18} {}", row.label, row.value));
            if let Some(note) = &row.note {
                out.line(out.dim(&format!("{:23}{note}", "")));
            }
        }
    }
    Ok(DONE)
}
