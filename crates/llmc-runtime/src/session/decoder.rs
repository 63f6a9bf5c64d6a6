//! A model with a KV cache for several texts: weights, cache, and the plans that go on from it.
//!
//! The cache has a fixed number of rows with a fixed number of slots. A plan works on some neighbouring
//! rows: it is made for caches of exactly so many rows, and then moved to where the weights, and the
//! rows in the whole cache, are. So rows that rest cost nothing.

use super::SessionError;
use super::prefix::PrefixCache;
use crate::exec::Engine;
use crate::mapped::MappedFile;
use crate::memory::Memory;
use llmc_base::Symbol;
use llmc_base::expr::Env;
use llmc_ir::{DType, Module};
use llmc_plan::{AddressSpace, Plan, PlanRequest, Region, View, WORD_BYTES, plan_all};
use std::collections::BTreeMap;
use std::ops::Range;

/// Plans that are kept; when there are more all are made anew as they are needed.
const MAX_PLANS: usize = 64;

/// Which tokens get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Logits {
    /// The last of each row.
    Last,
    /// Every one.
    All,
}

impl Logits {
    /// The function that computes them.
    fn entry(self) -> &'static str {
        match self {
            Logits::Last => "prefill",
            Logits::All => "decode",
        }
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    logits: Logits,
    first_row: usize,
    n_rows: usize,
    n_tokens: usize,
}

/// New tokens of a row, behind `start` tokens that its cache holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub start: usize,
    pub ids: &'a [u32],
}

/// A model, its cache and what runs it.
pub(super) struct Decoder {
    engine: Engine,
    module: Module,
    memory: Memory,
    space: AddressSpace,
    /// The first words, which are those of the weights.
    weight_words: usize,
    plans: BTreeMap<Shape, Plan>,
    n_rows: usize,
    capacity: usize,
    /// Slots of a row in memory, at least the capacity.
    n_slots: usize,
    n_computed: usize,
    logits: Vec<f32>,
}

/// A cache: keys, values, or the scales of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheKind {
    /// Its element type.
    pub dtype: DType,
    /// Bytes that a token takes in it.
    pub slot_bytes: usize,
}

/// Bytes of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBytes {
    /// What is set aside for a whole context.
    pub reserved: u64,
    /// What the tokens take that are in it.
    pub used: u64,
    /// What is kept of earlier texts.
    pub kept: u64,
}

/// Slots of a row so that it takes whole words, and rows do not share one, whatever an element takes.
fn slots_for(module: &Module, capacity: usize) -> usize {
    let mut states = module.functions.iter().flat_map(|f| f.states().map(|(_, v)| f.ty(v)));
    match states.any(|ty| ty.dtype.bits() < 32) {
        true => capacity.next_multiple_of(WORD_BYTES),
        false => capacity,
    }
}

fn is_cache(path: &str) -> bool {
    path.ends_with("_cache")
}

impl Decoder {
    /// Room for `n_rows` texts of `capacity` tokens. The weights are zeros until they are filled.
    pub fn new(
        module: &Module,
        n_rows: usize,
        capacity: usize,
        engine: Engine,
    ) -> Result<Self, SessionError> {
        let mut decoder = Decoder {
            engine,
            module: module.clone(),
            memory: Memory::default(),
            space: AddressSpace::default(),
            weight_words: 0,
            plans: BTreeMap::new(),
            n_rows,
            capacity,
            n_slots: slots_for(module, capacity),
            n_computed: 0,
            logits: Vec::new(),
        };
        let shape = Shape { logits: Logits::All, first_row: 0, n_rows, n_tokens: 1 };
        let mut space = AddressSpace::default();
        let plan = decoder.planned(shape, &mut space)?;
        // The weights side by side, so that they can lie in a file; behind them the caches.
        for is_weight in [true, false] {
            for (path, view) in space.iter().filter(|(path, _)| is_cache(path) != is_weight) {
                let placed = decoder.space.place(path, view.dtype, &view.shape);
                placed.expect("a space has each path once");
            }
            if is_weight {
                decoder.weight_words = decoder.space.len();
            }
        }
        let plan = decoder.moved(plan, &space, 0);
        decoder.memory.reserve(&decoder.space, [&plan])?;
        decoder.plans.insert(shape, plan);
        Ok(decoder)
    }

    /// Rows of the cache.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Slots of a row.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Paths of the weights, in path order.
    pub fn weights(&self) -> Vec<String> {
        self.space.iter().map(|(p, _)| p).filter(|p| !is_cache(p)).map(str::to_string).collect()
    }

