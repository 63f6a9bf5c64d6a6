//! Runs that train adapters: the base that they stand beside, and the weights of both in one.
//!
//! A checkpoint holds the adapters alone. The weights that they stand beside are copied into the run,
//! `base/weights.safetensors`, once: so a run stays whole when the run that it started from is moved
//! or removed, and is verified by itself. Whoever uses the model reads the weights with the adapters
//! merged into them:
//!
//! ```text
//! w' = f32(f64(w) + scale · Σ_k f64(B[o, k]) · f64(A[k, i])), k in order
//! ```

use super::failure::Failure;
use super::finetune;
use super::project::{build_model, verified};
use super::runs;
use super::state::{WEIGHTS, fill};
use super::train::Parent;
use crate::checkpoint::{self, Checkpoint};
use crate::store::{Source, Store, read_marker, read_verified};
use llmc_base::Diagnostic;
use llmc_formats::safetensors::{DType, Data, SafeTensors, TensorSource, to_bytes};
use llmc_ir::Module;
use llmc_passes::adapters::beside;
use llmc_spec::{ResolvedModel, TrainingConfig};
use llmc_train::{Trainer, optim};
use std::collections::BTreeMap;
use std::path::Path;

/// Folder of the frozen weights in a run.
pub(super) const BASE: &str = "base";

/// The model as it is trained: with the terms of its loss and its adapters.
///
/// Errors: `lora::target`; those of building.
pub(super) fn training_module(
    model: &ResolvedModel,
    training: &TrainingConfig,
) -> Result<Module, Failure> {
    let module = llmc_train::with_z_loss(&build_model(model)?, training.z_loss)?;
    verified(llmc_train::with_lora(&module, training)?)
}

/// Elements of the parameters of a gradient module.
pub(super) fn n_trained(gradient: &Module) -> Result<u64, Failure> {
    let sizes = optim::parameters(gradient, "grad")?.into_iter().map(|parameter| {
        let dims = parameter.ty.shape.iter().filter_map(|d| d.as_usize());
        dims.map(|d| d as u64).product::<u64>()
    });
    Ok(sizes.sum())
}

/// Refuses adapters that have nothing to stand beside.
///
/// Errors: `lora::no_base`.
pub(super) fn check_base(
    training: &TrainingConfig,
    parent: Option<&Parent>,
) -> Result<(), Failure> {
    if training.adapters().is_none() || parent.is_some() {
        return Ok(());
    }
    let message = "adapters are trained beside the weights of a run, and none is named";
    let help = "`llmc train SPEC --from RUN`; without `[training.lora]` all weights are trained";
    let d = Diagnostic::error("lora::no_base", message).help(help);
    Err(d.field("training.lora.rank").into())
}

/// The frozen weights of a run that starts from `parent`, as a file.
///
/// Errors: `run::parent_changed`; a damaged parent.
pub(super) fn base_of(store: &dyn Store, parent: &Parent) -> Result<Vec<u8>, Failure> {
    let found = checkpoint::load_step(store, &parent.run, parent.step)?;
    match parent.is_weights_only {
        true => finetune::weights_of(store, parent, &found),
        // It goes on with the adapters of the same base.
        false => read_base(store, &parent.run),
    }
}

/// The file of the frozen weights in a run.
fn read_base(store: &dyn Source, run: &Path) -> Result<Vec<u8>, Failure> {
    let folder = run.join(BASE);
    if !store.exists(&folder)? {
        let message = format!(
            "`{}` is missing, which holds the weights that the adapters stand beside",
            folder.display()
        );
        let help = "put the folder back from a copy; `llmc verify RUN` says what else is missing";
        return Err(Diagnostic::error("run::no_base", message).help(help).into());
    }
    let marker = read_marker(store, &folder)?;
    Ok(read_verified(store, &folder, &marker, WEIGHTS)?)
}

