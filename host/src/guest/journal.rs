//! What an object was stepped with since it was saved: enough to make it again as it is.
//!
//! The same inputs in the same order, with their times and seeds, give the same object. So the journal begins with a
//! base (the constructor's arguments, or a saved state) and lists every input since that may have changed something,
//! each with a digest of the outcome that was accepted. Calls that waited when the base was made are not part of a saved
//! state and are brought again before anything else: those that wait still are known to the object, those that were
//! answered since stand here.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;

use steward_objects::{Args, Call, CallId, Effect, Fault, Input, Owner, Why};
use steward_wire::Malformed;
use steward_wire::cbor::{self, Reader};

use super::Isolation;
use super::bindings::steward::plugin::types as wit;

/// Bytes of journal that an object may have, if it saves: then it saves and begins anew. One that does not save gives up
/// being made again at this size.
pub(super) const JOURNAL_BYTES_MAX: usize = 64 << 10;

/// Bytes of journal that an object of its own Store may have before it saves: little beside the Store.
const JOURNAL_BYTES_MIN: usize = 4 << 10;

/// The same where objects share: a few of their calls, that they may stay small.
const SHARED_JOURNAL_BYTES_MIN: usize = 512;

/// A call that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its number as the type is registered, which versions share.
    pub(super) method: u16,
    pub(super) owner: Owner,
    pub(super) seed: u64,
    pub(super) args: Box<[u8]>,
    pub(super) tokens: bool,
}

impl Waiting {
    /// The call as an input, brought at this time.
    pub(super) fn call(&self, id: CallId, now_ms: u64) -> Call<'_> {
        let Self { method, owner, seed, ref args, tokens } = *self;
        Call { id, facet: 0, method, owner, now_ms, seed, args: Args::new(args, tokens) }
    }
}

/// When an object wishes to be woken, if it does, in no more bytes than the time has: there are many objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish(Option<NonZeroU64>);

impl Wish {
    /// The first millisecond of the clock is as long past as the second.
    pub(super) fn new(at_ms: Option<u64>) -> Self {
        Self(at_ms.and_then(|at_ms| NonZeroU64::new(at_ms.max(1))))
    }

    pub(super) fn at_ms(self) -> Option<u64> {
        self.0.map(NonZeroU64::get)
    }
}

/// Where a journal begins.
#[derive(Debug)]
pub(super) struct Base {
    /// The version that saved `item`; `None`: `item` is the constructor's arguments, and empty if there are none.
    pub(super) saved_by: Option<Arc<str>>,
    pub(super) item: Box<[u8]>,
    /// When that was, and the seed that it is made from.
    pub(super) now_ms: u64,
    pub(super) seed: u64,
    /// When the object then wished to be woken.
    pub(super) wish: Wish,
    /// Calls up to this one, if they waited then, are brought again.
    pub(super) mark: CallId,
}

/// The inputs of one object since its base.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) base: Base,
    bytes: Vec<u8>,
    last_ms: u64,
    /// At this many bytes the object is to be saved.
    save_at_bytes: u32,
    /// Whole ticks of CPU time that its steps took.
    ticks: u32,
}

/// What stands in a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// A call that waited when the base was made, and was answered since.
    Waited(CallId, Waiting),
    /// An input and the digest of its outcome.
    Stepped { input: Recorded<'a>, seed: u64, digest: u64 },
}

