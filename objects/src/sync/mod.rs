//! Types that people wait on: locks, semaphores, conditions, barriers, events and queues.
//!
//! Their methods take no wait times: a call parks, and whoever drives the referent gives it up at its deadline
//! ([`Why::Deadline`]), upon which it answers as CPython's method does when it times out. A call given up for
//! another reason vanishes without a trace, but for a Barrier, which breaks.
//!
//! Lines are first in, first out everywhere. Call numbers rise, so a line of calls that joined it on arrival is a
//! `BTreeMap` by call number: both its head and any one call that is given up are found in logarithmic time, and
//! an empty line takes no memory beyond its 24 bytes. Only the line of a lock, which notified
//! waiters of a Condition join late, needs places of its own ([`mutex`]).
//!
//! [`Why::Deadline`]: crate::Why::Deadline

/// Defines an enum with one variant for each method and the table of the methods, in the same order, so that the two
/// cannot drift; a test compares the names.
macro_rules! methods {
    ($(#[$doc:meta])* $index:ident, $table:ident: $($variant:ident = $method:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        enum $index { $($variant),* }

        impl $index {
            fn of(method: u16) -> Option<Self> {
                const ALL: &[$index] = &[$($index::$variant),*];
                ALL.get(usize::from(method)).copied()
            }
        }

        const $table: &[$crate::Method] = &[$($method),*];

        #[cfg(test)]
        #[test]
        #[expect(non_snake_case, reason = "named after the enum it tests")]
        fn $index() {
            let variants = [$(stringify!($variant)),*];
            assert_eq!(variants.len(), $table.len());
            for (at, (variant, method)) in variants.into_iter().zip($table).enumerate() {
                assert_eq!(variant.to_lowercase(), method.name.replace('_', ""));
                assert_eq!($index::of(at as u16).map(|index| index as usize), Some(at));
            }
            assert_eq!($index::of(variants.len() as u16), None);
        }
    };
}
pub(crate) use methods;

pub mod barrier;
pub mod event;
mod leases;
pub mod lock;
pub mod mutex;
pub mod queue;
pub mod semaphore;
mod store;

use crate::{Call, Fault, Outbox, Value, common, data};

/// The answer to a call that was given up by its client or whose session has ended.
fn cancelled() -> Fault {
    Fault::refused("Cancelled", "the call was given up")
}

/// Answers the methods that every type has, in one way for all types here: nothing has a value that can be copied
/// (`pickled` is what CPython says it cannot pickle), and both texts are `text`.
fn common_method(call: &Call<'_>, out: &mut Outbox, pickled: &str, text: impl FnOnce() -> String) {
    match call.method {
        common::STR | common::REPR => out.returns_text(call.id, &text()),
        common::GET_VALUE => {
            out.raises(call.id, &Fault::raised("TypeError", format!("cannot pickle '{pickled}' object")));
        }
        method => out.raises(call.id, &Fault::refused("NotExposed", format!("method {method} is not in the table"))),
    }
}

/// An integer argument, as `operator.index` takes them.
fn integer(item: &[u8]) -> Result<i64, Fault> {
    match data::decode(item)? {
        Value::Bool(value) => Ok(value.into()),
        Value::Int(value) => Ok(value),
        Value::BigInt(_) => Err(Fault::raised("OverflowError", "int too large, limit is 64 bits")),
        other => Err(not_an_integer(&other)),
    }
}

fn not_an_integer(value: &Value) -> Fault {
    let name = data::type_name(value);
    Fault::raised("TypeError", format!("'{name}' object cannot be interpreted as an integer"))
}

/// An integer argument that CPython compares before anything else, so that a text there fails as that comparison does.
fn compared_integer(item: &[u8], operator: &str) -> Result<i64, Fault> {
    match data::decode(item)? {
        value @ (Value::Bool(_) | Value::Int(_) | Value::BigInt(_)) => integer(&value.to_vec()),
        value @ (Value::Float(_) | Value::Decimal(_)) => Err(not_an_integer(&value)),
        other => {
            let name = data::type_name(&other);
            let text = format!("'{operator}' not supported between instances of '{name}' and 'int'");
            Err(Fault::raised("TypeError", text))
        }
    }
}

/// A flag: a truth value, a number or `None`.
fn flag(item: Option<&[u8]>, default: bool) -> Result<bool, Fault> {
    let Some(item) = item else { return Ok(default) };
    match data::decode(item)? {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(value),
        Value::Int(value) => Ok(value != 0),
        other => Err(Fault::raised("TypeError", format!("expected bool, got {}", data::type_name(&other)))),
    }
}

/// The answer to an object that wants to join a cell that has no facets.
fn unjoinable(typeid: &str) -> Fault {
    Fault::refused("TypeError", format!("typeid `{typeid}` cannot share this object's cell"))
}
