//! `docs/ir.md` is true: its examples parse, and its lists are complete.

use llmc_ir::text::parse_and_verify;
use llmc_ir::verify::Check;

const DOC: &str = include_str!("../../../../docs/ir.md");

#[test]
fn examples_parse_and_verify() {
    let mut n = 0;
    for block in DOC.split("```ir\n").skip(1) {
        let text = block.split("```").next().unwrap_or("");
        if let Err(errors) = parse_and_verify("docs/ir.md", text) {
            panic!("{errors:?}\n{text}");
        }
        n += 1;
    }
    assert!(n >= 4);
}

#[test]
fn every_check_is_listed_with_what_it_demands() {
    for (_, code, what) in Check::ALL {
        let row = format!("| `{code}` |{what} |");
        assert!(DOC.contains(&row), "missing: {row}");
    }
    // And nothing that is no check.
    let listed =
        DOC.lines().skip_while(|l| *l != "## Verifier").filter(|l| l.starts_with("| `ir::"));
    assert_eq!(listed.count(), Check::ALL.len());
}

#[test]
fn codes_of_the_parser_are_listed() {
    let sources = [
        include_str!("../../src/text/lexer.rs"),
        include_str!("../../src/text/parser.rs"),
        include_str!("../../src/text/parse_parts.rs"),
        include_str!("../../src/text/lower.rs"),
        include_str!("../../src/text/resolve.rs"),
        include_str!("../../src/text/mod.rs"),
    ];
    for source in sources {
        for part in source.split("\"ir::").skip(1) {
            let code = part.split('"').next().unwrap_or("");
            assert!(DOC.contains(&format!("| `ir::{code}` |")), "missing: ir::{code}");
        }
    }
}
