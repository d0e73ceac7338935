//! Lanes: ordered byte streams that carry frames both ways.
//!
//! One task serves a lane. It reads what has come, brings each frame to its cell on this very thread, and writes the
//! replies that gathered meanwhile in one go: a call that needs no waiting costs no hop and no wake-up. Replies from
//! elsewhere (another session's step, the clock, the pool) are appended to the same buffer and wake the task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steward_wire::frame::{self, HostFrame, LENGTH_BYTES, Reply};
use steward_wire::{Effect, Fault};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::dispatch;
use crate::limits::Limits;
use crate::session::Session;

/// What a lane's buffers keep while nothing happens; small, since most of many sessions are idle.
const IDLE_BYTES: usize = 8 << 10;
/// How much is read at once.
const READ_BYTES: usize = 32 << 10;
/// Unsent bytes from which on a lane is looked at before it takes another frame.
const FILLING_BYTES: usize = 256 << 10;
/// Bytes of frames that are read while they wait for room on the way out: a client is heard, and answered whether it lives.
const HELD_BACK_BYTES_MAX: usize = 64 << 10;
/// Frames after which the replies so far are sent before more are handled: whoever waits for them need not wait for the rest.
const FRAMES_PER_TURN: usize = 32;
/// What a reply's frame takes beyond its payload, at most.
const REPLY_HEAD_BYTES: usize = 64;

/// The sending side of a lane, shared by all who reply through it.
pub(crate) struct Lane {
    out: Mutex<Out>,
    kind: LaneKind,
    /// Which of its session's connections it belongs to, by [`Session::connection`].
    pub(crate) connection: u64,
    reply_bytes_max: usize,
    bulk_bytes_min: usize,
    /// So much waits to be sent that it is worth a look how much.
    fills_up: AtomicBool,
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Everything, on a transport without streams.
    Whole,
    /// Everything but large frames, which the host sends on streams of their own.
    Main,
    /// The stream of one large call, or a few: the client may close its side and still gets its replies.
    Bulk,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Frames that shall travel on streams of their own.
    bulk: Vec<Bytes>,
    /// The serving task is looking at the buffer by itself and need not be woken.
    served: bool,
    waker: Option<Waker>,
    /// No more frames are taken; what is there is still sent.
    closing: bool,
    /// Calls that came by this lane and have no reply yet.
    owed: usize,
    /// Bytes of bulk frames that are not sent yet, those being sent included.
    bulk_bytes: usize,
    /// Some have left since the serving task looked.
    bulk_moved: bool,
}

impl Lane {
    pub(crate) fn new(limits: &Limits, kind: LaneKind, connection: u64) -> Arc<Self> {
        let bulk_bytes_min = if kind == LaneKind::Main { limits.bulk_bytes_min } else { usize::MAX };
        Arc::new(Self {
            out: Mutex::default(),
            kind,
            connection,
            reply_bytes_max: limits.reply_bytes_max,
            bulk_bytes_min,
            fills_up: AtomicBool::new(false),
        })
    }

    /// A call came by this lane; its reply will go the same way.
    pub(crate) fn owe(&self) {
        self.out.lock().owed += 1;
    }

    /// Sends a reply that nobody keeps, or in place of one that is too large the news of that.
    pub(crate) fn reply(&self, reply: &Reply<'_>) {
        if reply.payload.len() > self.bulk_bytes_min.min(self.reply_bytes_max) {
            return self.push(&encode(reply, self.reply_bytes_max));
        }
        let mut out = self.out.lock();
        if out.take_reply() {
            HostFrame::Reply(*reply).put(&mut out.bytes);
            self.filled(&mut out);
        }
    }

    /// Sends the frame of a reply.
    pub(crate) fn push(&self, frame: &Bytes) {
        let mut out = self.out.lock();
        if !out.take_reply() {
            return;
        }
        if frame.len() > self.bulk_bytes_min {
            out.bulk_bytes += frame.len();
            out.bulk.push(frame.clone());
        } else {
            out.bytes.extend_from_slice(frame);
        }
        self.filled(&mut out);
    }

    fn filled(&self, out: &mut Out) {
        if out.unsent() > FILLING_BYTES {
            self.fills_up.store(true, Ordering::Relaxed);
        }
        out.wake();
    }

