//! A trained run, and tokenizers, for use from Python.

use crate::convert::{error, not_pickled, to_array, to_path};
use crate::session::{Session, sampling};
use llmc::cache::cache_folder;
use llmc::pipeline::Failure;
use llmc::pipeline::data::read_tokenizer;
use llmc::pipeline::generate::{
    CacheFormat, Model, SessionKey, SessionOptions, Sessions, Settings, WeightSet, Which,
    continue_text, generate_all, prompt_ids,
};
use llmc::store::FsStore;
use llmc_data::tokenizer;
use llmc_formats::safetensors::SafeTensors;
use llmc_runtime::Sampling;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A trained tokenizer.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Tokenizer(pub Arc<tokenizer::Tokenizer>);

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

/// A model with its sessions, for all that use it.
pub struct Shared {
    model: Model,
    /// Whether weights are mapped from the cache of the user.
    mmap: bool,
    tokenizer: Arc<tokenizer::Tokenizer>,
    /// For each format of the cache, made on first use, with the session of the calls that name none.
    sessions: Mutex<BTreeMap<CacheFormat, (Sessions, SessionKey)>>,
    /// Sessions that nobody holds any more.
    dropped: Mutex<Vec<(CacheFormat, SessionKey)>>,
}

impl Shared {
    /// Calls `f` with the sessions over caches of a format, and with the key of the one that belongs to the run
    /// itself.
    pub fn with<T: Send>(
        &self,
        py: Python<'_>,
        cache: CacheFormat,
        f: impl FnOnce(&mut Sessions, SessionKey) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        let result = py.detach(|| {
            let mut guard = self.sessions.lock().ok()?;
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            let keys = std::mem::take(&mut *dropped);
            drop(dropped);
            for (cache, key) in keys {
                if let Some((sessions, _)) = guard.get_mut(&cache) {
                    sessions.close(key);
                }
            }
            let (sessions, key) = match guard.entry(cache) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match Sessions::new(&self.model, &self.options(cache)) {
                    Ok(mut sessions) => {
                        let key = sessions.open();
                        place.insert((sessions, key))
                    }
                    Err(failure) => return Some(Err(failure)),
                },
            };
            Some(f(sessions, *key))
        });
        match result {
            Some(result) => result.map_err(|e| error(py, &e)),
            None => Err(PyRuntimeError::new_err("an earlier call on this run panicked")),
        }
    }

    /// How sessions and batches are run.
    fn options(&self, cache: CacheFormat) -> SessionOptions {
        let weight_cache = cache_folder().filter(|_| self.mmap);
        SessionOptions { cache, weight_cache, ..SessionOptions::default() }
    }

    /// Notes that nobody holds a session any more. Waits for no generation.
    pub fn forget(&self, cache: CacheFormat, key: SessionKey) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push((cache, key));
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<tokenizer::Tokenizer> {
        &self.tokenizer
    }
}

/// The format of a KV cache by its name.
///
/// Errors: `ValueError` for a name that is none.
fn cache_format(name: &str) -> PyResult<CacheFormat> {
    CacheFormat::parse(name).ok_or_else(|| {
        let names = CacheFormat::ALL.map(|(_, name)| format!("'{name}'"));
        let text = format!("kv_cache_dtype is {name:?}, expected one of {}", names.join(", "));
        PyValueError::new_err(text)
    })
}

