//! `generate`, `emit`, `doctor`.

use super::{DONE, run_folder, value};
use crate::args::{Emit, Generate, Target};
use crate::environment;
use crate::format::{Align, table};
use crate::output::Output;
use llmc::doctor::{DoctorOptions, Mark, doctor as look};
use llmc::pipeline::Failure;
use llmc::pipeline::emit::{self, emit as export};
use llmc::pipeline::generate::{Model, Which, continue_text};
use llmc::store::FsStore;
use llmc_runtime::Sampling;
use serde_json::json;

/// `llmc generate`.
pub fn generate(args: &Generate, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let which = if args.best { Which::Best } else { Which::Last };
    let model = Model::open(&FsStore, &run, which)?;
    let mut session = model.session(None, environment::isa()?)?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
        ..Sampling::default()
    };
    let is_json = out.is_json;
    if !is_json {
        out.text(&args.prompt);
        out.flush();
    }
    let mut next = |ids: &[u32]| {
        let logits = session.next_logits(ids);
        logits.map(<[f32]>::to_vec).map_err(|e| Failure::Internal(e.to_string()))
    };
    let text = continue_text(
        &mut next,
        &model.tokenizer,
        &args.prompt,
        args.tokens,
        &sampling,
        &mut |piece| is_json || (out.text(piece) && out.flush()),
    )?;
    match is_json {
        true => out.json(&json!({
            "run": run, "step": model.checkpoint.step, "prompt": args.prompt, "text": text,
        })),
        false => {
            out.text("\n");
        }
    }
    Ok(DONE)
}

/// `llmc emit`.
pub fn emit(args: &Emit, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let model = Model::open(&FsStore, &run, Which::Last)?;
    let target = match args.to {
        Target::Pytorch => emit::Target::Pytorch,
        Target::Safetensors => emit::Target::Safetensors,
        Target::Huggingface => emit::Target::HuggingFace,
    };
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => run.join("exports").join(args.to.name()),
    };
    let exported = export(&FsStore, &model, target, &folder)?;
    if out.is_json {
        out.json(&value(&exported));
        return Ok(DONE);
    }
    out.line(format!("wrote {} as {}", exported.path.display(), exported.kind));
    let rows: Vec<Vec<String>> =
        exported.files.iter().map(|(name, hash)| vec![name.clone(), hash.short()]).collect();
    table(&[Align::Left; 2], &rows).iter().for_each(|line| out.line(format!("  {line}")));
    out.line(format!("certificate: {}", exported.certificate.replace('_', " ")));
    if target != emit::Target::Safetensors {
        out.note(&format!("to check it: cd {} && python check_export.py", exported.path.display()));
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
