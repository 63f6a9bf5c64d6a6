//! Tokens of the text form. Never fails: what is no token becomes a diagnostic
//! and a token that the parser stops at without another one.

use super::Report;
use super::names::{is_name_char, is_name_start};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// `%x` or `%"any text"`.
    Value(String),
    /// `%12`: an unnamed value.
    ValueId(u32),
    /// `@f` or `@"any text"`.
    Function(String),
    /// A bare name, possibly with dots.
    Word(String),
    /// Digits.
    Int(i128),
    /// Digits with a point or an exponent.
    Float(f64),
    /// A quoted text, unescaped.
    Text(String),
    /// One of [`PUNCTUATION`].
    Punct(&'static str),
    /// No token; that has been reported.
    Bad,
    /// The end of the text, again and again.
    End,
}

/// Longest first, so that `->` is not read as `-`.
const PUNCTUATION: [&str; 18] =
    ["->", "..", ">=", "(", ")", "{", "}", "[", "]", "<", ">", ",", ":", "=", "+", "-", "*", "#"];

/// A token with its byte range.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether only space stands before it on its line.
    pub(super) is_first: bool,
}

impl Kind {
    /// For "expected …, found …".
    pub(super) fn describe(&self) -> String {
        match self {
            Kind::Value(name) => format!("`%{name}`"),
            Kind::ValueId(id) => format!("`%{id}`"),
            Kind::Function(name) => format!("`@{name}`"),
            Kind::Word(word) => format!("`{word}`"),
            Kind::Int(value) => format!("`{value}`"),
            Kind::Float(value) => format!("`{value:?}`"),
            Kind::Text(_) => "a quoted text".to_string(),
            Kind::Punct(p) => format!("`{p}`"),
            Kind::Bad => "something unreadable".to_string(),
            Kind::End => "the end of the text".to_string(),
        }
    }
}

/// All tokens, the last one [`Kind::End`].
pub(super) fn tokens(text: &str, report: &mut Report) -> Vec<Token> {
    let mut lexer = Lexer { text, pos: 0, is_first: true, report };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let (start, is_first) = (lexer.pos, lexer.is_first);
        let Some(c) = lexer.peek() else {
            tokens.push(Token { kind: Kind::End, start, end: start, is_first: true });
            return tokens;
        };
        let kind = lexer.token(c);
        lexer.is_first = false;
        let kind = kind.unwrap_or(Kind::Bad);
        tokens.push(Token { kind, start, end: lexer.pos, is_first });
    }
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    is_first: bool,
    report: &'a mut Report,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn take_while(&mut self, holds: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.pos..];
        let len = rest.find(|c| !holds(c)).unwrap_or(rest.len());
        self.pos += len;
        &rest[..len]
    }

    fn skip_space(&mut self) {
        loop {
            let space = self.take_while(char::is_whitespace);
            let newline = space.contains('\n');
            self.is_first |= newline;
            if !self.text[self.pos..].starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self, c: char) -> Option<Kind> {
        match c {
            '%' | '@' => {
                self.pos += 1;
                self.sigil(c)
            }
            '"' => self.quoted().map(Kind::Text),
            _ if c.is_ascii_digit() => self.number(),
            _ if is_name_start(c) => Some(Kind::Word(self.word())),
            _ => {
                let rest = &self.text[self.pos..];
                let Some(p) = PUNCTUATION.iter().find(|p| rest.starts_with(**p)) else {
                    let start = self.pos;
                    self.pos += c.len_utf8();
                    self.report.error(
                        "ir::syntax",
                        start..self.pos,
                        format!("unexpected character `{}`", c.escape_debug()),
                    );
                    return None;
                };
                self.pos += p.len();
                Some(Kind::Punct(p))
            }
        }
    }

    /// A name; a dot belongs to it where a name character follows.
    fn word(&mut self) -> String {
        let start = self.pos;
        loop {
            self.take_while(is_name_char);
            let mut rest = self.text[self.pos..].chars();
            if rest.next() == Some('.') && rest.next().is_some_and(is_name_char) {
                self.pos += 1;
            } else {
                return self.text[start..self.pos].to_string();
            }
        }
    }

    fn sigil(&mut self, sigil: char) -> Option<Kind> {
        let start = self.pos - 1;
        let named = |name| match sigil {
            '%' => Kind::Value(name),
            _ => Kind::Function(name),
        };
        match self.peek() {
            Some('"') => self.quoted().map(named),
            Some(c) if is_name_start(c) => Some(named(self.word())),
            Some(c) if c.is_ascii_digit() && sigil == '%' => {
                let digits = self.take_while(|c| c.is_ascii_digit());
                let id = digits.parse().ok();
                if id.is_none() {
                    self.report.error(
                        "ir::limit",
                        start..self.pos,
                        "the number of this value is too large".to_string(),
                    );
                }
                id.map(Kind::ValueId)
            }
            _ => {
                self.report.error(
                    "ir::syntax",
                    start..self.pos,
                    format!("expected a name after `{sigil}`"),
                );
                None
            }
        }
    }

    fn number(&mut self) -> Option<Kind> {
        let start = self.pos;
        let digit = |c: char| c.is_ascii_digit();
        self.take_while(digit);
        let mut is_float = false;
        let mut rest = self.text[self.pos..].chars();
        if rest.next() == Some('.') && rest.next().is_some_and(digit) {
            self.pos += 1;
            self.take_while(digit);
            is_float = true;
        }
        let exponent = self.text[self.pos..].strip_prefix(['e', 'E']);
        if let Some(rest) = exponent {
            let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            if signed.starts_with(digit) {
                self.pos = self.text.len() - signed.len();
                self.take_while(digit);
                is_float = true;
            }
        }
        let digits = &self.text[start..self.pos];
        let kind = match is_float {
            true => digits.parse().ok().map(Kind::Float),
            false => digits.parse().ok().map(Kind::Int),
        };
        if kind.is_none() {
            self.report.error("ir::limit", start..self.pos, "this number is too large".to_string());
        }
        kind
    }

    /// A quoted text on one line with the escapes of `{:?}`.
    fn quoted(&mut self) -> Option<String> {
        let start = self.pos;
        self.pos += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.peek().filter(|c| *c != '\n') else {
                self.report.error(
                    "ir::syntax",
                    start..self.pos,
                    "this quoted text does not end on its line".to_string(),
                );
                return None;
            };
            self.pos += c.len_utf8();
            match c {
                '"' => return Some(out),
                '\\' => {
                    let at = self.pos - 1;
                    match self.escape() {
                        Some(c) => out.push(c),
                        None => self.report.error(
                            "ir::syntax",
                            at..self.pos,
                            "unknown escape".to_string(),
                        ),
                    }
                }
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.peek().filter(|c| *c != '\n')?;
        self.pos += c.len_utf8();
        match c {
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            '0' => Some('\0'),
            '\\' | '"' | '\'' => Some(c),
            'u' => {
                let rest = self.text[self.pos..].strip_prefix('{')?;
                let len = rest.find('}').filter(|len| *len <= 6)?;
                self.pos += len + 2;
                u32::from_str_radix(&rest[..len], 16).ok().and_then(char::from_u32)
            }
            _ => None,
        }
    }
}
