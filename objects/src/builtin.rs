//! What describes a built-in type: its constructor, its method table, its documentation.

use steward_wire::describe::{self, ParamKind};

use crate::{Args, Fault, Outbox, Referent, data, sync};

/// A built-in type.
#[derive(Debug)]
pub struct Builtin {
    /// Its registered name, CPython's where CPython has it.
    pub typeid: &'static str,
    /// For people, the first line a summary.
    pub doc: &'static str,
    /// Parameters of the constructor.
    pub constructor: &'static [Param],
    /// The methods, in the order of their indexes.
    pub methods: &'static [Method],
    /// Makes one. Tokens among the arguments that it stores are held through the outbox.
    pub create: Create,
    /// The constructor's first argument may be a token of one of these types, whose cell the new object
    /// then joins ([`crate::Input::Join`]) instead of getting its own.
    pub joins: &'static [&'static str],
    /// Tokens that are themselves arguments of the constructor are replaced by a copy of their objects' values.
    pub snapshots: bool,
    /// Clients may create it; otherwise it is only returned by methods.
    pub constructible: bool,
}

/// Makes an object of a built-in type from its constructor's arguments.
pub type Create = fn(Args<'_>, &mut Outbox) -> Result<Box<dyn Referent>, Fault>;

/// A method of a built-in type.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in order.
    pub params: &'static [Param],
    /// For people, the first line a summary.
    pub doc: &'static str,
    /// It changes nothing.
    pub read_only: bool,
    /// A call may park.
    pub may_park: bool,
    /// It may leave more bytes stored than there were: refused to those who store too much.
    pub stores: bool,
    /// That a call parks is felt by others, who are not as before when it is given up: a `Condition.wait` has let go of its
    /// lock, a barrier breaks. Any other parked call only waits.
    pub acts_by_parking: bool,
    /// Tokens that are themselves arguments are replaced by a copy of their objects' values.
    pub snapshots: bool,
    /// The result becomes an object of this type.
    pub returns: Option<&'static str>,
}

impl Method {
    /// A method that changes the referent and never parks.
    pub const fn new(name: &'static str, params: &'static [Param], doc: &'static str) -> Self {
        let (read_only, may_park, acts_by_parking, stores, snapshots) = (false, false, false, false, false);
        Self { name, params, doc, read_only, may_park, acts_by_parking, stores, snapshots, returns: None }
    }

    /// The same, changing nothing.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same, possibly parking.
    pub const fn may_park(mut self) -> Self {
        self.may_park = true;
        self
    }

    /// The same, possibly storing more.
    pub const fn stores(mut self) -> Self {
        self.stores = true;
        self
    }

    /// The same, possibly parking, which others feel.
    pub const fn acts_by_parking(mut self) -> Self {
        self.acts_by_parking = true;
        self.may_park()
    }

    /// The same, with copies in place of tokens.
    pub const fn snapshots(mut self) -> Self {
        self.snapshots = true;
        self
    }

    /// The same, with a new object as its result.
    pub const fn returning(mut self, typeid: &'static str) -> Self {
        self.returns = Some(typeid);
        self
    }
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, which is also its keyword.
    pub name: &'static str,
    /// How it takes arguments.
    pub kind: ParamKind,
    /// Its type for people: `int`, `float`, `str`, `bytes`, `bool`, `list`, `dict`, `any`….
    pub type_name: &'static str,
    /// The default as people write it; `None` if the argument is required.
    pub default: Option<&'static str>,
}

impl Param {
    /// A required parameter.
    pub const fn required(name: &'static str, type_name: &'static str) -> Self {
        Self { name, kind: ParamKind::Normal, type_name, default: None }
    }

    /// An optional parameter. [`Args::bind`] gives `None` when it is left out: the method knows its default,
    /// which is repeated here for people.
    pub const fn optional(name: &'static str, type_name: &'static str, default: &'static str) -> Self {
        Self { name, kind: ParamKind::Normal, type_name, default: Some(default) }
    }

    /// An optional parameter that only a keyword reaches.
    pub const fn keyword(name: &'static str, type_name: &'static str, default: &'static str) -> Self {
        Self { name, kind: ParamKind::KeywordOnly, type_name, default: Some(default) }
    }

    /// `*name`.
    pub const fn rest(name: &'static str) -> Self {
        Self { name, kind: ParamKind::Rest, type_name: "any", default: None }
    }

    /// `**name`.
    pub const fn keywords(name: &'static str) -> Self {
        Self { name, kind: ParamKind::Keywords, type_name: "any", default: None }
    }

    fn info(&self) -> describe::Param {
        describe::Param {
            name: self.name.into(),
            kind: self.kind,
            type_name: self.type_name.into(),
            default: self.default.map(Into::into),
        }
    }
}

impl Builtin {
    /// The type as data.
    pub fn info(&self) -> describe::TypeInfo {
        describe::TypeInfo {
            typeid: self.typeid.into(),
            doc: self.doc.into(),
            constructor: self.constructor.iter().map(Param::info).collect(),
            methods: self
                .methods
                .iter()
                .map(|method| describe::MethodInfo {
                    name: method.name.into(),
                    params: method.params.iter().map(Param::info).collect(),
                    doc: method.doc.into(),
                    read_only: method.read_only,
                    may_park: method.may_park,
                    result_type: String::new(),
                    returns: method.returns.map(Into::into),
                    exposed: true,
                })
                .collect(),
        }
    }
}

/// Every built-in type, in the order of the documentation.
pub static BUILTINS: &[&Builtin] = &[
    &sync::lock::LOCK,
    &sync::lock::RLOCK,
    &sync::lock::CONDITION,
    &sync::semaphore::SEMAPHORE,
    &sync::semaphore::BOUNDED_SEMAPHORE,
    &sync::event::EVENT,
    &sync::barrier::BARRIER,
    &sync::queue::QUEUE,
    &sync::queue::JOINABLE_QUEUE,
    &sync::queue::LIFO_QUEUE,
    &sync::queue::PRIORITY_QUEUE,
    &data::value::VALUE,
    &data::array::ARRAY,
    &data::list::LIST,
    &data::dict::DICT,
    &data::set::SET,
    &data::namespace::NAMESPACE,
    &data::iterator::ITERATOR,
];

/// The built-in type of this name.
pub fn builtin(typeid: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().copied().find(|builtin| builtin.typeid == typeid)
}
