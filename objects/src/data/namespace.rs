//! `Namespace`: attributes.

use std::collections::BTreeMap;

use steward_wire::cbor;

use super::items::{self, Held, Item, sequence, text};
use super::{compare, methods, no_such_method, repr};
use crate::{Args, Builtin, Call, Fault, Input, Method, Outbox, Param, Referent, common};

/// `multiprocessing.managers.Namespace`.
pub static NAMESPACE: Builtin = Builtin {
    typeid: "Namespace",
    doc: "Attributes by name, given as keywords to start with.\n\nNames that start with `_` are not shown; proxies keep \
          those to themselves.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create,
    joins: &[],
    snapshots: false,
    constructible: true,
};

const CONSTRUCTOR: &[Param] = &[Param::keywords("kwds")];
const NAME: Param = Param::required("name", "str");

methods! {
    /// Methods of Namespace.
    NamespaceMethod, METHODS:
    DelAttr = Method::new("__delattr__", &[NAME], "Removes an attribute.\n\nRaises `AttributeError` if it is not there.");
    GetAttribute = Method::new("__getattribute__", &[NAME],
        "Returns an attribute.\n\nRaises `AttributeError` if it is not there.").read_only();
    SetAttr = Method::new("__setattr__", &[NAME, Param::required("value", "any")], "Sets an attribute.").stores();
    CompareAndSet = Method::new("compare_and_set",
        &[NAME, Param::required("expected", "any"), Param::required("new", "any")],
        "Replaces an attribute if it equals `expected`, in one step; says whether it did.\n\nA missing one equals nothing.").stores();
    Incr = Method::new("incr",
        &[NAME, Param::optional("amount", "int or float", "1"), Param::optional("default", "int or float", "0")],
        "Adds to an attribute, `default` if it is missing, in one step, and returns the sum.").stores();
}

fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
    let [given] = args.bind("Namespace.__init__", CONSTRUCTOR)?;
    let mut namespace = Namespace::default();
    for pair in sequence(given)?.chunks(2) {
        namespace.set(text(pair[0], WHAT)?, pair[1].into(), args.has_tokens(), out);
    }
    Ok(Box::new(namespace))
}

const WHAT: &str = "attribute name";

#[derive(Default)]
struct Namespace {
    attributes: BTreeMap<Box<str>, Item>,
    held: Held,
}

impl Referent for Namespace {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        if let Input::Call(call) = input
            && let Err(fault) = self.call(&call, out)
        {
            out.raises(call.id, &fault);
        }
    }
}

impl Namespace {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let (id, args) = (call.id, call.args);
        macro_rules! bind {
            () => {{
                let method = &METHODS[call.method as usize];
                args.bind(&format!("Namespace.{}", method.name), method.params)?
            }};
        }
        let Some(method) = NamespaceMethod::of(call.method) else {
            match call.method {
                common::GET_VALUE => out.returns(id, |bytes| {
                    cbor::put_map(bytes, self.attributes.len());
                    for (name, value) in &self.attributes {
                        cbor::put_text(bytes, name);
                        bytes.extend_from_slice(value);
                    }
                }),
                common::STR | common::REPR => {
                    let mut shown = Vec::new();
                    for (name, value) in self.attributes.iter().filter(|(name, _)| !name.starts_with('_')) {
                        let mut attribute = format!("{name}=");
                        repr::put_item(&mut attribute, value)?;
                        shown.push(attribute);
                    }
                    // CPython sorts what it shows: `a1=…` comes before `a=…`.
                    shown.sort_unstable();
                    out.returns_text(id, &format!("Namespace({})", shown.join(", ")));
                }
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            NamespaceMethod::GetAttribute => {
                let [name] = bind!();
                let name = text(name.expect(BOUND), WHAT)?;
                let value = self.attributes.get(name).ok_or_else(|| missing(name))?;
                out.returns_item(id, value);
            }
            NamespaceMethod::SetAttr => {
                let [name, value] = bind!();
                self.set(text(name.expect(BOUND), WHAT)?, value.expect(BOUND).into(), args.has_tokens(), out);
                out.returns_null(id);
            }
            NamespaceMethod::DelAttr => {
                let [name] = bind!();
                let name = text(name.expect(BOUND), WHAT)?;
                let value = self.attributes.remove(name).ok_or_else(|| missing(name))?;
                self.held.remove(&value, out);
                out.remove_item(name.len());
                out.changed();
                out.returns_null(id);
            }
            NamespaceMethod::Incr => {
                let [name, amount, default] = bind!();
                let name = text(name.expect(BOUND), WHAT)?;
                let start = self.attributes.get(name).map_or(default.unwrap_or(&[0]), |value| value);
                let sum = items::sum(start, amount.unwrap_or(&[1]))?;
                out.returns_item(id, &sum);
                self.set(name, sum, false, out);
            }
            NamespaceMethod::CompareAndSet => {
                let [name, expected, new] = bind!();
                let name = text(name.expect(BOUND), WHAT)?;
                let same = self.attributes.get(name).is_some_and(|value| compare::equal(value, expected.expect(BOUND)));
                if same {
                    self.set(name, new.expect(BOUND).into(), args.has_tokens(), out);
                }
                out.returns_bool(id, same);
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Item, may_have_tokens: bool, out: &mut Outbox) {
        self.held.store(&value, may_have_tokens, out);
        match self.attributes.insert(name.into(), value) {
            Some(old) => self.held.remove(&old, out),
            None => out.store_item(name.len()),
        }
        out.changed();
    }
}

const BOUND: &str = "bind fills required parameters";

fn missing(name: &str) -> Fault {
    Fault::raised("AttributeError", format!("'Namespace' object has no attribute '{name}'"))
}
