//! Strict JSON (RFC 8259) to a tree with byte spans.
//!
//! A small reader of our own: `serde_json` gives no spans, and the YAML parser
//! would accept what is not JSON. Nothing is allowed beyond the RFC: no comments,
//! no trailing commas, no leading zeros, no bare words.

use super::{Entry, Fault, MAX_DEPTH, Node, Value};

/// Reads one JSON text.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    // Editors on Windows write a byte order mark; the RFC allows to ignore it.
    let pos = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, pos };
    reader.space();
    if reader.peek().is_none() {
        // An empty file asks for as little as `{}` does, in every format.
        return Ok(Node { value: Value::Table(Vec::new()), span: 0..0 });
    }
    let node = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader
            .expected("the end of the file", "a spec is one value, `{..}`: remove what follows")),
    }
}

/// The tree of a value without text.
pub(super) fn from_value(value: &serde_json::Value, depth: usize) -> Result<Node, Fault> {
    use serde_json::Value as Json;
    if depth > MAX_DEPTH {
        return Err(too_deep(0));
    }
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i128() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::Text(s.clone()),
        Json::Array(items) => Value::List(
            items.iter().map(|item| from_value(item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        Json::Object(map) => Value::Table(
            map.iter()
                .map(|(key, item)| {
                    let node = from_value(item, depth + 1)?;
                    Ok(Entry { key: key.clone(), key_span: 0..0, node })
                })
                .collect::<Result<_, Fault>>()?,
        ),
    };
    Ok(Node { value, span: 0..0 })
}

fn too_deep(pos: usize) -> Fault {
    let help = "a spec has sections, fields, and at most tables in fields";
    Fault::syntax(format!("nested deeper than {MAX_DEPTH}"), pos..pos, help)
}

struct Reader<'a> {
    text: &'a str,
    pos: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    /// A fault at the next character.
    fn expected(&self, what: &str, help: &str) -> Fault {
        let after_comma = self.text[..self.pos].trim_end().ends_with(',');
        match self.text[self.pos..].chars().next() {
            Some(c) => Fault::syntax(
                format!("expected {what}, found `{}`", c.escape_debug()),
                self.pos..self.pos + c.len_utf8(),
                match c {
                    '}' | ']' if after_comma => "remove the comma in front of it",
                    '/' | '#' => {
                        "JSON has no comments: remove it, or write the spec in TOML or YAML"
                    }
                    '\'' => "JSON has double quotes only",
                    _ => help,
                },
            ),
            None => Fault::syntax(
                format!("expected {what}, found the end of the file"),
                self.pos..self.pos,
                "close every `{`, `[` and `\"` that is open",
            ),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(too_deep(self.pos));
        }
        self.space();
        let start = self.pos;
        let value = match self.peek() {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => {
                return Err(self.expected(
                    "a value",
                    "a value is a number, \"text\", true, false, null, [..] or {..}",
                ));
            }
        };
        Ok(Node { value, span: start..self.pos })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        if !self.text[self.pos..].starts_with(word) {
            return Err(self.expected(
                &format!("`{word}`"),
                "a value is a number, \"text\", true, false, null, [..] or {..}",
            ));
        }
        self.pos += word.len();
        Ok(value)
    }

    fn table(&mut self, depth: usize) -> Result<Value, Fault> {
        self.pos += 1;
        let mut entries = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Table(entries));
        }
        loop {
            self.space();
            let start = self.pos;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes", "write `\"key\": value`"));
            }
            let key = self.string()?;
            let key_span = start..self.pos;
            self.space();
            if !self.eat(b':') {
                return Err(self.expected("`:`", "write `\"key\": value`"));
            }
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, key_span, node });
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Table(entries));
            }
            if !self.eat(b',') {
                return Err(self.expected("`,` or `}`", "put a comma between two entries"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        self.pos += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat(b']') {
                return Ok(Value::List(items));
            }
            if !self.eat(b',') {
                return Err(self.expected("`,` or `]`", "put a comma between two entries"));
            }
        }
    }

    /// number = [ "-" ] ( "0" / 1-9 *DIGIT ) [ "." 1*DIGIT ] [ e [sign] 1*DIGIT ]
    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.pos;
        self.eat(b'-');
        if self.eat(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(
                    self.expected("a number without leading zeros", "remove the zeros in front")
                );
            }
        } else {
            self.digits()?;
        }
        let mut is_integer = true;
        if self.eat(b'.') {
            is_integer = false;
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            is_integer = false;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let text = &self.text[start..self.pos];
        let unreadable = || {
            let help = "write a smaller number";
            Fault::syntax(format!("`{text}` is too large"), start..self.pos, help)
        };
        if is_integer {
            text.parse().map(Value::Int).map_err(|_| unreadable())
        } else {
            text.parse().map(Value::Float).map_err(|_| unreadable())
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(
                self.expected("a digit", "write a digit on both sides of a point, e.g. 0.5")
            );
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.pos;
        self.pos += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.text[self.pos..].chars().next() else {
                return Err(Fault::syntax(
                    "the text does not end",
                    start..self.pos,
                    "end it with a double quote",
                ));
            };
            match c {
                '"' => {
                    self.pos += 1;
                    return Ok(out);
                }
                '\\' => out.push(self.escape()?),
                '\0'..='\u{1f}' => {
                    return Err(self.expected(
                        "no control character in a text",
                        "write `\\n` for a line end and `\\t` for a tab",
                    ));
                }
                _ => {
                    out.push(c);
                    self.pos += c.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.pos;
        self.pos += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.pos += 1;
                return self.unicode(start);
            }
            _ => return Err(self.expected("an escape of JSON", "write `\\\\` for a backslash")),
        };
        self.pos += 1;
        Ok(c)
    }

    fn unicode(&mut self, start: usize) -> Result<char, Fault> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.pos..].starts_with("\\u") => {
                self.pos += 2;
                match self.hex4()? {
                    second @ 0xdc00..=0xdfff => {
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => first,
                }
            }
            _ => first,
        };
        let help = "write the character itself";
        char::from_u32(code)
            .ok_or_else(|| Fault::syntax("half of a surrogate pair", start..self.pos, help))
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code * 16
                + digit.ok_or_else(|| {
                    self.expected(
                        "four hexadecimal digits",
                        "write `\\u` and four digits, e.g. `\\u00e9`",
                    )
                })?;
            self.pos += 1;
        }
        Ok(code)
    }
}
