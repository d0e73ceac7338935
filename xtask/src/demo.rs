//! `cargo xtask demo`: a host, several client processes, what they share.

use anyhow::{Context, Result};

use crate::plugins;
use crate::steps::{cargo, run};

/// Builds host and plugins, and shows several processes sharing objects over QUIC.
#[derive(clap::Args)]
pub struct Demo {}

impl Demo {
    /// # Errors
    /// If something does not build, or the demonstration finds a wrong result.
    pub fn run(&self) -> Result<()> {
        eprintln!("building; the first time takes a few minutes");
        let plugins = plugins::build(&[])?;
        let plugins = plugins.first().and_then(|plugin| plugin.component.parent()).context("there are plugins")?;
        let mut demo = cargo(&["run", "--quiet", "--bin", "steward", "--", "demo", "--plugins"]);
        run(demo.arg(plugins))
    }
}
