//! Python's `repr` of values: what `str(proxy)` shows and what messages quote.

use std::fmt::Write as _;

use num_bigint::BigInt;
use steward_wire::value::{Date, Decimal, Time, TimeDelta};

use super::{EXACT_BITS_MAX, decode};
use crate::{Fault, Value};

/// Decimal digits of an int beyond which CPython refuses to write it out, since the work is quadratic.
const INT_DIGITS_MAX: usize = 4_300;

/// `repr(value)` of an encoded item.
///
/// Proxies show as `<list proxy #41>`, opaque items as `<pickle of 120 bytes>`.
///
/// # Errors
/// Raised `ValueError` for ints of more than 4,300 digits, as CPython does, and for Decimals of more than
/// [`EXACT_BITS_MAX`] bits. Refused `Malformed` for what is not an item.
pub fn repr(item: &[u8]) -> Result<String, Fault> {
    let mut out = String::new();
    put_item(&mut out, item)?;
    Ok(out)
}

/// `repr` for messages, which must not fail: what cannot be written out shows as `<int>` or `<value>`.
pub(crate) fn quoted(item: &[u8]) -> String {
    repr(item).unwrap_or_else(|_| "<value>".into())
}

/// Appends the `repr` of an encoded item.
pub(crate) fn put_item(out: &mut String, item: &[u8]) -> Result<(), Fault> {
    put(out, &decode(item)?)
}

/// Appends the `repr`s of items, separated by commas.
pub(crate) fn put_items<'a>(out: &mut String, items: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Fault> {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        put_item(out, item)?;
    }
    Ok(())
}

/// Appends the `repr` of a value.
pub(crate) fn put(out: &mut String, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(value) => write!(out, "{value}").expect(INFALLIBLE),
        Value::BigInt(value) => put_bigint(out, value)?,
        Value::Float(value) => put_float(out, *value),
        Value::Text(text) => put_text(out, text),
        Value::Bytes(bytes) => put_bytes(out, bytes),
        Value::ByteArray(bytes) => {
            out.push_str("bytearray(");
            put_bytes(out, bytes);
            out.push(')');
        }
        Value::List(items) => put_values(out, "[", items, "]")?,
        Value::Tuple(items) if items.len() == 1 => put_values(out, "(", items, ",)")?,
        Value::Tuple(items) => put_values(out, "(", items, ")")?,
        Value::Map(pairs) => {
            out.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                put(out, key)?;
                out.push_str(": ");
                put(out, value)?;
            }
            out.push('}');
        }
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => put_values(out, "{", items, "}")?,
        Value::FrozenSet(items) if items.is_empty() => out.push_str("frozenset()"),
        Value::FrozenSet(items) => put_values(out, "frozenset({", items, "})")?,
        Value::Complex(real, imaginary) => put_complex(out, *real, *imaginary),
        Value::Decimal(value) => {
            out.push_str("Decimal('");
            put_decimal(out, value)?;
            out.push_str("')");
        }
        Value::Date(Date { year, month, day }) => {
            write!(out, "datetime.date({year}, {month}, {day})").expect(INFALLIBLE);
        }
        Value::Time(time) => {
            out.push_str("datetime.time(");
            put_time_fields(out, time);
        }
        Value::DateTime(Date { year, month, day }, time) => {
            write!(out, "datetime.datetime({year}, {month}, {day}, ").expect(INFALLIBLE);
            put_time_fields(out, time);
        }
        Value::TimeDelta(delta) => put_timedelta(out, delta),
        Value::Uuid(bytes) => {
            out.push_str("UUID('");
            for (index, byte) in bytes.iter().enumerate() {
                if matches!(index, 4 | 6 | 8 | 10) {
                    out.push('-');
                }
                write!(out, "{byte:02x}").expect(INFALLIBLE);
            }
            out.push_str("')");
        }
        Value::Array(typecode, elements) => put_array(out, *typecode, elements)?,
        Value::Token(token) => match &token.address {
            Some(address) => {
                write!(out, "<{} proxy {} at {address}>", token.typeid, token.ident).expect(INFALLIBLE);
            }
            None => write!(out, "<{} proxy {}>", token.typeid, token.ident).expect(INFALLIBLE),
        },
        Value::Opaque { format, bytes } => {
            write!(out, "<{format} of {} bytes>", bytes.len()).expect(INFALLIBLE);
        }
    }
    Ok(())
}

const INFALLIBLE: &str = "writing to a String succeeds";

fn put_values(out: &mut String, open: &str, items: &[Value], close: &str) -> Result<(), Fault> {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        put(out, item)?;
    }
    out.push_str(close);
    Ok(())
}

fn put_bigint(out: &mut String, value: &BigInt) -> Result<(), Fault> {
    let too_long = || {
        Fault::raised(
            "ValueError",
            format!(
                "Exceeds the limit ({INT_DIGITS_MAX} digits) for integer string conversion; use \
                 sys.set_int_max_str_digits() to increase the limit"
            ),
        )
    };
    // log2(10) > 3.32: this many bits are more digits, whatever they are.
    if value.bits() > INT_DIGITS_MAX as u64 * 4 {
        return Err(too_long());
    }
    let digits = value.to_string();
    if digits.trim_start_matches('-').len() > INT_DIGITS_MAX {
        return Err(too_long());
    }
    out.push_str(&digits);
    Ok(())
}

