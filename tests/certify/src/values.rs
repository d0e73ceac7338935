//! Values and names as small numbers, so that a million calls fit into memory and states compare fast.
//!
//! Whole floats are taken for integers: Python's `1.0 == 1`.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

/// A value; two are equal if Python's would be (but `True` is not 1 here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Val {
    Null,
    Bool(bool),
    Int(i64),
    /// Kept by [`Values`].
    Other(u32),
}

/// A method's name or a fault's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(u32);

/// All values and names of the histories.
#[derive(Debug, Default)]
pub(crate) struct Values {
    others: Vec<Rc<Value>>,
    numbers: HashMap<Rc<Value>, u32>,
    names: Vec<Rc<str>>,
    name_numbers: HashMap<Rc<str>, u32>,
}

impl Values {
    pub(crate) fn intern(&mut self, value: Value) -> Val {
        match canonical(value) {
            Value::Null => Val::Null,
            Value::Bool(value) => Val::Bool(value),
            Value::Number(number) if number.is_i64() => Val::Int(number.as_i64().expect("it is one")),
            value => {
                if let Some(number) = self.numbers.get(&value) {
                    return Val::Other(*number);
                }
                let number = u32::try_from(self.others.len()).expect("fewer than 2^32 different values");
                let value = Rc::new(value);
                self.others.push(value.clone());
                self.numbers.insert(value, number);
                Val::Other(number)
            }
        }
    }

    pub(crate) fn json(&self, value: Val) -> Value {
        match value {
            Val::Null => Value::Null,
            Val::Bool(value) => value.into(),
            Val::Int(value) => value.into(),
            Val::Other(number) => (*self.others[number as usize]).clone(),
        }
    }

    /// The value behind a number; `None` for those that are their own.
    pub(crate) fn other(&self, value: Val) -> Option<&Value> {
        match value {
            Val::Other(number) => Some(&self.others[number as usize]),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub(crate) fn list(&mut self, value: Val) -> Option<Vec<Val>> {
        match self.other(value)?.clone() {
            Value::Array(items) => Some(items.into_iter().map(|item| self.intern(item)).collect()),
            _ => None,
        }
    }

    /// A list.
    pub(crate) fn listed(&mut self, items: impl IntoIterator<Item = Val>) -> Val {
        let items = items.into_iter().map(|item| self.json(item)).collect();
        self.intern(Value::Array(items))
    }

    /// `a + b`, if both are numbers.
    pub(crate) fn sum(&mut self, a: Val, b: Val) -> Option<Val> {
        if let (Val::Int(a), Val::Int(b)) = (a, b)
            && let Some(sum) = a.checked_add(b)
        {
            return Some(Val::Int(sum));
        }
        let sum = self.json(a).as_f64()? + self.json(b).as_f64()?;
        Some(self.intern(sum.into()))
    }

    pub(crate) fn name(&mut self, name: &str) -> Name {
        if let Some(number) = self.name_numbers.get(name) {
            return Name(*number);
        }
        let number = u32::try_from(self.names.len()).expect("fewer than 2^32 names");
        let name: Rc<str> = name.into();
        self.names.push(name.clone());
        self.name_numbers.insert(name, number);
        Name(number)
    }

    pub(crate) fn text(&self, name: Name) -> Rc<str> {
        self.names[name.0 as usize].clone()
    }

    /// For people.
    pub(crate) fn show(&self, value: Val) -> String {
        self.json(value).to_string()
    }
}

fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Beyond 2^53 a float no longer says which integer it is.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
            _ => Value::Number(number),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, canonical(value))).collect())
        }
        other => other,
    }
}
