//! A host without threads, sockets and a clock of its own, for simulations: whoever drives it brings bytes and time, and sees what
//! its objects do. Nothing here decides anything; all of it is the host's own code.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use steward_wire::auth::AuthKey;
use steward_wire::frame::{self, Grant, LENGTH_BYTES};
use steward_wire::{Effect, Ident};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::cell::{self, Answer, CallWork, ReplyTo};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::dispatch;
use crate::host;
use crate::lane::{self, LaneKind};
use crate::limits::Limits;
use crate::pool::Pool;
use crate::registry::Registration;
use crate::session::Session;
use crate::tenant::{Key, Role, Shared, Tenant};

/// Something that happened in a host, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call of a client came to its object, which is about to be stepped with it.
    Entered {
        /// The object's cell.
        cell: u64,
        /// The client's session.
        session: u64,
        /// The call.
        seq: u64,
    },
    /// A step answered a call of a client.
    Answered {
        /// The object's cell.
        cell: u64,
        /// The client's session.
        session: u64,
        /// The call.
        seq: u64,
        /// What became of it.
        effect: Effect,
        /// Its result or fault.
        payload: Vec<u8>,
        /// What it was granted.
        grant: Option<Grant>,
        /// The object's version after the step.
        version: u64,
        /// The reply's place in the step.
        index: u64,
    },
    /// A step was answered that nobody has seen, or a reply to it was never acknowledged: its object learns of it.
    Returned {
        /// The object's cell.
        cell: u64,
        /// The call's method, by its place in the table.
        method: u16,
        /// What was sent, or would have been.
        payload: Vec<u8>,
    },
    /// A session was forked; who was told so has not signed in to the child yet.
    Forked {
        /// The one that asked.
        parent: u64,
        /// By which call.
        seq: u64,
        /// The new one.
        child: u64,
        /// What it holds.
        idents: Vec<u64>,
    },
    /// A session has ended; what it held is about to be given back.
    Ended {
        /// Which.
        session: u64,
        /// It said goodbye.
        orderly: bool,
    },
}

