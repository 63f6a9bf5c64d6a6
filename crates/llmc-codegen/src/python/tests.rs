//! Parentheses, numbers, names and line breaks.

use super::layout::wrap;
use super::*;

fn atom(text: &str) -> Code {
    Code::atom(text)
}

#[test]
fn parentheses_keep_the_order_of_operations() {
    let (a, b, c) = (atom("a"), atom("b"), atom("c"));
    let sum = Code::binary(&b, "+", &c, Prec::Sum);
    assert_eq!(Code::binary(&a, "+", &sum, Prec::Sum).text(), "a + (b + c)");
    assert_eq!(Code::binary(&sum, "+", &a, Prec::Sum).text(), "b + c + a");
    assert_eq!(Code::binary(&sum, "*", &a, Prec::Product).text(), "(b + c) * a");
    assert_eq!(sum.method("exp", &[]).text(), "(b + c).exp()");
    assert_eq!(Code::binary(&Code::int(-1), "**", &a, Prec::Power).text(), "(-1) ** a");
    let power = Code::binary(&a, "**", &b, Prec::Power);
    assert_eq!(Code::binary(&power, "**", &power, Prec::Power).text(), "(a ** b) ** (a ** b)");
    let less = Code::binary(&a, "<", &b, Prec::Compare);
    assert_eq!(Code::binary(&less, "==", &c, Prec::Compare).text(), "(a < b) == c");
    assert_eq!(Code::binary(&less, "&", &c, Prec::BitAnd).text(), "(a < b) & c");
}

#[test]
fn numbers_read_back() {
    for (value, text) in [
        (1e-5, "1e-5"),
        (0.1, "0.1"),
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (f64::INFINITY, "torch.inf"),
        (f64::NEG_INFINITY, "-torch.inf"),
        (f64::NAN, "torch.nan"),
    ] {
        assert_eq!(Code::float(value).text(), text);
    }
    assert_eq!(Code::float(-2.5).at(Prec::Atom), "(-2.5)");
}

#[test]
fn dims_are_spelled_with_their_symbols() {
    let spell = |text: &str| {
        let expr = Expr::parse(text).unwrap();
        dim(&expr, &mut |s| s.name().to_string()).text().to_string()
    };
    for text in ["2 * B * T + 3", "T * T - S", "-T + 1", "0", "7", "a + b - 1"] {
        assert_eq!(spell(text), text);
    }
}

#[test]
fn names_become_identifiers() {
    for (name, expected) in [("q", "q"), ("2x", "_2x"), ("lambda", "lambda_"), ("a.b-c", "a_b_c")] {
        assert_eq!(identifier(name), expected);
        assert!(is_identifier(expected));
    }
    assert!(!is_identifier("in") && !is_identifier("1a") && !is_identifier(""));
    assert_eq!(class_name("layer_attention"), "LayerAttention");
    assert_eq!(class_name("3d"), "Module3d");
    assert_eq!(class_name("mlp"), "MLP");
    assert_eq!(string("a\"b\\\n"), r#""a\"b\\\n""#);
}

#[test]
fn long_statements_break_at_their_brackets() {
    let check = |text: &str, width: usize, lines: &[&str]| assert_eq!(wrap(text, width), lines);
    check("x = f(a, b)", 20, &["x = f(a, b)"]);
    check("x = f(a, b)", 10, &["x = f(", "    a, b", ")"]);
    check(
        "x = f(aaa, g(b, c), \"(,\")",
        14,
        &["x = f(", "    aaa,", "    g(b, c),", "    \"(,\",", ")"],
    );
    check("abcdefgh", 4, &["abcdefgh"]);
}
