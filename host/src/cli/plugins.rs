//! Loading plugins for commands: compiled in a child process, and kept compiled.

use std::path::Path;
use std::sync::Arc;

use steward_host::guest::{CacheConfig, CompileLimits, Compiler, GuestConfig, GuestError, Guests, Plugin};
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
    let component = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    guests.load(&name, &component).map_err(|error| {
        Failure::new(Status::Refused, "BadPlugin", format!("{}: {error}", file.display()))
            .hint(format!("`steward check {}` says more", file.display()))
    })
}

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
