//! Choosing the next token from logits.
//!
//! The order is that of `transformers`: logit bias, penalties, temperature, then the cuts top-k, top-p,
//! min-p and typical, each over what the one before left, then one draw.

use llmc_base::{Diagnostic, math};
use std::collections::BTreeMap;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 takes all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 takes all.
    /// (Holtzman et al. 2020, arXiv:1904.09751, section 3.1)
    pub top_p: f32,
    /// Only tokens at least this share as likely as the most likely one; 0 takes all.
    /// (Nguyen et al. 2024, arXiv:2407.01082, section 3)
    pub min_p: f32,
    /// Only the tokens whose surprise is nearest to the entropy, until they reach this probability;
    /// 1 takes all. (Meister et al. 2023, arXiv:2202.00666, section 4)
    pub typical_p: f32,
    /// Tokens of the text so far: a positive logit is divided by it, a negative one multiplied; 1
    /// changes nothing. (Keskar et al. 2019, arXiv:1909.05858, section 4.1)
    pub repetition_penalty: f32,
    /// Taken from a logit for each time that its token was generated, as the OpenAI API has it.
    pub frequency_penalty: f32,
    /// Taken from a logit once if its token was generated, as the OpenAI API has it.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens, before anything else.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Of the draws; the same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Every value that is not in its range, with code `sampling::<name>`.
    pub fn check(&self) -> Vec<Diagnostic> {
        let from = |low: f32| move |x: f32| x >= low && x.is_finite();
        let share = |x: f32| x > 0.0 && x <= 1.0;
        type Check<'a> = (&'a str, f32, bool, &'a str, &'a str);
        let all: [Check; 7] = [
            (
                "temperature",
                self.temperature,
                from(0.0)(self.temperature),
                "a number from 0 up",
                "0 always takes the most likely token, 1 draws as trained",
            ),
            (
                "top_p",
                self.top_p,
                share(self.top_p),
                "a share above 0 and at most 1",
                "1 takes all",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "a share from 0 to 1",
                "0 takes all",
            ),
            (
                "typical_p",
                self.typical_p,
                share(self.typical_p),
                "a share above 0 and at most 1",
                "1 takes all",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "a number above 0",
                "1 changes nothing, 1.1 discourages",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                self.frequency_penalty.is_finite(),
                "a finite number",
                "0 changes nothing; common values are up to 2",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                self.presence_penalty.is_finite(),
                "a finite number",
                "0 changes nothing; common values are up to 2",
            ),
        ];
        let bias = self.logit_bias.iter().filter(|(_, bias)| bias.is_nan());
        let bias = bias.map(|(id, _)| {
            let message = format!("the logit bias of token {id} is not a number");
            Diagnostic::error("sampling::logit_bias", message).help("-100 bans, 100 demands")
        });
        all.into_iter()
            .filter(|(_, _, is_good, ..)| !is_good)
            .map(|(name, value, _, what, help)| {
                let message = format!("`{name}` is {value}, but must be {what}");
                Diagnostic::error(format!("sampling::{name}"), message).help(help)
            })
            .chain(bias)
            .collect()
    }
}

/// The text so far.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// All ids: the prompt, then what was generated.
    pub ids: &'a [u32],
    /// How many of them are the prompt.
    pub n_prompt: usize,
}

