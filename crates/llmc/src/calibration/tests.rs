//! Calibrations in files and in the cache.

use super::*;
use crate::store::MemStore;

/// A calibration in which every launch takes a microsecond and a picosecond per unit of its sizes.
pub(crate) fn made_up() -> MachineCalibration {
    let mut curves = BTreeMap::new();
    let probes = PROBES.iter().map(|p| (p.class, p.axes, p.distances));
    for (class, axes, distances) in
        probes.chain(HOST.iter().map(|h| (h.class, std::slice::from_ref(&h.axis), h.distances)))
    {
        let points = axes.iter().map(|a| a.points.to_vec()).chain([distances.to_vec()]);
        let axes_of: Vec<Vec<u64>> = points.collect();
        let mut picoseconds = vec![1_u64];
        for (i, axis) in axes_of.iter().enumerate() {
            let factor = |n: &u64| if i + 1 == axes_of.len() { 1 } else { *n };
            picoseconds =
                picoseconds.iter().flat_map(|t| axis.iter().map(move |n| t * factor(n))).collect();
        }
        picoseconds.iter_mut().for_each(|t| *t += 1_000_000);
        let growth = axes.iter().map(|a| a.growth).chain([0]).collect();
        curves.insert(class.to_string(), Curve { axes: axes_of, growth, picoseconds });
    }
    let mixes = vec![
        Mix { picoseconds: 1_000_000, permille: 1010 },
        Mix { picoseconds: 9_000_000, permille: 1070 },
    ];
    MachineCalibration { launches: Calibration { curves, mixes }, disk_bytes_per_s: 100 << 20 }
}

#[test]
fn json_gives_the_same_calibration_back() {
    let calibration = made_up();
    assert_eq!(MachineCalibration::from_json(&calibration.to_json()).unwrap(), calibration);
}

#[test]
fn what_is_damaged_or_of_another_llmc_is_no_calibration() {
    let good = made_up();
    assert_eq!(MachineCalibration::from_json("{}"), None);
    assert_eq!(MachineCalibration::from_json(&good.to_json()[1..]), None);
    let other = good.to_json().replace(FORMAT, "llmc-calibration-0");
    assert_eq!(MachineCalibration::from_json(&other), None);
    let mut less = good.clone();
    less.launches.curves.remove("attention");
    assert_eq!(MachineCalibration::from_json(&less.to_json()), None);
    let mut short = good.clone();
    short.launches.curves.get_mut("add").unwrap().picoseconds.pop();
    assert_eq!(MachineCalibration::from_json(&short.to_json()), None);
    let mut unmixed = good.clone();
    unmixed.launches.mixes.pop();
    assert_eq!(MachineCalibration::from_json(&unmixed.to_json()), None);
    let mut stopped = good;
    stopped.disk_bytes_per_s = 0;
    assert_eq!(MachineCalibration::from_json(&stopped.to_json()), None);
}

#[test]
fn the_cache_keeps_one_per_instruction_set_and_number_of_threads() {
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    assert_eq!(cached(&cache, Isa::Scalar, 2), None);
    let calibration = made_up();
    keep(&cache, Isa::Scalar, 2, &calibration).unwrap();
    assert_eq!(cached(&cache, Isa::Scalar, 2).unwrap(), calibration);
    assert_eq!(cached(&cache, Isa::Scalar, 1), None);
    assert_eq!(cached(&cache, Isa::Avx2, 2), None);
    // Taken from there, and nothing is measured: that would tell of itself.
    let mut silent = |_, _| panic!("it measures");
    let found = get_or_measure(Some(&cache), Isa::Scalar, 2, false, &mut silent).unwrap();
    assert_eq!(found, calibration);
    let newer = MachineCalibration { disk_bytes_per_s: 7, ..calibration };
    keep(&cache, Isa::Scalar, 2, &newer).unwrap();
    assert_eq!(cached(&cache, Isa::Scalar, 2).unwrap(), newer);
    store.write(&path(&cache, Isa::Scalar, 2), b"{").unwrap();
    assert_eq!(cached(&cache, Isa::Scalar, 2), None);
}

#[test]
fn the_disk_is_measured_and_left_as_it_was() {
    let store = MemStore::new();
    let file = std::path::Path::new("cache/calibration/x");
    assert!(disk_bytes_per_s(&store, file).unwrap() > 0);
    assert_eq!(store.kind(file).unwrap(), None);
}
