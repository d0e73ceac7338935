//! Holds what the host does and what clients see against the promises.
//!
//! The oracle sees everything: the frames that reach the host, what its objects do and in which order, the frames that leave
//! it, and the replies in their callers' hands. It has no part in what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use steward_host::sim::Event;
use steward_objects::builtin;
use steward_wire::frame::{self, ClientFrame, HostFrame, LENGTH_BYTES, Method};
use steward_wire::{Effect, Fault, Value};

use crate::model::{Answer, Call, CallKey, Model};
use crate::world::LEASE_MS;

/// Latest events of an object that a report shows.
const EVENTS_SHOWN: usize = 24;

pub(crate) struct Oracle {
    objects: BTreeMap<u64, Object>,
    /// Those to which something has happened since the host last had nothing to do.
    touched: BTreeSet<u64>,
    calls: BTreeMap<CallKey, Known>,
    /// Replies that clients have acknowledged: below a floor, and further ones.
    acked: BTreeMap<u64, (u64, BTreeSet<u64>)>,
    /// Sessions that have ended, and when.
    ended: BTreeMap<u64, u64>,
    forks: BTreeMap<CallKey, Forks>,
    /// By the child.
    children: BTreeMap<u64, Child>,
    /// The first replies to creations and forks that left the host.
    made: BTreeMap<CallKey, Vec<u8>>,
    entered: u64,
    hash: DefaultHasher,
    /// Every event is printed.
    trace: bool,
    /// Every event is written down.
    records: bool,
    pub(crate) now_ms: u64,
    pub(crate) answers: u64,
}

struct Object {
    typeid: String,
    model: Model,
    /// Calls that wait, in the order in which they came.
    parked: BTreeMap<u64, CallKey>,
    fence_last: u64,
    version_last: u64,
    events: VecDeque<String>,
}

/// A call that has come to the host.
struct Known {
    call: Call,
    ident: u64,
    guard: Option<(u64, u64)>,
    is_kept: bool,
    entered: u64,
    times_entered: u64,
    answers: Vec<(Effect, Vec<u8>)>,
    /// It was answered after its session's end: nobody may see that.
    is_late: bool,
    /// The first reply that left the host.
    sent: Option<Vec<u8>>,
}

/// A fork that was asked for.
struct Forks {
    /// What its client surely held then.
    held: BTreeSet<u64>,
    /// What the host made of it.
    child: Option<u64>,
}

/// A session that began as a fork.
struct Child {
    parent: u64,
    idents: Vec<u64>,
    is_claimed: bool,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What happened.
    pub what: String,
    /// The object, and what happened there lately.
    pub events: Vec<String>,
}

pub(crate) type Verdict = Result<(), Broken>;

fn broken(what: impl Into<String>) -> Broken {
    Broken { what: shortened(what.into()), events: Vec::new() }
}

/// Without the middle of what is long: large items are all alike.
fn shortened(mut text: String) -> String {
    const SHOWN: usize = 250;
    if text.len() > 2 * SHOWN {
        let (first, last) = (text.floor_char_boundary(SHOWN), text.ceil_char_boundary(text.len() - SHOWN));
        text.replace_range(first..last, " … ");
    }
    text
}

impl Oracle {
    pub(crate) fn new(trace: bool, records: bool) -> Self {
        Self {
            objects: BTreeMap::new(),
            touched: BTreeSet::new(),
            calls: BTreeMap::new(),
            acked: BTreeMap::new(),
            ended: BTreeMap::new(),
            forks: BTreeMap::new(),
            children: BTreeMap::new(),
            made: BTreeMap::new(),
            entered: 0,
            hash: DefaultHasher::new(),
            trace,
            records: records || trace,
            now_ms: 0,
            answers: 0,
        }
    }

