//! The parser's cursor over tokens, and the pieces that everything is read from.

use super::Report;
use super::lexer::{Kind, Token};
use super::syntax::{At, Place};

/// An error has been reported; the caller recovers.
#[derive(Debug)]
pub(super) struct Failed;

/// The outcome of reading something.
pub(super) type Parse<T> = Result<T, Failed>;

/// A cursor over tokens.
pub(super) struct Parser<'a> {
    tokens: Vec<Token>,
    pos: usize,
    pub(super) report: &'a mut Report,
    /// The index name of the `repeat` around, if any.
    pub(super) index: Option<String>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: Vec<Token>, report: &'a mut Report) -> Self {
        Parser { tokens, pos: 0, report, index: None }
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.tokens[self.pos.min(self.tokens.len() - 1)].kind
    }

    /// The token after the next, or the next: `n` is 1 or 0.
    pub(super) fn peek_past(&self, n: usize) -> &Kind {
        &self.tokens[(self.pos + n).min(self.tokens.len() - 1)].kind
    }

    /// The token at the cursor.
    pub(super) fn token(&self) -> &Token {
        &self.tokens[self.pos.min(self.tokens.len() - 1)]
    }

    /// Steps over one token and gives its place.
    pub(super) fn bump(&mut self) -> Place {
        let place = self.here();
        self.pos = (self.pos + 1).min(self.tokens.len() - 1);
        place
    }

    /// The token before the cursor.
    pub(super) fn before(&self) -> Option<&Token> {
        self.pos.checked_sub(1).map(|before| &self.tokens[before])
    }

    /// Gives up on the rest.
    pub(super) fn skip_to_end(&mut self) {
        self.pos = self.tokens.len() - 1;
    }

    pub(super) fn here(&self) -> Place {
        self.token().start..self.token().end
    }

    /// From a start to the end of the token before the cursor.
    pub(super) fn since(&self, start: usize) -> Place {
        let end = self.before().map_or(start, |token| token.end);
        start..end.max(start)
    }

    pub(super) fn at_punct(&self, p: &str) -> bool {
        matches!(self.peek(), Kind::Punct(q) if *q == p)
    }

    pub(super) fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w == word)
    }

    pub(super) fn eat(&mut self, p: &str) -> bool {
        let found = self.at_punct(p);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn expected<T>(&mut self, what: &str) -> Parse<T> {
        if *self.peek() == Kind::Bad {
            return Err(Failed);
        }
        let found = self.peek().describe();
        let place = self.here();
        self.report.error("ir::syntax", place, format!("expected {what}, found {found}"));
        Err(Failed)
    }

    pub(super) fn expect(&mut self, p: &str) -> Parse<Place> {
        if self.at_punct(p) { Ok(self.bump()) } else { self.expected(&format!("`{p}`")) }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Parse<Place> {
        if self.at_word(word) { Ok(self.bump()) } else { self.expected(&format!("`{word}`")) }
    }

    pub(super) fn word(&mut self, what: &str) -> Parse<At<String>> {
        let Kind::Word(word) = self.peek().clone() else { return self.expected(what) };
        Ok(At { it: word, place: self.bump() })
    }

    pub(super) fn text(&mut self, what: &str) -> Parse<At<String>> {
        let Kind::Text(text) = self.peek().clone() else { return self.expected(what) };
        Ok(At { it: text, place: self.bump() })
    }

    pub(super) fn function_name(&mut self) -> Parse<At<String>> {
        let Kind::Function(name) = self.peek().clone() else {
            return self.expected("a function name such as `@layer`");
        };
        Ok(At { it: name, place: self.bump() })
    }

    /// An integer with an optional sign that fits i64.
    pub(super) fn integer(&mut self) -> Parse<i64> {
        let negative = self.eat("-");
        let Kind::Int(value) = *self.peek() else { return self.expected("an integer") };
        let place = self.bump();
        let value = if negative { -value } else { value };
        i64::try_from(value).map_err(|_| {
            self.report.error("ir::limit", place, format!("`{value}` does not fit 64 bits"));
            Failed
        })
    }

    /// `item , item , …` up to `close`, which is eaten; a comma may stand before it.
    pub(super) fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Parse<T>,
    ) -> Parse<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            if items.len() >= super::limits::MAX_ARITY {
                let place = self.here();
                self.report.error("ir::limit", place, "this list is too long".to_string());
                return Err(Failed);
            }
            items.push(item(self)?);
            if !self.eat(",") && !self.at_punct(close) {
                return self.expected(&format!("`,` or `{close}`"));
            }
        }
        Ok(items)
    }
}
