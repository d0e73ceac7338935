//! Values as JSON and back: every value of the model has one form, and reading what was written gives the same value.
//!
//! JSON's own types stand for themselves. Everything else is an object with one key that starts with `$`; a map that JSON
//! cannot say, one with keys that are no text or with such a key, is itself written so:
//!
//! | form | value |
//! |---|---|
//! | `{"$bytes": "aGk="}`, `$bytearray` | bytes, in Base64 (RFC 4648) |
//! | `{"$tuple": […]}`, `$set`, `$frozenset` | tuples and sets |
//! | `{"$map": [[key, value], …]}` | a map with any keys |
//! | `{"$float": "nan"}`, `"inf"`, `"-inf"` | floats that JSON lacks |
//! | `{"$complex": [1.0, -2.0]}` | a complex number |
//! | `{"$decimal": "1.50"}` | a decimal number |
//! | `{"$date": "2026-11-22"}` | a date |
//! | `{"$time": "12:30:00.5+01:00"}`, `$datetime` | times, after them ` fold` for the second of two equal ones |
//! | `{"$timedelta": [days, seconds, microseconds]}` | a duration |
//! | `{"$uuid": "…"}` | a UUID |
//! | `{"$array": ["i", […]]}` | an `array.array` |
//! | `{"$ref": "Queue#41"}` | a proxy; with `@` and an address behind it for another host. `#41` is enough to write |
//! | `{"$opaque": ["pickle", "…"]}` | something that only its format's readers understand, in Base64 |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use num_bigint::BigInt;
use serde::de::{MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use steward_client::{AnyValue as Value, Ident, Token};
use steward_wire::check::DEPTH_MAX;
use steward_wire::value::{Date, Decimal, Time, TimeDelta};

/// Why text is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is no JSON.
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It is JSON, but says no value.
    #[error("{0}")]
    Form(String),
}

const FORMS: &str = "$bytes, $bytearray, $tuple, $set, $frozenset, $map, $float, $complex, $decimal, $date, $time, $datetime, \
                     $timedelta, $uuid, $array, $ref, $opaque";

/// Reads a value.
///
/// # Errors
/// [`JsonError`]; a value that a host would not accept (a date without such a day, a key twice) is no value.
pub(crate) fn parse(text: &str) -> Result<Value, JsonError> {
    let value = read(serde_json::from_str(text)?, DEPTH_MAX)?;
    Value::decode(&value.to_vec()).map_err(|malformed| JsonError::Form(malformed.to_string()))
}

/// Writes a value on one line.
pub(crate) fn text(value: &Value) -> String {
    serde_json::to_string(&Json(value)).expect("every value has a form")
}

/// A value that serializes as its form.
pub(crate) struct Json<'a>(pub(crate) &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::BigInt(value) => {
                RawValue::from_string(value.to_string()).map_err(S::Error::custom)?.serialize(serializer)
            }
            Value::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::Float(value) => form(serializer, "$float", &infinite(*value)),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Bytes(value) => form(serializer, "$bytes", &BASE64.encode(value)),
            Value::ByteArray(value) => form(serializer, "$bytearray", &BASE64.encode(value)),
            Value::List(items) => Items(items).serialize(serializer),
            Value::Tuple(items) => form(serializer, "$tuple", &Items(items)),
            Value::Set(items) => form(serializer, "$set", &Items(items)),
            Value::FrozenSet(items) => form(serializer, "$frozenset", &Items(items)),
            Value::Map(pairs) => match plain_keys(pairs) {
                Some(pairs) => {
                    let mut map = serializer.serialize_map(Some(pairs.len()))?;
                    for (key, value) in pairs {
                        map.serialize_entry(key, &Json(value))?;
                    }
                    map.end()
                }
                None => form(serializer, "$map", &Pairs(pairs)),
            },
            Value::Complex(real, imaginary) => {
                form(serializer, "$complex", &Items(&[Value::Float(*real), Value::Float(*imaginary)]))
            }
            Value::Decimal(decimal) => form(serializer, "$decimal", &decimal_text(decimal)),
            Value::Date(date) => form(serializer, "$date", &date_text(*date)),
            Value::Time(time) => form(serializer, "$time", &with_fold(time_text(*time), *time)),
            Value::DateTime(date, time) => {
                form(serializer, "$datetime", &with_fold(format!("{}T{}", date_text(*date), time_text(*time)), *time))
            }
            Value::TimeDelta(delta) => form(serializer, "$timedelta", &(delta.days, delta.seconds, delta.microseconds)),
            Value::Uuid(bytes) => form(serializer, "$uuid", &uuid_text(bytes)),
            Value::Array(typecode, elements) => form(serializer, "$array", &(typecode, Items(elements))),
            Value::Token(token) => form(serializer, "$ref", &token_text(token)),
            Value::Opaque { format, bytes } => form(serializer, "$opaque", &(format, BASE64.encode(bytes))),
        }
    }
}

