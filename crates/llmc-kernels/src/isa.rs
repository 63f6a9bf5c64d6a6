//! Instruction sets: which exist, which this machine has, and how a kernel that
//! is written once over [`Simd`] comes to run on one of them.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::float_env::DefaultFloats;
use crate::simd::Simd;
use crate::simd::bytes::ByteDot;
use crate::simd::scalar::Scalar;

/// An instruction set that kernels are compiled for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, everywhere; FMA in f64 arithmetic.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C, 256-bit.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// arm64, 128-bit; every arm64 machine has it.
    Neon,
}

impl Isa {
    /// All of them, available here or not.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The instruction sets of this machine, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        Self::available().last().unwrap_or(Isa::Scalar)
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        features() & (1 << self as u8) != 0
    }

    /// Its name in lower case: `scalar`, `avx2`, `avx512`, `neon`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

/// One bit per available [`Isa`], found once.
fn features() -> u8 {
    static FOUND: AtomicU8 = AtomicU8::new(0);
    let found = FOUND.load(Ordering::Relaxed);
    if found != 0 {
        return found;
    }
    let found = 1 << Isa::Scalar as u8 | machine_features();
    FOUND.store(found, Ordering::Relaxed);
    found
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn machine_features() -> u8 {
    1 << Isa::Neon as u8
}

// Miri checks the scalar kernels.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn machine_features() -> u8 {
    0
}

/// Source: Intel SDM volume 2A, CPUID; volume 1, 14.3 and 15.2 (the operating
/// system must save the registers, XCR0).
#[cfg(all(target_arch = "x86_64", not(miri)))]
// `__cpuid` is a safe function in newer compilers than the oldest supported.
#[allow(unused_unsafe)]
fn machine_features() -> u8 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    unsafe fn saved_registers() -> u64 {
        // SAFETY: the caller checked OSXSAVE.
        unsafe { _xgetbv(0) }
    }

    let has = |word: u32, bits: &[u32]| bits.iter().all(|bit| word & (1 << bit) != 0);
    // SAFETY: every x86-64 processor has CPUID.
    let (leaves, basic) = unsafe { (__cpuid(0).eax, __cpuid(1)) };
    // FMA, OSXSAVE, AVX, F16C.
    if leaves < 7 || !has(basic.ecx, &[12, 27, 28, 29]) {
        return 0;
    }
    // SAFETY: leaf 7 exists; OSXSAVE is set.
    let (extended, saved) = unsafe { (__cpuid_count(7, 0), saved_registers()) };
    let mut found = 0;
    // XMM and YMM; BMI1, AVX2, BMI2.
    if saved & 0x06 == 0x06 && has(extended.ebx, &[3, 5, 8]) {
        found |= 1 << Isa::Avx2 as u8;
        // Opmask, ZMM; AVX-512 F, DQ, BW, VL.
        if saved & 0xe6 == 0xe6 && has(extended.ebx, &[16, 17, 30, 31]) {
            found |= 1 << Isa::Avx512 as u8;
            if has(extended.ecx, &[11]) {
                found |= VNNI;
            }
        }
    }
    found
}

/// The bit of [`features`] for VNNI, which byte products on AVX-512 take.
#[cfg(target_arch = "x86_64")]
const VNNI: u8 = 1 << 7;

/// A computation written once for every instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Runs on the vectors `V`. Must be `#[inline(always)]`, like all that it
    /// calls with a `V`, so that the body is compiled with the instruction set of
    /// [`dispatch`]'s wrapper.
    fn run<V: Simd>(self) -> Self::Output;
}

/// Runs the kernel on an instruction set of this machine, with the default
/// floating-point environment.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    let _default = DefaultFloats::enter();
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Ctx` only holds an available instruction set.
        Isa::Avx512 => unsafe { crate::simd::avx512::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { crate::simd::avx2::run(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon => unsafe { crate::simd::neon::run(kernel) },
        _ => kernel.run::<Scalar>(),
    }
}

/// A [`Kernel`] that takes products of bytes too.
pub(crate) trait ByteKernel {
    /// What it returns.
    type Output;

    /// As [`Kernel::run`].
    fn run<V: ByteDot>(self) -> Self::Output;
}

/// [`dispatch`] for products of bytes; AVX-512 without VNNI takes the way of AVX2.
pub(crate) fn dispatch_bytes<K: ByteKernel>(isa: Isa, kernel: K) -> K::Output {
    let _default = DefaultFloats::enter();
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Ctx` only holds an available instruction set; VNNI was found too.
        Isa::Avx512 if features() & VNNI != 0 => unsafe {
            crate::simd::avx512::bytes::run_bytes(kernel)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; a machine with AVX-512 has AVX2, by the order of detection.
        Isa::Avx512 | Isa::Avx2 => unsafe { crate::simd::avx2::bytes::run_bytes(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon => unsafe { crate::simd::neon::bytes::run_bytes(kernel) },
        _ => kernel.run::<Scalar>(),
    }
}
