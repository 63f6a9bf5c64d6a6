//! Where the caches of a user are.

use std::path::PathBuf;

/// A variable of the environment that names a folder.
pub fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// `llmc` in a folder of the user: where a variable of freedesktop.org says, on macOS in the library,
/// else below the home folder.
pub fn user_folder(xdg: &str, library: &str, below_home: &str) -> Option<PathBuf> {
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    let user = match cfg!(target_os = "macos") {
        true => home.map(|home| home.join("Library").join(library)),
        false => variable(xdg).or_else(|| home.map(|home| home.join(below_home))),
    };
    user.map(|folder| folder.join("llmc"))
}

/// The folder of the stage cache: `LLMC_CACHE`, or `llmc` in the user's cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    variable("LLMC_CACHE").or_else(|| user_folder("XDG_CACHE_HOME", "Caches", ".cache"))
}
