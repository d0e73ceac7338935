//! `set`.

use steward_wire::cbor::{self, Kind, Reader};
use steward_wire::value::tag;

use super::compare::unordered;
use super::entries::{Entries, Inserted};
use super::items::{Held, Item, encoded, iterate, key_error, sequence, type_error};
use super::iterator::Iterators;
use super::{decode, methods, no_such_method, repr, type_name};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Param, Referent, Value, common};

/// Python's `set`.
pub static SET: Builtin = Builtin {
    typeid: "set",
    doc: "A set, as Python's, but in insertion order.\n\nOperators take sets and frozensets, methods any iterable. \
          Results are copies.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: true,
    constructible: true,
};

const CONSTRUCTOR: &[Param] = &[Param::optional("iterable", "list", "()")];
const ELEMENT: Param = Param::required("element", "any");
const OTHER: &[Param] = &[Param::required("other", "set")];
const ITERABLE: &[Param] = &[Param::required("other", "list")];
const OTHERS: &[Param] = &[Param::rest("others")];

methods! {
    /// Methods of Set.
    SetMethod, METHODS:
    And = Method::new("__and__", OTHER, "Returns the elements that both sets have.").read_only().snapshots();
    Contains = Method::new("__contains__", &[ELEMENT], "Says whether an element is in the set.").read_only();
    Ge = Method::new("__ge__", OTHER, "Says whether the set has all elements of another.").read_only().snapshots();
    Gt = Method::new("__gt__", OTHER, "Says whether the set has all elements of another, and more.").read_only().snapshots();
    Iand = Method::new("__iand__", OTHER, "Keeps only elements that another set has, too.").stores().snapshots();
    Ior = Method::new("__ior__", OTHER, "Adds the elements of another set.").stores().snapshots();
    Isub = Method::new("__isub__", OTHER, "Removes the elements of another set.").snapshots();
    Iter = Method::new("__iter__", &[], "Returns an iterator over a copy of the elements.").stores().returning("Iterator");
    Ixor = Method::new("__ixor__", OTHER, "Keeps what is in exactly one of the two sets.").stores().snapshots();
    Le = Method::new("__le__", OTHER, "Says whether another set has all elements of this one.").read_only().snapshots();
    Len = Method::new("__len__", &[], "Returns the number of elements.").read_only();
    Lt = Method::new("__lt__", OTHER, "Says whether another set has all elements of this one, and more.").read_only().snapshots();
    Or = Method::new("__or__", OTHER, "Returns the elements that either set has.").read_only().snapshots();
    Rand = Method::new("__rand__", OTHER, "As `__and__`.").read_only().snapshots();
    Ror = Method::new("__ror__", OTHER, "As `__or__`.").read_only().snapshots();
    Rsub = Method::new("__rsub__", OTHER, "Returns the elements of another set that this one lacks.").read_only().snapshots();
    Rxor = Method::new("__rxor__", OTHER, "As `__xor__`.").read_only().snapshots();
    Sub = Method::new("__sub__", OTHER, "Returns the elements that another set lacks.").read_only().snapshots();
    Xor = Method::new("__xor__", OTHER, "Returns what is in exactly one of the two sets.").read_only().snapshots();
    Add = Method::new("add", &[ELEMENT], "Adds an element; an equal one that is there stays.").stores();
    Clear = Method::new("clear", &[], "Removes all elements.");
    Copy = Method::new("copy", &[], "Returns a copy.").read_only();
    Difference = Method::new("difference", OTHERS, "Returns the elements that no other has.").read_only().snapshots();
    DifferenceUpdate = Method::new("difference_update", OTHERS, "Removes all elements of the others.").snapshots();
    Discard = Method::new("discard", &[ELEMENT], "Removes an element if it is there.");
    Intersection = Method::new("intersection", OTHERS, "Returns the elements that all others have, too.").read_only().snapshots();
    IntersectionUpdate = Method::new("intersection_update", OTHERS, "Keeps only elements that all others have, too.").stores().snapshots();
    IsDisjoint = Method::new("isdisjoint", ITERABLE, "Says whether no element is in both.").read_only().snapshots();
    IsSubset = Method::new("issubset", ITERABLE, "Says whether the other has all elements of this set.").read_only().snapshots();
    IsSuperset = Method::new("issuperset", ITERABLE, "Says whether the set has all elements of the other.").read_only().snapshots();
    Pop = Method::new("pop", &[], "Removes and returns an element, the newest.\n\nRaises `KeyError` if the set is empty.");
    Remove = Method::new("remove", &[ELEMENT], "Removes an element.\n\nRaises `KeyError` if it is not there.");
    SymmetricDifference = Method::new("symmetric_difference", ITERABLE,
        "Returns what is in exactly one of the two.").read_only().snapshots();
    SymmetricDifferenceUpdate = Method::new("symmetric_difference_update", ITERABLE,
        "Keeps what is in exactly one of the two.").stores().snapshots();
    Union = Method::new("union", OTHERS, "Returns the elements that the set or any other has.").read_only().snapshots();
    Update = Method::new("update", OTHERS, "Adds all elements of the others, or nothing if one is not a set of hashable items.").stores().snapshots();
}

