//! The values that travel and that referents hold: CBOR items with a small set of tags.

mod convert;
mod leaf;
pub mod tag;

use num_bigint::BigInt;

use crate::Malformed;
use crate::cbor::{self, Kind, Reader};
use crate::check::{DEPTH_MAX, Limits, check};
use crate::token::{Ident, Token, TokenRef};
pub use convert::{ConvertError, from_serde, put_serde, to_serde};
use leaf::{DATE_FIELDS, Integer, TIME_FIELDS, put_bigint};
pub(crate) use leaf::{Leaf, utf8};

/// Any value of Steward's model, decoded.
///
/// Two values compare equal here when they are the same value of the same type; equality and ordering
/// as Python has them (`1 == 1.0 == True`) live with the built-in types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer that fits 64 bits with sign.
    Int(i64),
    /// Any other integer.
    BigInt(BigInt),
    /// A double.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Python's `bytearray`.
    ByteArray(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A map with any hashable keys, in insertion order.
    Map(Vec<(Value, Value)>),
    /// A set, in the order its elements were given.
    Set(Vec<Value>),
    /// A frozen set.
    FrozenSet(Vec<Value>),
    /// A complex number.
    Complex(f64, f64),
    /// A decimal number, special values included.
    Decimal(Decimal),
    /// A calendar date: year, month, day.
    Date(Date),
    /// A time of day.
    Time(Time),
    /// A date and a time of day.
    DateTime(Date, Time),
    /// A duration.
    TimeDelta(TimeDelta),
    /// A UUID (RFC 9562).
    Uuid([u8; 16]),
    /// Python's `array.array`: a typecode and the elements, which are integers of 64 bits, floats or texts.
    Array(char, Vec<Value>),
    /// A proxy's name: the value is the object itself.
    Token(Token),
    /// Something that only clients understand, a pickle for example.
    Opaque {
        /// What it is, for example `pickle`.
        format: String,
        /// Its bytes, which the host never opens.
        bytes: Vec<u8>,
    },
}

/// A decimal number as Python's `decimal.Decimal` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// `digits × 10^exponent`, negative if so said: minus zero exists.
    Finite {
        /// Sign.
        negative: bool,
        /// The digits as a number, never negative.
        digits: BigInt,
        /// The power of ten.
        exponent: i64,
    },
    /// Infinity with a sign.
    Infinity {
        /// Sign.
        negative: bool,
    },
    /// Not a number; signalling if so said.
    NaN {
        /// Signalling.
        signalling: bool,
    },
}

/// A calendar date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A time of day, with the offset of its zone if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub microsecond: u32,
    /// Seconds east of UTC, within a day; `None` for a naive time.
    pub offset_s: Option<i32>,
    /// The second of two equal wall-clock times (PEP 495).
    pub fold: bool,
}

/// A duration as Python's `datetime.timedelta` normalises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeDelta {
    /// Whole days, negative for a negative duration; within 999,999,999 either way.
    pub days: i32,
    /// 0 to 86,399.
    pub seconds: u32,
    /// 0 to 999,999.
    pub microseconds: u32,
}

impl Value {
    /// Decodes exactly one item, which need not have been checked before.
    ///
    /// Integers come as [`Value::Int`] whenever they fit it, floats of any width as doubles. What is allocated is
    /// bounded by the item: one `Value` for each item inside it, and the strings.
    ///
    /// # Errors
    /// [`Malformed`], as [`crate::check()`] with [`DEPTH_MAX`] and any number of items; and duplicate map keys, which are
    /// keys of the same type and value here (`1` and `1.0` are two keys to this function).
    pub fn decode(item: &[u8]) -> Result<Self, Malformed> {
        // After this every length is true and the depth is bounded, so what follows may trust both.
        check(item, &Limits { depth_max: DEPTH_MAX, items_max: u64::MAX })?;
        Self::read(&mut Reader::new(item))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let head = reader.head()?;
        Ok(match head.kind {
            Kind::Unsigned => Integer::Unsigned(head.argument).into_value(),
            Kind::Negative => Integer::Negative(head.argument).into_value(),
            Kind::Float => Self::Float(head.f64().expect("the head is a float's")),
            Kind::Bytes => Self::Bytes(reader.payload(head.argument)?.to_vec()),
            Kind::Text => Self::Text(utf8(reader.payload(head.argument)?)?.to_owned()),
            Kind::Array => Self::List(Self::read_all(reader, head.argument)?),
            Kind::Map => Self::Map(Self::read_pairs(reader, head.argument)?),
            // The validator lets three simple values through: false, true and null.
            Kind::Simple if head.argument == NULL_ARGUMENT => Self::Null,
            Kind::Simple => Self::Bool(head.argument == TRUE_ARGUMENT),
            Kind::Tag => match head.argument {
                tag::TUPLE => Self::Tuple(Self::read_array(reader)?),
                tag::SET => Self::Set(Self::read_array(reader)?),
                tag::FROZEN_SET => Self::FrozenSet(Self::read_array(reader)?),
                leaf => Leaf::read(reader, leaf)?.into_value()?,
            },
        })
    }

    fn read_array(reader: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        let items = reader.array()?;
        Self::read_all(reader, items as u64)
    }

    fn read_all(reader: &mut Reader<'_>, items: u64) -> Result<Vec<Self>, Malformed> {
        // Exactly as many, since the item was validated: no growth, so nothing is allocated twice.
        let mut values = Vec::with_capacity(usize::try_from(items).map_err(|_| Malformed::Truncated)?);
        for _ in 0..items {
            values.push(Self::read(reader)?);
        }
        Ok(values)
    }

