//! Writes Steward plugins in Rust: types whose objects live in the host, shared by all its clients, each sandboxed.
//!
//! ```
//! use steward_guest::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Turnstile { places: u32 }
//!
//! /// Lets so many callers in at a time.
//! #[object(version = "1.0.0")]
//! impl Turnstile {
//!     pub fn new(#[default(1)] places: u32) -> Result<Self> {
//!         Ok(Self { places })
//!     }
//!     /// Takes a place, waiting in turn until there is one.
//!     #[method(fifo, timeout = Ok(false))]
//!     pub fn enter(&mut self) -> Result<bool> {
//!         if self.places == 0 {
//!             return pending();
//!         }
//!         self.places -= 1;
//!         Ok(true)
//!     }
//!     /// Gives a place back.
//!     pub fn leave(&mut self) {
//!         self.places += 1;
//!     }
//!     /// Places free at this moment.
//!     pub fn free(&self) -> u32 {
//!         self.places
//!     }
//! }
//!
//! steward_guest::export!(Turnstile);
//!
//! # use steward_guest::testing::Harness;
//! let mut turnstile = Harness::<Turnstile>::new(args![]).unwrap();
//! assert!(turnstile.call("enter", args![]).value::<bool>());
//! let waits = turnstile.call("enter", args![]).parked();
//! turnstile.call("leave", args![]);
//! assert!(turnstile.answer(waits).value::<bool>());
//! ```
//!
//! # The idea
//!
//! A method never blocks. One that cannot answer yet returns [`pending`]: its call *parks*, having changed nothing, and is tried
//! again after each later step, in its turn, until it returns something else. So a parked call is no suspended stack but data:
//! it can be listed, cancelled, and carried over to a new version of the plugin.
//!
//! # What [`object`] makes of an `impl`
//!
//! * The documentation of the `impl` is the type's; that of a method is the method's. Both are shown to clients.
//! * `pub fn new` is the constructor. Each other `pub fn` with a `self` is a method: `&self` changes nothing, `&mut self` changes the object.
//!   Other functions are your own.
//! * A first parameter `cx: &Context` is the turn's [`Context`]. The others are bound by place and by name, as in Python, and decoded with serde;
//!   `#[default(expression)]`, `#[keyword_only]`, `#[rest]` (a `Vec<T>`) and `#[keywords]` (a `Vec<(String, T)>`) stand before parameters.
//! * A method returns a value that serde can encode, or a [`Result`] of one.
//! * `#[method(fifo)]`: calls may park, in a line of which only the first is tried again, newcomers queueing behind it: nobody is overtaken, and
//!   10,000 waiting calls cost one try. `line = "name"`: methods that name the same line queue in one. `#[method(all)]`: all of them are tried, in order of arrival.
//! * `timeout = expression`, of the method's type of result and with `&self` at hand: the answer at the deadline. Without it, `TimeoutError` is raised.
//! * `returns = "Type"`: the result becomes the argument of that type's constructor, and the caller gets a proxy of the new object.
//! * Hooks are private methods: `#[on(owner_lost)]` ([`OwnerLost`]), `#[on(tick)]`, `#[on(cancelled)]` ([`Why`]), `#[on(undelivered)]` ([`Undelivered`]),
//!   `#[on(returned)]` ([`Returned`]), each `fn(&mut self, cx: &Context[, event])`. One that returns `bool` says whether it changed the object.
//!   `#[on(load)] fn(cx: &Context, state: &[u8], from: &str) -> Result<Self>` loads states that other versions saved.
//! * `#[method(name = "…")]` gives a method another name for clients than Rust's.
//! * `#[object(version = "…", name = "Other")]` registers the type under another name than the Rust type's.
//! * The object is saved and loaded as serde has its fields; `#[object(version = "…", saves = false)]` does without.

#[cfg(target_arch = "wasm32")]
mod alloc;
#[doc(hidden)]
pub mod args;
#[cfg(target_arch = "wasm32")]
mod birth;
pub mod codec;
mod context;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod glue;
mod item;
mod object;
#[cfg(target_arch = "wasm32")]
mod received;
mod shell;
#[cfg(target_arch = "wasm32")]
mod step;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

use std::borrow::Cow;

pub use codec::Bytes;
pub use context::{CallId, Context, Level, Owner, OwnerLost, Returned, Undelivered, Why};
pub use item::{Handle, Item};
#[doc(hidden)]
pub use object::{Changed, Line, Method, Object, ObjectType, Param, TypeInfo, encode, load, save};
#[doc(hidden)]
pub use steward_wire::describe::ParamKind;

/// Makes a type of plugin out of an `impl`: see [the crate's documentation](crate).
pub use steward_guest_macros::object;

