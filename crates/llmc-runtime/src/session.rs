//! A generation session: prefill once, then one token at a time over the KV cache.
//!
//! Logits are a function of the text alone: they have the bits of the whole forward pass over its
//! window, whatever the session was asked before.

use crate::exec::{Engine, RunError};
use crate::memory::Memory;
use llmc_base::Symbol;
use llmc_base::expr::Env;
use llmc_ir::Module;
use llmc_plan::{AddressSpace, Plan, PlanError, PlanRequest, View, plan_all};

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum SessionError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the model has no function `@{0}`")]
    Missing(&'static str),
    #[error("there is no token to go on from")]
    Empty,
    #[error("no tensor `{0}`")]
    UnknownTensor(String),
}

/// A token over the cache costs about as much as so many of a prefill, because it reads all weights.
const DECODE_COST: usize = 8;

/// One text in the making: weights, cache, and the tokens that the cache holds.
pub struct Session {
    engine: Engine,
    module: Module,
    memory: Memory,
    space: AddressSpace,
    decode: Plan,
    capacity: usize,
    /// The whole text of the last call; the cache holds its window. Empty if the cache holds nothing.
    text: Vec<u32>,
    logits: Vec<f32>,
}

fn dims(length: usize, capacity: usize) -> Env {
    Env::from([
        (Symbol::new("B"), 1),
        (Symbol::new("T"), length as i128),
        (Symbol::new("S"), capacity as i128),
    ])
}

impl Session {
    /// A session over a module with `@prefill` and `@decode`, with room for `capacity` tokens. The
    /// weights are zeros until they are filled.
    pub fn new(module: &Module, capacity: usize, engine: Engine) -> Result<Self, SessionError> {
        let mut session = Session {
            engine,
            module: module.clone(),
            memory: Memory::default(),
            space: AddressSpace::default(),
            decode: Plan::default(),
            capacity,
            text: Vec::new(),
            logits: Vec::new(),
        };
        session.decode = session.plan("decode", 1)?;
        Ok(session)
    }

    fn plan(&mut self, entry: &'static str, length: usize) -> Result<Plan, SessionError> {
        let id = self.module.find(entry).ok_or(SessionError::Missing(entry))?;
        let env = dims(length, self.capacity);
        let request = PlanRequest { module: &self.module, entry: id, env };
        let mut plans = plan_all(&[request], &mut self.space)?;
        let plan = plans.pop().ok_or(SessionError::Missing(entry))?;
        self.memory.reserve(&self.space, [&plan])?;
        Ok(plan)
    }

    /// Most tokens that the model sees at once.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Paths and views of the weights, in path order.
    pub fn weights(&self) -> Vec<String> {
        let is_cache = |path: &str| path.ends_with("_cache");
        self.space.iter().map(|(p, _)| p).filter(|p| !is_cache(p)).map(str::to_string).collect()
    }

    /// Elements of a weight, to be filled.
    pub fn weight_mut(&mut self, path: &str) -> Result<&mut [f32], SessionError> {
        let view = self.space.get(path).ok_or_else(|| SessionError::UnknownTensor(path.into()))?;
        Ok(self.memory.f32s_mut(view))
    }

    /// Logits \[V\] of the token that follows `ids`.
    ///
    /// Goes on from what the text has in common with that of the last call, where few tokens are new:
    /// the next token of a generation, the next turn of a chat, another try. Of a text longer than the
    /// capacity the model sees a window with positions from 0, which moves on by half a capacity
    /// whenever it is full.
    ///
    /// Errors: [`SessionError::Empty`] if there is no token.
    pub fn next_logits(&mut self, ids: &[u32]) -> Result<&[f32], SessionError> {
        let last = ids.len().checked_sub(1).ok_or(SessionError::Empty)?;
        let start = self.window_start(ids.len());
        let is_same_window = self.window_start(self.text.len()) == start;
        let common = ids.iter().zip(&self.text).take_while(|(a, b)| a == b).count().min(last);
        // What the cache holds is unknown until the run is through.
        let known = is_same_window && common > start;
        self.text.truncate(if known { common } else { 0 });
        let few = (ids.len() - common) * DECODE_COST <= ids.len() - start;
        if known && (few || common == last) {
            for at in common..ids.len() {
                self.decode(&ids[start..=at])?;
                self.text.push(ids[at]);
            }
        } else {
            self.text.clear();
            self.prefill(&ids[start..])?;
            self.text.extend_from_slice(ids);
        }
        Ok(&self.logits)
    }

    /// First token of the window over a text of this length.
    fn window_start(&self, length: usize) -> usize {
        let hop = (self.capacity / 2).max(1);
        length.saturating_sub(self.capacity).div_ceil(hop) * hop
    }

    fn prefill(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        let plan = self.plan("prefill", ids.len())?;
        for (name, view) in &plan.inputs {
            let out = self.memory.i32s_mut(view);
            for (i, x) in out.iter_mut().enumerate() {
                *x = match name.as_str() {
                    "tokens" => ids[i] as i32,
                    "positions" => i as i32,
                    _ => 0,
                };
            }
        }
        self.finish(&plan)
    }

    fn decode(&mut self, ids: &[u32]) -> Result<(), SessionError> {
        let at = ids.len() - 1;
        let plan = self.decode.clone();
        for (name, view) in &plan.inputs {
            let out = self.memory.i32s_mut(view);
            match name.as_str() {
                "tokens" => out.fill(ids[at] as i32),
                "key_segments" => {
                    out[..=at].fill(0);
                    out[at + 1..].fill(-1);
                }
                // The position, and the slot that it takes.
                _ => out.fill(at as i32),
            }
        }
        self.finish(&plan)
    }

    fn finish(&mut self, plan: &Plan) -> Result<(), SessionError> {
        self.engine.run(plan, &mut self.memory)?;
        let (_, logits): &(String, View) =
            plan.outputs.first().ok_or(SessionError::Missing("logits"))?;
        self.logits.clear();
        self.logits.extend_from_slice(self.memory.f32s(logits));
        Ok(())
    }
}
