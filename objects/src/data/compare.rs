//! Python's equality and ordering of values, on encoded items.
//!
//! Items are decoded only if their bytes do not settle the matter. Numbers compare by their exact
//! value (see [`super::EXACT_BITS_MAX`]). Two differences from CPython, both because values are copies here: NaN is not
//! even equal to itself inside containers, and a signalling NaN is unequal to everything instead of raising.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::HashMap;

use steward_wire::cbor::{self, Kind, Reader};

use super::number::{Exact, Number};
use super::{decode, key, type_name};
use crate::{Fault, Value};

/// Whether `a == b`, as Python compares the values of two encoded items.
///
/// Opaque items are equal if format and bytes are, tokens if they name the same object. Bytes that are no item equal
/// no item.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    Wanted::new(a).equals(b)
}

/// An item that many others are compared with. It is decoded once at most, so that looking through small items for
/// a large one takes time for the small ones only.
pub(crate) struct Wanted<'a> {
    item: &'a [u8],
    /// `None` if it is no item.
    value: OnceCell<Option<Value>>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(item: &'a [u8]) -> Self {
        Self { item, value: OnceCell::new() }
    }

    /// [`equal`].
    pub(crate) fn equals(&self, other: &[u8]) -> bool {
        match (scalar(self.item), scalar(other)) {
            (Some(a), Some(b)) => a == b,
            (Some(Scalar::Text(_) | Scalar::Null), None) | (None, Some(Scalar::Text(_) | Scalar::Null)) => false,
            _ if self.item == other && !may_hold_nan(other) => true,
            _ => match (self.value.get_or_init(|| Value::decode(self.item).ok()), Value::decode(other)) {
                (Some(a), Ok(b)) => equal_values(a, &b),
                _ => false,
            },
        }
    }
}

/// Whether `a < b`, as Python compares the values of two encoded items.
///
/// # Errors
/// Raised `TypeError` for values without order, worded as CPython words it; raised `InvalidOperation` for a Decimal and
/// NaN; raised `OverflowError` beyond [`super::EXACT_BITS_MAX`]. Refused `Malformed` for what is not an item.
pub fn less(a: &[u8], b: &[u8]) -> Result<bool, Fault> {
    match (scalar(a), scalar(b)) {
        (Some(Scalar::Int(a)), Some(Scalar::Int(b))) => Ok(a < b),
        // UTF-8 sorts as the code points do.
        (Some(Scalar::Text(a)), Some(Scalar::Text(b))) | (Some(Scalar::Bytes(a)), Some(Scalar::Bytes(b))) => Ok(a < b),
        _ => less_values(&decode(a)?, &decode(b)?),
    }
}

