//! Batch sizes that grow: a pure function of the step, and how many samples went before.
//!
//! The batch of step s of a ramp of n steps is start · (1 + ⌊s·(K − 1) / n⌋) with K = batch / start;
//! after it, batch. Multiples of `start` keep every micro-batch whole, so that its size changes no bit.

use llmc_spec::TrainingConfig;

/// Sequences in the batch of `step`, from 0.
pub fn batch_size(training: &TrainingConfig, step: u64) -> u64 {
    let (batch, ramp) = (training.batch_size, training.batch_ramp);
    match ramp.start.filter(|start| *start < batch && step < ramp.steps) {
        None => batch,
        Some(start) => {
            let spans = u128::from(batch / start - 1);
            let done = u128::from(step) * spans / u128::from(ramp.steps);
            // Below batch / start, because step is below the ramp's length.
            start * (1 + done as u64)
        }
    }
}

/// Sequences in all batches before `step`: the index of its first sample.
pub fn first_sample(training: &TrainingConfig, step: u64) -> u128 {
    let (batch, ramp) = (training.batch_size, training.batch_ramp);
    let Some(start) = ramp.start.filter(|start| *start < batch) else {
        return u128::from(step) * u128::from(batch);
    };
    let n = step.min(ramp.steps);
    let spans = batch / start - 1;
    let grown = u128::from(n) + floor_sum(n.into(), ramp.steps.into(), spans.into());
    u128::from(start) * grown + u128::from(step - n) * u128::from(batch)
}

/// Σ ⌊a·i / m⌋ over i in 0..n, in as many rounds as Euclid's algorithm takes for (a, m).
///
/// Whole parts are taken out; what is left counts lattice points below a line, which are counted
/// again with the axes exchanged.
fn floor_sum(n: u128, m: u128, a: u128) -> u128 {
    let (mut n, mut m, mut a, mut b, mut sum) = (n, m, a, 0, 0);
    loop {
        if n == 0 {
            return sum;
        }
        sum += n * (n - 1) / 2 * (a / m) + n * (b / m);
        (a, b) = (a % m, b % m);
        let top = a * n + b;
        if top < m {
            return sum;
        }
        (n, b) = (top / m, top % m);
        (m, a) = (a, m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A training with this ramp.
    fn training(batch: u64, start: Option<u64>, steps: u64) -> TrainingConfig {
        let mut training = crate::tests::plain_training();
        training.batch_size = batch;
        training.batch_ramp = llmc_spec::BatchRamp { start, steps };
        training
    }

    #[test]
    fn the_batch_grows_in_equal_spans_and_stays() {
        let t = training(8, Some(2), 8);
        let sizes: Vec<u64> = (0..10).map(|step| batch_size(&t, step)).collect();
        assert_eq!(sizes, [2, 2, 2, 4, 4, 4, 6, 6, 8, 8]);
        let t = training(8, None, 8);
        assert!((0..10).all(|step| batch_size(&t, step) == 8));
        let t = training(4, Some(4), 8);
        assert!((0..10).all(|step| batch_size(&t, step) == 4));
    }

    #[test]
    fn the_first_sample_is_the_sum_of_the_batches_before() {
        for (batch, start, steps) in [(8, 2, 8), (12, 1, 7), (64, 4, 1000), (6, 3, 1), (30, 2, 3)] {
            let t = training(batch, Some(start), steps);
            let mut sum = 0;
            for step in 0..2000 {
                assert_eq!(first_sample(&t, step), sum, "{batch} {start} {steps} at {step}");
                sum += u128::from(batch_size(&t, step));
            }
        }
        assert_eq!(first_sample(&training(8, None, 8), 5), 40);
        let far = first_sample(&training(1 << 20, Some(1), 1 << 50), 1 << 53);
        assert!(far > 1 << 72);
    }
}
