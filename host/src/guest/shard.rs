//! Where objects live: each in a Store of its own, or many in one.
//!
//! A *shard* is a Store and the objects in it, all of one version of a type and of one tenant. Where a type is isolated by object
//! each shard has one; where it is shared, as many as [`GuestConfig::shard_objects_max`](super::GuestConfig) says. A guest that traps
//! ends the Store, and with it the guests of all objects of the shard. Its next Store is another *life* of the shard, into which each
//! object comes back with its own next step, by its own journal (`object.rs`): nobody reaches into another's object, an object that cannot come
//! back fails alone, and what is not called costs nothing.
//!
//! A shard is entered by one thread at a time, under its lock, for one entry of a guest: it is held no longer than a step may run. It is the last
//! lock on any thread's way; whoever has it runs the guest and nothing else. A thread that should not wait asks
//! [`Guest::is_busy`] first.
//!
//! The drop of one guest among others is guest code. It runs under the deadline of a step, when the shard is free; once that
//! took long it is left to those who enter the shard next. The drop of a whole shard runs none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use steward_objects::{Fault, Ident};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::bindings::exports::steward::plugin::referent::Made;
use super::bindings::steward::plugin::types as wit;
use super::instance::{Entry, Inside, Instance, LogMinute, Who, is_full};
use super::releases::Release;
use super::traps::Traps;
use super::{Isolation, Slot, bindings};
use crate::budget::{Budget, Charge};

/// Guests that one entry drops before its own work, at most.
const DROPS_MAX: usize = 64;

/// One Store and the objects in it.
struct Shard {
    release: Arc<Release>,
    tenant: Box<str>,
    /// The tenant's, which is charged for the memory that the Store has beyond its start.
    budget: Option<Arc<Budget>>,
    /// Seats that are taken. None again: the shard is about to go, and nobody comes any more.
    objects: AtomicUsize,
    /// No more seats are given than this. Once the memory is nearly used up: than there were then.
    objects_max: AtomicUsize,
    /// Others may join.
    is_listed: AtomicBool,
    state: Mutex<State>,
    /// Guests that nobody will call again, with their lives.
    dead: Mutex<Vec<(u32, ResourceAny)>>,
    dead_count: AtomicUsize,
}

struct State {
    /// `None`: the last one ended, and nobody has come back.
    instance: Option<Instance>,
    /// How many Stores have ended.
    life: u32,
    /// Guests in this Store, those to be dropped included.
    guests: usize,
    /// Bytes of memory when they were last looked at.
    memory_bytes: usize,
    log_minute: LogMinute,
    slot: Option<Slot>,
}

/// The shards of one version of a type.
#[derive(Default)]
pub(super) struct Shards {
    listed: Mutex<Listed>,
    /// Traps of constructors, which cost a shard its Store and no object a call.
    traps: Mutex<Option<Traps>>,
    /// A drop took long.
    drops_slowly: AtomicBool,
}

/// Shards that others may join.
#[derive(Default)]
struct Listed {
    all: Vec<Weak<Shard>>,
    /// Where there was room last.
    last: usize,
}

/// Whose objects a shard has.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) tenant: &'a str,
    /// What the tenant may keep, if there is a limit to it.
    pub(super) budget: Option<&'a Arc<Budget>>,
}

/// An object's place in a shard.
pub(super) struct Seat {
    shard: Arc<Shard>,
}

/// A guest that can be entered while the life of its shard goes on.
pub(super) struct Guest {
    seat: Seat,
    object: ResourceAny,
    life: u32,
    /// Whole ticks of CPU time that the latest entry took.
    ticks: u32,
}

/// What ended a Store.
#[derive(Debug)]
pub(super) struct Trap {
    pub(super) what: String,
    /// It wanted memory that others in the shard had: by itself it may fare better.
    pub(super) crowded: bool,
    /// It wanted memory, and its tenant keeps too much.
    pub(super) over_quota: Option<Box<Fault>>,
}

