//! The smaller parts of the grammar: types, dims, attributes, index expressions.

use super::cursor::{Failed, Parse, Parser};
use super::lexer::{self, Kind};
use super::limits::{MAX_DIM, Size, check_dims};
use super::syntax::{Affine, At, OpSyntax, Pattern, Piece};
use crate::attr::Attr;
use crate::types::{DType, TensorType};
use llmc_base::Expr;
use llmc_base::diag::nearest;

/// Parentheses in one dim.
const MAX_DEPTH: u32 = 64;

impl Parser<'_> {
    /// `f32[B, T, 64]`.
    pub(super) fn ty(&mut self) -> Parse<At<TensorType>> {
        let word = self.word("a type such as `f32[B, 64]`")?;
        let dtype = match word.it.parse::<DType>() {
            Ok(dtype) => dtype,
            Err(message) => {
                let names = DType::ALL.iter().map(|(_, name)| *name);
                let help = nearest(&word.it, names).map(|n| format!("did you mean `{n}`?"));
                self.report.error_help("ir::unknown_dtype", word.place, message, help);
                return Err(Failed);
            }
        };
        self.expect("[")?;
        let shape = self.dims("]", word.place.start)?;
        Ok(At { it: TensorType { dtype, shape }, place: self.since(word.place.start) })
    }

    /// Dims up to `close`, within the limits.
    fn dims(&mut self, close: &str, start: usize) -> Parse<Vec<Expr>> {
        let dims = self.list(close, |p| p.expr(0))?;
        check_dims(&dims).map_err(|message| {
            let place = self.since(start);
            self.report.error("ir::limit", place, message);
            Failed
        })?;
        Ok(dims)
    }

    fn expr(&mut self, depth: u32) -> Parse<Expr> {
        let start = self.here().start;
        let mut total = if self.eat("-") { -self.product(depth)? } else { self.product(depth)? };
        loop {
            if self.eat("+") {
                total += self.product(depth)?;
            } else if self.eat("-") {
                total += -self.product(depth)?;
            } else {
                return Ok(total);
            }
            self.check_expr(Size::of(&total), start)?;
        }
    }

    fn product(&mut self, depth: u32) -> Parse<Expr> {
        let start = self.here().start;
        let mut total = self.atom(depth)?;
        while self.eat("*") {
            let factor = self.atom(depth)?;
            self.check_expr(Size::of(&total).times(Size::of(&factor)), start)?;
            total *= factor;
        }
        Ok(total)
    }

    fn atom(&mut self, depth: u32) -> Parse<Expr> {
        let start = self.here().start;
        match self.peek().clone() {
            Kind::Int(value) => {
                self.bump();
                let expr = Expr::constant(value);
                self.check_expr(Size::of(&expr), start)?;
                Ok(expr)
            }
            Kind::Word(name) => {
                self.bump();
                Ok(Expr::symbol(&name))
            }
            Kind::Punct("(") if depth < MAX_DEPTH => {
                self.bump();
                let inner = self.expr(depth + 1)?;
                self.expect(")")?;
                Ok(inner)
            }
            _ => self.expected("a dim such as `64`, `B` or `2*T`"),
        }
    }

    fn check_expr(&mut self, size: Size, start: usize) -> Parse<()> {
        if size.fits(MAX_DIM) {
            return Ok(());
        }
        let place = self.since(start);
        self.report.error("ir::limit", place, "this dim is too large".to_string());
        Err(Failed)
    }

    /// Attributes up to `}`. Inside a `repeat`, `scope` is a pattern.
    pub(super) fn attrs(&mut self, op: &mut OpSyntax) -> Parse<()> {
        let attrs = self.list("}", |p| {
            let name = p.word("the name of an attribute")?;
            p.expect("=")?;
            let value = p.attr()?;
            Ok(At { it: (name.it, value), place: p.since(name.place.start) })
        })?;
        for attr in attrs {
            if op.attrs.iter().any(|seen| seen.it.0 == attr.it.0) {
                let message = format!("attribute `{}` stands here twice", attr.it.0);
                self.report.error("ir::attribute", attr.place, message);
                return Err(Failed);
            }
            match (&attr.it, &self.index) {
                ((name, Attr::Text(text)), Some(_)) if name == "scope" => {
                    let text = At { it: text.clone(), place: attr.place };
                    let pattern = self.pattern(&text)?;
                    op.scope = Some(At { it: pattern, place: text.place });
                }
                _ => op.attrs.push(attr),
            }
        }
        Ok(())
    }

    fn attr(&mut self) -> Parse<Attr> {
        let start = self.here().start;
        Ok(match self.peek().clone() {
            Kind::Text(text) => {
                self.bump();
                Attr::Text(text)
            }
            Kind::Function(name) => {
                self.bump();
                Attr::Function(name)
            }
            Kind::Punct("<") => {
                self.bump();
                Attr::Dims(self.dims(">", start)?)
            }
            Kind::Punct("[") => {
                self.bump();
                let items = self.list("]", Self::number)?;
                let ints: Option<Vec<i64>> = items
                    .iter()
                    .map(|item| match item {
                        Attr::Int(value) => Some(*value),
                        _ => None,
                    })
                    .collect();
                match ints {
                    Some(ints) => Attr::Ints(ints),
                    None => Attr::Floats(
                        items
                            .iter()
                            .map(|item| match item {
                                Attr::Int(value) => *value as f64,
                                Attr::Float(value) => *value,
                                _ => f64::NAN,
                            })
                            .collect(),
                    ),
                }
            }
            Kind::Word(word) => match word.as_str() {
                "inf" | "NaN" => self.number()?,
                "true" | "false" => {
                    self.bump();
                    Attr::Bool(word == "true")
                }
                _ => {
                    self.bump();
                    word.parse().map_or(Attr::Word(word), Attr::DType)
                }
            },
            Kind::Int(_) | Kind::Float(_) | Kind::Punct("-") => self.number()?,
            _ => return self.expected("the value of an attribute"),
        })
    }

    /// An integer or a float, with an optional sign.
    fn number(&mut self) -> Parse<Attr> {
        let negative = self.at_punct("-");
        let sign = if negative { -1.0 } else { 1.0 };
        let value = match self.peek_past(usize::from(negative)) {
            Kind::Float(value) => *value,
            Kind::Word(word) if word == "inf" => f64::INFINITY,
            Kind::Word(word) if word == "NaN" => f64::NAN,
            _ => return self.integer().map(Attr::Int),
        };
        if negative {
            self.bump();
        }
        self.bump();
        Ok(Attr::Float(sign * value))
    }

    /// `i`, `i+1`, `3*i-2`, `126`.
    pub(super) fn affine(&mut self) -> Parse<Affine> {
        let start = self.here().start;
        let mut affine = Affine { scale: 0, offset: 0 };
        let mut leading = None;
        if !matches!(self.peek(), Kind::Word(_)) {
            leading = Some(self.integer()?);
        }
        if leading.is_none() || self.eat("*") {
            let word = self.word("the index of the `repeat`")?;
            if self.index.as_ref() != Some(&word.it) {
                let message = format!("`{}` is not the index of a `repeat` around this", word.it);
                self.report.error("ir::syntax", word.place, message);
                return Err(Failed);
            }
            affine.scale = leading.unwrap_or(1);
            // The sign of a difference belongs to the integer.
            if self.eat("+") || self.at_punct("-") {
                affine.offset = self.integer()?;
            }
        } else {
            affine.offset = leading.unwrap_or(0);
        }
        if affine.scale.unsigned_abs() > 1 << 20 || affine.offset.unsigned_abs() > 1 << 40 {
            let place = self.since(start);
            self.report.error("ir::limit", place, "this index is too large".to_string());
            return Err(Failed);
        }
        Ok(affine)
    }

    /// A text in which `{…}` is an index expression, if a `repeat` is around; `{{` and `}}`
    /// stand for single braces there.
    pub(super) fn pattern(&mut self, text: &At<String>) -> Parse<Pattern> {
        let Some(index) = self.index.clone() else { return Ok(Pattern::plain(text.it.clone())) };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text.it.as_str();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if (c == '{' || c == '}') && rest.starts_with(c) {
                plain.push(c);
                rest = &rest[1..];
            } else if c == '{' {
                let Some(len) = rest.find('}') else {
                    let message = "`{` without `}`; a brace in a text is written `{{` here";
                    self.report.error("ir::syntax", text.place.clone(), message.to_string());
                    return Err(Failed);
                };
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Index(self.embedded(&rest[..len], &index, text)?));
                rest = &rest[len + 1..];
            } else {
                plain.push(c);
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Pattern(pieces))
    }

    /// The index expression between braces of a pattern.
    fn embedded(&mut self, inner: &str, index: &str, text: &At<String>) -> Parse<Affine> {
        let mut report = super::Report::default();
        let tokens = lexer::tokens(inner, &mut report);
        let mut parser = Parser::new(tokens, &mut report);
        parser.index = Some(index.to_string());
        let affine = parser.affine();
        let is_whole = *parser.peek() == Kind::End;
        match affine {
            Ok(affine) if is_whole && report.is_empty() => Ok(affine),
            _ => {
                let message = format!("`{{{inner}}}` is no index expression such as `{{{index}}}`");
                self.report.error("ir::syntax", text.place.clone(), message);
                Err(Failed)
            }
        }
    }
}
