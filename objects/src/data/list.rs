//! `list`.

use std::mem;

use steward_wire::cbor;

use super::compare::Wanted;
use super::items::{
    self, Held, ITEMS_MAX, Index, Item, REPEAT_BYTES_MAX, index_error, iterate, ssize, type_error, value_error,
};
use super::iterator::Iterators;
use super::{compare, decode, methods, nested, no_such_method, repr, type_name};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Param, Referent, Value, common};

/// Python's `list`.
pub static LIST: Builtin = Builtin {
    typeid: "list",
    doc: "A list, as Python's.\n\nAn index is an int; a slice travels as the tuple `(start, stop, step)` of ints and `None`. \
          Results are copies.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: true,
    constructible: true,
};

const CONSTRUCTOR: &[Param] = &[Param::optional("iterable", "list", "()")];
const INDEX: Param = Param::required("index", "int or slice");
const VALUE: Param = Param::required("value", "any");
const ITERABLE: Param = Param::required("iterable", "list");
const COUNT: Param = Param::required("n", "int");

methods! {
    /// Methods of List.
    ListMethod, METHODS:
    Add = Method::new("__add__", &[ITERABLE], "Returns a new list: this one followed by another.").read_only().snapshots();
    Contains = Method::new("__contains__", &[VALUE], "Says whether an equal item is in the list.").read_only();
    DelItem = Method::new("__delitem__", &[INDEX], "Removes an item or a slice.");
    GetItem = Method::new("__getitem__", &[INDEX], "Returns an item, or a slice as a list.").read_only();
    Iadd = Method::new("__iadd__", &[ITERABLE], "Appends all items of an iterable: `extend`.").stores().snapshots();
    Imul = Method::new("__imul__", &[COUNT],
        "Repeats the list in place and returns `None`.\n\nRaises `MemoryError` beyond 1048576 items or 16 MiB.").stores();
    Iter = Method::new("__iter__", &[], "Returns an iterator, which sees later changes.").returning("Iterator");
    Len = Method::new("__len__", &[], "Returns the number of items.").read_only();
    Mul = Method::new("__mul__", &[COUNT],
        "Returns the list repeated `n` times.\n\nRaises `MemoryError` beyond 1048576 items or 16 MiB.").read_only();
    Reversed = Method::new("__reversed__", &[], "Returns an iterator from the last item to the first.").returning("Iterator");
    Rmul = Method::new("__rmul__", &[COUNT], "Returns the list repeated `n` times, as `__mul__` does.").read_only();
    SetItem = Method::new("__setitem__", &[INDEX, VALUE],
        "Replaces an item, or a slice by the items of an iterable.\n\nA proxy is not iterated over here: pass a copy of its value.").stores();
    Append = Method::new("append", &[VALUE], "Adds an item at the end.").stores();
    Clear = Method::new("clear", &[], "Removes all items.");
    CompareAndSet = Method::new("compare_and_set",
        &[Param::required("index", "int"), Param::required("expected", "any"), Param::required("new", "any")],
        "Replaces an item if it equals `expected`, in one step; says whether it did.").stores();
    Copy = Method::new("copy", &[], "Returns a copy.").read_only();
    Count = Method::new("count", &[VALUE], "Returns how many items are equal to a value.").read_only();
    Extend = Method::new("extend", &[ITERABLE], "Appends all items of an iterable.").stores().snapshots();
    Incr = Method::new("incr", &[Param::required("index", "int"), Param::optional("amount", "int or float", "1")],
        "Adds to a number in one step and returns the sum.").stores();
    Index = Method::new("index",
        &[VALUE, Param::optional("start", "int", "0"), Param::optional("stop", "int", "sys.maxsize")],
        "Returns the place of the first equal item.\n\nRaises `ValueError` if there is none.").read_only();
    Insert = Method::new("insert", &[Param::required("index", "int"), VALUE], "Inserts an item before a place.").stores();
    Pop = Method::new("pop", &[Param::optional("index", "int", "-1")],
        "Removes and returns an item.\n\nRaises `IndexError` if the list is empty or the index out of range.");
    Remove = Method::new("remove", &[VALUE],
        "Removes the first equal item.\n\nRaises `ValueError` if there is none.");
    Reverse = Method::new("reverse", &[], "Reverses the list in place.");
    Sort = Method::new("sort", &[Param::keyword("key", "None", "None"), Param::keyword("reverse", "bool", "False")],
        "Sorts the list in place, stably.\n\nAfter `TypeError` for items without order the list is as it was. `key` must be \
         `None`: functions stay with their callers, so fetch, sort and store.");
    UpdateIn = Method::new("update_in",
        &[Param::required("path", "list"), Param::required("operation", "str"), Param::rest("args")],
        nested::UPDATE_IN_DOC).stores();
}

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let [iterable] = args.bind("list.__init__", CONSTRUCTOR)?;
    let mut list = List { items: iterable.map_or(Ok(Vec::new()), iterate)?, ..List::default() };
    for item in &list.items {
        list.held.store(item, args.has_tokens(), out);
    }
    Ok(Box::new(list))
}