fn form<S: Serializer, T: Serialize + ?Sized>(serializer: S, key: &str, inner: &T) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, inner)?;
    map.end()
}

struct Items<'a>(&'a [Value]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            items.serialize_element(&Json(item))?;
        }
        items.end()
    }
}

struct Pairs<'a>(&'a [(Value, Value)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, value)| (Json(key), Json(value))))
    }
}

/// The pairs of a map that can be an object of JSON, and cannot be taken for a form.
fn plain_keys(pairs: &[(Value, Value)]) -> Option<Vec<(&str, &Value)>> {
    let plain: Option<Vec<_>> = pairs
        .iter()
        .map(|(key, value)| match key {
            Value::Text(key) => Some((key.as_str(), value)),
            _ => None,
        })
        .collect();
    plain.filter(|pairs| !matches!(pairs[..], [(key, _)] if key.starts_with('$')))
}

/// The pairs of an object in the order they are written.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Reads raw JSON, since a parsed number would have lost the digits of a large integer.
fn read(raw: &RawValue, depth: u32) -> Result<Value, JsonError> {
    let text = raw.get().trim();
    let deeper = || {
        let limit = DEPTH_MAX;
        depth.checked_sub(1).ok_or_else(|| JsonError::Form(format!("nested too deeply, limit is {limit}")))
    };
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let Object(pairs) = serde_json::from_str(text)?;
            let depth = deeper()?;
            match &pairs[..] {
                [(key, inner)] if key.starts_with('$') => read_form(key, inner, depth)?,
                _ => {
                    let pairs = pairs.into_iter().map(|(key, value)| Ok((Value::Text(key), read(value, depth)?)));
                    Value::Map(pairs.collect::<Result<_, JsonError>>()?)
                }
            }
        }
        Some(b'[') => Value::List(read_items(raw, deeper()?)?),
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ if text.contains(['.', 'e', 'E']) => {
            Value::Float(text.parse().map_err(|_| JsonError::Form(format!("`{text}` is not a number")))?)
        }
        _ => {
            let number: BigInt = text.parse().map_err(|_| JsonError::Form(format!("`{text}` is not a number")))?;
            i64::try_from(&number).map_or_else(|_| Value::BigInt(number), Value::Int)
        }
    })
}

fn read_items(raw: &RawValue, depth: u32) -> Result<Vec<Value>, JsonError> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())?;
    items.into_iter().map(|item| read(item, depth)).collect()
}

