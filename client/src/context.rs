//! Contexts: hosts by name, kept in a file that every client and the command line share.
//!
//! ```toml
//! current = "local"
//!
//! [contexts.local]
//! address = "steward+unix:///run/user/1000/steward/steward.sock"
//! tenant = "default"
//! key_id = "local"
//! key_file = "keys/local.key"      # relative to the directory of this file
//! pin = "sha256:9f2c…"             # optional: the host's certificate
//! ```
//!
//! The file is `$XDG_CONFIG_HOME/steward/contexts.toml`, else `~/.config/steward/contexts.toml`. Keys
//! live in files of their own, as one line of hex digits. Both are written with mode 0600, to a file
//! beside it that is then renamed, so that no reader ever sees half of one.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use steward_wire::auth::AuthKey;
use zeroize::Zeroizing;

use crate::error::ConfigError;

/// The context used where none is named anywhere; `steward serve` writes it.
pub const DEFAULT: &str = "local";

/// Largest contexts or key file that is read, in bytes; a larger one is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One host, and how to sign in there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `steward://host:port` or `steward+unix:///path`.
    pub address: String,
    /// The tenant; `default` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Which of the tenant's keys; `default` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// File with the key; relative to the directory of the contexts file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// `sha256:` and the hex digest of the host's certificate; see [`crate::ConnectOptions::pin`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

const CONTEXT_KEYS: &[&str] = &["address", "tenant", "key_id", "key_file", "pin"];
const FILE_KEYS: &[&str] = &["current", "contexts"];

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contexts {
    /// The context used where none is named; [`DEFAULT`] if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Where the contexts file is, whether or not it exists.
///
/// # Errors
/// If neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn path() -> Result<PathBuf, ConfigError> {
    path_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn path_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    // The XDG specification says that relative paths are to be ignored.
    let config = variable("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| ConfigError::Option("neither `XDG_CONFIG_HOME` nor `HOME` is set".into()))?;
    Ok(config.join("steward").join("contexts.toml"))
}

impl Contexts {
    /// Reads the file; one that does not exist has no contexts.
    ///
    /// # Errors
    /// If it cannot be read, is larger than 1 MiB, or has a key that is not known, which the error
    /// names together with the nearest known one.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match read_file(path) {
            Ok(text) => Self::parse(&text).map_err(|message| ConfigError::Invalid { path: path.to_owned(), message }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(ConfigError::File { path: path.to_owned(), cause }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        refuse_unknown(table.keys(), FILE_KEYS, "")?;
        if let Some(toml::Value::Table(contexts)) = table.get("contexts") {
            for (name, context) in contexts {
                if let toml::Value::Table(context) = context {
                    refuse_unknown(context.keys(), CONTEXT_KEYS, &format!(" in context `{name}`"))?;
                }
            }
        }
        table.try_into().map_err(|error: toml::de::Error| error.to_string())
    }

    /// Writes the file, whole and atomically, with mode 0600, making its directory if need be.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ConfigError> {
        let text = toml::to_string(self)
            .map_err(|error| ConfigError::Invalid { path: path.to_owned(), message: error.to_string() })?;
        write_private(path, text.as_bytes())
    }

    /// The context called `name`; without a name, that of `STEWARD_CONTEXT`, else the file's current one, else
    /// [`DEFAULT`]. `path` is where the file came from, for the error and for relative key files.
    ///
    /// # Errors
    /// If there is no such context.
    pub fn get(&self, name: Option<&str>, path: &Path) -> Result<Context, ConfigError> {
        let from_environment = std::env::var("STEWARD_CONTEXT").ok().filter(|name| !name.is_empty());
        let name = name.or(from_environment.as_deref()).or(self.current.as_deref()).unwrap_or(DEFAULT);
        let Some(context) = self.contexts.get(name) else {
            let hint = match nearest(name, self.contexts.keys().map(String::as_str)) {
                Some(near) => format!(", did you mean `{near}`?"),
                None if self.contexts.is_empty() => "; `steward serve` makes the context `local`".into(),
                None => {
                    let names: Vec<_> = self.contexts.keys().map(|name| format!("`{name}`")).collect();
                    format!(", which has {}", names.join(", "))
                }
            };
            return Err(ConfigError::NoContext { name: name.into(), path: path.to_owned(), hint });
        };
        let mut context = context.clone();
        if let (Some(file), Some(directory)) = (&context.key_file, path.parent()) {
            context.key_file = Some(directory.join(file));
        }
        Ok(context)
    }
}

/// Reads a key file: one line of hex digits.
///
/// # Errors
/// If it cannot be read or holds no key.
pub fn read_key(path: &Path) -> Result<AuthKey, ConfigError> {
    let text = read_file(path).map_err(|cause| ConfigError::File { path: path.to_owned(), cause })?;
    let text = Zeroizing::new(text);
    AuthKey::from_hex(&text).map_err(|error| ConfigError::Invalid { path: path.to_owned(), message: error.to_string() })
}

/// Writes a key file, atomically and with mode 0600, making its directory if need be.
///
/// # Errors
/// If the system refuses.
pub fn write_key(path: &Path, key: &AuthKey) -> Result<(), ConfigError> {
    let mut line = key.to_hex();
    line.push('\n');
    write_private(path, line.as_bytes())
}

fn read_file(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("file is {bytes} bytes, limit is {FILE_BYTES_MAX}")));
    }
    io::read_to_string(io::Read::take(file, FILE_BYTES_MAX))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    // Two writers in one process and in two must not share the file beside.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let beside = path.with_extension(format!("{}-{}.tmp", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let write = || {
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|cause| {
        let _ = std::fs::remove_file(&beside);
        ConfigError::File { path: path.to_owned(), cause }
    })
}

