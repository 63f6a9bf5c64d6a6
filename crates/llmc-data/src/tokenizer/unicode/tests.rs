//! The tables, pinned, and where classes differ from Rust's.

use super::*;

/// The classes of all code points, as one number: a changed table is a
/// changed tokenizer, and must be meant.
#[test]
fn the_tables_do_not_move() {
    let classes: Vec<u8> =
        (0..0x110000).filter_map(char::from_u32).map(|c| class(c) as u8).collect();
    let count = |k: Class| classes.iter().filter(|&&c| c == k as u8).count();
    assert_eq!(
        (count(Class::Letter), count(Class::Number), count(Class::Space)),
        (141028, 1911, 25)
    );
    assert_eq!(llmc_base::Hash::of_bytes(&classes).short(), "a3ce147655e5");
}

#[test]
fn alphabetic_and_letter_are_not_the_same() {
    assert_eq!(class('\u{2160}'), Class::Number, "a Roman numeral is alphabetic and Nl");
    assert_eq!(class('\u{0345}'), Class::Other, "a combining iota is alphabetic and Mn");
    assert_eq!(class('²'), Class::Number);
    assert_eq!(class('漢'), Class::Letter);
    assert_eq!(class('\u{2028}'), Class::Space);
    assert_eq!(class('\u{200B}'), Class::Other, "a zero-width space is no white space");
}
