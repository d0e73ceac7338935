//! Random sequences of calls on list, dict and set, compared with naive models after each call: results, what is left,
//! and that exactly the tokens that can be seen are held.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use steward_objects::{Fault, ITEM_BYTES, Ident, Owner, Value};
use steward_wire::value::tokens;
use support::{Driver, text, token};

const ME: Owner = Owner { session: 1, thread: 1 };

/// Values that are few enough to meet again, and of which some are equal without being the same.
fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1i64..6).prop_map(Value::Int),
        (0u8..4).prop_map(|n| Value::Float(f64::from(n))),
        "[ab]".prop_map(|letters| text(&letters)),
        (1u64..4).prop_map(|ident| token("list", ident)),
    ];
    let pair = (scalar.clone(), scalar.clone()).prop_map(|(a, b)| Value::Tuple(vec![a, b]));
    prop_oneof![4 => scalar, 1 => pair]
}

/// `a == b` for the values above, written naively.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    };
    match (a, b) {
        (Value::Tuple(a), Value::Tuple(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => a == b,
            _ => false,
        },
    }
}

fn visible_tokens(value: &Value) -> BTreeMap<Ident, u64> {
    let mut counts = BTreeMap::new();
    tokens(&value.to_vec(), &mut |ident| *counts.entry(ident).or_default() += 1);
    counts
}

/// What is stored of a container or namespace with this value: its items, and what each takes beside its encoding.
fn stored_bytes(value: &Value) -> i64 {
    let typecode = text("x");
    let items: Vec<&Value> = match value {
        Value::List(items) | Value::Set(items) => items.iter().collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        // A Value.
        single => vec![&typecode, single],
    };
    items.iter().map(|item| (item.to_vec().len() + ITEM_BYTES) as i64).sum()
}

/// Result or kind of error.
type Outcome = Result<Value, &'static str>;

fn check(
    driver: &mut Driver,
    method: &str,
    args: &[Value],
    expected: Outcome,
    end: &Value,
) -> Result<(), TestCaseError> {
    let outcome = driver.now(ME, method, args);
    let outcome = outcome.as_ref().map_err(|Fault { kind, .. }| &**kind);
    prop_assert_eq!(outcome, expected.as_ref().map_err(|kind| *kind), "{}({:?})", method, args);
    let value = driver.now(ME, "#GETVALUE", &[]).expect("the value can be copied");
    prop_assert_eq!(&value, end, "after {}({:?})", method, args);
    prop_assert_eq!(&driver.held, &visible_tokens(&value), "after {}({:?})", method, args);
    // A namespace's names are stored as they are, not as items with a head.
    let heads = if let ("Namespace", Value::Map(pairs)) = (driver.typeid(), &value) { pairs.len() as i64 } else { 0 };
    prop_assert_eq!(driver.stored_bytes, stored_bytes(&value) - heads, "after {}({:?})", method, args);
    Ok(())
}

#[derive(Clone, Debug)]
enum ListOp {
    Append(Value),
    Insert(i64, Value),
    Pop(i64),
    Remove(Value),
    Set(i64, Value),
    Delete(i64),
    Slice(Value),
    SetSlice(i64, i64, Vec<Value>),
    DeleteSlice(Option<i64>, Option<i64>, i64),
    Extend(Vec<Value>),
    Repeat(i64),
    Reverse,
    Clear,
    Nest(i64, Value),
}

fn list_ops() -> impl Strategy<Value = ListOp> {
    let index = || -6i64..7;
    let bound = || proptest::option::of(-6i64..7);
    let some = || proptest::collection::vec(values(), 0..4);
    prop_oneof![
        values().prop_map(ListOp::Append),
        (index(), values()).prop_map(|(index, value)| ListOp::Insert(index, value)),
        index().prop_map(ListOp::Pop),
        values().prop_map(ListOp::Remove),
        (index(), values()).prop_map(|(index, value)| ListOp::Set(index, value)),
        index().prop_map(ListOp::Delete),
        (bound(), bound()).prop_map(|(start, stop)| {
            let part = |bound: Option<i64>| bound.map_or(Value::Null, Value::Int);
            ListOp::Slice(Value::Tuple(vec![part(start), part(stop), Value::Null]))
        }),
        (index(), index(), some()).prop_map(|(start, stop, values)| ListOp::SetSlice(start, stop, values)),
        (bound(), bound(), prop_oneof![Just(1), Just(2), Just(-1), Just(-3)])
            .prop_map(|(start, stop, step)| ListOp::DeleteSlice(start, stop, step)),
        some().prop_map(ListOp::Extend),
        (-1i64..3).prop_map(ListOp::Repeat),
        Just(ListOp::Reverse),
        Just(ListOp::Clear),
        (index(), values()).prop_map(|(index, value)| ListOp::Nest(index, value)),
    ]
}

fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + length as i64 } else { index };
    (0..length as i64).contains(&index).then_some(index as usize)
}

fn bound(index: i64, length: usize) -> usize {
    let index = if index < 0 { index + length as i64 } else { index };
    index.clamp(0, length as i64) as usize
}

fn list_step(driver: &mut Driver, model: &mut Vec<Value>, op: ListOp) -> Result<(), TestCaseError> {
    let length = model.len();
    let mut put_back = None;
    let (method, args, expected) = match op {
        ListOp::Append(value) => {
            model.push(value.clone());
            ("append", vec![value], Ok(Value::Null))
        }
        ListOp::Insert(index, value) => {
            model.insert(bound(index, length), value.clone());
            ("insert", vec![Value::Int(index), value], Ok(Value::Null))
        }
        ListOp::Pop(index) => {
            let popped = place(index, length).map(|place| model.remove(place)).ok_or("IndexError");
            ("pop", vec![Value::Int(index)], popped)
        }
        ListOp::Remove(value) => {
            let found = model.iter().position(|item| equal(item, &value));
            let removed = found.map(|place| model.remove(place)).map(|_| Value::Null).ok_or("ValueError");
            ("remove", vec![value], removed)
        }
        ListOp::Set(index, value) => {
            let done = place(index, length).map(|place| model[place] = value.clone()).ok_or("IndexError");
            ("__setitem__", vec![Value::Int(index), value], done.map(|()| Value::Null))
        }
        ListOp::Delete(index) => {
            let done = place(index, length).map(|place| model.remove(place)).ok_or("IndexError");
            ("__delitem__", vec![Value::Int(index)], done.map(|_| Value::Null))
        }
        ListOp::Slice(slice) => {
            let Value::Tuple(parts) = &slice else { unreachable!("made above") };
            let part = |part: &Value, default| match part {
                Value::Int(index) => bound(*index, length),
                _ => default,
            };
            let (start, stop) = (part(&parts[0], 0), part(&parts[1], length));
            let expected = model[start..stop.max(start)].to_vec();
            ("__getitem__", vec![slice], Ok(Value::List(expected)))
        }
        ListOp::SetSlice(start, stop, values) => {
            let slice = Value::Tuple(vec![Value::Int(start), Value::Int(stop), Value::Null]);
            let (start, stop) = (bound(start, length), bound(stop, length));
            model.splice(start..stop.max(start), values.clone());
            ("__setitem__", vec![slice, Value::List(values)], Ok(Value::Null))
        }
        ListOp::DeleteSlice(start, stop, step) => {
            let part = |bound: Option<i64>| bound.map_or(Value::Null, Value::Int);
            let slice = Value::Tuple(vec![part(start), part(stop), Value::Int(step)]);
            // Walk as `range` does, with bounds that Python's documentation gives.
            let (low, high) = if step < 0 { (-1, length as i64 - 1) } else { (0, length as i64) };
            let fit = |index: i64| (if index < 0 { index + length as i64 } else { index }).clamp(low, high);
            let mut at = start.map_or(if step < 0 { high } else { low }, fit);
            let stop = stop.map_or(if step < 0 { low } else { high }, fit);
            let mut doomed = Vec::new();
            while (step > 0 && at < stop) || (step < 0 && at > stop) {
                doomed.push(at as usize);
                at += step;
            }
            let mut place = 0;
            model.retain(|_| {
                place += 1;
                !doomed.contains(&(place - 1))
            });
            ("__delitem__", vec![slice], Ok(Value::Null))
        }
        ListOp::Extend(values) => {
            model.extend(values.clone());
            ("extend", vec![Value::Tuple(values)], Ok(Value::Null))
        }
        ListOp::Repeat(count) if length < 50 => {
            *model = vec![model.clone(); count.max(0) as usize].concat();
            ("__imul__", vec![Value::Int(count)], Ok(Value::Null))
        }
        ListOp::Repeat(_) | ListOp::Clear => {
            model.clear();
            ("clear", vec![], Ok(Value::Null))
        }
        ListOp::Reverse => {
            model.reverse();
            ("reverse", vec![], Ok(Value::Null))
        }
        ListOp::Nest(index, value) => {
            // In place of an item comes a list, into which a value is put, and which is left as one item again.
            let Some(place) = place(index, length) else { return Ok(()) };
            let nested = Value::List(vec![value.clone()]);
            model[place] = Value::List(vec![]);
            let end = Value::List(model.clone());
            check(driver, "__setitem__", &[Value::Int(index), Value::List(vec![])], Ok(Value::Null), &end)?;
            model[place] = nested;
            let end = Value::List(model.clone());
            let path = Value::List(vec![Value::Int(index)]);
            check(driver, "update_in", &[path.clone(), text("append"), value.clone()], Ok(Value::Null), &end)?;
            put_back = Some((place, value.clone()));
            ("update_in", vec![path, text("set"), value], Ok(Value::Null))
        }
    };
    if let Some((place, value)) = put_back {
        model[place] = value;
    }
    check(driver, method, &args, expected, &Value::List(model.clone()))
}

