//! Types that hold data, and Python's equality, ordering and text of values.

pub mod array;
pub mod compare;
pub mod dict;
mod entries;
mod items;
pub mod iterator;
pub mod key;
pub mod list;
mod lockable;
pub mod namespace;
mod nested;
mod number;
pub mod repr;
pub mod set;
pub mod value;

use steward_wire::Malformed;

use crate::{Call, Fault, Value};

pub use items::{ITEMS_MAX, REPEAT_BYTES_MAX};
pub use key::Key;
pub use number::EXACT_BITS_MAX;

use crate::sync::methods;

/// Says that a call names a method that its type does not have.
pub(crate) fn no_such_method(call: &Call<'_>) -> Fault {
    Fault::refused("NotExposed", format!("no method has index {}", call.method))
}

/// Decodes an item that was checked when it arrived; only duplicate keys can be wrong with it.
pub(crate) fn decode(item: &[u8]) -> Result<Value, Fault> {
    Value::decode(item).map_err(malformed)
}

/// Says that an argument is not a value.
pub(crate) fn malformed(error: Malformed) -> Fault {
    Fault::refused("Malformed", error.to_string())
}

/// The name of a value's type, as CPython's error messages have it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::BigInt(_) => "int",
        Value::Float(_) => "float",
        Value::Text(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::ByteArray(_) => "bytearray",
        Value::List(_) => "list",
        Value::Tuple(_) => "tuple",
        Value::Map(_) => "dict",
        Value::Set(_) => "set",
        Value::FrozenSet(_) => "frozenset",
        Value::Complex(..) => "complex",
        Value::Decimal(_) => "decimal.Decimal",
        Value::Date(_) => "datetime.date",
        Value::Time(_) => "datetime.time",
        Value::DateTime(..) => "datetime.datetime",
        Value::TimeDelta(_) => "datetime.timedelta",
        Value::Uuid(_) => "UUID",
        Value::Array(..) => "array.array",
        Value::Token(_) => "proxy",
        Value::Opaque { .. } => "opaque",
    }
}