/// An input as it stands in a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded<'a> {
    Call { id: CallId, method: u16, owner: Owner, args: &'a [u8], now_ms: u64 },
    Cancel { call: CallId, why: Why, now_ms: u64 },
    OwnerLost { session: u64, orderly: bool, now_ms: u64 },
    Undelivered { call: CallId, method: u16, payload: &'a [u8], sent: bool, now_ms: u64 },
    Returned { tag: u64, outcome: Result<&'a [u8], Fault>, now_ms: u64 },
    Tick { now_ms: u64 },
}

mod kind {
    pub(super) const WAITED: u64 = 0;
    pub(super) const CALL: u64 = 1;
    pub(super) const CANCEL: u64 = 2;
    pub(super) const OWNER_LOST: u64 = 3;
    pub(super) const UNDELIVERED: u64 = 4;
    pub(super) const RETURNED: u64 = 5;
    pub(super) const FAILED: u64 = 6;
    pub(super) const TICK: u64 = 7;
}

impl Journal {
    /// An empty journal.
    pub(super) fn new(base: Base, isolation: Isolation) -> Self {
        let least = match isolation {
            Isolation::Object => JOURNAL_BYTES_MIN,
            Isolation::Shared => SHARED_JOURNAL_BYTES_MIN,
        };
        let save_at_bytes = (4 * base.item.len()).clamp(least, JOURNAL_BYTES_MAX);
        let save_at_bytes = u32::try_from(save_at_bytes).expect("the limit is far below");
        Self { last_ms: base.now_ms, base, bytes: Vec::new(), save_at_bytes, ticks: 0 }
    }

    /// Whether it is time for a new base: it is long, or its steps would take too long once more.
    pub(super) fn is_due(&self, ticks_max: u32) -> bool {
        self.bytes.len() > self.save_at_bytes as usize || self.ticks > ticks_max
    }

    /// The entries' bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.base.item.len()
    }

    /// Says that the object could not be saved: it is asked again when there is twice as much to lose, and at the limit.
    pub(super) fn put_off(&mut self) {
        let twice = self.bytes.len().max(self.save_at_bytes as usize).saturating_mul(2);
        self.save_at_bytes = u32::try_from(twice.min(JOURNAL_BYTES_MAX)).expect("the limit is far below");
        self.ticks = 0;
    }

    /// Adds a call that waited when the base was made and has just been answered.
    pub(super) fn waited(&mut self, id: CallId, waiting: &Waiting) {
        let Waiting { method, owner, seed, args, tokens } = waiting;
        let out = &mut self.bytes;
        cbor::put_u64(out, kind::WAITED);
        cbor::put_u64(out, id);
        cbor::put_u64(out, u64::from(*method));
        cbor::put_u64(out, owner.session);
        cbor::put_u64(out, owner.thread);
        out.extend_from_slice(&seed.to_be_bytes());
        cbor::put_bool(out, *tokens);
        cbor::put_bytes(out, args);
    }

    /// Adds a step that went well and took so many ticks. `Join` and `Leave`, which reach no guest, are none.
    pub(super) fn stepped(&mut self, input: &Input<'_>, seed: u64, digest: u64, ticks: u32) {
        let out = &mut self.bytes;
        let (kind, now_ms) = match *input {
            Input::Call(call) => (kind::CALL, call.now_ms),
            Input::Cancel { now_ms, .. } => (kind::CANCEL, now_ms),
            Input::OwnerLost { now_ms, .. } => (kind::OWNER_LOST, now_ms),
            Input::Undelivered { now_ms, .. } => (kind::UNDELIVERED, now_ms),
            Input::Returned { outcome: Ok(_), now_ms, .. } => (kind::RETURNED, now_ms),
            Input::Returned { outcome: Err(_), now_ms, .. } => (kind::FAILED, now_ms),
            Input::Tick { now_ms } => (kind::TICK, now_ms),
            Input::Join { .. } | Input::Leave { .. } => return,
        };
        cbor::put_u64(out, kind);
        cbor::put_u64(out, now_ms.wrapping_sub(self.last_ms));
        self.last_ms = now_ms;
        self.ticks = self.ticks.saturating_add(ticks);
        out.extend_from_slice(&seed.to_be_bytes());
        out.extend_from_slice(&digest.to_be_bytes());
        match *input {
            Input::Call(Call { id, method, owner, args, .. }) => {
                cbor::put_u64(out, id);
                cbor::put_u64(out, u64::from(method));
                cbor::put_u64(out, owner.session);
                cbor::put_u64(out, owner.thread);
                cbor::put_bytes(out, args.item());
            }
            Input::Cancel { call, why, .. } => {
                cbor::put_u64(out, call);
                let why: u64 = match why {
                    Why::Deadline => 0,
                    Why::Client => 1,
                    Why::SessionEnded => 2,
                };
                cbor::put_u64(out, why);
            }
            Input::OwnerLost { session, orderly, .. } => {
                cbor::put_u64(out, session);
                cbor::put_bool(out, orderly);
            }
            Input::Undelivered { call, method, payload, sent, .. } => {
                cbor::put_u64(out, call);
                cbor::put_u64(out, u64::from(method));
                cbor::put_bool(out, sent);
                cbor::put_bytes(out, payload);
            }
            Input::Returned { tag, outcome, .. } => {
                cbor::put_u64(out, tag);
                match outcome {
                    Ok(payload) => cbor::put_bytes(out, payload),
                    Err(fault) => {
                        cbor::put_u64(out, fault.effect as u64);
                        fault.put(out);
                    }
                }
            }
            Input::Tick { .. } | Input::Join { .. } | Input::Leave { .. } => {}
        }
    }

    /// What was written, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut reader = Reader::new(&self.bytes);
        let mut now_ms = self.base.now_ms;
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            Some(read(&mut reader, &mut now_ms).expect("a journal is read as it was written"))
        })
    }
}

