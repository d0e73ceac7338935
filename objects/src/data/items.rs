//! Encoded items as arguments and as stored things: what list, dict, set, Array and the others share.

use num_bigint::BigInt;
use steward_wire::cbor::{self, Kind, Reader};
use steward_wire::value::{self, tag};

use super::{decode, malformed, type_name};
use crate::{Fault, Outbox, Value};

/// A stored item; it stays encoded until an operation needs to look inside.
pub(crate) type Item = Box<[u8]>;

/// Most items that repeating or widening may leave in one container or result; beyond it the call raises `MemoryError`.
pub const ITEMS_MAX: usize = 1 << 20;

/// Most bytes that repeating may produce in one call; beyond it the call raises `MemoryError`.
pub const REPEAT_BYTES_MAX: usize = 16 << 20;

/// Tells the outbox of each item that a container stores or removes, and of the tokens in them, which it counts.
#[derive(Debug, Default)]
pub(crate) struct Held {
    tokens: usize,
}

impl Held {
    /// Whether any stored item contains a token.
    pub(crate) fn any(&self) -> bool {
        self.tokens > 0
    }

    /// An item is stored now. Without `may_have_tokens` it is known to have none.
    pub(crate) fn store(&mut self, item: &[u8], may_have_tokens: bool, out: &mut Outbox) {
        out.store_item(item.len());
        if may_have_tokens {
            value::tokens(item, &mut |ident| {
                self.tokens += 1;
                out.hold(ident);
            });
        }
    }

    /// An item is not stored any more.
    pub(crate) fn remove(&mut self, item: &[u8], out: &mut Outbox) {
        out.remove_item(item.len());
        if self.any() {
            value::tokens(item, &mut |ident| {
                self.tokens -= 1;
                out.let_go(ident);
            });
        }
    }
}

/// The items that iterating over an argument gives, as Python would: a dict gives its keys, text its characters.
///
/// # Errors
/// Raised `TypeError: 'int' object is not iterable`.
pub(crate) fn iterate(item: &[u8]) -> Result<Vec<Item>, Fault> {
    let mut reader = Reader::new(item);
    let head = reader.head().map_err(malformed)?;
    match (head.kind, head.argument) {
        (Kind::Array, count) => raw_items(&mut reader, count),
        (Kind::Tag, tag::TUPLE) => {
            let count = reader.array().map_err(malformed)?;
            raw_items(&mut reader, count as u64)
        }
        _ => match decode(item)? {
            Value::Set(items) | Value::FrozenSet(items) => {
                // A set that came with equal elements has each once.
                let mut entries = super::entries::Entries::default();
                for element in &items {
                    entries.insert(&element.to_vec(), ())?;
                }
                Ok(entries.iter().map(|entry| entry.item.clone()).collect())
            }
            Value::Array(_, items) => Ok(items.iter().map(encoded).collect()),
            Value::Map(pairs) => Ok(pairs.iter().map(|(key, _)| encoded(key)).collect()),
            Value::Text(text) => Ok(text.chars().map(|character| encoded(&Value::Text(character.into()))).collect()),
            Value::Bytes(bytes) | Value::ByteArray(bytes) => {
                Ok(bytes.iter().map(|byte| encoded(&Value::Int((*byte).into()))).collect())
            }
            other => Err(type_error(format!("'{}' object is not iterable", type_name(&other)))),
        },
    }
}

fn raw_items(reader: &mut Reader<'_>, count: u64) -> Result<Vec<Item>, Fault> {
    (0..count).map(|_| Ok(reader.raw().map_err(malformed)?.into())).collect()
}

/// The items that stand one after the other: the slot of `*args` or `**kwargs`.
pub(crate) fn sequence(items: Option<&[u8]>) -> Result<Vec<&[u8]>, Fault> {
    let mut reader = Reader::new(items.unwrap_or_default());
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(reader.raw().map_err(malformed)?);
    }
    Ok(found)
}

/// The pairs that `dict(item)` takes from an argument: a map's, or those of an iterable of pairs.
///
/// # Errors
/// Raised `TypeError` and `ValueError` as CPython words them.
pub(crate) fn pairs(item: &[u8]) -> Result<Vec<(Item, Item)>, Fault> {
    let mut reader = Reader::new(item);
    let head = reader.head().map_err(malformed)?;
    if head.kind == Kind::Map {
        let pairs = (0..head.argument)
            .map(|_| Ok((reader.raw().map_err(malformed)?.into(), reader.raw().map_err(malformed)?.into())))
            .collect::<Result<Vec<(Item, Item)>, Fault>>()?;
        refuse_duplicates(pairs.iter().map(|(key, _)| key))?;
        return Ok(pairs);
    }
    iterate(item)?
        .iter()
        .enumerate()
        .map(|(index, pair)| {
            let pair = iterate(pair).map_err(|_| {
                type_error(format!("cannot convert dictionary update sequence element #{index} to a sequence"))
            })?;
            let length = pair.len();
            let [key, value] = <[Item; 2]>::try_from(pair).map_err(|_| {
                value_error(format!("dictionary update sequence element #{index} has length {length}; 2 is required"))
            })?;
            Ok((key, value))
        })
        .collect()
}

