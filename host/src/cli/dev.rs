//! `steward dev`: a plugin that follows its source on a running host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use steward_build::{Language, Profile};

use super::build::{failed, toolchains};
use super::connect::Connect;
use super::failure::{Failure, Outcome};
use super::format::say;
use super::{paths, register};

/// Builds a project whenever its files change, and replaces its types on a running host: objects move with their next call.
///
/// Runs until it is interrupted. What does not compile, or what the host refuses, is said, and the host goes on with what it has.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward dev\n  steward dev limiter -c staging")]
pub(crate) struct Dev {
    /// Folder of the project.
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Fetches a toolchain that is missing.
    #[arg(long)]
    fetch: bool,

    /// Builds and replaces once.
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    connect: Connect,
}

/// How often files are looked at. Their times are asked for, a few dozen of them, rather than the system's news of them, which do not cross
/// into containers and network file systems.
const LOOK: Duration = Duration::from_millis(300);

impl Dev {
    pub(crate) fn run(self) -> Outcome {
        let dir = paths::absolute(&self.dir)?;
        let toolchains = toolchains(self.fetch)?;
        if Language::of(&dir).is_none() {
            return Err(failed(steward_build::BuildError::NoProject(dir)));
        }
        loop {
            // Before the build: what changes while it runs is built again.
            let seen = times(&dir);
            let replaced = steward_build::build(&dir, &toolchains, Profile::Release)
                .map_err(failed)
                .and_then(|component| register::replace(&self.connect, &component));
            match replaced {
                Ok(lines) => lines.iter().for_each(|line| say(line)),
                Err(failure) if self.once || failure.is("Interrupted") => return Err(failure),
                Err(failure) => drop(failure.report(false)),
            }
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            wait_for_change(&dir, &seen)?;
        }
    }
}

fn wait_for_change(dir: &Path, seen: &BTreeMap<PathBuf, SystemTime>) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(super::connect::no_runtime)?;
    runtime.block_on(async {
        while times(dir) == *seen {
            // Dropping either loses nothing.
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
            }
        }
        Ok(())
    })
}

/// When the files of a project were changed, but for those that building makes.
fn times(dir: &Path) -> BTreeMap<PathBuf, SystemTime> {
    fn collect(dir: &Path, into: &mut BTreeMap<PathBuf, SystemTime>) {
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            // The SDK is not edited; a lock file is written by the build itself.
            if name.to_string_lossy().starts_with('.') || name == "target" || name == "Cargo.lock" {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => collect(&path, into),
                Ok(metadata) if path.extension() != Some("wasm".as_ref()) => {
                    into.extend(metadata.modified().ok().map(|at| (path, at)));
                }
                _ => {}
            }
        }
    }
    let mut times = BTreeMap::new();
    collect(dir, &mut times);
    times
}
