//! Registered types: where their objects come from, what they expose, what their results become.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use steward_objects::{Args, Builtin, Outbox, Referent, builtin, common};
use steward_wire::describe::{MethodInfo, TypeInfo};
use steward_wire::frame::Method as MethodRef;
use steward_wire::{Fault, Ident};

use crate::calls::Waits;
use crate::guest::{Isolation, Plugin, PluginType, ReleaseError, Releases, ReleasesReport};

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
    /// What keeps a plugin's objects apart. `None`: what did so before, where the type is replaced; else [`Isolation::Object`].
    pub isolation: Option<Isolation>,
}

impl Registration {
    /// Everything exposed, nothing wrapped.
    pub fn new(typeid: impl Into<String>, source: Source) -> Self {
        Self {
            typeid: typeid.into(),
            source,
            exposed: None,
            method_to_typeid: Vec::new(),
            create_method: true,
            isolation: None,
        }
    }
}

/// Why a registration is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The source does not exist.
    #[error("no type `{0}` to register: built in are {known}", known = builtin_names())]
    UnknownSource(String),
    /// The plugin does not offer the type.
    #[error("the plugin has no type `{typeid}`: it has {known}")]
    NotOffered {
        /// The type.
        typeid: String,
        /// Those it has.
        known: String,
    },
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
    #[error("`{0}` is not a name for a type: 1 to {TYPEID_BYTES_MAX} letters, digits, `_`, `.`, `-`")]
    BadName(String),
    /// The name is taken.
    #[error("typeid `{0}` is registered already")]
    Taken(String),
    /// Only types of plugins may be replaced or removed.
    #[error("typeid `{0}` is not a plugin's")]
    NotAPlugins(String),
    /// There is no such type.
    #[error("typeid `{0}` is not registered")]
    Unknown(String),
    /// The types of a tenant are too many, those that were removed included: their methods keep their numbers.
    #[error("the tenant has had {TYPES_MAX} types, its limit")]
    TooManyTypes,
    /// Only objects of plugins can share a Store.
    #[error("typeid `{0}` is not a plugin's, so its objects need no isolation")]
    NothingToIsolate(String),
    /// It cannot be a version of the type: it has too many methods, or it does not save and its objects are to share.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// Bytes of a type's name.
pub const TYPEID_BYTES_MAX: usize = 64;

/// Names that a tenant's types may have had.
const TYPES_MAX: usize = 1_000;

/// What became of one type when a plugin was registered, or replaced another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The name.
    pub typeid: String,
    /// The version that was replaced.
    pub from: Option<String>,
    /// The version that is the newest now.
    pub to: String,
    /// Objects that will move, each with its next step.
    pub will_move: usize,
    /// Objects that stay with their version: it or the new one does not save.
    pub will_stay: usize,
    /// What an operator may not have meant.
    pub note: Option<String>,
}

/// A registered type of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginReport {
    /// The name.
    pub typeid: String,
    /// Its versions and what happened to its objects.
    #[serde(flatten)]
    pub releases: ReleasesReport,
}

fn builtin_names() -> String {
    let names: Vec<_> = steward_objects::BUILTINS.iter().map(|builtin| builtin.typeid).collect();
    names.join(", ")
}

/// A registered type, resolved. It stays what it is while its versions change.
pub(crate) struct Type {
    pub(crate) typeid: String,
    pub(crate) origin: Origin,
    pub(crate) creatable: bool,
    /// As it was registered, for later versions.
    exposed: Option<Vec<String>>,
    method_to_typeid: Vec<(String, String)>,
    /// Changes with the version.
    face: ArcSwap<Face>,
}

/// What clients see of a type. A method's number never changes its meaning.
pub(crate) struct Face {
    pub(crate) info: TypeInfo,
    methods: Vec<Method>,
    by_name: HashMap<String, u16>,
    /// The newest version, of a plugin.
    newest: Option<Arc<PluginType>>,
}

