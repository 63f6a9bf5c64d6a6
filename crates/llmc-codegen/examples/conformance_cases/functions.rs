//! Single ops on their samples, and random modules.

use crate::{Done, noise, seed, write_case, write_certificate, write_file};
use llmc_base::expr::{Env, Symbol};
use llmc_codegen::{probe, pytorch, weights};
use llmc_formats::names::{Tensor as Weight, Tensors};
use llmc_formats::safetensors::{DType as FileDType, Metadata};
use llmc_ir::eval::{self, EvalOptions, Mode, Tensor};
use llmc_ir::sample::{Fill, Sample};
use llmc_ir::{DType, FunctionBuilder, Module, Op, TensorType, account, generate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Random modules to try.
const N_GENERATED: u64 = 300;

/// A tensor that fills an operand of a sample.
fn filled(ty: &TensorType, fill: Fill, seed: u64) -> Done<Tensor> {
    let shape = ty.concrete().ok_or("a sample has symbolic dims")?;
    let n: usize = shape.iter().product();
    let last = shape.last().copied().unwrap_or(1).max(1);
    let value = |i: usize| {
        let x = noise(seed, i as u64);
        match fill {
            Fill::Normal if ty.dtype == DType::Bool => f64::from(x > 0.0),
            Fill::Normal if ty.dtype.is_float() => x * 2.0,
            Fill::Normal if ty.dtype.is_signed_int() => (x * 8.0).floor(),
            Fill::Normal => ((x + 1.0) * 8.0).floor(),
            Fill::Positive => 1.0 + x / 2.0,
            Fill::Below(bound) => ((x + 1.0) / 2.0 * bound as f64).floor().min(bound as f64 - 1.0),
            Fill::Targets(_) if i % 4 == 1 => -100.0,
            Fill::Targets(bound) => {
                ((x + 1.0) / 2.0 * bound as f64).floor().min(bound as f64 - 1.0)
            }
            Fill::Positions => (i % last) as f64,
            Fill::Segments => f64::from(i % last >= last / 2),
            Fill::Constant(value) => value,
        }
    };
    let values = (0..n).map(value);
    Ok(match ty.dtype.is_float() {
        true => Tensor::floats(ty.dtype, &shape, values.collect())?,
        false => Tensor::ints(ty.dtype, &shape, values.map(|v| v as i64).collect())?,
    })
}

/// A function that applies one op to its inputs.
fn op_module(op: &Op, operands: &[TensorType]) -> Done<Module> {
    let mut module = Module::new("op");
    let mut b = FunctionBuilder::new(&module, "forward");
    let inputs: Vec<_> =
        operands.iter().enumerate().map(|(i, ty)| b.input(&format!("x{i}"), ty.clone())).collect();
    let results = b.op(op.clone(), &inputs)?;
    for (i, result) in results.iter().enumerate() {
        b.output(&format!("y{i}"), *result);
    }
    let function = b.finish();
    module.add(function);
    Ok(module)
}

/// Values for the weights of a module, each by its path.
fn weights_of(module: &Module, entry: &str, env: &Env) -> Done<BTreeMap<String, Tensor>> {
    let entry = module.find(entry).ok_or("no entry")?;
    let mut out = BTreeMap::new();
    for info in account::weights(module, entry) {
        let tensor = filled(&info.ty.bind(env), Fill::Normal, seed(&info.path))?;
        out.insert(info.path, tensor);
    }
    Ok(out)
}

/// The weights as a file has them: floats as f64, so that nothing is rounded.
fn weights_file(weights: &BTreeMap<String, Tensor>) -> Done<Vec<u8>> {
    let mut out = Tensors::new();
    for (path, tensor) in weights {
        let data = tensor.as_floats()?.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = tensor.shape.clone();
        out.insert(path.clone(), Weight { dtype: FileDType::F64, shape, data });
    }
    Ok(weights::to_bytes(&out, &Metadata::new())?)
}

/// Emits `entry` of a module, with the outputs for these inputs. Gives why not, if PyTorch cannot.
fn write_function(
    folder: &Path,
    name: &str,
    module: &Module,
    entry: &str,
    env: &Env,
    inputs: &[Tensor],
    exports: &mut Vec<Value>,
) -> Done<Option<String>> {
    let mut options = pytorch::Options { entry, ..pytorch::Options::new(name) };
    options.dims.clone_from(env);
    let text = match pytorch::emit(module, &options) {
        Ok(text) => text,
        Err(pytorch::EmitError::Type(error)) => return Err(format!("{name}: {error}").into()),
        Err(error) => return Ok(Some(error.to_string())),
    };
    let id = module.find(entry).ok_or("no entry")?;
    let weights = weights_of(module, entry, env)?;
    let options = EvalOptions { dims: env.clone(), ..EvalOptions::new(Mode::Real) };
    let lookup = |path: &str| weights.get(path).cloned();
    let done = eval::run(module, id, inputs, &lookup, &BTreeMap::new(), &options);
    let outputs = match done {
        Ok(done) => done.outputs,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if outputs.iter().all(|tensor| tensor.numel() == 0) {
        return Ok(Some("the outputs have no elements".to_string()));
    }
    let names = |kind: &str, n: usize| (0..n).map(|i| format!("{kind}{i}")).collect::<Vec<_>>();
    let (input_names, output_names) = (names("x", inputs.len()), names("y", outputs.len()));
    let probe_file = probe::to_bytes(
        &input_names.iter().map(String::as_str).zip(inputs).collect::<Vec<_>>(),
        &output_names.iter().map(String::as_str).zip(&outputs).collect::<Vec<_>>(),
    )?;
    let (target, mut files) = (folder.join(name), Vec::new());
    write_file(&target, "model.py", text.as_bytes(), &mut files)?;
    write_file(&target, "model.safetensors", &weights_file(&weights)?, &mut files)?;
    fs::write(target.join("probe.safetensors"), &probe_file)?;
    write_certificate(&target, "pytorch", llmc_ir::hash::module_hash(module), files)?;
    let probes = json!([{
        "path": format!("{name}/probe.safetensors"),
        "hash": probe::hash(&probe_file),
    }]);
    exports.push(json!({"folder": name, "probes": probes}));
    Ok(None)
}

/// Every op on its good samples.
pub fn write_ops(folder: &Path) -> Done {
    let mut exports = Vec::new();
    let mut left_out = Vec::new();
    for (_, samples) in Op::all_samples() {
        for (i, Sample { op, operands, .. }) in samples.good.iter().enumerate() {
            let name = format!("{}-{i}", op.name());
            let types: Vec<TensorType> = operands.iter().map(|(ty, _)| ty.clone()).collect();
            let module = op_module(op, &types)?;
            let inputs = operands
                .iter()
                .enumerate()
                .map(|(j, (ty, fill))| filled(ty, *fill, seed(&format!("{name}/{j}"))))
                .collect::<Done<Vec<_>>>()?;
            let env = Env::new();
            let why =
                write_function(folder, &name, &module, "forward", &env, &inputs, &mut exports)?;
            left_out.extend(why.map(|why| format!("{name}: {why}\n")));
        }
    }
    fs::write(folder.join("left_out.txt"), left_out.concat())?;
    write_case(folder, exports)
}

/// Random modules; `T` is a dim of the model if no input shows it, else a dim of the inputs.
pub fn write_generated(folder: &Path) -> Done {
    let mut exports = Vec::new();
    let mut left_out = Vec::new();
    for number in 0..N_GENERATED {
        let bytes: Vec<u8> =
            (0..400).map(|i| ((noise(number, i) + 1.0) * 128.0).clamp(0.0, 255.0) as u8).collect();
        let module = generate::module(&bytes);
        let name = format!("module-{number:03}");
        let id = module.find("main").ok_or("no main")?;
        if !account::states(&module, id).is_empty() {
            left_out.push(format!("{name}: it has state\n"));
            continue;
        }
        let env: Env = [("B", 2), ("T", 4)].map(|(s, v)| (Symbol::new(s), v)).into();
        let function = module.function(id);
        let inputs = function
            .inputs()
            .enumerate()
            .map(|(j, v)| filled(&function.ty(v).bind(&env), Fill::Normal, number * 64 + j as u64))
            .collect::<Done<Vec<_>>>()?;
        let is_shown = |symbol: &Symbol| {
            let mut dims = function.inputs().flat_map(|v| &function.ty(v).shape);
            dims.any(|d| d.as_symbol() == Some(symbol))
        };
        let hidden: Env = env.into_iter().filter(|(symbol, _)| !is_shown(symbol)).collect();
        let why = write_function(folder, &name, &module, "main", &hidden, &inputs, &mut exports)?;
        left_out.extend(why.map(|why| format!("{name}: {why}\n")));
    }
    fs::write(folder.join("left_out.txt"), left_out.concat())?;
    write_case(folder, exports)
}
