//! Plugins: types whose objects are WebAssembly components.
//!
//! The host steps a plugin's object as it steps a built-in one, through [`Referent`]. What happens inside the
//! sandbox reaches the host as replies, requests and faults, each checked before anything else sees it; a guest
//! that traps, runs past its deadline or breaks the rules loses that one call, and
//! harms nothing else: its object is made again as it was ([`Releases`] moves it to newer versions, too).
//!
//! * Every object has a Store of its own, so that a trap ends that object's guest only, its memory is counted and freed with it,
//!   and freeing it runs no guest code; or many objects of a type share one ([`Isolation`]).
//! * Guests are called synchronously and through typed bindings. Waiting is data ([`crate`]'s cells park calls),
//!   never a suspended stack.
//! * A guest sees the time and a seed that its input carries, and can write to the log. It has no clock, no randomness,
//!   no file, no socket and no environment: a component that imports anything else is refused.
//! * CPU time is what counts against the deadline of a step. A step that merely waits for a processor is never cut.
//!
//! This module and its children are the only code that knows wasmtime.

mod artefact;
mod clock;
mod compile;
mod describe;
mod engine;
mod instance;
mod journal;
mod ledger;
mod object;
mod placement;
mod releases;
mod rules;
mod shard;
mod slab;
mod traps;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use steward_objects::{Args, Fault, Ident, Outbox, Referent};
pub use steward_wire::describe::Isolation;
use steward_wire::describe::TypeInfo;
use wasmtime::component::{HasSelf, Linker};

pub use artefact::CacheConfig;
pub use compile::{CompileLimits, Compiler, compile_main};
pub use describe::{BadDescription, DescribeLimits};
pub use engine::{Layout, MemoryProfile, Profile};
pub use object::{Object, Saved};
pub use placement::Placement;
pub use releases::{Release, ReleaseError, Releases, ReleasesReport, VersionReport};

use artefact::{Artefact, Cache};
use clock::Clock;
use engine::SizedEngine;
use instance::{Inside, Who};

/// The plugin world's generated bindings.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/0.1.0",
        world: "plugin",
    });
}

/// Guests that the pool has room for beside one for each object: as many as threads may exchange at once, the 64 that
/// step guests by default and the host's others. An object that finds none stays with its version.
const GUESTS_SPARE: u32 = 80;

/// Name of the method that answers with a copy of the object's value, as CPython has it.
const GET_VALUE: &str = "#GETVALUE";

/// How guests are run, and what each of them may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// How often a running guest looks up from its work, in milliseconds.
    pub epoch_tick_ms: u64,
    /// CPU milliseconds of one step, of creating an object and of describing a plugin. Beyond them the guest is cut, which
    /// is a trap.
    pub step_cpu_ms: u64,
    /// How the memories of objects are laid out.
    pub profile: Profile,
    /// Bytes of the linear memory of one object, or of those that share a Store; [`LoadOptions`] and the dense layout's classes may
    /// allow a plugin's less. Growing beyond them fails inside the guest.
    pub memory_bytes_max: usize,
    /// Elements of one table. Growing beyond them fails inside the guest.
    pub table_elements_max: usize,
    /// Core instances that one component may be made of; a plugin with more is refused.
    pub instances_max: u32,
    /// Tables that one component may have; a plugin with more is refused.
    pub tables_max: u32,
    /// Bytes of stack that a guest's calls may use. Recursing beyond them traps.
    pub wasm_stack_bytes: usize,
    /// Objects of plugins at the same time, in the whole host; creating more is refused. Those that share a Store count as one. The
    /// machine may allow fewer: see [`Guests::memory_profile`].
    pub objects_max: u32,
    /// Objects that may share a Store, where a type's objects share. The next one gets another Store.
    pub shard_objects_max: u32,
    /// Calls that one object may leave unanswered, at least one; more are refused.
    pub parked_max: usize,
    /// Tokens that one object may hold, each as often as it is stored. Holding more is a trap.
    pub tokens_held_max: usize,
    /// Calls that one step may ask for. Asking for more is a trap.
    pub invokes_max: usize,
    /// Bytes of a reply. A longer one is a trap; what a guest hands over in one step is limited to this and 1 MiB.
    pub reply_bytes_max: usize,
    /// Bounds of an encoded item that comes from a guest.
    pub item_limits: steward_wire::Limits,
    /// Bytes of one line of log; longer ones are cut.
    pub log_line_bytes_max: usize,
    /// Bytes that one step may log; what is more is dropped and counted.
    pub log_step_bytes_max: usize,
    /// Bytes that one object, or those that share a Store, may log within a minute; what is more is dropped and counted.
    pub log_minute_bytes_max: usize,
    /// Bounds of what a plugin says of itself.
    pub describe_limits: DescribeLimits,
    /// How plugins are compiled.
    pub compiler: Compiler,
    /// What compiling one plugin may use.
    pub compile_limits: CompileLimits,
    /// Where compiled plugins are kept; `None` compiles them at every start.
    pub cache: Option<CacheConfig>,
}

