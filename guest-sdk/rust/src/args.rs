//! Arguments, bound to parameters as Python binds them.

use serde::Deserialize;
use steward_wire::Malformed;
use steward_wire::cbor::Reader;
use steward_wire::describe::ParamKind;

use crate::codec::{self, Error};
use crate::{Param, Result, raise};

/// What was given for one parameter.
#[derive(Clone, Copy, Debug, Default)]
pub enum Slot<'a> {
    /// Nothing.
    #[default]
    Empty,
    /// One item.
    Item(&'a [u8]),
    /// The items of `*args`, one after the other.
    Rest(&'a [u8]),
    /// All keywords, among them those of `**kwargs`: a map.
    Keywords(&'a [u8]),
}

/// Binds `args`, shaped `[[positional…], {keyword: …}]`, to `params`, a slot each. `function` is for errors: `Queue.put`.
///
/// # Errors
/// `TypeError`, found in the order and worded as CPython's, which count `self`.
#[inline]
pub fn bind<'a>(function: &str, params: &[Param], args: &'a [u8], slots: &mut [Slot<'a>]) -> Result<()> {
    if fill_plainly(params, args, slots).is_some() { Ok(()) } else { bind_fully(function, params, args, slots) }
}

/// Fills the slots from arguments that are given by place alone and are numbers, texts or bytes that are not long, as most are. `None`
/// leaves it to [`bind_fully`].
fn fill_plainly<'a>(params: &[Param], args: &'a [u8], slots: &mut [Slot<'a>]) -> Option<()> {
    // Two, of which the first is an array of fewer than 24 and the second a map of none.
    let [0x82, given @ 0x80..=0x97, items @ .., 0xa0] = args else { return None };
    let mut items = items;
    let (taken, left) = params.split_at_checked(usize::from(given & 0x1f))?;
    for (param, slot) in taken.iter().zip(slots) {
        let (item, rest) = items.split_at_checked(plain_length(items)?)?;
        if param.kind != ParamKind::Normal {
            return None;
        }
        (*slot, items) = (Slot::Item(item), rest);
    }
    (items.is_empty() && left.iter().all(|param| param.default.is_some())).then_some(())
}

/// Length of the item that comes first, if it is a number, or a text or bytes of fewer than 256.
#[inline(never)]
pub(crate) fn plain_length(items: &[u8]) -> Option<usize> {
    let first = *items.first()?;
    let small = usize::from(first & 0x1f);
    match (first >> 5, small) {
        (2 | 3, 0..=23) => Some(1 + small),
        (2 | 3, 24) => Some(2 + usize::from(*items.get(1)?)),
        (0 | 1 | 7, 0..=23) => Some(1),
        (0 | 1 | 7, 24..=27) => Some(1 + (1 << (small - 24))),
        _ => None,
    }
}

#[cold]
fn bind_fully<'a>(function: &str, params: &[Param], args: &'a [u8], slots: &mut [Slot<'a>]) -> Result<()> {
    slots.fill(Slot::Empty);
    match fill(params, args, slots) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(message)) => raise("TypeError", format!("{function}() {message}")),
        // The host has checked the item: this is for others who step the guest.
        Err(_) => raise("TypeError", format!("{function}() got malformed arguments")),
    }
}

/// The parameter that a keyword names.
fn named(params: &[Param], name: &str) -> Option<usize> {
    params
        .iter()
        .position(|param| param.name == name && matches!(param.kind, ParamKind::Normal | ParamKind::KeywordOnly))
}

/// Fills the slots; the inner error is what to raise.
fn fill<'a>(
    params: &[Param],
    args: &'a [u8],
    slots: &mut [Slot<'a>],
) -> std::result::Result<std::result::Result<(), String>, Malformed> {
    let mut reader = Reader::new(args);
    if reader.array()? != 2 {
        return Err(Malformed::Truncated);
    }
    let given = reader.array()?;
    let positional = params.iter().take_while(|param| param.kind == ParamKind::Normal).count();
    for slot in slots.iter_mut().take(positional.min(given)) {
        *slot = Slot::Item(reader.raw()?);
    }
    let surplus_start = reader.position();
    for _ in positional..given {
        reader.raw()?;
    }
    let surplus = &args[surplus_start..reader.position()];

    let keywords = &args[reader.position()..];
    for _ in 0..reader.map()? {
        let name = reader.text()?;
        let value = reader.raw()?;
        if let Some(at) = named(params, name) {
            if !matches!(slots[at], Slot::Empty) {
                return Ok(Err(format!("got multiple values for argument '{name}'")));
            }
            slots[at] = Slot::Item(value);
        } else if let Some(at) = params.iter().position(|param| param.kind == ParamKind::Keywords) {
            slots[at] = Slot::Keywords(keywords);
        } else {
            return Ok(Err(format!("got an unexpected keyword argument '{name}'")));
        }
    }

    if given > positional {
        match params.iter().position(|param| param.kind == ParamKind::Rest) {
            Some(at) => slots[at] = Slot::Rest(surplus),
            None => return Ok(Err(too_many(params, positional, given))),
        }
    }
    for (kind, what) in [(ParamKind::Normal, "positional"), (ParamKind::KeywordOnly, "keyword-only")] {
        let is_missing = |param: &Param, slot: &Slot<'_>| {
            param.kind == kind && param.default.is_none() && matches!(slot, Slot::Empty)
        };
        if params.iter().zip(&*slots).any(|(param, slot)| is_missing(param, slot)) {
            let missing = params.iter().zip(&*slots).filter(|(param, slot)| is_missing(param, slot));
            return Ok(Err(missing_names(what, &missing.map(|(param, _)| param.name).collect::<Vec<_>>())));
        }
    }
    Ok(Ok(()))
}