/// A [`Source`], resolved.
pub(crate) enum Origin {
    Builtin(&'static Builtin),
    Plugin(Arc<Releases>),
    Constructor(Constructor),
    Singleton { of: Arc<Type>, args: Vec<u8>, made: OnceLock<Ident> },
}

/// What the host must know of a method.
#[derive(Clone, Debug, Default)]
struct Method {
    exposed: bool,
    may_park: bool,
    /// A parked call only waits: it can be given up as if it had never come.
    only_waits: bool,
    /// It changes nothing: a repeat may read again.
    read_only: bool,
    snapshots: bool,
    /// It may leave more bytes stored than there were.
    stores: bool,
    /// The result becomes an object of this type. A built-in's own facets (iterators) are not meant: those say so in
    /// the outbox.
    wraps: Option<String>,
}

const COMMON: [(&str, u16); 3] =
    [("#GETVALUE", common::GET_VALUE), ("__str__", common::STR), ("__repr__", common::REPR)];

impl Type {
    /// `earlier`: methods that a removed type of this name had, by their numbers.
    fn resolve(
        registration: Registration,
        types: &HashMap<String, Arc<Type>>,
        earlier: Vec<MethodInfo>,
    ) -> Result<Self, RegisterError> {
        let Registration { typeid, source, exposed, method_to_typeid, create_method, isolation } = registration;
        if isolation.is_some() && !matches!(source, Source::Plugin { .. }) {
            return Err(RegisterError::NothingToIsolate(typeid));
        }
        let mut creatable = create_method;
        let (info, origin, methods) = match source {
            Source::Builtin(name) => {
                let builtin = builtin(name).ok_or_else(|| RegisterError::UnknownSource(name.into()))?;
                creatable &= builtin.constructible;
                let own = |method: &steward_objects::Method| Method {
                    only_waits: !method.acts_by_parking,
                    snapshots: method.snapshots,
                    stores: method.stores,
                    ..Method::default()
                };
                let methods = builtin.methods.iter().map(own).collect();
                (builtin.info(), Origin::Builtin(builtin), methods)
            }
            Source::Plugin { plugin, typeid: name } => {
                let offered = Arc::clone(offered(&plugin, &name)?);
                let releases = Releases::after(earlier, offered, isolation.unwrap_or_default())?;
                (releases.newest().info().clone(), Origin::Plugin(releases), Vec::new())
            }
            Source::Constructor(info, constructor) => (info, Origin::Constructor(constructor), Vec::new()),
            Source::Singleton { typeid: of, args } => {
                let of = types.get(&of).cloned().ok_or(RegisterError::UnknownSource(of))?;
                let face = of.face();
                let (info, methods) = (face.info.clone(), face.methods.clone());
                (info, Origin::Singleton { of, args, made: OnceLock::new() }, methods)
            }
        };
        let wraps_by_itself = !matches!(origin, Origin::Builtin(_) | Origin::Singleton { .. });
        let newest = match &origin {
            Origin::Plugin(releases) => Some(releases.newest().kind().clone()),
            _ => None,
        };
        let mut face = Face::new(&typeid, info, methods, wraps_by_itself, newest);
        for name in exposed.iter().flatten().chain(method_to_typeid.iter().map(|(name, _)| name)) {
            if !face.by_name.contains_key(name) {
                return Err(RegisterError::UnknownMethod {
                    typeid,
                    method: name.clone(),
                    known: face.info.methods.iter().map(|method| &*method.name).collect::<Vec<_>>().join(", "),
                });
            }
        }
        face.restrict(exposed.as_deref(), &method_to_typeid);
        let face = ArcSwap::from_pointee(face);
        Ok(Self { typeid, origin, creatable, exposed, method_to_typeid, face })
    }

    /// What clients see of it at this moment.
    pub(crate) fn face(&self) -> arc_swap::Guard<Arc<Face>> {
        self.face.load()
    }

