//! The GPT-2 pre-tokenisation pattern, as a hand-written scanner.
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! The pattern covers every character, so a text is exactly the concatenation
//! of its words. The scanner looks at each character once and at most one
//! character ahead; it gives the very words of the `ByteLevel` pre-tokenizer of
//! Hugging Face `tokenizers` with `add_prefix_space = false`.
//!
//! Source: Radford et al. 2019 (GPT-2), `encoder.py`.

use super::unicode::{Class, ascii_class, class};

/// The words of `text`, in order.
pub fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

/// Iterator over the words of a text.
pub struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.at == self.text.len() {
            return None;
        }
        let start = self.at;
        self.at = word_end(self.text, start);
        Some(&self.text[start..self.at])
    }
}

/// The end of the word that starts at byte `start`.
fn word_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    if bytes[start] == b'\''
        && let Some(len) = contraction(&bytes[start + 1..])
    {
        return start + 1 + len;
    }
    let (first, width) = class_at(text, start);
    if first != Class::Space {
        return run_end(text, start + width, first);
    }
    if bytes[start] == b' ' && start + 1 < bytes.len() {
        let (next, width) = class_at(text, start + 1);
        if next != Class::Space {
            return run_end(text, start + 1 + width, next);
        }
    }
    // `\s+(?!\S)|\s+`: a run of spaces gives its last one up, unless the text
    // ends here or there is only that one.
    let mut last = start;
    let mut end = start + width;
    while end < bytes.len() {
        let (next, width) = class_at(text, end);
        if next != Class::Space {
            return if last == start { end } else { last };
        }
        last = end;
        end += width;
    }
    end
}

/// The length of `s`, `t`, `re`, `ve`, `m`, `ll` or `d` at the start of `rest`.
fn contraction(rest: &[u8]) -> Option<usize> {
    match rest {
        [b's' | b't' | b'm' | b'd', ..] => Some(1),
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => Some(2),
        _ => None,
    }
}

/// The end of the run of `kind` that goes on at byte `at`.
#[inline]
fn run_end(text: &str, mut at: usize, kind: Class) -> usize {
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let (next, width) = class_at(text, at);
        if next != kind {
            break;
        }
        at += width;
    }
    at
}

/// Class and width in bytes of the character at byte `at`.
#[inline]
fn class_at(text: &str, at: usize) -> (Class, usize) {
    let byte = text.as_bytes()[at];
    if byte < 128 {
        return (ascii_class(byte), 1);
    }
    let c = text[at..].chars().next().expect("`at` is a character boundary inside the text");
    (class(c), c.len_utf8())
}

/// Cuts `text` into pieces of about `target` bytes such that the words of the
/// pieces are the words of the text.
///
/// A cut is made only between a character that is no white space and an ASCII
/// white space: no word holds such a pair, and what is left of it is scanned
/// alike at the end of a text. A text without such a place stays whole.
pub fn safe_chunks(text: &str, target: usize) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut chunks = Vec::new();
    let mut start = 0;
    while bytes.len() - start > target.max(1) {
        let from = start + target.max(1);
        let cut = (from..bytes.len()).find(|&i| {
            bytes[i] < 128
                && ascii_class(bytes[i]) == Class::Space
                && bytes[i - 1] < 128
                && ascii_class(bytes[i - 1]) != Class::Space
        });
        let Some(cut) = cut else { break };
        chunks.push(&text[start..cut]);
        start = cut;
    }
    if start < bytes.len() {
        chunks.push(&text[start..]);
    }
    chunks
}

#[cfg(test)]
mod tests;
