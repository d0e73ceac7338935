//! A session's own knowledge without connections, tasks and a clock, for simulations: whoever drives it carries the bytes and brings
//! the time. Nothing here decides anything but what the session's task does beside `Core`.

use std::collections::BTreeMap;
use std::task::Waker;

use bytes::Bytes;
use steward_wire::frame::{Grant, Guard, HostFrame};
use steward_wire::{Effect, Ident, Limits, check, value};

use crate::connect::Fork;
use crate::core::{After, Class, Core, Ending, Version, Wanted};
use crate::lease::Lease;
use crate::request::{Method, Request};

/// A call to be sent.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// What is called.
    pub ident: u64,
    /// By which task.
    pub owner: u64,
    /// The method's name.
    pub method: &'a str,
    /// Encoded.
    pub args: Vec<u8>,
    /// How long it may wait.
    pub deadline_ms: Option<u64>,
    /// The lock, and the fence under which it must be held.
    pub guard: Option<(u64, u64)>,
    /// Whether the method may wait.
    pub may_park: bool,
}

/// A reply that was fetched.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What became of the call.
    pub effect: Effect,
    /// Its result or fault.
    pub payload: Vec<u8>,
    /// Where it stands in the life of the object.
    pub version: Version,
    /// What it was granted.
    pub grant: Option<Grant>,
    /// The tokens in it, which the caller holds until it gives them to [`Session::let_go`].
    pub pins: Vec<u64>,
}

/// What bytes from the host brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// The host says goodbye.
    pub goodbye: bool,
    /// Calls that no longer count against the limits.
    pub freed: usize,
}

/// What has arrived by a lane, or a stream that carries a large reply.
#[derive(Debug, Default)]
pub struct Received(Vec<u8>);

/// A large call under way.
#[derive(Debug)]
struct Large {
    /// Until its frame is made.
    request: Option<Request>,
    /// What it names, held until it is over.
    named: Vec<Ident>,
}

/// A session. `out` is the lane's buffer, `None` while there is no lane.
#[derive(Debug)]
pub struct Session {
    core: Core,
    /// A call whose frame is larger does not travel on the lane.
    bulk_bytes_min: usize,
    large: BTreeMap<u64, Large>,
}

impl Session {
    /// A session whose sign-in was begun at `now_ms`.
    pub fn new(lease_ms: u64, bulk_bytes_min: usize, now_ms: u64) -> Self {
        Self { core: Core::new(Lease::new(lease_ms, now_ms)), bulk_bytes_min, large: BTreeMap::new() }
    }

    /// It is a fork, and holds these from the start.
    pub fn inherit(&mut self, idents: &[u64]) {
        self.core.inherit(idents.iter().copied().map(Ident));
    }

    /// Sends a call and gives its seq. A large one is only expected: it is sent with what [`Session::make`] gives.
    pub fn call(&mut self, out: Option<&mut Vec<u8>>, call: Call<'_>) -> u64 {
        let Call { ident, owner, method, args, deadline_ms, guard, may_park } = call;
        let class = if may_park && deadline_ms != Some(0) { Class::Parked } else { Class::Running };
        let lets_go = method == "wait";
        let guard = guard.map(|(lock, fence)| Guard { lock: Ident(lock), fence });
        let (ident, method) = (Ident(ident), Method::Name(method.into()));
        let request = Request::Call { ident, owner, method, args, deadline_ms, guard, lets_go };
        if request.bytes_max() <= self.bulk_bytes_min {
            return self.core.send(out, class, Wanted::Reply(None), request);
        }
        let mut named = request.named();
        let seq = self.core.send_bulk(class, request.target(), &mut named);
        self.large.insert(seq, Large { request: Some(request), named });
        seq
    }

    /// Whether a call is large, and its frame not made yet.
    pub fn is_unmade(&self, seq: u64) -> bool {
        self.large.get(&seq).is_some_and(|large| large.request.is_some())
    }

    /// Makes the frame of a large call, which is to be sent on a stream of its own; none if the call is over.
    pub fn make(&mut self, seq: u64) -> Option<Vec<u8>> {
        let request = self.large.get_mut(&seq)?.request.take()?;
        let mut frame = Vec::new();
        request.frame(seq).put(None, &mut frame);
        self.core.made(seq, Bytes::copy_from_slice(&frame));
        Some(frame)
    }

    /// Asks for a fork and gives the call's seq; [`forked`] reads the reply.
    pub fn fork(&mut self, out: Option<&mut Vec<u8>>) -> u64 {
        self.core.send(out, Class::Running, Wanted::Reply(None), Request::Fork)
    }

    /// Asks for an object and gives the call's seq.
    pub fn create(
        &mut self,
        out: Option<&mut Vec<u8>>,
        owner: u64,
        typeid: &str,
        args: Vec<u8>,
        name: Option<&str>,
    ) -> u64 {
        let request = Request::Create { owner, typeid: typeid.into(), args, name: name.map(Into::into), idle_ms: None };
        self.core.send(out, Class::Running, Wanted::Reply(None), request)
    }

