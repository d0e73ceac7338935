//! A turn: what an input comes to, when its time has come.

use std::sync::Arc;

use steward_objects::{Args, Call, Input, Outbox, Owner};
use steward_wire::Fault;

use super::chain::CHAIN;
use super::inbox::{CallWork, Undelivered, Work};
use super::waiting::Parked;
use super::{Cell, Core, Guard};
use crate::calls::Waits;

impl Cell {
    /// One input: one step, or none, or several (a tick finds many deadlines).
    pub(super) fn turn(self: &Arc<Self>, core: &mut Core, work: Work<'_>, out: &mut Outbox) {
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
}
