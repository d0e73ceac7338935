//! Sessions: what one authenticated client process owns. References, holdings, parked calls.
//!
//! A session may call only what it has a reference to, so an ident of somebody else and one that does not exist look the
//! same. References are counted by how often an ident was sent to the client: a `drop` that crosses a token on its
//! way takes back a smaller count and leaves the reference.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use steward_objects::{CallId, Why};
use steward_wire::{Fault, Ident};
use zeroize::Zeroizing;

use crate::cell::{Cell, unknown};
use crate::lane::Lane;
use crate::table::Object;
use crate::tenant::{Role, Tenant};

/// Calls given up that may still park. Far more than a client may have running; the oldest are forgotten.
const CANCELLED_MAX: usize = 1_024;

/// One client's session.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) role: Role,
    pub(crate) peer: String,
    /// Prove the right to attach a further connection: the latest, and the one before, which a client still uses whose
    /// latest welcome was lost.
    secrets: Mutex<[Zeroizing<[u8; 32]>; 2]>,
    state: Mutex<State>,
    ended: AtomicBool,
    /// When a frame last arrived, on the host's clock.
    heard_ms: AtomicU64,
    /// Connections that serve this session.
    connections: AtomicUsize,
}

#[derive(Default)]
struct State {
    references: HashMap<Ident, Reference>,
    parked: HashMap<u64, (Arc<Cell>, CallId)>,
    /// Calls given up that were not parked then, the latest [`CANCELLED_MAX`]: more cannot run at once.
    cancelled: VecDeque<u64>,
    /// Cells that were called through references since dropped: the client may hold something there.
    called: Vec<Weak<Cell>>,
    /// Lanes to tell when the host or the session ends.
    lanes: Vec<Weak<Lane>>,
}

struct Reference {
    object: Object,
    /// How often the client was sent this ident, less what it has taken back.
    received: u64,
    /// It was called: the cell must learn of the session's end.
    called: bool,
}

