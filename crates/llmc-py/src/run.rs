//! A trained run, and tokenizers, for use from Python.

use crate::convert::{error, not_pickled, to_array, to_path};
use llmc::pipeline::Failure;
use llmc::pipeline::data::read_tokenizer;
use llmc::pipeline::generate::{Model, WeightSet, Which, continue_text};
use llmc::store::FsStore;
use llmc_data::tokenizer;
use llmc_formats::safetensors::SafeTensors;
use llmc_runtime::{Sampling, Session};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A trained tokenizer.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Tokenizer(Arc<tokenizer::Tokenizer>);

#[pymethods]
impl Tokenizer {
    /// Ids of a text, without the special tokens that frame a document.
    fn encode(&self, py: Python<'_>, text: &str) -> Vec<u32> {
        py.detach(|| self.0.encode(text))
    }

    /// The text of ids.
    fn decode(&self, ids: Vec<u32>) -> String {
        self.0.decode(&ids)
    }

    /// Tokens, special ones included.
    #[getter]
    fn vocab_size(&self) -> u32 {
        self.0.vocab_size()
    }

    /// Special tokens with their ids.
    #[getter]
    fn special_tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (text, id) in self.0.special_tokens() {
            dict.set_item(text, id)?;
        }
        Ok(dict)
    }

    fn __len__(&self) -> usize {
        self.0.vocab_size() as usize
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Tokenizer", "pass the path of its folder and call `load_tokenizer` again"))
    }

    fn __repr__(&self) -> String {
        format!("<Tokenizer {} of {} tokens>", self.0.kind().name(), self.0.vocab_size())
    }
}

/// A trained model, read from its run.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Run {
    path: PathBuf,
    model: Model,
    tokenizer: Arc<tokenizer::Tokenizer>,
    session: Mutex<Option<Session>>,
}

impl Run {
    /// Calls `f` with the session, which is made on first use.
    fn with_session<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Session) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        let result = py.detach(|| {
            let mut guard = self.session.lock().ok()?;
            if guard.is_none() {
                match self.model.session(None, None) {
                    Ok(session) => *guard = Some(session),
                    Err(failure) => return Some(Err(failure)),
                }
            }
            guard.as_mut().map(f)
        });
        match result {
            Some(result) => result.map_err(|e| error(py, &e)),
            None => Err(PyRuntimeError::new_err("an earlier call on this run panicked")),
        }
    }
}

