//! The scanner against the pattern, and cuts that move no word.

use super::*;
use proptest::prelude::*;

fn check(text: &str, expect: &[&str]) {
    assert_eq!(words(text).collect::<Vec<_>>(), expect, "{text:?}");
}

#[test]
fn follows_the_pattern() {
    check("", &[]);
    check("Hello world", &["Hello", " world"]);
    check("it's we'll I'D", &["it", "'s", " we", "'ll", " I", "'", "D"]);
    check("!'s", &["!'", "s"]);
    check("a  b", &["a", " ", " b"]);
    check("a\n\n  b", &["a", "\n\n ", " b"]);
    check("a \n", &["a", " \n"]);
    check("a\nb", &["a", "\n", "b"]);
    check("\tx", &["\t", "x"]);
    check("  ", &["  "]);
    check("x1²Ⅷ 3.5", &["x", "1²Ⅷ", " 3", ".", "5"]);
    check("a\u{a0}b", &["a", "\u{a0}", "b"]);
    check("a \u{a0}b", &["a", " ", "\u{a0}", "b"]);
    check("漢字 かな!", &["漢字", " かな", "!"]);
    check("e\u{301}", &["e", "\u{301}"]);
    check(" 👩‍👩‍👧", &[" 👩‍👩‍👧"]);
}

proptest! {
    #[test]
    fn nothing_is_lost(text in "\\PC*|[ \\n\\t'a-s0-9\u{a0}é.]*") {
        prop_assert_eq!(words(&text).collect::<String>(), text);
    }

    #[test]
    fn chunks_have_the_same_words(text in "[ \\n\\t'a-d0-2\u{a0}é.]{0,80}", target in 1usize..12) {
        let chunked: Vec<_> =
            safe_chunks(&text, target).into_iter().flat_map(words).collect();
        prop_assert_eq!(chunked, words(&text).collect::<Vec<_>>());
    }
}
