//! The task of one connection: it sends what callers could not send by themselves and takes replies in.
//!
//! There is one such task for a lane, both directions in one poll, so that a reply wakes one task and
//! that task wakes the caller: no further hop. It ends when the connection does, or when the session says
//! so and everything is sent.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use steward_wire::frame::{self, HostFrame};
use steward_wire::{Ident, Limits, check, value};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};

use crate::core::After;
use crate::session::{Bounds, Shared, Which, now_ms};

/// Acknowledgements and dropped references wait this long for a frame that takes them along.
const OWED_MS_MAX: u64 = 5;
/// Two ticks make a heartbeat's 3 s at most; a short lease makes them shorter.
const TICK_MS_MAX: u64 = 1_500;
/// Room for what is read at once.
const READ_BYTES: usize = 64 << 10;
/// A frame beyond this size keeps the buffer that it was read into.
const LARGE_BYTES: usize = 32 << 10;
/// Streams of bulk replies that are read at once; the host may open no more of them.
pub(crate) const BULK_STREAMS_MAX: u32 = 16;
/// Turns after which the task lets others run.
const TURNS_MAX: usize = 64;

impl Bounds {
    /// How often the lane sees whether anything was sent: silence never lasts half a lease.
    fn tick(&self) -> Duration {
        Duration::from_millis((self.lease_ms / 4).clamp(1, TICK_MS_MAX))
    }
}

/// The sending half of a lane.
#[derive(Debug)]
pub(crate) enum Sink {
    Quic(quinn::SendStream),
    Unix(Arc<UnixStream>),
}

impl Sink {
    /// Writes some of `bytes`. With a no-op waker it is a try: whoever polls next leaves its own waker.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Quic(stream) => Pin::new(stream).poll_write(cx, bytes).map_err(io::Error::from),
            Self::Unix(stream) => loop {
                match stream.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                    written => return Poll::Ready(written),
                }
            },
        }
    }
}

/// The receiving half of a lane, or a stream that carries bulk replies.
#[derive(Debug)]
pub(crate) enum Source {
    Quic(quinn::RecvStream),
    Unix(Arc<UnixStream>),
}

impl Source {
    /// Reads what there is room for; 0 bytes mean the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            // Dropping the future between two polls loses nothing.
            Self::Quic(stream) => pin!(stream.read_buf(buffer)).poll(cx),
            Self::Unix(stream) => loop {
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                    read => return Poll::Ready(read),
                }
            },
        }
    }
}

/// Cuts what a source gives into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    source: Source,
    /// What was read. The first bytes may belong to the frame that was taken last.
    buffer: BytesMut,
    taken: usize,
}

/// A frame without its length.
enum Body<'a> {
    /// In the buffer that it was read into.
    Small(&'a [u8]),
    /// With that buffer, which is its own.
    Large(Bytes),
}

impl std::ops::Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

impl Body<'_> {
    /// Keeps a part of it: that of a large one is not copied.
    fn keep(&self, part: &[u8]) -> Bytes {
        match self {
            Self::Small(_) => Bytes::copy_from_slice(part),
            Self::Large(bytes) => bytes.slice_ref(part),
        }
    }
}

