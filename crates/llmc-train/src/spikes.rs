//! Steps that are skipped: those far above what the run was used to.
//!
//! A step is a spike if its loss or its gradient norm is above `factor` times the median of the last
//! `window` steps. Skipped steps are among those, so that after half a window a new level is no
//! spike any more and a run cannot come to a stand. A pure function of the losses and norms.

use llmc_spec::SkipSpikes;
use std::collections::VecDeque;

/// What the rule remembers of the steps before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spikes {
    /// Losses of the last steps, oldest first.
    pub losses: VecDeque<f64>,
    /// Their gradient norms.
    pub grad_norms: VecDeque<f64>,
    /// Steps skipped since the start of the run.
    pub skipped: u64,
}

impl Spikes {
    /// Whether a step of this loss and gradient norm is to be skipped; remembers it.
    pub(crate) fn is_spike(&mut self, rule: &SkipSpikes, loss: f64, grad_norm: f64) -> bool {
        let Some(factor) = rule.factor else { return false };
        let window = usize::try_from(rule.window).unwrap_or(usize::MAX);
        let mut is_spike = false;
        for (seen, now) in [(&mut self.losses, loss), (&mut self.grad_norms, grad_norm)] {
            is_spike |= seen.len() >= window && now > factor * median(seen);
            seen.push_back(now);
            while seen.len() > window {
                seen.pop_front();
            }
        }
        self.skipped += u64::from(is_spike);
        is_spike
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(values: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let (below, above) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => (below + above) / 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the losses are spikes, at a constant gradient norm.
    fn spikes(factor: f64, window: u64, losses: &[f64]) -> Vec<bool> {
        let rule = SkipSpikes { factor: Some(factor), window };
        let mut seen = Spikes::default();
        let found = losses.iter().map(|loss| seen.is_spike(&rule, *loss, 1.0)).collect();
        assert!(seen.losses.len() <= window as usize);
        found
    }

    #[test]
    fn a_spike_is_above_the_median_of_a_whole_window() {
        assert_eq!(spikes(2.0, 3, &[9.0, 1.0, 1.0, 2.1, 1.0]), [false, false, false, true, false]);
        // The mean of the two in the middle is 2.
        assert_eq!(
            spikes(2.0, 4, &[1.0, 3.0, 1.0, 3.0, 4.0, 4.1]),
            [false, false, false, false, false, false]
        );
        assert_eq!(spikes(2.0, 4, &[1.0, 3.0, 1.0, 3.0, 4.1]), [false, false, false, false, true]);
        assert_eq!(spikes(2.0, 9, &[1.0, 1.0, 100.0]), [false; 3]);
    }

    #[test]
    fn a_level_that_lasts_is_accepted() {
        let found = spikes(2.0, 4, &[1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0]);
        assert_eq!(found, [false, false, false, false, true, true, false, false]);
    }

    #[test]
    fn the_gradient_norm_counts_as_well_and_without_a_rule_nothing_does() {
        let rule = SkipSpikes { factor: Some(3.0), window: 1 };
        let mut seen = Spikes::default();
        assert!(!seen.is_spike(&rule, 1.0, 1.0));
        assert!(seen.is_spike(&rule, 1.0, 4.0));
        assert_eq!(seen.skipped, 1);
        let off = SkipSpikes { factor: None, window: 1 };
        let mut seen = Spikes::default();
        assert!(!seen.is_spike(&off, 1.0, 1.0) && !seen.is_spike(&off, 99.0, 99.0));
        assert_eq!(seen, Spikes::default());
    }
}
