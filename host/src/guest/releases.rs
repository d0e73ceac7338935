//! The versions of one registered type: which is the newest, what its methods are called by, and how its objects fare.
//!
//! A method's number never changes its meaning, since clients keep tables of methods: a later version has the numbers of
//! the earlier ones by name, new methods get new numbers, and the number of one that is gone stands for nothing until it
//! comes back. An object finds out by itself that there is a newer version, at its next step.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;
use steward_objects::{Args, Fault, Ident, Outbox, Referent, common};
use steward_wire::describe::{MethodInfo, TypeInfo};

use super::object::{Object, Saved};
use super::shard::Shards;
use super::{Birth, Isolation, PluginType, Runtime};
use crate::budget::Budget;

/// One registered type through its versions.
pub struct Releases {
    /// Of the newest; read at every step.
    generation: AtomicU64,
    removed: AtomicBool,
    state: Mutex<State>,
    pub(super) tally: Arc<Tally>,
}

struct State {
    /// By their numbers, the methods of all versions as they were described last.
    methods: Vec<MethodInfo>,
    newest: Arc<Release>,
    /// Those that have objects, in their order.
    all: Vec<Weak<Release>>,
}

/// One version of a registered type.
pub struct Release {
    pub(super) generation: u64,
    pub(super) kind: Arc<PluginType>,
    pub(super) isolation: Isolation,
    pub(super) shards: Shards,
    /// Of the type.
    pub(super) tally: Arc<Tally>,
    info: TypeInfo,
    /// Places of the methods in the plugin's own list, by their numbers.
    places: Vec<Option<u16>>,
    /// Objects of this version.
    pub(super) objects: AtomicUsize,
}

/// What happened to the objects of a type.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) traps: AtomicU64,
    pub(super) recovered: AtomicU64,
    pub(super) poisoned: AtomicU64,
    pub(super) moved: AtomicU64,
    pub(super) not_moved: AtomicU64,
    pub(super) journal_bytes: AtomicUsize,
    /// Why an object last stayed with its version.
    pub(super) not_moved_last: Mutex<Option<String>>,
}

/// How the objects of a type fare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleasesReport {
    /// Versions that have objects and the newest one, oldest first.
    pub versions: Vec<VersionReport>,
    /// Calls that trapped, were cut, or broke the rules.
    pub traps: u64,
    /// How often an object was made again after that.
    pub recovered: u64,
    /// Objects that could not be.
    pub poisoned: u64,
    /// How often an object moved to a newer version.
    pub moved: u64,
    /// How often one should have, and stayed with its version.
    pub not_moved: u64,
    /// Why, the last time.
    pub not_moved_last: Option<String>,
    /// Bytes of the journals by which objects are made again, saved states included.
    pub journal_bytes: usize,
}

/// One version of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionReport {
    /// As the plugin says.
    pub version: String,
    /// The plugin's name.
    pub plugin: String,
    /// The component's digest, in hex.
    pub sha256: String,
    /// Its objects can be saved and loaded.
    pub saves: bool,
    /// How its objects are kept apart.
    pub isolation: Isolation,
    /// Objects of this version, poisoned ones included.
    pub objects: usize,
    /// Stores that shared objects lie in; 0 where each has its own.
    pub shards: usize,
}

/// Why a plugin's type cannot be a version of a registered one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The versions of the type have too many methods in all.
    #[error("the versions of `{typeid}` have {methods} methods in all, limit is {METHODS_MAX}")]
    TooManyMethods {
        /// The type, as the plugin calls it.
        typeid: String,
        /// How many they would have.
        methods: usize,
    },
    /// Objects that share a Store must come back when another one traps.
    #[error(
        "`{typeid}` does not save, so its objects cannot share: let it save, or register it with isolation `object`"
    )]
    DoesNotSave {
        /// The type, as the plugin calls it.
        typeid: String,
    },
}

/// Methods that the versions of a type may have in all, those that are gone included.
const METHODS_MAX: usize = 4_096;

