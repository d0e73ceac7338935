//! Changing plain containers inside stored items in place: `update_in`.

use steward_wire::{Limits, check};

use super::items::{
    Index, Item, encoded, index_error, iterate, key_error, pairs, sequence, sum, text, type_error, value_error,
};
use super::{compare, decode, key, type_name};
use crate::{Fault, Value};

/// Most bytes of an item after `update_in`; beyond it the call raises `MemoryError` and changes nothing.
pub(crate) const NESTED_BYTES_MAX: usize = 1 << 20;

/// How deep an item may nest after `update_in`: as deep as one that comes as an argument.
const NESTED_DEPTH_MAX: u32 = 28;

pub(crate) const EMPTY_PATH: &str = "path must not be empty";

/// For the method tables.
pub(crate) const UPDATE_IN_DOC: &str = "Changes a nested plain value in place, in one step.\n\n`path`: keys and indexes that lead to it, the first being one of \
     this object. `operation` with its `args`: `set` value, `delete` (returns what was there), `append` value, `extend` \
     iterable, `add` value, `discard` value, `update` mapping or iterable, `incr` amount=1 (returns the sum); all \
     others return `None`. Raises `KeyError`, `IndexError` or `TypeError` where the path or the operation does not \
     fit; then nothing has changed.";

/// Applies `operation` to what `path` leads to inside `item`; returns the new item and the operation's result.
pub(crate) fn update(item: &[u8], path: &[Item], operation: &[u8], args: Option<&[u8]>) -> Result<(Item, Item), Fault> {
    let operation = text(operation, "operation")?;
    let args = sequence(args)?;
    let mut root = decode(item)?;
    let result = match (operation, path) {
        ("delete", [parents @ .., last]) => {
            no_args(operation, &args)?;
            delete(walk(&mut root, parents)?, last)?
        }
        ("delete", []) => return Err(value_error("delete needs a path into the item")),
        ("set", [parents @ .., last]) => {
            let value = decode(one_arg(operation, &args)?)?;
            set(walk(&mut root, parents)?, last, value)?;
            Value::Null
        }
        ("set", []) => {
            root = decode(one_arg(operation, &args)?)?;
            Value::Null
        }
        _ => change(walk(&mut root, path)?, operation, &args)?,
    };
    let item = encoded(&root);
    if item.len() > NESTED_BYTES_MAX {
        let message = format!("item would have {} bytes, limit is {NESTED_BYTES_MAX}", item.len());
        return Err(Fault::raised("MemoryError", message));
    }
    check(&item, &Limits { depth_max: NESTED_DEPTH_MAX, items_max: u64::MAX })
        .map_err(|error| value_error(error.to_string()))?;
    Ok((item, encoded(&result)))
}

fn one_arg<'a>(operation: &str, args: &[&'a [u8]]) -> Result<&'a [u8], Fault> {
    match args {
        [arg] => Ok(arg),
        _ => Err(type_error(format!("{operation} takes exactly one argument ({} given)", args.len()))),
    }
}

fn no_args(operation: &str, args: &[&[u8]]) -> Result<(), Fault> {
    match args.len() {
        0 => Ok(()),
        given => Err(type_error(format!("{operation} takes no arguments ({given} given)"))),
    }
}

fn walk<'a>(mut value: &'a mut Value, path: &[Item]) -> Result<&'a mut Value, Fault> {
    for step in path {
        value = match value {
            Value::Map(entries) => {
                let place = place_of(entries.iter().map(|(key, _)| key), step)?.ok_or_else(|| key_error(step))?;
                &mut entries[place].1
            }
            Value::List(items) => {
                let place = list_place(step, items.len())?;
                &mut items[place]
            }
            other => return Err(closed(other)),
        };
    }
    Ok(value)
}

fn set(parent: &mut Value, last: &[u8], value: Value) -> Result<(), Fault> {
    match parent {
        Value::Map(entries) => match place_of(entries.iter().map(|(key, _)| key), last)? {
            Some(place) => entries[place].1 = value,
            None => entries.push((decode(last)?, value)),
        },
        Value::List(items) => {
            let place = list_place(last, items.len())?;
            items[place] = value;
        }
        other => return Err(closed(other)),
    }
    Ok(())
}

fn delete(parent: &mut Value, last: &[u8]) -> Result<Value, Fault> {
    match parent {
        Value::Map(entries) => {
            let place = place_of(entries.iter().map(|(key, _)| key), last)?.ok_or_else(|| key_error(last))?;
            Ok(entries.remove(place).1)
        }
        Value::List(items) => {
            let place = list_place(last, items.len())?;
            Ok(items.remove(place))
        }
        other => Err(closed(other)),
    }
}

fn change(target: &mut Value, operation: &str, args: &[&[u8]]) -> Result<Value, Fault> {
    match (operation, target) {
        ("append", Value::List(items)) => items.push(decode(one_arg(operation, args)?)?),
        ("extend", Value::List(items)) => {
            for item in iterate(one_arg(operation, args)?)? {
                items.push(decode(&item)?);
            }
        }
        ("add", Value::Set(items)) => add(items, one_arg(operation, args)?)?,
        ("update", Value::Set(items)) => {
            for item in iterate(one_arg(operation, args)?)? {
                add(items, &item)?;
            }
        }
        ("discard", Value::Set(items)) => {
            if let Some(place) = place_of(items.iter(), one_arg(operation, args)?)? {
                items.remove(place);
            }
        }
        ("update", map @ Value::Map(_)) => {
            for (key, value) in pairs(one_arg(operation, args)?)? {
                set(map, &key, decode(&value)?)?;
            }
        }
        ("incr", number) => {
            let amount = match args {
                [] => &[1],
                _ => one_arg(operation, args)?,
            };
            *number = decode(&sum(&encoded(number), amount)?)?;
            return Ok(number.clone());
        }
        ("append" | "extend" | "add" | "discard" | "update", other) => {
            let name = type_name(other);
            return Err(Fault::raised("AttributeError", format!("'{name}' object has no attribute '{operation}'")));
        }
        _ => return Err(value_error(format!("operation `{operation}` is not known"))),
    }
    Ok(Value::Null)
}

fn add(items: &mut Vec<Value>, item: &[u8]) -> Result<(), Fault> {
    if place_of(items.iter(), item)?.is_none() {
        items.push(decode(item)?);
    }
    Ok(())
}

/// The place of the key that equals `wanted`, which must be hashable.
fn place_of<'a>(mut keys: impl Iterator<Item = &'a Value>, wanted: &[u8]) -> Result<Option<usize>, Fault> {
    key::put(wanted, &mut Vec::new())?;
    let wanted = decode(wanted)?;
    Ok(keys.position(|key| compare::equal_values(key, &wanted)))
}

fn list_place(index: &[u8], length: usize) -> Result<usize, Fault> {
    match Index::read(index, length, "list")? {
        Index::One(index) => Index::place(index, length).ok_or_else(|| index_error("list index out of range")),
        Index::Slice(_) => Err(type_error("a path takes no slices")),
    }
}

fn closed(value: &Value) -> Fault {
    type_error(format!("'{}' object cannot be changed from outside", type_name(value)))
}
