//! What a language model has to beat: gzip and a byte n-gram model, in bits per
//! byte of held-out text.

use crate::fast_hash::FastMap;
use crate::threads;
use flate2::{Compression, write::GzEncoder};
use llmc_base::Diagnostic;
use std::io::Write;

/// Bits per byte of `gzip -9`: the held-out texts, one after the other, as one
/// gzip file, header and checksum counted. It learns from nothing else.
///
/// Errors: `baseline::empty` if there is no text.
pub fn gzip_bits_per_byte(held_out: &[&str]) -> Result<f64, Diagnostic> {
    let n_bytes = count_bytes(held_out)?;
    let mut encoder = GzEncoder::new(CountBytes(0), Compression::best());
    let compressed = held_out
        .iter()
        .try_for_each(|text| encoder.write_all(text.as_bytes()))
        .and_then(|()| encoder.finish())
        .expect("counting bytes cannot fail");
    Ok(8.0 * compressed.0 as f64 / n_bytes as f64)
}

/// Counts what is written to it.
struct CountBytes(u64);

impl Write for CountBytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bits per byte of an interpolated byte n-gram model with Witten–Bell
/// smoothing, counted on `train`, measured on `held_out`.
///
/// With `h` the last `order − 1` bytes, `c` counts, and `T(h)` the number of
/// distinct bytes seen after `h`,
///
/// ```text
/// P(b | h) = (c(h b) + T(h) · P(b | h')) / (c(h) + T(h))
/// ```
///
/// where `h'` is `h` without its first byte; a context never seen gives
/// `P(b | h')`, and below the empty context is 1/256. A document begins after
/// zero bytes. The result does not depend on `threads`. Memory grows with the
/// distinct n-grams, at most one for each byte of `train`.
///
/// Errors: `baseline::empty` if there is no held-out text, `baseline::order`
/// unless `order` is 1 to 8.
/// Source: Witten and Bell 1991, "The zero-frequency problem", method C.
pub fn ngram_bits_per_byte(
    train: &[&str],
    held_out: &[&str],
    order: usize,
    threads: usize,
) -> Result<f64, Diagnostic> {
    if !(1..=8).contains(&order) {
        return Err(Diagnostic::error(
            "baseline::order",
            format!("an n-gram model of order {order} is asked for, expected 1 to 8"),
        ));
    }
    let n_bytes = count_bytes(held_out)?;
    let model = NgramModel::count(train, order, threads);
    let bits: f64 = held_out
        .iter()
        .flat_map(|text| ngrams(text, order))
        .map(|ngram| -libm::log2(model.probability(ngram)))
        .sum();
    Ok(bits / n_bytes as f64)
}

fn count_bytes(texts: &[&str]) -> Result<usize, Diagnostic> {
    match texts.iter().map(|text| text.len()).sum() {
        0 => Err(Diagnostic::error("baseline::empty", "there is no held-out text to measure on")
            .help("hold out a share of the dataset")),
        n => Ok(n),
    }
}

/// For each byte of a document, the byte with the `order − 1` before it, the
/// latest in the lowest place.
fn ngrams(text: &str, order: usize) -> impl Iterator<Item = u64> {
    text.bytes().scan(0u64, move |window, byte| {
        *window = ((*window << 8) | u64::from(byte)) & mask(order);
        Some(*window)
    })
}

/// The lowest `n` bytes.
fn mask(n: usize) -> u64 {
    if n == 0 { 0 } else { u64::MAX >> (64 - 8 * n) }
}

/// Sum of counts after a context, and the number of distinct bytes.
#[derive(Clone, Copy, Default)]
struct Context {
    total: u64,
    distinct: u64,
}

struct NgramModel {
    /// By length − 1: counts of n-grams.
    counts: Vec<FastMap<u64, u64>>,
    /// By length: contexts.
    contexts: Vec<FastMap<u64, Context>>,
}

impl NgramModel {
    /// Counts the longest n-grams; the shorter ones are sums of those.
    fn count(train: &[&str], order: usize, threads: usize) -> Self {
        let mut states =
            threads::fold(train, threads, FastMap::<u64, u64>::default, |counts, text| {
                for ngram in ngrams(text, order) {
                    *counts.entry(ngram).or_default() += 1;
                }
            })
            .into_iter();
        let mut longest = states.next().unwrap_or_default();
        for (ngram, count) in states.flatten() {
            *longest.entry(ngram).or_default() += count;
        }
        let mut counts = vec![longest];
        for len in (1..order).rev() {
            let mut shorter = FastMap::<u64, u64>::default();
            for (ngram, count) in &counts[0] {
                *shorter.entry(ngram & mask(len)).or_default() += count;
            }
            counts.insert(0, shorter);
        }
        let contexts = counts
            .iter()
            .map(|counts| {
                let mut contexts = FastMap::<u64, Context>::default();
                for (ngram, count) in counts {
                    let context = contexts.entry(ngram >> 8).or_default();
                    context.total += count;
                    context.distinct += 1;
                }
                contexts
            })
            .collect();
        NgramModel { counts, contexts }
    }

    /// P of the lowest byte after those above it.
    fn probability(&self, ngram: u64) -> f64 {
        let mut p = 1.0 / 256.0;
        for (len, (counts, contexts)) in self.counts.iter().zip(&self.contexts).enumerate() {
            let Some(context) = contexts.get(&((ngram >> 8) & mask(len))) else { break };
            let count = counts.get(&(ngram & mask(len + 1))).copied().unwrap_or(0);
            p = (count as f64 + context.distinct as f64 * p)
                / (context.total + context.distinct) as f64;
        }
        p
    }
}

#[cfg(test)]
mod tests;
