//! What stands under the tags that hold no arbitrary values.
//!
//! The validator and the decoder both read these shapes here, so they cannot disagree on them. Reading allocates
//! nothing.

use num_bigint::{BigInt, Sign};

use super::{Date, Decimal, Time, TimeDelta, Value, tag};
use crate::Malformed;
use crate::cbor::{self, Kind, Reader};
use crate::token::TokenRef;

/// What a tag carries, the tags around arbitrary values (tuple, set, frozen set) excepted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf<'a> {
    Integer(Integer<'a>),
    Decimal { exponent: i64, digits: Integer<'a> },
    SpecialDecimal { form: u64, exponent: i64 },
    Uuid([u8; 16]),
    ByteArray(&'a [u8]),
    Complex(f64, f64),
    Date(Date),
    Time(Time),
    DateTime(Date, Time),
    TimeDelta(TimeDelta),
    Array { typecode: char, elements: &'a [u8], count: u64 },
    Token(TokenRef<'a>),
    Opaque { format: &'a str, bytes: &'a [u8] },
}

impl<'a> Leaf<'a> {
    /// Reads what stands under `tag`, whose head has been read.
    pub(crate) fn read(reader: &mut Reader<'a>, tag: u64) -> Result<Self, Malformed> {
        Ok(match tag {
            tag::POSITIVE_BIGNUM => Self::Integer(Integer::BigUnsigned(reader.bytes()?)),
            tag::NEGATIVE_BIGNUM => Self::Integer(Integer::BigNegative(reader.bytes()?)),
            tag::DECIMAL => {
                fields(reader, tag, 2)?;
                Self::Decimal { exponent: reader.i64()?, digits: Integer::read(reader)? }
            }
            tag::SPECIAL_DECIMAL => {
                fields(reader, tag, 2)?;
                let (form, exponent) = (reader.u64()?, reader.i64()?);
                if form > SIGNALLING_NAN || (form != MINUS_ZERO && exponent != 0) {
                    return Err(Malformed::BadTag { tag, found: "an unknown form" });
                }
                Self::SpecialDecimal { form, exponent }
            }
            tag::UUID => match reader.bytes()?.try_into() {
                Ok(bytes) => Self::Uuid(bytes),
                Err(_) => return Err(Malformed::BadTag { tag, found: "bytes of another length than 16" }),
            },
            tag::BYTE_ARRAY => Self::ByteArray(reader.bytes()?),
            tag::COMPLEX => {
                fields(reader, tag, 2)?;
                Self::Complex(reader.f64()?, reader.f64()?)
            }
            tag::DATE => {
                fields(reader, tag, DATE_FIELDS)?;
                Self::Date(Date::read_fields(reader, tag)?)
            }
            tag::TIME => {
                fields(reader, tag, TIME_FIELDS)?;
                Self::Time(Time::read_fields(reader, tag)?)
            }
            tag::DATE_TIME => {
                fields(reader, tag, DATE_FIELDS + TIME_FIELDS)?;
                Self::DateTime(Date::read_fields(reader, tag)?, Time::read_fields(reader, tag)?)
            }
            tag::TIME_DELTA => {
                fields(reader, tag, 3)?;
                let days = reader.i64()?;
                let days = i32::try_from(days).ok().filter(|days| days.unsigned_abs() <= 999_999_999);
                Self::TimeDelta(TimeDelta {
                    days: days.ok_or(Malformed::BadTag { tag, found: "days beyond 999999999" })?,
                    seconds: number(reader, tag, 0, 86_399)?,
                    microseconds: number(reader, tag, 0, 999_999)?,
                })
            }
            tag::ARRAY => {
                fields(reader, tag, 2)?;
                let mut typecode = reader.text()?.chars();
                let (Some(typecode), None) = (typecode.next(), typecode.next()) else {
                    return Err(Malformed::BadTag { tag, found: "a typecode of another length than one character" });
                };
                let count = reader.array()? as u64;
                let start = reader.position();
                for _ in 0..count {
                    let head = reader.head()?;
                    match head.kind {
                        Kind::Unsigned | Kind::Negative | Kind::Float => {}
                        Kind::Text => {
                            utf8(reader.payload(head.argument)?)?;
                        }
                        other => return Err(Malformed::BadTag { tag, found: other.name() }),
                    }
                }
                Self::Array { typecode, elements: reader.since(start), count }
            }
            tag::TOKEN => Self::Token(TokenRef::read(reader)?),
            tag::OPAQUE => {
                fields(reader, tag, 2)?;
                Self::Opaque { format: reader.text()?, bytes: reader.bytes()? }
            }
            unknown => return Err(Malformed::UnknownTag(unknown)),
        })
    }

    /// How many items were read, without the tag itself.
    pub(crate) fn items(&self) -> u64 {
        match self {
            Self::Integer(_) | Self::Uuid(_) | Self::ByteArray(_) => 1,
            Self::Decimal { digits, .. } => 2 + digits.items(),
            Self::SpecialDecimal { .. } | Self::Complex(..) | Self::Opaque { .. } => 3,
            Self::Date(_) => 1 + DATE_FIELDS as u64,
            Self::Time(_) => 1 + TIME_FIELDS as u64,
            Self::DateTime(..) => 1 + (DATE_FIELDS + TIME_FIELDS) as u64,
            Self::TimeDelta(_) | Self::Token(_) => 4,
            Self::Array { count, .. } => 3 + count,
        }
    }

    pub(crate) fn into_value(self) -> Result<Value, Malformed> {
        Ok(match self {
            Self::Integer(integer) => integer.into_value(),
            Self::Decimal { exponent, digits } => {
                let digits = digits.into_bigint();
                let negative = digits.sign() == Sign::Minus;
                Value::Decimal(Decimal::Finite { negative, digits: digits.magnitude().clone().into(), exponent })
            }
            Self::SpecialDecimal { form, exponent } => Value::Decimal(match form {
                MINUS_ZERO => Decimal::Finite { negative: true, digits: BigInt::ZERO, exponent },
                INFINITY => Decimal::Infinity { negative: false },
                MINUS_INFINITY => Decimal::Infinity { negative: true },
                NAN => Decimal::NaN { signalling: false },
                _ => Decimal::NaN { signalling: true },
            }),
            Self::Uuid(bytes) => Value::Uuid(bytes),
            Self::ByteArray(bytes) => Value::ByteArray(bytes.to_vec()),
            Self::Complex(real, imaginary) => Value::Complex(real, imaginary),
            Self::Date(date) => Value::Date(date),
            Self::Time(time) => Value::Time(time),
            Self::DateTime(date, time) => Value::DateTime(date, time),
            Self::TimeDelta(delta) => Value::TimeDelta(delta),
            Self::Array { typecode, elements, count } => {
                Value::Array(typecode, Value::read_all(&mut Reader::new(elements), count)?)
            }
            Self::Token(token) => Value::Token(token.to_token()),
            Self::Opaque { format, bytes } => Value::Opaque { format: format.to_owned(), bytes: bytes.to_vec() },
        })
    }
}

/// An integer on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Integer<'a> {
    /// `n`
    Unsigned(u64),
    /// `-1 - n`
    Negative(u64),
    /// `n`, big-endian.
    BigUnsigned(&'a [u8]),
    /// `-1 - n`, big-endian.
    BigNegative(&'a [u8]),
}

impl<'a> Integer<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let head = reader.head()?;
        match (head.kind, head.argument) {
            (Kind::Unsigned, n) => Ok(Self::Unsigned(n)),
            (Kind::Negative, n) => Ok(Self::Negative(n)),
            (Kind::Tag, tag::POSITIVE_BIGNUM) => Ok(Self::BigUnsigned(reader.bytes()?)),
            (Kind::Tag, tag::NEGATIVE_BIGNUM) => Ok(Self::BigNegative(reader.bytes()?)),
            (other, _) => Err(Malformed::Expected(Kind::Unsigned, other)),
        }
    }

    fn items(self) -> u64 {
        match self {
            Self::Unsigned(_) | Self::Negative(_) => 1,
            Self::BigUnsigned(_) | Self::BigNegative(_) => 2,
        }
    }

    fn into_bigint(self) -> BigInt {
        match self {
            Self::Unsigned(n) => BigInt::from(n),
            Self::Negative(n) => -1 - BigInt::from(n),
            Self::BigUnsigned(n) => BigInt::from_bytes_be(Sign::Plus, n),
            Self::BigNegative(n) => -1 - BigInt::from_bytes_be(Sign::Plus, n),
        }
    }

    /// [`Value::Int`] whenever it fits, however it travelled.
    pub(crate) fn into_value(self) -> Value {
        let small = match self {
            Self::Unsigned(n) => i64::try_from(n).ok(),
            Self::Negative(n) => i64::try_from(n).ok().map(|n| -1 - n),
            Self::BigUnsigned(_) | Self::BigNegative(_) => i64::try_from(&self.into_bigint()).ok(),
        };
        small.map_or_else(|| Value::BigInt(self.into_bigint()), Value::Int)
    }
}

/// Appends an integer of any size: without a tag if 64 bits hold it.
pub(crate) fn put_bigint(out: &mut Vec<u8>, value: &BigInt) {
    let negative = value.sign() == Sign::Minus;
    // A negative number travels as `-1 - value`.
    let argument = if negative { value.magnitude() - 1u8 } else { value.magnitude().clone() };
    match (u64::try_from(&argument), negative) {
        (Ok(small), false) => cbor::put_u64(out, small),
        (Ok(small), true) => cbor::put_negative(out, small),
        (Err(_), _) => {
            cbor::put_tag(out, if negative { tag::NEGATIVE_BIGNUM } else { tag::POSITIVE_BIGNUM });
            cbor::put_bytes(out, &argument.to_bytes_be());
        }
    }
}

const MINUS_ZERO: u64 = 0;
const INFINITY: u64 = 1;
const MINUS_INFINITY: u64 = 2;
const NAN: u64 = 3;
const SIGNALLING_NAN: u64 = 4;

impl Decimal {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (form, exponent) = match self {
            Self::Finite { negative, digits, exponent } if !negative || digits.sign() != Sign::NoSign => {
                cbor::put_tag(out, tag::DECIMAL);
                cbor::put_array(out, 2);
                cbor::put_i64(out, *exponent);
                let sign = if *negative { Sign::Minus } else { Sign::Plus };
                put_bigint(out, &BigInt::from_biguint(sign, digits.magnitude().clone()));
                return;
            }
            Self::Finite { exponent, .. } => (MINUS_ZERO, *exponent),
            Self::Infinity { negative } => (if *negative { MINUS_INFINITY } else { INFINITY }, 0),
            Self::NaN { signalling } => (if *signalling { SIGNALLING_NAN } else { NAN }, 0),
        };
        cbor::put_tag(out, tag::SPECIAL_DECIMAL);
        cbor::put_array(out, 2);
        cbor::put_u64(out, form);
        cbor::put_i64(out, exponent);
    }
}

pub(crate) const DATE_FIELDS: usize = 3;
pub(crate) const TIME_FIELDS: usize = 6;

impl Date {
    fn read_fields(reader: &mut Reader<'_>, tag: u64) -> Result<Self, Malformed> {
        let (year, month) = (number(reader, tag, 1, 9_999)?, number(reader, tag, 1, 12)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        Ok(Self { year: year as u16, month: month as u8, day: number(reader, tag, 1, days)? as u8 })
    }

    pub(crate) fn put_fields(&self, out: &mut Vec<u8>) {
        cbor::put_u64(out, self.year.into());
        cbor::put_u64(out, self.month.into());
        cbor::put_u64(out, self.day.into());
    }
}

impl Time {
    fn read_fields(reader: &mut Reader<'_>, tag: u64) -> Result<Self, Malformed> {
        let (hour, minute) = (number(reader, tag, 0, 23)? as u8, number(reader, tag, 0, 59)? as u8);
        let (second, microsecond) = (number(reader, tag, 0, 59)? as u8, number(reader, tag, 0, 999_999)?);
        let offset_s = if reader.null() {
            None
        } else {
            let offset = i32::try_from(reader.i64()?).ok().filter(|offset| offset.unsigned_abs() < 86_400);
            Some(offset.ok_or(Malformed::BadTag { tag, found: "an offset of a day or more" })?)
        };
        Ok(Self { hour, minute, second, microsecond, offset_s, fold: number(reader, tag, 0, 1)? == 1 })
    }

    pub(crate) fn put_fields(&self, out: &mut Vec<u8>) {
        cbor::put_u64(out, self.hour.into());
        cbor::put_u64(out, self.minute.into());
        cbor::put_u64(out, self.second.into());
        cbor::put_u64(out, self.microsecond.into());
        match self.offset_s {
            Some(offset_s) => cbor::put_i64(out, offset_s.into()),
            None => cbor::put_null(out),
        }
        cbor::put_u64(out, self.fold.into());
    }
}

/// Reads the head of the array of `fields` items that `tag` must carry.
fn fields(reader: &mut Reader<'_>, tag: u64, fields: usize) -> Result<(), Malformed> {
    if reader.array()? == fields { Ok(()) } else { Err(Malformed::BadTag { tag, found: "an array of another length" }) }
}

fn number(reader: &mut Reader<'_>, tag: u64, least: u32, most: u32) -> Result<u32, Malformed> {
    match u32::try_from(reader.u64()?) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Malformed::BadTag { tag, found: "a number out of its range" }),
    }
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)
}
