//! Tokens to syntax tree, by recursive descent; items, signatures and statements.
//!
//! Recovery is per statement and per item: after an error, reading goes on at the
//! next token that is the first of its line and can start a statement.

use super::Report;
use super::cursor::{Failed, Parse, Parser};
use super::lexer::{Kind, Token};
use super::syntax::{
    Affine, At, FunctionSyntax, ModuleSyntax, OpSyntax, ParamSyntax, RepeatSyntax, ResultSyntax,
    RoleSyntax, StatementSyntax, SymbolSyntax, TargetSyntax, UseSyntax, ValueName,
};

/// Statements, and what is returned if that could be read.
type Body = (Vec<StatementSyntax>, Option<At<Vec<UseSyntax>>>);

/// A whole text. The tree is partial if anything was reported.
pub(super) fn module(tokens: Vec<Token>, report: &mut Report) -> Option<ModuleSyntax> {
    let mut parser = Parser::new(tokens, report);
    parser.module().ok()
}

impl Parser<'_> {
    fn module(&mut self) -> Parse<ModuleSyntax> {
        self.expect_word("module")?;
        let name = self.function_name()?.it;
        self.expect("{")?;
        let mut module = ModuleSyntax {
            name,
            symbols: Vec::new(),
            origins: Vec::new(),
            functions: Vec::new(),
            broken: Vec::new(),
        };
        let mut is_broken = false;
        while !self.at_punct("}") {
            if *self.peek() == Kind::End {
                // Recovery may have skipped the brace.
                return match is_broken {
                    true => Ok(module),
                    false => self.expected("`}` at the end of the module"),
                };
            }
            if self.item(&mut module).is_err() {
                is_broken = true;
                self.recover_item();
            }
        }
        self.bump();
        match self.peek() {
            Kind::End => Ok(module),
            _ => self.expected("the end of the text"),
        }
    }

    fn item(&mut self, module: &mut ModuleSyntax) -> Parse<()> {
        if self.eat_word("symbol") {
            let symbol = self.symbol()?;
            module.symbols.push(symbol);
        } else if self.eat_word("origins") {
            self.expect("{")?;
            let mut origins = Vec::new();
            while !self.eat("}") {
                origins.push(self.text("a quoted origin or `}`")?);
                self.eat(",");
            }
            module.origins.extend(origins);
        } else if self.at_word("fn") || self.at_word("composite") {
            if module.functions.len() >= super::limits::MAX_FUNCTIONS {
                let place = self.here();
                let message = format!("more than {} functions", super::limits::MAX_FUNCTIONS);
                self.report.error("ir::limit", place, message);
                self.skip_to_end();
                return Err(Failed);
            }
            let is_composite = self.at_word("composite");
            self.bump();
            let name = self.function_name()?;
            match self.function(name.clone(), is_composite) {
                Ok(function) => module.functions.push(function),
                Err(Failed) => {
                    module.broken.push(name.it);
                    return Err(Failed);
                }
            }
        } else {
            return self.expected("`symbol`, `origins`, `fn`, `composite` or `}`");
        }
        Ok(())
    }

    /// Skips to the next line that starts an item (or ends the module).
    fn recover_item(&mut self) {
        while *self.peek() != Kind::End {
            let is_item = ["fn", "composite", "symbol", "origins"].iter().any(|w| self.at_word(w));
            if self.token().is_first && is_item {
                return;
            }
            self.bump();
        }
    }

    fn symbol(&mut self) -> Parse<SymbolSyntax> {
        let name = self.word("the name of a symbol")?;
        let mut symbol = SymbolSyntax { name, min: 1, multiple_of: 1 };
        if self.eat(">=") {
            symbol.min = self.integer()?;
            self.eat(",");
        }
        if self.eat_word("multiple_of") {
            symbol.multiple_of = self.integer()?;
        }
        Ok(symbol)
    }

    fn function(&mut self, name: At<String>, is_composite: bool) -> Parse<FunctionSyntax> {
        self.expect("(")?;
        let params = self.list(")", Self::param)?;
        self.expect("->")?;
        self.expect("(")?;
        let results = self.list(")", Self::result)?;
        self.expect("{")?;
        let (body, returned) = self.body()?;
        Ok(FunctionSyntax { name, is_composite, params, results, body, returned })
    }

    /// `weight` or `state`, if it stands here as a keyword.
    fn role_word(&mut self) -> Option<&'static str> {
        ["weight", "state"].into_iter().find(|word| self.eat_word(word))
    }

    fn param(&mut self) -> Parse<ParamSyntax> {
        let role = self.role_word();
        let target = self.target()?;
        let role = match role {
            None => RoleSyntax::Plain,
            Some(word) => {
                let path = self.text("the quoted path of this parameter")?.it;
                if word == "weight" { RoleSyntax::Weight(path) } else { RoleSyntax::State(path) }
            }
        };
        self.expect(":")?;
        Ok(ParamSyntax { role, target, ty: self.ty()? })
    }

    fn result(&mut self) -> Parse<ResultSyntax> {
        let (role, name) = if self.eat_word("state") && !self.at_punct(":") {
            let path = self.text("the quoted path of this state")?;
            (RoleSyntax::State(path.it.clone()), path)
        } else {
            // `state` may also be the name of an output.
            let name = match self.before() {
                Some(Token { kind: Kind::Word(word), start, end, .. }) if self.at_punct(":") => {
                    At { it: word.clone(), place: *start..*end }
                }
                _ if matches!(self.peek(), Kind::Text(_)) => self.text("")?,
                _ => self.word("the name of a result, or `state`")?,
            };
            (RoleSyntax::Plain, name)
        };
        self.expect(":")?;
        Ok(ResultSyntax { role, name, ty: self.ty()? })
    }

    // Statements.

    fn body(&mut self) -> Parse<Body> {
        let mut body = Vec::new();
        loop {
            if self.at_word("return") {
                let start = self.bump().start;
                let returned = self.returned(start);
                if returned.is_err() {
                    self.recover_statement();
                }
                match self.at_punct("}") {
                    true => _ = self.bump(),
                    false => return self.expected("`}` after `return`"),
                }
                return Ok((body, returned.ok()));
            }
            if self.at_punct("}") {
                let _: Parse<()> = self.expected("`return`");
                self.bump();
                return Ok((body, None));
            }
            if *self.peek() == Kind::End || self.at_word("fn") || self.at_word("composite") {
                return self.expected("`return`");
            }
            let statement = match self.eat_word("repeat") {
                true => self.repeat().map(StatementSyntax::Repeat),
                false => self.op().map(StatementSyntax::Op),
            };
            self.index = None;
            match statement {
                Ok(statement) => body.push(statement),
                Err(Failed) => self.recover_statement(),
            }
        }
    }

    /// Whether the cursor stands where no statement of a `repeat` can.
    fn at_end_of_statements(&self) -> bool {
        *self.peek() == Kind::End
            || ["return", "repeat", "fn", "composite"].iter().any(|word| self.at_word(word))
    }

    /// Skips to the next line that can start a statement, end a body or start an item.
    fn recover_statement(&mut self) {
        while *self.peek() != Kind::End {
            let starts = match self.peek() {
                Kind::Value(_) | Kind::ValueId(_) => true,
                Kind::Punct(p) => *p == "}",
                Kind::Word(word) => {
                    ["return", "repeat", "fn", "composite"].contains(&word.as_str())
                }
                _ => false,
            };
            if self.token().is_first && starts {
                return;
            }
            self.bump();
        }
    }

    fn returned(&mut self, start: usize) -> Parse<At<Vec<UseSyntax>>> {
        let mut uses = Vec::new();
        if !self.at_punct("}") {
            uses.push(self.value_use()?);
            while self.eat(",") {
                uses.push(self.value_use()?);
            }
        }
        Ok(At { it: uses, place: self.since(start) })
    }

    fn repeat(&mut self) -> Parse<RepeatSyntax> {
        let start_of_text = self.since(0).end;
        let index = self.word("the name of the index")?;
        self.expect_word("in")?;
        let start = self.integer()?;
        self.expect("..")?;
        let end = self.integer()?;
        let is_reversed = self.eat_word("reversed");
        let place = self.since(start_of_text);
        if start < 0
            || end < start
            || end - start > super::limits::MAX_NODES as i64
            || end > 1 << 40
        {
            self.report.error(
                "ir::limit",
                place.clone(),
                format!(
                    "`{start}..{end}` is no range of at most {} steps",
                    super::limits::MAX_NODES
                ),
            );
            return Err(Failed);
        }
        let mut repeat =
            RepeatSyntax { start, end, is_reversed, initial: Vec::new(), body: Vec::new(), place };
        let is_broken = self.initial(&mut repeat).is_err();
        while is_broken && !self.at_punct("{") {
            if *self.peek() == Kind::End || self.token().is_first {
                return Err(Failed);
            }
            self.bump();
        }
        self.expect("{")?;
        self.index = Some(index.it);
        while !self.eat("}") {
            if self.at_end_of_statements() {
                return self.expected("`}` at the end of the `repeat`");
            }
            match self.op() {
                // What the families start from is not known, so nothing is checked.
                Ok(op) => repeat.body.push(OpSyntax { is_broken: op.is_broken || is_broken, ..op }),
                Err(Failed) => self.recover_statement(),
            }
        }
        Ok(repeat)
    }

    /// `with %h[0] = %x, …`, if it is there.
    fn initial(&mut self, repeat: &mut RepeatSyntax) -> Parse<()> {
        if !self.eat_word("with") {
            return Ok(());
        }
        loop {
            let family = self.value_use()?;
            if family.element.is_none() {
                let message = "expected an element such as `%h[0]`".to_string();
                self.report.error("ir::syntax", family.place, message);
                return Err(Failed);
            }
            self.expect("=")?;
            let value = self.value_use()?;
            repeat.initial.push((family, value));
            if !self.eat(",") {
                return Ok(());
            }
        }
    }

    fn op(&mut self) -> Parse<OpSyntax> {
        let start = self.here().start;
        let mut targets = Vec::new();
        if matches!(self.peek(), Kind::Value(_) | Kind::ValueId(_)) {
            targets.push(self.target()?);
            while self.eat(",") {
                targets.push(self.target()?);
            }
            self.expect("=")?;
        }
        let mut op = OpSyntax {
            targets,
            name: At { it: String::new(), place: start..start },
            callee: None,
            operands: Vec::new(),
            attrs: Vec::new(),
            scope: None,
            types: None,
            origin: None,
            is_broken: false,
            place: start..start,
        };
        if self.application(&mut op).is_err() {
            // The targets are kept, so that their uses are no further errors.
            op.is_broken = true;
            self.recover_statement();
        }
        op.place = self.since(start);
        Ok(op)
    }

    /// What follows the `=`.
    fn application(&mut self, op: &mut OpSyntax) -> Parse<()> {
        op.name = self.word("the name of an op")?;
        if op.name.it == "call" && matches!(self.peek(), Kind::Function(_)) {
            op.callee = Some(self.function_name()?);
        }
        self.expect("(")?;
        op.operands = self.list(")", Self::value_use)?;
        if self.eat("{") {
            self.attrs(op)?;
        }
        if self.eat(":") {
            let mut types = vec![self.ty()?];
            while self.eat(",") {
                types.push(self.ty()?);
            }
            op.types = Some(types);
        }
        if self.eat_word("from") {
            let text = self.text("a quoted origin")?;
            op.origin = Some(self.pattern(&text)?);
        }
        Ok(())
    }

    // Values.

    fn value_name(&mut self) -> Parse<ValueName> {
        let name = match self.peek().clone() {
            Kind::Value(name) => ValueName::Named(name),
            Kind::ValueId(id) => ValueName::Unnamed(id),
            _ => return self.expected("a value such as `%x`"),
        };
        self.bump();
        Ok(name)
    }

    fn value_use(&mut self) -> Parse<UseSyntax> {
        let start = self.here().start;
        let name = self.value_name()?;
        let element = self.element()?;
        Ok(UseSyntax { name, element, place: self.since(start) })
    }

    fn target(&mut self) -> Parse<TargetSyntax> {
        let start = self.here().start;
        let name = self.value_name()?;
        let mut id = None;
        if self.eat("#") {
            let value = self.integer()?;
            id = u32::try_from(value).ok();
        }
        let element = self.element()?;
        let mut named = None;
        if element.is_some() && self.eat_word("as") {
            let text = self.text("a quoted name")?;
            named = Some(self.pattern(&text)?);
        }
        Ok(TargetSyntax { name, id, element, named, place: self.since(start) })
    }

    fn element(&mut self) -> Parse<Option<Affine>> {
        if !self.eat("[") {
            return Ok(None);
        }
        let affine = self.affine()?;
        self.expect("]")?;
        Ok(Some(affine))
    }
}
