//! A signed-in session: one state, one lock, shared by callers and the lanes' tasks.
//!
//! A caller appends its frame under the lock. A lone one also tries to write it there and then, so that it costs no hop on
//! its way out; where several call at a time they leave that to the lane's task, which sends their frames together.
//!
//! The session outlives its connections: while there is none, requests are only written down, and the next connection
//! begins by sending them (`reconnect.rs`).

mod bulk;
mod flight;

use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use steward_wire::Ident;
use steward_wire::frame::ClientFrame;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use self::bulk::BULK_CALLS_MAX;
pub(crate) use self::flight::{Delivered, Flight};
use crate::connect::{Dialer, Link};
use crate::core::{After, Class, Core, Ending, Wanted};
use crate::describe::Tables;
use crate::error::Error;
use crate::events::{Listener, SessionEvent};
use crate::lane::Sink;
use crate::lease::Lease;
use crate::reconnect;
use crate::request::Request;
use crate::types::Hold;

/// Bytes that wait to be sent on a lane before further callers wait for room.
const UNSENT_BYTES_MAX: usize = 1 << 20;

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
    sink: Sink,
    /// Frames; those before `sent` have left.
    out: Vec<u8>,
    sent: usize,
    /// The lane's task.
    waker: Option<Waker>,
    /// The task was woken for what callers have appended, and has not run since.
    woken: bool,
    /// Callers that wait for room.
    room: Vec<Waker>,
}

impl Pipe {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, out: Vec::new(), sent: 0, waker: None, woken: false, room: Vec::new() }
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
pub(crate) struct State {
    pub(crate) core: Core,
    /// By [`Which`]; none while there is no connection.
    pipes: [Option<Pipe>; 2],
    /// Of a session over QUIC, while there is a connection.
    quic: Option<quinn::Connection>,
    /// A further connection was lost, and why: then all are made again.
    broken: Option<String>,
    /// Rises with every connection of the lane.
    pub(crate) generation: u64,
    /// Those who want to know when the lock or permit that they hold may be lost.
    watching: Vec<Weak<Hold>>,
    /// They were told, and the lease was not confirmed since.
    doubted: bool,
    listeners: Vec<Listener>,
    /// Receiving halves of bulk calls on their way to the lane's task, with the connection that they belong to.
    pub(crate) adopted: Vec<(usize, quinn::RecvStream)>,
    /// The next call is written at once: the lane's task has run since the last one, and found no more than one reply, so that others
    /// are not about to call as well.
    pub(crate) writes_at_once: bool,
    /// The lane's task knows that something is owed.
    pub(crate) is_owed_timed: bool,
    /// The host takes no new calls, and why.
    pub(crate) draining: Option<String>,
    /// Nobody uses this session any more: the lanes end when everything is sent.
    pub(crate) closing: bool,
    /// Whoever closes it waits no longer, heard or not.
    left: bool,
}

impl State {
    /// Lets `append` append frames to the main lane, if there is one.
    pub(crate) fn put<R>(&mut self, append: impl FnOnce(&mut Core, Option<&mut Vec<u8>>) -> R) -> R {
        append(&mut self.core, self.pipes[Which::Main as usize].as_mut().map(|pipe| &mut pipe.out))
    }