type Elements = Entries<()>;

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let [iterable] = args.bind("set.__init__", CONSTRUCTOR)?;
    let mut set = Set::default();
    if let Some(iterable) = iterable {
        set.elements = elements_of(iterable)?;
    }
    for entry in set.elements.iter() {
        set.held.store(&entry.item, args.has_tokens(), out);
    }
    Ok(Box::new(set))
}

#[derive(Default)]
struct Set {
    elements: Elements,
    /// What iterators still have to give counts, too.
    held: Held,
    iterators: Iterators<std::vec::IntoIter<Item>>,
}

impl Referent for Set {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                let done = if call.facet == 0 { self.call(&call, out) } else { self.iterate(&call, out) };
                if let Err(fault) = done {
                    out.raises(call.id, &fault);
                }
            }
            Input::Leave { facet } => {
                for item in self.iterators.leave(facet).into_iter().flatten() {
                    self.held.remove(&item, out);
                }
            }
            _ => {}
        }
    }
}

impl Set {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("set.{}", method.name), method.params)?
            }};
        }
        let Some(method) = SetMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => put(&self.elements, id, out),
                common::STR | common::REPR => {
                    let text = if self.elements.len() == 0 {
                        "set()".to_owned()
                    } else {
                        let mut text = String::from("{");
                        repr::put_items(&mut text, self.elements.iter().map(|entry| &*entry.item))?;
                        text.push('}');
                        text
                    };
                    out.returns_text(id, &text);
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            SetMethod::Copy => {
                let [] = bind!();
                put(&self.elements, id, out);
            }
            SetMethod::Len => {
                let [] = bind!();
                out.returns_int(id, self.elements.len() as i64);
            }
            SetMethod::Contains => {
                let [element] = bind!();
                let found = self.elements.contains(&findable(element.expect(BOUND))?)?;
                out.returns_bool(id, found);
            }
            SetMethod::Iter => {
                let [] = bind!();
                self.iterators.check_room()?;
                let copy: Vec<Item> = self.elements.iter().map(|entry| entry.item.clone()).collect();
                let has_tokens = self.held.any();
                copy.iter().for_each(|item| self.held.store(item, has_tokens, out));
                self.iterators.open(call, copy.into_iter(), out);
            }
            SetMethod::Add => {
                let [element] = bind!();
                let element = element.expect(BOUND);
                if let Inserted::New = self.elements.insert(element, ())? {
                    self.held.store(element, args.has_tokens(), out);
                    out.changed();
                }
                out.returns_null(id);
            }
            SetMethod::Remove | SetMethod::Discard => {
                let [element] = bind!();
                let element = element.expect(BOUND);
                match self.elements.remove(&findable(element)?)? {
                    Some(entry) => {
                        self.held.remove(&entry.item, out);
                        self.elements.tidy(std::iter::empty());
                        out.changed();
                    }
                    None if method == SetMethod::Remove => return Err(key_error(element)),
                    None => {}
                }
                out.returns_null(id);
            }
            SetMethod::Pop => {
                let [] = bind!();
                let Some(entry) = self.elements.pop() else {
                    return Err(key_error(&encoded(&Value::Text("pop from an empty set".into()))));
                };
                self.held.remove(&entry.item, out);
                self.elements.tidy(std::iter::empty());
                out.changed();
                out.returns_item(id, &entry.item);
            }
            SetMethod::Clear => {
                let [] = bind!();
                self.become_these(Elements::default(), false, out);
                out.returns_null(id);
            }
            SetMethod::And
            | SetMethod::Rand
            | SetMethod::Or
            | SetMethod::Ror
            | SetMethod::Xor
            | SetMethod::Rxor
            | SetMethod::Sub
            | SetMethod::Rsub => {
                let [other] = bind!();
                let (name, reflected) = match method {
                    SetMethod::And => ("&", false),
                    SetMethod::Rand => ("&", true),
                    SetMethod::Or => ("|", false),
                    SetMethod::Ror => ("|", true),
                    SetMethod::Xor => ("^", false),
                    SetMethod::Rxor => ("^", true),
                    SetMethod::Sub => ("-", false),
                    _ => ("-", true),
                };
                let other = other.expect(BOUND);
                // The result has the type of the left operand.
                let tag = if reflected && is_tagged(other, tag::FROZEN_SET) { tag::FROZEN_SET } else { tag::SET };
                let other = operand(other, name, reflected)?;
                let own = copy_of(&self.elements);
                let (left, right) = if reflected { (other, own) } else { (own, other) };
                let result = match name {
                    "&" => intersection(left, right, true)?,
                    "|" => union(left, &right)?,
                    "^" => symmetric_difference(left, right)?,
                    _ => difference(left, &right)?,
                };
                put_tagged(tag, &result, id, out);
            }
            SetMethod::Iand | SetMethod::Ior | SetMethod::Ixor | SetMethod::Isub => {
                let [other] = bind!();
                let other = other.expect(BOUND);
                let own = copy_of(&self.elements);
                let result = match method {
                    SetMethod::Iand => intersection(own, operand(other, "&=", false)?, true)?,
                    SetMethod::Ior => union(own, &operand(other, "|=", false)?)?,
                    SetMethod::Ixor => symmetric_difference(own, operand(other, "^=", false)?)?,
                    _ => difference(own, &operand(other, "-=", false)?)?,
                };
                self.become_these(result, args.has_tokens(), out);
                out.returns_null(id);
            }
            SetMethod::Le | SetMethod::Lt | SetMethod::Ge | SetMethod::Gt => {
                let [other] = bind!();
                let other = other.expect(BOUND);
                let name = match method {
                    SetMethod::Le => "<=",
                    SetMethod::Lt => "<",
                    SetMethod::Ge => ">=",
                    _ => ">",
                };
                if !is_set(other) {
                    return Err(unordered(name, &Value::Set(Vec::new()), &decode(other)?));
                }
                let mut other = elements_of(other)?;
                let (less, greater) = (self.elements.len() < other.len(), self.elements.len() > other.len());
                let answer = match method {
                    SetMethod::Le => is_subset(&self.elements, &mut other)?,
                    SetMethod::Lt => less && is_subset(&self.elements, &mut other)?,
                    SetMethod::Ge => is_subset(&other, &mut self.elements)?,
                    _ => greater && is_subset(&other, &mut self.elements)?,
                };
                out.returns_bool(id, answer);
            }
            SetMethod::IsSubset | SetMethod::IsSuperset | SetMethod::IsDisjoint => {
                let [other] = bind!();
                let mut other = elements_of(other.expect(BOUND))?;
                let answer = match method {
                    SetMethod::IsSubset => is_subset(&self.elements, &mut other)?,
                    SetMethod::IsSuperset => is_subset(&other, &mut self.elements)?,
                    _ => {
                        let mut disjoint = true;
                        for entry in other.iter() {
                            disjoint &= !self.elements.contains(&entry.item)?;
                        }
                        disjoint
                    }
                };
                out.returns_bool(id, answer);
            }
            SetMethod::Union
            | SetMethod::Update
            | SetMethod::Intersection
            | SetMethod::IntersectionUpdate
            | SetMethod::Difference
            | SetMethod::DifferenceUpdate => {
                let [others] = bind!();
                let mut result = copy_of(&self.elements);
                for other in sequence(others)? {
                    let other_is_set = is_set(other);
                    let other = elements_of(other)?;
                    result = match method {
                        SetMethod::Union | SetMethod::Update => union(result, &other)?,
                        SetMethod::Intersection | SetMethod::IntersectionUpdate => {
                            intersection(result, other, other_is_set)?
                        }
                        _ => difference(result, &other)?,
                    };
                }
                if matches!(method, SetMethod::Union | SetMethod::Intersection | SetMethod::Difference) {
                    put(&result, id, out);
                } else {
                    self.become_these(result, args.has_tokens(), out);
                    out.returns_null(id);
                }
            }
            SetMethod::SymmetricDifference | SetMethod::SymmetricDifferenceUpdate => {
                let [other] = bind!();
                let result = symmetric_difference(copy_of(&self.elements), elements_of(other.expect(BOUND))?)?;
                if method == SetMethod::SymmetricDifference {
                    put(&result, id, out);
                } else {
                    self.become_these(result, args.has_tokens(), out);
                    out.returns_null(id);
                }
            }
        }
        Ok(())
    }

    fn iterate(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let held = std::cell::RefCell::new(&mut self.held);
        let next = |rest: &mut std::vec::IntoIter<Item>, found: &mut Vec<u8>, out: &mut Outbox| {
            let Some(item) = rest.next() else { return Ok(false) };
            held.borrow_mut().remove(&item, out);
            found.extend_from_slice(&item);
            Ok(true)
        };
        self.iterators.call(call, "set_iterator", out, next, |rest, out| {
            rest.for_each(|item| held.borrow_mut().remove(&item, out));
        })
    }

    /// Replaces the elements by others, which came with this call or are among the present ones.
    fn become_these(&mut self, elements: Elements, may_have_tokens: bool, out: &mut Outbox) {
        let may_have_tokens = may_have_tokens || self.held.any();
        for entry in elements.iter() {
            self.held.store(&entry.item, may_have_tokens, out);
        }
        for entry in self.elements.iter() {
            self.held.remove(&entry.item, out);
        }
        self.elements = elements;
        out.changed();
    }
}

