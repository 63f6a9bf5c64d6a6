//! Each `tests/text/*.ir` is parsed and verified. What must be reported is written at the end of
//! the line it points into: `//~ code: part of the message`; a line may have several. What has no
//! place is written `//~@ code`. A file whose first line is `// canonical` prints as it stands,
//! apart from that line.

use llmc_ir::text::{parse_and_verify, print};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Code and part of the message, by line; line 0 is for what has no place.
type Reports = BTreeMap<usize, Vec<(String, String)>>;

fn expected(text: &str) -> Reports {
    let mut reports = Reports::new();
    for (n, line) in text.lines().enumerate() {
        for part in line.split("//~").skip(1) {
            let (line, part) = match part.strip_prefix('@') {
                Some(part) => (0, part),
                None => (n + 1, part),
            };
            let (code, message) = part.split_once(": ").unwrap_or((part, ""));
            let report = (code.trim().to_string(), message.trim().to_string());
            reports.entry(line).or_default().push(report);
        }
    }
    reports
}

/// What is wrong with one file, one line each.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut expected = expected(text);
    let mut problems = Vec::new();
    match parse_and_verify(name, text) {
        Ok(module) => {
            if let Some(canonical) = text.strip_prefix("// canonical\n") {
                let printed = print(&module);
                let lines = printed.lines().zip(canonical.lines());
                for (n, (found, wanted)) in lines.enumerate().filter(|(_, (a, b))| a != b) {
                    problems.push(format!("{name}:{}: printed as `{found}`, is `{wanted}`", n + 2));
                }
                if problems.is_empty() && printed != canonical {
                    problems.push(format!("{name}: printed with another number of lines"));
                }
            }
        }
        Err(diagnostics) => {
            for diagnostic in diagnostics {
                let span = diagnostic.labels.first().map(|l| &l.span);
                let line = span.map_or(0, |s| s.line_column(text).0);
                let reports = expected.entry(line).or_default();
                let found = reports.iter().position(|(code, message)| {
                    *code == diagnostic.code && diagnostic.message.contains(message)
                });
                match found {
                    Some(at) => _ = reports.remove(at),
                    None => problems.push(format!("{name}:{line}: unexpected {diagnostic}")),
                }
            }
        }
    }
    for (line, reports) in expected {
        problems.extend(reports.iter().map(|r| format!("{name}:{line}: not reported: {r:?}")));
    }
    problems
}

#[test]
fn files_give_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of this test")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "ir"))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    let mut problems = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path).expect("a text");
        let name = path.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
        problems.extend(check(&name, &text));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