#[pymethods]
impl Run {
    /// The run directory.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_path(py, &self.path)
    }

    /// Steps that the weights were trained for.
    #[getter]
    fn step(&self) -> u64 {
        self.model.checkpoint.step
    }

    /// The tokenizer.
    #[getter]
    fn tokenizer(&self) -> Tokenizer {
        Tokenizer(self.tokenizer.clone())
    }

    /// Weights by path, as float32 arrays; each access reads them anew.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let bad = |e: llmc_formats::safetensors::Error| PyValueError::new_err(e.to_string());
        let parsed = SafeTensors::parse(&self.model.weights).map_err(bad)?;
        let dict = PyDict::new(py);
        for info in parsed.header().tensors() {
            let values = parsed.tensor(&info.name).and_then(|t| t.to_f32()).map_err(bad)?;
            dict.set_item(&info.name, to_array(py, &values, &info.shape)?)?;
        }
        Ok(dict)
    }

    /// The prompt's continuation. `temperature=0` takes the most likely token; `top_k=0`, `top_p=1`,
    /// `min_p=0` and `typical_p=1` cut nothing; a `repetition_penalty` of 1 and penalties of 0 change
    /// nothing; `logit_bias` is added to the logits of its token ids. The same seed gives the same text.
    #[pyo3(signature = (
        prompt="", tokens=64, temperature=0.8, top_k=40, top_p=1.0, seed=0, *, min_p=0.0,
        typical_p=1.0, repetition_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0,
        logit_bias=None
    ))]
    #[allow(clippy::too_many_arguments)] // Keyword arguments of Python.
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &str,
        tokens: u64,
        temperature: f32,
        top_k: usize,
        top_p: f32,
        seed: u64,
        min_p: f32,
        typical_p: f32,
        repetition_penalty: f32,
        frequency_penalty: f32,
        presence_penalty: f32,
        logit_bias: Option<BTreeMap<u32, f32>>,
    ) -> PyResult<String> {
        // Every field by name, so that a new one cannot be forgotten.
        let sampling = Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            logit_bias: logit_bias.unwrap_or_default(),
            seed,
        };
        let mut raised = None;
        let text = self.with_session(py, |session| {
            continue_text(
                &mut |ids| session_logits(session, ids),
                &self.tokenizer,
                prompt,
                tokens,
                &sampling,
                &mut |_| {
                    raised = Python::attach(|py| py.check_signals()).err();
                    raised.is_none()
                },
            )
        })?;
        match raised {
            Some(raised) => Err(raised),
            None => Ok(text),
        }
    }

    /// Logits [T, V] of the tokens that follow each prefix of `ids`: [T], at most the context length.
    fn logits<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let dims = self.model.project.model().map_err(|e| error(py, &e))?.dims;
        let array = py.import("numpy")?.call_method1("asarray", (ids,))?;
        if array.getattr("ndim")?.extract::<usize>()? != 1 {
            return Err(PyValueError::new_err("`ids` is an array of one dimension, [T]"));
        }
        let ids: Vec<u32> = array.call_method0("tolist")?.extract()?;
        if ids.is_empty() || ids.len() as u64 > dims.context_length {
            let text = format!("`ids` has 1 to {} tokens, not {}", dims.context_length, ids.len());
            return Err(PyValueError::new_err(text));
        }
        if let Some(id) = ids.iter().find(|id| u64::from(**id) >= dims.vocab_size) {
            let text = format!("token {id} is not below vocab_size = {}", dims.vocab_size);
            return Err(PyValueError::new_err(text));
        }
        let rows = self.with_session(py, |session| {
            let mut rows = Vec::new();
            for end in 1..=ids.len() {
                rows.extend(session_logits(session, &ids[..end])?);
            }
            Ok(rows)
        })?;
        to_array(py, &rows, &[ids.len(), dims.vocab_size as usize])
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Run", "pass `run.path` and call `load_run` again"))
    }

    fn __repr__(&self) -> String {
        format!("<Run {} at step {}>", self.path.display(), self.step())
    }
}

fn session_logits(session: &mut Session, ids: &[u32]) -> Result<Vec<f32>, Failure> {
    let logits = session.next_logits(ids).map_err(|e| Failure::Internal(e.to_string()))?;
    Ok(logits.to_vec())
}

/// Reads a run directory; `best` takes the checkpoint with the lowest validation loss, `ema` the moving
/// average of its weights.
#[pyfunction]
#[pyo3(signature = (path, best=false, ema=false))]
pub fn load_run(py: Python<'_>, path: PathBuf, best: bool, ema: bool) -> PyResult<Run> {
    let which = if best { Which::Best } else { Which::Last };
    let weights = if ema { WeightSet::Ema } else { WeightSet::Trained };
    let model = py.detach(|| Model::open_weights(&FsStore, &path, which, weights));
    let model = model.map_err(|e| error(py, &e))?;
    let tokenizer = Arc::new(model.tokenizer.clone());
    Ok(Run { path, model, tokenizer, session: Mutex::new(None) })
}

/// Reads a tokenizer: the folder of `tokenizer.json`, or a run directory.
#[pyfunction]
pub fn load_tokenizer(py: Python<'_>, path: PathBuf) -> PyResult<Tokenizer> {
    let inner = path.join("tokenizer");
    let folder = if inner.is_dir() { inner } else { path };
    let read = py.detach(|| read_tokenizer(&FsStore, &folder)).map_err(|e| error(py, &e))?;
    Ok(Tokenizer(Arc::new(read)))
}
