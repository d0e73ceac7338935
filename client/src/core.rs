//! What a session knows, without any I/O: calls that wait for replies, acknowledgements, references, its lease.
//!
//! One invariant drives it: whatever the host has sent is counted here when it arrives, whether or not
//! anybody still wants it. So the host's and the client's counts of references agree, and a reply that
//! comes too late is still acknowledged, its tokens are still dropped and its lock is still released.
//!
//! A connection may be lost at any byte. What the host may not have had is kept: requests until their replies are there, changes of
//! references until a reply to something sent after them is. [`Core::resume`] says it all again on the next connection, and
//! the host knows by their numbers what it has had.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::task::Waker;

use bytes::Bytes;
use steward_wire::frame::{self, Acked, ClientFrame, Grant, Refs};
use steward_wire::{Effect, Fault, Ident, Spread};

use crate::lease::Lease;
use crate::request::Request;

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

/// The object's state that a reply shows: versions of one epoch rise by one with each step that changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The object's incarnation.
    pub epoch: u64,
    /// Its version after the step that the reply came out of; 0 if it came out of none.
    pub version: u64,
    /// The reply's place among those of that step.
    pub index: u64,
}

/// A reply, out of its frame.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) effect: Effect,
    pub(crate) payload: Bytes,
    pub(crate) version: Version,
    pub(crate) grant: Option<Grant>,
    /// Idents of the tokens inside, once for each time they occur. Each is held until somebody
    /// gives it to [`Core::let_go`].
    pub(crate) pins: Vec<Ident>,
    /// What was refused.
    pub(crate) refused: Option<Box<Sent>>,
}

impl Reply {
    /// The fault, if it is a refusal.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        if self.effect == Effect::Refused { Fault::read(Effect::Refused, &self.payload).ok() } else { None }
    }
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
    wanted: Wanted,
    sent: Sent,
}

/// What is wanted of a call.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Somebody will [`Core::fetch`] the reply, and is to be woken then.
    Reply(Option<Waker>),
    /// It shall happen, and nobody will fetch the reply: a release.
    Effect,
    /// Nothing: it was given up.
    Nothing,
}

/// What was sent, to be sent again should the connection be lost.
#[derive(Debug)]
pub(crate) enum Sent {
    /// By the lane.
    Lane(Request),
    /// By a way of its own: what it calls, and its frame once that was made.
    Bulk((Ident, u64), Bytes),
}

impl Sent {
    fn target(&self) -> (Ident, u64) {
        match self {
            Self::Lane(request) => request.target(),
            Self::Bulk(target, _) => *target,
        }
    }

    /// The request, once it was answered.
    pub(crate) fn into_request(self) -> Option<Request> {
        match self {
            Self::Lane(request) => Some(request),
            Self::Bulk(_, frame) => Request::read(&frame),
        }
    }
}

/// How often an ident was received and how many handles want it.
#[derive(Debug, Default)]
struct Count {
    held: u64,
    received: u64,
}

