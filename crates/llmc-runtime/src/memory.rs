//! The words that plans compute in.

use crate::exec::RunError;
use crate::mapped::MappedFile;
use crate::narrow;
use crate::words::Words;
use llmc_ir::eval::Tensor;
use llmc_plan::{AddressSpace, Plan, Region, View, WORD_BYTES};

/// One block of 4-byte words, aligned to 64 bytes. Grows, never moves an offset. Its first words may lie in a file
/// instead, which is read only.
#[derive(Default)]
pub struct Memory {
    words: Words,
    fixed: Option<MappedFile>,
}

impl Memory {
    /// Makes room for everything persistent in `space` and for the frames of `plans`. New words are 0.
    ///
    /// Errors: [`RunError::TooLarge`] if the system does not give so much memory.
    pub fn reserve<'a>(
        &mut self,
        space: &AddressSpace,
        plans: impl IntoIterator<Item = &'a Plan>,
    ) -> Result<(), RunError> {
        let wanted = plans.into_iter().map(|p| p.frame_start + p.frame_words);
        let wanted = wanted.fold(space.len(), usize::max);
        if self.len() >= wanted {
            return Ok(());
        }
        let too_large = || RunError::TooLarge { bytes: wanted as u128 * WORD_BYTES as u128 };
        let mut words = Words::zeroed(wanted).ok_or_else(too_large)?;
        // What lies in a file is not touched here.
        let own = self.fixed().len()..self.len();
        words.as_mut_slice()[own.clone()].copy_from_slice(&self.words()[own]);
        self.words = words;
        Ok(())
    }

    /// Lets the first words be those of a file. All others become 0.
    ///
    /// Errors: [`RunError::TooLarge`] if the system does not give so much memory.
    pub fn fix(&mut self, file: MappedFile) -> Result<(), RunError> {
        let len = self.len();
        let too_large = || RunError::TooLarge { bytes: len as u128 * WORD_BYTES as u128 };
        // The old block goes first.
        self.words = Words::default();
        self.words = Words::zeroed(len).ok_or_else(too_large)?;
        self.fixed = Some(file);
        Ok(())
    }

    /// Words that lie in a file.
    pub fn fixed(&self) -> &[f32] {
        self.fixed.as_ref().map_or(&[], MappedFile::words)
    }

    /// The words that lie in a file, and all words of the block, of which as many first ones are not used.
    pub(crate) fn parts_mut(&mut self) -> (&[f32], &mut [f32]) {
        let fixed = self.fixed.as_ref().map_or(&[][..], MappedFile::words);
        (fixed, self.words.as_mut_slice())
    }

    /// The words of a region, wherever it is.
    pub fn region(&self, region: Region) -> &[f32] {
        match self.fixed() {
            fixed if region.start < fixed.len() => &fixed[region.range()],
            _ => &self.words()[region.range()],
        }
    }

    /// Copies a region to the word `to` on.
    pub(crate) fn copy(&mut self, from: Region, to: usize) {
        let (fixed, words) = self.parts_mut();
        match from.start < fixed.len() {
            true => words[to..to + from.len].copy_from_slice(&fixed[from.range()]),
            false => words.copy_within(from.range(), to),
        }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All words of the block.
    pub fn words(&self) -> &[f32] {
        self.words.as_slice()
    }

    /// All words of the block; what is written to the first ones while they lie in a file is lost.
    pub fn words_mut(&mut self) -> &mut [f32] {
        self.words.as_mut_slice()
    }

    /// The elements of an f32 view.
    pub fn f32s(&self, view: &View) -> &[f32] {
        self.region(view.region)
    }

    /// The elements of an f32 view.
    pub fn f32s_mut(&mut self, view: &View) -> &mut [f32] {
        &mut self.words_mut()[view.region.range()]
    }

    /// The bytes of a view of any dtype, up to the end of its last word.
    pub fn bytes(&self, view: &View) -> &[u8] {
        bytemuck::cast_slice(self.f32s(view))
    }

    /// The bytes of a view of any dtype, up to the end of its last word.
    pub fn bytes_mut(&mut self, view: &View) -> &mut [u8] {
        bytemuck::cast_slice_mut(self.f32s_mut(view))
    }

    /// The bytes of a region.
    pub fn region_bytes(&self, region: Region) -> &[u8] {
        bytemuck::cast_slice(self.region(region))
    }

    /// The bytes of a region.
    pub fn region_bytes_mut(&mut self, region: Region) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words_mut()[region.range()])
    }

    /// Copies the first `n_bytes` of a region to the word `to` on.
    pub fn copy_bytes(&mut self, from: Region, n_bytes: usize, to: usize) {
        let start = from.start * WORD_BYTES;
        let n_bytes = n_bytes.min(from.len * WORD_BYTES);
        let all: &mut [u8] = bytemuck::cast_slice_mut(self.words_mut());
        all.copy_within(start..start + n_bytes, to * WORD_BYTES);
    }

    /// The elements of a view of any dtype.
    pub fn tensor(&self, view: &View) -> Tensor {
        narrow::read(view, self.f32s(view))
    }

    /// Writes the elements of a view of any dtype; the tensor has its dtype and shape.
    pub fn write_tensor(&mut self, view: &View, tensor: &Tensor) {
        narrow::write(tensor, self.f32s_mut(view));
    }

    /// The elements of an i32 view.
    pub fn i32s_mut(&mut self, view: &View) -> &mut [i32] {
        bytemuck::cast_slice_mut(self.f32s_mut(view))
    }

    /// The elements of a u32 view.
    pub fn u32s_mut(&mut self, view: &View) -> &mut [u32] {
        bytemuck::cast_slice_mut(self.f32s_mut(view))
    }
}
