//! A Store with running guests: what they may use, and how they are entered.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steward_objects::{Fault, Ident};
use wasmtime::{Engine, PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::bindings::exports::steward::plugin::referent::Made;
use super::bindings::steward::plugin::{host, types as wit};
use super::bindings::{self, PluginPre};
use super::{PluginType, Runtime, slab};
use crate::budget::Charge;

/// Bytes that a guest may hand over in one go besides a reply of the greatest length.
const HANDOVER_SPARE_BYTES: usize = 1 << 20;

/// A Store in which objects live, and the plugin's instance in it once there is one. Dropped as soon as a guest in it has trapped:
/// nobody is let in again.
pub(super) struct Instance {
    store: Store<Inside>,
    plugin: Option<bindings::Plugin>,
    /// Bytes of memory that it started with.
    start_bytes: usize,
}

/// When the running minute of logging began, and how many bytes were logged since.
pub(super) type LogMinute = (u64, usize);

/// On whose behalf a Store is entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) ident: Ident,
    pub(super) now_ms: u64,
    /// What the guest logs is dropped: it is stepped with what another one was stepped with, which has said it.
    pub(super) muted: bool,
    /// It gets no more memory than its tenant may keep. What has happened anyway is not limited by that, nor what an object that
    /// is made again has had before.
    pub(super) limited: bool,
}

impl Instance {
    /// A Store that nobody has entered, in which this many objects may be. `grown` is charged for memory beyond the start.
    pub(super) fn new(kind: &PluginType, objects_max: usize, log_minute: LogMinute, grown: Charge) -> Self {
        let store = Inside::store(kind.pre.engine(), Arc::clone(&kind.who), objects_max, log_minute, grown);
        Self { store, plugin: None, start_bytes: 0 }
    }

    /// Makes an object, and before the first one the instance that all of them live in.
    pub(super) fn make(
        &mut self,
        kind: &PluginType,
        entry: Entry,
        make: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<Result<Made, wit::Fault>>,
    ) -> wasmtime::Result<Result<Made, wit::Fault>> {
        let Self { store, plugin, start_bytes } = self;
        enter(&kind.who.runtime, store, entry, |store| {
            let plugin = match plugin {
                Some(plugin) => plugin,
                None => {
                    let made = kind.pre.instantiate(&mut *store)?;
                    *start_bytes = store.data().memory_bytes;
                    plugin.insert(made)
                }
            };
            make(store, plugin)
        })
    }

    /// Enters an object that was made here.
    pub(super) fn enter<R>(
        &mut self,
        runtime: &Runtime,
        entry: Entry,
        run: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let Self { store, plugin, .. } = self;
        let plugin = plugin.as_ref().expect("an object was made here");
        enter(runtime, store, entry, |store| run(store, plugin))
    }

    /// Whole ticks of CPU time that the latest entry took.
    pub(super) fn ticks(&self) -> u32 {
        self.store.data().ticks
    }

    /// What was logged lately.
    pub(super) fn log_minute(&self) -> LogMinute {
        self.store.data().log_minute
    }

    /// Whether the latest entry was refused memory.
    pub(super) fn is_starved(&self) -> bool {
        self.store.data().starved
    }

    /// Why the latest entry got no memory, if its tenant keeps too much.
    pub(super) fn over_quota(&self) -> Option<&Fault> {
        self.store.data().over_quota.as_ref()
    }

    /// Bytes of memory that it has.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// Whether three quarters of the memory that it may add are taken.
    pub(super) fn is_nearly_full(&self) -> bool {
        let more = self.store.data().who.memory_bytes_max.saturating_sub(self.start_bytes);
        self.memory_bytes() > self.start_bytes + more / 4 * 3
    }

    /// Says what ended the guest.
    pub(super) fn explain(&self, error: &wasmtime::Error) -> String {
        self.store.data().explain(error)
    }
}

/// Whose guest runs: for its limits and for the log.
pub(super) struct Who {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugin: String,
    pub(super) typeid: String,
    /// Digest of the component, in hex.
    pub(super) sha256: String,
    /// Bytes that the memory of a Store may have.
    pub(super) memory_bytes_max: usize,
}

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.plugin, self.typeid)
    }
}