impl Frames {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, buffer: BytesMut::with_capacity(READ_BYTES), taken: 0 }
    }

    /// The next frame's body that is there whole.
    fn next(&mut self, frame_bytes_max: usize) -> io::Result<Option<Body<'_>>> {
        self.buffer.advance(std::mem::take(&mut self.taken));
        let Some(length) = frame::length(&self.buffer) else { return Ok(None) };
        if length > frame_bytes_max {
            let message = format!("host sent a frame of {length} bytes, limit is {frame_bytes_max}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let end = frame::LENGTH_BYTES + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        if length > LARGE_BYTES {
            let mut frame = self.buffer.split_to(end);
            frame.advance(frame::LENGTH_BYTES);
            return Ok(Some(Body::Large(frame.freeze())));
        }
        self.taken = end;
        Ok(Some(Body::Small(&self.buffer[frame::LENGTH_BYTES..end])))
    }

    /// Reads once; 0 bytes mean the end. Call it when [`Frames::next`] has no more.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.advance(std::mem::take(&mut self.taken));
        let read = self.buffer.len();
        if read == self.buffer.capacity() || read == 0 {
            // As much again as has arrived: a length alone makes nobody allocate.
            let missing =
                frame::length(&self.buffer).map_or(0, |length| frame::LENGTH_BYTES + length - read.min(length));
            self.buffer.reserve(missing.min(read).max(READ_BYTES));
        }
        self.source.poll_read(cx, &mut self.buffer)
    }

    fn is_between_frames(&self) -> bool {
        self.buffer.len() == self.taken
    }

    /// The next frame, from a peer that is not signed in yet or does nothing but answer.
    pub(crate) async fn read(&mut self, frame_bytes_max: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(body) = self.next(frame_bytes_max)? {
                return Ok(body.to_vec());
            }
            if std::future::poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The task's own state.
pub(crate) struct Lane {
    which: Which,
    session: Arc<Shared>,
    frames: Frames,
    quic: Option<quinn::Connection>,
    /// Streams of bulk replies, those that the host opened included.
    bulk: Vec<Frames>,
    /// Something has arrived since the last tick.
    arrives: bool,
    /// Runs while something is owed.
    owed: Option<Pin<Box<Sleep>>>,
    tick: Pin<Box<Sleep>>,
}

/// Takes the streams that the host opens for bulk replies to the lane, until the connection ends. A task of its own, since the
/// lane's is polled with every reply.
async fn accept(quic: quinn::Connection, session: Arc<Shared>) {
    while let Ok(stream) = quic.accept_uni().await {
        let lane = {
            let mut state = session.state.lock();
            state.adopted.push((quic.stable_id(), stream));
            state.lane(Which::Main)
        };
        lane.into_iter().for_each(Waker::wake);
    }
}

impl Lane {
    fn new(which: Which, session: &Arc<Shared>, frames: Frames, quic: Option<quinn::Connection>) -> Self {
        let tick = Box::pin(sleep(session.limits.tick()));
        Self { which, session: Arc::clone(session), frames, quic, bulk: Vec::new(), arrives: false, owed: None, tick }
    }

    /// Serves the lane of a session until its connection ends.
    ///
    /// # Errors
    /// Why the connection was lost; otherwise the session is over, and why.
    pub(crate) async fn run_main(
        session: &Arc<Shared>,
        frames: Frames,
        quic: Option<quinn::Connection>,
    ) -> Result<String, String> {
        // Ends with the lane.
        let mut accepting = JoinSet::new();
        if let Some(quic) = &quic {
            accepting.spawn(accept(quic.clone(), Arc::clone(session)));
        }
        let mut lane = Self::new(Which::Main, session, frames, quic);
        let ended = std::future::poll_fn(|cx| lane.poll(cx)).await;
        let (closing, draining) = {
            let state = session.state.lock();
            (state.closing, state.draining.clone())
        };
        // One that is going away has said its goodbye already.
        let is_over = closing && ended.is_ok() && (draining.is_some() || lane.is_seen_off().await);
        if is_over {
            if let Some(quic) = &lane.quic {
                quic.close(0u32.into(), b"goodbye");
            }
            return Ok("session was closed".into());
        }
        let cause = match &ended {
            Ok(()) => "host closed the connection".into(),
            Err(error) => match lane.quic.as_ref().and_then(quinn::Connection::close_reason) {
                Some(reason) => reason.to_string(),
                None => error.to_string(),
            },
        };
        if let Some(quic) = &lane.quic {
            quic.close(0u32.into(), b"lost");
        }
        match (draining, ended) {
            (Some(reason), _) => Ok(format!("host is going away: {reason}")),
            // Whatever sends that would send it again.
            (None, Err(error)) if error.kind() == io::ErrorKind::InvalidData => Ok(cause),
            (None, _) => Err(cause),
        }
    }

    /// Serves the further connection of a session until it ends, which ends the lane's, too, unless that has ended.
    pub(crate) async fn run_further(session: Arc<Shared>, frames: Frames, generation: u64) {
        let mut lane = Self::new(Which::Bulk, &session, frames, None);
        let ended = std::future::poll_fn(|cx| lane.poll(cx)).await;
        let cause = ended.map_or_else(|error| error.to_string(), |()| "host closed a further connection".into());
        if !session.state.lock().closing {
            session.break_off(generation, &cause);
        }
    }

    /// Waits until the host has read the goodbye, which it answers with its own: what is closed before it is read throws away
    /// what is on its way, over QUIC always and on a Unix socket if a reply comes meanwhile. False if the connection is lost
    /// first.
    async fn is_seen_off(&mut self) -> bool {
        self.session.state.lock().finish();
        std::future::poll_fn(|cx| self.poll_seen_off(cx)).await
    }

    /// Replies are passed over, since they cannot be acknowledged any more; but they are read, those on streams of their own,
    /// too: a host that does not get rid of them reads no further.
    fn poll_seen_off(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Takes over streams that were opened meanwhile.
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            return Poll::Ready(false);
        }
        self.bulk.retain_mut(|frames| {
            loop {
                match frames.poll_discard(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return false,
                    Poll::Pending => return true,
                }
            }
        });
        loop {
            let is_goodbye = match self.frames.next(self.session.limits.reply_bytes_max) {
                Ok(Some(body)) => HostFrame::read(&body).map(|frame| matches!(frame, HostFrame::Goodbye { .. })).ok(),
                Ok(None) => match ready!(self.frames.poll_fill(cx)) {
                    Ok(1..) => Some(false),
                    Ok(0) | Err(_) => None,
                },
                Err(_) => None,
            };
            match is_goodbye {
                Some(false) => {}
                Some(true) => return Poll::Ready(true),
                None => return Poll::Ready(false),
            }
        }
    }

    /// One poll: sends, receives, and looks at the timers until nothing moves. Nothing here is lost when the task is
    /// dropped between two polls.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURNS_MAX {
            if self.poll_send(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut moved = false;
            if let Poll::Ready(read) = self.frames.poll_fill(cx)? {
                if read == 0 {
                    return Poll::Ready(if self.frames.is_between_frames() {
                        Ok(())
                    } else {
                        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "host closed the connection within a frame"))
                    });
                }
                self.session.take_in(&mut self.frames)?;
                moved = true;
            }
            moved |= self.poll_bulk(cx)?;
            self.arrives |= moved;
            if !moved {
                self.poll_timers(cx)?;
                // What the timers have added; and what was sent while they were looked at.
                return self.poll_send(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what there is, and takes over streams that were opened meanwhile. Ready once the session is closing and
    /// everything is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.session.state.lock();
        let sent = state.poll_flush(self.which, cx)?;
        if self.which == Which::Main && !state.adopted.is_empty() {
            // One of an earlier connection brings nothing any more.
            let present = self.quic.as_ref().map(quinn::Connection::stable_id);
            let adopted = std::mem::take(&mut state.adopted).into_iter();
            let adopted = adopted.filter(|(connection, _)| Some(*connection) == present);
            self.bulk.extend(adopted.map(|(_, stream)| Frames::new(Source::Quic(stream))));
            // They have never been polled.
            cx.waker().wake_by_ref();
        }
        sent.map(Ok)
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.which != Which::Main {
            // What is owed for the replies that came by this one goes by the main lane, whose task may have no other reason to look.
            let main = {
                let state = self.session.state.lock();
                if state.core.is_owing() && !state.is_owed_timed { state.lane(Which::Main) } else { None }
            };
            main.into_iter().for_each(Waker::wake);
            return Ok(());
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            let now_ms = now_ms();
            let mut state = self.session.state.lock();
            if std::mem::take(&mut self.arrives) {
                state.core.lease.arriving(now_ms);
            }
            if state.core.lease.is_suspect(now_ms) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "host does not answer heartbeats"));
            }
            state.put(|core, out| out.into_iter().for_each(|out| core.tick(now_ms, out)));
            // Not later than an answer becomes suspiciously late: each moment counts until the lease ends.
            let suspect_ms = state.core.lease.suspect_at_ms().map(|at_ms| at_ms.saturating_sub(now_ms).max(1));
            drop(state);
            let tick = self.session.limits.tick();
            let tick = suspect_ms.map_or(tick, |suspect_ms| tick.min(Duration::from_millis(suspect_ms)));
            // The loop polls the new time, or nothing would wake the task at it.
            self.tick.as_mut().reset(Instant::now() + tick);
            self.session.look_at_lease();
        }
        let is_due = self.owed.as_mut().is_some_and(|owed| owed.as_mut().poll(cx).is_ready());
        let mut state = self.session.state.lock();
        if is_due {
            self.owed = None;
            state.is_owed_timed = false;
            state.put(|core, out| out.into_iter().for_each(|out| core.put_owed(out)));
        }
        if self.owed.is_none() && state.core.is_owing() {
            state.is_owed_timed = true;
            drop(state);
            let mut owed = Box::pin(sleep(Duration::from_millis(OWED_MS_MAX)));
            let _ = owed.as_mut().poll(cx);
            self.owed = Some(owed);
        }
        Ok(())
    }

    /// Takes in replies that come on streams of their own.
    fn poll_bulk(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        let mut at = 0;
        while let Some(frames) = self.bulk.get_mut(at) {
            match frames.poll_fill(cx)? {
                Poll::Pending => at += 1,
                Poll::Ready(0) => {
                    self.bulk.swap_remove(at);
                }
                Poll::Ready(_) => {
                    self.session.take_in(frames)?;
                    moved = true;
                    at += 1;
                }
            }
        }
        Ok(moved)
    }
}

