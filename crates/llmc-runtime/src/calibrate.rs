//! Timing the engine's own kernels, for the predictions of `llmc-plan`.
//!
//! Every probe of the list is planned and its launch run by the executor, at every size, on copies of its
//! operands that take turns: with so many copies that all of them together are as large as the reuse distance
//! asked for, each is as far away as in a training. The whole list is gone through more than once, and of a point
//! the middle round counts, so that one disturbance leaves no trace. What is measured is an observation: it enters
//! no artifact and no hash.

use crate::exec::{Engine, RunError};
use crate::memory::Memory;
use llmc_ir::{DType, Op};
use llmc_plan::predict::{
    Axis, Calibration, Curve, HOST, MIXES, Mix, PROBES, Probe, mix_plan, reuse,
};
use llmc_plan::{AddressSpace, Kernel, Launch, Plan, PlanError, Region, View, WORD_BYTES};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the list is gone through.
const ROUNDS: usize = 3;

/// No round begins later than this.
const LATEST: Duration = Duration::from_secs(6);

/// Time spent on a point, if it is not slower than that by itself.
const POINT: Duration = Duration::from_micros(400);

/// A launch that takes longer is not warmed up.
const LONG: Duration = Duration::from_millis(4);

/// Launches that are shorter are timed several at once, so that looking at the clock does not count.
const SHORT: Duration = Duration::from_micros(20);

/// Timings per point, at most.
const TIMINGS: usize = 48;

/// Copies of the operands, at most.
const COPIES: usize = 256;

/// Timings of a mix.
const MIX_TIMINGS: usize = 15;

/// What a mix may come to, in thousandths; beyond that something disturbed it.
const PERMILLE: std::ops::RangeInclusive<u64> = 800..=1400;

/// What the operands hold: no arithmetic on it comes to numbers that are slow.
const CONTENT: f32 = 0.5;

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum CalibrateError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the probe `{0}` has no launch of its class")]
    Probe(&'static str),
}

/// Measures this machine with the engine's threads and instruction set, in a few seconds.
/// `progress` is told how many points of how many are done.
///
/// Errors: those of planning and running; for lack of memory, about 100 MiB.
pub fn calibrate(
    engine: &mut Engine,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Calibration, CalibrateError> {
    measure(engine, PROBES, ROUNDS, progress)
}

/// The same for some of the probes.
pub(crate) fn measure(
    engine: &mut Engine,
    probes: &[Probe],
    rounds: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Calibration, CalibrateError> {
    let points = |axes: &[Axis], distances: &[u64]| {
        axes.iter().map(|a| a.points.len()).product::<usize>() * distances.len()
    };
    let n_launches: usize = probes.iter().map(|p| points(p.axes, p.distances)).sum();
    let n_host: usize = HOST.iter().map(|h| points(&[h.axis], h.distances)).sum();
    let total = (n_launches + n_host) * rounds;
    let mut done = 0;
    let start = Instant::now();
    let mut bench = Bench { engine, memory: Memory::default() };
    // Per class: its curve, and the times of every round.
    let mut found: BTreeMap<&str, (Curve, Vec<Vec<u64>>)> = BTreeMap::new();
    for round in 0..rounds {
        if round > 0 && start.elapsed() > LATEST {
            progress(total, total);
            break;
        }
        let mut keep = |class: &'static str, axes: &[Axis], distances: &[u64], times: Vec<u64>| {
            done += times.len();
            progress(done, total);
            let slot = found.entry(class).or_insert_with(|| (empty(axes, distances), Vec::new()));
            slot.1.push(times);
        };
        for probe in probes {
            keep(probe.class, probe.axes, probe.distances, bench.probe(probe)?);
        }
        for host in &HOST {
            let times = bench.host(host.class, host.axis, host.distances)?;
            keep(host.class, &[host.axis], host.distances, times);
        }
    }
    let curves = found.into_iter().map(|(class, (mut curve, rounds))| {
        curve.picoseconds = middle(&rounds);
        (class.to_string(), curve.rising())
    });
    let mut calibration = Calibration { curves: curves.collect(), mixes: Vec::new() };
    // Some of the probes do not predict a mix.
    if probes.len() == PROBES.len() {
        let mixes = MIXES.map(|sizes| bench.mix(&calibration, sizes));
        calibration.mixes = mixes.into_iter().collect::<Result<_, _>>()?;
    }
    Ok(calibration)
}

/// The median of every point over the rounds; of two the lesser.
fn middle(rounds: &[Vec<u64>]) -> Vec<u64> {
    let points = rounds.first().map_or(0, Vec::len);
    let middle = |at: usize| {
        let mut times: Vec<u64> = rounds.iter().map(|times| times[at]).collect();
        times.sort_unstable();
        times[(times.len() - 1) / 2]
    };
    (0..points).map(middle).collect()
}

/// A curve without times.
fn empty(axes: &[Axis], distances: &[u64]) -> Curve {
    let distances = [distances.to_vec()];
    Curve {
        axes: axes.iter().map(|a| a.points.to_vec()).chain(distances).collect(),
        growth: axes.iter().map(|a| a.growth).chain([0]).collect(),
        picoseconds: Vec::new(),
    }
}

/// Every combination of sizes, the last axis fastest.
fn combinations(axes: &[Axis]) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::new()];
    for axis in axes {
        let with = |sizes: Vec<u64>| axis.points.iter().map(move |n| [&sizes[..], &[*n]].concat());
        all = all.into_iter().flat_map(with).collect();
    }
    all
}

