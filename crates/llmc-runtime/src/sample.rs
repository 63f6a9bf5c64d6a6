//! Choosing the next token from logits.

use llmc_base::math;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 takes all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 takes all.
    pub top_p: f32,
    /// Of the draws; the same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: 0 }
    }
}

/// The token at `position` of the text, drawn from `logits`: \[V\].
///
/// A pure function of its arguments: the draw is Philox at counter (position) under the seed.
/// Ties go to the smaller id. Not-a-number logits are never chosen unless all are.
pub fn sample(logits: &[f32], sampling: &Sampling, position: u64) -> u32 {
    let mut order: Vec<u32> =
        (0..logits.len() as u32).filter(|id| !logits[*id as usize].is_nan()).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    let Some(best) = order.first().copied() else { return 0 };
    if sampling.temperature <= 0.0 {
        return best;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let max = f64::from(logits[best as usize]);
    let weight = |id: &u32| {
        libm::exp((f64::from(logits[*id as usize]) - max) / f64::from(sampling.temperature))
    };
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let mut n_kept = 0;
    for w in &weights {
        kept += w;
        n_kept += 1;
        if kept >= f64::from(sampling.top_p) * total {
            break;
        }
    }
    let seed = [sampling.seed as u32, (sampling.seed >> 32) as u32];
    let bits = math::philox4x32([position as u32, (position >> 32) as u32, 0, 0], seed);
    let draw = (f64::from(bits[0]) + f64::from(bits[1]) / 4_294_967_296.0) / 4_294_967_296.0 * kept;
    let mut sum = 0.0;
    for (id, w) in order[..n_kept].iter().zip(&weights) {
        sum += w;
        if draw < sum {
            return *id;
        }
    }
    order[n_kept - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_temperature_takes_the_best_and_ties_go_to_the_smaller_id() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(sample(&[0.0, 2.0, 2.0, 1.0], &greedy, 0), 1);
        assert_eq!(sample(&[f32::NAN, -5.0], &greedy, 0), 1);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };
        let mut counts = [0u32; 4];
        let n = 20_000;
        for position in 0..n {
            counts[sample(&logits, &sampling, position) as usize] += 1;
        }
        let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        for (count, logit) in counts.iter().zip(logits) {
            let expected = f64::from(logit).exp() / total;
            assert!((f64::from(*count) / n as f64 - expected).abs() < 0.01, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [3.0f32, 2.0, 1.0, 0.0];
        for position in 0..500 {
            let k = Sampling { temperature: 1.0, top_k: 2, top_p: 1.0, seed: 1 };
            assert!(sample(&logits, &k, position) < 2);
            let p = Sampling { temperature: 1.0, top_k: 0, top_p: 0.5, seed: 1 };
            assert_eq!(sample(&logits, &p, position), 0);
        }
    }
}
