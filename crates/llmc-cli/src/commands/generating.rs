//! `generate`: one prompt as it goes on, or many at once.

use super::{DONE, open_model, session_options, value};
use crate::args::Generate;
use crate::format::{Align, table};
use crate::output::Output;
use llmc::pipeline::Failure;
use llmc::pipeline::generate::{
    Chosen, Generated, Model, Scored, SessionOptions, Settings, Speaker, Speculating, Speculation,
    generate_all, prompt_ids,
};
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use serde_json::{Value, json};
use std::path::Path;

/// `llmc generate`.
pub fn generate(args: &Generate, out: &mut Output) -> Result<u8, Failure> {
    let settings = Settings {
        max_tokens: args.tokens,
        sampling: args.sampling.sampling(),
        stop: args.stop.clone(),
        logprobs: args.logprobs,
        speculate: args.speculate.into(),
    };
    match &args.prompts {
        Some(file) => {
            let prompts = prompts(file)?;
            let options = session_options(&args.model)?;
            many(&open_model(&args.model)?, &options, &prompts, args.batch.into(), &settings, out)
        }
        None => {
            let prompt = match args.prompt.as_str() {
                "-" => standard_input()?,
                prompt => prompt.to_string(),
            };
            let options = session_options(&args.model)?;
            one(&open_model(&args.model)?, &options, &prompt, &settings, out)
        }
    }
}

fn standard_input() -> Result<String, Failure> {
    std::io::read_to_string(std::io::stdin()).map_err(|e| {
        let message = format!("cannot read the prompt from standard input: {e}");
        Diagnostic::error("generate::stdin", message).help("it must be UTF-8 text").into()
    })
}

/// The lines of a file of prompts.
fn prompts(file: &Path) -> Result<Vec<String>, Failure> {
    let text = match file == Path::new("-") {
        true => standard_input()?,
        false => llmc::store::Source::read_text(&FsStore, file)?,
    };
    Ok(text.lines().map(str::to_string).collect())
}

/// What a text is told as, with its prompt.
fn told(prompt: &str, generated: &Generated) -> Value {
    let mut document = json!({ "prompt": prompt });
    if let (Some(document), Value::Object(said)) = (document.as_object_mut(), value(generated)) {
        document.extend(said);
    }
    document
}

/// Continues one prompt.
fn one(
    model: &Model,
    options: &SessionOptions,
    prompt: &str,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8, Failure> {
    let mut session = model.session(options)?;
    let is_json = out.is_json;
    if !is_json {
        out.text(prompt);
        out.flush();
    }
    let mut each = |piece: &str| is_json || (out.text(piece) && out.flush());
    let tokenizer = &model.tokenizer;
    let mut speaker = Speculating::new(&mut session);
    let ids = prompt_ids(tokenizer, prompt)?;
    let generated = speaker.speak(tokenizer, ids, settings, &mut each)?;
    let speculation = (settings.speculate > 0).then_some(speaker.counts);
    if is_json {
        let mut document = told(prompt, &generated);
        document["run"] = json!(model.folder);
        document["step"] = json!(model.checkpoint.step);
        if let Some(counts) = &speculation {
            document["speculation"] = value(counts);
        }
        out.json(&document);
        return Ok(DONE);
    }
    out.text("\n");
    if let Some(tokens) = &generated.logprobs {
        logprobs(tokens, out);
    }
    if let Some(Speculation { proposed, accepted, passes }) = speculation {
        let tokens = generated.new_tokens;
        out.note(&format!(
            "{tokens} tokens in {passes} passes; {accepted} of {proposed} proposed tokens accepted"
        ));
    }
    Ok(DONE)
}

/// Continues many prompts, and tells of them in their order.
fn many(
    model: &Model,
    options: &SessionOptions,
    prompts: &[String],
    n_rows: usize,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8, Failure> {
    let n_rows = n_rows.min(prompts.len()).max(1);
    let mut batch = model.batch(n_rows, options)?;
    let all = generate_all(&mut batch, &model.tokenizer, prompts, settings, &mut |_, _| true)?;
    if out.is_json {
        let texts: Vec<Value> =
            prompts.iter().zip(&all).map(|(prompt, generated)| told(prompt, generated)).collect();
        out.json(&json!({
            "run": model.folder, "step": model.checkpoint.step, "texts": texts,
            "computed_tokens": batch.computed_tokens(), "shared_tokens": batch.shared_tokens(),
        }));
        return Ok(DONE);
    }
    for (at, (prompt, generated)) in prompts.iter().zip(&all).enumerate() {
        if at > 0 {
            out.line("");
        }
        out.line(out.dim(&format!("==> {} <==", at + 1)));
        out.line(format!("{prompt}{}", generated.text));
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
