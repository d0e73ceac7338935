//! What CPython answers, as `data_cases/generate.py` has written it down.

mod support;

use std::fs;
use std::path::Path;

use steward_objects::data::{Key, compare, repr};
use steward_objects::{Fault, Value};
use support::{Driver, owner};

/// The rows of a file, without its first line.
fn rows(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data_cases").join(name);
    let text = fs::read_to_string(path).expect("the file is part of the sources");
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn item(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn value(digits: &str) -> Value {
    Value::decode(&item(digits)).expect("an item")
}

/// As the files have outcomes: an item's digits, or an error.
fn written(outcome: Result<Value, Fault>) -> String {
    match outcome {
        Ok(value) => value.to_vec().iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(fault) => format!("!{}: {}", fault.kind, fault.message.replace('\n', "\\n")),
    }
}

/// Fails with all that differs, not with the first of it.
fn all_agree(differences: Vec<String>) {
    assert!(differences.is_empty(), "{} cases differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn values_compare_and_show_as_in_cpython() {
    let mut differences = Vec::new();
    for row in rows("values.txt") {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        let (expression, found, expected) = match row[..] {
            ["repr", a, item_a, expected] => (a, written(repr::repr(&item(item_a)).map(Value::Text)), expected),
            // A key finds itself: a dict of it has one entry.
            ["key", a, item_a, expected] => (a, written(Key::of(&item(item_a)).map(|_| Value::Int(1))), expected),
            ["equal", a, b, item_a, item_b, expected] => {
                let equal = compare::equal(&item(item_a), &item(item_b));
                if let (Ok(Some(key_a)), Ok(Some(key_b))) = (Key::of(&item(item_a)), Key::of(&item(item_b))) {
                    assert_eq!(key_a == key_b, equal, "{a} and {b} are one key exactly if they are equal");
                }
                let equal = if equal { "True" } else { "False" };
                (&*format!("{a} == {b}").leak(), equal.to_owned(), expected)
            }
            ["less", a, b, item_a, item_b, expected] => {
                let less = compare::less(&item(item_a), &item(item_b)).map(Value::Bool);
                (&*format!("{a} < {b}").leak(), written(less), expected)
            }
            _ => panic!("{row:?} is no case"),
        };
        if found != expected {
            differences.push(format!("{} {expression}: {found}, not {expected}", row[0]));
        }
    }
    all_agree(differences);
}

/// Whether two values are the same, sets in any order.
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Set(a), Value::Set(b)) | (Value::FrozenSet(a), Value::FrozenSet(b)) => {
            a.len() == b.len() && a.iter().all(|element| b.iter().any(|other| same(element, other)))
        }
        _ => found == expected,
    }
}

fn driver(start: Value) -> Driver {
    let typeid = match &start {
        Value::List(_) => "list",
        Value::Set(_) => "set",
        Value::Map(_) => "dict",
        Value::Array(typecode, _) => {
            return Driver::new("Array", &[Value::Text(typecode.to_string()), start]);
        }
        other => panic!("no type has the value {other:?}"),
    };
    Driver::new(typeid, &[start])
}

#[test]
fn methods_answer_as_in_cpython() {
    let mut differences = Vec::new();
    for row in rows("calls.txt") {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        let Value::List(mut args) = value(row[2]) else { panic!("arguments are a list") };
        let expected = row[4];
        let (found, end) = if row[1] == "new" {
            match Driver::try_new(row[3], &args, &[]) {
                Ok(mut driver) => (driver.now(owner(1), "#GETVALUE", &[]), None),
                Err(fault) => (Err(fault), None),
            }
        } else {
            let mut driver = driver(value(row[1]));
            let mut keywords = Vec::new();
            if row[3] == "sort"
                && let Some(Value::Map(options)) = args.pop()
            {
                for (name, option) in options {
                    let Value::Text(name) = name else { panic!("keywords are text") };
                    keywords.push((name, option));
                }
            }
            let keywords: Vec<_> = keywords.iter().map(|(name, option)| (&**name, option.clone())).collect();
            let call = driver.call_facet(0, owner(1), row[3], &args, &keywords);
            let found = driver.outcome(call).expect("data types answer at once");
            (found, Some(driver.now(owner(1), "#GETVALUE", &[]).expect("the value can be copied")))
        };
        let agrees = match &found {
            Ok(found) => !expected.starts_with('!') && same(found, &value(expected)),
            Err(_) => written(found.clone()) == expected,
        };
        if !agrees {
            differences.push(format!("{}: {}, not {expected}", row[0], written(found)));
        }
        if let Some(end) = end
            && !same(&end, &value(row[5]))
        {
            differences.push(format!("{} leaves {}, not {}", row[0], written(Ok(end)), row[5]));
        }
    }
    all_agree(differences);
}
