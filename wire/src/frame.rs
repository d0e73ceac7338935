//! Frames: what travels in a lane.
//!
//! A frame is a 4-byte big-endian length, then one CBOR array of that many bytes. The array starts
//! with the kind. A client's frame then has its acknowledgements (or null), so that any of them may
//! carry some. Payloads (arguments, results, chunks) stand in the array as they are and are borrowed
//! from the received bytes. Trailing optional fields that are absent are left out, and fields that a
//! reader does not know at the end of an array are skipped: that is how frames grow.

use crate::Malformed;
use crate::cbor::{self, Reader};
use crate::fault::{Effect, Fault};
use crate::token::Ident;

/// Bytes of the length that precedes every frame.
pub const LENGTH_BYTES: usize = 4;

/// A frame may not carry more calls in a batch; one that does is malformed.
pub const BATCH_CALLS_MAX: usize = 256;

/// A frame may not add, nor drop, more references; one that does is malformed, so a client sends several.
pub const REFS_MAX: usize = 4096;

/// A frame may not carry more ranges of acknowledgements; one that does is malformed. A host that keeps 1,024
/// replies needs no more.
pub const ACKED_RANGES_MAX: usize = 1024;

mod kind {
    pub(super) const CREATE: u64 = 1;
    pub(super) const CALL: u64 = 2;
    pub(super) const REPLY: u64 = 3;
    pub(super) const CANCEL: u64 = 4;
    pub(super) const REFS: u64 = 5;
    pub(super) const ACK: u64 = 6;
    pub(super) const HEARTBEAT: u64 = 7;
    pub(super) const FORK: u64 = 8;
    pub(super) const GOODBYE: u64 = 9;
    pub(super) const DESCRIBE: u64 = 10;
    pub(super) const UPLOAD: u64 = 11;
    pub(super) const BATCH: u64 = 12;
}

/// Which replies a client has: all below `floor`, and those in `ranges` (both ends included).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// Every reply to a smaller seq has arrived.
    pub floor: u64,
    /// Further ones, ascending, as first and last seq.
    pub ranges: Vec<(u64, u64)>,
}

/// A method, by its place in the type's method table or by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Place in the table that `Describe` answers with.
    Index(u16),
    /// Its name, looked up by the host.
    Name(&'a str),
}

/// A condition on a call: refused as `StaleFence` once `lock` is no longer held under `fence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The Lock, RLock or Condition, or an object of a plugin that grants.
    pub lock: Ident,
    /// The fence its grant came with.
    pub fence: u64,
}

/// One call of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Number of this call in its session; never reused there.
    pub seq: u64,
    /// The referent.
    pub ident: Ident,
    /// Which of the client's threads or tasks calls: a counter per client process, never reused.
    pub owner: u64,
    /// What to call.
    pub method: Method<'a>,
    /// The arguments, one encoded item: `[[positional…], {keyword: …}]`.
    pub args: &'a [u8],
    /// How long the call may stay parked, counted by the host from its arrival; `None`: for ever,
    /// `Some(0)`: it may not park.
    pub deadline_ms: Option<u64>,
    /// Only while this lock is held.
    pub guard: Option<Guard>,
}

/// Makes an object of a registered type; answered with its token. What the type offers, [`ClientFrame::Describe`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create<'a> {
    /// Number of this call in its session.
    pub seq: u64,
    /// As in [`Call`].
    pub owner: u64,
    /// The registered name.
    pub typeid: &'a str,
    /// The constructor's arguments, shaped as in [`Call::args`].
    pub args: &'a [u8],
    /// A name for the object; if it exists already it is returned instead.
    pub name: Option<&'a str>,
    /// How long the name may stand for an object that no session refers to; `None`: until it is deleted.
    pub idle_ms: Option<u64>,
}

/// A change of the references that a session holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refs {
    /// Idents that the client got outside this session (a token in a file, from another process).
    pub incref: Vec<Ident>,
    /// Idents of which it has no proxy left, with how often it has received each since it last dropped it.
    pub drop: Vec<(Ident, u64)>,
    /// Place of this frame among those of its kind in the session, from 1: one that comes again after a reconnect is
    /// known by it and changes nothing. 0: not counted.
    pub number: u64,
    /// Idents whose tokens left the session for another process or a file: should nothing else keep them, they
    /// stay for a grace period.
    pub shared: Vec<Ident>,
}

/// What to describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Every type of the tenant.
    All,
    /// A type.
    Typeid(&'a str),
    /// The type of an object.
    Object(Ident),
}

