//! Sessions: what one authenticated client process owns. References, holdings, calls.
//!
//! A session outlives its connections: it ends with its lease, with its client's goodbye, or with its client's process where
//! the system tells of that. A session may call only what it has a reference to, so an ident of somebody else and one
//! that does not exist look the same. References are counted by how often an ident was sent to the client: a `drop` that
//! crosses a token on its way takes back a smaller count and leaves the reference.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use steward_objects::{CallId, Facet, Why};
use steward_wire::frame::{Acked, Call, Refs};
use steward_wire::{Effect, Fault, Ident, Spread, value};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::calls::{Answered, Calls, Cancelled, Kept, Known, Parks, Waits};
use crate::cell::{Answer, Cell, Undelivered, unknown};
use crate::lane::{self, Lane};
use crate::plugins::{Upload, Uploaded};
use crate::registry::Type;
use crate::table::Object;
use crate::tenant::{Role, Tenant};

/// One client's session.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) role: Role,
    pub(crate) peer: String,
    /// Prove the right to resume: the latest, and the one before, which a client still uses whose latest welcome was
    /// lost.
    secrets: Mutex<[Zeroizing<[u8; 32]>; 2]>,
    state: Mutex<State>,
    ended: AtomicBool,
    /// How many connections it has had.
    connections: AtomicU64,
    /// When a frame last arrived, on the host's clock.
    heard_ms: AtomicU64,
    /// Of a fork that nobody has claimed yet: the session that it came from. It has no lease of its own so far.
    parent: Mutex<Option<Weak<Session>>>,
    /// The plugin that it uploads, or has uploaded last.
    pub(crate) upload: Mutex<Upload>,
    /// Told when a further lane serves the session.
    pub(crate) attached: Notify,
}

#[derive(Default)]
struct State {
    references: References,
    calls: Calls,
    /// Number of the last counted frame of references.
    refs_applied: u64,
    /// Cells that were called through references since dropped: the client may hold something there.
    called: Vec<Weak<Cell>>,
    /// Lanes to tell when the host or the session ends.
    lanes: Vec<Weak<Lane>>,
}

/// What a session holds. Idents are the host's own numbers.
type References = HashMap<Ident, Reference, BuildHasherDefault<Spread>>;

/// A session has many of these: the parts of its object, beside which there is room.
struct Reference {
    cell: Arc<Cell>,
    kind: Arc<Type>,
    facet: Facet,
    /// It was called: the cell must learn of the session's end.
    called: bool,
    /// How often the client was sent this ident, less what it has taken back.
    received: u64,
}

impl Reference {
    /// To an object that the client is sent for the first time.
    fn new(Object { cell, kind, facet }: Object) -> Self {
        Self { cell, kind, facet, called: false, received: 1 }
    }

    fn object(&self) -> Object {
        Object { cell: self.cell.clone(), kind: self.kind.clone(), facet: self.facet }
    }
}

/// A call that was let in.
pub(crate) enum Admitted {
    /// It is to be executed.
    New {
        /// What it calls; `None` for the host itself.
        target: Option<(Object, u16)>,
        /// It is written down, so that it happens at most once.
        kept: bool,
    },
    /// It was let in before. Its reply was sent again, or will be sent.
    Repeat,
}

/// What a session has, for listings and for tests that everything was given back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) references: usize,
    pub(crate) parked: usize,
    pub(crate) rows: usize,
}

impl Session {
    pub(crate) fn new(tenant: Arc<Tenant>, role: Role, peer: String, secret: Zeroizing<[u8; 32]>) -> Self {
        let heard_ms = AtomicU64::new(tenant.shared.clock.now_ms());
        let state = State { calls: Calls::new(tenant.budget.clone()), ..State::default() };
        Self {
            id: tenant.shared.session_number(),
            tenant,
            role,
            peer,
            secrets: Mutex::new([secret.clone(), secret]),
            state: Mutex::new(state),
            ended: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            heard_ms,
            parent: Mutex::new(None),
            upload: Mutex::default(),
            attached: Notify::new(),
        }
    }

