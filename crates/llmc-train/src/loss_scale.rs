//! Dynamic loss scaling: the backward pass starts from a power of two, so that small gradients are not lost in
//! float16, and the power follows what the gradients bear.
//!
//! A step whose gradients are not finite changes nothing but the scale, which comes down; after
//! `growth_interval` finite ones in a row it grows. A pure function of which steps were finite.
//!
//! Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; names and rule of `torch.amp.GradScaler`.

use llmc_spec::LossScale;

/// Below this it is not the scale that makes gradients overflow: 2⁻²⁴, the smallest f16.
const MIN_SCALE: f64 = 5.960_464_477_539_063e-8;

/// The scale and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaler {
    /// What the next step's gradients are multiplied by; a power of two.
    pub scale: f64,
    /// Steps with finite gradients since it changed.
    pub good_steps: u64,
    /// Steps skipped since the start of the run.
    pub skipped: u64,
}

impl Scaler {
    /// That of the first step.
    pub(crate) fn new(rule: &LossScale) -> Self {
        Scaler { scale: rule.init_scale, good_steps: 0, skipped: 0 }
    }

    /// Whether the scale can come down further.
    pub(crate) fn can_back_off(&self, rule: &LossScale) -> bool {
        self.scale * rule.backoff_factor >= MIN_SCALE
    }

    /// Goes on after a step.
    pub(crate) fn update(&mut self, rule: &LossScale, is_finite: bool) {
        if !is_finite {
            self.scale *= rule.backoff_factor;
            self.good_steps = 0;
            self.skipped += 1;
            return;
        }
        self.good_steps += 1;
        if self.good_steps >= rule.growth_interval {
            let grown = self.scale * rule.growth_factor;
            if (grown as f32).is_finite() {
                self.scale = grown;
            }
            self.good_steps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_grows_after_good_steps_in_a_row_and_comes_down_at_once() {
        let rule = LossScale {
            init_scale: 16.0,
            growth_factor: 4.0,
            backoff_factor: 0.5,
            growth_interval: 2,
        };
        let mut scaler = Scaler::new(&rule);
        let steps = [true, false, true, true, true, false, false, true, true];
        let scales = steps.map(|is_finite| {
            scaler.update(&rule, is_finite);
            scaler.scale
        });
        assert_eq!(scales, [16.0, 8.0, 8.0, 32.0, 32.0, 16.0, 8.0, 8.0, 32.0]);
        assert_eq!((scaler.good_steps, scaler.skipped), (0, 3));
    }

    #[test]
    fn the_scale_stays_within_f32_and_above_the_least() {
        let rule = LossScale {
            init_scale: 2f64.powi(127),
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 1,
        };
        let mut scaler = Scaler::new(&rule);
        scaler.update(&rule, true);
        assert_eq!(scaler.scale, rule.init_scale);
        let mut n = 0;
        while scaler.can_back_off(&rule) {
            scaler.update(&rule, false);
            n += 1;
        }
        assert_eq!((n, scaler.scale), (127 + 24, MIN_SCALE));
    }
}
