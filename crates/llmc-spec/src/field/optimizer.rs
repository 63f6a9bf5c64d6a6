//! `[optimizer]`: how weights are updated.

use super::DefaultRule::{Is, Rule, Shorthand};
use super::{Choice, Field, Kind, Limit, Lit, built, later, rules};

const TYPE: &[Choice] =
    &[built("adamw"), built("sgd"), built("muon"), built("lion"), later("adafactor")];
/// With the moments of AdamW; Muon has AdamW parameters beside its own.
const ADAMW: &[&str] = &["adamw", "muon"];
const WITH_BETAS: &[&str] = &["adamw", "muon", "lion"];
const MUON: &[&str] = &["muon"];
const DECAY: Kind = Kind::Float { min: Limit::Closed(0.0), max: Limit::Beyond(1.0) };
const NOT_NEGATIVE: Kind = Kind::Float { min: Limit::Closed(0.0), max: Limit::Open };
const POSITIVE: Kind = Kind::Float { min: Limit::Beyond(0.0), max: Limit::Open };

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "optimizer.type",
        Kind::Choice(TYPE),
        Is(Lit::Text("adamw")),
        "The update rule: AdamW (decoupled weight decay), SGD with momentum, Muon (matrices by orthogonal momentum, the rest by AdamW) or Lion (sign of the momentum).",
    )
    .aliases(&["training.optimizer"]),
    Field::new(
        "optimizer.lr",
        NOT_NEGATIVE,
        Rule { text: "0.0003 for `adamw` and `muon`, 0.0001 for `lion`, 0.1 for `sgd`", compute: rules::lr },
        "Peak learning rate; the schedule multiplies it.",
    )
    .aliases(&["optimizer.learning_rate", "training.lr", "training.learning_rate"]),
    Field::new(
        "optimizer.betas",
        Kind::Pair,
        Shorthand { text: "`beta1` and `beta2`", covers: &["optimizer.beta1", "optimizer.beta2"] },
        "PyTorch's spelling: `betas = [0.9, 0.95]`.",
    )
    .when("optimizer.type", WITH_BETAS),
    Field::new(
        "optimizer.beta1",
        DECAY,
        Rule { text: "`betas[0]`, otherwise 0.9", compute: rules::beta1 },
        "Decay of the first moment; for `lion`, its weight in the direction.",
    )
    .aliases(&["optimizer.adam_beta1"])
    .when("optimizer.type", WITH_BETAS),
    Field::new(
        "optimizer.beta2",
        DECAY,
        Rule { text: "`betas[1]`, otherwise 0.95, 0.99 for `lion`", compute: rules::beta2 },
        "Decay of the second moment; for `lion`, of the momentum.",
    )
    .aliases(&["optimizer.adam_beta2"])
    .when("optimizer.type", WITH_BETAS),
    Field::new(
        "optimizer.eps",
        POSITIVE,
        Is(Lit::Float(1e-8)),
        "Added to the root of the second moment.",
    )
    .aliases(&["optimizer.adam_epsilon", "optimizer.epsilon"])
    .when("optimizer.type", ADAMW),
    Field::new(
        "optimizer.weight_decay",
        NOT_NEGATIVE,
        Rule { text: "0.1 for `adamw` and `muon`, 0.3 for `lion`, 0 for `sgd`", compute: rules::weight_decay },
        "Decay per unit of learning rate, for parameters that `no_decay` does not name.",
    ),
    Field::new(
        "optimizer.momentum",
        DECAY,
        Rule { text: "0.9 for `sgd`, 0.95 for `muon`", compute: rules::momentum },
        "Momentum of SGD, or of Muon, which looks ahead by it (Nesterov).",
    )
    .when("optimizer.type", &["sgd", "muon"]),
    Field::new(
        "optimizer.ns_steps",
        Kind::Int { min: 1, max: 100 },
        Is(Lit::Int(5)),
        "Newton–Schulz steps that make the momentum orthogonal.",
    )
    .when("optimizer.type", MUON),
    Field::new(
        "optimizer.adamw_parameters",
        Kind::TextSet,
        Is(Lit::Texts(&["*embedding*", "lm_head.*"])),
        "Matrices that AdamW updates instead, as globs over parameter paths. What is no matrix is AdamW's anyway.",
    )
    .when("optimizer.type", MUON),
    Field::new(
        "optimizer.no_decay",
        Kind::TextSet,
        Is(Lit::Texts(&["1-D"])),
        "Parameters without weight decay: globs over parameter paths, or `1-D` for every parameter with at most one dimension (norms and biases).",
    ),
    Field::new(
        "optimizer.max_grad_norm",
        POSITIVE,
        Is(Lit::Float(1.0)),
        "Gradients are scaled down to this global norm; \"none\" leaves them.",
    )
    .aliases(&["optimizer.grad_clip", "training.max_grad_norm", "training.grad_clip"])
    .or_nothing(),
    Field::new(
        "optimizer.groups",
        Kind::Groups,
        Is(Lit::Texts(&[])),
        "Parameters with values of their own: `[[optimizer.groups]]` with `pattern` (as in `no_decay`), `lr_scale` (a factor on the learning rate, 1 where it is not written) and `weight_decay` (that of the optimizer). The first group that names a parameter has it; a pattern that names none is an error. `solution.json` lists the parameters of every group.",
    )
    .aliases(&["optimizer.param_groups"]),
];