#[derive(Clone, Debug)]
enum DictOp {
    Set(Value, Value),
    Delete(Value),
    Get(Value),
    Pop(Value, Option<Value>),
    PopItem,
    SetDefault(Value, Value),
    Update(Vec<(Value, Value)>),
    Contains(Value),
    Clear,
    Nest(Value, Value),
}

fn dict_ops() -> impl Strategy<Value = DictOp> {
    prop_oneof![
        8 => (values(), values()).prop_map(|(key, value)| DictOp::Set(key, value)),
        4 => values().prop_map(DictOp::Delete),
        2 => values().prop_map(DictOp::Get),
        4 => (values(), proptest::option::of(values())).prop_map(|(key, default)| DictOp::Pop(key, default)),
        2 => Just(DictOp::PopItem),
        2 => (values(), values()).prop_map(|(key, value)| DictOp::SetDefault(key, value)),
        2 => proptest::collection::vec((values(), values()), 0..5).prop_map(DictOp::Update),
        2 => values().prop_map(DictOp::Contains),
        1 => Just(DictOp::Clear),
        1 => (values(), values()).prop_map(|(key, value)| DictOp::Nest(key, value)),
    ]
}

fn dict_set(model: &mut Vec<(Value, Value)>, key: &Value, value: &Value) {
    match model.iter_mut().find(|(name, _)| equal(name, key)) {
        Some((_, old)) => *old = value.clone(),
        None => model.push((key.clone(), value.clone())),
    }
}

fn dict_step(driver: &mut Driver, model: &mut Vec<(Value, Value)>, op: DictOp) -> Result<(), TestCaseError> {
    let find = |model: &[(Value, Value)], key: &Value| model.iter().position(|(name, _)| equal(name, key));
    let (method, args, expected) = match op {
        DictOp::Set(key, value) => {
            dict_set(model, &key, &value);
            ("__setitem__", vec![key, value], Ok(Value::Null))
        }
        DictOp::Delete(key) => {
            let done = find(model, &key).map(|place| model.remove(place)).ok_or("KeyError");
            ("__delitem__", vec![key], done.map(|_| Value::Null))
        }
        DictOp::Get(key) => {
            let found = find(model, &key).map(|place| model[place].1.clone()).ok_or("KeyError");
            ("__getitem__", vec![key], found)
        }
        DictOp::Pop(key, default) => {
            // CPython does not look at the key when the dict is empty, which changes nothing for hashable ones.
            let found = find(model, &key).map(|place| model.remove(place).1);
            let expected = found.or(default.clone()).ok_or("KeyError");
            ("pop", [key].into_iter().chain(default).collect(), expected)
        }
        DictOp::PopItem => {
            let popped = model.pop().map(|(key, value)| Value::Tuple(vec![key, value])).ok_or("KeyError");
            ("popitem", vec![], popped)
        }
        DictOp::SetDefault(key, default) => {
            let place = find(model, &key).unwrap_or_else(|| {
                model.push((key.clone(), default.clone()));
                model.len() - 1
            });
            ("setdefault", vec![key, default], Ok(model[place].1.clone()))
        }
        DictOp::Update(pairs) => {
            pairs.iter().for_each(|(key, value)| dict_set(model, key, value));
            let pairs = pairs.into_iter().map(|(key, value)| Value::Tuple(vec![key, value])).collect();
            ("update", vec![Value::List(pairs)], Ok(Value::Null))
        }
        DictOp::Contains(key) => {
            let found = find(model, &key).is_some();
            ("__contains__", vec![key], Ok(Value::Bool(found)))
        }
        DictOp::Clear => {
            model.clear();
            ("clear", vec![], Ok(Value::Null))
        }
        DictOp::Nest(key, value) => {
            let found = find(model, &key);
            let expected = found.map(|place| model[place].1 = value.clone()).map(|()| Value::Null).ok_or("KeyError");
            ("update_in", vec![Value::List(vec![key]), text("set"), value], expected)
        }
    };
    check(driver, method, &args, expected, &Value::Map(model.clone()))
}

#[derive(Clone, Debug)]
enum SetOp {
    Add(Value),
    Remove(Value),
    Discard(Value),
    Pop,
    Update(Vec<Value>),
    Intersect(Vec<Value>),
    Subtract(Vec<Value>),
    Exclusive(Vec<Value>),
    IsSubset(Vec<Value>),
    Clear,
}