    /// Shows another version, as the type was registered.
    fn show(&self, mut face: Face) {
        face.restrict(self.exposed.as_deref(), &self.method_to_typeid);
        self.face.store(Arc::new(face));
    }

    /// Whether objects of this type are quick enough to be stepped by the thread that brings the input.
    pub(crate) fn is_inline(&self) -> bool {
        match &self.origin {
            Origin::Plugin(_) => self.face().newest.as_ref().is_some_and(|kind| kind.placement().inline()),
            Origin::Singleton { of, .. } => of.is_inline(),
            // A simulation has types that are stepped as guests are.
            Origin::Builtin(_) | Origin::Constructor(_) => !(cfg!(feature = "sim") && self.typeid.ends_with(".pooled")),
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
        self.face().methods.get(usize::from(method)).map_or((Waits::Never, true), nature)
    }

    /// Whether a method may leave more bytes stored than there were.
    pub(crate) fn stores(&self, method: u16) -> bool {
        self.face().methods.get(usize::from(method)).is_some_and(|method| method.stores)
    }

    /// Whether arguments of a method that are tokens are replaced by copies of their objects' values.
    pub(crate) fn snapshots(&self, method: u16) -> bool {
        matches!(self.origin, Origin::Builtin(_) | Origin::Singleton { .. })
            && self.face().methods.get(usize::from(method)).is_some_and(|method| method.snapshots)
    }

    /// The type that a method's result becomes an object of.
    pub(crate) fn wraps(&self, method: u16) -> Option<String> {
        self.face().methods.get(usize::from(method)).and_then(|method| method.wraps.clone())
    }

    /// Whether a method takes what the object grants.
    pub(crate) fn acquires(&self, method: u16) -> bool {
        self.face().info.methods.get(usize::from(method)).is_some_and(|method| method.name == "acquire")
    }

    /// Whether grants of its objects may be guards of calls: those of locks, of which one holder at a time has one, and
    /// those of plugins, which say when nobody holds any more.
    pub(crate) fn guards(&self) -> bool {
        match &self.origin {
            Origin::Builtin(builtin) => matches!(builtin.typeid, "Lock" | "RLock" | "Condition"),
            Origin::Plugin(_) | Origin::Constructor(_) => true,
            Origin::Singleton { of, .. } => of.guards(),
        }
    }

    /// How many objects of a plugin's type there are.
    pub(crate) fn objects(&self) -> usize {
        let Origin::Plugin(releases) = &self.origin else { return 0 };
        releases.report().versions.iter().map(|version| version.objects).sum()
    }

    /// Poisons the objects of a plugin's type, each with its next step.
    pub(crate) fn poison(&self) {
        if let Origin::Plugin(releases) = &self.origin {
            releases.remove();
        }
    }

    /// The number of a method that clients may call. This is where `exposed` is checked.
    pub(crate) fn method(&self, method: MethodRef<'_>) -> Result<u16, Fault> {
        let face = self.face();
        let index = match method {
            MethodRef::Index(index) => Some(index),
            MethodRef::Name(name) => face
                .by_name
                .get(name)
                .copied()
                .or_else(|| COMMON.iter().find(|(common, _)| *common == name).map(|(_, index)| *index)),
        };
        match index {
            Some(index) if face.methods.get(usize::from(index)).is_some_and(|method| method.exposed) => Ok(index),
            Some(index) if COMMON.iter().any(|(_, common)| *common == index) => Ok(index),
            _ => {
                let name = match method {
                    MethodRef::Name(name) => name.to_owned(),
                    MethodRef::Index(index) => match face.info.methods.get(usize::from(index)) {
                        Some(method) => method.name.clone(),
                        None => index.to_string(),
                    },
                };
                let typeid = &self.typeid;
                Err(Fault::refused("NotExposed", format!("method `{name}` of typeid `{typeid}` is not exposed")))
            }
        }
    }
}

impl Face {
    /// Everything exposed that is described so. `methods` has what the description does not say.
    fn new(
        typeid: &str,
        mut info: TypeInfo,
        mut methods: Vec<Method>,
        wraps_by_itself: bool,
        newest: Option<Arc<PluginType>>,
    ) -> Self {
        methods.resize_with(info.methods.len(), Method::default);
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
        info.typeid = typeid.to_owned();
        Self { info, methods, by_name, newest }
    }

