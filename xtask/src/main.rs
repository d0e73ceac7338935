//! `cargo xtask COMMAND`.

use std::process::ExitCode;

use clap::Parser;

/// What building and testing Steward needs beyond cargo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Plugins(xtask::plugins::Plugins),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Plugins(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
