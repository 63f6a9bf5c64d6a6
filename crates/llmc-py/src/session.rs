//! Sessions: a text that goes on token by token, forks, and is saved.

use crate::convert::{error, not_pickled, to_array};
use crate::run::{Shared, Tokenizer};
use llmc::pipeline::generate::{
    CacheFormat, Finish, SessionKey, Sessions, Settings, Text, prompt_ids,
};
use llmc::store::FsStore;
use llmc_runtime::Sampling;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Sampling options from keyword arguments.
///
/// Errors: `TypeError` for a name that is none.
pub fn sampling(options: Option<&Bound<'_, PyDict>>) -> PyResult<Sampling> {
    let mut sampling = Sampling::default();
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        match name.as_str() {
            "temperature" => sampling.temperature = value.extract()?,
            "top_k" => sampling.top_k = value.extract()?,
            "top_p" => sampling.top_p = value.extract()?,
            "min_p" => sampling.min_p = value.extract()?,
            "typical_p" => sampling.typical_p = value.extract()?,
            "repetition_penalty" => sampling.repetition_penalty = value.extract()?,
            "frequency_penalty" => sampling.frequency_penalty = value.extract()?,
            "presence_penalty" => sampling.presence_penalty = value.extract()?,
            "logit_bias" => sampling.logit_bias = value.extract()?,
            "seed" => sampling.seed = value.extract()?,
            _ => {
                let text = format!("generate() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
        }
    }
    Ok(sampling)
}

/// A text in the making, with the cache of what the model has seen of it.
#[pyclass(frozen, module = "llm_compiler")]
pub struct Session {
    shared: Arc<Shared>,
    cache: CacheFormat,
    key: SessionKey,
    ids: Mutex<Vec<u32>>,
    is_cancelled: AtomicBool,
}

impl Session {
    /// A session with a text, over a cache of this format.
    pub fn new(shared: Arc<Shared>, cache: CacheFormat, key: SessionKey, ids: Vec<u32>) -> Self {
        let (ids, is_cancelled) = (Mutex::new(ids), AtomicBool::new(false));
        Session { shared, cache, key, ids, is_cancelled }
    }

    /// A copy of the ids; the lock is held for no longer than that.
    fn ids(&self) -> Vec<u32> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_ids(&self, ids: &[u32]) {
        *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = ids.to_vec();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.forget(self.cache, self.key);
    }
}

#[pymethods]
impl Session {
    /// Ids of the text so far, with the token that starts it.
    #[getter(ids)]
    fn all_ids(&self) -> Vec<u32> {
        self.ids()
    }

    /// The text so far.
    #[getter]
    fn text(&self) -> String {
        self.shared.tokenizer().decode_plain(&self.ids())
    }

    /// The tokenizer.
    #[getter]
    fn tokenizer(&self) -> Tokenizer {
        Tokenizer(self.shared.tokenizer().clone())
    }

    /// Adds a text, which the model reads with the next token.
    fn append(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        let mut ids = self.ids();
        match ids.is_empty() {
            true => {
                let found = prompt_ids(self.shared.tokenizer(), text);
                ids = found.map_err(|e| error(py, &e))?;
            }
            false => ids.extend(self.shared.tokenizer().encode(text)),
        }
        self.set_ids(&ids);
        Ok(())
    }

    /// An iterator of tokens that go on with the text; each is added to it as it comes. Leaving the loop
    /// stops between two tokens and keeps what came.
    #[pyo3(signature = (tokens=64, *, stop=None, **options))]
    fn generate(
        slf: Py<Self>,
        py: Python<'_>,
        tokens: u64,
        stop: Option<Vec<String>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<TokenStream> {
        let session = slf.get();
        if session.ids().is_empty() {
            session.append(py, "")?;
        }
        let settings = Settings {
            stop: stop.unwrap_or_default(),
            ..Settings::new(tokens, sampling(options)?)
        };
        let text = Text::new(session.ids(), &settings).map_err(|e| error(py, &e))?;
        session.is_cancelled.store(false, Ordering::SeqCst);
        Ok(TokenStream { session: slf, state: Mutex::new(Stream { text, said: String::new() }) })
    }

    /// Ends the running `generate`, also from another thread, before its next token.
    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
    }

    /// How the KV cache holds keys and values: `f32`, `bf16` or `int8`.
    #[getter]
    fn kv_cache_dtype(&self) -> &'static str {
        self.cache.name()
    }

    /// Logits [V] of the token that follows the text.
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.ids().is_empty() {
            self.append(py, "")?;
        }
        let ids = self.ids();
        let logits = self.shared.with(py, self.cache, |sessions, _| {
            Ok(sessions.next_logits(self.key, &ids)?.to_vec())
        })?;
        to_array(py, &logits, &[logits.len()])
    }

    /// Another session with the same text and cache; each goes its own way.
    fn fork(&self, py: Python<'_>) -> PyResult<Session> {
        let key = self.shared.with(py, self.cache, |sessions, _| Ok(sessions.fork(self.key)))?;
        Ok(Session::new(self.shared.clone(), self.cache, key, self.ids()))
    }

    /// Writes text and cache to a file, whole or not at all; `Run.load_session` goes on from it.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let ids = self.ids();
        let save = |sessions: &mut Sessions, _| sessions.save(self.key, &ids, &FsStore, &path);
        self.shared.with(py, self.cache, save)
    }

    fn __len__(&self) -> usize {
        self.ids().len()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Session", "`save` it, and call `Run.load_session` there"))
    }

    fn __repr__(&self) -> String {
        format!("<Session of {} tokens>", self.ids().len())
    }
}