    /// Where a weight is, with its dtype and shape.
    pub fn weight_view(&self, path: &str) -> Option<&View> {
        self.space.get(path).filter(|_| !is_cache(path))
    }

    /// Bytes of a weight of any dtype, up to the end of its last word.
    pub fn weight_bytes(&self, path: &str) -> Result<&[u8], SessionError> {
        let view = self.weight_view(path);
        let view = view.ok_or_else(|| SessionError::UnknownTensor(path.into()))?;
        Ok(self.memory.bytes(view))
    }

    /// The weights as one block of bytes.
    pub fn weight_block(&self) -> &[u8] {
        self.memory.region_bytes(Region { start: 0, len: self.weight_words })
    }

    /// Takes the weights from a file that is [`Decoder::weight_block`]. What the caches hold is lost.
    ///
    /// Errors: [`SessionError::Block`] for a file of another length.
    pub fn map_weights(&mut self, file: MappedFile) -> Result<(), SessionError> {
        let (found, expected) = (file.bytes().len(), self.weight_words * WORD_BYTES);
        if found != expected {
            return Err(SessionError::Block { found, expected });
        }
        Ok(self.memory.fix(file)?)
    }

    /// Where a weight is that is to be filled.
    fn view_to_fill(&self, path: &str) -> Result<View, SessionError> {
        if !self.memory.fixed().is_empty() {
            return Err(SessionError::Fixed(path.into()));
        }
        let view = self.weight_view(path).cloned();
        view.ok_or_else(|| SessionError::UnknownTensor(path.into()))
    }

    /// Bytes of a weight of any dtype, up to the end of its last word, to be filled.
    pub fn weight_bytes_mut(&mut self, path: &str) -> Result<&mut [u8], SessionError> {
        let view = self.view_to_fill(path)?;
        Ok(self.memory.bytes_mut(&view))
    }

    /// Elements of a weight, to be filled.
    pub fn weight_mut(&mut self, path: &str) -> Result<&mut [f32], SessionError> {
        let view = self.view_to_fill(path)?;
        Ok(self.memory.f32s_mut(&view))
    }

    /// What a view of a cache holds.
    fn kind(view: &View) -> CacheKind {
        let elements: usize = view.shape.iter().skip(2).product();
        CacheKind { dtype: view.dtype, slot_bytes: elements * view.dtype.bits() as usize / 8 }
    }

    /// The caches in path order.
    pub fn caches(&self) -> impl Iterator<Item = CacheKind> {
        self.space.iter().filter(|(p, _)| is_cache(p)).map(|(_, view)| Self::kind(view))
    }

    /// Bytes of all caches, and of `n_tokens` tokens in them.
    pub fn cache_bytes(&self, n_tokens: usize) -> CacheBytes {
        let token: usize = self.caches().map(|cache| cache.slot_bytes).sum();
        let of = |tokens: usize| token as u64 * tokens as u64;
        CacheBytes { reserved: of(self.n_slots * self.n_rows), used: of(n_tokens), kept: 0 }
    }

    /// The slots of a row in a cache.
    fn row(&self, view: &View, row: usize) -> Region {
        let len = view.region.len / self.n_rows.max(1);
        Region { start: view.region.start + row * len, len }
    }

    /// The regions of a row in all caches in path order, with the bytes that a token takes there.
    fn regions(&self, row: usize) -> Vec<(Region, usize)> {
        let caches = self.space.iter().filter(|(p, _)| is_cache(p));
        caches.map(|(_, view)| (self.row(view, row), Self::kind(view).slot_bytes)).collect()
    }

    /// Some slots of a row, of all caches in path order.
    pub fn slots(&self, row: usize, slots: Range<usize>) -> Vec<Vec<u8>> {
        let bytes = |(region, slot): (Region, usize)| {
            self.memory.region_bytes(region)[slot * slots.start..slot * slots.end].to_vec()
        };
        self.regions(row).into_iter().map(bytes).collect()
    }

    /// Fills the slots of a row from `at` on with what [`Decoder::slots`] gave.
    pub fn set_slots(&mut self, row: usize, at: usize, slots: &[&[u8]]) {
        for ((region, slot), bytes) in self.regions(row).into_iter().zip(slots) {
            let all = self.memory.region_bytes_mut(region);
            let to = all.get_mut(slot * at..).unwrap_or_default();
            let n = bytes.len().min(to.len());
            to[..n].copy_from_slice(&bytes[..n]);
        }
    }

    /// A place for beginnings of texts, up to so many bytes.
    pub fn prefix_cache(&self, bytes: usize) -> PrefixCache {
        PrefixCache::new(self.caches().map(|cache| cache.slot_bytes).collect(), bytes)
    }

