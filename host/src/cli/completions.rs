//! `steward completions`: a script for a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::failure::Outcome;
use super::format::print;

/// Prints a script that completes commands and options.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// Shell that the script is for.
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  steward completions bash > ~/.local/share/bash-completion/completions/steward
  steward completions zsh > ~/.zfunc/_steward          # with ~/.zfunc in fpath
  steward completions fish > ~/.config/fish/completions/steward.fish";

impl Completions {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "steward", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