fn refuse_unknown<'a>(keys: impl Iterator<Item = &'a String>, known: &[&str], place: &str) -> Result<(), String> {
    for key in keys {
        if !known.contains(&key.as_str()) {
            let hint = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are `{}`", known.join("`, `")),
            };
            return Err(format!("unknown key `{key}`{place}, {hint}"));
        }
    }
    Ok(())
}

/// The known word within two edits of `word`, if there is one.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|&(edits, _)| edits <= 2)
        .min()
        .map(|(_, near)| near)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("steward-contexts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn written_contexts_are_read_back_and_private() {
        let directory = directory("round-trip");
        let file = directory.join("steward/contexts.toml");
        let mut contexts = Contexts::default();
        contexts.contexts.insert(
            "local".into(),
            Context {
                address: "steward://127.0.0.1:7777".into(),
                tenant: Some("acme".into()),
                key_file: Some("keys/local.key".into()),
                ..Context::default()
            },
        );
        contexts.write(&file).unwrap();
        contexts.write(&file).unwrap();
        assert_eq!(Contexts::read(&file).unwrap(), contexts);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no file stays beside");

        let context = contexts.get(Some("local"), &file).unwrap();
        let key_file = context.key_file.unwrap();
        assert_eq!(key_file, directory.join("steward/keys/local.key"));
        let key = AuthKey::new((0..32).collect()).unwrap();
        write_key(&key_file, &key).unwrap();
        assert_eq!(*read_key(&key_file).unwrap().to_hex(), *key.to_hex());
        std::fs::write(&key_file, "no key").unwrap();
        assert!(matches!(read_key(&key_file), Err(ConfigError::Invalid { .. })));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn unknown_key_is_refused_with_the_nearest_known_one() {
        let message = Contexts::parse("[contexts.local]\nadress = \"steward://a:1\"\n").unwrap_err();
        assert_eq!(message, "unknown key `adress` in context `local`, did you mean `address`?");
        let message = Contexts::parse("colour = 1\n").unwrap_err();
        assert_eq!(message, "unknown key `colour`, known are `current`, `contexts`");
    }

    #[test]
    fn missing_file_has_no_contexts_and_says_what_makes_one() {
        let file = directory("missing").join("contexts.toml");
        let error = Contexts::read(&file).unwrap().get(Some("prod"), &file).unwrap_err();
        assert!(error.to_string().ends_with("`steward serve` makes the context `local`"), "{error}");
    }

    #[test]
    fn xdg_directory_wins_over_home_unless_it_is_relative() {
        let path = |xdg: &'static str| {
            path_from(move |name| match name {
                "XDG_CONFIG_HOME" => Some(xdg.into()),
                "HOME" => Some("/home/ada".into()),
                _ => None,
            })
            .unwrap()
        };
        assert_eq!(path("/x"), Path::new("/x/steward/contexts.toml"));
        assert_eq!(path("x"), Path::new("/home/ada/.config/steward/contexts.toml"));
        assert!(path_from(|_| None).is_err());
    }

    #[test]
    fn key_that_is_no_hex_is_refused() {
        assert_eq!(from_hex("0aFf"), Some(vec![10, 255]));
        assert_eq!(from_hex("0a f"), None);
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("éé"), None);
    }
}
