//! A running guest: its Store, what it may use, and how it is entered.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steward_objects::Ident;
use wasmtime::component::ResourceAny;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

use super::Runtime;
use super::bindings::steward::plugin::{host, types as wit};
use super::bindings::{self, PluginPre};

/// Bytes that a guest may hand over in one go besides a reply of the greatest length.
const HANDOVER_SPARE_BYTES: usize = 1 << 20;

/// A guest that can be entered. Dropped as soon as it has trapped: its Store lets nobody in again.
pub(super) struct Guest {
    pub(super) store: Store<Inside>,
    pub(super) plugin: bindings::Plugin,
    pub(super) object: ResourceAny,
}

/// Whose guest runs: for its limits and for the log.
pub(super) struct Who {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugin: String,
    pub(super) typeid: String,
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
    pub(super) ticks: u32,
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
    pub(super) fn store(who: Arc<Who>, ident: Ident) -> Store<Self> {
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
        let mut store = Store::new(&runtime.engine, inside);
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
    pub(super) fn explain(&self, error: &wasmtime::Error) -> String {
        let trap = match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => "unreachable executed".to_owned(),
            Some(trap) => {
                let text = trap.to_string();
                text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
            }
            None => error.root_cause().to_string(),
        };
        if self.starved {
            let limit = self.who.runtime.config.memory_bytes_max;
            format!("out of memory, limit is {limit} bytes: {trap}")
        } else {
            trap
        }
    }
}

impl ResourceLimiter for Inside {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.who.runtime.config.memory_bytes_max;
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
        let Who { runtime, plugin, typeid } = &*self.who;
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
pub(super) fn enter<R>(
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

/// Asks a plugin what it offers, in a sandbox of its own. The error says what ended it.
pub(super) fn describe(pre: &PluginPre<Inside>, who: Who) -> Result<Vec<wit::TypeInfo>, String> {
    let who = Arc::new(who);
    let mut store = Inside::store(Arc::clone(&who), Ident::HOST);
    enter(&who.runtime, &mut store, 0, |store| {
        let plugin = pre.instantiate(&mut *store)?;
        plugin.steward_plugin_referent().call_describe(store)
    })
    .map_err(|error| store.data().explain(&error))
}