/// One chunk of a plugin on its way to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload<'a> {
    /// Number of this call in its session; every chunk has its own.
    pub seq: u64,
    /// Chosen by the client, the same for all chunks of one component.
    pub upload: u64,
    /// Where the chunk belongs.
    pub offset: u64,
    /// Size of the whole.
    pub total: u64,
    /// The bytes.
    pub chunk: &'a [u8],
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// Make an object.
    Create(Create<'a>),
    /// Call a method.
    Call(Call<'a>),
    /// Several calls, executed in order.
    Batch(Vec<Call<'a>>),
    /// Give up on a call: a parked one is cancelled, any other runs on.
    Cancel {
        /// The call.
        seq: u64,
    },
    /// Change references.
    Refs(Refs),
    /// Nothing but the acknowledgements.
    Ack,
    /// Nothing at all: renews the lease, and is answered with the same.
    Heartbeat,
    /// Make an unclaimed child session that holds the same references; answered with its number, its secret and
    /// the idents of what it holds.
    Fork {
        /// Number of this call in its session.
        seq: u64,
    },
    /// The client ends its session in good order.
    Goodbye,
    /// Describe types.
    Describe {
        /// Number of this call in its session.
        seq: u64,
        /// What to describe.
        subject: Subject<'a>,
    },
    /// Send a part of a plugin.
    Upload(Upload<'a>),
}

/// A grant that came with a reply: its fence, and whether the previous holder was lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Rises with every grant of the same object.
    pub fence: u64,
    /// Whether the previous holder's session ended while it held.
    pub abandoned: bool,
}

/// The answer to a frame with a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The call.
    pub seq: u64,
    /// What became of it.
    pub effect: Effect,
    /// The result as one encoded item; for any effect but `Returned` an encoded fault.
    pub payload: &'a [u8],
    /// The object's incarnation.
    pub epoch: u64,
    /// The object's version after the step.
    pub version: u64,
    /// The reply's place among those of that step.
    pub index: u64,
    /// Present if the call was granted a lock or permit.
    pub grant: Option<Grant>,
}

/// What a host sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFrame<'a> {
    /// An answer.
    Reply(Reply<'a>),
    /// Answers a client's heartbeat, in order: the host has heard from the session.
    Heartbeat,
    /// The host drains: no new calls are taken, what is parked is cancelled.
    Goodbye {
        /// Why, for people.
        reason: &'a str,
    },
}

/// Appends one frame, length first; `body` appends the array.
fn put_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    body(out);
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("senders bound frames far below 4 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The length of the body of the frame that `bytes` starts with, or `None` while fewer than [`LENGTH_BYTES`] are there.
/// It is the peer's word: compare it with the limit before making room.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_be_bytes(*length) as usize)
}

impl Acked {
    fn put(&self, out: &mut Vec<u8>) {
        cbor::put_array(out, 1 + 2 * self.ranges.len());
        cbor::put_u64(out, self.floor);
        for &(first, last) in &self.ranges {
            cbor::put_u64(out, first);
            cbor::put_u64(out, last);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        if reader.null() {
            return Ok(None);
        }
        let items = reader.array()?;
        if items % 2 == 0 {
            return Err(Malformed::Frame("acknowledgements are a floor and pairs"));
        }
        if items / 2 > ACKED_RANGES_MAX {
            return Err(Malformed::Frame("too many ranges of acknowledgements"));
        }
        let mut acked = Self { floor: reader.u64()?, ranges: Vec::new() };
        let mut above = acked.floor;
        for _ in 0..items / 2 {
            let (first, last) = (reader.u64()?, reader.u64()?);
            if first < above || last < first {
                return Err(Malformed::Frame("acknowledged ranges ascend and do not overlap"));
            }
            above = last.saturating_add(1);
            acked.ranges.push((first, last));
        }
        Ok(Some(acked))
    }
}

impl Create<'_> {
    fn fields(&self) -> usize {
        if self.idle_ms.is_some() { 6 } else { 4 + usize::from(self.name.is_some()) }
    }
}

impl Refs {
    fn fields(&self) -> usize {
        if self.shared.is_empty() { 2 + usize::from(self.number > 0) } else { 4 }
    }
}

impl<'a> Call<'a> {
    /// Appends the call's fields, of which there are [`Self::fields`].
    fn put(&self, out: &mut Vec<u8>) {
        cbor::put_u64(out, self.seq);
        cbor::put_u64(out, self.ident.0);
        cbor::put_u64(out, self.owner);
        match self.method {
            Method::Index(index) => cbor::put_u64(out, u64::from(index)),
            Method::Name(name) => cbor::put_text(out, name),
        }
        out.extend_from_slice(self.args);
        if self.deadline_ms.is_some() || self.guard.is_some() {
            match self.deadline_ms {
                Some(ms) => cbor::put_u64(out, ms),
                None => cbor::put_null(out),
            }
        }
        if let Some(guard) = self.guard {
            cbor::put_array(out, 2);
            cbor::put_u64(out, guard.lock.0);
            cbor::put_u64(out, guard.fence);
        }
    }

    fn fields(&self) -> usize {
        if self.guard.is_some() { 7 } else { 5 + usize::from(self.deadline_ms.is_some()) }
    }

    fn read(reader: &mut Reader<'a>, fields: usize) -> Result<Self, Malformed> {
        if fields < 5 {
            return Err(Malformed::Frame("a call has at least five fields"));
        }
        let (seq, ident, owner) = (reader.u64()?, Ident(reader.u64()?), reader.u64()?);
        let method = match reader.peek() {
            Some(first) if first >> 5 == 3 => Method::Name(reader.text()?),
            _ => Method::Index(u16::try_from(reader.u64()?).map_err(|_| Malformed::Frame("method index above 65535"))?),
        };
        let args = reader.raw()?;
        let deadline_ms = if fields > 5 && !reader.null() { Some(reader.u64()?) } else { None };
        let guard = if fields > 6 && !reader.null() {
            if reader.array()? != 2 {
                return Err(Malformed::Frame("a guard is a lock and a fence"));
            }
            Some(Guard { lock: Ident(reader.u64()?), fence: reader.u64()? })
        } else {
            None
        };
        skip(reader, fields.saturating_sub(7))?;
        Ok(Self { seq, ident, owner, method, args, deadline_ms, guard })
    }
}

fn skip(reader: &mut Reader<'_>, fields: usize) -> Result<(), Malformed> {
    for _ in 0..fields {
        reader.raw()?;
    }
    Ok(())
}

/// Skips the last fields, which a later version may know, and makes sure that the frame ends there.
fn close(mut reader: Reader<'_>, fields: usize) -> Result<(), Malformed> {
    skip(&mut reader, fields)?;
    match reader.remaining() {
        0 => Ok(()),
        trailing => Err(Malformed::Trailing(trailing)),
    }
}

impl<'a> ClientFrame<'a> {
    /// Appends the frame, length first.
    pub fn put(&self, acked: Option<&Acked>, out: &mut Vec<u8>) {
        put_frame(out, |out| {
            let (kind, fields) = match self {
                Self::Create(create) => (kind::CREATE, create.fields()),
                Self::Call(call) => (kind::CALL, call.fields()),
                Self::Batch(calls) => (kind::BATCH, calls.len()),
                Self::Cancel { .. } => (kind::CANCEL, 1),
                Self::Refs(refs) => (kind::REFS, refs.fields()),
                Self::Ack => (kind::ACK, 0),
                Self::Heartbeat => (kind::HEARTBEAT, 0),
                Self::Fork { .. } => (kind::FORK, 1),
                Self::Goodbye => (kind::GOODBYE, 0),
                Self::Describe { .. } => (kind::DESCRIBE, 2),
                Self::Upload(_) => (kind::UPLOAD, 5),
            };
            cbor::put_array(out, 2 + fields);
            cbor::put_u64(out, kind);
            match acked {
                Some(acked) => acked.put(out),
                None => cbor::put_null(out),
            }
            match self {
                Self::Create(create) => {
                    cbor::put_u64(out, create.seq);
                    cbor::put_u64(out, create.owner);
                    cbor::put_text(out, create.typeid);
                    out.extend_from_slice(create.args);
                    match create.name {
                        Some(name) => cbor::put_text(out, name),
                        None if create.idle_ms.is_some() => cbor::put_null(out),
                        None => {}
                    }
                    if let Some(idle_ms) = create.idle_ms {
                        cbor::put_u64(out, idle_ms);
                    }
                }
                Self::Call(call) => call.put(out),
                Self::Batch(calls) => {
                    for call in calls {
                        cbor::put_array(out, call.fields());
                        call.put(out);
                    }
                }
                Self::Cancel { seq } | Self::Fork { seq } => cbor::put_u64(out, *seq),
                Self::Refs(refs) => {
                    cbor::put_array(out, refs.incref.len());
                    for ident in &refs.incref {
                        cbor::put_u64(out, ident.0);
                    }
                    cbor::put_array(out, 2 * refs.drop.len());
                    for (ident, received) in &refs.drop {
                        cbor::put_u64(out, ident.0);
                        cbor::put_u64(out, *received);
                    }
                    if refs.number > 0 || !refs.shared.is_empty() {
                        cbor::put_u64(out, refs.number);
                    }
                    if !refs.shared.is_empty() {
                        cbor::put_array(out, refs.shared.len());
                        for ident in &refs.shared {
                            cbor::put_u64(out, ident.0);
                        }
                    }
                }
                Self::Ack | Self::Heartbeat | Self::Goodbye => {}
                Self::Describe { seq, subject } => {
                    cbor::put_u64(out, *seq);
                    match subject {
                        Subject::All => cbor::put_null(out),
                        Subject::Typeid(typeid) => cbor::put_text(out, typeid),
                        Subject::Object(ident) => cbor::put_u64(out, ident.0),
                    }
                }
                Self::Upload(upload) => {
                    cbor::put_u64(out, upload.seq);
                    cbor::put_u64(out, upload.upload);
                    cbor::put_u64(out, upload.offset);
                    cbor::put_u64(out, upload.total);
                    cbor::put_bytes(out, upload.chunk);
                }
            }
        });
    }

    /// Reads a frame's body (what follows the length). The body must have passed [`crate::check()`], since payloads are
    /// handed out as they are.
    ///
    /// # Errors
    /// [`Malformed::Frame`] for an array that is no frame, and what the reader finds.
    pub fn read(body: &'a [u8]) -> Result<(Self, Option<Acked>), Malformed> {
        let mut reader = Reader::new(body);
        let fields = reader.array()?.checked_sub(2).ok_or(Malformed::Frame("a frame has at least two fields"))?;
        let kind = reader.u64()?;
        let acked = Acked::read(&mut reader)?;
        let least = match kind {
            kind::CREATE => 4,
            kind::CALL | kind::UPLOAD => 5,
            kind::CANCEL | kind::FORK => 1,
            kind::REFS | kind::DESCRIBE => 2,
            _ => 0,
        };
        if fields < least {
            return Err(Malformed::Frame("fields are missing"));
        }
        let (frame, read) = match kind {
            kind::CREATE => {
                let (seq, owner) = (reader.u64()?, reader.u64()?);
                let (typeid, args) = (reader.text()?, reader.raw()?);
                let name = if fields > 4 && !reader.null() { Some(reader.text()?) } else { None };
                let idle_ms = if fields > 5 && !reader.null() { Some(reader.u64()?) } else { None };
                (Self::Create(Create { seq, owner, typeid, args, name, idle_ms }), fields.min(6))
            }
            kind::CALL => (Self::Call(Call::read(&mut reader, fields)?), fields),
            kind::BATCH => {
                if fields > BATCH_CALLS_MAX {
                    return Err(Malformed::Frame("too many calls in a batch"));
                }
                let mut calls = Vec::new();
                for _ in 0..fields {
                    let inner = reader.array()?;
                    calls.push(Call::read(&mut reader, inner)?);
                }
                (Self::Batch(calls), fields)
            }
            kind::CANCEL => (Self::Cancel { seq: reader.u64()? }, 1),
            kind::REFS => {
                let mut refs = Refs::default();
                let items = reader.array()?;
                if items > REFS_MAX {
                    return Err(Malformed::Frame("too many references in one frame"));
                }
                // Exact room, but no more than the bytes at hand can fill.
                refs.incref.reserve_exact(items.min(reader.remaining()));
                for _ in 0..items {
                    refs.incref.push(Ident(reader.u64()?));
                }
                let items = reader.array()?;
                if items % 2 != 0 {
                    return Err(Malformed::Frame("dropped references come with their counts"));
                }
                if items / 2 > REFS_MAX {
                    return Err(Malformed::Frame("too many references in one frame"));
                }
                refs.drop.reserve_exact(items.min(reader.remaining()) / 2);
                for _ in 0..items / 2 {
                    refs.drop.push((Ident(reader.u64()?), reader.u64()?));
                }
                if fields > 2 {
                    refs.number = reader.u64()?;
                }
                if fields > 3 {
                    let items = reader.array()?;
                    if items > REFS_MAX {
                        return Err(Malformed::Frame("too many references in one frame"));
                    }
                    refs.shared.reserve_exact(items.min(reader.remaining()));
                    for _ in 0..items {
                        refs.shared.push(Ident(reader.u64()?));
                    }
                }
                (Self::Refs(refs), fields.min(4))
            }
            kind::ACK => (Self::Ack, 0),
            kind::HEARTBEAT => (Self::Heartbeat, 0),
            kind::FORK => (Self::Fork { seq: reader.u64()? }, 1),
            kind::GOODBYE => (Self::Goodbye, 0),
            kind::DESCRIBE => {
                let seq = reader.u64()?;
                let subject = match reader.peek() {
                    Some(cbor::NULL) => {
                        reader.null();
                        Subject::All
                    }
                    Some(first) if first >> 5 == 3 => Subject::Typeid(reader.text()?),
                    _ => Subject::Object(Ident(reader.u64()?)),
                };
                (Self::Describe { seq, subject }, 2)
            }
            kind::UPLOAD => {
                let (seq, upload) = (reader.u64()?, reader.u64()?);
                let (offset, total) = (reader.u64()?, reader.u64()?);
                (Self::Upload(Upload { seq, upload, offset, total, chunk: reader.bytes()? }), 5)
            }
            kind::REPLY => return Err(Malformed::Frame("a reply from a client")),
            _ => return Err(Malformed::Frame("unknown kind")),
        };
        close(reader, fields - read)?;
        Ok((frame, acked))
    }
}

impl<'a> HostFrame<'a> {
    /// Appends the frame, length first.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_frame(out, |out| match self {
            Self::Reply(reply) => {
                cbor::put_array(out, if reply.grant.is_some() { 8 } else { 7 });
                cbor::put_u64(out, kind::REPLY);
                cbor::put_u64(out, reply.seq);
                cbor::put_u64(out, reply.effect as u64);
                out.extend_from_slice(reply.payload);
                cbor::put_u64(out, reply.epoch);
                cbor::put_u64(out, reply.version);
                cbor::put_u64(out, reply.index);
                if let Some(grant) = reply.grant {
                    cbor::put_array(out, 2);
                    cbor::put_u64(out, grant.fence);
                    cbor::put_bool(out, grant.abandoned);
                }
            }
            Self::Heartbeat => {
                cbor::put_array(out, 1);
                cbor::put_u64(out, kind::HEARTBEAT);
            }
            Self::Goodbye { reason } => {
                cbor::put_array(out, 2);
                cbor::put_u64(out, kind::GOODBYE);
                cbor::put_text(out, reason);
            }
        });
    }

    /// Reads a frame's body (what follows the length), as [`ClientFrame::read`].
    ///
    /// # Errors
    /// [`Malformed`], as there.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let fields = reader.array()?;
        let (frame, read) = match reader.u64()? {
            kind::REPLY if fields >= 7 => {
                let seq = reader.u64()?;
                let effect = Effect::from_code(reader.u64()?).ok_or(Malformed::Frame("unknown effect in a reply"))?;
                let payload = reader.raw()?;
                let (epoch, version, index) = (reader.u64()?, reader.u64()?, reader.u64()?);
                let grant = if fields > 7 && !reader.null() {
                    if reader.array()? != 2 {
                        return Err(Malformed::Frame("a grant is a fence and a flag"));
                    }
                    Some(Grant { fence: reader.u64()?, abandoned: reader.bool()? })
                } else {
                    None
                };
                (Self::Reply(Reply { seq, effect, payload, epoch, version, index, grant }), fields.min(8))
            }
            kind::HEARTBEAT if fields >= 1 => (Self::Heartbeat, 1),
            kind::GOODBYE if fields >= 2 => (Self::Goodbye { reason: reader.text()? }, 2),
            _ => return Err(Malformed::Frame("not a frame of a host")),
        };
        close(reader, fields - read)?;
        Ok(frame)
    }
}

impl Fault {
    /// Appends the fault as a reply's payload: `[kind, message, data, retryable]`. Its effect travels
    /// in the reply.
    pub fn put(&self, out: &mut Vec<u8>) {
        cbor::put_array(out, 4);
        cbor::put_text(out, &self.kind);
        cbor::put_text(out, &self.message);
        match &self.data {
            Some(data) => out.extend_from_slice(data),
            None => cbor::put_null(out),
        }
        cbor::put_bool(out, self.retryable);
    }

    /// Reads what [`Fault::put`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] if the payload has another shape.
    pub fn read(effect: Effect, payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.array()? < 4 {
            return Err(Malformed::Frame("a fault has four fields"));
        }
        let (kind, message) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        let data = if reader.null() { None } else { Some(reader.raw()?.to_vec()) };
        Ok(Self { effect, kind, message, data, retryable: reader.bool()? })
    }
}
