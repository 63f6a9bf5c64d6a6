//! GFLOP/s of the matrix product, per instruction set and number of threads.
//!
//! `cargo run --release -p llmc-kernels --example gemm_speed [filter]`: the filter
//! is part of an instruction set's name or of a shape, like `avx512` or
//! `2048x512`. Each figure is the best of a second of runs, which is the one that
//! other programs disturbed least.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use llmc_kernels::{Ctx, Gemm, Isa, MatRef, Parallel, Precision, gemm, gemm_scratch_len};

/// m, n, k of `C[m, n] = A[m, k]·B`, and the layout of A and B.
const SHAPES: [(usize, usize, usize, Form); 20] = [
    (2048, 512, 512, Form::NT),
    (2048, 1376, 512, Form::NT),
    (2048, 512, 1376, Form::NT),
    (2048, 2048, 512, Form::NT),
    (2048, 256, 256, Form::NT),
    (2048, 128, 256, Form::NT),
    (2048, 688, 256, Form::NT),
    (2048, 256, 688, Form::NT),
    (2048, 8192, 256, Form::NT),
    (2048, 512, 1376, Form::NN),
    (2048, 256, 688, Form::NN),
    (2048, 256, 8192, Form::NN),
    (1376, 512, 2048, Form::TN),
    (688, 256, 2048, Form::TN),
    (256, 256, 2048, Form::TN),
    (8192, 256, 2048, Form::TN),
    (1, 512, 512, Form::NT),
    (1, 1376, 512, Form::NT),
    (1, 8192, 256, Form::NT),
    (4, 1376, 512, Form::NT),
];

/// The three forms of training.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// `x·Wᵀ`.
    NT,
    /// `dy·W`.
    NN,
    /// `dyᵀ·x`, accumulating.
    TN,
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("GFLOP/s with 1 and 2 threads, and their ratio");
    for isa in Isa::available() {
        for (m, n, k, form) in SHAPES {
            for (word, precision) in
                [("f32", Precision::F32), ("bf16", Precision::Bf16 { group: k })]
            {
                let name = format!("{} {word} {m}x{n}x{k} {form:?}", isa.name());
                if !name.contains(&filter) {
                    continue;
                }
                let speed = |threads| measure(isa, threads, (m, n, k), form, precision);
                let [one, two] = [1, 2].map(speed);
                println!("{name:>28} {one:8.1} {two:8.1} {:8.2}", two / one);
            }
        }
    }
}

/// The best speed of about a second of runs.
fn measure(
    isa: Isa,
    threads: usize,
    (m, n, k): (usize, usize, usize),
    form: Form,
    precision: Precision,
) -> f64 {
    let pool = Pool::new(threads);
    let ctx = Ctx::new(isa, &pool).expect("the instruction set is available");
    let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i % 251) as f32 / 251.0).collect() };
    let (a, b) = (values(m * k), values(k * n));
    let mut c = vec![0.0; m * n];
    let mut scratch = vec![0.0; gemm_scratch_len(m, n, k, precision, threads)];
    let (a, b) = match form {
        Form::NT => (MatRef::row_major(&a, k), MatRef::row_major(&b, k).transposed()),
        Form::NN => (MatRef::row_major(&a, k), MatRef::row_major(&b, n)),
        Form::TN => (MatRef::row_major(&a, m).transposed(), MatRef::row_major(&b, n)),
    };
    let accumulate = matches!(form, Form::TN);
    let problem = Gemm { m, n, k, a, b, accumulate, bias: None, residual: None, precision };
    let mut best = f64::INFINITY;
    let mut runs = 0;
    let start = Instant::now();
    while runs < 3 || start.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        gemm(&ctx, &problem, &mut c, n, &mut scratch).expect("the shapes fit");
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
        black_box(&c);
    }
    2.0 * (m * n * k) as f64 / best / 1e9
}

/// A small pool whose workers spin between tasks.
struct Pool {
    threads: usize,
    shared: Arc<Shared>,
}

/// What workers see. `epoch` counts runs; a worker takes the indices that are its
/// own number modulo the number of threads.
struct Shared {
    epoch: AtomicUsize,
    finished: AtomicUsize,
    job: Mutex<Option<Job>>,
}

/// A borrowed task with its lifetime erased; `run` outlives its use.
#[derive(Clone, Copy)]
struct Job {
    tasks: usize,
    task: *const (dyn Fn(usize) + Sync),
}

// SAFETY: the task is Sync, and `run` waits until no worker uses it.
unsafe impl Send for Job {}

impl Pool {
    fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            job: Mutex::new(None),
        });
        for thread in 1..threads {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || worker(&shared, thread, threads));
        }
        Self { threads, shared }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.epoch.store(usize::MAX, Ordering::Release);
    }
}

fn worker(shared: &Shared, thread: usize, threads: usize) {
    let mut seen = 0;
    loop {
        wait_until(|| shared.epoch.load(Ordering::Acquire) != seen);
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch == usize::MAX {
            return;
        }
        seen = epoch;
        let job = shared.job.lock().expect("no task panics");
        let Some(Job { tasks, task }) = *job else {
            return;
        };
        drop(job);
        for index in (thread..tasks).step_by(threads) {
            // SAFETY: `run` keeps the task alive until this worker has finished.
            unsafe { (*task)(index) };
        }
        shared.finished.fetch_add(1, Ordering::Release);
    }
}

// SAFETY: thread t takes the indices t, t + n, …, the caller is thread 0.
unsafe impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.threads
    }
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and this function waits below.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        *self.shared.job.lock().expect("no task panics") = Some(Job { tasks, task });
        self.shared.finished.store(0, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for index in (0..tasks).step_by(self.threads) {
            // SAFETY: the reference is alive.
            unsafe { (*task)(index) };
        }
        wait_until(|| self.shared.finished.load(Ordering::Acquire) + 1 >= self.threads);
    }
}

/// Spins, and lets others run if it takes long.
fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        if spins < 2000 {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
