//! One object of a plugin: a guest behind the trait that built-in types have.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use steward_objects::{Args, CallId, Effect, Fault, Ident, Input, Invocation, Outbox, Referent, Why, common};
use wasmtime::PoolConcurrencyLimitError;

use super::bindings::PluginPre;
use super::bindings::exports::steward::plugin::referent::Made;
use super::bindings::steward::plugin::types as wit;
use super::instance::{Guest, Inside, Who, enter};
use super::rules::{Arrived, Broken, check_fault, check_item, raised};
use super::{Birth, PluginType};

/// Kind of the fault of a guest that trapped, was cut, or broke the rules.
const GUEST_TRAP: &str = "GuestTrap";

/// An object of a plugin.
pub(super) struct Object {
    kind: Arc<PluginType>,
    ident: Ident,
    guest: Result<Guest, Fault>,
    /// Calls that the guest has not answered.
    parked: HashSet<CallId>,
    /// Tokens that the guest stores, and how often.
    held: HashMap<Ident, usize>,
    held_total: usize,
    seed: u64,
}

impl Object {
    pub(super) fn create(
        pre: &PluginPre<Inside>,
        kind: Arc<PluginType>,
        args: Args<'_>,
        birth: Birth<'_>,
        out: &mut Outbox,
    ) -> Result<Self, Fault> {
        let runtime = &*kind.who.runtime;
        let mut store = Inside::store(Arc::clone(&kind.who), birth.ident);
        let created = enter(runtime, &mut store, birth.now_ms, |store| {
            let plugin = pre.instantiate(&mut *store)?;
            let context = wit::Context { now_ms: birth.now_ms, seed: birth.seed, tenant: birth.tenant.to_owned() };
            let referent = plugin.steward_plugin_referent();
            let made = referent.object().call_create(store, &kind.info.typeid, &args.item().to_vec(), &context)?;
            Ok((plugin, made))
        });
        let arrived = Arrived { item: if args.has_tokens() { args.item() } else { &[] }, tokens: OnceCell::new() };
        let broke = |broken: Broken| {
            Fault::refused(GUEST_TRAP, format!("guest broke the rules in `{}`: {broken}", kind.info.typeid))
        };
        match created {
            Ok((plugin, Ok(Made { object, held }))) => {
                let mut made = Self {
                    guest: Ok(Guest { store, plugin, object }),
                    kind: Arc::clone(&kind),
                    ident: birth.ident,
                    parked: HashSet::new(),
                    held: HashMap::new(),
                    held_total: 0,
                    seed: birth.seed,
                };
                made.hold(&held, &arrived).map_err(broke)?;
                held.into_iter().for_each(|ident| out.hold(Ident(ident)));
                Ok(made)
            }
            Ok((_, Err(fault))) => Err(match check_fault(&fault, &runtime.config, |ident| arrived.brought(ident)) {
                Ok(()) => raised(fault),
                Err(broken) => broke(broken),
            }),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                let limit = runtime.profile.objects_max;
                Err(Fault::refused("OverQuota", format!("no room for another guest, limit is {limit}")).retry())
            }
            Err(error) => {
                let trap = store.data().explain(&error);
                Err(Fault::refused(GUEST_TRAP, format!("guest trapped in `{}`: {trap}", kind.info.typeid)))
            }
        }
    }

    /// The method that the guest is entered with, or `None` if the host has answered.
    fn method(&self, call: &steward_objects::Call<'_>, out: &mut Outbox) -> Option<usize> {
        let typeid = &self.kind.info.typeid;
        let method = self.kind.place_of(call.method);
        match (method, call.method) {
            (Some(_), _) if self.parked.len() >= self.kind.who.runtime.config.parked_max => {
                let limit = self.kind.who.runtime.config.parked_max;
                let fault = Fault::refused("OverQuota", format!("{limit} calls wait for this object, its limit"));
                out.raises(call.id, &fault.retry());
                None
            }
            (Some(method), _) => Some(method),
            (None, common::STR | common::REPR) => {
                out.returns_text(call.id, &format!("<{typeid} object {}>", self.ident));
                None
            }
            (None, common::GET_VALUE) => {
                out.raises(
                    call.id,
                    &Fault::raised("TypeError", format!("type `{typeid}` offers no copy of its value")),
                );
                None
            }
            (None, index) => {
                let fault = Fault::refused("NotExposed", format!("typeid `{typeid}` has no method {index}"));
                out.raises(call.id, &fault);
                None
            }
        }
    }

    /// A seed for a step whose input brings none: deterministic, different each time (SplitMix64).
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Checks all that a step brought, then hands it to the outbox: nothing of a step that breaks the rules is seen.
    /// `unanswered` is the call that the step was made for, until it is answered.
    fn accept(
        &mut self,
        outcome: wit::Outcome,
        unanswered: &mut Option<CallId>,
        arrived: &Arrived<'_>,
        out: &mut Outbox,
    ) -> Result<(), Broken> {
        self.hold(&outcome.held, arrived)?;
        let config = &self.kind.who.runtime.config;
        // A token that a reply or a request carries may have been let go in this very step.
        let known = |ident| self.held.contains_key(&ident) || arrived.brought(ident);
        for completion in &outcome.completions {
            if unanswered.take_if(|call| *call == completion.call).is_none() && !self.parked.remove(&completion.call) {
                return Err(Broken::UnknownCall(completion.call));
            }
            match &completion.outcome {
                Ok(payload) => check_item(payload, config, known)?,
                Err(_) if completion.grant != wit::Grant::None => return Err(Broken::GrantedFault(completion.call)),
                Err(fault) => check_fault(fault, config, known)?,
            }
        }
        if outcome.invokes.len() > config.invokes_max {
            return Err(Broken::TooManyInvokes { invokes: outcome.invokes.len(), limit: config.invokes_max });
        }
        for invocation in &outcome.invokes {
            if !self.held.contains_key(&Ident(invocation.ident)) {
                return Err(Broken::ForeignToken(Ident(invocation.ident)));
            }
            check_item(&invocation.args, config, known)?;
        }
        for &ident in &outcome.let_go {
            let ident = Ident(ident);
            match self.held.get_mut(&ident) {
                Some(1) => drop(self.held.remove(&ident)),
                Some(count) => *count -= 1,
                None => return Err(Broken::ForeignToken(ident)),
            }
            self.held_total -= 1;
        }

        if outcome.freed {
            out.freed();
        }
        for completion in outcome.completions {
            match completion.outcome {
                Ok(payload) => out.returns_item(completion.call, &payload),
                Err(fault) => out.raises(completion.call, &raised(fault)),
            }
            match completion.grant {
                wit::Grant::None => {}
                grant => drop(out.grant(completion.call, grant == wit::Grant::Abandoned)),
            }
        }
        outcome.held.into_iter().for_each(|ident| out.hold(Ident(ident)));
        outcome.let_go.into_iter().for_each(|ident| out.let_go(Ident(ident)));
        for wit::Invocation { tag, ident, method, args } in outcome.invokes {
            out.invoke(Invocation { tag, ident: Ident(ident), method, args });
        }
        if outcome.changed {
            out.changed();
        }
        if let Some(at_ms) = outcome.wake_at {
            out.wake_at(at_ms);
        }
        Ok(())
    }

    /// Counts tokens that the guest stores from now on.
    fn hold(&mut self, held: &[u64], arrived: &Arrived<'_>) -> Result<(), Broken> {
        for &ident in held {
            let ident = Ident(ident);
            if !self.held.contains_key(&ident) && !arrived.brought(ident) {
                return Err(Broken::ForeignToken(ident));
            }
            *self.held.entry(ident).or_default() += 1;
            self.held_total += 1;
        }
        let limit = self.kind.who.runtime.config.tokens_held_max;
        if self.held_total > limit {
            return Err(Broken::TooManyHeld { held: self.held_total, limit });
        }
        Ok(())
    }

    /// Where a guest was when it failed, for people.
    fn place(&self, input: &Input<'_>) -> String {
        let typeid = &self.kind.info.typeid;
        match input {
            Input::Call(call) => match self.kind.place_of(call.method) {
                Some(index) => format!("`{typeid}.{}`", self.kind.info.methods[index].name),
                None => format!("`{typeid}`"),
            },
            Input::Cancel { .. } => format!("`{typeid}` when a call was given up"),
            Input::OwnerLost { .. } => format!("`{typeid}` when an owner was lost"),
            Input::Undelivered { .. } => format!("`{typeid}` when a reply was not delivered"),
            Input::Returned { .. } => format!("`{typeid}` when a call of its own returned"),
            Input::Tick { .. } => format!("`{typeid}` when it was woken"),
            Input::Join { .. } | Input::Leave { .. } => format!("`{typeid}`"),
        }
    }

    fn poison(&mut self, what: String, out: &mut Outbox) {
        let fault = Fault::new(Effect::Poisoned, GUEST_TRAP, what);
        let Who { plugin, typeid, .. } = &*self.kind.who;
        tracing::warn!(plugin, typeid, ident = self.ident.0, "{}", fault.message);
        // Frees the memory now, not when the last proxy goes.
        self.guest = Err(fault.clone());
        self.parked = HashSet::new();
        out.poison(fault);
    }
}

