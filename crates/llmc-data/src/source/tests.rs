//! Path patterns and the source in memory.

use super::*;

#[test]
fn globs_match_as_shells_do() {
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        yes.iter().for_each(|path| assert!(glob_matches(pattern, path), "{pattern} {path}"));
        no.iter().for_each(|path| assert!(!glob_matches(pattern, path), "{pattern} {path}"));
    };
    check("a/*.py", &["a/x.py", "a/.py"], &["a/b/x.py", "a/x.pyc", "x.py"]);
    check("a/**/*.py", &["a/x.py", "a/b/c/x.py"], &["b/x.py", "a/x.txt"]);
    check("**", &["a", "a/b"], &[]);
    check("**/test/**", &["test/a", "x/test/y/z"], &["tests/a"]);
    check("?[a-c]x[!0-9]", &["éaxz", "-cx-"], &["adxz", "aax3"]);
    check("[]]x[", &["]x["], &["[x["]);
    check("", &[""], &["a"]);
}

#[test]
fn roots_are_the_literal_folders() {
    let check = |pattern: &str, root: &str| assert_eq!(glob_root(pattern), root, "{pattern}");
    check("/usr/lib/**/*.py", "/usr/lib");
    check("/*.py", "/");
    check("*.py", "");
    check("src/ma?n.rs", "src");
}

#[test]
fn memory_lists_files_folders_and_globs_in_order() {
    let source = MemorySource::new([("d/b.py", "2"), ("d/a.txt", "1"), ("dd/c.py", "3")]);
    assert_eq!(source.list("d").unwrap(), ["d/a.txt", "d/b.py"]);
    assert_eq!(source.list("d/").unwrap(), ["d/a.txt", "d/b.py"]);
    assert_eq!(source.list("d/b.py").unwrap(), ["d/b.py"]);
    assert_eq!(source.list("**/*.py").unwrap(), ["d/b.py", "dd/c.py"]);
    assert!(source.list("e").unwrap().is_empty());
    assert_eq!(source.read("e").unwrap_err().code, "source::not_found");
}