    /// A hash of all that clients saw.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn mix(&mut self, value: impl Hash) {
        value.hash(&mut self.hash);
    }

    /// An object was made, or named again.
    pub(crate) fn made(&mut self, ident: u64, typeid: &str, args: &[Value]) {
        self.objects.entry(ident).or_insert_with(|| Object {
            typeid: typeid.to_owned(),
            model: Model::new(typeid, args),
            parked: BTreeMap::new(),
            fence_last: 0,
            version_last: 0,
            events: VecDeque::new(),
        });
    }

    pub(crate) fn model(&self, ident: u64) -> Option<&Model> {
        self.objects.get(&ident).map(|object| &object.model)
    }

    /// Methods of the calls that wait at an object.
    pub(crate) fn parked(&self, ident: u64) -> Vec<&str> {
        let parked = self.objects.get(&ident).into_iter().flat_map(|object| object.parked.values());
        parked.map(|key| &*self.calls[key].call.method).collect()
    }

    pub(crate) fn is_ended(&self, session: u64) -> bool {
        self.ended.contains_key(&session)
    }

    /// A client asks for a fork, and holds these.
    pub(crate) fn forks(&mut self, key: CallKey, held: BTreeSet<u64>) {
        self.forks.insert(key, Forks { held, child: None });
    }

    /// A client has the reply to its fork.
    pub(crate) fn forked(&mut self, key: CallKey, child: u64, idents: &[u64]) -> Verdict {
        self.mix((key, child, idents));
        match self.children.get(&child) {
            Some(known) if known.parent == key.0 && known.idents == idents => Ok(()),
            _ => Err(broken(format!("R3: call {key:?} is said to have forked {child}, which holds {idents:?}"))),
        }
    }

    /// Somebody has signed in to a fork.
    pub(crate) fn claimed(&mut self, session: u64) -> Verdict {
        let child = self.children.get_mut(&session);
        match child.map(|child| std::mem::replace(&mut child.is_claimed, true)) {
            Some(false) => Ok(()),
            before => Err(broken(format!("session {session} was claimed as a fork, and before: {before:?}"))),
        }
    }

    pub(crate) fn is_claimed(&self, session: u64) -> bool {
        self.children.get(&session).is_some_and(|child| child.is_claimed)
    }

    /// Forks that nobody has claimed, and that live: parent and child.
    pub(crate) fn unclaimed(&self) -> impl Iterator<Item = (u64, u64)> {
        let live = self.children.iter().filter(|(number, child)| !child.is_claimed && !self.is_ended(**number));
        live.map(|(&number, child)| (child.parent, number))
    }

    pub(crate) fn note(&mut self, ident: Option<u64>, text: impl FnOnce() -> String) {
        if !self.records {
            return;
        }
        let text = shortened(format!("{:>7} ms  {}", self.now_ms, text()));
        if self.trace {
            println!("{text}{}", ident.map_or(String::new(), |ident| format!("  [object {ident}]")));
        }
        if let Some(object) = ident.and_then(|ident| self.objects.get_mut(&ident)) {
            object.events.push_back(text);
            if object.events.len() > EVENTS_SHOWN {
                object.events.pop_front();
            }
        }
    }

    fn of(&self, ident: u64, what: impl Into<String>) -> Broken {
        let object = self.objects.get(&ident);
        let name = object.map_or("unknown", |object| &object.typeid);
        let what = shortened(format!("object {ident}, a {name}: {}", what.into()));
        Broken { what, events: object.map(|object| object.events.iter().cloned().collect()).unwrap_or_default() }
    }

    /// A whole frame reaches the host from a session.
    pub(crate) fn arrives(&mut self, session: u64, body: &[u8]) {
        let Ok((frame, acked)) = ClientFrame::read(body) else { return };
        if self.is_ended(session) {
            return;
        }
        if let Some(acked) = acked {
            let (floor, further) = self.acked.entry(session).or_default();
            *floor = acked.floor.max(*floor);
            further.extend(acked.ranges.iter().flat_map(|(first, last)| *first..=*last));
        }
        match frame {
            ClientFrame::Call(call) => self.arrives_call(session, &call),
            ClientFrame::Batch(calls) => calls.iter().for_each(|call| self.arrives_call(session, call)),
            frame => self.note(None, || format!("host has {frame:?} of session {session}")),
        }
    }

    fn arrives_call(&mut self, session: u64, call: &frame::Call<'_>) {
        let (key, ident) = ((session, call.seq), call.ident.0);
        self.note(Some(ident), || {
            let frame::Call { seq, owner, method, deadline_ms, guard, .. } = call;
            format!("host has call {session}:{seq} {method:?} of task {owner}, {deadline_ms:?}, {guard:?}")
        });
        let Some(object) = self.objects.get(&ident) else { return };
        self.calls.entry(key).or_insert_with(|| {
            let Method::Name(method) = call.method else { unreachable!("simulated clients name methods") };
            let args = match Value::decode(call.args) {
                Ok(Value::List(mut parts)) if !parts.is_empty() => match parts.swap_remove(0) {
                    Value::List(args) => args,
                    _ => Vec::new(),
                },
                _ => Vec::new(),
            };
            let builtin = builtin(object.typeid.trim_end_matches(".pooled")).expect("objects are of built-in types");
            let table = builtin.methods.iter().find(|known| known.name == method);
            Known {
                call: Call { key, owner: (session, call.owner), method: method.to_owned(), args },
                ident,
                guard: call.guard.map(|guard| (guard.lock.0, guard.fence)),
                is_kept: table.is_some_and(|method| method.may_park || !method.read_only),
                entered: 0,
                times_entered: 0,
                answers: Vec::new(),
                is_late: false,
                sent: None,
            }
        });
    }

    /// What has happened in the host.
    pub(crate) fn happened(&mut self, events: Vec<Event>) -> Verdict {
        for event in events {
            match event {
                Event::Entered { cell, session, seq } => self.entered(cell, (session, seq))?,
                Event::Answered { cell, session, seq, effect, payload, grant, version, .. } => {
                    let value = Value::decode(&payload).unwrap_or(Value::Null);
                    let is_late = self.is_ended(session);
                    let fence = grant.map(|grant| grant.fence);
                    let answer = Answer { effect, value, fence, version, is_late };
                    self.answered(cell, (session, seq), payload, answer)?;
                }
                Event::Returned { cell, method, payload } => {
                    self.touched.insert(cell);
                    self.note(Some(cell), || format!("comes back: {:?} of method {method}", Value::decode(&payload)));
                    let value = Value::decode(&payload).unwrap_or(Value::Null);
                    let verdict = self.objects.get_mut(&cell).map_or(Ok(()), |object| object.model.returned(&value));
                    verdict.map_err(|what| self.of(cell, format!("R4: {what}")))?;
                }
                Event::Forked { parent, seq, child, idents } => self.makes((parent, seq), child, idents)?,
                Event::Ended { session, orderly } => {
                    self.ends(session)?;
                    let (floor, further) = self.acked.get(&session).cloned().unwrap_or_default();
                    let is_acked = |key: CallKey| key.1 < floor || further.contains(&key.1);
                    for object in self.objects.values_mut() {
                        object.model.ended(session, orderly, &is_acked);
                    }
                    let idents: Vec<_> = self.objects.keys().copied().collect();
                    self.touched.extend(&idents);
                    for ident in idents {
                        let text = || format!("session {session} ends, {}", if orderly { "goodbye" } else { "lost" });
                        self.note(Some(ident), text);
                    }
                }
            }
        }
        Ok(())
    }

    /// The host has forked a session.
    fn makes(&mut self, key: CallKey, child: u64, idents: Vec<u64>) -> Verdict {
        self.note(None, || format!("host forks {}:{}: session {child}, which holds {idents:?}", key.0, key.1));
        let Some(forks) = self.forks.get_mut(&key) else {
            return Err(broken(format!("R3: call {key:?} has forked, and was no fork")));
        };
        if let Some(first) = forks.child.replace(child) {
            return Err(broken(format!("R3: call {key:?} has forked twice: {first} and {child}")));
        }
        if self.ended.contains_key(&key.0) {
            return Err(broken(format!("R2: call {key:?} has forked after its session's end")));
        }
        if let Some(missing) = forks.held.iter().copied().find(|ident| !idents.contains(ident)) {
            return Err(self.of(missing, format!("session {child}, forked by {key:?}, does not hold it")));
        }
        self.children.insert(child, Child { parent: key.0, idents, is_claimed: false });
        Ok(())
    }

    fn ends(&mut self, session: u64) -> Verdict {
        self.ended.insert(session, self.now_ms);
        let Some(Child { parent, is_claimed: false, .. }) = self.children.get(&session) else { return Ok(()) };
        // The host looks at leases now and then, and gives no more than half of one away.
        match self.ended.get(parent) {
            Some(parent_ms) if self.now_ms - parent_ms >= LEASE_MS / 2 => Ok(()),
            since => {
                let what =
                    format!("session {session}, an unclaimed fork of {parent}, which ended at {since:?} ms, is over");
                Err(broken(what))
            }
        }
    }

    fn entered(&mut self, cell: u64, key: CallKey) -> Verdict {
        self.entered += 1;
        self.touched.insert(cell);
        let Some(known) = self.calls.get_mut(&key) else { return Ok(()) };
        known.times_entered += 1;
        known.entered = self.entered;
        if known.is_kept && known.times_entered > 1 {
            let what = format!("R3: {:?} was made {} times", known.call, known.times_entered);
            return Err(self.of(cell, what));
        }
        if self.ended.contains_key(&key.0) {
            let what = format!("R2: {:?} came to its object after its session's end", known.call);
            return Err(self.of(cell, what));
        }
        if let Some(object) = self.objects.get_mut(&cell) {
            object.model.entered(&known.call);
            object.parked.insert(self.entered, key);
        }
        Ok(())
    }

    fn answered(&mut self, cell: u64, key: CallKey, payload: Vec<u8>, answer: Answer) -> Verdict {
        self.answers += 1;
        self.touched.insert(cell);
        self.note(Some(cell), || {
            let Answer { effect, value, fence, version, is_late } = &answer;
            let late = if *is_late { ", late" } else { "" };
            format!("answers {}:{} {effect:?} {value:?}, fence {fence:?}, version {version}{late}", key.0, key.1)
        });
        let Some(known) = self.calls.get_mut(&key) else { return Ok(()) };
        let Some(object) = self.objects.get_mut(&cell) else { return Ok(()) };
        object.parked.remove(&known.entered);
        known.is_late |= answer.is_late;
        if known.is_kept && !known.answers.is_empty() {
            let what = format!("R3: {:?} was answered twice", known.call);
            return Err(self.of(cell, what));
        }
        known.answers.push((answer.effect, payload));
        if answer.version < object.version_last {
            let what = format!("version {} after {}", answer.version, object.version_last);
            return Err(self.of(cell, what));
        }
        object.version_last = answer.version;
        if let Some(fence) = answer.fence.filter(|_| answer.effect == Effect::Returned) {
            if fence <= object.fence_last {
                let what = format!("R1: fence {fence} after {}", object.fence_last);
                return Err(self.of(cell, what));
            }
            object.fence_last = fence;
        }
        let call = known.call.clone();
        let verdict = object.model.answered(&call, &answer);
        let guard = known.guard.filter(|_| answer.effect == Effect::Returned && !answer.is_late);
        verdict.map_err(|what| self.of(cell, what))?;
        if let Some((lock, fence)) = guard
            && let Some(Model::Lock(model)) = self.model(lock)
            && !model.stands(fence)
        {
            let what = format!("R1: {call:?} took effect under fence {fence} of object {lock}: {:?}", model.holder);
            let mut broken = self.of(cell, what);
            broken.events.push("the lock:".to_owned());
            broken.events.extend(self.of(lock, "").events);
            return Err(broken);
        }
        Ok(())
    }

    /// Whole frames leave the host on a lane of a session.
    pub(crate) fn leaves(&mut self, session: u64, frames: &[u8]) -> Verdict {
        let mut rest = frames;
        while let Some(length) = frame::length(rest) {
            let (whole, others) = rest.split_at(LENGTH_BYTES + length);
            rest = others;
            let frame = HostFrame::read(&whole[LENGTH_BYTES..]);
            let HostFrame::Reply(reply) = frame.map_err(|error| broken(format!("a frame of the host: {error}")))?
            else {
                continue;
            };
            let key = (session, reply.seq);
            let Some(known) = self.calls.get_mut(&key) else {
                let first = self.made.entry(key).or_insert_with(|| whole.to_vec());
                if reply.effect == Effect::Returned && first != whole {
                    return Err(broken(format!("R3: the repeated reply to {key:?} differs from the first")));
                }
                continue;
            };
            let happened = matches!(reply.effect, Effect::Returned | Effect::Raised);
            if !happened || !known.is_kept {
                continue;
            }
            let ident = known.ident;
            if known.is_late {
                let what = format!("R2: {:?} was answered to a session that had ended", known.call);
                return Err(self.of(ident, what));
            }
            match &known.sent {
                None => known.sent = Some(whole.to_vec()),
                Some(first) if first == whole => {}
                Some(_) => {
                    let what = format!("R3: the repeated reply to {:?} differs from the first", known.call);
                    return Err(self.of(ident, what));
                }
            }
        }
        Ok(())
    }

    /// A reply is in its caller's hands.
    pub(crate) fn fetched(&mut self, key: CallKey, ident: u64, effect: Effect, payload: &[u8]) -> Verdict {
        self.mix((key, ident, effect, payload));
        self.note(Some(ident), || format!("client has {}:{} {effect:?} {:?}", key.0, key.1, Value::decode(payload)));
        let happened = matches!(effect, Effect::Returned | Effect::Raised);
        let known = self.calls.get(&key);
        let seen = known.is_some_and(|known| known.answers.iter().any(|(by, with)| *by == effect && with == payload));
        match (known, happened) {
            (Some(known), true) if !seen => {
                let what = format!("R3: {:?} has a reply that no step gave: {effect:?} {payload:?}", known.call);
                Err(self.of(ident, what))
            }
            (Some(known), false) => {
                let fault = Fault::read(effect, payload).map_or_else(|error| error.to_string(), |fault| fault.kind);
                let is_expected = fault == "StaleFence" && known.guard.is_some();
                let what = format!("{:?} of a living session was {effect:?}: {fault}", known.call);
                if is_expected { Ok(()) } else { Err(self.of(ident, what)) }
            }
            (None, true) => Err(self.of(ident, "R3: a call that never came to the host was answered")),
            _ => Ok(()),
        }
    }

    /// The host has nothing left to do.
    pub(crate) fn quiet(&mut self) -> Verdict {
        for ident in std::mem::take(&mut self.touched) {
            let Some(object) = self.objects.get(&ident) else { continue };
            let parked = object.parked.values().map(|key| &self.calls[key].call);
            object.model.should_not_wait(parked).map_err(|what| self.of(ident, format!("R5: {what}")))?;
        }
        Ok(())
    }

    /// Something is wrong with an object.
    pub(crate) fn complain(&self, ident: Option<u64>, what: impl Into<String>) -> Broken {
        match ident {
            Some(ident) => self.of(ident, what),
            None => broken(what),
        }
    }
}
