//! A client process: a session's own logic, and tasks that work through plans.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steward_client::sim::Session;
use steward_host::sim::Secret;
use steward_wire::Value;

/// An object that all clients know by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) name: &'static str,
    pub(crate) typeid: &'static str,
    pub(crate) args: &'static [i64],
}

/// A step of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A call of a shared object, by its place, or of the task's own object.
    Call { target: Target, method: &'static str, args: Vec<Value>, deadline_ms: Option<u64>, is_guarded: bool },
    /// Waits without the host.
    Sleep(u64),
    /// Lets go of a shared object, if nobody in this process uses it.
    Drop(usize),
    /// Makes an object of its own.
    Make,
    /// Puts its own object's token into a shared queue, in a large item or alone, and lets go of the object, soon or once that is
    /// done.
    PutToken { shared: usize, is_large: bool, is_let_go: bool },
    /// Lets go of its own object.
    DropOwn,
    /// Forks the session, for another process.
    Fork,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Shared(usize),
    Own,
}

/// A call that waits for its reply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wait {
    pub(crate) seq: u64,
    pub(crate) ident: u64,
    pub(crate) op: Option<Op>,
    /// The shared object that is being named.
    pub(crate) naming: Option<usize>,
    pub(crate) is_make: bool,
    /// What is handed on with the fork that is asked for.
    pub(crate) fork: Option<Inherited>,
}

/// What a fork begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    /// What its session holds, as the host says.
    pub(crate) idents: Vec<u64>,
    /// Shared objects, by place.
    pub(crate) known: BTreeMap<usize, u64>,
    /// Objects of the tasks' own, by task.
    pub(crate) owns: Vec<Option<u64>>,
}

impl Inherited {
    /// What is surely held by whoever hands it on.
    pub(crate) fn held(&self) -> BTreeSet<u64> {
        self.known.values().chain(self.owns.iter().flatten()).copied().collect()
    }
}

/// A lock that the task believes to hold, by shared place.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) shared: usize,
    pub(crate) ident: u64,
    pub(crate) fence: u64,
    pub(crate) is_lock: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) plan: VecDeque<Op>,
    pub(crate) wait: Option<Wait>,
    pub(crate) held: Vec<Held>,
    pub(crate) own: Option<u64>,
    /// It has nothing more to do.
    pub(crate) is_done: bool,
    /// Rises with every wake-up that is asked for; earlier ones do not count.
    pub(crate) wakes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It signs in.
    Joining,
    Lives,
    /// Its session is over, and it knows, or it is no more.
    Over,
}

pub(crate) struct Client {
    pub(crate) life: Life,
    /// The host's number of its session.
    pub(crate) session: u64,
    pub(crate) secret: Secret,
    /// A fork that has not been claimed yet.
    pub(crate) inherited: Option<Inherited>,
    /// It began as a fork: nobody takes its place.
    pub(crate) is_fork: bool,
    pub(crate) core: Session,
    /// Rises whenever somebody else takes its place.
    pub(crate) incarnation: u64,
    pub(crate) connection: Option<usize>,
    pub(crate) out: Vec<u8>,
    pub(crate) is_dialling: bool,
    pub(crate) frozen_until_ms: u64,
    /// Its clock runs so many thousandths too fast.
    pub(crate) drift: i64,
    pub(crate) offset_ms: u64,
    /// Shared objects that it holds, by place.
    pub(crate) known: BTreeMap<usize, u64>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) is_owed_timed: bool,
    /// Large calls that were given up.
    pub(crate) given_up: BTreeSet<u64>,
}

impl Client {
    /// It has claimed its session. What it has no use for it lets go of.
    pub(crate) fn begin(&mut self, inherited: Inherited, core: Session) {
        self.core = core;
        self.core.inherit(&inherited.idents);
        inherited.idents.iter().for_each(|&ident| self.core.hold(ident));
        let held = inherited.held();
        inherited.idents.iter().filter(|ident| !held.contains(ident)).for_each(|&ident| self.core.let_go(ident));
        self.known = inherited.known;
        for (task, own) in self.tasks.iter_mut().zip(inherited.owns) {
            task.own = own;
        }
    }

    /// The time on its own clock.
    pub(crate) fn clock_ms(&self, now_ms: u64) -> u64 {
        let now = now_ms as i64;
        self.offset_ms + (now + now * self.drift / 1_000) as u64
    }

    pub(crate) fn believes(&self, now_ms: u64) -> bool {
        self.life == Life::Lives && !self.core.is_ended() && self.clock_ms(now_ms) < self.core.believed_until_ms()
    }

    /// Whether a task is in a call of a shared object, or holds it.
    pub(crate) fn uses(&self, shared: usize, ident: u64) -> bool {
        self.tasks.iter().any(|task| {
            task.held.iter().any(|held| held.shared == shared)
                || task.wait.as_ref().is_some_and(|wait| wait.ident == ident || wait.naming == Some(shared))
        })
    }
}
