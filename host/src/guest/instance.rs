//! A running guest: its Store, what it may use, and how it is entered.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steward_objects::{Fault, Ident};
use wasmtime::component::ResourceAny;
use wasmtime::{Engine, PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::bindings::exports::steward::plugin::referent::Made;
use super::bindings::steward::plugin::{host, types as wit};
use super::bindings::{self, PluginPre};
use super::{PluginType, Runtime, slab};
use crate::budget::Budget;

/// Bytes that a guest may hand over in one go besides a reply of the greatest length.
const HANDOVER_SPARE_BYTES: usize = 1 << 20;

/// A guest that can be entered. Dropped as soon as it has trapped: its Store lets nobody in again.
pub(super) struct Guest {
    store: Store<Inside>,
    plugin: bindings::Plugin,
    object: ResourceAny,
}

/// When the running minute of logging began, and how many bytes were logged since.
pub(super) type LogMinute = (u64, usize);

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// Its constructor, or `load`, raised.
    #[error("{}: {}", .0.kind, .0.message)]
    Raised(wit::Fault),
    /// The pool has no room for another guest.
    #[error("there is no room for another guest")]
    NoRoom,
    /// Its tenant may not keep the memory that it asked for.
    #[error("{}", .0.message)]
    OverQuota(Fault),
    /// It trapped or was cut.
    #[error("{0}")]
    Trapped(String),
}

impl Guest {
    /// Makes an object from a constructor's arguments. Beside it, the idents that it stores. `budget`: as
    /// [`Guest::limit_to`].
    pub(super) fn create(
        kind: &PluginType,
        ident: Ident,
        args: &[u8],
        context: &wit::Context,
        budget: Option<Arc<Budget>>,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        Self::make(kind, ident, context, budget, |store, plugin| {
            let referent = plugin.steward_plugin_referent();
            referent.object().call_create(store, &kind.info.typeid, &args.to_vec(), context)
        })
    }

    /// Makes an object from what version `from` of its type has saved. Beside it, the idents that it stores.
    pub(super) fn load(
        kind: &PluginType,
        ident: Ident,
        state: &[u8],
        from: &str,
        context: &wit::Context,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        Self::make(kind, ident, context, None, |store, plugin| {
            let referent = plugin.steward_plugin_referent();
            referent.object().call_load(store, &kind.info.typeid, state, from, context)
        })
    }

    fn make(
        kind: &PluginType,
        ident: Ident,
        context: &wit::Context,
        budget: Option<Arc<Budget>>,
        make: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<Result<Made, wit::Fault>>,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        let mut store = Inside::store(kind.pre.engine(), Arc::clone(&kind.who), ident);
        store.data_mut().is_limited = budget.is_some();
        store.data_mut().budget = budget;
        let made = enter(&kind.who.runtime, &mut store, context.now_ms, |store| {
            let plugin = kind.pre.instantiate(&mut *store)?;
            let made = make(store, &plugin)?;
            Ok((plugin, made))
        });
        match made {
            Ok((plugin, Ok(Made { object, held }))) => Ok((Self { store, plugin, object }, held)),
            Ok((_, Err(fault))) => Err(NotMade::Raised(fault)),
            Err(error) if is_full(&error) => Err(NotMade::NoRoom),
            Err(_) if store.data().over_quota.is_some() => {
                Err(NotMade::OverQuota(store.data_mut().over_quota.take().expect("just seen")))
            }
            Err(error) => Err(NotMade::Trapped(store.data().explain(&error))),
        }
    }

    /// Takes one turn. The error says what ended the guest.
    pub(super) fn step(
        &mut self,
        runtime: &Runtime,
        now_ms: u64,
        seed: u64,
        input: &wit::Input,
    ) -> Result<wit::Outcome, String> {
        let Self { store, plugin, object } = self;
        store.data_mut().is_limited = matches!(input, wit::Input::Call(_));
        let stepped = enter(runtime, store, now_ms, |store| {
            plugin.steward_plugin_referent().object().call_step(store, *object, now_ms, seed, input)
        });
        stepped.map_err(|error| store.data().explain(&error))
    }

