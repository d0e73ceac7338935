//! `dict`.

use steward_wire::cbor;

use super::entries::{Entries, Entry, Inserted};
use super::items::{self, Held, Item, iterate, key_error, pairs, sequence, type_error, value_error};
use super::iterator::Iterators;
use super::{compare, decode, methods, nested, no_such_method, repr, type_name};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Param, Referent, Value, common};

/// Python's `dict`.
pub static DICT: Builtin = Builtin {
    typeid: "dict",
    doc: "A dict, as Python's: insertion order, and `1`, `1.0` and `True` are one key, of which the first stays.\n\n\
          Views are lists, results are copies.",
    constructor: PAIRS,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: true,
    constructible: true,
};

const PAIRS: &[Param] = &[Param::rest("other"), Param::keywords("kwargs")];
const KEY: Param = Param::required("key", "any");
const VALUE: Param = Param::required("value", "any");
const OTHER: Param = Param::required("other", "dict");

methods! {
    /// Methods of Dict.
    DictMethod, METHODS:
    Contains = Method::new("__contains__", &[KEY], "Says whether a key is in the dict.").read_only();
    DelItem = Method::new("__delitem__", &[KEY], "Removes a key.\n\nRaises `KeyError` if it is not there.");
    GetItem = Method::new("__getitem__", &[KEY], "Returns the value of a key.\n\nRaises `KeyError` if it is not there.").read_only();
    Ior = Method::new("__ior__", &[OTHER], "Takes over the pairs of a mapping or of an iterable of pairs.").stores().snapshots();
    Iter = Method::new("__iter__", &[],
        "Returns an iterator over the keys, which raises `RuntimeError` once the dict has changed size.").returning("Iterator");
    Len = Method::new("__len__", &[], "Returns the number of keys.").read_only();
    Or = Method::new("__or__", &[OTHER], "Returns a new dict: this one updated by another.").read_only().snapshots();
    Reversed = Method::new("__reversed__", &[], "Returns an iterator over the keys, newest first.").returning("Iterator");
    Ror = Method::new("__ror__", &[OTHER], "Returns a new dict: another updated by this one.").read_only().snapshots();
    SetItem = Method::new("__setitem__", &[KEY, VALUE], "Sets the value of a key.").stores();
    Clear = Method::new("clear", &[], "Removes all keys.");
    CompareAndSet = Method::new("compare_and_set",
        &[KEY, Param::required("expected", "any"), Param::required("new", "any")],
        "Replaces the value of a key if it equals `expected`, in one step; says whether it did.\n\nA missing key equals nothing.").stores();
    Copy = Method::new("copy", &[], "Returns a copy.").read_only();
    FromKeys = Method::new("fromkeys", &[Param::required("iterable", "list"), Param::optional("value", "any", "None")],
        "Returns a new dict with the keys of an iterable, all with the same value; this dict is not looked at.").read_only();
    Get = Method::new("get", &[KEY, Param::optional("default", "any", "None")],
        "Returns the value of a key, or `default`.").read_only();
    GetMany = Method::new("get_many", &[Param::required("keys", "list"), Param::optional("default", "any", "None")],
        "Returns the values of several keys as a list, `default` for each that is not there.").read_only();
    Incr = Method::new("incr",
        &[KEY, Param::optional("amount", "int or float", "1"), Param::optional("default", "int or float", "0")],
        "Adds to the value of a key, `default` if it is missing, in one step, and returns the sum.").stores();
    Items = Method::new("items", &[], "Returns a list of pairs.").read_only();
    Keys = Method::new("keys", &[], "Returns a list of the keys.").read_only();
    Pop = Method::new("pop", &[KEY, Param::optional("default", "any", "KeyError")],
        "Removes a key and returns its value, or `default`.\n\nRaises `KeyError` if it is not there and no default is given.");
    PopItem = Method::new("popitem", &[],
        "Removes and returns the newest pair.\n\nRaises `KeyError` if the dict is empty.");
    SetDefault = Method::new("setdefault", &[KEY, Param::optional("default", "any", "None")],
        "Returns the value of a key, which is set to `default` first if it is missing.").stores();
    Update = Method::new("update", PAIRS,
        "Takes over the pairs of a mapping or of an iterable of pairs, and the keyword arguments, in one step.").stores().snapshots();
    UpdateIn = Method::new("update_in",
        &[Param::required("path", "list"), Param::required("operation", "str"), Param::rest("args")],
        nested::UPDATE_IN_DOC).stores();
    Values = Method::new("values", &[], "Returns a list of the values.").read_only();
}

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let mut dict = Dict::default();
    let new = given_pairs("dict", args.bind("dict.__init__", PAIRS)?)?;
    dict.absorb(&new, args.has_tokens(), out)?;
    Ok(Box::new(dict))
}

