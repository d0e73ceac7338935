//! Value, Array, list, dict, set and Namespace.

use std::rc::Rc;

use serde_json::Value as Json;

use super::container::{Ordered, Rank};
use super::{Changes, Complaint, Kind, Reply, answers, argument, number};
use crate::call::{Call, Made};
use crate::values::{Val, Values};

pub(super) fn kind(typeid: &str, method: &str) -> Option<Kind> {
    let (reads, steps): (&[&str], &[&str]) = match typeid {
        "Value" => (&["get", "#GETVALUE"], &["set", "add", "compare_and_set"]),
        "Array" => {
            (&["__getitem__", "__len__", "__contains__", "#GETVALUE"], &["__setitem__", "compare_and_set", "incr"])
        }
        "list" => (
            &["__getitem__", "__len__", "__contains__", "count", "index", "copy", "#GETVALUE"],
            &[
                "append",
                "extend",
                "__iadd__",
                "insert",
                "pop",
                "remove",
                "clear",
                "reverse",
                "sort",
                "__setitem__",
                "__delitem__",
                "compare_and_set",
                "incr",
                "update_in",
            ],
        ),
        "dict" => (
            &[
                "__getitem__",
                "__len__",
                "__contains__",
                "get",
                "get_many",
                "keys",
                "values",
                "items",
                "copy",
                "#GETVALUE",
            ],
            &[
                "__setitem__",
                "__delitem__",
                "pop",
                "popitem",
                "clear",
                "setdefault",
                "update",
                "__ior__",
                "incr",
                "compare_and_set",
                "update_in",
            ],
        ),
        "set" => (
            &["__contains__", "__len__", "copy", "union", "__or__", "difference", "__sub__", "#GETVALUE"],
            &["add", "remove", "discard", "pop", "clear", "update", "__ior__", "difference_update", "__isub__"],
        ),
        "Namespace" => (&["__getattribute__"], &["__setattr__", "__delattr__", "compare_and_set", "incr"]),
        _ => return None,
    };
    if reads.contains(&method) { Some(Kind::Reads) } else { steps.contains(&method).then_some(Kind::Steps) }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Value(Val),
    Array(Rc<Vec<Val>>),
    List(Rc<Vec<Val>>),
    Dict(Ordered),
    Set(Ordered),
    Namespace(Ordered),
}

/// What a call does to the state.
enum Turn {
    /// Nothing.
    Keeps,
    /// It becomes this.
    Becomes(Data),
    /// One entry of a mapping gets a value.
    Sets(Val, Val),
    /// One entry of a mapping goes.
    Removes(Val),
    /// A list changes at one place.
    Edits(Edit),
}

enum Edit {
    Set(usize, Val),
    Insert(usize, Val),
    Remove(usize),
    Extend(Vec<Val>),
}

type Outcome = (Reply, Turn);

