//! `steward test`: a project's own tests.

use std::path::PathBuf;
use std::process::ExitCode;

use super::build::{failed, toolchains};
use super::failure::Outcome;
use super::paths;

/// Runs the native tests of the project in a folder, in whichever language it is.
///
/// In Rust and Go that is `cargo test` and `go test`; the tests of a project in C are the files in its folder `test`, each compiled with the
/// project and the SDK's harness.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward test\n  steward test limiter --fetch")]
pub(crate) struct Test {
    /// Folder of the project.
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Fetches a toolchain that is missing.
    #[arg(long)]
    fetch: bool,
}

impl Test {
    pub(crate) fn run(self) -> Outcome {
        steward_build::test(&paths::absolute(&self.dir)?, &toolchains(self.fetch)?).map_err(failed)?;
        Ok(ExitCode::SUCCESS)
    }
}
