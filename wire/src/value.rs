//! The values that travel and that referents hold: CBOR items with a small set of tags.

use num_bigint::BigInt;

use crate::{Malformed, Token};

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
    /// Python's `array.array`: a typecode and the elements.
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
    /// # Errors
    /// [`Malformed`], duplicate map keys of the same encoding included.
    pub fn decode(item: &[u8]) -> Result<Self, Malformed> {
        let _ = item;
        todo!()
    }

    /// Appends the value's one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }

    /// The value's one encoding.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}