impl Data {
    pub(super) fn new(made: &Made, values: &mut Values) -> Result<Self, Complaint> {
        let first = made.args.first().copied();
        let items = |values: &mut Values, from: Option<Val>| match from {
            None => Ok(Vec::new()),
            Some(items) => values.list(items).ok_or_else(|| Complaint::not_modelled("an object made of no list")),
        };
        Ok(match &*made.typeid {
            "Value" => Self::Value(made.args.get(1).copied().unwrap_or(Val::Null)),
            "Array" => Self::Array(Rc::new(items(values, made.args.get(1).copied())?)),
            "list" => Self::List(Rc::new(items(values, first)?)),
            "dict" => Self::Dict(pairs(first, Ordered::default(), values)?),
            "set" => {
                let mut elements = Ordered::default();
                for element in items(values, first)? {
                    elements.insert(element, Val::Null);
                }
                Self::Set(elements)
            }
            "Namespace" => Self::Namespace(pairs(first, Ordered::default(), values)?),
            other => return Err(Complaint::not_modelled(format!("typeid `{other}`"))),
        })
    }

    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        let method = values.text(call.method);
        let (reply, turn) = match self {
            Self::Value(value) => value_call(*value, &method, call, values)?,
            Self::Array(items) => list_call(items, &method, "Array", call, values)?,
            Self::List(items) => list_call(items, &method, "list", call, values)?,
            Self::Dict(entries) => dict_call(entries, &method, call, values)?,
            Self::Set(elements) => set_call(elements, &method, call, values)?,
            Self::Namespace(entries) => namespace_call(entries, &method, call, values)?,
        };
        answers(call, values, reply)?;
        match (turn, &mut *self) {
            (Turn::Keeps, _) => return Ok(Changes::No),
            (Turn::Becomes(new), _) => *self = new,
            (Turn::Sets(key, value), Self::Dict(entries) | Self::Set(entries) | Self::Namespace(entries)) => {
                entries.insert(key, value);
            }
            (Turn::Removes(key), Self::Dict(entries) | Self::Set(entries) | Self::Namespace(entries)) => {
                entries.remove(key);
            }
            (Turn::Edits(edit), Self::Array(items) | Self::List(items)) => {
                let items = Rc::make_mut(items);
                match edit {
                    Edit::Set(place, value) => items[place] = value,
                    Edit::Insert(place, value) => items.insert(place, value),
                    Edit::Remove(place) => drop(items.remove(place)),
                    Edit::Extend(new) => items.extend(new),
                }
            }
            _ => unreachable!("each type's calls make its own turns"),
        }
        Ok(Changes::Yes)
    }
}

fn keeps(reply: Val) -> Result<Outcome, Complaint> {
    Ok((Reply::Value(reply), Turn::Keeps))
}

fn raises(kind: &'static str) -> Result<Outcome, Complaint> {
    Ok((Reply::Raises(kind), Turn::Keeps))
}

fn does(turn: Turn) -> Result<Outcome, Complaint> {
    Ok((Reply::Value(Val::Null), turn))
}

fn unknown(what: &str, method: &str) -> Result<Outcome, Complaint> {
    Err(Complaint::not_modelled(format!("`{method}` of {what}")))
}

fn value_call(value: Val, method: &str, call: &Call, values: &mut Values) -> Result<Outcome, Complaint> {
    match method {
        "get" | "#GETVALUE" => keeps(value),
        "set" => does(Turn::Becomes(Data::Value(argument(call, 0)?))),
        "add" => match values.sum(value, call.args.first().copied().unwrap_or(Val::Int(1))) {
            Some(sum) => Ok((Reply::Value(sum), Turn::Becomes(Data::Value(sum)))),
            None => raises("TypeError"),
        },
        "compare_and_set" => {
            let (expected, new) = (argument(call, 0)?, argument(call, 1)?);
            match value == expected {
                true => Ok((Reply::Value(Val::Bool(true)), Turn::Becomes(Data::Value(new)))),
                false => keeps(Val::Bool(false)),
            }
        }
        other => unknown("a Value", other),
    }
}

/// An index as Python counts it; `None`: out of range.
fn place(call: &Call, length: usize) -> Result<Option<usize>, Complaint> {
    let index = match argument(call, 0)? {
        Val::Int(index) => index,
        _ => return Err(Complaint::not_modelled("a slice")),
    };
    let index = if index < 0 { index + length as i64 } else { index };
    Ok(usize::try_from(index).ok().filter(|place| *place < length))
}

