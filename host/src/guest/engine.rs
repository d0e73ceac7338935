//! wasmtime's settings: which wasm is accepted, how it is compiled, where its memory lies.

use std::fs;
use std::sync::Arc;

use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use super::GuestConfig;
use super::slab::{Room, Slab};

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Address space of one linear memory in the fast profile. All that a 32-bit guest can address: so its accesses need no
/// bounds checks, the guard pages catch them.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Unreadable bytes behind each such memory, for the constant offsets of accesses.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Maps that one object takes in the fast profile: the image of its module, the memory it added, what separates it from
/// its neighbour, with one to spare for large allocations of the host on its behalf.
const MAPS_PER_OBJECT: u64 = 4;

/// Maps that are left to the rest of the process.
const MAPS_SPARED: u64 = 8_192;

/// Memories of the fast layout that address space is left for: 97 of the 128 TiB that a process has.
const FAST_MAX: u32 = 24_000;

/// Greatest memories of objects in the dense profile. A plugin belongs to the smallest that leaves it room.
const CLASSES_BYTES: [usize; 4] = [1 << 20, 2 << 20, 4 << 20, 16 << 20];

/// A plugin that starts with more memory is laid out fast in the dense profile, too. There, what its objects have in common is
/// mapped and not copied, and the large modules behind them (Go's) take four times longer to compile with checks of each
/// address.
pub(super) const DENSE_START_BYTES_MAX: usize = 1 << 20;

/// Which [`Layout`] is wanted. Plugins whose objects start with more than 1 MiB of memory are laid out fast in any
/// case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// [`Layout::Fast`] where the system allows as many objects as are wanted, else [`Layout::Dense`].
    #[default]
    Auto,
    /// [`Layout::Fast`], for as many objects as the system allows.
    Fast,
    /// [`Layout::Dense`].
    Dense,
}

/// By the names that people give: `auto`, `fast`, `dense`.
impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "fast" => Ok(Self::Fast),
            "dense" => Ok(Self::Dense),
            _ => Err(format!("`{name}` is none of auto, fast, dense")),
        }
    }
}

/// Where the memories of guests lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each in 4 GiB of address space, with maps of its own. The system's `vm.max_map_count` bounds the objects.
    Fast,
    /// One beside the other, at most 16 MiB each, addresses checked by the guest's code.
    Dense,
}

/// How the memories of guests are laid out, and for how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryProfile {
    /// Where they lie.
    pub layout: Layout,
    /// Objects that fit at the same time.
    pub objects_max: u32,
    /// The machine's `vm.max_map_count`, which may have lowered `objects_max` of the fast layout.
    pub max_map_count: u64,
}

impl std::fmt::Display for MemoryProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layout = match self.layout {
            Layout::Fast => "fast: pooled memories of 4 GiB address space with copy-on-write images",
            Layout::Dense => "dense: memories side by side",
        };
        write!(f, "{layout}, up to {} objects (vm.max_map_count is {})", self.objects_max, self.max_map_count)
    }
}

impl MemoryProfile {
    /// What this machine allows of the `objects_max` that are wanted.
    pub fn here(wanted: Profile, objects_max: u32) -> Self {
        Self::choose(wanted, objects_max, max_map_count())
    }

    /// What a system with this `vm.max_map_count` allows of the `objects_max` that are wanted.
    pub(super) fn choose(wanted: Profile, objects_max: u32, max_map_count: u64) -> Self {
        let fitting = fast_fitting(max_map_count);
        let layout = match wanted {
            Profile::Fast => Layout::Fast,
            Profile::Dense => Layout::Dense,
            Profile::Auto if objects_max <= fitting => Layout::Fast,
            Profile::Auto => Layout::Dense,
        };
        let objects_max = match layout {
            Layout::Fast => objects_max.min(fitting),
            // A map for every 64 objects, which no system fails to have.
            Layout::Dense => objects_max,
        };
        Self { layout, objects_max, max_map_count }
    }
}

/// Objects that the fast layout has maps and address space for.
fn fast_fitting(max_map_count: u64) -> u32 {
    let fitting = max_map_count.saturating_sub(MAPS_SPARED).max(MAPS_PER_OBJECT) / MAPS_PER_OBJECT;
    u32::try_from(fitting).unwrap_or(u32::MAX).min(FAST_MAX)
}

/// Memory in bytes that a component declares for its start; 0 if it is malformed, which compiling will find.
pub(super) fn declared_memory_bytes(component: &[u8]) -> usize {
    let memories = Parser::new(0).parse_all(component).map_while(Result::ok).filter_map(|payload| match payload {
        Payload::MemorySection(section) => section.into_iter().map_while(Result::ok).map(|memory| memory.initial).max(),
        _ => None,
    });
    usize::try_from(memories.max().unwrap_or(0).saturating_mul(WASM_PAGE_BYTES)).unwrap_or(usize::MAX)
}

/// This machine's `vm.max_map_count`; the kernel's default, where it does not tell.
pub(super) fn max_map_count() -> u64 {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_530)
}

/// An engine, and what its guests' memories may grow to.
pub(super) struct SizedEngine {
    pub(super) engine: Engine,
    pub(super) layout: Layout,
    pub(super) memory_bytes_max: usize,
}

