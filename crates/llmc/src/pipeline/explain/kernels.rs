//! The launches of some plans, equal ones of equal layers as one.

use llmc_base::Decision;
use llmc_plan::predict::{Calibration, Distances};
use llmc_plan::{Kernel, Launch, Plan, View};
use llmc_runtime::{Isa, kernel_path};
use serde::Serialize;

/// What is executed again and again: a step of training, or the decoding of a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// `training` or `decode`.
    pub name: &'static str,
    /// What is executed, in words.
    pub what: String,
    /// Launches.
    pub launches: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that launches read and write, without any reuse.
    pub bytes: u64,
    /// Predicted seconds of all launches; `None` without a calibration.
    pub seconds: Option<f64>,
    /// What shares are of: `time`, `FLOPs`, or `bytes` where reading weights is all there is to wait for.
    pub share_of: &'static str,
    /// Its launches in order, equal ones of equal layers as one.
    pub kernels: Vec<KernelGroup>,
}

/// Launches that differ in their layer only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelGroup {
    /// The function that they come from.
    pub function: String,
    /// The first and the last scope in which it is called, e.g. `layers.0` and `layers.7`.
    pub scopes: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// The ops whose work a launch does.
    pub ops: Vec<&'static str>,
    /// The kernel, e.g. `gemm 512x256x256`, or `rms_norm`.
    pub kernel: String,
    /// The way that the kernel takes.
    pub path: String,
    /// Operands and results of the first.
    pub shapes: String,
    /// Floating-point operations of all.
    pub flops: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Predicted seconds of all.
    pub seconds: Option<f64>,
    /// Share of the phase in [0, 1].
    pub share: f64,
    /// Why this kernel.
    pub why: String,
}

/// A plan of a phase.
pub(super) struct Part<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// How often it is executed.
    pub count: u64,
    /// The functions of its module.
    pub names: &'a [String],
    /// How long ago its operands were touched.
    pub distances: &'a Distances,
    /// What launches take.
    pub times: Option<&'a Calibration>,
}

/// What makes two launches one line.
#[derive(PartialEq)]
struct Key {
    function: String,
    node: usize,
    kernel: Kernel,
    shapes: String,
}

fn shapes(launch: &Launch) -> String {
    let list = |views: &[View]| {
        let each = views.iter().map(|v| format!("{}{:?}", v.dtype, v.shape));
        each.collect::<Vec<_>>().join(", ")
    };
    format!("{} -> {}", list(&launch.operands), list(&launch.results))
}

/// Gathers the launches of a phase. `fused` names the ops that the pass `fuse` made one.
pub(super) fn phase(
    name: &'static str,
    what: String,
    parts: &[Part],
    fused: &[Decision],
    threads: usize,
    isa: Isa,
) -> Phase {
    let is_timed = parts.iter().all(|part| part.times.is_some());
    let mut groups: Vec<(Key, KernelGroup)> = Vec::new();
    for part in parts {
        let seconds: Vec<f64> = match part.times {
            Some(times) => {
                times.plan(part.plan, part.distances).into_iter().map(|p| p.seconds).collect()
            }
            None => vec![0.0; part.plan.launches.len()],
        };
        for (launch, seconds) in part.plan.launches.iter().zip(seconds) {
            let (id, node, scope) = &launch.origin;
            let function = part.names.get(id.index()).cloned().unwrap_or_default();
            let key = Key { function, node: *node, kernel: launch.kernel, shapes: shapes(launch) };
            let at = groups.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                let group = group(launch, &key, fused, threads, isa);
                groups.push((key, group));
                groups.len() - 1
            });
            let group = &mut groups[at].1;
            group.count += part.count;
            group.flops += count(launch.work.flops) * part.count;
            group.bytes += count(launch.work.bytes) * part.count;
            if is_timed {
                let sum = group.seconds.get_or_insert(0.0);
                *sum += seconds * part.count as f64;
            }
            // The first and the last.
            if group.scopes.last() != Some(scope) {
                group.scopes.truncate(1);
                group.scopes.push(scope.clone());
            }
        }
    }
    let mut kernels: Vec<KernelGroup> = groups.into_iter().map(|(_, group)| group).collect();
    let sum = |of: &dyn Fn(&KernelGroup) -> f64| kernels.iter().map(of).sum::<f64>();
    let seconds = is_timed.then(|| sum(&|k| k.seconds.unwrap_or(0.0)));
    let (share_of, part): (_, fn(&KernelGroup) -> f64) = match (is_timed, name) {
        (true, _) => ("time", |k| k.seconds.unwrap_or(0.0)),
        (false, "decode") => ("bytes", |k| k.bytes as f64),
        _ => ("FLOPs", |k| k.flops as f64),
    };
    let all = sum(&part).max(f64::MIN_POSITIVE);
    kernels.iter_mut().for_each(|k| k.share = part(k) / all);
    Phase {
        name,
        what,
        launches: kernels.iter().map(|k| k.count).sum(),
        flops: kernels.iter().map(|k| k.flops).sum(),
        bytes: kernels.iter().map(|k| k.bytes).sum(),
        seconds,
        share_of,
        kernels,
    }
}

fn count(value: i128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The line of a launch, with nothing counted yet.
fn group(launch: &Launch, key: &Key, fused: &[Decision], threads: usize, isa: Isa) -> KernelGroup {
    // What the pass made one is told by the pass, and what the planner made one by the planner.
    let made = super::narrow::fused_into(launch, &key.function, fused);
    let (ops, why) = match made {
        Some(decision) => (decision.ops.clone(), decision.why.clone()),
        None => (launch.why.ops(&launch.op), launch.why.text().to_string()),
    };
    KernelGroup {
        function: key.function.clone(),
        scopes: Vec::new(),
        count: 0,
        ops,
        kernel: match launch.kernel {
            Kernel::Native => launch.op.name().to_string(),
            Kernel::Scale | Kernel::ScaledStep | Kernel::NormGrad => {
                format!("{} ({})", launch.op.name(), launch.kernel)
            }
            Kernel::Evaluate => format!("{} (evaluated)", launch.op.name()),
            Kernel::Copy | Kernel::Gemm(_) => launch.kernel.to_string(),
        },
        path: kernel_path(launch, isa, threads),
        shapes: key.shapes.clone(),
        flops: 0,
        bytes: 0,
        seconds: None,
        share: 0.0,
        why,
    }
}
