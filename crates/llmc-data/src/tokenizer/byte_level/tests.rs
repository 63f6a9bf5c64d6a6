//! The byte-level alphabet is a bijection.

use super::*;

#[test]
fn every_byte_has_one_character_and_back() {
    for byte in 0..=255u8 {
        assert_eq!(byte_of(CHARS[usize::from(byte)]), Some(byte));
    }
    let alphabet = (0..=0x200).filter_map(char::from_u32).filter(|&c| byte_of(c).is_some());
    assert_eq!(alphabet.count(), 256);
    assert_eq!(text_of(b" a\n"), "ĠaĊ");
    assert_eq!(bytes_of("Ġ漢"), None);
    assert_eq!(bytes_by_char()[0], b'!');
}
