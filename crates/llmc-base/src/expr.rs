//! Integer expressions over symbols: the dimensions of tensors and the
//! parameter polynomial of the solver.
//!
//! An [`Expr`] is a polynomial with integer coefficients in one canonical form
//! (sorted monomials, no zero coefficients), so equality of expressions is
//! equality of values for every assignment. Division exists only where it is
//! exact ([`Expr::div_exact`]). Coefficients saturate at the ends of i128: far beyond any
//! tensor, and hostile text cannot make arithmetic panic.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub};
use std::sync::Arc;

/// A named integer, e.g. `B` or `hidden_size`. Ordered by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol with this name.
    pub fn new(name: &str) -> Self {
        Symbol(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl From<String> for Symbol {
    fn from(name: String) -> Self {
        Symbol(name.into())
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> Self {
        symbol.0.to_string()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A product of symbol powers; empty is 1. Sorted by symbol.
type Monomial = Vec<(Symbol, u32)>;

/// A polynomial with i128 coefficients in canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Expr {
    terms: BTreeMap<Monomial, i128>,
}

/// An assignment of values to symbols.
pub type Env = BTreeMap<Symbol, i128>;

impl Expr {
    /// The constant `value`.
    pub fn constant(value: i128) -> Self {
        let mut terms = BTreeMap::new();
        if value != 0 {
            terms.insert(Monomial::new(), value);
        }
        Expr { terms }
    }

    /// The symbol `name` as an expression.
    pub fn symbol(name: &str) -> Self {
        Expr::from(Symbol::new(name))
    }

    /// The value, if no symbol occurs.
    pub fn as_constant(&self) -> Option<i128> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Monomial::new()).copied(),
            _ => None,
        }
    }

    /// The value as `usize`, if no symbol occurs and it fits.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_constant().and_then(|v| usize::try_from(v).ok())
    }

    /// The symbol, if the expression is exactly one symbol.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let (monomial, coefficient) = self.terms.iter().next()?;
        match (self.terms.len(), monomial.as_slice(), coefficient) {
            (1, [(symbol, 1)], 1) => Some(symbol),
            _ => None,
        }
    }

    /// All symbols that occur.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        self.terms.keys().flatten().map(|(symbol, _)| symbol.clone()).collect()
    }

    /// The value under `env`; `None` if a symbol is missing or i128 overflows.
    pub fn eval(&self, env: &Env) -> Option<i128> {
        let mut sum = 0i128;
        for (monomial, coefficient) in &self.terms {
            let mut term = *coefficient;
            for (symbol, power) in monomial {
                let value = env.get(symbol)?;
                for _ in 0..*power {
                    term = term.checked_mul(*value)?;
                }
            }
            sum = sum.checked_add(term)?;
        }
        Some(sum)
    }

    /// Replaces every symbol that `lookup` knows.
    pub fn substitute(&self, lookup: &dyn Fn(&Symbol) -> Option<Expr>) -> Expr {
        let mut out = Expr::default();
        for (monomial, coefficient) in &self.terms {
            let mut term = Expr::constant(*coefficient);
            for (symbol, power) in monomial {
                let value = lookup(symbol).unwrap_or_else(|| Expr::from(symbol.clone()));
                for _ in 0..*power {
                    term = &term * &value;
                }
            }
            out += term;
        }
        out
    }

    /// Replaces symbols by the constants of `env`.
    pub fn bind(&self, env: &Env) -> Expr {
        self.substitute(&|symbol| env.get(symbol).map(|v| Expr::constant(*v)))
    }

    /// `self / divisor` where that is a polynomial with integer coefficients and the
    /// divisor has one term; `None` otherwise.
    pub fn div_exact(&self, divisor: &Expr) -> Option<Expr> {
        let (monomial, coefficient) = divisor.terms.iter().next()?;
        if divisor.terms.len() != 1 {
            return (self == divisor).then(|| Expr::constant(1));
        }
        let mut terms = BTreeMap::new();
        for (own, own_coefficient) in &self.terms {
            if own_coefficient.checked_rem(*coefficient) != Some(0) {
                return None;
            }
            let mut quotient = own.clone();
            for (symbol, power) in monomial {
                let slot = quotient.iter_mut().find(|(s, p)| s == symbol && p >= power)?;
                slot.1 -= power;
            }
            quotient.retain(|(_, power)| *power > 0);
            terms.insert(quotient, own_coefficient / coefficient);
        }
        Some(Expr { terms })
    }

    /// The terms as (coefficient, [(symbol, power)]), in canonical order.
    pub fn terms(&self) -> impl Iterator<Item = (i128, &[(Symbol, u32)])> {
        self.terms.iter().map(|(monomial, coefficient)| (*coefficient, monomial.as_slice()))
    }

    /// The product of `factors`; 1 if there are none.
    pub fn product<'a>(factors: impl IntoIterator<Item = &'a Expr>) -> Expr {
        factors.into_iter().fold(Expr::constant(1), |acc, f| &acc * f)
    }
}

