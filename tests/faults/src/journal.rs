//! What a client process writes down, so that nothing that it may have done is missing when it is killed.
//!
//! Each client has two files: in one, every call before it is sent; in the other, every call when it has ended. What was
//! begun and not ended is of unknown end.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use steward_certify::{Log, Operation, Outcome, Record, SessionEnd, history};

const BEGUN: &str = "begun";
const ENDED: &str = "jsonl";

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The two files of a client.
#[derive(Debug)]
pub struct Journal {
    begun: Log,
    ended: Log,
}

impl Journal {
    /// Opens the files of the client called `name`.
    ///
    /// # Errors
    /// Those of the files.
    pub fn open(directory: &Path, name: &str) -> Result<Self> {
        let open = |extension| {
            let path = directory.join(name).with_extension(extension);
            Log::open(&path).with_context(|| path.display().to_string())
        };
        Ok(Self { begun: open(BEGUN)?, ended: open(ENDED)? })
    }

    /// Notes a call that is about to be sent, with an outcome that is unknown.
    ///
    /// # Errors
    /// Those of the file.
    pub fn begin(&mut self, operation: &Operation) -> Result<()> {
        debug_assert_eq!(operation.outcome, Outcome::Unknown);
        Ok(self.begun.record(&Record::Call(operation.clone()))?)
    }

    /// Notes what became of something, a call for example.
    ///
    /// # Errors
    /// Those of the file.
    pub fn end(&mut self, record: &Record) -> Result<()> {
        Ok(self.ended.record(record)?)
    }
}

/// What only the run itself knows, and what bounds the lives of sessions: beside the clients' files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunNotes {
    /// How long a silent session lives.
    pub lease_ms: u64,
    /// Which clients were killed, and when that was done.
    pub kills: Vec<(u32, u64)>,
    /// From when to when the host was stopped.
    pub host_pauses: Vec<(u64, u64)>,
}

/// Where they stand.
const RUN_NOTES: &str = "run.json";
/// How much later than promised a session's end is taken for granted: the host sweeps, and the machine is busy.
const SESSION_LATE_NS: u64 = 3_000_000_000;
/// The same of a call's deadline.
const CALL_LATE_NS: u64 = 1_000_000_000;

impl RunNotes {
    /// Writes them to a directory of histories.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(std::fs::write(directory.join(RUN_NOTES), serde_json::to_vec(self)?)?)
    }

    /// When a session is over whose client was last able to speak at `last_ns`.
    fn session_over_ns(&self, last_ns: u64) -> u64 {
        self.over_ns(last_ns, self.lease_ms * 1_000_000 + SESSION_LATE_NS)
    }

    /// When a call is over, answered or not, that such a client made.
    fn call_over_ns(&self, last_ns: u64, call: &Operation) -> Option<u64> {
        // A condition's wait takes its lock again, and has no deadline for that.
        let deadline_ms = call.deadline_ms.filter(|_| call.method != "wait")?;
        Some(self.over_ns(last_ns, deadline_ms * 1_000_000 + CALL_LATE_NS))
    }

    fn over_ns(&self, last_ns: u64, beyond_ns: u64) -> u64 {
        let mut over_ns = last_ns + beyond_ns;
        for &(from_ns, until_ns) in &self.host_pauses {
            // After its own pause the host gives every session a fresh lease; and deadlines pass late.
            if from_ns <= over_ns {
                over_ns = over_ns.max(until_ns + beyond_ns);
            }
        }
        over_ns
    }
}

/// Reads the files of all clients in a directory: a record for each call, and one for the end of each session that did not
/// take its leave.
///
/// # Errors
/// A file that cannot be read, or is no history.
pub fn read_all(directory: &Path) -> Result<Vec<Record>> {
    let (mut begun, mut records) = (Vec::new(), Vec::new());
    let mut notes = None;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(BEGUN) => begun.extend(history::read(&path)?),
            Some(ENDED) => records.extend(history::read(&path)?),
            _ if path.ends_with(RUN_NOTES) => notes = Some(serde_json::from_slice(&std::fs::read(&path)?)?),
            _ => {}
        }
    }
    let ended: HashSet<_> = calls(&records).map(name).collect();
    let unknown: Vec<_> = calls(&begun).filter(|operation| !ended.contains(&name(operation))).cloned().collect();
    records.extend(unknown.into_iter().map(Record::Call));
    let lost = lost_sessions(&records, notes.as_ref());
    for record in &mut records {
        if let (Record::Call(call), Some(notes)) = (record, &notes)
            && call.outcome == Outcome::Unknown
        {
            let lost = lost.iter().find(|lost| lost.end.session == call.session);
            call.returned_ns = lost.and_then(|lost| notes.call_over_ns(lost.silent_ns?, call));
        }
    }
    records.extend(lost.into_iter().map(|lost| Record::SessionEnd(lost.end)));
    Ok(records)
}

