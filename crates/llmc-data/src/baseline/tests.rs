//! Baselines: the formulas by hand, threads, and nothing to measure.

use super::*;

const TEXT: &str = "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n";

#[test]
fn probabilities_sum_to_one() {
    let model = NgramModel::count(&[TEXT, "abc"], 3, 1);
    for context in ["re", "b)", "zz", "\0\0", "\0d"] {
        let context = context.bytes().fold(0u64, |c, b| (c << 8) | u64::from(b));
        let sum: f64 = (0..256).map(|byte| model.probability((context << 8) | byte)).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }
}

/// By hand: P₁(b) = (c + 2/256) / (n + 2) over "aab", then the context `a`.
#[test]
fn the_formula_is_as_written() {
    let bits = ngram_bits_per_byte(&["aab"], &["b"], 1, 1).unwrap();
    let p1_b = (1.0 + 2.0 / 256.0) / 5.0;
    assert!((bits + f64::log2(p1_b)).abs() < 1e-12);
    let model = NgramModel::count(&["aab"], 2, 1);
    let p = (1.0 + 2.0 * p1_b) / 4.0;
    assert!((model.probability(0x6162) - p).abs() < 1e-12);
}

#[test]
fn threads_do_not_matter_and_longer_contexts_help() {
    let texts: Vec<String> = (0..50).map(|i| format!("{TEXT}# {i}\n")).collect();
    let train: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bits = |order, threads| ngram_bits_per_byte(&train, &[TEXT], order, threads).unwrap();
    assert_eq!(bits(5, 1).to_bits(), bits(5, 3).to_bits());
    assert!(bits(8, 1) < bits(5, 1) && bits(5, 1) < bits(2, 1) && bits(2, 1) < bits(1, 1));
}

#[test]
fn gzip_counts_the_whole_file() {
    let text = TEXT.repeat(100);
    let bits = gzip_bits_per_byte(&[&text, TEXT]).unwrap();
    assert!(bits > 0.0 && bits < 0.5, "{bits}");
    assert!(gzip_bits_per_byte(&["a"]).unwrap() > 8.0 * 18.0);
}

#[test]
fn nothing_to_measure_is_an_error() {
    assert_eq!(gzip_bits_per_byte(&[""]).unwrap_err().code, "baseline::empty");
    let code = |order, text| ngram_bits_per_byte(&[TEXT], &[text], order, 1).unwrap_err().code;
    assert_eq!(code(5, ""), "baseline::empty");
    assert_eq!(code(9, TEXT), "baseline::order");
}
