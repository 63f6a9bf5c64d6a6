//! Lines: indentation, and statements broken where they are too long.

/// Longest line, in characters.
pub const WIDTH: usize = 96;

/// Lines of Python at one indentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    text: String,
    indent: usize,
}

impl Block {
    /// An empty block whose lines are indented `indent` times.
    pub fn new(indent: usize) -> Self {
        Block { text: String::new(), indent }
    }

    /// Adds a statement on one line or, if it is too long, broken at its brackets.
    pub fn line(&mut self, statement: &str) {
        if statement.is_empty() {
            self.text.push('\n');
            return;
        }
        for line in wrap(statement, WIDTH.saturating_sub(4 * self.indent)) {
            self.text.push_str(&"    ".repeat(self.indent));
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    /// Adds a docstring.
    pub fn docstring(&mut self, text: &str) {
        let indent = "    ".repeat(self.indent);
        let text = text.replace('\\', "\\\\").replace("\"\"\"", "\\\"\\\"\\\"");
        let is_short = !text.contains('\n') && indent.len() + text.len() + 6 <= WIDTH;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.text.push_str(&format!("{indent}\"\"\"{first}"));
        for line in lines {
            self.text.push('\n');
            if !line.is_empty() {
                self.text.push_str(&indent);
                self.text.push_str(line);
            }
        }
        self.text.push_str(&if is_short {
            "\"\"\"\n".to_string()
        } else {
            format!("\n{indent}\"\"\"\n")
        });
    }

    /// Indents the lines that follow.
    pub fn indent(&mut self) {
        self.indent += 1;
    }

    /// Takes one indentation back.
    pub fn dedent(&mut self) {
        self.indent -= 1;
    }

    /// Adds a finished block.
    pub fn extend(&mut self, other: Block) {
        self.text.push_str(&other.text);
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// The lines of a statement, none longer than `width` if brackets allow it: what is in the longest
/// outermost brackets goes to lines of its own, together if it fits there, else an item a line.
pub fn wrap(statement: &str, width: usize) -> Vec<String> {
    if statement.chars().count() <= width {
        return vec![statement.to_string()];
    }
    let Some((open, close)) = longest_brackets(statement) else {
        return vec![statement.to_string()];
    };
    let (head, inner, tail) =
        (&statement[..=open], &statement[open + 1..close], &statement[close..]);
    if inner.is_empty() {
        return vec![statement.to_string()];
    }
    let mut lines = vec![head.to_string()];
    let is_comprehension = inner.contains(" for ");
    if inner.chars().count() + 4 <= width {
        lines.push(format!("    {inner}"));
    } else {
        for item in split_items(inner) {
            let comma = if is_comprehension { "" } else { "," };
            let item = wrap(&format!("{item}{comma}"), width.saturating_sub(4));
            lines.extend(item.into_iter().map(|line| format!("    {line}")));
        }
    }
    lines.push(tail.to_string());
    lines
}

/// Bytes that are within string literals are skipped by calling `visit` on the others only.
fn visit_code(text: &str, mut visit: impl FnMut(usize, u8)) {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if byte == b'\\' => is_escaped = true,
            Some(q) if byte == q => quote = None,
            Some(_) => {}
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            None => visit(at, byte),
        }
    }
}

/// The outermost pair of brackets with the most inside.
fn longest_brackets(text: &str) -> Option<(usize, usize)> {
    let (mut depth, mut open) = (0usize, 0);
    let mut found: Option<(usize, usize)> = None;
    visit_code(text, |at, byte| match byte {
        b'(' | b'[' | b'{' => {
            if depth == 0 {
                open = at;
            }
            depth += 1;
        }
        b')' | b']' | b'}' => {
            depth = depth.saturating_sub(1);
            if depth == 0 && found.is_none_or(|(from, to)| to - from < at - open) {
                found = Some((open, at));
            }
        }
        _ => {}
    });
    found
}

/// The parts between commas outside of brackets.
fn split_items(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0usize, 0, Vec::new());
    visit_code(text, |at, byte| match byte {
        b'(' | b'[' | b'{' => depth += 1,
        b')' | b']' | b'}' => depth = depth.saturating_sub(1),
        b',' if depth == 0 => {
            items.push(text[start..at].trim());
            start = at + 1;
        }
        _ => {}
    });
    items.push(text[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}
