//! Lock, RLock and Condition: one lock, and any number of lines of those who wait to be notified.
//!
//! A Condition made over a Lock or an RLock joins that lock's cell as a facet; one made without is a cell of its own around
//! an RLock. Either way one referent has the lock and every line, so waiting and notifying are single steps.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use steward_wire::cbor;
use steward_wire::value::token_of;

use crate::{Args, Builtin, Call, CallId, Facet, Fault, Input, Method, Outbox, Owner, Param, Referent, Why, data};

use super::mutex::{Mutex, Parked, ParkedKind};
use super::{cancelled, common_method, compared_integer, flag, unjoinable};

/// `threading.Lock`: anybody may release it.
pub static LOCK: Builtin = Builtin {
    typeid: "Lock",
    doc: "A lock without owner: whoever has a proxy may release it.\n\nThe line is first in, first out. When the \
          session of its holder is lost (not when it says goodbye), the lock is released and the next grant says `abandoned`.\n\nWith `refuse_deadlocks` an `acquire` that would close \
          a cycle of owners who wait for each other is refused as `Deadlock`.",
    constructor: CONSTRUCTOR,
    methods: LOCK_METHODS,
    create: |args, out| {
        let [refuse] = args.bind("Lock.__init__", CONSTRUCTOR)?;
        refuse_deadlocks(refuse, out)?;
        Ok(Box::new(LockCell::new(Kind::Lock)))
    },
    joins: &[],
    snapshots: false,
    constructible: true,
};

/// Of Lock and of RLock. CPython's take nothing.
const CONSTRUCTOR: &[Param] = &[Param::keyword("refuse_deadlocks", "bool", "False")];

fn refuse_deadlocks(item: Option<&[u8]>, out: &mut Outbox) -> Result<(), Fault> {
    if flag(item, false)? {
        out.refuse_deadlocks();
    }
    Ok(())
}

/// `threading.RLock`: its owner may take it again, and only its owner may release it.
pub static RLOCK: Builtin = Builtin {
    typeid: "RLock",
    doc: "A lock that its owner may take repeatedly.\n\nOwners are threads or tasks of a session. The line is first in, \
          first out. When the owner's session ends, the lock is released; the next grant says `abandoned` unless the session said goodbye.\n\n\
          `refuse_deadlocks` as of Lock.",
    constructor: CONSTRUCTOR,
    methods: RLOCK_METHODS,
    create: |args, out| {
        let [refuse] = args.bind("RLock.__init__", CONSTRUCTOR)?;
        refuse_deadlocks(refuse, out)?;
        Ok(Box::new(LockCell::new(Kind::RLock)))
    },
    joins: &[],
    snapshots: false,
    constructible: true,
};

/// `threading.Condition`, over a lock of its own or a given one.
pub static CONDITION: Builtin = Builtin {
    typeid: "Condition",
    doc: "A condition variable.\n\nOver a Lock or an RLock it shares that object's lock, otherwise it has an RLock of its own. \
          Waiters are notified in the order in which they came.",
    constructor: &[Param::optional("lock", "Lock | RLock", "None")],
    methods: CONDITION_METHODS,
    create: |args, _| {
        let [lock] = args.bind("Condition.__init__", CONDITION.constructor)?;
        match lock {
            None | Some([cbor::NULL]) => Ok(Box::new(LockCell::new(Kind::Condition))),
            Some(item) => Err(match token_of(item) {
                Some(token) => {
                    Fault::raised("TypeError", format!("lock must be a Lock or an RLock, not `{}`", token.typeid))
                }
                None => {
                    let name = data::type_name(&data::decode(item)?);
                    Fault::raised("AttributeError", format!("'{name}' object has no attribute 'acquire'"))
                }
            }),
        }
    },
    joins: &["Lock", "RLock"],
    snapshots: false,
    constructible: true,
};

methods! {
    /// Methods of Lock and of RLock.
    LockMethod, LOCK_METHODS:
    Acquire = Method::new(
        "acquire",
        &[],
        "Takes the lock, parking until it is free; returns True, or False at the deadline.",
    ).may_park();
    Release = Method::new("release", &[], "Frees the lock. Raises RuntimeError if nobody holds it.");
    Locked = Method::new("locked", &[], "Whether somebody holds the lock.").read_only();
}

/// In the order of [`LockMethod`].
const RLOCK_METHODS: &[Method] = &[
    Method::new(
        "acquire",
        &[],
        "Takes the lock, at once if the caller owns it, else parking until it is free; returns True, or False at the deadline.",
    )
    .may_park(),
    Method::new("release", &[], "Undoes one `acquire`. Raises RuntimeError unless the caller owns the lock."),
    Method::new("locked", &[], "Whether somebody owns the lock.").read_only(),
];

