//! One object of a plugin: a guest behind the trait that built-in types have.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steward_objects::{Args, CallId, Effect, Fault, Ident, Input, Invocation, Outbox, Referent, Why, common};
use steward_wire::{Malformed, check, value};
use wasmtime::component::ResourceAny;
use wasmtime::{Engine, PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::bindings::exports::steward::plugin::referent::Made;
use super::bindings::steward::plugin::{host, types as wit};
use super::bindings::{self, PluginPre};
use super::{Birth, GuestConfig, PluginType, Runtime, slab};

/// Kind of the fault of a guest that trapped, was cut, or broke the rules.
const GUEST_TRAP: &str = "GuestTrap";

/// Bytes that a guest may hand over in one go besides a reply of the greatest length.
const HANDOVER_SPARE_BYTES: usize = 1 << 20;

/// Limit of the name of a fault's kind.
const FAULT_KIND_BYTES_MAX: usize = 128;

/// Whose guest runs: for its limits and for the log.
pub(super) struct Who {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugin: String,
    pub(super) typeid: String,
    /// Bytes that an object's memory may have.
    pub(super) memory_bytes_max: usize,
}

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.plugin, self.typeid)
    }
}

/// What a Store carries besides the guest. All but `who` and `ident` belongs to the entry that runs, and is set
/// anew by the next one.
pub(super) struct Inside {
    who: Arc<Who>,
    ident: Ident,
    /// CPU time of the thread at the first tick of this entry.
    cpu_at_first_tick: Option<Duration>,
    /// Whole ticks of CPU time that were seen to pass.
    ticks: u32,
    /// The guest was refused memory.
    starved: bool,
    now_ms: u64,
    logged_bytes: usize,
    log_lines_dropped: u32,
    /// When the running minute of logging began, and how much was logged since. Outlives the entry.
    log_minute: (u64, usize),
}

/// The guest used up its CPU time.
#[derive(Debug, thiserror::Error)]
#[error("cut after {cpu_ms} ms of CPU time")]
struct Cut {
    cpu_ms: u64,
}

impl Inside {
    fn store(engine: &Engine, who: Arc<Who>, ident: Ident) -> Store<Self> {
        let runtime = Arc::clone(&who.runtime);
        let inside = Self {
            who,
            ident,
            cpu_at_first_tick: None,
            ticks: 0,
            starved: false,
            now_ms: 0,
            logged_bytes: 0,
            log_lines_dropped: 0,
            log_minute: (0, 0),
        };
        let mut store = Store::new(engine, inside);
        store.limiter(|inside| inside);
        store.set_hostcall_fuel(runtime.config.reply_bytes_max + HANDOVER_SPARE_BYTES);
        // One object, and what the guest's own component hands around inside.
        store.set_max_component_handles(1_000);
        store.epoch_deadline_callback(|mut store| store.data_mut().tick());
        store
    }

    /// The epoch has moved while the guest runs.
    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        // Asking the kernel costs as much as a short step, so it is asked at the first tick only, and what ran
        // before counts as one whole tick.
        let cpu = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        let Some(cpu_at_first_tick) = self.cpu_at_first_tick else {
            self.cpu_at_first_tick = Some(cpu);
            return Ok(UpdateDeadline::Continue(1));
        };
        let config = &self.who.runtime.config;
        let tick = Duration::from_millis(config.epoch_tick_ms);
        let used = cpu.saturating_sub(cpu_at_first_tick);
        self.ticks = u32::try_from(used.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u32::MAX);
        if used + tick < Duration::from_millis(config.step_cpu_ms) {
            Ok(UpdateDeadline::Continue(1))
        } else {
            Err(Cut { cpu_ms: config.step_cpu_ms }.into())
        }
    }

    /// Says what ended the guest.
    fn explain(&self, error: &wasmtime::Error) -> String {
        let trap = match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => "unreachable executed".to_owned(),
            Some(trap) => {
                let text = trap.to_string();
                text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
            }
            None => error.root_cause().to_string(),
        };
        if self.starved {
            let limit = self.who.memory_bytes_max;
            format!("out of memory, limit is {limit} bytes: {trap}")
        } else {
            trap
        }
    }
}

impl ResourceLimiter for Inside {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.who.memory_bytes_max;
        self.starved |= !fits;
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.starved = true;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.who.runtime.config.table_elements_max)
    }

    fn instances(&self) -> usize {
        self.who.runtime.config.instances_max as usize
    }

    fn tables(&self) -> usize {
        self.who.runtime.config.tables_max as usize
    }

    fn memories(&self) -> usize {
        1
    }
}

impl wit::Host for Inside {}

impl host::Host for Inside {
    fn log(&mut self, level: host::Level, message: String) {
        let Who { runtime, plugin, typeid, .. } = &*self.who;
        let config = &runtime.config;
        let line = &message[..message.floor_char_boundary(config.log_line_bytes_max)];
        let (minute, minute_bytes) = &mut self.log_minute;
        if self.now_ms.saturating_sub(*minute) >= 60_000 {
            (*minute, *minute_bytes) = (self.now_ms, 0);
        }
        if self.logged_bytes + line.len() > config.log_step_bytes_max
            || *minute_bytes + line.len() > config.log_minute_bytes_max
        {
            self.log_lines_dropped += 1;
            return;
        }
        // An empty line is not free either.
        self.logged_bytes += line.len().max(16);
        *minute_bytes += line.len().max(16);
        let ident = self.ident.0;
        match level {
            host::Level::Error => tracing::error!(plugin, typeid, ident, "{line}"),
            host::Level::Warn => tracing::warn!(plugin, typeid, ident, "{line}"),
            host::Level::Info => tracing::info!(plugin, typeid, ident, "{line}"),
            host::Level::Debug => tracing::debug!(plugin, typeid, ident, "{line}"),
        }
    }
}