    /// Whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.pipes[Which::Main as usize].is_some()
    }

    /// For a lane's task. Ready once the session is closing and everything is sent.
    pub(crate) fn poll_flush(&mut self, which: Which, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if which == Which::Main
            && let Some(cause) = self.broken.take()
        {
            return Err(io::Error::other(cause));
        }
        let Some(pipe) = &mut self.pipes[which as usize] else { return Ok(Poll::Ready(())) };
        match &mut pipe.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            known => *known = Some(cx.waker().clone()),
        }
        pipe.woken = false;
        let flushed = pipe.poll_flush(cx)?;
        if pipe.unsent() < UNSENT_BYTES_MAX {
            pipe.room.drain(..).for_each(Waker::wake);
        }
        Ok(if flushed.is_ready() && self.closing { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Expects the reply to a request, for which `waker` is woken, and sends it as soon as there is a connection. Gives the lane's
    /// task if that is to be woken for it.
    fn send(&mut self, class: Class, request: Request, waker: Option<&Waker>) -> (u64, Option<Waker>) {
        let Self { core, pipes, writes_at_once, .. } = self;
        let Some(pipe) = pipes[Which::Main as usize].as_mut() else {
            return (core.send(None, class, Wanted::Reply(waker.cloned()), request), None);
        };
        let at_once = std::mem::take(writes_at_once) && pipe.unsent() == 0;
        let seq = core.send(Some(&mut pipe.out), class, Wanted::Reply(waker.cloned()), request);
        // An error is the lane's to find: it polls the same sink.
        let is_sent = at_once && pipe.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready();
        let wakes = !is_sent && !std::mem::replace(&mut pipe.woken, true);
        (seq, if wakes { pipe.waker.clone() } else { None })
    }

    /// The lane sends nothing more.
    pub(crate) fn finish(&mut self) {
        if let Some(Pipe { sink: Sink::Quic(stream), .. }) = &mut self.pipes[Which::Main as usize] {
            let _ = stream.finish();
        }
    }

    /// Tells the lane's task that there is something to do.
    pub(crate) fn lane(&self, which: Which) -> Option<Waker> {
        self.pipes[which as usize].as_ref().and_then(|pipe| pipe.waker.clone())
    }
}

/// What callers and lanes share.
pub(crate) struct Shared {
    /// As it was dialled.
    pub(crate) address: String,
    /// Its number at the host.
    pub(crate) number: u64,
    pub(crate) limits: Bounds,
    pub(crate) state: Mutex<State>,
    /// Permits for calls that run, and for those that may park. A call's permit comes back with its reply.
    running: Semaphore,
    parked: Semaphore,
    /// Told when the session has ended, or is waited for no longer.
    ended: Notify,
    /// Told when the session is to end soon: whoever makes connections stops.
    pub(crate) closing: Notify,
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
        let mut after = After::default();
        let event = SessionEvent::Ended { cause: ending.cause.clone() };
        {
            let mut state = self.state.lock();
            if state.core.ended().is_some() {
                return;
            }
            state.core.end(ending, &mut after);
            Self::unplug(&mut state, &mut after);
        }
        self.running.close();
        self.parked.close();
        self.settle(after);
        self.ended.notify_waiters();
        self.tell_watching();
        self.tell(&event);
    }

    /// There is no connection any more.
    pub(crate) fn unplugged(&self) {
        let mut after = After::default();
        Self::unplug(&mut self.state.lock(), &mut after);
        self.settle(after);
    }

    fn unplug(state: &mut State, after: &mut After) {
        for pipe in std::mem::take(&mut state.pipes).into_iter().flatten() {
            after.wakers.extend(pipe.room);
            after.wakers.extend(pipe.waker);
        }
        (state.quic, state.broken) = (None, None);
        state.adopted.clear();
    }

    /// A new connection carries on, whose sign-in was begun at `since_ms`: says on it all that the host may not have had. Gives
    /// what is to be sent by other ways.
    pub(crate) fn plug(&self, sink: Sink, quic: Option<quinn::Connection>, since_ms: u64) -> Vec<Bytes> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut pipe = Pipe::new(sink);
        state.core.lease.resumed(since_ms);
        state.doubted = false;
        let bulk = state.core.resume(&mut pipe.out);
        if state.closing {
            state.core.put_owed(&mut pipe.out);
            ClientFrame::Goodbye.put(None, &mut pipe.out);
        }
        state.pipes = [Some(pipe), None];
        state.quic = quic;
        state.generation += 1;
        bulk
    }

    /// A further connection was lost: the lane's task ends its own, and all are made again.
    pub(crate) fn break_off(&self, generation: u64, cause: &str) {
        let lane = {
            let mut state = self.state.lock();
            if state.generation != generation || !state.is_connected() {
                return;
            }
            state.broken = Some(cause.to_owned());
            state.lane(Which::Main)
        };
        lane.into_iter().for_each(Waker::wake);
    }

    /// The connection of a session over QUIC.
    pub(crate) fn quic(&self) -> Option<quinn::Connection> {
        self.state.lock().quic.clone()
    }

    /// Whether the session surely lives, unless the host is gone.
    pub(crate) fn is_believed(&self) -> bool {
        let state = self.state.lock();
        state.core.ended().is_none() && now_ms() < state.core.lease.believed_until_ms()
    }

    /// Tells those who hold something once the lease can no longer be believed in. Returns when to look again.
    pub(crate) fn look_at_lease(&self) -> u64 {
        let (until_ms, doubts) = {
            let mut state = self.state.lock();
            let until_ms = state.core.lease.believed_until_ms();
            let doubts = !state.doubted && until_ms <= now_ms();
            state.doubted = until_ms <= now_ms();
            (until_ms, doubts)
        };
        if doubts {
            tracing::warn!(address = %self.address, session = self.number, "session may have ended: its lease is over");
            self.tell_watching();
            self.tell(&SessionEvent::Doubted);
        }
        until_ms
    }

    fn tell_watching(&self) {
        let watching = std::mem::take(&mut self.state.lock().watching);
        watching.iter().filter_map(Weak::upgrade).for_each(|hold| hold.lose());
    }

    /// Tells `hold` when it may be lost, at once if it may be already.
    pub(crate) fn watch(&self, hold: &Arc<Hold>) {
        {
            let mut state = self.state.lock();
            if state.core.ended().is_none() && now_ms() < state.core.lease.believed_until_ms() {
                state.watching.retain(|hold| hold.strong_count() > 0);
                return state.watching.push(Arc::downgrade(hold));
            }
        }
        hold.lose();
    }

    pub(crate) fn listen(&self, listener: Listener) {
        self.state.lock().listeners.push(listener);
    }

    pub(crate) fn tell(&self, event: &SessionEvent) {
        match event {
            SessionEvent::Ended { cause } => {
                tracing::debug!(address = %self.address, session = self.number, cause, "session ended");
            }
            event => tracing::info!(address = %self.address, session = self.number, ?event, "session"),
        }
        let listeners = self.state.lock().listeners.clone();
        listeners.iter().for_each(|listener| listener(event));
    }

    fn lost(&self, cause: &str) -> Error {
        Error::Connection { address: self.address.clone(), cause: cause.to_owned() }
    }
}

