//! `steward plugins`: which versions of which types a host has, and how their objects fare.

use std::process::ExitCode;

use steward_client::PluginInfo;

use super::connect::Connect;
use super::failure::Outcome;
use super::format::Format;

/// Lists the types of plugins with their versions, objects and traps; needs a key with the role admin.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Versions {
    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward plugins
  steward plugins --json                   # with the reason why an object last did not move";

impl Versions {
    pub(crate) fn run(self) -> Outcome {
        let Self { format, connect } = self;
        let plugins = connect.run(async |manager| Ok(manager.plugins().await?))?;
        let rows = |plugin: &PluginInfo| {
            // What happened is the type's and stands beside its newest version.
            let mut happened = [plugin.traps, plugin.poisoned, plugin.not_moved].map(|count| count.to_string());
            let mut rows = Vec::new();
            for version in plugin.versions.iter().rev() {
                let (typeid, source) = (plugin.typeid.clone(), version.plugin.clone());
                let (isolation, objects) = (version.isolation.to_string(), version.objects.to_string());
                let mut row = vec![typeid, version.version.clone(), source, isolation, objects];
                row.extend(std::mem::take(&mut happened));
                rows.push(row);
            }
            rows
        };
        let rows: Vec<_> = plugins.iter().flat_map(rows).collect();
        let header = ["type", "version", "plugin", "isolation", "objects", "traps", "poisoned", "not moved"];
        format.table(&header, &rows, &plugins)?;
        Ok(ExitCode::SUCCESS)
    }
}
