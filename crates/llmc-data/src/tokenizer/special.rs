//! Special tokens in running text.
//!
//! A text that spells a special token is cut there first, and the token gets
//! its one id: leftmost match, then the longest, as Hugging Face does for added
//! tokens with `special = true, normalized = false`.

/// A stretch of text, or a special token that stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text without special tokens; never empty.
    Text(&'a str),
    /// The id of a special token.
    Special(u32),
}

/// Finds special tokens.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// Longest first, so that the first that fits is the longest.
    tokens: Vec<(String, u32)>,
    starts: [bool; 256],
}

impl Splitter {
    /// A splitter for these texts and ids; no text is empty.
    pub fn new(tokens: &[(String, u32)]) -> Self {
        let mut tokens = tokens.to_vec();
        tokens.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        let mut starts = [false; 256];
        for (text, _) in &tokens {
            starts[usize::from(text.as_bytes()[0])] = true;
        }
        Splitter { tokens, starts }
    }

    /// The pieces of `text`, in order.
    pub fn split<'s, 'a>(&'s self, text: &'a str) -> Pieces<'s, 'a> {
        Pieces { splitter: self, rest: text, next: None }
    }

    /// First byte, id and length of the first special token in `text`.
    fn find(&self, text: &str) -> Option<(usize, u32, usize)> {
        if self.tokens.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let mut from = 0;
        while let Some(offset) = bytes[from..].iter().position(|&b| self.starts[usize::from(b)]) {
            let at = from + offset;
            let here =
                self.tokens.iter().find(|(token, _)| bytes[at..].starts_with(token.as_bytes()));
            if let Some((token, id)) = here {
                return Some((at, *id, token.len()));
            }
            from = at + 1;
        }
        None
    }
}

/// Iterator over the pieces of a text.
pub struct Pieces<'s, 'a> {
    splitter: &'s Splitter,
    rest: &'a str,
    next: Option<u32>,
}

impl<'a> Iterator for Pieces<'_, 'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some(id) = self.next.take() {
            return Some(Piece::Special(id));
        }
        if self.rest.is_empty() {
            return None;
        }
        let Some((at, id, len)) = self.splitter.find(self.rest) else {
            return Some(Piece::Text(std::mem::take(&mut self.rest)));
        };
        let text = &self.rest[..at];
        self.rest = &self.rest[at + len..];
        if text.is_empty() {
            return Some(Piece::Special(id));
        }
        self.next = Some(id);
        Some(Piece::Text(text))
    }
}

#[cfg(test)]
mod tests;