    fn read_pairs(reader: &mut Reader<'_>, pairs: u64) -> Result<Vec<(Self, Self)>, Malformed> {
        let mut read = Vec::with_capacity(usize::try_from(pairs).map_err(|_| Malformed::Truncated)?);
        for _ in 0..pairs {
            read.push((Self::read(reader)?, Self::read(reader)?));
        }
        // Compared by their one encoding, since the received ones may differ in the width of a head or float.
        let mut encoded = Vec::new();
        let mut keys: Vec<_> = read
            .iter()
            .map(|(key, _)| {
                let start = encoded.len();
                key.encode(&mut encoded);
                start..encoded.len()
            })
            .collect();
        keys.sort_unstable_by(|a, b| encoded[a.clone()].cmp(&encoded[b.clone()]));
        if keys.windows(2).any(|two| encoded[two[0].clone()] == encoded[two[1].clone()]) {
            return Err(Malformed::DuplicateKey);
        }
        Ok(read)
    }

    /// Appends the value's one encoding: shortest heads, doubles in eight bytes, integers of 64 bits without a tag.
    ///
    /// Fields outside their documented range are written as they are, and refused by whoever receives them. It recurses
    /// as deep as the value nests.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => cbor::put_null(out),
            Self::Bool(value) => cbor::put_bool(out, *value),
            Self::Int(value) => cbor::put_i64(out, *value),
            Self::BigInt(value) => put_bigint(out, value),
            Self::Float(value) => cbor::put_f64(out, *value),
            Self::Text(value) => cbor::put_text(out, value),
            Self::Bytes(value) => cbor::put_bytes(out, value),
            Self::ByteArray(value) => {
                cbor::put_tag(out, tag::BYTE_ARRAY);
                cbor::put_bytes(out, value);
            }
            Self::List(items) => put_items(out, items),
            Self::Tuple(items) => {
                cbor::put_tag(out, tag::TUPLE);
                put_items(out, items);
            }
            Self::Map(pairs) => {
                cbor::put_map(out, pairs.len());
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
            Self::Set(items) => {
                cbor::put_tag(out, tag::SET);
                put_items(out, items);
            }
            Self::FrozenSet(items) => {
                cbor::put_tag(out, tag::FROZEN_SET);
                put_items(out, items);
            }
            Self::Complex(real, imaginary) => {
                cbor::put_tag(out, tag::COMPLEX);
                cbor::put_array(out, 2);
                cbor::put_f64(out, *real);
                cbor::put_f64(out, *imaginary);
            }
            Self::Decimal(decimal) => decimal.encode(out),
            Self::Date(date) => {
                cbor::put_tag(out, tag::DATE);
                cbor::put_array(out, DATE_FIELDS);
                date.put_fields(out);
            }
            Self::Time(time) => {
                cbor::put_tag(out, tag::TIME);
                cbor::put_array(out, TIME_FIELDS);
                time.put_fields(out);
            }
            Self::DateTime(date, time) => {
                cbor::put_tag(out, tag::DATE_TIME);
                cbor::put_array(out, DATE_FIELDS + TIME_FIELDS);
                date.put_fields(out);
                time.put_fields(out);
            }
            Self::TimeDelta(delta) => {
                cbor::put_tag(out, tag::TIME_DELTA);
                cbor::put_array(out, 3);
                cbor::put_i64(out, delta.days.into());
                cbor::put_u64(out, delta.seconds.into());
                cbor::put_u64(out, delta.microseconds.into());
            }
            Self::Uuid(bytes) => {
                cbor::put_tag(out, tag::UUID);
                cbor::put_bytes(out, bytes);
            }
            Self::Array(typecode, elements) => {
                cbor::put_tag(out, tag::ARRAY);
                cbor::put_array(out, 2);
                cbor::put_text(out, typecode.encode_utf8(&mut [0; 4]));
                put_items(out, elements);
            }
            Self::Token(token) => token.encode(out),
            Self::Opaque { format, bytes } => {
                cbor::put_tag(out, tag::OPAQUE);
                cbor::put_array(out, 2);
                cbor::put_text(out, format);
                cbor::put_bytes(out, bytes);
            }
        }
    }

    /// The value's one encoding.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

const TRUE_ARGUMENT: u64 = (cbor::TRUE & 0x1f) as u64;
const NULL_ARGUMENT: u64 = (cbor::NULL & 0x1f) as u64;

fn put_items(out: &mut Vec<u8>, items: &[Value]) {
    cbor::put_array(out, items.len());
    for item in items {
        item.encode(out);
    }
}

/// Calls `each` with every token inside `item`, front to back, nested ones and repeated ones included.
///
/// The item must have passed [`check()`]; of any other, what precedes the first fault is visited.
pub fn tokens(item: &[u8], each: &mut impl FnMut(Ident)) {
    // Items stand one after the other in depth-first order, so no structure has to be followed.
    let mut reader = Reader::new(item);
    while !reader.is_empty() {
        let Ok(head) = reader.head() else { return };
        match head.kind {
            Kind::Bytes | Kind::Text if reader.payload(head.argument).is_err() => return,
            Kind::Tag if head.argument == tag::TOKEN => match TokenRef::read(&mut reader) {
                Ok(token) => each(token.ident),
                Err(_) => return,
            },
            _ => {}
        }
    }
}

/// The token that `item` is, if it is one.
pub fn token_of(item: &[u8]) -> Option<TokenRef<'_>> {
    let mut reader = Reader::new(item);
    let head = reader.head().ok()?;
    if head.kind != Kind::Tag || head.argument != tag::TOKEN {
        return None;
    }
    let token = TokenRef::read(&mut reader).ok()?;
    reader.is_empty().then_some(token)
}