fn read<'a>(reader: &mut Reader<'a>, last_ms: &mut u64) -> Result<Entry<'a>, Malformed> {
    let kind = reader.u64()?;
    if kind == kind::WAITED {
        let id = reader.u64()?;
        let method = reader.u64()? as u16;
        let owner = Owner { session: reader.u64()?, thread: reader.u64()? };
        let seed = eight(reader)?;
        let tokens = reader.bool()?;
        return Ok(Entry::Waited(id, Waiting { method, owner, seed, args: reader.bytes()?.into(), tokens }));
    }
    let now_ms = last_ms.wrapping_add(reader.u64()?);
    *last_ms = now_ms;
    let (seed, digest) = (eight(reader)?, eight(reader)?);
    let input = match kind {
        kind::CALL => Recorded::Call {
            id: reader.u64()?,
            method: reader.u64()? as u16,
            owner: Owner { session: reader.u64()?, thread: reader.u64()? },
            args: reader.bytes()?,
            now_ms,
        },
        kind::CANCEL => {
            let call = reader.u64()?;
            let why = match reader.u64()? {
                0 => Why::Deadline,
                1 => Why::Client,
                _ => Why::SessionEnded,
            };
            Recorded::Cancel { call, why, now_ms }
        }
        kind::OWNER_LOST => Recorded::OwnerLost { session: reader.u64()?, orderly: reader.bool()?, now_ms },
        kind::UNDELIVERED => {
            let (call, method) = (reader.u64()?, reader.u64()? as u16);
            let sent = reader.bool()?;
            Recorded::Undelivered { call, method, payload: reader.bytes()?, sent, now_ms }
        }
        kind::RETURNED => Recorded::Returned { tag: reader.u64()?, outcome: Ok(reader.bytes()?), now_ms },
        kind::FAILED => {
            let tag = reader.u64()?;
            let effect = Effect::from_code(reader.u64()?).unwrap_or(Effect::Refused);
            Recorded::Returned { tag, outcome: Err(Fault::read(effect, reader.raw()?)?), now_ms }
        }
        _ => Recorded::Tick { now_ms },
    };
    Ok(Entry::Stepped { input, seed, digest })
}

fn eight(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let bytes = reader.payload(8)?;
    Ok(u64::from_be_bytes(*bytes.first_chunk().expect("eight bytes were asked for")))
}

impl Recorded<'_> {
    /// The input, as the object was stepped with it. Its seed and whether it brought tokens are not part of it.
    pub(super) fn input(&self) -> Input<'_> {
        match *self {
            Self::Call { id, method, owner, args, now_ms } => {
                Input::Call(Call { id, facet: 0, method, owner, now_ms, seed: 0, args: Args::new(args, false) })
            }
            Self::Cancel { call, why, now_ms } => Input::Cancel { call, why, now_ms },
            Self::OwnerLost { session, orderly, now_ms } => Input::OwnerLost { session, orderly, now_ms },
            Self::Undelivered { call, method, payload, sent, now_ms } => {
                Input::Undelivered { call, facet: 0, method, payload, note: 0, sent, now_ms }
            }
            Self::Returned { tag, ref outcome, now_ms } => {
                Input::Returned { tag, outcome: outcome.as_ref().map(|payload| *payload), now_ms }
            }
            Self::Tick { now_ms } => Input::Tick { now_ms },
        }
    }
}

