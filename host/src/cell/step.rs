//! A step of the referent, and all that its outbox asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::{CallId, HoldChange, Input, Outbox, Referent};
use steward_wire::{Effect, Fault};

use super::reply::Answer;
use super::waiting::Parked;
use super::{Cell, Core};

/// Room that a thread's outbox keeps between steps: large results come again.
const OUTBOX_BYTES_KEPT_MAX: usize = 4 << 20;

impl Cell {
    /// One step and all that follows from it. `asking` is the call that the input wants answered; it comes back if it was not.
    pub(super) fn step(
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
}

/// Takes the place of a referent that failed, and frees its memory. Never stepped.
struct Broken;

impl Referent for Broken {
    fn step(&mut self, _: Input<'_>, _: &mut Outbox) {}
}
