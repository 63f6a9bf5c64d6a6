//! The files of a compiled model in a folder of their own, and the report on them.

use super::compile::Compiled;
use super::failure::Failure;
use super::graph_json::graph_json;
use super::project::build_model;
use crate::store::{Store, create_dir_all, write_all_atomic};
use llmc_base::Diagnostic;
use llmc_codegen::pytorch;
use llmc_ir::Module;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A compiled model: its section, its IR, and what was written of it.
#[derive(Clone, Debug)]
pub struct CompiledModel {
    /// The section.
    pub compiled: Compiled,
    /// The IR.
    pub module: Module,
    /// The report, if files were written.
    pub report: Option<Value>,
}

/// Solves and builds a model; with a folder, writes `spec.json`, `solution.json`,
/// `ir_graph.json`, `model.ir`, `model/NAME.py` (PyTorch) and `compilation_report.json` there.
///
/// Errors: every diagnostic of the spec; they stand in `error_report.json` of the folder too.
pub fn compile_model(
    store: &dyn Store,
    fields: Value,
    folder: Option<&Path>,
) -> Result<CompiledModel, Failure> {
    let started = Instant::now();
    let result = build(fields);
    let Some(folder) = folder else { return result };
    create_dir_all(store, folder)?;
    match result {
        Ok(mut model) => {
            model.report = Some(write(store, &model, folder, started)?);
            Ok(model)
        }
        Err(failure) => {
            let report = json!({
                "error": failure.to_string(),
                "error_type": "CompileError",
                "diagnostics": failure.diagnostics(),
            });
            let text = format!("{report:#}\n");
            write_all_atomic(store, &[(&folder.join("error_report.json"), text.as_bytes())])?;
            Err(failure)
        }
    }
}

fn build(fields: Value) -> Result<CompiledModel, Failure> {
    let compiled = Compiled::new(llmc_spec::Section::Model, fields, None)?;
    let module = build_model(compiled.project.model()?)?;
    Ok(CompiledModel { compiled, module, report: None })
}

/// The solution with the report's keys.
pub fn solution_json(compiled: &Compiled) -> Result<Value, Failure> {
    let model = compiled.project.model()?;
    let solution = &model.solution;
    let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    Ok(json!({
        "dimensions": model.dims,
        "actual_params": solution.params,
        "target_params": solution.target_params,
        "warnings": warnings,
        "constraints_satisfied": true,
        "param_source": if solution.target_params.is_some() { "solved" } else { "written" },
        "why": solution.why,
        "alternatives": solution.alternatives,
        "defaults": compiled.project.resolved.defaults,
    }))
}

fn write(
    store: &dyn Store,
    model: &CompiledModel,
    folder: &Path,
    started: Instant,
) -> Result<Value, Failure> {
    let compiled = &model.compiled;
    let resolved = compiled.project.model()?;
    let solution = solution_json(compiled)?;
    let mut dimensions = solution["dimensions"].clone();
    if let Value::Object(dims) = &mut dimensions {
        dims.insert("parameter_count".to_string(), json!(resolved.solution.params));
    }
    let mut solution_file = solution.clone();
    solution_file["parameters"] = json!(resolved.solution.params);
    let graph = graph_json(&model.module, &resolved.name, "forward");
    let graph = graph.ok_or_else(|| Failure::Internal("a model without `@forward`".into()))?;
    let python = pytorch::emit(&model.module, &pytorch::Options::new(&resolved.name))
        .map_err(|e| Diagnostic::error("emit::pytorch", e.to_string()))?;
    let pretty = |value: &Value| format!("{value:#}\n").into_bytes();
    let module_file = format!("model/{}.py", identifier(&resolved.name));
    let spec = compiled.project.spec.to_json();
    let written: [(&str, &str, Vec<u8>); 5] = [
        ("spec.json", "spec", pretty(&spec)),
        ("solution.json", "solution", pretty(&solution_file)),
        ("ir_graph.json", "ir_graph", pretty(&graph)),
        ("model.ir", "ir_text", llmc_ir::text::print(&model.module).into_bytes()),
        (&module_file, "pytorch_model", python.into_bytes()),
    ];
    let step = |name: &str, detail: Value| {
        let mut step = Map::new();
        step.insert("step".to_string(), json!(name));
        step.insert("status".to_string(), json!("completed"));
        if let Value::Object(detail) = detail {
            step.extend(detail);
        }
        Value::Object(step)
    };
    let files: Vec<Value> = written
        .iter()
        .map(|(path, kind, bytes)| json!({"path": path, "type": kind, "size": bytes.len()}))
        .collect();
    let report = json!({
        "spec": spec,
        "steps": [
            step("template_selection", json!({"template": resolved.architecture.template})),
            step("spec_validation", json!({"warnings": solution["warnings"]})),
            step("dimension_solving", json!({"dimensions": dimensions})),
            step("ir_generation", json!({
                "operations": graph["operations"].as_object().map_or(0, Map::len),
                "tensors": graph["tensors"].as_object().map_or(0, Map::len),
            })),
            step("parameter_accounting", json!({"parameters": resolved.solution.params})),
            step("finalization", json!({"fingerprint": compiled.fingerprint()?})),
        ],
        "success": true,
        "output_dir": folder.display().to_string(),
        "total_files": files.len(),
        "files": files,
        "solution": solution,
        "model_name": resolved.name,
        "model_dir": folder.join("model").display().to_string(),
        // Weights come from training; a model that was only compiled has none.
        "weights_dir": null,
        "compilation_time": started.elapsed().as_secs_f64(),
    });
    create_dir_all(store, &folder.join("model"))?;
    let mut all: Vec<(PathBuf, Vec<u8>)> =
        written.into_iter().map(|(path, _, bytes)| (folder.join(path), bytes)).collect();
    all.push((folder.join("compilation_report.json"), pretty(&report)));
    let all: Vec<(&Path, &[u8])> =
        all.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())).collect();
    write_all_atomic(store, &all)?;
    Ok(report)
}

/// A name that Python can import: letters, digits and `_`, not starting with a digit.
fn identifier(name: &str) -> String {
    let mut out: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}