/// The methods of a version by their numbers, behind and among those of `earlier` ones. What is gone is not exposed.
fn numbered(earlier: &[MethodInfo], kind: &PluginType) -> Vec<MethodInfo> {
    let own: HashMap<&str, &MethodInfo> = kind.info.methods.iter().map(|method| (&*method.name, method)).collect();
    let known: HashSet<&str> = earlier.iter().map(|method| &*method.name).collect();
    let gone = |method: &MethodInfo| MethodInfo { exposed: false, ..method.clone() };
    let kept = earlier.iter().map(|method| own.get(&*method.name).map_or_else(|| gone(method), |own| (*own).clone()));
    let new = kind.info.methods.iter().filter(|method| !known.contains(&*method.name)).cloned();
    kept.chain(new).collect()
}

fn check(methods: &[MethodInfo], kind: &PluginType, isolation: Isolation) -> Result<(), ReleaseError> {
    let methods = methods.len();
    if methods > METHODS_MAX {
        return Err(ReleaseError::TooManyMethods { typeid: kind.info.typeid.clone(), methods });
    }
    kind.may_be(isolation)
}

impl std::fmt::Debug for Releases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Releases").field("newest", &self.newest().kind).finish_non_exhaustive()
    }
}

impl Releases {
    /// A type with its first version, each of whose objects has a Store of its own.
    pub fn new(kind: Arc<PluginType>) -> Arc<Self> {
        let releases = Self::after(Vec::new(), kind, Isolation::Object);
        releases.expect("a plugin's type alone has few methods, and need not save to be by itself")
    }

    /// A type whose name had these methods before, by their numbers.
    ///
    /// # Errors
    /// They are too many with those of `kind`, or its objects are to share and do not save.
    pub fn after(
        earlier: Vec<MethodInfo>,
        kind: Arc<PluginType>,
        isolation: Isolation,
    ) -> Result<Arc<Self>, ReleaseError> {
        let methods = numbered(&earlier, &kind);
        check(&methods, &kind, isolation)?;
        let tally = Arc::<Tally>::default();
        let newest = Arc::new(Release::new(0, kind, isolation, Arc::clone(&tally), &methods));
        let all = vec![Arc::downgrade(&newest)];
        Ok(Arc::new(Self {
            generation: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            state: Mutex::new(State { methods, newest, all }),
            tally,
        }))
    }

    /// The version that new objects are of.
    pub fn newest(&self) -> Arc<Release> {
        Arc::clone(&self.state.lock().newest)
    }

    /// Whether `kind` could be the newest version, with this isolation or that of the one before.
    ///
    /// # Errors
    /// The versions would have too many methods, or its objects are to share and do not save.
    pub fn check(&self, kind: &PluginType, isolation: Option<Isolation>) -> Result<(), ReleaseError> {
        let state = self.state.lock();
        check(&numbered(&state.methods, kind), kind, isolation.unwrap_or(state.newest.isolation))
    }

    /// Makes this the newest version, to which objects move with their next step. [`Releases::check`] says whether it can
    /// be.
    ///
    /// # Errors
    /// As [`Releases::check`]; nothing has changed then.
    pub fn replace(&self, kind: Arc<PluginType>, isolation: Option<Isolation>) -> Result<Arc<Release>, ReleaseError> {
        let mut state = self.state.lock();
        let isolation = isolation.unwrap_or(state.newest.isolation);
        let methods = numbered(&state.methods, &kind);
        check(&methods, &kind, isolation)?;
        state.methods = methods;
        let generation = state.newest.generation + 1;
        let newest = Arc::new(Release::new(generation, kind, isolation, Arc::clone(&self.tally), &state.methods));
        state.all.retain(|release| release.upgrade().is_some_and(|release| release.objects() > 0));
        state.all.push(Arc::downgrade(&newest));
        state.newest = Arc::clone(&newest);
        // An object that sees the number finds the version: it asks under the same lock.
        self.generation.store(generation, Ordering::Release);
        Ok(newest)
    }

