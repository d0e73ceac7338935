//! `cargo xtask COMMAND`.

use std::process::ExitCode;

use clap::Parser;

/// What building and testing Steward needs beyond cargo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Plugins(xtask::plugins::Plugins),
    Test(xtask::test::Test),
    Sim(xtask::sim::Sim),
    Demo(xtask::demo::Demo),
    Bench(xtask::bench::Bench),
    Faults(xtask::faults::Faults),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Plugins(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Sim(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Faults(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