/// What a Store carries besides the guests. What does not outlive the entry that runs is set anew by the next one.
pub(super) struct Inside {
    who: Arc<Who>,
    /// The object that is entered.
    ident: Ident,
    /// CPU time of the thread at the first tick of this entry.
    cpu_at_first_tick: Option<Duration>,
    /// Whole ticks of CPU time that were seen to pass.
    ticks: u32,
    /// The guest was refused memory.
    starved: bool,
    /// The tenant keeps too much for the guest to have more memory.
    over_quota: Option<Fault>,
    /// The guest may be refused memory by that.
    limited: bool,
    /// Bytes of memory that there are, or would be had it grown the last time. Outlives the entry.
    memory_bytes: usize,
    /// Those of them that were asked for after the start, given back with the Store.
    grown: Charge,
    now_ms: u64,
    logged_bytes: usize,
    log_lines_dropped: u32,
    /// Outlives the entry.
    log_minute: LogMinute,
    /// Nothing of what it logs is written.
    muted: bool,
}

/// The guest used up its CPU time.
#[derive(Debug, thiserror::Error)]
#[error("cut after {cpu_ms} ms of CPU time")]
struct Cut {
    cpu_ms: u64,
}

impl Inside {
    fn store(engine: &Engine, who: Arc<Who>, objects_max: usize, log_minute: LogMinute, grown: Charge) -> Store<Self> {
        let runtime = Arc::clone(&who.runtime);
        let inside = Self {
            who,
            ident: Ident::HOST,
            cpu_at_first_tick: None,
            ticks: 0,
            starved: false,
            over_quota: None,
            limited: false,
            memory_bytes: 0,
            grown,
            now_ms: 0,
            logged_bytes: 0,
            log_lines_dropped: 0,
            log_minute,
            muted: false,
        };
        let mut store = Store::new(engine, inside);
        store.limiter(|inside| inside);
        store.set_hostcall_fuel(runtime.config.reply_bytes_max + HANDOVER_SPARE_BYTES);
        // The objects, those of them that are yet to be dropped, and what the guest's own component hands around inside.
        store.set_max_component_handles(1_000 + objects_max);
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

    #[cold]
    fn tell_of_dropped_lines(&mut self) {
        let lines = std::mem::take(&mut self.log_lines_dropped);
        let Who { plugin, typeid, .. } = &*self.who;
        tracing::warn!(plugin, typeid, ident = self.ident.0, lines, "guest logs too much, lines were dropped");
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
        if let Some(fault) = &self.over_quota {
            format!("{}: {trap}", fault.message)
        } else if self.starved {
            let limit = self.who.memory_bytes_max;
            format!("out of memory, limit is {limit} bytes: {trap}")
        } else {
            trap
        }
    }
}

impl ResourceLimiter for Inside {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Larger, if it could not grow the last time. `memory_grow_failed` does not say for which growth it is called, and is called
        // for those, too, that were never asked for here.
        let failed_bytes = self.memory_bytes.saturating_sub(current) as u64;
        self.grown.sub(failed_bytes.min(self.grown.bytes()));
        self.memory_bytes = current;
        if desired > self.who.memory_bytes_max {
            self.starved = true;
            return Ok(false);
        }
        // From nothing, it is the memory that it starts with: its type's, which somebody with a key for that has registered.
        let more = if current == 0 { 0 } else { desired - current };
        if self.limited
            && let Err(fault) = self.grown.allows(more)
        {
            self.over_quota = Some(fault);
            return Ok(false);
        }
        self.grown.add(more as u64);
        self.memory_bytes = desired;
        Ok(true)
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
    Entry { ident, now_ms, muted, limited }: Entry,
    run: impl FnOnce(&mut Store<Inside>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    let inside = store.data_mut();
    inside.ident = ident;
    inside.muted = muted;
    inside.limited = limited;
    inside.cpu_at_first_tick = None;
    inside.ticks = 0;
    inside.starved = false;
    inside.over_quota = None;
    inside.now_ms = now_ms;
    inside.logged_bytes = 0;
    store.set_epoch_deadline(1);
    let turn = runtime.clock.turn();
    let result = run(store);
    drop(turn);
    let inside = store.data_mut();
    if inside.log_lines_dropped > 0 {
        inside.tell_of_dropped_lines();
    }
    result
}

/// Whether an instance was not made for want of room.
pub(super) fn is_full(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>() || error.root_cause().to_string() == slab::NO_ROOM
}

/// Asks a plugin what it offers, in a sandbox of its own. The error says what ended it.
pub(super) fn describe(pre: &PluginPre<Inside>, who: Who) -> Result<Vec<wit::TypeInfo>, String> {
    let who = Arc::new(who);
    let mut store = Inside::store(pre.engine(), Arc::clone(&who), 0, LogMinute::default(), Charge::default());
    let entry = Entry { ident: Ident::HOST, now_ms: 0, muted: false, limited: false };
    enter(&who.runtime, &mut store, entry, |store| {
        let plugin = pre.instantiate(&mut *store)?;
        plugin.steward_plugin_referent().call_describe(store)
    })
    .map_err(|error| store.data().explain(&error))
}