fn read_form(key: &str, inner: &RawValue, depth: u32) -> Result<Value, JsonError> {
    let wrong = |wanted: &str| JsonError::Form(format!("`{key}` takes {wanted}, not `{}`", inner.get()));
    let text = |wanted: &str| serde_json::from_str::<String>(inner.get()).map_err(|_| wrong(wanted));
    let bytes = |text: &str| BASE64.decode(text).map_err(|_| wrong("bytes in Base64"));
    let items = || {
        read_items(inner, depth).map_err(|error| match error {
            JsonError::Syntax(_) => wrong("a list"),
            form => form,
        })
    };
    let parsed = |wanted: &str, parse: fn(&str) -> Option<Value>| parse(&text(wanted)?).ok_or_else(|| wrong(wanted));
    Ok(match key {
        "$bytes" => Value::Bytes(bytes(&text("bytes in Base64")?)?),
        "$bytearray" => Value::ByteArray(bytes(&text("bytes in Base64")?)?),
        "$tuple" => Value::Tuple(items()?),
        "$set" => Value::Set(items()?),
        "$frozenset" => Value::FrozenSet(items()?),
        "$map" => {
            let pairs: Vec<(&RawValue, &RawValue)> =
                serde_json::from_str(inner.get()).map_err(|_| wrong("a list of pairs"))?;
            let pairs = pairs.into_iter().map(|(key, value)| Ok((read(key, depth)?, read(value, depth)?)));
            Value::Map(pairs.collect::<Result<_, JsonError>>()?)
        }
        "$float" => parsed("\"nan\", \"inf\" or \"-inf\"", |text| {
            let value = match text {
                "nan" => f64::NAN,
                "inf" => f64::INFINITY,
                "-inf" => f64::NEG_INFINITY,
                _ => return None,
            };
            Some(Value::Float(value))
        })?,
        "$complex" => match items()?[..] {
            [Value::Float(real), Value::Float(imaginary)] => Value::Complex(real, imaginary),
            _ => return Err(wrong("two floats")),
        },
        "$decimal" => parsed("a decimal number as text", |text| read_decimal(text).map(Value::Decimal))?,
        "$date" => parsed("a date as `2026-11-22`", |text| read_date(text).map(Value::Date))?,
        "$time" => parsed("a time as `12:30:00.5+01:00`", |text| read_time(text).map(Value::Time))?,
        "$datetime" => parsed("a date and time as `2026-11-22T12:30:00.5+01:00`", |text| {
            let (date, time) = text.split_once('T')?;
            Some(Value::DateTime(read_date(date)?, read_time(time)?))
        })?,
        "$timedelta" => {
            let (days, seconds, microseconds) =
                serde_json::from_str(inner.get()).map_err(|_| wrong("days, seconds and microseconds"))?;
            Value::TimeDelta(TimeDelta { days, seconds, microseconds })
        }
        "$uuid" => parsed("a UUID", |text| {
            let digits = text.replace('-', "");
            let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
            Some(Value::Uuid(number.to_be_bytes()))
        })?,
        "$array" => {
            let (typecode, _): (char, &RawValue) =
                serde_json::from_str(inner.get()).map_err(|_| wrong("a typecode and a list"))?;
            match items()?.pop() {
                Some(Value::List(elements)) => Value::Array(typecode, elements),
                _ => return Err(wrong("a typecode and a list")),
            }
        }
        "$ref" => parsed("a proxy as `#41` or `Queue#41`", |text| read_token(text).map(Value::Token))?,
        "$opaque" => {
            let wanted = "a format and bytes in Base64";
            let (format, text): (String, String) = serde_json::from_str(inner.get()).map_err(|_| wrong(wanted))?;
            Value::Opaque { format, bytes: bytes(&text)? }
        }
        _ => {
            let message =
                format!("`{key}` is no form: known are {FORMS}; a map with this key is `{{\"$map\": [[…]]}}`");
            return Err(JsonError::Form(message));
        }
    })
}

fn infinite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "inf",
        f64::NEG_INFINITY => "-inf",
        _ => "nan",
    }
}

