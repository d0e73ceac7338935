//! A signed-in session: one state, one lock, shared by callers and the lanes' tasks.
//!
//! A caller appends its frame under the lock. The first one since the lane's task last ran also tries to write
//! it there and then, so that a lone call costs no hop on its way out; those that follow leave it to the task, which
//! sends them together.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use steward_wire::frame::{self, ClientFrame, Guard, Method, Subject};
use steward_wire::{Effect, Fault, Ident, value};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::core::{After, Class, Core, Ending, Reply};
use crate::error::Error;
use crate::lane::{Frames, Lane, Sink};
use crate::proxy::Table;

/// Bytes that wait to be sent on a lane before further callers wait for room.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Bulk calls under way at once; further callers wait. The host takes 64 streams of which one is the lane.
const BULK_CALLS_MAX: usize = 16;
/// What a call's frame takes beyond its arguments, at most, but for the names in it.
const HEAD_BYTES_MAX: usize = 256;

/// What the host told at sign-in, and what the client keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) calls_running_max: usize,
    pub(crate) calls_parked_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) reply_bytes_max: usize,
    /// A call whose frame is larger does not travel on the lane.
    pub(crate) bulk_bytes_min: usize,
    /// How long the session lives without a frame.
    pub(crate) lease_ms: u64,
}

/// Which connection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The lane.
    Main = 0,
    /// On a Unix socket, the further connection that large calls take.
    Bulk = 1,
}

/// One direction of one connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) sink: Sink,
    /// Frames; those before `sent` have left.
    out: Vec<u8>,
    sent: usize,
    /// The lane's task.
    waker: Option<Waker>,
    /// Callers that wait for room.
    room: Vec<Waker>,
}

impl Pipe {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, out: Vec::new(), sent: 0, waker: None, room: Vec::new() }
    }

    fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Writes what it can.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            match self.sink.poll_write(cx, &self.out[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => self.sent += written,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.out.clear();
        self.out.shrink_to(UNSENT_BYTES_MAX);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) core: Core,
    /// By [`Which`].
    pub(crate) pipes: [Option<Pipe>; 2],
    /// Receiving halves of bulk calls, on their way to the lane's task.
    pub(crate) adopted: Vec<quinn::RecvStream>,
    /// Somebody has called since the lane's task last ran.
    called_since_turn: bool,
    /// Something was sent since the heartbeat's last tick.
    pub(crate) sent_since_tick: bool,
    /// The lane's task knows that something is owed.
    pub(crate) is_owed_timed: bool,
    /// The host takes no new calls, and why.
    pub(crate) draining: Option<String>,
    /// Nobody uses this session any more: the lanes end when everything is sent.
    pub(crate) closing: bool,
}

impl State {
    /// Appends frames to the main lane.
    pub(crate) fn put(&mut self, append: impl FnOnce(&mut Core, &mut Vec<u8>)) {
        if let Some(main) = &mut self.pipes[Which::Main as usize] {
            let before = main.out.len();
            append(&mut self.core, &mut main.out);
            self.sent_since_tick |= main.out.len() > before;
        }
    }

    /// For a lane's task. Ready once the session is closing and everything is sent.
    pub(crate) fn poll_flush(&mut self, which: Which, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Some(pipe) = &mut self.pipes[which as usize] else { return Ok(Poll::Ready(())) };
        match &mut pipe.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            known => *known = Some(cx.waker().clone()),
        }
        if which == Which::Main {
            self.called_since_turn = false;
        }
        let flushed = pipe.poll_flush(cx)?;
        if pipe.unsent() < UNSENT_BYTES_MAX {
            pipe.room.drain(..).for_each(Waker::wake);
        }
        Ok(if flushed.is_ready() && self.closing { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Tells the lane's task that there is something to do.
    pub(crate) fn lane(&self, which: Which) -> Option<Waker> {
        self.pipes[which as usize].as_ref().and_then(|pipe| pipe.waker.clone())
    }
}

/// What callers and lanes share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// As it was dialled.
    pub(crate) address: String,
    pub(crate) limits: Bounds,
    pub(crate) quic: Option<quinn::Connection>,
    pub(crate) state: Mutex<State>,
    /// Permits for calls that run, and for those that may park. A call's permit comes back with its reply.
    running: Semaphore,
    parked: Semaphore,
    /// Told when the session has ended.
    ended: Notify,
}

impl Shared {
    /// Returns permits and wakes callers, with no lock held.
    pub(crate) fn settle(&self, after: After) {
        self.running.add_permits(after.running_freed);
        self.parked.add_permits(after.parked_freed);
        after.wakers.into_iter().for_each(Waker::wake);
    }

