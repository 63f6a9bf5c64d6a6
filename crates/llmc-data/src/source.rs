//! How files enter: the [`Source`] trait, one in memory, and path patterns.
//!
//! Paths use `/` on every system. The file system itself is behind the
//! implementation of the joining crate.

use llmc_base::Diagnostic;
use std::collections::BTreeMap;

/// Files by path.
pub trait Source {
    /// The files that `pattern` names: the file itself, every file below a
    /// folder, or every file that a glob matches (see [`glob_matches`]).
    ///
    /// Paths come sorted by their bytes, each once, and begin with the pattern,
    /// or with its [`glob_root`]. Nothing found is an empty list.
    ///
    /// Errors: a folder that cannot be read.
    fn list(&self, pattern: &str) -> Result<Vec<String>, Diagnostic>;

    /// The bytes of one file.
    ///
    /// Errors: no such file, or it cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, Diagnostic>;
}

/// Files in memory, for tests and for text that never was a file.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemorySource {
    /// A source of these files.
    pub fn new<P: Into<String>, B: Into<Vec<u8>>>(files: impl IntoIterator<Item = (P, B)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect();
        MemorySource { files }
    }
}

impl Source for MemorySource {
    fn list(&self, pattern: &str) -> Result<Vec<String>, Diagnostic> {
        let folder = format!("{}/", pattern.trim_end_matches('/'));
        let is_named = |path: &str| {
            if is_glob(pattern) {
                glob_matches(pattern, path)
            } else {
                path == pattern || path.starts_with(&folder)
            }
        };
        Ok(self.files.keys().filter(|path| is_named(path)).cloned().collect())
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Diagnostic> {
        self.files.get(path).cloned().ok_or_else(|| {
            Diagnostic::error("source::not_found", format!("there is no file `{path}`"))
        })
    }
}

/// Whether the text is a glob rather than a path: it has a `*`, `?` or `[`.
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Whether a `[` of the glob has no `]`, so that it stands for itself: often a slip.
pub fn has_open_set(pattern: &str) -> bool {
    pattern.split('/').any(|part| {
        // Characters that follow sets stand for themselves, an open `[` among them.
        elements(part).iter().any(|element| matches!(element, Element::Char('[')))
    })
}

/// The folder below which everything lies that a glob can match: its part
/// before the last `/` in front of the first special character. Empty for the
/// current folder.
pub fn glob_root(pattern: &str) -> &str {
    let special = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    match pattern[..special].rfind('/') {
        Some(0) => "/",
        Some(end) => &pattern[..end],
        None => "",
    }
}

/// Whether `path` as a whole matches `pattern`.
///
/// `?` is one character and `*` any number of them, `/` excepted; `**` as a
/// whole part is any number of parts, none included; `[a-z_]` is one of a set,
/// `[!…]` one outside of it. A `[` without `]` and everything else stand for
/// themselves. There is no `{a,b}`.
pub fn glob_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    // matched[j]: the parts of the pattern so far match the first j parts of the path.
    let mut matched = vec![false; path.len() + 1];
    matched[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if part == "**" {
            let mut any = false;
            for (j, m) in matched.iter().enumerate() {
                any |= m;
                next[j] = any;
            }
        } else {
            for (j, name) in path.iter().enumerate() {
                next[j + 1] = matched[j] && part_matches(part, name);
            }
        }
        matched = next;
    }
    matched[path.len()]
}

/// One element of a pattern's part.
enum Element {
    /// `*`.
    Any,
    /// `?`.
    One,
    /// `[…]`: whether it is negated, and its ranges.
    Set(bool, Vec<(char, char)>),
    /// The character itself.
    Char(char),
}

fn part_matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // As above, with characters instead of parts.
    let mut matched = vec![false; name.len() + 1];
    matched[0] = true;
    for element in elements(pattern) {
        let mut next = vec![false; name.len() + 1];
        if let Element::Any = element {
            let mut any = false;
            for (j, m) in matched.iter().enumerate() {
                any |= m;
                next[j] = any;
            }
        } else {
            for (j, &c) in name.iter().enumerate() {
                let fits = match &element {
                    Element::Any | Element::One => true,
                    Element::Set(negated, ranges) => {
                        ranges.iter().any(|&(a, b)| (a..=b).contains(&c)) != *negated
                    }
                    Element::Char(expect) => c == *expect,
                };
                next[j + 1] = matched[j] && fits;
            }
        }
        matched = next;
    }
    matched[name.len()]
}

fn elements(pattern: &str) -> Vec<Element> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut elements = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let element = match chars[at] {
            '*' => Element::Any,
            '?' => Element::One,
            '[' => match set(&chars[at + 1..]) {
                Some((element, len)) => {
                    at += len;
                    element
                }
                None => Element::Char('['),
            },
            c => Element::Char(c),
        };
        elements.push(element);
        at += 1;
    }
    elements
}

/// The set after a `[`, and its length with the `]`. A `]` that comes first is
/// a member.
fn set(rest: &[char]) -> Option<(Element, usize)> {
    let negated = rest.first() == Some(&'!');
    let start = usize::from(negated);
    let close = (start + 1..rest.len()).find(|&i| rest[i] == ']')?;
    let members = &rest[start..close];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        match members[at..] {
            [first, '-', last, ..] => {
                ranges.push((first, last));
                at += 3;
            }
            _ => {
                ranges.push((members[at], members[at]));
                at += 1;
            }
        }
    }
    Some((Element::Set(negated, ranges), close + 1))
}

#[cfg(test)]
mod tests;
