//! Reuse distances: how many bytes were touched since each operand of a launch was touched last.
//!
//! A cache with least-recently-used replacement holds what has a distance below its size.
//! Source: Mattson et al. 1970, "Evaluation techniques for storage hierarchies"; the distance here counts
//! touched bytes rather than distinct ones. Memory is looked at in pages.

use crate::plan::Plan;
use crate::space::{View, WORD_BYTES};

/// Words of a page.
const PAGE_WORDS: usize = 4096;

/// Per launch: per operand and result, in order, the mean distance in bytes.
pub type Distances = Vec<Vec<f64>>;

/// The distances of plans that run one after another, again and again.
pub fn reuse(plans: &[&Plan]) -> Vec<Distances> {
    let end = plans.iter().map(|p| p.frame_start + p.frame_words).max().unwrap_or(0);
    let mut touched = vec![f64::NEG_INFINITY; end.div_ceil(PAGE_WORDS)];
    let mut clock = 0.0;
    let mut out = Vec::new();
    // The first round brings the memory into the state that every later one finds.
    for _ in 0..2 {
        out = plans.iter().map(|plan| round(plan, &mut touched, &mut clock)).collect();
    }
    out
}

fn round(plan: &Plan, touched: &mut [f64], clock: &mut f64) -> Distances {
    let mut all = Vec::with_capacity(plan.launches.len());
    for launch in &plan.launches {
        let views: Vec<&View> = launch.operands.iter().chain(&launch.results).collect();
        let pages = |view: &View| {
            let range = view.region.range();
            range.start / PAGE_WORDS..range.end.div_ceil(PAGE_WORDS)
        };
        let mut distances = Vec::with_capacity(views.len());
        for view in &views {
            let found = touched.get(pages(view)).unwrap_or_default();
            let sum: f64 = found.iter().map(|last| libm::log((*clock - last).max(1.0))).sum();
            distances.push(match found.len() {
                0 => 1.0,
                n => libm::exp(sum / n as f64),
            });
        }
        for view in views {
            *clock += (view.region.len * WORD_BYTES) as f64;
            if let Some(pages) = touched.get_mut(pages(view)) {
                pages.fill(*clock);
            }
        }
        all.push(distances);
    }
    all
}
