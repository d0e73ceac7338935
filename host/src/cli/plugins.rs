//! Loading plugins for commands: compiled in a child process, and kept compiled.

use std::path::Path;
use std::sync::Arc;

use steward_host::guest::{CacheConfig, CompileLimits, Compiler, GuestConfig, GuestError, Guests, LoadOptions, Plugin};
use steward_host::{Registration, Source};

use super::failure::{Failure, Status};
use super::paths;

/// How this program runs guests. The cache needs a home directory; without one, plugins are compiled at every start.
pub(crate) fn config() -> GuestConfig {
    // On Linux this names the running program even after it was replaced by another build.
    let program = match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => std::env::current_exe().unwrap_or_else(|_| "steward".into()),
    };
    let mut config = GuestConfig::new(Compiler::Child { program, args: vec!["compile-component".into()] });
    if let (Ok(cache), Ok(data)) = (paths::cache_dir(), paths::data_dir()) {
        config.cache = Some(CacheConfig::new(cache.join("components"), data.join("keys").join("cache.key")));
    }
    config
}

/// How authors' commands run guests: as a host does, but with patience for compiling. An author's machine is trusted with the plugin, and may be
/// slower than a host; the time it took, `steward check` says.
pub(crate) fn authors_config() -> GuestConfig {
    let config = config();
    let compile_limits = CompileLimits { cpu_s_max: 120, wall_ms_max: 300_000, ..config.compile_limits };
    GuestConfig { compile_limits, ..config }
}

/// What runs guests.
pub(crate) fn guests(config: GuestConfig) -> Result<Guests, Failure> {
    Guests::new(config).map_err(no_guests)
}

/// Guests cannot be run here.
pub(crate) fn no_guests(error: GuestError) -> Failure {
    Failure::new(Status::Refused, "GuestsFailed", error.to_string())
}

/// A plugin from its file.
pub(crate) fn load(guests: &Guests, file: &Path) -> Result<Arc<Plugin>, Failure> {
    load_with(guests, file, LoadOptions::default())
}

/// A plugin from its file, whose objects have the memory that is chosen for them.
pub(crate) fn load_with(guests: &Guests, file: &Path, options: LoadOptions) -> Result<Arc<Plugin>, Failure> {
    let component = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    guests.load_with(&name, &component, options).map_err(|error| {
        let failure = Failure::new(Status::Refused, "BadPlugin", format!("{}: {error}", file.display()));
        match error {
            GuestError::Memory { limit, .. } if options.memory_bytes.is_some() => {
                failure.hint(format!("{limit} is the most that an object can have"))
            }
            _ => failure.hint(format!("`steward check {}` says more", file.display())),
        }
    })
}

/// Bytes of memory that objects of a plugin may have: at least a page of WebAssembly's.
pub(crate) fn memory_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes >= MEMORY_BYTES_MIN => Ok(bytes),
        Ok(bytes) => Err(format!("{bytes} bytes are no memory for an object: {MEMORY_BYTES_MIN} are the least")),
        Err(_) => Err(format!("`{text}` is no number of bytes")),
    }
}

const MEMORY_BYTES_MIN: usize = 64 << 10;

/// There is no such file, or not for this user.
pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read plugin {}: {error}", file.display()))
}

/// All types of a plugin, under their own names.
pub(crate) fn registrations(plugin: &Arc<Plugin>) -> Vec<Registration> {
    let registration = |typeid: &str| {
        let source = Source::Plugin { plugin: plugin.clone(), typeid: typeid.to_owned() };
        Registration::new(typeid, source)
    };
    plugin.types().iter().map(|offered| registration(&offered.info().typeid)).collect()
}