/// What a plugin's source needs.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        Bytes, CallId, Context, Fault, Handle, Item, Level, Owner, OwnerLost, Result, Returned, Stop, Undelivered, Why,
        args, by_hand, object, pending, pending_until, raise,
    };
}

/// What a method gives: a value, or why there is none.
pub type Result<T> = std::result::Result<T, Stop>;

/// Why a method gives no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It raised.
    Raised(Fault),
    /// Its call parks, having changed nothing. It is tried again after later steps, and at this time of the host's clock.
    Pending {
        /// In ms; `None`: only after other steps.
        until_ms: Option<u64>,
    },
    /// Its call waits until the object completes it: [`Context::complete`].
    ByHand,
}

/// An error that a method raises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name for programs, an exception's where Python has one: `ValueError`, `Empty`.
    pub kind: Cow<'static, str>,
    /// Its text for people.
    pub message: Cow<'static, str>,
    /// What belongs to the kind, encoded: the key of a `KeyError`.
    pub data: Option<Vec<u8>>,
}

impl Fault {
    /// A fault without data.
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: kind.into(), message: message.into(), data: None }
    }

    /// The same, with what belongs to its kind.
    #[must_use]
    pub fn with_data(mut self, data: &Item) -> Self {
        self.data = Some(data.as_bytes().to_vec());
        self
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Raised(fault)
    }
}

/// Raises: `return raise("ValueError", "rate must be above 0")`.
///
/// # Errors
/// Always.
pub fn raise<T>(kind: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Stop::Raised(Fault::new(kind, message)))
}

/// Parks the call until a later step lets it through.
///
/// # Errors
/// Always: that is how a method stops.
pub fn pending<T>() -> Result<T> {
    Err(Stop::Pending { until_ms: None })
}

/// Parks the call until a later step lets it through, or until this time of [`Context::now_ms`], when it is tried again.
///
/// # Errors
/// Always: that is how a method stops.
pub fn pending_until<T>(until_ms: u64) -> Result<T> {
    Err(Stop::Pending { until_ms: Some(until_ms) })
}

/// Leaves the call to be completed by the object, which has noted [`Context::call_id`] in a field that is not saved
/// (`#[serde(skip)]`): after a move to another version the method is called again.
///
/// # Errors
/// Always: that is how a method stops.
pub fn by_hand<T>() -> Result<T> {
    Err(Stop::ByHand)
}

/// Encodes arguments as a client does: `args![1, "two", three = 3]`.
#[macro_export]
macro_rules! args {
    ($($args:tt)*) => {{
        #[allow(unused_mut, reason = "there may be no arguments")]
        // Whatever else a plugin calls `Vec`.
        let (mut places, mut keywords) =
            (::std::vec::Vec::<$crate::Item>::new(), ::std::vec::Vec::<(&str, $crate::Item)>::new());
        $crate::args_into!(places keywords $($args)*);
        $crate::__encode_args(&places, &keywords)
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! args_into {
    ($places:ident $keywords:ident) => {};
    ($places:ident $keywords:ident $name:ident = $value:expr $(, $($more:tt)*)?) => {
        $keywords.push((stringify!($name), $crate::Item::new(&$value).expect("the argument can be encoded")));
        $crate::args_into!($places $keywords $($($more)*)?);
    };
    ($places:ident $keywords:ident $value:expr $(, $($more:tt)*)?) => {
        $places.push($crate::Item::new(&$value).expect("the argument can be encoded"));
        $crate::args_into!($places $keywords $($($more)*)?);
    };
}

#[doc(hidden)]
pub fn __encode_args(places: &[Item], keywords: &[(&str, Item)]) -> Vec<u8> {
    use steward_wire::cbor;
    let mut args = Vec::new();
    cbor::put_array(&mut args, 2);
    cbor::put_array(&mut args, places.len());
    places.iter().for_each(|item| args.extend_from_slice(item.as_bytes()));
    cbor::put_map(&mut args, keywords.len());
    for (name, item) in keywords {
        cbor::put_text(&mut args, name);
        args.extend_from_slice(item.as_bytes());
    }
    args
}

/// Makes a plugin of these types; once in a crate.
#[macro_export]
macro_rules! export {
    ($($object:ty),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            // Names that no type of a plugin has.
            struct __StewardTypes;
            impl $crate::glue::Types for __StewardTypes {
                const TYPES: &'static [$crate::glue::Entry] = &[$($crate::glue::Entry::of::<$object>()),+];
            }
            /// For those who look at the component: what made it.
            #[unsafe(link_section = "steward")]
            #[used]
            static MADE_BY: [u8; $crate::glue::MADE_BY.len()] =
                *$crate::glue::MADE_BY.first_chunk().expect("the lengths are the same");
            type __StewardComponent = $crate::glue::Component<__StewardTypes>;
            $crate::glue::bindings::export!(__StewardComponent with_types_in $crate::glue);
        };
    };
}
