//! A tenant's objects and what keeps each of them alive.
//!
//! An object lives while a session holds a reference, a name stands for it, or a living object stores its token. The
//! counts are exact because every change goes through here: sessions retain and release, and a cell writes
//! down what it stores while it applies its outbox. What only a cycle keeps is found by [`Table::collect_cycles`], now and
//! then: no count sees it. Lock order: cell, session, table; nothing is called back
//! while the table is locked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use steward_objects::Facet;
use steward_wire::{Fault, Ident};

use crate::cell::Cell;
use crate::registry::Type;

/// One object: a facet of a cell.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) cell: Arc<Cell>,
    pub(crate) kind: Arc<Type>,
    pub(crate) facet: Facet,
}

struct Entry {
    object: Object,
    /// References of sessions, and names.
    roots: u32,
    /// Tokens of it that living objects store.
    stored: u32,
}

/// What a cell has beyond a single facet that stores nothing; most cells have no group.
struct Group {
    facets: u32,
    stores: HashMap<Ident, u32>,
}

impl Default for Group {
    /// What a cell has before it needs a group.
    fn default() -> Self {
        Self { facets: 1, stores: HashMap::new() }
    }
}

struct Named {
    ident: Ident,
    /// How long the name may stand for an object that nobody else refers to.
    idle_ms: Option<u64>,
    /// Since when nobody does.
    idle_since_ms: Option<u64>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Ident, Entry>,
    groups: HashMap<Ident, Group>,
    names: HashMap<String, Named>,
    /// Objects whose tokens are on their way to somebody, and until when that keeps them.
    lingering: HashMap<Ident, u64>,
    /// Cells that lost a reference, store something, and are kept by nothing but what others store: they may be in a cycle.
    suspects: HashSet<Ident>,
}

/// The table. Idents rise and are never reused.
pub(crate) struct Table {
    state: Mutex<State>,
    last: AtomicU64,
    objects_max: usize,
}

/// What became unreachable: dropped, and its facets told, after the table is unlocked.
#[derive(Default)]
#[must_use = "facets that left must be told to their cells"]
pub(crate) struct Gone(Vec<Object>);

impl Gone {
    /// Tells cells that live on which of their facets have gone.
    pub(crate) fn finish(self) {
        for object in self.0 {
            if object.facet != 0 {
                object.cell.leave(object.facet);
            }
        }
    }
}

/// A line of a listing.
pub(crate) struct Listed {
    pub(crate) ident: Ident,
    pub(crate) object: Object,
    pub(crate) references: u32,
    pub(crate) name: Option<String>,
}

impl Table {
    pub(crate) fn new(objects_max: usize) -> Self {
        Self { state: Mutex::default(), last: AtomicU64::new(0), objects_max }
    }

