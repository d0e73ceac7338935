//! The command line: one file a command, and beside them what commands share.
//!
//! stdout is data, stderr is everything else, and the exit status is the effect of what was asked for ([`failure::Status`]).

mod bench;
mod bindings;
mod build;
mod call;
mod check;
mod completions;
mod connect;
mod context;
mod create;
mod deadlocks;
mod delete;
mod demo;
mod dev;
mod doctor;
mod failure;
mod format;
mod json;
mod new;
mod objects;
mod paths;
mod plugins;
mod register;
mod repr;
mod run;
mod serve;
mod target;
mod test;
mod types;
mod versions;

use std::process::ExitCode;

use clap::Parser;

use failure::Outcome;

/// Shared objects for several programs: locks, queues, dicts and your own types, kept by a host.
#[derive(Parser)]
#[command(
    name = "steward",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = AFTER_HELP,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What goes to the log on stderr, as `info` or `steward_host=debug`.
    #[arg(long, env = "STEWARD_LOG", value_name = "FILTER", global = true, hide_short_help = true)]
    log: Option<String>,
}

const AFTER_HELP: &str = "\
Start with these two, in two terminals:
  steward serve
  steward call Queue/jobs put '\"hello\"'

Exit status, which says whether it happened:
  0 done     1 raised, or findings     2 usage     3 refused     4 unknown     5 object poisoned
  6 not connected or not signed in     130 interrupted.";

#[derive(clap::Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Demo(demo::Demo),
    Call(call::Call),
    Create(create::Create),
    Types(types::Types),
    Objects(objects::Objects),
    Deadlocks(deadlocks::Deadlocks),
    Delete(delete::Delete),
    New(new::New),
    Build(build::Build),
    Test(test::Test),
    Plugins(versions::Versions),
    Register(register::Register),
    Unregister(register::Unregister),
    Check(check::Check),
    Run(run::Run),
    Dev(dev::Dev),
    Bindings(bindings::Bindings),
    Bench(bench::Bench),
    Context(context::Context),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    /// Compiles one component for a host that started this process.
    #[command(hide = true)]
    CompileComponent,
    #[command(hide = true)]
    DemoWorker(demo::Worker),
}

impl Command {
    /// Whether errors are to be JSON.
    fn json(&self) -> bool {
        match self {
            Self::Serve(command) => command.json,
            Self::Call(command) => command.format.json,
            Self::Create(command) => command.format.json,
            Self::Types(command) => command.format.json,
            Self::Objects(command) => command.format.json,
            Self::Deadlocks(command) => command.format.json,
            Self::Build(command) => command.format.json,
            Self::Plugins(command) => command.format.json,
            Self::Register(command) => command.format.json,
            Self::Check(command) => command.format.json,
            Self::Doctor(command) => command.format.json,
            Self::Bench(command) => command.format.json,
            Self::Context(command) => command.json(),
            Self::Demo(_)
            | Self::Delete(_)
            | Self::New(_)
            | Self::Run(_)
            | Self::Dev(_)
            | Self::Bindings(_)
            | Self::Test(_)
            | Self::Unregister(_)
            | Self::Completions(_)
            | Self::CompileComponent
            | Self::DemoWorker(_) => false,
        }
    }

    fn run(self) -> Outcome {
        match self {
            Self::Serve(command) => command.run(),
            Self::Demo(command) => command.run(),
            Self::Call(command) => command.run(),
            Self::Create(command) => command.run(),
            Self::Types(command) => command.run(),
            Self::Objects(command) => command.run(),
            Self::Deadlocks(command) => command.run(),
            Self::Delete(command) => command.run(),
            Self::New(command) => command.run(),
            Self::Build(command) => command.run(),
            Self::Test(command) => command.run(),
            Self::Plugins(command) => command.run(),
            Self::Register(command) => command.run(),
            Self::Unregister(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Run(command) => command.run(),
            Self::Dev(command) => command.run(),
            Self::Bindings(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Context(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::CompileComponent => Ok(steward_host::guest::compile_main()),
            Self::DemoWorker(command) => command.run(),
        }
    }
}

/// Runs the command that the arguments say.
pub(crate) fn main() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    let usual = match &command {
        Command::Serve(serve) if !serve.is_private() => "warn,steward_host=info",
        _ => "warn",
    };
    if let Err(failure) = start_log(log.as_deref().unwrap_or(usual)) {
        return failure.report(command.json());
    }
    let json = command.json();
    command.run().unwrap_or_else(|failure| failure.report(json))
}

fn start_log(filter: &str) -> Result<(), failure::Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        failure::Failure::usage(format!("log filter `{filter}`: {error}")).hint("try `info` or `steward_host=debug`")
    })?;
    let colour = failure::is_coloured();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        // A closed stderr is no reason to panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