impl Session {
    pub(crate) fn new(tenant: Arc<Tenant>, role: Role, peer: String, secret: Zeroizing<[u8; 32]>) -> Self {
        let heard_ms = AtomicU64::new(tenant.shared.clock.now_ms());
        Self {
            id: tenant.shared.session_number(),
            tenant,
            role,
            peer,
            secrets: Mutex::new([secret.clone(), secret]),
            state: Mutex::default(),
            ended: AtomicBool::new(false),
            heard_ms,
            connections: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Replaces the secret if `is_held` says that the client holds the present one; says whether it did.
    pub(crate) fn rotate_secret(&self, next: &Zeroizing<[u8; 32]>, is_held: impl Fn(&[u8; 32]) -> bool) -> bool {
        let mut secrets = self.secrets.lock();
        let held = secrets.iter().any(|secret| is_held(secret));
        if held && !self.is_ended() {
            secrets.swap(0, 1);
            secrets[0] = next.clone();
        }
        held && !self.is_ended()
    }

    /// Renews the lease.
    pub(crate) fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// A further lane serves this session.
    pub(crate) fn attach(&self, lane: &Arc<Lane>) {
        let mut state = self.state.lock();
        state.lanes.retain(|lane| lane.strong_count() > 0);
        state.lanes.push(Arc::downgrade(lane));
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    /// A connection is gone; says whether it was the last.
    pub(crate) fn disconnected(&self) -> bool {
        self.connections.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.state.lock().lanes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Lets a call in: the object that it names, which from now on counts as called; `None` for the host itself.
    ///
    /// # Errors
    /// Refused `DuplicateSeq`, `UnknownIdent`.
    pub(crate) fn admit(&self, seq: u64, ident: Ident) -> Result<Option<Object>, Fault> {
        let mut state = self.state.lock();
        if state.parked.contains_key(&seq) {
            return Err(Fault::refused("DuplicateSeq", format!("call {seq} is parked already")));
        }
        if ident == Ident::HOST {
            return Ok(None);
        }
        let reference = state.references.get_mut(&ident).ok_or_else(|| unknown(ident))?;
        reference.called = true;
        Ok(Some(reference.object.clone()))
    }

    /// Checks that one more call may park. Others need no room: who has parked all it may must be able to go on, by a
    /// `put` for its own `get`.
    ///
    /// # Errors
    /// Refused `TooManyParked`.
    pub(crate) fn check_room_to_park(&self) -> Result<(), Fault> {
        let limit = self.tenant.shared.limits.calls_parked_max;
        if self.state.lock().parked.len() < limit as usize {
            return Ok(());
        }
        let message = format!("{limit} calls of this session are parked, limit is {limit}");
        Err(Fault::refused("TooManyParked", message).retry())
    }

    /// An object that this session holds.
    pub(crate) fn object(&self, ident: Ident) -> Option<Object> {
        self.state.lock().references.get(&ident).map(|reference| reference.object.clone())
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
                reference.object.kind = object.kind;
                drop(state);
                self.tenant.table.release([ident]).finish();
            }
            None => {
                state.references.insert(ident, Reference { object, received: 1, called: false });
            }
        }
        true
    }

    /// A token is about to be sent inside a result.
    pub(crate) fn received(&self, ident: Ident) {
        let mut state = self.state.lock();
        if self.is_ended() {
            return;
        }
        if let Some(reference) = state.references.get_mut(&ident) {
            reference.received += 1;
        } else if let Some(object) = self.tenant.table.retain(ident) {
            state.references.insert(ident, Reference { object, received: 1, called: false });
        }
    }

    /// The client got this ident outside the session. False if there is no such object.
    pub(crate) fn incref(&self, ident: Ident) -> bool {
        self.received(ident);
        self.owns(ident)
    }

    /// The client has no proxy of `ident` left, and has received it `received` times since it last said so. A token that
    /// is on its way meanwhile keeps the reference.
    pub(crate) fn drop_reference(&self, ident: Ident, received: u64) {
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
            state.called.push(Arc::downgrade(&reference.object.cell));
        }
        drop(state);
        drop(reference);
        self.tenant.table.release([ident]).finish();
    }

    /// A call waits for a later step; says why it is given up, if it was before it came so far.
    pub(crate) fn parked(&self, seq: u64, cell: &Arc<Cell>, call: CallId) -> Option<Why> {
        let mut state = self.state.lock();
        if self.is_ended() {
            return Some(Why::SessionEnded);
        }
        state.parked.insert(seq, (cell.clone(), call));
        let cancelled = state.cancelled.iter().position(|&cancelled| cancelled == seq)?;
        state.cancelled.swap_remove_back(cancelled);
        Some(Why::Client)
    }

    pub(crate) fn unparked(&self, seq: u64) {
        self.state.lock().parked.remove(&seq);
    }

    /// The client gives up a call: one that is parked is cancelled, one that is on its way to its object will be should it
    /// park there, any other runs on.
    pub(crate) fn cancel(&self, seq: u64) {
        let mut state = self.state.lock();
        if let Some((cell, call)) = state.parked.get(&seq).cloned() {
            drop(state);
            return cell.cancel(call, Why::Client);
        }
        if state.cancelled.len() == CANCELLED_MAX {
            state.cancelled.pop_front();
        }
        state.cancelled.push_back(seq);
    }

    /// Cancels what is parked, which answers it, and says goodbye on every lane.
    pub(crate) fn drain(&self, reason: &str) {
        let parked: Vec<_> = self.state.lock().parked.values().cloned().collect();
        for (cell, call) in parked {
            cell.cancel(call, Why::Client);
        }
        for lane in self.lanes() {
            lane.close(reason);
        }
    }

    /// Ends the session: its parked calls are cancelled, what it held is released, its references are dropped, in this
    /// order. `orderly`: the client said goodbye.
    pub(crate) fn end(&self, orderly: bool) {
        {
            // Under the lock, so that nothing is added afterwards.
            let _state = self.state.lock();
            if self.ended.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        self.tenant.shared.sessions.lock().remove(&self.id);
        let State { references, parked, called, lanes, .. } = std::mem::take(&mut *self.state.lock());
        for (cell, call) in parked.into_values() {
            cell.cancel(call, Why::SessionEnded);
        }
        let mut told = HashSet::new();
        let called = called.iter().filter_map(Weak::upgrade);
        let referenced = references.values().filter(|reference| reference.called);
        for cell in referenced.map(|reference| reference.object.cell.clone()).chain(called) {
            if told.insert(cell.ident()) {
                cell.owner_lost(self.id, orderly);
            }
        }
        self.tenant.table.release(references.keys().copied()).finish();
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            lane.close("session ended");
        }
        tracing::info!(session = self.id, peer = self.peer, orderly, "session ended");
    }
}