struct Bench<'e> {
    engine: &'e mut Engine,
    memory: Memory,
}

impl Bench<'_> {
    /// Picoseconds of every point of a probe.
    fn probe(&mut self, probe: &Probe) -> Result<Vec<u64>, CalibrateError> {
        let module = probe.module();
        let mut found = Vec::new();
        for sizes in combinations(probe.axes) {
            let (plan, launch) = probe.plan(&module, &sizes)?;
            let launch = launch.ok_or(CalibrateError::Probe(probe.class))?;
            let words = plan.frame_start + plan.frame_words;
            let views = launch.operands.iter().chain(&launch.results);
            let bytes = (views.map(|v| v.region.len).sum::<usize>() * WORD_BYTES).max(1);
            let mut last: Option<(usize, u64)> = None;
            for distance in probe.distances {
                let copies = usize::try_from(*distance).unwrap_or(usize::MAX) / bytes;
                let copies = copies.clamp(1, COPIES);
                let time = match last {
                    Some((same, time)) if same == copies => time,
                    _ => self.launch(&launch, words, copies)?,
                };
                last = Some((copies, time));
                found.push(time);
            }
        }
        Ok(found)
    }

    /// Picoseconds of a launch whose operands lie in a block of so many words, of which there are copies.
    fn launch(
        &mut self,
        launch: &Launch,
        words: usize,
        copies: usize,
    ) -> Result<u64, CalibrateError> {
        self.reserve(words * copies)?;
        let at = |copy: usize| -> Plan {
            let shifted = |view: &View| {
                let Region { start, len } = view.region;
                View { region: Region { start: start + copy * words, len }, ..view.clone() }
            };
            let launch = Launch {
                operands: launch.operands.iter().map(shifted).collect(),
                results: launch.results.iter().map(shifted).collect(),
                ..launch.clone()
            };
            Plan { launches: vec![launch], frame_words: words * copies, ..Plan::default() }
        };
        let plans: Vec<Plan> = (0..copies).map(at).collect();
        // A product only grows: what another point left does not slow it down.
        let is_product = matches!(launch.kernel, Kernel::Gemm(_));
        for view in plans.iter().flat_map(|p| &p.launches).flat_map(|l| &l.operands) {
            match view.dtype {
                DType::F32 if is_product => {}
                DType::F32 => self.memory.f32s_mut(view).fill(CONTENT),
                _ => fill_integers(&launch.op, self.memory.u32s_mut(view)),
            }
        }
        let Bench { engine, memory } = self;
        let mut turn = plans.iter().cycle();
        let mut run = || match turn.next() {
            Some(plan) => engine.run(plan, memory),
            None => Ok(()),
        };
        let time = time(&mut run)?;
        for view in plans.iter().flat_map(|p| &p.launches).flat_map(|l| &l.operands) {
            if view.dtype != DType::F32 {
                self.memory.f32s_mut(view).fill(CONTENT);
            }
        }
        Ok(time)
    }

    /// How long the launches of a few layers take one after another, beside what they take alone.
    fn mix(&mut self, calibration: &Calibration, sizes: [usize; 4]) -> Result<Mix, CalibrateError> {
        let plan = mix_plan(sizes)?;
        let predicted = calibration.plan(&plan, &reuse(&[&plan])[0]);
        let predicted: f64 = predicted.iter().map(|p| p.seconds * 1e12).sum();
        let words = plan.frame_start + plan.frame_words;
        self.reserve(words)?;
        self.memory.words_mut()[..words].fill(CONTENT);
        let mut timings = Vec::new();
        for _ in 0..MIX_TIMINGS {
            for (_, view) in &plan.inputs {
                if view.dtype != DType::F32 {
                    self.memory.u32s_mut(view).fill(0);
                }
            }
            let start = Instant::now();
            self.engine.run(&plan, &mut self.memory)?;
            timings.push(start.elapsed().as_nanos() as f64 * 1000.0);
        }
        timings.sort_by(f64::total_cmp);
        let permille = timings[MIX_TIMINGS / 2] / predicted.max(1.0) * 1000.0;
        Ok(Mix {
            picoseconds: ((predicted / plan.launches.len().max(1) as f64) as u64).max(1),
            permille: (permille as u64).clamp(*PERMILLE.start(), *PERMILLE.end()),
        })
    }

    /// Picoseconds of every point of work that is no launch.
    fn host(
        &mut self,
        class: &str,
        axis: Axis,
        distances: &[u64],
    ) -> Result<Vec<u64>, CalibrateError> {
        let mut found = Vec::new();
        for n in axis.points {
            let words = usize::try_from(*n).unwrap_or(usize::MAX);
            for distance in distances {
                let copies =
                    usize::try_from(*distance).unwrap_or(usize::MAX) / (words * WORD_BYTES);
                let copies = copies.clamp(1, COPIES);
                self.reserve(words * copies)?;
                let Bench { engine, memory } = self;
                let mut copy = 0;
                let mut sum = 0.0;
                let mut run = || {
                    let range = copy * words..(copy + 1) * words;
                    copy = (copy + 1) % copies;
                    match class {
                        llmc_plan::predict::ZERO => memory.words_mut()[range].fill(0.0),
                        _ => sum += engine.sum_squares(&memory.words()[range]),
                    }
                    Ok(())
                };
                found.push(time(&mut run)?);
                std::hint::black_box(sum);
            }
        }
        Ok(found)
    }

    /// Makes the memory so large, all of it touched.
    fn reserve(&mut self, words: usize) -> Result<(), RunError> {
        let have = self.memory.len();
        if have < words {
            let plan = Plan { frame_words: words, ..Plan::default() };
            self.memory.reserve(&AddressSpace::default(), [&plan])?;
            self.memory.words_mut()[have..].fill(CONTENT);
        }
        Ok(())
    }
}