impl GuestConfig {
    /// The defaults, with this way of compiling and without a cache.
    pub fn new(compiler: Compiler) -> Self {
        Self {
            epoch_tick_ms: 1,
            step_cpu_ms: 100,
            profile: Profile::Auto,
            memory_bytes_max: 64 << 20,
            table_elements_max: 10_000,
            instances_max: 16,
            tables_max: 4,
            wasm_stack_bytes: 512 << 10,
            objects_max: 12_000,
            shard_objects_max: 1_024,
            parked_max: 10_000,
            tokens_held_max: 65_536,
            invokes_max: 1_000,
            reply_bytes_max: 4 << 20,
            item_limits: steward_wire::Limits::default(),
            log_line_bytes_max: 4 << 10,
            log_step_bytes_max: 64 << 10,
            log_minute_bytes_max: 1 << 20,
            describe_limits: DescribeLimits::default(),
            compiler,
            compile_limits: CompileLimits::default(),
            cache: None,
        }
    }
}

/// Why guests cannot be run at all, or why a plugin is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// wasmtime does not start with this configuration on this machine.
    #[error("guests cannot be run here: {0}")]
    Engine(String),
    /// The thread or the cache could not be set up.
    #[error("guests cannot be run here: {0}")]
    Io(#[from] io::Error),
    /// The component is larger than allowed.
    #[error("component is {bytes} bytes, limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not a component, uses features that are off, imports what is not lent, or lacks what the world exports.
    #[error("not a plugin: {0}")]
    Invalid(String),
    /// It was built for a version of the plugin world that this host does not serve.
    #[error("{0}")]
    OtherWorld(String),
    /// It needs more memory, or was to be given more, than an object may have.
    #[error("an object would have {bytes} bytes of memory, limit is {limit}")]
    Memory {
        /// What it declares or was to be given.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Compiling took more CPU time than allowed.
    #[error("compiling took more than {cpu_s} s of CPU time")]
    CompileCpu {
        /// The limit.
        cpu_s: u64,
    },
    /// Compiling took longer than allowed.
    #[error("compiling took longer than {wall_ms} ms")]
    CompileTime {
        /// The limit.
        wall_ms: u64,
    },
    /// Compiling took more memory than allowed.
    #[error("compiling took more than {bytes} bytes of memory")]
    CompileMemory {
        /// The limit.
        bytes: u64,
    },
    /// The compiler could not be started or talked to.
    #[error("compiler: {0}")]
    Compiler(#[source] io::Error),
    /// The compiler ended without an answer.
    #[error("compiler ended with {status}: {complaint}")]
    CompilerEnded {
        /// How it ended.
        status: String,
        /// The last it said.
        complaint: String,
    },
    /// `describe` trapped or was cut.
    #[error("plugin trapped in `describe`: {0}")]
    DescribeTrapped(String),
    /// `describe` answered something that cannot be offered.
    #[error("plugin describes itself badly: {0}")]
    Description(#[from] BadDescription),
}

impl GuestError {
    fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }

    fn invalid(error: wasmtime::Error) -> Self {
        Self::Invalid(format!("{error:#}"))
    }
}

/// All that the guests of a host share; cloning shares it.
#[derive(Clone)]
pub struct Guests {
    runtime: Arc<Runtime>,
}

struct Runtime {
    clock: Clock,
    /// By the memory of their guests, the smallest first; never none.
    sizes: Vec<(SizedEngine, Linker<Inside>)>,
    cache: Option<Cache>,
    profile: MemoryProfile,
    config: GuestConfig,
    /// Stores of objects.
    objects: AtomicU32,
}

impl Runtime {
    /// Whole ticks of CPU time that a step may take.
    fn step_ticks_max(&self) -> u32 {
        u32::try_from(self.config.step_cpu_ms / self.config.epoch_tick_ms.max(1)).unwrap_or(u32::MAX)
    }
}

/// The place of one Store among those that the machine has room for. The pool has some more, for guests that take the
/// place of another one while it is still there.
struct Slot(Arc<Runtime>);

impl Slot {
    /// `None` if all are taken.
    fn take(runtime: &Arc<Runtime>) -> Option<Self> {
        let limit = runtime.profile.objects_max;
        let one_more = |objects| (objects < limit).then_some(objects + 1);
        runtime.objects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(runtime)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.objects.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Guests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guests").field("profile", &self.runtime.profile).finish_non_exhaustive()
    }
}

impl Guests {
    /// Sets up what guests need: an engine with room for their memories, the thread that interrupts them, the cache.
    ///
    /// # Errors
    /// [`GuestError::Engine`] and [`GuestError::Io`].
    pub fn new(config: GuestConfig) -> Result<Self, GuestError> {
        let profile = MemoryProfile::here(config.profile, config.objects_max);
        let roomy = MemoryProfile { objects_max: profile.objects_max.saturating_add(GUESTS_SPARE), ..profile };
        let engines = engine::running(&config, &roomy).map_err(GuestError::engine)?;
        let ticked = engines.iter().map(|sized| sized.engine.clone()).collect();
        let clock = Clock::start(ticked, Duration::from_millis(config.epoch_tick_ms))?;
        let cache = config.cache.as_ref().map(Cache::open).transpose()?;
        let linked = engines.into_iter().map(|sized| {
            let mut linker = Linker::new(&sized.engine);
            bindings::Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |inside| inside)?;
            Ok((sized, linker))
        });
        let sizes = linked.collect::<wasmtime::Result<_>>().map_err(GuestError::engine)?;
        Ok(Self { runtime: Arc::new(Runtime { clock, sizes, cache, profile, config, objects: AtomicU32::new(0) }) })
    }

    /// How memory is laid out on this machine, to be stated when the host starts.
    pub fn memory_profile(&self) -> MemoryProfile {
        self.runtime.profile
    }

    /// Compiles a component, or takes its compiled form from the cache, and asks it what it offers. `name` stands for
    /// it in the log. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// [`GuestError`], all but `Engine` and `Io`.
    pub fn load(&self, name: &str, component: &[u8]) -> Result<Arc<Plugin>, GuestError> {
        self.load_with(name, component, LoadOptions::default())
    }

    /// As [`Guests::load`], with what whoever registers the plugin chooses.
    ///
    /// # Errors
    /// As [`Guests::load`]; [`GuestError::Memory`] too where less was asked for.
    pub fn load_with(&self, name: &str, component: &[u8], options: LoadOptions) -> Result<Arc<Plugin>, GuestError> {
        self.load_as(Some(name), component, options)
    }

    /// As [`Guests::load_with`]; the beginning of the component's digest stands for it.
    pub(crate) fn load_unnamed(&self, component: &[u8], options: LoadOptions) -> Result<Arc<Plugin>, GuestError> {
        self.load_as(None, component, options)
    }

    fn load_as(&self, name: Option<&str>, component: &[u8], options: LoadOptions) -> Result<Arc<Plugin>, GuestError> {
        let sha256: String = Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = name.unwrap_or(&sha256[..12]);
        let runtime = &self.runtime;
        let (memory_bytes_max, (sized, linker)) =
            runtime.size_for(engine::declared_memory_bytes(component), options)?;
        let cached = runtime.cache.as_ref().and_then(|cache| cache.get(&sized.engine, component));
        let artefact = match cached {
            Some(artefact) => artefact,
            None => {
                let config = &runtime.config;
                let artefact = compile::compile(component, sized.layout, &config.compiler, &config.compile_limits)?;
                if let Some(cache) = &runtime.cache {
                    cache.put(&sized.engine, component, &artefact);
                }
                artefact
            }
        };
        let compiled = artefact.load(&sized.engine).map_err(GuestError::invalid)?;
        // What the linker says of a world that is not served names its interfaces, one at a time.
        let misfit = |error| match steward_build::inspect(component).ok().and_then(|made| made.other_world()) {
            Some(other) => GuestError::OtherWorld(other),
            None => GuestError::invalid(error),
        };
        let pre = linker.instantiate_pre(&compiled).map_err(misfit)?;
        let pre = bindings::PluginPre::new(pre).map_err(misfit)?;

        let who = |typeid| Who {
            runtime: Arc::clone(runtime),
            plugin: name.into(),
            typeid,
            sha256: sha256.clone(),
            memory_bytes_max,
        };
        let described = instance::describe(&pre, who(String::new())).map_err(GuestError::DescribeTrapped)?;
        let types = describe::check(described, &runtime.config.describe_limits)?
            .into_iter()
            .map(|described| {
                let method = |name| described.info.methods.iter().position(|method| method.name == name);
                Arc::new(PluginType {
                    get_value: method(GET_VALUE),
                    str: method("__str__"),
                    repr: method("__repr__"),
                    who: Arc::new(who(described.info.typeid.clone())),
                    pre: pre.clone(),
                    placement: Placement::new(),
                    info: described.info,
                    version: described.version.into(),
                    saves: described.saves,
                })
            })
            .collect::<Vec<_>>();
        let alone = types.iter().cloned().map(Releases::new).collect();
        Ok(Arc::new(Plugin { types, alone }))
    }
}

impl Runtime {
    /// How much memory an object may have that declares so much for its start, and the engine that gives it.
    fn size_for(
        &self,
        declared: usize,
        options: LoadOptions,
    ) -> Result<(usize, &(SizedEngine, Linker<Inside>)), GuestError> {
        let limit = self.config.memory_bytes_max;
        let needed = options.memory_bytes.unwrap_or(0).max(declared);
        if needed > limit {
            return Err(GuestError::Memory { bytes: needed, limit });
        }
        // Unless somebody says what it needs, it has room for as much again as it starts with.
        let wanted = if options.memory_bytes.is_some() { needed } else { needed.saturating_mul(2).min(limit) };
        let fits = |(sized, _): &&(SizedEngine, _)| {
            let starts = sized.layout == Layout::Fast || declared <= engine::DENSE_START_BYTES_MAX;
            starts && sized.memory_bytes_max >= wanted
        };
        let sized = self.sizes.iter().find(fits).expect("the last one has room for all that is within the limit");
        let allowed = if options.memory_bytes.is_some() { needed } else { sized.0.memory_bytes_max };
        Ok((allowed, sized))
    }
}

/// What whoever registers a plugin chooses for its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Bytes of linear memory that one object, or those that share a Store, may have; what the component declares at its start, if that is more. `None`: in the
    /// fast layout [`GuestConfig::memory_bytes_max`], in the dense one what the smallest class allows that holds twice the start.
    pub memory_bytes: Option<usize>,
}

