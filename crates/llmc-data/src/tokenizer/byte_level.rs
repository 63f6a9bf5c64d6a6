//! The byte-level alphabet of GPT-2: one printable character per byte.
//!
//! Bytes that are printable Latin-1 stand for themselves; the other 68 are
//! U+0100, U+0101, … in byte order, so a space is `Ġ` and a newline `Ċ`. Only
//! `tokenizer.json` sees these characters: inside, tokens are bytes.
//!
//! Source: Radford et al. 2019 (GPT-2), `bytes_to_unicode` in `encoder.py`.

/// Whether the byte stands for itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character of each byte.
pub const CHARS: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut extra = 0x100u32;
    let mut i = 0;
    while i < 256 {
        let code = if is_plain(i as u8) {
            i as u32
        } else {
            extra += 1;
            extra - 1
        };
        table[i] = match char::from_u32(code) {
            Some(c) => c,
            None => '\0',
        };
        i += 1;
    }
    table
};

/// The byte of a character of the alphabet.
pub fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0..=0xFF => is_plain(code as u8).then_some(code as u8),
        // The n-th byte that is not plain: 0–32, 127–160, 173.
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// Bytes as a token of `tokenizer.json`.
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| CHARS[usize::from(b)]).collect()
}

/// A token of `tokenizer.json` as bytes, or `None` if a character is not in the alphabet.
pub fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

/// All bytes in the order of their characters: the order of their ids.
pub fn bytes_by_char() -> [u8; 256] {
    let mut bytes: [u8; 256] = std::array::from_fn(|i| i as u8);
    bytes.sort_by_key(|&b| CHARS[usize::from(b)]);
    bytes
}

#[cfg(test)]
mod tests;
