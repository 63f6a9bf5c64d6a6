//! `[training]`: one run.

use super::DefaultRule::{Is, Nothing, Rule, Shorthand};
use super::{Choice, Field, Hashing, Kind, Limit, Lit, also, built, rules};

const SCHEDULE: &[Choice] = &[
    built("cosine"),
    also("wsd", &["warmup_stable_decay"]),
    built("constant"),
    built("linear"),
    built("inverse_sqrt"),
];
const PRECISION: &[Choice] =
    &[also("float32", &["f32"]), also("bfloat16", &["bf16"]), also("float16", &["f16", "fp16"])];
const FLOAT16: &[&str] = &["float16"];
const POSITIVE: Kind = Kind::Float { min: Limit::Beyond(0.0), max: Limit::Open };
const MAX: u64 = 1 << 53;
const COUNT: Kind = Kind::Int { min: 1, max: MAX };
const COUNT_OR_ZERO: Kind = Kind::Int { min: 0, max: MAX };

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new("training.name", Kind::Text, Is(Lit::Text("run")), "A label; not part of the recipe.")
        .hashed(Hashing::Never),
    hash("training.model_hash", "none: the `[model]` of this spec", "Recipe hash of the model; must be that of `[model]` where both are written."),
    hash("training.dataset_hash", "none: the `[dataset]` of this spec", "Recipe hash of the dataset; must be that of `[dataset]` where both are written."),
    hash("training.tokenizer_hash", "none: the `[tokenizer]` of this spec", "Recipe hash of the tokenizer; must be that of `[tokenizer]` where both are written."),
    Field::new("training.batch_size", COUNT, Is(Lit::Int(8)), "Sequences per step."),
    Field::new(
        "training.microbatch_size",
        COUNT,
        Rule { text: "`batch_size`, or `batch_ramp.start`", compute: rules::microbatch_size },
        "Sequences in memory at once; divides `batch_size`. Never changes the numbers, so it is not part of the recipe.",
    )
    .aliases(&["training.micro_batch_size"])
    .hashed(Hashing::Never),
    Field::new(
        "training.sequence_length",
        COUNT,
        Rule { text: "`model.context_length`", compute: rules::sequence_length },
        "Tokens per sequence; at most `model.context_length`.",
    )
    .aliases(&["training.seq_len", "training.max_seq_length", "training.block_size"]),
    Field::new("training.max_steps", COUNT, Is(Lit::Int(1000)), "Optimizer steps.")
        .aliases(&["training.steps", "training.num_steps"]),
    Field::new(
        "training.batch_ramp.start",
        COUNT,
        Nothing("none: always `batch_size`"),
        "Sequences of the first step; a divisor of `batch_size`, and `microbatch_size` is one of it. The batch then grows in multiples of it, in spans of equal length.",
    ),
    Field::new(
        "training.batch_ramp.steps",
        COUNT,
        Is(Lit::Int(100)),
        "Steps until `batch_size` is reached. Not a share of `max_steps`: a run with more of them goes through the same data.",
    ),
    Field::new(
        "training.schedule.type",
        Kind::Choice(SCHEDULE),
        Is(Lit::Text("cosine")),
        "After linear warm-up: `cosine` falls to `min_lr_ratio` at the last step, `linear` falls in a straight line to it, `wsd` stays and falls over the last `decay_steps`, `inverse_sqrt` falls with the root of the step, `constant` stays.",
    )
    .aliases(&[
        "training.schedule",
        "training.lr_schedule",
        "training.lr_scheduler_type",
        "training.schedule.kind",
    ]),
    Field::new(
        "training.schedule.warmup_steps",
        COUNT_OR_ZERO,
        Rule { text: "5 % of `max_steps`, at most 2000", compute: rules::warmup_steps },
        "Steps of linear warm-up from 0.",
    )
    .aliases(&["training.warmup_steps"]),
    Field::new(
        "training.schedule.decay_fraction",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Closed(1.0) },
        Shorthand {
            text: "`decay_steps`, as a share of `max_steps`",
            covers: &["training.schedule.decay_steps"],
        },
        "`decay_fraction = 0.2`.",
    )
    .aliases(&["training.decay_fraction"])
    .when("training.schedule.type", &["wsd"]),
    Field::new(
        "training.schedule.decay_steps",
        COUNT_OR_ZERO,
        Rule {
            text: "`decay_fraction` of `max_steps`, otherwise 20 %",
            compute: rules::decay_steps,
        },
        "Steps of the final fall of `wsd`.",
    )
    .aliases(&["training.decay_steps"])
    .when("training.schedule.type", &["wsd"]),
    Field::new(
        "training.schedule.min_lr_ratio",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Closed(1.0) },
        Rule { text: "0.1 for `cosine`, 0 for `linear` and `wsd`", compute: rules::min_lr_ratio },
        "Learning rate at the end, as a share of the peak.",
    )
    .aliases(&["training.min_lr_ratio"])
    .when("training.schedule.type", &["cosine", "linear", "wsd"]),
    Field::new(
        "training.seed",
        COUNT_OR_ZERO,
        Is(Lit::Int(0)),
        "Seed of initial weights, data order and dropout.",
    ),
    Field::new(
        "training.eval_interval",
        COUNT_OR_ZERO,
        Rule { text: "10 % of `max_steps`, at least 1", compute: rules::tenth_of_steps },
        "Steps between validations; 0 only at the end. Part of the recipe because it decides which checkpoint is the best.",
    )
    .aliases(&["training.eval_steps"]),
    Field::new(
        "training.eval_batches",
        COUNT,
        Nothing("none: the whole held-out set"),
        "Batches per validation.",
    ),
    Field::new(
        "training.early_stopping.patience",
        COUNT,
        Nothing("none: all of `max_steps`"),
        "The run ends after so many validations in a row without a lower held-out loss.",
    )
    .aliases(&["training.early_stopping_patience"]),
    Field::new(
        "training.early_stopping.min_delta",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Open },
        Is(Lit::Float(0.0)),
        "The held-out loss counts as lower only if it is so by more than this, in nats.",
    )
    .aliases(&["training.early_stopping_threshold"]),
    Field::new(
        "training.skip_spikes.factor",
        Kind::Float { min: Limit::Beyond(1.0), max: Limit::Open },
        Nothing("none: no step is skipped"),
        "A step whose loss or gradient norm is above so many times the median of the last `window` steps leaves weights and moments as they are.",
    ),
    Field::new(
        "training.skip_spikes.window",
        Kind::Int { min: 1, max: 1 << 16 },
        Is(Lit::Int(100)),
        "Steps of the median, skipped ones among them; nothing is skipped before there are so many.",
    ),
    Field::new(
        "training.z_loss",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Open },
        Is(Lit::Float(0.0)),
        "Weight of log²Z in the loss of a token, Z the sum of the exponentials of its logits (PaLM, arXiv:2204.02311, section 5). The held-out loss is without it.",
    ),
    Field::new(
        "training.ema",
        Kind::Float { min: Limit::Beyond(0.0), max: Limit::Beyond(1.0) },
        Nothing("none: no average"),
        "Decay of an exponential moving average of the weights, kept beside them: `--ema` generates and exports with it.",
    )
    .aliases(&["training.ema_decay"]),
    Field::new(
        "training.checkpoint_interval",
        COUNT_OR_ZERO,
        Rule { text: "10 % of `max_steps`, at least 100", compute: rules::checkpoint_interval },
        "Steps between checkpoints; 0 only at the end.",
    )
    .aliases(&["training.save_steps", "training.save_interval"])
    .hashed(Hashing::Never),
    Field::new(
        "training.keep_checkpoints",
        COUNT,
        Is(Lit::Int(2)),
        "How many of the latest checkpoints stay.",
    )
    .aliases(&["training.save_total_limit"])
    .hashed(Hashing::Never),
    Field::new(
        "training.keep_best",
        Kind::Bool,
        Is(Lit::Bool(true)),
        "Whether the checkpoint with the lowest validation loss stays too.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "training.best_checkpoints",
        Kind::Int { min: 1, max: 1000 },
        Is(Lit::Int(1)),
        "How many of the checkpoints with the lowest validation losses stay, with `keep_best`.",
    )
    .hashed(Hashing::Never),
    Field::new("training.log_interval", COUNT, Is(Lit::Int(10)), "Steps between log lines.")
        .aliases(&["training.logging_steps"])
        .hashed(Hashing::Never),
    Field::new(
        "training.sample_interval",
        COUNT_OR_ZERO,
        Is(Lit::Int(0)),
        "Steps between samples; 0 only at the end.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "training.sample_prompts",
        Kind::Texts,
        Is(Lit::Texts(&[""])),
        "Texts that samples continue, one sample each.",
    )
    .aliases(&["training.sample_prompt"])
    .hashed(Hashing::Never),
    Field::new("training.sample_tokens", COUNT_OR_ZERO, Is(Lit::Int(64)), "Tokens per sample; 0 is no sample.")
        .hashed(Hashing::Never),
    Field::new(
        "training.threads",
        Kind::Int { min: 1, max: 4096 },
        Nothing("none: one per core"),
        "Threads. Never changes the numbers, so it is not part of the recipe.",
    )
    .aliases(&["training.num_threads"])
    .hashed(Hashing::Never),
    Field::new(
        "training.gradient_checkpointing",
        Kind::Checkpointing,
        Rule { text: "`block` if `model.gradient_checkpointing`, otherwise `none`", compute: rules::gradient_checkpointing },
        "What the backward pass computes again instead of keeping it in memory: what is cheap, all of each layer, or as little as a budget of memory allows. Never changes the numbers.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "training.precision",
        Kind::Choice(PRECISION),
        Is(Lit::Text("float32")),
        "Arithmetic of training and its evaluations. `bfloat16` and `float16` round the operands of matrix products; weights, sums, gradients and the optimizer stay float32. With `float16` the loss is scaled in the backward pass (`loss_scale`).",
    ),
    Field::new(
        "training.loss_scale.init_scale",
        POSITIVE,
        Is(Lit::Float(65536.0)),
        "What gradients are multiplied by at first, so that small ones are not lost in float16; a power of two. A step whose gradients are not finite is skipped.",
    )
    .when("training.precision", FLOAT16),
    Field::new(
        "training.loss_scale.growth_factor",
        Kind::Float { min: Limit::Beyond(1.0), max: Limit::Open },
        Is(Lit::Float(2.0)),
        "What the scale is multiplied by after `growth_interval` good steps in a row; a power of two.",
    )
    .when("training.precision", FLOAT16),
    Field::new(
        "training.loss_scale.backoff_factor",
        Kind::Float { min: Limit::Beyond(0.0), max: Limit::Beyond(1.0) },
        Is(Lit::Float(0.5)),
        "What the scale is multiplied by after a step whose gradients were not finite; a power of two.",
    )
    .when("training.precision", FLOAT16),
    Field::new(
        "training.loss_scale.growth_interval",
        COUNT,
        Is(Lit::Int(2000)),
        "Steps with finite gradients in a row after which the scale grows.",
    )
    .when("training.precision", FLOAT16),
];

const fn hash(path: &'static str, nothing: &'static str, doc: &'static str) -> Field {
    Field::new(path, Kind::Hash, Nothing(nothing), doc).hashed(Hashing::Never)
}
