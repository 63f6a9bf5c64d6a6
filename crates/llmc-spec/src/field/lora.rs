//! `[training.lora]`: low-rank adapters beside frozen weights.

use super::DefaultRule::{Is, Nothing, Rule};
use super::{Field, Kind, Limit, Lit, rules};

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "training.lora.rank",
        Kind::Int { min: 1, max: 1 << 16 },
        Nothing("none: all weights are trained"),
        "Rank of adapters (LoRA, arXiv:2106.09685): beside each chosen linear map stands a product of two narrow matrices, which alone are trained. The run starts from another (`llmc train SPEC --from RUN`), whose weights stay as they are and take neither gradients nor moments.",
    )
    .aliases(&["training.lora.r"]),
    Field::new(
        "training.lora.alpha",
        Kind::Float { min: Limit::Beyond(0.0), max: Limit::Open },
        Rule { text: "`rank`", compute: rules::lora_alpha },
        "The product counts `alpha / rank` times.",
    )
    .aliases(&["training.lora.lora_alpha"])
    .or_nothing(),
    Field::new(
        "training.lora.target_modules",
        Kind::Texts,
        Is(Lit::Texts(&["q", "v"])),
        "Linear maps that have adapters, by the end of their names (`q`, `attention.*`, `mlp.down`; `*` is any text), or `all-linear` for all but the head. Every layer has the same.",
    ),
];
