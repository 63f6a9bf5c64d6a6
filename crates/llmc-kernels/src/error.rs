//! What a kernel answers when its arguments do not fit together.

use core::fmt;

/// An argument that a kernel refuses. Nothing has been written when it comes
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice has another length than the shapes ask for.
    Length {
        /// The argument's name in the kernel's signature.
        operand: &'static str,
        /// Elements that the shapes ask for.
        expected: usize,
        /// Elements that were passed.
        actual: usize,
    },
    /// The caller's scratch buffer is too short.
    Scratch {
        /// Elements needed.
        expected: usize,
        /// Elements passed.
        actual: usize,
    },
    /// A dimension or attribute has no meaning: zero heads, heads that do not
    /// divide, an odd rotary width, a size that overflows.
    Dimension {
        /// What is wrong.
        what: &'static str,
    },
    /// An id is outside of its table.
    Index {
        /// The argument's name in the kernel's signature.
        operand: &'static str,
        /// The offending value.
        value: i32,
        /// Valid values are `0..bound`.
        bound: usize,
    },
    /// This machine does not have the instruction set.
    Isa,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Length { operand, expected, actual } => {
                write!(f, "operand `{operand}` has {actual} elements, expected {expected}")
            }
            Error::Scratch { expected, actual } => {
                write!(f, "scratch has {actual} elements, needed {expected}")
            }
            Error::Dimension { what } => f.write_str(what),
            Error::Index { operand, value, bound } => {
                write!(f, "`{operand}` holds {value}, expected 0..{bound}")
            }
            Error::Isa => f.write_str("this machine does not have the instruction set"),
        }
    }
}

impl core::error::Error for Error {}

/// Refuses a slice of another length.
pub(crate) fn check_len<T>(
    operand: &'static str,
    slice: &[T],
    expected: usize,
) -> Result<(), Error> {
    if slice.len() == expected {
        Ok(())
    } else {
        Err(Error::Length { operand, expected, actual: slice.len() })
    }
}

/// The product of dimensions, refusing overflow.
pub(crate) fn product(dims: &[usize]) -> Result<usize, Error> {
    let mut total = 1usize;
    for &dim in dims {
        total = total
            .checked_mul(dim)
            .ok_or(Error::Dimension { what: "the shape has more elements than memory can hold" })?;
    }
    Ok(total)
}

/// The number of rows of width `width` in `slice`, refusing a rest.
pub(crate) fn rows_of(operand: &'static str, slice: &[f32], width: usize) -> Result<usize, Error> {
    if width == 0 {
        return Err(Error::Dimension { what: "a row has no elements" });
    }
    let rows = slice.len() / width;
    check_len(operand, slice, rows * width)?;
    Ok(rows)
}
