//! wasmtime's settings: which wasm is accepted, how it is compiled, where its memory lies.

use std::fs;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use super::GuestConfig;

/// Address space of one linear memory. All that a 32-bit guest can address: so its accesses need no bounds checks, the
/// guard pages catch them.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Unreadable bytes behind each linear memory, for the constant offsets of accesses.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Maps that one object takes: the image of its module, the memory it added, what separates it from its neighbour, with
/// one to spare for large allocations of the host on its behalf.
const MAPS_PER_OBJECT: u64 = 4;

/// Maps that are left to the rest of the process.
const MAPS_SPARED: u64 = 8_192;

/// How the memories of guests are laid out, and for how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryProfile {
    /// Objects that fit at the same time.
    pub objects_max: u32,
    /// The machine's `vm.max_map_count`, which may have lowered `objects_max`.
    pub max_map_count: u64,
}

impl std::fmt::Display for MemoryProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "fast: pooled memories of 4 GiB address space with copy-on-write images, up to {} objects (vm.max_map_count is {})",
            self.objects_max, self.max_map_count
        )
    }
}

impl MemoryProfile {
    /// What this machine allows of the `objects_max` that are wanted.
    pub(super) fn choose(objects_max: u32) -> Self {
        // The kernel's default, where it does not tell.
        let max_map_count: u64 = fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(65_530);
        let fitting = max_map_count.saturating_sub(MAPS_SPARED).max(MAPS_PER_OBJECT) / MAPS_PER_OBJECT;
        Self { objects_max: objects_max.min(u32::try_from(fitting).unwrap_or(u32::MAX)), max_map_count }
    }
}

/// An engine that runs guests.
pub(super) fn running(config: &GuestConfig, profile: &MemoryProfile) -> wasmtime::Result<Engine> {
    let objects = profile.objects_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(objects)
        .total_core_instances(objects.saturating_mul(config.instances_max))
        .total_memories(objects)
        .total_tables(objects.saturating_mul(config.tables_max))
        .max_core_instances_per_component(config.instances_max)
        .max_memories_per_component(1)
        .max_tables_per_component(config.tables_max)
        .max_memories_per_module(1)
        .max_tables_per_module(config.tables_max)
        .max_memory_size(config.memory_bytes_max)
        .table_elements(config.table_elements_max)
        .max_component_instance_size(256 << 10)
        .max_core_instance_size(256 << 10)
        // What an object leaves behind goes back to the system at once: memory comes back after an attack.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .decommit_batch_size(1)
        .max_unused_warm_slots(64);
    let mut engine = common();
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).max_wasm_stack(config.wasm_stack_bytes);
    Engine::new(&engine)
}

/// An engine that only compiles. It makes what [`running`] accepts: the pool has no part in it.
pub(super) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&common())
}

/// What decides about compiled code, and what a guest may use. The same for all configurations of a build, so that a
/// compiling child needs none.
fn common() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Steps are deterministic: the same input, the same bits.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Threads, exceptions, function references and GC are not even compiled in.
        .wasm_shared_everything_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_gc(false)
        .gc_support(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_tail_call(false)
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        .table_lazy_init(true)
        // Nobody reads them, and they cost address space and time.
        .native_unwind_info(false)
        .generate_address_map(false);
    config
}