thread_local! {
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// Takes what has happened in the hosts of this thread since it was last asked.
pub fn events() -> Vec<Event> {
    EVENTS.take()
}

fn note(event: Event) {
    EVENTS.with_borrow_mut(|events| events.push(event));
}

pub(crate) fn entered(cell: Ident, call: &CallWork<'_>) {
    if let ReplyTo::Client { session, seq, .. } = &call.to
        && session.tenant.shared.is_simulated()
    {
        note(Event::Entered { cell: cell.0, session: session.id, seq: *seq });
    }
}

pub(crate) fn answered(cell: Ident, to: &ReplyTo, answer: &Answer<'_>) {
    if let ReplyTo::Client { session, seq, .. } = to
        && session.tenant.shared.is_simulated()
    {
        let (session, seq, payload) = (session.id, *seq, answer.payload.to_vec());
        let Answer { effect, grant, version, index, .. } = *answer;
        note(Event::Answered { cell: cell.0, session, seq, effect, payload, grant, version, index });
    }
}

pub(crate) fn returned(cell: &cell::Cell, method: u16, payload: &[u8]) {
    if cell.tenant().shared.is_simulated() {
        note(Event::Returned { cell: cell.ident().0, method, payload: payload.to_vec() });
    }
}

pub(crate) fn forked(parent: &Session, seq: u64, child: u64, idents: &[Ident]) {
    if parent.tenant.shared.is_simulated() {
        let idents = idents.iter().map(|ident| ident.0).collect();
        note(Event::Forked { parent: parent.id, seq, child, idents });
    }
}

pub(crate) fn ended(session: &Session, orderly: bool) {
    if session.tenant.shared.is_simulated() {
        note(Event::Ended { session: session.id, orderly });
    }
}

impl Shared {
    fn is_simulated(&self) -> bool {
        self.clock.is_by_hand()
    }
}

/// What proves the right to resume a session.
pub type Secret = [u8; 32];

/// A host with one tenant.
pub struct Host {
    tenant: Arc<Tenant>,
    /// How often somebody has signed in: no two secrets are the same.
    welcomes: Cell<u64>,
}

impl Host {
    /// A host whose clock stands at `now_ms`, with all built-in types and the given ones. Types whose names end in `.pooled` are
    /// stepped by [`Host::work_once`] only.
    ///
    /// # Panics
    /// If a type cannot be registered.
    pub fn new(now_ms: u64, limits: Limits, types: Vec<Registration>) -> Self {
        let pool = Pool::without_threads();
        let (clock, ending) = (Clock::by_hand(now_ms), watch::Sender::new(None));
        let shared = Arc::new(Shared::new(limits, clock, pool, "simulated".to_owned(), [7; 32], None, ending));
        let key = Key { id: "key".to_owned(), role: Role::Admin, authkey: AuthKey::dummy(&[7; 32], "sim", "key") };
        let tenant = Tenant::new("sim".to_owned(), vec![key], shared);
        for registration in types {
            tenant.registry.register(registration).expect("the simulation's types are well-formed");
        }
        Self { tenant: Arc::new(tenant), welcomes: Cell::new(0) }
    }

    /// The time.
    pub fn now_ms(&self) -> u64 {
        self.tenant.shared.clock.now_ms()
    }

    /// Advances the clock, and ticks nothing yet.
    pub fn set_ms(&self, now_ms: u64) {
        self.tenant.shared.clock.set_ms(now_ms);
    }

    /// When the next object wants to be ticked.
    pub fn next_ms(&self) -> Option<u64> {
        self.tenant.shared.clock.next_ms()
    }

    /// Ticks the objects that are due.
    pub fn tick_due(&self) {
        self.tenant.shared.clock.tick_due();
    }

    /// Does what the clock's thread does now and then: ends sessions, and lets go of objects. `late_ms`: how late.
    pub fn sweep(&self, late_ms: u64) {
        host::sweep(&self.tenant.shared, [&self.tenant].into_iter(), self.now_ms(), late_ms);
    }

    /// Whether the pool has something to do.
    pub fn has_work(&self) -> bool {
        self.tenant.shared.pool.has_work()
    }

    /// Does one job of the pool; says whether there was one.
    pub fn work_once(&self) -> bool {
        self.tenant.shared.pool.work_once()
    }

    /// What the tenant has.
    pub fn counters(&self) -> Counters {
        Counters::of(&self.tenant)
    }

    fn secret(&self) -> Zeroizing<Secret> {
        self.welcomes.set(self.welcomes.get() + 1);
        let mut secret = Zeroizing::new([1; 32]);
        secret[..8].copy_from_slice(&self.welcomes.get().to_be_bytes());
        secret
    }

    /// Somebody has signed in: the session's number and secret.
    pub fn begin(&self) -> (u64, Secret) {
        let secret = self.secret();
        let session = Session::new(self.tenant.clone(), Role::Admin, "simulated".to_owned(), secret.clone());
        let number = session.id;
        self.tenant.shared.sessions.lock().insert(number, Arc::new(session));
        (number, *secret)
    }

    /// Somebody signs in again to a session, or to a fork: the next secret, unless that session has ended or this is none of its
    /// secrets.
    pub fn resume(&self, session: u64, secret: &Secret) -> Option<Secret> {
        let session = self.tenant.shared.sessions.lock().get(&session).cloned()?;
        let next = self.secret();
        session.resume(&next, |held| held == secret).then_some(*next)
    }

    /// Ends a session; false if it had ended.
    pub fn end(&self, session: u64, orderly: bool) -> bool {
        let session = self.tenant.shared.sessions.lock().get(&session).cloned();
        session.inspect(|session| session.end(orderly)).is_some()
    }

    /// The lane of a further connection of a session, unless that has ended.
    pub fn lane(&self, session: u64) -> Option<Lane> {
        let session = self.tenant.shared.sessions.lock().get(&session).cloned()?;
        let lane = lane::Lane::new(&session.tenant.shared.limits, LaneKind::Main, session.connection());
        session.attach(&lane);
        Some(Lane { session, lane, received: Vec::new() })
    }
}

/// A lane without a task.
pub struct Lane {
    session: Arc<Session>,
    lane: Arc<lane::Lane>,
    received: Vec<u8>,
}

impl Lane {
    /// A stream of the same connection, which the client has opened for a large call.
    pub fn stream(&self) -> Self {
        let lane = lane::Lane::new(&self.session.tenant.shared.limits, LaneKind::Bulk, self.lane.connection);
        self.session.attach(&lane);
        Self { session: self.session.clone(), lane, received: Vec::new() }
    }

    /// Brings bytes, and every frame that they complete to where it belongs. False once nothing more is read: the peer sent what
    /// is no frame, or the session has ended.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.lane.is_closed() {
            return false;
        }
        self.session.heard(self.session.tenant.shared.clock.now_ms());
        self.received.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(length) = frame::length(&self.received[taken..]) {
            let start = taken + LENGTH_BYTES;
            let Some(body) = self.received.get(start..start + length) else { break };
            if let Err(reason) = dispatch::frame(&self.session, &self.lane, body) {
                self.lane.close(&reason);
                self.session.end(false);
                return false;
            }
            taken = start + length;
        }
        self.received.drain(..taken);
        true
    }

    /// Takes the bytes that wait to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        self.lane.take()
    }

    /// Takes the frames that are to be sent on streams of their own.
    pub fn take_bulk(&mut self) -> Vec<Vec<u8>> {
        self.lane.take_bulk().iter().map(|frame| frame.to_vec()).collect()
    }

    /// Of a stream whose client has closed its side: whether every call that came by it is answered, and the answers were taken.
    /// Then it ends.
    pub fn is_over(&mut self) -> bool {
        self.received.is_empty() && self.lane.is_over()
    }

    /// The connection is lost: replies that go this way are not seen any more.
    pub fn lose(&mut self) {
        self.lane.lose();
    }
}
