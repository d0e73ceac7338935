//! Keys of dicts and elements of sets: what the values that Python treats as one key have in common.

use steward_wire::cbor::{self, Head, Kind, Reader};
use steward_wire::value::{Date, Decimal, Time};

use super::number::{Exact, Number};
use super::{decode, type_name};
use crate::{Fault, Value};

/// What identifies a hashable value: two keys are equal exactly when Python treats the values as one dict key,
/// so `1`, `1.0`, `True`, `Decimal(1)` and `complex(1, 0)` have the same.
///
/// Texts, bytes, `None` and integers of up to 64 bits are their own shortest encoding; everything else starts with
/// 0xff, which starts no item. Each form says where it ends, so that those of a tuple can follow one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The key of an encoded item; `None` if it is or contains NaN, which equals nothing, not even itself.
    ///
    /// The work is linear in the item, but for numbers: see [`super::EXACT_BITS_MAX`].
    ///
    /// # Errors
    /// Raised `TypeError: unhashable type: 'list'` for what cannot be a key. Refused `Malformed` for what is not
    /// an item.
    pub fn of(item: &[u8]) -> Result<Option<Self>, Fault> {
        let mut bytes = Vec::with_capacity(item.len());
        Ok(put(item, &mut bytes)?.then(|| Self(bytes.into())))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether an item, which is a valid one, is its own key: then it takes no memory to look it up.
    pub fn is_item(item: &[u8]) -> bool {
        let mut reader = Reader::new(item);
        let Ok(Head { kind, argument, width }) = reader.head() else { return false };
        let is_shortest = match width {
            0 => true,
            1 => argument >= 24,
            width => argument >> (4 * u32::from(width)) > 0,
        };
        let is_its_own = match kind {
            Kind::Unsigned | Kind::Text | Kind::Bytes => true,
            Kind::Negative => argument < i64::MAX as u64,
            _ => false,
        };
        is_shortest && is_its_own
    }
}

/// Appends the key of an item; false, and nothing useful appended, if the item equals nothing.
pub(crate) fn put(item: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
    let mut reader = Reader::new(item);
    let Head { kind, argument, .. } = reader.head().map_err(super::malformed)?;
    match kind {
        Kind::Unsigned => cbor::put_u64(out, argument),
        Kind::Negative if argument < i64::MAX as u64 => cbor::put_i64(out, !(argument as i64)),
        Kind::Text => cbor::put_text(out, Reader::new(item).text().map_err(super::malformed)?),
        Kind::Bytes => cbor::put_bytes(out, Reader::new(item).bytes().map_err(super::malformed)?),
        Kind::Simple if item[0] == cbor::TRUE => cbor::put_u64(out, 1),
        Kind::Simple if item[0] == cbor::FALSE => cbor::put_u64(out, 0),
        Kind::Array => return Err(unhashable("list")),
        Kind::Map => return Err(unhashable("dict")),
        _ => return put_value(&decode(item)?, out),
    }
    Ok(true)
}