    /// Poisons the objects of this type, each with its next step.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::Relaxed);
        self.generation.store(u64::MAX, Ordering::Release);
    }

    /// Makes an object of the newest version, and asks `out` to hold what it stores. Runs guest code, for as long as a
    /// step may.
    ///
    /// # Errors
    /// Raised: what the plugin's constructor raises. Refused: `GuestTrap` if it traps or is cut, `OverQuota`
    /// (retryable) if the host has no room for another object.
    pub fn create(
        self: &Arc<Self>,
        args: Args<'_>,
        birth: Birth<'_>,
        out: &mut Outbox,
    ) -> Result<Box<dyn Referent>, Fault> {
        Ok(Box::new(self.make(args, birth, out)?))
    }

    /// As [`Releases::create`], of an object that can be saved by hand.
    ///
    /// # Errors
    /// As [`Releases::create`].
    pub fn make(self: &Arc<Self>, args: Args<'_>, birth: Birth<'_>, out: &mut Outbox) -> Result<Object, Fault> {
        Object::create(Arc::clone(self), args, birth, None, out)
    }

    /// Makes an object of the newest version from what one was, which may hold tokens of idents that are `known`.
    ///
    /// # Errors
    /// As [`Releases::create`], and what `load` raises.
    pub fn load(
        self: &Arc<Self>,
        saved: &Saved,
        birth: Birth<'_>,
        known: impl Fn(Ident) -> bool + Copy,
        out: &mut Outbox,
    ) -> Result<Object, Fault> {
        Object::load(Arc::clone(self), saved, birth, known, out)
    }

    /// As [`Releases::create`], for a tenant that may keep so much.
    pub(crate) fn create_within(
        self: &Arc<Self>,
        budget: &Arc<Budget>,
        args: Args<'_>,
        birth: Birth<'_>,
        out: &mut Outbox,
    ) -> Result<Box<dyn Referent>, Fault> {
        Ok(Box::new(Object::create(Arc::clone(self), args, birth, Some(budget), out)?))
    }

    /// How the objects fare.
    pub fn report(&self) -> ReleasesReport {
        let (newest, all) = {
            let state = self.state.lock();
            (Arc::clone(&state.newest), state.all.iter().filter_map(Weak::upgrade).collect::<Vec<_>>())
        };
        let listed = |release: &&Arc<Release>| release.generation == newest.generation || release.objects() > 0;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ReleasesReport {
            versions: all.iter().filter(listed).map(|release| release.report()).collect(),
            traps: load(&self.tally.traps),
            recovered: load(&self.tally.recovered),
            poisoned: load(&self.tally.poisoned),
            moved: load(&self.tally.moved),
            not_moved: load(&self.tally.not_moved),
            not_moved_last: self.tally.not_moved_last.lock().clone(),
            journal_bytes: self.tally.journal_bytes.load(Ordering::Relaxed),
        }
    }

    /// Number of the newest version, another one after each replacement.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Release").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Release {
    /// `methods` are those of this version and of earlier ones, by their numbers.
    fn new(
        generation: u64,
        kind: Arc<PluginType>,
        isolation: Isolation,
        tally: Arc<Tally>,
        methods: &[MethodInfo],
    ) -> Self {
        let own = kind.info.methods.iter().map(|method| &*method.name).zip(0..).collect::<HashMap<_, u16>>();
        let places = methods.iter().map(|method| own.get(&*method.name).copied()).collect();
        let info = TypeInfo { methods: methods.to_vec(), ..kind.info.clone() };
        let (shards, objects) = (Shards::default(), AtomicUsize::new(0));
        Self { generation, kind, isolation, shards, tally, info, places, objects }
    }

    /// The type with its methods by their numbers. Those that are not exposed are gone.
    pub fn info(&self) -> &TypeInfo {
        &self.info
    }

    /// The type as the plugin has it.
    pub fn kind(&self) -> &Arc<PluginType> {
        &self.kind
    }

    /// How its objects are kept apart.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// How many objects there are of this version.
    pub fn objects(&self) -> usize {
        self.objects.load(Ordering::Relaxed)
    }

    pub(super) fn runtime(&self) -> &Arc<Runtime> {
        &self.kind.who.runtime
    }

    /// Place of a method in the plugin's own list, if there is such a method.
    pub(super) fn place_of(&self, method: u16) -> Option<u32> {
        let kind = &self.kind;
        match method {
            common::GET_VALUE => kind.get_value,
            common::STR => kind.str.or(kind.repr),
            common::REPR => kind.repr,
            number => return self.places.get(usize::from(number)).copied().flatten().map(u32::from),
        }
        .map(|place| u32::try_from(place).expect("methods are counted in 16 bits"))
    }

    fn report(&self) -> VersionReport {
        VersionReport {
            version: self.kind.version.to_string(),
            plugin: self.kind.who.plugin.clone(),
            sha256: self.kind.who.sha256.clone(),
            saves: self.kind.saves,
            isolation: self.isolation,
            objects: self.objects(),
            shards: self.shards.count(),
        }
    }
}
