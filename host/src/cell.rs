//! Cells: one referent with its waiters, stepped by one caller at a time. The one place where calls park.
//!
//! Whoever brings an input either takes the turn (the cell was idle) or leaves the input in the inbox, where the
//! thread that has the turn finds it: nobody waits for a busy cell. A turn steps the referent and applies its outbox:
//! replies go to the lanes of their calls, stored tokens into the tenant's table, wishes to be woken to the clock. A
//! call without a reply after its step is parked; here, as data, it waits for a later step, its deadline, its
//! client or its session's end.
//!
//! A step may concern other cells (a call it asks for, a facet that leaves). Those get their inputs after the turn, from
//! a list that the outermost call of this thread works off, so that no chain of objects can exhaust a stack.

mod guards;

use std::borrow::Cow;
use std::cell::{Cell as Slot, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use steward_objects::{
    Args, Call, CallId, Facet, HoldChange, Input, Invocation, Outbox, Owner, Referent, Reply as OutReply, Why,
};
use steward_wire::frame::{Grant, Method as MethodRef, Reply};
use steward_wire::token::TokenRef;
use steward_wire::{Effect, Fault, Ident};

use self::guards::FREE;
pub(crate) use self::guards::Guard;
use crate::calls::{Answered, Parks, Waits};
use crate::lane::Lane;
use crate::registry::Type;
use crate::session::Session;
use crate::table::Object;
use crate::tenant::Tenant;
use crate::waits;

/// Inputs drained in one go before the turn is handed to the pool, so that a lane is not held up by one busy object.
const STEPS_PER_TURN: usize = 64;
/// Arguments that may wait for a busy object even if the tenant keeps too much: who is to read and to remove must be let in.
const SMALL_ARGS_BYTES: usize = 1 << 10;
/// Room that a thread's outbox keeps between steps: large results come again, and few threads step.
const OUTBOX_BYTES_KEPT_MAX: usize = 4 << 20;

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

#[derive(Default)]
struct Inbox {
    /// Somebody has the turn, or the pool is about to take it.
    busy: bool,
    /// A call that would close a cycle of waiting owners is refused. Here since here it takes no room.
    refuses_deadlocks: bool,
    /// Most cells never need any, and there are many cells.
    others: Option<Box<Others>>,
}

/// What others leave in an inbox.
#[derive(Default)]
struct Others {
    queue: VecDeque<Work<'static>>,
    /// Cells with parked calls that are guarded by this one.
    watchers: Vec<Weak<Cell>>,
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

/// What most cells do not have: parked calls, times to wake at, further facets.
#[derive(Default)]
struct Waiting {
    parked: BTreeMap<CallId, Parked>,
    deadlines: BTreeSet<(u64, CallId)>,
    wake_at_ms: Option<u64>,
    /// The earliest alarm that the clock holds for this cell, so that it is asked again only for an earlier one.
    alarm_ms: Option<u64>,
    facets: HashMap<Facet, Arc<Type>>,
    /// Parked calls with a guard.
    guarded: BTreeMap<CallId, Guard>,
    /// Parked calls that wait for the holder.
    contenders: usize,
}

/// A call that has no reply yet.
struct Parked {
    to: ReplyTo,
    facet: Facet,
    method: u16,
    owner: Owner,
    /// Its arguments contain tokens, which its result may give back.
    tokens: bool,
    /// Its condition, until it parks.
    guard: Option<Guard>,
    /// It waits for the holder of a lock, which the tenant's graph knows.
    contends: bool,
    /// It answers with this instead.
    refused: Option<Box<Fault>>,
    deadline_ms: Option<u64>,
}

/// Takes a result for the host itself.
type Note = Box<dyn FnOnce(Effect, &[u8]) + Send>;

/// Who gets a call's reply.
pub(crate) enum ReplyTo {
    /// A client, through the lane that the call came by, unless it was sent again by another.
    Client { session: Arc<Session>, lane: Arc<Lane>, seq: u64, kept: bool },
    /// Another object, which asked for the call.
    Cell { cell: Arc<Cell>, tag: u64 },
    /// The host itself. Called within the cell's turn: it must not do more than note the result.
    Host(Note),
}

/// A call on its way into a cell.
pub(crate) struct CallWork<'a> {
    pub(crate) to: ReplyTo,
    pub(crate) facet: Facet,
    /// As [`Type::method`] resolved it.
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

/// Who called whom: an object that waits for a call it asked for, and those that wait for it.
pub(crate) struct Chain {
    ident: Ident,
    earlier: Option<Arc<Chain>>,
}

impl Chain {
    fn contains(&self, ident: Ident) -> bool {
        let mut link = Some(self);
        while let Some(Chain { ident: known, earlier }) = link {
            if *known == ident {
                return true;
            }
            link = earlier.as_deref();
        }
        false
    }
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
enum Work<'a> {
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

type Later = (Arc<Cell>, Work<'static>);

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
    /// Inputs for other cells, in order, and whether a caller further up this thread's stack will bring them.
    static LATER: RefCell<VecDeque<Later>> = RefCell::default();
    static BRINGING: Slot<bool> = const { Slot::new(false) };
    /// The chain of the call that this thread steps.
    static CHAIN: RefCell<Option<Arc<Chain>>> = const { RefCell::new(None) };
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

    /// Calls parked here, for listings; `None` while a turn is in progress.
    pub(crate) fn waiters(&self) -> Option<usize> {
        let core = self.core.try_lock()?;
        Some(core.waiting.as_ref().map_or(0, |waiting| waiting.parked.len()))
    }

    /// Whether an alarm at `at_ms` is of any use; one that is not the clock may forget. True while a turn is in progress.
    pub(crate) fn wants(&self, at_ms: u64) -> bool {
        let Some(mut core) = self.core.try_lock() else { return true };
        let Some(waiting) = &mut core.waiting else { return false };
        if waiting.alarm_ms != Some(at_ms) {
            return false;
        }
        let is_wanted = waiting.wake_at_ms.is_some() || !waiting.deadlines.is_empty();
        if !is_wanted {
            waiting.alarm_ms = None;
            core.tidy();
        }
        is_wanted
    }

    fn bring(self: &Arc<Self>, work: Work<'_>) {
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
                    let full = queue.len() >= self.tenant.shared.limits.inbox_max;
                    let busy = || Fault::refused("Busy", format!("object {} has too much to do", self.ident)).retry();
                    if let Err(fault) = if full { Err(busy()) } else { budget } {
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
            }),
        );
    }

    /// One input: one step, or none, or several (a tick finds many deadlines).
    fn turn(self: &Arc<Self>, core: &mut Core, work: Work<'_>, out: &mut Outbox) {
        let now_ms = self.tenant.shared.clock.now_ms();
        self.recheck(core, now_ms, out);
        match work {
            Work::Recheck => {}
            Work::Call(call) => self.turn_call(core, call, now_ms, out),
            Work::Join { to, typeid, facet, args, tokens } => {
                let id = core.call_number();
                let args = Args::new(&args, tokens);
                let input = Input::Join { call: id, typeid, to: facet, args };
                let owner = Owner { session: 0, thread: 0 };
                let parked = Parked {
                    to,
                    facet: 0,
                    method: u16::MAX,
                    owner,
                    tokens,
                    guard: None,
                    contends: false,
                    refused: None,
                    deadline_ms: None,
                };
                self.step_call(core, id, parked, input, now_ms, out);
            }
            Work::Cancel { call, why } => {
                // It may have been answered meanwhile.
                if core.waiting.as_ref().is_some_and(|waiting| waiting.parked.contains_key(&call)) {
                    self.step(core, Input::Cancel { call, why, now_ms }, None, out);
                }
            }
            Work::OwnerLost { session, orderly } => {
                self.step(core, Input::OwnerLost { session, orderly, now_ms }, None, out);
            }
            Work::Undelivered(Undelivered { call, facet, method, payload, note, sent }) => {
                #[cfg(feature = "sim")]
                crate::sim::returned(self, method, &payload);
                let input = Input::Undelivered { call, facet, method, payload: &payload, note, sent, now_ms };
                self.step(core, input, None, out);
            }
            Work::Returned { tag, outcome } => {
                let outcome = outcome.as_deref();
                self.step(core, Input::Returned { tag, outcome, now_ms }, None, out);
            }
            Work::Leave { facet } => {
                if let Some(waiting) = &mut core.waiting {
                    waiting.facets.remove(&facet);
                }
                self.step(core, Input::Leave { facet }, None, out);
            }
            Work::Tick => self.turn_tick(core, now_ms, out),
        }
    }

    fn turn_call(self: &Arc<Self>, core: &mut Core, call: CallWork<'_>, now_ms: u64, out: &mut Outbox) {
        // A session that ended while the call was in the inbox has had its OwnerLost here or will have it next: in
        // either case a grant now would be nobody's.
        if call.to.is_ended() {
            return;
        }
        if let Some(stale) = call.guard.as_ref().filter(|guard| !guard.stands()).map(Guard::stale) {
            return call.to.fail(&stale);
        }
        if call.chain.as_ref().is_some_and(|chain| chain.contains(self.ident)) {
            let message = format!("object {} waits for this very call", self.ident);
            return call.to.fail(&Fault::refused("Deadlock", message));
        }
        let waiters_max = self.tenant.shared.limits.waiters_max;
        let stores = core.kind(self, call.facet).stores(call.method);
        if stores && let Err(fault) = self.tenant.budget.allows(call.args.len()) {
            return call.to.fail(&fault);
        }
        let full = core.waiting.as_ref().is_some_and(|waiting| waiting.parked.len() >= waiters_max);
        if full && core.kind(self, call.facet).nature(call.method).0 != Waits::Never {
            let message = format!("{waiters_max} calls wait for object {}, limit is {waiters_max}", self.ident);
            return call.to.fail(&Fault::refused("TooManyWaiters", message).retry());
        }
        #[cfg(feature = "sim")]
        crate::sim::entered(self.ident, &call);
        let id = core.call_number();
        let input = Input::Call(Call {
            id,
            facet: call.facet,
            method: call.method,
            owner: call.owner,
            now_ms,
            seed: self.tenant.shared.seed(self.ident, id),
            args: Args::new(&call.args, call.tokens),
        });
        let CallWork { to, facet, method, owner, tokens, deadline_ms, guard, chain, .. } = call;
        let parked = Parked { to, facet, method, owner, tokens, guard, contends: false, refused: None, deadline_ms };
        CHAIN.with_borrow_mut(|current| *current = chain);
        self.step_call(core, id, parked, input, now_ms, out);
        CHAIN.with_borrow_mut(|current| *current = None);
    }

    /// Steps with an input that wants an answer. Without one the call is parked, if it may wait at all.
    fn step_call(
        self: &Arc<Self>,
        core: &mut Core,
        id: CallId,
        call: Parked,
        input: Input<'_>,
        now_ms: u64,
        out: &mut Outbox,
    ) {
        let Some(mut call) = self.step(core, input, Some((id, call)), out) else { return };
        let guard = call.guard.take();
        let expired = call.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let deadline_ms = call.deadline_ms;
        let parks = call.to.parks(self, id, expired);
        let waiting = core.waiting.get_or_insert_default();
        waiting.parked.insert(id, call);
        let given_up = match parks {
            Parks::Waits => None,
            Parks::GivenUp(why) => Some(why),
            Parks::Refused(fault) => {
                self.refuse(core, id, fault, now_ms, out);
                return core.tidy();
            }
        };
        if let Some(guard) = guard {
            guard.lock.watch(self);
            waiting.guarded.insert(id, guard);
            // It may have been freed since the step, when nobody watched.
            self.recheck(core, now_ms, out);
        }
        // One that may not wait waits for nobody.
        if !expired {
            self.contend(core, id, now_ms, out);
        }
        let waiting = core.waiting.get_or_insert_default();
        if !waiting.parked.contains_key(&id) {
            return core.tidy();
        }
        // A deadline of 0: answered at once, but for a wait that must first have its lock again.
        if let Some(why) = given_up.or(expired.then_some(Why::Deadline)) {
            self.step(core, Input::Cancel { call: id, why, now_ms }, None, out);
        } else if let Some(at_ms) = deadline_ms {
            waiting.deadlines.insert((at_ms, id));
            self.arm(waiting);
        }
    }

    fn turn_tick(self: &Arc<Self>, core: &mut Core, now_ms: u64, out: &mut Outbox) {
        let Some(waiting) = &mut core.waiting else { return };
        waiting.alarm_ms = None;
        let later = waiting.deadlines.split_off(&(now_ms + 1, 0));
        let due = std::mem::replace(&mut waiting.deadlines, later);
        let woken = waiting.wake_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some();
        // Time passes for the referent first: what it grants at this very moment is not too late.
        if woken {
            self.step(core, Input::Tick { now_ms }, None, out);
        }
        for (_, call) in due {
            if core.waiting.as_ref().is_some_and(|waiting| waiting.parked.contains_key(&call)) {
                self.step(core, Input::Cancel { call, why: Why::Deadline, now_ms }, None, out);
            }
        }
        if let Some(waiting) = &mut core.waiting {
            self.arm(waiting);
        }
        core.tidy();
    }

    /// Asks the clock for the next time that matters, unless it will call earlier anyway.
    fn arm(self: &Arc<Self>, waiting: &mut Waiting) {
        let deadline_ms = waiting.deadlines.first().map(|(at_ms, _)| *at_ms);
        let Some(next_ms) = deadline_ms.into_iter().chain(waiting.wake_at_ms).min() else { return };
        if waiting.alarm_ms.is_none_or(|alarm_ms| next_ms < alarm_ms) {
            waiting.alarm_ms = Some(next_ms);
            self.tenant.shared.clock.alarm(next_ms, self);
        }
    }

    /// One step and all that follows from it. `asking` is the call that the input wants answered; it comes back if it was not.
    fn step(
        self: &Arc<Self>,
        core: &mut Core,
        input: Input<'_>,
        asking: Option<(CallId, Parked)>,
        out: &mut Outbox,
    ) -> Option<Parked> {
        if let Some(fault) = &core.poisoned {
            if let Some((_, call)) = asking {
                call.to.fail(fault);
            }
            return None;
        }
        out.clear(self.fence_next.load(Ordering::Relaxed), OUTBOX_BYTES_KEPT_MAX);
        // The referent is never entered again after a panic, so nobody sees what it broke.
        let stepped = catch_unwind(AssertUnwindSafe(|| core.referent.step(input, out)));
        let fault = match stepped {
            Ok(()) => out.poisoned().cloned(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown panic");
                tracing::error!(ident = %self.ident, typeid = %self.kind.typeid, panic = text, "object poisoned");
                Some(Fault::new(Effect::Poisoned, "Poisoned", format!("object {} failed: {text}", self.ident)))
            }
        };
        if let Some(fault) = fault {
            self.poison(core, fault, asking.map(|(_, call)| call));
            return None;
        }
        self.apply(core, asking, out)
    }

    /// Answers everything that waits, and everything to come, with `fault`; lets go of all that was stored.
    fn poison(self: &Arc<Self>, core: &mut Core, fault: Fault, asking: Option<Parked>) {
        let fault = Fault { effect: Effect::Poisoned, ..fault };
        let parked = core.waiting.take().map(|waiting| waiting.parked).unwrap_or_default();
        for call in parked.into_values() {
            // Nobody waits for a lock that has failed.
            if call.contends {
                self.tenant.waits.end(call.owner, self.ident, true);
            }
            call.to.fail(&fault);
        }
        if let Some(call) = asking {
            call.to.fail(&fault);
        }
        core.poisoned = Some(Box::new(fault));
        core.stored = 0;
        core.account(-(core.stored_bytes as i64), &self.tenant);
        self.tenant.table.store_nothing(self.ident).finish();
        core.referent = Box::new(Broken);
    }

    /// Writes down that a call which was just parked waits for the holder of this lock, and sees whether that closes a cycle.
    fn contend(self: &Arc<Self>, core: &mut Core, id: CallId, now_ms: u64, out: &mut Outbox) {
        let Some(holder) = core.referent.holder() else { return };
        let Some(waiting) = &mut core.waiting else { return };
        let facet = waiting.parked.get(&id).map_or(0, |call| call.facet);
        let kind = if facet == 0 { &self.kind } else { waiting.facets.get(&facet).unwrap_or(&self.kind) };
        let Some(call) = waiting.parked.get_mut(&id).filter(|call| kind.acquires(call.method)) else { return };
        call.contends = true;
        waiting.contenders += 1;
        let Some(cycle) = self.tenant.waits.begin(call.owner, self.ident, holder) else { return };
        let text = waits::text(&cycle);
        let refuses = self.inbox.lock().refuses_deadlocks;
        tracing::warn!(tenant = self.tenant.name, refused = refuses, "deadlock: {text}");
        if refuses {
            self.refuse(core, id, Fault::refused("Deadlock", text), now_ms, out);
        }
    }

    /// Takes a call out of those that wait.
    fn unpark(&self, core: &mut Core, id: CallId) -> Option<Parked> {
        let waiting = core.waiting.as_mut()?;
        let call = waiting.parked.remove(&id)?;
        if let Some(at_ms) = call.deadline_ms {
            waiting.deadlines.remove(&(at_ms, id));
        }
        waiting.guarded.remove(&id);
        if call.contends {
            waiting.contenders -= 1;
            self.tenant.waits.end(call.owner, self.ident, waiting.contenders == 0);
        }
        Some(call)
    }

    /// Gives up a parked call, which answers with `fault`.
    fn refuse(self: &Arc<Self>, core: &mut Core, call: CallId, fault: Fault, now_ms: u64, out: &mut Outbox) {
        if let Some(parked) = core.waiting.as_mut().and_then(|waiting| waiting.parked.get_mut(&call)) {
            parked.refused = Some(Box::new(fault));
            self.step(core, Input::Cancel { call, why: Why::Client, now_ms }, None, out);
        }
    }

    /// Does what the outbox says.
    fn apply(
        self: &Arc<Self>,
        core: &mut Core,
        mut asking: Option<(CallId, Parked)>,
        out: &mut Outbox,
    ) -> Option<Parked> {
        self.publish(out);
        core.version += u64::from(out.is_changed());
        if out.stored_bytes() != 0 {
            core.account(out.stored_bytes(), &self.tenant);
        }
        // What is stored is written down before replies go out: a client that sees the reply may drop its own reference.
        let (held, let_go) = (out.held(), out.let_go_of());
        let stores = !held.is_empty() || !let_go.is_empty();
        if !held.is_empty() {
            core.stored += held.len() as u64;
            self.tenant.table.store(self.ident, held, &[]).finish();
        }
        for (index, reply) in out.replies().iter().enumerate() {
            let call = match asking.take_if(|(id, _)| *id == reply.call) {
                Some((_, call)) => call,
                None => match self.unpark(core, reply.call) {
                    Some(call) => call,
                    None => continue,
                },
            };
            #[cfg(feature = "sim")]
            {
                let (version, index) = (core.version, index as u64);
                let effect = if call.refused.is_some() { Effect::Refused } else { reply.effect };
                let answer = Answer { effect, payload: out.payload(reply), grant: reply.grant, version, index };
                crate::sim::answered(self.ident, &call.to, &answer);
            }
            if let Some(fault) = &call.refused {
                call.to.fail(fault);
                continue;
            }
            let answer = Answer {
                effect: reply.effect,
                payload: out.payload(reply),
                grant: reply.grant,
                version: core.version,
                index: index as u64,
            };
            match (reply.effect, reply.facet) {
                (Effect::Returned, Some((facet, typeid))) => self.answer_facet(core, call, facet, typeid, answer),
                (Effect::Returned, None) => self.answer(core, reply, call, answer),
                _ => call.to.answer(answer, false),
            }
        }
        if !let_go.is_empty() {
            core.stored -= let_go.len() as u64;
            self.tenant.table.store(self.ident, &[], let_go).finish();
        }
        debug_assert!(!stores || core.stored < u64::MAX / 2, "a referent let go of more than it held");
        if out.hold_change() != HoldChange::None && core.waiting.as_ref().is_some_and(|waiting| waiting.contenders > 0)
        {
            self.tenant.waits.hand_over(self.ident, core.referent.holder());
        }
        if let Some(at_ms) = out.wake_at_ms() {
            let waiting = core.waiting.get_or_insert_default();
            waiting.wake_at_ms = Some(at_ms);
            self.arm(waiting);
        }
        for invocation in out.take_invocations() {
            self.invoke(invocation);
        }
        core.tidy();
        asking.map(|(_, call)| call)
    }

    fn answer(self: &Arc<Self>, core: &Core, reply: &OutReply, call: Parked, answer: Answer<'_>) {
        let kind = core.kind(self, call.facet);
        if let Some(typeid) = kind.wraps(call.method) {
            return self.answer_wrapped(call, &typeid, answer);
        }
        let tokens = core.stored > 0 || call.tokens;
        let Parked { to, facet, method, .. } = call;
        let ReplyTo::Client { session, lane, seq, kept } = to else { return to.answer(answer, tokens) };
        let (call, note) = (reply.call, reply.note);
        let from = kept.then(|| Answered { cell: self.clone(), call, facet, method, note });
        if !session.answer((&lane, seq), kept, answer, tokens, from) {
            // The client never saw it: what it was given goes back where it came from.
            let payload = answer.payload.to_vec();
            self.undelivered(Undelivered { call, facet, method, payload, note, sent: false });
        }
    }

    /// `method_to_typeid`: the result becomes an object, and its token the reply.
    fn answer_wrapped(&self, call: Parked, typeid: &str, answer: Answer<'_>) {
        let made = match self.tenant.registry.get(typeid) {
            Some(kind) => {
                let mut args = Vec::with_capacity(answer.payload.len() + 3);
                args.extend_from_slice(&[0x82, 0x81]);
                args.extend_from_slice(answer.payload);
                args.push(0xa0);
                self.tenant.make(&kind, Args::new(&args, true))
            }
            None => Err(Fault::refused("UnknownType", format!("typeid `{typeid}` is not registered"))),
        };
        match made {
            Ok((ident, object)) => call.to.answer_object(ident, object, answer),
            Err(fault) => call.to.fail(&fault),
        }
    }

    /// The result is a new facet of this cell: it gets an ident, and its token is the reply.
    fn answer_facet(
        self: &Arc<Self>,
        core: &mut Core,
        call: Parked,
        facet: Facet,
        typeid: &'static str,
        answer: Answer<'_>,
    ) {
        let Some(kind) = self.tenant.registry.get(typeid) else {
            return call.to.fail(&Fault::refused("UnknownType", format!("typeid `{typeid}` is not registered")));
        };
        let object = Object { cell: self.clone(), kind: kind.clone(), facet };
        let ident = self.tenant.table.number();
        match self.tenant.table.insert(ident, object.clone()) {
            Ok(()) => {
                core.waiting.get_or_insert_default().facets.insert(facet, kind);
                call.to.answer_object(ident, object, answer);
            }
            Err(fault) => {
                call.to.fail(&fault);
                self.leave(facet);
            }
        }
    }

    /// Makes a call that the referent asked for; its end comes back as an input.
    fn invoke(self: &Arc<Self>, invocation: Invocation) {
        let Invocation { tag, ident, method, args } = invocation;
        let to = ReplyTo::Cell { cell: self.clone(), tag };
        let earlier = CHAIN.with_borrow(Clone::clone);
        let chain = Some(Arc::new(Chain { ident: self.ident, earlier }));
        let Some(object) = self.tenant.table.retain(ident) else {
            return to.fail(&unknown(ident));
        };
        match object.kind.method(MethodRef::Name(&method)) {
            Ok(method) => object.cell.call(CallWork {
                to,
                facet: object.facet,
                method,
                owner: Owner { session: 0, thread: self.ident.0 },
                args: Cow::Owned(args),
                tokens: true,
                deadline_ms: None,
                guard: None,
                chain,
            }),
            Err(fault) => to.fail(&fault),
        }
        self.tenant.table.release([ident]).finish();
    }
}

/// The refusal for an ident that is not there, or not this session's: the two look the same.
pub(crate) fn unknown(ident: Ident) -> Fault {
    Fault::refused("UnknownIdent", format!("object {ident} is not known to this session"))
}

/// Takes the place of a referent that failed, and frees its memory. Never stepped.
struct Broken;

impl Referent for Broken {
    fn step(&mut self, _: Input<'_>, _: &mut Outbox) {}
}

impl Drop for Cell {
    fn drop(&mut self) {
        let core = self.core.get_mut();
        core.account(-(core.stored_bytes as i64), &self.tenant);
        let queued = self.inbox.get_mut().others.iter().flat_map(|others| &others.queue);
        self.tenant.budget.release(queued.map(Work::bytes).sum());
    }
}

impl Inbox {
    fn new(refuses_deadlocks: bool) -> Self {
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

    /// Gives back the memory for waiting once nothing waits.
    fn tidy(&mut self) {
        let idle = |waiting: &mut Box<Waiting>| {
            waiting.parked.is_empty()
                && waiting.wake_at_ms.is_none()
                && waiting.alarm_ms.is_none()
                && waiting.facets.is_empty()
        };
        self.waiting.take_if(idle);
    }
}

/// A reply before it is known whom it goes to.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) effect: Effect,
    pub(crate) payload: &'a [u8],
    pub(crate) grant: Option<Grant>,
    pub(crate) version: u64,
    pub(crate) index: u64,
}

impl<'a> Answer<'a> {
    /// A fault, encoded in `payload`, outside any step.
    pub(crate) fn fault(fault: &Fault, payload: &'a [u8]) -> Self {
        Self { effect: fault.effect, ..Self::plain(payload) }
    }

    /// The frame's content.
    pub(crate) fn reply(&self, seq: u64, epoch: u64) -> Reply<'a> {
        let Self { effect, payload, grant, version, index } = *self;
        Reply { seq, effect, payload, epoch, version, index, grant }
    }

    /// A result that no object's version belongs to.
    pub(crate) fn plain(payload: &'a [u8]) -> Self {
        Self { effect: Effect::Returned, payload, grant: None, version: 0, index: 0 }
    }

    /// The news of a new object; [`ReplyTo::answer_object`] adds its token.
    pub(crate) fn made() -> Self {
        Self::plain(&[])
    }
}

impl ReplyTo {
    /// Whether nobody is there to get the reply.
    fn is_ended(&self) -> bool {
        matches!(self, Self::Client { session, .. } if session.is_ended())
    }

    /// Notes that the call waits. `expired`: no longer than it takes to tell it so.
    fn parks(&self, cell: &Arc<Cell>, id: CallId, expired: bool) -> Parks {
        match self {
            Self::Client { session, seq, .. } => session.parked(*seq, cell, id, expired),
            Self::Cell { .. } | Self::Host(_) => Parks::Waits,
        }
    }

    /// Sends a reply. `tokens`: it may contain some.
    pub(crate) fn answer(self, answer: Answer<'_>, tokens: bool) {
        match self {
            Self::Client { session, lane, seq, kept } => {
                session.answer((&lane, seq), kept, answer, tokens, None);
            }
            Self::Cell { cell, tag } => {
                let outcome = match answer.effect {
                    Effect::Returned => Ok(answer.payload.to_vec()),
                    effect => Err(Fault::read(effect, answer.payload)
                        .unwrap_or_else(|malformed| Fault::refused("Malformed", malformed.to_string()))),
                };
                cell.bring(Work::Returned { tag, outcome });
            }
            Self::Host(note) => note(answer.effect, answer.payload),
        }
    }

    /// Sends the token of a new object, whose first root reference becomes the client's.
    pub(crate) fn answer_object(self, ident: Ident, object: Object, answer: Answer<'_>) {
        let mut payload = Vec::new();
        TokenRef { typeid: &object.kind.typeid, ident, address: None }.encode(&mut payload);
        let tenant = object.cell.tenant.clone();
        match &self {
            Self::Client { session, .. } => {
                if !session.adopt(ident, object) {
                    return tenant.table.release([ident]).finish();
                }
                self.answer(Answer { payload: &payload, ..answer }, false);
            }
            Self::Cell { .. } | Self::Host(_) => {
                // Whoever asked takes the token within the turn that follows, or lets the object go.
                self.answer(Answer { payload: &payload, ..answer }, false);
                tenant.table.release([ident]).finish();
            }
        }
    }

    /// Sends a fault, outside any step.
    pub(crate) fn fail(self, fault: &Fault) {
        let mut payload = Vec::new();
        fault.put(&mut payload);
        self.answer(Answer::fault(fault, &payload), false);
    }
}

impl Work<'_> {
    /// What the tenant is charged for it while it waits.
    fn bytes(&self) -> u64 {
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
