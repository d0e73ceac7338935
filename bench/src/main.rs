//! What a call costs, beside a bare echo over the same transport, measured in one run.
//!
//! Only ratios travel between machines, so everything is measured in turns (A B A B…) within one run, and a metric is the
//! median of the rounds' ratios. Echo servers and the host are processes of their own, single-threaded towards the
//! network as the host is; the client is this process.

mod calls;
mod echo;
mod languages;
mod memory;
mod proc;
mod report;
mod servers;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use steward_host::guest::{Isolation, Profile};

use crate::languages::Languages;
use crate::proc::Cores;
use crate::report::Report;

/// Measures what a call costs, beside a bare echo over the same transport.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    server: Option<Server>,
    /// Rounds of every comparison.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Prints one JSON object, metric name to `{median, min, max, runs, unit, limit}`, in place of the table.
    #[arg(long)]
    json: bool,
    /// Fails if a metric is beyond its limit.
    #[arg(long)]
    check: bool,
    /// Only metrics whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Which cores servers and client run on.
    #[arg(long, value_enum, default_value = "apart")]
    cores: Cores,
    /// Directory with leaderboard.wasm, conformance.wasm, c.wasm and go.wasm, as `cargo xtask plugins` makes them.
    #[arg(long, default_value = "target/plugins")]
    plugins: PathBuf,
    /// Plugin objects that share, for their memory to be measured.
    #[arg(long, default_value_t = 100_000)]
    shared_objects: usize,
}

/// What this program also is: its own servers.
#[derive(Subcommand)]
enum Server {
    /// Serves the echoes until stdin closes.
    #[command(hide = true)]
    Echo,
    /// Serves a host until stdin closes.
    #[command(hide = true)]
    Host {
        #[arg(long)]
        plugins: PathBuf,
        #[arg(long, default_value = "auto")]
        profile: Profile,
        /// With the same types in each language, in place of the usual plugins.
        #[arg(long)]
        languages: bool,
        #[arg(long, default_value = "object")]
        isolation: Isolation,
    },
    /// Compiles a plugin for the host.
    #[command(hide = true)]
    CompileComponent,
}

fn main() -> Result<()> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match options.server {
        Some(Server::Echo) => runtime.block_on(servers::echo()),
        Some(Server::Host { plugins, profile, languages, isolation }) => {
            servers::host(&plugins, profile, languages, isolation)
        }
        Some(Server::CompileComponent) => std::process::exit(match steward_host::guest::compile_main() {
            code if code == std::process::ExitCode::SUCCESS => 0,
            _ => 1,
        }),
        None => {
            proc::choose(options.cores)?;
            let report = runtime.block_on(measure(&options)).context("bench")?;
            report.print(options.json)?;
            if options.check {
                report.check()?;
            }
            Ok(())
        }
    }
}

async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.rounds, &options.only);
    let languages = Languages::start(&report, &options.plugins)?;
    calls::measure(&mut report, &options.plugins).await?;
    if let Some(languages) = languages {
        languages.measure(&mut report).await?;
    }
    memory::measure(&mut report, &options.plugins, options.shared_objects).await?;
    Ok(report)
}
