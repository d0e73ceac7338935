//! Values: round trips, and ciborium as the oracle of what an item is.

use ciborium::value::Value as Oracle;
use num_bigint::BigInt;
use proptest::prelude::*;
use steward_wire::check::DEPTH_MAX;
use steward_wire::value::{self, ConvertError, Date, Value, from_serde, to_serde};
use steward_wire::{Ident, Limits, Malformed, Token, check};

use crate::properties;
use crate::support::{any_token, any_value, hex, near_items};

const ANY: Limits = Limits { depth_max: DEPTH_MAX, items_max: u64::MAX };

/// Ciborium's decoder, which must consume all.
fn oracle(item: &[u8]) -> Option<Oracle> {
    let mut rest = item;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 4 * DEPTH_MAX as usize).ok()?;
    rest.is_empty().then_some(value)
}

/// Whether ciborium 0.2.2 hands the integers in this value to serde: it refuses those from -2^128 to below -2^127.
fn oracle_takes(value: &Value) -> bool {
    let refused = |int: &BigInt| *int < BigInt::from(i128::MIN) && int.bits() <= 128;
    match value {
        Value::BigInt(int) => !refused(int),
        Value::Decimal(value::Decimal::Finite { negative: true, digits, .. }) => !refused(&-digits),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.iter().all(oracle_takes)
        }
        Value::Map(pairs) => pairs.iter().all(|(key, value)| oracle_takes(key) && oracle_takes(value)),
        _ => true,
    }
}