/// Ids spread over the rows of a table; everywhere else 0: the first token, position or document.
fn fill_integers(op: &Op, out: &mut [u32]) {
    match op {
        Op::Embedding(_) | Op::EmbeddingGrad(_) => {
            // Knuth's multiplicative hash; the tables of the probes have 4096 rows.
            let id = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 20;
            out.iter_mut().enumerate().for_each(|(i, x)| *x = id(i));
        }
        _ => out.fill(0),
    }
}

/// The median time of `run` in picoseconds, at least 1.
fn time(run: &mut dyn FnMut() -> Result<(), RunError>) -> Result<u64, RunError> {
    let start = Instant::now();
    run()?;
    let first = start.elapsed();
    let mut timings = Vec::new();
    if first >= LONG {
        timings.push(first.as_nanos() as f64);
    }
    let at_once = SHORT.as_nanos() / first.as_nanos().max(1);
    let at_once = at_once.clamp(1, 16) as usize;
    let mut spent = first;
    while timings.is_empty() || (spent < POINT && timings.len() < TIMINGS) {
        let start = Instant::now();
        for _ in 0..at_once {
            run()?;
        }
        let elapsed = start.elapsed();
        spent += elapsed;
        timings.push(elapsed.as_nanos() as f64 / at_once as f64);
    }
    timings.sort_by(f64::total_cmp);
    Ok(((timings[timings.len() / 2] * 1000.0) as u64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_runs_and_gives_a_whole_curve() {
        // The smallest point of every probe, and two sizes of each host work.
        let least = |axis: &Axis| Axis { points: &axis.points[..1], ..*axis };
        for probe in PROBES {
            let axes: Vec<Axis> = probe.axes.iter().map(least).collect();
            let mut small = *probe;
            (small.axes, small.distances) = (axes.leak(), &probe.distances[..1]);
            let mut engine = Engine::new(2, None).unwrap();
            let mut bench = Bench { engine: &mut engine, memory: Memory::default() };
            let found = bench.probe(&small).unwrap();
            assert_eq!(found.len(), 1, "{}", probe.class);
            assert!(found[0] > 0 && found[0] < 1_000_000_000_000, "{}: {found:?}", probe.class);
        }
    }

    #[test]
    fn a_calibration_has_what_was_asked_for_and_tells_how_far_it_is() {
        let relu: Vec<Probe> = PROBES.iter().filter(|p| p.class == "relu").copied().collect();
        let mut engine = Engine::new(1, None).unwrap();
        let mut told = Vec::new();
        let found = measure(&mut engine, &relu, 2, &mut |done, of| told.push((done, of))).unwrap();
        let classes: Vec<&str> = found.curves.keys().map(String::as_str).collect();
        assert_eq!(classes, ["relu", "sum_squares", "zero"]);
        assert!(found.curves.values().all(Curve::is_whole));
        assert_eq!(found.curves["relu"].axes.len(), 2);
        let (done, of) = *told.last().unwrap();
        assert!(done == of && told.windows(2).all(|w| w[0].0 < w[1].0), "{told:?}");
    }

    #[test]
    fn a_mix_runs_and_its_factor_is_bounded() {
        let mut engine = Engine::new(2, None).unwrap();
        let mut bench = Bench { engine: &mut engine, memory: Memory::default() };
        // Without a curve every launch is predicted to take nothing.
        let found = bench.mix(&Calibration::default(), MIXES[0]).unwrap();
        assert_eq!(found, Mix { picoseconds: 1, permille: *PERMILLE.end() });
    }

    #[test]
    fn the_middle_round_counts() {
        assert_eq!(middle(&[vec![9, 1], vec![2, 5], vec![3, 2]]), [3, 2]);
        assert_eq!(middle(&[vec![9, 1], vec![2, 5]]), [2, 1]);
        assert_eq!(middle(&[]), Vec::<u64>::new());
    }

    #[test]
    fn sizes_are_combined_in_the_order_of_a_curve() {
        let axis = |points| Axis { symbol: "N", points, growth: 1 };
        let all = combinations(&[axis(&[1, 2]), axis(&[5, 6, 7])]);
        assert_eq!(all, [[1, 5], [1, 6], [1, 7], [2, 5], [2, 6], [2, 7]]);
    }
}
