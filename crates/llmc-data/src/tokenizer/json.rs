//! `tokenizer.json` and `tokenizer_config.json`, written and read.
//!
//! | kind | pre-tokenizer for `gpt2` | for `none` | model | decoder |
//! |---|---|---|---|---|
//! | `byte_bpe` | `ByteLevel` | `ByteLevel` without `use_regex` | `BPE`, tokens in the byte-level alphabet | `ByteLevel` |
//! | `bpe` | `Split` by the GPT-2 pattern, isolated | null | `BPE` with `unk_token`, tokens as they are | `Fuse` |
//! | `char` | null | null | `BPE` without merges, with `unk_token` | `Fuse` |
//!
//! With a bos token, a `TemplateProcessing` post-processor puts it in front of
//! every text, as training puts it in front of every document.
//!
//! White space stays in its tokens, so decoding is joining. The bytes are
//! canonical: fixed key order, vocabulary by id, merges by rank as arrays of
//! two, two spaces of indent, one newline at the end.
//!
//! The reader takes what the writer writes (and merges as `"a b"`, the older
//! spelling). A feature that would encode differently is an error that names
//! it. `tokenizer.json` knows only unk and bos by their roles; the others are in
//! `tokenizer_config.json`.

use super::merge::Merge;
use super::vocab::Vocab;
use super::{PreTokenizer, Roles, Tokenizer, TokenizerKind, byte_level};
use llmc_base::{Diagnostic, Span};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The GPT-2 pattern, as `tokenizers` takes it.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

fn pre_tokenizer(kind: TokenizerKind, cut: PreTokenizer) -> Value {
    match (kind, cut) {
        (TokenizerKind::ByteBpe, _) => json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": cut == PreTokenizer::Gpt2
        }),
        (TokenizerKind::Bpe, PreTokenizer::Gpt2) => json!({
            "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Isolated", "invert": false
        }),
        (TokenizerKind::Bpe, PreTokenizer::None) | (TokenizerKind::Char, _) => Value::Null,
    }
}

fn decoder(kind: TokenizerKind) -> Value {
    match kind {
        TokenizerKind::ByteBpe => json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
        }),
        TokenizerKind::Bpe | TokenizerKind::Char => json!({ "type": "Fuse" }),
    }
}

/// Puts the bos token in front, or nothing.
fn post_processor(bos: Option<(&str, u32)>) -> Value {
    let Some((text, id)) = bos else { return Value::Null };
    let special = |type_id: u32| json!({ "SpecialToken": { "id": text, "type_id": type_id } });
    let sequence =
        |name: &str, type_id: u32| json!({ "Sequence": { "id": name, "type_id": type_id } });
    let mut special_tokens = Map::new();
    special_tokens.insert(text.into(), json!({ "id": text, "ids": [id], "tokens": [text] }));
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": special_tokens
    })
}

