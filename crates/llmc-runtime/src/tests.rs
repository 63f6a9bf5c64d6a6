//! The pool runs every task once whatever the threads do.

use crate::Pool;
use llmc_kernels::Parallel;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn every_task_runs_once_for_any_thread_count() {
    for n_threads in [1, 2, 3, 8] {
        let pool = Pool::new(n_threads);
        assert_eq!(pool.threads(), n_threads);
        for tasks in [0, 1, 2, 7, 100] {
            for _ in 0..50 {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }
}

#[test]
fn parked_workers_wake_up() {
    let pool = Pool::new(2);
    for _ in 0..3 {
        // Longer than the spin, so the worker is parked when the next launch comes.
        std::thread::sleep(std::time::Duration::from_millis(5));
        let sum = AtomicUsize::new(0);
        pool.run(10, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let pool = Pool::new(3);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(64, &|i| assert!(i != 20, "task 20"));
    }));
    assert!(outcome.is_err());
    let sum = AtomicUsize::new(0);
    pool.run(4, &|i| {
        sum.fetch_add(i, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 6);
}

#[test]
fn two_callers_take_turns() {
    let pool = Pool::new(2);
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    pool.run(8, &|_| {
                        sum.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 3200);
}
