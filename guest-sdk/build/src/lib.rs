//! Builds plugins: finds the toolchain of a language, compiles a project, makes a component of it.
//!
//! `steward build` and `cargo xtask` are thin commands around this. Nothing here touches the system: what is fetched lands in a
//! folder of the caller's. (Rust's own standard library for WebAssembly is the exception: it belongs to a toolchain, and rustup
//! puts it there.)

pub mod c;
mod component;
mod fetch;
mod front;
pub mod go;
mod new;
mod rust;
mod sdk;
mod start;
mod toolchains;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use component::{Made, inspect, no_component, stamp, wrap};
pub use new::{NewError, near_name, new, typeid};
pub use rust::ensure_target;
pub use sdk::{SdkState, sdk_state, unpack_sdk};
pub use toolchains::{Found, Toolchains};

/// Version of the world that plugins of this release's SDKs are built for.
pub const WORLD: &str = "0.1.0";

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust, by cargo.
    Rust,
    /// C, by clang or zig.
    C,
    /// Go, by its stock toolchain.
    Go,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::C, Self::Go];

    /// The language of the project in a folder, by its files: `Cargo.toml`, `go.mod`, or sources in C.
    pub fn of(folder: &Path) -> Option<Self> {
        if folder.join("Cargo.toml").is_file() {
            Some(Self::Rust)
        } else if folder.join("go.mod").is_file() {
            Some(Self::Go)
        } else {
            let mut entries = folder.read_dir().ok()?.flatten();
            entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "c")).then_some(Self::C)
        }
    }

    /// Its name, as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Go => "go",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a project is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Small and quick: what is shipped.
    #[default]
    Release,
    /// With names in the text of traps, and quicker to build.
    Debug,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to build.
    #[error("{} has no plugin: no Cargo.toml, no go.mod and no .c file", .0.display())]
    NoProject(PathBuf),
    /// A toolchain is not there.
    #[error("{what} not found\n  fix: {fix}")]
    Missing {
        /// What was looked for: `Go 1.24 or later`.
        what: String,
        /// A command that helps.
        fix: String,
    },
    /// A toolchain could not be fetched.
    #[error("cannot fetch {url}: {cause}\n  fix: {fix}")]
    Fetch {
        /// Where it is.
        url: String,
        /// What came in the way.
        cause: io::Error,
        /// What to do instead.
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
        cause: io::Error,
    },
}

impl BuildError {
    fn io(what: impl Into<String>, cause: io::Error) -> Self {
        Self::Io { what: what.into(), cause }
    }
}

/// Writes a file so that it appears whole or not at all, whoever else writes it at the same time.
///
/// # Errors
/// [`BuildError::Io`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&unfinished, bytes)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|cause| BuildError::io(format!("cannot write {}", path.display()), cause))
}

/// Builds the project in a folder: the component, which says what made it.
///
/// What compilers print goes to standard error.
///
/// # Errors
/// [`BuildError`].
pub fn build(folder: &Path, toolchains: &Toolchains, profile: Profile) -> Result<Vec<u8>, BuildError> {
    match Language::of(folder).ok_or_else(|| BuildError::NoProject(folder.to_owned()))? {
        Language::Rust => rust::build(folder, toolchains, profile),
        // What is shipped is what is debugged, too: these compilers are quick, and traps name functions by the way.
        Language::C => c::build(folder, toolchains),
        Language::Go => {
            // Each process has a folder of its own, since several may build at once.
            let work = toolchains.dir.join(format!("go.{}", std::process::id()));
            let built = go::build(folder, &work, toolchains);
            // What is left of it is in nobody's way.
            let _ = fs::remove_dir_all(&work);
            built
        }
    }
}

/// What plugins of a language would be built with in a folder: programs and versions, for people.
///
/// # Errors
/// [`BuildError::Missing`] with the command that gets it.
pub fn probe(language: Language, folder: &Path, toolchains: &Toolchains) -> Result<String, BuildError> {
    match language {
        Language::Rust => {
            rust::ensure_target(folder, toolchains)?;
            toolchains::ask(Path::new("cargo"), &["--version"])
        }
        Language::C => c::probe(toolchains),
        Language::Go => toolchains.go().map(|found| format!("{} at {}", found.version, found.program.display())),
    }
}

/// Runs the native tests of the project in a folder; what they say goes to standard error. Those of a project in C are in its folder `test`.
///
/// # Errors
/// [`BuildError`]; [`BuildError::Compile`] if a test fails.
pub fn test(folder: &Path, toolchains: &Toolchains) -> Result<(), BuildError> {
    match Language::of(folder).ok_or_else(|| BuildError::NoProject(folder.to_owned()))? {
        Language::Rust => rust::test(folder),
        Language::Go => go::test(folder, toolchains),
        Language::C => {
            let tests = folder.join("test");
            let entries = match tests.read_dir() {
                Ok(entries) => Some(entries),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(cause) => return Err(BuildError::io(format!("cannot read {}", tests.display()), cause)),
            };
            let mut files: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
            files.sort();
            if files.is_empty() {
                // As with cargo and Go, that is no failure; but silence would pass for tests that did.
                (toolchains.say)(&format!("no tests: no .c file in {}", tests.display()));
            }
            files.iter().try_for_each(|test| c::test(folder, test, toolchains))
        }
    }
}