/// A loaded component.
pub struct Plugin {
    types: Vec<Arc<PluginType>>,
    /// The types, registered nowhere.
    alone: Vec<Arc<Releases>>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("types", &self.types).finish_non_exhaustive()
    }
}

/// What an object is told when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth<'a> {
    /// Its tenant, which it may know.
    pub tenant: &'a str,
    /// Its number, for the log and for `repr`.
    pub ident: Ident,
    /// The host's clock.
    pub now_ms: u64,
    /// For guests that want randomness. The seeds of steps that are not calls are derived from it.
    pub seed: u64,
}

impl Plugin {
    /// The types it offers, never none.
    pub fn types(&self) -> &[Arc<PluginType>] {
        &self.types
    }

    /// Makes an object of the type at place `index` of [`Plugin::types`], which will never have another version, and asks `out` to hold what it stores. Runs guest
    /// code, for as long as a step may.
    ///
    /// # Errors
    /// Raised: what the plugin's constructor raises. Refused: `GuestTrap` if it traps or is cut, `OverQuota`
    /// (retryable) if the host has no room for another object.
    ///
    /// # Panics
    /// If there is no type at `index`.
    pub fn create(
        &self,
        index: usize,
        args: Args<'_>,
        birth: Birth<'_>,
        out: &mut Outbox,
    ) -> Result<Box<dyn Referent>, Fault> {
        self.alone[index].create(args, birth, out)
    }
}