/// Refuses a map that has two keys which Python treats as one: which value counts would be anybody's guess.
fn refuse_duplicates<'a>(keys: impl Iterator<Item = &'a Item>) -> Result<(), Fault> {
    let mut entries = super::entries::Entries::default();
    for key in keys {
        if let super::entries::Inserted::Replaced(()) = entries.insert(key, ())? {
            return Err(malformed(steward_wire::Malformed::DuplicateKey));
        }
    }
    Ok(())
}

/// A value's own item.
pub(crate) fn encoded(value: &Value) -> Item {
    value.to_vec().into()
}

/// A whole number, or the `TypeError` of `operator.index`.
pub(crate) fn whole(item: &[u8]) -> Result<BigInt, Fault> {
    match decode(item)? {
        Value::Bool(value) => Ok(BigInt::from(u8::from(value))),
        Value::Int(value) => Ok(value.into()),
        Value::BigInt(value) => Ok(value),
        other => Err(type_error(format!("'{}' object cannot be interpreted as an integer", type_name(&other)))),
    }
}

/// A whole number of 64 bits, as C's `ssize_t` is.
pub(crate) fn ssize(item: &[u8]) -> Result<i64, Fault> {
    i64::try_from(whole(item)?)
        .map_err(|_| Fault::raised("OverflowError", "Python int too large to convert to C ssize_t"))
}

/// What Python takes for true.
pub(crate) fn truth(item: &[u8]) -> Result<bool, Fault> {
    Ok(match decode(item)? {
        Value::Null => false,
        Value::Bool(value) => value,
        Value::Int(value) => value != 0,
        Value::Float(value) => value != 0.0,
        Value::Text(value) => !value.is_empty(),
        Value::Bytes(value) | Value::ByteArray(value) => !value.is_empty(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => !items.is_empty(),
        Value::Array(_, items) => !items.is_empty(),
        Value::Map(pairs) => !pairs.is_empty(),
        Value::Complex(real, imaginary) => real != 0.0 || imaginary != 0.0,
        Value::Decimal(value::Decimal::Finite { digits, .. }) => digits.bits() > 0,
        Value::TimeDelta(delta) => (delta.days, delta.seconds, delta.microseconds) != (0, 0, 0),
        _ => true,
    })
}

/// Text, or a `TypeError` that names what was wanted.
pub(crate) fn text<'a>(item: &'a [u8], what: &str) -> Result<&'a str, Fault> {
    Reader::new(item).text().or_else(|_| {
        let found = decode(item)?;
        Err(type_error(format!("{what} must be string, not '{}'", type_name(&found))))
    })
}

/// The sum of two numbers, as Python's `+` has it for ints and floats.
///
/// # Errors
/// Raised `TypeError` for anything else, `OverflowError` when an int does not fit a float.
pub(crate) fn sum(a: &[u8], b: &[u8]) -> Result<Item, Fault> {
    fn integer(value: &Value) -> Option<BigInt> {
        match value {
            Value::Bool(value) => Some(u8::from(*value).into()),
            Value::Int(value) => Some((*value).into()),
            Value::BigInt(value) => Some(value.clone()),
            _ => None,
        }
    }
    let (a, b) = (decode(a)?, decode(b)?);
    let mismatch =
        || type_error(format!("unsupported operand type(s) for +: '{}' and '{}'", type_name(&a), type_name(&b)));
    Ok(match (&a, &b) {
        (Value::Int(x), Value::Int(y)) if x.checked_add(*y).is_some() => encoded(&Value::Int(x + y)),
        (Value::Float(x), Value::Float(y)) => encoded(&Value::Float(x + y)),
        (Value::Float(x), y) | (y, Value::Float(x)) => {
            encoded(&Value::Float(x + float(&integer(y).ok_or_else(mismatch)?)?))
        }
        _ => {
            let sum = integer(&a).ok_or_else(mismatch)? + integer(&b).ok_or_else(mismatch)?;
            integer_item(sum)
        }
    })
}

/// The item of a whole number.
pub(crate) fn integer_item(value: BigInt) -> Item {
    encoded(&i64::try_from(&value).map_or(Value::BigInt(value), Value::Int))
}

