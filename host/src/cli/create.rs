//! `steward create`: a new object, or the one that has the name.

use std::process::ExitCode;

use serde::Serialize;

use super::connect::Connect;
use super::failure::Outcome;
use super::format::{Format, line, say};
use super::target::{Arguments, creating};

/// Creates an object and prints its ident.
///
/// An object lives for as long as somebody refers to it. With --name the host does; without, it goes with this command.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Create {
    /// Type, as `steward types` lists it.
    typeid: String,

    /// Arguments of its constructor, as for `steward call`.
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,

    /// Name that keeps it. If an object of this type has the name already, that one is meant.
    #[arg(long, short)]
    name: Option<String>,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward create Queue --name jobs maxsize=100
  steward create RateLimiter --name api rate=10 burst=5
  steward create dict --name config '{\"debug\": false}'

`steward delete NAME` takes the name away, and the object goes when nobody else refers to it.";

#[derive(Serialize)]
struct Created<'a> {
    typeid: &'a str,
    ident: u64,
    name: Option<&'a str>,
}

impl Create {
    pub(crate) fn run(self) -> Outcome {
        let Self { typeid, args, name, format, connect } = self;
        connect.run(async |manager| {
            let arguments = Arguments::read(&manager, &args).await?;
            let created = match &name {
                Some(name) => manager.create_named(name, &typeid, arguments.args).await,
                None => manager.create(&typeid, arguments.args).await,
            };
            let proxy = match created {
                Ok(proxy) => proxy,
                Err(error) => return Err(creating(&manager, &typeid, error).await),
            };
            if name.is_none() {
                say(&format!("warning: object {} goes with this command; --name NAME keeps it", proxy.ident()));
            }
            if format.json {
                format.data(&Created { typeid: &typeid, ident: proxy.ident().0, name: name.as_deref() })
            } else {
                line(&proxy.ident().to_string())
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
