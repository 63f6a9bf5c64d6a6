//! Special tokens in text.

use super::*;

#[test]
fn leftmost_then_longest() {
    let tokens = [("<a>".to_string(), 0), ("<a><b>".to_string(), 1), ("é".to_string(), 2)];
    let splitter = Splitter::new(&tokens);
    let pieces: Vec<_> = splitter.split("x<<a>y<a><b>è é").collect();
    use Piece::{Special, Text};
    assert_eq!(pieces, [Text("x<"), Special(0), Text("y"), Special(1), Text("è "), Special(2)]);
    assert_eq!(splitter.split("").count(), 0);
    assert_eq!(Splitter::new(&[]).split("ab").collect::<Vec<_>>(), [Text("ab")]);
}
