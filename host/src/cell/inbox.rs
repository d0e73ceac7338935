//! The way into a cell: whoever brings an input takes the turn, or leaves the input for the one who has it.

use std::borrow::Cow;
use std::cell::{Cell as Slot, RefCell};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use steward_objects::{CallId, Facet, Outbox, Owner, Why};
use steward_wire::Fault;

use super::{Cell, Chain, Guard, ReplyTo};

/// Inputs drained in one go before the turn is handed to the pool, so that a lane is not held up by one busy object.
const STEPS_PER_TURN: usize = 64;
/// Arguments that may wait for a busy object even if the tenant keeps too much: who is to read and to remove must be let in.
const SMALL_ARGS_BYTES: usize = 1 << 10;
/// Room that the outbox of a thread of the pool keeps between jobs.
const POOL_OUTBOX_BYTES_KEPT_MAX: usize = 64 << 10;

/// A call on its way into a cell.
pub(crate) struct CallWork<'a> {
    pub(crate) to: ReplyTo,
    pub(crate) facet: Facet,
    /// As `Type::method` resolved it.
    pub(crate) method: u16,
    pub(crate) owner: Owner,
    pub(crate) args: Cow<'a, [u8]>,
    /// Whether `args` contain tokens.
    pub(crate) tokens: bool,
    /// On the host's clock; a time that has passed means that the call may not park.
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) guard: Option<Guard>,
    /// The objects that call each other so far, if an object calls.
    pub(crate) chain: Option<Arc<Chain>>,
}

/// A reply that never reached its client.
pub(crate) struct Undelivered {
    pub(crate) call: CallId,
    pub(crate) facet: Facet,
    pub(crate) method: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) note: u64,
    /// It was sent, and never acknowledged.
    pub(crate) sent: bool,
}

/// An input on its way into a cell.
pub(super) enum Work<'a> {
    Call(CallWork<'a>),
    Cancel {
        call: CallId,
        why: Why,
    },
    OwnerLost {
        session: u64,
        orderly: bool,
    },
    Undelivered(Undelivered),
    Returned {
        tag: u64,
        outcome: Result<Vec<u8>, Fault>,
    },
    Join {
        to: ReplyTo,
        typeid: &'static str,
        facet: Facet,
        args: Vec<u8>,
        tokens: bool,
    },
    Leave {
        facet: Facet,
    },
    /// A lock was freed that guards calls parked here.
    Recheck,
    Tick,
}

/// Whether somebody has the turn, and what waits for it.
#[derive(Default)]
pub(super) struct Inbox {
    /// Somebody has the turn, or the pool is about to take it.
    busy: bool,
    /// A call that would close a cycle of waiting owners is refused. Here since here it takes no room.
    pub(super) refuses_deadlocks: bool,
    /// Most cells never need any, and there are many cells.
    pub(super) others: Option<Box<Others>>,
}

/// What others leave in an inbox.
#[derive(Default)]
pub(super) struct Others {
    pub(super) queue: VecDeque<Work<'static>>,
    /// Cells with parked calls that are guarded by this one.
    pub(super) watchers: Vec<Weak<Cell>>,
}

type Later = (Arc<Cell>, Work<'static>);

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
    /// Inputs for other cells, in order, and whether a caller further up this thread's stack will bring them.
    static LATER: RefCell<VecDeque<Later>> = RefCell::default();
    static BRINGING: Slot<bool> = const { Slot::new(false) };
}

impl Cell {
    pub(super) fn bring(self: &Arc<Self>, work: Work<'_>) {
        if BRINGING.get() {
            LATER.with_borrow_mut(|later| later.push_back((self.clone(), work.into_owned())));
            return;
        }
        BRINGING.set(true);
        self.submit(work);
        while let Some((cell, work)) = LATER.with_borrow_mut(VecDeque::pop_front) {
            cell.submit(work);
        }
        BRINGING.set(false);
    }

