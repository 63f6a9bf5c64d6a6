//! The executor: runs the launches of a plan in order.

use crate::memory::Memory;
use crate::native::{self, Tables};
use crate::pool::Pool;
use crate::words::Words;
use llmc_ir::eval::{EvalError, Mode, Tensor};
use llmc_ir::{DType, Module};
use llmc_kernels::{Ctx, Isa, Parallel};
use llmc_plan::{Kernel, Launch, Plan, Region, View, WORD_BYTES};
use smallvec::SmallVec;

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum RunError {
    #[error("`{op}`: buffers overlap; the plan is wrong")]
    Overlap { op: &'static str },
    #[error("memory has {have} words, the plan needs {need}")]
    Memory { have: usize, need: usize },
    #[error("`{op}`: {message}")]
    Kernel { op: &'static str, message: String },
    #[error(
        "this takes {bytes} bytes of memory, more than the system gives; take a smaller model, sequence or micro-batch"
    )]
    TooLarge { bytes: u128 },
    #[error("this machine has no {0:?}")]
    Isa(Isa),
}

/// Threads, an instruction set, and scratch. Neither changes a bit of any result.
pub struct Engine {
    pool: Pool,
    isa: Isa,
    scratch: Words,
    tables: Tables,
}

impl Engine {
    /// An engine with `n_threads` threads, on the best instruction set or on `isa`.
    ///
    /// Errors: [`RunError::Isa`] if this machine lacks it.
    pub fn new(n_threads: usize, isa: Option<Isa>) -> Result<Self, RunError> {
        let isa = isa.unwrap_or_else(Isa::detect);
        if !isa.is_available() {
            return Err(RunError::Isa(isa));
        }
        Ok(Engine {
            pool: Pool::new(n_threads),
            isa,
            scratch: Words::default(),
            tables: Tables::default(),
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs every launch of `plan`.
    ///
    /// Errors: memory smaller than planned, or a kernel's refusal. State may then be half updated.
    pub fn run(&mut self, plan: &Plan, memory: &mut Memory) -> Result<(), RunError> {
        check_size(plan, memory)?;
        for launch in &plan.launches {
            self.launch(launch, memory)?;
        }
        Ok(())
    }

    /// Runs `plan` and returns the first launch with an f32 result that is not finite, if any;
    /// what comes after it is not run.
    ///
    /// Errors: as [`Engine::run`].
    pub fn first_non_finite<'p>(
        &mut self,
        plan: &'p Plan,
        memory: &mut Memory,
    ) -> Result<Option<&'p Launch>, RunError> {
        check_size(plan, memory)?;
        for launch in &plan.launches {
            self.launch(launch, memory)?;
            let is_bad = |view: &View| {
                view.dtype == DType::F32 && memory.f32s(view).iter().any(|x| !x.is_finite())
            };
            if launch.results.iter().any(is_bad) {
                return Ok(Some(launch));
            }
        }
        Ok(None)
    }

    /// The sum of the squares in f64, in the order of `docs/numerics.md` for gradient norms.
    pub fn sum_squares(&self, values: &[f32]) -> f64 {
        native::sum_squares(&self.ctx(), values)
    }

    fn ctx(&self) -> Ctx<'_> {
        // `new` has checked that the instruction set is there.
        Ctx::new(self.isa, &self.pool).unwrap_or_else(|_| Ctx::detect(&self.pool))
    }

    fn launch(&mut self, launch: &Launch, memory: &mut Memory) -> Result<(), RunError> {
        let op = launch.op.name();
        match launch.kernel {
            Kernel::Copy => {
                memory.copy(launch.operands[0].region, launch.results[0].region.start);
                Ok(())
            }
            Kernel::Evaluate => evaluate(launch, memory),
            _ => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let ctx = self.ctx();
                let needed = native::scratch_words(launch, ctx.threads());
                if scratch.len() < needed {
                    let bytes = needed as u128 * WORD_BYTES as u128;
                    // What is in it is of no use: the old block goes first.
                    drop(scratch);
                    scratch = Words::zeroed(needed).ok_or(RunError::TooLarge { bytes })?;
                }
                let mut tables = std::mem::take(&mut self.tables);
                let ctx = self.ctx();
                let (fixed, words) = memory.parts_mut();
                let slices = split(launch, fixed, words).ok_or(RunError::Overlap { op });
                let outcome = slices.and_then(|mut slices| {
                    native::run(&ctx, launch, &mut slices, scratch.as_mut_slice(), &mut tables)
                });
                (self.scratch, self.tables) = (scratch, tables);
                outcome
            }
        }
    }
}