    /// Exposes no more than these methods and lets the results of those become objects. Names that this version lacks are
    /// passed over: another one may have them.
    fn restrict(&mut self, exposed: Option<&[String]>, method_to_typeid: &[(String, String)]) {
        for (described, method) in self.info.methods.iter_mut().zip(&mut self.methods) {
            if let Some(exposed) = exposed {
                method.exposed &= exposed.contains(&described.name);
            }
            if let Some((_, to)) = method_to_typeid.iter().find(|(name, _)| *name == described.name) {
                method.read_only = false;
                described.returns = Some(to.clone());
                method.wraps = Some(to.clone());
            }
            described.exposed = method.exposed;
        }
    }
}

/// The types of a tenant.
#[derive(Default)]
pub(crate) struct Registry {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    types: HashMap<String, Arc<Type>>,
    /// Methods of removed types, by their numbers: clients may know them still.
    removed: HashMap<String, Vec<MethodInfo>>,
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
        self.state.write().register(registration)
    }

    /// Registers types of plugins, all or none. With `replaces` those whose names are taken by a plugin's types become their
    /// newest versions.
    pub(crate) fn install(
        &self,
        registrations: Vec<Registration>,
        replaces: bool,
    ) -> Result<Vec<Registered>, RegisterError> {
        let mut state = self.state.write();
        for registration in &registrations {
            let Some(known) = state.types.get(&registration.typeid) else {
                state.check(registration)?;
                let isolation = registration.isolation.unwrap_or_default();
                of_plugin(registration)?.may_be(isolation)?;
                continue;
            };
            match &known.origin {
                _ if !replaces => return Err(RegisterError::Taken(registration.typeid.clone())),
                Origin::Plugin(releases) => releases.check(of_plugin(registration)?, registration.isolation)?,
                _ => return Err(RegisterError::NotAPlugins(registration.typeid.clone())),
            }
        }
        registrations.into_iter().map(|registration| state.install(registration)).collect()
    }

    /// Removes a type of a plugin. Its name is free at once, and its objects go on with the version they have.
    pub(crate) fn remove(&self, typeid: &str) -> Result<Arc<Type>, RegisterError> {
        let mut state = self.state.write();
        let kind = state.types.get(typeid).ok_or_else(|| RegisterError::Unknown(typeid.to_owned()))?;
        if !matches!(kind.origin, Origin::Plugin(_)) {
            return Err(RegisterError::NotAPlugins(typeid.to_owned()));
        }
        let methods = kind.face().info.methods.clone();
        state.removed.insert(typeid.to_owned(), methods);
        Ok(state.types.remove(typeid).expect("it was just there"))
    }

    /// The types of plugins, by name.
    pub(crate) fn plugins(&self) -> Vec<PluginReport> {
        let report = |kind: &Arc<Type>| match &kind.origin {
            Origin::Plugin(releases) => Some(PluginReport { typeid: kind.typeid.clone(), releases: releases.report() }),
            _ => None,
        };
        self.all().iter().filter_map(report).collect()
    }

    pub(crate) fn get(&self, typeid: &str) -> Option<Arc<Type>> {
        self.state.read().types.get(typeid).cloned()
    }

    /// All types, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Type>> {
        let mut all: Vec<_> = self.state.read().types.values().cloned().collect();
        all.sort_by(|a, b| a.typeid.cmp(&b.typeid));
        all
    }
}