    /// Tokens that went through the model.
    pub fn n_computed(&self) -> usize {
        self.n_computed
    }

    /// Copies the first `n_slots` slots of a row to another.
    pub fn copy_slots(&mut self, from: usize, to: usize, n_slots: usize) {
        for ((from, slot), (to, _)) in self.regions(from).into_iter().zip(self.regions(to)) {
            self.memory.copy_bytes(from, slot * n_slots, to.start);
        }
    }

    /// Goes on with the rows from `first_row`, one for each piece; all pieces have as many tokens.
    /// Logits \[row, V\] or \[row, token, V\].
    ///
    /// Errors: a piece that does not fit into its row; what the engine reports.
    pub fn extend(
        &mut self,
        logits: Logits,
        first_row: usize,
        pieces: &[Piece],
    ) -> Result<&[f32], SessionError> {
        let n_tokens = pieces.first().map_or(0, |piece| piece.ids.len());
        if n_tokens == 0 || pieces.iter().any(|piece| piece.ids.len() != n_tokens) {
            return Err(SessionError::Empty);
        }
        let shape = Shape { logits, first_row, n_rows: pieces.len(), n_tokens };
        let plan = self.plan(shape)?;
        for (name, view) in &plan.inputs {
            let out = self.memory.i32s_mut(view);
            if name == "start" {
                for (x, piece) in out.iter_mut().zip(pieces) {
                    *x = piece.start as i32;
                }
                continue;
            }
            let is_tokens = name == "tokens";
            for (row, piece) in out.chunks_exact_mut(n_tokens).zip(pieces) {
                for (i, (x, id)) in row.iter_mut().zip(piece.ids).enumerate() {
                    *x = if is_tokens { *id as i32 } else { (piece.start + i) as i32 };
                }
            }
        }
        let run = self.engine.run(&plan, &mut self.memory);
        let view = plan.outputs.first().map(|(_, view)| view.clone());
        self.plans.insert(shape, plan);
        run?;
        self.n_computed += pieces.len() * n_tokens;
        let view = view.ok_or(SessionError::Missing("logits"))?;
        self.logits.clear();
        self.logits.extend_from_slice(self.memory.f32s(&view));
        Ok(&self.logits)
    }

    /// The plan of a shape, taken out of those that are kept.
    fn plan(&mut self, shape: Shape) -> Result<Plan, SessionError> {
        if let Some(plan) = self.plans.remove(&shape) {
            return Ok(plan);
        }
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        let mut space = AddressSpace::default();
        let plan = self.planned(shape, &mut space)?;
        let plan = self.moved(plan, &space, shape.first_row);
        self.memory.reserve(&self.space, [&plan])?;
        Ok(plan)
    }

    /// The plan of a shape over a space of its own.
    fn planned(&self, shape: Shape, space: &mut AddressSpace) -> Result<Plan, SessionError> {
        let entry = shape.logits.entry();
        let id = self.module.find(entry).ok_or(SessionError::Missing(entry))?;
        let env = Env::from([
            (Symbol::new("B"), shape.n_rows as i128),
            (Symbol::new("T"), shape.n_tokens as i128),
            (Symbol::new("S"), self.n_slots as i128),
        ]);
        let mut plans = plan_all(&[PlanRequest { module: &self.module, entry: id, env }], space)?;
        plans.pop().ok_or(SessionError::Missing(entry))
    }

    /// A plan that was made over a space of its own, moved to the weights and rows of this decoder.
    fn moved(&self, mut plan: Plan, space: &AddressSpace, first_row: usize) -> Plan {
        let mut moves: Vec<(usize, usize)> = space
            .iter()
            .filter_map(|(path, view)| {
                let own = self.space.get(path)?;
                let start = match is_cache(path) {
                    true => self.row(own, first_row).start,
                    false => own.region.start,
                };
                Some((view.region.start, start))
            })
            .collect();
        moves.push((plan.frame_start, self.space.len()));
        moves.sort_unstable();
        let place = |view: &mut View| {
            let at = moves.partition_point(|(from, _)| *from <= view.region.start);
            if let Some((from, to)) = at.checked_sub(1).map(|at| moves[at]) {
                view.region.start = view.region.start - from + to;
            }
        };
        for launch in &mut plan.launches {
            launch.operands.iter_mut().chain(&mut launch.results).for_each(place);
        }
        plan.inputs.iter_mut().chain(&mut plan.outputs).for_each(|(_, view)| place(view));
        plan.frame_start = self.space.len();
        plan
    }
}
