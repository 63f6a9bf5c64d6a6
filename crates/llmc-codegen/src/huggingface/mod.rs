//! A folder that Hugging Face `transformers` loads.
//!
//! Which model class computes the graph is found by its structure: ops, attributes, biases,
//! norms, activation, positions, windows, ties. Nothing is taken from names or from the spec. Where no
//! class fits, the answer says for each of them what does not.
//!
//! Written against `transformers` 5; the keys of version 4 are there too.

mod config;
pub mod decoder;
mod families;
#[cfg(test)]
mod tests;
mod view;

pub use families::misfits;

use decoder::Decoder;
use llmc_base::expr::Env;
use llmc_formats::names::{self, Family, Tensors};
use llmc_formats::safetensors::{DType, Metadata};
use llmc_ir::Module;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// What the graph does not know about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The function that computes logits.
    pub entry: String,
    /// Values of dim symbols that are choices of the model; none if its dims are numbers.
    pub dims: Env,
    /// Longest sequence, in tokens: `max_position_embeddings`.
    pub context_length: u64,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Id of the token that starts a text.
    pub bos_token_id: Option<u64>,
    /// Id of the token that ends a text.
    pub eos_token_id: Option<u64>,
    /// Id of the token that fills a batch.
    pub pad_token_id: Option<u64>,
    /// The tokenizer, if there is one.
    pub tokenizer: Option<TokenizerFiles>,
}

impl Options {
    /// Options for `@forward` with numeric dims and no tokenizer.
    pub fn new(context_length: u64) -> Self {
        Options {
            entry: "forward".to_string(),
            dims: Env::new(),
            context_length,
            initializer_range: 0.02,
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
            tokenizer: None,
        }
    }
}

/// A tokenizer as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// tokenizer.json, passed through.
    pub tokenizer_json: Vec<u8>,
    /// tokenizer_config.json, passed through, or made by [`tokenizer_config`].
    pub tokenizer_config_json: Vec<u8>,
}

/// tokenizer_config.json for a tokenizer.json that `tokenizers` reads. Special tokens by text.
pub fn tokenizer_config(
    context_length: u64,
    bos_token: Option<&str>,
    eos_token: Option<&str>,
    unk_token: Option<&str>,
    pad_token: Option<&str>,
) -> String {
    let mut out = Map::new();
    out.insert("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast"));
    out.insert("model_max_length".to_string(), json!(context_length));
    out.insert("clean_up_tokenization_spaces".to_string(), json!(false));
    for (key, token) in [
        ("bos_token", bos_token),
        ("eos_token", eos_token),
        ("unk_token", unk_token),
        ("pad_token", pad_token),
    ] {
        if let Some(token) = token {
            out.insert(key.to_string(), Value::from(token));
        }
    }
    config::pretty(out)
}

/// A folder to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Export<'a> {
    /// The family that was found.
    pub family: Family,
    /// The small files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The weights under the family's names, borrowed where nothing changed.
    pub weights: Tensors<'a>,
}

impl Export<'_> {
    /// Writes model.safetensors.
    ///
    /// Errors: what `out` reports.
    pub fn write_weights(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let metadata = Metadata::from([("format".to_string(), "pt".to_string())]);
        crate::weights::write(out, &self.weights, &metadata)
    }
}

/// No model class computes the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFamily {
    /// Where the graph is no pre-norm decoder at all.
    pub structure: Option<String>,
    /// For each family what does not fit; empty if the structure is not there.
    pub misfits: Vec<(Family, Vec<String>)>,
}

impl fmt::Display for NoFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no model class of `transformers` known here computes this model")?;
        if let Some(structure) = &self.structure {
            write!(f, ": it is no decoder of pre-norm blocks: {structure}")?;
        }
        for (family, reasons) in &self.misfits {
            write!(f, "\n  {}: {}", family.architecture(), reasons.join("; "))?;
        }
        Ok(())
    }
}

/// Why there is no folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No model class computes the graph.
    #[error("{0}")]
    NoFamily(NoFamily),
    /// A weight of the graph is not among the tensors.
    #[error("there is no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor that the graph does not use.
    #[error("tensor `{0}` is no weight of the model")]
    UnknownTensor(String),
    /// Weights of several dtypes.
    #[error("tensor `{name}` has dtype {dtype}, others have {other}")]
    MixedDTypes {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// That of the others.
        other: DType,
    },
    /// Renaming failed.
    #[error(transparent)]
    Names(#[from] names::Error),
}

/// The first family whose model class computes the graph, and what was read.
///
/// Errors: why none does.
pub fn recognise(module: &Module, options: &Options) -> Result<(Family, Decoder), NoFamily> {
    let decoder = decoder::read(module, &options.entry, &options.dims)
        .map_err(|structure| NoFamily { structure: Some(structure), misfits: Vec::new() })?;
    let mut all = Vec::new();
    for family in Family::ALL {
        let reasons = misfits(family, &decoder);
        if reasons.is_empty() {
            return Ok((family, decoder));
        }
        all.push((family, reasons));
    }
    Err(NoFamily { structure: None, misfits: all })
}

/// The folder of a model with these weights, which have the paths of the module.
///
/// Errors: no family fits, or the tensors are not those of the module.
pub fn export<'a>(
    module: &Module,
    options: &Options,
    tensors: &Tensors<'a>,
) -> Result<Export<'a>, Error> {
    let (family, decoder) = recognise(module, options).map_err(Error::NoFamily)?;
    let mut standard = Tensors::new();
    let paths = decoder.paths();
    for (path, actual) in &paths {
        let tensor = tensors.get(actual).ok_or_else(|| Error::MissingTensor(actual.clone()))?;
        standard.insert(path.clone(), tensor.clone());
    }
    if let Some(name) = tensors.keys().find(|name| !paths.iter().any(|(_, own)| own == *name)) {
        return Err(Error::UnknownTensor(name.clone()));
    }
    let mut dtypes = tensors.iter().map(|(name, tensor)| (name, tensor.dtype));
    if let Some((_, other)) = dtypes.next()
        && let Some((name, dtype)) = dtypes.find(|(_, dtype)| *dtype != other)
    {
        return Err(Error::MixedDTypes { name: name.clone(), dtype, other });
    }
    let weights = names::to_theirs(family, &standard)?;
    let mut files = BTreeMap::new();
    files.insert("config.json".to_string(), config::config(family, &decoder, options).into_bytes());
    files.insert(
        "generation_config.json".to_string(),
        config::generation_config(options).into_bytes(),
    );
    if let Some(tokenizer) = &options.tokenizer {
        files.insert("tokenizer.json".to_string(), tokenizer.tokenizer_json.clone());
        files.insert("tokenizer_config.json".to_string(), tokenizer.tokenizer_config_json.clone());
    }
    Ok(Export { family, files, weights })
}
