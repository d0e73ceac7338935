//! The same client for threads that block.
//!
//! A [`Manager`] here runs its connections on a thread of its own. What it makes are the proxies of the async API, whose
//! calls are sent by [`Call::wait`](crate::Call::wait) instead of `.await`. Each thread that calls is an
//! [`Owner`] of its own, so an RLock excludes threads, as in Python.
//!
//! ```no_run
//! # fn example() -> Result<(), steward_client::Error> {
//! use std::time::Duration;
//! use steward_client::blocking::Manager;
//! let manager = Manager::connect("local")?;
//! let jobs = manager.queue::<String>(0)?;
//! jobs.put("sweep").wait()?;
//! let job = jobs.get().timeout(Duration::from_secs(5)).wait()?;
//! # let _: String = job; Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use steward_wire::Token;
use steward_wire::describe::TypeInfo;
use tokio::sync::oneshot;

use crate::args::IntoArgs;
use crate::session::Shared;
use crate::{
    Array, Barrier, BoundedSemaphore, Condition, ConnectOptions, Dict, Error, Event, Fork, JoinableQueue, LifoQueue,
    List, Lock, Namespace, ObjectInfo, Owner, PriorityQueue, Proxy, Queue, QueueOptions, RLock, Semaphore,
    SessionEvent, Set, StartOptions, Typed, Value,
};

/// A session with a host, from which proxies come; see [`crate::Manager`].
///
/// Proxies work for as long as a manager of the same session lives: it keeps the thread that serves them. Dropping the last one
/// closes the session, as [`Manager::close`] does.
#[derive(Clone, Debug)]
pub struct Manager {
    inner: crate::Manager,
    runtime: Arc<Runtime>,
}

