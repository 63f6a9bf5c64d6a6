//! Where kernels run: instruction set, threads, scratch.

use crate::pool::Pool;
use crate::status::{Status, guard};
use llmc_kernels::{Ctx, Isa};
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, PoisonError};

/// An instruction set, threads and scratch. Opaque in C. Calls from several threads take turns where they need scratch.
pub struct Context {
    isa: Isa,
    pool: Pool,
    scratch: Mutex<Vec<f32>>,
}

impl Context {
    /// Runs a kernel.
    pub(crate) fn run(
        &self,
        kernel: impl FnOnce(&Ctx<'_>) -> Result<(), llmc_kernels::Error>,
    ) -> Result<(), Status> {
        let ctx = Ctx::new(self.isa, &self.pool)?;
        Ok(kernel(&ctx)?)
    }

    /// Runs a kernel with the scratch that it asks for.
    pub(crate) fn run_with(
        &self,
        len: impl FnOnce(usize) -> usize,
        kernel: impl FnOnce(&Ctx<'_>, &mut [f32]) -> Result<(), llmc_kernels::Error>,
    ) -> Result<(), Status> {
        let ctx = Ctx::new(self.isa, &self.pool)?;
        let len = len(ctx.threads());
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.len() < len {
            let more = len - scratch.len();
            scratch.try_reserve_exact(more).map_err(|_| Status::Memory)?;
            scratch.resize(len, 0.0);
        }
        Ok(kernel(&ctx, &mut scratch)?)
    }
}

/// A context with so many threads (0: one per core) on an instruction set by name (`scalar`, `avx2`, `avx512`, `neon`; null:
/// the best), to be freed with [`llmc_context_free`].
///
/// # Safety
/// `isa` is null or text that ends with 0; `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_context_new(
    threads: usize,
    isa: *const c_char,
    out: *mut *mut Context,
) -> i32 {
    guard(|| {
        if out.is_null() || !out.is_aligned() {
            return Err(Status::Pointer);
        }
        let isa = match isa.is_null() {
            true => Isa::detect(),
            false => {
                // SAFETY: the caller's.
                let name = unsafe { CStr::from_ptr(isa) }.to_str().map_err(|_| Status::Isa)?;
                Isa::available().find(|isa| isa.name() == name).ok_or(Status::Isa)?
            }
        };
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let context = Context { isa, pool: Pool::new(threads), scratch: Mutex::default() };
        // SAFETY: not null, aligned, the caller's to be written.
        unsafe { out.write(Box::into_raw(Box::new(context))) };
        Ok(())
    })
}

/// Ends the threads of a context and frees it; null does nothing.
///
/// # Safety
/// `context` is null or from [`llmc_context_new`], not freed before, and in use by nobody.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_context_free(context: *mut Context) {
    guard(|| {
        if !context.is_null() {
            // SAFETY: the caller's: it came out of a box and comes back once.
            drop(unsafe { Box::from_raw(context) });
        }
        Ok(())
    });
}

/// The threads of a context; 0 for null.
///
/// # Safety
/// `context` is null or from [`llmc_context_new`] and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_context_threads(context: *const Context) -> usize {
    // SAFETY: the caller's.
    let context = unsafe { context.as_ref() };
    context.map_or(0, |context| llmc_kernels::Parallel::threads(&context.pool))
}

/// The context behind a pointer.
///
/// # Safety
/// As for [`llmc_context_threads`], for as long as it is used.
pub(crate) unsafe fn context<'a>(pointer: *const Context) -> Result<&'a Context, Status> {
    // SAFETY: the caller's.
    unsafe { pointer.as_ref() }.ok_or(Status::Pointer)
}
