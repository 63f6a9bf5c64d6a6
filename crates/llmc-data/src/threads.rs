//! Work over a slice on a few threads, with results in the order of the slice.
//!
//! Which thread takes which item is left to chance; the result does not tell.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `f` of every item, in order, on at most `threads` threads. Each thread makes
/// its own `state` with `init` and passes it to its calls.
pub fn map_with<T: Sync, S, R: Send>(
    items: &[T],
    threads: usize,
    init: impl Fn() -> S + Sync,
    f: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.clamp(1, items.len().max(1));
    if threads == 1 {
        let mut state = init();
        return items.iter().map(|item| f(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut state = init();
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return done };
            done.push((i, f(&mut state, item)));
        }
    };
    let mut slots: Vec<Option<R>> = items.iter().map(|_| None).collect();
    for (i, result) in run(threads, work).into_iter().flatten() {
        slots[i] = Some(result);
    }
    slots.into_iter().map(|slot| slot.expect("every index was taken once")).collect()
}

/// `f` folded over all items into one state per thread; the states come in no
/// particular order, so the caller's merge must not depend on it.
pub fn fold<T: Sync, S: Send>(
    items: &[T],
    threads: usize,
    init: impl Fn() -> S + Sync,
    f: impl Fn(&mut S, &T) + Sync,
) -> Vec<S> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut state = init();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            f(&mut state, item);
        }
        state
    };
    run(threads.clamp(1, items.len().max(1)), work)
}

/// Calls `work` once on each of `threads` threads, the current one among them.
fn run<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut results = vec![work()];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}