fn too_many(params: &[Param], positional: usize, given: usize) -> String {
    let optional = params[..positional].iter().filter(|param| param.default.is_some()).count();
    let (most, given) = (positional + 1, given + 1);
    let s = if most == 1 { "" } else { "s" };
    if optional == 0 {
        format!("takes {most} positional argument{s} but {given} were given")
    } else {
        format!("takes from {} to {most} positional arguments but {given} were given", most - optional)
    }
}

/// `missing 3 required positional arguments: 'a', 'b', and 'c'`.
fn missing_names(what: &str, names: &[&str]) -> String {
    let count = names.len();
    let mut text = format!("missing {count} required {what} argument{}: ", if count == 1 { "" } else { "s" });
    for (at, name) in names.iter().enumerate() {
        text += match (at, count) {
            (0, _) => "'",
            (_, 2) => "' and '",
            (at, count) if at + 1 == count => "', and '",
            _ => "', '",
        };
        text += name;
    }
    text + "'"
}

/// Decodes the argument of one parameter; `None` where its default counts.
///
/// # Errors
/// `TypeError` for an item of another type, `OverflowError` for a number beyond the type.
pub fn one<'a, T: Deserialize<'a>>(function: &str, param: &Param, slot: &Slot<'a>) -> Result<Option<T>> {
    match slot {
        Slot::Item(item) => decode(function, param, item).map(Some),
        _ => Ok(None),
    }
}

/// Decodes the argument of a parameter without default.
///
/// # Errors
/// As [`one`].
///
/// # Panics
/// If the slot is empty, which [`bind`] excludes.
pub fn required<'a, T: Deserialize<'a>>(function: &str, param: &Param, slot: &Slot<'a>) -> Result<T> {
    Ok(one(function, param, slot)?.expect("bind fills the slots of required parameters"))
}

/// Decodes all further positional arguments.
///
/// # Errors
/// As [`one`].
pub fn rest<'a, T: Deserialize<'a>>(function: &str, param: &Param, slot: &Slot<'a>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    if let Slot::Rest(items) = slot {
        let mut reader = Reader::new(items);
        while let (false, Ok(item)) = (reader.is_empty(), reader.raw()) {
            values.push(decode(function, param, item)?);
        }
    }
    Ok(values)
}

/// Decodes all further keyword arguments, those that name none of `params`, in the order given.
///
/// # Errors
/// As [`one`].
pub fn keywords<'a, T: Deserialize<'a>>(
    function: &str,
    params: &[Param],
    param: &Param,
    slot: &Slot<'a>,
) -> Result<Vec<(String, T)>> {
    let mut values = Vec::new();
    if let Slot::Keywords(map) = slot {
        let mut reader = Reader::new(map);
        for _ in 0..reader.map().unwrap_or(0) {
            let (Ok(name), Ok(item)) = (reader.text(), reader.raw()) else { break };
            if named(params, name).is_none() {
                values.push((name.to_owned(), decode(function, param, item)?));
            }
        }
    }
    Ok(values)
}

fn decode<'a, T: Deserialize<'a>>(function: &str, param: &Param, item: &'a [u8]) -> Result<T> {
    codec::from_slice(item).or_else(|error| refuse(function, param, item, &error))
}

/// Apart from [`decode`], so that there is one copy of it and not one for each type.
#[cold]
fn refuse<T>(function: &str, param: &Param, item: &[u8], error: &Error) -> Result<T> {
    let name = param.name;
    let found = python_type(item);
    match error {
        Error::Mismatch if found != param.type_name && param.type_name != "any" => {
            raise("TypeError", format!("{function}() argument '{name}' must be {}, not {found}", param.type_name))
        }
        Error::Range => raise("OverflowError", format!("{function}() argument '{name}' is out of range")),
        error => raise("TypeError", format!("{function}() argument '{name}': {error}")),
    }
}