/// As Python's `str(Decimal)`.
pub(crate) fn decimal_text(decimal: &Decimal) -> String {
    let sign = |negative: &bool| if *negative { "-" } else { "" };
    match decimal {
        Decimal::Infinity { negative } => format!("{}Infinity", sign(negative)),
        Decimal::NaN { signalling } => if *signalling { "sNaN" } else { "NaN" }.to_owned(),
        Decimal::Finite { negative, digits, exponent } => {
            let (digits, exponent) = (digits.to_string(), i128::from(*exponent));
            // Where the point would stand, counted from the first digit; and where it is written.
            let point = exponent + digits.len() as i128;
            let written = if exponent <= 0 && point > -6 { point } else { 1 };
            let mut text = sign(negative).to_owned();
            if written <= 0 {
                text.push_str("0.");
                (written..0).for_each(|_| text.push('0'));
                text.push_str(&digits);
            } else {
                let (whole, part) = digits.split_at(digits.len().min(written as usize));
                text.push_str(whole);
                if !part.is_empty() {
                    text.push('.');
                    text.push_str(part);
                }
            }
            if written != point {
                text.push_str(&format!("E{:+}", point - written));
            }
            text
        }
    }
}

fn read_decimal(text: &str) -> Option<Decimal> {
    let (negative, number) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match number {
        "Infinity" => return Some(Decimal::Infinity { negative }),
        "NaN" if !negative => return Some(Decimal::NaN { signalling: false }),
        "sNaN" if !negative => return Some(Decimal::NaN { signalling: true }),
        _ => {}
    }
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.checked_sub(i64::try_from(part.len()).ok()?)?;
    Some(Decimal::Finite { negative, digits: digits.parse().ok()?, exponent })
}

pub(crate) fn date_text(Date { year, month, day }: Date) -> String {
    format!("{year:04}-{month:02}-{day:02}")
}

fn with_fold(text: String, time: Time) -> String {
    if time.fold { text + " fold" } else { text }
}

/// As Python's `isoformat`.
pub(crate) fn time_text(time: Time) -> String {
    let mut text = format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second);
    if time.microsecond > 0 {
        text.push_str(&format!(".{:06}", time.microsecond));
    }
    if let Some(offset_s) = time.offset_s {
        let (sign, offset_s) = (if offset_s < 0 { '-' } else { '+' }, offset_s.unsigned_abs());
        text.push_str(&format!("{sign}{:02}:{:02}", offset_s / 3600, offset_s / 60 % 60));
        if offset_s % 60 != 0 {
            text.push_str(&format!(":{:02}", offset_s % 60));
        }
    }
    text
}

/// A number of exactly so many digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn read_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let date =
        Date { year: number(parts.next()?, 4)?, month: number(parts.next()?, 2)?, day: number(parts.next()?, 2)? };
    parts.next().is_none().then_some(date)
}

fn read_time(text: &str) -> Option<Time> {
    let (text, fold) = text.strip_suffix(" fold").map_or((text, false), |text| (text, true));
    let (clock, offset_s) = match text.find(['+', '-']) {
        Some(at) => {
            let (clock, offset) = text.split_at(at);
            let mut parts = offset[1..].split(':');
            let (hours, minutes): (i32, i32) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
            let seconds: i32 = parts.next().map_or(Some(0), |seconds| number(seconds, 2))?;
            if parts.next().is_some() || minutes > 59 || seconds > 59 {
                return None;
            }
            let offset_s = hours * 3600 + minutes * 60 + seconds;
            (clock, Some(if offset.starts_with('-') { -offset_s } else { offset_s }))
        }
        None => (text, None),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    if fraction.is_empty() || fraction.len() > 6 {
        return None;
    }
    let mut parts = clock.split(':');
    let time = Time {
        hour: number(parts.next()?, 2)?,
        minute: number(parts.next()?, 2)?,
        second: number(parts.next()?, 2)?,
        microsecond: number(&format!("{fraction:0<6}"), 6)?,
        offset_s,
        fold,
    };
    parts.next().is_none().then_some(time)
}

pub(crate) fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(*bytes));
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// `Queue#41`, for another host `Queue#41@steward://host:7777`.
pub(crate) fn token_text(token: &Token) -> String {
    let Token { typeid, ident, address } = token;
    match address {
        Some(address) => format!("{typeid}{ident}@{address}"),
        None => format!("{typeid}{ident}"),
    }
}

