//! Managers: where proxies come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use steward_wire::describe::{Isolation, TypeInfo};
use steward_wire::{Token, value};

use crate::args::{Args, IntoArgs};
use crate::connect::ConnectOptions;
use crate::connect::Fork;
use crate::core::Class;
use crate::error::{ConfigError, Error};
use crate::events::SessionEvent;
use crate::owner::Owner;
use crate::proxy::{Proxy, created, within};
use crate::request::Request;
use crate::session::{Delivered, Session, Shared};
use crate::start::{HostProcess, StartOptions};
use crate::types::{
    Array, Barrier, BoundedSemaphore, Condition, Dict, Event, JoinableQueue, LifoQueue, List, Lock, Namespace,
    PriorityQueue, Queue, QueueOptions, RLock, Semaphore, Set, Typed, Value,
};

/// A session with a host, from which proxies come.
///
/// One process needs one manager for each host: any number of tasks and threads share it. A clone is another
/// handle of the same session, with an [`Owner`] of its own; the session ends, with a goodbye, when the last handle and
/// the last proxy are gone. A host that [`Manager::start`] started ends with the last *manager*.
///
/// ```no_run
/// # async fn example() -> Result<(), steward_client::Error> {
/// use steward_client::{Manager, Queue};
/// let manager = Manager::connect("local").await?;
/// let jobs: Queue<String> = manager.named("jobs").await?;
/// jobs.put("sweep").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Manager {
    session: Arc<Session>,
    owner: Owner,
    host: Option<Arc<HostProcess>>,
}

impl Clone for Manager {
    fn clone(&self) -> Self {
        Self { session: Arc::clone(&self.session), owner: Owner::new(), host: self.host.clone() }
    }
}

/// A line of [`Manager::objects`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its number.
    pub ident: u64,
    /// Its type.
    pub typeid: String,
    /// The name it was given.
    pub name: Option<String>,
    /// How many sessions and containers refer to it.
    pub references: u32,
    /// How many calls wait in it; `None` while it is busy.
    pub waiters: Option<u64>,
}

/// How many objects of a type there are, of [`Manager::type_counts`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct TypeCount {
    /// Its name.
    pub typeid: String,
    /// Its objects.
    pub objects: u64,
    /// Calls of them that trapped, were cut, or broke the rules, since the type was registered; `None` if it is no plugin's.
    pub traps: Option<u64>,
    /// How often one was made again after that.
    pub recovered: Option<u64>,
}

/// An owner in a cycle of [`Manager::deadlocks`]: it waits for a lock that the next one holds, the last for one that the
/// first holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct DeadlockLink {
    /// Its session.
    pub session: u64,
    /// Which of that client's threads or tasks.
    pub owner: u64,
    /// The lock that it waits for.
    pub ident: u64,
}

/// How a plugin is registered by [`Manager::register_with`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterOptions {
    /// Its types become the newest versions of those that are registered: every object moves with its next call.
    pub replaces: bool,
    /// Only this type of the plugin. `None`: all.
    pub typeid: Option<String>,
    /// Bytes of memory that an object may have; what the component starts with, if that is more. `None`: what the host gives.
    pub memory_bytes: Option<u64>,
    /// What keeps their objects apart. `None`: what did so before, where a type is replaced; else [`Isolation::Object`].
    pub isolation: Option<Isolation>,
}

/// What became of one type of a plugin that was registered or replaced.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Registered {
    /// The name.
    pub typeid: String,
    /// The version that was replaced.
    pub from: Option<String>,
    /// The version that is the newest now.
    pub to: String,
    /// Objects that will move, each with its next step.
    pub will_move: u64,
    /// Objects that stay with their version: it or the new one does not save.
    pub will_stay: u64,
    /// What may not have been meant: an older version, the same component once more.
    pub note: Option<String>,
}

/// A plugin's type, of [`Manager::plugins`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct PluginInfo {
    /// The name.
    pub typeid: String,
    /// Versions that have objects and the newest one, oldest first.
    pub versions: Vec<PluginVersion>,
    /// Calls that trapped, were cut, or broke the rules.
    pub traps: u64,
    /// How often an object was made again after that.
    pub recovered: u64,
    /// Objects that could not be.
    pub poisoned: u64,
    /// How often an object moved to a newer version.
    pub moved: u64,
    /// How often one should have, and stayed with its version.
    pub not_moved: u64,
    /// Why, the last time.
    pub not_moved_last: Option<String>,
    /// Bytes of memory by which objects are made again.
    pub journal_bytes: u64,
}

