//! What the tests of the wire share: any value at random.

use num_bigint::{BigInt, Sign};
use proptest::prelude::*;
use steward_wire::cbor::{Kind, Reader};
use steward_wire::value::{Date, Decimal, Time, TimeDelta, Value};
use steward_wire::{Ident, Malformed, Token};

/// Any value that has an encoding, nested at most `depth` levels, `BigInt` only beyond 64 bits.
pub(crate) fn any_value(depth: u32) -> impl Strategy<Value = Value> {
    any_leaf().prop_recursive(depth, 64, 8, |inner| {
        let items = || prop::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            items().prop_map(Value::List),
            items().prop_map(Value::Tuple),
            items().prop_map(Value::Set),
            items().prop_map(Value::FrozenSet),
            prop::collection::vec((inner.clone(), inner.clone()), 0..6).prop_map(|pairs| Value::Map(distinct(pairs))),
        ]
    })
}

/// Any value without others inside.
pub(crate) fn any_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any_int().prop_map(Value::Int),
        any_bigint().prop_map(Value::BigInt),
        any_float().prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
        any::<Vec<u8>>().prop_map(Value::ByteArray),
        (any_float(), any_float()).prop_map(|(real, imaginary)| Value::Complex(real, imaginary)),
        any_decimal().prop_map(Value::Decimal),
        any_date().prop_map(Value::Date),
        any_time().prop_map(Value::Time),
        (any_date(), any_time()).prop_map(|(date, time)| Value::DateTime(date, time)),
        (-999_999_999..=999_999_999, 0u32..86_400, 0u32..1_000_000)
            .prop_map(|(days, seconds, microseconds)| Value::TimeDelta(TimeDelta { days, seconds, microseconds })),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        (any::<char>(), prop::collection::vec(any_element(), 0..8))
            .prop_map(|(typecode, elements)| Value::Array(typecode, elements)),
        any_token().prop_map(Value::Token),
        (any::<String>(), any::<Vec<u8>>()).prop_map(|(format, bytes)| Value::Opaque { format, bytes }),
    ]
}

/// Any token.
pub(crate) fn any_token() -> impl Strategy<Value = Token> {
    (any::<String>(), any::<u64>(), any::<Option<String>>()).prop_map(|(typeid, ident, address)| Token {
        typeid,
        ident: Ident(ident),
        address,
    })
}

/// Integers of every width of head.
fn any_int() -> impl Strategy<Value = i64> {
    (any::<i64>(), 0u32..64).prop_map(|(bits, shift)| bits >> shift)
}

/// Doubles; of the NaNs only the one that every implementation writes the same.
fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_map(|float| if float.is_nan() { f64::NAN } else { float }),
        Just(-0.0),
        Just(1.5),
        Just(f64::NEG_INFINITY),
        Just(f64::NAN),
        Just(f64::MIN_POSITIVE / 4.0),
    ]
}

fn any_bigint() -> impl Strategy<Value = BigInt> {
    prop_oneof![
        Just(BigInt::from(i64::MIN) - 1),
        Just(BigInt::from(i64::MAX) + 1),
        Just(BigInt::from(u64::MAX)),
        Just(BigInt::from(u64::MAX) + 1),
        Just(-1 - BigInt::from(u64::MAX)),
        Just(-2 - BigInt::from(u64::MAX)),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 9..40)).prop_map(|(negative, mut magnitude)| {
            magnitude[0] |= 1;
            BigInt::from_bytes_be(if negative { Sign::Minus } else { Sign::Plus }, &magnitude)
        }),
    ]
}

fn any_decimal() -> impl Strategy<Value = Decimal> {
    let digits = prop_oneof![
        Just(BigInt::ZERO),
        any::<u64>().prop_map(BigInt::from),
        any_bigint().prop_map(|digits| BigInt::from(digits.magnitude().clone())),
    ];
    prop_oneof![
        (any::<bool>(), digits, any_int()).prop_map(|(negative, digits, exponent)| Decimal::Finite {
            negative,
            digits,
            exponent
        }),
        any::<bool>().prop_map(|negative| Decimal::Infinity { negative }),
        any::<bool>().prop_map(|signalling| Decimal::NaN { signalling }),
    ]
}