const BOUND: &str = "bind fills required parameters";

fn is_tagged(item: &[u8], tag: u64) -> bool {
    Reader::new(item).head().is_ok_and(|head| head.kind == Kind::Tag && head.argument == tag)
}

fn is_set(item: &[u8]) -> bool {
    is_tagged(item, tag::SET) || is_tagged(item, tag::FROZEN_SET)
}

/// The operand of an operator, which must be a set.
fn operand(item: &[u8], operator: &str, reflected: bool) -> Result<Elements, Fault> {
    if is_set(item) {
        return elements_of(item);
    }
    let other = type_name(&decode(item)?);
    let (left, right) = if reflected { (other, "set") } else { ("set", other) };
    Err(type_error(format!("unsupported operand type(s) for {operator}: '{left}' and '{right}'")))
}

fn elements_of(iterable: &[u8]) -> Result<Elements, Fault> {
    let mut elements = Elements::default();
    for item in iterate(iterable)? {
        elements.insert(&item, ())?;
    }
    Ok(elements)
}

/// A set that is looked for stands for the frozenset of its elements, as in CPython.
fn findable(element: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, Fault> {
    let mut reader = Reader::new(element);
    match reader.head() {
        Ok(head) if head.kind == Kind::Tag && head.argument == tag::SET => {
            let mut frozen = Vec::with_capacity(element.len());
            cbor::put_tag(&mut frozen, tag::FROZEN_SET);
            frozen.extend_from_slice(&element[reader.position()..]);
            Ok(frozen.into())
        }
        _ => Ok(element.into()),
    }
}

fn copy_of(elements: &Elements) -> Elements {
    let mut copy = Elements::default();
    for entry in elements.iter() {
        copy.insert(&entry.item, ()).expect("an element is hashable");
    }
    copy
}

fn union(mut left: Elements, right: &Elements) -> Result<Elements, Fault> {
    for entry in right.iter() {
        left.insert(&entry.item, ())?;
    }
    Ok(left)
}

/// Of two equal elements CPython keeps the right one, but the left one if the right comes from a larger set.
fn intersection(left: Elements, right: Elements, right_is_set: bool) -> Result<Elements, Fault> {
    let swap = right_is_set && right.len() > left.len();
    let (kept, mut sieve) = if swap { (left, right) } else { (right, left) };
    let mut both = Elements::default();
    for entry in kept.iter() {
        if sieve.contains(&entry.item)? {
            both.insert(&entry.item, ())?;
        }
    }
    Ok(both)
}

fn difference(mut left: Elements, right: &Elements) -> Result<Elements, Fault> {
    for entry in right.iter() {
        left.remove(&entry.item)?;
    }
    Ok(left)
}

fn symmetric_difference(mut left: Elements, right: Elements) -> Result<Elements, Fault> {
    for entry in right.iter() {
        if left.remove(&entry.item)?.is_none() {
            left.insert(&entry.item, ())?;
        }
    }
    Ok(left)
}

fn is_subset(small: &Elements, large: &mut Elements) -> Result<bool, Fault> {
    for entry in small.iter() {
        if !large.contains(&entry.item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn put(elements: &Elements, id: u64, out: &mut Outbox) {
    put_tagged(tag::SET, elements, id, out);
}

fn put_tagged(tag: u64, elements: &Elements, id: u64, out: &mut Outbox) {
    out.returns(id, |bytes| {
        cbor::put_tag(bytes, tag);
        cbor::put_array(bytes, elements.len());
        elements.iter().for_each(|entry| bytes.extend_from_slice(&entry.item));
    });
}
