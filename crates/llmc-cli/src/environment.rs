//! What the environment says: the instruction set, the stage cache, the folder of state.

use crate::output::{Output, say};
use llmc::cache::{StageCache, cache_folder, open_shared, user_folder, variable};
use llmc::lock::Lock;
use llmc::pipeline::Failure;
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use llmc_runtime::Isa;
use std::path::PathBuf;

/// The instruction set that `LLMC_ISA` asks for.
///
/// Errors: `env::isa` for a name that is none, or one that this machine has not.
pub fn isa() -> Result<Option<Isa>, Failure> {
    let Some(name) = std::env::var_os("LLMC_ISA").filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let name = name.to_string_lossy().to_lowercase();
    let names = |all: &mut dyn Iterator<Item = Isa>| {
        all.map(|isa| format!("`{}`", isa.name())).collect::<Vec<_>>().join(", ")
    };
    let here = format!("this machine has {}", names(&mut Isa::available()));
    let message = match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) if isa.is_available() => return Ok(Some(isa)),
        Some(_) => format!("`LLMC_ISA={name}`: this machine does not have it"),
        None => format!("`LLMC_ISA={name}` names no instruction set"),
    };
    Err(Diagnostic::error("env::isa", message).help(here).into())
}

/// The user's stage cache, locked against a sweep for as long as this lives.
pub struct Cache {
    /// The entries.
    pub stages: StageCache<'static>,
    _lock: Lock,
}

/// The folder of what should outlive a session: `LLMC_STATE`, or `llmc` in the user's state folder.
pub fn state_folder() -> Option<PathBuf> {
    let user = || user_folder("XDG_STATE_HOME", "Application Support", ".local/state");
    variable("LLMC_STATE").or_else(user)
}

/// Opens the stage cache. Where there can be none the work is done without, and a note says so.
pub fn cache(out: &Output) -> Option<Cache> {
    static STORE: FsStore = FsStore;
    let folder = cache_folder()?;
    match open_shared(&folder) {
        Ok(lock) => Some(Cache { stages: StageCache::new(&STORE, folder), _lock: lock }),
        Err(error) => {
            if !out.is_quiet {
                say(&format!("working without the stage cache: {error}"));
            }
            None
        }
    }
}