impl Tokenizer {
    /// The canonical `tokenizer.json`.
    pub fn to_json(&self) -> String {
        let added: Vec<Value> = self
            .specials
            .iter()
            .map(|(content, id)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true
                })
            })
            .collect();
        let vocab: Map<String, Value> =
            (0..self.vocab_size()).map(|id| (self.token_text(id), id.into())).collect();
        let merges: Vec<Value> = self
            .merges
            .iter()
            .map(|merge| json!([self.token_text(merge.left), self.token_text(merge.right)]))
            .collect();
        let unk = match self.kind {
            TokenizerKind::ByteBpe => None,
            TokenizerKind::Bpe | TokenizerKind::Char => self.special(self.roles.unk),
        };
        let document = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": pre_tokenizer(self.kind, self.pre_tokenizer),
            "post_processor": post_processor(self.special(self.roles.bos)),
            "decoder": decoder(self.kind),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": unk.map(|(text, _)| text),
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges
            }
        });
        pretty(&document)
    }

    /// The canonical `tokenizer_config.json` for `transformers`: the class and
    /// the special tokens by role.
    pub fn to_config_json(&self) -> String {
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        for (key, id) in role_keys(&self.roles) {
            if let Some((text, _)) = self.special(id) {
                config.insert(key.into(), text.into());
            }
        }
        pretty(&Value::Object(config))
    }

    /// Reads a `tokenizer.json` and, for the roles of special tokens, the
    /// `tokenizer_config.json` beside it.
    ///
    /// Errors: `tokenizer::json` (no JSON), `tokenizer::foreign` (a feature that
    /// this reader does not know), `tokenizer::invalid` (contradictions).
    pub fn from_json(tokenizer: &str, config: Option<&str>) -> Result<Tokenizer, Diagnostic> {
        let document = parse("tokenizer.json", tokenizer)?;
        expect_value(&document, "version", &"1.0".into(), "1.0")?;
        for key in ["truncation", "padding", "normalizer"] {
            expect_value(&document, key, &Value::Null, "null")?;
        }
        let (kind, cut) = read_kind(&document)?;
        expect_value(&document, "decoder", &decoder(kind), "the decoder that goes with it")?;

        let model = &document["model"];
        for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
            expect_value(model, key, &Value::Null, "null")?;
        }
        for key in ["fuse_unk", "byte_fallback", "ignore_merges"] {
            if !model[key].is_null() {
                expect_value(model, key, &Value::Bool(false), "false")?;
            }
        }
        expect_value(model, "type", &"BPE".into(), "BPE")?;
        let specials = read_specials(&document)?;
        let bos = read_template(&document["post_processor"], &specials)?;
        let (vocab, ids) = read_vocab(kind, &model["vocab"], &specials)?;
        let merges = read_merges(&model["merges"], &vocab, &ids)?;

        // The id of the special token that a key names.
        let role = |object: &Value, key: &str| match &object[key] {
            Value::Null => Ok(None),
            Value::String(text) => specials
                .iter()
                .find(|(special, _)| special == text)
                .map(|(_, id)| Some(*id))
                .ok_or_else(|| invalid(format!("`{key}` is `{text}`, which is no special token"))),
            other => Err(foreign(key, other, "a text")),
        };
        let mut roles = Roles { unk: role(model, "unk_token")?, bos, ..Roles::default() };
        if let Some(config) = config {
            let config = parse("tokenizer_config.json", config)?;
            let stated = Roles {
                pad: role(&config, "pad_token")?,
                unk: role(&config, "unk_token")?,
                bos: role(&config, "bos_token")?,
                eos: role(&config, "eos_token")?,
            };
            if (roles.unk.is_some() && roles.unk != stated.unk) || roles.bos != stated.bos {
                return Err(invalid(
                    "the two files do not agree on the unknown token or the one in front".into(),
                ));
            }
            roles = stated;
        }
        Tokenizer::assemble(kind, cut, vocab, specials, merges, roles)
    }

    /// A token as `tokenizer.json` spells it.
    fn token_text(&self, id: u32) -> String {
        let bytes = self.vocab.bytes(id);
        if self.kind == TokenizerKind::ByteBpe && !self.is_special(id) {
            byte_level::text_of(bytes)
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }

    /// The text and id of a special token.
    fn special(&self, id: Option<u32>) -> Option<(&str, u32)> {
        self.specials
            .iter()
            .find(|(_, own)| Some(*own) == id)
            .map(|(text, own)| (text.as_str(), *own))
    }
}

