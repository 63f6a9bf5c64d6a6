//! Weight-name tables: what Hugging Face's families call our weights, and how they store them.
//!
//! A table is data: each [`Rule`] makes one tensor of theirs from one or more of ours. `{}`
//! stands for the layer number. Ours are `[out, in]`; several of ours are concatenated along
//! the first axis, and the result may be transposed:
//!
//! ```text
//! transformer.h.3.attn.c_attn.weight = transpose(concat(layers.3.attention.q.weight, ….k.weight, ….v.weight))
//! ```
//!
//! Both directions follow from the same rule, on bytes of any dtype. Which family a model is
//! of is not decided here. Rotary weights are half-split on both sides, so no rule permutes heads.
//!
//! Sources: `modeling_llama.py`, `modeling_mistral.py`, `modeling_qwen2.py`, `modeling_gpt2.py`
//! of Hugging Face `transformers` 5.

mod tables;
#[cfg(test)]
mod tests;

use crate::safetensors::{DType, SafeTensors};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A model class of Hugging Face `transformers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `LlamaForCausalLM`.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM`.
    Qwen2,
    /// `GPT2LMHeadModel`.
    Gpt2,
}

impl Family {
    /// Every family, in the order they are tried.
    pub const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Gpt2];

    /// The class in `architectures` of config.json.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Gpt2 => "GPT2LMHeadModel",
        }
    }

    /// `model_type` of config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Gpt2 => "gpt2",
        }
    }

    /// Its table.
    pub fn rules(self) -> &'static [Rule] {
        match self {
            Family::Llama | Family::Mistral | Family::Qwen2 => tables::LLAMA,
            Family::Gpt2 => tables::GPT2,
        }
    }
}

/// How one tensor of theirs is made from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Their name; `{}` is the layer.
    pub theirs: &'static str,
    /// Our names, concatenated along the first axis; `{}` is the layer.
    pub ours: &'static [&'static str],
    /// What is done with the concatenation.
    pub transform: Transform,
}

/// What is done with a tensor on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    Identity,
    /// The two axes are swapped: `[out, in]` to `[in, out]`.
    Transpose,
}

/// A tensor as bytes: borrowed where nothing has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Vec<usize>,
    /// Elements, little endian, row-major.
    pub data: Cow<'a, [u8]>,
}

/// Tensors by name.
pub type Tensors<'a> = BTreeMap<String, Tensor<'a>>;

/// Why tensors cannot be renamed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No rule speaks of this name.
    #[error("{family:?} has no place for tensor `{name}`")]
    NoRule {
        /// The family.
        family: Family,
        /// The tensor.
        name: String,
    },
    /// Some of the tensors that are stored as one are missing.
    #[error("`{theirs}` is made of several tensors, and `{missing}` is missing")]
    Incomplete {
        /// The name in the family.
        theirs: String,
        /// Our name that is missing.
        missing: String,
    },
    /// Tensors that are stored as one do not fit together, or one does not divide into its parts.
    #[error("`{theirs}` cannot be made of, or divided into, {parts} parts: `{name}` is {shape:?}")]
    Shape {
        /// The name in the family.
        theirs: String,
        /// How many tensors of ours it holds.
        parts: usize,
        /// The tensor that does not fit.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

/// All tensors of a file, borrowed.
pub fn tensors_of<'a>(file: &SafeTensors<'a>) -> Tensors<'a> {
    file.tensors()
        .map(|view| {
            let (dtype, shape) = (view.info.dtype, view.info.shape.clone());
            (view.info.name.clone(), Tensor { dtype, shape, data: Cow::Borrowed(view.data) })
        })
        .collect()
}

/// Our tensors under the names and in the layout of `family`.
///
/// Errors: a tensor that the family has no place for, or parts that are missing or do not fit.
pub fn to_theirs<'a>(family: Family, ours: &Tensors<'a>) -> Result<Tensors<'a>, Error> {
    let mut out = Tensors::new();
    for name in ours.keys() {
        let (rule, layer) = find(family, name, |rule| rule.ours)?;
        let theirs = fill(rule.theirs, layer);
        if out.contains_key(&theirs) {
            continue;
        }
        let mut parts = Vec::with_capacity(rule.ours.len());
        for pattern in rule.ours {
            let part = fill(pattern, layer);
            match ours.get(&part) {
                Some(tensor) => parts.push((part, tensor)),
                None => return Err(Error::Incomplete { theirs, missing: part }),
            }
        }
        let joined = concat(&theirs, &parts)?;
        let tensor = match rule.transform {
            Transform::Identity => joined,
            Transform::Transpose => transpose(&theirs, rule.ours.len(), joined)?,
        };
        out.insert(theirs, tensor);
    }
    Ok(out)
}