/// Changes of references that the host may not have had.
#[derive(Debug)]
struct Logged {
    /// A reply by the lane to this seq or a later one proves that it has.
    proof_seq: u64,
    refs: Refs,
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

type BySeq<T> = HashMap<u64, T, BuildHasherDefault<Spread>>;

#[derive(Debug)]
pub(crate) struct Core {
    seq_next: u64,
    /// Below it nothing waits. Follows [`Core::waiting`] when it is asked for.
    floor: u64,
    waiting: BySeq<Waiting>,
    /// Replies that nobody has fetched yet.
    done: BySeq<Reply>,
    /// Seqs that arrived and are not acknowledged; ascending runs in order of arrival.
    arrived: Vec<(u64, u64)>,
    /// Idents are the host's choice, so their hash is a keyed one.
    refs: HashMap<Ident, Count>,
    /// Idents that nothing held at some moment since the last frame of references.
    unheld: Vec<Ident>,
    /// Changes of references that the host may not have had, and the number of the last.
    refs_log: VecDeque<Logged>,
    refs_number: u64,
    /// Calls that the host let wait: it keeps too many replies, and did not begin them.
    held_back: Vec<u64>,
    /// Releases that wait until fewer calls run.
    releases: VecDeque<(Ident, u64)>,
    pub(crate) lease: Lease,
    ended: Option<Ending>,
}

impl Core {
    pub(crate) fn new(lease: Lease) -> Self {
        Self {
            seq_next: 1,
            floor: 1,
            waiting: BySeq::default(),
            done: BySeq::default(),
            arrived: Vec::new(),
            refs: HashMap::new(),
            unheld: Vec::new(),
            refs_log: VecDeque::new(),
            refs_number: 0,
            held_back: Vec::new(),
            releases: VecDeque::new(),
            lease,
            ended: None,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Whether acknowledgements or dropped references wait for a frame.
    pub(crate) fn is_owing(&self) -> bool {
        !self.arrived.is_empty() || !self.unheld.is_empty() || !self.held_back.is_empty()
    }

    /// Expects the reply to a request and appends its frame to the lane, preceded by the references that were dropped;
    /// without a lane it goes out with the next [`Core::resume`].
    pub(crate) fn send(&mut self, out: Option<&mut Vec<u8>>, class: Class, wanted: Wanted, request: Request) -> u64 {
        let seq = self.seq_next;
        if let Some(out) = out {
            self.put_drops(out);
            let acked = self.take_acked();
            request.frame(seq).put(acked.as_ref(), out);
        }
        self.expect(class, wanted, Sent::Lane(request))
    }

    /// Expects a reply to a frame that the caller sends by another way than the lane, once it has called [`Core::made`]. `named`
    /// becomes what it names and this session has, held until the caller lets go of it: other ways have no order with the lane,
    /// on which none of it may be dropped before the call is there.
    pub(crate) fn send_bulk(&mut self, class: Class, target: (Ident, u64), named: &mut Vec<Ident>) -> u64 {
        named.retain(|&ident| self.hold_known(ident));
        self.expect(class, Wanted::Reply(None), Sent::Bulk(target, Bytes::new()))
    }

    /// Keeps the frame that [`Core::send_bulk`] was promised.
    pub(crate) fn made(&mut self, seq: u64, made: Bytes) {
        if let Some(Waiting { sent: Sent::Bulk(_, frame), .. }) = self.waiting.get_mut(&seq) {
            *frame = made;
        }
    }

    fn expect(&mut self, class: Class, wanted: Wanted, sent: Sent) -> u64 {
        let seq = self.seq_next;
        self.seq_next += 1;
        self.waiting.insert(seq, Waiting { class, wanted, sent });
        seq
    }

    /// A call counts against the other limit from now on; false if its reply is there.
    pub(crate) fn reclassify(&mut self, seq: u64, class: Class) -> bool {
        let waiting = self.waiting.get_mut(&seq);
        waiting.map(|waiting| waiting.class = class).is_some()
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
        match &mut waiting.wanted {
            Wanted::Reply(Some(known)) if known.will_wake(waker) => {}
            wanted => *wanted = Wanted::Reply(Some(waker.clone())),
        }
        None
    }

    /// Nobody wants the reply to `seq` any more: cancels the call, or undoes what its reply brought.
    pub(crate) fn abandon(&mut self, seq: u64, target: (Ident, u64), out: Option<&mut Vec<u8>>) {
        if let Some(reply) = self.done.remove(&seq) {
            self.undo(reply.grant, target);
            for pinned in reply.pins {
                self.let_go(pinned);
            }
        } else if let Some(waiting) = self.waiting.get_mut(&seq) {
            waiting.wanted = Wanted::Nothing;
            // Should it be granted all the same, the release must find the object: its handle may go meanwhile.
            let given_up = waiting.sent.target().0;
            self.hold(given_up);
            if let Some(out) = out {
                let acked = self.take_acked();
                ClientFrame::Cancel { seq }.put(acked.as_ref(), out);
            }
        }
    }

    /// Takes in a reply and the tokens inside its payload, which `keep` keeps. One to an unknown seq is ignored: a host may
    /// repeat itself.
    pub(crate) fn arrive(
        &mut self,
        reply: &frame::Reply<'_>,
        tokens: Vec<Ident>,
        keep: impl FnOnce(&[u8]) -> Bytes,
        after: &mut After,
    ) {
        if reply.effect == Effect::Refused && self.is_held_back(reply) {
            return;
        }
        let Some(waiting) = self.waiting.remove(&reply.seq) else { return };
        self.note_arrival(reply.seq);
        after.freed(waiting.class);
        if let Sent::Lane(_) = waiting.sent {
            self.lease.replied(reply.seq);
            while self.refs_log.front().is_some_and(|logged| logged.proof_seq <= reply.seq) {
                self.refs_log.pop_front();
            }
        }
        for &ident in &tokens {
            self.receive(ident);
            self.hold(ident);
        }
        if let Wanted::Reply(waker) = waiting.wanted {
            after.wakers.extend(waker);
            let frame::Reply { effect, payload, epoch, version, index, grant, .. } = *reply;
            let version = Version { epoch, version, index };
            let payload = keep(payload);
            let refused = (effect == Effect::Refused).then(|| Box::new(waiting.sent));
            self.done.insert(reply.seq, Reply { effect, payload, version, grant, pins: tokens, refused });
        } else {
            for ident in tokens {
                self.let_go(ident);
            }
            let target = waiting.sent.target();
            self.undo(reply.grant, target);
            if matches!(waiting.wanted, Wanted::Nothing) {
                self.let_go(target.0);
            }
        }
    }

    /// Whether a refused call is to be sent again, under the same seq: the host keeps as many replies as it may, which this side
    /// cannot foresee, and will have room once those are acknowledged that are on their way.
    fn is_held_back(&mut self, reply: &frame::Reply<'_>) -> bool {
        let refused = Fault::read(Effect::Refused, reply.payload);
        let full =
            refused.is_ok_and(|fault| fault.retryable && matches!(&*fault.kind, "TooManyReplies" | "TooManyCalls"));
        let again = matches!(
            self.waiting.get(&reply.seq),
            Some(Waiting { wanted: Wanted::Reply(_) | Wanted::Effect, sent: Sent::Lane(_), .. })
        );
        if full && again {
            self.held_back.push(reply.seq);
        }
        full && again
    }

    /// A grant that nobody is there to take is given back.
    fn undo(&mut self, grant: Option<Grant>, target: (Ident, u64)) {
        if grant.is_some() {
            self.release(target.0, target.1);
        }
    }

    /// Releases `ident` without anybody waiting for the reply. Until that is sent the object is held.
    pub(crate) fn release(&mut self, ident: Ident, owner: u64) {
        self.hold(ident);
        self.releases.push_back((ident, owner));
    }

    /// Sends releases while `permit` lets one more call run.
    pub(crate) fn put_releases(&mut self, mut out: Option<&mut Vec<u8>>, mut permit: impl FnMut() -> bool) {
        while !self.releases.is_empty() && permit() {
            let Some((ident, owner)) = self.releases.pop_front() else { break };
            self.send(out.as_deref_mut(), Class::Running, Wanted::Effect, Request::release(ident, owner));
            self.let_go(ident);
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
    pub(crate) fn adopt(&mut self, ident: Ident, out: Option<&mut Vec<u8>>) {
        if ident != Ident::HOST {
            self.receive(ident);
            self.put_refs(Refs { incref: vec![ident], ..Refs::default() }, out);
        }
    }

    /// Tells the host that a token of `ident` leaves this session, for another process or a file.
    pub(crate) fn share(&mut self, ident: Ident, out: Option<&mut Vec<u8>>) {
        if ident != Ident::HOST {
            self.put_refs(Refs { shared: vec![ident], ..Refs::default() }, out);
        }
    }

    /// The session began with references: those that its parent held when it forked.
    pub(crate) fn inherit(&mut self, idents: impl IntoIterator<Item = Ident>) {
        for ident in idents {
            self.receive(ident);
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
        for seq in std::mem::take(&mut self.held_back) {
            // One that was given up meanwhile has been cancelled.
            if let Some(Waiting { wanted: Wanted::Reply(_) | Wanted::Effect, sent: Sent::Lane(request), .. }) =
                self.waiting.get(&seq)
            {
                request.frame(seq).put(None, out);
            }
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
                    // One that never came by a frame has nothing to be taken back.
                    drop.extend((count.received > 0).then_some((ident, count.received)));
                }
            }
            if !drop.is_empty() {
                self.put_refs(Refs { drop, ..Refs::default() }, Some(out));
            }
        }
    }

    fn put_refs(&mut self, refs: Refs, out: Option<&mut Vec<u8>>) {
        self.refs_number += 1;
        let frame = ClientFrame::Refs(Refs { number: self.refs_number, ..refs });
        if let Some(out) = out {
            let acked = self.take_acked();
            frame.put(acked.as_ref(), out);
        }
        let ClientFrame::Refs(refs) = frame else { unreachable!("it was just made") };
        self.refs_log.push_back(Logged { proof_seq: self.seq_next, refs });
    }

    /// How many calls wait for replies, those included that nobody wants any more.
    #[cfg(feature = "sim")]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Appends a heartbeat if it is time for one.
    pub(crate) fn tick(&mut self, now_ms: u64, out: &mut Vec<u8>) {
        if self.lease.tick(now_ms, self.seq_next) {
            let acked = self.take_acked();
            ClientFrame::Heartbeat.put(acked.as_ref(), out);
        }
    }

    /// Says on a new lane all that the host may not have had: acknowledgements, then changes of references and calls without reply
    /// in the order in which they were said first, and of calls that were given up only that, unless
    /// they were to let go of something. Gives the frames that are to be sent by other ways.
    pub(crate) fn resume(&mut self, out: &mut Vec<u8>) -> Vec<Bytes> {
        self.arrived.clear();
        self.held_back.clear();
        let mut waiting: Vec<u64> = self.waiting.keys().copied().collect();
        waiting.sort_unstable();
        self.put_all_acked(&waiting, out);
        let mut bulk = Vec::new();
        let mut logged = self.refs_log.iter().peekable();
        for seq in waiting {
            // As they were sent first: what a call names may be dropped after it.
            while let Some(Logged { refs, .. }) = logged.next_if(|logged| logged.proof_seq <= seq) {
                ClientFrame::Refs(refs.clone()).put(None, out);
            }
            match &self.waiting[&seq] {
                Waiting { wanted: Wanted::Nothing, sent, .. } => {
                    if let Sent::Lane(request) = sent
                        && request.lets_go()
                    {
                        request.frame(seq).put(None, out);
                    }
                    ClientFrame::Cancel { seq }.put(None, out);
                }
                Waiting { sent: Sent::Lane(request), .. } => request.frame(seq).put(None, out),
                // One that was not made yet is sent when it is.
                Waiting { sent: Sent::Bulk(_, frame), .. } if frame.is_empty() => {}
                Waiting { sent: Sent::Bulk(_, frame), .. } => bulk.push(frame.clone()),
            }
        }
        for Logged { refs, .. } in logged {
            ClientFrame::Refs(refs.clone()).put(None, out);
        }
        bulk
    }

    /// Acknowledges everything that does not wait.
    fn put_all_acked(&mut self, waiting: &[u64], out: &mut Vec<u8>) {
        let floor = waiting.first().copied().unwrap_or(self.seq_next);
        self.floor = floor;
        let ends = waiting.iter().skip(1).copied().chain([self.seq_next]);
        let gaps = waiting.iter().zip(ends).map(|(&seq, next)| (seq + 1, next - 1));
        let ranges: Vec<_> = gaps.filter(|(first, last)| first <= last).collect();
        let mut frames = ranges.chunks(RANGES_MAX);
        ClientFrame::Ack.put(Some(&Acked { floor, ranges: frames.next().map(<[_]>::to_vec).unwrap_or_default() }), out);
        for ranges in frames {
            ClientFrame::Ack.put(Some(&Acked { floor, ranges: ranges.to_vec() }), out);
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
        while self.floor < self.seq_next && !self.waiting.contains_key(&self.floor) {
            self.floor += 1;
        }
        let floor = self.floor;
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
                if let Wanted::Reply(waker) = waiting.wanted {
                    after.wakers.extend(waker);
                }
            }
            self.arrived.clear();
            self.unheld.clear();
            self.refs_log.clear();
            self.releases.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use steward_wire::{Token, Value};

    use super::*;

    const QUEUE: (Ident, u64) = (Ident(7), 1);

    fn send(core: &mut Core) -> u64 {
        core.send(Some(&mut Vec::new()), Class::Running, Wanted::Reply(None), Request::release(QUEUE.0, QUEUE.1))
    }

    fn arrive(core: &mut Core, seq: u64, tokens: &[Ident], grant: Option<Grant>) {
        let payload = &[steward_wire::cbor::NULL];
        let reply = frame::Reply { seq, effect: Effect::Returned, payload, epoch: 0, version: 0, index: 0, grant };
        core.arrive(&reply, tokens.to_vec(), Bytes::copy_from_slice, &mut After::default());
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
        let mut core = Core::new(Lease::new(10_000, 0));
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
        let mut core = Core::new(Lease::new(10_000, 0));
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
        let mut core = Core::new(Lease::new(10_000, 0));
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
        let mut core = Core::new(Lease::new(10_000, 0));
        core.adopt(Ident(9), Some(&mut Vec::new()));
        core.hold(Ident(9));
        core.let_go(Ident(9));
        core.hold(Ident(9));
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(out.is_empty(), "{:?}", frames(&out));
    }

    #[test]
    fn more_drops_than_a_frame_takes_are_all_sent() {
        let mut core = Core::new(Lease::new(10_000, 0));
        for ident in 1..=REFS_MAX as u64 + 2 {
            core.adopt(Ident(ident), Some(&mut Vec::new()));
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
            let mut core = Core::new(Lease::new(10_000, 0));
            let seq = send(&mut core);
            let mut out = Vec::new();
            if arrives_first {
                arrive(&mut core, seq, &[], grant);
                core.abandon(seq, QUEUE, Some(&mut out));
            } else {
                core.abandon(seq, QUEUE, Some(&mut out));
                assert!(frames(&out)[0].contains("Cancel { seq: 1 }"));
                arrive(&mut core, seq, &[], grant);
            }
            out.clear();
            core.put_releases(Some(&mut out), || false);
            assert!(out.is_empty(), "a release runs, so it waits for a permit");
            core.put_releases(Some(&mut out), || true);
            assert!(frames(&out)[0].contains("method: Name(\"release\")"), "{:?}", frames(&out));
            assert!(core.done.is_empty());
        }
    }

    #[test]
    fn tokens_of_a_reply_that_came_too_late_are_dropped() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let seq = send(&mut core);
        core.abandon(seq, QUEUE, Some(&mut Vec::new()));
        arrive(&mut core, seq, &[Ident(9)], None);
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(frames(&out)[0].contains("drop: [(Ident(9), 1)]"));
    }

    #[test]
    fn end_wakes_whoever_waits_and_keeps_what_has_arrived() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let (arrived, lost) = (send(&mut core), send(&mut core));
        arrive(&mut core, arrived, &[], None);
        assert!(core.fetch(lost, Waker::noop()).is_none());
        let mut after = After::default();
        core.end(Ending { cause: "reset".into() }, &mut after);
        assert_eq!(after.wakers.len(), 1);
        assert!(core.fetch(arrived, Waker::noop()).unwrap().is_ok());
        assert_eq!(core.fetch(lost, Waker::noop()).unwrap().unwrap_err().unknown().effect, Effect::Unknown);
    }

    /// What was sent is said again in an order that the host can rely on, and nothing that it has surely had.
    #[test]
    fn resumed_lane_begins_with_all_that_may_be_lost() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let seqs: Vec<u64> = (0..5).map(|_| send(&mut core)).collect();
        arrive(&mut core, seqs[1], &[Ident(9)], None);
        core.fetch(seqs[1], Waker::noop()).unwrap().unwrap().pins.into_iter().for_each(|ident| core.let_go(ident));
        core.put_owed(&mut Vec::new());
        core.abandon(seqs[3], QUEUE, None);
        let last = send(&mut core);
        let mut out = Vec::new();
        assert!(core.resume(&mut out).is_empty());
        let said = frames(&out);
        let expected = [
            "Ack, Some(Acked { floor: 1, ranges: [(2, 2)] })",
            "Call { seq: 1,",
            "Call { seq: 3,",
            "Cancel { seq: 4 }",
            "Call { seq: 5,",
            "drop: [(Ident(9), 1)], number: 1",
            "Call { seq: 6,",
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said} without {expected}");
        }
        arrive(&mut core, seqs[0], &[], None);
        assert_eq!(core.refs_log.len(), 1, "they come after it");
        arrive(&mut core, last, &[], None);
        assert!(core.refs_log.is_empty());
    }

