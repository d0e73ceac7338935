//! `cargo xtask test`: the whole suite.

use anyhow::Result;

use crate::plugins;
use crate::steps::{cargo, run};

/// Builds the plugins and the host, then runs every test of the workspace.
#[derive(clap::Args)]
pub struct Test {
    /// Further arguments of `cargo test`, a filter for example.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Test {
    /// # Errors
    /// If something does not build, or a test fails.
    pub fn run(&self) -> Result<()> {
        plugins::build(&[])?;
        // Builds the program `steward` as well, which tests that start a host as a process find beside them.
        run(cargo(&["test", "--workspace"]).args(&self.args))?;
        // What plugins in Go are wrapped with is what its source says: a workspace of its own, so that its assembler is nobody
        // else's dependency.
        if self.args.is_empty() {
            run(&mut cargo(&["test", "--quiet", "--locked", "--manifest-path", "guest-sdk/go/adapter/Cargo.toml"]))?;
        }
        Ok(())
    }
}
