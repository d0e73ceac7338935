//! `steward new`: a project to begin with.

use std::path::PathBuf;
use std::process::ExitCode;

use steward_build::{Language, NewError, typeid};

use super::failure::{Failure, Outcome, Status};
use super::format::{line, say};
use super::repr::printable;

/// Writes a small complete plugin: source, test, README and the SDK that it is built with.
///
/// Prints the folder of the new project.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct New {
    /// Name of the project, of its folder and of its component; its type is called the same in capitals.
    name: String,

    /// Language: rust, c or go.
    #[arg(long, value_parser = language)]
    lang: Language,

    /// Folder. [default: one of the project's name]
    dir: Option<PathBuf>,

    /// Writes into a folder that is not empty. Files that differ are kept beside the new ones, as FILE.orig.
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  steward new --lang rust limiter && cd limiter && steward build
  steward new --lang go rate-limiter ~/plugins/limiter";

impl New {
    pub(crate) fn run(self) -> Outcome {
        let Self { name, lang, dir, force } = self;
        let dir = dir.unwrap_or_else(|| PathBuf::from(&name));
        if let Some(typeid) = typeid(&name).filter(|typeid| steward_objects::builtin(typeid).is_some()) {
            return Err(Failure::usage(format!("`{typeid}` is a built-in type")).hint("take another name"));
        }
        let kept = steward_build::new(&dir, &name, lang, force).map_err(|error| {
            let status = match error {
                NewError::Name(_) | NewError::Word { .. } | NewError::Exists(_) | NewError::Kept(_) => Status::Usage,
                NewError::Sdk(_) | NewError::Io { .. } => Status::Refused,
            };
            let failure = Failure::new(status, "NewFailed", error.to_string());
            match error {
                NewError::Name(name) => match steward_build::near_name(&name) {
                    Some(near) => failure.hint(format!("call it `{near}`")),
                    None => failure,
                },
                NewError::Word { .. } => failure.hint("take another name"),
                NewError::Exists(_) => failure.hint("`--force` keeps what differs as FILE.orig"),
                NewError::Kept(_) => failure.hint("look at the .orig files, and move them away"),
                _ => failure,
            }
        })?;
        for kept in kept {
            say(&format!("kept: {}", printable(&kept.display().to_string())));
        }
        line(&dir.display().to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn language(text: &str) -> Result<Language, String> {
    let found = Language::ALL.into_iter().find(|language| language.name() == text);
    found.ok_or_else(|| "known are rust, c, go".to_owned())
}