    /// Whether nothing is sent by it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.out.lock().closing
    }

    /// Whether it lives, and serves all of its connection.
    pub(crate) fn is_main(&self) -> bool {
        self.kind != LaneKind::Bulk && !self.is_closed()
    }

    /// Answers a heartbeat.
    pub(crate) fn beat(&self) {
        let mut out = self.out.lock();
        if !out.closing {
            HostFrame::Heartbeat.put(&mut out.bytes);
            out.wake();
        }
    }

    /// Whether more than `bytes_max` wait to be sent, large replies included.
    fn is_backed_up(&self, bytes_max: usize) -> bool {
        if !self.fills_up.load(Ordering::Relaxed) {
            return false;
        }
        let out = self.out.lock();
        let is_backed_up = out.unsent() > bytes_max;
        self.fills_up.store(is_backed_up, Ordering::Relaxed);
        is_backed_up
    }

    /// Whether it is large replies that wait to be sent, and it has room of its own.
    fn is_backed_up_by_bulk(&self, bytes_max: usize) -> bool {
        self.out.lock().bytes.len() <= bytes_max
    }

    /// So many bytes of a bulk frame have left.
    pub(crate) fn bulk_sent(&self, bytes: usize) {
        let mut out = self.out.lock();
        out.bulk_bytes -= bytes;
        out.bulk_moved = true;
        out.wake();
    }

    /// Its peer reads no more: forgets what waits to be sent, and takes nothing more.
    fn mute(&self) {
        let mut out = self.out.lock();
        out.closing = true;
        out.bytes = Vec::new();
        out.bulk_bytes -= out.bulk.drain(..).map(|frame| frame.len()).sum::<usize>();
    }

    /// Sends a goodbye and then nothing more.
    pub(crate) fn close(&self, reason: &str) {
        let mut out = self.out.lock();
        if !std::mem::replace(&mut out.closing, true) {
            HostFrame::Goodbye { reason }.put(&mut out.bytes);
            out.wake();
        }
    }
}

/// A lane that no task serves.
#[cfg(feature = "sim")]
impl Lane {
    /// Takes what waits to be sent, a goodbye included.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.out.lock().bytes)
    }

    /// Takes the frames that are to be sent on streams of their own, as if they had been sent there already.
    pub(crate) fn take_bulk(&self) -> Vec<Bytes> {
        let mut out = self.out.lock();
        out.bulk_bytes = 0;
        std::mem::take(&mut out.bulk)
    }

    /// Ends it, as a task does whose peer has closed its side, once nothing is owed; says whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        let mut out = self.out.lock();
        out.closing |= out.owed == 0 && out.bytes.is_empty();
        out.closing && out.bytes.is_empty()
    }

    /// As a task leaves it that has ended.
    pub(crate) fn lose(&self) {
        self.mute();
    }
}

/// A reply's frame, or in place of one that is larger than `reply_bytes_max` the news of that.
pub(crate) fn encode(reply: &Reply<'_>, reply_bytes_max: usize) -> Bytes {
    thread_local! {
        /// Most replies are small: their frames are made here and copied into exactly the room they take.
        static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let bytes = reply.payload.len();
    if bytes > reply_bytes_max {
        let message = format!("result is {bytes} bytes, limit is {reply_bytes_max}");
        let mut payload = Vec::new();
        Fault::raised("ReplyTooLarge", message).put(&mut payload);
        return encode(&Reply { payload: &payload, effect: Effect::Raised, ..*reply }, usize::MAX);
    }
    if bytes > READ_BYTES {
        let mut frame = Vec::with_capacity(bytes + REPLY_HEAD_BYTES);
        HostFrame::Reply(*reply).put(&mut frame);
        return frame.into();
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        HostFrame::Reply(*reply).put(scratch);
        Bytes::copy_from_slice(scratch)
    })
}

/// The payload in a frame that [`encode`] made.
pub(crate) fn payload(frame: &Bytes) -> Vec<u8> {
    match HostFrame::read(&frame[LENGTH_BYTES..]) {
        Ok(HostFrame::Reply(reply)) => reply.payload.to_vec(),
        _ => unreachable!("rows are replies that this host encoded"),
    }
}

impl Out {
    fn unsent(&self) -> usize {
        self.bytes.len() + self.bulk_bytes
    }

    /// A reply is about to be sent; says whether it may.
    fn take_reply(&mut self) -> bool {
        self.owed = self.owed.saturating_sub(1);
        !self.closing
    }