/// The pairs of `(other, **kwargs)`, keywords last.
fn given_pairs(name: &str, [other, kwargs]: [Option<&[u8]>; 2]) -> Result<Vec<(Item, Item)>, Fault> {
    let mut new = match *sequence(other)? {
        [] => Vec::new(),
        [other] => pairs(other)?,
        ref others => {
            let given = others.len();
            return Err(type_error(format!("{name} expected at most 1 argument, got {given}")));
        }
    };
    new.extend(sequence(kwargs)?.chunks(2).map(|pair| (pair[0].into(), pair[1].into())));
    Ok(new)
}

#[derive(Default)]
struct Dict {
    entries: Entries<Item>,
    held: Held,
    iterators: Iterators<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    /// Forward: the place it looks at next; backward: one more than that.
    place: usize,
    backward: bool,
    /// The size the dict must still have.
    length: usize,
}

impl Referent for Dict {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                let done = if call.facet == 0 { self.call(&call, out) } else { self.iterate(&call, out) };
                if let Err(fault) = done {
                    out.raises(call.id, &fault);
                }
            }
            Input::Leave { facet } => {
                self.iterators.leave(facet);
            }
            _ => {}
        }
    }
}

impl Dict {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("dict.{}", method.name), method.params)?
            }};
        }
        let Some(method) = DictMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => out.returns(id, |bytes| put_map(bytes, &self.entries)),
                common::STR | common::REPR => {
                    let mut text = String::from("{");
                    for (index, entry) in self.entries.iter().enumerate() {
                        if index > 0 {
                            text.push_str(", ");
                        }
                        repr::put_item(&mut text, &entry.item)?;
                        text.push_str(": ");
                        repr::put_item(&mut text, &entry.value)?;
                    }
                    text.push('}');
                    out.returns_text(id, &text);
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            DictMethod::Copy => {
                let [] = bind!();
                out.returns(id, |bytes| put_map(bytes, &self.entries));
            }
            DictMethod::Contains => {
                let [key] = required(bind!());
                let found = self.entries.contains(key)?;
                out.returns_bool(id, found);
            }
            DictMethod::Len => {
                let [] = bind!();
                out.returns_int(id, self.entries.len() as i64);
            }
            DictMethod::GetItem => {
                let [key] = required(bind!());
                let value = self.entries.get(key)?.ok_or_else(|| key_error(key))?;
                out.returns_item(id, value);
            }
            DictMethod::Get => {
                let [key, default] = bind!();
                let value = self.entries.get(key.expect(BOUND))?;
                out.returns_item(id, value.map_or(default.unwrap_or(&[cbor::NULL]), |value| value));
            }
            DictMethod::GetMany => {
                let [keys, default] = bind!();
                let keys = iterate(keys.expect(BOUND))?;
                let mut values = Vec::new();
                cbor::put_array(&mut values, keys.len());
                for key in &keys {
                    let value = self.entries.get(key)?;
                    values.extend_from_slice(value.map_or(default.unwrap_or(&[cbor::NULL]), |value| value));
                    if values.len() > items::REPEAT_BYTES_MAX {
                        return Err(items::too_large());
                    }
                }
                out.returns_item(id, &values);
            }
            DictMethod::Keys => {
                let [] = bind!();
                self.put_each(id, out, |entry, bytes| bytes.extend_from_slice(&entry.item));
            }
            DictMethod::Values => {
                let [] = bind!();
                self.put_each(id, out, |entry, bytes| bytes.extend_from_slice(&entry.value));
            }
            DictMethod::Items => {
                let [] = bind!();
                self.put_each(id, out, put_pair);
            }
            DictMethod::Or | DictMethod::Ror => {
                let [other] = required(bind!());
                let mut reader = cbor::Reader::new(other);
                if reader.map().is_err() {
                    let other = type_name(&decode(other)?);
                    let (left, right) = if method == DictMethod::Or { ("dict", other) } else { (other, "dict") };
                    return Err(type_error(format!("unsupported operand type(s) for |: '{left}' and '{right}'")));
                }
                let own = self.entries.iter().map(|entry| (entry.item.clone(), entry.value.clone()));
                let (first, second): (Vec<_>, Vec<_>) = if method == DictMethod::Or {
                    (own.collect(), pairs(other)?)
                } else {
                    (pairs(other)?, own.collect())
                };
                let mut union = Entries::default();
                for (key, value) in first.iter().chain(&second) {
                    union.insert(key, value.clone())?;
                }
                out.returns(id, |bytes| put_map(bytes, &union));
            }
            DictMethod::FromKeys => {
                let [iterable, value] = bind!();
                let value = value.unwrap_or(&[cbor::NULL]);
                let keys = iterate(iterable.expect(BOUND))?;
                if keys.len().saturating_mul(value.len()) > items::REPEAT_BYTES_MAX {
                    return Err(items::too_large());
                }
                let mut made = Entries::default();
                for key in keys {
                    made.insert(&key, Item::from(value))?;
                }
                out.returns(id, |bytes| put_map(bytes, &made));
            }
            DictMethod::Iter | DictMethod::Reversed => {
                let [] = bind!();
                self.iterators.check_room()?;
                let backward = method == DictMethod::Reversed;
                let place = if backward { self.entries.end() } else { 0 };
                self.iterators.open(call, Cursor { place, backward, length: self.entries.len() }, out);
            }
            DictMethod::SetItem => {
                let [key, value] = required(bind!());
                self.set(key, value.into(), args.has_tokens(), out)?;
                out.changed();
                out.returns_null(id);
            }
            DictMethod::DelItem => {
                let [key] = required(bind!());
                let entry = self.entries.remove(key)?.ok_or_else(|| key_error(key))?;
                self.removed(&entry, out);
                out.changed();
                out.returns_null(id);
            }
            DictMethod::Pop => {
                let [key, default] = bind!();
                let key = key.expect(BOUND);
                // As CPython, which does not hash the key when there is nothing to find.
                let found = if self.entries.len() == 0 { None } else { self.entries.remove(key)? };
                match (found, default) {
                    (Some(entry), _) => {
                        self.removed(&entry, out);
                        out.changed();
                        out.returns_item(id, &entry.value);
                    }
                    (None, Some(default)) => out.returns_item(id, default),
                    (None, None) => return Err(key_error(key)),
                }
            }
            DictMethod::PopItem => {
                let [] = bind!();
                let Some(entry) = self.entries.pop() else {
                    return Err(key_error(&items::encoded(&Value::Text("popitem(): dictionary is empty".into()))));
                };
                self.removed(&entry, out);
                out.changed();
                out.returns(id, |bytes| put_pair(&entry, bytes));
            }
            DictMethod::Clear => {
                let [] = bind!();
                for entry in self.entries.clear().into_iter().flatten() {
                    self.held.remove(&entry.item, out);
                    self.held.remove(&entry.value, out);
                }
                // Whatever an iterator has seen is gone.
                self.iterators.live().for_each(|cursor| cursor.place = 0);
                out.changed();
                out.returns_null(id);
            }
            DictMethod::SetDefault => {
                let [key, default] = bind!();
                let (key, default) = (key.expect(BOUND), default.unwrap_or(&[cbor::NULL]));
                if let Some(value) = self.entries.get(key)? {
                    out.returns_item(id, value);
                } else {
                    self.set(key, default.into(), args.has_tokens(), out)?;
                    out.changed();
                    out.returns_item(id, default);
                }
            }
            DictMethod::Update => {
                let new = given_pairs("update", bind!())?;
                self.absorb(&new, args.has_tokens(), out)?;
                out.changed();
                out.returns_null(id);
            }
            DictMethod::Ior => {
                let [other] = required(bind!());
                self.absorb(&pairs(other)?, args.has_tokens(), out)?;
                out.changed();
                out.returns_null(id);
            }
            DictMethod::Incr => {
                let [key, amount, default] = bind!();
                let key = key.expect(BOUND);
                let start = self.entries.get(key)?.map_or(default.unwrap_or(&[0]), |value| value);
                let sum = items::sum(start, amount.unwrap_or(&[1]))?;
                self.set(key, sum.clone(), args.has_tokens(), out)?;
                out.changed();
                out.returns_item(id, &sum);
            }
            DictMethod::CompareAndSet => {
                let [key, expected, new] = required(bind!());
                let same = self.entries.get(key)?.is_some_and(|value| compare::equal(value, expected));
                if same {
                    self.set(key, new.into(), args.has_tokens(), out)?;
                    out.changed();
                }
                out.returns_bool(id, same);
            }
            DictMethod::UpdateIn => {
                let [path, operation, rest] = bind!();
                let mut path = iterate(path.expect(BOUND))?.into_iter();
                let key = path.next().ok_or_else(|| value_error(nested::EMPTY_PATH))?;
                let old = self.entries.get(&key)?.ok_or_else(|| key_error(&key))?;
                let (item, result) = nested::update(old, path.as_slice(), operation.expect(BOUND), rest)?;
                // What the new item holds came with this call or was held by the old one.
                self.set(&key, item, args.has_tokens() || self.held.any(), out)?;
                out.changed();
                out.returns_item(id, &result);
            }
        }
        Ok(())
    }

    fn iterate(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let entries = &self.entries;
        let next = |cursor: &mut Cursor, found: &mut Vec<u8>, _: &mut Outbox| {
            if cursor.length != entries.len() {
                // Sticky, as in CPython: the size never fits again.
                cursor.length = usize::MAX;
                return Err(Fault::raised("RuntimeError", "dictionary changed size during iteration"));
            }
            let entry = if cursor.backward { entries.before(cursor.place) } else { entries.at_or_after(cursor.place) };
            let Some((place, entry)) = entry else { return Ok(false) };
            cursor.place = if cursor.backward { place } else { place + 1 };
            found.extend_from_slice(&entry.item);
            Ok(true)
        };
        self.iterators.call(call, "dict_keyiterator", out, next, |_, _| {})
    }

    fn set(&mut self, key: &[u8], value: Item, may_have_tokens: bool, out: &mut Outbox) -> Result<(), Fault> {
        let (length, tokens_of) = (value.len(), may_have_tokens.then(|| value.clone()));
        let inserted = self.entries.insert(key, value)?;
        match tokens_of {
            Some(value) => self.held.store(&value, true, out),
            None => out.store_item(length),
        }
        match inserted {
            Inserted::New => self.held.store(key, may_have_tokens, out),
            Inserted::Replaced(old) => self.held.remove(&old, out),
        }
        Ok(())
    }

    /// Sets all pairs, or none if a key is not hashable.
    fn absorb(&mut self, new: &[(Item, Item)], may_have_tokens: bool, out: &mut Outbox) -> Result<(), Fault> {
        for (key, _) in new {
            super::key::put(key, &mut Vec::new())?;
        }
        for (key, value) in new {
            self.set(key, value.clone(), may_have_tokens, out)?;
        }
        Ok(())
    }

    fn removed(&mut self, entry: &Entry<Item>, out: &mut Outbox) {
        self.held.remove(&entry.item, out);
        self.held.remove(&entry.value, out);
        self.entries.tidy(self.iterators.live().map(|cursor| &mut cursor.place));
    }

    fn put_each(&self, id: u64, out: &mut Outbox, put: impl Fn(&Entry<Item>, &mut Vec<u8>)) {
        out.returns(id, |bytes| {
            cbor::put_array(bytes, self.entries.len());
            self.entries.iter().for_each(|entry| put(entry, bytes));
        });
    }
}

const BOUND: &str = "bind fills required parameters";

fn required<const N: usize>(slots: [Option<&[u8]>; N]) -> [&[u8]; N] {
    slots.map(|slot| slot.expect(BOUND))
}

fn put_map(bytes: &mut Vec<u8>, entries: &Entries<Item>) {
    cbor::put_map(bytes, entries.len());
    for entry in entries.iter() {
        bytes.extend_from_slice(&entry.item);
        bytes.extend_from_slice(&entry.value);
    }
}

fn put_pair(entry: &Entry<Item>, bytes: &mut Vec<u8>) {
    cbor::put_tag(bytes, steward_wire::value::tag::TUPLE);
    cbor::put_array(bytes, 2);
    bytes.extend_from_slice(&entry.item);
    bytes.extend_from_slice(&entry.value);
}
