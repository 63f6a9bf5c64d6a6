//! What a calibration measures: per class a small function with symbolic dims, and the sizes to run it at.
//!
//! A probe is planned like every other function, so that the very launches of training are measured. Each one
//! has one launch of its class; [`super::class_of`] of that launch gives back the sizes.

use crate::plan::{Launch, Plan, PlanError, plan};
use crate::predict::class_of;
use crate::space::AddressSpace;
use llmc_base::Symbol;
use llmc_base::expr::Env;
use llmc_ir::Module;

/// One size of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The symbol that it binds.
    pub symbol: &'static str,
    /// Where it is measured, rising.
    pub points: &'static [u64],
    /// With which power of it time grows beyond the last point.
    pub growth: u32,
}

/// A launch to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its class.
    pub class: &'static str,
    /// Its sizes.
    pub axes: &'static [Axis],
    /// Reuse distances in bytes at which it is measured.
    pub distances: &'static [u64],
    /// Parameters and results of the function.
    signature: &'static str,
    /// Its nodes.
    body: &'static str,
}

const fn axis(symbol: &'static str, points: &'static [u64]) -> Axis {
    Axis { symbol, points, growth: 1 }
}

/// In the nearest cache, in a shared one, in memory.
const FAR: &[u64] = &[64 << 10, 4 << 20, 64 << 20];
/// In the nearest cache and in memory.
const TWO: &[u64] = &[256 << 10, 64 << 20];
/// Where the distance hardly matters.
const ONE: &[u64] = &[4 << 20];

const ELEMENTS: &[Axis] = &[axis("N", &[64, 2048, 16 << 10, 64 << 10, 256 << 10, 2 << 20])];
const ROWS: &[Axis] = &[axis("R", &[16, 128, 1024, 4096]), axis("W", &[16, 64, 256, 1024])];
const PRODUCT: &[Axis] = &[
    axis("M", &[16, 64, 192, 512, 1408]),
    axis("N", &[16, 64, 192, 512, 1408]),
    axis("K", &[16, 64, 192, 512, 1408]),
];
const HEAD: &[Axis] = &[
    axis("R", &[32, 128, 512]),
    axis("V", &[64, 256, 1024, 4096]),
    axis("W", &[32, 64, 128, 256, 512]),
];
const HEADS: &[Axis] = &[
    axis("H", &[2, 8, 32]),
    Axis { symbol: "T", points: &[16, 64, 128, 256, 512], growth: 2 },
    axis("D", &[16, 32, 64, 128]),
];

const fn elementwise(class: &'static str, signature: &'static str, body: &'static str) -> Probe {
    Probe { class, axes: ELEMENTS, distances: FAR, signature, body }
}

const fn rowwise(class: &'static str, signature: &'static str, body: &'static str) -> Probe {
    Probe { class, axes: ROWS, distances: TWO, signature, body }
}

const X: &str = "%x: f32[N]) -> (y: f32[N]";
const XY: &str = "%x: f32[N], %dy: f32[N]) -> (y: f32[N]";

