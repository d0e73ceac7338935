//! Registered types: where their objects come from, what they expose, what their results become.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use steward_objects::{Args, Builtin, Outbox, Referent, builtin, common};
use steward_wire::describe::TypeInfo;
use steward_wire::frame::Method as MethodRef;
use steward_wire::{Fault, Ident};

use crate::calls::Waits;
use crate::guest::Plugin;

/// Makes an object in the embedder's own Rust. It runs on the thread of whoever creates; it must not block.
pub type Constructor = Arc<dyn Fn(Args<'_>, &mut Outbox) -> Result<Box<dyn Referent>, Fault> + Send + Sync>;

/// Where the objects of a type come from.
#[derive(Clone)]
pub enum Source {
    /// A built-in type, by its own name, which may differ from the registered one.
    Builtin(&'static str),
    /// A type of a plugin that [`crate::guest::Guests::load`] has loaded.
    Plugin {
        /// The plugin.
        plugin: Arc<Plugin>,
        /// The type's name in the plugin.
        typeid: String,
    },
    /// The embedder's own type, with its description.
    Constructor(TypeInfo, Constructor),
    /// One object for everybody, made at the first request: the `get_queue` of CPython's documentation. It lives as
    /// long as the host.
    Singleton {
        /// The type of the object, registered before.
        typeid: String,
        /// Its constructor's arguments, encoded as a call's.
        args: Vec<u8>,
    },
}

/// A registration: CPython's `register(typeid, callable, proxytype, exposed, method_to_typeid, create_method)`, where a
/// source stands for the callable, and proxies are each client's own affair.
#[derive(Clone)]
pub struct Registration {
    /// The name.
    pub typeid: String,
    /// Where objects come from.
    pub source: Source,
    /// Methods that clients may call; `None`: all those of the source. An unknown name is an error.
    pub exposed: Option<Vec<String>>,
    /// Methods whose results become objects of another registered type.
    pub method_to_typeid: Vec<(String, String)>,
    /// Clients may create objects; otherwise they only come from `method_to_typeid`.
    pub create_method: bool,
}

impl Registration {
    /// Everything exposed, nothing wrapped.
    pub fn new(typeid: impl Into<String>, source: Source) -> Self {
        Self { typeid: typeid.into(), source, exposed: None, method_to_typeid: Vec::new(), create_method: true }
    }
}

/// Why a registration is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The source does not exist.
    #[error("no type `{0}` to register: built in are {known}", known = builtin_names())]
    UnknownSource(String),
    /// `exposed` or `method_to_typeid` names a method that the type lacks.
    #[error("typeid `{typeid}` has no method `{method}`: it has {known}")]
    UnknownMethod {
        /// The type.
        typeid: String,
        /// The method.
        method: String,
        /// Those it has.
        known: String,
    },
    /// The name is empty, too long or not a name.
    #[error("`{0}` is not a name for a type: 1 to 64 letters, digits, `_`, `.`, `-`")]
    BadName(String),
    /// The name is taken.
    #[error("typeid `{0}` is registered already")]
    Taken(String),
}

fn builtin_names() -> String {
    let names: Vec<_> = steward_objects::BUILTINS.iter().map(|builtin| builtin.typeid).collect();
    names.join(", ")
}

/// A registered type, resolved.
pub(crate) struct Type {
    pub(crate) info: TypeInfo,
    pub(crate) origin: Origin,
    pub(crate) methods: Vec<Method>,
    pub(crate) creatable: bool,
    by_name: HashMap<String, u16>,
}

/// A [`Source`], resolved.
pub(crate) enum Origin {
    Builtin(&'static Builtin),
    Plugin { plugin: Arc<Plugin>, index: usize },
    Constructor(Constructor),
    Singleton { of: Arc<Type>, args: Vec<u8>, made: OnceLock<Ident> },
}

/// What the host must know of a method.
#[derive(Clone, Debug, Default)]
pub(crate) struct Method {
    pub(crate) exposed: bool,
    pub(crate) may_park: bool,
    /// A parked call only waits: it can be given up as if it had never come.
    pub(crate) only_waits: bool,
    /// It changes nothing: a repeat may read again.
    pub(crate) read_only: bool,
    pub(crate) snapshots: bool,
    /// It may leave more bytes stored than there were.
    pub(crate) stores: bool,
    /// The result becomes an object of this type. A built-in's own facets (iterators) are not meant: those say so in
    /// the outbox.
    pub(crate) wraps: Option<String>,
}

const COMMON: [(&str, u16); 3] =
    [("#GETVALUE", common::GET_VALUE), ("__str__", common::STR), ("__repr__", common::REPR)];

impl Type {
    fn resolve(registration: Registration, types: &HashMap<String, Arc<Type>>) -> Result<Self, RegisterError> {
        let Registration { typeid, source, exposed, method_to_typeid, create_method } = registration;
        let mut creatable = create_method;
        let (mut info, origin, mut methods) = match source {
            Source::Builtin(name) => {
                let builtin = builtin(name).ok_or_else(|| RegisterError::UnknownSource(name.into()))?;
                creatable &= builtin.constructible;
                let method = |method: &steward_objects::Method| Method {
                    snapshots: method.snapshots,
                    stores: method.stores,
                    only_waits: !method.acts_by_parking,
                    ..Method::default()
                };
                let methods = builtin.methods.iter().map(method).collect();
                (builtin.info(), Origin::Builtin(builtin), methods)
            }
            Source::Plugin { plugin, typeid: name } => {
                let index = plugin.types().iter().position(|offered| offered.info().typeid == name);
                let index = index.ok_or(RegisterError::UnknownSource(name))?;
                (plugin.types()[index].info().clone(), Origin::Plugin { plugin, index }, Vec::new())
            }
            Source::Constructor(info, constructor) => (info, Origin::Constructor(constructor), Vec::new()),
            Source::Singleton { typeid: of, args } => {
                let of = types.get(&of).cloned().ok_or(RegisterError::UnknownSource(of))?;
                let (info, methods) = (of.info.clone(), of.methods.clone());
                (info, Origin::Singleton { of, args, made: OnceLock::new() }, methods)
            }
        };
        methods.resize_with(info.methods.len(), Method::default);
        let wraps_by_itself = !matches!(origin, Origin::Builtin(_) | Origin::Singleton { .. });
        let mut by_name = HashMap::new();
        for (index, (described, method)) in info.methods.iter().zip(&mut methods).enumerate() {
            by_name.insert(described.name.clone(), index as u16);
            method.exposed = described.exposed;
            method.may_park = described.may_park;
            // What makes an object is no mere reading.
            method.read_only = described.read_only && described.returns.is_none();
            if wraps_by_itself {
                method.wraps.clone_from(&described.returns);
            }
        }
        let find = |method: &str| {
            by_name.get(method).map(|&index| usize::from(index)).ok_or_else(|| RegisterError::UnknownMethod {
                typeid: typeid.clone(),
                method: method.into(),
                known: info.methods.iter().map(|method| &*method.name).collect::<Vec<_>>().join(", "),
            })
        };
        if let Some(exposed) = exposed {
            let exposed = exposed.iter().map(|name| find(name)).collect::<Result<BTreeSet<_>, _>>()?;
            for (index, method) in methods.iter_mut().enumerate() {
                method.exposed = exposed.contains(&index);
            }
        }
        let mut wrapped = Vec::new();
        for (name, to) in method_to_typeid {
            wrapped.push((find(&name)?, to));
        }
        for (index, to) in wrapped {
            methods[index].read_only = false;
            info.methods[index].returns = Some(to.clone());
            methods[index].wraps = Some(to);
        }
        for (described, method) in info.methods.iter_mut().zip(&methods) {
            described.exposed = method.exposed;
        }
        info.typeid = typeid;
        Ok(Self { info, origin, methods, creatable, by_name })
    }

    /// Whether objects of this type are quick enough to be stepped by the thread that brings the input.
    pub(crate) fn is_inline(&self) -> bool {
        match &self.origin {
            Origin::Plugin { plugin, index } => plugin.types()[*index].placement().inline(),
            Origin::Singleton { of, .. } => of.is_inline(),
            // A simulation has types that are stepped as guests are.
            Origin::Builtin(_) | Origin::Constructor(_) => {
                !(cfg!(feature = "sim") && self.info.typeid.ends_with(".pooled"))
            }
        }
    }

    /// Whether a method may park, and whether it changes nothing. Those that every type has do neither more nor less than
    /// read.
    pub(crate) fn nature(&self, method: u16) -> (Waits, bool) {
        let nature = |method: &Method| {
            let waits = match (method.may_park, method.only_waits) {
                (false, _) => Waits::Never,
                (true, true) => Waits::Only,
                (true, false) => Waits::Acting,
            };
            (waits, method.read_only)
        };
        self.methods.get(usize::from(method)).map_or((Waits::Never, true), nature)
    }

    /// Whether a grant excludes every other: then who waits for its objects waits for their holder.
    pub(crate) fn excludes(&self) -> bool {
        match &self.origin {
            Origin::Builtin(builtin) => !matches!(builtin.typeid, "Semaphore" | "BoundedSemaphore"),
            Origin::Singleton { of, .. } => of.excludes(),
            Origin::Plugin { .. } | Origin::Constructor(_) => false,
        }
    }

    /// Whether a method takes what the object grants.
    pub(crate) fn acquires(&self, method: u16) -> bool {
        self.info.methods.get(usize::from(method)).is_some_and(|method| method.name == "acquire")
    }

    /// Whether grants of its objects may be guards of calls: those of locks, of which one holder at a time has one, and
    /// those of plugins, which say when nobody holds any more.
    pub(crate) fn guards(&self) -> bool {
        match &self.origin {
            Origin::Builtin(builtin) => matches!(builtin.typeid, "Lock" | "RLock" | "Condition"),
            Origin::Plugin { .. } | Origin::Constructor(_) => true,
            Origin::Singleton { of, .. } => of.guards(),
        }
    }

    /// The number of a method that clients may call. This is where `exposed` is checked.
    pub(crate) fn method(&self, method: MethodRef<'_>) -> Result<u16, Fault> {
        let index = match method {
            MethodRef::Index(index) => Some(index),
            MethodRef::Name(name) => self
                .by_name
                .get(name)
                .copied()
                .or_else(|| COMMON.iter().find(|(common, _)| *common == name).map(|(_, index)| *index)),
        };
        match index {
            Some(index) if self.methods.get(usize::from(index)).is_some_and(|method| method.exposed) => Ok(index),
            Some(index) if COMMON.iter().any(|(_, common)| *common == index) => Ok(index),
            _ => {
                let name = match method {
                    MethodRef::Name(name) => name.to_owned(),
                    MethodRef::Index(index) => match self.info.methods.get(usize::from(index)) {
                        Some(method) => method.name.clone(),
                        None => index.to_string(),
                    },
                };
                let typeid = &self.info.typeid;
                Err(Fault::refused("NotExposed", format!("method `{name}` of typeid `{typeid}` is not exposed")))
            }
        }
    }
}

/// The types of a tenant.
#[derive(Default)]
pub(crate) struct Registry {
    types: RwLock<HashMap<String, Arc<Type>>>,
}

impl Registry {
    /// A registry with every built-in type under its own name.
    pub(crate) fn with_builtins() -> Self {
        let registry = Self::default();
        for builtin in steward_objects::BUILTINS {
            registry
                .register(Registration::new(builtin.typeid, Source::Builtin(builtin.typeid)))
                .expect("built-in types have distinct, valid names");
        }
        registry
    }

    pub(crate) fn register(&self, registration: Registration) -> Result<Arc<Type>, RegisterError> {
        let typeid = registration.typeid.clone();
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if typeid.is_empty() || typeid.len() > 64 || !typeid.chars().all(legal) {
            return Err(RegisterError::BadName(typeid));
        }
        let mut types = self.types.write();
        if types.contains_key(&typeid) {
            return Err(RegisterError::Taken(typeid));
        }
        let resolved = Arc::new(Type::resolve(registration, &types)?);
        types.insert(typeid, resolved.clone());
        Ok(resolved)
    }

    pub(crate) fn get(&self, typeid: &str) -> Option<Arc<Type>> {
        self.types.read().get(typeid).cloned()
    }

    /// All types, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Type>> {
        let mut all: Vec<_> = self.types.read().values().cloned().collect();
        all.sort_by(|a, b| a.info.typeid.cmp(&b.info.typeid));
        all
    }
}