#[derive(Default)]
struct List {
    items: Vec<Item>,
    held: Held,
    iterators: Iterators<Cursor>,
}

/// Where an iterator stands: on the place it gives next.
enum Cursor {
    Forward(usize),
    /// One more than the place it gives next; 0 at the end.
    Backward(usize),
}

impl Referent for List {
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

impl List {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("list.{}", method.name), method.params)?
            }};
        }
        let Some(method) = ListMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => self.put(self.items.iter(), id, out),
                common::STR | common::REPR => {
                    let mut text = String::from("[");
                    repr::put_items(&mut text, self.items.iter().map(|item| &**item))?;
                    text.push(']');
                    out.returns_text(id, &text);
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            ListMethod::Copy => {
                let [] = bind!();
                self.put(self.items.iter(), id, out);
            }
            ListMethod::Add => {
                let [other] = required(bind!());
                if cbor::Reader::new(other).array().is_err() {
                    let other = type_name(&decode(other)?);
                    return Err(type_error(format!("can only concatenate list (not \"{other}\") to list")));
                }
                let other = iterate(other)?;
                out.returns(id, |bytes| {
                    cbor::put_array(bytes, self.items.len() + other.len());
                    self.items.iter().chain(&other).for_each(|item| bytes.extend_from_slice(item));
                });
            }
            ListMethod::Contains => {
                let [value] = required(bind!());
                let wanted = Wanted::new(value);
                out.returns_bool(id, self.items.iter().any(|item| wanted.equals(item)));
            }
            ListMethod::Count => {
                let [value] = required(bind!());
                let wanted = Wanted::new(value);
                out.returns_int(id, self.items.iter().filter(|item| wanted.equals(item)).count() as i64);
            }
            ListMethod::Len => {
                let [] = bind!();
                out.returns_int(id, self.items.len() as i64);
            }
            ListMethod::GetItem => {
                let [index] = required(bind!());
                match Index::read(index, self.items.len(), "list")? {
                    Index::One(index) => {
                        let place = Index::place(index, self.items.len())
                            .ok_or_else(|| index_error("list index out of range"))?;
                        out.returns_item(id, &self.items[place]);
                    }
                    Index::Slice(slice) => self.put(slice.places().map(|place| &self.items[place]), id, out),
                }
            }
            ListMethod::Index => {
                let [value, start, stop] = bind!();
                let value = value.expect(BOUND);
                let wanted = Wanted::new(value);
                let bound = |index: Option<&[u8]>, default| index.map_or(Ok(default), |index| self.bound(index));
                let (start, stop) = (bound(start, 0)?, bound(stop, self.items.len())?);
                let found = (start..stop.min(self.items.len())).find(|place| wanted.equals(&self.items[*place]));
                let place = found.ok_or_else(|| value_error(format!("{} is not in list", repr::quoted(value))))?;
                out.returns_int(id, place as i64);
            }
            ListMethod::Mul | ListMethod::Rmul => {
                let [count] = required(bind!());
                let count = self.repeats(count)?;
                out.returns(id, |bytes| {
                    cbor::put_array(bytes, self.items.len() * count);
                    for _ in 0..count {
                        self.items.iter().for_each(|item| bytes.extend_from_slice(item));
                    }
                });
            }
            ListMethod::Imul => {
                let [count] = required(bind!());
                let count = self.repeats(count)?;
                if count == 0 {
                    self.clear(out);
                }
                let once = self.items.len();
                let held = self.held.any();
                for _ in 1..count {
                    for place in 0..once {
                        let item = self.items[place].clone();
                        self.held.store(&item, held, out);
                        self.items.push(item);
                    }
                }
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Iter => {
                let [] = bind!();
                self.iterators.check_room()?;
                self.iterators.open(call, Cursor::Forward(0), out);
            }
            ListMethod::Reversed => {
                let [] = bind!();
                self.iterators.check_room()?;
                self.iterators.open(call, Cursor::Backward(self.items.len()), out);
            }
            ListMethod::SetItem => {
                let [index, value] = required(bind!());
                match Index::read(index, self.items.len(), "list")? {
                    Index::One(index) => {
                        let place = Index::place(index, self.items.len())
                            .ok_or_else(|| index_error("list assignment index out of range"))?;
                        self.replace(place, value.into(), args.has_tokens(), out);
                    }
                    Index::Slice(slice) => self.assign(slice, value, args.has_tokens(), out)?,
                }
                out.changed();
                out.returns_null(id);
            }
            ListMethod::DelItem => {
                let [index] = required(bind!());
                match Index::read(index, self.items.len(), "list")? {
                    Index::One(index) => {
                        let place = Index::place(index, self.items.len())
                            .ok_or_else(|| index_error("list assignment index out of range"))?;
                        let item = self.items.remove(place);
                        self.held.remove(&item, out);
                    }
                    Index::Slice(slice) => {
                        let mut doomed: Vec<usize> = slice.places().collect();
                        doomed.sort_unstable();
                        let mut doomed = doomed.into_iter().peekable();
                        let mut place = 0;
                        self.items.retain(|item| {
                            let keep = doomed.next_if_eq(&place).is_none();
                            place += 1;
                            if !keep {
                                self.held.remove(item, out);
                            }
                            keep
                        });
                    }
                }
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Append => {
                let [value] = required(bind!());
                self.held.store(value, args.has_tokens(), out);
                self.items.push(value.into());
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Extend | ListMethod::Iadd => {
                let [iterable] = required(bind!());
                for item in iterate(iterable)? {
                    self.held.store(&item, args.has_tokens(), out);
                    self.items.push(item);
                }
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Insert => {
                let [index, value] = required(bind!());
                let length = self.items.len() as i64;
                let index = ssize(index)?;
                let place = if index < 0 { index.saturating_add(length) } else { index }.clamp(0, length);
                self.held.store(value, args.has_tokens(), out);
                self.items.insert(place as usize, value.into());
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Pop => {
                let [index] = bind!();
                let index = index.map_or(Ok(-1), ssize)?;
                if self.items.is_empty() {
                    return Err(index_error("pop from empty list"));
                }
                let place =
                    Index::place(index, self.items.len()).ok_or_else(|| index_error("pop index out of range"))?;
                let item = self.items.remove(place);
                self.held.remove(&item, out);
                out.changed();
                out.returns_item(id, &item);
            }
            ListMethod::Remove => {
                let [value] = required(bind!());
                let wanted = Wanted::new(value);
                let place = self
                    .items
                    .iter()
                    .position(|item| wanted.equals(item))
                    .ok_or_else(|| value_error("list.remove(x): x not in list"))?;
                let item = self.items.remove(place);
                self.held.remove(&item, out);
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Clear => {
                let [] = bind!();
                self.clear(out);
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Reverse => {
                let [] = bind!();
                self.items.reverse();
                out.changed();
                out.returns_null(id);
            }
            ListMethod::Sort => {
                let [key, reverse] = bind!();
                if key.is_some_and(|key| key != [cbor::NULL]) {
                    return Err(type_error("sort() takes no key here: fetch the list, sort it and store it"));
                }
                let reverse = reverse.map_or(Ok(false), items::truth)?;
                sort(&mut self.items, reverse)?;
                out.changed();
                out.returns_null(id);
            }
            ListMethod::CompareAndSet => {
                let [index, expected, new] = required(bind!());
                let place = self.one(index)?;
                let same = compare::equal(&self.items[place], expected);
                if same {
                    self.replace(place, new.into(), args.has_tokens(), out);
                    out.changed();
                }
                out.returns_bool(id, same);
            }
            ListMethod::Incr => {
                let [index, amount] = bind!();
                let place = self.one(index.expect(BOUND))?;
                let sum = items::sum(&self.items[place], amount.unwrap_or(&[1]))?;
                out.returns_item(id, &sum);
                out.changed();
                self.replace(place, sum, false, out);
            }
            ListMethod::UpdateIn => {
                let [path, operation, rest] = bind!();
                let mut path = iterate(path.expect(BOUND))?.into_iter();
                let first = path.next().ok_or_else(|| value_error(nested::EMPTY_PATH))?;
                let place = self.one(&first)?;
                let (item, result) =
                    nested::update(&self.items[place], path.as_slice(), operation.expect(BOUND), rest)?;
                // What the new item holds came with this call or was held by the old one.
                self.held.store(&item, args.has_tokens() || self.held.any(), out);
                let old = mem::replace(&mut self.items[place], item);
                self.held.remove(&old, out);
                out.changed();
                out.returns_item(id, &result);
            }
        }
        Ok(())
    }

    fn iterate(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let items = &self.items;
        let next = |cursor: &mut Cursor, found: &mut Vec<u8>, _: &mut Outbox| {
            let item = match cursor {
                Cursor::Forward(place) => {
                    let item = items.get(*place);
                    *place += 1;
                    item
                }
                Cursor::Backward(place) => {
                    let item = place.checked_sub(1).and_then(|place| items.get(place));
                    *place = place.saturating_sub(1);
                    item
                }
            };
            found.extend_from_slice(item.map_or(&[], |item| &**item));
            Ok(item.is_some())
        };
        self.iterators.call(call, "list_iterator", out, next, |_, _| {})
    }

    fn put<'a>(&self, items: impl ExactSizeIterator<Item = &'a Item>, id: u64, out: &mut Outbox) {
        out.returns(id, |bytes| items::put_list(bytes, items.map(|item| &**item)));
    }

    /// The place that an index argument means; a slice is refused.
    fn one(&self, index: &[u8]) -> Result<usize, Fault> {
        Index::place(ssize(index)?, self.items.len()).ok_or_else(|| index_error("list index out of range"))
    }

    /// A bound of `index`, negative ones counted from the end.
    fn bound(&self, index: &[u8]) -> Result<usize, Fault> {
        let index = match decode(index)? {
            Value::Bool(value) => i64::from(value),
            Value::Int(value) => value,
            Value::BigInt(value) if value.sign() == num_bigint::Sign::Minus => i64::MIN,
            Value::BigInt(_) => i64::MAX,
            _ => return Err(type_error("slice indices must be integers or have an __index__ method")),
        };
        let length = self.items.len() as i64;
        Ok(if index < 0 { index.saturating_add(length) } else { index }.clamp(0, length) as usize)
    }

    /// How often to repeat, refusing results that are out of bounds.
    fn repeats(&self, count: &[u8]) -> Result<usize, Fault> {
        let count = i64::try_from(items::whole(count)?)
            .map_err(|_| Fault::raised("OverflowError", "cannot fit 'int' into an index-sized integer"))?;
        let count = usize::try_from(count).unwrap_or(0);
        let bytes: usize = self.items.iter().map(|item| item.len()).sum();
        let fits = |unit: usize, limit: usize| unit.checked_mul(count).is_some_and(|total| total <= limit);
        if count > 1 && !(fits(self.items.len(), ITEMS_MAX) && fits(bytes, REPEAT_BYTES_MAX)) {
            return Err(items::too_large());
        }
        // Nothing repeated is nothing, however often.
        Ok(if self.items.is_empty() { count.min(1) } else { count })
    }

    fn replace(&mut self, place: usize, item: Item, may_have_tokens: bool, out: &mut Outbox) {
        self.held.store(&item, may_have_tokens, out);
        let old = mem::replace(&mut self.items[place], item);
        self.held.remove(&old, out);
    }

    fn assign(
        &mut self,
        slice: items::Slice,
        value: &[u8],
        may_have_tokens: bool,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let new = iterate(value).map_err(|fault| match fault.effect {
            crate::Effect::Raised => type_error("must assign iterable to extended slice"),
            _ => fault,
        })?;
        if slice.step == 1 {
            for item in &new {
                self.held.store(item, may_have_tokens, out);
            }
            let old: Vec<Item> = self.items.splice(slice.start..slice.start + slice.count, new).collect();
            for item in old {
                self.held.remove(&item, out);
            }
            return Ok(());
        }
        if new.len() != slice.count {
            return Err(value_error(format!(
                "attempt to assign sequence of size {} to extended slice of size {}",
                new.len(),
                slice.count
            )));
        }
        for (place, item) in slice.places().zip(new) {
            self.replace(place, item, may_have_tokens, out);
        }
        Ok(())
    }

    fn clear(&mut self, out: &mut Outbox) {
        for item in mem::take(&mut self.items) {
            self.held.remove(&item, out);
        }
    }
}

const BOUND: &str = "bind fills required parameters";

/// The slots of parameters that are all required.
fn required<const N: usize>(slots: [Option<&[u8]>; N]) -> [&[u8]; N] {
    slots.map(|slot| slot.expect(BOUND))
}

/// Sorts stably, leaving `items` as they were if two have no order.
///
/// A merge sort of our own: the standard one may panic on orders as inconsistent as NaN's, and cannot stop at a fault. As
/// CPython's it starts from the runs that are there, so sorted items cost one comparison each.
fn sort(items: &mut Vec<Item>, reverse: bool) -> Result<(), Fault> {
    let is_less = |a: u32, b: u32| compare::less(&items[a as usize], &items[b as usize]);
    let mut order: Vec<u32> = (0..items.len() as u32).collect();
    // Python sorts in reverse by reversing twice, so equal items keep their order.
    if reverse {
        order.reverse();
    }
    let mut run_ends = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        if end < order.len() {
            let descending = is_less(order[end], order[start])?;
            end += 1;
            while end < order.len() && is_less(order[end], order[end - 1])? == descending {
                end += 1;
            }
            if descending {
                order[start..end].reverse();
            }
        }
        run_ends.push(end);
        start = end;
    }
    let mut merged = Vec::with_capacity(order.len());
    while run_ends.len() > 1 {
        merged.clear();
        let mut start = 0;
        for ends in run_ends.chunks(2) {
            let (mut left, mut right) = (&order[start..ends[0]], &order[ends[0]..ends[ends.len() - 1]]);
            while let ([first, left_rest @ ..], [second, right_rest @ ..]) = (left, right) {
                if is_less(*second, *first)? {
                    merged.push(*second);
                    right = right_rest;
                } else {
                    merged.push(*first);
                    left = left_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
            start = ends[ends.len() - 1];
        }
        mem::swap(&mut order, &mut merged);
        run_ends = run_ends.chunks(2).map(|ends| ends[ends.len() - 1]).collect();
    }
    if reverse {
        order.reverse();
    }
    let mut unsorted: Vec<Item> = mem::take(items);
    items.extend(order.into_iter().map(|place| mem::take(&mut unsorted[place as usize])));
    Ok(())
}
