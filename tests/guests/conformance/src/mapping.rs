//! Python's `dict`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use steward_guest::prelude::*;
use steward_objects::data::{Key, repr};

/// Pairs in the order their keys came.
#[allow(non_camel_case_types, reason = "Python's name, which errors show")]
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<(Item, Item)>")]
pub struct dict {
    /// Where each key stands; keys that Python takes for the same are the same bytes.
    places: BTreeMap<Vec<u8>, u64>,
    pairs: BTreeMap<u64, Pair>,
    place_next: u64,
}

#[derive(Clone, Debug)]
struct Pair {
    key: Item,
    value: Item,
    /// Its key in `places`.
    identity: Vec<u8>,
}

/// A dict.
#[object(version = "1.0.0", name = "GuestDict")]
impl dict {
    /// A dict of the pairs of a mapping or of an iterable of pairs, and of the keywords.
    pub fn new(#[rest] other: Vec<Item>, #[keywords] kwargs: Vec<(String, Item)>) -> Result<Self> {
        let mut made = Self::default();
        made.absorb("dict", &other, kwargs)?;
        Ok(made)
    }

    /// Says whether a key is in the dict.
    pub fn __contains__(&self, key: Item) -> Result<bool> {
        Ok(self.find(&key)?.is_some())
    }

    /// Removes a key. Raises KeyError if it is not there.
    pub fn __delitem__(&mut self, key: Item) -> Result<()> {
        self.pop(key, Vec::new()).map(drop)
    }

    /// Returns the value of a key. Raises KeyError if it is not there.
    pub fn __getitem__(&self, key: Item) -> Result<&Item> {
        match self.find(&key)? {
            Some(pair) => Ok(&pair.value),
            None => key_error(&key),
        }
    }

    /// Returns the number of keys.
    pub fn __len__(&self) -> usize {
        self.pairs.len()
    }

    /// Sets the value of a key.
    pub fn __setitem__(&mut self, key: Item, value: Item) -> Result<()> {
        match identity(&key)? {
            Some(identity) => self.set(identity.into_owned(), key, value),
            None => self.set_nan(key, value),
        }
        Ok(())
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns a copy.
    pub fn copy(&self) -> Mapping<'_> {
        Mapping(&self.pairs)
    }

    /// Returns the value of a key, or `default`.
    pub fn get(&self, key: Item, #[default(None)] default: Option<Item>) -> Result<Option<Cow<'_, Item>>> {
        Ok(self.find(&key)?.map(|pair| Cow::Borrowed(&pair.value)).or(default.map(Cow::Owned)))
    }

    /// Returns a list of pairs.
    pub fn items(&self) -> Vec<(&Item, &Item)> {
        self.pairs.values().map(|pair| (&pair.key, &pair.value)).collect()
    }

    /// Returns a list of the keys.
    pub fn keys(&self) -> Vec<&Item> {
        self.pairs.values().map(|pair| &pair.key).collect()
    }

    /// Removes a key and returns its value, or `default`. Raises KeyError if it is not there and no default is given.
    pub fn pop(&mut self, key: Item, #[rest] default: Vec<Item>) -> Result<Item> {
        let place = match identity(&key)? {
            Some(identity) => self.places.remove(&*identity),
            None => None,
        };
        match (place, default.into_iter().next()) {
            (Some(place), _) => Ok(self.pairs.remove(&place).expect("every place has a pair").value),
            (None, Some(default)) => Ok(default),
            (None, None) => key_error(&key),
        }
    }

    /// Removes and returns the newest pair. Raises KeyError if the dict is empty.
    pub fn popitem(&mut self) -> Result<(Item, Item)> {
        match self.pairs.pop_last() {
            Some((_, pair)) => {
                self.places.remove(&pair.identity);
                Ok((pair.key, pair.value))
            }
            None => key_error(&Item::new("popitem(): dictionary is empty").expect("text can be encoded")),
        }
    }

    /// Returns the value of a key, which is set to `default` first if it is missing.
    pub fn setdefault(&mut self, key: Item, #[default(None)] default: Option<Item>) -> Result<Item> {
        if let Some(pair) = self.find(&key)? {
            return Ok(pair.value.clone());
        }
        let default = default.unwrap_or_else(|| Item::new(&()).expect("null can be encoded"));
        self.__setitem__(key, default.clone())?;
        Ok(default)
    }