    /// Sends releases that wait, as far as the host's limit allows, and has the main lane woken for them.
    pub(crate) fn put_releases(&self, state: &mut State, after: &mut After) {
        let mut is_any = false;
        state.put(|core, out| {
            core.put_releases(out, || {
                // In place of a call that has just ended, or with a permit of its own.
                let is_free = match after.running_freed.checked_sub(1) {
                    Some(left) => {
                        after.running_freed = left;
                        true
                    }
                    None => self.running.try_acquire().map(SemaphorePermit::forget).is_ok(),
                };
                is_any |= is_free;
                is_free
            });
        });
        if is_any {
            after.wakers.extend(state.lane(Which::Main));
        }
    }

    pub(crate) fn end(&self, ending: Ending) {
        tracing::debug!(address = %self.address, cause = ending.cause, "session ended");
        let mut after = After::default();
        {
            let mut state = self.state.lock();
            state.core.end(ending, &mut after);
            for pipe in std::mem::take(&mut state.pipes).into_iter().flatten() {
                after.wakers.extend(pipe.room);
                after.wakers.extend(pipe.waker);
            }
            state.adopted.clear();
        }
        self.running.close();
        self.parked.close();
        self.settle(after);
        self.ended.notify_waiters();
    }

    fn lost(&self, cause: &str) -> Error {
        Error::Connection { address: self.address.clone(), cause: cause.to_owned() }
    }
}

/// How a further connection of a session is made: only the Unix socket needs one.
pub(crate) type Dial =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(Sink, Frames), Error>> + Send>> + Send + Sync>;

/// The handle that managers and proxies share. The session ends, with a goodbye, when the last one goes.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    bulk: Semaphore,
    dial: Option<Dial>,
    /// Held while the further connection is being made.
    dialling: tokio::sync::Mutex<()>,
    pub(crate) tables: Mutex<HashMap<String, Arc<Table>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

/// What is sent, but for its seq.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Call {
        ident: Ident,
        owner: u64,
        method: Method<'a>,
        args: &'a [u8],
        deadline_ms: Option<u64>,
        guard: Option<Guard>,
    },
    Create {
        owner: u64,
        typeid: &'a str,
        args: &'a [u8],
        name: Option<&'a str>,
    },
    Describe {
        subject: Subject<'a>,
    },
}

impl<'a> Request<'a> {
    fn target(&self) -> (Ident, u64) {
        match *self {
            Self::Call { ident, owner, .. } => (ident, owner),
            Self::Create { owner, .. } => (Ident::HOST, owner),
            Self::Describe { .. } => (Ident::HOST, 0),
        }
    }

    fn bytes_max(&self) -> usize {
        HEAD_BYTES_MAX
            + match *self {
                Self::Call { args, method: Method::Name(name), .. } => args.len() + name.len(),
                Self::Call { args, .. } => args.len(),
                Self::Create { typeid, args, name, .. } => args.len() + typeid.len() + name.map_or(0, str::len),
                Self::Describe { .. } => 0,
            }
    }

