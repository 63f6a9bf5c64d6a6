//! Predicted time: a plan and a calibration of the machine give seconds per launch.
//!
//! The time of a plan is the sum over its launches. A launch belongs to a class ([`class_of`]); the
//! calibration has, per class, the measured time on a grid of sizes ([`Curve`]), and between the points the
//! logarithm of the time is linear in the logarithms of the sizes. The last axis of every grid is the reuse
//! distance ([`reuse`]): how many bytes were touched since an operand was, which decides whether it comes from
//! a cache or from memory. Nothing here looks at a clock; `llmc-runtime` measures.

mod classes;
mod mix;
mod probes;
mod reuse;
#[cfg(test)]
mod tests;

pub use classes::{Classified, class_of};
pub use mix::{MIXES, Mix, mix_plan};
pub use probes::{Axis, HOST, Host, PROBES, Probe, SUM_SQUARES, ZERO};
pub use reuse::{Distances, reuse};

use crate::plan::{Launch, Plan};
use std::collections::BTreeMap;

/// Measured times on a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// The sizes of each axis, rising; the last axis is the reuse distance in bytes.
    pub axes: Vec<Vec<u64>>,
    /// Per axis: with which power of its size time grows beyond its last point.
    pub growth: Vec<u32>,
    /// Time of every point, row-major: the last axis fastest.
    pub picoseconds: Vec<u64>,
}

/// What was measured on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// By the name of the class.
    pub curves: BTreeMap<String, Curve>,
    /// What launches take between others rather than in a loop: one per line of [`MIXES`], or none.
    pub mixes: Vec<Mix>,
}

/// What a launch is predicted to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// The class by which it was looked up; `None` if the calibration has none for it, and it counts as a copy.
    pub class: Option<&'static str>,
    /// Seconds.
    pub seconds: f64,
}

impl Curve {
    /// Makes times rise with every size: a larger launch is never faster, so what a disturbed
    /// measurement says beyond that is cut off.
    pub fn rising(mut self) -> Self {
        let n_sizes = self.axes.len().saturating_sub(1);
        let mut stride = self.axes.last().map_or(1, Vec::len);
        for axis in (0..n_sizes).rev() {
            let len = self.axes[axis].len();
            for at in (0..self.picoseconds.len()).rev() {
                if at / stride % len + 1 < len {
                    self.picoseconds[at] = self.picoseconds[at].min(self.picoseconds[at + stride]);
                }
            }
            stride *= len;
        }
        self
    }

    /// Whether there is a time above 0 for each point of rising axes.
    pub fn is_whole(&self) -> bool {
        let points: usize = self.axes.iter().map(Vec::len).product();
        let rises = |axis: &Vec<u64>| {
            axis.first().is_some_and(|first| *first > 0) && axis.windows(2).all(|w| w[0] < w[1])
        };
        self.growth.len() == self.axes.len()
            && !self.axes.is_empty()
            && self.axes.iter().all(rises)
            && self.picoseconds.len() == points
            && self.picoseconds.iter().all(|t| *t > 0)
    }

    /// Seconds at these sizes. Below the first point of an axis time stays; beyond the last it grows
    /// with the power of the axis.
    pub fn seconds(&self, sizes: &[f64]) -> f64 {
        // Per axis: the lower point, how far on to the next, and the factor beyond the last.
        let mut places = Vec::with_capacity(self.axes.len());
        let mut factor = 1.0;
        for ((axis, size), growth) in self.axes.iter().zip(sizes).zip(&self.growth) {
            let (first, last) = (axis[0] as f64, axis[axis.len() - 1] as f64);
            if *size > last {
                factor *= libm::pow(size / last, f64::from(*growth));
            }
            let size = size.clamp(first, last);
            let low = axis.partition_point(|point| (*point as f64) < size).max(1) - 1;
            let part = match axis.get(low + 1) {
                Some(next) => {
                    let (from, to) = (axis[low] as f64, *next as f64);
                    libm::log(size / from) / libm::log(to / from)
                }
                None => 0.0,
            };
            places.push((low, part));
        }
        let mut log = 0.0;
        for corner in 0..1usize << places.len() {
            let (mut at, mut weight) = (0, 1.0);
            for (bit, ((low, part), axis)) in places.iter().zip(&self.axes).enumerate() {
                let is_upper = corner >> bit & 1 == 1;
                weight *= if is_upper { *part } else { 1.0 - part };
                at = at * axis.len() + (low + usize::from(is_upper)).min(axis.len() - 1);
            }
            if weight > 0.0 {
                log += weight * libm::log(self.picoseconds[at] as f64);
            }
        }
        libm::exp(log) * factor * 1e-12
    }
}

impl Calibration {
    /// Seconds that a launch takes whose operands and results, in order, were touched that many bytes ago.
    ///
    /// Operands at different distances count by their share of the bytes.
    pub fn launch(&self, launch: &Launch, distances: &[f64]) -> Predicted {
        let found = class_of(launch);
        let known = found.as_ref().and_then(|found| {
            let curve = self.curves.get(found.class)?;
            (curve.axes.len() == found.sizes.len() + 1).then_some((found, curve))
        });
        let Some((found, curve)) = known else {
            let elements: usize = launch.results.iter().map(|v| v.region.len).sum();
            let copy = self.curves.get(classes::COPY);
            let seconds = copy.map_or(0.0, |c| c.seconds(&[elements.max(1) as f64, f64::MAX]));
            return Predicted { class: None, seconds };
        };
        let mut sizes: Vec<f64> = found.sizes.iter().map(|s| (*s).max(1) as f64).collect();
        sizes.push(0.0);
        let last = sizes.len() - 1;
        let views = launch.operands.iter().chain(&launch.results);
        let (mut seconds, mut words) = (0.0, 0.0);
        for (view, distance) in views.zip(distances) {
            sizes[last] = *distance;
            let share = view.region.len as f64;
            seconds += share * curve.seconds(&sizes);
            words += share;
        }
        let seconds = if words > 0.0 { seconds / words } else { curve.seconds(&sizes) };
        let seconds = seconds * found.share;
        let seconds = seconds * mix::factor(&self.mixes, seconds * 1e12);
        Predicted { class: Some(found.class), seconds }
    }

    /// Seconds of work that is no launch, on so many elements that were touched that many bytes ago.
    pub fn host(&self, class: &str, elements: usize, distance: f64) -> f64 {
        let curve = self.curves.get(class).filter(|c| c.axes.len() == 2);
        curve.map_or(0.0, |c| c.seconds(&[elements.max(1) as f64, distance]))
    }

    /// Seconds of every launch of a plan.
    pub fn plan(&self, plan: &Plan, distances: &Distances) -> Vec<Predicted> {
        let launches = plan.launches.iter().zip(distances);
        launches.map(|(launch, distances)| self.launch(launch, distances)).collect()
    }
}
