//! The one abstraction that lets a function be written once and run on one
//! value or on sixteen: a bundle of f32 lanes with IEEE arithmetic.
//!
//! Every method is one IEEE 754 operation per lane, rounded to nearest even, or
//! an exact operation on the bits. So a function written over [`Lanes`] gives
//! the same bits for every implementation. `f32` itself is the one-lane
//! instance and the definition; `llmc-kernels` adds the vector registers.

/// A bundle of f32 lanes. All methods act lane by lane.
///
/// Integers are 32-bit, two's complement, wrapping.
pub trait Lanes: Copy {
    /// One truth value per lane.
    type Mask: Copy;
    /// One 32-bit integer per lane.
    type Int: Copy;

    /// The same value in every lane.
    fn splat(value: f32) -> Self;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self − other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// `self · factor + addend` with one rounding.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// The correctly rounded square root.
    fn sqrt(self) -> Self;

    /// `self = other`, false for NaN.
    fn eq(self, other: Self) -> Self::Mask;
    /// `self < other`, false for NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// `self ≤ other`, false for NaN.
    fn le(self, other: Self) -> Self::Mask;
    /// Lanes of `yes` where `mask` holds, lanes of `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Both hold.
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// At least one holds.
    fn mask_or(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Does not hold.
    fn mask_not(a: Self::Mask) -> Self::Mask;
    /// Whether the mask holds in at least one lane.
    fn any(mask: Self::Mask) -> bool;

    /// The bits of each lane.
    fn to_bits(self) -> Self::Int;
    /// The f32 with these bits in each lane.
    fn from_bits(bits: Self::Int) -> Self;
    /// The integer value as f32, rounded to nearest even.
    fn from_int(int: Self::Int) -> Self;
    /// The same integer in every lane.
    fn int_splat(value: i32) -> Self::Int;
    /// `a + b`, wrapping.
    fn int_add(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a − b`, wrapping.
    fn int_sub(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise and.
    fn int_and(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise or.
    fn int_or(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bitwise exclusive or.
    fn int_xor(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Shift left by `N` bits.
    fn int_shl<const N: u32>(a: Self::Int) -> Self::Int;
    /// Arithmetic shift right by `N` bits.
    fn int_sar<const N: u32>(a: Self::Int) -> Self::Int;
    /// `a = b`.
    fn int_eq(a: Self::Int, b: Self::Int) -> Self::Mask;

    /// `f` of each lane, one at a time: for rare arguments that have no vector
    /// form.
    fn map(self, f: fn(f32) -> f32) -> Self;

    /// `min(self, limit)` where NaN stays NaN.
    #[inline(always)]
    fn at_most(self, limit: f32) -> Self {
        let limit = Self::splat(limit);
        Self::select(Self::lt(limit, self), limit, self)
    }

    /// `self · 2^n` with one rounding where `keep` holds, +0 elsewhere. Where it
    /// holds, self is in [0.5, 2] or NaN and n is integral in [−252, 254].
    ///
    /// The first of the two multiplications is exact, because 2^(n/2) is a
    /// normal number, so only the second one rounds.
    #[inline(always)]
    fn scale_by_power_of_two(self, n: Self, keep: Self::Mask) -> Self {
        // The integer sits in the low bits of n + 1.5·2²³.
        let n = Self::int_sub(
            Self::add(n, Self::splat(ROUND_TO_INTEGER)).to_bits(),
            Self::int_splat(ROUND_TO_INTEGER.to_bits() as i32),
        );
        let half = Self::int_sar::<1>(n);
        let rest = Self::int_sub(n, half);
        let scaled = self.mul(power_of_two::<Self>(half)).mul(power_of_two::<Self>(rest));
        Self::select(keep, scaled, Self::splat(0.0))
    }

    /// `−self`: flips the sign, of NaN too.
    #[inline(always)]
    fn neg(self) -> Self {
        Self::from_bits(Self::int_xor(self.to_bits(), Self::int_splat(i32::MIN)))
    }
    /// `|self|`: clears the sign, of NaN too.
    #[inline(always)]
    fn abs(self) -> Self {
        Self::from_bits(Self::int_and(self.to_bits(), Self::int_splat(i32::MAX)))
    }
    /// The sign bit alone, as an integer.
    #[inline(always)]
    fn sign_bit(self) -> Self::Int {
        Self::int_and(self.to_bits(), Self::int_splat(i32::MIN))
    }
    /// Flips the sign where `sign` has its top bit set.
    #[inline(always)]
    fn xor_sign(self, sign: Self::Int) -> Self {
        Self::from_bits(Self::int_xor(self.to_bits(), sign))
    }
    /// IEEE 754-2019 `maximum`: NaN wins, +0 is greater than −0.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        let equal = Self::from_bits(Self::int_and(self.to_bits(), other.to_bits()));
        let larger = Self::select(Self::lt(other, self), self, other);
        let value = Self::select(Self::eq(self, other), equal, larger);
        Self::select(Self::eq(self, self), value, self)
    }
    /// IEEE 754-2019 `minimum`: NaN wins, −0 is less than +0.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let equal = Self::from_bits(Self::int_or(self.to_bits(), other.to_bits()));
        let smaller = Self::select(Self::lt(self, other), self, other);
        let value = Self::select(Self::eq(self, other), equal, smaller);
        Self::select(Self::eq(self, self), value, self)
    }
}

/// 1.5·2²³: adding and subtracting it rounds an f32 below 2²² in magnitude to
/// the nearest integer, ties to even.
pub const ROUND_TO_INTEGER: f32 = 12_582_912.0;

/// 2^n for an integer n in [−126, 127].
#[inline(always)]
pub fn power_of_two<V: Lanes>(n: V::Int) -> V {
    V::from_bits(V::int_shl::<23>(V::int_add(n, V::int_splat(127))))
}

impl Lanes for f32 {
    type Mask = bool;
    type Int = i32;

    #[inline(always)]
    fn splat(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn add(self, other: f32) -> f32 {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: f32) -> f32 {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: f32) -> f32 {
        self * other
    }
    #[inline(always)]
    fn div(self, other: f32) -> f32 {
        self / other
    }
    #[inline(always)]
    fn fma(self, factor: f32, addend: f32) -> f32 {
        fma_f32(self, factor, addend)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        #[cfg(feature = "std")]
        {
            f32::sqrt(self)
        }
        #[cfg(not(feature = "std"))]
        {
            libm::sqrtf(self)
        }
    }
    #[inline(always)]
    fn eq(self, other: f32) -> bool {
        self == other
    }
    #[inline(always)]
    fn lt(self, other: f32) -> bool {
        self < other
    }
    #[inline(always)]
    fn le(self, other: f32) -> bool {
        self <= other
    }
    #[inline(always)]
    fn select(mask: bool, yes: f32, no: f32) -> f32 {
        if mask { yes } else { no }
    }
    #[inline(always)]
    fn mask_and(a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn mask_or(a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn mask_not(a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn any(mask: bool) -> bool {
        mask
    }
    #[inline(always)]
    fn to_bits(self) -> i32 {
        f32::to_bits(self) as i32
    }
    #[inline(always)]
    fn from_bits(bits: i32) -> f32 {
        f32::from_bits(bits as u32)
    }
    #[inline(always)]
    fn from_int(int: i32) -> f32 {
        int as f32
    }
    #[inline(always)]
    fn int_splat(value: i32) -> i32 {
        value
    }
    #[inline(always)]
    fn int_add(a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn int_sub(a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn int_and(a: i32, b: i32) -> i32 {
        a & b
    }
    #[inline(always)]
    fn int_or(a: i32, b: i32) -> i32 {
        a | b
    }
    #[inline(always)]
    fn int_xor(a: i32, b: i32) -> i32 {
        a ^ b
    }
    #[inline(always)]
    fn int_shl<const N: u32>(a: i32) -> i32 {
        a.wrapping_shl(N)
    }
    #[inline(always)]
    fn int_sar<const N: u32>(a: i32) -> i32 {
        a.wrapping_shr(N)
    }
    #[inline(always)]
    fn int_eq(a: i32, b: i32) -> bool {
        a == b
    }
    #[inline(always)]
    fn map(self, f: fn(f32) -> f32) -> f32 {
        f(self)
    }
}

/// `a · b + c` with one rounding.
///
/// Where the target has the instruction, or a C library whose `fmaf` is exact,
/// that; elsewhere the sum in f64 rounded to odd and then to f32, which is exact:
/// the product of two f32 fits an f64, and 53 bits rounded to odd leave enough for
/// one correct rounding to 24 bits or fewer (Boldo and Melquiond 2008, "Emulation
/// of FMA and correctly rounded sums: proved algorithms using rounding to odd").
#[inline(always)]
pub fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(feature = "std")]
    if cfg!(any(
        target_feature = "fma",
        target_arch = "aarch64",
        target_env = "gnu",
        target_os = "macos",
    )) {
        return a.mul_add(b, c);
    }
    fma_by_f64(a, b, c)
}

/// [`fma_f32`] in f64 arithmetic.
#[inline(always)]
pub(crate) fn fma_by_f64(a: f32, b: f32, c: f32) -> f32 {
    fma_to_odd(a, b, c) as f32
}

/// `a · b + c` in f64, rounded to odd where it is not exact.
#[inline(always)]
pub(crate) fn fma_to_odd(a: f32, b: f32, c: f32) -> f64 {
    let product = f64::from(a) * f64::from(b);
    let addend = f64::from(c);
    let sum = product + addend;
    // Knuth's two-sum: `error` is exactly what `sum` lost.
    let addend_seen = sum - product;
    let error = (product - (sum - addend_seen)) + (addend - addend_seen);
    let bits = sum.to_bits();
    if error != 0.0 && sum.is_finite() && bits & 1 == 0 {
        let away_from_zero = (error > 0.0) == (sum > 0.0);
        let odd = if away_from_zero { bits + 1 } else { bits - 1 };
        return f64::from_bits(odd);
    }
    sum
}