    /// A number for a new object.
    pub(crate) fn number(&self) -> Ident {
        Ident(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Adds an object with one root reference, which the caller then owns.
    ///
    /// # Errors
    /// Refused `OverQuota`.
    pub(crate) fn insert(&self, ident: Ident, object: Object) -> Result<(), Fault> {
        let mut state = self.state.lock();
        if state.entries.len() >= self.objects_max {
            let limit = self.objects_max;
            return Err(Fault::refused("OverQuota", format!("the tenant has {limit} objects, limit is {limit}")));
        }
        if object.facet != 0 {
            state.groups.entry(object.cell.ident()).or_default().facets += 1;
        }
        state.entries.insert(ident, Entry { object, roots: 1, stored: 0 });
        Ok(())
    }

    /// Adds a root reference; `None` if there is no such object.
    pub(crate) fn retain(&self, ident: Ident) -> Option<Object> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(&ident)?;
        entry.roots += 1;
        Some(entry.object.clone())
    }

    /// Takes back root references.
    pub(crate) fn release(&self, idents: impl IntoIterator<Item = Ident>) -> Gone {
        let mut state = self.state.lock();
        let mut gone = Gone::default();
        for ident in idents {
            if let Some(entry) = state.entries.get_mut(&ident) {
                entry.roots = entry.roots.saturating_sub(1);
                state.collect(ident, &mut gone);
            }
        }
        gone
    }

    /// Writes down what a cell stores and no longer stores since its last step.
    pub(crate) fn store(&self, cell: Ident, held: &[Ident], let_go: &[Ident]) -> Gone {
        let mut state = self.state.lock();
        let mut gone = Gone::default();
        for &ident in held {
            // A token whose object has gone meanwhile dangles: storing it is no error, calling it will be.
            if let Some(entry) = state.entries.get_mut(&ident) {
                entry.stored += 1;
                let group = state.groups.entry(cell).or_default();
                *group.stores.entry(ident).or_default() += 1;
            }
        }
        for ident in let_go {
            let Some(count) = state.groups.get_mut(&cell).and_then(|group| group.stores.get_mut(ident)) else {
                continue;
            };
            *count -= 1;
            if *count == 0
                && let Some(group) = state.groups.get_mut(&cell)
            {
                group.stores.remove(ident);
            }
            if let Some(entry) = state.entries.get_mut(ident) {
                entry.stored -= 1;
                state.collect(*ident, &mut gone);
            }
        }
        gone
    }

    /// Writes down that a cell stores nothing any more.
    pub(crate) fn store_nothing(&self, cell: Ident) -> Gone {
        let mut state = self.state.lock();
        let mut gone = Gone::default();
        let stores = state.groups.get_mut(&cell).map(|group| std::mem::take(&mut group.stores)).unwrap_or_default();
        for (stored, count) in stores {
            if let Some(entry) = state.entries.get_mut(&stored) {
                entry.stored -= count;
                state.collect(stored, &mut gone);
            }
        }
        gone
    }

    /// Removes what only cycles keep. Objects that are still reached from a session or a name cost time here, too, so this is
    /// for now and then.
    pub(crate) fn collect_cycles(&self) -> Gone {
        let mut state = self.state.lock();
        let suspects = std::mem::take(&mut state.suspects);
        let mut gone = Gone::default();
        if !suspects.is_empty() {
            state.collect_cycles(suspects, &mut gone);
        }
        gone
    }

    /// The object of this name, with a root reference for the caller.
    pub(crate) fn named(&self, name: &str) -> Option<(Ident, Object)> {
        let mut state = self.state.lock();
        let named = state.names.get_mut(name)?;
        named.idle_since_ms = None;
        let ident = named.ident;
        let entry = state.entries.get_mut(&ident)?;
        entry.roots += 1;
        Some((ident, entry.object.clone()))
    }

    /// Gives an object a name, which keeps it alive until [`Table::unname`], or until nobody else has referred to it for
    /// `idle_ms`. False if the name is taken.
    pub(crate) fn name(&self, name: &str, ident: Ident, idle_ms: Option<u64>) -> bool {
        let mut state = self.state.lock();
        if state.names.contains_key(name) {
            return false;
        }
        let Some(entry) = state.entries.get_mut(&ident) else { return false };
        entry.roots += 1;
        state.names.insert(name.to_owned(), Named { ident, idle_ms, idle_since_ms: None });
        true
    }

    /// Takes a name away; `None` if there is no such name.
    pub(crate) fn unname(&self, name: &str) -> Option<Gone> {
        let Named { ident, .. } = self.state.lock().names.remove(name)?;
        Some(self.release([ident]))
    }

    /// Keeps an object until `until_ms`, whatever else does: its token is on its way to somebody.
    pub(crate) fn linger(&self, ident: Ident, until_ms: u64) {
        let mut state = self.state.lock();
        let State { entries, lingering, .. } = &mut *state;
        let Some(entry) = entries.get_mut(&ident) else { return };
        if lingering.insert(ident, until_ms).is_none() {
            entry.roots += 1;
        }
    }

    /// Lets go of what is kept only until `now_ms` or earlier, and of names that have been idle for too long.
    pub(crate) fn expire(&self, now_ms: u64) -> Gone {
        let mut over = Vec::new();
        {
            let mut state = self.state.lock();
            let State { entries, names, lingering, .. } = &mut *state;
            lingering.retain(|&ident, until_ms| {
                let stays = *until_ms > now_ms;
                over.extend((!stays).then_some(ident));
                stays
            });
            names.retain(|name, named| {
                let Some(idle_ms) = named.idle_ms else { return true };
                let alone = entries.get(&named.ident).is_none_or(|entry| entry.roots == 1 && entry.stored == 0);
                if !alone {
                    named.idle_since_ms = None;
                    return true;
                }
                let since_ms = *named.idle_since_ms.get_or_insert(now_ms);
                let stays = now_ms.saturating_sub(since_ms) < idle_ms;
                if !stays {
                    tracing::info!(name, ident = %named.ident, "name was idle for too long");
                    over.push(named.ident);
                }
                stays
            });
        }
        self.release(over)
    }

    /// How many objects there are, how many names, and how many objects that are kept for a grace period.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        (state.entries.len(), state.names.len(), state.lingering.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// All objects, by ident.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let state = self.state.lock();
        let names: HashMap<_, _> = state.names.iter().map(|(name, named)| (named.ident, name)).collect();
        let mut all: Vec<_> = state
            .entries
            .iter()
            .map(|(&ident, entry)| Listed {
                ident,
                object: entry.object.clone(),
                references: entry.roots + entry.stored,
                name: names.get(&ident).map(|name| (*name).clone()),
            })
            .collect();
        all.sort_by_key(|listed| listed.ident);
        all
    }