    /// The reply to a call, once; the error says why there will be none.
    ///
    /// # Errors
    /// The session has ended.
    pub fn fetch(&mut self, seq: u64) -> Option<Result<Reply, String>> {
        let fetched = self.core.fetch(seq, Waker::noop())?;
        self.let_go_of_named(seq);
        Some(fetched.map_err(|ending| ending.cause).map(|reply| Reply {
            effect: reply.effect,
            payload: reply.payload.to_vec(),
            version: reply.version,
            grant: reply.grant,
            pins: reply.pins.into_iter().map(|ident| ident.0).collect(),
        }))
    }

    fn let_go_of_named(&mut self, seq: u64) {
        let named = self.large.remove(&seq).map(|large| large.named);
        named.into_iter().flatten().for_each(|ident| self.core.let_go(ident));
    }

    /// Gives a call up, as dropping its future does.
    pub fn abandon(&mut self, seq: u64, ident: u64, owner: u64, mut out: Option<&mut Vec<u8>>) {
        self.let_go_of_named(seq);
        self.core.abandon(seq, (Ident(ident), owner), out.as_deref_mut());
        self.core.put_releases(out, || true);
    }

    /// Takes bytes in that have arrived behind `received`.
    ///
    /// # Errors
    /// What is no frame.
    pub fn take_in(
        &mut self,
        Received(received): &mut Received,
        bytes: &[u8],
        out: Option<&mut Vec<u8>>,
    ) -> Result<Taken, String> {
        received.extend_from_slice(bytes);
        let (mut after, mut taken, mut at) = (After::default(), Taken::default(), 0);
        while let Some(length) = steward_wire::frame::length(&received[at..]) {
            let start = at + steward_wire::frame::LENGTH_BYTES;
            let Some(body) = received.get(start..start + length) else { break };
            at = start + length;
            let limits = Limits { depth_max: steward_wire::check::DEPTH_MAX, items_max: u64::MAX };
            let checked = check(body, &limits).map_err(|malformed| malformed.to_string())?;
            match HostFrame::read(body).map_err(|malformed| malformed.to_string())? {
                HostFrame::Reply(reply) => {
                    let mut tokens = Vec::new();
                    if checked.tokens {
                        value::tokens(reply.payload, &mut |ident| tokens.push(ident));
                    }
                    self.core.arrive(&reply, tokens, bytes::Bytes::copy_from_slice, &mut after);
                }
                HostFrame::Heartbeat => self.core.lease.answered(),
                HostFrame::Goodbye { .. } => taken.goodbye = true,
            }
        }
        received.drain(..at);
        self.core.put_releases(out, || true);
        taken.freed = after.running_freed + after.parked_freed;
        Ok(taken)
    }

    /// A new lane, whose sign-in was begun at `since_ms`, begins with what this appends. Gives the frames of large calls, which are
    /// to be sent again on streams of their own.
    pub fn resume(&mut self, since_ms: u64, out: &mut Vec<u8>) -> Vec<Vec<u8>> {
        self.core.lease.resumed(since_ms);
        self.core.resume(out).iter().map(|frame| frame.to_vec()).collect()
    }

    /// The lane's timer; says whether the connection must be lost.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<u8>) -> bool {
        if self.core.lease.is_suspect(now_ms) {
            return true;
        }
        self.core.tick(now_ms, out);
        false
    }

    /// Whether acknowledgements or dropped references wait for a frame.
    pub fn is_owing(&self) -> bool {
        self.core.is_owing()
    }

    /// Sends them.
    pub fn put_owed(&mut self, out: &mut Vec<u8>) {
        self.core.put_owed(out);
    }

    /// Holds an object once more.
    pub fn hold(&mut self, ident: u64) {
        self.core.hold(Ident(ident));
    }

    /// Holds an object once less.
    pub fn let_go(&mut self, ident: u64) {
        self.core.let_go(Ident(ident));
    }

    /// Until when the session may be believed in.
    pub fn believed_until_ms(&self) -> u64 {
        self.core.lease.believed_until_ms()
    }

    /// Whether the session has ended, as far as it knows.
    pub fn is_ended(&self) -> bool {
        self.core.ended().is_some()
    }

    /// The session has ended.
    pub fn end(&mut self, cause: &str) {
        self.core.end(Ending { cause: cause.to_owned() }, &mut After::default());
    }

    /// Calls that have no reply.
    pub fn waiting(&self) -> usize {
        self.core.waiting()
    }
}

/// What a fork was answered: the child's number, its secret, and what it holds.
///
/// # Errors
/// What is no such reply.
pub fn forked(payload: &[u8]) -> Result<(u64, [u8; 32], Vec<u64>), String> {
    let Fork { session, secret, idents } = Fork::read(payload).map_err(|error| error.to_string())?;
    Ok((session, *secret, idents))
}