/// A thread that runs a session's connections, and sees the session off before it ends.
struct Runtime {
    handle: tokio::runtime::Handle,
    session: Option<Arc<Shared>>,
    stop: Option<oneshot::Sender<Option<Arc<Shared>>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Runtime {
    fn start() -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Connection { address: String::new(), cause: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<Option<Arc<Shared>>>();
        let thread = std::thread::Builder::new()
            .name("steward-client".into())
            .spawn(move || {
                runtime.block_on(async {
                    if let Ok(Some(session)) = stopped.await {
                        session.close().await;
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { handle, session: None, stop: Some(stop), thread: Some(thread) })
    }

    /// The manager whose connections run here.
    fn serving(mut self, inner: crate::Manager) -> Manager {
        self.session = Some(inner.shared());
        Manager { inner: inner.with_owner(Owner::thread()), runtime: Arc::new(self) }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails if the thread has panicked, and then there is nobody to stop.
            let _ = stop.send(self.session.take());
        }
        // The last handle may be dropped by the thread itself, which cannot join itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Manager {
    /// As [`crate::Manager::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(target: &str) -> Result<Self, Error> {
        Self::connect_with(target, ConnectOptions::new())
    }

    /// As [`ConnectOptions::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_with(target: &str, options: ConnectOptions) -> Result<Self, Error> {
        let runtime = Runtime::start()?;
        let inner = runtime.handle.block_on(options.connect(target))?;
        Ok(runtime.serving(inner))
    }

    /// As [`crate::Manager::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(options: StartOptions) -> Result<Self, Error> {
        let runtime = Runtime::start()?;
        let inner = runtime.handle.block_on(crate::Manager::start(options))?;
        Ok(runtime.serving(inner))
    }

    /// As [`ConnectOptions::claim`].
    ///
    /// # Errors
    /// As there.
    pub fn claim(target: &str, options: ConnectOptions, fork: Fork) -> Result<Self, Error> {
        let runtime = Runtime::start()?;
        let inner = runtime.handle.block_on(options.claim(target, fork))?;
        Ok(runtime.serving(inner))
    }

    /// As [`crate::Manager::fork`].
    ///
    /// # Errors
    /// As there.
    pub fn fork(&self) -> Result<Fork, Error> {
        self.wait(self.inner.fork())
    }

    /// As [`crate::Manager::on_event`].
    pub fn on_event(&self, listener: impl Fn(&SessionEvent) + Send + Sync + 'static) {
        self.inner.on_event(listener);
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.handle.block_on(future)
    }

    /// The async manager of the same session, for what is missing here.
    pub fn inner(&self) -> &crate::Manager {
        &self.inner
    }

    /// Where the host is, as it was dialled.
    pub fn address(&self) -> &str {
        self.inner.address()
    }

    /// As [`crate::Manager::proxy`].
    ///
    /// # Errors
    /// As there.
    pub fn proxy(&self, token: &Token) -> Result<Proxy, Error> {
        self.inner.proxy(token)
    }

    /// As [`crate::Manager::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, typeid: &str, args: impl IntoArgs) -> Result<Proxy, Error> {
        self.wait(self.inner.create(typeid, args))
    }

    /// As [`crate::Manager::create_named`].
    ///
    /// # Errors
    /// As there.
    pub fn create_named(&self, name: &str, typeid: &str, args: impl IntoArgs) -> Result<Proxy, Error> {
        self.wait(self.inner.create_named(name, typeid, args))
    }

    /// As [`crate::Manager::create_named_for`].
    ///
    /// # Errors
    /// As there.
    pub fn create_named_for(
        &self,
        name: &str,
        idle: Duration,
        typeid: &str,
        args: impl IntoArgs,
    ) -> Result<Proxy, Error> {
        self.wait(self.inner.create_named_for(name, idle, typeid, args))
    }

    /// As [`crate::Manager::named`].
    ///
    /// # Errors
    /// As there.
    pub fn named<P: Typed>(&self, name: &str) -> Result<P, Error> {
        self.wait(self.inner.named(name))
    }

    /// As [`crate::Manager::close`]; the thread ends, too, with the last clone.
    pub fn close(self) {
        self.wait(self.inner.clone().close());
    }
}

macro_rules! same {
    ($($name:ident $(<$($parameter:ident $(: $bound:path)?),+>)? ($($arg:ident: $type:ty),*) -> $result:ty;)+) => {
        impl Manager { $(
            #[doc = concat!("As [`crate::Manager::", stringify!($name), "`].\n\n# Errors\nAs there.")]
            pub fn $name $(<$($parameter $(: $bound)?),+>)? (&self, $($arg: $type),*) -> Result<$result, Error> {
                self.wait(self.inner.$name($($arg),*))
            }
        )+ }
    };
}

same! {
    find(name: &str) -> Proxy;
    types() -> Vec<TypeInfo>;
    objects() -> Vec<ObjectInfo>;
    number_of_objects() -> u64;
    ping() -> ();
    shutdown() -> ();
    queue<T>(maxsize: u64) -> Queue<T>;
    joinable_queue<T>(maxsize: u64) -> JoinableQueue<T>;
    lifo_queue<T>(maxsize: u64) -> LifoQueue<T>;
    priority_queue<T>(maxsize: u64) -> PriorityQueue<T>;
    queue_with<Q: Typed>(options: QueueOptions) -> Q;
    dict<K, V>() -> Dict<K, V>;
    list<T>() -> List<T>;
    set<T>() -> Set<T>;
    namespace() -> Namespace;
    value<T: Serialize>(typecode: &str, value: &T) -> Value<T>;
    array<T: Serialize>(typecode: &str, items: &[T]) -> Array<T>;
    lock() -> Lock;
    rlock() -> RLock;
    semaphore(permits: u64) -> Semaphore;
    bounded_semaphore(permits: u64) -> BoundedSemaphore;
    condition() -> Condition;
    condition_on<L: Typed>(lock: &L) -> Condition;
    event() -> Event;
    barrier(parties: u64) -> Barrier;
}
