//! The parameter polynomial in a form that is quick to bind and to invert.

use crate::dims::Dim;
use llmc_base::Expr;

/// Highest accepted power of one dimension.
const MAX_POWER: u32 = 8;

/// A polynomial in the eight dims with coefficients that are not negative, so it
/// grows with every dim. Arithmetic saturates: "too many" stays too many.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Poly {
    terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Term {
    coefficient: i128,
    powers: [u8; 8],
}

impl Poly {
    /// Errors: a symbol that is no dim, a negative coefficient, a power above 8.
    pub fn new(expr: &Expr) -> Result<Poly, String> {
        let mut poly = Poly::default();
        for (coefficient, factors) in expr.terms() {
            if coefficient < 0 {
                return Err(format!("the parameter count `{expr}` has a negative term"));
            }
            let mut powers = [0u8; 8];
            for (symbol, power) in factors {
                let dim = Dim::from_name(symbol.name())
                    .ok_or_else(|| format!("`{symbol}` in the parameter count is no dimension"))?;
                if *power > MAX_POWER {
                    return Err(format!("`{symbol}` to the power {power} in the parameter count"));
                }
                powers[dim.idx()] = *power as u8;
            }
            poly.add(coefficient, powers);
        }
        Ok(poly)
    }

    fn add(&mut self, coefficient: i128, powers: [u8; 8]) {
        match self.terms.iter_mut().find(|t| t.powers == powers) {
            Some(term) => term.coefficient = term.coefficient.saturating_add(coefficient),
            None => self.terms.push(Term { coefficient, powers }),
        }
    }

    /// `self` with `dim = value`, written over `out`.
    pub fn bind_into(&self, dim: Dim, value: u64, out: &mut Poly) {
        out.terms.clear();
        for term in &self.terms {
            let mut powers = term.powers;
            let power = std::mem::take(&mut powers[dim.idx()]);
            out.add(times_power(term.coefficient, value, power), powers);
        }
    }

    /// The value at `dims`.
    pub fn eval(&self, dims: &[u64; 8]) -> i128 {
        let value = |term: &Term| {
            let factors = term.powers.iter().zip(dims);
            factors.fold(term.coefficient, |acc, (power, dim)| times_power(acc, *dim, *power))
        };
        self.terms.iter().map(value).fold(0, i128::saturating_add)
    }

    /// The polynomial in `dim` alone, with all other dims as in `dims`.
    pub fn along(&self, dim: Dim, dims: &[u64; 8]) -> Univariate {
        let mut coefficients = [0i128; MAX_POWER as usize + 1];
        for term in &self.terms {
            let mut value = term.coefficient;
            for other in Dim::ALL.into_iter().filter(|other| *other != dim) {
                value = times_power(value, dims[other.idx()], term.powers[other.idx()]);
            }
            let slot = &mut coefficients[usize::from(term.powers[dim.idx()])];
            *slot = slot.saturating_add(value);
        }
        Univariate(coefficients)
    }

    /// Whether the value depends on `dim`.
    pub fn contains(&self, dim: Dim) -> bool {
        self.terms.iter().any(|t| t.powers[dim.idx()] > 0 && t.coefficient > 0)
    }

    /// `(c, g)` such that every value is c plus a multiple of g, where each dim is a
    /// multiple of its `unit`. g is 0 for a constant.
    pub fn residue_class(&self, units: &[u64; 8]) -> (i128, i128) {
        let mut constant = 0i128;
        let mut common = 0i128;
        for term in &self.terms {
            if term.powers == [0; 8] {
                constant = constant.saturating_add(term.coefficient);
                continue;
            }
            let factors = term.powers.iter().zip(units);
            let step = factors
                .fold(term.coefficient, |acc, (power, unit)| times_power(acc, *unit, *power));
            common = gcd(common, step);
        }
        (constant, common)
    }
}

fn times_power(value: i128, base: u64, power: u8) -> i128 {
    (0..power).fold(value, |acc, _| acc.saturating_mul(i128::from(base)))
}

/// Greatest common divisor; gcd(0, x) is x.
pub(super) fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A growing polynomial in one dim, by powers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Univariate([i128; MAX_POWER as usize + 1]);

impl Univariate {
    /// The value at `x`.
    pub fn eval(&self, x: u64) -> i128 {
        let degree = self.0.iter().rposition(|c| *c != 0).unwrap_or(0);
        let x = i128::from(x);
        self.0[..=degree]
            .iter()
            .rev()
            .fold(0i128, |acc, c| acc.saturating_mul(x).saturating_add(*c))
    }

    /// `(c0, c1)` if the polynomial is c0 + c1·x.
    pub fn as_affine(&self) -> Option<(i128, i128)> {
        self.0[2..].iter().all(|c| *c == 0).then_some((self.0[0], self.0[1]))
    }
}