fn role_keys(roles: &Roles) -> [(&'static str, Option<u32>); 4] {
    [
        ("bos_token", roles.bos),
        ("eos_token", roles.eos),
        ("pad_token", roles.pad),
        ("unk_token", roles.unk),
    ]
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a value with text keys is JSON");
    text.push('\n');
    text
}

fn parse(file: &str, text: &str) -> Result<Value, Diagnostic> {
    serde_json::from_str(text).map_err(|error| {
        let start = text
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum::<usize>()
            + error.column().saturating_sub(1);
        let start = start.min(text.len());
        Diagnostic::error("tokenizer::json", format!("`{file}` is not JSON: {error}"))
            .at(Span::new(file, start, start), "here")
    })
}

fn invalid(what: String) -> Diagnostic {
    Diagnostic::error("tokenizer::invalid", what)
}

fn foreign(key: &str, value: &Value, known: &str) -> Diagnostic {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(100) {
        shown.truncate(end);
        shown.push('…');
    }
    Diagnostic::error("tokenizer::foreign", format!("`{key}` is `{shown}`, expected {known}"))
        .help("only tokenizers of kind `byte_bpe`, `bpe` and `char` are read here")
}

fn expect_value(object: &Value, key: &str, expect: &Value, known: &str) -> Result<(), Diagnostic> {
    let value = &object[key];
    if value == expect { Ok(()) } else { Err(foreign(key, value, known)) }
}

/// The kind and the cut. Characters without a cut and without merges are `char`; with
/// merges, `bpe`.
fn read_kind(document: &Value) -> Result<(TokenizerKind, PreTokenizer), Diagnostic> {
    let found = &document["pre_tokenizer"];
    if found.is_null() {
        let has_merges = document["model"]["merges"].as_array().is_some_and(|m| !m.is_empty());
        return Ok(match has_merges {
            true => (TokenizerKind::Bpe, PreTokenizer::None),
            false => (TokenizerKind::Char, PreTokenizer::Gpt2),
        });
    }
    [
        (TokenizerKind::ByteBpe, PreTokenizer::Gpt2),
        (TokenizerKind::ByteBpe, PreTokenizer::None),
        (TokenizerKind::Bpe, PreTokenizer::Gpt2),
    ]
    .into_iter()
    .find(|&(kind, cut)| *found == pre_tokenizer(kind, cut))
    .ok_or_else(|| foreign("pre_tokenizer", found, "`ByteLevel`, the GPT-2 split, or none"))
}

fn read_specials(document: &Value) -> Result<Vec<(String, u32)>, Diagnostic> {
    let mut specials: Vec<(String, u32)> = Vec::new();
    for added in document["added_tokens"].as_array().into_iter().flatten() {
        for (key, expect) in [
            ("single_word", false),
            ("lstrip", false),
            ("rstrip", false),
            ("normalized", false),
            ("special", true),
        ] {
            let key_expect = if expect { "true" } else { "false" };
            expect_value(added, key, &Value::Bool(expect), key_expect)?;
        }
        let id = added["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        match (added["content"].as_str(), id) {
            (Some(content), Some(id)) if !content.is_empty() => {
                if specials.iter().any(|(text, other)| text == content || *other == id) {
                    return Err(invalid(format!("the added token `{content}` is there twice")));
                }
                specials.push((content.to_string(), id));
            }
            _ => return Err(foreign("added_tokens", added, "a `content` and an `id`")),
        }
    }
    specials.sort_by_key(|(_, id)| *id);
    Ok(specials)
}

/// The bos token of the post-processor.
fn read_template(value: &Value, specials: &[(String, u32)]) -> Result<Option<u32>, Diagnostic> {
    if value.is_null() {
        return Ok(None);
    }
    specials
        .iter()
        .find(|(text, id)| *value == post_processor(Some((text, *id))))
        .map(|(_, id)| Some(*id))
        .ok_or_else(|| foreign("post_processor", value, "null or a template with a token in front"))
}

/// The tokens by id, and the ids by the text of `tokenizer.json`.
fn read_vocab<'a>(
    kind: TokenizerKind,
    value: &'a Value,
    specials: &[(String, u32)],
) -> Result<(Vocab, BTreeMap<&'a str, u32>), Diagnostic> {
    let object = value.as_object().ok_or_else(|| foreign("vocab", value, "an object"))?;
    let mut texts: Vec<Option<&str>> = vec![None; object.len()];
    let mut ids = BTreeMap::new();
    for (text, id) in object {
        let slot = id
            .as_u64()
            .and_then(|id| usize::try_from(id).ok())
            .and_then(|id| texts.get_mut(id).map(|slot| (id, slot)));
        match slot {
            Some((id, slot)) if slot.is_none() => {
                *slot = Some(text);
                ids.insert(text.as_str(), id as u32);
            }
            _ => {
                return Err(invalid(format!(
                    "token `{text}` has the id {id}, which is taken or above the number of tokens"
                )));
            }
        }
    }
    for (text, id) in specials {
        if ids.get(text.as_str()) != Some(id) {
            return Err(invalid(format!(
                "the added token `{text}` is not token {id} of the vocabulary"
            )));
        }
    }
    let mut vocab = Vocab::default();
    for text in texts.into_iter().flatten() {
        let is_special = specials.iter().any(|(special, _)| special == text);
        if kind == TokenizerKind::ByteBpe && !is_special {
            let bytes = byte_level::bytes_of(text).ok_or_else(|| {
                invalid(format!("token `{text}` is not in the byte-level alphabet"))
            })?;
            vocab.push(&bytes);
        } else {
            vocab.push(text.as_bytes());
        }
    }
    Ok((vocab, ids))
}

fn read_merges(
    value: &Value,
    vocab: &Vocab,
    ids: &BTreeMap<&str, u32>,
) -> Result<Vec<Merge>, Diagnostic> {
    let array = value.as_array().ok_or_else(|| foreign("merges", value, "an array"))?;
    let by_bytes: BTreeMap<&[u8], u32> = vocab.iter().zip(0..).collect();
    array
        .iter()
        .map(|pair| {
            let parts = match pair {
                Value::String(text) => text.split_once(' '),
                Value::Array(parts) => match parts.as_slice() {
                    [Value::String(left), Value::String(right)] => {
                        Some((left.as_str(), right.as_str()))
                    }
                    _ => None,
                },
                _ => None,
            };
            let (left, right) = parts.ok_or_else(|| foreign("merges", pair, "pairs of tokens"))?;
            let id = |text: &str| {
                ids.get(text)
                    .copied()
                    .ok_or_else(|| invalid(format!("`{text}` is merged but is no token")))
            };
            let (left, right) = (id(left)?, id(right)?);
            let joined = [vocab.bytes(left), vocab.bytes(right)].concat();
            let new = *by_bytes.get(joined.as_slice()).ok_or_else(|| {
                invalid(format!("the merge {pair} gives no token of the vocabulary"))
            })?;
            Ok(Merge { left, right, new })
        })
        .collect()
}