/// The shortest digits that read back as the same float, laid out as CPython's `float_repr_style` short.
pub(crate) fn put_float(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("nan");
    }
    if value.is_infinite() {
        return out.push_str(if value < 0.0 { "-inf" } else { "inf" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..16).contains(&exponent) {
        let start = out.len();
        write!(out, "{value}").expect(INFALLIBLE);
        if !out[start..].contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs()).expect(INFALLIBLE);
    }
}

/// A part of a complex number: a float without its `.0`.
fn put_part(out: &mut String, value: f64) {
    put_float(out, value);
    if out.ends_with(".0") {
        out.truncate(out.len() - 2);
    }
}

fn put_complex(out: &mut String, real: f64, imaginary: f64) {
    let is_bare = real == 0.0 && real.is_sign_positive();
    if !is_bare {
        out.push('(');
        put_part(out, real);
        if imaginary.is_nan() || imaginary.is_sign_positive() {
            out.push('+');
        }
    }
    put_part(out, imaginary);
    out.push_str(if is_bare { "j" } else { "j)" });
}

/// Appends `str(Decimal)`: the General Decimal Arithmetic specification's to-scientific-string.
fn put_decimal(out: &mut String, value: &Decimal) -> Result<(), Fault> {
    let (negative, digits, exponent) = match value {
        Decimal::Infinity { negative } => {
            out.push_str(if *negative { "-Infinity" } else { "Infinity" });
            return Ok(());
        }
        Decimal::NaN { signalling } => {
            out.push_str(if *signalling { "sNaN" } else { "NaN" });
            return Ok(());
        }
        Decimal::Finite { negative, digits, exponent } => (*negative, digits, i128::from(*exponent)),
    };
    if digits.bits() > EXACT_BITS_MAX {
        let bits = digits.bits();
        return Err(Fault::raised("ValueError", format!("Decimal has {bits} bits, limit is {EXACT_BITS_MAX}")));
    }
    let digits = digits.to_string();
    let length = digits.len() as i128;
    if negative {
        out.push('-');
    }
    // Digits to the left of the point.
    let left = exponent + length;
    let point = if exponent <= 0 && left > -6 { left } else { 1 };
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', -point as usize));
        out.push_str(&digits);
    } else {
        let (whole, fraction) = digits.split_at(point as usize);
        out.push_str(whole);
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
    }
    if left != point {
        write!(out, "E{:+}", left - point).expect(INFALLIBLE);
    }
    Ok(())
}

/// Quotes as Python does: in single quotes, unless only single ones occur inside.
fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

fn put_text(out: &mut String, text: &str) {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if character == quote => {
                out.push('\\');
                out.push(quote);
            }
            ' '..='~' => out.push(character),
            _ if is_printable(character) => out.push(character),
            _ => match u32::from(character) {
                code @ ..=0xff => write!(out, "\\x{code:02x}").expect(INFALLIBLE),
                code @ ..=0xffff => write!(out, "\\u{code:04x}").expect(INFALLIBLE),
                code => write!(out, "\\U{code:08x}").expect(INFALLIBLE),
            },
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` for one character.
fn is_printable(character: char) -> bool {
    // The standard library escapes what is not printable by the same rule. It escapes combining
    // marks as well, but only at the start of a text.
    let mut text = [0; 5];
    text[0] = b'a';
    let length = character.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..=length]).expect("it is made of two characters");
    text.escape_debug().nth(1) == Some(character)
}

fn put_bytes(out: &mut String, bytes: &[u8]) {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    out.push('b');
    out.push(quote);
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            _ if char::from(byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").expect(INFALLIBLE),
        }
    }
    out.push(quote);
}

/// Hour, minute, seconds if there are any, zone and fold if set, and the closing parenthesis.
fn put_time_fields(out: &mut String, time: &Time) {
    write!(out, "{}, {}", time.hour, time.minute).expect(INFALLIBLE);
    if time.second != 0 || time.microsecond != 0 {
        write!(out, ", {}", time.second).expect(INFALLIBLE);
    }
    if time.microsecond != 0 {
        write!(out, ", {}", time.microsecond).expect(INFALLIBLE);
    }
    if time.fold {
        out.push_str(", fold=1");
    }
    match time.offset_s {
        None => {}
        Some(0) => out.push_str(", tzinfo=datetime.timezone.utc"),
        Some(offset_s) => {
            out.push_str(", tzinfo=datetime.timezone(");
            let (days, seconds) = (offset_s.div_euclid(86_400), offset_s.rem_euclid(86_400) as u32);
            put_timedelta(out, &TimeDelta { days, seconds, microseconds: 0 });
            out.push(')');
        }
    }
    out.push(')');
}

fn put_timedelta(out: &mut String, delta: &TimeDelta) {
    let fields = [
        ("days", i64::from(delta.days)),
        ("seconds", delta.seconds.into()),
        ("microseconds", delta.microseconds.into()),
    ];
    let set: Vec<String> =
        fields.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!("{name}={value}")).collect();
    let set = if set.is_empty() { "0".into() } else { set.join(", ") };
    write!(out, "datetime.timedelta({set})").expect(INFALLIBLE);
}

/// Appends the `repr` of an `array.array`.
pub(crate) fn put_array(out: &mut String, typecode: char, elements: &[Value]) -> Result<(), Fault> {
    write!(out, "array('{typecode}'").expect(INFALLIBLE);
    if !elements.is_empty() {
        out.push_str(", ");
        if matches!(typecode, 'u' | 'w') {
            let characters = elements.iter().filter_map(|element| match element {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            });
            put_text(out, &characters.collect::<String>());
        } else {
            put_values(out, "[", elements, "]")?;
        }
    }
    out.push(')');
    Ok(())
}
