//! New projects: small, complete, and passing their tests as they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{BuildError, Language, sdk};

/// A project's files: where they lie, and what they say, `{{name}}` and `{{Type}}` standing for its names.
type Template = &'static [(&'static str, &'static str)];

const RUST: Template = &[
    ("Cargo.toml", include_str!("../templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("../templates/rust/src/lib.rs")),
    ("README.md", include_str!("../templates/rust/README.md")),
    (".gitignore", include_str!("../templates/rust/gitignore")),
];

const C: Template = &[
    ("{{name}}.c", include_str!("../templates/c/plugin.c")),
    ("test/test.c", include_str!("../templates/c/test/test.c")),
    ("README.md", include_str!("../templates/c/README.md")),
    (".gitignore", include_str!("../templates/c/gitignore")),
];

const GO: Template = &[
    ("go.mod", include_str!("../templates/go/go.mod")),
    ("main.go", include_str!("../templates/go/main.go")),
    ("main_test.go", include_str!("../templates/go/main_test.go")),
    ("README.md", include_str!("../templates/go/README.md")),
    (".gitignore", include_str!("../templates/go/gitignore")),
];

/// Bytes of a project's name.
const NAME_BYTES_MAX: usize = 64;

/// Why there is no new project.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// It is no name.
    #[error(
        "`{0}` is no name for a project: at most {NAME_BYTES_MAX} small letters, digits and single `-` between them, the first one a letter"
    )]
    Name(String),
    /// The language needs the name itself.
    #[error("a type in {language} cannot be called `{typeid}`, as that of `{name}` would be")]
    Word {
        /// The project's name.
        name: String,
        /// What its type would be called.
        typeid: String,
        /// Its language.
        language: Language,
    },
    /// There is something already.
    #[error("{} is there already, and not empty", .0.display())]
    Exists(PathBuf),
    /// A file would be lost.
    #[error("{} is there already, as is what it would be kept as", .0.display())]
    Kept(PathBuf),
    /// The SDK could not be written.
    #[error(transparent)]
    Sdk(#[from] BuildError),
    /// A file could not be written.
    #[error("cannot write {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Writes a project to `folder`. Files that are there already and differ are kept as `NAME.orig`: what is returned.
///
/// `name` is that of its component; its type is called the same in capitals (`rate-limiter`: `RateLimiter`). `force`: the folder need not be
/// empty.
///
/// # Errors
/// [`NewError`]; the checks come before anything is written.
pub fn new(folder: &Path, name: &str, language: Language, force: bool) -> Result<Vec<PathBuf>, NewError> {
    let typeid = typeid(name).ok_or_else(|| NewError::Name(name.to_owned()))?;
    if words(language).contains(&&*typeid) {
        return Err(NewError::Word { name: name.to_owned(), typeid, language });
    }
    let template = match language {
        Language::Rust => RUST,
        Language::C => C,
        Language::Go => GO,
    };
    if !force && folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(NewError::Exists(folder.to_owned()));
    }
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for (path, text) in template {
        let text = text.replace("{{name}}", name).replace("{{Type}}", &typeid);
        files.push((folder.join(path.replace("{{name}}", name)), text.into_bytes()));
    }
    if language == Language::Rust {
        files.push((folder.join("Cargo.lock"), sdk::lock().to_owned()));
    }
    let differing: Vec<_> = files
        .iter()
        .filter(|(path, content)| path.exists() && fs::read(path).is_ok_and(|present| present != *content))
        .map(|(path, _)| (path.clone(), kept_as(path)))
        .collect();
    if let Some((path, _)) = differing.iter().find(|(_, kept)| kept.exists()) {
        return Err(NewError::Kept(path.clone()));
    }
    for (path, kept) in &differing {
        fs::rename(path, kept).map_err(|cause| NewError::Io { path: kept.clone(), cause })?;
    }
    for (path, content) in files {
        let folder = path.parent().expect("a file has a folder");
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, content));
        written.map_err(|cause| NewError::Io { path, cause })?;
    }
    sdk::unpack_sdk(folder, language)?;
    Ok(differing.into_iter().map(|(_, kept)| kept).collect())
}

