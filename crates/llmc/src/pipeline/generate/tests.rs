//! A text from logits that are given: where it ends, and what is told of it.

use super::*;
use llmc_data::tokenizer::{TokenizerConfig, TokenizerKind, train};

/// One token per character, and an end.
fn characters() -> Tokenizer {
    let mut config = TokenizerConfig::new(TokenizerKind::Char, None);
    config.special_tokens.unk = Some("<unk>".to_string());
    config.special_tokens.eos = Some("<eos>".to_string());
    train(&config, &["abcdefgh -"], 1).unwrap()
}

/// A model that says `text`, then ends it.
fn says<'a>(
    tokenizer: &'a Tokenizer,
    prompt: &str,
    text: &str,
) -> impl FnMut(&[u32]) -> Result<Vec<f32>, Failure> + 'a {
    let start = 1 + tokenizer.encode(prompt).len();
    let script = tokenizer.encode(text);
    move |ids| {
        let eos = tokenizer.roles().eos.unwrap();
        let next = script.get(ids.len() - start).copied().unwrap_or(eos);
        let mut logits = vec![0.0; tokenizer.vocab_size() as usize];
        logits[next as usize] = 5.0;
        Ok(logits)
    }
}

fn settings(stop: &[&str]) -> Settings {
    Settings {
        stop: stop.iter().map(|s| s.to_string()).collect(),
        ..Settings::new(20, Sampling { temperature: 0.0, ..Sampling::default() })
    }
}

#[test]
fn a_text_ends_by_its_length_its_end_a_stop_string_or_the_caller() {
    let tokenizer = characters();
    let run = |prompt: &str, settings: &Settings, most: usize| {
        let mut next = says(&tokenizer, prompt, "bad cafe");
        let mut pieces = String::new();
        let mut each = |piece: &str| {
            pieces.push_str(piece);
            pieces.len() < most
        };
        let said = generate(&mut next, &tokenizer, prompt, settings, &mut each).unwrap();
        assert_eq!(said.text, pieces);
        (said.text, said.finish, said.new_tokens)
    };
    let all = 99;
    assert_eq!(run("a", &settings(&[]), all), ("bad cafe".into(), Finish::EndOfText, 8));
    let short = Settings { max_tokens: 3, ..settings(&[]) };
    assert_eq!(run("a", &short, all), ("bad".into(), Finish::Length, 3));
    assert_eq!(run("", &settings(&["d c", "fe"]), all), ("ba".into(), Finish::Stop, 5));
    // The beginning of a stop string that does not come is not lost.
    assert_eq!(run("", &settings(&["fee"]), all), ("bad cafe".into(), Finish::EndOfText, 8));
    assert_eq!(run("", &settings(&[]), 3), ("bad".into(), Finish::Cancelled, 3));
}

#[test]
fn logarithms_are_of_the_model_and_name_the_likely_tokens() {
    let tokenizer = characters();
    let asked = Settings { logprobs: Some(2), max_tokens: 2, ..settings(&[]) };
    let said =
        generate(&mut says(&tokenizer, "", "bad"), &tokenizer, "", &asked, &mut |_| true).unwrap();
    let tokens = said.logprobs.unwrap();
    assert_eq!(tokens.len(), 2);
    let first = &tokens[0];
    let others = f64::from(tokenizer.vocab_size()) - 1.0;
    let expected = 5.0 - (5f64.exp() + others).ln();
    assert_eq!(first.token.text, "b");
    assert!((first.token.logprob - expected).abs() < 1e-9);
    assert_eq!((first.top.len(), &first.top[0]), (2, &first.token));
    assert!(first.top[1].logprob < first.top[0].logprob);
}

#[test]
fn values_out_of_range_are_told_all_at_once() {
    let tokenizer = characters();
    let sampling = Sampling { temperature: -1.0, top_p: 2.0, ..Sampling::default() };
    let asked = Settings { sampling, ..settings(&[]) };
    let failure =
        generate(&mut says(&tokenizer, "", ""), &tokenizer, "", &asked, &mut |_| true).unwrap_err();
    assert_eq!(failure.diagnostics().len(), 2);
}