/// The engines that run guests, by size of memory, the smallest first: one for each class of the dense layout, if that is
/// the profile's, and last a fast one. Code compiled for one class runs in all of them.
pub(super) fn running(config: &GuestConfig, profile: &MemoryProfile) -> wasmtime::Result<Vec<SizedEngine>> {
    let mut engines = Vec::new();
    if profile.layout == Layout::Dense {
        let room = Room::new(profile.objects_max as usize);
        for class_bytes in CLASSES_BYTES {
            engines.push(dense(config, class_bytes, &room)?);
            // A limit between two classes lowers the larger one.
            if class_bytes >= config.memory_bytes_max {
                break;
            }
        }
    }
    let engine = fast(config, profile.objects_max.min(fast_fitting(profile.max_map_count)))?;
    engines.push(SizedEngine { engine, layout: Layout::Fast, memory_bytes_max: config.memory_bytes_max });
    Ok(engines)
}

fn fast(config: &GuestConfig, objects: u32) -> wasmtime::Result<Engine> {
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
    let mut engine = common(Layout::Fast);
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).max_wasm_stack(config.wasm_stack_bytes);
    Engine::new(&engine)
}

/// Tables come from the heap here: the pool would give each at least a page.
fn dense(config: &GuestConfig, class_bytes: usize, room: &Arc<Room>) -> wasmtime::Result<SizedEngine> {
    let mut engine = common(Layout::Dense);
    engine
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .with_host_memory(Arc::new(Slab::new(class_bytes, Arc::clone(room))))
        .max_wasm_stack(config.wasm_stack_bytes);
    let memory_bytes_max = class_bytes.min(config.memory_bytes_max);
    Ok(SizedEngine { engine: Engine::new(&engine)?, layout: Layout::Dense, memory_bytes_max })
}

/// An engine that only compiles. It makes what [`running`] accepts: where memories come from has no part in it.
pub(super) fn compiling(layout: Layout) -> wasmtime::Result<Engine> {
    Engine::new(&common(layout))
}

/// What decides about compiled code, and what a guest may use. The same for all configurations of a build and layout, so
/// that a compiling child needs no other.
fn common(layout: Layout) -> Config {
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
        .memory_may_move(false)
        .table_lazy_init(true)
        // Nobody reads them, and they cost address space and time.
        .native_unwind_info(false)
        .generate_address_map(false);
    match layout {
        Layout::Fast => config
            .memory_reservation(MEMORY_RESERVATION_BYTES)
            .memory_guard_size(MEMORY_GUARD_BYTES)
            .memory_init_cow(true),
        // With a reservation, code would check against that and not against the memory's length, and rely on what lies
        // between being unreadable.
        Layout::Dense => config.memory_reservation(0).memory_guard_size(0).memory_init_cow(false),
    };
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: Profile, objects_max: u32, max_map_count: u64, layout: Layout, fitting: u32) {
        let chosen = MemoryProfile::choose(wanted, objects_max, max_map_count);
        assert_eq!(chosen, MemoryProfile { layout, objects_max: fitting, max_map_count });
    }

    #[test]
    fn fast_is_chosen_while_all_objects_fit() {
        use Profile::{Auto, Dense, Fast};
        check(Auto, 12_000, 65_530, Layout::Fast, 12_000);
        check(Auto, 14_334, 65_530, Layout::Fast, 14_334);
        check(Auto, 14_335, 65_530, Layout::Dense, 14_335);
        check(Auto, 20_000, 1_048_576, Layout::Fast, 20_000);
        // More maps are of no use where address space ends.
        check(Auto, 100_000, 1_048_576, Layout::Dense, 100_000);
        check(Fast, 100_000, 1_048_576, Layout::Fast, 24_000);
        check(Fast, 100_000, 65_530, Layout::Fast, 14_334);
        check(Dense, 64, 65_530, Layout::Dense, 64);
        // Even where maps are nearly gone, one object is.
        check(Fast, 100, 0, Layout::Fast, 1);
    }

    fn sizes(layout: Layout, memory_bytes_max: usize) -> Vec<usize> {
        let config = GuestConfig { memory_bytes_max, ..GuestConfig::new(crate::guest::Compiler::InProcess) };
        let profile = MemoryProfile { layout, objects_max: 4, max_map_count: 65_530 };
        running(&config, &profile).unwrap().iter().map(|sized| sized.memory_bytes_max).collect()
    }

    #[test]
    fn dense_has_classes_up_to_the_limit() {
        assert_eq!(sizes(Layout::Fast, 64 << 20), [64 << 20]);
        assert_eq!(sizes(Layout::Dense, 64 << 20), [1 << 20, 2 << 20, 4 << 20, 16 << 20, 64 << 20]);
        assert_eq!(sizes(Layout::Dense, 4 << 20), [1 << 20, 2 << 20, 4 << 20, 4 << 20]);
        assert_eq!(sizes(Layout::Dense, 5 << 20), [1 << 20, 2 << 20, 4 << 20, 5 << 20, 5 << 20]);
        assert_eq!(sizes(Layout::Dense, 1 << 16), [1 << 16, 1 << 16]);
    }

    #[test]
    fn what_a_component_declares_is_found_in_its_modules() {
        use wasm_encoder::{Component, MemorySection, MemoryType, Module, ModuleSection};
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 17,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut module = Module::new();
        module.section(&memories);
        let mut component = Component::new();
        component.section(&ModuleSection(&Module::new())).section(&ModuleSection(&module));
        let bytes = component.finish();
        assert_eq!(declared_memory_bytes(&bytes), 17 << 16);
        assert_eq!(declared_memory_bytes(&bytes[..bytes.len() - 1]), 0);
        assert_eq!(declared_memory_bytes(b"not wasm at all"), 0);
    }
}
