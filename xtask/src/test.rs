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
        // Tests that start a host as a process find it beside them.
        run(&mut cargo(&["build", "--package", "steward-host", "--bin", "steward"]))?;
        run(cargo(&["test", "--workspace"]).args(&self.args))
    }
}
