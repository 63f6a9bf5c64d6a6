//! What a compiler stage decided, and why, as data: what `llmc explain` shows.
//!
//! The stage that decides writes the decision down where it decides; nothing guesses reasons afterwards.

use serde::Serialize;

/// One decision of a stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Decision {
    /// The stage: `fuse`, `recompute`, `checkpointing`, `pack_weights`, `launches`, `storage`.
    pub stage: &'static str,
    /// The function that it is about; empty for a whole program.
    pub function: String,
    /// What was decided on, e.g. `%logits = linear`.
    pub subject: String,
    /// What became of it, e.g. `kept`.
    pub choice: &'static str,
    /// Why, as half a sentence.
    pub why: String,
    /// The ops that it is about, in order.
    pub ops: Vec<&'static str>,
}

impl Decision {
    /// A decision of a stage.
    pub fn new(
        stage: &'static str,
        function: &str,
        subject: impl Into<String>,
        choice: &'static str,
        why: impl Into<String>,
    ) -> Self {
        let (function, subject, why) = (function.to_string(), subject.into(), why.into());
        Decision { stage, function, subject, choice, why, ops: Vec::new() }
    }

    /// The decision with the ops that it is about.
    pub fn about(self, ops: impl IntoIterator<Item = &'static str>) -> Self {
        Decision { ops: ops.into_iter().collect(), ..self }
    }
}
