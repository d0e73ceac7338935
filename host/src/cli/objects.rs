//! `steward objects`: what the tenant has.

use std::process::ExitCode;

use serde::Serialize;
use steward_client::ObjectInfo;

use super::connect::Connect;
use super::failure::Outcome;
use super::format::Format;

/// Lists the objects of the tenant; needs a key with the role admin.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Objects {
    /// Only those in which calls wait.
    #[arg(long)]
    waiting: bool,

    /// Only those of this type.
    #[arg(long = "type", value_name = "TYPE")]
    typeid: Option<String>,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward objects --waiting
  steward objects --type Queue | cut -f2   # a pipe gets tabs and no header";

#[derive(Serialize)]
struct Line<'a> {
    typeid: &'a str,
    name: Option<&'a str>,
    ident: u64,
    references: u32,
    waiters: Option<u64>,
}

impl Objects {
    pub(crate) fn run(self) -> Outcome {
        let Self { waiting, typeid, format, connect } = self;
        let mut objects = connect.run(async |manager| Ok(manager.objects().await?))?;
        objects.retain(|object| {
            // One that is being stepped at this moment does not say; it is not left out.
            (!waiting || object.waiters != Some(0)) && typeid.as_ref().is_none_or(|typeid| object.typeid == *typeid)
        });
        let row = |object: &ObjectInfo| {
            let ObjectInfo { ident, typeid, name, references, waiters, .. } = object.clone();
            let waiters = waiters.map(|waiters| waiters.to_string()).unwrap_or_default();
            vec![typeid, name.unwrap_or_default(), format!("#{ident}"), references.to_string(), waiters]
        };
        let rows: Vec<_> = objects.iter().map(row).collect();
        let lines: Vec<_> = objects
            .iter()
            .map(|object| Line {
                typeid: &object.typeid,
                name: object.name.as_deref(),
                ident: object.ident,
                references: object.references,
                waiters: object.waiters,
            })
            .collect();
        format.table(&["type", "name", "ident", "references", "waiters"], &rows, &lines)?;
        Ok(ExitCode::SUCCESS)
    }
}