fn list_call(
    items: &Rc<Vec<Val>>,
    method: &str,
    typeid: &str,
    call: &Call,
    values: &mut Values,
) -> Result<Outcome, Complaint> {
    let becomes = |items: Vec<Val>| does(Turn::Becomes(Data::List(Rc::new(items))));
    if kind(typeid, method).is_none() {
        return unknown(typeid, method);
    }
    match method {
        "__len__" => keeps(Val::Int(items.len() as i64)),
        "__contains__" => keeps(Val::Bool(items.contains(&argument(call, 0)?))),
        "copy" | "#GETVALUE" => keeps(values.listed(items.iter().copied())),
        "__getitem__" => match place(call, items.len())? {
            Some(place) => keeps(items[place]),
            None => raises("IndexError"),
        },
        "__setitem__" => match place(call, items.len())? {
            Some(place) => does(Turn::Edits(Edit::Set(place, argument(call, 1)?))),
            None => raises("IndexError"),
        },
        "__delitem__" => match place(call, items.len())? {
            Some(place) => does(Turn::Edits(Edit::Remove(place))),
            None => raises("IndexError"),
        },
        "compare_and_set" => match place(call, items.len())? {
            Some(place) if items[place] == argument(call, 1)? => {
                Ok((Reply::Value(Val::Bool(true)), Turn::Edits(Edit::Set(place, argument(call, 2)?))))
            }
            Some(_) => keeps(Val::Bool(false)),
            None => raises("IndexError"),
        },
        "incr" => match place(call, items.len())? {
            Some(place) => match values.sum(items[place], call.args.get(1).copied().unwrap_or(Val::Int(1))) {
                Some(sum) => Ok((Reply::Value(sum), Turn::Edits(Edit::Set(place, sum)))),
                None => raises("TypeError"),
            },
            None => raises("IndexError"),
        },
        "count" => {
            let wanted = argument(call, 0)?;
            keeps(Val::Int(items.iter().filter(|item| **item == wanted).count() as i64))
        }
        "index" if call.args.len() == 1 => match items.iter().position(|item| *item == call.args[0]) {
            Some(place) => keeps(Val::Int(place as i64)),
            None => raises("ValueError"),
        },
        "append" => does(Turn::Edits(Edit::Extend(vec![argument(call, 0)?]))),
        "extend" | "__iadd__" => {
            let new = values.list(argument(call, 0)?).ok_or_else(|| Complaint::not_modelled("extending by no list"))?;
            does(Turn::Edits(Edit::Extend(new)))
        }
        "insert" => {
            let (index, length) = (number(call, 0, 0)?, items.len() as i64);
            let place = if index < 0 { index + length } else { index }.clamp(0, length);
            does(Turn::Edits(Edit::Insert(place as usize, argument(call, 1)?)))
        }
        "pop" => {
            let index = number(call, 0, -1)?;
            let index = if index < 0 { index + items.len() as i64 } else { index };
            match usize::try_from(index).ok().filter(|place| *place < items.len()) {
                Some(place) => Ok((Reply::Value(items[place]), Turn::Edits(Edit::Remove(place)))),
                None => raises("IndexError"),
            }
        }
        "remove" => {
            let wanted = argument(call, 0)?;
            match items.iter().position(|item| *item == wanted) {
                Some(place) => does(Turn::Edits(Edit::Remove(place))),
                None => raises("ValueError"),
            }
        }
        "clear" => becomes(Vec::new()),
        "reverse" => becomes(items.iter().rev().copied().collect()),
        "sort" => {
            let mut sorted = (**items).clone();
            sorted.sort_by_cached_key(|item| Rank::of(*item, values));
            becomes(sorted)
        }
        "update_in" => {
            let path = path(call, values)?;
            let Some(Val::Int(index)) = path.first().copied() else {
                return Err(Complaint::not_modelled("a path that starts with no index"));
            };
            let index = if index < 0 { index + items.len() as i64 } else { index };
            let Some(place) = usize::try_from(index).ok().filter(|place| *place < items.len()) else {
                return raises("IndexError");
            };
            match nested(items[place], &path[1..], call, values)? {
                Ok((item, result)) => Ok((Reply::Value(result), Turn::Edits(Edit::Set(place, item)))),
                Err(kind) => raises(kind),
            }
        }
        other => unknown(typeid, other),
    }
}

