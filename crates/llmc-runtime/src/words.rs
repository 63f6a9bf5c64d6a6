//! Zeroed words for arenas and scratch: large ones on huge pages, where the system has them.
//!
//! A matrix product walks over thousands of pages of 4 KiB, and each has to be looked up; pages of 2 MiB
//! leave hardly any. Nothing is touched before it is used.

use llmc_plan::WORD_BYTES;
use memmap2::MmapMut;

/// Bytes of a huge page of x86-64 and arm64.
const HUGE: usize = 2 << 20;
/// What is smaller gains nothing.
const LEAST: usize = 2 * HUGE;
/// Alignment of a small block, in bytes: a cache line and a vector register.
const LINE: usize = 64;

/// A block of words, aligned to a cache line.
#[derive(Default)]
pub(crate) struct Words {
    block: Block,
    /// Words before the first aligned one.
    skip: usize,
    len: usize,
}

enum Block {
    Small(Vec<f32>),
    Large(MmapMut),
}

impl Default for Block {
    fn default() -> Self {
        Block::Small(Vec::new())
    }
}

impl Words {
    /// `len` zeros; `None` if the system does not give so much memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(WORD_BYTES)?;
        if bytes >= LEAST {
            let map = MmapMut::map_anon(bytes.checked_add(HUGE)?).ok()?;
            // Without huge pages it is the same, slower.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            let skip = map.as_ptr().align_offset(HUGE).min(HUGE) / WORD_BYTES;
            return Some(Words { block: Block::Large(map), skip, len });
        }
        let room = len + LINE / WORD_BYTES;
        Vec::<f32>::new().try_reserve_exact(room).ok()?;
        let words = vec![0f32; room];
        let skip = words.as_ptr().align_offset(LINE).min(LINE / WORD_BYTES);
        Some(Words { block: Block::Small(words), skip, len })
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of them.
    pub fn as_slice(&self) -> &[f32] {
        let all: &[f32] = match &self.block {
            Block::Small(words) => words,
            Block::Large(map) => bytemuck::cast_slice(whole(map)),
        };
        &all[self.skip..self.skip + self.len]
    }

    /// All of them.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let range = self.skip..self.skip + self.len;
        let all: &mut [f32] = match &mut self.block {
            Block::Small(words) => words,
            Block::Large(map) => {
                let end = map.len() / WORD_BYTES * WORD_BYTES;
                bytemuck::cast_slice_mut(&mut map[..end])
            }
        };
        &mut all[range]
    }
}

/// The bytes of whole words.
fn whole(map: &MmapMut) -> &[u8] {
    &map[..map.len() / WORD_BYTES * WORD_BYTES]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_blocks_are_aligned_zeros() {
        for (len, line) in
            [(0, LINE), (1, LINE), (1000, LINE), (LEAST / 4, HUGE), (3_000_001, HUGE)]
        {
            let mut words = Words::zeroed(len).unwrap();
            assert_eq!((words.len(), words.as_slice().len()), (len, len));
            assert_eq!(words.as_slice().as_ptr().align_offset(line), 0, "{len}");
            assert!(words.as_slice().iter().all(|x| x.to_bits() == 0));
            words.as_mut_slice().fill(1.5);
            assert!(words.as_slice().iter().all(|x| *x == 1.5));
        }
        assert!(Words::zeroed(usize::MAX / 8).is_none());
        assert!(Words::zeroed(usize::MAX).is_none());
    }
}