/// The token after `context`, drawn from `logits`: \[V\].
///
/// A pure function of its arguments: the draw is Philox at counter (length of the text) under the
/// seed, over the kept tokens in the order of their ids. Ties go to the smaller id. Not-a-number
/// logits are never chosen unless all are; then it is token 0.
pub fn sample(logits: &[f32], sampling: &Sampling, context: Context) -> u32 {
    let scores = scores(logits, sampling, context);
    let mut kept: Vec<u32> =
        (0..scores.len() as u32).filter(|id| scores[*id as usize] > f64::NEG_INFINITY).collect();
    let falling =
        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let Some(best) = kept.iter().copied().min_by(falling) else { return 0 };
    if sampling.temperature <= 0.0 {
        return best;
    }
    if (1..kept.len()).contains(&sampling.top_k) {
        kept.select_nth_unstable_by(sampling.top_k - 1, falling);
        kept.truncate(sampling.top_k);
    }
    // Relative to the best token; only ratios matter.
    let max = scores[best as usize];
    let weight = |id: u32| match scores[id as usize] == max {
        true => 1.0, // Infinity less infinity is no number.
        false => libm::exp((scores[id as usize] - max) / f64::from(sampling.temperature)),
    };
    let total = |ids: &[u32]| -> f64 {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.into_iter().map(weight).sum()
    };
    if sampling.top_p < 1.0 {
        kept.sort_unstable_by(falling);
        let wanted = f64::from(sampling.top_p) * total(&kept);
        let n = until(kept.iter().map(|id| weight(*id)), wanted);
        kept.truncate(n);
    }
    if sampling.min_p > 0.0 {
        kept.retain(|id| weight(*id) >= f64::from(sampling.min_p));
    }
    if sampling.typical_p < 1.0 {
        let sum = total(&kept);
        kept.sort_unstable();
        let share = |id: u32| weight(id) / sum;
        let surprise = |id: u32| -libm::log(share(id));
        let entropy: f64 = kept
            .iter()
            .map(|id| if share(*id) > 0.0 { share(*id) * surprise(*id) } else { 0.0 })
            .sum();
        let distance = |id: u32| (surprise(id) - entropy).abs();
        kept.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)).then(a.cmp(b)));
        let n = until(kept.iter().map(|id| share(*id)), f64::from(sampling.typical_p));
        kept.truncate(n);
    }
    kept.sort_unstable();
    let position = context.ids.len() as u64;
    let seed = [sampling.seed as u32, (sampling.seed >> 32) as u32];
    let bits = math::philox4x32([position as u32, (position >> 32) as u32, 0, 0], seed);
    let uniform = (f64::from(bits[0]) + f64::from(bits[1]) / 4_294_967_296.0) / 4_294_967_296.0;
    let draw = uniform * total(&kept);
    let mut sum = 0.0;
    for id in &kept {
        sum += weight(*id);
        if draw < sum {
            return *id;
        }
    }
    kept.last().copied().unwrap_or(best)
}

/// Logits with bias and penalties, in f64. What is not a number becomes −∞.
fn scores(logits: &[f32], sampling: &Sampling, context: Context) -> Vec<f64> {
    let mut scores: Vec<f64> =
        logits.iter().map(|x| if x.is_nan() { f64::NEG_INFINITY } else { f64::from(*x) }).collect();
    for (id, bias) in &sampling.logit_bias {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score += f64::from(*bias);
        }
    }
    let repetition = f64::from(sampling.repetition_penalty);
    let (frequency, presence) =
        (f64::from(sampling.frequency_penalty), f64::from(sampling.presence_penalty));
    if repetition == 1.0 && frequency == 0.0 && presence == 0.0 {
        return scores;
    }
    // Per token of the text: how often it was generated.
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for (at, id) in context.ids.iter().enumerate() {
        *seen.entry(*id).or_default() += u32::from(at >= context.n_prompt);
    }
    for (id, count) in seen {
        let Some(score) = scores.get_mut(id as usize) else { continue };
        *score = if *score > 0.0 { *score / repetition } else { *score * repetition };
        if count > 0 {
            *score -= frequency * f64::from(count) + presence;
        }
    }
    scores
}

/// How many of the weights, at least one, reach the sum that is wanted.
fn until(weights: impl Iterator<Item = f64>, wanted: f64) -> usize {
    let (mut sum, mut n) = (0.0, 0);
    for weight in weights {
        (sum, n) = (sum + weight, n + 1);
        if sum >= wanted {
            break;
        }
    }
    n
}

/// Natural logarithm of the probability of each token under the model, before any bias, penalty,
/// temperature or cut: log-softmax of `logits` in f64.
pub fn logprobs(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().filter(|x| !x.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let shifted = |x: &f32| f64::from(*x) - f64::from(max);
    let total: f64 = logits.iter().map(|x| libm::exp(shifted(x))).filter(|x| !x.is_nan()).sum();
    let log_total = libm::log(total);
    logits.iter().map(|x| shifted(x) - log_total).collect()
}

#[cfg(test)]
mod tests;
