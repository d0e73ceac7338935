//! `cargo xtask sim`: hosts and clients in one thread, with faults, by the seed.

use anyhow::Result;

use crate::steps::{cargo, run};

/// Runs seeds of the simulation; the last line says how many broke a promise.
#[derive(clap::Args)]
pub struct Sim {
    /// Arguments of the simulation: `--seeds N`, `--from SEED`; or `--seed SEED --trace`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Sim {
    /// # Errors
    /// If it does not build, or a promise is broken.
    pub fn run(&self) -> Result<()> {
        // All of the workspace chooses the features, so that nothing large is built once more.
        run(cargo(&["run", "--quiet", "--bin", "steward-sim", "--"]).args(&self.args))
    }
}