/// A type of a plugin.
pub struct PluginType {
    info: TypeInfo,
    version: Arc<str>,
    saves: bool,
    placement: Placement,
    who: Arc<Who>,
    pre: bindings::PluginPre<Inside>,
    /// Places of the methods that stand for [`steward_objects::common`].
    get_value: Option<usize>,
    str: Option<usize>,
    repr: Option<usize>,
}

impl std::fmt::Debug for PluginType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.who, self.version)
    }
}

impl PluginType {
    /// Its constructor and methods.
    pub fn info(&self) -> &TypeInfo {
        &self.info
    }

    /// The plugin's own version of it, `major.minor.patch`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Digest of the component that it comes from, in hex.
    pub fn sha256(&self) -> &str {
        &self.who.sha256
    }

    /// Whether its objects can be saved and loaded.
    pub fn saves(&self) -> bool {
        self.saves
    }

    /// Whether its objects can be kept apart like this.
    ///
    /// # Errors
    /// [`ReleaseError::DoesNotSave`] if they are to share.
    pub fn may_be(&self, isolation: Isolation) -> Result<(), ReleaseError> {
        if isolation == Isolation::Shared && !self.saves {
            return Err(ReleaseError::DoesNotSave { typeid: self.info.typeid.clone() });
        }
        Ok(())
    }

    /// Where its steps should run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}
