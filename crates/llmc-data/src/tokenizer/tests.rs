//! Training, encoding, decoding and `tokenizer.json`, each kind.

use super::encode::{merge_by_heap, merge_by_scan};
use super::*;
use proptest::prelude::*;

const TEXT: &str = "def low(self):\n    return self.lower\n\ndef lowest(self, x=10):\n    # ünïcode é 漢字\n    return self.low + x  # it's lower\n";

fn specials() -> SpecialTokens {
    SpecialTokens {
        pad: Some("<pad>".into()),
        unk: Some("<unk>".into()),
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        additional: Vec::new(),
    }
}

fn config(kind: TokenizerKind, vocab_size: Option<u32>) -> TokenizerConfig {
    TokenizerConfig { special_tokens: specials(), ..TokenizerConfig::new(kind, vocab_size) }
}

fn trained(kind: TokenizerKind, vocab_size: Option<u32>) -> Tokenizer {
    train(&config(kind, vocab_size), &[TEXT, "low low lower </s> lowest"], 2).unwrap()
}

fn all_kinds() -> Vec<Tokenizer> {
    vec![
        trained(TokenizerKind::ByteBpe, Some(290)),
        trained(TokenizerKind::Bpe, Some(60)),
        trained(TokenizerKind::Char, None),
    ]
}

fn codes(result: Result<Tokenizer, Vec<Diagnostic>>) -> Vec<String> {
    result.unwrap_err().into_iter().map(|d| d.code).collect()
}

#[test]
fn the_first_merge_is_the_most_frequent_pair_and_ties_go_to_smaller_ids() {
    let config = TokenizerConfig::new(TokenizerKind::ByteBpe, Some(258));
    // "ab" and "cd" occur twice each; `a` has the smaller id.
    let tokenizer = train(&config, &["cd ab cd ab xy"], 1).unwrap();
    // The space is part of the word, and after a word it is a pair, too.
    let tokens: Vec<_> = [256, 257].map(|id| tokenizer.token_bytes(id).unwrap().to_vec()).into();
    assert_eq!(tokens, [b"ab".to_vec(), b"cd".to_vec()]);
}

#[test]
fn overlapping_pairs_merge_from_the_left() {
    let config = TokenizerConfig::new(TokenizerKind::ByteBpe, Some(257));
    let tokenizer = train(&config, &["aaaaa"], 1).unwrap();
    let parts: Vec<_> = tokenizer
        .encode("aaaaa")
        .into_iter()
        .map(|id| tokenizer.token_bytes(id).unwrap().len())
        .collect();
    assert_eq!(parts, [2, 2, 1]);
}

#[test]
fn special_tokens_come_first_and_are_found_in_text() {
    for tokenizer in all_kinds() {
        let roles = Roles { pad: Some(0), unk: Some(1), bos: Some(2), eos: Some(3) };
        assert_eq!(tokenizer.roles(), roles);
        let ids = tokenizer.encode("<s>low</s>");
        assert_eq!((ids[0], *ids.last().unwrap()), (2, 3));
        assert_eq!(tokenizer.decode(&ids), "<s>low</s>");
        assert_eq!(tokenizer.decode_plain(&ids), "low");
    }
}

#[test]
fn a_tokenizer_without_bos_puts_nothing_in_front() {
    let bare = train(&TokenizerConfig::new(TokenizerKind::ByteBpe, Some(256)), &["x"], 1).unwrap();
    assert!(bare.to_json().contains("\"post_processor\": null"));
}

/// Trained on the text without cuts.
fn uncut(kind: TokenizerKind, vocab_size: u32) -> Tokenizer {
    let asked = config(kind, Some(vocab_size));
    let asked = TokenizerConfig { pre_tokenizer: PreTokenizer::None, ..asked };
    train(&asked, &[TEXT, "low low lower </s> lowest"], 2).unwrap()
}