impl Frames {
    /// Reads on without looking.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.clear();
        self.taken = 0;
        self.poll_fill(cx)
    }
}

impl Shared {
    /// Takes in every frame that is there whole, under one lock, and wakes the callers after it.
    fn take_in(&self, frames: &mut Frames) -> io::Result<()> {
        let mut after = After::default();
        let taken = {
            let mut state = self.state.lock();
            let mut take = || {
                while let Some(body) = frames.next(self.limits.reply_bytes_max)? {
                    // Sizes are bounded by the frame; what a reply nests is bounded by the check itself.
                    let checked =
                        check(&body, &Limits { depth_max: DEPTH_MAX, items_max: u64::MAX }).map_err(invalid)?;
                    match HostFrame::read(&body).map_err(invalid)? {
                        HostFrame::Reply(reply) => {
                            let mut tokens: Vec<Ident> = Vec::new();
                            if checked.tokens {
                                value::tokens(reply.payload, &mut |ident| tokens.push(ident));
                            }
                            state.core.arrive(&reply, tokens, |payload| body.keep(payload), &mut after);
                        }
                        HostFrame::Heartbeat => state.core.lease.answered(),
                        HostFrame::Goodbye { reason } => {
                            tracing::info!(address = %self.address, reason, "host is going away");
                            state.draining = Some(reason.to_owned());
                        }
                    }
                }
                Ok(())
            };
            let taken = take();
            state.writes_at_once = after.wakers.len() <= 1;
            self.put_releases(&mut state, &mut after);
            taken
        };
        self.settle(after);
        taken
    }
}

/// Nesting of a reply: whatever the wire lets through at all.
const DEPTH_MAX: u32 = steward_wire::check::DEPTH_MAX;

fn invalid(malformed: steward_wire::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("host sent what is no frame: {malformed}"))
}
