//! Resolved datasets, tokenizers, optimizers and training runs: plain data,
//! every value filled in.
//!
//! Field meanings and defaults are in the field table (`docs/spec.md`).

use llmc_base::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where text comes from and what is kept of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A label; not part of the recipe.
    pub name: String,
    /// Files, folders and globs.
    pub paths: Vec<String>,
    /// File extensions that are taken, without the dot; empty takes all.
    pub extensions: Vec<String>,
    /// Globs that a path must match; empty matches all.
    pub include: Vec<String>,
    /// Globs that drop a path.
    pub exclude: Vec<String>,
    /// Generated corpora.
    pub domains: Vec<Domain>,
    /// Share of each language in a generated corpus, relative to the others; empty where
    /// nothing is generated.
    #[serde(default)]
    pub languages: BTreeMap<String, f64>,
    /// Stop after so many tokens (before a tokenizer is bound: whitespace-separated words).
    pub target_tokens: Option<u64>,
    /// Documents shorter than this, in the same unit, are dropped.
    pub min_length: u64,
    /// Documents longer than this are cut; `None` keeps them whole, and a generated one has
    /// at most 128 words.
    pub max_length: Option<u64>,
    /// What happens to repeated documents.
    pub deduplicate: Deduplicate,
    /// Share of documents held out, by document hash, in [0, 1).
    pub validation_fraction: f64,
    /// What happens to bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Seed of generated text, of the choice under `target_tokens`, and of the split.
    pub seed: u64,
}

/// A generated corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The documented generated corpus of `llmc-data`.
    Synthetic,
}

/// What happens to repeated documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deduplicate {
    /// Byte-equal documents are kept once.
    Exact,
    /// Everything is kept.
    None,
}

/// What happens to bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// An error that names file and byte.
    Error,
    /// U+FFFD in their place.
    Replace,
    /// The document is dropped and counted.
    Skip,
}

/// How text becomes ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// A label; not part of the recipe.
    pub name: String,
    /// The algorithm.
    #[serde(rename = "type")]
    pub kind: TokenizerKind,
    /// Size of the vocabulary, special tokens included.
    pub vocab_size: u64,
    /// Pairs seen fewer times are not merged; 0 for `char`.
    #[serde(default)]
    pub min_frequency: u64,
    /// How text is cut before merges; `None` for `char`, which has none.
    #[serde(default)]
    pub pre_tokenizer: PreTokenizer,
    /// Special tokens.
    pub special_tokens: SpecialTokens,
    /// The dataset it is trained on.
    pub dataset_hash: Option<Hash>,
}

/// A tokenizer algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Byte-pair merges over bytes: every text is encodable.
    ByteBpe,
    /// Byte-pair merges over the characters of the corpus.
    Bpe,
    /// One id per character of the corpus.
    Char,
}

/// How text is cut before merges.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PreTokenizer {
    /// The GPT-2 pattern: letters, digits, other, with a leading space.
    Gpt2,
    /// The whole text between special tokens is one piece.
    #[default]
    None,
}

/// Special tokens: ids before all others, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialTokens {
    /// Padding.
    pub pad: Option<String>,
    /// Unknown character.
    pub unk: Option<String>,
    /// Start of a document.
    pub bos: Option<String>,
    /// End of a document.
    pub eos: Option<String>,
    /// Others.
    pub additional: Vec<String>,
}

impl SpecialTokens {
    /// All of them in id order.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [&self.pad, &self.unk, &self.bos, &self.eos]
            .into_iter()
            .flatten()
            .chain(&self.additional)
            .map(String::as_str)
    }
}

/// How weights are updated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The algorithm.
    #[serde(rename = "type")]
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub lr: f64,
    /// AdamW and Lion: decay of the first moment, in [0, 1); with Muon that of its AdamW parameters;
    /// 0 for others.
    #[serde(default)]
    pub beta1: f64,
    /// AdamW: decay of the second moment, in [0, 1); Lion: of the momentum; else as `beta1`.
    #[serde(default)]
    pub beta2: f64,
    /// AdamW: added to the root of the second moment; else as `beta1`.
    #[serde(default)]
    pub eps: f64,
    /// Decoupled (AdamW) or added to the gradient (SGD).
    pub weight_decay: f64,
    /// SGD and Muon: momentum, in [0, 1); 0 for others.
    #[serde(default)]
    pub momentum: f64,
    /// Muon: Newton–Schulz steps; 0 for others.
    #[serde(default)]
    pub ns_steps: u64,
    /// Muon: matrices that are AdamW's, as patterns like those of `no_decay`; none for others.
    #[serde(default)]
    pub adamw_parameters: Vec<String>,
    /// Parameters without weight decay: globs over parameter paths, or `1-D` for
    /// every parameter with at most one dimension (norms and biases).
    pub no_decay: Vec<String>,
    /// Gradients are scaled down to this global norm; `None` leaves them.
    pub max_grad_norm: Option<f64>,
    /// Parameters with values of their own; the first group that names one has it.
    #[serde(default)]
    pub groups: Vec<ParameterGroup>,
}

/// Parameters that are updated with values of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// A pattern like those of `no_decay`.
    pub pattern: String,
    /// Factor on the learning rate; 0 leaves them as they are.
    pub lr_scale: f64,
    /// Their weight decay; `None` is the optimizer's.
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

