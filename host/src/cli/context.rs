//! `steward context`: the hosts that are known by name.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;
use steward_client::context::{Context as Known, Contexts, DEFAULT, read_key};
use steward_wire::Address;

use super::failure::{Failure, Outcome};
use super::format::{Format, print};
use super::paths;

/// Hosts by name: lists, shows, adds, removes them, and chooses the one that is used.
///
/// They are kept in ~/.config/steward/contexts.toml, which every client reads. `steward serve` makes `local`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Context {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  steward context add prod steward://10.0.0.7:7777 --tenant acme --key-file ~/keys/acme.key
  steward context use prod
  steward call jobs qsize                  # there
  steward call jobs qsize -c local         # here";

#[derive(Subcommand)]
enum Verb {
    /// Lists the contexts; the current one has a star.
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Makes a context the current one.
    Use {
        /// Its name.
        name: String,
    },
    /// Adds a context, or replaces it.
    Add {
        /// Its name.
        name: String,
        /// `steward://host:port` or `steward+unix:///path`.
        address: String,
        /// Tenant to sign in to. [default: default]
        #[arg(long)]
        tenant: Option<String>,
        /// Which of the tenant's keys. [default: default]
        #[arg(long)]
        key_id: Option<String>,
        /// File with the key in hex. Without one, STEWARD_KEY or --key-file is needed at each use.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// The host's certificate, as `sha256:…`; `steward serve` prints it.
        #[arg(long)]
        pin: Option<String>,
    },
    /// Shows a context.
    Show {
        /// Its name. [default: the current one]
        name: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Removes a context. Its key file stays.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    current: bool,
    #[serde(flatten)]
    context: &'a Known,
}

impl Context {
    /// Whether errors are to be JSON.
    pub(crate) fn json(&self) -> bool {
        match self.verb {
            Verb::List { format } | Verb::Show { format, .. } => format.json,
            _ => false,
        }
    }

    pub(crate) fn run(self) -> Outcome {
        let path = paths::contexts()?;
        let mut contexts = Contexts::read(&path).map_err(broken)?;
        match self.verb {
            Verb::List { format } => list(format, &contexts)?,
            Verb::Show { name, format } => {
                let context = contexts.get(name.as_deref(), &path).map_err(broken)?;
                show(format, &context)?;
            }
            Verb::Use { name } => {
                contexts.get(Some(&name), &path).map_err(broken)?;
                contexts.current = Some(name);
                contexts.write(&path).map_err(broken)?;
            }
            Verb::Add { name, address, tenant, key_id, key_file, pin } => {
                let legal = |char: char| char.is_alphanumeric() || matches!(char, '-' | '_' | '.');
                if name.is_empty() || !name.chars().all(legal) {
                    let message = format!("`{name}` is no name for a context: letters, digits, `-`, `_`, `.`");
                    return Err(Failure::usage(message));
                }
                if let Err(error) = address.parse::<Address>() {
                    return Err(Failure::usage(error.to_string()));
                }
                let key_file = key_file.map(|file| paths::absolute(&file)).transpose()?;
                if let Some(file) = &key_file {
                    read_key(file).map_err(broken)?;
                }
                contexts.contexts.insert(name, Known { address, tenant, key_id, key_file, pin });
                contexts.write(&path).map_err(broken)?;
            }
            Verb::Remove { name } => {
                contexts.get(Some(&name), &path).map_err(broken)?;
                contexts.contexts.remove(&name);
                contexts.current = contexts.current.filter(|current| *current != name);
                contexts.write(&path).map_err(broken)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(format: Format, contexts: &Contexts) -> Result<(), Failure> {
    let current = contexts.current.as_deref().unwrap_or(DEFAULT);
    let lines: Vec<_> =
        contexts.contexts.iter().map(|(name, context)| Line { name, current: name == current, context }).collect();
    let row = |line: &Line<'_>| {
        let Known { address, tenant, .. } = line.context.clone();
        let star = if line.current { "*" } else { "" };
        vec![star.to_owned(), line.name.to_owned(), address, tenant.unwrap_or_else(|| "default".into())]
    };
    format.table(&["", "name", "address", "tenant"], &lines.iter().map(row).collect::<Vec<_>>(), &lines)
}

fn show(format: Format, context: &Known) -> Result<(), Failure> {
    if format.json {
        return format.data(context);
    }
    let Known { address, tenant, key_id, key_file, pin } = context.clone();
    let or_default = |name: Option<String>| name.unwrap_or_else(|| "default".into());
    let mut text = format!("address\t{address}\ntenant\t{}\nkey_id\t{}\n", or_default(tenant), or_default(key_id));
    if let Some(key_file) = key_file {
        text.push_str(&format!("key_file\t{}\n", key_file.display()));
    }
    if let Some(pin) = pin {
        text.push_str(&format!("pin\t{pin}\n"));
    }
    print(&text)
}

/// What is wrong with a file is a matter of usage here: nothing was to be connected to.
fn broken(error: steward_client::ConfigError) -> Failure {
    Failure::usage(error.to_string())
}
