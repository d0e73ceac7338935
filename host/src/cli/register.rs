//! `steward register` and `steward unregister`: plugins that come and go while a host runs.

use std::path::PathBuf;
use std::process::ExitCode;

use steward_client::{Isolation, RegisterOptions, Registered};

use super::connect::Connect;
use super::failure::{Failure, Outcome, did_you_mean};
use super::format::{Format, print, say};
use super::plugins;
use super::repr::printable;

/// Registers a plugin's types with a running host. Needs a key with the role admin.
///
/// The host keeps them until it ends: name the plugin to `steward serve --plugin`, too.
#[derive(clap::Args)]
#[command(after_help = REGISTER)]
pub(crate) struct Register {
    /// The component.
    plugin: PathBuf,

    /// Types that are registered become this version; their objects move with their next call.
    #[arg(long)]
    replace: bool,

    /// Memory that an object may have; what the component starts with, if that is more. [default: what the host's profile gives]
    #[arg(long, value_name = "BYTES", value_parser = plugins::memory_bytes)]
    memory_bytes: Option<usize>,

    /// Registers this type only.
    #[arg(long = "type", value_name = "TYPE")]
    typeid: Option<String>,

    /// What keeps objects apart: a sandbox for each (object), or one for many (shared), which takes little memory and types that
    /// save. [default: object; with --replace, as it was]
    #[arg(long, value_name = "object|shared")]
    isolation: Option<Isolation>,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const REGISTER: &str = "\
Examples:
  steward register limiter.wasm
  steward register limiter.wasm --memory-bytes 1048576
  steward register limiter.wasm --replace -c prod
  steward register board.wasm --isolation shared      # a million of them";

impl Register {
    pub(crate) fn run(self) -> Outcome {
        let Self { plugin, replace, memory_bytes, typeid, isolation, format, connect } = self;
        let memory_bytes = memory_bytes.map(|bytes| bytes as u64);
        let component = std::fs::read(&plugin).map_err(|error| plugins::unreadable(&plugin, &error))?;
        let registered = connect.run(async |manager| {
            let options = RegisterOptions { replaces: replace, typeid, memory_bytes, isolation };
            manager.register_with(&component, options).await.map_err(|error| {
                let failure = Failure::from(error);
                match () {
                    () if failure.is("Taken") => failure.hint("add --replace to make this its newest version"),
                    () if failure.is("BadPlugin") => {
                        failure.hint(format!("`steward check {}` says more", plugin.display()))
                    }
                    () => failure,
                }
            })
        })?;
        if format.json {
            print(&(serde_json::to_string(&registered).expect("texts and numbers are JSON") + "\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        for registered in &registered {
            print(&(printable(&line(registered)) + "\n"))?;
            if let Some(note) = &registered.note {
                say(&format!("note: {}: {note}", printable(&registered.typeid)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Registers a component's types, or makes it their newest version: what became of each, in lines.
pub(crate) fn replace(connect: &Connect, component: &[u8]) -> Result<Vec<String>, Failure> {
    let registered = connect.run(async |manager| Ok(manager.register(component, true).await?))?;
    Ok(registered.iter().map(|registered| printable(&line(registered))).collect())
}

/// `RateLimiter 1.0.0 → 1.1.0: 412 objects will move`.
fn line(registered: &Registered) -> String {
    let Registered { typeid, from, to, will_move, will_stay, .. } = registered;
    let Some(from) = from else { return format!("{typeid} {to}") };
    let objects = |count: u64| if count == 1 { "1 object".to_owned() } else { format!("{count} objects") };
    let mut line = format!("{typeid} {from} → {to}: {} will move", objects(*will_move));
    if *will_stay > 0 {
        line.push_str(&format!(", {} will stay, which cannot be saved and loaded", objects(*will_stay)));
    }
    line
}

/// Removes a plugin's type from a running host. Needs a key with the role admin.
///
/// Its objects go on with the version that they have.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  steward unregister RateLimiter")]
pub(crate) struct Unregister {
    /// The type.
    typeid: String,

    /// Its objects fail from now on.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Unregister {
    pub(crate) fn run(self) -> Outcome {
        let Self { typeid, force, connect } = self;
        let objects = connect.run(async |manager| match manager.unregister(&typeid, force).await {
            Ok(objects) => Ok(objects),
            Err(error) => {
                let failure = Failure::from(error);
                if !failure.is("UnknownType") {
                    return Err(failure);
                }
                let plugins = manager.plugins().await.unwrap_or_default();
                let near = did_you_mean(&typeid, plugins.iter().map(|plugin| plugin.typeid.as_str()));
                Err(failure.hint(near.unwrap_or_else(|| "`steward plugins` lists those there are".into())))
            }
        })?;
        let fate = if force { "poisoned" } else { "left as they are" };
        print(&format!("{} removed, objects {fate}: {objects}\n", printable(&typeid)))?;
        Ok(ExitCode::SUCCESS)
    }
}
