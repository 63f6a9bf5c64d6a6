//! How names are written: bare where they look like names, quoted otherwise.

/// Whether a bare name may start with this character.
pub(crate) fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a bare name may go on with this character (dots stand between them).
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a text is a bare name: parts of letters, digits and `_` joined by
/// single dots, the first not starting with a digit.
pub(crate) fn is_bare(text: &str) -> bool {
    text.starts_with(is_name_start)
        && text.split('.').all(|part| !part.is_empty() && part.chars().all(is_name_char))
}

/// The name, quoted where it must be.
pub(crate) fn written(name: &str) -> String {
    if is_bare(name) { name.to_string() } else { format!("{name:?}") }
}

/// What looks like a name and resembles `text`: for labels that the printer makes up.
pub(super) fn label(text: &str) -> String {
    let label: String = text.chars().map(|c| if is_name_char(c) { c } else { '_' }).collect();
    if label.starts_with(is_name_start) { label } else { format!("v{label}") }
}