/// The name of an item's type in Python.
fn python_type(item: &[u8]) -> &'static str {
    let Ok(head) = Reader::new(item).head() else { return "malformed" };
    match (item[0] >> 5, head.argument) {
        (0 | 1, _) | (6, 2 | 3) => "int",
        (2, _) => "bytes",
        (3, _) => "str",
        (4, _) => "list",
        (5, _) => "dict",
        (6, 258) => "set",
        (6, 54_200) => "tuple",
        (6, 54_201) => "frozenset",
        (6, 54_202) => "bytearray",
        (6, 54_210) => "a proxy",
        (6, _) => "another type",
        (_, 20 | 21) if head.width == 0 => "bool",
        (_, 22) if head.width == 0 => "NoneType",
        _ => "float",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stop, args};

    const fn param(name: &'static str, kind: ParamKind, default: Option<&'static str>) -> Param {
        Param { name, kind, type_name: "int", default }
    }
    const A: Param = param("a", ParamKind::Normal, None);
    const B: Param = param("b", ParamKind::Normal, None);
    const B2: Param = param("b", ParamKind::Normal, Some("2"));
    const K: Param = param("k", ParamKind::KeywordOnly, None);
    const REST: Param = param("rest", ParamKind::Rest, None);
    const KEYWORDS: Param = param("keywords", ParamKind::Keywords, None);

    /// What each slot holds, as text: `-` for nothing.
    #[track_caller]
    fn check(params: &[Param], args: Vec<u8>, expected: std::result::Result<&str, &str>) {
        let mut slots: Vec<Slot<'_>> = params.iter().map(|_| Slot::Empty).collect();
        let bound = bind("T.f", params, &args, &mut slots).map(|()| {
            let texts = params.iter().zip(&slots).map(|(param, slot)| match slot {
                Slot::Empty => "-".to_owned(),
                Slot::Item(_) => required::<i64>("T.f", param, slot).unwrap().to_string(),
                Slot::Rest(_) => format!("{:?}", rest::<i64>("T.f", param, slot).unwrap()),
                Slot::Keywords(_) => format!("{:?}", keywords::<i64>("T.f", params, param, slot).unwrap()),
            });
            texts.collect::<Vec<_>>().join(" ")
        });
        let bound = bound.map_err(|stop| match stop {
            Stop::Raised(fault) => fault.message.into_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(bound.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn places_then_keywords_fill_the_slots() {
        check(&[A, B2], args![1], Ok("1 -"));
        check(&[A, B2], args![b = 5, a = 1], Ok("1 5"));
        check(&[A, REST], args![1, 2, 3], Ok("1 [2, 3]"));
        check(&[A, K, KEYWORDS], args![1, x = 2, k = 3, y = 4], Ok(r#"1 3 [("x", 2), ("y", 4)]"#));
        check(&[A, B], args![-1, 1_i64 << 40], Ok("-1 1099511627776"));
    }

    /// What is bound the short way is bound the same the long way.
    #[test]
    fn plain_arguments_are_bound_as_all_are() {
        let texts = ["", "x", &"x".repeat(23), &"x".repeat(24), &"x".repeat(255), &"x".repeat(256)];
        let mut given = texts.map(|text| args![text]).to_vec();
        given.extend([args![], args![7], args![-300, 2.5], args![None::<u8>, true], args![vec![1], 2], args![1, 2, 3]]);
        given.extend([
            args![1, b = 2],
            vec![0x82, 0x81, 0x61, 0xa0],
            vec![0x82, 0x82, 0x01, 0xa0],
            vec![0x82, 0x80, 0x01, 0xa0],
        ]);
        for args in given {
            for params in [&[][..], &[A], &[A, B2], &[A, B], &[B2, B2], &[A, REST], &[A, K], &[REST], &[KEYWORDS]] {
                let [mut short, mut long] = [(); 2].map(|()| vec![Slot::Empty; params.len()]);
                if fill_plainly(params, &args, &mut short).is_some() {
                    bind_fully("T.f", params, &args, &mut long).expect("the short way bound it");
                    assert_eq!(format!("{short:?}"), format!("{long:?}"), "{args:02x?}");
                }
            }
        }
    }

    #[test]
    fn refusals_are_worded_as_cpythons() {
        check(&[A, B], args![], Err("T.f() missing 2 required positional arguments: 'a' and 'b'"));
        check(&[A, B, B], args![], Err("T.f() missing 3 required positional arguments: 'a', 'b', and 'b'"));
        check(&[A, K], args![1], Err("T.f() missing 1 required keyword-only argument: 'k'"));
        check(&[], args![1], Err("T.f() takes 1 positional argument but 2 were given"));
        check(&[A, B2], args![1, 2, 3], Err("T.f() takes from 2 to 3 positional arguments but 4 were given"));
        check(&[A], args![1, a = 2], Err("T.f() got multiple values for argument 'a'"));
        check(&[A, REST], args![1, rest = 2], Err("T.f() got an unexpected keyword argument 'rest'"));
    }

    #[test]
    fn wrong_types_are_named() {
        let check = |item: &[u8], kind: &str, message: &str| match required::<u8>("T.f", &A, &Slot::Item(item)) {
            Err(Stop::Raised(fault)) => assert_eq!((&*fault.kind, &*fault.message), (kind, message)),
            other => panic!("{other:?}"),
        };
        check(b"\x61x", "TypeError", "T.f() argument 'a' must be int, not str");
        check(b"\xf6", "TypeError", "T.f() argument 'a' must be int, not NoneType");
        check(b"\x20", "OverflowError", "T.f() argument 'a' is out of range");
    }
}