    fn frame(self, seq: u64) -> ClientFrame<'a> {
        match self {
            Self::Call { ident, owner, method, args, deadline_ms, guard } => {
                ClientFrame::Call(frame::Call { seq, ident, owner, method, args, deadline_ms, guard })
            }
            Self::Create { owner, typeid, args, name } => {
                ClientFrame::Create(frame::Create { seq, owner, typeid, args, name, idle_ms: None })
            }
            Self::Describe { subject } => ClientFrame::Describe { seq, subject },
        }
    }
}

/// A call under way. Dropping it gives the call up.
struct Flight<'a> {
    session: &'a Session,
    seq: u64,
    target: (Ident, u64),
    /// Objects that its arguments name, held until it is over.
    named: Vec<Ident>,
    /// Its frame has left, or will for certain.
    sent: bool,
    fetched: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.named.is_empty() {
            self.session.let_go(std::mem::take(&mut self.named));
        }
        if self.fetched {
            return;
        }
        let shared = &self.session.shared;
        let mut after = After::default();
        {
            let mut state = shared.state.lock();
            if self.sent {
                let (seq, target) = (self.seq, self.target);
                state.put(|core, out| core.abandon(seq, target, out));
                after.wakers.extend(state.lane(Which::Main));
            } else {
                state.core.withdraw(self.seq, &mut after);
            }
            shared.put_releases(&mut state, &mut after);
        }
        shared.settle(after);
    }
}