#[test]
fn without_a_pre_tokenizer_merges_cross_words() {
    for (kind, size, json) in [
        (TokenizerKind::ByteBpe, 290, "\"use_regex\": false"),
        (TokenizerKind::Bpe, 60, "\"pre_tokenizer\": null"),
    ] {
        let tokenizer = uncut(kind, size);
        // A merge over `(`, `.` or a space behind a letter is none of the GPT-2 pattern.
        let crosses = (0..size).filter_map(|id| tokenizer.token_bytes(id)).any(|token| {
            let token = String::from_utf8_lossy(token);
            !token.starts_with('<') && gpt2_words(&token).count() > 1
        });
        assert!(crosses, "{kind:?}");
        assert!(trained(kind, Some(size)).to_json() != tokenizer.to_json());
        assert!(tokenizer.to_json().contains(json), "{kind:?}");
        let read = Tokenizer::from_json(&tokenizer.to_json(), None).unwrap();
        assert_eq!(read.to_json(), tokenizer.to_json());
        assert_eq!((read.kind(), read.encode(TEXT)), (kind, tokenizer.encode(TEXT)));
        assert_eq!(tokenizer.decode(&tokenizer.encode(TEXT)), TEXT);
        // A long text is one word, however many threads there are.
        let long = TEXT.repeat(20_000);
        assert_eq!(tokenizer.encode_batch(&[&long], 3), [tokenizer.encode(&long)]);
    }
}

#[test]
fn training_ignores_the_spelling_of_special_tokens() {
    let asked = config(TokenizerKind::Char, None);
    let tokenizer = train(&asked, &["ab</s>ab"], 1).unwrap();
    assert_eq!(tokenizer.vocab_size(), 4 + 2);
}

#[test]
fn unknown_characters_become_the_unknown_token() {
    for tokenizer in [trained(TokenizerKind::Bpe, Some(60)), trained(TokenizerKind::Char, None)] {
        let ids = tokenizer.encode("low☃☃low");
        assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 2);
        assert_eq!(tokenizer.decode(&ids), "low<unk><unk>low");
        assert_eq!(tokenizer.decode_plain(&ids), "lowlow");
    }
}

#[test]
fn a_vocabulary_of_32_works() {
    let tokenizer = trained(TokenizerKind::Bpe, Some(32));
    assert_eq!(tokenizer.vocab_size(), 32);
    assert_eq!(tokenizer.decode(&tokenizer.encode("self.low(self)\n")), "self.low(self)\n");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let long: Vec<String> =
        (0..40).map(|i| TEXT.replace("low", &format!("low{}", i % 7))).collect();
    let big = long.concat().repeat(200);
    for (kind, size) in [
        (TokenizerKind::ByteBpe, Some(300)),
        (TokenizerKind::Bpe, Some(60)),
        (TokenizerKind::Char, None),
    ] {
        let texts = [long.clone(), vec![big.clone()]].concat();
        let one = train(&config(kind, size), &texts, 1).unwrap();
        let ids = one.encode_batch(&texts, 1);
        assert_eq!(ids.last().unwrap(), &one.encode(&big));
        for threads in [2, 3, 8] {
            let other = train(&config(kind, size), &texts, threads).unwrap();
            assert_eq!(one.to_json(), other.to_json());
            assert_eq!(ids, other.encode_batch(&texts, threads));
        }
    }
}

#[test]
fn sizes_out_of_reach_are_explained() {
    let check = |kind, size, code: &str, part: &str| {
        let found = train(&config(kind, size), &["low lower"], 1).unwrap_err();
        assert_eq!(found[0].code, code);
        assert!(found[0].message.contains(part), "{}", found[0].message);
        assert_eq!(found[0].field.as_deref(), Some("tokenizer.vocab_size"));
        assert!(found[0].help.is_some());
    };
    check(TokenizerKind::ByteBpe, Some(100), "tokenizer::vocab_too_small", "at least 260");
    check(TokenizerKind::Bpe, Some(4), "tokenizer::vocab_too_small", "at least 5");
    // 256 bytes, 4 specials; lo, low, er, " low", " lower": 5 merges at most.
    check(TokenizerKind::ByteBpe, Some(9999), "tokenizer::vocab_too_large", "allows 265");
    let found = train(&config(TokenizerKind::ByteBpe, Some(9999)), &["low lower"], 1).unwrap_err();
    let help = found[0].help.as_deref().unwrap();
    assert!(help.starts_with("write `vocab_size = 265` in [tokenizer]"), "{help}");
    assert!(help.contains("`--set tokenizer.vocab_size=265`"), "{help}");
    check(TokenizerKind::Bpe, None, "tokenizer::vocab_size_missing", "bpe");
}