/// The plugin's type of a registration.
fn of_plugin(registration: &Registration) -> Result<&Arc<PluginType>, RegisterError> {
    let Source::Plugin { plugin, typeid } = &registration.source else {
        return Err(RegisterError::NotAPlugins(registration.typeid.clone()));
    };
    offered(plugin, typeid)
}

/// A plugin's type.
pub(crate) fn offered<'a>(plugin: &'a Plugin, typeid: &str) -> Result<&'a Arc<PluginType>, RegisterError> {
    let types = plugin.types();
    types.iter().find(|offered| offered.info().typeid == typeid).ok_or_else(|| {
        let known: Vec<_> = types.iter().map(|offered| &*offered.info().typeid).collect();
        RegisterError::NotOffered { typeid: typeid.to_owned(), known: known.join(", ") }
    })
}

impl State {
    /// Whether a new type may have this name.
    fn check(&self, registration: &Registration) -> Result<(), RegisterError> {
        let typeid = &registration.typeid;
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if typeid.is_empty() || typeid.len() > TYPEID_BYTES_MAX || !typeid.chars().all(legal) {
            return Err(RegisterError::BadName(typeid.clone()));
        }
        if self.types.contains_key(typeid) {
            return Err(RegisterError::Taken(typeid.clone()));
        }
        let removed = self.removed.keys().filter(|name| !self.types.contains_key(*name)).count();
        if self.types.len() + removed >= TYPES_MAX && !self.removed.contains_key(typeid) {
            return Err(RegisterError::TooManyTypes);
        }
        Ok(())
    }

    fn register(&mut self, registration: Registration) -> Result<Arc<Type>, RegisterError> {
        self.check(&registration)?;
        let typeid = registration.typeid.clone();
        let earlier = self.removed.get(&typeid).cloned().unwrap_or_default();
        let resolved = Arc::new(Type::resolve(registration, &self.types, earlier)?);
        self.types.insert(typeid, resolved.clone());
        Ok(resolved)
    }

    /// Registers a plugin's type, or makes it the newest version of the one that has its name.
    fn install(&mut self, registration: Registration) -> Result<Registered, RegisterError> {
        let offered = Arc::clone(of_plugin(&registration)?);
        let (typeid, to) = (registration.typeid.clone(), offered.version().to_owned());
        let Some(kind) = self.types.get(&typeid) else {
            self.register(registration)?;
            return Ok(Registered { typeid, from: None, to, will_move: 0, will_stay: 0, note: None });
        };
        let Origin::Plugin(releases) = &kind.origin else { return Err(RegisterError::NotAPlugins(typeid)) };
        let former = releases.newest().kind().clone();
        let (mut will_move, mut will_stay) = (0, 0);
        for version in releases.report().versions {
            let count = if version.saves && offered.saves() { &mut will_move } else { &mut will_stay };
            *count += version.objects;
        }
        let newest = releases.replace(offered.clone(), registration.isolation)?;
        let face = Face::new(&typeid, newest.info().clone(), Vec::new(), true, Some(offered.clone()));
        kind.show(face);
        for single in self.types.values() {
            if let Origin::Singleton { of, .. } = &single.origin
                && Arc::ptr_eq(of, kind)
            {
                let shown = kind.face();
                let (info, methods) = (shown.info.clone(), shown.methods.clone());
                single.show(Face::new(&single.typeid, info, methods, false, None));
            }
        }
        let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
        let note = match numbers(offered.version()).cmp(&numbers(former.version())) {
            std::cmp::Ordering::Less => Some("this version is lower than the one it replaces"),
            std::cmp::Ordering::Equal if offered.sha256() == former.sha256() => Some("this is the very same component"),
            std::cmp::Ordering::Equal => Some("this is the same version with other content"),
            std::cmp::Ordering::Greater => None,
        };
        let from = Some(former.version().to_owned());
        Ok(Registered { typeid, from, to, will_move, will_stay, note: note.map(Into::into) })
    }
}
