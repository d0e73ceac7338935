//! Calls that have no reply yet: parked as data, until a later step, their deadline, their client or their session's end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use steward_objects::{CallId, Facet, Input, Outbox, Owner, Why};
use steward_wire::Fault;

use super::{Cell, Core, Guard, ReplyTo};
use crate::calls::Parks;
use crate::registry::Type;
use crate::waits;

/// What most cells do not have: parked calls, times to wake at, further facets.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) parked: BTreeMap<CallId, Parked>,
    pub(super) deadlines: BTreeSet<(u64, CallId)>,
    pub(super) wake_at_ms: Option<u64>,
    /// The earliest alarm that the clock holds for this cell, so that it is asked again only for an earlier one.
    alarm_ms: Option<u64>,
    pub(super) facets: HashMap<Facet, Arc<Type>>,
    /// Parked calls with a guard.
    pub(super) guarded: BTreeMap<CallId, Guard>,
    /// Parked calls that wait for the holder.
    pub(super) contenders: usize,
}

/// A call that has no reply yet.
pub(super) struct Parked {
    pub(super) to: ReplyTo,
    pub(super) facet: Facet,
    pub(super) method: u16,
    pub(super) owner: Owner,
    /// Its arguments contain tokens, which its result may give back.
    pub(super) tokens: bool,
    /// Its condition, until it parks.
    pub(super) guard: Option<Guard>,
    /// It waits for the holder of a lock, which the tenant's graph knows.
    pub(super) contends: bool,
    /// It answers with this instead.
    pub(super) refused: Option<Box<Fault>>,
    pub(super) deadline_ms: Option<u64>,
}

impl Cell {
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

    /// Steps with an input that wants an answer. Without one the call is parked, if it may wait at all.
    pub(super) fn step_call(
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

    pub(super) fn turn_tick(self: &Arc<Self>, core: &mut Core, now_ms: u64, out: &mut Outbox) {
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
    pub(super) fn arm(self: &Arc<Self>, waiting: &mut Waiting) {
        let deadline_ms = waiting.deadlines.first().map(|(at_ms, _)| *at_ms);
        let Some(next_ms) = deadline_ms.into_iter().chain(waiting.wake_at_ms).min() else { return };
        if waiting.alarm_ms.is_none_or(|alarm_ms| next_ms < alarm_ms) {
            waiting.alarm_ms = Some(next_ms);
            self.tenant.shared.clock.alarm(next_ms, self);
        }
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
    pub(super) fn unpark(&self, core: &mut Core, id: CallId) -> Option<Parked> {
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
    pub(super) fn refuse(self: &Arc<Self>, core: &mut Core, call: CallId, fault: Fault, now_ms: u64, out: &mut Outbox) {
        if let Some(parked) = core.waiting.as_mut().and_then(|waiting| waiting.parked.get_mut(&call)) {
            parked.refused = Some(Box::new(fault));
            self.step(core, Input::Cancel { call, why: Why::Client, now_ms }, None, out);
        }
    }
}

impl Core {
    /// Gives back the memory for waiting once nothing waits.
    pub(super) fn tidy(&mut self) {
        let idle = |waiting: &mut Box<Waiting>| {
            waiting.parked.is_empty()
                && waiting.wake_at_ms.is_none()
                && waiting.alarm_ms.is_none()
                && waiting.facets.is_empty()
        };
        self.waiting.take_if(idle);
    }
}
