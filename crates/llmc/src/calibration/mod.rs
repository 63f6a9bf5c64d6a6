//! The calibration of this machine, kept in the stage cache's folder.
//!
//! One file per processor, instruction set, number of threads and build of llmc: a calibration is worth
//! nothing anywhere else. It is an observation; nothing that has a hash depends on it.

#[cfg(test)]
pub(crate) mod tests;

use crate::cache::StageCache;
use crate::machine;
use crate::store::{Source, Store, StoreError, create_dir_all, write_atomic};
use llmc_base::{CanonicalHasher, Hash};
use llmc_plan::predict::{Calibration, Curve, HOST, MIXES, Mix, PROBES};
use llmc_runtime::{CalibrateError, Engine, Isa, calibrate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Its folder among the stages of the cache.
const FOLDER: &str = "calibration";

/// First field of the file.
const FORMAT: &str = "llmc-calibration-1";

/// Bytes written to see how fast the disk is.
const DISK_BYTES: usize = 16 << 20;

/// How fast this machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineCalibration {
    /// Times of the engine's launches.
    pub launches: Calibration,
    /// Bytes per second that reach the disk.
    pub disk_bytes_per_s: u64,
}

/// A curve in the file.
#[derive(Serialize, Deserialize)]
struct StoredCurve {
    axes: Vec<Vec<u64>>,
    growth: Vec<u32>,
    picoseconds: Vec<u64>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    disk_bytes_per_s: u64,
    curves: BTreeMap<String, StoredCurve>,
    /// Picoseconds and thousandths.
    mixes: Vec<(u64, u64)>,
}

impl MachineCalibration {
    /// As JSON; all numbers are integers, so that it comes back as it was.
    pub fn to_json(&self) -> String {
        let curves = self.launches.curves.iter().map(|(class, curve)| {
            let Curve { axes, growth, picoseconds } = curve.clone();
            (class.clone(), StoredCurve { axes, growth, picoseconds })
        });
        let stored = Stored {
            format: FORMAT.to_string(),
            disk_bytes_per_s: self.disk_bytes_per_s,
            curves: curves.collect(),
            mixes: self.launches.mixes.iter().map(|m| (m.picoseconds, m.permille)).collect(),
        };
        // Strings and integers always have a JSON form.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// From JSON; `None` if it is no calibration with every curve that this llmc looks up.
    pub fn from_json(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let curves = stored.curves.into_iter().map(|(class, curve)| {
            let StoredCurve { axes, growth, picoseconds } = curve;
            (class, Curve { axes, growth, picoseconds })
        });
        let curves: BTreeMap<String, Curve> = curves.collect();
        let classes = PROBES.iter().map(|p| (p.class, p.axes.len()));
        let mixes = stored.mixes.into_iter();
        let mixes: Vec<Mix> =
            mixes.map(|(picoseconds, permille)| Mix { picoseconds, permille }).collect();
        let mut classes = classes.chain(HOST.iter().map(|h| (h.class, 1)));
        let is_whole = stored.format == FORMAT
            && stored.disk_bytes_per_s > 0
            && curves.values().all(Curve::is_whole)
            && mixes.len() == MIXES.len()
            && mixes.iter().all(|mix| mix.permille > 0)
            && classes.all(|(class, sizes)| {
                curves.get(class).is_some_and(|curve| curve.axes.len() == sizes + 1)
            });
        is_whole.then_some(MachineCalibration {
            launches: Calibration { curves, mixes },
            disk_bytes_per_s: stored.disk_bytes_per_s,
        })
    }
}

/// What a calibration is valid for: processor, instruction set, threads, this build, and what is measured.
fn key(source: &dyn Source, isa: Isa, threads: usize) -> Hash {
    let machine = machine::probe(source);
    let mut hasher = CanonicalHasher::new("llmc.calibration.v1");
    hasher.str(&machine.cpu).str(&machine.architecture).int(machine.usable_cores as i128);
    hasher.int(machine.physical_cores.unwrap_or(0) as i128);
    hasher.f64(machine.cpu_limit.unwrap_or(0.0));
    hasher.str(isa.name()).int(threads as i128);
    hasher.str(env!("CARGO_PKG_VERSION")).bool(cfg!(debug_assertions));
    hasher.str(&format!("{PROBES:?} {HOST:?} {MIXES:?}")).finish()
}

fn path(cache: &StageCache, isa: Isa, threads: usize) -> PathBuf {
    let store = cache.store();
    cache.path(FOLDER, &key(store, isa, threads)).with_extension("json")
}

/// The calibration in the cache, if there is one that is whole.
pub fn cached(cache: &StageCache, isa: Isa, threads: usize) -> Option<MachineCalibration> {
    let text = cache.store().read_text(&path(cache, isa, threads)).ok()?;
    MachineCalibration::from_json(&text)
}

/// Puts a calibration into the cache, in the place of an older one.
pub fn keep(
    cache: &StageCache,
    isa: Isa,
    threads: usize,
    calibration: &MachineCalibration,
) -> Result<(), StoreError> {
    let path = path(cache, isa, threads);
    if let Some(folder) = path.parent() {
        create_dir_all(cache.store(), folder)?;
    }
    write_atomic(cache.store(), &path, calibration.to_json().as_bytes())
}

/// Measures this machine, in a few seconds. `scratch` is a file that may be written and is removed again;
/// without one the disk counts as infinitely fast.
///
/// Errors: those of the engine; a disk that cannot be written counts as one that is not there.
pub fn measure(
    isa: Isa,
    threads: usize,
    scratch: Option<(&dyn Store, PathBuf)>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MachineCalibration, CalibrateError> {
    let mut engine = Engine::new(threads, Some(isa))?;
    let launches = calibrate(&mut engine, progress)?;
    let disk = scratch.and_then(|(store, path)| disk_bytes_per_s(store, &path).ok());
    Ok(MachineCalibration { launches, disk_bytes_per_s: disk.unwrap_or(u64::MAX) })
}

/// Writes a file, with a sync as a checkpoint has it.
fn disk_bytes_per_s(store: &dyn Store, path: &std::path::Path) -> Result<u64, StoreError> {
    if let Some(folder) = path.parent() {
        create_dir_all(store, folder)?;
    }
    let bytes: Vec<u8> = (0..DISK_BYTES).map(|i| (i.wrapping_mul(167) >> 3) as u8).collect();
    let start = Instant::now();
    let written = store.write(path, &bytes).and_then(|()| store.sync_file(path));
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    store.remove_file(path)?;
    written?;
    Ok(((DISK_BYTES as f64 / seconds) as u64).max(1))
}

/// The calibration of the cache, or a new one, which goes there.
///
/// Errors: those of [`measure`]. A cache that cannot be written is done without.
pub fn get_or_measure(
    cache: Option<&StageCache>,
    isa: Isa,
    threads: usize,
    renew: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MachineCalibration, CalibrateError> {
    let found = cache.filter(|_| !renew).and_then(|cache| cached(cache, isa, threads));
    if let Some(found) = found {
        return Ok(found);
    }
    let scratch = cache.and_then(|cache| {
        let path = crate::store::temporary_name(&path(cache, isa, threads)).ok()?;
        Some((cache.store() as &dyn Store, path))
    });
    let measured = measure(isa, threads, scratch, progress)?;
    if let Some(cache) = cache {
        // The next call measures again.
        let _ = keep(cache, isa, threads, &measured);
    }
    Ok(measured)
}