    /// Takes the turn, or leaves the input for the one who has it.
    fn submit(self: &Arc<Self>, work: Work<'_>) {
        let mut inbox = self.inbox.lock();
        let inline = self.kind.is_inline();
        if inbox.busy || !inline {
            let queue = &mut inbox.others.get_or_insert_default().queue;
            let work = match work {
                Work::Call(call) => {
                    let bytes = call.args.len();
                    let budget = if bytes > SMALL_ARGS_BYTES { self.tenant.budget.allows(bytes) } else { Ok(()) };
                    let (waiting, limit) = (queue.len(), self.tenant.shared.limits.inbox_max);
                    let busy = || {
                        let message = format!("{waiting} inputs wait for object {}, limit is {limit}", self.ident);
                        Fault::refused("Busy", message).retry()
                    };
                    if let Err(fault) = if waiting >= limit { Err(busy()) } else { budget } {
                        drop(inbox);
                        return call.to.fail(&fault);
                    }
                    Work::Call(call)
                }
                other => other,
            };
            self.tenant.budget.charge(work.bytes());
            queue.push_back(work.into_owned());
            if !std::mem::replace(&mut inbox.busy, true) {
                drop(inbox);
                self.continue_on_pool();
            }
            return;
        }
        inbox.busy = true;
        drop(inbox);
        let mut core = self.core.lock();
        if core.referent.is_busy() {
            // A guest of its shard runs on another thread. Those of the pool may wait for it; this one has others to serve.
            drop(core);
            self.tenant.budget.charge(work.bytes());
            // Before what has come since the turn was taken.
            self.inbox.lock().others.get_or_insert_default().queue.push_front(work.into_owned());
            return self.continue_on_pool();
        }
        OUTBOX.with_borrow_mut(|out| self.turn(&mut core, work, out));
        drop(core);
        self.drain(STEPS_PER_TURN);
    }

    /// Works off the inbox. The caller has the turn, and it ends here or goes on in the pool.
    fn drain(self: &Arc<Self>, steps_max: usize) {
        for _ in 0..steps_max {
            let work = {
                let mut inbox = self.inbox.lock();
                match inbox.others.as_mut().and_then(|others| others.queue.pop_front()) {
                    Some(work) => {
                        self.tenant.budget.release(work.bytes());
                        work
                    }
                    None => {
                        inbox.tidy();
                        inbox.busy = false;
                        return;
                    }
                }
            };
            let mut core = self.core.lock();
            OUTBOX.with_borrow_mut(|out| self.turn(&mut core, work, out));
        }
        self.continue_on_pool();
    }

    fn continue_on_pool(self: &Arc<Self>) {
        let cell = self.clone();
        self.tenant.shared.pool.run(
            &self.tenant,
            Box::new(move || {
                BRINGING.set(true);
                cell.drain(STEPS_PER_TURN);
                while let Some((cell, work)) = LATER.with_borrow_mut(VecDeque::pop_front) {
                    cell.submit(work);
                }
                BRINGING.set(false);
                // A pool may have many threads, and each an outbox.
                OUTBOX.with_borrow_mut(|out| out.clear(0, POOL_OUTBOX_BYTES_KEPT_MAX));
            }),
        );
    }
}

impl Inbox {
    pub(super) fn new(refuses_deadlocks: bool) -> Self {
        Self { refuses_deadlocks, ..Self::default() }
    }

    /// Gives back the memory of an empty queue.
    fn tidy(&mut self) {
        if let Some(others) = &mut self.others {
            others.queue = VecDeque::new();
        }
        self.others.take_if(|others| others.watchers.is_empty());
    }
}

impl Work<'_> {
    /// What the tenant is charged for it while it waits.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Call(call) => call.args.len(),
            Self::Undelivered(lost) => lost.payload.len(),
            Self::Join { args, .. } => args.len(),
            _ => 0,
        };
        bytes as u64
    }

    fn into_owned(self) -> Work<'static> {
        match self {
            Self::Call(call) => Work::Call(CallWork { args: Cow::Owned(call.args.into_owned()), ..call }),
            Self::Cancel { call, why } => Work::Cancel { call, why },
            Self::OwnerLost { session, orderly } => Work::OwnerLost { session, orderly },
            Self::Undelivered(lost) => Work::Undelivered(lost),
            Self::Recheck => Work::Recheck,
            Self::Returned { tag, outcome } => Work::Returned { tag, outcome },
            Self::Join { to, typeid, facet, args, tokens } => Work::Join { to, typeid, facet, args, tokens },
            Self::Leave { facet } => Work::Leave { facet },
            Self::Tick => Work::Tick,
        }
    }
}
