//! Ids to text.
//!
//! Tokens are bytes; bytes that are no UTF-8 become U+FFFD, one for each maximal
//! bad stretch, whether a text is decoded at once or token by token. Ids that
//! the vocabulary does not have are left out, as Hugging Face does.

use super::Tokenizer;

impl Tokenizer {
    /// The bytes of all tokens, specials spelled out.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().filter_map(|&id| self.vocab.get(id)).flatten().copied().collect()
    }

    /// The text of all tokens, specials spelled out.
    pub fn decode(&self, ids: &[u32]) -> String {
        lossy(self.decode_bytes(ids))
    }

    /// The text without special tokens.
    pub fn decode_plain(&self, ids: &[u32]) -> String {
        let plain = ids.iter().filter(|&&id| !self.is_special(id));
        lossy(plain.filter_map(|&id| self.vocab.get(id)).flatten().copied().collect())
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// Decodes token by token: gives text as soon as its characters are whole.
///
/// The pieces together, with [`StreamDecoder::finish`], are the text that
/// [`Tokenizer::decode`] gives for all ids at once.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The start of a character that is not whole yet; at most 3 bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that token `id` completes; empty inside a character.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.push_bytes(tokenizer.vocab.get(id).unwrap_or_default())
    }

    /// The text that these bytes complete.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(len) = error.error_len() else { break };
                    text.push('\u{FFFD}');
                    rest = &rest[len..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// What an unfinished character leaves: nothing or U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