    /// Forgets everything, at the end of the host.
    pub(crate) fn clear(&self) {
        drop(std::mem::take(&mut *self.state.lock()));
    }
}

impl State {
    /// Removes `ident` if nothing keeps it, and then what only it kept, and so on: a loop, since a chain of containers may
    /// be as long as memory allows.
    fn collect(&mut self, ident: Ident, gone: &mut Gone) {
        let mut suspects = vec![ident];
        while let Some(ident) = suspects.pop() {
            let Some(entry) = self.entries.get(&ident) else { continue };
            if entry.roots + entry.stored > 0 {
                let cell = entry.object.cell.ident();
                if entry.roots == 0 && self.groups.get(&cell).is_some_and(|group| !group.stores.is_empty()) {
                    self.suspects.insert(cell);
                }
                continue;
            }
            let Some(entry) = self.entries.remove(&ident) else { continue };
            let cell = entry.object.cell.ident();
            if let Some(group) = self.groups.get_mut(&cell) {
                group.facets -= 1;
                if group.facets == 0
                    && let Some(group) = self.groups.remove(&cell)
                {
                    for (stored, count) in group.stores {
                        if let Some(entry) = self.entries.get_mut(&stored) {
                            entry.stored -= count;
                            suspects.push(stored);
                        }
                    }
                }
            }
            gone.0.push(entry.object);
        }
    }

    /// Trial deletion (Bacon and Rajan: Concurrent cycle collection in reference counted systems, 2001), by cells: of all
    /// that is reached from the suspects, what is not reached from outside goes.
    fn collect_cycles(&mut self, suspects: HashSet<Ident>, gone: &mut Gone) {
        // How many references each has that do not come from among them.
        let mut outside: HashMap<Ident, u64> = HashMap::new();
        let mut pending: Vec<Ident> = suspects.into_iter().filter(|cell| self.groups.contains_key(cell)).collect();
        while let Some(cell) = pending.pop() {
            if outside.insert(cell, 0).is_none() {
                pending.extend(self.stored_cells(cell).map(|(stored, _)| stored));
            }
        }
        for entry in self.entries.values() {
            if let Some(count) = outside.get_mut(&entry.object.cell.ident()) {
                *count += u64::from(entry.roots) + u64::from(entry.stored);
            }
        }
        let reached: Vec<Ident> = outside.keys().copied().collect();
        for cell in reached {
            for (stored, times) in self.stored_cells(cell) {
                *outside.get_mut(&stored).expect("what a reached cell stores is reached") -= u64::from(times);
            }
        }

        let mut alive: Vec<Ident> = outside.iter().filter(|(_, count)| **count > 0).map(|(cell, _)| *cell).collect();
        while let Some(cell) = alive.pop() {
            if outside.remove(&cell).is_some() {
                alive.extend(self.stored_cells(cell).map(|(stored, _)| stored));
            }
        }

        let dead = outside;
        if dead.is_empty() {
            return;
        }
        for cell in dead.keys() {
            for (stored, times) in self.groups.remove(cell).map(|group| group.stores).unwrap_or_default() {
                if let Some(entry) = self.entries.get_mut(&stored) {
                    entry.stored -= times;
                }
            }
        }
        let removed = self.entries.extract_if(|_, entry| dead.contains_key(&entry.object.cell.ident()));
        gone.0.extend(removed.map(|(_, entry)| entry.object));
    }

    /// The cells of what a cell stores, with how often it stores each.
    fn stored_cells(&self, cell: Ident) -> impl Iterator<Item = (Ident, u32)> {
        let stores = self.groups.get(&cell).into_iter().flat_map(|group| &group.stores);
        stores.filter_map(|(stored, times)| Some((self.entries.get(stored)?.object.cell.ident(), *times)))
    }
}
