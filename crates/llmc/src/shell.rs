//! Paths in the commands that are suggested to people.

use std::path::Path;

/// A path as a shell takes it: as it is where that is safe, in single quotes otherwise. A name that
/// starts with a dash gets `./` in front, or it would be an option.
pub fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let dash = if text.starts_with('-') { "./" } else { "" };
    match !text.is_empty() && text.chars().all(is_plain) {
        true => format!("{dash}{text}"),
        false => format!("'{dash}{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_would_change_them() {
        for (path, expected) in [
            ("runs/1f0c6b", "runs/1f0c6b"),
            ("we ird.toml", "'we ird.toml'"),
            ("it's", "'it'\\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
            ("-x y", "'./-x y'"),
            ("-x", "./-x"),
        ] {
            assert_eq!(quote(Path::new(path)), expected);
        }
    }
}
