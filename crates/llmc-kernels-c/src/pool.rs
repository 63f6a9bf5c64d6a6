//! The threads of a context: started once, woken for each kernel.
//!
//! Which thread runs a task changes no bit, so tasks are claimed from one counter. Programs that want the engine's
//! spinning pool run the engine; this one is small and sleeps between kernels.

use llmc_kernels::Parallel;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A job as the workers see it.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize) + Sync));

// SAFETY: the closure is `Sync`, and `Pool::run` keeps it alive until no task of it is left or running.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Tasks of the job, the next to claim, and those that are not done.
    tasks: usize,
    next: usize,
    open: usize,
    has_panicked: bool,
    is_closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a job, or the pool closes.
    wake: Condvar,
    /// A job is done.
    done: Condvar,
}

/// Threads, the caller of [`Parallel::run`] among them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a job: two callers take turns.
    turn: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of so many threads, at least 1; fewer where the system gives fewer.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..threads.max(1)).map_while(|at| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("llmc-kernels-{at}"));
            builder.spawn(move || work(&shared)).ok()
        });
        let workers = workers.collect();
        Pool { shared, workers, turn: Mutex::new(()) }
    }
}

/// Claims and runs tasks until none is left; gives the lock back as it got it.
fn drain<'a>(shared: &'a Shared, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    while let Some(job) = state.job
        && state.next < state.tasks
    {
        let at = state.next;
        state.next += 1;
        drop(state);
        // SAFETY: `run` waits for `open` to be 0, and this task is open.
        let task = unsafe { &*job.0 };
        let outcome = catch_unwind(AssertUnwindSafe(|| task(at)));
        state = lock(&shared.state);
        state.has_panicked |= outcome.is_err();
        state.open -= 1;
        if state.open == 0 {
            state.job = None;
            shared.done.notify_all();
        }
    }
    state
}

fn work(shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.is_closing {
        state = drain(shared, state);
        if !state.is_closing {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

// SAFETY: the counter under the lock gives each index once, and `run` returns when all are done.
unsafe impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks == 0 {
            return;
        }
        let _turn = lock(&self.turn);
        // SAFETY: only the lifetime changes; the job is gone before this returns.
        let job = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task)
        };
        let mut state = lock(&self.shared.state);
        let is_closing = state.is_closing;
        *state = State { job: Some(Job(job)), tasks, open: tasks, is_closing, ..State::default() };
        self.shared.wake.notify_all();
        state = drain(&self.shared, state);
        while state.open > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let has_panicked = state.has_panicked;
        drop(state);
        if has_panicked {
            resume_unwind(Box::new("a task panicked"));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closing = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches what a task does, so there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once_whatever_happened_before() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 3, 64] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|at| {
                    counts[at].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{threads} {tasks}");
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|at| assert!(at != 5, "on purpose"));
            }));
            assert!(outcome.is_err());
        }
    }
}
