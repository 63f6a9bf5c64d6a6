//! What is about one thing: an op, a kernel, a function, a value, a stage, or memory.

use super::{Explanation, Failure};
use llmc_base::diag::nearest;
use llmc_base::{Decision, Diagnostic};
use llmc_ir::Op;
use llmc_plan::Launch;
use std::collections::BTreeSet;

/// The decision by which the pass `fuse` made the op of a launch, if it did.
pub(super) fn fused_into<'a>(
    launch: &Launch,
    function: &str,
    fused: &'a [Decision],
) -> Option<&'a Decision> {
    let is_made = matches!(launch.op, Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_));
    let is_it = |d: &&Decision| d.function == function && d.choice == "fused";
    fused.iter().find(is_it).filter(|_| is_made)
}

/// Parts that can be asked for by name.
const PARTS: [&str; 4] = ["training", "decode", "memory", "decisions"];

impl Explanation {
    /// What of it is about `what`: `training`, `decode`, `memory`, `decisions`, a stage, an op, a kernel, a
    /// function or a value.
    ///
    /// Errors: `explain::unknown` if nothing is, with the nearest name.
    pub fn about(self, what: &str) -> Result<Explanation, Failure> {
        let bare = what.trim_start_matches(['@', '%']).to_string();
        let names = self.names();
        let mut found = self;
        match bare.as_str() {
            "training" | "decode" => {
                found.phases.retain(|p| p.name == bare);
                found.memory.clear();
                found.decisions.clear();
                return Ok(found);
            }
            "memory" => {
                found.phases.clear();
                found.decisions.retain(|d| d.stage == "checkpointing" || d.stage == "recompute");
                return Ok(found);
            }
            "decisions" => {
                found.phases.clear();
                found.memory.clear();
                return Ok(found);
            }
            _ => {}
        }
        let is_it = |text: &str| text == bare;
        for phase in &mut found.phases {
            phase.kernels.retain(|k| {
                let kernel = k.kernel.split(' ').next().unwrap_or_default();
                is_it(&k.function) || is_it(kernel) || k.ops.iter().any(|op| is_it(op))
            });
        }
        found.phases.retain(|p| !p.kernels.is_empty());
        let names_it = |text: &str| subject_words(text).any(|word| is_it(&word));
        found.decisions.retain(|d| {
            is_it(d.stage)
                || is_it(&d.function)
                || d.ops.iter().any(|op| is_it(op))
                || names_it(&d.subject)
        });
        for function in &mut found.memory {
            if !is_it(&function.function) {
                function.buffers.retain(|b| names_it(&b.value));
            }
        }
        found.memory.retain(|m| !m.buffers.is_empty());
        let is_empty =
            found.phases.is_empty() && found.decisions.is_empty() && found.memory.is_empty();
        if !is_empty {
            return Ok(found);
        }
        let message = format!("nothing here is called `{what}`");
        let help = match nearest(&bare, names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!(
                "name an op, a kernel, a function or a value, or one of: {}",
                PARTS.join(", ")
            ),
        };
        Err(Diagnostic::error("explain::unknown", message).help(help).into())
    }

    /// Everything that can be asked for.
    fn names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = PARTS.map(str::to_string).into();
        for kernel in self.phases.iter().flat_map(|p| &p.kernels) {
            names.insert(kernel.function.clone());
            names.extend(kernel.ops.iter().map(|op| op.to_string()));
            names.extend(kernel.kernel.split(' ').next().map(str::to_string));
        }
        for decision in &self.decisions {
            names.insert(decision.stage.to_string());
            names.extend(decision.ops.iter().map(|op| op.to_string()));
        }
        let buffers = self.memory.iter().flat_map(|m| &m.buffers);
        names.extend(buffers.flat_map(|b| subject_words(&b.value)));
        names
    }
}

/// The names in a subject, without what marks them as values, functions or paths.
fn subject_words(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split_whitespace();
    words.map(|word| word.trim_matches(['%', '@', '`', '=']).to_string())
}
