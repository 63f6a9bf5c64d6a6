//! Several sessions over one set of weights, one of them at work at a time.
//!
//! The session that works has its cache in the engine's memory; that of another is put aside and brought
//! back when its turn comes. Logits depend on the text alone, so this is seen in time only.

use super::super::failure::Failure;
use super::model::internal;
use super::{Model, SessionOptions};
use crate::store::{Store, write_atomic};
use llmc_base::{Diagnostic, Hash};
use llmc_passes::CacheFormat;
use llmc_runtime::{Session, SessionState, StateError};
use std::collections::BTreeMap;
use std::path::Path;

/// A session of a [`Sessions`]; no two are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(u64);

/// Sessions of one model.
pub struct Sessions {
    session: Session,
    cache: CacheFormat,
    model: Hash,
    /// Whose cache is in the engine's memory.
    owner: Option<SessionKey>,
    aside: BTreeMap<SessionKey, SessionState>,
    n_opened: u64,
}

impl Sessions {
    /// No session yet.
    ///
    /// Errors: those of [`Model::session`].
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, Failure> {
        Ok(Sessions {
            session: model.session(options)?,
            cache: options.cache,
            model: model.content_hash()?,
            owner: None,
            aside: BTreeMap::new(),
            n_opened: 0,
        })
    }

    /// A session that has seen nothing.
    pub fn open(&mut self) -> SessionKey {
        self.n_opened += 1;
        SessionKey(self.n_opened)
    }

    /// A session that has seen what another has; each goes its own way.
    pub fn fork(&mut self, key: SessionKey) -> SessionKey {
        let new = self.open();
        let state = match self.owner == Some(key) {
            true => Some(self.session.state()),
            false => self.aside.get(&key).cloned(),
        };
        if let Some(state) = state {
            self.aside.insert(new, state);
        }
        new
    }

    /// Forgets a session.
    pub fn close(&mut self, key: SessionKey) {
        self.aside.remove(&key);
        if self.owner == Some(key) {
            self.owner = None;
        }
    }

    /// The engine with the cache of a session.
    fn turn(&mut self, key: SessionKey) -> Result<&mut Session, Failure> {
        if self.owner != Some(key) {
            if let Some(owner) = self.owner.take() {
                self.aside.insert(owner, self.session.state());
            }
            if let Some(state) = self.aside.remove(&key) {
                self.session.set_state(&state).map_err(|e| Failure::Internal(e.to_string()))?;
            }
            self.owner = Some(key);
        }
        Ok(&mut self.session)
    }

    /// Logits \[V\] of the token that follows `ids` in a session.
    pub fn next_logits(&mut self, key: SessionKey, ids: &[u32]) -> Result<&[f32], Failure> {
        self.last_logits(key, ids, 1)
    }

    /// Logits \[n, V\], see [`Session::last_logits`].
    pub fn last_logits(
        &mut self,
        key: SessionKey,
        ids: &[u32],
        n: usize,
    ) -> Result<&[f32], Failure> {
        self.turn(key)?.last_logits(ids, n).map_err(internal)
    }

    /// Writes a session whose text is `ids` to a file, whole or not at all: the text and its cache.
    ///
    /// Errors: those of the disk.
    pub fn save(
        &mut self,
        key: SessionKey,
        ids: &[u32],
        store: &dyn Store,
        path: &Path,
    ) -> Result<(), Failure> {
        let session = self.turn(key)?;
        // So that the file stands for all of the text.
        if session.text() != ids && !ids.is_empty() {
            session.next_logits(ids).map_err(internal)?;
        }
        let bytes = session.state().to_bytes(&self.model);
        Ok(write_atomic(store, path, &bytes)?)
    }

    /// A session from a file, with its text.
    ///
    /// Errors: `session::model` if it was saved with another model, `session::cache` if with another format of
    /// the KV cache, `session::file` if it is torn, damaged, or no saved session.
    pub fn load(
        &mut self,
        store: &dyn Store,
        path: &Path,
    ) -> Result<(SessionKey, Vec<u32>), Failure> {
        let bytes = store.read(path)?;
        let refused = |e: StateError| {
            let message = format!("cannot go on from `{}`: {e}", path.display());
            match e {
                StateError::Model { .. } | StateError::Shape => {
                    let help =
                        "a session goes on only with the weights and tokenizer it was saved with";
                    Diagnostic::error("session::model", message).help(help)
                }
                StateError::Cache { .. } => {
                    let help = format!(
                        "open it with the cache that it was saved with; this is `{}`",
                        self.cache.name()
                    );
                    Diagnostic::error("session::cache", message).help(help)
                }
                _ => Diagnostic::error("session::file", message).help("save the session again"),
            }
        };
        let state = SessionState::from_bytes(&bytes, &self.model).map_err(refused)?;
        self.session.fits(&state).map_err(refused)?;
        let (key, text) = (self.open(), state.text().to_vec());
        self.aside.insert(key, state);
        Ok((key, text))
    }
}
