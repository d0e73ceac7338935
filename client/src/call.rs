//! A call before it is sent: what to call, how long to wait, under which guard.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use steward_wire::frame::Guard;

use crate::core::Class;
use crate::error::Error;
use crate::proxy::Proxy;
use crate::request::{Method, Request};
use crate::session::Delivered;
use crate::types::{Held, Hold};

/// A call that is sent when it is awaited, or by [`Call::wait`].
///
/// Dropping the future gives the call up: one that waits in the host never takes effect, and a lock that it is granted
/// all the same is released. An item that a `get` was answered with in that very moment is lost; give a `get` a
/// [`Call::timeout`] instead of dropping it.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<T> {
    proxy: Proxy,
    method: Name,
    args: Result<Vec<u8>, Error>,
    deadline_ms: Option<u64>,
    guard: Option<Guard>,
    /// The lock that the call lets go of and takes again.
    gives_up: Option<Arc<Hold>>,
    decode: fn(&Proxy, Delivered) -> Result<T, Error>,
    /// `decode` takes replies that are no results, too.
    takes_faults: bool,
}

/// How the method is known here.
#[derive(Debug)]
pub(crate) enum Name {
    Static(&'static str),
    Owned(String),
    /// One that every type has, by its number.
    Common(u16),
}

impl<T> Call<T> {
    pub(crate) fn new(
        proxy: Proxy,
        method: Name,
        args: Result<Vec<u8>, Error>,
        decode: fn(&Proxy, Delivered) -> Result<T, Error>,
    ) -> Self {
        Self { proxy, method, args, deadline_ms: None, guard: None, gives_up: None, decode, takes_faults: false }
    }

    /// How long the call may wait in the host, which counts from its arrival there. Then it answers as its method does:
    /// `get` raises `Empty`, `wait` returns false. Without one it waits for ever. Rounded up to milliseconds.
    pub fn timeout(self, timeout: Duration) -> Self {
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        self.deadline_ms(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// As [`Call::timeout`], in milliseconds.
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.deadline_ms = Some(deadline_ms);
        self
    }

    /// Whether the call may wait at all; `false` is a deadline of 0, `true` takes any deadline away.
    pub fn blocking(mut self, blocking: bool) -> Self {
        self.deadline_ms = if blocking { None } else { Some(0) };
        self
    }

    /// Makes the call conditional: the host refuses it as `StaleFence` once `held` is no longer held, even if this
    /// process was paused meanwhile and does not know.
    pub fn guard(mut self, held: &Held) -> Self {
        self.guard = Some(held.as_guard());
        self
    }

    /// As [`Call::guard`], for a grant that is known by its lock and fence alone: see [`crate::Item::grant`].
    pub fn guard_by(mut self, lock: &Proxy, fence: u64) -> Self {
        self.guard = Some(Guard { lock: lock.ident(), fence });
        self
    }

    /// Sends the call and waits for its result, blocking the thread. Do not use it on a thread that runs async tasks.
    ///
    /// # Errors
    /// Those of the call.
    pub fn wait(self) -> Result<T, Error>
    where
        T: Send + 'static,
    {
        wait(self.into_future())
    }

    pub(crate) fn taking_faults(mut self) -> Self {
        self.takes_faults = true;
        self
    }

    /// For the wait of a condition.
    pub(crate) fn giving_up(mut self, hold: Arc<Hold>) -> Self {
        self.gives_up = Some(hold);
        self
    }

    async fn run(self) -> Result<T, Error> {
        let args = self.args?;
        let handle = &self.proxy.handle;
        let may_block = self.deadline_ms != Some(0);
        // The host itself has no table; nor is an unknown name ours to refuse.
        let known = match &self.method {
            Name::Common(index) => Some((*index, false)),
            _ if handle.ident == steward_wire::Ident::HOST => None,
            Name::Static(name) => self.proxy.table().await?.method(name),
            Name::Owned(name) => self.proxy.table().await?.method(name),
        };
        let (method, may_park) = match (known, self.method) {
            (Some((index, may_park)), _) => (Method::Index(index), may_park),
            (None, Name::Static(name)) => (Method::Known(name), false),
            (None, Name::Owned(name)) => (Method::Name(name.into()), false),
            (None, Name::Common(_)) => unreachable!("it was found above"),
        };
        let class = if may_park && may_block { Class::Parked } else { Class::Running };
        let request = Request::Call {
            ident: handle.ident,
            owner: self.proxy.owner.number(),
            method,
            args,
            deadline_ms: self.deadline_ms,
            guard: self.guard,
            lets_go: self.gives_up.is_some(),
        };
        if let Some(hold) = &self.gives_up {
            hold.give_up();
        }
        let delivered = handle.session.deliver(class, request).await;
        let delivered = match delivered {
            Ok(delivered) if !self.takes_faults => delivered.returned(),
            delivered => delivered,
        };
        if let Some(hold) = &self.gives_up {
            match &delivered {
                Ok(delivered) => hold.take_back(delivered.reply.grant),
                // Only a wait that never began leaves the lock as it was.
                Err(error) if error.effect() != steward_wire::Effect::Unknown => hold.take_back(None),
                Err(_) => {}
            }
        }
        let delivered = delivered?;
        (self.decode)(&self.proxy, delivered)
    }
}

impl<T: Send + 'static> IntoFuture for Call<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        // The thread that asks is the owner, whichever thread polls.
        self.proxy.owner = self.proxy.owner.fixed();
        Box::pin(self.run())
    }
}

impl<T> std::fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("proxy", &self.proxy)
            .field("method", &self.method)
            .field("deadline_ms", &self.deadline_ms)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

/// Blocks the thread until `future` is ready. What a call waits for is done by its session's lane, on a runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            // A wake before this parks nobody: the thread keeps one token.
            Poll::Pending => std::thread::park(),
        }
    }
}