impl From<Symbol> for Expr {
    fn from(symbol: Symbol) -> Self {
        Expr { terms: BTreeMap::from([(vec![(symbol, 1)], 1)]) }
    }
}

macro_rules! from_int {
    ($($t:ty),*) => {$(
        impl From<$t> for Expr {
            fn from(value: $t) -> Self {
                Expr::constant(value as i128)
            }
        }
    )*};
}
from_int!(i32, i64, i128, u32, u64, usize);

impl AddAssign for Expr {
    fn add_assign(&mut self, other: Expr) {
        for (monomial, coefficient) in other.terms {
            let slot = self.terms.entry(monomial).or_insert(0);
            *slot = slot.saturating_add(coefficient);
        }
        self.terms.retain(|_, coefficient| *coefficient != 0);
    }
}

impl<'b> Mul<&'b Expr> for &Expr {
    type Output = Expr;

    fn mul(self, other: &'b Expr) -> Expr {
        let mut terms: BTreeMap<Monomial, i128> = BTreeMap::new();
        for (a, ca) in &self.terms {
            for (b, cb) in &other.terms {
                let mut powers: BTreeMap<Symbol, u32> = a.iter().cloned().collect();
                for (symbol, power) in b {
                    let slot = powers.entry(symbol.clone()).or_insert(0);
                    *slot = slot.saturating_add(*power);
                }
                let slot = terms.entry(powers.into_iter().collect()).or_insert(0i128);
                *slot = slot.saturating_add(ca.saturating_mul(*cb));
            }
        }
        terms.retain(|_, coefficient| *coefficient != 0);
        Expr { terms }
    }
}

impl Neg for Expr {
    type Output = Expr;

    fn neg(mut self) -> Expr {
        self.terms.values_mut().for_each(|c| *c = c.saturating_neg());
        self
    }
}

macro_rules! forward_ops {
    ($($tr:ident $f:ident |$a:ident, $b:ident| $body:expr;)*) => {$(
        impl<T: Into<Expr>> $tr<T> for Expr {
            type Output = Expr;
            fn $f(self, other: T) -> Expr {
                let ($a, $b): (Expr, Expr) = (self, other.into());
                $body
            }
        }
    )*};
}
forward_ops! {
    Add add |a, b| { let mut a = a; a += b; a };
    Sub sub |a, b| { let mut a = a; a += -b; a };
    Mul mul |a, b| &a * &b;
}

impl MulAssign for Expr {
    fn mul_assign(&mut self, other: Expr) {
        *self = &*self * &other;
    }
}

impl std::iter::Sum for Expr {
    fn sum<I: Iterator<Item = Expr>>(iter: I) -> Expr {
        iter.fold(Expr::default(), |mut acc, e| {
            acc += e;
            acc
        })
    }
}

