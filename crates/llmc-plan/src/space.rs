//! The address space: named persistent regions, then the frame.

use llmc_ir::{DType, TensorType};
use std::collections::BTreeMap;

/// The unit of memory. An f32, i32, u32 or bool takes one word; narrower elements share words.
pub const WORD_BYTES: usize = 4;

/// Regions start at multiples of this many words (64 bytes, one cache line).
pub(crate) const ALIGN_WORDS: usize = 16;

/// A range of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// First word.
    pub start: usize,
    /// Number of words.
    pub len: usize,
}

impl Region {
    /// As a range of words.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }

    /// Whether a word is in both.
    pub fn overlaps(&self, other: &Region) -> bool {
        self.start < other.start + other.len && other.start < self.start + self.len
    }
}

/// A tensor in memory: contiguous, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where.
    pub region: Region,
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Vec<usize>,
}

/// Words, rounded up to the alignment, that a region of `len` words takes.
pub fn words_for(len: usize) -> usize {
    len.div_ceil(ALIGN_WORDS).max(1) * ALIGN_WORDS
}

/// Words of a tensor: one per element of f32, i32, u32 and bool; narrower elements stand side by side,
/// the first in the lowest bits, and fill up the last word with zeros.
pub fn tensor_words(dtype: DType, shape: &[usize]) -> usize {
    let len: usize = shape.iter().product();
    match dtype {
        DType::Bool => len,
        _ => len.saturating_mul(dtype.bits() as usize).div_ceil(32),
    }
}

/// Weights and state by absolute path. Several plans share one space, so that training,
/// evaluation and generation work on the same weights without a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddressSpace {
    views: BTreeMap<String, View>,
    len: usize,
}

impl AddressSpace {
    /// The view of `path`, placed now if it is new.
    ///
    /// Errors: the type it has, if that differs from `dtype` and `shape`.
    pub fn place(&mut self, path: &str, dtype: DType, shape: &[usize]) -> Result<View, View> {
        if let Some(view) = self.views.get(path) {
            let same = view.dtype == dtype && view.shape == shape;
            return if same { Ok(view.clone()) } else { Err(view.clone()) };
        }
        let len = tensor_words(dtype, shape);
        let view = View { region: Region { start: self.len, len }, dtype, shape: shape.to_vec() };
        self.len += words_for(len);
        self.views.insert(path.to_string(), view.clone());
        Ok(view)
    }

    /// The view of `path`.
    pub fn get(&self, path: &str) -> Option<&View> {
        self.views.get(path)
    }

    /// All persistent views by path, in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &View)> {
        self.views.iter().map(|(path, view)| (path.as_str(), view))
    }

    /// Words taken by persistent regions; frames start here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is placed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The shape of a type with no symbol left and a dtype the engine computes with.
pub(crate) fn concrete(ty: &TensorType) -> Result<Vec<usize>, String> {
    let is_wide = matches!(ty.dtype, DType::I64 | DType::U64 | DType::F64);
    if is_wide || matches!(ty.dtype, DType::F8E4M3 | DType::F8E5M2) {
        return Err(format!("the engine does not compute in `{}` yet: {ty}", ty.dtype));
    }
    ty.concrete().ok_or_else(|| format!("type {ty} has an unbound dim"))
}