/// The pairs of a mapping or of a list of pairs, put into `entries`.
fn pairs(from: Option<Val>, mut entries: Ordered, values: &mut Values) -> Result<Ordered, Complaint> {
    let Some(from) = from else { return Ok(entries) };
    match values.other(from).cloned() {
        Some(Json::Object(fields)) => {
            for (key, value) in fields {
                let (key, value) = (values.intern(key.into()), values.intern(value));
                entries.insert(key, value);
            }
        }
        Some(Json::Array(items)) => {
            for pair in items {
                let pair = values.intern(pair);
                match values.list(pair).as_deref() {
                    Some([key, value]) => entries.insert(*key, *value),
                    _ => return Err(Complaint::not_modelled("a list of what are no pairs")),
                };
            }
        }
        _ => return Err(Complaint::not_modelled("a mapping that is none")),
    }
    Ok(entries)
}

/// A mapping as a value: an object if all keys are texts, else a list of pairs.
fn mapping(entries: &Ordered, values: &mut Values) -> Val {
    let all: Vec<_> = entries.iter().collect();
    let fields: Option<serde_json::Map<_, _>> =
        all.iter().map(|(key, value)| Some((values.json(*key).as_str()?.to_owned(), values.json(*value)))).collect();
    match fields {
        Some(fields) => values.intern(Json::Object(fields)),
        None => listed_pairs(entries, values),
    }
}

fn listed_pairs(entries: &Ordered, values: &mut Values) -> Val {
    let pairs: Vec<_> = entries.iter().map(|(key, value)| values.listed([key, value])).collect();
    values.listed(pairs)
}

fn dict_call(entries: &Ordered, method: &str, call: &Call, values: &mut Values) -> Result<Outcome, Complaint> {
    match method {
        "__len__" => keeps(Val::Int(entries.len() as i64)),
        "keys" => keeps(values.listed(entries.iter().map(|(key, _)| key))),
        "values" => keeps(values.listed(entries.iter().map(|(_, value)| value))),
        "items" => keeps(listed_pairs(entries, values)),
        "copy" | "#GETVALUE" => keeps(mapping(entries, values)),
        "get_many" => {
            let keys =
                values.list(argument(call, 0)?).ok_or_else(|| Complaint::not_modelled("keys that are no list"))?;
            let default = call.args.get(1).copied().unwrap_or(Val::Null);
            keeps(values.listed(keys.into_iter().map(|key| entries.get(key).unwrap_or(default))))
        }
        "clear" => does(Turn::Becomes(Data::Dict(Ordered::default()))),
        "popitem" => match entries.newest() {
            Some((key, value)) => Ok((Reply::Value(values.listed([key, value])), Turn::Removes(key))),
            None => raises("KeyError"),
        },
        "update" | "__ior__" if call.args.len() == 1 => {
            does(Turn::Becomes(Data::Dict(pairs(call.args.first().copied(), entries.clone(), values)?)))
        }
        "update_in" => {
            let path = path(call, values)?;
            let Some(key) = path.first().copied() else { return raises("ValueError") };
            let Some(item) = entries.get(key) else { return raises("KeyError") };
            match nested(item, &path[1..], call, values)? {
                Ok((item, result)) => Ok((Reply::Value(result), Turn::Sets(key, item))),
                Err(kind) => raises(kind),
            }
        }
        "__contains__" | "__getitem__" | "__setitem__" | "__delitem__" | "get" | "pop" | "setdefault" | "incr"
        | "compare_and_set" => {
            let key = argument(call, 0)?;
            let value = entries.get(key);
            let second = call.args.get(1).copied();
            match (method, value) {
                ("__contains__", _) => keeps(Val::Bool(value.is_some())),
                ("__getitem__", Some(value)) => keeps(value),
                ("get", _) => keeps(value.or(second).unwrap_or(Val::Null)),
                ("__setitem__", _) => does(Turn::Sets(key, argument(call, 1)?)),
                ("__delitem__", Some(_)) => does(Turn::Removes(key)),
                ("pop", Some(value)) => Ok((Reply::Value(value), Turn::Removes(key))),
                ("pop", None) if second.is_some() => keeps(argument(call, 1)?),
                ("setdefault", Some(value)) => keeps(value),
                ("setdefault", None) => {
                    let default = second.unwrap_or(Val::Null);
                    Ok((Reply::Value(default), Turn::Sets(key, default)))
                }
                ("incr", _) => increment(key, value, call, values),
                ("compare_and_set", _) => compare_and_set(key, value, call),
                _ => raises("KeyError"),
            }
        }
        other => unknown("a dict", other),
    }
}