/// Words of scratch that running a plan with so many threads takes.
pub fn scratch_words(plan: &Plan, threads: usize) -> usize {
    let words = plan.launches.iter().map(|launch| native::scratch_words(launch, threads));
    words.max().unwrap_or(0)
}

fn check_size(plan: &Plan, memory: &Memory) -> Result<(), RunError> {
    let (have, need) = (memory.len(), plan.frame_start + plan.frame_words);
    if have < need { Err(RunError::Memory { have, need }) } else { Ok(()) }
}

/// The memory of one launch: results exclusively, operands shared. An operand that a result
/// continues in place is empty here; the kernel finds it in the result.
pub(crate) struct Slices<'a> {
    pub operands: Operands<'a>,
    pub results: SmallVec<[&'a mut [f32]; 4]>,
}

/// The operands of a launch; few, so that a launch of little work allocates nothing.
pub(crate) type Operands<'a> = SmallVec<[&'a [f32]; 8]>;

/// Carves the regions of a launch out of the memory, whose first words are `fixed` where there are some. `None` if
/// a result overlaps anything else, or what is fixed.
fn split<'a>(launch: &Launch, fixed: &'a [f32], words: &'a mut [f32]) -> Option<Slices<'a>> {
    let is_fixed = |region: &Region| region.start < fixed.len();
    let views = launch.operands.iter().chain(&launch.results);
    let regions = views.map(|view| view.region).filter(|region| !is_fixed(region));
    let mut regions: SmallVec<[Region; 12]> = regions.collect();
    regions.sort_unstable();
    regions.dedup();
    let mut pieces: SmallVec<[&'a mut [f32]; 12]> = SmallVec::new();
    let (mut rest, mut at) = (words, 0);
    for region in &regions {
        let skipped = rest.split_at_mut_checked(region.start.checked_sub(at)?)?.1;
        let (piece, after) = skipped.split_at_mut_checked(region.len)?;
        pieces.push(piece);
        (rest, at) = (after, region.start + region.len);
    }
    let place = |view: &View| regions.binary_search(&view.region).ok();
    let mut results = SmallVec::new();
    for view in &launch.results {
        // What is left is empty: an operand that a result continues is found in the result.
        let piece = std::mem::take(&mut pieces[place(view)?]);
        if piece.len() != view.region.len {
            return None;
        }
        results.push(piece);
    }
    let shared: SmallVec<[&'a [f32]; 12]> = pieces.into_iter().map(|piece| &*piece).collect();
    let operand = |view: &View| match is_fixed(&view.region) {
        true => fixed.get(view.region.range()),
        false => place(view).map(|at| shared[at]),
    };
    let operands: Option<Operands<'a>> = launch.operands.iter().map(operand).collect();
    Some(Slices { operands: operands?, results })
}

/// Runs a launch by the `rounded` evaluator.
fn evaluate(launch: &Launch, memory: &mut Memory) -> Result<(), RunError> {
    let op = launch.op.name();
    let fail = |e: EvalError| RunError::Kernel { op, message: e.to_string() };
    let operands: Vec<Tensor> = launch.operands.iter().map(|view| memory.tensor(view)).collect();
    let no_functions = Module::default();
    let results =
        llmc_ir::eval::op(&no_functions, &launch.op, &operands, Mode::Rounded).map_err(fail)?;
    for (view, tensor) in launch.results.iter().zip(results) {
        memory.write_tensor(view, &tensor);
    }
    Ok(())
}
