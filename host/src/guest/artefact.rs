//! Compiled components: where they are kept, and the one place that turns their bytes into code.
//!
//! A compiled component is machine code, so whoever can put one in front of the loader owns the host. They
//! are therefore made only by this host's compiler, and kept under an HMAC whose key does not lie in the
//! directory that keeps them. What is verified is the very memory that is loaded, never the file once more.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Where compiled components are kept between runs of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The directory; made if it is missing. Whoever can write here can at worst make the host compile again.
    pub dir: PathBuf,
    /// The file that holds the key, outside of `dir`; made, readable to the owner only, if it is missing. Whoever
    /// can read it and write to `dir` can run code in the host.
    pub key_file: PathBuf,
    /// Limit of one file's size; a larger one is compiled each time.
    pub artefact_bytes_max: u64,
}

impl CacheConfig {
    /// A cache with the default limit of 256 MiB a file.
    pub fn new(dir: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), key_file: key_file.into(), artefact_bytes_max: 256 << 20 }
    }
}

/// The bytes of a compiled component that this host's compiler made: just now, or earlier and verified.
pub(super) struct Artefact(Vec<u8>);

impl Artefact {
    /// Takes what the compiler has just answered.
    pub(super) fn from_compiler(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Makes the component. Checks that it was compiled for this very engine.
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        unsafe_load::load(engine, &self.0)
    }
}

mod unsafe_load {
    #![expect(unsafe_code, reason = "loading compiled code is unsafe by nature; an `Artefact` proves its origin")]

    use wasmtime::Engine;
    use wasmtime::component::Component;

    pub(super) fn load(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` asks for bytes that `serialize` or `precompile_component` gave, unmodified. The only
        // caller is `Artefact::load`, and an `Artefact` is made from the answer of this host's compiler or from bytes
        // whose HMAC, under a key that only this host has, was verified in this same memory.
        unsafe { Component::deserialize(engine, artefact) }
    }
}

const MAC_BYTES: usize = 32;

pub(super) struct Cache {
    config: CacheConfig,
    key: [u8; 32],
}

impl Cache {
    pub(super) fn open(config: &CacheConfig) -> io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        let dir = config.dir.canonicalize()?;
        let key = read_or_make_key(&config.key_file)?;
        if config.key_file.canonicalize()?.starts_with(&dir) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the key {} lies within the cache that it protects", config.key_file.display()),
            ));
        }
        Ok(Self { config: CacheConfig { dir, ..config.clone() }, key })
    }

    /// The form of `component` that was compiled for `engine`, if it was kept and is intact.
    pub(super) fn get(&self, engine: &Engine, component: &[u8]) -> Option<Artefact> {
        let name = name(engine, component);
        let path = self.config.dir.join(&name);
        let mut bytes = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|file| file.take(self.config.artefact_bytes_max + MAC_BYTES as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a compiled plugin could not be read");
                return None;
            }
        }
        let intact = bytes.split_at_checked(MAC_BYTES).is_some_and(|(mac, artefact)| {
            // Compares in constant time.
            self.mac(&name, artefact).verify_slice(mac).is_ok()
        });
        if !intact {
            tracing::warn!(path = %path.display(), "a compiled plugin is not what this host wrote, and is made anew");
            return None;
        }
        bytes.drain(..MAC_BYTES);
        Some(Artefact(bytes))
    }

    /// Keeps the compiled form of `component`. A failure costs time at the next start, no more, and is logged.
    pub(super) fn put(&self, engine: &Engine, component: &[u8], artefact: &Artefact) {
        if artefact.0.len() as u64 > self.config.artefact_bytes_max {
            return;
        }
        let name = name(engine, component);
        let path = self.config.dir.join(&name);
        // Readers never see half a file, and two hosts that write the same one do not mix their bytes.
        let unfinished = self.config.dir.join(format!("{name}.{}", std::process::id()));
        let written = fs::File::create(&unfinished)
            .and_then(|mut file| {
                file.write_all(&self.mac(&name, &artefact.0).finalize().into_bytes())?;
                file.write_all(&artefact.0)
            })
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "a compiled plugin could not be kept");
            // It may not even exist.
            let _ = fs::remove_file(&unfinished);
        }
    }

    /// Covers the name too, so that one plugin's file cannot be put in another's place.
    fn mac(&self, name: &str, artefact: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac.update(artefact);
        mac
    }
}

/// Names a compiled form by all that decides about it: the component; wasmtime's version, this CPU's features and the
/// engine's configuration.
fn name(engine: &Engine, component: &[u8]) -> String {
    let mut fingerprint = Fingerprint(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fingerprint);
    let digest = Sha256::new().chain_update(fingerprint.0.finalize()).chain_update(component).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken instead")
    }
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    use std::os::unix::fs::OpenOptionsExt;

    if !path.exists() {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut key = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        // Written whole under another name and then linked, which fails if somebody else was first.
        let unfinished = path.with_extension(format!("{}", std::process::id()));
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?.write_all(&key)?;
        let linked = fs::hard_link(&unfinished, path);
        fs::remove_file(&unfinished)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let bytes = fs::read(path)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the key {} is {} bytes, not 32", path.display(), bytes.len()),
        )
    })
}
