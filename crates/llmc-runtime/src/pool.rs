//! The thread pool: threads are started once, spin for a moment between
//! launches, and then park.
//!
//! Which thread runs a task never changes a bit, because a kernel's tasks
//! write disjoint outputs in an order of their own. So tasks are claimed from
//! one counter, and a launch waits only for workers that have entered it: one
//! that the system keeps off its core costs its share of the work, not a time
//! slice. After a fork the child has no workers; the pool notices and runs
//! everything on the calling thread.

use llmc_kernels::Parallel;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// Iterations that a waiting thread spins before it parks: about 50 µs.
const SPIN: usize = 20_000;

/// What a launch gives the workers.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: the closure behind the pointer is `Sync`, and `Pool::run` keeps it alive until every
// worker inside has left it.
unsafe impl Send for Job {}

/// Bits of [`Shared::gate`]: the workers inside the job, whether it may be entered, the job's number.
const INSIDE: usize = (1 << 15) - 1;
const OPEN: usize = 1 << 15;
const NUMBER: usize = !(INSIDE | OPEN);
const NEXT_NUMBER: usize = 1 << 16;

struct Shared {
    /// How many workers are inside the job, whether more may enter, and its number (wrapping).
    gate: AtomicUsize,
    /// The job behind the gate.
    job: Mutex<Option<Job>>,
    /// Next task to claim.
    next: AtomicUsize,
    is_panicked: AtomicBool,
    is_closing: AtomicBool,
}

/// A fixed set of threads; the caller of [`Pool::run`] is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    pid: u32,
    /// Held during a job: two callers take turns.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `n_threads` (at least 1) threads, the caller included.
    pub fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicUsize::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            is_panicked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        });
        let workers: Vec<JoinHandle<()>> = (1..n_threads.clamp(1, INSIDE))
            .filter_map(|i| {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name(format!("llmc-{i}"));
                // A machine that gives no more threads computes the same bits with fewer.
                builder.spawn(move || work(&shared)).ok()
            })
            .collect();
        let threads = workers.iter().map(|w| w.thread().clone()).collect();
        Pool { shared, workers, threads, pid: std::process::id(), turn: Mutex::new(()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Claims and runs tasks until none is left.
fn drain(shared: &Shared, job: Job) {
    // SAFETY: `Pool::run` waits for every worker inside the job before the closure dies.
    let task = unsafe { &*job.task };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let at = shared.next.fetch_add(1, Ordering::Relaxed);
            if at >= job.tasks {
                break;
            }
            task(at);
        }
    }));
    if outcome.is_err() {
        shared.is_panicked.store(true, Ordering::Relaxed);
        shared.next.store(job.tasks, Ordering::Relaxed);
    }
}

/// Enters the job that is open and has another number than the last one; its number.
fn enter(shared: &Shared, last: usize) -> Option<usize> {
    let mut gate = shared.gate.load(Ordering::Acquire);
    while gate & OPEN != 0 && gate & NUMBER != last {
        let inside = gate + 1;
        match shared.gate.compare_exchange_weak(gate, inside, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(gate & NUMBER),
            Err(now) => gate = now,
        }
    }
    None
}

fn work(shared: &Shared) {
    let mut last = 0;
    let mut spins = 0;
    while !shared.is_closing.load(Ordering::Acquire) {
        if let Some(number) = enter(shared, last) {
            (last, spins) = (number, 0);
            let job = *lock(&shared.job);
            if let Some(job) = job {
                drain(shared, job);
            }
            shared.gate.fetch_sub(1, Ordering::Release);
        } else if spins < SPIN {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::park();
            spins = 0;
        }
    }
}

// SAFETY: `drain` claims each index from one counter, so each is run exactly once.
unsafe impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || std::process::id() != self.pid {
            (0..tasks).for_each(task);
            return;
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; this function closes the gate and does not return
        // before every worker inside has left, after which no worker touches the pointer.
        let task: *const (dyn Fn(usize) + Sync) = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task)
        };
        let job = Job { task, tasks };
        *lock(&shared.job) = Some(job);
        shared.next.store(0, Ordering::Relaxed);
        // Nobody is inside a closed gate, and only the holder of the turn opens it.
        let number = shared.gate.load(Ordering::Relaxed).wrapping_add(NEXT_NUMBER) & NUMBER;
        shared.gate.store(number | OPEN, Ordering::Release);
        self.threads.iter().for_each(Thread::unpark);
        drain(shared, job);
        shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while shared.gate.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            match spins < SPIN {
                true => std::hint::spin_loop(),
                // The machine has other work: a worker waits for a core.
                false => std::thread::yield_now(),
            }
        }
        *lock(&shared.job) = None;
        if shared.is_panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a task of the thread pool panicked"));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        self.shared.is_closing.store(true, Ordering::Release);
        self.threads.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker catches panics of its tasks, so it ends normally.
            let _ = worker.join();
        }
    }
}