/// `2*B*T + 3`: terms of higher degree first, then by name; parses back with [`Expr::parse`].
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        let degree = |m: &Monomial| m.iter().map(|(_, p)| *p).sum::<u32>();
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by(|(a, _), (b, _)| degree(b).cmp(&degree(a)).then(a.cmp(b)));
        for (i, (monomial, coefficient)) in terms.into_iter().enumerate() {
            match (i, *coefficient < 0) {
                (0, false) => {}
                (0, true) => f.write_str("-")?,
                (_, false) => f.write_str(" + ")?,
                (_, true) => f.write_str(" - ")?,
            }
            let magnitude = coefficient.unsigned_abs();
            let mut factors = Vec::new();
            if magnitude != 1 || monomial.is_empty() {
                factors.push(magnitude.to_string());
            }
            for (symbol, power) in monomial {
                for _ in 0..*power {
                    factors.push(symbol.to_string());
                }
            }
            f.write_str(&factors.join("*"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Expr {
    /// Parses what `Display` prints: `+`, `-`, `*`, parentheses, integers, and names of
    /// letters, digits, `_` and `.` that do not start with a digit.
    ///
    /// Errors: a message that names the byte offset.
    pub fn parse(text: &str) -> Result<Expr, String> {
        let mut parser = ExprParser { text, pos: 0, depth: 0 };
        let expr = parser.sum()?;
        parser.space();
        match parser.text[parser.pos..].chars().next() {
            None => Ok(expr),
            Some(c) => Err(format!("unexpected `{c}` at byte {} of `{text}`", parser.pos)),
        }
    }
}

struct ExprParser<'a> {
    text: &'a str,
    pos: usize,
    depth: u32,
}

impl ExprParser<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.pos..];
        self.pos += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.text[self.pos..].starts_with(c);
        if found {
            self.pos += c.len_utf8();
        }
        found
    }

    fn sum(&mut self) -> Result<Expr, String> {
        let mut total = if self.eat('-') { -self.product()? } else { self.product()? };
        loop {
            if self.eat('+') {
                total += self.product()?;
            } else if self.eat('-') {
                total += -self.product()?;
            } else {
                return Ok(total);
            }
        }
    }

    fn product(&mut self) -> Result<Expr, String> {
        let mut total = self.atom()?;
        while self.eat('*') {
            total *= self.atom()?;
        }
        Ok(total)
    }

    fn atom(&mut self) -> Result<Expr, String> {
        if self.eat('(') {
            self.depth += 1;
            if self.depth > 64 {
                return Err("expression nests deeper than 64".to_string());
            }
            let inner = self.sum()?;
            self.depth -= 1;
            return match self.eat(')') {
                true => Ok(inner),
                false => Err(format!("expected `)` at byte {} of `{}`", self.pos, self.text)),
            };
        }
        self.space();
        let rest = &self.text[self.pos..];
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(rest.len());
        let word = &rest[..len];
        if word.is_empty() {
            return Err(format!(
                "expected a number or a name at byte {} of `{}`",
                self.pos, self.text
            ));
        }
        self.pos += len;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let value = word.parse::<i128>().map_err(|e| format!("`{word}`: {e}"))?;
            if value > 1 << 100 {
                return Err(format!("`{word}` is too large"));
            }
            Ok(Expr::constant(value))
        } else {
            Ok(Expr::symbol(word))
        }
    }
}

impl Serialize for Expr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Expr::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(text: &str) -> Expr {
        Expr::parse(text).unwrap()
    }

    #[test]
    fn equal_values_are_equal_expressions() {
        assert_eq!(e("(a + b)*(a - b)"), e("a*a - b*b"));
        assert_eq!(e("a - a"), Expr::constant(0));
        assert_eq!(e("2*B*T + 3").to_string(), "2*B*T + 3");
        assert_eq!(e("-x + 1").to_string(), "-x + 1");
    }

    #[test]
    fn evaluates_and_substitutes() {
        let env = Env::from([(Symbol::new("a"), 3), (Symbol::new("b"), 4)]);
        assert_eq!(e("a*a + b").eval(&env), Some(13));
        assert_eq!(e("a*c").eval(&env), None);
        assert_eq!(e("a*c").bind(&env), e("3*c"));
    }

    #[test]
    fn divides_exactly_or_not_at_all() {
        assert_eq!(e("6*a*b").div_exact(&e("2*a")), Some(e("3*b")));
        assert_eq!(e("6*a + b").div_exact(&e("2*a")), None);
        assert_eq!(e("a + 1").div_exact(&e("a + 1")), Some(e("1")));
        assert_eq!(e("a").div_exact(&e("0")), None);
    }

    #[test]
    fn huge_coefficients_saturate() {
        let big = e("1000000000000000000000000000*x");
        let square = &big * &big;
        let product = &square * &square;
        assert!(product.eval(&Env::from([(Symbol::new("x"), 1)])) == Some(i128::MAX));
        assert!((-product.clone() + product).terms().count() <= 1);
    }

    #[test]
    fn bad_text_is_an_error_with_its_place() {
        for (text, place) in
            [("a +", "byte 3"), ("(a", "byte 2"), ("a $ b", "byte 2"), ("", "byte 0")]
        {
            assert!(Expr::parse(text).unwrap_err().contains(place), "{text}");
        }
    }
}