    /// A given-up acquire is granted after all, and its lock's proxy is gone by then: the drop waits for the release, on the first
    /// lane and on any later one.
    #[test]
    fn drop_does_not_overtake_the_release() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let lock = QUEUE.0;
        core.adopt(lock, Some(&mut Vec::new()));
        core.hold(lock);
        let seq = send(&mut core);
        core.abandon(seq, QUEUE, Some(&mut Vec::new()));
        core.let_go(lock);
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(out.is_empty(), "{:?}", frames(&out));
        arrive(&mut core, seq, &[], Some(Grant { fence: 3, abandoned: false }));
        core.put_releases(Some(&mut out), || true);
        core.put_owed(&mut out);
        let is_in_order = |said: &[String]| {
            let at = |what: &str| said.iter().position(|said| said.contains(what)).unwrap();
            at("method: Name(\"release\")") < at("drop: [(Ident(7), 1)]")
        };
        assert!(is_in_order(&frames(&out)), "{:?}", frames(&out));
        out.clear();
        core.resume(&mut out);
        assert!(is_in_order(&frames(&out)), "{:?}", frames(&out));
    }

    /// A wait that was given up has let go of its lock, as its caller believes: the host must hear of both.
    #[test]
    fn wait_that_was_given_up_still_lets_go_of_its_lock() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let Request::Call { ident, owner, method, args, .. } = Request::release(Ident(9), 1) else { panic!("a call") };
        let wait = Request::Call { ident, owner, method, args, deadline_ms: None, guard: None, lets_go: true };
        let seq = core.send(None, Class::Parked, Wanted::Reply(None), wait);
        core.abandon(seq, (ident, owner), None);
        let mut out = Vec::new();
        core.resume(&mut out);
        let said = frames(&out);
        assert!(said[1].contains("Call { seq: 1,") && said[2].contains("Cancel { seq: 1 }"), "{said:?}");
    }

    /// A release has nobody who waits for its reply, and must happen all the same.
    #[test]
    fn release_is_sent_again_and_not_given_up() {
        let mut core = Core::new(Lease::new(10_000, 0));
        core.release(Ident(9), 1);
        core.put_releases(Some(&mut Vec::new()), || true);
        let mut out = Vec::new();
        core.resume(&mut out);
        assert!(frames(&out)[1].contains("method: Name(\"release\")"), "{:?}", frames(&out));
    }

    #[test]
    fn call_that_a_full_host_refuses_is_sent_again_under_its_seq() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let (seq, other) = (send(&mut core), send(&mut core));
        let mut payload = Vec::new();
        Fault::refused("TooManyReplies", "").retry().put(&mut payload);
        let (effect, payload) = (Effect::Refused, &payload[..]);
        let reply = frame::Reply { seq, effect, payload, epoch: 0, version: 0, index: 0, grant: None };
        core.arrive(&reply, Vec::new(), Bytes::copy_from_slice, &mut After::default());
        assert!(core.fetch(seq, Waker::noop()).is_none() && core.is_owing());
        arrive(&mut core, other, &[], None);
        let mut out = Vec::new();
        core.put_owed(&mut out);
        let said = frames(&out);
        assert!(said[0].contains("Acked { floor: 1, ranges: [(2, 2)] }"), "{said:?}");
        assert!(said[1].contains("Call { seq: 1,"), "what makes room comes first: {said:?}");
        assert!(!core.is_owing());
        arrive(&mut core, seq, &[], None);
        assert!(core.fetch(seq, Waker::noop()).unwrap().is_ok());
    }

    #[test]
    fn references_are_kept_until_a_later_call_is_answered() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let before = send(&mut core);
        core.adopt(Ident(9), Some(&mut Vec::new()));
        let after = send(&mut core);
        arrive(&mut core, before, &[], None);
        assert_eq!(core.refs_log.len(), 1);
        arrive(&mut core, after, &[], None);
        assert!(core.refs_log.is_empty());
    }

    /// A large call is on its way when the lock of its guard, and an argument, are let go of.
    #[test]
    fn drop_does_not_overtake_a_bulk_call_that_names_it() {
        let mut core = Core::new(Lease::new(10_000, 0));
        for ident in [Ident(8), Ident(9)] {
            core.adopt(ident, Some(&mut Vec::new()));
            core.hold(ident);
        }
        let token = Value::Token(Token { typeid: "Value".into(), ident: Ident(8), address: None });
        let args = Value::List(vec![Value::List(vec![token]), Value::Map(vec![])]).to_vec();
        let guard = Some(frame::Guard { lock: Ident(9), fence: 1 });
        let method = crate::request::Method::Known("put");
        let (ident, owner) = QUEUE;
        let put = Request::Call { ident, owner, method, args, deadline_ms: None, guard, lets_go: false };
        let mut named = put.named();
        core.send_bulk(Class::Running, QUEUE, &mut named);
        [Ident(8), Ident(9)].into_iter().for_each(|ident| core.let_go(ident));
        let mut out = Vec::new();
        core.put_owed(&mut out);
        assert!(out.is_empty(), "{:?}", frames(&out));
        named.into_iter().for_each(|ident| core.let_go(ident));
        core.put_owed(&mut out);
        assert!(frames(&out)[0].contains("drop: [(Ident(9), 1), (Ident(8), 1)]"), "{:?}", frames(&out));
    }

    #[test]
    fn bulk_frames_are_handed_out_again() {
        let mut core = Core::new(Lease::new(10_000, 0));
        let [made, unmade] = [(); 2].map(|()| core.send_bulk(Class::Running, QUEUE, &mut Vec::new()));
        core.made(made, Bytes::from_static(b"frame"));
        assert_eq!(core.resume(&mut Vec::new()), [Bytes::from_static(b"frame")]);
        core.made(unmade, Bytes::from_static(b"late"));
        assert_eq!(core.resume(&mut Vec::new()).len(), 2);
    }
}