/// All probes, one per class.
pub const PROBES: &[Probe] = &[
    Probe {
        class: "gemm_nt",
        axes: PRODUCT,
        distances: TWO,
        signature: "%x: f32[M, K], %w: f32[N, K]) -> (y: f32[M, N]",
        body: "%y = linear(%x, %w) : f32[M, N] return %y",
    },
    Probe {
        class: "gemm_nt_bias",
        axes: PRODUCT,
        distances: TWO,
        signature: "%x: f32[M, K], %w: f32[N, K], %b: f32[N]) -> (y: f32[M, N]",
        body: "%y = linear(%x, %w, %b) : f32[M, N] return %y",
    },
    Probe {
        class: "gemm_nn",
        axes: PRODUCT,
        distances: TWO,
        signature: "%dy: f32[M, K], %w: f32[K, N]) -> (y: f32[M, N]",
        body: "%y = dot(%dy, %w) {lhs_contract = [1], rhs_contract = [0], acc = f32} : f32[M, N] return %y",
    },
    Probe {
        class: "gemm_tn",
        axes: PRODUCT,
        distances: TWO,
        signature: "%dy: f32[K, M], %x: f32[K, N], state %g \"g\": f32[M, N]) -> (state \"g\": f32[M, N]",
        body: "%y = linear_weight_grad(%dy, %x, %g) : f32[M, N] return %y",
    },
    Probe {
        class: "linear_cross_entropy",
        axes: HEAD,
        distances: ONE,
        signature: "%x: f32[R, W], %w: f32[V, W], %t: i32[R], %m: f32[R]) -> (y: f32[R]",
        body: "%y = linear_cross_entropy(%x, %w, %t, %m) : f32[R] return %y",
    },
    Probe {
        class: "linear_cross_entropy_grad",
        axes: HEAD,
        distances: ONE,
        signature: "%x: f32[R, W], %w: f32[V, W], %t: i32[R], %m: f32[R], %d: f32[R], state %g \"g\": f32[V, W])
            -> (state \"g\": f32[V, W], y: f32[R], dx: f32[R, W]",
        body: "%y, %dx, %dw = linear_cross_entropy_grad(%x, %w, %t, %m, %d, %g) : f32[R], f32[R, W], f32[V, W]
            return %dw, %y, %dx",
    },
    Probe {
        class: "attention",
        axes: HEADS,
        distances: ONE,
        signature: "%q: f32[1, T, H, D], %k: f32[1, T, H, D], %v: f32[1, T, H, D], %s: i32[1, T])
            -> (y: f32[1, T, H, D]",
        body: "%y = attention(%q, %k, %v, %s, %s) {causal = true} : f32[1, T, H, D] return %y",
    },
    Probe {
        class: "attention_backward",
        axes: HEADS,
        distances: ONE,
        signature: "%q: f32[1, T, H, D], %k: f32[1, T, H, D], %v: f32[1, T, H, D], %d: f32[1, T, H, D],
            %s: i32[1, T]) -> (dq: f32[1, T, H, D], dk: f32[1, T, H, D], dv: f32[1, T, H, D]",
        body: "%dq, %dk, %dv = attention_backward(%q, %k, %v, %d, %s, %s) {causal = true}
            : f32[1, T, H, D], f32[1, T, H, D], f32[1, T, H, D] return %dq, %dk, %dv",
    },
    Probe {
        class: "attention_dropout",
        axes: HEADS,
        distances: ONE,
        signature: "%q: f32[1, T, H, D], %k: f32[1, T, H, D], %v: f32[1, T, H, D], %s: i32[1, T],
            %key: u32[2], %step: u32[], %sample: u32[1])
            -> (y: f32[1, T, H, D]",
        body: "%y = attention(%q, %k, %v, %s, %s, %key, %step, %sample) {causal = true, dropout = 0.1, stream = 1} : f32[1, T, H, D] return %y",
    },
    Probe {
        class: "attention_backward_dropout",
        axes: HEADS,
        distances: ONE,
        signature: "%q: f32[1, T, H, D], %k: f32[1, T, H, D], %v: f32[1, T, H, D], %d: f32[1, T, H, D],
            %s: i32[1, T], %key: u32[2], %step: u32[], %sample: u32[1]) -> (dq: f32[1, T, H, D], dk: f32[1, T, H, D], dv: f32[1, T, H, D]",
        body: "%dq, %dk, %dv = attention_backward(%q, %k, %v, %d, %s, %s, %key, %step, %sample) {causal = true, dropout = 0.1, stream = 1}
            : f32[1, T, H, D], f32[1, T, H, D], f32[1, T, H, D] return %dq, %dk, %dv",
    },
    rowwise(
        "embedding",
        "%w: f32[4096, W], %ids: i32[R]) -> (y: f32[R, W]",
        "%y = embedding(%w, %ids) : f32[R, W] return %y",
    ),
    rowwise(
        "embedding_grad",
        "%ids: i32[R], %dy: f32[R, W], state %g \"g\": f32[4096, W]) -> (state \"g\": f32[4096, W]",
        "%y = embedding_grad(%ids, %dy, %g) {rows = <4096>} : f32[4096, W] return %y",
    ),
    rowwise(
        "rms_norm",
        "%x: f32[R, W], %w: f32[W]) -> (y: f32[R, W]",
        "%y = rms_norm(%x, %w) {eps = 1e-5} : f32[R, W] return %y",
    ),
    rowwise(
        "rms_norm_backward",
        "%x: f32[R, W], %w: f32[W], %dy: f32[R, W], state %g \"g\": f32[W])
            -> (state \"g\": f32[W], dx: f32[R, W]",
        "%dx, %rows = rms_norm_backward(%x, %w, %dy) {eps = 1e-5} : f32[R, W], f32[R, W]
            %y = bias_grad(%rows, %g) : f32[W] return %y, %dx",
    ),
    rowwise(
        "layer_norm",
        "%x: f32[R, W], %w: f32[W]) -> (y: f32[R, W]",
        "%y = layer_norm(%x, %w) {eps = 1e-5} : f32[R, W] return %y",
    ),
    rowwise(
        "layer_norm_backward",
        "%x: f32[R, W], %w: f32[W], %dy: f32[R, W], state %g \"g\": f32[W])
            -> (state \"g\": f32[W], dx: f32[R, W]",
        "%dx, %rows = layer_norm_backward(%x, %w, %dy) {eps = 1e-5} : f32[R, W], f32[R, W]
            %y = bias_grad(%rows, %g) : f32[W] return %y, %dx",
    ),
    rowwise("softmax", "%x: f32[R, W]) -> (y: f32[R, W]", "%y = softmax(%x) : f32[R, W] return %y"),
    rowwise(
        "cross_entropy",
        "%x: f32[R, W], %t: i32[R], %m: f32[R]) -> (y: f32[R]",
        "%y = cross_entropy(%x, %t, %m) : f32[R] return %y",
    ),
    rowwise(
        "cross_entropy_backward",
        "%x: f32[R, W], %t: i32[R], %d: f32[R]) -> (y: f32[R, W]",
        "%y = cross_entropy_backward(%x, %t, %d) : f32[R, W] return %y",
    ),
    rowwise(
        "bias_grad",
        "%dy: f32[R, W], state %g \"g\": f32[W]) -> (state \"g\": f32[W]",
        "%y = bias_grad(%dy, %g) : f32[W] return %y",
    ),
    rowwise(
        "rope",
        "%x: f32[1, R, 1, W], %p: i32[1, R]) -> (y: f32[1, R, 1, W]",
        "%y = rope(%x, %p) {theta = 10000.0} : f32[1, R, 1, W] return %y",
    ),
    elementwise("relu", X, "%y = relu(%x) : f32[N] return %y"),
    elementwise("relu_backward", XY, "%y = relu_backward(%x, %dy) : f32[N] return %y"),
    elementwise("gelu", X, "%y = gelu(%x) : f32[N] return %y"),
    elementwise("gelu_backward", XY, "%y = gelu_backward(%x, %dy) : f32[N] return %y"),
    elementwise("gelu_tanh", X, "%y = gelu_tanh(%x) : f32[N] return %y"),
    elementwise("gelu_tanh_backward", XY, "%y = gelu_tanh_backward(%x, %dy) : f32[N] return %y"),
    elementwise("silu", X, "%y = silu(%x) : f32[N] return %y"),
    elementwise("silu_backward", XY, "%y = silu_backward(%x, %dy) : f32[N] return %y"),
    elementwise("swiglu", XY, "%y = swiglu(%x, %dy) : f32[N] return %y"),
    elementwise(
        "swiglu_backward",
        "%x: f32[N], %u: f32[N], %dy: f32[N]) -> (y: f32[N], z: f32[N]",
        "%y, %z = swiglu_backward(%x, %u, %dy) : f32[N], f32[N] return %y, %z",
    ),
    elementwise(
        "dropout",
        "%x: f32[1, N], %key: u32[2], %step: u32[], %sample: u32[1]) -> (y: f32[1, N]",
        "%y = dropout(%x, %key, %step, %sample) {rate = 0.1, stream = 1} : f32[1, N] return %y",
    ),
    elementwise("add", XY, "%y = add(%x, %dy) : f32[N] return %y"),
    elementwise(
        "scale",
        "%x: f32[N], %s: f32[]) -> (y: f32[N]",
        "%all = broadcast(%s) {dims = <N>} : f32[N] %y = mul(%x, %all) : f32[N] return %y",
    ),
    elementwise(
        "fill",
        "%s: f32[]) -> (y: f32[N]",
        "%y = broadcast(%s) {dims = <N>} : f32[N] return %y",
    ),
    elementwise("copy", X, "return %x"),
    elementwise(
        "sum_chain",
        "%x: f32[N], state %g \"g\": f32[]) -> (state \"g\": f32[]",
        "%y = reduce_sum(%x, %g) {axes = [0], order = chain, acc = f32} : f32[] return %y",
    ),
    elementwise(
        "adamw_step",
        "%g: f32[N], state %p \"p\": f32[N], state %m \"m\": f32[N], state %v \"v\": f32[N], %lr: f32[],
            %one: f32[], %two: f32[], %wd: f32[], %s: f32[])
            -> (state \"p\": f32[N], state \"m\": f32[N], state \"v\": f32[N]",
        "%all = broadcast(%s) {dims = <N>} : f32[N] %scaled = mul(%g, %all) : f32[N]
            %p2, %m2, %v2 = adamw_step(%p, %scaled, %m, %v, %lr, %one, %two, %wd)
            {beta1 = 0.9, beta2 = 0.95, eps = 1e-8} : f32[N], f32[N], f32[N] return %p2, %m2, %v2",
    ),
    elementwise(
        "sgd_step",
        "%g: f32[N], state %p \"p\": f32[N], state %m \"m\": f32[N], %lr: f32[], %wd: f32[], %s: f32[])
            -> (state \"p\": f32[N], state \"m\": f32[N]",
        "%all = broadcast(%s) {dims = <N>} : f32[N] %scaled = mul(%g, %all) : f32[N]
            %p2, %m2 = sgd_step(%p, %scaled, %m, %lr, %wd) {momentum = 0.9} : f32[N], f32[N]
            return %p2, %m2",
    ),
    elementwise(
        "lion_step",
        "%g: f32[N], state %p \"p\": f32[N], state %m \"m\": f32[N], %lr: f32[], %wd: f32[], %s: f32[])
            -> (state \"p\": f32[N], state \"m\": f32[N]",
        "%all = broadcast(%s) {dims = <N>} : f32[N] %scaled = mul(%g, %all) : f32[N]
            %p2, %m2 = lion_step(%p, %scaled, %m, %lr, %wd) {beta1 = 0.9, beta2 = 0.99} : f32[N], f32[N]
            return %p2, %m2",
    ),
    Probe {
        class: "evaluate",
        axes: &[axis("N", &[3, 384, 24 << 10])],
        distances: ONE,
        // A third of the words that the launch reads and writes.
        signature: "%x: f32[N], %dy: f32[N]) -> (y: f32[N]",
        body: "%y = max(%x, %dy) : f32[N] return %y",
    },
];

/// Work of a training step that is no launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its class.
    pub class: &'static str,
    /// Elements.
    pub axis: Axis,
    /// Reuse distances in bytes at which it is measured.
    pub distances: &'static [u64],
}

/// Setting gradients to zero.
pub const ZERO: &str = "zero";

/// The gradient norm.
pub const SUM_SQUARES: &str = "sum_squares";

/// All of it.
pub const HOST: [Host; 2] = [
    Host { class: ZERO, axis: ELEMENTS[0], distances: FAR },
    Host { class: SUM_SQUARES, axis: ELEMENTS[0], distances: FAR },
];

impl Probe {
    /// Its module, with symbolic dims.
    ///
    /// # Panics
    /// Never: a test parses every probe.
    pub fn module(&self) -> Module {
        let symbols: String =
            self.axes.iter().map(|axis| format!("symbol {} >= 1\n", axis.symbol)).collect();
        let (signature, body) = (self.signature, self.body);
        let text = format!("module @probe {{\n{symbols}fn @main({signature}) {{\n{body}\n}}\n}}");
        let parsed = llmc_ir::text::parse(&text);
        parsed.expect("a probe is IR text that parses, which a test holds")
    }

    /// Its plan at these sizes, of which only the launch of its class is to be measured, and where
    /// that is.
    ///
    /// Errors: those of planning; none, as a test holds, for the sizes of its axes.
    pub fn plan(
        &self,
        module: &Module,
        sizes: &[u64],
    ) -> Result<(Plan, Option<Launch>), PlanError> {
        let symbols = self.axes.iter().zip(sizes);
        let env: Env = symbols.map(|(a, n)| (Symbol::new(a.symbol), i128::from(*n))).collect();
        let entry = module.find("main").expect("a probe has one function, `@main`");
        let plan = plan(module, entry, &env, &mut AddressSpace::default())?;
        let is_it = |l: &&Launch| class_of(l).is_some_and(|found| found.class == self.class);
        let launch = plan.launches.iter().find(is_it).cloned();
        Ok((plan, launch))
    }
}
