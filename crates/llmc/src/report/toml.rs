//! TOML with coloured words. Not a parser: a line that it does not understand
//! is shown as it is.

use super::html::escape;

/// The text as HTML.
pub(super) fn highlight(text: &str) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(line).collect();
    lines.join("\n")
}

fn line(text: &str) -> String {
    let trimmed = text.trim_start();
    if trimmed.starts_with('#') {
        return span("comment", text);
    }
    if trimmed.starts_with('[') && trimmed.trim_end().ends_with(']') && !trimmed.contains('=') {
        return span("table", text);
    }
    match text.split_once('=') {
        Some((key, rest)) if is_key(key.trim()) => {
            format!("{}={}", span("key", key), value(rest))
        }
        _ => value(text),
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | ' '))
}

/// Strings, numbers and words of a value; a comment after it.
fn value(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (class, length) = match first {
            '#' => ("comment", rest.len()),
            '"' | '\'' => ("string", string_length(rest, first)),
            c if c.is_alphanumeric() || matches!(c, '+' | '-') => {
                let is_word = |c: char| c.is_alphanumeric() || "+-_.:".contains(c);
                ("number", rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
            }
            c => {
                out.push_str(&escape(&rest[..c.len_utf8()]));
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        out.push_str(&span(class, &rest[..length]));
        rest = &rest[length..];
    }
    out
}

/// Length of the string at the start, quotes included; to the end if it is open.
fn string_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if quote == '"' => is_escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    text.len()
}

fn span(class: &str, text: &str) -> String {
    format!("<span class=\"t-{class}\">{}</span>", escape(text))
}