/// 6 characters and 4 special tokens, whatever more was allowed; fewer where fewer are.
#[test]
fn the_size_of_a_char_tokenizer_is_an_upper_bound() {
    let of = |size| train(&config(TokenizerKind::Char, size), &["low lower"], 1).unwrap();
    assert_eq!(of(Some(512)).vocab_size(), 10);
    assert_eq!(of(Some(512)).to_json(), of(None).to_json());
    let small = of(Some(7));
    assert_eq!(small.vocab_size(), 7);
    assert_eq!(small.decode_plain(&small.encode("low")), "low");
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let mut asked = TokenizerConfig::new(TokenizerKind::Bpe, None);
    asked.special_tokens.bos = Some(String::new());
    let expect = [
        "tokenizer::special_token",
        "tokenizer::unk_missing",
        "tokenizer::vocab_size_missing",
        "tokenizer::empty_corpus",
    ];
    assert_eq!(codes(train(&asked, &[""], 1)), expect);

    let mut asked = TokenizerConfig::new(TokenizerKind::ByteBpe, Some(300));
    asked.special_tokens.additional = vec!["Ġlow".into(), "x".into(), "<a b>".into()];
    assert_eq!(codes(train(&asked, &["low"], 1)).len(), 2);
}

#[test]
fn json_round_trips_to_the_same_bytes() {
    for tokenizer in all_kinds() {
        let (json, config) = (tokenizer.to_json(), tokenizer.to_config_json());
        let read = Tokenizer::from_json(&json, Some(&config)).unwrap();
        assert_eq!(read.to_json(), json);
        assert_eq!(read.to_config_json(), config);
        assert_eq!(read.encode(TEXT), tokenizer.encode(TEXT));
        assert_eq!(read.content_hash(), tokenizer.content_hash());
        assert_eq!(read.roles(), tokenizer.roles());
        let roles = Tokenizer::from_json(&json, None).unwrap().roles();
        assert_eq!((roles.bos, roles.eos), (Some(2), None));
    }
}

#[test]
fn json_takes_merges_as_text() {
    let tokenizer = trained(TokenizerKind::ByteBpe, Some(290));
    let mut value: serde_json::Value = serde_json::from_str(&tokenizer.to_json()).unwrap();
    for pair in value["model"]["merges"].as_array_mut().unwrap() {
        *pair = format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()).into();
    }
    let read = Tokenizer::from_json(&value.to_string(), None).unwrap();
    assert_eq!(read.to_json(), tokenizer.to_json());
}

#[test]
fn foreign_and_broken_json_is_refused_by_name() {
    let json = trained(TokenizerKind::Bpe, Some(60)).to_json();
    let check = |from: &str, to: &str, code: &str, part: &str| {
        assert!(json.contains(from), "{from}");
        let found = Tokenizer::from_json(&json.replacen(from, to, 1), None).unwrap_err();
        assert_eq!(found.code, code);
        assert!(found.message.contains(part), "{}", found.message);
    };
    check(
        "\"normalizer\": null",
        "\"normalizer\": {\"type\":\"NFC\"}",
        "tokenizer::foreign",
        "NFC",
    );
    check("\"type\": \"BPE\"", "\"type\": \"Unigram\"", "tokenizer::foreign", "Unigram");
    check("\"type\": \"Split\"", "\"type\": \"Metaspace\"", "tokenizer::foreign", "pre_tokenizer");
    check(
        "\"byte_fallback\": false",
        "\"byte_fallback\": true",
        "tokenizer::foreign",
        "byte_fallback",
    );
    check("\"lstrip\": false", "\"lstrip\": true", "tokenizer::foreign", "lstrip");
    check("\"<pad>\": 0", "\"<pad>\": 7", "tokenizer::invalid", "taken");
    check("\"<pad>\": 0", "\"<pod>\": 0", "tokenizer::invalid", "<pad>");
    check("\"unk_token\": \"<unk>\"", "\"unk_token\": null", "tokenizer::invalid", "unknown token");
    check("\"A\"", "\"C\"", "tokenizer::foreign", "post_processor");
    check("{", "[", "tokenizer::json", "JSON");

    let tokenizer = trained(TokenizerKind::Bpe, Some(60));
    let config =
        tokenizer.to_config_json().replace("\"bos_token\": \"<s>\"", "\"bos_token\": \"</s>\"");
    let found = Tokenizer::from_json(&tokenizer.to_json(), Some(&config)).unwrap_err();
    assert_eq!(found.code, "tokenizer::invalid");
}

