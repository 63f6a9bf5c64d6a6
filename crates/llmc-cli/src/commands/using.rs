//! `emit`, `doctor`.

use super::{DONE, run_folder, value, weight_set};
use crate::args::Emit;
use crate::format::{Align, table};
use crate::output::Output;
use llmc::doctor::{DoctorOptions, Mark, doctor as look};
use llmc::pipeline::Failure;
use llmc::pipeline::emit::emit as export;
use llmc::pipeline::generate::{Model, Which};
use llmc::shell::quote;
use llmc::store::FsStore;

/// `llmc emit`.
pub fn emit(args: &Emit, out: &mut Output) -> Result<u8, Failure> {
    let run = run_folder(&args.run)?;
    let model = Model::open_weights(&FsStore, &run, Which::Last, weight_set(args.ema))?;
    let average = if args.ema { "-ema" } else { "" };
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