/// An optimizer algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (arXiv:1711.05101).
    #[serde(rename = "adamw")]
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Momentum made orthogonal (Jordan et al. 2024; arXiv:2502.16982).
    Muon,
    /// Sign of an interpolated momentum (arXiv:2302.06675).
    Lion,
}

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// A label; not part of the recipe.
    pub name: String,
    /// Recipe hash of the model, if it was written.
    pub model_hash: Option<Hash>,
    /// Recipe hash of the dataset, if it was written.
    pub dataset_hash: Option<Hash>,
    /// Recipe hash of the tokenizer, if it was written.
    pub tokenizer_hash: Option<Hash>,
    /// Sequences per step.
    pub batch_size: u64,
    /// Sequences in memory at once; divides `batch_size`; never changes the numbers.
    pub microbatch_size: u64,
    /// Tokens per sequence; at most `context_length`.
    pub sequence_length: u64,
    /// Optimizer steps.
    pub max_steps: u64,
    /// A batch that grows to `batch_size`.
    pub batch_ramp: BatchRamp,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// Seed of weights, data order and dropout.
    pub seed: u64,
    /// Steps between validations; 0 only at the end.
    pub eval_interval: u64,
    /// Batches per validation; `None` takes the whole held-out set.
    pub eval_batches: Option<u64>,
    /// When to end before `max_steps`.
    pub early_stopping: EarlyStopping,
    /// Which steps change nothing.
    pub skip_spikes: SkipSpikes,
    /// Weight of log²Z in the loss of a token; 0 is none.
    pub z_loss: f64,
    /// Decay of the moving average of the weights, in (0, 1).
    pub ema: Option<f64>,
    /// Steps between checkpoints; 0 only at the end.
    pub checkpoint_interval: u64,
    /// How many of the latest checkpoints stay; at least 1.
    pub keep_checkpoints: u64,
    /// Whether the checkpoint with the lowest validation loss stays too.
    pub keep_best: bool,
    /// How many with the lowest validation losses; at least 1.
    pub best_checkpoints: u64,
    /// Steps between log lines; at least 1.
    pub log_interval: u64,
    /// Steps between samples; 0 only at the end.
    pub sample_interval: u64,
    /// Texts that samples continue.
    pub sample_prompts: Vec<String>,
    /// Tokens per sample; 0 is no sample.
    pub sample_tokens: u64,
    /// Threads; `None` is one per core. Never changes the numbers.
    pub threads: Option<u64>,
    /// What the backward pass computes again. Never changes the numbers.
    pub gradient_checkpointing: GradientCheckpointing,
    /// Dtype of weights and arithmetic.
    pub precision: Precision,
    /// What the loss is scaled by in the backward pass; only with `float16`.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
}

/// A factor on all gradients that follows what they bear (Micikevicius et al. 2018, arXiv:1710.03740,
/// section 3.2), with the names of `torch.amp.GradScaler`. Every number is a power of two, so that
/// scaling is exact.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor of the first step.
    pub init_scale: f64,
    /// What it is multiplied by after `growth_interval` good steps, above 1.
    pub growth_factor: f64,
    /// What it is multiplied by after a step whose gradients are not finite, in (0, 1).
    pub backoff_factor: f64,
    /// Steps with finite gradients in a row after which it grows; at least 1.
    pub growth_interval: u64,
}

/// A batch that grows from `start` to the batch size over the first steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRamp {
    /// Sequences of the first step, a divisor of the batch size; `None` is no ramp.
    pub start: Option<u64>,
    /// Steps until the batch size is reached.
    pub steps: u64,
}

/// When a run ends because the held-out loss falls no more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Validations in a row without a lower loss; `None` never ends a run.
    pub patience: Option<u64>,
    /// By how much a loss must be lower, in nats.
    pub min_delta: f64,
}

/// Which steps leave the weights as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipSpikes {
    /// Those above so many times the running median; `None` skips none.
    pub factor: Option<f64>,
    /// Steps of the median.
    pub window: u64,
}

/// Learning rate over steps, as a factor of the optimizer's `lr`.
///
/// Linear from 0 over `warmup_steps`; then `constant` stays at 1; `cosine` falls to
/// `min_lr_ratio` at the last step; `wsd` stays at 1 and falls linearly to
/// `min_lr_ratio` over the last `decay_steps`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The shape after warm-up.
    #[serde(rename = "type")]
    pub kind: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Steps of the final fall of `wsd`; 0 for the others.
    #[serde(default)]
    pub decay_steps: u64,
    /// Factor at the end, in [0, 1]; 0 for `constant`, which does not use it.
    #[serde(default)]
    pub min_lr_ratio: f64,
}

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine down to `min_lr_ratio` (arXiv:1608.03983).
    Cosine,
    /// Warm-up, stable, decay (arXiv:2404.06395).
    Wsd,
    /// No decay.
    Constant,
    /// A straight line down to `min_lr_ratio`.
    Linear,
    /// Falls with the root of the step (arXiv:1706.03762, section 5.3).
    InverseSqrt,
}

/// What the backward pass computes again instead of keeping it in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GradientCheckpointing {
    /// What is cheap.
    None,
    /// All of each layer (arXiv:1604.06174).
    Block,
    /// As little as so many bytes for the whole training allow.
    Budget(u64),
}

/// Dtype of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// IEEE single precision.
    Float32,
    /// Matrix products of operands rounded to bfloat16, accumulated in f32; weights, gradients and
    /// everything else stay f32.
    Bfloat16,
    /// The same with float16, and a loss that is scaled in the backward pass.
    Float16,
}
