//! The table under dicts and sets: insertion order, found by key.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::key;
use crate::Fault;

/// Distinct hashable items in insertion order, each with a value (`()` in a set).
///
/// A removed entry leaves a gap; gaps are closed when they outnumber the entries, so every operation takes
/// constant time on average. The hash is seeded per table, so that nobody can prepare keys that
/// collide; nothing that can be observed depends on the seed.
#[derive(Debug, Default)]
pub(crate) struct Entries<V> {
    slots: Vec<Option<Entry<V>>>,
    /// Places in `slots` of all entries but those that equal nothing.
    index: HashTable<u32>,
    live: usize,
    /// All slots before this one are gaps.
    first: usize,
    hasher: RandomState,
    /// Room for the key that is being looked for.
    wanted: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Entry<V> {
    /// As it was first inserted.
    pub(crate) item: Box<[u8]>,
    pub(crate) value: V,
    key: StoredKey,
}

/// Most keys are their own encoding, and are not stored twice.
#[derive(Debug)]
enum StoredKey {
    Item,
    Other(Box<[u8]>),
    /// It contains NaN: it can be seen, but not found.
    Nothing,
}

impl<V> Entry<V> {
    fn key(&self) -> Option<&[u8]> {
        match &self.key {
            StoredKey::Item => Some(&self.item),
            StoredKey::Other(key) => Some(key),
            StoredKey::Nothing => None,
        }
    }
}

/// What [`Entries::insert`] did.
pub(crate) enum Inserted<V> {
    /// Nothing equal was there.
    New,
    /// The value of an equal item was replaced; the item stays.
    Replaced(V),
}

impl<V> Entries<V> {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Whether an equal item is in the table.
    ///
    /// # Errors
    /// Raised `TypeError` for what is not hashable. The same goes for all that take an item.
    pub(crate) fn contains(&mut self, item: &[u8]) -> Result<bool, Fault> {
        Ok(self.place(item)?.is_some())
    }

    pub(crate) fn get(&mut self, item: &[u8]) -> Result<Option<&V>, Fault> {
        Ok(self.place(item)?.map(|place| &self.slots[place].as_ref().expect(INDEXED).value))
    }

    pub(crate) fn insert(&mut self, item: &[u8], value: V) -> Result<Inserted<V>, Fault> {
        if let Some(place) = self.place(item)? {
            let entry = self.slots[place].as_mut().expect(INDEXED);
            return Ok(Inserted::Replaced(std::mem::replace(&mut entry.value, value)));
        }
        // `place` has left the key in `wanted`, empty if the item equals nothing.
        let place = u32::try_from(self.slots.len())
            .map_err(|_| Fault::raised("MemoryError", format!("a table holds {} items at most", u32::MAX)))?;
        let key = if self.wanted.is_empty() {
            StoredKey::Nothing
        } else {
            let hash = self.hasher.hash_one(&self.wanted[..]);
            let (slots, hasher) = (&self.slots, &self.hasher);
            self.index.insert_unique(hash, place, |place| hash_of(slots, hasher, *place));
            if *self.wanted == *item { StoredKey::Item } else { StoredKey::Other(self.wanted[..].into()) }
        };
        self.slots.push(Some(Entry { item: item.into(), value, key }));
        self.live += 1;
        Ok(Inserted::New)
    }

    pub(crate) fn remove(&mut self, item: &[u8]) -> Result<Option<Entry<V>>, Fault> {
        Ok(self.place(item)?.map(|place| self.remove_at(place)))
    }

    /// Removes the newest entry.
    pub(crate) fn pop(&mut self) -> Option<Entry<V>> {
        let place = self.slots.iter().rposition(Option::is_some)?;
        let entry = self.remove_at(place);
        // Without the gaps at the end the next pop need not look past them.
        self.slots.truncate(place);
        self.first = self.first.min(place);
        Some(entry)
    }

    pub(crate) fn clear(&mut self) -> Vec<Option<Entry<V>>> {
        self.index.clear();
        (self.live, self.first) = (0, 0);
        std::mem::take(&mut self.slots)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry<V>> + Clone {
        self.slots[self.first..].iter().flatten()
    }

    /// The first entry at or after a place, and its place.
    pub(crate) fn at_or_after(&self, place: usize) -> Option<(usize, &Entry<V>)> {
        (place.max(self.first)..self.slots.len()).find_map(|place| Some((place, self.slots[place].as_ref()?)))
    }

    /// The last entry before a place, and its place.
    pub(crate) fn before(&self, place: usize) -> Option<(usize, &Entry<V>)> {
        (self.first..place.min(self.slots.len())).rev().find_map(|place| Some((place, self.slots[place].as_ref()?)))
    }

    /// One more than the last place.
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }

    /// Closes the gaps if they outnumber the entries, and moves `cursors`, which are places, along.
    pub(crate) fn tidy<'a>(&mut self, cursors: impl Iterator<Item = &'a mut usize>) {
        if self.slots.len() <= 2 * self.live + 8 {
            return;
        }
        let mut cursors: Vec<_> = cursors.collect();
        cursors.sort_unstable();
        let mut cursors = cursors.into_iter().peekable();
        let mut kept = 0;
        for (place, slot) in self.slots.iter().enumerate() {
            while let Some(cursor) = cursors.next_if(|cursor| **cursor <= place) {
                *cursor = kept;
            }
            kept += usize::from(slot.is_some());
        }
        for cursor in cursors {
            *cursor = kept;
        }
        self.slots.retain(Option::is_some);
        self.slots.shrink_to(2 * self.live);
        self.first = 0;
        self.index.clear();
        let (slots, hasher) = (&self.slots, &self.hasher);
        for place in 0..slots.len() as u32 {
            if slots[place as usize].as_ref().is_some_and(|entry| entry.key().is_some()) {
                self.index.insert_unique(hash_of(slots, hasher, place), place, |place| hash_of(slots, hasher, *place));
            }
        }
        self.index.shrink_to(2 * self.live, |place| hash_of(slots, hasher, *place));
    }

    fn remove_at(&mut self, place: usize) -> Entry<V> {
        if self.slots[place].as_ref().expect(INDEXED).key().is_some() {
            let hash = hash_of(&self.slots, &self.hasher, place as u32);
            self.index
                .find_entry(hash, |candidate| *candidate as usize == place)
                .expect("an entry that can be found is indexed")
                .remove();
        }
        let entry = self.slots[place].take().expect(INDEXED);
        self.live -= 1;
        while self.slots.get(self.first).is_some_and(Option::is_none) {
            self.first += 1;
        }
        entry
    }

    /// Where an equal item is; leaves its key in `wanted`.
    fn place(&mut self, item: &[u8]) -> Result<Option<usize>, Fault> {
        self.wanted.clear();
        self.wanted.shrink_to(4096);
        if !key::put(item, &mut self.wanted)? {
            self.wanted.clear();
            return Ok(None);
        }
        let hash = self.hasher.hash_one(&self.wanted[..]);
        let is_wanted =
            |place: &u32| self.slots[*place as usize].as_ref().expect(INDEXED).key() == Some(&self.wanted[..]);
        Ok(self.index.find(hash, is_wanted).map(|place| *place as usize))
    }
}

const INDEXED: &str = "the index names entries only";

fn hash_of<V>(slots: &[Option<Entry<V>>], hasher: &RandomState, place: u32) -> u64 {
    hasher.hash_one(slots[place as usize].as_ref().and_then(Entry::key).expect(INDEXED))
}
