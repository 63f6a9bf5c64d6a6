//! The one place where tasks share a mutable slice.
//!
//! A kernel partitions its output among tasks by index arithmetic, which the
//! borrow checker cannot see. [`DisjointMut`] carries the slice into the tasks;
//! each `unsafe` call to it states why its range belongs to one task only.

use core::marker::PhantomData;
use core::ops::Range;

/// A mutable slice whose disjoint ranges are handed to concurrent tasks.
pub(crate) struct DisjointMut<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is an exclusive borrow of a slice; tasks only reach into it through
// the unsafe methods, whose contract keeps their ranges apart.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Takes over the slice for as long as tasks run.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements of `range`, cut to the slice.
    ///
    /// # Safety
    /// No other live borrow of this slice overlaps the range.
    pub unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        // SAFETY: start ≤ end ≤ len, and the caller keeps ranges apart.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(start), end - start) }
    }

    /// The pointer to the first element, for blocks that are not one range.
    ///
    /// Reading and writing through it must stay in bounds and apart from what
    /// other tasks touch.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }
}
