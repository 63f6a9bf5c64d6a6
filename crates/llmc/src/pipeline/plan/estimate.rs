//! Text, rows and files of a run, from what is known before the text is read: the lengths of its files.
//!
//! These are estimates. How many tokens a text has is known once the tokenizer is trained.

use super::super::failure::Failure;
use super::super::prepare::section;
use super::super::project::Project;
use super::super::text::{TextFiles, dataset_config};
use crate::store::Source;
use llmc_data::source::Source as _;
use llmc_spec::{DatasetConfig, TokenizerConfig, TokenizerKind, TrainingConfig};
use serde::Serialize;
use std::path::Path;

/// Program, thread stacks and a tokenizer.
pub(super) const PROCESS_BYTES: u64 = 12 << 20;

/// Pages of code that a first step touches, and memory that planning leaves behind.
pub(super) const WORKING_BYTES: u64 = 2 << 20;

/// Bytes of a word with the blank behind it.
const WORD: u64 = 6;

/// A line of metrics with its event.
const RECORD_BYTES: u64 = 330;

/// Report, manifest, spec, solution, IR and log, beside what grows with the run.
const ACCOUNTS_BYTES: u64 = 512 << 10;

/// What is known of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DataEstimate {
    /// Bytes of text; `None` if files are missing or cannot be listed.
    pub text_bytes: Option<u64>,
    /// Tokens, estimated.
    pub tokens: u64,
    /// Rows held out, estimated.
    pub held_out_rows: u64,
    /// Bytes of memory that documents and packed rows take, estimated.
    pub memory_bytes: u64,
    /// Bytes of an id in the shards.
    id_bytes: u64,
}

/// What a run leaves on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskPlan {
    /// One checkpoint.
    pub checkpoint_bytes: u64,
    /// Checkpoints that are kept.
    pub checkpoints: u64,
    /// Packed rows, estimated.
    pub data_bytes: u64,
    /// Metrics, events and accounts, estimated.
    pub records_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// Looks at the files of a project's text, without reading them.
pub(super) fn data(project: &Project, source: &dyn Source) -> Result<DataEstimate, Failure> {
    let dataset: &DatasetConfig = section(&project.resolved.dataset)?;
    let tokenizer: &TokenizerConfig = section(&project.resolved.tokenizer)?;
    let training: &TrainingConfig = section(&project.resolved.training)?;
    let known = text_bytes(dataset, source);
    let text_bytes = known.unwrap_or(0);
    let tokens = (text_bytes as f64 / bytes_per_token(tokenizer)) as u64;
    let id_bytes = if project.model()?.dims.vocab_size <= 1 << 16 { 2 } else { 4 };
    let length = training.sequence_length.max(1);
    let held_out = (tokens as f64 * dataset.validation_fraction).ceil() as u64;
    Ok(DataEstimate {
        text_bytes: known,
        tokens,
        held_out_rows: held_out.div_ceil(length),
        memory_bytes: text_bytes + tokens * id_bytes,
        id_bytes,
    })
}

/// Bytes of text that the dataset takes.
fn text_bytes(dataset: &DatasetConfig, source: &dyn Source) -> Option<u64> {
    let files = TextFiles::new(source, dataset);
    let config = dataset_config(dataset);
    let mut bytes = 0;
    for pattern in &dataset.paths {
        for path in files.list(pattern).ok()?.iter().filter(|path| config.takes(path)) {
            bytes += source.file_len(Path::new(path)).ok()?;
        }
    }
    let limit = dataset.target_tokens.map(|words| words.saturating_mul(WORD));
    let limit = limit.unwrap_or(u64::MAX);
    match dataset.domains.is_empty() {
        true => Some(bytes.min(limit)),
        // A generated corpus fills up to the limit.
        false => Some(dataset.target_tokens.map_or(bytes, |_| limit)),
    }
}

/// Bytes that a token stands for: 1 for characters and for bytes without merges, more with every doubling of
/// the vocabulary. English and source code have 3.0 to 3.6 at 4,096 tokens and 4.2 to 4.7 at 50,000.
fn bytes_per_token(tokenizer: &TokenizerConfig) -> f64 {
    match tokenizer.kind {
        TokenizerKind::Char => 1.0,
        TokenizerKind::Bpe | TokenizerKind::ByteBpe => {
            let doublings = (tokenizer.vocab_size.max(256) as f64 / 256.0).log2();
            (1.0 + 0.55 * doublings).min(4.5)
        }
    }
}

/// The files of a run whose checkpoint has so many bytes of tensors, of so many parameters.
pub(super) fn disk(
    training: &TrainingConfig,
    data: &DataEstimate,
    state_bytes: u64,
    n_parameters: usize,
) -> DiskPlan {
    // A header of safetensors takes about a hundred bytes per tensor.
    let checkpoint_bytes = state_bytes + 100 * 3 * n_parameters as u64;
    let written = match training.checkpoint_interval {
        0 => 1,
        n => training.max_steps.div_ceil(n),
    };
    let best = u64::from(training.keep_best && written > 1);
    let checkpoints = training.keep_checkpoints.saturating_add(best).min(written);
    let data_bytes = data.tokens.saturating_mul(data.id_bytes);
    let records_bytes = ACCOUNTS_BYTES + training.max_steps.saturating_mul(RECORD_BYTES);
    let kept = checkpoint_bytes.saturating_mul(checkpoints);
    DiskPlan {
        checkpoint_bytes,
        checkpoints,
        data_bytes,
        records_bytes,
        total_bytes: kept.saturating_add(data_bytes).saturating_add(records_bytes),
    }
}
