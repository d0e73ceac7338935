//! The plugin world of `wit/`, implemented for any list of types. For [`crate::export!`] alone.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::object::{ObjectType, Param, TypeInfo};
use crate::received::Received;
use crate::shell::{Birth, Shell};
pub use crate::step::Flat;
use crate::{Level, ParamKind};

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

/// What objects are made with, beside arguments or state, in its flat form.
#[derive(Debug)]
pub struct FlatBirth {
    /// The type's name.
    pub typeid: (*mut u8, usize),
    /// The host's clock.
    pub now_ms: u64,
    /// Chance.
    pub seed: u64,
    /// The tenant's name.
    pub tenant: (*mut u8, usize),
}

/// Makes an object from a constructor's arguments; returns where the answer lies.
///
/// # Safety
/// Only as the host's call of `create` with these parameters.
#[expect(unsafe_code, reason = "the border to the host, as generated for the other exports")]
pub unsafe fn create<T: Types>(flat: &FlatBirth, args: (*mut u8, usize)) -> *mut u8 {
    // SAFETY: the caller's word.
    unsafe { make::<T>(flat, |received, entry, birth| (entry.create)(birth, received.bytes(args.0, args.1))) }
}

/// Makes an object from a saved state; returns where the answer lies.
///
/// # Safety
/// Only as the host's call of `load` with these parameters.
#[expect(unsafe_code, reason = "the border to the host, as generated for the other exports")]
pub unsafe fn load<T: Types>(flat: &FlatBirth, state: (*mut u8, usize), from_version: (*mut u8, usize)) -> *mut u8 {
    // SAFETY: the caller's word.
    unsafe {
        make::<T>(flat, |received, entry, birth| {
            (entry.load)(birth, received.bytes(state.0, state.1), received.text(from_version.0, from_version.1))
        })
    }
}

/// # Safety
/// As [`create`].
#[expect(unsafe_code, reason = "the border to the host, as generated for the other exports")]
unsafe fn make<T: Types>(
    flat: &FlatBirth,
    make: impl FnOnce(&Received, &Entry, Birth) -> Result<Made, crate::Fault>,
) -> *mut u8 {
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
    // SAFETY: a call has just begun; the rest is the caller's word.
    let (received, typeid, tenant) = unsafe {
        let received = Received::new();
        let typeid = received.text(flat.typeid.0, flat.typeid.1).to_owned();
        let tenant = received.text(flat.tenant.0, flat.tenant.1).to_owned();
        (received, typeid, tenant)
    };
    let birth = Birth { now_ms: flat.now_ms, seed: flat.seed, tenant };
    let made = match T::TYPES.iter().find(|entry| entry.info.typeid == typeid) {
        Some(entry) => make(&received, entry, birth),
        None => Err(crate::Fault::new("KeyError", format!("no type `{typeid}` in this plugin"))),
    };
    let made = made.map(|(shell, held)| {
        let instance = Instance::<T> { shell: RefCell::new(shell), types: PhantomData };
        (referent::Object::new(instance).take_handle(), held)
    });
    // SAFETY: the host has read what earlier calls returned.
    unsafe { crate::birth::answer(made) }
}

/// Takes a turn of the object that the host knows by `object`.
///
/// # Safety
/// Only as the host's call of `step` with these parameters.
#[expect(unsafe_code, reason = "the border to the host, as generated for the other exports")]
pub unsafe fn step<T: Types>(object: *const u8, now_ms: u64, seed: u64, flat: &Flat) -> *mut u8 {
    // SAFETY: the host passes what `Object::new` made of an `Instance<T>`.
    let instance: &Instance<T> = unsafe { referent::ObjectBorrow::lift(object) }.get();
    // SAFETY: the caller's word.
    unsafe { crate::step::step(&mut instance.shell.borrow_mut(), now_ms, seed, flat) }
}

/// Where the generated `export!` finds what it exports: [`__export_referent`] in place of its own.
#[doc(hidden)]
pub mod exports {
    pub mod steward {
        pub mod plugin {
            pub mod referent {
                pub use crate::__export_referent as __export_steward_plugin_referent_0_1_0_cabi;
            }
        }
    }
}

