//! `Value`: one shared value.

use super::items::{self, Held, Item};
use super::lockable::{GET_LOCK_DOC, Lockable};
use super::{compare, methods, no_such_method, repr};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Owner, Param, Referent, common};

/// `multiprocessing.managers.Value`, with a lock and atomic changes.
pub static VALUE: Builtin = Builtin {
    typeid: "Value",
    doc: "One value of any type.\n\nAs in CPython's managers the typecode is shown, but never checked.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: false,
    constructible: true,
};

const CONSTRUCTOR: &[Param] =
    &[Param::required("typecode", "str"), Param::required("value", "any"), Param::optional("lock", "bool", "True")];

methods! {
    /// Methods of Value.
    ValueMethod, METHODS:
    Add = Method::new("add", &[Param::optional("n", "int or float", "1")], "Adds to a number in one step and returns the sum.").stores();
    CompareAndSet = Method::new("compare_and_set",
        &[Param::required("expected", "any"), Param::required("new", "any")],
        "Replaces the value if it equals `expected`, in one step; says whether it did.").stores();
    Get = Method::new("get", &[], "Returns the value.").read_only();
    GetLock = Method::new("get_lock", &[], GET_LOCK_DOC).returning("RLock");
    Set = Method::new("set", &[Param::required("value", "any")], "Replaces the value.").stores();
}

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let [typecode, value, _lock] = args.bind("Value.__init__", CONSTRUCTOR)?;
    let (typecode, value) = (typecode.expect(BOUND), value.expect(BOUND));
    let mut held = Held::default();
    held.store(typecode, args.has_tokens(), out);
    held.store(value, args.has_tokens(), out);
    Ok(Box::new(Value { typecode: typecode.into(), value: value.into(), held, lock: Lockable::new() }))
}

struct Value {
    typecode: Item,
    value: Item,
    held: Held,
    lock: Lockable,
}

impl Referent for Value {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) if call.facet == 0 => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            other => self.lock.step(other, out),
        }
    }

    fn holder(&self) -> Option<Owner> {
        self.lock.holder()
    }
}

impl Value {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("Value.{}", method.name), method.params)?
            }};
        }
        let Some(method) = ValueMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => out.returns_item(id, &self.value),
                common::STR | common::REPR => {
                    let text = format!("Value({}, {})", repr::repr(&self.typecode)?, repr::repr(&self.value)?);
                    out.returns_text(id, &text);
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            ValueMethod::Get => {
                let [] = bind!();
                out.returns_item(id, &self.value);
            }
            ValueMethod::Set => {
                let [value] = bind!();
                self.set(value.expect(BOUND).into(), args.has_tokens(), out);
                out.returns_null(id);
            }
            ValueMethod::Add => {
                let [amount] = bind!();
                let sum = items::sum(&self.value, amount.unwrap_or(&[1]))?;
                out.returns_item(id, &sum);
                self.set(sum, false, out);
            }
            ValueMethod::CompareAndSet => {
                let [expected, new] = bind!();
                let same = compare::equal(&self.value, expected.expect(BOUND));
                if same {
                    self.set(new.expect(BOUND).into(), args.has_tokens(), out);
                }
                out.returns_bool(id, same);
            }
            ValueMethod::GetLock => {
                let [] = bind!();
                self.lock.open(call, out)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, value: Item, may_have_tokens: bool, out: &mut Outbox) {
        self.held.store(&value, may_have_tokens, out);
        let old = std::mem::replace(&mut self.value, value);
        self.held.remove(&old, out);
        out.changed();
    }
}

const BOUND: &str = "bind fills required parameters";