/// The handle that managers and proxies share. The session ends, with a goodbye, when the last one goes.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: tokio::runtime::Handle,
    bulk: Semaphore,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) tables: Tables,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

/// Milliseconds of a clock that goes on while the machine sleeps.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

impl Session {
    /// A session over a signed-in connection, whose sign-in was begun at `since_ms`. Its lane runs on the runtime that this is
    /// called on. `inherited`: what it holds from the start.
    pub(crate) fn start(
        dialer: Dialer,
        limits: Bounds,
        link: Link,
        since_ms: u64,
        inherited: impl Iterator<Item = Ident>,
    ) -> Arc<Self> {
        let mut core = Core::new(Lease::new(limits.lease_ms, since_ms));
        core.inherit(inherited);
        let shared = Arc::new(Shared {
            address: dialer.address().to_owned(),
            number: dialer.session(),
            state: Mutex::new(State {
                core,
                pipes: [Some(Pipe::new(link.sink)), None],
                quic: link.quic,
                broken: None,
                generation: 0,
                watching: Vec::new(),
                doubted: false,
                listeners: Vec::new(),
                adopted: Vec::new(),
                writes_at_once: true,
                is_owed_timed: false,
                draining: None,
                closing: false,
                left: false,
            }),
            running: Semaphore::new(limits.calls_running_max.clamp(1, Semaphore::MAX_PERMITS)),
            parked: Semaphore::new(limits.calls_parked_max.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            ended: Notify::new(),
            closing: Notify::new(),
        });
        let dialer = Arc::new(dialer);
        // The task is not joined: it ends with the session, which `close` waits for.
        tokio::spawn(reconnect::serve(Arc::clone(&shared), Arc::clone(&dialer), link.frames));
        Arc::new(Self {
            shared,
            runtime: tokio::runtime::Handle::current(),
            bulk: Semaphore::new(BULK_CALLS_MAX),
            dialer,
            tables: Tables::default(),
        })
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

    /// Holds an object that the session has a reference to already, or asks for one.
    pub(crate) fn hold_or_adopt(&self, ident: Ident) {
        if !self.shared.state.lock().core.hold_known(ident) {
            self.adopt(ident);
        }
    }

    /// A token of an object leaves this session.
    pub(crate) fn share(&self, ident: Ident) {
        let lane = {
            let mut state = self.shared.state.lock();
            state.put(|core, out| core.share(ident, out));
            state.lane(Which::Main)
        };
        lane.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.goodbye();
    }
}

impl Shared {
    /// Ends the session in good order and waits for that, a second at most.
    pub(crate) async fn close(&self) {
        self.goodbye();
        loop {
            let ended = self.ended.notified();
            {
                let state = self.state.lock();
                if state.left || state.core.ended().is_some() {
                    return;
                }
            }
            ended.await;
        }
    }

    /// Lets those go who wait for the goodbye to be heard. It is said on.
    pub(crate) fn leave(&self) {
        self.state.lock().left = true;
        self.ended.notify_waiters();
    }

    fn goodbye(&self) {
        let lanes: Vec<Waker> = {
            let mut state = self.state.lock();
            if !state.closing {
                state.closing = true;
                state.put(|core, out| {
                    if let Some(out) = out {
                        core.put_owed(out);
                        ClientFrame::Goodbye.put(None, out);
                    }
                });
                // At once if it can be: the lane's task may never run again, in a program that ends with this.
                if let Some(pipe) = &mut state.pipes[Which::Main as usize] {
                    let _ = pipe.poll_flush(&mut Context::from_waker(Waker::noop()));
                }
            }
            [Which::Main, Which::Bulk].into_iter().filter_map(|which| state.lane(which)).collect()
        };
        lanes.into_iter().for_each(Waker::wake);
        self.closing.notify_one();
    }
}