/// The tensors of a `family` under our names and in our layout. A fused tensor is divided
/// into equal parts.
///
/// Errors: a tensor that we have no place for, or that does not divide.
pub fn to_ours<'a>(family: Family, theirs: &Tensors<'a>) -> Result<Tensors<'a>, Error> {
    let mut out = Tensors::new();
    for (name, tensor) in theirs {
        let (rule, layer) = find(family, name, |rule| std::slice::from_ref(&rule.theirs))?;
        let tensor = match rule.transform {
            Transform::Identity => tensor.clone(),
            Transform::Transpose => transpose(name, rule.ours.len(), tensor.clone())?,
        };
        for (pattern, part) in rule.ours.iter().zip(split(name, rule.ours.len(), tensor)?) {
            out.insert(fill(pattern, layer), part);
        }
    }
    Ok(out)
}

/// Which of ours are stored in which of theirs: (our name, their name), for names that are there.
pub fn pairs<'n>(
    family: Family,
    ours: impl IntoIterator<Item = &'n str>,
) -> Result<Vec<(&'n str, String)>, Error> {
    ours.into_iter()
        .map(|name| {
            let (rule, layer) = find(family, name, |rule| rule.ours)?;
            Ok((name, fill(rule.theirs, layer)))
        })
        .collect()
}

/// The rule with a pattern that matches `name`, and the layer number in it.
fn find(
    family: Family,
    name: &str,
    patterns: impl Fn(&'static Rule) -> &'static [&'static str],
) -> Result<(&'static Rule, &str), Error> {
    let matching = |rule: &'static Rule| {
        patterns(rule).iter().find_map(|pattern| layer_in(pattern, name)).map(|layer| (rule, layer))
    };
    let found = family.rules().iter().find_map(matching);
    found.ok_or_else(|| Error::NoRule { family, name: name.to_string() })
}

/// The layer number by which `pattern` becomes `name`; empty if the pattern has none.
fn layer_in<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let Some((before, after)) = pattern.split_once("{}") else {
        return (pattern == name).then_some("");
    };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(layer)
}

fn fill(pattern: &str, layer: &str) -> String {
    pattern.replacen("{}", layer, 1)
}

fn concat<'a>(theirs: &str, parts: &[(String, &Tensor<'a>)]) -> Result<Tensor<'a>, Error> {
    let [(_, first), rest @ ..] = parts else {
        unreachable!("every rule has at least one of ours");
    };
    if rest.is_empty() {
        return Ok((*first).clone());
    }
    let mut joined = Tensor {
        dtype: first.dtype,
        shape: first.shape.clone(),
        data: Cow::Owned(first.data.to_vec()),
    };
    for (name, part) in rest {
        let fits = part.dtype == first.dtype
            && !part.shape.is_empty()
            && part.shape.len() == first.shape.len()
            && part.shape[1..] == first.shape[1..];
        // Of an empty tensor a dim may be any number.
        let rows = fits.then(|| joined.shape[0].checked_add(part.shape[0])).flatten();
        let Some(rows) = rows else {
            let (theirs, name) = (theirs.to_string(), name.clone());
            return Err(Error::Shape {
                theirs,
                parts: parts.len(),
                name,
                shape: part.shape.clone(),
            });
        };
        joined.shape[0] = rows;
        joined.data.to_mut().extend_from_slice(&part.data);
    }
    Ok(joined)
}

fn split<'a>(theirs: &str, parts: usize, whole: Tensor<'a>) -> Result<Vec<Tensor<'a>>, Error> {
    if parts == 1 {
        return Ok(vec![whole]);
    }
    let Some(rows) = whole.shape.first().filter(|rows| *rows % parts == 0).map(|n| n / parts)
    else {
        let (theirs, name) = (theirs.to_string(), theirs.to_string());
        return Err(Error::Shape { theirs, parts, name, shape: whole.shape });
    };
    let mut shape = whole.shape.clone();
    shape[0] = rows;
    let bytes = whole.data.len() / parts;
    Ok((0..parts)
        .map(|i| Tensor {
            dtype: whole.dtype,
            shape: shape.clone(),
            data: Cow::Owned(whole.data[i * bytes..(i + 1) * bytes].to_vec()),
        })
        .collect())
}

fn transpose<'a>(theirs: &str, parts: usize, tensor: Tensor<'a>) -> Result<Tensor<'a>, Error> {
    let [rows, columns] = tensor.shape[..] else {
        let (theirs, name) = (theirs.to_string(), theirs.to_string());
        return Err(Error::Shape { theirs, parts, name, shape: tensor.shape });
    };
    if tensor.data.is_empty() {
        // One dim is 0, and the other may be any number.
        return Ok(Tensor { shape: vec![columns, rows], ..tensor });
    }
    let width = tensor.dtype.bytes();
    let mut data = Vec::with_capacity(tensor.data.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * width;
            data.extend_from_slice(&tensor.data[at..at + width]);
        }
    }
    Ok(Tensor { dtype: tensor.dtype, shape: vec![columns, rows], data: Cow::Owned(data) })
}