    fn wake(&mut self) {
        if !self.served
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

/// Why a lane ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneEnd {
    /// The peer closed its side, between frames.
    #[error("closed by the peer")]
    Closed,
    /// The host closed it, and everything was sent.
    #[error("closed by the host")]
    Done,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent what is no frame, or too much, or too slowly; it was told so.
    #[error("{0}")]
    Violation(String),
}

/// Serves a lane until it ends. `received` is what was read already. Bulk frames go to `send_bulk`.
pub(crate) async fn serve<R, W>(
    reader: &mut R,
    writer: &mut W,
    received: Vec<u8>,
    lane: &Arc<Lane>,
    session: &Arc<Session>,
    send_bulk: &mut (dyn FnMut(Bytes) + Send),
) -> LaneEnd
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut server = Server {
        lane,
        session,
        received,
        taken: 0,
        sending: Vec::new(),
        sent: 0,
        slow: None,
        violation: None,
        flushing: false,
        unheard: false,
        ended: false,
        rest: Rest::None,
        frames_left: 0,
    };
    // Nothing is lost if this future is dropped between polls: all state is in `server`, which ends with it.
    poll_fn(|cx| {
        lane.out.lock().served = true;
        let polled = server.poll(cx, reader, writer, send_bulk);
        let mut out = lane.out.lock();
        out.served = false;
        if polled.is_pending() {
            out.waker = Some(cx.waker().clone());
            // Something may have been appended between the last look at the buffer and now.
            if !out.bytes.is_empty() && server.sending.is_empty() || !out.bulk.is_empty() {
                cx.waker().wake_by_ref();
            }
        } else {
            out.closing = true;
        }
        polled
    })
    .await
}

struct Server<'a> {
    lane: &'a Arc<Lane>,
    session: &'a Arc<Session>,
    /// Bytes read; those before `taken` belong to frames that were handled.
    received: Vec<u8>,
    taken: usize,
    /// Bytes being written; those before `sent` are.
    sending: Vec<u8>,
    sent: usize,
    /// Runs while a frame is incomplete in either direction.
    slow: Option<Pin<Box<Sleep>>>,
    violation: Option<String>,
    flushing: bool,
    /// The peer reads no more.
    unheard: bool,
    /// The peer has closed its side.
    ended: bool,
    rest: Rest,
    /// Frames that may still be handled in this poll.
    frames_left: usize,
}

/// Why frames that are there whole are not handled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// There are none.
    None,
    /// They wait for room on the way out.
    HeldBack,
    /// They wait for the next poll, since this one has handled so many.
    NextTurn,
}