methods! {
    /// Methods of Condition.
    ConditionMethod, CONDITION_METHODS:
    Acquire = Method::new(
        "acquire",
        &[],
        "Takes the underlying lock, parking until it is free; returns True, or False at the deadline.",
    ).may_park();
    Release = Method::new("release", &[], "Releases the underlying lock.");
    Locked = Method::new("locked", &[], "Whether somebody holds the underlying lock.").read_only();
    Wait = Method::new(
        "wait",
        &[],
        "Releases the lock, however often it was taken, parks until notified, and takes the lock again as often.\n\n\
         Returns True, or False if the deadline came first, in either case not before it has the lock again. Raises RuntimeError \
         unless the lock is held. A call that is given up leaves without the lock.",
    ).acts_by_parking();
    Notify = Method::new(
        "notify",
        &[Param::optional("n", "int", "1")],
        "Wakes the `n` that have waited longest, or as many as there are. Raises RuntimeError unless the lock is held.",
    );
    NotifyAll = Method::new("notify_all", &[], "Wakes all that wait. Raises RuntimeError unless the lock is held.");
}

/// A lock with its Conditions.
#[derive(Debug)]
struct LockCell {
    mutex: Mutex,
    /// What facet 0 is; every other facet is a Condition.
    kind: Kind,
    facet_last: Facet,
    /// `None` while nobody waits to be notified.
    waits: Option<Box<Waits>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lock,
    RLock,
    Condition,
}

/// Those who wait to be notified, of all Conditions of the lock.
#[derive(Debug, Default)]
struct Waits {
    /// By Condition, then by call; no line is empty.
    lines: BTreeMap<Facet, BTreeMap<CallId, Waiting>>,
    /// Finds a call that is given up.
    facets: BTreeMap<CallId, Facet>,
}

#[derive(Debug)]
struct Waiting {
    owner: Owner,
    /// How often it had taken the lock.
    depth: NonZeroU64,
}

impl LockCell {
    fn new(kind: Kind) -> Self {
        let mutex = if kind == Kind::Lock { Mutex::plain() } else { Mutex::reentrant() };
        Self { mutex, kind, facet_last: 0, waits: None }
    }

    fn is_condition(&self, facet: Facet) -> bool {
        facet > 0 || self.kind == Kind::Condition
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        if self.is_condition(call.facet) {
            return self.call_condition(call, out);
        }
        call_lock(&mut self.mutex, call, out)
    }

    fn call_condition(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let Some(method) = ConditionMethod::of(call.method) else {
            let pickled = if self.mutex.is_reentrant() { "_thread.RLock" } else { "_thread.lock" };
            common_method(call, out, pickled, || {
                format!("<Condition({}, {})>", self.mutex.text(), self.waiting(call.facet))
            });
            return Ok(());
        };
        match method {
            ConditionMethod::Acquire => {
                let [] = call.args.bind("Condition.acquire", &[])?;
                self.mutex.acquire(call.id, call.owner, out);
            }
            ConditionMethod::Release => {
                let [] = call.args.bind("Condition.release", &[])?;
                self.mutex.release(call.id, call.owner, out);
            }
            ConditionMethod::Locked => {
                let [] = call.args.bind("Condition.locked", &[])?;
                out.returns_bool(call.id, self.mutex.is_locked());
            }
            ConditionMethod::Wait => {
                let [] = call.args.bind("Condition.wait", &[])?;
                self.must_own(call.owner, "cannot wait on un-acquired lock")?;
                let depth = self.mutex.release_all(out);
                let waits = self.waits.get_or_insert_default();
                let line = waits.lines.entry(call.facet).or_default();
                line.insert(call.id, Waiting { owner: call.owner, depth });
                waits.facets.insert(call.id, call.facet);
            }
            ConditionMethod::Notify => {
                let [n] = call.args.bind("Condition.notify", method.params())?;
                self.must_own(call.owner, "cannot notify on un-acquired lock")?;
                let n = n.map_or(Ok(1), |item| compared_integer(item, ">"))?;
                out.returns_null(call.id);
                self.notify(call.facet, n.max(0) as u64, out);
            }
            ConditionMethod::NotifyAll => {
                let [] = call.args.bind("Condition.notify_all", &[])?;
                self.must_own(call.owner, "cannot notify on un-acquired lock")?;
                out.returns_null(call.id);
                self.notify(call.facet, u64::MAX, out);
            }
        }
        Ok(())
    }

    fn must_own(&self, owner: Owner, otherwise: &str) -> Result<(), Fault> {
        match self.mutex.is_owned_by(owner) {
            true => Ok(()),
            false => Err(Fault::raised("RuntimeError", otherwise)),
        }
    }

    /// Moves the `n` oldest waiters of a Condition to the lock's line.
    fn notify(&mut self, facet: Facet, n: u64, out: &mut Outbox) {
        for _ in 0..n {
            let line = self.waits.as_ref().and_then(|waits| waits.lines.get(&facet));
            let Some((&call, _)) = line.and_then(|line| line.first_key_value()) else { return };
            self.wake(call, true, out);
        }
    }