    /// The object's state, or what it raised instead. The error says what ended the guest.
    pub(super) fn save(&mut self, runtime: &Runtime, now_ms: u64) -> Result<Result<Vec<u8>, wit::Fault>, String> {
        let Self { store, plugin, object } = self;
        store.data_mut().is_limited = false;
        let saved =
            enter(runtime, store, now_ms, |store| plugin.steward_plugin_referent().object().call_save(store, *object));
        saved.map_err(|error| store.data().explain(&error))
    }

    /// Whole ticks of CPU time that the latest entry took.
    pub(super) fn ticks(&self) -> u32 {
        self.store.data().ticks
    }

    /// From now on it gets no more memory than its tenant may keep. One that is made as its predecessor was may have what that
    /// had, whatever the tenant keeps by now.
    pub(super) fn limit_to(&mut self, budget: Option<Arc<Budget>>) {
        self.store.data_mut().budget = budget;
    }

    /// Why it got no memory in its latest entry, if its tenant keeps too much.
    pub(super) fn over_quota(&self) -> Option<&Fault> {
        self.store.data().over_quota.as_ref()
    }

    /// Bytes of memory that it has asked for since its start.
    pub(super) fn grown_bytes(&self) -> usize {
        self.store.data().grown_bytes
    }

    /// Drops what it logs from now on: it is stepped with what another one was stepped with, which has said it.
    pub(super) fn mute(&mut self) {
        self.store.data_mut().muted = true;
    }

    /// Writes what it logs again, on the account of its predecessor.
    pub(super) fn unmute(&mut self, log_minute: LogMinute) {
        let inside = self.store.data_mut();
        inside.muted = false;
        inside.log_minute = log_minute;
    }

    /// What it has logged lately.
    pub(super) fn log_minute(&self) -> LogMinute {
        self.store.data().log_minute
    }
}

/// Whose guest runs: for its limits and for the log.
pub(super) struct Who {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugin: String,
    pub(super) typeid: String,
    /// Digest of the component, in hex.
    pub(super) sha256: String,
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
    /// The tenant keeps too much for it to have more memory.
    over_quota: Option<Fault>,
    /// Bytes of memory that it has beyond what it started with. Outlive the entry.
    grown_bytes: usize,
    /// How many these were when it was entered, for which the tenant is charged; and before it last grew.
    grown_bytes_charged: usize,
    grown_bytes_before: usize,
    /// What its memory may not go beyond. Outlives the entry.
    budget: Option<Arc<Budget>>,
    /// It may be refused memory by that: calls may be, and what has happened anyway may not.
    is_limited: bool,
    now_ms: u64,
    logged_bytes: usize,
    log_lines_dropped: u32,
    /// Outlives the entry.
    log_minute: LogMinute,
    /// Nothing of what it logs is written. Outlives the entry.
    muted: bool,
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
            over_quota: None,
            grown_bytes: 0,
            grown_bytes_charged: 0,
            grown_bytes_before: 0,
            budget: None,
            is_limited: false,
            now_ms: 0,
            logged_bytes: 0,
            log_lines_dropped: 0,
            log_minute: (0, 0),
            muted: false,
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
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.who.memory_bytes_max;
        self.starved |= !fits;
        self.grown_bytes_before = self.grown_bytes;
        // From nothing, it is the memory that it starts with.
        if !fits || current == 0 {
            return Ok(fits);
        }
        let grown_bytes = self.grown_bytes + (desired - current);
        if let Some(budget) = self.budget.as_ref().filter(|_| self.is_limited)
            && let Err(fault) = budget.allows(grown_bytes.saturating_sub(self.grown_bytes_charged))
        {
            self.over_quota = Some(fault);
            return Ok(false);
        }
        self.grown_bytes = grown_bytes;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.starved = true;
        self.grown_bytes = self.grown_bytes_before;
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
        if self.muted {
            return;
        }
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
    inside.over_quota = None;
    inside.grown_bytes_charged = inside.grown_bytes;
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