impl Server<'_> {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        send_bulk: &mut (dyn FnMut(Bytes) + Send),
    ) -> Poll<LaneEnd>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let limits = &self.session.tenant.shared.limits;
        self.frames_left = FRAMES_PER_TURN;
        loop {
            let drained = !self.unheard
                && self.poll_send(cx, writer, send_bulk).unwrap_or_else(|error| {
                    // What it said before it went, a goodbye perhaps, is still there to be read, and counts. It is given
                    // as long as a frame.
                    tracing::debug!(session = self.session.id, %error, "peer reads no more");
                    self.unheard = true;
                    (self.sending, self.sent) = (Vec::new(), 0);
                    self.lane.mute();
                    false
                });
            let (closing, owed, bulk_moved) = {
                let mut out = self.lane.out.lock();
                (out.closing && !self.unheard, out.owed, std::mem::take(&mut out.bulk_moved))
            };
            if bulk_moved {
                // Who takes a large reply may take its time over it, and what waits for that is not late.
                self.slow = None;
            }
            let is_over = match self.lane.kind {
                LaneKind::Bulk => drained && owed == 0,
                LaneKind::Main | LaneKind::Whole => self.rest == Rest::None,
            };
            if self.ended && is_over {
                return Poll::Ready(LaneEnd::Closed);
            }
            if drained && closing {
                return Poll::Ready(self.violation.take().map_or(LaneEnd::Done, LaneEnd::Violation));
            }
            let backed_up = self.sending.len() - self.sent > limits.unsent_bytes_max;
            let mut progress = false;
            let goes_on = match self.rest {
                Rest::None => false,
                Rest::HeldBack => !self.lane.is_backed_up(limits.unsent_bytes_max),
                Rest::NextTurn if self.frames_left == 0 => {
                    // What was written leaves first, which is another task's work.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Rest::NextTurn => true,
            };
            if goes_on && !closing {
                progress = true;
                self.take_frames();
            } else if !closing && !backed_up && !self.ended && self.reads_on() {
                match self.poll_receive(cx, reader) {
                    Poll::Ready(Ok(0)) if self.lane.kind == LaneKind::Bulk && self.received.is_empty() => {
                        (self.ended, progress) = (true, true);
                    }
                    // What was said before it closed is still to be done.
                    Poll::Ready(Ok(0)) if self.rest == Rest::HeldBack => (self.ended, progress) = (true, true),
                    Poll::Ready(Ok(0)) => return Poll::Ready(LaneEnd::Closed),
                    Poll::Ready(Ok(_)) => {
                        let now_ms = self.session.tenant.shared.clock.now_ms();
                        self.session.heard(now_ms);
                        progress = true;
                        self.take_frames();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(error.into()),
                    Poll::Pending => {}
                }
            }
            if progress {
                continue;
            }
            let partial = !self.received.is_empty() || !drained;
            if !partial {
                self.slow = None;
                return Poll::Pending;
            }
            let frame_ms_max = limits.frame_ms_max;
            let slow = self.slow.get_or_insert_with(|| {
                Box::pin(tokio::time::sleep_until(Instant::now() + Duration::from_millis(frame_ms_max)))
            });
            if slow.as_mut().poll(cx).is_ready() {
                return Poll::Ready(LaneEnd::Violation(format!("a frame took longer than {frame_ms_max} ms")));
            }
            return Poll::Pending;
        }
    }

    /// Whether more is read. Behind frames that wait for room, some is: it may be of no use yet, but says that the client lives.
    fn reads_on(&self) -> bool {
        match self.rest {
            Rest::None => true,
            Rest::HeldBack => self.lane.kind == LaneKind::Main && self.received.len() < HELD_BACK_BYTES_MAX,
            Rest::NextTurn => false,
        }
    }

    /// Writes what there is; says whether that was everything.
    fn poll_send<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        send_bulk: &mut (dyn FnMut(Bytes) + Send),
    ) -> io::Result<bool> {
        loop {
            if self.sent == self.sending.len() {
                self.sending.clear();
                self.sent = 0;
                let mut out = self.lane.out.lock();
                for frame in out.bulk.drain(..) {
                    send_bulk(frame);
                }
                if out.bytes.is_empty() {
                    if self.sending.capacity() > IDLE_BYTES {
                        self.sending = Vec::new();
                    }
                    drop(out);
                    if !self.flushing {
                        return Ok(true);
                    }
                    return match Pin::new(&mut *writer).poll_flush(cx)? {
                        Poll::Ready(()) => {
                            self.flushing = false;
                            Ok(true)
                        }
                        Poll::Pending => Ok(false),
                    };
                }
                std::mem::swap(&mut self.sending, &mut out.bytes);
            }
            match Pin::new(&mut *writer).poll_write(cx, &self.sending[self.sent..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.sent += written;
                    self.slow = None;
                    self.flushing = true;
                }
                Poll::Pending => return Ok(false),
            }
        }
    }

    fn poll_receive<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<usize>> {
        let mut room = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        match Pin::new(reader).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
                self.received.extend_from_slice(room.filled());
                Poll::Ready(Ok(room.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes what is there whole; what is no frame closes the lane.
    fn take_frames(&mut self) {
        if let Err(reason) = self.handle_frames() {
            self.lane.close(&reason);
            self.violation = Some(reason);
            // It would only be sent again.
            self.session.end(false);
        }
    }

    /// Brings every complete frame to where it belongs. The error is for the peer.
    fn handle_frames(&mut self) -> Result<(), String> {
        self.rest = Rest::None;
        let session = self.session;
        let limit = session.tenant.shared.limits.request_bytes_max;
        let unsent_bytes_max = session.tenant.shared.limits.unsent_bytes_max;
        while let Some(length) = frame::length(&self.received[self.taken..]) {
            if self.frames_left == 0 {
                self.rest = Rest::NextTurn;
                break;
            }
            if length > limit {
                return Err(format!("frame is {length} bytes, limit is {limit}"));
            }
            let start = self.taken + LENGTH_BYTES;
            let Some(body) = self.received.get(start..start + length) else { break };
            // Replies may be many times their calls: the rest waits until these have left.
            if self.lane.is_backed_up(unsent_bytes_max)
                && !(self.lane.is_backed_up_by_bulk(unsent_bytes_max) && dispatch::asks_for_nothing(session, body))
            {
                self.rest = Rest::HeldBack;
                break;
            }
            dispatch::frame(session, self.lane, body)?;
            self.taken = start + length;
            self.frames_left -= 1;
            self.slow = None;
        }
        self.received.drain(..self.taken);
        self.taken = 0;
        if self.received.is_empty() && self.received.capacity() > IDLE_BYTES {
            self.received = Vec::new();
        }
        Ok(())
    }
}
