//! Measures training, encoding and decoding of a `byte_bpe` tokenizer on the
//! text files below a folder.
//!
//! ```text
//! cargo run --release -p llmc-data --example tokenizer_speed -- DIR [MEGABYTES] [VOCAB] [THREADS] [OUT]
//! ```
//!
//! The files (`.py`, `.txt`, `.md`, `.rs`, valid UTF-8, in path order) are
//! repeated until MEGABYTES are there (50), cut into documents of about 4 kB for
//! encoding. Training takes VOCAB tokens (8192) on THREADS threads (2). What `benches/tokenizers_speed.py` compares with
//! `tokenizers` and tiktoken goes to the folder OUT: tokenizer.json, the documents with a zero byte between
//! them, and their ids as little-endian u32 in one row.

use llmc_data::tokenizer::{self, TokenizerConfig, TokenizerKind};
use std::path::Path;
use std::time::Instant;

fn collect(folder: &Path, texts: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if kind.is_dir() {
            collect(&path, texts)?;
        } else if kind.is_file()
            && extension.is_some_and(|e| ["py", "txt", "md", "rs"].contains(&e))
            && let Ok(text) = String::from_utf8(std::fs::read(&path)?)
        {
            texts.push(text);
        }
    }
    Ok(())
}

/// Cuts a text after lines into documents of at least `target` bytes.
fn documents(text: &str, target: usize) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        if at - start >= target {
            documents.push(&text[start..at]);
            start = at;
        }
    }
    documents.push(&text[start..]);
    documents
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        return Err("usage: tokenizer_speed DIR [MEGABYTES] [VOCAB] [THREADS] [OUT]".into());
    };
    let number = |i: usize, default: usize| {
        arguments.get(i).map_or(Ok(default), |argument| argument.parse())
    };
    let (megabytes, vocab, threads) = (number(1, 50)?, number(2, 8192)?, number(3, 2)?);

    let mut files = Vec::new();
    collect(Path::new(folder), &mut files)?;
    if files.is_empty() {
        return Err(format!("no text files below {folder}").into());
    }
    let mut texts: Vec<&str> = Vec::new();
    let mut n_bytes = 0;
    for file in files.iter().cycle() {
        if n_bytes >= megabytes * 1_000_000 {
            break;
        }
        texts.push(file);
        n_bytes += file.len().max(1);
    }
    let mb = n_bytes as f64 / 1e6;
    println!("{} files, {:.1} MB, {threads} threads", texts.len(), mb);

    let config = TokenizerConfig::new(TokenizerKind::ByteBpe, Some(vocab as u32));
    let start = Instant::now();
    let tokenizer = tokenizer::train(&config, &texts, threads).map_err(|found| found[0].clone())?;
    println!("train, vocabulary {vocab}: {:.2} s", start.elapsed().as_secs_f64());

    let documents: Vec<&str> = texts.iter().flat_map(|text| documents(text, 4096)).collect();
    let start = Instant::now();
    let encoded = tokenizer.encode_batch(&documents, threads);
    let seconds = start.elapsed().as_secs_f64();
    let n_ids: usize = encoded.iter().map(Vec::len).sum();
    println!("encode: {:.1} MB/s, {:.2} bytes per id", mb / seconds, n_bytes as f64 / n_ids as f64);

    if let Some(out) = arguments.get(4) {
        let out = Path::new(out);
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("tokenizer.json"), tokenizer.to_json())?;
        std::fs::write(out.join("documents"), documents.join("\0"))?;
        let ids: Vec<u8> = encoded.iter().flatten().flat_map(|id| id.to_le_bytes()).collect();
        std::fs::write(out.join("ids"), ids)?;
    }

    let start = Instant::now();
    let decoded: usize = encoded.iter().map(|ids| tokenizer.decode(ids).len()).sum();
    println!("decode: {:.1} MB/s", decoded as f64 / 1e6 / start.elapsed().as_secs_f64());
    Ok(())
}
