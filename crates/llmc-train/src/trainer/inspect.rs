//! A step looked at instead of made: loss, the gradient norm of every parameter, and the first
//! node whose result is not finite. Weights and moments stay as they are.

use super::{Batch, NonFinite, TrainError, Trainer, share};
use crate::{ramp, schedule};

/// What a step would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Step, from 0.
    pub step: u64,
    /// Mean loss over the unmasked tokens, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// What the gradients are scaled by, with `float16`; norms are without it.
    pub loss_scale: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Sequences.
    pub rows: u64,
    /// Unmasked tokens.
    pub tokens: u64,
    /// Gradient norm of every parameter, in path order.
    pub norms: Vec<(String, f64)>,
    /// Parameters that hold a number that is not finite before the step.
    pub bad_weights: Vec<String>,
    /// Where numbers stop being finite in the step, if they do.
    pub non_finite: Option<NonFinite>,
}

impl Trainer {
    /// Computes loss and gradients of the step on `batch`, and does not update.
    ///
    /// Errors: a batch of the wrong length.
    pub fn inspect(&mut self, batch: &Batch) -> Result<Inspection, TrainError> {
        let tokens = self.check(batch)?;
        let norm = share(tokens);
        let loss = self.accumulate(batch, norm)?;
        self.engine.run(&self.merge, &mut self.memory)?;
        let (mut norms, mut bad_weights, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for parameter in &self.parameters {
            let (_, g) = self.tensor(&format!("{}.{}", parameter.path, parameter.grads[0]))?;
            let squares = self.engine.sum_squares(g);
            sum += squares;
            norms.push((parameter.path.clone(), libm::sqrt(squares) / self.scale()));
            if !self.tensor(&parameter.path)?.1.iter().all(|x| x.is_finite()) {
                bad_weights.push(parameter.path.clone());
            }
        }
        let grad_norm = libm::sqrt(sum) / self.scale();
        let quantity = match (loss.is_finite(), grad_norm.is_finite()) {
            (false, _) => Some("loss"),
            (true, false) => Some("grad_norm"),
            (true, true) => None,
        };
        let non_finite = match quantity {
            None => None,
            Some(quantity) => match self.locate(quantity, batch, norm)? {
                TrainError::NonFinite(found) => Some(found),
                other => return Err(other),
            },
        };
        self.zero_accumulators();
        let schedule = &self.training.schedule;
        let lr = self.optimizer.lr * schedule::factor(schedule, self.step, self.training.max_steps);
        let rows = ramp::batch_size(&self.training, self.step);
        Ok(Inspection {
            step: self.step,
            loss,
            grad_norm,
            loss_scale: self.scaler.map(|scaler| scaler.scale),
            lr,
            rows,
            tokens,
            norms,
            bad_weights,
            non_finite,
        })
    }
}