    /// Takes over the pairs of a mapping or of an iterable of pairs, and the keyword arguments, in one step.
    pub fn update(&mut self, #[rest] other: Vec<Item>, #[keywords] kwargs: Vec<(String, Item)>) -> Result<()> {
        self.absorb("update", &other, kwargs)
    }

    /// Returns a list of the values.
    pub fn values(&self) -> Vec<&Item> {
        self.pairs.values().map(|pair| &pair.value).collect()
    }

    /// A copy for `_getvalue()`.
    #[method(name = "#GETVALUE")]
    pub fn value(&self) -> Mapping<'_> {
        self.copy()
    }

    /// `str(dict)`.
    pub fn __str__(&self) -> String {
        let pairs = self.pairs.values().map(|pair| format!("{}: {}", repr(&pair.key), repr(&pair.value)));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    }

    /// `repr(dict)`.
    pub fn __repr__(&self) -> String {
        self.__str__()
    }

    fn find(&self, key: &Item) -> Result<Option<&Pair>> {
        let place = identity(key)?.and_then(|identity| self.places.get(&*identity));
        Ok(place.map(|place| &self.pairs[place]))
    }

    fn set(&mut self, identity: Vec<u8>, key: Item, value: Item) {
        if let Some(place) = self.places.get(&identity) {
            // The first key stays, as in Python.
            self.pairs.get_mut(place).expect("every place has a pair").value = value;
            return;
        }
        self.places.insert(identity.clone(), self.place_next);
        self.pairs.insert(self.place_next, Pair { key, value, identity });
        self.place_next += 1;
    }

    /// NaN equals nothing, so each is a key of its own, which no other key's bytes can be.
    fn set_nan(&mut self, key: Item, value: Item) {
        let bytes = [&[0xff, 0xff][..], &self.place_next.to_be_bytes()].concat();
        self.set(bytes, key, value);
    }

    /// Sets all pairs, or none if one of them cannot be.
    fn absorb(&mut self, name: &str, other: &[Item], kwargs: Vec<(String, Item)>) -> Result<()> {
        let mut pairs = match other {
            [] => Vec::new(),
            [other] => match other.decode::<Pairs>() {
                Ok(Pairs(pairs)) => pairs,
                Err(error) => return raise("TypeError", error.to_string()),
            },
            others => return raise("TypeError", format!("{name} expected at most 1 argument, got {}", others.len())),
        };
        pairs.extend(kwargs.into_iter().map(|(key, value)| (Item::new(&key).expect("text can be encoded"), value)));
        for (key, _) in &pairs {
            identity(key)?;
        }
        pairs.into_iter().try_for_each(|(key, value)| self.__setitem__(key, value))
    }
}

/// What identifies a key; `None` if it equals nothing.
fn identity(key: &Item) -> Result<Option<Cow<'_, [u8]>>> {
    let item = key.as_bytes();
    if Key::is_item(item) {
        return Ok(Some(Cow::Borrowed(item)));
    }
    match Key::of(item) {
        Ok(key) => Ok(key.map(|key| Cow::Owned(key.as_bytes().to_vec()))),
        Err(fault) => raise(fault.kind, fault.message),
    }
}

fn key_error<T>(key: &Item) -> Result<T> {
    Err(Fault::new("KeyError", repr(key)).with_data(key).into())
}

fn repr(item: &Item) -> String {
    repr::repr(item.as_bytes()).unwrap_or_else(|fault| fault.message)
}

impl From<Vec<(Item, Item)>> for dict {
    fn from(pairs: Vec<(Item, Item)>) -> Self {
        let mut made = Self::default();
        // What was saved was hashable.
        let _ = pairs.into_iter().try_for_each(|(key, value)| made.__setitem__(key, value));
        made
    }
}

impl Serialize for dict {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pairs.values().map(|pair| (&pair.key, &pair.value)))
    }
}

/// The pairs as a map.
#[derive(Debug)]
pub struct Mapping<'a>(&'a BTreeMap<u64, Pair>);

impl Serialize for Mapping<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.values().try_for_each(|pair| map.serialize_entry(&pair.key, &pair.value))?;
        map.end()
    }
}

/// The pairs of a mapping or of an iterable of pairs.
struct Pairs(Vec<(Item, Item)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping or an iterable of pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = items.next_element()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(Take)
    }
}
