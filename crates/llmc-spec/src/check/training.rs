//! What the parts of `[training]` that may be left out need of each other.

use super::Checker;
use crate::field::{self, Section};
use serde_json::Value;

/// A field, and another without which it says nothing.
const PARTS: [(&str, &str); 3] = [
    ("training.batch_ramp.steps", "training.batch_ramp.start"),
    ("training.early_stopping.min_delta", "training.early_stopping.patience"),
    ("training.skip_spikes.window", "training.skip_spikes.factor"),
];

/// The largest power of two of f32.
const MAX_SCALE: f64 = (1u128 << 127) as f64;

impl Checker<'_, '_> {
    fn is_on(&self, path: &str) -> bool {
        self.is_meant(path) && self.view.written(path).is_none_or(|v| !v.is_null())
    }

    /// A part that was written for something that is off.
    pub(super) fn parts(&mut self) {
        for (part, whole) in PARTS {
            let Some(field) = field::find(part) else { continue };
            let written = self.view.written(part);
            // The explicit form of a spec has every default written.
            let says_something = written.is_some() && written != self.view.default(field).as_ref();
            if says_something && !self.is_on(whole) {
                let message = format!("`{part}` has no effect without `{whole}`");
                let help = format!("write `{whole}`, too, or leave it out");
                self.conflict(message, &help, &[part, whole]);
            }
        }
    }

    /// The batch grows in multiples of its start, and micro-batches divide each of them.
    pub(super) fn batch_ramp(&mut self) {
        let [start_path, batch_path, micro_path] =
            ["training.batch_ramp.start", "training.batch_size", "training.microbatch_size"];
        let [start, batch, micro] = [start_path, batch_path, micro_path].map(|p| self.view.int(p));
        let Some(start) = start else { return };
        if let Some(batch) = batch.filter(|batch| batch % start != 0) {
            self.conflict(
                format!("`batch_ramp.start` {start} does not divide `batch_size` {batch}"),
                "choose a divisor: the batch grows in multiples of it",
                &[start_path, batch_path],
            );
        }
        if let Some(micro) = micro.filter(|micro| start % micro != 0) {
            self.conflict(
                format!("`microbatch_size` {micro} does not divide `batch_ramp.start` {start}"),
                "choose a divisor; it never changes the numbers",
                &[micro_path, start_path],
            );
        }
        let [ramp_path, max_path] = ["training.batch_ramp.steps", "training.max_steps"];
        let [ramp, max] = [ramp_path, max_path].map(|path| self.view.int(path));
        if let (Some(ramp), Some(max)) = (ramp, max)
            && ramp > max
        {
            self.conflict(
                format!("a ramp of {ramp} steps does not fit into {max} steps"),
                "raise `max_steps` or lower `batch_ramp.steps`",
                &[ramp_path, max_path],
            );
        }
    }

    /// Factors on gradients are exact.
    pub(super) fn loss_scale(&mut self) {
        for name in ["init_scale", "growth_factor", "backoff_factor"] {
            let path = format!("training.loss_scale.{name}");
            let value = self.view.written(&path).and_then(Value::as_f64);
            let Some(value) = value.filter(|v| !is_scale(*v)) else { continue };
            // Half of the mantissa or more goes up to the next exponent.
            let nearest = f64::from_bits((value.to_bits() + (1 << 51)) >> 52 << 52);
            let nearest = nearest.clamp(f32::MIN_POSITIVE.into(), MAX_SCALE);
            self.conflict(
                format!(
                    "`loss_scale.{name}` is {value}, which is not a power of two from 2⁻¹²⁶ to 2¹²⁷"
                ),
                &format!("write {nearest}: gradients are scaled without rounding"),
                &[&path],
            );
        }
    }

    /// It looks at held-out text.
    pub(super) fn early_stopping(&mut self) {
        let [patience, fraction] =
            ["training.early_stopping.patience", "dataset.validation_fraction"];
        let held_out = self.view.value(fraction).as_ref().and_then(Value::as_f64);
        if self.is_on(patience) && self.spec.has(Section::Dataset) && held_out == Some(0.0) {
            self.conflict(
                "`early_stopping` needs held-out text, but `validation_fraction` is 0".to_string(),
                "hold out a share, e.g. `validation_fraction = 0.05`",
                &[patience, fraction],
            );
        }
    }
}

/// Whether f32 multiplies by the number without rounding.
fn is_scale(value: f64) -> bool {
    let narrow = value as f32;
    f64::from(narrow) == value && narrow.is_normal() && narrow.to_bits() & 0x7f_ffff == 0
}
