//! Learning-rate schedules: pure functions of the step.

use llmc_spec::{Schedule, ScheduleKind};
use std::f64::consts::PI;

/// The factor on the peak learning rate at `step` (from 0) of `max_steps`.
///
/// Linear warm-up: step s of w has factor (s + 1) / w, so the first step already moves.
/// After it: `constant` is 1; `cosine` (arXiv:1608.03983, eq. 5 without restarts) falls over
/// all the other steps and is `min_lr_ratio` at the last, `linear` falls there in a straight line;
/// `inverse_sqrt` (arXiv:1706.03762, section 5.3) is √(w / (s + 1)), w at least 1; `wsd` (arXiv:2404.06395, §4.2) is 1 and falls linearly over
/// the last `decay_steps`.
pub fn factor(schedule: &Schedule, step: u64, max_steps: u64) -> f64 {
    if step < schedule.warmup_steps {
        return (step + 1) as f64 / schedule.warmup_steps as f64;
    }
    let floor = schedule.min_lr_ratio;
    // The share of the steps after the warm-up that is done with this one.
    let fall = max_steps.saturating_sub(schedule.warmup_steps).max(1);
    let done = ((step - schedule.warmup_steps + 1) as f64 / fall as f64).min(1.0);
    match schedule.kind {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Cosine => floor + (1.0 - floor) * 0.5 * (1.0 + libm::cos(PI * done)),
        ScheduleKind::Linear => 1.0 - (1.0 - floor) * done,
        ScheduleKind::InverseSqrt => {
            libm::sqrt(schedule.warmup_steps.max(1) as f64 / (step + 1) as f64)
        }
        ScheduleKind::Wsd => {
            let start = max_steps.saturating_sub(schedule.decay_steps);
            if step < start {
                return 1.0;
            }
            let done = (step - start + 1) as f64 / schedule.decay_steps.max(1) as f64;
            1.0 - (1.0 - floor) * done.min(1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: u64, decay_steps: u64) -> Schedule {
        Schedule { kind, warmup_steps, decay_steps, min_lr_ratio: 0.1 }
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_peak() {
        let s = schedule(ScheduleKind::Cosine, 4, 0);
        let factors: Vec<f64> = (0..4).map(|step| factor(&s, step, 100)).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0]);
        assert!((0.999..1.0).contains(&factor(&s, 4, 100)));
    }

    #[test]
    fn cosine_passes_the_middle_and_ends_at_the_floor() {
        let s = schedule(ScheduleKind::Cosine, 0, 0);
        assert!((factor(&s, 49, 100) - 0.55).abs() < 1e-12);
        assert!((factor(&s, 99, 100) - 0.1).abs() < 1e-12);
        assert!(factor(&s, 98, 100) > 0.1);
        assert!((factor(&s, 5000, 100) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn cosine_after_a_warm_up_has_its_middle_half_way_through_the_rest() {
        let s = schedule(ScheduleKind::Cosine, 20, 0);
        assert!((factor(&s, 59, 100) - 0.55).abs() < 1e-12);
        assert!(factor(&s, 21, 100) > 0.99);
    }

    #[test]
    fn wsd_is_stable_then_falls_to_the_floor_at_the_last_step() {
        let s = schedule(ScheduleKind::Wsd, 10, 20);
        assert_eq!(factor(&s, 79, 100), 1.0);
        assert!(factor(&s, 80, 100) < 1.0);
        assert!((factor(&s, 99, 100) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn linear_falls_in_a_straight_line() {
        let s = schedule(ScheduleKind::Linear, 20, 0);
        assert!((factor(&s, 59, 100) - 0.55).abs() < 1e-12);
        assert!((factor(&s, 99, 100) - 0.1).abs() < 1e-12);
        let fall = |step| factor(&s, step, 100) - factor(&s, step + 1, 100);
        assert!((fall(20) - fall(90)).abs() < 1e-12);
    }

    #[test]
    fn the_inverse_root_starts_at_the_peak_and_halves_in_four_times_the_steps() {
        let s = schedule(ScheduleKind::InverseSqrt, 25, 0);
        assert_eq!(factor(&s, 24, 1000), 1.0);
        assert!((factor(&s, 99, 1000) - 0.5).abs() < 1e-12);
        assert!((factor(&schedule(ScheduleKind::InverseSqrt, 0, 0), 3, 9) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn constant_stays() {
        let s = schedule(ScheduleKind::Constant, 2, 0);
        assert_eq!(factor(&s, 99_999, 100), 1.0);
    }
}