fn calls(records: &[Record]) -> impl Iterator<Item = &Operation> {
    records.iter().filter_map(|record| match record {
        Record::Call(operation) => Some(operation),
        _ => None,
    })
}

/// What names a call: an owner makes one at a time.
fn name(operation: &Operation) -> (u64, u64, u64) {
    (operation.session, operation.owner, operation.invoked_ns)
}

/// A session, as its calls show it.
struct Seen {
    client: u32,
    first_ns: u64,
    /// When it was surely alive: as a call that the host answered was made. The answer may have waited for a client that
    /// was stopped.
    last_ns: u64,
}

/// A session that did not take its leave.
struct Lost {
    end: SessionEnd,
    /// From when on its client said nothing more.
    silent_ns: Option<u64>,
}

fn lost_sessions(records: &[Record], notes: Option<&RunNotes>) -> Vec<Lost> {
    let mut sessions = BTreeMap::<u64, Seen>::new();
    for &Operation { client, session, invoked_ns, at, .. } in calls(records) {
        let seen = sessions.entry(session).or_insert(Seen { client, first_ns: invoked_ns, last_ns: 0 });
        seen.first_ns = seen.first_ns.min(invoked_ns);
        if at.is_some() {
            seen.last_ns = seen.last_ns.max(invoked_ns);
        }
    }
    let mut lost = Vec::new();
    for (&session, seen) in &sessions {
        if records.iter().any(|record| matches!(record, Record::SessionEnd(end) if end.session == session)) {
            continue;
        }
        let silent_ns = notes.and_then(|notes| {
            // A client begins another session only once it has given up the last.
            let next = sessions.range(session + 1..).find(|(_, next)| next.client == seen.client);
            let killed_ns =
                notes.kills.iter().find(|(client, _)| *client == seen.client).map(|&(_, killed_ns)| killed_ns);
            next.map(|(_, next)| next.first_ns).or(killed_ns)
        });
        let until_ns = notes.zip(silent_ns).map(|(notes, silent_ns)| notes.session_over_ns(silent_ns));
        let end = SessionEnd { session, from_ns: seen.last_ns, until_ns, orderly: false };
        lost.push(Lost { end, silent_ns });
    }
    lost
}

#[cfg(test)]
mod tests {
    use steward_certify::At;

    use super::*;

    fn operation(session: u64, invoked_ns: u64) -> Operation {
        Operation {
            client: 1,
            session,
            owner: 1,
            object: 1,
            method: "put".into(),
            args: Vec::new(),
            deadline_ms: None,
            guard: None,
            invoked_ns,
            returned_ns: None,
            outcome: Outcome::Unknown,
            at: None,
            grant: None,
        }
    }

    #[test]
    fn call_without_an_end_is_unknown_and_its_session_lost() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), "c1").unwrap();
        let returned = Operation {
            returned_ns: Some(12),
            outcome: Outcome::Returned(serde_json::Value::Null),
            at: Some(At { epoch: 1, version: 1, index: 0 }),
            ..operation(7, 10)
        };
        journal.begin(&operation(7, 10)).unwrap();
        journal.end(&Record::Call(returned.clone())).unwrap();
        journal.begin(&operation(7, 20)).unwrap();

        let end = SessionEnd { session: 8, from_ns: 1, until_ns: Some(2), orderly: true };
        let mut other = Journal::open(directory.path(), "c2").unwrap();
        other.end(&Record::SessionEnd(end)).unwrap();

        let records = read_all(directory.path()).unwrap();
        let lost = SessionEnd { session: 7, from_ns: 10, until_ns: None, orderly: false };
        let expected =
            [Record::Call(returned), Record::Call(operation(7, 20)), Record::SessionEnd(end), Record::SessionEnd(lost)];
        assert_eq!(records.len(), expected.len());
        for record in expected {
            assert!(records.contains(&record), "{record:?} in {records:?}");
        }
    }

    #[test]
    fn session_of_a_killed_client_is_over_a_lease_after_its_death_or_the_hosts_pause() {
        let notes = |host_pauses| RunNotes { lease_ms: 1, kills: vec![(1, 50)], host_pauses };
        let over = |notes: &RunNotes| lost_sessions(&[Record::Call(operation(7, 20))], Some(notes))[0].end.until_ns;
        let lease_ns = 1_000_000 + SESSION_LATE_NS;
        assert_eq!(over(&notes(vec![])), Some(50 + lease_ns));
        assert_eq!(over(&notes(vec![(60, 70)])), Some(70 + lease_ns));
        assert_eq!(over(&notes(vec![(lease_ns + 60, lease_ns + 70)])), Some(50 + lease_ns));
    }
}
