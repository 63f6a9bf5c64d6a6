//! The pool runs every task once whatever the threads do; narrow elements share words.

use crate::{Memory, Pool};
use llmc_ir::DType;
use llmc_ir::eval::Tensor;
use llmc_kernels::Parallel;
use llmc_plan::AddressSpace;
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

#[test]
fn narrow_elements_share_words_the_first_in_the_lowest_bits() {
    let ints = |dtype, values: &[i64]| Tensor::ints(dtype, &[values.len()], values.to_vec());
    let floats = |dtype, values: &[f64]| Tensor::floats(dtype, &[values.len()], values.to_vec());
    let cases: [(Tensor, &[u32]); 9] = [
        (ints(DType::I4, &[-8, 7, -1, 1, 0, 2, 3, -4, 5]).unwrap(), &[0xc320_1f78, 5]),
        (ints(DType::U4, &[15, 1]).unwrap(), &[0x1f]),
        (ints(DType::I8, &[-1, 2, -128, 127, -2]).unwrap(), &[0x7f80_02ff, 0xfe]),
        (ints(DType::U8, &[255, 1]).unwrap(), &[0x01ff]),
        (ints(DType::I16, &[-2, 3, -1]).unwrap(), &[0x0003_fffe, 0xffff]),
        (ints(DType::U16, &[65535]).unwrap(), &[0xffff]),
        (ints(DType::Bool, &[1, 0]).unwrap(), &[1, 0]),
        (floats(DType::Bf16, &[1.0, -2.0, 0.5]).unwrap(), &[0xc000_3f80, 0x3f00]),
        (floats(DType::F16, &[1.0, -2.0, f64::INFINITY]).unwrap(), &[0xc000_3c00, 0x7c00]),
    ];
    for (tensor, expected) in cases {
        let mut space = AddressSpace::default();
        let view = space.place("x", tensor.dtype, &tensor.shape).unwrap();
        assert_eq!(view.region.len, expected.len(), "{}", tensor.dtype);
        let mut memory = Memory::default();
        memory.reserve(&space, []).unwrap();
        memory.f32s_mut(&view).fill(-1.0);
        memory.write_tensor(&view, &tensor);
        let words: Vec<u32> = memory.f32s(&view).iter().map(|x| x.to_bits()).collect();
        assert_eq!(words, expected, "{}", tensor.dtype);
        assert_eq!(memory.tensor(&view), tensor);
    }
}