/// A trained model, read from a run or an export.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Run {
    path: PathBuf,
    shared: Arc<Shared>,
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
        self.shared.model.checkpoint.step
    }

    /// The tokenizer.
    #[getter]
    fn tokenizer(&self) -> Tokenizer {
        Tokenizer(self.shared.tokenizer.clone())
    }

    /// Weights by path, as float32 arrays; each access reads them anew.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let bad = |e: llmc_formats::safetensors::Error| PyValueError::new_err(e.to_string());
        let parsed = SafeTensors::parse(&self.shared.model.weights).map_err(bad)?;
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
    /// `kv_cache_dtype` is how the KV cache holds keys and values: `f32`, `bf16` or `int8`.
    #[pyo3(signature = (
        prompt="", tokens=64, temperature=0.8, top_k=40, top_p=1.0, seed=0, *, min_p=0.0,
        typical_p=1.0, repetition_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0,
        logit_bias=None, kv_cache_dtype="f32"
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
        kv_cache_dtype: &str,
    ) -> PyResult<String> {
        let cache = cache_format(kv_cache_dtype)?;
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
        let text = self.shared.with(py, cache, |sessions, key| {
            continue_text(
                &mut |ids| Ok(sessions.next_logits(key, ids)?.to_vec()),
                &self.shared.tokenizer,
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

    /// The continuation of each prompt, as many at once as `batch` says; each is what `generate` gives alone.
    /// The options are those of `generate`.
    #[pyo3(signature = (prompts, tokens=64, *, batch=8, stop=None, kv_cache_dtype="f32", **options))]
    #[allow(clippy::too_many_arguments)] // Keyword arguments of Python.
    fn generate_all(
        &self,
        py: Python<'_>,
        prompts: Vec<String>,
        tokens: u64,
        batch: usize,
        stop: Option<Vec<String>>,
        kv_cache_dtype: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let cache = cache_format(kv_cache_dtype)?;
        let settings = Settings {
            stop: stop.unwrap_or_default(),
            ..Settings::new(tokens, sampling(options)?)
        };
        let n_rows = batch.min(prompts.len()).max(1);
        let Shared { model, tokenizer, .. } = &*self.shared;
        let mut raised = None;
        let texts = py.detach(|| {
            let mut batch = model.batch(n_rows, &self.shared.options(cache))?;
            generate_all(&mut batch, tokenizer, &prompts, &settings, &mut |_, _| {
                raised = raised.take().or_else(|| Python::attach(|py| py.check_signals()).err());
                raised.is_none()
            })
        });
        match raised {
            Some(raised) => Err(raised),
            None => {
                let texts = texts.map_err(|e| error(py, &e))?;
                Ok(texts.into_iter().map(|generated| generated.text).collect())
            }
        }
    }

    /// Logits [T, V] of the tokens that follow each prefix of `ids`: [T], at most the context length.
    fn logits<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let dims = self.shared.model.project.model().map_err(|e| error(py, &e))?.dims;
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
        let rows = self.shared.with(py, CacheFormat::F32, |sessions, key| {
            Ok(sessions.last_logits(key, &ids, ids.len())?.to_vec())
        })?;
        to_array(py, &rows, &[ids.len(), dims.vocab_size as usize])
    }

    /// A session: a text that goes on token by token, and whose cache is kept. `kv_cache_dtype` is how that
    /// holds keys and values: `f32`, `bf16` (half of it) or `int8` (about a quarter).
    #[pyo3(signature = (prompt="", *, kv_cache_dtype="f32"))]
    fn session(&self, py: Python<'_>, prompt: &str, kv_cache_dtype: &str) -> PyResult<Session> {
        let cache = cache_format(kv_cache_dtype)?;
        let ids = match prompt {
            "" => Vec::new(),
            prompt => prompt_ids(&self.shared.tokenizer, prompt).map_err(|e| error(py, &e))?,
        };
        let key = self.shared.with(py, cache, |sessions, _| Ok(sessions.open()))?;
        Ok(Session::new(self.shared.clone(), cache, key, ids))
    }

    /// Goes on with a session that was saved, to the bit. It must be of these weights and this tokenizer, and
    /// of the same `kv_cache_dtype`.
    #[pyo3(signature = (path, *, kv_cache_dtype="f32"))]
    fn load_session(
        &self,
        py: Python<'_>,
        path: PathBuf,
        kv_cache_dtype: &str,
    ) -> PyResult<Session> {
        let cache = cache_format(kv_cache_dtype)?;
        let load = |sessions: &mut Sessions, _| sessions.load(&FsStore, &path);
        let (key, ids) = self.shared.with(py, cache, load)?;
        Ok(Session::new(self.shared.clone(), cache, key, ids))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Run", "pass `run.path` and call `load_run` again"))
    }

    fn __repr__(&self) -> String {
        format!("<Run {} at step {}>", self.path.display(), self.step())
    }
}

/// Reads a run directory or an export; of a run `best` takes the checkpoint with the lowest validation loss,
/// `ema` the moving average of its weights. Without `mmap` the weights are read into memory of this process; with it
/// they are packed once, kept in the folder of the cache (`LLMC_CACHE`) and mapped, so that processes share them.
#[pyfunction]
#[pyo3(signature = (path, best=false, ema=false, *, mmap=true))]
pub fn load_run(py: Python<'_>, path: PathBuf, best: bool, ema: bool, mmap: bool) -> PyResult<Run> {
    let which = if best { Which::Best } else { Which::Last };
    let weights = if ema { WeightSet::Ema } else { WeightSet::Trained };
    let model = py.detach(|| Model::open_weights(&FsStore, &path, which, weights));
    let model = model.map_err(|e| error(py, &e))?;
    let model = if mmap { model } else { model.in_own_memory() };
    let tokenizer = Arc::new(model.tokenizer.clone());
    let (sessions, dropped) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    Ok(Run { path, shared: Arc::new(Shared { model, mmap, tokenizer, sessions, dropped }) })
}

/// Reads a tokenizer: the folder of `tokenizer.json`, or a run directory.
#[pyfunction]
pub fn load_tokenizer(py: Python<'_>, path: PathBuf) -> PyResult<Tokenizer> {
    let inner = path.join("tokenizer");
    let folder = if inner.is_dir() { inner } else { path };
    let read = py.detach(|| read_tokenizer(&FsStore, &folder)).map_err(|e| error(py, &e))?;
    Ok(Tokenizer(Arc::new(read)))
}
