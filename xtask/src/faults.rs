//! `cargo xtask faults`: clients and a host under faults, and the check of what they saw.

use anyhow::{Context, Result};

use crate::plugins;
use crate::steps::{cargo, run};

/// Runs a host and many client processes under faults, and checks every operation: `cargo xtask faults --help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Faults {
    /// Arguments of the kit: `--minutes M`, `--seed S`, `--clients N`, `--operations N`, `--cuts N`, and more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Faults {
    /// # Errors
    /// If something does not build, or the kit finds a violation.
    pub fn run(&self) -> Result<()> {
        eprintln!("building; the first time takes a few minutes");
        let plugin = plugins::component("rwlock")?;
        run(&mut cargo(&["build", "--quiet", "--bin", "steward", "--bin", "steward-faults"]))?;
        // target/plugins/rwlock.wasm
        let target = plugin.ancestors().nth(2).context("the plugin is in a target folder")?;
        let programs = target.join("debug");
        let mut kit = std::process::Command::new(programs.join("steward-faults"));
        kit.arg("--steward").arg(programs.join("steward")).arg("--plugin").arg(&plugin);
        run(kit.args(&self.args))
    }
}
