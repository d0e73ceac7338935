//! `cargo xtask COMMAND`.

use clap::Parser;

/// What building and testing Steward needs beyond cargo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Plugins(xtask::plugins::Plugins),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Plugins(command) => command.run(),
    }
}