proptest! {
    #[test]
    fn every_value_survives_its_encoding(value in any_value(6)) {
        let item = value.to_vec();
        let decoded = Value::decode(&item).expect("a value's own encoding");
        prop_assert_eq!(decoded.to_vec(), item, "one encoding per value");
        // `NaN != NaN`, so equality is asked of the debug form, which tells all else apart too.
        prop_assert_eq!(format!("{decoded:?}"), format!("{value:?}"));
    }

    #[test]
    fn the_validator_takes_what_the_encoder_writes(value in any_value(6)) {
        let item = value.to_vec();
        let checked = check(&item, &Limits::default()).expect("a value's own encoding");
        let mut tokens = 0;
        value::tokens(&item, &mut |_| tokens += 1);
        prop_assert_eq!(checked.tokens, tokens > 0);
        prop_assert!(checked.items <= item.len() as u64);
    }

    #[test]
    fn ciborium_reads_what_the_encoder_writes_and_back(value in any_value(6).prop_filter("ciborium", oracle_takes)) {
        let read = oracle(&value.to_vec()).expect("ciborium reads our items");
        let mut written = Vec::new();
        ciborium::into_writer(&read, &mut written).unwrap();
        let back = Value::decode(&written).expect("we read ciborium's items, short floats included");
        prop_assert_eq!(back.to_vec(), value.to_vec());
    }

    #[test]
    fn values_are_fields_of_users_types(value in any_value(4).prop_filter("ciborium", oracle_takes), token in any_token()) {
        let job = Job { token, many: vec![value.clone(), Value::Null], maybe: Some(value.clone()) };
        let item = from_serde(&job).expect("serializable");
        check(&item, &ANY).expect("accepted");
        let back: Job = to_serde(&item).expect("the same type");
        prop_assert_eq!(&back.token, &job.token);
        prop_assert_eq!(&back.token.typeid, &job.token.typeid);
        prop_assert_eq!(back.many[0].to_vec(), value.to_vec());
        // To serde a null is the absence of an optional field.
        prop_assert_eq!(back.maybe.unwrap_or(Value::Null).to_vec(), value.to_vec());
    }

    #[test]
    fn what_the_validator_takes_ciborium_decodes(bytes in near_items()) {
        if check(&bytes, &ANY).is_ok() {
            // The one thing it cannot decode was explained above.
            let takes = Value::decode(&bytes).map_or(true, |value| oracle_takes(&value));
            prop_assert!(!takes || oracle(&bytes).is_some(), "{bytes:02x?}");
        }
    }

    #[test]
    fn near_items_do_no_harm(bytes in near_items()) {
        properties::item(&bytes);
        properties::frame(&bytes);
        properties::sign_in(&bytes);
    }
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Job {
    token: Token,
    many: Vec<Value>,
    maybe: Option<Value>,
}

#[track_caller]
fn refused(digits: &str, why: Malformed) {
    assert_eq!(check(&hex(digits), &Limits::default()), Err(why.clone()), "checking {digits}");
    assert_eq!(Value::decode(&hex(digits)), Err(why), "decoding {digits}");
}

#[test]
fn each_fault_of_an_item_has_its_name() {
    refused("", Malformed::Truncated);
    refused("18", Malformed::Truncated);
    refused("62 61", Malformed::Truncated);
    refused("9b ffffffffffffffff", Malformed::Truncated);
    refused("bb 8000000000000000", Malformed::Truncated);
    refused("bb 7fffffffffffffff", Malformed::Truncated);
    refused("00 00", Malformed::Trailing(1));
    refused("9f ff", Malformed::Indefinite);
    refused("7f 61 61 ff", Malformed::Indefinite);
    refused("ff", Malformed::Indefinite);
    refused("1c", Malformed::Reserved(0x1c));
    refused("f7", Malformed::Reserved(0xf7));
    refused("f8 16", Malformed::Reserved(0xf8));
    refused("61 ff", Malformed::NotUtf8);
    refused("c1 00", Malformed::UnknownTag(1));
    refused("d9d9f7 00", Malformed::UnknownTag(55_799));
    refused("d9d3b8 00", Malformed::BadTag { tag: value::tag::TUPLE, found: "an unsigned integer" });
    refused("c2 00", Malformed::BadTag { tag: value::tag::POSITIVE_BIGNUM, found: "an unsigned integer" });
    refused("d825 41 00", Malformed::BadTag { tag: value::tag::UUID, found: "bytes of another length than 16" });
    refused("d9d3bb 82 00 00", Malformed::BadTag { tag: value::tag::COMPLEX, found: "an unsigned integer" });
    refused(
        "d9d3be 83 1907e7 02 181d",
        Malformed::BadTag { tag: value::tag::DATE, found: "a number out of its range" },
    );
    refused("d9d3bc 82 01 01", Malformed::BadTag { tag: value::tag::SPECIAL_DECIMAL, found: "an unknown form" });
    refused("d9d3c1 82 61 69 81 80", Malformed::BadTag { tag: value::tag::ARRAY, found: "an array" });
    refused("d9d3c2 82 61 61 00", Malformed::BadTag { tag: value::tag::TOKEN, found: "an array of another length" });
}

#[test]
fn the_29th_of_february_exists_every_fourth_year_but_for_three_centuries_in_four() {
    for (year, leap) in [(2023, false), (2024, true), (1900, false), (2000, true)] {
        let date = Value::Date(Date { year, month: 2, day: 29 });
        assert_eq!(Value::decode(&date.to_vec()).is_ok(), leap, "{year}");
    }
}

#[test]
fn the_deepest_allowed_item_passes_and_one_level_more_does_not() {
    for depth_max in [1, 32, 33, 200] {
        let limits = Limits { depth_max, ..Limits::default() };
        let nested = |levels: u32| [vec![0x81; levels as usize], vec![0]].concat();
        assert!(check(&nested(depth_max), &limits).is_ok());
        assert_eq!(check(&nested(depth_max + 1), &limits), Err(Malformed::TooDeep(depth_max)));
    }
    // A tag is as deep as what it carries.
    let tuples = [b"\xd9\xd3\xb8\x81".repeat(32), vec![0]].concat();
    assert!(check(&tuples, &Limits::default()).is_ok());
}

#[test]
fn decoding_bounds_its_recursion() {
    let deepest = [vec![0x81; DEPTH_MAX as usize], vec![0x80]].concat();
    assert_eq!(Value::decode(&deepest), Err(Malformed::TooDeep(DEPTH_MAX)));
    assert!(Value::decode(&deepest[1..]).is_ok());
    let hostile = vec![0x81; 10_000_000];
    assert_eq!(Value::decode(&hostile), Err(Malformed::TooDeep(DEPTH_MAX)));
    // Whatever is set, nothing goes deeper.
    let limits = Limits { depth_max: u32::MAX, items_max: u64::MAX };
    assert_eq!(check(&hostile, &limits), Err(Malformed::TooDeep(DEPTH_MAX)));
}

#[test]
fn the_last_allowed_item_passes_and_one_more_does_not() {
    let item = Value::List(vec![Value::Uuid([0; 16]), Value::Int(1)]).to_vec();
    assert_eq!(check(&item, &Limits { items_max: 4, ..ANY }).unwrap().items, 4);
    assert_eq!(check(&item, &Limits { items_max: 3, ..ANY }), Err(Malformed::TooMany(3)));
}

#[test]
fn integers_have_one_form_however_they_travel() {
    for (digits, value) in [
        ("1800", Value::Int(0)),
        ("1b 0000000000000001", Value::Int(1)),
        ("c2 41 05", Value::Int(5)),
        ("c3 43 000005", Value::Int(-6)),
        ("c2 40", Value::Int(0)),
        ("1b 8000000000000000", Value::BigInt(BigInt::from(i64::MAX) + 1)),
        ("3b 7fffffffffffffff", Value::Int(i64::MIN)),
        ("3b 8000000000000000", Value::BigInt(BigInt::from(i64::MIN) - 1)),
    ] {
        assert_eq!(Value::decode(&hex(digits)), Ok(value), "{digits}");
    }
    assert_eq!(Value::BigInt(BigInt::from(5)).to_vec(), [5]);
    assert_eq!(Value::BigInt(BigInt::from(u64::MAX) + 1).to_vec(), hex("c2 49 010000000000000000"));
}

#[test]
fn short_floats_are_read_and_never_written() {
    for (digits, value) in [
        ("f9 3c00", 1.0),
        ("f9 8000", -0.0),
        ("f9 0001", 5.960_464_477_539_063e-8),
        ("f9 7bff", 65_504.0),
        ("f9 fc00", f64::NEG_INFINITY),
        ("fa 47c35000", 100_000.0),
    ] {
        let Ok(Value::Float(float)) = Value::decode(&hex(digits)) else { panic!("{digits} is a float") };
        assert_eq!(float.to_bits(), f64::to_bits(value), "{digits}");
        assert_eq!(Value::Float(float).to_vec().len(), 9);
    }
    assert!(matches!(Value::decode(&hex("f9 7e00")), Ok(Value::Float(float)) if float.is_nan()));
}

#[test]
fn a_key_may_not_come_twice_however_it_is_written() {
    assert_eq!(Value::decode(&hex("a2 01 00 01 00")), Err(Malformed::DuplicateKey));
    assert_eq!(Value::decode(&hex("a2 01 00 1801 00")), Err(Malformed::DuplicateKey));
    assert_eq!(Value::decode(&hex("a2 f93c00 00 fa3f800000 00")), Err(Malformed::DuplicateKey));
    assert!(Value::decode(&hex("a2 01 00 f93c00 00")).is_ok(), "1 and 1.0 are compared where the map is opened");
}

#[test]
fn tokens_are_found_wherever_they_stand() {
    let token = |ident| Value::Token(Token { typeid: "Queue".into(), ident: Ident(ident), address: None });
    let decoy = Value::Bytes(token(99).to_vec());
    let value = Value::Map(vec![
        (token(1), Value::Tuple(vec![token(2), decoy, Value::Set(vec![token(2)])])),
        (Value::Text("x".into()), token(3)),
    ]);
    let item = value.to_vec();
    let mut found = Vec::new();
    value::tokens(&item, &mut |Ident(ident)| found.push(ident));
    assert_eq!(found, [1, 2, 2, 3]);
    assert!(check(&item, &ANY).unwrap().tokens);
    assert_eq!(value::token_of(&item), None);

    let abroad = Token { typeid: "Lock".into(), ident: Ident(7), address: Some("steward://a:1".into()) };
    let mut item = Vec::new();
    abroad.encode(&mut item);
    assert_eq!(value::token_of(&item), Some(abroad.as_ref()));
}

#[test]
fn lengths_unknown_to_serde_are_written_all_the_same() {
    struct Unsized;
    impl serde::Serialize for Unsized {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut items = serializer.serialize_seq(None)?;
            items.serialize_element(&1u8)?;
            items.serialize_element(&Token { typeid: "Lock".into(), ident: Ident(7), address: None })?;
            items.end()
        }
    }
    let item = from_serde(&Unsized).unwrap();
    assert_eq!(item[0], 0x82, "an array of two");
    check(&item, &ANY).unwrap();
}

#[test]
fn floats_from_serde_are_short_and_accepted() {
    let item = from_serde(&1.5f64).unwrap();
    assert_eq!(item, hex("f9 3e00"));
    assert_eq!(to_serde::<f64>(&item).unwrap(), 1.5);
    assert_eq!(Value::decode(&item), Ok(Value::Float(1.5)));
}

#[test]
fn conversions_say_what_was_wrong() {
    let error = to_serde::<String>(&[0x05]).unwrap_err();
    assert!(matches!(error, ConvertError::Decode(_)), "{error}");
    let error = to_serde::<u64>(&[0x05, 0x05]).unwrap_err();
    assert!(matches!(error, ConvertError::Malformed(Malformed::Trailing(1))), "{error}");
    let error = from_serde(&ciborium::tag::Required::<_, 99>(1)).unwrap_err();
    assert!(matches!(error, ConvertError::Malformed(Malformed::UnknownTag(99))), "{error}");
    assert!(to_serde::<Token>(&[0x05]).is_err());
}
