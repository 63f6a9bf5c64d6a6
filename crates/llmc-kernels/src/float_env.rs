//! The floating-point environment that the numbers are defined in: round to
//! nearest even, denormals kept, nothing traps.
//!
//! A host program may have set flush-to-zero on its threads (a C library built
//! with `-ffast-math` does so when it is loaded). Every kernel task sets the
//! default and restores what it found.

/// Restores the caller's environment when dropped.
pub(crate) struct DefaultFloats {
    found: Option<Control>,
}

impl DefaultFloats {
    /// Sets the default environment.
    #[inline]
    pub fn enter() -> Self {
        let found = read();
        if found & CONTROL_MASK == DEFAULT {
            return Self { found: None };
        }
        write(found & !CONTROL_MASK | DEFAULT);
        Self { found: Some(found) }
    }
}

impl Drop for DefaultFloats {
    #[inline]
    fn drop(&mut self) {
        if let Some(found) = self.found {
            write(found);
        }
    }
}

/// Where the machine has the control bits for it, FMAs flush subnormal operands and results as
/// [`fma_flushed`](llmc_base::math::fma_flushed) does, until this is dropped. Elsewhere nothing changes, and kernels call that function.
pub(crate) struct FlushedFloats {
    found: Control,
}

impl FlushedFloats {
    /// Sets the control bits.
    #[inline]
    pub fn enter() -> Self {
        let found = read();
        write(found | FLUSH);
        Self { found }
    }
}

impl Drop for FlushedFloats {
    #[inline]
    fn drop(&mut self) {
        write(self.found);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod machine {
    //! MXCSR; Intel SDM volume 1, 10.2.3.

    pub type Control = u32;
    /// Everything but the six sticky flags: DAZ, masks, rounding, FTZ.
    pub const CONTROL_MASK: Control = 0xffc0;
    /// All exceptions masked, nearest even, no DAZ, no FTZ.
    pub const DEFAULT: Control = 0x1f80;
    /// DAZ, and FTZ, which looks at the result after rounding.
    pub const FLUSH: Control = 0x8040;

    #[inline]
    pub fn read() -> Control {
        let mut control = 0u32;
        // SAFETY: stores MXCSR to a live 32-bit place.
        unsafe {
            core::arch::asm!(
                "stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)
            );
        }
        control
    }

    #[inline]
    pub fn write(control: Control) {
        // SAFETY: the value is a former MXCSR with valid control bits; the
        // compiler assumes the default, which this moves towards or the caller had.
        unsafe {
            core::arch::asm!(
                "ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags)
            );
        }
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod machine {
    //! FPCR; Arm Architecture Reference Manual, C5.2.

    pub type Control = u64;
    /// AHP, DN, FZ, RMode, trap enables, FZ16, AH, FIZ.
    pub const CONTROL_MASK: Control = 0x07c8_9f03;
    /// Nearest even, denormals kept, no traps, NaN propagated.
    pub const DEFAULT: Control = 0;
    /// FZ looks at the result before rounding: no use here.
    pub const FLUSH: Control = 0;

    #[inline]
    pub fn read() -> Control {
        let control: u64;
        // SAFETY: reads a register.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags));
        }
        control
    }

    #[inline]
    pub fn write(control: Control) {
        // SAFETY: the value is a former FPCR with control bits cleared or as found.
        unsafe {
            core::arch::asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags));
        }
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod machine {
    //! Targets without a control word that this crate knows.

    pub type Control = u32;
    pub const CONTROL_MASK: Control = 0;
    pub const DEFAULT: Control = 0;
    pub const FLUSH: Control = 0;

    pub fn read() -> Control {
        0
    }
    pub fn write(_control: Control) {}
}

use machine::{CONTROL_MASK, Control, DEFAULT, FLUSH, read, write};
