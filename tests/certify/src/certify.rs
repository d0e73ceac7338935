//! The report, and how it comes about.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::call::{Call, CallId, Made};
use crate::guards;
use crate::history::{Record, SessionEnd};
use crate::model::{Complaint, Kind, Model};
use crate::order;
use crate::replay::{self, Replay, Search, Stop};
use crate::values::{Name, Values};

/// What the host promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// Mutual exclusion holds, fences of an object only rise, a stale guard never has an effect.
    R1,
    /// A waiter whose session has expired is never granted anything.
    R2,
    /// A call takes effect at most once, and its result is that of its turn.
    R3,
    /// A queue loses and reorders nothing; an item comes again only if its getter's session ended before acknowledging it.
    R4,
    /// A semaphore is never over-issued, barrier generations never mix, no wake-up is lost.
    R5,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// The object's ident.
    pub object: u64,
    /// What happened that must not.
    pub text: String,
    /// The records that show it.
    pub records: Vec<Record>,
}

/// An object of which it cannot be told, within bounds, whether its history is right.
#[derive(Clone, Debug)]
pub struct Undecided {
    /// The object's ident.
    pub object: u64,
    /// How far it was followed, and why not farther.
    pub text: String,
}

/// Something in the history that the checker cannot take: neither a pass nor a broken promise.
#[derive(Clone, Debug)]
pub struct HistoryError {
    /// The object's ident.
    pub object: u64,
    /// What it is.
    pub text: String,
    /// Where it stands.
    pub records: Vec<Record>,
}

/// What became of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many calls were checked.
    pub operations: u64,
    /// Of how many objects.
    pub objects: u64,
    /// How many changes that no client saw were explained by calls of unknown end and ends of sessions.
    pub explained: u64,
    /// The broken promises: per object the first that the replay met, and all that order, fences and guards show.
    pub violations: Vec<Violation>,
    /// The objects that could not be followed to their end.
    pub undecided: Vec<Undecided>,
    /// What is wrong with the history itself.
    pub errors: Vec<HistoryError>,
}

impl Report {
    /// Whether the history is proven right, all of it.
    pub fn is_proof(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty() && self.errors.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, objects, explained, violations, undecided, errors } = self;
        writeln!(
            f,
            "{operations} calls of {objects} objects: {} violations, {} undecided, {} errors of the history; {explained} \
             changes that nobody saw were explained",
            violations.len(),
            undecided.len(),
            errors.len()
        )?;
        let mut show = |what: &str, object: u64, text: &str, records: &[Record]| -> fmt::Result {
            writeln!(f, "{what}, object {object}: {text}")?;
            for record in records {
                match serde_json::to_string(record) {
                    Ok(line) => writeln!(f, "    {line}")?,
                    Err(error) => writeln!(f, "    a record that cannot be shown: {error}")?,
                }
            }
            Ok(())
        };
        for Violation { promise, object, text, records } in violations {
            show(&format!("{promise:?} broken"), *object, text, records)?;
        }
        for Undecided { object, text } in undecided {
            show("undecided", *object, text, &[])?;
        }
        for HistoryError { object, text, records } in errors {
            show("error of the history", *object, text, records)?;
        }
        Ok(())
    }
}

/// All that is known, read once.
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) ends: HashMap<u64, SessionEnd>,
    pub(crate) values: Values,
}

impl History {
    /// Records that show something.
    pub(crate) fn records(&self, calls: impl IntoIterator<Item = CallId>) -> Vec<Record> {
        calls.into_iter().map(|call| Record::Call(self.calls[call as usize].operation(&self.values))).collect()
    }
}

/// One object's part of the history.
pub(crate) struct Object {
    pub(crate) ident: u64,
    pub(crate) made: Made,
    /// Answered calls, by place.
    pub(crate) known: Vec<CallId>,
    /// All others that may have taken effect: of unknown end, or given up while they waited.
    pub(crate) unknown: Vec<CallId>,
    pub(crate) kinds: HashMap<Name, Kind>,
    /// Which calls the replay found to have changed the object, in step with `known`.
    pub(crate) changed: Vec<bool>,
}

impl Object {
    pub(crate) fn promise(&self) -> Promise {
        Model::promise(&self.made.typeid)
    }
}

/// Checks a history: the records of all clients, in any order.
///
/// An object must be made by one record; several that say the same are one. Per object the replay stops at its first
/// violation, since what follows has no state to be held against; order, fences and guards are checked to the end.
pub fn certify(records: impl IntoIterator<Item = Record>) -> Report {
    check(records, Search::Fast)
}

/// The same by a search that treats no two explanations as one: only for small histories, to check [`certify`] by.
pub fn certify_plainly(records: impl IntoIterator<Item = Record>) -> Report {
    check(records, Search::Plain)
}

