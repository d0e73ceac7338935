//! The SDKs that this program carries, for projects to be built with anywhere.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{BuildError, Language};

/// Paths from the root of the checkout, and contents.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The folder of a project that holds its SDK.
const FOLDER: &str = ".steward";

/// Names the files of an SDK, so that another one is noticed.
const MARK: &str = "sdk";

/// What a project has of its SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkState {
    /// None.
    Missing,
    /// Another than this program carries.
    Other,
    /// What this program carries.
    Same,
}

/// What the project in `folder` has of its SDK.
pub fn sdk_state(folder: &Path, language: Language) -> SdkState {
    match fs::read_to_string(folder.join(FOLDER).join(MARK)) {
        Ok(mark) if mark == self::mark(language) => SdkState::Same,
        Ok(_) => SdkState::Other,
        Err(_) => SdkState::Missing,
    }
}

/// Writes the SDK of a language to a project's `.steward/`, in place of what is there.
///
/// # Errors
/// [`BuildError::Io`].
pub fn unpack_sdk(folder: &Path, language: Language) -> Result<(), BuildError> {
    let home = folder.join(FOLDER);
    let write = || {
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        for (path, content) in files(language) {
            let path = home.join(path);
            fs::create_dir_all(path.parent().expect("the path has the folder before it"))?;
            fs::write(path, content)?;
        }
        if language == Language::Rust {
            fs::write(home.join("Cargo.toml"), workspace())?;
        }
        // Last, so that a half-written SDK is taken for none.
        fs::write(home.join(MARK), mark(language))
    };
    write().map_err(|cause| BuildError::io(format!("cannot write {}", home.display()), cause))
}

/// The versions of crates that the SDK was tested with: a lock file to begin with, from which cargo drops what is not needed.
pub(crate) fn lock() -> &'static [u8] {
    FILES.iter().find(|(path, _)| *path == "Cargo.lock").expect("the checkout has one").1
}

fn files(language: Language) -> impl Iterator<Item = &'static (&'static str, &'static [u8])> {
    let folders: &[&str] = match language {
        Language::Rust => &["wire/", "wit/", "guest-sdk/rust/"],
        Language::C => &["guest-sdk/c/"],
        Language::Go => &["guest-sdk/go/"],
    };
    FILES.iter().filter(move |(path, _)| folders.iter().any(|folder| path.starts_with(folder)))
}

/// `rust 0.1.0` and a hash of all files.
fn mark(language: Language) -> String {
    let mut hash = Sha256::new();
    for (path, content) in files(language) {
        hash.update(path);
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{language} {} {hash}\n", env!("CARGO_PKG_VERSION"))
}

/// The manifest that the SDK's crates inherit from: the checkout's, with these crates alone.
fn workspace() -> String {
    let (_, manifest) = FILES.iter().find(|(path, _)| *path == "Cargo.toml").expect("the checkout has one");
    let manifest = std::str::from_utf8(manifest).expect("a manifest is text");
    let mut manifest: toml::Table = manifest.parse().expect("the checkout's manifest is one");
    let workspace = manifest["workspace"].as_table_mut().expect("the checkout is a workspace");
    let members = ["wire", "guest-sdk/rust", "guest-sdk/rust/macros"];
    workspace.insert("members".into(), toml::Value::Array(members.map(Into::into).into()));
    workspace.remove("exclude");
    toml::to_string(&toml::Table::from_iter([("workspace".to_owned(), manifest["workspace"].clone())]))
        .expect("what was a manifest can be written as one")
}