    /// Lets a waiter take its lock again, and says that it was there.
    fn wake(&mut self, call: CallId, notified: bool, out: &mut Outbox) {
        if let Some((facet, Waiting { owner, depth })) = self.leave_line(call) {
            out.changed();
            self.mutex.join(Parked { call, owner, depth, kind: ParkedKind::Wait { facet, notified } }, out);
        }
    }

    fn leave_line(&mut self, call: CallId) -> Option<(Facet, Waiting)> {
        let waits = self.waits.as_mut()?;
        let facet = waits.facets.remove(&call)?;
        let line = waits.lines.get_mut(&facet).expect("a call that waits stands in its condition's line");
        let waiting = line.remove(&call).expect("a call that waits stands in its condition's line");
        if line.is_empty() {
            waits.lines.remove(&facet);
        }
        self.waits.take_if(|waits| waits.facets.is_empty());
        Some((facet, waiting))
    }

    fn cancel(&mut self, call: CallId, why: Why, out: &mut Outbox) {
        let is_waiting = self.waits.as_ref().is_some_and(|waits| waits.facets.contains_key(&call));
        match (is_waiting, why) {
            (true, Why::Deadline) => self.wake(call, false, out),
            (true, Why::Client | Why::SessionEnded) => {
                self.leave_line(call);
                out.raises(call, &cancelled());
            }
            (false, _) => {
                if let Some(facet) = self.mutex.cancel(call, why, out) {
                    self.pass_on(facet, out);
                }
            }
        }
    }

    /// Who was notified is gone: the next one is notified instead, so that no wake-up is lost. It may have come after
    /// the `notify`, for which a wait must be ready anyhow.
    fn pass_on(&mut self, facet: Facet, out: &mut Outbox) {
        self.notify(facet, 1, out);
    }

    fn waiting(&self, facet: Facet) -> usize {
        self.waits.as_ref().and_then(|waits| waits.lines.get(&facet)).map_or(0, BTreeMap::len)
    }

    fn joined(&mut self, call: CallId, typeid: &str, args: Args<'_>, out: &mut Outbox) -> Result<(), Fault> {
        if typeid != CONDITION.typeid {
            return Err(unjoinable(typeid));
        }
        let [_lock] = args.bind("Condition.__init__", CONDITION.constructor)?;
        let facet = self.facet_last.checked_add(1);
        let facet = facet.ok_or_else(|| Fault::refused("OverQuota", "the lock had too many conditions"))?;
        self.facet_last = facet;
        out.returns_facet(call, facet, CONDITION.typeid);
        Ok(())
    }
}

impl ConditionMethod {
    fn params(self) -> &'static [Param] {
        CONDITION_METHODS[self as usize].params
    }
}

impl Referent for LockCell {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => self.cancel(call, why, out),
            Input::OwnerLost { session, orderly, .. } => self.mutex.owner_lost(session, orderly, out),
            Input::Undelivered { call, facet, method, payload, sent, .. } => {
                self.mutex.undelivered(call, sent, out);
                let is_wait = self.is_condition(facet) && ConditionMethod::of(method) == Some(ConditionMethod::Wait);
                if is_wait && payload == [cbor::TRUE] {
                    self.pass_on(facet, out);
                }
            }
            Input::Join { call, typeid, args, .. } => {
                if let Err(fault) = self.joined(call, typeid, args, out) {
                    out.raises(call, &fault);
                }
            }
            // No call of it is parked, so it has left nothing here.
            Input::Leave { .. } | Input::Returned { .. } | Input::Tick { .. } => {}
        }
    }

    fn holder(&self) -> Option<Owner> {
        self.mutex.holder()
    }
}

/// A call of a lock's method, by its place in the table of [`LOCK`] or [`RLOCK`], or of a common one: also for facets that
/// are the locks of other objects (`Value.get_lock`).
///
/// # Errors
/// Raised: `TypeError` for arguments that do not fit. The caller answers with it.
pub fn call_lock(mutex: &mut Mutex, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
    let Some(method) = LockMethod::of(call.method) else {
        let pickled = if mutex.is_reentrant() { "_thread.RLock" } else { "_thread.lock" };
        common_method(call, out, pickled, || mutex.text());
        return Ok(());
    };
    let name = match (method, mutex.is_reentrant()) {
        (LockMethod::Acquire, false) => "Lock.acquire",
        (LockMethod::Acquire, true) => "RLock.acquire",
        (LockMethod::Release, false) => "Lock.release",
        (LockMethod::Release, true) => "RLock.release",
        (LockMethod::Locked, false) => "Lock.locked",
        (LockMethod::Locked, true) => "RLock.locked",
    };
    let [] = call.args.bind(name, &[])?;
    match method {
        LockMethod::Acquire => mutex.acquire(call.id, call.owner, out),
        LockMethod::Release => mutex.release(call.id, call.owner, out),
        LockMethod::Locked => out.returns_bool(call.id, mutex.is_locked()),
    }
    Ok(())
}
