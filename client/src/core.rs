//! What a session knows, without any I/O: calls that wait for replies, acknowledgements, references.
//!
//! One invariant drives it: whatever the host has sent is counted here when it arrives, whether or not
//! anybody still wants it. So the host's and the client's counts of references agree, and a reply that
//! comes too late is still acknowledged, its tokens are still dropped and its lock is still released.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;
use steward_wire::frame::{self, Acked, ClientFrame, Grant, Method, Refs};
use steward_wire::{Effect, Fault, Ident};

/// Ranges of acknowledged seqs in one frame; further ones go with the next.
const RANGES_MAX: usize = 256;
/// References in one frame; further ones go in another.
const REFS_MAX: usize = 4096;

/// Which of the host's two limits a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Answered in its own turn.
    Running,
    /// It may wait in the host.
    Parked,
}

/// A reply, out of its frame.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) effect: Effect,
    pub(crate) payload: Bytes,
    pub(crate) grant: Option<Grant>,
    /// Idents of the tokens inside, once for each time they occur. Each is held until somebody
    /// gives it to [`Core::let_go`].
    pub(crate) pins: Vec<Ident>,
}

/// Why there will be no more replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) cause: String,
}

impl Ending {
    /// The fault of a call that was in flight then.
    pub(crate) fn unknown(&self) -> Fault {
        Fault::new(
            Effect::Unknown,
            "ConnectionLost",
            format!("connection was lost with the call in flight: {}", self.cause),
        )
    }
}

/// A call that waits for its reply.
#[derive(Debug)]
struct Waiting {
    class: Class,
    ident: Ident,
    owner: u64,
    /// Somebody will fetch the reply.
    wanted: bool,
    /// Whoever is to be woken then.
    waker: Option<Waker>,
}

/// How often an ident was received and how many handles want it.
#[derive(Debug, Default)]
struct Count {
    held: u64,
    received: u64,
}

/// A release that nobody waits for, not sent yet.
#[derive(Clone, Copy, Debug)]
struct Release {
    ident: Ident,
    owner: u64,
}

/// What there is to do once the lock is free again.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// Callers whose replies are there.
    pub(crate) wakers: Vec<Waker>,
    /// Calls that no longer run.
    pub(crate) running_freed: usize,
    /// Calls that are no longer parked.
    pub(crate) parked_freed: usize,
}

