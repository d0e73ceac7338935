//! `steward-faults`: runs clients and a host under faults and checks what they saw. `cargo xtask faults` builds and runs it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use steward_faults::churn::{self, ChurnRole};
use steward_faults::client::ClientRole;
use steward_faults::cuts;
use steward_faults::host::HostOptions;
use steward_faults::kit::{self, Options, Outcome};

/// Runs a host and many client processes under faults, and checks every operation that they did.
///
/// Clients are behind proxies that lose, duplicate, reorder, change and delay packets, move addresses and cut connections;
/// processes are stopped and killed. What goes wrong when is drawn by the seed. At the end the faults cease, and all that
/// clients saw must be explained by one history of each object. The last line is `N operations, N faults, N violations`.
#[derive(Parser)]
#[command(name = "steward-faults", bin_name = "cargo xtask faults", args_conflicts_with_subcommands = true)]
struct Faults {
    #[command(subcommand)]
    role: Option<Role>,

    /// How long clients work under faults. Checking takes some more time.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,

    /// Minutes after which a new round begins, with a host and objects of its own and the next seed: what nobody saw must be
    /// explained, and the ways in which it can be multiply in a long history.
    #[arg(long, value_name = "MINUTES", default_value_t = 1.5)]
    round: f64,

    /// What faults and work are drawn from. The same seed gives the same faults; their timing is the machine's.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Client processes. Each fourth uses the Unix socket, the others QUIC.
    #[arg(long, value_name = "N", default_value_t = 16)]
    clients: usize,

    /// Tasks of each client, which make one call at a time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    tasks: u64,

    /// Ends after so many operations, if that comes first.
    #[arg(long, value_name = "N")]
    operations: Option<u64>,

    /// Milliseconds between two faults, on average; 0: no faults.
    #[arg(long, value_name = "MS", default_value_t = 250)]
    pace_ms: u64,

    /// How long a silent session lives; 4000 at least.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    lease_ms: u64,

    /// Keeps the histories in this directory, which must be empty. Without it they are kept only if something is wrong.
    #[arg(long, value_name = "DIR")]
    histories: Option<PathBuf>,

    /// In place of all that: cuts so many replies of the host to one client on a Unix socket, each at a random byte, and checks
    /// that every call happened once. The last line is `N cuts, N calls, N violations`.
    #[arg(long, value_name = "N")]
    cuts: Option<u64>,

    /// In place of all that: has clients come, use everything, and leave, vanish or be killed for so many minutes, and looks whether the
    /// host grows. The last line is `N sessions, N kills, N % per 10 minutes, N violations`.
    #[arg(long, value_name = "MINUTES")]
    churn: Option<f64>,

    /// In place of all that: checks the histories that a run has kept in this directory.
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,

    /// The program `steward`.
    #[arg(long, value_name = "FILE", hide = true, default_value = "steward")]
    steward: PathBuf,

    /// Component with further types.
    #[arg(long, value_name = "FILE.wasm", hide = true)]
    plugin: Vec<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Role {
    #[command(hide = true)]
    Client(ClientRole),
    #[command(hide = true)]
    Churn(ChurnRole),
}

impl Faults {
    fn run(self) -> Result<bool> {
        match self.role {
            Some(Role::Client(client)) => return client.run().map(|()| true),
            Some(Role::Churn(client)) => return client.run().map(|()| true),
            None => {}
        }
        if let Some(directory) = self.check {
            let mut outcome = Outcome::default();
            kit::certify(&directory, &mut outcome)?;
            return Ok(tell(&outcome));
        }
        let host = HostOptions { program: self.steward, plugins: self.plugin, lease_ms: self.lease_ms };
        // Sessions of the kit's own go on while it starts and ends processes.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        if let Some(cuts) = self.cuts {
            let outcome = runtime.block_on(cuts::run_with_host(&host, cuts, self.seed))?;
            outcome.violations.iter().for_each(|violation| eprintln!("violation: {violation}"));
            println!("{outcome}");
            return Ok(outcome.violations.is_empty());
        }
        if let Some(minutes) = self.churn {
            let duration = Duration::from_secs_f64(minutes * 60.0);
            let (program, seed, clients) = (std::env::current_exe()?, self.seed, self.clients);
            let outcome = runtime.block_on(churn::run(&churn::Options { host, program, duration, seed, clients }))?;
            outcome.violations.iter().for_each(|violation| eprintln!("violation: {violation}"));
            println!("{outcome}");
            return Ok(outcome.violations.is_empty());
        }
        let mut options = Options {
            host,
            program: std::env::current_exe()?,
            duration: Duration::ZERO,
            operations: self.operations,
            seed: self.seed,
            clients: self.clients,
            tasks: self.tasks,
            pace: Duration::from_millis(self.pace_ms),
            directory: None,
        };
        let rounds = (self.minutes / self.round).ceil().max(1.0);
        let mut sum = Outcome::default();
        for round in 0..rounds as u64 {
            options.duration = Duration::from_secs_f64(self.minutes * 60.0 / rounds);
            options.seed = self.seed + round;
            options.directory = self.histories.as_ref().map(|directory| directory.join(round.to_string()));
            let outcome = runtime.block_on(kit::run(&options))?;
            if rounds > 1.0 {
                eprintln!("round {} of {rounds}, seed {}: {outcome}", round + 1, options.seed);
            }
            sum.add(outcome);
        }
        Ok(tell(&sum))
    }
}

/// Says what came of a run, and whether that is good.
fn tell(outcome: &Outcome) -> bool {
    outcome.violations.iter().for_each(|violation| eprintln!("violation: {violation}"));
    outcome.undecided.iter().for_each(|undecided| eprintln!("undecided: {undecided}"));
    println!("{outcome}");
    outcome.is_good()
}

fn main() -> ExitCode {
    match Faults::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
