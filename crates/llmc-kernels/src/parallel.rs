//! How kernels reach threads: the caller supplies them.

use core::ops::Range;

use crate::error::Error;
use crate::isa::Isa;

/// Something that runs tasks at the same time, usually a thread pool.
///
/// # Safety
/// `run` calls the function exactly once for each index, and never two calls
/// with the same index; kernels give each index a part of the output of its own.
pub unsafe trait Parallel: Sync {
    /// How many tasks can make progress at once, at least 1. Kernels make no
    /// more tasks than this, so it bounds their scratch too.
    fn threads(&self) -> usize;

    /// Calls `task(0)`, …, `task(tasks − 1)`, in any order on any threads, and
    /// returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// No threads: the tasks run one after another on the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

// SAFETY: the loop meets every index once.
unsafe impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        for index in 0..tasks {
            task(index);
        }
    }
}

/// Where a kernel runs: an instruction set that this machine has, and threads.
/// Neither changes a bit of any result.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    isa: Isa,
    pool: &'a dyn Parallel,
}

impl<'a> Ctx<'a> {
    /// Errors: [`Error::Isa`] if this machine lacks the instruction set.
    pub fn new(isa: Isa, pool: &'a dyn Parallel) -> Result<Self, Error> {
        if isa.is_available() { Ok(Self { isa, pool }) } else { Err(Error::Isa) }
    }

    /// The best instruction set of this machine.
    pub fn detect(pool: &'a dyn Parallel) -> Self {
        Self { isa: Isa::detect(), pool }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many tasks run at once, at least 1.
    pub fn threads(&self) -> usize {
        self.pool.threads().max(1)
    }

    /// Runs `tasks` tasks; a single one on the calling thread.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        match tasks {
            0 => {}
            1 => task(0),
            _ => self.pool.run(tasks, task),
        }
    }

    /// Splits `items` into one contiguous range per task and runs `task(range)`.
    ///
    /// `cost` is the work of one item in elements touched; small work stays on
    /// one thread, because waking another costs more than it saves.
    pub(crate) fn split(&self, items: usize, cost: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
        let worthwhile = items.saturating_mul(cost) / MIN_TASK_COST;
        let tasks = self.threads().min(items).min(worthwhile.max(1));
        self.run(tasks, &|index| task(part(items, tasks, index)));
    }
}

/// The work, in elements touched, that is worth a task of its own.
const MIN_TASK_COST: usize = 8192;

/// Part `index` of `items` in `parts` contiguous ranges whose lengths differ by
/// at most one.
pub(crate) fn part(items: usize, parts: usize, index: usize) -> Range<usize> {
    let short = items / parts;
    let longer = items % parts;
    let start = index * short + index.min(longer);
    start..start + short + usize::from(index < longer)
}
