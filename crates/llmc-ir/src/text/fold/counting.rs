//! Texts that count from step to step: `layers.0`, `layers.1`, …

/// Texts that are equal but for one number that counts.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    pub(super) prefix: String,
    pub(super) suffix: String,
    pub(super) first: i64,
    /// 0: the texts are equal, and `prefix` is the whole.
    pub(super) step: i64,
}

impl Counting {
    /// From the texts of the first two steps.
    pub(super) fn new(a: &str, b: &str) -> Option<Counting> {
        if a == b {
            return Some(Counting { prefix: a.into(), suffix: String::new(), first: 0, step: 0 });
        }
        let bytes = a.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            let len = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
            let (prefix, suffix) = (&a[..start], &a[start + len..]);
            if len > 0
                && let Some(rest) = b.strip_prefix(prefix)
                && let Some(second) = rest.strip_suffix(suffix)
                && let (Some(first), Some(second)) = (count(&a[start..start + len]), count(second))
            {
                let (prefix, suffix) = (prefix.to_string(), suffix.to_string());
                return Some(Counting { prefix, suffix, first, step: second - first });
            }
            start += len.max(1);
            while !a.is_char_boundary(start) {
                start += 1;
            }
        }
        None
    }

    /// Whether this is the text of a step.
    pub(super) fn holds(&self, step: usize, text: &str) -> bool {
        if self.step == 0 {
            return text == self.prefix;
        }
        let number = text.strip_prefix(&self.prefix).and_then(|t| t.strip_suffix(&self.suffix));
        number.and_then(count) == Some(self.first + self.step * step as i64)
    }
}

/// A number without sign or leading zeros.
fn count(text: &str) -> Option<i64> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|n| is_plain && *n < 1 << 30)
}
