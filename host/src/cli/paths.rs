//! Where things are kept, by the XDG base directories.

use std::path::{Path, PathBuf};

use super::failure::Failure;

/// A directory from an environment variable, which must be absolute, or one below the home directory.
fn base(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .map(|base| base.join("steward"))
        .ok_or_else(|| Failure::usage(format!("neither `{variable}` nor `HOME` is set")).hint("set HOME"))
}

/// What a host keeps: its keys and its certificate.
pub(crate) fn data_dir() -> Result<PathBuf, Failure> {
    base("XDG_DATA_HOME", ".local/share")
}

/// What may be thrown away: compiled plugins.
pub(crate) fn cache_dir() -> Result<PathBuf, Failure> {
    base("XDG_CACHE_HOME", ".cache")
}

/// Where a host's sockets lie: a directory that goes with the login session where there is one.
pub(crate) fn socket_dir() -> Result<PathBuf, Failure> {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() => Ok(runtime.join("steward")),
        _ => base("XDG_STATE_HOME", ".local/state"),
    }
}

/// The contexts file, shared with the clients.
pub(crate) fn contexts() -> Result<PathBuf, Failure> {
    steward_client::context::path().map_err(|error| Failure::usage(error.to_string()).hint("set HOME"))
}

/// The path from the root, for files that are looked at from elsewhere later.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("`{}`: {error}", path.display())))
}
