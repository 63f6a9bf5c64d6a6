//! The launches of a step by kind, with what they take.

use llmc_plan::predict::{Calibration, Distances};
use llmc_plan::{Kernel, Launch, Plan};
use serde::Serialize;
use std::collections::BTreeMap;

/// Kinds that are shown.
const SHOWN: usize = 12;

/// One kind of launch in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopLaunch {
    /// Op, kernel and sizes, e.g. `linear gemm 512x256x256`.
    pub launch: String,
    /// Launches per step.
    pub count: u64,
    /// Floating-point operations of all of them.
    pub flops: u64,
    /// Predicted seconds of all of them; `None` without a calibration.
    pub seconds: Option<f64>,
    /// Share of the step in [0, 1]: of its time, without a calibration of its FLOPs.
    pub share: f64,
}

/// Sums over one execution of a plan, or over a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Lap {
    pub(super) seconds: f64,
    kinds: BTreeMap<String, Kind>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    count: u64,
    flops: i128,
    seconds: f64,
}

impl Lap {
    /// Adds another one, so many times.
    pub(super) fn add(&mut self, other: Lap, times: u64) {
        self.seconds += other.seconds * times as f64;
        for (name, kind) in other.kinds {
            let sum = self.kinds.entry(name).or_default();
            sum.count += kind.count * times;
            sum.flops += kind.flops * i128::from(times);
            sum.seconds += kind.seconds * times as f64;
        }
    }
}

/// One execution of a plan.
pub(super) fn lap(plan: &Plan, distances: &Distances, calibration: Option<&Calibration>) -> Lap {
    let seconds: Vec<f64> = match calibration {
        Some(calibration) => {
            calibration.plan(plan, distances).into_iter().map(|p| p.seconds).collect()
        }
        None => vec![0.0; plan.launches.len()],
    };
    let mut lap = Lap::default();
    for (launch, seconds) in plan.launches.iter().zip(seconds) {
        let kind = lap.kinds.entry(name(launch)).or_default();
        kind.count += 1;
        kind.flops += launch.work.flops;
        kind.seconds += seconds;
        lap.seconds += seconds;
    }
    lap
}

/// What launches of one kind have in common.
fn name(launch: &Launch) -> String {
    let first = launch.operands.first().or(launch.results.first());
    let shape = first.map_or(String::new(), |view| {
        let dims: Vec<String> = view.shape.iter().map(usize::to_string).collect();
        dims.join("x")
    });
    match launch.kernel {
        Kernel::Gemm(_) => format!("{} ({})", launch.op.name(), launch.kernel),
        Kernel::Copy => format!("copy {shape}"),
        Kernel::Evaluate => format!("{} {shape} (evaluated)", launch.op.name()),
        _ => format!("{} {shape}", launch.op.name()),
    }
}

/// The kinds that take longest, or without times do most.
pub(super) fn top(step: &Lap, is_timed: bool) -> Vec<TopLaunch> {
    let flops: i128 = step.kinds.values().map(|k| k.flops).sum();
    let mut all: Vec<TopLaunch> = step
        .kinds
        .iter()
        .map(|(name, kind)| TopLaunch {
            launch: name.clone(),
            count: kind.count,
            flops: u64::try_from(kind.flops).unwrap_or(u64::MAX),
            seconds: is_timed.then_some(kind.seconds),
            share: match is_timed {
                true => kind.seconds / step.seconds.max(1e-12),
                false => kind.flops as f64 / (flops as f64).max(1.0),
            },
        })
        .collect();
    // Stable: equal shares stay in the order of their names.
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all.truncate(SHOWN);
    all
}
