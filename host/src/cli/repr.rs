//! Values as Python shows them, for people at a terminal. Nothing reads this back: see [`super::json`].

use std::fmt::Write as _;

use steward_client::AnyValue as Value;
use steward_wire::value::{Date, Time};

use super::json::{date_text, decimal_text, time_text, token_text, uuid_text};

/// The value as Python's `repr` gives it, or nearly: on one line and without control characters.
pub(crate) fn repr(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value);
    out
}

fn put(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(value) => put_fmt(out, format_args!("{value}")),
        Value::BigInt(value) => put_fmt(out, format_args!("{value}")),
        Value::Float(value) => out.push_str(&float(*value)),
        Value::Text(value) => put_text(out, value),
        Value::Bytes(value) => put_bytes(out, value),
        Value::ByteArray(value) => {
            out.push_str("bytearray(");
            put_bytes(out, value);
            out.push(')');
        }
        Value::List(items) => put_items(out, "[", items, "]"),
        Value::Tuple(items) => put_items(out, "(", items, if items.len() == 1 { ",)" } else { ")" }),
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => put_items(out, "{", items, "}"),
        Value::FrozenSet(items) if items.is_empty() => out.push_str("frozenset()"),
        Value::FrozenSet(items) => put_items(out, "frozenset({", items, "})"),
        Value::Map(pairs) => {
            out.push('{');
            for (place, (key, value)) in pairs.iter().enumerate() {
                if place > 0 {
                    out.push_str(", ");
                }
                put(out, key);
                out.push_str(": ");
                put(out, value);
            }
            out.push('}');
        }
        Value::Complex(real, imaginary) => {
            let sign = if imaginary.is_sign_negative() { "" } else { "+" };
            put_fmt(out, format_args!("({}{sign}{}j)", float(*real), float(*imaginary)));
        }
        Value::Decimal(decimal) => put_fmt(out, format_args!("Decimal('{}')", decimal_text(decimal))),
        Value::Date(date) => put_fmt(out, format_args!("datetime.date({})", fields(*date))),
        Value::Time(time) => put_fmt(out, format_args!("<time {}>", time_text(*time))),
        Value::DateTime(date, time) => put_fmt(out, format_args!("<datetime {}>", stamp(*date, *time))),
        Value::TimeDelta(delta) => put_fmt(
            out,
            format_args!(
                "datetime.timedelta(days={}, seconds={}, microseconds={})",
                delta.days, delta.seconds, delta.microseconds
            ),
        ),
        Value::Uuid(bytes) => put_fmt(out, format_args!("UUID('{}')", uuid_text(bytes))),
        Value::Array(typecode, elements) => {
            put_fmt(out, format_args!("array('{}', ", typecode.escape_debug()));
            put_items(out, "[", elements, "])");
        }
        Value::Token(token) => put_fmt(out, format_args!("<{}>", printable(&token_text(token)))),
        Value::Opaque { format, bytes } => {
            put_fmt(out, format_args!("<{}, {} bytes>", printable(format), bytes.len()));
        }
    }
}

fn put_fmt(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes anything");
}

fn put_items(out: &mut String, open: &str, items: &[Value], close: &str) {
    out.push_str(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        put(out, item);
    }
    out.push_str(close);
}

fn fields(Date { year, month, day }: Date) -> String {
    format!("{year}, {month}, {day}")
}

fn stamp(date: Date, time: Time) -> String {
    format!("{} {}", date_text(date), time_text(time))
}

fn float(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{value:?}") }
}

fn put_text(out: &mut String, text: &str) {
    // Python prefers single quotes unless only those occur inside.
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => put_fmt(out, format_args!("\\{char}")),
            char if is_safe(char) => out.push(char),
            char if u32::from(char) <= 0xff => put_fmt(out, format_args!("\\x{:02x}", u32::from(char))),
            char if u32::from(char) <= 0xffff => put_fmt(out, format_args!("\\u{:04x}", u32::from(char))),
            char => put_fmt(out, format_args!("\\U{:08x}", u32::from(char))),
        }
    }
    out.push(quote);
}

fn put_bytes(out: &mut String, bytes: &[u8]) {
    out.push_str("b'");
    for byte in bytes {
        match byte {
            b'\'' => out.push_str("\\'"),
            byte => put_fmt(out, format_args!("{}", byte.escape_ascii())),
        }
    }
    out.push('\'');
}

/// Whether a terminal shows the character as itself: neither a control nor one that changes the direction of text.
fn is_safe(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text of somebody else's making as a terminal may show it: names and messages come from other clients.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_safe(char) {
            out.push(char);
        } else {
            out.extend(char.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    #[track_caller]
    fn check(written: &str, shown: &str) {
        assert_eq!(repr(&json::parse(written).unwrap()), shown);
    }

    #[test]
    fn values_are_shown_as_python_shows_them() {
        check("[null, true, 1, 1.0, \"it's\"]", "[None, True, 1, 1.0, \"it's\"]");
        check(r#""a\n\"'""#, r#"'a\n"\''"#);
        check(r#"{"$tuple": [1]}"#, "(1,)");
        check(r#"{"$set": []}"#, "set()");
        check(r#"{"$map": [[1, {"$bytes": "aCc="}]]}"#, r"{1: b'h\''}");
        check(r#"{"$frozenset": [1, 2]}"#, "frozenset({1, 2})");
        check(r#"{"$complex": [1.5, -2.0]}"#, "(1.5-2.0j)");
        check(r#"{"$decimal": "1.50"}"#, "Decimal('1.50')");
        check(r#"{"$ref": "Queue#41"}"#, "<Queue#41>");
        check(r#"{"$array": ["i", [1]]}"#, "array('i', [1])");
    }

    #[test]
    fn terminal_never_sees_a_control_character_of_somebody_else() {
        assert_eq!(repr(&Value::Text("\u{1b}[2J\u{202e}".into())), r"'\x1b[2J\u202e'");
        assert_eq!(printable("a\u{1b}]0;b\n"), r"a\u{1b}]0;b\n");
    }
}