impl After {
    fn freed(&mut self, class: Class) {
        match class {
            Class::Running => self.running_freed += 1,
            Class::Parked => self.parked_freed += 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    seq_next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Replies that nobody has fetched yet.
    done: HashMap<u64, Reply>,
    /// Seqs that arrived and are not acknowledged; ascending runs in order of arrival.
    arrived: Vec<(u64, u64)>,
    refs: HashMap<Ident, Count>,
    /// Idents that nothing held at some moment since the last frame of references.
    unheld: Vec<Ident>,
    /// Releases that wait until fewer calls run.
    releases: VecDeque<Release>,
    ended: Option<Ending>,
}

impl Core {
    pub(crate) fn new() -> Self {
        Self {
            seq_next: 1,
            waiting: BTreeMap::new(),
            done: HashMap::new(),
            arrived: Vec::new(),
            refs: HashMap::new(),
            unheld: Vec::new(),
            releases: VecDeque::new(),
            ended: None,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Whether acknowledgements or dropped references wait for a frame.
    pub(crate) fn is_owing(&self) -> bool {
        !self.arrived.is_empty() || !self.unheld.is_empty()
    }

    /// Appends a frame with a seq of its own, preceded by the references that were dropped, and expects
    /// its reply. `wanted`: somebody will [`Core::fetch`] it.
    pub(crate) fn send<'a>(
        &mut self,
        out: &mut Vec<u8>,
        class: Class,
        target: (Ident, u64),
        wanted: bool,
        frame: impl FnOnce(u64) -> ClientFrame<'a>,
    ) -> u64 {
        self.put_drops(out);
        let acked = self.take_acked();
        let seq = self.expect(class, target, wanted);
        frame(seq).put(acked.as_ref(), out);
        seq
    }

    /// Expects a reply to a frame that the caller sends by another way than the lane.
    pub(crate) fn expect(&mut self, class: Class, (ident, owner): (Ident, u64), wanted: bool) -> u64 {
        let seq = self.seq_next;
        self.seq_next += 1;
        self.waiting.insert(seq, Waiting { class, ident, owner, wanted, waker: None });
        seq
    }

    /// Fetches a reply, or leaves a waker for when it comes.
    ///
    /// # Panics
    /// If `seq` was never sent or its reply was fetched before.
    pub(crate) fn fetch(&mut self, seq: u64, waker: &Waker) -> Option<Result<Reply, Ending>> {
        if let Some(reply) = self.done.remove(&seq) {
            return Some(Ok(reply));
        }
        if let Some(ended) = &self.ended {
            return Some(Err(ended.clone()));
        }
        let waiting = self.waiting.get_mut(&seq).expect("a reply is fetched once, by the call that was sent");
        match &mut waiting.waker {
            Some(known) if known.will_wake(waker) => {}
            known => *known = Some(waker.clone()),
        }
        None
    }

    /// Nobody wants the reply to `seq` any more: cancels the call, or undoes what its reply brought.
    pub(crate) fn abandon(&mut self, seq: u64, (ident, owner): (Ident, u64), out: &mut Vec<u8>) {
        if let Some(reply) = self.done.remove(&seq) {
            self.undo(reply.grant, Release { ident, owner });
            for pinned in reply.pins {
                self.let_go(pinned);
            }
        } else if let Some(waiting) = self.waiting.get_mut(&seq) {
            (waiting.wanted, waiting.waker) = (false, None);
            let acked = self.take_acked();
            ClientFrame::Cancel { seq }.put(acked.as_ref(), out);
        }
    }

    /// A call that never left whole is over. Its seq counts as arrived: should the host ever see it, it refuses.
    pub(crate) fn withdraw(&mut self, seq: u64, after: &mut After) {
        if let Some(waiting) = self.waiting.remove(&seq) {
            after.freed(waiting.class);
            self.note_arrival(seq);
        }
    }

    /// Takes in a reply and the tokens inside its payload. One to an unknown seq is ignored: a host may
    /// repeat itself.
    pub(crate) fn arrive(&mut self, reply: &frame::Reply<'_>, tokens: Vec<Ident>, after: &mut After) {
        let Some(waiting) = self.waiting.remove(&reply.seq) else { return };
        self.note_arrival(reply.seq);
        after.freed(waiting.class);
        for &ident in &tokens {
            self.receive(ident);
            self.hold(ident);
        }
        if waiting.wanted {
            after.wakers.extend(waiting.waker);
            let payload = Bytes::copy_from_slice(reply.payload);
            self.done.insert(reply.seq, Reply { effect: reply.effect, payload, grant: reply.grant, pins: tokens });
        } else {
            for ident in tokens {
                self.let_go(ident);
            }
            self.undo(reply.grant, Release { ident: waiting.ident, owner: waiting.owner });
        }
    }

    /// A grant that nobody is there to take is given back.
    fn undo(&mut self, grant: Option<Grant>, release: Release) {
        if grant.is_some() {
            self.releases.push_back(release);
        }
    }

    /// Releases `ident` without anybody waiting for the reply.
    pub(crate) fn release(&mut self, ident: Ident, owner: u64) {
        self.releases.push_back(Release { ident, owner });
    }

    /// Appends releases while `permit` lets one more call run.
    pub(crate) fn put_releases(&mut self, out: &mut Vec<u8>, mut permit: impl FnMut() -> bool) {
        while !self.releases.is_empty() && permit() {
            let Some(Release { ident, owner }) = self.releases.pop_front() else { break };
            self.send(out, Class::Running, (ident, owner), false, |seq| {
                ClientFrame::Call(frame::Call {
                    seq,
                    ident,
                    owner,
                    method: Method::Name("release"),
                    args: crate::args::NONE,
                    deadline_ms: Some(0),
                    guard: None,
                })
            });
        }
    }

    /// Counts one more handle of `ident`.
    pub(crate) fn hold(&mut self, ident: Ident) {
        if ident != Ident::HOST {
            self.refs.entry(ident).or_default().held += 1;
        }
    }

    /// Counts one more handle of `ident` if anything of it is known; says whether it did.
    pub(crate) fn hold_known(&mut self, ident: Ident) -> bool {
        let known = self.refs.get_mut(&ident);
        if let Some(count) = known {
            count.held += 1;
            return true;
        }
        false
    }

    /// Counts one handle less. The reference itself goes with a later frame, unless it is held again by then.
    pub(crate) fn let_go(&mut self, ident: Ident) {
        if let Some(count) = self.refs.get_mut(&ident) {
            count.held -= 1;
            if count.held == 0 {
                self.unheld.push(ident);
            }
        }
    }

    /// Asks the host for a reference to something whose token came from outside this session.
    pub(crate) fn adopt(&mut self, ident: Ident, out: &mut Vec<u8>) {
        if ident != Ident::HOST {
            self.receive(ident);
            let acked = self.take_acked();
            ClientFrame::Refs(Refs { incref: vec![ident], ..Refs::default() }).put(acked.as_ref(), out);
        }
    }

    fn receive(&mut self, ident: Ident) {
        if ident != Ident::HOST {
            self.refs.entry(ident).or_default().received += 1;
        }
    }

    /// Appends what is owed: dropped references and, if they went with none of those, acknowledgements.
    pub(crate) fn put_owed(&mut self, out: &mut Vec<u8>) {
        self.put_drops(out);
        while let Some(acked) = self.take_acked() {
            ClientFrame::Ack.put(Some(&acked), out);
        }
    }

    fn put_drops(&mut self, out: &mut Vec<u8>) {
        while !self.unheld.is_empty() {
            let mut drop = Vec::new();
            while drop.len() < REFS_MAX {
                let Some(ident) = self.unheld.pop() else { break };
                // It may be held again, or stand here twice.
                if self.refs.get(&ident).is_some_and(|count| count.held == 0) {
                    let count = self.refs.remove(&ident).expect("it was just found");
                    drop.push((ident, count.received));
                }
            }
            if !drop.is_empty() {
                let acked = self.take_acked();
                ClientFrame::Refs(Refs { drop, ..Refs::default() }).put(acked.as_ref(), out);
            }
        }
    }

    fn note_arrival(&mut self, seq: u64) {
        match self.arrived.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => self.arrived.push((seq, seq)),
        }
    }

    /// What arrived since the last frame that said so. Below the floor nothing waits, so ranges there go without saying.
    fn take_acked(&mut self) -> Option<Acked> {
        if self.arrived.is_empty() {
            return None;
        }
        let floor = self.waiting.first_key_value().map_or(self.seq_next, |(&seq, _)| seq);
        self.arrived.retain_mut(|(first, last)| {
            *first = floor.max(*first);
            first <= last
        });
        if self.arrived.is_empty() {
            // In a dialogue of call and reply this is the way, and it allocates nothing.
            return Some(Acked { floor, ranges: Vec::new() });
        }
        self.arrived.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(self.arrived.len().min(RANGES_MAX));
        let mut rest = Vec::new();
        for (first, last) in self.arrived.drain(..) {
            if let Some((_, before)) = ranges.last_mut()
                && *before + 1 == first
            {
                *before = last;
            } else if ranges.len() < RANGES_MAX {
                ranges.push((first, last));
            } else {
                rest.push((first, last));
            }
        }
        self.arrived = rest;
        Some(Acked { floor, ranges })
    }

    /// There will be no more replies: whoever waits is told.
    pub(crate) fn end(&mut self, ending: Ending, after: &mut After) {
        if self.ended.is_none() {
            self.ended = Some(ending);
            for (_, waiting) in std::mem::take(&mut self.waiting) {
                after.wakers.extend(waiting.waker);
            }
            self.arrived.clear();
            self.unheld.clear();
            self.releases.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: (Ident, u64) = (Ident(7), 1);

    fn send(core: &mut Core) -> u64 {
        core.send(&mut Vec::new(), Class::Running, QUEUE, true, |seq| ClientFrame::Fork { seq })
    }

    fn arrive(core: &mut Core, seq: u64, tokens: &[Ident], grant: Option<Grant>) {
        let payload = &[steward_wire::cbor::NULL];
        let reply = frame::Reply { seq, effect: Effect::Returned, payload, epoch: 0, version: 0, index: 0, grant };
        core.arrive(&reply, tokens.to_vec(), &mut After::default());
    }

    fn frames(bytes: &[u8]) -> Vec<String> {
        let mut at = 0;
        let mut frames = Vec::new();
        while let Some(length) = frame::length(&bytes[at..]) {
            let body = &bytes[at + frame::LENGTH_BYTES..][..length];
            frames.push(format!("{:?}", ClientFrame::read(body).unwrap()));
            at += frame::LENGTH_BYTES + length;
        }
        frames
    }

    #[test]
    fn acknowledgements_name_what_arrived_above_the_floor() {
        let mut core = Core::new();
        let seqs: Vec<u64> = (0..6).map(|_| send(&mut core)).collect();
        for &seq in [seqs[5], seqs[0], seqs[2], seqs[3]].iter() {
            arrive(&mut core, seq, &[], None);
        }
        assert_eq!(core.take_acked(), Some(Acked { floor: 2, ranges: vec![(3, 4), (6, 6)] }));
        assert_eq!(core.take_acked(), None, "nothing is said twice");
        arrive(&mut core, seqs[1], &[], None);
        assert_eq!(core.take_acked(), Some(Acked { floor: 5, ranges: Vec::new() }));
    }

    #[test]
    fn ranges_beyond_a_frame_go_with_the_next() {
        let mut core = Core::new();
        let seqs: Vec<u64> = (0..4 * RANGES_MAX as u64).map(|_| send(&mut core)).collect();
        for &seq in seqs.iter().skip(1).step_by(2) {
            arrive(&mut core, seq, &[], None);
        }
        assert_eq!(core.take_acked().map(|acked| acked.ranges.len()), Some(RANGES_MAX));
        assert_eq!(core.take_acked().map(|acked| acked.ranges.len()), Some(RANGES_MAX));
        assert_eq!(core.take_acked(), None);
    }

    #[test]
    fn drop_tells_how_often_the_token_was_received() {
        let mut core = Core::new();
        let lock = Ident(9);
        for _ in 0..2 {
            let seq = send(&mut core);
            arrive(&mut core, seq, &[lock, lock], None);
            let reply = core.fetch(seq, Waker::noop()).unwrap().unwrap();
            core.hold(lock);
            reply.pins.into_iter().for_each(|ident| core.let_go(ident));
        }
        let mut out = Vec::new();
        core.put_owed(&mut out);
        core.let_go(lock);
        assert!(!format!("{:?}", frames(&out)).contains("drop: [(Ident(9)"), "one handle is left");
        out.clear();
        core.let_go(lock);
        core.put_owed(&mut out);
        assert!(frames(&out)[0].contains("drop: [(Ident(9), 4)]"), "{:?}", frames(&out));
        assert!(!core.is_owing());
    }

    #[test]
    fn ident_that_is_held_again_in_time_is_not_dropped() {
        let mut core = Core::new();
        core.adopt(Ident(9), &mut Vec::new());
        core.hold(Ident(9));
        core.let_go(Ident(9));
        core.hold(Ident(9));
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(out.is_empty(), "{:?}", frames(&out));
    }

    #[test]
    fn more_drops_than_a_frame_takes_are_all_sent() {
        let mut core = Core::new();
        for ident in 1..=REFS_MAX as u64 + 2 {
            core.adopt(Ident(ident), &mut Vec::new());
            core.hold(Ident(ident));
            core.let_go(Ident(ident));
        }
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert_eq!(frames(&out).len(), 2);
        assert!(core.refs.is_empty());
    }

    /// A task gives up its acquire; the cancel crosses the grant. Whichever way the two meet, the lock is released.
    #[test]
    fn grant_that_nobody_awaits_is_released() {
        let grant = Some(Grant { fence: 3, abandoned: false });
        for arrives_first in [true, false] {
            let mut core = Core::new();
            let seq = send(&mut core);
            let mut out = Vec::new();
            if arrives_first {
                arrive(&mut core, seq, &[], grant);
                core.abandon(seq, QUEUE, &mut out);
            } else {
                core.abandon(seq, QUEUE, &mut out);
                assert!(frames(&out)[0].contains("Cancel { seq: 1 }"));
                arrive(&mut core, seq, &[], grant);
            }
            out.clear();
            core.put_releases(&mut out, || false);
            assert!(out.is_empty(), "a release runs, so it waits for a permit");
            core.put_releases(&mut out, || true);
            assert!(frames(&out)[0].contains("method: Name(\"release\")"), "{:?}", frames(&out));
            assert!(core.done.is_empty());
        }
    }

    #[test]
    fn tokens_of_a_reply_that_came_too_late_are_dropped() {
        let mut core = Core::new();
        let seq = send(&mut core);
        core.abandon(seq, QUEUE, &mut Vec::new());
        arrive(&mut core, seq, &[Ident(9)], None);
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(frames(&out)[0].contains("drop: [(Ident(9), 1)]"));
    }

    #[test]
    fn end_wakes_whoever_waits_and_keeps_what_has_arrived() {
        let mut core = Core::new();
        let (arrived, lost) = (send(&mut core), send(&mut core));
        arrive(&mut core, arrived, &[], None);
        assert!(core.fetch(lost, Waker::noop()).is_none());
        let mut after = After::default();
        core.end(Ending { cause: "reset".into() }, &mut after);
        assert_eq!(after.wakers.len(), 1);
        assert!(core.fetch(arrived, Waker::noop()).unwrap().is_ok());
        assert_eq!(core.fetch(lost, Waker::noop()).unwrap().unwrap_err().unknown().effect, Effect::Unknown);
    }
}