impl Session {
    /// A session over a signed-in connection. Its lane runs on the runtime that this is called on.
    pub(crate) fn start(
        address: String,
        limits: Bounds,
        quic: Option<quinn::Connection>,
        sink: Sink,
        frames: Frames,
        dial: Option<Dial>,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            address,
            quic,
            state: Mutex::new(State {
                core: Core::new(),
                pipes: [Some(Pipe::new(sink)), None],
                adopted: Vec::new(),
                called_since_turn: false,
                sent_since_tick: false,
                is_owed_timed: false,
                draining: None,
                closing: false,
            }),
            running: Semaphore::new(limits.calls_running_max.clamp(1, Semaphore::MAX_PERMITS)),
            parked: Semaphore::new(limits.calls_parked_max.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            ended: Notify::new(),
        });
        // The task is not joined: it ends with the session, which `close` waits for.
        tokio::spawn(Lane::run(Which::Main, Arc::clone(&shared), frames));
        Arc::new(Self {
            shared,
            runtime: tokio::runtime::Handle::current(),
            bulk: Semaphore::new(BULK_CALLS_MAX),
            dial,
            dialling: tokio::sync::Mutex::new(()),
            tables: Mutex::new(HashMap::new()),
        })
    }

    /// Sends a request and waits for its reply, first for its turn if too many are under way. Dropping the future
    /// gives the call up: what the host has not begun never happens, and a lock that is granted all the same is released.
    pub(crate) async fn call(self: &Arc<Self>, class: Class, request: Request<'_>) -> Result<Delivered, Error> {
        let permit = self.permit(class).await?;
        let bytes = request.bytes_max();
        let limit = self.shared.limits.request_bytes_max;
        if bytes > limit {
            return Err(Error::Encode(format!("request is {bytes} bytes, limit is {limit}")));
        }
        let mut flight = if bytes <= self.shared.limits.bulk_bytes_min {
            self.send(permit, class, request).await?
        } else {
            self.send_bulk(permit, class, request).await?
        };
        let reply = poll_fn(|cx| match self.shared.state.lock().core.fetch(flight.seq, cx.waker()) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await;
        flight.fetched = true;
        match reply {
            Ok(reply) if reply.effect == Effect::Returned => Ok(Delivered { session: Arc::clone(self), reply }),
            Ok(reply) => {
                let delivered = Delivered { session: Arc::clone(self), reply };
                let fault =
                    Fault::read(delivered.reply.effect, &delivered.reply.payload).map_err(Error::malformed::<Fault>)?;
                Err(Error::from_fault(fault))
            }
            Err(ending) => Err(Error::Unknown(ending.unknown())),
        }
    }

    async fn permit(&self, class: Class) -> Result<SemaphorePermit<'_>, Error> {
        let semaphore = match class {
            Class::Running => &self.shared.running,
            Class::Parked => &self.shared.parked,
        };
        match semaphore.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(_) => semaphore.acquire().await.map_err(|_| self.is_usable(&self.shared.state.lock()).unwrap_err()),
        }
    }

    /// Whether new calls may be sent.
    fn is_usable(&self, state: &State) -> Result<(), Error> {
        match (state.core.ended(), &state.draining) {
            (Some(ending), _) => Err(self.shared.lost(&ending.cause)),
            (None, Some(reason)) => Err(self.shared.lost(&format!("host is going away: {reason}"))),
            (None, None) => Ok(()),
        }
    }

    /// Waits for room in a lane and calls `then` under the lock. `then` gives back what is to be woken.
    async fn with_room<R>(&self, which: Which, mut then: impl FnMut(&mut State) -> R) -> Result<R, Error> {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            self.is_usable(&state)?;
            let Some(pipe) = &mut state.pipes[which as usize] else {
                return Poll::Ready(Err(self.shared.lost("connection was never made")));
            };
            if pipe.unsent() >= UNSENT_BYTES_MAX {
                pipe.room.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(then(&mut state)))
        })
        .await
    }

    async fn send(&self, permit: SemaphorePermit<'_>, class: Class, request: Request<'_>) -> Result<Flight<'_>, Error> {
        let target = request.target();
        let (seq, lane) = self
            .with_room(Which::Main, |state| {
                let State { core, pipes, called_since_turn, sent_since_tick, .. } = state;
                let pipe = pipes[Which::Main as usize].as_mut().expect("there is room in it");
                let is_first = pipe.unsent() == 0 && !*called_since_turn;
                let seq = core.send(&mut pipe.out, class, target, true, |seq| request.frame(seq));
                (*called_since_turn, *sent_since_tick) = (true, true);
                // An error is the lane's to find: it polls the same sink.
                let is_sent = is_first && pipe.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready();
                (seq, if is_sent { None } else { pipe.waker.clone() })
            })
            .await?;
        permit.forget();
        if let Some(lane) = lane {
            lane.wake();
        }
        Ok(Flight { session: self, seq, target, named: Vec::new(), sent: true, fetched: false })
    }

    async fn send_bulk(
        &self,
        permit: SemaphorePermit<'_>,
        class: Class,
        request: Request<'_>,
    ) -> Result<Flight<'_>, Error> {
        // One permit for each call while it is being sent: that bounds the frames in memory.
        let _sending = self.bulk.acquire().await.expect("the semaphore is never closed");
        let target = request.target();
        // Another stream has no order with the lane, on which these must not be dropped before the call is there.
        let mut named = Vec::new();
        if let Request::Call { args, .. } | Request::Create { args, .. } = request {
            value::tokens(args, &mut |ident| named.push(ident));
        }
        let seq = {
            let mut state = self.shared.state.lock();
            self.is_usable(&state)?;
            named.retain(|&ident| state.core.hold_known(ident));
            state.core.expect(class, target, true)
        };
        permit.forget();
        let mut flight = Flight { session: self, seq, target, named, sent: false, fetched: false };
        let mut bytes = Vec::with_capacity(request.bytes_max());
        request.frame(seq).put(None, &mut bytes);
        let lane = match &self.shared.quic {
            Some(quic) => {
                let (send, receive) = quic.open_bi().await.map_err(|error| self.shared.lost(&error.to_string()))?;
                let mut send = ResetOnDrop(Some(send));
                send.write_all(&bytes).await.map_err(|error| self.shared.lost(&error.to_string()))?;
                let mut state = self.shared.state.lock();
                state.adopted.push(receive);
                state.lane(Which::Main)
            }
            None => {
                self.further_connection().await?;
                self.with_room(Which::Bulk, |state| {
                    let pipe = state.pipes[Which::Bulk as usize].as_mut().expect("there is room in it");
                    pipe.out.append(&mut bytes);
                    pipe.waker.clone()
                })
                .await?
            }
        };
        flight.sent = true;
        if let Some(lane) = lane {
            lane.wake();
        }
        Ok(flight)
    }

    /// Makes the further connection of a session on a Unix socket, once.
    async fn further_connection(&self) -> Result<(), Error> {
        let _dialling = self.dialling.lock().await;
        if self.shared.state.lock().pipes[Which::Bulk as usize].is_some() {
            return Ok(());
        }
        let Some(dial) = &self.dial else { return Err(self.shared.lost("no further connection can be made")) };
        // The caller's thread may have no runtime: dialling needs one. The task is joined here.
        let (sink, frames) =
            self.runtime.spawn(dial()).await.map_err(|error| self.shared.lost(&error.to_string()))??;
        self.shared.state.lock().pipes[Which::Bulk as usize] = Some(Pipe::new(sink));
        self.runtime.spawn(Lane::run(Which::Bulk, Arc::clone(&self.shared), frames));
        Ok(())
    }

    /// Releases a lock without waiting: what dropping a guard does.
    pub(crate) fn release(&self, ident: Ident, owner: u64) {
        let mut after = After::default();
        {
            let mut state = self.shared.state.lock();
            state.core.release(ident, owner);
            self.shared.put_releases(&mut state, &mut after);
        }
        self.shared.settle(after);
    }

    pub(crate) fn hold(&self, ident: Ident) {
        self.shared.state.lock().core.hold(ident);
    }

    /// One handle less; see [`Core::let_go`].
    pub(crate) fn let_go(&self, idents: impl IntoIterator<Item = Ident>) {
        let lane = {
            let mut state = self.shared.state.lock();
            for ident in idents {
                state.core.let_go(ident);
            }
            let is_news = state.core.is_owing() && !state.is_owed_timed;
            state.is_owed_timed |= is_news;
            if is_news { state.lane(Which::Main) } else { None }
        };
        if let Some(lane) = lane {
            lane.wake();
        }
    }

    /// Asks for a reference to an object whose token came from outside, and holds it once.
    pub(crate) fn adopt(&self, ident: Ident) {
        let lane = {
            let mut state = self.shared.state.lock();
            state.put(|core, out| core.adopt(ident, out));
            state.core.hold(ident);
            state.lane(Which::Main)
        };
        if let Some(lane) = lane {
            lane.wake();
        }
    }

    /// Ends the session in good order and waits for that, a second at most.
    pub(crate) async fn close(&self) {
        self.goodbye();
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.state.lock().core.ended().is_some() {
                return;
            }
            ended.await;
        }
    }

    fn goodbye(&self) {
        let lanes: Vec<Waker> = {
            let mut state = self.shared.state.lock();
            if !state.closing {
                state.closing = true;
                state.put(|core, out| {
                    core.put_owed(out);
                    ClientFrame::Goodbye.put(None, out);
                });
            }
            [Which::Main, Which::Bulk].into_iter().filter_map(|which| state.lane(which)).collect()
        };
        lanes.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.goodbye();
    }
}

/// A bulk call's stream: given up before all of it is written, it is reset, so that no half frame looks whole.
struct ResetOnDrop(Option<quinn::SendStream>);

impl ResetOnDrop {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), quinn::WriteError> {
        if let Some(stream) = &mut self.0 {
            stream.write_all(bytes).await?;
        }
        // From here on dropping it finishes it, which sends what is buffered.
        self.0.take().map_or(Ok(()), |mut stream| stream.finish().map_err(Into::into))
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            let _ = stream.reset(0u32.into());
        }
    }
}

/// A reply in its caller's hands. The objects that it names stay until it is dropped.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) session: Arc<Session>,
    pub(crate) reply: Reply,
}

impl Drop for Delivered {
    fn drop(&mut self) {
        if !self.reply.pins.is_empty() {
            self.session.let_go(std::mem::take(&mut self.reply.pins));
        }
    }
}