    /// The plugin of an upload.
    ///
    /// # Errors
    /// Refused `BadUpload` if there is none of this number, or parts of it are missing.
    pub(crate) fn uploaded(&self, number: u64) -> Result<Uploaded, Fault> {
        let upload = self.upload.lock();
        let unknown = || Fault::refused("BadUpload", format!("there is no plugin of upload {number}"));
        upload.plugin(number).cloned().ok_or_else(unknown)
    }

    /// A session that holds what this one holds, unclaimed: whoever has its secret resumes it once, and from then on it lives
    /// by itself. Gives the idents that it holds, each as if its client had been sent it once.
    pub(crate) fn fork(self: &Arc<Self>, secret: Zeroizing<[u8; 32]>) -> (Self, Vec<Ident>) {
        let child = Self::new(self.tenant.clone(), self.role, format!("fork of session {}", self.id), secret);
        *child.parent.lock() = Some(Arc::downgrade(self));
        let objects: BTreeMap<Ident, Object> = {
            let state = self.state.lock();
            state.references.iter().map(|(&ident, reference)| (ident, reference.object())).collect()
        };
        let mut idents = Vec::with_capacity(objects.len());
        for (ident, object) in objects {
            if let Some(Object { cell, .. }) = self.tenant.table.retain(ident) {
                // As the parent's handle exposes it.
                let object = Object { cell, ..object };
                child.state.lock().references.insert(ident, Reference::new(object));
                idents.push(ident);
            }
        }
        (child, idents)
    }

