//! `steward delete`: takes a name away.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use steward_client::{Ident, Token};

use super::connect::Connect;
use super::failure::{Failure, Outcome, Status};
use super::repr::printable;
use super::target::Target;

/// Takes an object's name away: it goes when nobody else refers to it. Needs a key with the role admin.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  steward delete jobs --yes")]
pub(crate) struct Delete {
    /// Its name.
    name: String,

    /// Does not ask.
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Delete {
    pub(crate) fn run(self) -> Outcome {
        let Self { name, yes, connect } = self;
        if !yes && !io::stdin().is_terminal() {
            return Err(
                Failure::usage(format!("`{name}` is not deleted without a terminal to ask on")).hint("add --yes")
            );
        }
        connect.run(async |manager| {
            let proxy = Target::Name(name.clone()).find(&manager).await?;
            if !yes && !confirmed(&format!("Delete the name `{name}` of {} {}?", proxy.typeid(), proxy.ident()))? {
                return Err(Failure::new(Status::Refused, "NotConfirmed", format!("`{name}` is left as it is")));
            }
            let host = Token { typeid: "Manager".into(), ident: Ident::HOST, address: None };
            manager.proxy(&host)?.call::<()>("delete", (&name,)).await?;
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks on the terminal; anything but yes is no.
fn confirmed(question: &str) -> Result<bool, Failure> {
    eprint!("{} [y/N] ", printable(question));
    let mut answer = String::new();
    io::stderr()
        .flush()
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::usage(format!("cannot ask: {error}")).hint("add --yes"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