/// Exports the interface: what wit-bindgen has generated, but `create`, `load` and `step` of this crate's own, which need no `cabi_post`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_referent {
    ($component:ident with_types_in $($path:tt)*) => {
        const _: () = {
            use $crate::glue::bindings::exports::steward::plugin::referent as generated;
            type Object = <$component as generated::Guest>::Object;

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#describe")]
            unsafe extern "C" fn describe() -> *mut u8 {
                unsafe { generated::_export_describe_cabi::<$component>() }
            }

            #[unsafe(export_name = "cabi_post_steward:plugin/referent@0.1.0#describe")]
            unsafe extern "C" fn after_describe(area: *mut u8) {
                unsafe { generated::__post_return_describe::<$component>(area) }
            }

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#[static]object.create")]
            unsafe extern "C" fn create(
                typeid: *mut u8,
                typeid_length: usize,
                args: *mut u8,
                args_length: usize,
                now_ms: u64,
                seed: u64,
                tenant: *mut u8,
                tenant_length: usize,
            ) -> *mut u8 {
                let (typeid, tenant) = ((typeid, typeid_length), (tenant, tenant_length));
                let flat = $crate::glue::FlatBirth { typeid, now_ms, seed, tenant };
                unsafe { $crate::glue::create::<__StewardTypes>(&flat, (args, args_length)) }
            }

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#[method]object.step")]
            unsafe extern "C" fn step(
                object: *mut u8,
                now_ms: u64,
                seed: u64,
                case: u32,
                number: u64,
                which: u32,
                third: u64,
                fourth: u64,
                fifth: *mut u8,
                fifth_length: usize,
                has_data: u32,
                data: *mut u8,
                data_length: usize,
            ) -> *mut u8 {
                let fifth = (fifth, fifth_length);
                let data = (data, data_length);
                let flat = $crate::glue::Flat { case, number, which, third, fourth, fifth, has_data, data };
                unsafe { $crate::glue::step::<__StewardTypes>(object, now_ms, seed, &flat) }
            }

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#[method]object.save")]
            unsafe extern "C" fn save(object: *mut u8) -> *mut u8 {
                unsafe { generated::_export_method_object_save_cabi::<Object>(object) }
            }

            #[unsafe(export_name = "cabi_post_steward:plugin/referent@0.1.0#[method]object.save")]
            unsafe extern "C" fn after_save(area: *mut u8) {
                unsafe { generated::__post_return_method_object_save::<Object>(area) }
            }

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#[static]object.load")]
            unsafe extern "C" fn load(
                typeid: *mut u8,
                typeid_length: usize,
                state: *mut u8,
                state_length: usize,
                from_version: *mut u8,
                from_version_length: usize,
                now_ms: u64,
                seed: u64,
                tenant: *mut u8,
                tenant_length: usize,
            ) -> *mut u8 {
                let (typeid, tenant) = ((typeid, typeid_length), (tenant, tenant_length));
                let flat = $crate::glue::FlatBirth { typeid, now_ms, seed, tenant };
                let (state, from_version) = ((state, state_length), (from_version, from_version_length));
                unsafe { $crate::glue::load::<__StewardTypes>(&flat, state, from_version) }
            }

            #[unsafe(export_name = "steward:plugin/referent@0.1.0#[dtor]object")]
            unsafe extern "C" fn drop_object(object: *mut u8) {
                unsafe { generated::Object::dtor::<Object>(object) }
            }
        };
    };
}

/// Of the generated exports, [`__export_referent`] has `save` alone.
impl<T: Types> referent::GuestObject for Instance<T> {
    fn create(_: String, _: Vec<u8>, _: types::Context) -> Result<referent::Made, types::Fault> {
        unreachable!("`create` is exported by `__export_referent`")
    }

    fn step(&self, _: u64, _: u64, _: types::Input) -> types::Outcome {
        unreachable!("`step` is exported by `__export_referent`")
    }

    fn save(&self) -> Result<Vec<u8>, types::Fault> {
        self.shell.borrow().save().map_err(fault)
    }

    fn load(_: String, _: Vec<u8>, _: String, _: types::Context) -> Result<referent::Made, types::Fault> {
        unreachable!("`load` is exported by `__export_referent`")
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