/// Enters a guest: under its deadline, with its counters at zero. Every call into a Store goes through here, or a guest
/// could run for ever.
fn enter<R>(
    runtime: &Runtime,
    store: &mut Store<Inside>,
    now_ms: u64,
    run: impl FnOnce(&mut Store<Inside>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    let inside = store.data_mut();
    inside.cpu_at_first_tick = None;
    inside.ticks = 0;
    inside.starved = false;
    inside.now_ms = now_ms;
    inside.logged_bytes = 0;
    store.set_epoch_deadline(1);
    let turn = runtime.clock.turn();
    let result = run(store);
    drop(turn);
    let inside = store.data_mut();
    if inside.log_lines_dropped > 0 {
        let lines = std::mem::take(&mut inside.log_lines_dropped);
        let Who { plugin, typeid, .. } = &*inside.who;
        tracing::warn!(plugin, typeid, ident = inside.ident.0, lines, "guest logs too much, lines were dropped");
    }
    result
}

/// Whether a guest was not made for want of room.
fn is_full(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>() || error.root_cause().to_string() == slab::NO_ROOM
}

/// Asks a plugin what it offers, in a sandbox of its own. The error says what ended it.
pub(super) fn describe(pre: &PluginPre<Inside>, who: Who) -> Result<Vec<wit::TypeInfo>, String> {
    let who = Arc::new(who);
    let mut store = Inside::store(pre.engine(), Arc::clone(&who), Ident::HOST);
    enter(&who.runtime, &mut store, 0, |store| {
        let plugin = pre.instantiate(&mut *store)?;
        plugin.steward_plugin_referent().call_describe(store)
    })
    .map_err(|error| store.data().explain(&error))
}

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

/// A guest that can be entered. Dropped as soon as it has trapped: its Store lets nobody in again.
struct Guest {
    store: Store<Inside>,
    plugin: bindings::Plugin,
    object: ResourceAny,
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
        let mut store = Inside::store(pre.engine(), Arc::clone(&kind.who), birth.ident);
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
            Err(error) if is_full(&error) => {
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

/// The item that came with a step, whose tokens the guest may store and pass on.
#[derive(Default)]
struct Arrived<'a> {
    /// Empty if there is none, or none with tokens.
    item: &'a [u8],
    tokens: OnceCell<HashSet<Ident>>,
}

impl Arrived<'_> {
    fn brought(&self, ident: Ident) -> bool {
        self.tokens
            .get_or_init(|| {
                let mut tokens = HashSet::new();
                if !self.item.is_empty() {
                    value::tokens(self.item, &mut |ident| {
                        tokens.insert(ident);
                    });
                }
                tokens
            })
            .contains(&ident)
    }
}

/// How a guest broke the rules of the world.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it answered call {0}, which does not wait for an answer")]
    UnknownCall(CallId),
    #[error("it granted call {0} and failed it")]
    GrantedFault(CallId),
    #[error("its payload is {bytes} bytes, limit is {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("its payload is not an item: {0}")]
    Malformed(#[from] Malformed),
    #[error("it used a token of {0}, which it was not given")]
    ForeignToken(Ident),
    #[error("it holds {held} tokens, limit is {limit}")]
    TooManyHeld { held: usize, limit: usize },
    #[error("it asked for {invokes} calls in one step, limit is {limit}")]
    TooManyInvokes { invokes: usize, limit: usize },
    #[error("the kind of its fault is {bytes} bytes, limit is 1 to {FAULT_KIND_BYTES_MAX}")]
    FaultKind { bytes: usize },
}

/// Checks an item of a guest's: its length, its form, and that every token in it is `known`.
fn check_item(item: &[u8], config: &GuestConfig, known: impl Fn(Ident) -> bool) -> Result<(), Broken> {
    if item.len() > config.reply_bytes_max {
        return Err(Broken::TooLong { bytes: item.len(), limit: config.reply_bytes_max });
    }
    let mut foreign = None;
    if check(item, &config.item_limits)?.tokens {
        value::tokens(item, &mut |ident| {
            if !known(ident) {
                foreign = Some(ident);
            }
        });
    }
    foreign.map_or(Ok(()), |ident| Err(Broken::ForeignToken(ident)))
}

fn check_fault(fault: &wit::Fault, config: &GuestConfig, known: impl Fn(Ident) -> bool) -> Result<(), Broken> {
    if fault.kind.is_empty() || fault.kind.len() > FAULT_KIND_BYTES_MAX {
        return Err(Broken::FaultKind { bytes: fault.kind.len() });
    }
    fault.data.as_deref().map_or(Ok(()), |data| check_item(data, config, known))
}

/// What a guest raises is never more than that: whether a call happened is not for it to say.
fn raised(fault: wit::Fault) -> Fault {
    Fault { data: fault.data, ..Fault::raised(fault.kind, fault.message) }
}
