//! What a function answers, and how slices come out of pointers.

use llmc_kernels::Error;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function answers, as an `int32_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// It is done.
    Ok = 0,
    /// A pointer is null or not aligned.
    Pointer = 1,
    /// A size has no meaning, or sizes do not fit together.
    Dimension = 2,
    /// An id or an enumeration is outside of its range.
    Index = 3,
    /// There is not enough memory for scratch.
    Memory = 4,
    /// This machine does not have the instruction set, or there is none of that name.
    Isa = 5,
    /// A fault of the library; results are not to be used.
    Internal = 6,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Length { .. } | Error::Dimension { .. } => Status::Dimension,
            Error::Index { .. } => Status::Index,
            Error::Isa => Status::Isa,
            // Scratch is this crate's own affair, and the enumeration may grow.
            _ => Status::Internal,
        }
    }
}

/// What a status means, as text that lives for ever; any number has one.
#[unsafe(no_mangle)]
pub extern "C" fn llmc_status_message(status: i32) -> *const c_char {
    let text = match status {
        0 => c"done",
        1 => c"a pointer is null or not aligned",
        2 => c"a size has no meaning, or sizes do not fit together",
        3 => c"an id or an enumeration is outside of its range",
        4 => c"there is not enough memory for scratch",
        5 => c"this machine does not have the instruction set, or there is none of that name",
        6 => c"a fault of the library; its results are not to be used",
        _ => c"not a status",
    };
    text.as_ptr()
}

/// Runs what a function does; its status, also if it panics.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Status>) -> i32 {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => Status::Ok as i32,
        Ok(Err(status)) => status as i32,
        Err(_) => Status::Internal as i32,
    }
}

/// The product of sizes.
pub(crate) fn product(sizes: &[usize]) -> Result<usize, Status> {
    sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size)).ok_or(Status::Dimension)
}

fn fits<T>(from: *const T, len: usize) -> Result<(), Status> {
    let is_short =
        len.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok());
    match () {
        () if !is_short => Err(Status::Dimension),
        () if from.is_null() || !from.is_aligned() => Err(Status::Pointer),
        () => Ok(()),
    }
}

/// `len` elements; none need no pointer.
///
/// # Safety
/// They are readable for as long as the slice is used, and nobody writes them.
pub(crate) unsafe fn slice<'a, T>(from: *const T, len: usize) -> Result<&'a [T], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    fits(from, len)?;
    // SAFETY: not null, aligned, short enough; the rest is the caller's.
    Ok(unsafe { std::slice::from_raw_parts(from, len) })
}

/// As [`slice`], or nothing for a null pointer.
///
/// # Safety
/// As for [`slice`].
pub(crate) unsafe fn optional<'a, T>(
    from: *const T,
    len: usize,
) -> Result<Option<&'a [T]>, Status> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's.
    unsafe { slice(from, len) }.map(Some)
}

/// `len` elements to write; none need no pointer.
///
/// # Safety
/// They are readable and writable for as long as the slice is used, and nobody else touches them.
pub(crate) unsafe fn slice_mut<'a, T>(from: *mut T, len: usize) -> Result<&'a mut [T], Status> {
    if len == 0 {
        return Ok(&mut []);
    }
    fits(from, len)?;
    // SAFETY: not null, aligned, short enough; the rest is the caller's.
    Ok(unsafe { std::slice::from_raw_parts_mut(from, len) })
}