/// A token that was generated, and the text that is certain since it came.
#[pyclass(frozen, get_all, module = "llm_compiler")]
pub struct Token {
    /// Its id.
    id: u32,
    /// New text: empty while a character, or what could be a stop string, is not whole.
    text: String,
}

#[pymethods]
impl Token {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Token(id={}, text={:?})", self.id, self.text)
    }
}

struct Stream {
    text: Text,
    said: String,
}

/// Tokens as they come.
#[pyclass(frozen, module = "llm_compiler")]
pub struct TokenStream {
    session: Py<Session>,
    state: Mutex<Stream>,
}

impl TokenStream {
    /// What is under the lock, unless another thread is at it: waiting for it here, with the
    /// interpreter's lock held, would be waiting for ever.
    fn state(&self) -> PyResult<std::sync::MutexGuard<'_, Stream>> {
        let busy = "another thread takes tokens from this generation";
        self.state.try_lock().map_err(|_| PyRuntimeError::new_err(busy))
    }
}

#[pymethods]
impl TokenStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        let session = self.session.get();
        let mut state = self.state()?;
        if state.text.is_finished() {
            return Ok(None);
        }
        if session.is_cancelled.swap(false, Ordering::SeqCst) {
            state.text.cancel();
            let rest = state.text.close();
            state.said.push_str(&rest);
            return Ok(None);
        }
        if session.ids() != state.text.ids() {
            let text = "the session went on elsewhere since this generation began";
            return Err(PyRuntimeError::new_err(text));
        }
        py.check_signals()?;
        let ids = state.text.ids().to_vec();
        let logits = session.shared.with(py, session.cache, |sessions, _| {
            Ok(sessions.next_logits(session.key, &ids)?.to_vec())
        })?;
        let tokenizer = session.shared.tokenizer();
        let mut text = state.text.push(tokenizer, &logits);
        if state.text.is_finished() {
            text.push_str(&state.text.close());
        }
        state.said.push_str(&text);
        session.set_ids(state.text.ids());
        let eos = tokenizer.roles().eos.filter(|_| state.text.has_ended());
        match (eos, state.text.ids().last()) {
            // The end itself is no token of the text.
            (Some(_), _) if text.is_empty() => Ok(None),
            (Some(id), _) => Ok(Some(Token { id, text })),
            (None, last) => Ok(last.map(|id| Token { id: *id, text })),
        }
    }

    /// The text that was generated so far.
    #[getter]
    fn text(&self) -> PyResult<String> {
        Ok(self.state()?.said.clone())
    }

    /// Why it ended: `length`, `end_of_text`, `stop` or `cancelled`; `None` while it goes on.
    #[getter]
    fn finish(&self) -> PyResult<Option<&'static str>> {
        Ok(self.state()?.text.finish().map(|finish| match finish {
            Finish::Length => "length",
            Finish::EndOfText => "end_of_text",
            Finish::Stop => "stop",
            Finish::Cancelled => "cancelled",
        }))
    }
}