fn increment(key: Val, value: Option<Val>, call: &Call, values: &mut Values) -> Result<Outcome, Complaint> {
    let amount = call.args.get(1).copied().unwrap_or(Val::Int(1));
    let start = value.unwrap_or_else(|| call.args.get(2).copied().unwrap_or(Val::Int(0)));
    match values.sum(start, amount) {
        Some(sum) => Ok((Reply::Value(sum), Turn::Sets(key, sum))),
        None => raises("TypeError"),
    }
}

fn compare_and_set(key: Val, value: Option<Val>, call: &Call) -> Result<Outcome, Complaint> {
    let (expected, new) = (argument(call, 1)?, argument(call, 2)?);
    match value == Some(expected) {
        true => Ok((Reply::Value(Val::Bool(true)), Turn::Sets(key, new))),
        false => keeps(Val::Bool(false)),
    }
}

fn namespace_call(entries: &Ordered, method: &str, call: &Call, values: &mut Values) -> Result<Outcome, Complaint> {
    let name = argument(call, 0)?;
    let value = entries.get(name);
    match (method, value) {
        ("__getattribute__", Some(value)) => keeps(value),
        ("__setattr__", _) => does(Turn::Sets(name, argument(call, 1)?)),
        ("__delattr__", Some(_)) => does(Turn::Removes(name)),
        ("__getattribute__" | "__delattr__", None) => raises("AttributeError"),
        ("incr", _) => increment(name, value, call, values),
        ("compare_and_set", _) => compare_and_set(name, value, call),
        (other, _) => unknown("a Namespace", other),
    }
}

fn set_call(elements: &Ordered, method: &str, call: &Call, values: &mut Values) -> Result<Outcome, Complaint> {
    let mut result = elements.clone();
    let others = |values: &mut Values| -> Result<Vec<Val>, Complaint> {
        let mut all = Vec::new();
        for other in &call.args {
            all.extend(values.list(*other).ok_or_else(|| Complaint::not_modelled("a set that is no list"))?);
        }
        Ok(all)
    };
    match method {
        "__len__" => keeps(Val::Int(elements.len() as i64)),
        "__contains__" => keeps(Val::Bool(elements.get(argument(call, 0)?).is_some())),
        "add" => {
            let element = argument(call, 0)?;
            does(if elements.get(element).is_some() { Turn::Keeps } else { Turn::Sets(element, Val::Null) })
        }
        "remove" | "discard" => {
            let element = argument(call, 0)?;
            match elements.get(element) {
                Some(_) => does(Turn::Removes(element)),
                None if method == "discard" => keeps(Val::Null),
                None => raises("KeyError"),
            }
        }
        "pop" => match elements.newest() {
            Some((element, _)) => Ok((Reply::Value(element), Turn::Removes(element))),
            None => raises("KeyError"),
        },
        "clear" => does(Turn::Becomes(Data::Set(Ordered::default()))),
        "copy" | "#GETVALUE" | "union" | "__or__" | "update" | "__ior__" => {
            for element in others(values)? {
                result.insert(element, Val::Null);
            }
            set_result(result, matches!(method, "update" | "__ior__"), values)
        }
        "difference" | "__sub__" | "difference_update" | "__isub__" => {
            for element in others(values)? {
                result.remove(element);
            }
            set_result(result, matches!(method, "difference_update" | "__isub__"), values)
        }
        other => unknown("a set", other),
    }
}