/// The nearest double, halves to even, as Python's `float(int)`.
pub(crate) fn float(value: &BigInt) -> Result<f64, Fault> {
    // The digits read back correctly rounded; an integer beyond is infinite.
    let nearest =
        if value.bits() > 1_100 { f64::INFINITY } else { value.to_string().parse().expect("digits are a number") };
    if nearest.is_finite() {
        Ok(nearest)
    } else {
        Err(Fault::raised("OverflowError", "int too large to convert to float"))
    }
}

/// Appends a list of items.
pub(crate) fn put_list<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    cbor::put_array(out, items.len());
    for item in items {
        out.extend_from_slice(item);
    }
}

/// A raised `TypeError`.
pub(crate) fn type_error(message: impl Into<String>) -> Fault {
    Fault::raised("TypeError", message)
}

/// A raised `ValueError`.
pub(crate) fn value_error(message: impl Into<String>) -> Fault {
    Fault::raised("ValueError", message)
}

/// A raised `IndexError`.
pub(crate) fn index_error(message: impl Into<String>) -> Fault {
    Fault::raised("IndexError", message)
}

/// The `KeyError` of a key that is not there: its `repr` for people, itself as data.
pub(crate) fn key_error(key: &[u8]) -> Fault {
    Fault::raised("KeyError", super::repr::quoted(key)).with_data(key.into())
}

/// The `MemoryError` of a result that would be too large.
pub(crate) fn too_large() -> Fault {
    Fault::raised("MemoryError", format!("result exceeds {ITEMS_MAX} items or {REPEAT_BYTES_MAX} bytes"))
}

/// Where an element or a slice of a sequence is meant.
///
/// A slice travels as a tuple `(start, stop, step)`, each an int or `None`: sequences take no tuple as index, so
/// there is nothing else it could mean.
pub(crate) enum Index {
    One(i64),
    Slice(Slice),
}

/// A slice, fitted to a length as Python's `slice.indices` does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) start: usize,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Index {
    /// Reads an index into a sequence of `length` elements of the type `name` (`list`, `array`).
    pub(crate) fn read(item: &[u8], length: usize, name: &str) -> Result<Self, Fault> {
        match decode(item)? {
            Value::Tuple(parts) if parts.len() == 3 => Ok(Self::Slice(Slice::fit(&parts, length as i64)?)),
            Value::Bool(value) => Ok(Self::One(i64::from(value))),
            Value::Int(value) => Ok(Self::One(value)),
            Value::BigInt(_) => Err(index_error("cannot fit 'int' into an index-sized integer")),
            other if name == "array" => {
                let _ = other;
                Err(type_error("array indices must be integers"))
            }
            other => Err(type_error(format!("{name} indices must be integers or slices, not {}", type_name(&other)))),
        }
    }

    /// The place that one index means, negative ones counted from the end.
    pub(crate) fn place(index: i64, length: usize) -> Option<usize> {
        let index = if index < 0 { index + length as i64 } else { index };
        usize::try_from(index).ok().filter(|index| *index < length)
    }
}

impl Slice {
    fn fit(parts: &[Value], length: i64) -> Result<Self, Fault> {
        // As `_PyEval_SliceIndex`: what does not fit is cut off, which changes nothing here.
        let part = |value: &Value| {
            Ok(match value {
                Value::Null => None,
                Value::Bool(value) => Some(i64::from(*value)),
                Value::Int(value) => Some(*value),
                Value::BigInt(value) => Some(if value.sign() == num_bigint::Sign::Minus { i64::MIN } else { i64::MAX }),
                _ => {
                    return Err(type_error("slice indices must be integers or None or have an __index__ method"));
                }
            })
        };
        let step = part(&parts[2])?.unwrap_or(1).max(-i64::MAX);
        let (start, stop) = (part(&parts[0])?, part(&parts[1])?);
        if step == 0 {
            return Err(value_error("slice step cannot be zero"));
        }
        let (lowest, highest) = if step < 0 { (-1, length - 1) } else { (0, length) };
        let fitted = |index: i64| if index < 0 { index.saturating_add(length) } else { index }.clamp(lowest, highest);
        let start = start.map_or(if step < 0 { highest } else { lowest }, fitted);
        let stop = stop.map_or(if step < 0 { lowest } else { highest }, fitted);
        let span = if step < 0 { start - stop } else { stop - start };
        let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
        Ok(Self { start: start.max(0) as usize, step, count: count as usize })
    }

    /// The places, in the order of the slice.
    pub(crate) fn places(self) -> impl ExactSizeIterator<Item = usize> {
        (0..self.count).map(move |n| (self.start as i64 + n as i64 * self.step) as usize)
    }
}