fn check(records: impl IntoIterator<Item = Record>, search: Search) -> Report {
    let mut report = Report::default();
    let mut history = History { calls: Vec::new(), ends: HashMap::new(), values: Values::default() };
    let mut objects = BTreeMap::<u64, Object>::new();
    for record in records {
        match record {
            Record::Object(made) => {
                let ident = made.object;
                let made = Made::new(made, &mut history.values);
                if let Some(earlier) = objects.get(&ident) {
                    if earlier.made != made {
                        report.error(&history, ident, "it was made twice, in different ways", []);
                    }
                    continue;
                }
                let (known, unknown, kinds, changed) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
                objects.insert(ident, Object { ident, made, known, unknown, kinds, changed });
            }
            Record::Call(operation) => {
                let id = CallId::try_from(history.calls.len()).expect("fewer than 2^32 calls");
                history.calls.push(Call::new(id, operation, &mut history.values));
            }
            Record::SessionEnd(end) => {
                history.ends.entry(end.session).and_modify(|known| *known = joined(*known, end)).or_insert(end);
            }
        }
    }
    report.operations = history.calls.len() as u64;
    report.objects = objects.len() as u64;
    replay::mark_unacknowledged(&mut history);
    sort_in(&mut history, &mut objects, &mut report);
    for object in objects.values_mut() {
        let model = match Model::new(&object.made, &mut history.values) {
            Ok(model) => model,
            Err(Complaint { text, .. }) => {
                report.error(&history, object.ident, &text, []);
                continue;
            }
        };
        let (explained, stop) = Replay::run(&mut history, object, model, search);
        report.explained += explained;
        match stop {
            None => {}
            Some(Stop::Complaint(complaint, calls)) if complaint.not_modelled => {
                report.error(&history, object.ident, &complaint.text, calls);
            }
            Some(Stop::Complaint(Complaint { promise, text, .. }, calls)) => {
                let promise = promise.unwrap_or(object.promise());
                report.violation(&history, promise, object.ident, text, calls);
            }
            Some(Stop::Undecided(text)) => report.undecided.push(Undecided { object: object.ident, text }),
        }
        order::check(&history, object, &mut report);
    }
    guards::check(&history, &objects, &mut report);
    report
}

/// Gives each object its calls, in order.
fn sort_in(history: &mut History, objects: &mut BTreeMap<u64, Object>, report: &mut Report) {
    for call in &history.calls {
        let Some(object) = objects.get_mut(&call.object) else {
            report.error(history, call.object, "it was called, but no record says how it was made", [call.id]);
            continue;
        };
        let method = history.values.text(call.method);
        match object.kinds.get(&call.method).copied().or_else(|| Model::kind(&object.made.typeid, &method)) {
            Some(kind) => {
                object.kinds.insert(call.method, kind);
            }
            None => {
                let text = format!("not modelled: method `{method}` of `{}`", object.made.typeid);
                report.error(history, object.ident, &text, [call.id]);
                continue;
            }
        }
        if call.is_answered() {
            match call.at {
                Some(_) => object.known.push(call.id),
                None => report.error(history, object.ident, "a reply of a step that has no place", [call.id]),
            }
        } else if replay::may_have_happened(call, &history.values) {
            object.unknown.push(call.id);
        }
    }
    for object in objects.values_mut() {
        object.known.sort_by_key(|call| history.calls[*call as usize].at);
        object.changed = vec![false; object.known.len()];
        let epoch = |call: &CallId| history.calls[*call as usize].at.map(|at| at.epoch);
        if let (Some(first), Some(last)) = (object.known.first(), object.known.last())
            && epoch(first) != epoch(last)
        {
            let text = "replies of two epochs: an object does not outlive its host";
            report.violation(history, object.promise(), object.ident, text.to_owned(), [*first, *last]);
        }
    }
}

/// Two records of one session's end.
fn joined(a: SessionEnd, b: SessionEnd) -> SessionEnd {
    let until_ns = [a.until_ns, b.until_ns].into_iter().flatten().min();
    SessionEnd { from_ns: a.from_ns.max(b.from_ns), until_ns, orderly: a.orderly && b.orderly, ..a }
}

impl Report {
    pub(crate) fn violation(
        &mut self,
        history: &History,
        promise: Promise,
        object: u64,
        text: String,
        calls: impl IntoIterator<Item = CallId>,
    ) {
        self.violations.push(Violation { promise, object, text, records: history.records(calls) });
    }

    fn error(&mut self, history: &History, object: u64, text: &str, calls: impl IntoIterator<Item = CallId>) {
        self.errors.push(HistoryError { object, text: text.to_owned(), records: history.records(calls) });
    }
}