impl Referent for Object {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        if let Err(fault) = &self.guest {
            out.poison(fault.clone());
            return;
        }
        let mut arrived = Arrived::default();
        // Most calls are answered by their own step and never enter the set of those that wait.
        let mut unanswered = None;
        let mut seed = None;
        let now_ms;
        let told = match &input {
            Input::Call(call) => {
                let Some(method) = self.method(call, out) else { return };
                if call.args.has_tokens() {
                    arrived.item = call.args.item();
                }
                seed = Some(call.seed);
                now_ms = call.now_ms;
                unanswered = Some(call.id);
                wit::Input::Call(wit::Call {
                    id: call.id,
                    method: u32::try_from(method).expect("methods are counted in 16 bits"),
                    owner: wit::Owner { session: call.owner.session, thread: call.owner.thread },
                    args: call.args.item().to_vec(),
                })
            }
            Input::Cancel { call, why, now_ms: now } => {
                if !self.parked.contains(call) {
                    return;
                }
                now_ms = *now;
                let why = match why {
                    Why::Deadline => wit::Why::Deadline,
                    Why::Client => wit::Why::Client,
                    Why::SessionEnded => wit::Why::SessionEnded,
                };
                wit::Input::Cancel(wit::Cancel { call: *call, why })
            }
            Input::OwnerLost { session, orderly, now_ms: now } => {
                now_ms = *now;
                wit::Input::OwnerLost(wit::OwnerLost { session: *session, orderly: *orderly })
            }
            Input::Undelivered { call, method, payload, sent, now_ms: now, .. } => {
                now_ms = *now;
                arrived.item = payload;
                wit::Input::Undelivered(wit::Undelivered {
                    call: *call,
                    method: u32::from(*method),
                    payload: payload.to_vec(),
                    sent: *sent,
                })
            }
            Input::Returned { tag, outcome, now_ms: now } => {
                now_ms = *now;
                if let Ok(payload) = outcome {
                    arrived.item = payload;
                }
                let outcome = outcome.map(<[u8]>::to_vec).map_err(|fault| wit::Fault {
                    kind: fault.kind.clone(),
                    message: fault.message.clone(),
                    data: fault.data.clone(),
                });
                wit::Input::Returned(wit::Returned { tag: *tag, outcome })
            }
            Input::Tick { now_ms: now } => {
                now_ms = *now;
                wit::Input::Tick
            }
            Input::Join { call, .. } => {
                let fault = format!("nothing can share the state of a `{}`", self.kind.info.typeid);
                out.raises(*call, &Fault::refused("TypeError", fault));
                return;
            }
            // No facet but the first was ever given.
            Input::Leave { .. } => return,
        };
        let seed = seed.unwrap_or_else(|| self.next_seed());

        let guest = self.guest.as_mut().expect("a poisoned object was answered for above");
        let outcome = enter(&self.kind.who.runtime, &mut guest.store, now_ms, |store| {
            guest.plugin.steward_plugin_referent().object().call_step(store, guest.object, now_ms, seed, &told)
        });
        self.kind.placement.record(guest.store.data().ticks);
        let broken = match outcome.map_err(|error| guest.store.data().explain(&error)) {
            Ok(outcome) => match self.accept(outcome, &mut unanswered, &arrived, out) {
                Ok(()) => {
                    self.parked.extend(unanswered);
                    return;
                }
                Err(broken) => format!("guest broke the rules in {}: {broken}", self.place(&input)),
            },
            Err(trap) => format!("guest trapped in {}: {trap}", self.place(&input)),
        };
        self.poison(broken, out);
    }
}