fn any_date() -> impl Strategy<Value = Date> {
    (1u16..=9_999, 1u8..=12, 1u8..=28).prop_map(|(year, month, day)| Date { year, month, day })
}

fn any_time() -> impl Strategy<Value = Time> {
    (0u8..24, 0u8..60, 0u8..60, 0u32..1_000_000, prop::option::of(-86_399..=86_399), any::<bool>()).prop_map(
        |(hour, minute, second, microsecond, offset_s, fold)| Time {
            hour,
            minute,
            second,
            microsecond,
            offset_s,
            fold,
        },
    )
}

fn any_element() -> impl Strategy<Value = Value> {
    prop_oneof![
        any_int().prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(|int| Value::BigInt(int.into())),
        any_float().prop_map(Value::Float),
        any::<char>().prop_map(|char| Value::Text(char.into())),
    ]
}

fn distinct(pairs: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    let mut keys = std::collections::HashSet::new();
    pairs.into_iter().filter(|(key, _)| keys.insert(key.to_vec())).collect()
}

/// Items that are nearly right: noise, heads in random order, and real items with a few bytes changed or cut off.
pub(crate) fn near_items() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop::collection::vec(
        prop_oneof![
            (0u8..=0x17).prop_map(|small| vec![small]),
            (0u8..8, 0u8..4).prop_map(|(major, small)| vec![major << 5 | small]),
            Just(b"\x61a".to_vec()),
            Just(vec![0xf6]),
            Just(vec![0xd9, 0x01, 0x02]),
            Just(vec![0xc2, 0x42, 1, 2]),
            (54_200u16..54_213).prop_map(|tag| [&[0xd9][..], &tag.to_be_bytes()].concat()),
            any::<u8>().prop_map(|any| vec![any]),
        ],
        0..24,
    )
    .prop_map(|heads| heads.concat());
    let changed =
        (any_value(4), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), any::<bool>())
            .prop_map(|(value, changes, cut)| {
                let mut bytes = value.to_vec();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                if cut {
                    bytes.pop();
                }
                bytes
            });
    prop_oneof![any::<Vec<u8>>(), heads, changed]
}

/// The bytes written as hexadecimal digits, blanks ignored.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Hexadecimal digits of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The item in diagnostic notation (RFC 8949, section 8).
pub(crate) fn diagnostic(item: &[u8]) -> String {
    let mut reader = Reader::new(item);
    let text = diagnose(&mut reader).expect("an item that was written here");
    assert!(reader.is_empty());
    text
}

fn diagnose(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let head = reader.head()?;
    let n = head.argument;
    let list = |items: Vec<String>| items.join(", ");
    Ok(match head.kind {
        Kind::Unsigned => n.to_string(),
        Kind::Negative => (-1 - i128::from(n)).to_string(),
        Kind::Bytes => format!("h'{}'", to_hex(reader.payload(n)?)),
        Kind::Text => format!("{:?}", String::from_utf8_lossy(reader.payload(n)?)),
        Kind::Array => {
            format!("[{}]", list((0..n).map(|_| diagnose(reader)).collect::<Result<_, _>>()?))
        }
        Kind::Map => {
            let pair = |_| Ok(format!("{}: {}", diagnose(reader)?, diagnose(reader)?));
            format!("{{{}}}", list((0..n).map(pair).collect::<Result<_, Malformed>>()?))
        }
        Kind::Tag => format!("{n}({})", diagnose(reader)?),
        Kind::Float => match head.f64().expect("the head is a float's") {
            float if float.is_nan() => "NaN".into(),
            float if float.is_infinite() => if float > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            float => format!("{float:?}"),
        },
        Kind::Simple => match n {
            20 => "false".into(),
            21 => "true".into(),
            22 => "null".into(),
            other => format!("simple({other})"),
        },
    })
}
