//! What every kernel's tests share: a pool, all instruction sets, inputs, and
//! the comparison of bits.

use std::vec::Vec;

use crate::{Ctx, Isa, Parallel};

/// A pool that starts its threads anew for each run.
pub(crate) struct TestPool(pub usize);

// SAFETY: thread t runs the indices t, t + n, t + 2n, … and no others.
unsafe impl Parallel for TestPool {
    fn threads(&self) -> usize {
        self.0
    }
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for thread in 0..self.0 {
                scope.spawn(move || (thread..tasks).step_by(self.0).for_each(task));
            }
        });
    }
}

/// The numbers of threads of [`everywhere`]; Miri has no time for more than one.
const THREADS: &[usize] = if cfg!(miri) { &[2] } else { &[1, 2, 3, 8] };

/// Runs a check on every instruction set of this machine with 1, 2, 3 and 8
/// threads.
pub(crate) fn everywhere(check: impl Fn(&Ctx<'_>)) {
    for isa in Isa::available() {
        for &threads in THREADS {
            let pool = TestPool(threads);
            check(&Ctx::new(isa, &pool).unwrap());
        }
    }
}

/// A reproducible stream of test values.
pub(crate) struct Values(u64);

impl Values {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn word(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
    /// Uniform in [−1, 1) with full mantissas.
    pub fn unit(&mut self) -> f32 {
        (f64::from(self.word()) / 2_147_483_648.0 - 1.0) as f32
    }
    /// `len` values in [−1, 1).
    pub fn units(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit()).collect()
    }
    /// `len` values of all magnitudes: zeros of both signs, denormals, large.
    pub fn wild(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| match self.word() % 8 {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(self.word() % 0x0100_0000),
                3 => -f32::from_bits(self.word() % 0x0100_0000),
                4 => self.unit() * 1e4,
                _ => self.unit(),
            })
            .collect()
    }
    /// `len` integers in `0..bound`.
    pub fn ids(&mut self, len: usize, bound: usize) -> Vec<i32> {
        (0..len).map(|_| (self.word() as usize % bound) as i32).collect()
    }
}

/// Widths around every boundary of the vector code.
pub(crate) const WIDTHS: [usize; 12] = [1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 100, 257];

/// Fails at the first element whose bits differ; all NaN are one value.
#[track_caller]
pub(crate) fn assert_bits(what: &str, ctx: &Ctx<'_>, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(
            same,
            "{what} on {} with {} threads: element {i} is {got:e}, expected {want:e}",
            ctx.isa().name(),
            ctx.threads(),
        );
    }
}