/// [`put`] of a decoded value.
pub(crate) fn put_value(value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
    fn tagged(out: &mut Vec<u8>, tag: u8) -> &mut Vec<u8> {
        out.extend_from_slice(&[0xff, tag]);
        out
    }
    match value {
        Value::Null => cbor::put_null(out),
        Value::Text(text) => cbor::put_text(out, text),
        Value::Bytes(bytes) => cbor::put_bytes(out, bytes),
        Value::Bool(value) => cbor::put_u64(out, u64::from(*value)),
        Value::Int(value) => cbor::put_i64(out, *value),
        Value::BigInt(value) => Exact::from(value).put_key(out),
        Value::Float(value) => return Ok(Number::of_float(*value).put_key(out)),
        Value::Decimal(Decimal::NaN { signalling: true }) => {
            return Err(Fault::raised("TypeError", "Cannot hash a signaling NaN value"));
        }
        Value::Decimal(value) => return Ok(Number::of_decimal(value).put_key(out)),
        Value::Complex(real, imaginary) if *imaginary == 0.0 => return Ok(Number::of_float(*real).put_key(out)),
        Value::Complex(real, imaginary) => {
            let out = tagged(out, b'c');
            return Ok(Number::of_float(*real).put_key(out) && Number::of_float(*imaginary).put_key(out));
        }
        Value::Tuple(items) => {
            cbor::put_u64(tagged(out, b't'), items.len() as u64);
            let mut findable = true;
            for item in items {
                // Go on after NaN: a later element may be unhashable.
                findable &= put_value(item, out)?;
            }
            return Ok(findable);
        }
        Value::FrozenSet(items) => {
            let Some(elements) = element_keys(items)? else { return Ok(false) };
            cbor::put_u64(tagged(out, b's'), elements.len() as u64);
            for element in elements {
                out.extend_from_slice(&element);
            }
        }
        Value::Date(Date { year, month, day }) => {
            let out = tagged(out, b'd');
            out.extend_from_slice(&year.to_be_bytes());
            out.extend_from_slice(&[*month, *day]);
        }
        Value::Time(time) => put_instant(tagged(out, b'h'), 0, time),
        Value::DateTime(date, time) => put_instant(tagged(out, b'D'), days(*date), time),
        Value::TimeDelta(delta) => {
            let out = tagged(out, b'l');
            out.extend_from_slice(&delta.days.to_be_bytes());
            out.extend_from_slice(&delta.seconds.to_be_bytes());
            out.extend_from_slice(&delta.microseconds.to_be_bytes());
        }
        Value::Uuid(bytes) => tagged(out, b'u').extend_from_slice(bytes),
        Value::Token(token) => {
            let out = tagged(out, b'p');
            cbor::put_u64(out, token.ident.0);
            match &token.address {
                Some(address) => cbor::put_text(out, address),
                None => cbor::put_null(out),
            }
        }
        Value::Opaque { format, bytes } => {
            let out = tagged(out, b'o');
            cbor::put_text(out, format);
            cbor::put_bytes(out, bytes);
        }
        Value::ByteArray(_) | Value::List(_) | Value::Map(_) | Value::Set(_) | Value::Array(..) => {
            return Err(unhashable(type_name(value)));
        }
    }
    Ok(true)
}

/// The keys of a set's elements, sorted; `None` if an element equals nothing.
///
/// A set that was sent with equal elements, as Python never does, keeps them and equals only its like: dropping them would
/// make a comparison as long as the longer set.
pub(crate) fn element_keys(items: &[Value]) -> Result<Option<Vec<Vec<u8>>>, Fault> {
    let mut findable = true;
    let mut keys = Vec::with_capacity(items.len());
    for item in items {
        let mut key = Vec::new();
        findable &= put_value(item, &mut key)?;
        keys.push(key);
    }
    keys.sort_unstable();
    Ok(findable.then_some(keys))
}

fn unhashable(type_name: &str) -> Fault {
    Fault::raised("TypeError", format!("unhashable type: '{type_name}'"))
}

/// Equal times on different clocks have the same key, as they are equal in Python.
fn put_instant(out: &mut Vec<u8>, days: i64, time: &Time) {
    out.push(u8::from(time.offset_s.is_some()));
    out.extend_from_slice(&microseconds(days, time).to_be_bytes());
}

/// Days from the start of year 0 in the proleptic Gregorian calendar.
fn days(date: Date) -> i64 {
    // Years that start in March have their leap day last.
    let year = i64::from(date.year) - i64::from(date.month < 3);
    let month = (i64::from(date.month) + 9) % 12;
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + i64::from(date.day)
}

/// Microseconds since the start of day 0, in UTC if the time has an offset.
pub(crate) fn microseconds(days: i64, time: &Time) -> i64 {
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
    let seconds = days * 86_400 + seconds - i64::from(time.offset_s.unwrap_or(0));
    seconds * 1_000_000 + i64::from(time.microsecond)
}

/// The same of a date and a time of day.
pub(crate) fn instant(date: Date, time: &Time) -> i64 {
    microseconds(days(date), time)
}
