//! What the data types do beyond CPython's methods, and where they are bounded.

mod support;

use std::time::{Duration, Instant};

use steward_objects::data::{EXACT_BITS_MAX, ITEMS_MAX, Key, compare, iterator, repr};
use steward_objects::{BUILTINS, Fault, Owner, Value, Why};
use steward_wire::cbor;
use steward_wire::value::Decimal;
use support::{Driver, arguments, owner, text, token};

const ME: Owner = Owner { session: 1, thread: 1 };

fn ints(values: impl IntoIterator<Item = i64>) -> Value {
    Value::List(values.into_iter().map(Value::Int).collect())
}

fn tuple(items: &[Value]) -> Value {
    Value::Tuple(items.to_vec())
}

fn map(pairs: &[(Value, Value)]) -> Value {
    Value::Map(pairs.to_vec())
}

fn set(items: &[Value]) -> Value {
    Value::Set(items.to_vec())
}

fn raised<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    let fault = result.expect_err("it raises");
    format!("{}: {}", fault.kind, fault.message)
}

fn value(driver: &mut Driver) -> Value {
    driver.now(ME, "#GETVALUE", &[]).expect("the value can be copied")
}

fn shown(driver: &mut Driver) -> String {
    match driver.now(ME, "__repr__", &[]).expect("the value can be shown") {
        Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// Opens an iterator.
fn iterate(driver: &mut Driver, method: &str) -> u32 {
    let call = driver.call(ME, method, &[]);
    driver.answer(call).and_then(|answer| answer.facet).expect("a facet")
}

fn next(driver: &mut Driver, iterator: u32) -> Result<Value, Fault> {
    driver.now_facet(iterator, ME, "__next__", &[])
}

fn page(driver: &mut Driver, iterator: u32, n: i64) -> Result<Value, Fault> {
    driver.now_facet(iterator, ME, "next_many", &[Value::Int(n)])
}

#[test]
fn every_parameter_of_every_type_is_documented_and_every_method_is_named_once() {
    for builtin in BUILTINS {
        let mut names: Vec<_> = builtin.methods.iter().map(|method| method.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), builtin.methods.len(), "{}", builtin.typeid);
        for method in builtin.methods {
            assert!(!method.doc.is_empty(), "{}.{}", builtin.typeid, method.name);
            // Optional parameters follow required ones, as bind and Python have it.
            assert!(method.params.is_sorted_by_key(|param| (param.kind as u8, param.default.is_some())));
        }
    }
}

#[test]
fn missing_key_is_in_the_fault_and_in_its_message() {
    let mut dict = Driver::new("dict", &[]);
    for (method, args) in [("__getitem__", 1), ("__delitem__", 1), ("pop", 1)] {
        let key = tuple(&[text("it's"), Value::Int(1)]);
        let fault = dict.now(ME, method, &vec![key.clone(); args]).expect_err("nothing is there");
        assert_eq!((&*fault.kind, &*fault.message), ("KeyError", "(\"it's\", 1)"), "{method}");
        assert_eq!(fault.data, Some(key.to_vec()), "{method}");
    }
}

#[test]
fn numbers_are_added_to_in_one_step() {
    let mut dict = Driver::new("dict", &[]);
    assert_eq!(dict.now(ME, "incr", &[text("k")]), Ok(Value::Int(1)));
    assert_eq!(dict.now(ME, "incr", &[text("k"), Value::Int(i64::MAX)]), Ok(Value::BigInt((1u64 << 63).into())));
    assert_eq!(dict.now(ME, "incr", &[text("k"), Value::Int(i64::MIN)]), Ok(Value::Int(0)));
    assert_eq!(dict.now(ME, "incr", &[text("f"), Value::Float(0.5), Value::Int(2)]), Ok(Value::Float(2.5)));
    let mismatch = dict.now(ME, "incr", &[text("t"), Value::Int(1), text("x")]);
    assert_eq!(raised(mismatch), "TypeError: unsupported operand type(s) for +: 'str' and 'int'");
    assert_eq!(shown(&mut dict), "{'k': 0, 'f': 2.5}");

    let mut number = Driver::new("Value", &[text("i"), Value::Int(40)]);
    assert_eq!(number.now(ME, "add", &[Value::Int(2)]), Ok(Value::Int(42)));
    assert_eq!(number.now(ME, "get", &[]), Ok(Value::Int(42)));

    let mut array = Driver::new("Array", &[text("B"), ints([254])]);
    assert_eq!(array.now(ME, "incr", &[Value::Int(0)]), Ok(Value::Int(255)));
    let overflow = array.now(ME, "incr", &[Value::Int(-1)]);
    assert_eq!(raised(overflow), "OverflowError: unsigned byte integer is greater than maximum");
    assert_eq!(shown(&mut array), "array('B', [255])");

    let mut list = Driver::new("list", &[ints([5])]);
    assert_eq!(list.now(ME, "incr", &[Value::Int(-1), Value::Int(-6)]), Ok(Value::Int(-1)));
    assert_eq!(raised(list.now(ME, "incr", &[Value::Int(1)])), "IndexError: list index out of range");

    let mut namespace = Driver::new("Namespace", &[]);
    assert_eq!(namespace.now(ME, "incr", &[text("n"), Value::Int(3)]), Ok(Value::Int(3)));
}

#[test]
fn compare_and_set_changes_only_what_is_as_expected() {
    let expected_and_new = [Value::Float(1.0), text("new")];
    let stale = [Value::Int(1), text("late")];
    let cases: [(Driver, &[Value]); 4] = [
        (Driver::new("Value", &[text("i"), Value::Int(1)]), &[]),
        (Driver::new("list", &[ints([1])]), &[Value::Int(0)]),
        (Driver::new("dict", &[map(&[(text("k"), Value::Int(1))])]), &[text("k")]),
        (Driver::try_new("Namespace", &[], &[("k", Value::Int(1))]).expect("good"), &[text("k")]),
    ];
    for (mut driver, place) in cases {
        let call = |driver: &mut Driver, two: &[Value]| driver.now(ME, "compare_and_set", &[place, two].concat());
        assert_eq!(call(&mut driver, &expected_and_new), Ok(Value::Bool(true)));
        let version = driver.version;
        assert_eq!(call(&mut driver, &stale), Ok(Value::Bool(false)));
        assert_eq!(driver.version, version, "a refused change is none");
        assert!(shown(&mut driver).contains("'new'"));
    }
    let mut dict = Driver::new("dict", &[]);
    assert_eq!(dict.now(ME, "compare_and_set", &[text("k"), Value::Null, Value::Int(1)]), Ok(Value::Bool(false)));
    assert_eq!(value(&mut dict), map(&[]));
}

#[test]
fn nested_containers_change_in_place() {
    let start = map(&[(text("a"), map(&[(text("l"), ints([1])), (text("s"), set(&[Value::Int(1)]))]))]);
    let mut dict = Driver::new("dict", &[start]);
    let mut check = |path: &[&str], operation: &str, args: &[Value], result: Value, after: &str| {
        let path = Value::List(path.iter().map(|step| step.parse().map_or(text(step), Value::Int)).collect());
        let args = [&[path, text(operation)], args].concat();
        assert_eq!(dict.now(ME, "update_in", &args), Ok(result), "{operation}");
        assert_eq!(shown(&mut dict), after, "{operation}");
    };
    check(&["a", "l"], "append", &[Value::Int(2)], Value::Null, "{'a': {'l': [1, 2], 's': {1}}}");
    check(&["a", "l"], "extend", &[text("xy")], Value::Null, "{'a': {'l': [1, 2, 'x', 'y'], 's': {1}}}");
    check(&["a", "l", "-1"], "delete", &[], text("y"), "{'a': {'l': [1, 2, 'x'], 's': {1}}}");
    check(&["a", "l", "0"], "incr", &[], Value::Int(2), "{'a': {'l': [2, 2, 'x'], 's': {1}}}");
    check(&["a", "l", "2"], "set", &[Value::Null], Value::Null, "{'a': {'l': [2, 2, None], 's': {1}}}");
    check(&["a", "s"], "add", &[Value::Float(1.0)], Value::Null, "{'a': {'l': [2, 2, None], 's': {1}}}");
    check(&["a", "s"], "update", &[ints([1, 3])], Value::Null, "{'a': {'l': [2, 2, None], 's': {1, 3}}}");
    check(&["a", "s"], "discard", &[Value::Int(1)], Value::Null, "{'a': {'l': [2, 2, None], 's': {3}}}");
    check(
        &["a", "l"],
        "delete",
        &[],
        Value::List(vec![Value::Int(2), Value::Int(2), Value::Null]),
        "{'a': {'s': {3}}}",
    );
    check(&["a", "n"], "set", &[ints([])], Value::Null, "{'a': {'s': {3}, 'n': []}}");
    check(&["a"], "update", &[map(&[(text("s"), Value::Int(0))])], Value::Null, "{'a': {'s': 0, 'n': []}}");
    check(&["a"], "set", &[Value::Int(7)], Value::Null, "{'a': 7}");
    check(&["a"], "incr", &[Value::Float(0.5)], Value::Float(7.5), "{'a': 7.5}");
}

#[test]
fn misfit_paths_and_operations_change_nothing() {
    let mut list = Driver::new("list", &[Value::List(vec![map(&[(text("k"), ints([1]))]), token("dict", 5)])]);
    let before = value(&mut list);
    let version = list.version;
    for (path, operation, args, expected) in [
        (vec![], "append", vec![Value::Null], "ValueError: path must not be empty"),
        (vec![Value::Int(9)], "set", vec![Value::Null], "IndexError: list index out of range"),
        (vec![Value::Int(0), text("zz")], "append", vec![Value::Null], "KeyError: 'zz'"),
        (vec![Value::Int(0), ints([])], "delete", vec![], "TypeError: unhashable type: 'list'"),
        (vec![Value::Int(0), text("k"), Value::Int(1)], "incr", vec![], "IndexError: list index out of range"),
        (vec![Value::Int(0)], "append", vec![Value::Null], "AttributeError: 'dict' object has no attribute 'append'"),
        (vec![Value::Int(0), text("k")], "append", vec![], "TypeError: append takes exactly one argument (0 given)"),
        (vec![Value::Int(0)], "explode", vec![], "ValueError: operation `explode` is not known"),
        (vec![Value::Int(0)], "delete", vec![], "ValueError: delete needs a path into the item"),
        (
            vec![Value::Int(1), text("k")],
            "set",
            vec![Value::Null],
            "TypeError: 'proxy' object cannot be changed from outside",
        ),
    ] {
        let args = [vec![Value::List(path), text(operation)], args].concat();
        assert_eq!(raised(list.now(ME, "update_in", &args)), expected);
    }
    assert_eq!((value(&mut list), list.version), (before, version));
}

#[test]
fn nesting_in_place_ends_at_the_depth_limit() {
    let mut list = Driver::new("list", &[Value::List(vec![ints([])])]);
    let mut path = vec![Value::Int(0)];
    let refused = loop {
        let args = [Value::List(path.clone()), text("append"), ints([])];
        match list.now(ME, "update_in", &args) {
            Ok(_) => path.push(Value::Int(0)),
            Err(fault) => break fault,
        }
        assert!(path.len() < 100, "nothing ends it");
    };
    assert_eq!((&*refused.kind, &*refused.message), ("ValueError", "item nests deeper than 28 levels"));
    assert!(shown(&mut list).starts_with("[[[["));
}

#[test]
fn repeating_ends_at_the_limit_and_changes_nothing_beyond_it() {
    let mut list = Driver::new("list", &[ints([0, 1])]);
    for method in ["__mul__", "__rmul__", "__imul__"] {
        for count in [ITEMS_MAX as i64 / 2 + 1, 1_000_000_000, i64::MAX] {
            let fault = list.now(ME, method, &[Value::Int(count)]);
            assert!(raised(fault).starts_with("MemoryError: result exceeds"), "{method}({count})");
        }
    }
    assert_eq!(value(&mut list), ints([0, 1]));
    assert_eq!(list.now(ME, "__imul__", &[Value::Int(ITEMS_MAX as i64 / 2)]), Ok(Value::Null));
    assert_eq!(list.now(ME, "__len__", &[]), Ok(Value::Int(ITEMS_MAX as i64)));
    let mut large = Driver::new("list", &[Value::List(vec![Value::Bytes(vec![0; 1 << 20])])]);
    assert!(raised(large.now(ME, "__mul__", &[Value::Int(17)])).starts_with("MemoryError"));
    let mut empty = Driver::new("list", &[]);
    assert_eq!(empty.now(ME, "__imul__", &[Value::Int(i64::MAX)]), Ok(Value::Null));
}

#[test]
fn sort_keeps_equal_items_in_order_both_ways_and_all_items_after_a_fault() {
    let pairs = |items: &[(i64, f64)]| -> Value {
        Value::List(items.iter().flat_map(|(a, b)| [Value::Int(*a), Value::Float(*b)]).collect())
    };
    let mut list = Driver::new("list", &[pairs(&[(2, 2.0), (1, 1.0), (2, 2.0), (0, 0.0)])]);
    assert_eq!(list.now(ME, "sort", &[]), Ok(Value::Null));
    assert_eq!(shown(&mut list), "[0, 0.0, 1, 1.0, 2, 2.0, 2, 2.0]");
    list.call_facet(0, ME, "sort", &[], &[("reverse", Value::Bool(true))]);
    assert_eq!(shown(&mut list), "[2, 2.0, 2, 2.0, 1, 1.0, 0, 0.0]");

    let mixed = Value::List(vec![Value::Int(3), Value::Int(1), Value::Int(2), text("x"), Value::Int(0)]);
    let mut list = Driver::new("list", std::slice::from_ref(&mixed));
    assert_eq!(raised(list.now(ME, "sort", &[])), "TypeError: '<' not supported between instances of 'str' and 'int'");
    assert_eq!(value(&mut list), mixed);
    let keyed = list.call_facet(0, ME, "sort", &[], &[("key", Value::Int(1))]);
    let keyed = list.outcome(keyed).expect("answered");
    assert_eq!(raised(keyed), "TypeError: sort() takes no key here: fetch the list, sort it and store it");

    // NaN makes the order inconsistent: any result will do, as long as it has the same items.
    let wild: Vec<_> =
        (0..200).map(|n| Value::Float(if n % 3 == 0 { f64::NAN } else { f64::from(n * 7 % 50) })).collect();
    let mut list = Driver::new("list", &[Value::List(wild.clone())]);
    assert_eq!(list.now(ME, "sort", &[]), Ok(Value::Null));
    let Value::List(sorted) = value(&mut list) else { panic!("a list") };
    let bits = |items: &[Value]| {
        let mut bits: Vec<_> = items.iter().map(Value::to_vec).collect();
        bits.sort();
        bits
    };
    assert_eq!(bits(&sorted), bits(&wild));
}

#[test]
fn list_iterator_sees_later_changes_until_it_is_exhausted() {
    let mut list = Driver::new("list", &[ints([1])]);
    let (forward, backward) = (iterate(&mut list, "__iter__"), iterate(&mut list, "__reversed__"));
    assert_eq!(next(&mut list, forward), Ok(Value::Int(1)));
    list.now(ME, "append", &[Value::Int(2)]).expect("appends");
    assert_eq!(next(&mut list, forward), Ok(Value::Int(2)));
    assert_eq!(raised(next(&mut list, forward)), "StopIteration: ");
    list.now(ME, "append", &[Value::Int(3)]).expect("appends");
    assert_eq!(raised(next(&mut list, forward)), "StopIteration: ", "exhausted stays exhausted");
    assert_eq!(page(&mut list, forward, 5), Ok(ints([])));
    assert_eq!(page(&mut list, backward, 5), Ok(ints([1])));
    let shrunk = iterate(&mut list, "__reversed__");
    list.now(ME, "clear", &[]).expect("clears");
    assert_eq!(raised(next(&mut list, shrunk)), "StopIteration: ");
}

#[test]
fn pages_walk_the_whole_list_and_are_bounded() {
    let mut list = Driver::new("list", &[ints(0..10_000)]);
    let iterator = iterate(&mut list, "__iter__");
    let mut seen = Vec::new();
    loop {
        let Value::List(items) = page(&mut list, iterator, i64::MAX).expect("a page") else { panic!("a list") };
        assert!(items.len() <= iterator::PAGE_ITEMS_MAX);
        if items.is_empty() {
            break;
        }
        seen.extend(items);
    }
    assert_eq!(Value::List(seen), ints(0..10_000));
    assert_eq!(raised(page(&mut list, iterator, 0)), "ValueError: n must be positive");

    let large = vec![Value::Bytes(vec![7; 600 << 10]); 5];
    let mut list = Driver::new("list", &[Value::List(large)]);
    let iterator = iterate(&mut list, "__iter__");
    for expected in [2, 2, 1, 0] {
        let Value::List(items) = page(&mut list, iterator, 5).expect("a page") else { panic!("a list") };
        assert_eq!(items.len(), expected);
    }
}

#[test]
fn dict_iterator_notices_a_changed_size_and_survives_gaps() {
    let pairs: Vec<_> = (0..100).map(|n| (Value::Int(n), Value::Null)).collect();
    let mut dict = Driver::new("dict", &[map(&pairs)]);
    let (forward, backward) = (iterate(&mut dict, "__iter__"), iterate(&mut dict, "__reversed__"));
    assert_eq!(page(&mut dict, forward, 2), Ok(ints([0, 1])));
    assert_eq!(page(&mut dict, backward, 2), Ok(ints([99, 98])));
    dict.now(ME, "__setitem__", &[Value::Int(50), text("same size")]).expect("sets");
    assert_eq!(next(&mut dict, forward), Ok(Value::Int(2)));

    // Many keys go and as many come, so gaps are closed under the iterators' feet.
    for n in 10..90 {
        dict.now(ME, "__delitem__", &[Value::Int(n)]).expect("deletes");
    }
    let late = iterate(&mut dict, "__iter__");
    assert_eq!(page(&mut dict, late, 11), Ok(ints((0..10).chain([90]))));
    for n in 10..90 {
        dict.now(ME, "__setitem__", &[Value::Int(n), Value::Null]).expect("sets");
    }
    assert_eq!(page(&mut dict, forward, 3), Ok(ints([3, 4, 5])));
    assert_eq!(next(&mut dict, backward), Ok(Value::Int(97)));
    dict.now(ME, "popitem", &[]).expect("pops");
    assert_eq!(raised(next(&mut dict, forward)), "RuntimeError: dictionary changed size during iteration");
    assert_eq!(raised(page(&mut dict, backward, 9)), "RuntimeError: dictionary changed size during iteration");
    dict.now(ME, "__setitem__", &[text("back"), Value::Null]).expect("sets");
    assert_eq!(raised(next(&mut dict, forward)), "RuntimeError: dictionary changed size during iteration", "for good");
}

#[test]
fn set_iterator_walks_over_a_copy_whose_tokens_stay_held() {
    let mut set = Driver::new("set", &[set(&[token("list", 4), Value::Int(1)])]);
    let iterator = iterate(&mut set, "__iter__");
    let abandoned = iterate(&mut set, "__iter__");
    set.now(ME, "clear", &[]).expect("clears");
    assert_eq!(set.held.values().sum::<u64>(), 2, "the copies hold it");
    assert_eq!(page(&mut set, iterator, 9), Ok(Value::List(vec![token("list", 4), Value::Int(1)])));
    assert_eq!(set.held.values().sum::<u64>(), 1);
    set.leave(abandoned);
    assert!(set.held.is_empty());
}

#[test]
fn closed_iterators_end_and_are_no_generators() {
    let mut list = Driver::new("list", &[ints([1, 2])]);
    let iterator = iterate(&mut list, "__iter__");
    let sent = list.now_facet(iterator, ME, "send", &[Value::Null]);
    assert_eq!(raised(sent), "AttributeError: 'list_iterator' object has no attribute 'send'");
    let thrown = list.now_facet(iterator, ME, "throw", &[]);
    assert_eq!(raised(thrown), "AttributeError: 'list_iterator' object has no attribute 'throw'");
    assert_eq!(list.now_facet(iterator, ME, "close", &[]), Ok(Value::Null));
    assert_eq!(raised(next(&mut list, iterator)), "StopIteration: ");
    let copied = list.now_facet(iterator, ME, "#GETVALUE", &[]);
    assert_eq!(raised(copied), "TypeError: cannot copy 'list_iterator' object");
}

#[test]
fn iterators_are_bounded_until_some_leave() {
    let mut list = Driver::new("list", &[]);
    let iterators: Vec<_> = (0..iterator::ITERATORS_MAX).map(|_| iterate(&mut list, "__iter__")).collect();
    assert_eq!(raised(list.now(ME, "__iter__", &[])), "MemoryError: container has 1024 iterators, the limit");
    list.leave(iterators[0]);
    iterate(&mut list, "__iter__");
}

#[test]
fn all_locks_of_a_value_are_one_lock_and_do_not_stop_its_methods() {
    for mut driver in [Driver::new("Value", &[text("i"), Value::Int(1)]), Driver::new("Array", &[text("i"), ints([1])])]
    {
        let (first, second) = (iterate(&mut driver, "get_lock"), iterate(&mut driver, "get_lock"));
        assert_eq!(driver.now_facet(first, ME, "acquire", &[]), Ok(Value::Bool(true)));
        assert_eq!(driver.now_facet(second, ME, "acquire", &[]), Ok(Value::Bool(true)), "it is the same RLock");
        let other = driver.call_facet(second, owner(2), "acquire", &[], &[]);
        assert!(!driver.is_answered(other));
        assert!(driver.now(owner(2), "__repr__", &[]).is_ok(), "methods take no lock");
        driver.leave(first);
        driver.now_facet(second, ME, "release", &[]).expect("releases");
        assert!(!driver.is_answered(other));
        driver.now_facet(second, ME, "release", &[]).expect("releases");
        assert_eq!(driver.value(other), Some(Value::Bool(true)));
        let waiting = driver.call_facet(second, ME, "acquire", &[], &[]);
        let impatient = driver.call_facet(second, owner(3), "acquire", &[], &[]);
        driver.cancel(impatient, Why::Deadline);
        assert_eq!(driver.value(impatient), Some(Value::Bool(false)));
        driver.lose(2, false);
        assert!(driver.grant(waiting).expect("the lock passes on").abandoned);
        assert_eq!(driver.join("Condition", second, &[]).expect_err("it does not share").kind, "TypeError");
    }
}

#[test]
fn namespace_shows_public_names_in_order_and_names_what_is_missing() {
    let start = [("b", text("x")), ("_y", Value::Int(3)), ("a", Value::Int(1)), ("a1", Value::Int(2))];
    let mut namespace = Driver::try_new("Namespace", &[], &start).expect("good");
    assert_eq!(shown(&mut namespace), "Namespace(a1=2, a=1, b='x')");
    let missing = namespace.now(ME, "__getattribute__", &[text("zz")]);
    assert_eq!(raised(missing), "AttributeError: 'Namespace' object has no attribute 'zz'");
    let missing = namespace.now(ME, "__delattr__", &[text("zz")]);
    assert_eq!(raised(missing), "AttributeError: 'Namespace' object has no attribute 'zz'");
    let number = namespace.now(ME, "__setattr__", &[Value::Int(5), Value::Null]);
    assert_eq!(raised(number), "TypeError: attribute name must be string, not 'int'");
    assert_eq!(namespace.now(ME, "__delattr__", &[text("b")]), Ok(Value::Null));
    assert_eq!(shown(&mut namespace), "Namespace(a1=2, a=1)");
    assert!(Driver::try_new("Namespace", &[Value::Int(1)], &[]).is_err());
}

#[test]
fn value_shows_its_typecode_and_never_checks_it() {
    let mut driver = Driver::new("Value", &[text("i"), text("text")]);
    assert_eq!(shown(&mut driver), "Value('i', 'text')");
    driver.now(ME, "set", &[Value::Null]).expect("sets");
    assert_eq!(value(&mut driver), Value::Null);
}

#[test]
fn a_dict_takes_keywords_of_any_name_and_keeps_the_first_key() {
    let mut dict =
        Driver::try_new("dict", &[ints([])], &[("other", Value::Int(1)), ("self", Value::Int(2))]).expect("good");
    assert_eq!(shown(&mut dict), "{'other': 1, 'self': 2}");
    dict.now(ME, "__setitem__", &[Value::Int(1), text("int")]).expect("sets");
    dict.now(ME, "__setitem__", &[Value::Bool(true), text("bool")]).expect("sets");
    let decimal = Value::Decimal(Decimal::Finite { negative: false, digits: 10.into(), exponent: -1 });
    assert_eq!(dict.now(ME, "__getitem__", &[decimal]), Ok(text("bool")));
    assert_eq!(shown(&mut dict), "{'other': 1, 'self': 2, 1: 'bool'}");
    let keys = Value::List(vec![Value::Complex(1.0, 0.0), text("none")]);
    assert_eq!(dict.now(ME, "get_many", &[keys]), Ok(Value::List(vec![text("bool"), Value::Null])));
    assert!(Driver::try_new("dict", &[ints([]), ints([])], &[]).is_err());
}

#[test]
fn keys_that_are_one_to_python_are_refused_in_an_opened_map() {
    let twice = map(&[(Value::Int(1), Value::Null), (Value::Float(1.0), Value::Null)]);
    let fault = Driver::try_new("dict", &[twice], &[]).err().expect("refused");
    assert_eq!((&*fault.kind, &*fault.message), ("Malformed", "key occurs twice in a map"));
}

#[test]
fn nan_is_a_key_of_its_own_each_time() {
    let nan = Value::Float(f64::NAN);
    let mut dict = Driver::new("dict", &[]);
    for n in 0..3 {
        dict.now(ME, "__setitem__", &[nan.clone(), Value::Int(n)]).expect("sets");
    }
    assert_eq!(shown(&mut dict), "{nan: 0, nan: 1, nan: 2}");
    assert_eq!(raised(dict.now(ME, "__getitem__", std::slice::from_ref(&nan))), "KeyError: nan");
    dict.now(ME, "popitem", &[]).expect("pops");
    assert_eq!(dict.now(ME, "__len__", &[]), Ok(Value::Int(2)));
    let inside = tuple(&[Value::Int(1), nan.clone()]);
    assert_eq!(Key::of(&inside.to_vec()), Ok(None));
    assert!(!compare::equal(&inside.to_vec(), &inside.to_vec()));
    let mut list = Driver::new("list", &[Value::List(vec![nan.clone()])]);
    assert_eq!(list.now(ME, "__contains__", &[nan]), Ok(Value::Bool(false)));
}

/// A Decimal of a few bytes may stand for a number that no memory holds.
#[test]
fn hostile_magnitudes_cost_next_to_nothing() {
    let decimal = |digits: num_bigint::BigInt, exponent: i64| {
        Value::Decimal(Decimal::Finite { negative: false, digits, exponent }).to_vec()
    };
    let start = Instant::now();
    let huge = [
        decimal(1.into(), i64::MAX),
        decimal(10.into(), i64::MAX - 1),
        decimal(1.into(), 1_000_000_000_000_000_000),
        decimal(7.into(), i64::MIN),
        decimal(num_bigint::BigInt::from(10).pow(10_000), 1_000_000),
        Value::BigInt(num_bigint::BigInt::from(1) << 8_000_000).to_vec(),
        decimal(num_bigint::BigInt::from(1) << 1_000_000, 0),
        Value::Float(f64::MAX).to_vec(),
        Value::Int(1).to_vec(),
    ];
    for a in &huge {
        assert!(Key::of(a).expect("hashable").is_some());
        for b in &huge {
            let same = std::ptr::eq(a, b);
            let one = compare::equal(a, b);
            assert!(one || !same);
            if let (Ok(less), Ok(greater)) = (compare::less(a, b), compare::less(b, a)) {
                assert!(u8::from(less) + u8::from(greater) + u8::from(one) <= 1, "at most one of them holds");
            }
        }
    }
    assert!(compare::equal(&huge[0], &huge[1]), "1E+x is 10E+(x-1)");
    assert_eq!(compare::less(&huge[3], &huge[8]), Ok(true));
    assert_eq!(compare::less(&huge[7], &huge[2]), Ok(true));
    let close = decimal(9.into(), 2_408_239);
    let fault = raised(compare::less(&huge[5], &close));
    assert_eq!(fault, format!("OverflowError: comparing a Decimal takes numbers of more than {EXACT_BITS_MAX} bits"));
    assert!(raised(repr::repr(&huge[5])).starts_with("ValueError: Exceeds the limit (4300 digits)"));
    assert!(raised(repr::repr(&huge[6])).starts_with("ValueError: Decimal has 1000001 bits"));
    assert_eq!(repr::repr(&huge[0]).expect("short"), "Decimal('1E+9223372036854775807')");
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
}

/// Looking for a large value among many small ones takes time for the small ones.
#[test]
fn large_values_are_looked_for_among_small_ones_quickly() {
    let large = |small: Value| Value::List(vec![small, Value::List(vec![Value::Int(1); 60_000])]);
    let decimal = Value::Decimal(Decimal::Finite { negative: false, digits: 1.into(), exponent: 4_900 });
    let close = Value::Decimal(Decimal::Finite {
        negative: false,
        digits: num_bigint::BigInt::from(10).pow(4_900) + 1,
        exponent: 0,
    });
    let start = Instant::now();
    for (small, wanted) in [
        (Value::List(vec![Value::Int(1), Value::Int(2)]), large(Value::Int(1))),
        (Value::Int(1), large(Value::Int(1))),
        (map(&[(Value::Int(1), Value::Int(2))]), map(&[(Value::Int(1), large(Value::Null))])),
        (set(&[Value::Int(1)]), Value::Set((0..60_000).map(Value::Int).collect())),
        (decimal, close),
    ] {
        let mut list = Driver::new("list", &[Value::List(vec![small; 20_000])]);
        assert_eq!(list.now(ME, "count", &[wanted]), Ok(Value::Int(0)));
    }
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
}

#[test]
fn malformed_items_are_refused_not_panicked_over() {
    for item in [&[][..], &[0x82, 0x01], &[0xff], &[0x61], &[0xd8, 0x63, 0x00], &[0xfb, 0x00]] {
        assert!(!compare::equal(item, &[0x01]));
        assert!(compare::less(item, &[0x01]).is_err());
        assert!(Key::of(item).is_err());
        assert_eq!(repr::repr(item).expect_err("no item").kind, "Malformed");
    }
    assert_eq!(arguments(&[], &[]), [0x82, 0x80, 0xa0]);
}

/// What is said to be its own key is, in every width of its head; what is longer than it need be is not.
#[test]
fn items_that_are_their_own_keys_are_told() {
    let widths = [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 32, i64::MAX as u64 - 1, i64::MAX as u64, u64::MAX];
    let mut items = Vec::new();
    for argument in widths {
        for put in [cbor::put_u64, cbor::put_negative] {
            let mut item = Vec::new();
            put(&mut item, argument);
            items.push(item);
        }
    }
    for length in [0, 1, 23, 24, 255, 256] {
        let text = "x".repeat(length);
        items.extend([Value::Bytes(text.clone().into()).to_vec(), Value::Text(text).to_vec()]);
    }
    items.extend(
        [Value::Null, Value::Bool(true), Value::Float(1.5), Value::List(Vec::new())].map(|value| value.to_vec()),
    );
    let mut own = 0;
    for item in items.iter().filter(|item| Key::is_item(item)) {
        assert_eq!(Key::of(item).expect("hashable").expect("findable").as_bytes(), item);
        own += 1;
    }
    assert!(own > 25, "only {own} are their own keys");
    for longer in
        [&b"\x18\x01"[..], b"\x19\x00\xff", b"\x1a\x00\x00\xff\xff", b"\x1b\0\0\0\0\xff\xff\xff\xff", b"\x78\x01x"]
    {
        assert!(!Key::is_item(longer), "{longer:02x?}");
    }
}