/// Fills the frozen weights of a trainer, if it has any, from the run.
pub(super) fn fill_base(
    trainer: &mut Trainer,
    store: &dyn Source,
    run: &Path,
) -> Result<(), Failure> {
    let frozen = trainer.frozen_paths();
    if frozen.is_empty() {
        return Ok(());
    }
    let bytes = read_base(store, run)?;
    fill(trainer, &bytes, &frozen, &run.join(BASE).join(WEIGHTS))
}

/// The weights of a whole model from a file of a checkpoint: with adapters, merged.
///
/// Errors: `run::no_base`, `checkpoint::weights`; a damaged checkpoint.
pub(super) fn whole_weights(
    store: &dyn Source,
    run: &Path,
    checkpoint: &Checkpoint,
    file: &str,
    training: Option<&TrainingConfig>,
) -> Result<Vec<u8>, Failure> {
    let own = checkpoint.read(store, file)?;
    match training.and_then(TrainingConfig::adapters) {
        None => Ok(own),
        Some(lora) => merged(&read_base(store, run)?, &own, lora.scale()).map_err(|what| {
            let place = checkpoint.path.join(file);
            let message = format!("`{}`: {what}", place.display());
            let help = "the adapters belong to another base or are damaged";
            Diagnostic::error("checkpoint::weights", message).help(help).into()
        }),
    }
}

/// The same for a run by its folder.
pub(super) fn whole_weights_of(
    store: &dyn Store,
    run: &Path,
    checkpoint: &Checkpoint,
) -> Result<Vec<u8>, Failure> {
    let project = runs::project(store, run)?;
    whole_weights(store, run, checkpoint, WEIGHTS, project.resolved.training.as_ref())
}

/// The base with the adapters in it, as a file.
fn merged(base: &[u8], adapters: &[u8], scale: f64) -> Result<Vec<u8>, String> {
    let told = |e: llmc_formats::safetensors::Error| e.to_string();
    let base = SafeTensors::parse(base).map_err(told)?;
    let own = SafeTensors::parse(adapters).map_err(told)?;
    let mut changed: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for view in own.tensors() {
        let Some((path, up)) = beside(&view.info.name) else { continue };
        let weight = base.tensor(&path).map_err(told)?;
        let up = own.tensor(&up).map_err(told)?;
        let (&[out, width], &[rank, columns]) = (&weight.info.shape[..], &view.info.shape[..])
        else {
            return Err(format!("`{path}` and `{}` are no matrices", view.info.name));
        };
        if columns != width || up.info.shape != [out, rank] {
            return Err(format!("`{}` does not fit `{path}`", view.info.name));
        }
        let mut values = weight.to_f32().map_err(told)?;
        let (down, up) = (view.to_f32().map_err(told)?, up.to_f32().map_err(told)?);
        add_product(&mut values, (&up, &down), width, scale);
        changed.insert(path, values);
    }
    let sources: Vec<TensorSource> = base
        .header()
        .tensors()
        .iter()
        .zip(base.tensors())
        .map(|(info, view)| TensorSource {
            name: &info.name,
            dtype: if changed.contains_key(&info.name) { DType::F32 } else { info.dtype },
            shape: &info.shape,
            data: match changed.get(&info.name) {
                Some(values) => Data::F32(values),
                None => Data::Bytes(view.data),
            },
        })
        .collect();
    to_bytes(&sources, &Default::default()).map_err(|e| e.to_string())
}

/// w += scale · up · down for w [out, width], up [out, rank] and down [rank, width].
fn add_product(w: &mut [f32], (up, down): (&[f32], &[f32]), width: usize, scale: f64) {
    let rank = down.len() / width.max(1);
    let mut sums = vec![0.0f64; width];
    for (row, up) in w.chunks_exact_mut(width.max(1)).zip(up.chunks_exact(rank.max(1))) {
        sums.fill(0.0);
        for (b, down) in up.iter().zip(down.chunks_exact(width.max(1))) {
            for (sum, a) in sums.iter_mut().zip(down) {
                *sum += f64::from(*b) * f64::from(*a);
            }
        }
        for (w, sum) in row.iter_mut().zip(&sums) {
            *w = (f64::from(*w) + scale * sum) as f32;
        }
    }
}
