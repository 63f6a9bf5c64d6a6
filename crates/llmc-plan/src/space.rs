//! The address space: named persistent regions, then the frame.

use llmc_ir::{DType, TensorType};
use std::collections::BTreeMap;

/// Every element the engine computes with takes one word: f32, i32, u32 and bool.
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

/// Words, rounded up to the alignment, that `len` elements take.
pub fn words_for(len: usize) -> usize {
    len.div_ceil(ALIGN_WORDS).max(1) * ALIGN_WORDS
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
        let len = shape.iter().product();
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
    if !matches!(ty.dtype, DType::F32 | DType::I32 | DType::U32 | DType::Bool) {
        return Err(format!("the engine does not compute in `{}` yet: {ty}", ty.dtype));
    }
    ty.concrete().ok_or_else(|| format!("type {ty} has an unbound dim"))
}
