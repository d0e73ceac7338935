//! `steward deadlocks`: who waits for whom, in a circle.

use std::process::ExitCode;

use serde::Serialize;
use steward_client::DeadlockLink;

use super::connect::Connect;
use super::failure::Outcome;
use super::format::Format;

/// Lists cycles of owners that wait for each other's locks; needs a key with the role admin.
///
/// Each line is an owner that waits for a lock which the owner on the cycle's next line holds, the last for one of the first.
/// Such calls wait until a deadline, a cancel or the end of a session breaks the cycle. The host's log has told of each when
/// it closed. A lock made with `refuse_deadlocks=True` refuses the call that would close one.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Deadlocks {
    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward deadlocks
  steward deadlocks --json | jq length     # how many cycles
  steward create Lock refuse_deadlocks=true";

#[derive(Serialize)]
struct Line {
    cycle: usize,
    session: u64,
    owner: u64,
    waits_for: u64,
}

impl Deadlocks {
    pub(crate) fn run(self) -> Outcome {
        let Self { format, connect } = self;
        let cycles = connect.run(async |manager| Ok(manager.deadlocks().await?))?;
        let numbered = cycles.iter().zip(1..).flat_map(|(links, cycle)| links.iter().map(move |link| (cycle, *link)));
        let lines: Vec<_> = numbered
            .map(|(cycle, DeadlockLink { session, owner, ident, .. })| Line { cycle, session, owner, waits_for: ident })
            .collect();
        let row = |Line { cycle, session, owner, waits_for }: &Line| {
            vec![cycle.to_string(), session.to_string(), owner.to_string(), format!("#{waits_for}")]
        };
        let rows: Vec<_> = lines.iter().map(row).collect();
        format.table(&["cycle", "session", "owner", "waits for"], &rows, &lines)?;
        Ok(ExitCode::SUCCESS)
    }
}
