//! Trains a tokenizer on the Python files below a folder and writes it down with
//! what it makes of those files and of awkward strings, for
//! `tests/conformance/tokenizers_parity.py` to compare with Hugging Face
//! `tokenizers`.
//!
//! ```text
//! cargo run --release -p llmc-data --example dump_ids -- KIND VOCAB DIR OUT
//! ```
//!
//! KIND is `byte_bpe`, `bpe` or `char`, with `:none` behind it for no pre-tokenizer; VOCAB 0 leaves the size of `char` open.
//! Writes OUT/tokenizer.json, OUT/tokenizer_config.json and OUT/ids.jsonl, one
//! object per line: `text`, `ids`, `decoded` (specials spelled out), `plain`
//! (without specials), `is_trained` (whether the text was trained on). Besides
//! the files there are the awkward strings, every code point beside letters,
//! digits and spaces, and, with `text` null, ids at random, for decoding only.

use llmc_data::tokenizer::{self, PreTokenizer, SpecialTokens, TokenizerConfig, TokenizerKind};
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// Strings that tell implementations apart.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "a\r\nb\r\n\r\nc",
    "tabs\tand\t\tmore\t \tx",
    "trailing spaces   ",
    "   leading",
    "a  b   c    d",
    "x\n\n\n  y",
    "x \n y",
    "it's I'll we've they're I'm he'd 'tis 'S 'LL ''s",
    "don't'have 're 'veto",
    "3.14159 1,000 12ab ab12 ² ³ ½ Ⅷ ⅷ ٣ ௧ 〇 一二三",
    "e\u{301} \u{301} a\u{300}\u{316}b \u{345}\u{2160}",
    "汉字 漢字かなカナ한국어 ไทย हिन्दी العربية עברית",
    "👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇪🇺 🫠",
    "nbsp\u{a0}here \u{a0}\u{a0} x\u{a0}",
    "line\u{2028}sep\u{2029}par \u{2028} x",
    "\u{85}nel \u{85}\u{85} \u{1680}\u{2003}\u{202f}\u{205f}\u{3000}wide",
    "zero\u{200b}width\u{200d}joiner\u{feff}bom\u{ad}soft",
    "control\u{0}\u{1}\u{7f}\u{9f} \u{b}\u{c} \u{1c}\u{1d}\u{1e}\u{1f} x",
    "ᾳ ǅ ʰ ª º ˢ ꟲ 𝔘𝔫𝔦 𝟘𝟙 ① ⒈ ㉑",
    "_snake_case CamelCase kebab-case __init__ $x @y #z",
    "!?!?...---===>>><<<|||&&&",
    " !x ?y (z) [ a ] { b }",
    "<s>special</s> <pad><unk></s></s> <s <pa d> <s></s",
    "\u{10ffff}\u{10fffe}\u{e000}\u{fffd}",
    "longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                                                                            x",
];

fn collect(folder: &Path, texts: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && entry.file_name() != "site-packages" {
            collect(&path, texts)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|extension| extension == "py")
            && let Ok(text) = String::from_utf8(std::fs::read(&path)?)
        {
            texts.push(text);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, vocab, folder, out] = arguments.as_slice() else {
        return Err("usage: dump_ids KIND VOCAB DIR OUT".into());
    };
    let (kind, is_cut) = match kind.strip_suffix(":none") {
        Some(kind) => (kind, false),
        None => (kind.as_str(), true),
    };
    let kind = TokenizerKind::from_name(kind).ok_or("KIND is byte_bpe, bpe or char")?;
    let vocab: u32 = vocab.parse()?;
    let mut texts = Vec::new();
    collect(Path::new(folder), &mut texts)?;

    let mut config = TokenizerConfig::new(kind, (vocab > 0).then_some(vocab));
    if !is_cut {
        config.pre_tokenizer = PreTokenizer::None;
    }
    config.special_tokens = SpecialTokens {
        pad: Some("<pad>".into()),
        unk: Some("<unk>".into()),
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        additional: Vec::new(),
    };
    // llmc cuts training texts at special tokens and `tokenizers` does not, so that
    // texts without any keep the two trainers comparable.
    let specials = config.special_tokens.in_order();
    let (trained, others): (Vec<String>, Vec<String>) =
        texts.into_iter().partition(|text| !specials.iter().any(|special| text.contains(special)));
    let tokenizer = tokenizer::train(&config, &trained, 2).map_err(|found| found[0].clone())?;

    let out = Path::new(out);
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("tokenizer.json"), tokenizer.to_json())?;
    std::fs::write(out.join("tokenizer_config.json"), tokenizer.to_config_json())?;
    let mut dump = std::io::BufWriter::new(std::fs::File::create(out.join("ids.jsonl"))?);
    // Each code point after a letter, after a digit, after a space and before one.
    let blocks = (0..0x1100u32).map(|block| {
        (block * 256..(block + 1) * 256)
            .filter_map(char::from_u32)
            .flat_map(|c| ['a', c, '1', c, ' ', c, ' '])
            .collect::<String>()
    });
    let others =
        others.into_iter().chain(AWKWARD.iter().map(|text| text.to_string())).chain(blocks);
    let records = trained.into_iter().map(|text| (text, true));
    for (text, is_trained) in records.chain(others.map(|text| (text, false))) {
        let ids = tokenizer.encode(&text);
        let record = json!({
            "text": text,
            "ids": ids,
            "decoded": tokenizer.decode(&ids),
            "plain": tokenizer.decode_plain(&ids),
            "is_trained": is_trained,
        });
        writeln!(dump, "{record}")?;
    }
    let mut state = 1u64;
    for _ in 0..500 {
        let ids: Vec<u32> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u32 % tokenizer.vocab_size()
            })
            .collect();
        let record = json!({
            "text": null,
            "ids": ids,
            "decoded": tokenizer.decode(&ids),
            "plain": tokenizer.decode_plain(&ids),
            "is_trained": false,
        });
        writeln!(dump, "{record}")?;
    }
    dump.flush()?;
    Ok(())
}
