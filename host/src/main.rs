//! `steward`: the command line of a host of shared objects. `docs/cli.md` is its chapter.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