/// What the sources of a new project, or the language, mean something else by.
fn words(language: Language) -> &'static [&'static str] {
    match language {
        Language::Rust => &["Self", "Result", "Harness"],
        Language::C => &[],
        Language::Go => &["New"],
    }
}

/// The name nearest to a text that is none: `Rate_Limiter`, `rate-limiter`.
pub fn near_name(text: &str) -> Option<String> {
    let mut near = String::new();
    for char in text.trim().chars() {
        match char {
            // A capital begins a word.
            'A'..='Z' if near.ends_with(|before: char| before.is_ascii_lowercase()) => near.extend(['-', char]),
            'a'..='z' | 'A'..='Z' | '0'..='9' => near.push(char),
            _ if near.ends_with('-') => {}
            _ => near.push('-'),
        }
    }
    let near = near.trim_matches('-').to_ascii_lowercase();
    typeid(&near).map(|_| near)
}

fn kept_as(path: &Path) -> PathBuf {
    let mut kept = path.as_os_str().to_owned();
    kept.push(".orig");
    kept.into()
}

/// What a type of a project is called: `rate-limiter`, `RateLimiter`.
pub fn typeid(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let named = chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && chars.all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
        && name.len() <= NAME_BYTES_MAX
        && !name.ends_with('-')
        && !name.contains("--");
    named.then(|| {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        name.split('-').map(capital).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_called_as_its_project_is() {
        for (name, called) in [("limiter", "Limiter"), ("rate-limiter", "RateLimiter"), ("x2-y", "X2Y")] {
            assert_eq!(typeid(name).as_deref(), Some(called));
        }
        for name in ["", "-a", "a-", "a--b", "Limiter", "a_b", "2x", "a/b", "ä"] {
            assert_eq!(typeid(name), None, "{name}");
        }
    }

    #[test]
    fn name_nearest_to_one_that_is_none_is_one() {
        for (text, near) in [("Limiter", "limiter"), ("rate_limiter", "rate-limiter"), ("RateLimiter ", "rate-limiter")]
        {
            assert_eq!(near_name(text).as_deref(), Some(near), "{text}");
        }
        for text in ["", "7", "-", "é", &"x".repeat(65)] {
            assert_eq!(near_name(text), None, "{text}");
        }
    }

    #[test]
    fn type_is_not_called_as_a_word_that_its_source_needs() {
        let dir = tempfile::tempdir().unwrap();
        for (name, language) in [("self", Language::Rust), ("result", Language::Rust), ("new", Language::Go)] {
            let refused = new(&dir.path().join(name), name, language, false);
            assert!(matches!(refused, Err(NewError::Word { .. })), "{refused:?}");
            assert!(!dir.path().join(name).exists());
        }
        new(&dir.path().join("new"), "new", Language::C, false).unwrap();
    }

    #[test]
    fn what_is_there_is_never_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("limiter");
        assert_eq!(new(&folder, "limiter", Language::Rust, false).unwrap(), Vec::<PathBuf>::new());
        assert!(matches!(new(&folder, "limiter", Language::Rust, false), Err(NewError::Exists(_))));
        fs::write(folder.join("README.md"), "mine").unwrap();
        let kept = new(&folder, "limiter", Language::Rust, true).unwrap();
        assert_eq!(kept, [folder.join("README.md.orig")]);
        assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "mine");
        // A second time there is no place left for it.
        fs::write(folder.join("README.md"), "mine, too").unwrap();
        assert!(matches!(new(&folder, "limiter", Language::Rust, true), Err(NewError::Kept(_))));
        assert_eq!(fs::read_to_string(folder.join("README.md")).unwrap(), "mine, too");
    }
}