    /// Whether the session is over at `now_ms`: its lease, or that of the session whose unclaimed fork it is.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let orphaned = match &*self.parent.lock() {
            Some(parent) => parent.upgrade().is_none_or(|parent| parent.is_ended()),
            None => true,
        };
        if !orphaned {
            self.heard(now_ms);
        }
        now_ms.saturating_sub(self.heard_ms()) > self.tenant.shared.limits.lease_ms
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Lets in who holds the secret, as `is_held` says, and replaces it; says whether it did. From then on a fork has a lease
    /// of its own.
    pub(crate) fn resume(&self, next: &Zeroizing<[u8; 32]>, is_held: impl Fn(&[u8; 32]) -> bool) -> bool {
        let mut secrets = self.secrets.lock();
        let Some(held) = secrets.iter().find(|secret| is_held(secret)).cloned() else { return false };
        // The one that the client has stays, however often welcomes are lost on their way to it. That of a fork may be in
        // several hands, and two in one session would take each other's calls for repeats: it is good for one claim.
        let is_claim = self.parent.lock().take().is_some();
        *secrets = [next.clone(), if is_claim { next.clone() } else { held }];
        self.heard(self.tenant.shared.clock.now_ms());
        !self.is_ended()
    }

    /// Renews the lease.
    pub(crate) fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// A number for a further connection of the client's, greater than those of all before.
    pub(crate) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A further lane serves this session. If that has ended, it says goodbye at once: nothing by it may be read as a sign that the
    /// session lives.
    pub(crate) fn attach(&self, lane: &Arc<Lane>) {
        let mut state = self.state.lock();
        if self.is_ended() {
            drop(state);
            return lane.close("session ended");
        }
        state.lanes.retain(|lane| lane.strong_count() > 0);
        state.lanes.push(Arc::downgrade(lane));
        self.attached.notify_waiters();
    }

    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.state.lock().lanes.iter().filter_map(Weak::upgrade).collect()
    }

    /// What the session has now.
    pub(crate) fn held(&self) -> Held {
        let state = self.state.lock();
        Held { references: state.references.len(), parked: state.calls.parked().count(), rows: state.calls.row_count() }
    }

    /// The client has these replies.
    ///
    /// # Errors
    /// What no client has a reason to send, for the peer.
    pub(crate) fn acknowledge(&self, acked: &Acked) -> Result<(), String> {
        self.state.lock().calls.acknowledge(acked)
    }

    /// Lets a call of a method in, which from now on has happened. Checks that the object and those that the arguments name are this
    /// session's, and that the method is exposed.
    ///
    /// # Errors
    /// Refused `UnknownIdent`, `NotExposed`, `Forgotten`, and when a limit is reached.
    pub(crate) fn admit(&self, call: &Call<'_>, tokens: bool, lane: &Arc<Lane>) -> Result<Admitted, Fault> {
        let mut state = self.state.lock();
        if let Some(repeat) = self.repeat(&mut state, call.seq, lane)? {
            drop(state);
            return Ok(repeat.send(lane));
        }
        let limits = &self.tenant.shared.limits;
        let State { references, calls, .. } = &mut *state;
        if tokens {
            check_owned(references, call.args)?;
        }
        if call.ident == Ident::HOST {
            calls.begin(call.seq, Waits::Never, lane, limits)?;
            return Ok(Admitted::New { target: None, kept: true });
        }
        let reference = references.get_mut(&call.ident).ok_or_else(|| unknown(call.ident))?;
        let number = reference.kind.method(call.method)?;
        let (waits, read_only) = reference.kind.nature(number);
        let kept = waits != Waits::Never || !read_only;
        if kept {
            let waits = if call.deadline_ms == Some(0) { Waits::Never } else { waits };
            calls.begin(call.seq, waits, lane, limits)?;
        }
        reference.called = true;
        Ok(Admitted::New { target: Some((reference.object(), number)), kept })
    }

    /// Lets a creation or a fork in. `args`: arguments that contain tokens.
    ///
    /// # Errors
    /// Refused `UnknownIdent`, `Forgotten`, and when a limit is reached.
    pub(crate) fn admit_other(&self, seq: u64, args: Option<&[u8]>, lane: &Arc<Lane>) -> Result<Admitted, Fault> {
        let mut state = self.state.lock();
        if let Some(repeat) = self.repeat(&mut state, seq, lane)? {
            drop(state);
            return Ok(repeat.send(lane));
        }
        if let Some(args) = args {
            check_owned(&state.references, args)?;
        }
        state.calls.begin(seq, Waits::Never, lane, &self.tenant.shared.limits)?;
        Ok(Admitted::New { target: None, kept: true })
    }

    /// Looks whether a call came before. After the session's end nothing is let in, what came in one piece with a goodbye included.
    fn repeat(&self, state: &mut State, seq: u64, lane: &Arc<Lane>) -> Result<Option<Repeat>, Fault> {
        if self.is_ended() {
            return Err(Fault::refused("SessionEnded", "the session has ended"));
        }
        Ok(match state.calls.know(seq, lane)? {
            Known::New => None,
            Known::Joined => Some(Repeat(None)),
            Known::Answered(frame) => Some(Repeat(Some(frame))),
        })
    }

    /// Sends a call's reply and keeps it, if it is to be kept, until the client has it. `tokens`: the result may contain
    /// some. False if nobody will ever see the result: the session has ended, or it is too large.
    pub(crate) fn answer(
        &self,
        to: (&Arc<Lane>, u64),
        kept: bool,
        answer: Answer<'_>,
        tokens: bool,
        from: Option<Answered>,
    ) -> bool {
        let (lane, seq) = to;
        let reply = answer.reply(seq, self.tenant.shared.epoch);
        let fits = answer.payload.len() <= self.tenant.shared.limits.reply_bytes_max;
        let from = from.filter(|_| fits);
        let mut received = Vec::new();
        if tokens && fits && answer.effect == Effect::Returned {
            value::tokens(answer.payload, &mut |ident| received.push(ident));
        }
        if !kept && received.is_empty() {
            lane.reply(&reply);
            return fits && !self.is_ended();
        }
        let frame = lane::encode(&reply, self.tenant.shared.limits.reply_bytes_max);
        let (mut frame, mut by) = (frame, None);
        {
            let mut state = self.state.lock();
            if self.is_ended() {
                return false;
            }
            match state.calls.answer(seq, &frame, lane, from) {
                Kept::Now(asked_by) => {
                    by = asked_by;
                    if by.as_ref().unwrap_or(lane).is_closed() {
                        // Its connection is lost: by whichever serves the session now, if any does.
                        by = state.lanes.iter().rev().filter_map(Weak::upgrade).find(|lane| lane.is_main());
                    }
                    for ident in received {
                        self.receive(&mut state, ident);
                    }
                }
                Kept::Already(first) => frame = first,
            }
        }
        by.as_ref().unwrap_or(lane).push(&frame);
        fits
    }

    /// An object that this session holds.
    pub(crate) fn object(&self, ident: Ident) -> Option<Object> {
        self.state.lock().references.get(&ident).map(Reference::object)
    }

    pub(crate) fn owns(&self, ident: Ident) -> bool {
        self.state.lock().references.contains_key(&ident)
    }

    /// Takes over the root reference of an object whose token is about to be sent. False if the session has ended.
    pub(crate) fn adopt(&self, ident: Ident, object: Object) -> bool {
        let mut state = self.state.lock();
        if self.is_ended() {
            return false;
        }
        match state.references.get_mut(&ident) {
            Some(reference) => {
                reference.received += 1;
                reference.kind = object.kind;
                drop(state);
                self.tenant.table.release([ident]).finish();
            }
            None => {
                state.references.insert(ident, Reference::new(object));
            }
        }
        true
    }

    /// A token is about to be sent inside a result.
    fn receive(&self, state: &mut State, ident: Ident) {
        if let Some(reference) = state.references.get_mut(&ident) {
            reference.received += 1;
        } else if let Some(object) = self.tenant.table.retain(ident) {
            state.references.insert(ident, Reference::new(object));
        }
    }

    /// Changes references as the client says, once for each number.
    pub(crate) fn apply(&self, refs: &Refs) {
        {
            let mut state = self.state.lock();
            if self.is_ended() || refs.number > 0 && refs.number <= state.refs_applied {
                return;
            }
            state.refs_applied = state.refs_applied.max(refs.number);
        }
        let shared = &self.tenant.shared;
        let until_ms = shared.clock.deadline_ms(shared.limits.token_grace_ms);
        // Before the drops: what was handed on and dropped in one go must outlive them.
        for &ident in refs.shared.iter().filter(|&&ident| self.owns(ident)) {
            self.tenant.table.linger(ident, until_ms);
        }
        for &(ident, received) in &refs.drop {
            self.drop_reference(ident, received);
        }
        for &ident in &refs.incref {
            self.incref(ident);
        }
    }

    /// The client got this ident outside the session.
    fn incref(&self, ident: Ident) {
        let mut state = self.state.lock();
        if !self.is_ended() {
            self.receive(&mut state, ident);
        }
    }

    /// The client has no proxy of `ident` left, and has received it `received` times since it last said so. A token that
    /// is on its way meanwhile keeps the reference.
    fn drop_reference(&self, ident: Ident, received: u64) {
        let mut state = self.state.lock();
        let Some(reference) = state.references.get_mut(&ident) else { return };
        reference.received = reference.received.saturating_sub(received);
        if reference.received > 0 {
            return;
        }
        let Some(reference) = state.references.remove(&ident) else { return };
        if reference.called {
            if state.called.len() == state.called.capacity() {
                state.called.retain(|cell| cell.strong_count() > 0);
            }
            state.called.push(Arc::downgrade(&reference.cell));
        }
        drop(state);
        drop(reference);
        self.tenant.table.release([ident]).finish();
    }

    /// A call waits for a later step. `expired`: no longer than it takes to tell it so.
    pub(crate) fn parked(&self, seq: u64, cell: &Arc<Cell>, call: CallId, expired: bool) -> Parks {
        let mut state = self.state.lock();
        if self.is_ended() {
            return Parks::GivenUp(Why::SessionEnded);
        }
        state.calls.park(seq, cell, call, expired, &self.tenant.shared.limits)
    }

    /// The client gives up a call: one that is parked is cancelled, one that is on its way to its object will be should it
    /// park there, one that never came will never run, any other runs on.
    pub(crate) fn cancel(&self, seq: u64, lane: &Arc<Lane>) {
        let mut state = self.state.lock();
        match state.calls.cancel(seq, lane) {
            Cancelled::Answered(frame) => {
                drop(state);
                lane.owe();
                lane.push(&frame);
            }
            Cancelled::Parked(cell, call) => {
                drop(state);
                cell.cancel(call, Why::Client);
            }
            Cancelled::Unknown if state.calls.has_room(&self.tenant.shared.limits) => {
                drop(state);
                let fault = Fault::refused("Cancelled", "the call was given up");
                let mut payload = Vec::new();
                fault.put(&mut payload);
                lane.owe();
                self.answer((lane, seq), true, Answer::fault(&fault, &payload), false, None);
            }
            Cancelled::Unknown | Cancelled::Later => {}
        }
    }

    /// Cancels what is parked, which answers it, and says goodbye on every lane.
    pub(crate) fn drain(&self, reason: &str) {
        let parked: Vec<_> = self.state.lock().calls.parked().collect();
        for (cell, call) in parked {
            cell.cancel(call, Why::Client);
        }
        for lane in self.lanes() {
            lane.close(reason);
        }
    }

    /// Ends the session, in this order: its parked calls are cancelled, what it was sent and never acknowledged goes back
    /// where it came from, what it held is released, its references are dropped. `orderly`: the client said goodbye.
    pub(crate) fn end(&self, orderly: bool) {
        let state = {
            // Under the lock, so that nothing is added afterwards.
            let mut state = self.state.lock();
            if self.ended.swap(true, Ordering::AcqRel) {
                return;
            }
            std::mem::take(&mut *state)
        };
        self.tenant.shared.sessions.lock().remove(&self.id);
        #[cfg(feature = "sim")]
        crate::sim::ended(self, orderly);
        let State { references, calls, called, lanes, .. } = state;
        for (cell, call) in calls.parked() {
            cell.cancel(call, Why::SessionEnded);
        }
        for row in calls.into_rows() {
            if let Some(Answered { cell, call, facet, method, note }) = row.from {
                let payload = lane::payload(&row.frame);
                cell.undelivered(Undelivered { call, facet, method, payload, note, sent: true });
            }
        }
        // By ident, so that the same history ends the same way.
        let called = called.iter().filter_map(Weak::upgrade);
        let referenced = references.values().filter(|reference| reference.called);
        let holding = referenced.map(|reference| reference.cell.clone()).chain(called);
        for cell in holding.map(|cell| (cell.ident(), cell)).collect::<BTreeMap<_, _>>().into_values() {
            cell.owner_lost(self.id, orderly);
        }
        let idents: std::collections::BTreeSet<Ident> = references.keys().copied().collect();
        self.tenant.table.release(idents).finish();
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            lane.close("session ended");
        }
        tracing::info!(session = self.id, peer = self.peer, orderly, "session ended");
    }
}

/// Every token among the arguments must be one that the session holds.
fn check_owned(references: &References, args: &[u8]) -> Result<(), Fault> {
    let mut foreign = None;
    value::tokens(args, &mut |ident| {
        if !references.contains_key(&ident) {
            foreign = Some(ident);
        }
    });
    foreign.map_or(Ok(()), |ident| Err(unknown(ident)))
}

/// A call that came before.
struct Repeat(Option<Bytes>);

impl Repeat {
    /// Sends the reply again if there was one.
    fn send(self, lane: &Arc<Lane>) -> Admitted {
        if let Some(frame) = self.0 {
            lane.push(&frame);
        }
        Admitted::Repeat
    }
}