/// Why an entry came to nothing.
#[derive(Debug)]
pub(super) enum Ended {
    /// The guest trapped or was cut.
    Trapped(Trap),
    /// Its Store had ended before, by another's doing.
    Before,
}

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// Its constructor, or `load`, raised.
    #[error("{}: {}", .0.kind, .0.message)]
    Raised(wit::Fault),
    /// There is no room for another Store.
    #[error("there is no room for another guest")]
    NoRoom,
    /// It trapped or was cut.
    #[error("{}", .0.what)]
    Trapped(Trap),
    /// Its Store ended while it was made, by another's doing.
    #[error("its shard ended")]
    Interrupted,
    /// It is not what it should be.
    #[error("{0}")]
    Differs(String),
}

impl Ended {
    /// The same of a guest that is being made; `place` says where it was, in front of what happened.
    pub(super) fn not_made(self, place: impl FnOnce(&str) -> String) -> NotMade {
        match self {
            Self::Trapped(trap) => NotMade::Trapped(Trap { what: place(&trap.what), ..trap }),
            Self::Before => NotMade::Interrupted,
        }
    }
}

/// Where a guest is to be made.
#[derive(Clone, Copy)]
pub(super) enum Where<'a> {
    /// Wherever there is room.
    Anywhere,
    /// Wherever there is room, in place of this guest, which stays until the new one is there.
    InPlaceOf(&'a Guest),
    /// In the shard of this guest, whose life is over.
    Again(&'a Guest),
    /// In a shard that nobody else is in.
    Alone,
}

/// Has a guest made, in another shard if that one ends meanwhile, and in one of its own if others leave it no memory.
pub(super) fn place<T>(
    release: &Arc<Release>,
    whose: Whose<'_>,
    mut wanted: Where<'_>,
    mut make: impl FnMut(Seat) -> Result<T, NotMade>,
) -> Result<T, NotMade> {
    let mut home = None;
    loop {
        let seat = match wanted {
            Where::Anywhere => Seat::take(release, whose)?,
            // The room of an object that moves goes along with it.
            Where::InPlaceOf(former) if former.is_isolated() && release.isolation == Isolation::Object => {
                Shard::founded(release, whose, None)
            }
            Where::InPlaceOf(_) => Seat::take(release, whose)?,
            Where::Again(former) => {
                home = Some(former);
                former.seat.another()
            }
            Where::Alone => match (Slot::take(release.runtime()), home.take()) {
                (Some(slot), _) => Shard::founded(release, whose, Some(slot)),
                // It was crowded there; but that Store has ended, and who comes first has the next one to himself.
                (None, Some(home)) => home.seat.another(),
                (None, None) => return Err(NotMade::NoRoom),
            },
        };
        let shard = Arc::clone(&seat.shard);
        match make(seat) {
            Err(NotMade::Interrupted) => {}
            Err(NotMade::Trapped(Trap { crowded: true, .. })) if !matches!(wanted, Where::Alone) => {
                wanted = Where::Alone;
            }
            Err(error) => return Err(error),
            Ok(made) => {
                release.shards.list(&shard);
                return Ok(made);
            }
        }
    }
}

/// How many objects one shard of this version may have.
fn seats_of(release: &Release) -> usize {
    match release.isolation {
        Isolation::Object => 1,
        Isolation::Shared => release.runtime().config.shard_objects_max.max(1) as usize,
    }
}

impl Seat {
    /// A seat in a shard that has room, or in a new one.
    fn take(release: &Arc<Release>, whose: Whose<'_>) -> Result<Self, NotMade> {
        let found = || Ok(Shard::founded(release, whose, Some(Slot::take(release.runtime()).ok_or(NotMade::NoRoom)?)));
        if release.isolation == Isolation::Object {
            return found();
        }
        release.shards.seat(whose.tenant).map_or_else(found, Ok)
    }

    /// A second seat for the same object, for as long as one guest of it takes the place of another.
    fn another(&self) -> Self {
        self.shard.objects.fetch_add(1, Ordering::Relaxed);
        Self { shard: Arc::clone(&self.shard) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shard = &*self.shard;
        let was_last = shard.objects.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last || shard.release.shards.drops_slowly.load(Ordering::Relaxed) {
            return;
        }
        if let Some(mut state) = shard.state.try_lock() {
            shard.bury(&mut state);
        }
    }
}

impl Shards {
    /// A seat in a shard of this tenant, if there is room; rather in one that nobody has entered just now.
    fn seat(&self, tenant: &str) -> Option<Seat> {
        let mut listed = self.listed.lock();
        let Listed { all, last } = &mut *listed;
        let free = |shard: &Weak<Shard>| shard.upgrade().filter(|shard| !shard.state.is_locked());
        if let Some(seat) = all.get(*last).and_then(free).and_then(|shard| shard.seat(tenant)) {
            return Some(seat);
        }
        all.retain(|shard| shard.strong_count() > 0);
        let found = |shard: Arc<Shard>| shard.seat(tenant);
        let free = all.iter().enumerate().find_map(|(place, shard)| Some((place, free(shard).and_then(found)?)));
        if let Some((place, seat)) = free {
            *last = place;
            return Some(seat);
        }
        all.iter().find_map(|shard| shard.upgrade().and_then(found))
    }

    /// Lets others join a shard, if it is one for others and they do not yet.
    fn list(&self, shard: &Arc<Shard>) {
        if shard.release.isolation == Isolation::Object || shard.is_listed.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut listed = self.listed.lock();
        listed.all.push(Arc::downgrade(shard));
        listed.last = listed.all.len() - 1;
    }

    /// How many shards there are that others may join.
    pub(super) fn count(&self) -> usize {
        self.listed.lock().all.iter().filter(|shard| shard.strong_count() > 0).count()
    }

    /// Notes that a constructor trapped.
    pub(super) fn constructor_trapped(&self, now_ms: u64) {
        self.traps.lock().get_or_insert_default().trapped(now_ms);
    }

    /// Notes that one went well.
    pub(super) fn constructor_went_well(&self) {
        self.traps.lock().take_if(Traps::went_well);
    }

    /// How many constructors in a row have trapped and for how many milliseconds none is entered, if that is so.
    pub(super) fn closed(&self, now_ms: u64) -> Option<(u32, u64)> {
        self.traps.lock().as_ref()?.closed(now_ms)
    }
}

impl Shard {
    /// A new shard with its first seat.
    fn founded(release: &Arc<Release>, Whose { tenant, budget }: Whose<'_>, slot: Option<Slot>) -> Seat {
        let objects_max = seats_of(release);
        let state =
            State { instance: None, life: 0, guests: 0, memory_bytes: 0, log_minute: LogMinute::default(), slot };
        Seat {
            shard: Arc::new(Self {
                release: Arc::clone(release),
                tenant: tenant.into(),
                budget: budget.cloned(),
                objects: AtomicUsize::new(1),
                objects_max: AtomicUsize::new(objects_max),
                is_listed: AtomicBool::new(false),
                state: Mutex::new(state),
                dead: Mutex::default(),
                dead_count: AtomicUsize::new(0),
            }),
        }
    }

    /// One more seat, if there is room and the tenant is the shard's.
    fn seat(self: Arc<Self>, tenant: &str) -> Option<Seat> {
        if *self.tenant != *tenant {
            return None;
        }
        let limit = self.objects_max.load(Ordering::Relaxed).saturating_sub(self.dead_count.load(Ordering::Relaxed));
        let more = |objects| (objects > 0 && objects < limit).then_some(objects + 1);
        self.objects.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Seat { shard: self })
    }

    /// Has an object made in the Store of this life, which begins now if it has not begun.
    fn make(
        &self,
        entry: Entry,
        make: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<Result<Made, wit::Fault>>,
    ) -> Result<(Made, u32, u32), NotMade> {
        let kind = &self.release.kind;
        let mut state = self.state.lock();
        self.bury(&mut state);
        let State { instance, log_minute, .. } = &mut *state;
        let grown = || self.budget.clone().map_or_else(Charge::default, Charge::to);
        let new = || Instance::new(kind, seats_of(&self.release), *log_minute, grown());
        let instance = instance.get_or_insert_with(new);
        match instance.make(kind, entry, make) {
            Ok(Ok(made)) => {
                let ticks = instance.ticks();
                state.guests += 1;
                self.measure(&mut state);
                Ok((made, state.life, ticks))
            }
            Ok(Err(fault)) => Err(NotMade::Raised(fault)),
            // Nobody is in it: it has no instance.
            Err(error) if state.guests == 0 && is_full(&error) => {
                state.instance = None;
                Err(NotMade::NoRoom)
            }
            Err(error) => Err(NotMade::Trapped(self.end(&mut state, &error, 0))),
        }
    }

    /// Enters a guest of this life, if it lasts; says how many ticks that took.
    fn enter<R>(
        &self,
        life: u32,
        entry: Entry,
        run: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<R>,
    ) -> (Result<R, Ended>, u32) {
        let mut state = self.state.lock();
        self.bury(&mut state);
        if state.life != life {
            return (Err(Ended::Before), 0);
        }
        let instance = state.instance.as_mut().expect("a guest of this life was made in it");
        let result = instance.enter(self.release.runtime(), entry, run);
        let ticks = instance.ticks();
        match result {
            Ok(result) => {
                self.measure(&mut state);
                (Ok(result), ticks)
            }
            Err(error) => (Err(Ended::Trapped(self.end(&mut state, &error, 1))), ticks),
        }
    }

    /// Ends the Store, whose latest entry failed on behalf of so many of the guests in it.
    #[cold]
    fn end(&self, state: &mut State, error: &wasmtime::Error, own: usize) -> Trap {
        let Some(instance) = state.instance.take() else { unreachable!("it was entered just now") };
        let over_quota = instance.over_quota().cloned().map(Box::new);
        let crowded = instance.is_starved() && over_quota.is_none() && state.guests > own;
        if crowded {
            let objects = self.objects.load(Ordering::Relaxed);
            self.objects_max.fetch_min(objects.saturating_sub(1).max(1), Ordering::Relaxed);
        }
        let trap = Trap { what: instance.explain(error), crowded, over_quota };
        Self::begin_anew(state, instance);
        trap
    }

    fn begin_anew(state: &mut State, ended: Instance) {
        state.log_minute = ended.log_minute();
        (state.life, state.guests, state.memory_bytes) = (state.life.wrapping_add(1), 0, 0);
    }

    /// Gives no more seats than are taken, once memory has grown beyond what leaves room for others.
    fn measure(&self, state: &mut State) {
        let Some(instance) = &state.instance else { return };
        let memory_bytes = instance.memory_bytes();
        if memory_bytes == state.memory_bytes {
            return;
        }
        let is_nearly_full = instance.is_nearly_full();
        state.memory_bytes = memory_bytes;
        if is_nearly_full {
            self.objects_max.fetch_min(self.objects.load(Ordering::Relaxed).max(1), Ordering::Relaxed);
        }
    }

    /// Drops guests that nobody will call again. Here a guest may trap on nobody's behalf.
    #[inline]
    fn bury(&self, state: &mut State) {
        if self.dead_count.load(Ordering::Relaxed) > 0 {
            self.bury_some(state);
        }
    }

    #[cold]
    fn bury_some(&self, state: &mut State) {
        let release = &self.release;
        for _ in 0..DROPS_MAX {
            let Some((life, object)) = self.dead.lock().pop() else { return };
            self.dead_count.fetch_sub(1, Ordering::Relaxed);
            let Some(instance) = state.instance.as_mut().filter(|_| life == state.life) else { continue };
            let entry = Entry { ident: Ident::HOST, now_ms: instance.log_minute().0, muted: false, limited: false };
            let dropped = instance.enter(release.runtime(), entry, |store, _| object.resource_drop(store));
            let ticks = instance.ticks();
            if ticks > 0 {
                release.kind.placement.record(ticks);
                release.shards.drops_slowly.store(true, Ordering::Relaxed);
            }
            match dropped {
                Ok(()) => state.guests -= 1,
                Err(error) => {
                    let Trap { what, .. } = self.end(state, &error, 0);
                    release.tally.traps.fetch_add(1, Ordering::Relaxed);
                    let Who { plugin, typeid, .. } = &*release.kind.who;
                    tracing::warn!(plugin, typeid, "guest trapped when an object was dropped: {what}");
                }
            }
            if ticks > 0 {
                return;
            }
        }
    }
}

impl Guest {
    /// Makes an object from a constructor's arguments. Beside it, the idents that it stores.
    pub(super) fn create(
        seat: Seat,
        entry: Entry,
        args: &[u8],
        context: &wit::Context,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        let kind = Arc::clone(&seat.shard.release.kind);
        Self::make(seat, entry, |store, plugin| {
            let referent = plugin.steward_plugin_referent();
            referent.object().call_create(store, &kind.info.typeid, &args.to_vec(), context)
        })
    }

    /// Makes an object from what version `from` of its type has saved. Beside it, the idents that it stores.
    pub(super) fn load(
        seat: Seat,
        entry: Entry,
        state: &[u8],
        from: &str,
        context: &wit::Context,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        let kind = Arc::clone(&seat.shard.release.kind);
        Self::make(seat, entry, |store, plugin| {
            let referent = plugin.steward_plugin_referent();
            referent.object().call_load(store, &kind.info.typeid, state, from, context)
        })
    }

    fn make(
        seat: Seat,
        entry: Entry,
        make: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<Result<Made, wit::Fault>>,
    ) -> Result<(Self, Vec<u64>), NotMade> {
        let (Made { object, held }, life, ticks) = seat.shard.make(entry, make)?;
        Ok((Self { seat, object, life, ticks }, held))
    }

    /// Takes one turn.
    pub(super) fn step(&mut self, entry: Entry, seed: u64, input: &wit::Input) -> Result<wit::Outcome, Ended> {
        let (object, now_ms) = (self.object, entry.now_ms);
        self.enter(entry, |store, plugin| {
            plugin.steward_plugin_referent().object().call_step(store, object, now_ms, seed, input)
        })
    }

    /// The object's state, or what it raised instead.
    pub(super) fn save(&mut self, entry: Entry) -> Result<Result<Vec<u8>, wit::Fault>, Ended> {
        let object = self.object;
        self.enter(entry, |store, plugin| plugin.steward_plugin_referent().object().call_save(store, object))
    }

    fn enter<R>(
        &mut self,
        entry: Entry,
        run: impl FnOnce(&mut Store<Inside>, &bindings::Plugin) -> wasmtime::Result<R>,
    ) -> Result<R, Ended> {
        let (result, ticks) = self.seat.shard.enter(self.life, entry, run);
        self.ticks = ticks;
        result
    }

    /// Ends its Store, as a trap does: the guest did what cannot stand.
    pub(super) fn end(&self) {
        let mut state = self.seat.shard.state.lock();
        if state.life == self.life
            && let Some(instance) = state.instance.take()
        {
            Shard::begin_anew(&mut state, instance);
        }
    }

    /// Whether somebody has entered its shard at this moment, so that whoever enters it now would wait.
    pub(super) fn is_busy(&self) -> bool {
        self.seat.shard.state.is_locked()
    }

    /// Whole ticks of CPU time that the latest entry took.
    pub(super) fn ticks(&self) -> u32 {
        self.ticks
    }

    /// Whose object it is.
    pub(super) fn whose(&self) -> Whose<'_> {
        let Shard { tenant, budget, .. } = &*self.seat.shard;
        Whose { tenant, budget: budget.as_ref() }
    }

    fn is_isolated(&self) -> bool {
        self.seat.shard.release.isolation == Isolation::Object
    }

    /// Takes over the room of the guest in whose place it was made, if it was made without.
    pub(super) fn take_room_of(&self, former: &Self) {
        let slot = former.seat.shard.state.lock().slot.take_if(|_| former.is_isolated());
        if let Some(slot) = slot {
            self.seat.shard.state.lock().slot.get_or_insert(slot);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.is_isolated() {
            let shard = &*self.seat.shard;
            // Never less than there are.
            shard.dead_count.fetch_add(1, Ordering::Relaxed);
            shard.dead.lock().push((self.life, self.object));
        }
    }
}
