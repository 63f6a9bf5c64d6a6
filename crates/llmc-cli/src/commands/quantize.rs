//! `quantize`.

use super::{DONE, run_folder, value};
use crate::args::Quantize;
use crate::environment;
use crate::format::{Align, table};
use crate::output::Output;
use llmc::pipeline::Failure;
use llmc::pipeline::generate::{Model, Which};
use llmc::pipeline::quantize::{Work, quantize as write};
use llmc::shell::quote;
use llmc::store::FsStore;

/// `llmc quantize`.
pub fn quantize(args: &Quantize, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let which = if args.best { Which::Best } else { Which::Last };
    let model = Model::open(&FsStore, &run, which)?;
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => run.join("exports").join(args.to.name()),
    };
    let work = Work { threads: None, isa: environment::isa()? };
    let done = write(&FsStore, (&run, &model), args.to, &folder, work)?;
    if out.is_json {
        out.json(&value(&done));
        return Ok(DONE);
    }
    out.line(format!("wrote {} with {} weights", done.path.display(), done.format));
    let rows: Vec<Vec<String>> =
        done.files.iter().map(|(name, hash)| vec![name.clone(), hash.short()]).collect();
    table(&[Align::Left; 2], &rows).iter().for_each(|line| out.line(format!("  {line}")));
    let share = done.bytes_after as f64 / done.bytes_before.max(1) as f64 * 100.0;
    let (before, after) = (done.bytes_before, done.bytes_after);
    out.line(format!("weights: {before} bytes in f32, {after} now ({share:.1} %)"));
    match (done.before, done.after) {
        (Some(before), Some(after)) => {
            let more = after.loss - before.loss;
            let tokens = after.tokens;
            out.line(format!(
                "held-out loss: {:.5} in f32, {:.5} now ({more:+.5}), over {tokens} tokens",
                before.loss, after.loss
            ));
        }
        _ => out.line("held-out loss: nothing is held out"),
    }
    out.note(&format!("to use it: llmc generate {} --prompt …", quote(&done.path)));
    Ok(DONE)
}
