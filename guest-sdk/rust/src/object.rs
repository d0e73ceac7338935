//! What `#[object]` implements, and what it says of a type.

use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_wire::describe::ParamKind;

use crate::codec;
use crate::context::unencodable;
use crate::{Context, OwnerLost, Result, Returned, Stop, Undelivered, Why, raise};

/// An object as its shell sees it.
pub trait Object: 'static {
    /// Calls a method by its place in the table and appends its encoded result.
    fn call(&mut self, method: u32, cx: &Context<'_>, args: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// What a call that waited answers at its deadline.
    fn timed_out(&self, method: u32, cx: &Context<'_>, out: &mut Vec<u8>) -> Result<()>;

    /// `#[on(owner_lost)]`; whether it changed the object.
    fn owner_lost(&mut self, _: &Context<'_>, _: OwnerLost) -> bool {
        false
    }

    /// `#[on(tick)]`; whether it changed the object.
    fn tick(&mut self, _: &Context<'_>) -> bool {
        false
    }

    /// `#[on(cancelled)]`; whether it changed the object.
    fn cancelled(&mut self, _: &Context<'_>, _: Why) -> bool {
        false
    }

    /// `#[on(undelivered)]`; whether it changed the object.
    fn undelivered(&mut self, _: &Context<'_>, _: Undelivered<'_>) -> bool {
        false
    }

    /// `#[on(returned)]`; whether it changed the object.
    fn returned(&mut self, _: &Context<'_>, _: Returned<'_>) -> bool {
        false
    }

    /// The encoded state.
    fn save(&self) -> Result<Vec<u8>>;
}

/// A type of objects.
pub trait ObjectType: Object + Sized {
    /// What it says of itself.
    const INFO: TypeInfo;

    /// Makes one.
    fn create(cx: &Context<'_>, args: &[u8]) -> Result<Self>;

    /// Makes one from what [`Object::save`] of another version, or of this one, gave.
    fn load(cx: &Context<'_>, state: &[u8], from_version: &str) -> Result<Self>;
}

/// A type.
#[derive(Debug)]
pub struct TypeInfo {
    /// The name of the Rust type.
    pub typeid: &'static str,
    /// The plugin's version of it.
    pub version: &'static str,
    /// For people.
    pub doc: &'static str,
    /// The constructor's parameters.
    pub constructor: &'static [Param],
    /// The methods; their places are the numbers they are called by.
    pub methods: &'static [Method],
    /// How many lines the methods' [`Line`]s name.
    pub lines: usize,
    /// It can be saved and loaded.
    pub saves: bool,
}

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// For people.
    pub doc: &'static str,
    /// It takes `&self`.
    pub read_only: bool,
    /// Where its calls wait, if they may.
    pub line: Option<Line>,
    /// What it answers, in Python's words; `None` if it answers nothing.
    pub result_type: &'static str,
    /// The type that its result becomes an object of.
    pub returns: Option<&'static str>,
}

/// Where parked calls wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// In this line, of which the head is tried again.
    Fifo(usize),
    /// In this line, all of which are tried again.
    All(usize),
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// How it takes arguments.
    pub kind: ParamKind,
    /// Its type in Python's words.
    pub type_name: &'static str,
    /// Its default as people write it.
    pub default: Option<&'static str>,
}

/// What a hook may return.
pub trait Changed {
    /// Whether the hook changed the object.
    fn changed(self) -> bool;
}

impl Changed for bool {
    fn changed(self) -> bool {
        self
    }
}

/// A hook that does not say counts as having changed the object.
impl Changed for () {
    fn changed(self) -> bool {
        true
    }
}

/// Appends a method's result.
pub fn encode<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    codec::append(out, value).map_err(|error| Stop::Raised(unencodable(error)))
}

/// Encodes an object's fields.
pub fn save<T: Serialize>(object: &T) -> Result<Vec<u8>> {
    codec::to_vec(object).map_err(|error| Stop::Raised(unencodable(error)))
}

/// Decodes an object's fields.
pub fn load<T: DeserializeOwned>(state: &[u8]) -> Result<T> {
    codec::from_slice(state).or_else(|error| raise("ValueError", format!("state does not load: {error}")))
}