/// What an outcome is compared by. The wish to be woken is no part of it: it is nobody's but the object's own.
pub(super) fn digest(outcome: &wit::Outcome) -> u64 {
    // The same for the same input within one process, which is as long as a journal lives.
    let mut hasher = DefaultHasher::new();
    let fault = |hasher: &mut DefaultHasher, fault: &wit::Fault| {
        (&fault.kind, &fault.message, &fault.data).hash(hasher);
    };
    outcome.completions.len().hash(&mut hasher);
    for wit::Completion { call, outcome, grant } in &outcome.completions {
        (call, *grant as u8, outcome.is_ok()).hash(&mut hasher);
        match outcome {
            Ok(payload) => payload.hash(&mut hasher),
            Err(raised) => fault(&mut hasher, raised),
        }
    }
    (outcome.freed, outcome.changed, &outcome.held, &outcome.let_go).hash(&mut hasher);
    for wit::Invocation { tag, ident, method, args } in &outcome.invokes {
        (tag, ident, method, args).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(item: usize) -> Base {
        Base { saved_by: None, item: vec![0; item].into(), now_ms: 1_000, seed: 1, wish: Wish::default(), mark: 3 }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let owner = Owner { session: 7, thread: u64::MAX };
        let fault = Fault::raised("KeyError", "no such key").with_data(vec![0x01]);
        let inputs = [
            Recorded::Call { id: 4, method: 0xffff, owner, args: b"args", now_ms: 1_000 },
            Recorded::Cancel { call: 4, why: Why::SessionEnded, now_ms: 1_001 },
            Recorded::OwnerLost { session: 7, orderly: true, now_ms: 5_000 },
            Recorded::Undelivered { call: 2, method: 9, payload: b"", sent: true, now_ms: 5_000 },
            Recorded::Returned { tag: 1, outcome: Ok(b"x"), now_ms: 6_000 },
            Recorded::Returned { tag: 2, outcome: Err(fault), now_ms: 6_000 },
            Recorded::Tick { now_ms: u64::MAX },
        ];
        let waiting = Waiting { method: 2, owner, seed: 5, args: b"waits".as_slice().into(), tokens: true };
        let mut journal = Journal::new(base(10), Isolation::Object);
        for (place, recorded) in (0..).zip(&inputs) {
            journal.stepped(&recorded.input(), place, u64::MAX - place, 0);
            journal.waited(place, &waiting);
        }
        let mut entries = journal.entries();
        for (place, input) in (0..).zip(inputs) {
            let stepped = Entry::Stepped { input, seed: place, digest: u64::MAX - place };
            assert_eq!(entries.next(), Some(stepped));
            assert_eq!(entries.next(), Some(Entry::Waited(place, waiting.clone())));
        }
        assert_eq!(entries.next(), None);
    }

    #[test]
    fn journal_is_due_at_four_times_its_state_within_bounds() {
        let due_at = |item, isolation| {
            let mut journal = Journal::new(base(item), isolation);
            while !journal.is_due(100) {
                journal.stepped(&Input::Tick { now_ms: 1_000 }, 0, 0, 0);
            }
            journal.len()
        };
        // An entry of a tick has 18 bytes.
        let check = |isolation, item, expected: usize| {
            let due_at = due_at(item, isolation);
            assert!((expected + 1..=expected + 18).contains(&due_at), "{isolation:?}, {item}: {due_at}");
        };
        for (item, expected) in [(0, 4_096), (1_024, 4_096), (4_096, 16_384), (1 << 20, 65_536)] {
            check(Isolation::Object, item, expected);
        }
        for (item, expected) in [(0, 512), (1_024, 4_096), (1 << 20, 65_536)] {
            check(Isolation::Shared, item, expected);
        }
    }

    #[test]
    fn journal_is_due_when_its_steps_would_take_long() {
        let mut journal = Journal::new(base(0), Isolation::Object);
        journal.stepped(&Input::Tick { now_ms: 1_000 }, 0, 0, 100);
        assert!(!journal.is_due(100));
        journal.stepped(&Input::Tick { now_ms: 1_000 }, 0, 0, 1);
        assert!(journal.is_due(100));
        journal.put_off();
        assert!(!journal.is_due(100));
    }
}