fn read_token(text: &str) -> Option<Token> {
    let (object, address) = text.split_once('@').map_or((text, None), |(object, address)| (object, Some(address)));
    let (typeid, ident) = object.split_once('#')?;
    Some(Token { typeid: typeid.to_owned(), ident: Ident(ident.parse().ok()?), address: address.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways: this value is written so, and what is written reads as this value.
    #[track_caller]
    fn check(value: Value, written: &str) {
        assert_eq!(text(&value), written);
        let read = parse(written).unwrap();
        assert_eq!(read.to_vec(), value.to_vec(), "{written} was read as {read:?}");
    }

    #[track_caller]
    fn refused(written: &str, why: &str) {
        let message = parse(written).unwrap_err().to_string();
        assert!(message.contains(why), "{written}: {message}");
    }

    #[test]
    fn json_types_stand_for_themselves() {
        check(Value::Null, "null");
        check(Value::Bool(true), "true");
        check(Value::Bool(false), "false");
        check(Value::Int(-7), "-7");
        check(Value::Int(i64::MIN), "-9223372036854775808");
        check(Value::Float(1.0), "1.0");
        check(Value::Float(-0.0), "-0.0");
        check(Value::Float(1e300), "1e+300");
        check(Value::Text("a\"\n\u{1f600}".into()), "\"a\\\"\\n\u{1f600}\"");
        check(Value::List(vec![Value::Int(1), Value::List(vec![])]), "[1,[]]");
    }

    #[test]
    fn integer_keeps_all_its_digits() {
        let digits = "123456789012345678901234567890123456789012345678901234567890";
        check(Value::BigInt(digits.parse().unwrap()), digits);
        check(Value::List(vec![Value::BigInt("18446744073709551616".parse().unwrap())]), "[18446744073709551616]");
    }

    #[test]
    fn map_keeps_its_order_and_any_key() {
        let text = |text: &str| Value::Text(text.into());
        check(Value::Map(vec![]), "{}");
        check(Value::Map(vec![(text("b"), Value::Int(1)), (text("a"), Value::Int(2))]), r#"{"b":1,"a":2}"#);
        check(Value::Map(vec![(Value::Int(1), text("x"))]), r#"{"$map":[[1,"x"]]}"#);
        check(Value::Map(vec![(text("$set"), Value::List(vec![]))]), r#"{"$map":[["$set",[]]]}"#);
        // Two keys are never taken for a form.
        check(Value::Map(vec![(text("$set"), Value::Null), (text("a"), Value::Null)]), r#"{"$set":null,"a":null}"#);
    }

    #[test]
    fn floats_that_json_lacks_have_a_form() {
        check(Value::Float(f64::INFINITY), r#"{"$float":"inf"}"#);
        check(Value::Float(f64::NEG_INFINITY), r#"{"$float":"-inf"}"#);
        check(Value::Float(f64::NAN), r#"{"$float":"nan"}"#);
        check(Value::Complex(1.0, f64::INFINITY), r#"{"$complex":[1.0,{"$float":"inf"}]}"#);
    }

    #[test]
    fn collections_and_bytes_have_forms() {
        let items = || vec![Value::Int(1), Value::Tuple(vec![])];
        check(Value::Bytes(b"hi".to_vec()), r#"{"$bytes":"aGk="}"#);
        check(Value::ByteArray(vec![]), r#"{"$bytearray":""}"#);
        check(Value::Tuple(items()), r#"{"$tuple":[1,{"$tuple":[]}]}"#);
        check(Value::Set(items()), r#"{"$set":[1,{"$tuple":[]}]}"#);
        check(Value::FrozenSet(items()), r#"{"$frozenset":[1,{"$tuple":[]}]}"#);
        check(Value::Array('d', vec![Value::Float(0.5)]), r#"{"$array":["d",[0.5]]}"#);
        check(Value::Opaque { format: "pickle".into(), bytes: vec![128, 4] }, r#"{"$opaque":["pickle","gAQ="]}"#);
    }

    #[test]
    fn numbers_and_times_of_python_have_forms() {
        let finite = |negative, digits: u32, exponent| {
            Value::Decimal(Decimal::Finite { negative, digits: digits.into(), exponent })
        };
        check(finite(false, 150, -2), r#"{"$decimal":"1.50"}"#);
        check(finite(true, 0, 0), r#"{"$decimal":"-0"}"#);
        check(finite(false, 12, 3), r#"{"$decimal":"1.2E+4"}"#);
        check(finite(false, 1, -3), r#"{"$decimal":"0.001"}"#);
        check(finite(false, 123, -10), r#"{"$decimal":"1.23E-8"}"#);
        check(Value::Decimal(Decimal::Infinity { negative: true }), r#"{"$decimal":"-Infinity"}"#);
        check(Value::Decimal(Decimal::NaN { signalling: false }), r#"{"$decimal":"NaN"}"#);
        check(Value::Decimal(Decimal::NaN { signalling: true }), r#"{"$decimal":"sNaN"}"#);

        let date = Date { year: 2026, month: 2, day: 3 };
        let time = Time { hour: 1, minute: 2, second: 3, microsecond: 0, offset_s: None, fold: false };
        check(Value::Date(date), r#"{"$date":"2026-02-03"}"#);
        check(Value::Time(time), r#"{"$time":"01:02:03"}"#);
        let zoned = Time { microsecond: 500, offset_s: Some(-3_661), fold: true, ..time };
        check(Value::Time(zoned), r#"{"$time":"01:02:03.000500-01:01:01 fold"}"#);
        let zoned = Time { offset_s: Some(7_200), ..time };
        check(Value::DateTime(date, zoned), r#"{"$datetime":"2026-02-03T01:02:03+02:00"}"#);
        check(
            Value::TimeDelta(TimeDelta { days: -1, seconds: 86_399, microseconds: 5 }),
            r#"{"$timedelta":[-1,86399,5]}"#,
        );
        check(Value::Uuid([0xab; 16]), r#"{"$uuid":"abababab-abab-abab-abab-abababababab"}"#);
    }

    #[test]
    fn proxies_are_references() {
        let token = |address: Option<&str>| {
            Value::Token(Token { typeid: "Queue".into(), ident: Ident(41), address: address.map(Into::into) })
        };
        check(token(None), r#"{"$ref":"Queue#41"}"#);
        check(token(Some("steward://h:1")), r#"{"$ref":"Queue#41@steward://h:1"}"#);
        assert_eq!(parse(r##"{"$ref":"#41"}"##).unwrap(), token(None), "tokens are equal by ident");
    }

    #[test]
    fn what_says_no_value_is_refused_with_what_it_should_be() {
        refused("[1", "not JSON");
        refused(r#"{"$byte": ""}"#, "`$byte` is no form: known are $bytes");
        refused(r#"{"$bytes": "!"}"#, "Base64");
        refused(r#"{"$tuple": 1}"#, "`$tuple` takes a list");
        refused(r#"{"$complex": [1, 2]}"#, "two floats");
        refused(r#"{"$date": "2026-13-01"}"#, "");
        refused(r#"{"$time": "1:02:03"}"#, "a time as");
        refused(r#"{"$decimal": ""}"#, "a decimal number");
        refused(r#"{"$ref": "jobs"}"#, "a proxy as");
        refused(r#"{"a": 1, "a": 2}"#, "key");
        let deep = DEPTH_MAX as usize + 1;
        refused(&format!("{}{}", "[".repeat(deep), "]".repeat(deep)), "nested too deeply");
    }
}
