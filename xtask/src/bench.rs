//! `cargo xtask bench`: what a call costs, beside a bare echo.

use anyhow::{Context, Result};

use crate::plugins;
use crate::steps::{cargo, run};

/// Builds everything with optimisations and measures calls beside bare echoes, in one run.
#[derive(clap::Args)]
pub struct Bench {
    /// Arguments of the bench: `--json`, `--rounds N`, `--only NAME`, `--check`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Bench {
    /// # Errors
    /// If something does not build, or cannot be measured.
    pub fn run(&self) -> Result<()> {
        let plugins = plugins::build(&[])?;
        let plugins = plugins.first().and_then(|plugin| plugin.component.parent()).context("there are plugins")?;
        let mut bench = cargo(&["run", "--quiet", "--release", "--package", "steward-bench", "--", "--plugins"]);
        run(bench.arg(plugins).args(&self.args))
    }
}
