//! What the tests of the wire share: any value at random.

use num_bigint::{BigInt, Sign};
use proptest::prelude::*;
use steward_wire::value::{Date, Decimal, Time, TimeDelta, Value};
use steward_wire::{Ident, Token};

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
