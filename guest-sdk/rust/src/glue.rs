//! The plugin world of `wit/`, implemented for any list of types. For [`crate::export!`] alone.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::object::{ObjectType, Param, TypeInfo};
use crate::shell::{Birth, Grant, Input, Shell};
use crate::{Level, Owner, OwnerLost, ParamKind, Why};

/// What wit-bindgen makes of the world.
#[allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "steward_guest::glue::bindings",
        runtime_path: "::wit_bindgen::rt",
    });
}

use bindings::exports::steward::plugin::referent;
use bindings::steward::plugin::{host, types};

/// Content of the custom section `steward`, by which tools know the SDK and the world that a component was made with.
pub const MADE_BY: &[u8] = concat!("sdk rust ", env!("CARGO_PKG_VERSION"), "\nworld 0.1.0\n").as_bytes();

/// The types of a plugin.
pub trait Types: 'static {
    /// In the order of their descriptions.
    const TYPES: &'static [Entry];
}

/// What the glue needs of one type.
#[allow(missing_debug_implementations, reason = "functions have nothing to show")]
pub struct Entry {
    info: &'static TypeInfo,
    create: fn(Birth, &[u8]) -> Result<Made, crate::Fault>,
    load: fn(Birth, &[u8], &str) -> Result<Made, crate::Fault>,
}

/// An object and the tokens that it stores.
type Made = (Shell, Vec<u64>);

impl Entry {
    /// The entry of a type.
    pub const fn of<T: ObjectType>() -> Self {
        Self { info: &const { T::INFO }, create: Shell::create::<T>, load: Shell::load::<T> }
    }
}

/// The component.
#[allow(missing_debug_implementations, reason = "a type without values")]
pub struct Component<T>(PhantomData<T>);

impl<T: Types> referent::Guest for Component<T> {
    type Object = Instance<T>;

    fn describe() -> Vec<referent::TypeInfo> {
        T::TYPES.iter().map(|entry| describe(entry.info)).collect()
    }
}

/// One object.
#[allow(missing_debug_implementations, reason = "nobody sees it but the host")]
pub struct Instance<T> {
    shell: RefCell<Shell>,
    types: PhantomData<T>,
}

impl<T: Types> Instance<T> {
    fn make(
        typeid: &str,
        make: impl FnOnce(&Entry) -> Result<Made, crate::Fault>,
    ) -> Result<referent::Made, types::Fault> {
        std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
        let entry = T::TYPES.iter().find(|entry| entry.info.typeid == typeid);
        let made = match entry {
            Some(entry) => make(entry),
            None => Err(crate::Fault::new("KeyError", format!("no type `{typeid}` in this plugin"))),
        };
        let (shell, held) = made.map_err(fault)?;
        let object = referent::Object::new(Self { shell: RefCell::new(shell), types: PhantomData });
        Ok(referent::Made { object, held })
    }
}

impl<T: Types> referent::GuestObject for Instance<T> {
    fn create(typeid: String, args: Vec<u8>, context: types::Context) -> Result<referent::Made, types::Fault> {
        Self::make(&typeid, |entry| (entry.create)(birth(context), &args))
    }

    fn step(&self, now_ms: u64, seed: u64, input: types::Input) -> types::Outcome {
        let outcome = self.shell.borrow_mut().step(now_ms, seed, from_host(input));
        types::Outcome {
            completions: outcome
                .completions
                .into_iter()
                .map(|completion| types::Completion {
                    call: completion.call,
                    outcome: completion.outcome.map_err(fault),
                    grant: match completion.grant {
                        Grant::None => types::Grant::None,
                        Grant::Clean => types::Grant::Clean,
                        Grant::Abandoned => types::Grant::Abandoned,
                    },
                })
                .collect(),
            freed: outcome.freed,
            changed: outcome.changed,
            wake_at: outcome.wake_at_ms,
            held: outcome.held,
            let_go: outcome.let_go,
            invokes: outcome
                .invocations
                .into_iter()
                .map(|invocation| types::Invocation {
                    tag: invocation.tag,
                    ident: invocation.ident,
                    method: invocation.method,
                    args: invocation.args,
                })
                .collect(),
        }
    }

    fn save(&self) -> Result<Vec<u8>, types::Fault> {
        self.shell.borrow().save().map_err(fault)
    }

    fn load(
        typeid: String,
        state: Vec<u8>,
        from_version: String,
        context: types::Context,
    ) -> Result<referent::Made, types::Fault> {
        Self::make(&typeid, |entry| (entry.load)(birth(context), &state, &from_version))
    }
}

fn birth(context: types::Context) -> Birth {
    Birth { now_ms: context.now_ms, seed: context.seed, tenant: context.tenant }
}

fn from_host(input: types::Input) -> Input {
    match input {
        types::Input::Call(call) => Input::Call {
            id: call.id,
            method: call.method,
            owner: Owner { session: call.owner.session, thread: call.owner.thread },
            args: call.args,
        },
        types::Input::Cancel(cancel) => Input::Cancel {
            call: cancel.call,
            why: match cancel.why {
                types::Why::Deadline => Why::Deadline,
                types::Why::Client => Why::Client,
                types::Why::SessionEnded => Why::SessionEnded,
            },
        },
        types::Input::OwnerLost(lost) => Input::OwnerLost(OwnerLost { session: lost.session, orderly: lost.orderly }),
        types::Input::Undelivered(lost) => {
            Input::Undelivered { call: lost.call, method: lost.method, payload: lost.payload, sent: lost.sent }
        }
        types::Input::Returned(returned) => Input::Returned {
            tag: returned.tag,
            outcome: returned.outcome.map_err(|fault| crate::Fault {
                kind: fault.kind.into(),
                message: fault.message.into(),
                data: fault.data,
            }),
        },
        types::Input::Tick => Input::Tick,
    }
}

fn fault(fault: crate::Fault) -> types::Fault {
    types::Fault { kind: fault.kind.into_owned(), message: fault.message.into_owned(), data: fault.data }
}

fn describe(info: &TypeInfo) -> referent::TypeInfo {
    referent::TypeInfo {
        typeid: info.typeid.to_owned(),
        version: info.version.to_owned(),
        doc: info.doc.to_owned(),
        constructor_params: describe_params(info.constructor),
        methods: info
            .methods
            .iter()
            .map(|method| types::MethodInfo {
                name: method.name.to_owned(),
                params: describe_params(method.params),
                doc: method.doc.to_owned(),
                read_only: method.read_only,
                may_park: method.line.is_some(),
                result_type: method.result_type.to_owned(),
                returns: method.returns.map(ToOwned::to_owned),
            })
            .collect(),
        saves: info.saves,
    }
}

fn describe_params(params: &[Param]) -> Vec<types::Param> {
    let describe = |param: &Param| types::Param {
        name: param.name.to_owned(),
        kind: match param.kind {
            ParamKind::Normal => types::ParamKind::Normal,
            ParamKind::KeywordOnly => types::ParamKind::KeywordOnly,
            ParamKind::Rest => types::ParamKind::Rest,
            ParamKind::Keywords => types::ParamKind::Keywords,
        },
        type_name: param.type_name.to_owned(),
        default: param.default.map(ToOwned::to_owned),
    };
    params.iter().map(describe).collect()
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Error => host::Level::Error,
        Level::Warn => host::Level::Warn,
        Level::Info => host::Level::Info,
        Level::Debug => host::Level::Debug,
    };
    host::log(level, message);
}