/// A version of a plugin's type.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct PluginVersion {
    /// As the plugin says.
    pub version: String,
    /// The plugin's name, or the beginning of its digest if it was uploaded.
    pub plugin: String,
    /// The component's digest, in hex.
    pub sha256: String,
    /// Its objects can be saved and loaded.
    pub saves: bool,
    /// What keeps its objects apart.
    pub isolation: Isolation,
    /// Objects of this version.
    pub objects: u64,
    /// Sandboxes that shared objects lie in; 0 where each has its own.
    pub shards: u64,
}

/// Bytes of a component that go in one frame: beside them, small calls have their turn.
const CHUNK_BYTES: usize = 256 << 10;

impl Manager {
    /// Connects to `target`: `steward://host:port`, `steward+unix:///path`, or the name of a [context](crate::context)
    /// (an empty one: the current). [`ConnectOptions`] say more.
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`].
    pub async fn connect(target: &str) -> Result<Self, Error> {
        ConnectOptions::new().connect(target).await
    }

    /// Starts a host of one's own and connects to it. It ends when the last manager that came of this is dropped, or when
    /// this process ends, however it ends.
    ///
    /// # Errors
    /// [`Error::Start`] with the end of what the host wrote to its standard error.
    pub async fn start(options: StartOptions) -> Result<Self, Error> {
        let (host, session) = options.start().await?;
        Ok(Self { session, owner: Owner::new(), host: Some(Arc::new(host)) })
    }

    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, owner: Owner::new(), host: None }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.session.shared)
    }

    /// The same manager, whose proxies call as another owner.
    #[must_use]
    pub fn with_owner(&self, owner: Owner) -> Self {
        Self { session: Arc::clone(&self.session), owner, host: self.host.clone() }
    }

    /// A new owner, for a task that takes an RLock or waits for a Condition on its own.
    pub fn owner(&self) -> Owner {
        Owner::new()
    }

    /// Where the host is, as it was dialled.
    pub fn address(&self) -> &str {
        &self.session.shared.address
    }

    /// The process of a host that [`Manager::start`] started.
    pub fn host_process(&self) -> Option<&HostProcess> {
        self.host.as_deref()
    }

    /// Makes an object.
    ///
    /// # Errors
    /// Refused `UnknownType`, or over quota; raised whatever the constructor raises.
    pub async fn create(&self, typeid: &str, args: impl IntoArgs) -> Result<Proxy, Error> {
        let args = within(&self.session, self.owner, || args.into_args());
        self.create_item(typeid, args?, None, None).await
    }

    /// Makes an object of this name, or gets the one that has it.
    ///
    /// # Errors
    /// As [`Manager::create`]; refused if the name belongs to an object of another type.
    pub async fn create_named(&self, name: &str, typeid: &str, args: impl IntoArgs) -> Result<Proxy, Error> {
        let args = within(&self.session, self.owner, || args.into_args());
        self.create_item(typeid, args?, Some(name), None).await
    }

    /// As [`Manager::create_named`]; the name, and with it the object, goes once no session has referred to it for `idle`. Who
    /// finds the object there already does not change that.
    ///
    /// # Errors
    /// As [`Manager::create_named`].
    pub async fn create_named_for(
        &self,
        name: &str,
        idle: Duration,
        typeid: &str,
        args: impl IntoArgs,
    ) -> Result<Proxy, Error> {
        let args = within(&self.session, self.owner, || args.into_args());
        self.create_item(typeid, args?, Some(name), Some(idle)).await
    }

    /// The object of this name, made with the type's defaults if there is none yet.
    ///
    /// # Errors
    /// As [`Manager::create_named`].
    pub async fn named<P: Typed>(&self, name: &str) -> Result<P, Error> {
        P::from_proxy(self.create_named(name, P::TYPEID, ()).await?)
    }

    /// The object of this name, whatever its type.
    ///
    /// # Errors
    /// Raised `KeyError` if there is none.
    pub async fn find(&self, name: &str) -> Result<Proxy, Error> {
        self.host_proxy().call_proxy("named", (name,)).await
    }

    async fn create_item(
        &self,
        typeid: &str,
        args: Vec<u8>,
        name: Option<&str>,
        idle: Option<Duration>,
    ) -> Result<Proxy, Error> {
        let request = Request::Create {
            owner: self.owner.number(),
            typeid: typeid.into(),
            args,
            name: name.map(Into::into),
            idle_ms: idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        };
        let delivered = self.session.call(Class::Running, request).await?;
        created(&self.session, self.owner, &delivered)
    }

    async fn typed<P: Typed>(&self, args: impl IntoArgs) -> Result<P, Error> {
        P::from_proxy(self.create(P::TYPEID, args).await?)
    }

    /// A proxy for a token that came from outside this session: a file, another process.
    ///
    /// That the object still exists shows at the first call.
    ///
    /// # Errors
    /// [`Error::Config`] if the token belongs to a host of another address.
    pub fn proxy(&self, token: &Token) -> Result<Proxy, Error> {
        if let Some(address) = &token.address
            && address != self.address()
        {
            let message =
                format!("object {} is kept at `{address}`, this manager is at `{}`", token.ident, self.address());
            return Err(ConfigError::Option(message).into());
        }
        self.session.hold_or_adopt(token.ident);
        let token = Token { address: None, ..token.clone() };
        Ok(Proxy::held(Arc::clone(&self.session), token, self.owner))
    }

    /// The session's number at the host, for logs and listings.
    pub fn session_number(&self) -> u64 {
        self.session.shared.number
    }

    /// Whether there is a connection at this moment. While there is none, calls wait for the next one.
    pub fn is_connected(&self) -> bool {
        self.session.shared.state.lock().is_connected()
    }

    /// Tells `listener` what happens to the session's connection, until the session ends. It is called by the session's own
    /// task: it must not block.
    pub fn on_event(&self, listener: impl Fn(&SessionEvent) + Send + Sync + 'static) {
        self.session.shared.listen(Arc::new(listener));
    }

    /// Makes a session for somebody else, a child process for instance, that holds what this one holds now:
    /// [`crate::ConnectOptions::claim`] signs in to it, and there [`Manager::proxy`] turns tokens into proxies. Until then it
    /// lives as long as this session and a lease more.
    ///
    /// # Errors
    /// Refused `OverQuota` if the tenant has all the sessions it may have.
    pub async fn fork(&self) -> Result<Fork, Error> {
        let delivered: Delivered = self.session.call(Class::Running, Request::Fork).await?;
        Fork::read(&delivered.reply.payload)
    }

    /// The host as an object, whose methods are called by name: `counters`, `objects`, `ping` and others.
    pub fn host_proxy(&self) -> Proxy {
        Proxy::host(Arc::clone(&self.session), self.owner)
    }

    /// Every type that this tenant may create, and what it offers.
    ///
    /// # Errors
    /// [`Error::Connection`]; unknown if the connection is lost meanwhile.
    pub async fn types(&self) -> Result<Vec<TypeInfo>, Error> {
        let delivered = self.session.call(Class::Running, Request::DescribeAll).await?;
        value::to_serde(&delivered.reply.payload)
            .map_err(|error| Error::Decode { wanted: "Vec<TypeInfo>", cause: error.to_string() })
    }

    /// The tenant's objects.
    ///
    /// # Errors
    /// Refused `Denied` without the role admin.
    pub async fn objects(&self) -> Result<Vec<ObjectInfo>, Error> {
        self.host_proxy().call("objects", ()).await
    }

    /// How many objects there are of each type that has any or is a plugin's.
    ///
    /// # Errors
    /// Refused `Denied` without the role admin.
    pub async fn type_counts(&self) -> Result<Vec<TypeCount>, Error> {
        self.host_proxy().call("type_counts", ()).await
    }

    /// Cycles of owners that wait for each other's locks, and so for ever, but for deadlines.
    ///
    /// # Errors
    /// Refused `Denied` without the role admin.
    pub async fn deadlocks(&self) -> Result<Vec<Vec<DeadlockLink>>, Error> {
        self.host_proxy().call("deadlocks", ()).await
    }

    /// Registers the types of a plugin, all or none. With `replaces` they become the newest versions of those that are
    /// registered: every object moves with its next call. Uploads the component first.
    ///
    /// # Errors
    /// As [`Manager::register_with`].
    pub async fn register(&self, component: &[u8], replaces: bool) -> Result<Vec<Registered>, Error> {
        self.register_with(component, RegisterOptions { replaces, ..RegisterOptions::default() }).await
    }

    /// As [`Manager::register`], with what whoever registers the plugin chooses.
    ///
    /// # Errors
    /// Refused: `Denied` without the role admin, `BadPlugin` if the component is not accepted, `Taken` if a name is,
    /// `UnknownType` if the plugin lacks the type, `BadRegistration` if objects are to share that do not save,
    /// `Busy` (retryable) while another one is being compiled, `Unsupported` by a host that takes no plugins.
    pub async fn register_with(&self, component: &[u8], options: RegisterOptions) -> Result<Vec<Registered>, Error> {
        let RegisterOptions { replaces, typeid, memory_bytes, isolation } = options;
        let mut args = Args::new().arg(&self.upload(component).await?);
        if let Some(typeid) = &typeid {
            args = args.keyword("typeid", typeid);
        }
        if let Some(bytes) = memory_bytes {
            args = args.keyword("memory_bytes", &bytes);
        }
        if let Some(isolation) = isolation {
            args = args.keyword("isolation", &isolation);
        }
        self.host_proxy().call(if replaces { "replace" } else { "register" }, args).await
    }

    /// Sends a component, which the host compiles; returns the number by which `register` and `replace` of
    /// [`Manager::host_proxy`] know it until the next upload of this session.
    ///
    /// # Errors
    /// As [`Manager::register`].
    pub async fn upload(&self, component: &[u8]) -> Result<u64, Error> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (upload, total) = (LAST.fetch_add(1, Ordering::Relaxed) + 1, component.len() as u64);
        let mut offset = 0;
        for chunk in component.chunks(CHUNK_BYTES) {
            let request = Request::Upload { upload, offset, total, chunk: chunk.to_vec() };
            // One after the other: those that go on streams of their own have no order.
            self.session.call(Class::Running, request).await?;
            offset += chunk.len() as u64;
        }
        Ok(upload)
    }

    /// Removes a plugin's type; returns how many objects it has. Its name is free at once, and they go on with the version
    /// that they have, or fail from now on if it `poisons`.
    ///
    /// # Errors
    /// Refused: `Denied` without the role admin, `UnknownType`, `BadRegistration` if the type is not a plugin's.
    pub async fn unregister(&self, typeid: &str, poisons: bool) -> Result<u64, Error> {
        self.host_proxy().call("remove", (typeid, poisons)).await
    }

    /// The types of plugins, their versions, and what happened to their objects.
    ///
    /// # Errors
    /// Refused `Denied` without the role admin.
    pub async fn plugins(&self) -> Result<Vec<PluginInfo>, Error> {
        self.host_proxy().call("plugins", ()).await
    }

    /// How many objects the tenant has.
    ///
    /// # Errors
    /// [`Error::Connection`]; unknown if the connection is lost meanwhile.
    pub async fn number_of_objects(&self) -> Result<u64, Error> {
        self.host_proxy().call("number_of_objects", ()).await
    }

    /// A round trip to the host.
    ///
    /// # Errors
    /// [`Error::Connection`]; unknown if the connection is lost meanwhile.
    pub async fn ping(&self) -> Result<(), Error> {
        self.host_proxy().call("ping", ()).await
    }

    /// Ends the host, and with it every session and object. A host that this manager started is waited for, and killed
    /// if it does not end within 10 s.
    ///
    /// # Errors
    /// Refused `Denied` without the role admin.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let asked = self.host_proxy().call::<()>("shutdown", ()).await;
        match &self.host {
            Some(host) => {
                self.session.shared.close().await;
                host.end().await;
                Ok(())
            }
            // The host may end before its answer is out.
            None => match asked {
                Err(Error::Unknown(_)) => Ok(()),
                asked => asked,
            },
        }
    }

    /// Says goodbye and waits until the host has heard it, a second at most. Proxies of this session then fail with
    /// [`Error::Connection`]. Without it the goodbye is sent when the last handle is dropped, if its runtime still runs: a
    /// program that ends there and then should close its session first.
    pub async fn close(self) {
        self.session.shared.close().await;
    }

    /// Makes a [`Queue`]; `maxsize` 0 means no bound.
    ///
    /// # Errors
    /// Here and below as [`Manager::create`].
    pub async fn queue<T>(&self, maxsize: u64) -> Result<Queue<T>, Error> {
        self.typed((maxsize,)).await
    }

    /// Makes a [`JoinableQueue`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn joinable_queue<T>(&self, maxsize: u64) -> Result<JoinableQueue<T>, Error> {
        self.typed((maxsize,)).await
    }

    /// Makes a [`LifoQueue`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn lifo_queue<T>(&self, maxsize: u64) -> Result<LifoQueue<T>, Error> {
        self.typed((maxsize,)).await
    }

    /// Makes a [`PriorityQueue`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn priority_queue<T>(&self, maxsize: u64) -> Result<PriorityQueue<T>, Error> {
        self.typed((maxsize,)).await
    }

    /// Makes a queue of any of the four types, with more to say of it.
    ///
    /// # Errors
    /// As [`Manager::create`]; raised `ValueError` for a dead-letter queue with 0 deliveries.
    pub async fn queue_with<Q: Typed>(&self, options: QueueOptions) -> Result<Q, Error> {
        self.typed(options).await
    }

    /// Makes an empty [`Dict`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn dict<K, V>(&self) -> Result<Dict<K, V>, Error> {
        self.typed(()).await
    }

    /// Makes an empty [`List`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn list<T>(&self) -> Result<List<T>, Error> {
        self.typed(()).await
    }

    /// Makes an empty [`Set`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn set<T>(&self) -> Result<Set<T>, Error> {
        self.typed(()).await
    }

    /// Makes an empty [`Namespace`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn namespace(&self) -> Result<Namespace, Error> {
        self.typed(()).await
    }

    /// Makes a [`Value`]; the typecode is kept and not looked at, as CPython's.
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn value<T: Serialize>(&self, typecode: &str, value: &T) -> Result<Value<T>, Error> {
        self.typed((typecode, value)).await
    }

    /// Makes an [`Array`] of the numbers of `items`, in the C type that `typecode` names as Python's `array` does.
    ///
    /// # Errors
    /// As [`Manager::create`]; raised `ValueError` for an unknown typecode, `OverflowError` for a number beyond it.
    pub async fn array<T: Serialize>(&self, typecode: &str, items: &[T]) -> Result<Array<T>, Error> {
        self.typed((typecode, items)).await
    }

    /// Makes a [`Lock`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn lock(&self) -> Result<Lock, Error> {
        self.typed(()).await
    }

    /// Makes an [`RLock`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn rlock(&self) -> Result<RLock, Error> {
        self.typed(()).await
    }

    /// Makes a [`Semaphore`] of `permits`.
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn semaphore(&self, permits: u64) -> Result<Semaphore, Error> {
        self.typed((permits,)).await
    }

    /// Makes a [`BoundedSemaphore`] of `permits`.
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn bounded_semaphore(&self, permits: u64) -> Result<BoundedSemaphore, Error> {
        self.typed((permits,)).await
    }

    /// Makes a [`Condition`] with an RLock of its own.
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn condition(&self) -> Result<Condition, Error> {
        self.typed(()).await
    }

    /// Makes a [`Condition`] over a [`Lock`] or [`RLock`].
    ///
    /// # Errors
    /// As [`Manager::create`]; raised or refused for anything else than a lock.
    pub async fn condition_on(&self, lock: &impl Typed) -> Result<Condition, Error> {
        self.typed(Args::new().arg(lock.proxy())).await
    }

    /// Makes an [`Event`].
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn event(&self) -> Result<Event, Error> {
        self.typed(()).await
    }

    /// Makes a [`Barrier`] of `parties`.
    ///
    /// # Errors
    /// As [`Manager::create`].
    pub async fn barrier(&self, parties: u64) -> Result<Barrier, Error> {
        self.typed((parties,)).await
    }
}