/// What can be compared without decoding.
#[derive(PartialEq)]
enum Scalar<'a> {
    Null,
    /// A bool, too.
    Int(i64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

fn scalar(item: &[u8]) -> Option<Scalar<'_>> {
    let mut reader = Reader::new(item);
    let head = reader.head().ok()?;
    let rest = &item[reader.position()..];
    Some(match head.kind {
        Kind::Unsigned => Scalar::Int(i64::try_from(head.argument).ok()?),
        Kind::Negative => Scalar::Int(!i64::try_from(head.argument).ok()?),
        Kind::Text => Scalar::Text(rest),
        Kind::Bytes => Scalar::Bytes(rest),
        Kind::Simple => match item[0] {
            cbor::TRUE => Scalar::Int(1),
            cbor::FALSE => Scalar::Int(0),
            cbor::NULL => Scalar::Null,
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether NaN may stand anywhere inside: as a float, or as something that is tagged.
fn may_hold_nan(item: &[u8]) -> bool {
    let mut reader = Reader::new(item);
    while !reader.is_empty() {
        let before = reader.clone();
        let Ok(head) = reader.head() else { return true };
        match head.kind {
            Kind::Float | Kind::Tag => return true,
            Kind::Bytes | Kind::Text => {
                reader = before;
                if reader.raw().is_err() {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// [`equal`] of decoded values.
pub(crate) fn equal_values(a: &Value, b: &Value) -> bool {
    use Value::*;
    match (a, b) {
        (Int(a), Int(b)) => a == b,
        (BigInt(a), BigInt(b)) => a == b,
        (Float(a), Float(b)) => a == b,
        (Text(a), Text(b)) => a == b,
        (Bytes(a) | ByteArray(a), Bytes(b) | ByteArray(b)) => a == b,
        (List(a), List(b)) | (Tuple(a), Tuple(b)) | (Array(_, a), Array(_, b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal_values(a, b))
        }
        (Map(a), Map(b)) => a.len() == b.len() && equal_maps(a, b),
        (Set(a) | FrozenSet(a), Set(b) | FrozenSet(b)) => {
            let keys = || Ok::<_, Fault>((key::element_keys(a)?, key::element_keys(b)?));
            a.len() == b.len() && matches!(keys(), Ok((Some(a), Some(b))) if a == b)
        }
        (Token(a), Token(b)) => a == b,
        (Opaque { format: a, bytes: a_bytes }, Opaque { format: b, bytes: b_bytes }) => a == b && a_bytes == b_bytes,
        (Date(a), Date(b)) => a == b,
        (TimeDelta(a), TimeDelta(b)) => a == b,
        (Uuid(a), Uuid(b)) => a == b,
        (Null, Null) => true,
        (Time(_), Time(_)) | (DateTime(..), DateTime(..)) | (Complex(..), _) | (_, Complex(..)) => {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            matches!((key::put_value(a, &mut left), key::put_value(b, &mut right)), (Ok(true), Ok(true)))
                && left == right
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => matches!(a.order(&b), Ok(Some(Ordering::Equal))),
            _ => false,
        },
    }
}

fn equal_maps(a: &[(Value, Value)], b: &[(Value, Value)]) -> bool {
    let mut values = HashMap::with_capacity(b.len());
    for (name, value) in b {
        let mut name_key = Vec::new();
        if !matches!(key::put_value(name, &mut name_key), Ok(true)) {
            return false;
        }
        values.insert(name_key, value);
    }
    a.iter().all(|(name, value)| {
        let mut name_key = Vec::new();
        matches!(key::put_value(name, &mut name_key), Ok(true))
            && values.get(&name_key).is_some_and(|other| equal_values(value, other))
    })
}

/// [`less`] of decoded values.
pub(crate) fn less_values(a: &Value, b: &Value) -> Result<bool, Fault> {
    use Value::*;
    Ok(match (a, b) {
        (Int(a), Int(b)) => a < b,
        (BigInt(a), BigInt(b)) => a < b,
        (Float(a), Float(b)) => a < b,
        (Text(a), Text(b)) => a < b,
        (Bytes(a) | ByteArray(a), Bytes(b) | ByteArray(b)) => a < b,
        (List(a), List(b)) | (Tuple(a), Tuple(b)) | (Array(_, a), Array(_, b)) => {
            match a.iter().zip(b).find(|(a, b)| !equal_values(a, b)) {
                Some((a, b)) => less_values(a, b)?,
                None => a.len() < b.len(),
            }
        }
        (Set(a) | FrozenSet(a), Set(b) | FrozenSet(b)) => is_proper_subset(a, b)?,
        (Date(a), Date(b)) => a < b,
        (TimeDelta(a), TimeDelta(b)) => a < b,
        (Uuid(a), Uuid(b)) => a < b,
        (Time(a), Time(b)) => {
            check_same_awareness(a.offset_s.is_some() == b.offset_s.is_some(), "times")?;
            key::microseconds(0, a) < key::microseconds(0, b)
        }
        (DateTime(date_a, a), DateTime(date_b, b)) => {
            check_same_awareness(a.offset_s.is_some() == b.offset_s.is_some(), "datetimes")?;
            key::instant(*date_a, a) < key::instant(*date_b, b)
        }
        _ => match (number(a), number(b)) {
            (Some(left), Some(right)) => match left.order(&right) {
                Ok(Some(order)) => order == Ordering::Less,
                Ok(None) if matches!(a, Decimal(_)) || matches!(b, Decimal(_)) => {
                    return Err(Fault::raised("InvalidOperation", "[<class 'decimal.InvalidOperation'>]"));
                }
                Ok(None) => false,
                Err(_) => {
                    let limit = super::EXACT_BITS_MAX;
                    return Err(Fault::raised(
                        "OverflowError",
                        format!("comparing a Decimal takes numbers of more than {limit} bits"),
                    ));
                }
            },
            _ => return Err(unordered("<", a, b)),
        },
    })
}

/// The `TypeError` of values that a comparison does not order.
pub(crate) fn unordered(operator: &str, a: &Value, b: &Value) -> Fault {
    Fault::raised(
        "TypeError",
        format!("'{operator}' not supported between instances of '{}' and '{}'", type_name(a), type_name(b)),
    )
}

fn check_same_awareness(same: bool, what: &str) -> Result<(), Fault> {
    if same {
        Ok(())
    } else {
        Err(Fault::raised("TypeError", format!("can't compare offset-naive and offset-aware {what}")))
    }
}

fn is_proper_subset(a: &[Value], b: &[Value]) -> Result<bool, Fault> {
    let Some(a) = key::element_keys(a)? else { return Ok(false) };
    // NaN among the elements of the larger set is one more that the smaller lacks.
    let mut larger = Vec::with_capacity(b.len());
    for element in b {
        let mut bytes = Vec::new();
        larger.push(key::put_value(element, &mut bytes)?.then_some(bytes));
    }
    larger.sort_unstable();
    larger.dedup_by(|a, b| a.is_some() && a == b);
    Ok(a.len() < larger.len() && a.into_iter().all(|key| larger.binary_search(&Some(key)).is_ok()))
}

/// A value as a number that has an order: complex ones have none.
fn number(value: &Value) -> Option<Number> {
    Some(match value {
        Value::Bool(value) => Number::Finite(Exact::from(i64::from(*value))),
        Value::Int(value) => Number::Finite(Exact::from(*value)),
        Value::BigInt(value) => Number::Finite(Exact::from(value)),
        Value::Float(value) => Number::of_float(*value),
        Value::Decimal(value) => Number::of_decimal(value),
        _ => return None,
    })
}
