//! A call before it is sent: what to call, how long to wait, under which guard.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use steward_wire::frame::Guard;

use crate::core::Class;
use crate::describe::Table;
use crate::error::Error;
use crate::proxy::Proxy;
use crate::request::{Method, Request};
use crate::session::{Delivered, Flight};
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
    /// By its number: one that every type has, or whose type is known; and whether it may wait.
    Index(u16, bool),
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
    ///
    /// Within that time a call is also sent again that the host refuses as one that may succeed later, such as `Busy`; without a
    /// timeout the refusal is the answer ([`Error::is_retryable`]). Calls that are sent after it may take effect before it then.
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

    /// The method's number if it is known here, and whether it may wait.
    fn method(&self, table: Option<&Table>) -> Option<(u16, bool)> {
        match &self.method {
            Name::Index(index, may_park) => Some((*index, *may_park)),
            Name::Static(name) => table?.method(name),
            Name::Owned(name) => table?.method(name),
        }
    }

    fn request(&mut self, method: Option<(u16, bool)>, args: Vec<u8>) -> (Class, Request) {
        let may_block = self.deadline_ms != Some(0);
        let (method, may_park) = match (method, &mut self.method) {
            (Some((index, may_park)), _) => (Method::Index(index), may_park),
            (None, Name::Static(name)) => (Method::Known(name), false),
            (None, Name::Owned(name)) => (Method::Name(std::mem::take(name).into()), false),
            (None, Name::Index(..)) => unreachable!("its number is its name"),
        };
        let class = if may_park && may_block { Class::Parked } else { Class::Running };
        let request = Request::Call {
            ident: self.proxy.handle.ident,
            owner: self.proxy.owner.number(),
            method,
            args,
            deadline_ms: self.deadline_ms,
            guard: self.guard,
            lets_go: self.gives_up.is_some(),
        };
        (class, request)
    }

    /// Sends the call if nothing has to be waited for before, as most can. Otherwise it stays as it was.
    fn send_now(&mut self, waker: &Waker) -> Option<(Flight, Class)> {
        let known = self.method(self.proxy.handle.known_table());
        if known.is_none() || self.gives_up.is_some() {
            return None;
        }
        let args = std::mem::take(self.args.as_mut().ok()?);
        let (class, request) = self.request(known, args);
        match self.proxy.handle.session.send_now(class, request, waker) {
            Ok(flight) => Some((flight, class)),
            Err(request) => {
                self.args = Ok(request.into_args());
                None
            }
        }
    }

    /// What the reply is to the caller.
    fn end(&self, delivered: Delivered) -> Result<T, Error> {
        (self.decode)(&self.proxy, if self.takes_faults { delivered } else { delivered.returned()? })
    }

    async fn run(mut self) -> Result<T, Error> {
        let args = std::mem::replace(&mut self.args, Ok(Vec::new()))?;
        // The host itself has no table; nor is an unknown name ours to refuse.
        let is_host = self.proxy.handle.ident == steward_wire::Ident::HOST;
        let table = match self.method {
            Name::Static(_) | Name::Owned(_) if !is_host => Some(self.proxy.table().await?),
            _ => None,
        };
        let known = self.method(table);
        let (class, request) = self.request(known, args);
        if let Some(hold) = &self.gives_up {
            hold.give_up();
        }
        let delivered = self.proxy.handle.session.deliver(class, request).await;
        let Some(hold) = &self.gives_up else { return self.end(delivered?) };
        let delivered = delivered.and_then(Delivered::returned);
        match &delivered {
            Ok(delivered) => hold.take_back(delivered.reply.grant),
            // Only a wait that never began leaves the lock as it was.
            Err(error) if error.effect() != steward_wire::Effect::Unknown => hold.take_back(None),
            Err(_) => {}
        }
        self.end(delivered?)
    }

    /// Sends it once more, as it was refused.
    async fn run_again(self, class: Class, refused: Delivered) -> Result<T, Error> {
        let delivered = self.proxy.handle.session.deliver_again(class, refused).await?;
        self.end(delivered)
    }
}

impl<T: Send + 'static> IntoFuture for Call<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Calling<T>;

    fn into_future(mut self) -> Calling<T> {
        // The thread that asks is the owner, whichever thread polls.
        self.proxy.owner = self.proxy.owner.fixed();
        Calling { call: Some(self), stage: Stage::New }
    }
}

/// A [`Call`] that is awaited. It is sent when it is first polled; dropping it gives the call up.
#[must_use = "futures do nothing unless polled"]
pub struct Calling<T> {
    /// None once it is over, or goes on elsewhere.
    call: Option<Call<T>>,
    stage: Stage<T>,
}

enum Stage<T> {
    New,
    /// Only its reply is missing.
    Sent(Flight, Class),
    /// It waits for its turn, for its type's description or for a reply that is not its last.
    Elsewhere(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>),
}

impl<T: Send + 'static> Future for Calling<T> {
    type Output = Result<T, Error>;

    /// # Panics
    /// If it has ended before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const OVER: &str = "a call is polled until it ends";
        let Self { call, stage } = &mut *self;
        match stage {
            Stage::New => {
                if let Some((flight, class)) = call.as_mut().expect(OVER).send_now(cx.waker()) {
                    *stage = Stage::Sent(flight, class);
                    // Whoever brings the reply wakes this task.
                    return Poll::Pending;
                }
                *stage = Stage::Elsewhere(Box::pin(call.take().expect(OVER).run()));
            }
            Stage::Sent(flight, class) => {
                let delivered = ready!(flight.poll(cx));
                let (class, call) = (*class, call.take().expect(OVER));
                match delivered {
                    Ok(delivered) if delivered.again(class).is_some() => {
                        *stage = Stage::Elsewhere(Box::pin(call.run_again(class, delivered)));
                    }
                    delivered => return Poll::Ready(delivered.and_then(|delivered| call.end(delivered))),
                }
            }
            Stage::Elsewhere(_) => {}
        }
        let Stage::Elsewhere(future) = stage else { unreachable!("all else has returned") };
        future.as_mut().poll(cx)
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
