//! Cells: one referent with its waiters, stepped by one caller at a time. The one place where calls park.
//!
//! Whoever brings an input either takes the turn (the cell was idle) or leaves the input in the inbox, where the
//! thread that has the turn finds it: nobody waits for a busy cell. A turn steps the referent and applies its outbox:
//! replies go to the lanes of their calls, stored tokens into the tenant's table, wishes to be woken to the clock. A
//! call without a reply after its step is parked; here, as data, it waits for a later step, its deadline, its
//! client or its session's end (`waiting.rs`).
//!
//! A step may concern other cells (a call it asks for, a facet that leaves). Those get their inputs after the turn, from
//! a list that the outermost call of this thread works off, so that no chain of objects can exhaust a stack.

mod chain;
mod guards;
mod inbox;
mod reply;
mod step;
mod turn;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use steward_objects::{CallId, Facet, Outbox, Referent, Why};
use steward_wire::{Fault, Ident};

pub(crate) use self::chain::Chain;
use self::guards::FREE;
pub(crate) use self::guards::Guard;
pub(crate) use self::inbox::{CallWork, Undelivered};
use self::inbox::{Inbox, Work};
pub(crate) use self::reply::{Answer, ReplyTo};
use self::waiting::Waiting;
use crate::registry::Type;
use crate::tenant::Tenant;

/// One referent and what waits for it.
pub(crate) struct Cell {
    ident: Ident,
    kind: Arc<Type>,
    tenant: Arc<Tenant>,
    inbox: Mutex<Inbox>,
    core: Mutex<Core>,
    /// The fence of the next grant. Written in turns only.
    fence_next: AtomicU64,
    /// The first fence under which anybody still holds what this cell grants; [`FREE`] if nobody does. Written in turns only,
    /// read by cells whose calls are guarded by this one.
    held_from: AtomicU64,
}

/// What only the holder of the turn touches; the lock is never contended.
struct Core {
    referent: Box<dyn Referent>,
    version: u64,
    call_next: CallId,
    waiting: Option<Box<Waiting>>,
    poisoned: Option<Box<Fault>>,
    /// How many tokens the referent stores: while none, no reply needs a search for tokens.
    stored: u64,
    /// What it stores, as the tenant is charged for it.
    stored_bytes: u64,
}

impl Cell {
    /// A cell around `referent`. `made` is what its constructor asked for; what it stored is written to the table by the caller.
    pub(crate) fn new(
        ident: Ident,
        kind: Arc<Type>,
        tenant: Arc<Tenant>,
        referent: Box<dyn Referent>,
        made: &Outbox,
    ) -> Arc<Self> {
        let mut core = Core {
            referent,
            version: 0,
            call_next: 1,
            waiting: None,
            poisoned: None,
            stored: made.held().len() as u64,
            stored_bytes: 0,
        };
        core.account(made.stored_bytes(), &tenant);
        let refuses_deadlocks = made.refuses_deadlocks();
        Arc::new(Self {
            ident,
            kind,
            tenant,
            inbox: Mutex::new(Inbox::new(refuses_deadlocks)),
            core: Mutex::new(core),
            fence_next: AtomicU64::new(1),
            held_from: AtomicU64::new(FREE),
        })
    }

    /// The ident of facet 0, which names the cell in the table.
    pub(crate) fn ident(&self) -> Ident {
        self.ident
    }

    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// Brings a call.
    pub(crate) fn call(self: &Arc<Self>, call: CallWork<'_>) {
        self.bring(Work::Call(call));
    }

    /// Gives up a parked call.
    pub(crate) fn cancel(self: &Arc<Self>, call: CallId, why: Why) {
        self.bring(Work::Cancel { call, why });
    }

    /// Says that a reply was lost, before the end of its session.
    pub(crate) fn undelivered(self: &Arc<Self>, lost: Undelivered) {
        self.bring(Work::Undelivered(lost));
    }

    /// Says that a session has ended, after its calls were cancelled.
    pub(crate) fn owner_lost(self: &Arc<Self>, session: u64, orderly: bool) {
        self.bring(Work::OwnerLost { session, orderly });
    }

    /// Brings an object that joins this cell; `facet` is the one that its constructor named.
    pub(crate) fn join(self: &Arc<Self>, to: ReplyTo, typeid: &'static str, facet: Facet, args: Vec<u8>, tokens: bool) {
        self.bring(Work::Join { to, typeid, facet, args, tokens });
    }

    /// Says that nothing refers to a facet any more.
    pub(crate) fn leave(self: &Arc<Self>, facet: Facet) {
        self.bring(Work::Leave { facet });
    }

    /// Steps the referent with nothing, so that it sees what has happened to its type.
    pub(crate) fn touch(self: &Arc<Self>) {
        // No facet ever has this number.
        self.bring(Work::Leave { facet: Facet::MAX });
    }

    /// Brings the time.
    pub(crate) fn tick(self: &Arc<Self>) {
        self.bring(Work::Tick);
    }
}

/// The refusal for an ident that is not there, or not this session's: the two look the same.
pub(crate) fn unknown(ident: Ident) -> Fault {
    Fault::refused("UnknownIdent", format!("object {ident} is not known to this session"))
}

impl Drop for Cell {
    fn drop(&mut self) {
        let core = self.core.get_mut();
        core.account(-(core.stored_bytes as i64), &self.tenant);
        let queued = self.inbox.get_mut().others.iter().flat_map(|others| &others.queue);
        self.tenant.budget.release(queued.map(Work::bytes).sum());
    }
}

impl Core {
    /// Charges the tenant for what is stored from now on, or gives back.
    fn account(&mut self, bytes: i64, tenant: &Tenant) {
        let before = self.stored_bytes;
        debug_assert!(before.checked_add_signed(bytes).is_some(), "a referent removed more than it stored");
        self.stored_bytes = before.saturating_add_signed(bytes);
        match self.stored_bytes.checked_sub(before) {
            Some(more) => tenant.budget.charge(more),
            None => tenant.budget.release(before - self.stored_bytes),
        }
    }

    fn call_number(&mut self) -> CallId {
        let id = self.call_next;
        self.call_next += 1;
        id
    }

    fn kind<'a>(&'a self, cell: &'a Cell, facet: Facet) -> &'a Arc<Type> {
        let facets = self.waiting.as_ref().filter(|_| facet != 0).map(|waiting| &waiting.facets);
        facets.and_then(|facets| facets.get(&facet)).unwrap_or(&cell.kind)
    }
}