fn set_ops() -> impl Strategy<Value = SetOp> {
    let some = || proptest::collection::vec(values(), 0..8);
    prop_oneof![
        6 => values().prop_map(SetOp::Add),
        3 => values().prop_map(SetOp::Remove),
        3 => values().prop_map(SetOp::Discard),
        2 => Just(SetOp::Pop),
        3 => some().prop_map(SetOp::Update),
        2 => some().prop_map(SetOp::Intersect),
        2 => some().prop_map(SetOp::Subtract),
        2 => some().prop_map(SetOp::Exclusive),
        2 => some().prop_map(SetOp::IsSubset),
        1 => Just(SetOp::Clear),
    ]
}

fn distinct(values: &[Value]) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for value in values {
        if !has(&found, value) {
            found.push(value.clone());
        }
    }
    found
}

fn has(values: &[Value], wanted: &Value) -> bool {
    values.iter().any(|value| equal(value, wanted))
}

fn set_step(driver: &mut Driver, model: &mut Vec<Value>, op: SetOp) -> Result<(), TestCaseError> {
    let (method, args, expected) = match op {
        SetOp::Add(value) => {
            if !has(model, &value) {
                model.push(value.clone());
            }
            ("add", vec![value], Ok(Value::Null))
        }
        SetOp::Remove(value) => {
            let expected = if has(model, &value) { Ok(Value::Null) } else { Err("KeyError") };
            model.retain(|element| !equal(element, &value));
            ("remove", vec![value], expected)
        }
        SetOp::Discard(value) => {
            model.retain(|element| !equal(element, &value));
            ("discard", vec![value], Ok(Value::Null))
        }
        SetOp::Pop => ("pop", vec![], model.pop().ok_or("KeyError")),
        SetOp::Update(values) => {
            *model = distinct(&[model.clone(), values.clone()].concat());
            ("update", vec![Value::List(values)], Ok(Value::Null))
        }
        SetOp::Intersect(values) => {
            // The elements of the argument stay, as in CPython for what is no set.
            *model = distinct(&values).into_iter().filter(|value| has(model, value)).collect();
            ("intersection_update", vec![Value::List(values)], Ok(Value::Null))
        }
        SetOp::Subtract(values) => {
            model.retain(|element| !has(&values, element));
            ("__isub__", vec![Value::FrozenSet(distinct(&values))], Ok(Value::Null))
        }
        SetOp::Exclusive(values) => {
            let new: Vec<_> = distinct(&values).into_iter().filter(|value| !has(model, value)).collect();
            model.retain(|element| !has(&values, element));
            model.extend(new);
            ("symmetric_difference_update", vec![Value::Tuple(values)], Ok(Value::Null))
        }
        SetOp::IsSubset(values) => {
            let expected = model.iter().all(|element| has(&values, element));
            ("issubset", vec![Value::List(values)], Ok(Value::Bool(expected)))
        }
        SetOp::Clear => {
            model.clear();
            ("clear", vec![], Ok(Value::Null))
        }
    };
    check(driver, method, &args, expected, &Value::Set(model.clone()))
}

proptest! {
    // A failure is kept beside this file, and run again first.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn list_is_as_its_model(ops in proptest::collection::vec(list_ops(), 1..60)) {
        let (mut driver, mut model) = (Driver::new("list", &[]), Vec::new());
        for op in ops {
            list_step(&mut driver, &mut model, op)?;
        }
    }

    #[test]
    fn dict_is_as_its_model(ops in proptest::collection::vec(dict_ops(), 1..120)) {
        let (mut driver, mut model) = (Driver::new("dict", &[]), Vec::new());
        for op in ops {
            dict_step(&mut driver, &mut model, op)?;
        }
    }

    #[test]
    fn set_is_as_its_model(ops in proptest::collection::vec(set_ops(), 1..120)) {
        let (mut driver, mut model) = (Driver::new("set", &[]), Vec::new());
        for op in ops {
            set_step(&mut driver, &mut model, op)?;
        }
    }

    /// Value and Namespace store one thing in one place each: any sequence of writes leaves the last.
    #[test]
    fn single_places_hold_what_was_written_last(writes in proptest::collection::vec(("[abc]", values()), 1..40)) {
        let mut single = Driver::new("Value", &[text("x"), Value::Null]);
        let mut namespace = Driver::new("Namespace", &[]);
        let mut model = BTreeMap::new();
        for (name, value) in writes {
            check(&mut single, "set", std::slice::from_ref(&value), Ok(Value::Null), &value)?;
            model.insert(name.clone(), value.clone());
            let pairs = model.iter().map(|(name, value)| (text(name), value.clone())).collect();
            check(&mut namespace, "__setattr__", &[text(&name), value], Ok(Value::Null), &Value::Map(pairs))?;
        }
        for name in model.into_keys() {
            namespace.now(ME, "__delattr__", &[text(&name)]).expect("it is there");
        }
        prop_assert!(namespace.held.is_empty());
    }
}
