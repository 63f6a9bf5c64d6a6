//! Tests of [`super`]: each option against its definition.

use super::*;

fn at(position: usize) -> Vec<u32> {
    vec![0; position]
}

fn draw(logits: &[f32], sampling: &Sampling, position: usize) -> u32 {
    let ids = at(position);
    sample(logits, sampling, Context { ids: &ids, n_prompt: position })
}

/// Every option off: draws as the model has it.
fn plain() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, ..Sampling::default() }
}

/// Tokens that come up in many draws.
fn support(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut found: Vec<u32> = (0..2000).map(|i| draw(logits, sampling, i)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn zero_temperature_takes_the_best_and_ties_go_to_the_smaller_id() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    assert_eq!(draw(&[0.0, 2.0, 2.0, 1.0], &greedy, 0), 1);
    assert_eq!(draw(&[f32::NAN, -5.0], &greedy, 0), 1);
    assert_eq!(draw(&[f32::NAN, f32::NAN], &greedy, 0), 0);
    assert_eq!(draw(&[0.0, f32::INFINITY], &plain(), 0), 1);
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.0f32, 1.0, 2.0, -1.0];
    for temperature in [1.0, 0.5] {
        let sampling = Sampling { temperature, seed: 3, ..plain() };
        let mut counts = [0u32; 4];
        let n = 20_000;
        for position in 0..n {
            counts[draw(&logits, &sampling, position) as usize] += 1;
        }
        let weight = |x: f32| f64::from(x / temperature).exp();
        let total: f64 = logits.iter().map(|x| weight(*x)).sum();
        for (count, logit) in counts.iter().zip(logits) {
            let expected = weight(logit) / total;
            assert!((f64::from(*count) / n as f64 - expected).abs() < 0.01, "{counts:?}");
        }
    }
}

#[test]
fn each_cut_leaves_what_its_definition_says() {
    // Probabilities 0.5, 0.25, 0.15, 0.06, 0.04.
    let logits = [0.15f32, 0.5, 0.04, 0.25, 0.06].map(f32::ln);
    assert_eq!(support(&logits, &plain()), [0, 1, 2, 3, 4]);
    assert_eq!(support(&logits, &Sampling { top_k: 2, ..plain() }), [1, 3]);
    assert_eq!(support(&logits, &Sampling { top_k: 9, ..plain() }), [0, 1, 2, 3, 4]);
    assert_eq!(support(&logits, &Sampling { top_p: 0.4, ..plain() }), [1]);
    assert_eq!(support(&logits, &Sampling { top_p: 0.8, ..plain() }), [0, 1, 3]);
    assert_eq!(support(&logits, &Sampling { min_p: 0.2, ..plain() }), [0, 1, 3]);
    assert_eq!(support(&logits, &Sampling { min_p: 1.0, ..plain() }), [1]);
    // The entropy is 1.28 nats; surprises are 1.90, 0.69, 3.22, 1.39, 2.81. Nearest first: 3, 1, 0.
    assert_eq!(support(&logits, &Sampling { typical_p: 0.2, ..plain() }), [3]);
    assert_eq!(support(&logits, &Sampling { typical_p: 0.7, ..plain() }), [1, 3]);
    // Cuts follow one another: of the two that top-k leaves, top-p takes the first.
    assert_eq!(support(&logits, &Sampling { top_k: 2, top_p: 0.6, ..plain() }), [1]);
}

#[test]
fn bias_and_penalties_change_the_scores() {
    let context = Context { ids: &[1, 2, 2, 0, 0, 0], n_prompt: 3 };
    let logits = [2.0f32, 3.0, -1.0, 0.5];
    let of = |sampling: Sampling| scores(&logits, &sampling, context);
    assert_eq!(of(Sampling { repetition_penalty: 2.0, ..plain() }), [1.0, 1.5, -2.0, 0.5]);
    // Only what was generated counts: token 0, three times.
    assert_eq!(of(Sampling { frequency_penalty: 0.5, ..plain() }), [0.5, 3.0, -1.0, 0.5]);
    assert_eq!(of(Sampling { presence_penalty: 0.5, ..plain() }), [1.5, 3.0, -1.0, 0.5]);
    let logit_bias = BTreeMap::from([(3, 10.0), (1, f32::NEG_INFINITY), (99, 1.0)]);
    let biased = Sampling { logit_bias, ..plain() };
    assert_eq!(of(biased.clone()), [2.0, f64::NEG_INFINITY, -1.0, 10.5]);
    assert!(!support(&logits, &biased).contains(&1));
}

#[test]
fn every_value_out_of_range_is_named() {
    assert!(Sampling::default().check().is_empty());
    let bad = Sampling {
        temperature: -1.0,
        top_p: 0.0,
        min_p: 1.5,
        typical_p: f32::NAN,
        repetition_penalty: 0.0,
        frequency_penalty: f32::INFINITY,
        presence_penalty: f32::NAN,
        logit_bias: BTreeMap::from([(7, f32::NAN)]),
        ..Sampling::default()
    };
    let codes: Vec<String> = bad.check().into_iter().map(|d| d.code.to_string()).collect();
    let names = [
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
    ];
    assert_eq!(codes, names.map(|name| format!("sampling::{name}")));
}

#[test]
fn logprobs_are_the_log_softmax() {
    let found = logprobs(&[1.0, 2.0, 3.0]);
    let total: f64 = found.iter().map(|x| x.exp()).sum();
    assert!((total - 1.0).abs() < 1e-12);
    assert!((found[2] - found[0] - 2.0).abs() < 1e-12);
}
