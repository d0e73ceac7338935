//! A call as the checker keeps it: a record in a tenth of its memory.

use crate::history::{At, Grant, ObjectMade, Operation, Outcome};
use crate::values::{Name, Val, Values};

/// A call's number in the history.
pub(crate) type CallId = u32;

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) client: u32,
    pub(crate) session: u64,
    pub(crate) owner: u64,
    pub(crate) object: u64,
    pub(crate) method: Name,
    pub(crate) args: Box<[Val]>,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) guard: Option<(u64, u64)>,
    pub(crate) invoked_ns: u64,
    pub(crate) returned_ns: Option<u64>,
    pub(crate) seen: Seen,
    pub(crate) at: Option<At>,
    pub(crate) grant: Option<Grant>,
    /// Its session ended, and no later call shows that its reply was acknowledged: what it got may come back.
    pub(crate) may_come_back: bool,
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    Returned(Val),
    Raised(Name),
    Refused(Name),
    Unknown,
}

impl Call {
    pub(crate) fn new(id: CallId, operation: Operation, values: &mut Values) -> Self {
        let Operation { client, session, owner, object, method, args, deadline_ms, guard, .. } = operation;
        let seen = match operation.outcome {
            Outcome::Returned(value) => Seen::Returned(values.intern(value)),
            Outcome::Raised { kind } => Seen::Raised(values.name(&kind)),
            Outcome::Refused { kind } => Seen::Refused(values.name(&kind)),
            Outcome::Unknown => Seen::Unknown,
        };
        Self {
            id,
            client,
            session,
            owner,
            object,
            method: values.name(&method),
            args: args.into_iter().map(|arg| values.intern(arg)).collect(),
            deadline_ms,
            guard,
            invoked_ns: operation.invoked_ns,
            returned_ns: operation.returned_ns,
            seen,
            at: operation.at,
            grant: operation.grant,
            may_come_back: false,
        }
    }

    /// The record it was made of.
    pub(crate) fn operation(&self, values: &Values) -> Operation {
        Operation {
            client: self.client,
            session: self.session,
            owner: self.owner,
            object: self.object,
            method: values.text(self.method).to_string(),
            args: self.args.iter().map(|arg| values.json(*arg)).collect(),
            deadline_ms: self.deadline_ms,
            guard: self.guard,
            invoked_ns: self.invoked_ns,
            returned_ns: self.returned_ns,
            outcome: match self.seen {
                Seen::Returned(value) => Outcome::Returned(values.json(value)),
                Seen::Raised(kind) => Outcome::Raised { kind: values.text(kind).to_string() },
                Seen::Refused(kind) => Outcome::Refused { kind: values.text(kind).to_string() },
                Seen::Unknown => Outcome::Unknown,
            },
            at: self.at,
            grant: self.grant,
        }
    }

    /// Whether its client was told the end of it by a step of the object.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.seen, Seen::Returned(_) | Seen::Raised(_))
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.seen == Seen::Unknown
    }

    /// Version of its reply; 0 without one.
    pub(crate) fn version(&self) -> u64 {
        self.at.map_or(0, |at| at.version)
    }

    pub(crate) fn index(&self) -> u64 {
        self.at.map_or(0, |at| at.index)
    }

    /// When its reply had surely arrived: never, if it did not.
    pub(crate) fn returned(&self) -> u64 {
        self.returned_ns.unwrap_or(u64::MAX)
    }

    /// For people: `put(3)` of client 1 at 7.0.
    pub(crate) fn show(&self, values: &Values) -> String {
        if self.is_unknown() {
            // Only ever tried out: nobody reads why it does not fit.
            return "a call of unknown end".to_owned();
        }
        let args: Vec<_> = self.args.iter().map(|arg| values.show(*arg)).collect();
        let end = match self.seen {
            Seen::Returned(value) => format!(" -> {}", values.show(value)),
            Seen::Raised(kind) => format!(" raised {}", values.text(kind)),
            Seen::Refused(kind) => format!(" refused {}", values.text(kind)),
            Seen::Unknown => String::new(),
        };
        let place = self.at.map_or(String::new(), |at| format!(" at {}.{}", at.version, at.index));
        format!("`{}({}){end}` of client {}{place}", values.text(self.method), args.join(", "), self.client)
    }
}

/// An object and its constructor's arguments.
#[derive(PartialEq)]
pub(crate) struct Made {
    pub(crate) typeid: String,
    pub(crate) args: Vec<Val>,
}

impl Made {
    pub(crate) fn new(made: ObjectMade, values: &mut Values) -> Self {
        Self { typeid: made.typeid, args: made.args.into_iter().map(|arg| values.intern(arg)).collect() }
    }
}
