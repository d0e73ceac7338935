//! `steward build`: a project's component.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use steward_build::{BuildError, Language, Profile, SdkState, Toolchains};

use super::failure::{Failure, Outcome, Status};
use super::format::{Format, say};
use super::{paths, plugins};

/// Compiles the project in a folder, in whichever language it is, and makes a plugin of it.
///
/// Prints the component's file, its size in bytes, and the types that it offers. Nothing is installed: `--fetch` puts toolchains that are
/// missing into the cache folder of this user.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    /// Folder of the project.
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Fetches a toolchain that is missing.
    #[arg(long)]
    fetch: bool,

    /// Builds quicker, with names in the texts of traps.
    #[arg(long, conflicts_with = "release")]
    debug: bool,

    /// Builds what is shipped: small and quick. The default.
    #[arg(long)]
    release: bool,

    /// File of the component. [default: the folder's name with .wasm, in the folder]
    #[arg(long, short)]
    output: Option<PathBuf>,

    /// Replaces the project's SDK, in `.steward/`, by the one that this program carries.
    #[arg(long)]
    update_sdk: bool,

    #[command(flatten)]
    pub(crate) format: Format,
}

const EXAMPLES: &str = "\
Examples:
  steward build
  steward build limiter --fetch
  steward build --debug -o /tmp/limiter.wasm";

#[derive(Serialize)]
struct Built {
    plugin: PathBuf,
    bytes: usize,
    types: Vec<Offered>,
}

#[derive(Serialize)]
struct Offered {
    typeid: String,
    version: String,
}

impl Build {
    pub(crate) fn run(self) -> Outcome {
        let profile = if self.debug { Profile::Debug } else { Profile::Release };
        let dir = paths::absolute(&self.dir)?;
        let language = Language::of(&dir).ok_or_else(|| failed(BuildError::NoProject(dir.clone())))?;
        match steward_build::sdk_state(&dir, language) {
            _ if self.update_sdk => steward_build::unpack_sdk(&dir, language).map_err(failed)?,
            SdkState::Other => {
                say("warning: the SDK in .steward/ is another than this program's; --update-sdk replaces it")
            }
            // None: the project has an SDK from elsewhere.
            SdkState::Same | SdkState::Missing => {}
        }
        let component = steward_build::build(&dir, &toolchains(self.fetch)?, profile).map_err(failed)?;
        let output = match self.output {
            Some(output) => output,
            None => {
                let mut name = dir.file_name().unwrap_or("plugin".as_ref()).to_owned();
                name.push(".wasm");
                if self.dir == Path::new(".") { name.into() } else { self.dir.join(name) }
            }
        };
        steward_build::write_whole(&output, &component).map_err(failed)?;
        // Asked what it offers, a plugin that no host would take is found here.
        let guests = plugins::guests(plugins::authors_config())?;
        let plugin = plugins::load(&guests, &output)?;
        let types: Vec<_> = plugin
            .types()
            .iter()
            .map(|offered| Offered { typeid: offered.info().typeid.clone(), version: offered.version().to_owned() })
            .collect();
        let named: Vec<_> = types.iter().map(|offered| format!("{} {}", offered.typeid, offered.version)).collect();
        let built = Built { bytes: component.len(), plugin: output, types };
        let row = vec![built.plugin.display().to_string(), built.bytes.to_string(), named.join(", ")];
        self.format.table(&["plugin", "bytes", "types"], &[row], &built)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Toolchains of the machine, and those that were fetched for this user.
pub(crate) fn toolchains(fetch: bool) -> Result<Toolchains, Failure> {
    Ok(Toolchains { dir: paths::cache_dir()?.join("tools"), fetch, say })
}

/// There is no component.
pub(crate) fn failed(error: BuildError) -> Failure {
    match error {
        BuildError::NoProject(_) => {
            Failure::usage(error.to_string()).hint("`steward new --lang rust NAME` writes a project")
        }
        BuildError::Missing { what, fix } => {
            Failure::new(Status::Refused, "MissingToolchain", format!("{what} not found")).hint(fix)
        }
        BuildError::Fetch { url, cause, fix } => {
            Failure::new(Status::Refused, "FetchFailed", format!("cannot fetch {url}: {cause}")).hint(fix)
        }
        error @ BuildError::Compile { .. } => Failure::new(Status::Raised, "CompileFailed", error.to_string()),
        error @ (BuildError::Component(_) | BuildError::Io { .. }) => {
            Failure::new(Status::Refused, "BuildFailed", error.to_string())
        }
    }
}
