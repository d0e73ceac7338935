//! What several models need: a mapping in order of insertion, and the order of values.

use rpds::RedBlackTreeMap;
use serde_json::Value;

use crate::values::{Val, Values};

/// Values by key, in the order in which the keys came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ordered {
    entries: RedBlackTreeMap<Val, (u64, Val)>,
    order: RedBlackTreeMap<u64, Val>,
    next: u64,
}

impl Ordered {
    pub(crate) fn len(&self) -> usize {
        self.entries.size()
    }

    pub(crate) fn get(&self, key: Val) -> Option<Val> {
        self.entries.get(&key).map(|(_, value)| *value)
    }

    /// Returns whether the key is new.
    pub(crate) fn insert(&mut self, key: Val, value: Val) -> bool {
        let place = self.entries.get(&key).map(|(place, _)| *place);
        let is_new = place.is_none();
        let place = place.unwrap_or(self.next);
        if is_new {
            self.next += 1;
            self.order.insert_mut(place, key);
        }
        self.entries.insert_mut(key, (place, value));
        is_new
    }

    pub(crate) fn remove(&mut self, key: Val) -> Option<Val> {
        let (place, value) = *self.entries.get(&key)?;
        self.entries.remove_mut(&key);
        self.order.remove_mut(&place);
        Some(value)
    }

    pub(crate) fn newest(&self) -> Option<(Val, Val)> {
        let (_, key) = self.order.last()?;
        Some((*key, self.get(*key).expect("every key in the order has a value")))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Val, Val)> {
        self.order.values().map(|key| (*key, self.get(*key).expect("every key in the order has a value")))
    }
}

/// A value's place among others, for `sort` and PriorityQueue. Integers beyond 2^53 are as near as floats come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Null,
    /// The bits of a float, turned so that they rise with it.
    Number(u64),
    Text(String),
    List(Vec<Rank>),
}

impl Rank {
    pub(crate) fn of(value: Val, values: &Values) -> Self {
        match value {
            Val::Null => Self::Null,
            Val::Bool(value) => Self::number(f64::from(value)),
            Val::Int(value) => Self::number(value as f64),
            Val::Other(_) => Self::of_json(values.other(value).expect("it is kept")),
        }
    }

    fn number(float: f64) -> Self {
        let bits = float.to_bits();
        Self::Number(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
    }

    fn of_json(value: &Value) -> Self {
        match value {
            Value::Null | Value::Object(_) => Self::Null,
            Value::Bool(value) => Self::number(f64::from(*value)),
            Value::Number(number) => Self::number(number.as_f64().unwrap_or(f64::MAX)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
        }
    }
}