/// Training is part of the definition of a run: what it makes of a text moves
/// only on purpose. The byte-level one is also what Hugging Face's trainer makes.
#[test]
fn trained_tokenizers_do_not_move() {
    let hashes: Vec<String> = all_kinds().iter().map(|t| t.content_hash().short()).collect();
    assert_eq!(hashes, ["504e1751b3c1", "c23311353a33", "e700e5f40d2a"]);
}

#[test]
fn recipe_hash_follows_meaning() {
    let corpus = Hash::of_bytes(b"corpus");
    let base = config(TokenizerKind::ByteBpe, Some(300));
    let renamed = TokenizerConfig { name: "other".into(), ..base.clone() };
    assert_eq!(base.recipe_hash(&corpus), renamed.recipe_hash(&corpus));
    let larger = TokenizerConfig { vocab_size: Some(301), ..base.clone() };
    assert_ne!(base.recipe_hash(&corpus), larger.recipe_hash(&corpus));
    assert_ne!(base.recipe_hash(&corpus), base.recipe_hash(&Hash::of_bytes(b"other")));
    let uncut = TokenizerConfig { pre_tokenizer: PreTokenizer::None, ..base.clone() };
    assert_ne!(base.recipe_hash(&corpus), uncut.recipe_hash(&corpus));
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new();
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text.push_str(&decoder.finish());
    text
}

proptest! {
    #[test]
    fn byte_bpe_decodes_what_it_encodes(text in any::<String>(), code in "[a-z .(\n']{0,60}") {
        let tokenizer = trained(TokenizerKind::ByteBpe, Some(290));
        for text in [&text, &code] {
            let ids = tokenizer.encode(text);
            prop_assert_eq!(&tokenizer.decode(&ids), text);
            prop_assert_eq!(&stream(&tokenizer, &ids), text);
        }
    }

    #[test]
    fn streaming_equals_decoding_for_any_ids(ids in prop::collection::vec(0u32..300, 0..60)) {
        let tokenizer = trained(TokenizerKind::ByteBpe, Some(290));
        prop_assert_eq!(stream(&tokenizer, &ids), tokenizer.decode(&ids));
    }

    #[test]
    fn both_ways_to_merge_agree(word in "[lowers ]{0,120}") {
        for tokenizer in [trained(TokenizerKind::ByteBpe, Some(290)), trained(TokenizerKind::Bpe, Some(60))] {
            let mut scanned = Vec::new();
            tokenizer.alphabet.symbols(&word, &mut scanned);
            let mut heaped = scanned.clone();
            merge_by_scan(&tokenizer, &mut scanned, &mut Vec::new());
            merge_by_heap(&tokenizer, &mut heaped);
            prop_assert_eq!(scanned, heaped);
        }
    }

    #[test]
    fn no_json_makes_the_reader_panic(cut in 0usize..4000, byte in any::<u8>(), at in 0usize..4000) {
        let json = trained(TokenizerKind::Bpe, Some(40)).to_json();
        let mut bytes = json.into_bytes();
        let n = bytes.len();
        bytes[at % n] = byte;
        bytes.truncate(n - cut % n);
        let _ = Tokenizer::from_json(&String::from_utf8_lossy(&bytes), None);
    }
}
