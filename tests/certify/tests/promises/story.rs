//! Histories written by hand.
//!
//! Calls follow each other, each taking 10 ns, unless they say otherwise. A client's number is its session's.

use serde_json::{Value, json};
use steward_certify::{At, Grant, ObjectMade, Operation, Outcome, Promise, Record, Report, SessionEnd, certify};

/// The object of stories about one.
pub(crate) const OBJECT: u64 = 7;

#[derive(Clone, Default)]
pub(crate) struct Story {
    pub(crate) records: Vec<Record>,
    now_ns: u64,
}

pub(crate) fn of(typeid: &str, args: Value) -> Story {
    Story::default().and(OBJECT, typeid, args)
}

impl Story {
    /// Makes another object.
    pub(crate) fn and(mut self, object: u64, typeid: &str, args: Value) -> Self {
        let Value::Array(args) = args else { panic!("arguments are a list") };
        self.records.push(Record::Object(ObjectMade { object, typeid: typeid.to_owned(), args }));
        self
    }

    /// A call that returns `result`, its reply being at (`version`, `index`).
    pub(crate) fn call(mut self, client: u32, method: &str, args: Value, at: (u64, u64), result: Value) -> Self {
        let Value::Array(args) = args else { panic!("arguments are a list") };
        self.now_ns += 20;
        self.records.push(Record::Call(Operation {
            client,
            session: client.into(),
            owner: 1,
            object: OBJECT,
            method: method.to_owned(),
            args,
            deadline_ms: None,
            guard: None,
            invoked_ns: self.now_ns,
            returned_ns: Some(self.now_ns + 10),
            outcome: Outcome::Returned(result),
            at: Some(At { epoch: 1, version: at.0, index: at.1 }),
            grant: None,
        }));
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Operation)) -> Self {
        let Some(Record::Call(call)) = self.records.last_mut() else { panic!("a call comes first") };
        change(call);
        self
    }

    /// The last call was to another object.
    pub(crate) fn to(self, object: u64) -> Self {
        self.last(|call| call.object = object)
    }

    /// The last call took from `invoked_ns` to `returned_ns`.
    pub(crate) fn during(self, invoked_ns: u64, returned_ns: u64) -> Self {
        self.last(|call| (call.invoked_ns, call.returned_ns) = (invoked_ns, Some(returned_ns)))
    }

    pub(crate) fn fence(self, fence: u64) -> Self {
        self.last(|call| call.grant = Some(Grant { fence, abandoned: false }))
    }

    pub(crate) fn guarded(self, lock: u64, fence: u64) -> Self {
        self.last(|call| call.guard = Some((lock, fence)))
    }

    pub(crate) fn within(self, deadline_ms: u64) -> Self {
        self.last(|call| call.deadline_ms = Some(deadline_ms))
    }

    pub(crate) fn raised(self, kind: &str) -> Self {
        self.last(|call| call.outcome = Outcome::Raised { kind: kind.to_owned() })
    }

    pub(crate) fn refused(self, kind: &str) -> Self {
        self.last(|call| {
            call.outcome = Outcome::Refused { kind: kind.to_owned() };
            call.at = None;
        })
    }

    /// Nobody knows the end of the last call.
    pub(crate) fn unknown(self) -> Self {
        self.last(|call| {
            call.outcome = Outcome::Unknown;
            (call.returned_ns, call.at, call.grant) = (None, None, None);
        })
    }

    /// A client's session ends.
    pub(crate) fn end(mut self, client: u32) -> Self {
        self.now_ns += 20;
        let (from_ns, until_ns) = (self.now_ns, Some(self.now_ns + 10));
        self.records.push(Record::SessionEnd(SessionEnd { session: client.into(), from_ns, until_ns, orderly: false }));
        self
    }

    pub(crate) fn goodbye(self, client: u32) -> Self {
        let mut story = self.end(client);
        let Some(Record::SessionEnd(end)) = story.records.last_mut() else { unreachable!("it was just pushed") };
        end.orderly = true;
        story
    }

    #[track_caller]
    pub(crate) fn passes(&self) -> Report {
        let report = certify(self.records.clone());
        assert!(report.is_proof(), "{report}");
        report
    }

    #[track_caller]
    pub(crate) fn breaks(&self, promise: Promise, text: &str) {
        let report = certify(self.records.clone());
        assert!(report.errors.is_empty() && report.undecided.is_empty(), "{report}");
        let found = report.violations.iter().any(|found| found.promise == promise && found.text.contains(text));
        assert!(found, "not {promise:?} with `{text}`: {report}");
        assert!(report.violations.iter().all(|found| found.object != 0 && !found.records.is_empty()), "{report}");
    }
}

/// No arguments.
pub(crate) fn no() -> Value {
    json!([])
}
