//! `[training.lora]`: low-rank adapters beside frozen weights.

use crate::config::TrainingConfig;
use serde::{Deserialize, Serialize};

/// What is written of adapters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Width of the product; `None` trains all weights.
    pub rank: Option<u64>,
    /// Factor on the product, times the rank.
    pub alpha: Option<f64>,
    /// Which linear maps have one.
    pub target_modules: Vec<String>,
}

/// Adapters that are trained, with PEFT's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora<'c> {
    /// Width of the product.
    pub rank: u64,
    /// Factor on the product, times the rank.
    pub alpha: f64,
    /// Which linear maps have one.
    pub target_modules: &'c [String],
}

impl Lora<'_> {
    /// Factor on the product.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

impl TrainingConfig {
    /// The adapters that are trained; `None` if all weights are.
    pub fn adapters(&self) -> Option<Lora<'_>> {
        let LoraConfig { rank, alpha, target_modules } = &self.lora;
        let rank = (*rank)?;
        Some(Lora { rank, alpha: alpha.unwrap_or(rank as f64), target_modules })
    }
}