fn set_result(result: Ordered, in_place: bool, values: &mut Values) -> Result<Outcome, Complaint> {
    match in_place {
        true => does(Turn::Becomes(Data::Set(result))),
        false => keeps(values.listed(result.iter().map(|(element, _)| element))),
    }
}

/// The path of an `update_in`.
fn path(call: &Call, values: &mut Values) -> Result<Vec<Val>, Complaint> {
    values.list(argument(call, 0)?).ok_or_else(|| Complaint::not_modelled("a path that is no list"))
}

/// What `update_in` makes of an item, and its result.
fn nested(
    item: Val,
    path: &[Val],
    call: &Call,
    values: &mut Values,
) -> Result<Result<(Val, Val), &'static str>, Complaint> {
    let operation = values.json(argument(call, 1)?);
    let operation = operation.as_str().unwrap_or_default();
    let argument = call.args.get(2).map(|argument| values.json(*argument));
    let mut root = values.json(item);
    let path: Vec<_> = path.iter().map(|step| values.json(*step)).collect();
    let (parents, last) = match (operation, &path[..]) {
        ("set" | "delete", [parents @ .., last]) => (parents, Some(last)),
        ("delete", []) => return Ok(Err("ValueError")),
        (_, path) => (path, None),
    };
    let mut target = &mut root;
    for step in parents {
        target = match (target, step) {
            (Json::Object(fields), Json::String(key)) => match fields.get_mut(key) {
                Some(value) => value,
                None => return Ok(Err("KeyError")),
            },
            (Json::Array(items), Json::Number(_)) => match list_place(step, items.len()) {
                Some(place) => &mut items[place],
                None => return Ok(Err("IndexError")),
            },
            (Json::Object(_), _) => return Ok(Err("KeyError")),
            _ => return Ok(Err("TypeError")),
        };
    }
    let mut result = Json::Null;
    match (operation, target, last, argument) {
        ("set", target, None, Some(value)) => *target = value,
        ("set", Json::Object(fields), Some(Json::String(key)), Some(value)) => drop(fields.insert(key.clone(), value)),
        ("set", Json::Array(items), Some(index), Some(value)) => match list_place(index, items.len()) {
            Some(place) => items[place] = value,
            None => return Ok(Err("IndexError")),
        },
        ("delete", Json::Object(fields), Some(Json::String(key)), None) => match fields.remove(key) {
            Some(value) => result = value,
            None => return Ok(Err("KeyError")),
        },
        ("delete", Json::Array(items), Some(index), None) => match list_place(index, items.len()) {
            Some(place) => result = items.remove(place),
            None => return Ok(Err("IndexError")),
        },
        ("append", Json::Array(items), None, Some(value)) => items.push(value),
        ("extend", Json::Array(items), None, Some(Json::Array(new))) => items.extend(new),
        ("update", Json::Object(fields), None, Some(Json::Object(new))) => fields.extend(new),
        ("incr", number, None, amount) => {
            let (a, b) = (values.intern(number.clone()), values.intern(amount.unwrap_or_else(|| 1.into())));
            let Some(sum) = values.sum(a, b) else { return Ok(Err("TypeError")) };
            *number = values.json(sum);
            result = number.clone();
        }
        _ => return Err(Complaint::not_modelled(format!("`update_in` with `{operation}` of this item"))),
    }
    Ok(Ok((values.intern(root), values.intern(result))))
}

fn list_place(index: &Json, length: usize) -> Option<usize> {
    let index = index.as_i64()?;
    usize::try_from(if index < 0 { index + length as i64 } else { index }).ok().filter(|place| *place < length)
}
