//! What a method knows of its call, and what it may ask for beside its answer.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::shell::{Completion, Grant, Invocation, Waiting};
use crate::{Fault, Handle, Result, Stop, raise};

/// Number of a call within its object, never reused.
pub type CallId = u64;

/// Who calls and who holds: a session and one of that client's threads or tasks. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// The session.
    pub session: u64,
    /// The client's own number for its thread or task.
    pub thread: u64,
}

/// Why a waiting call was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its deadline has passed, or it was not to wait at all.
    Deadline,
    /// Its client gave it up.
    Client,
    /// Its session has ended.
    SessionEnded,
}

/// A session has ended: for `#[on(owner_lost)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerLost {
    /// All owners of this session are lost. Its waiting calls were cancelled before.
    pub session: u64,
    /// The client said goodbye. What CPython leaves without owner (a Lock) then stays as it is; what has an owner is let go.
    pub orderly: bool,
}

/// A result that never reached its client: for `#[on(undelivered)]`. Several arrive newest first.
#[derive(Clone, Copy, Debug)]
pub struct Undelivered<'a> {
    /// The method that gave it.
    pub method: &'static str,
    /// It was sent, and never acknowledged: its client may have seen it, and begun with what it was granted. Then the next one should know
    /// ([`Context::grant_abandoned`]).
    pub sent: bool,
    pub(crate) payload: &'a [u8],
}

impl Undelivered<'_> {
    /// The lost result.
    ///
    /// # Errors
    /// If it is no `T`.
    pub fn result<T: DeserializeOwned>(&self) -> std::result::Result<T, codec::Error> {
        codec::from_slice(self.payload)
    }
}

/// A call asked for with [`Context::invoke`] has ended: for `#[on(returned)]`.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// The number given when it was asked for.
    pub tag: u64,
    pub(crate) outcome: std::result::Result<&'a [u8], &'a Fault>,
}

impl Returned<'_> {
    /// Its result.
    ///
    /// # Errors
    /// The fault that it raised, or `TypeError` if its result is no `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        match self.outcome {
            Ok(item) => codec::from_slice(item).or_else(|error| raise("TypeError", error.to_string())),
            Err(fault) => Err(Stop::Raised(fault.clone())),
        }
    }
}

/// Log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong.
    Error,
    /// Something may be wrong.
    Warn,
    /// Worth knowing.
    Info,
    /// For whoever writes the plugin.
    Debug,
}

/// What one turn of an object knows and what it may ask for.
///
/// All of it is in the turn's input, so the same input gives the same turn: there is no other clock and no other randomness.
pub struct Context<'a> {
    pub(crate) now_ms: u64,
    pub(crate) tenant: &'a str,
    pub(crate) owner: Owner,
    pub(crate) call: CallId,
    pub(crate) turn: &'a Turn,
    pub(crate) standing: &'a Standing,
}

/// What one step collects, for the host. Its lists serve the next one again.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) seed: Cell<u64>,
    pub(crate) granted: Cell<Grant>,
    /// Room for the next answer, empty.
    pub(crate) payload: Cell<Vec<u8>>,
    /// Answers, in order.
    pub(crate) completions: RefCell<Vec<Completion>>,
    pub(crate) freed: Cell<bool>,
    pub(crate) changed: bool,
    /// When to be woken, if that is news.
    pub(crate) wake_at_ms: Option<u64>,
    pub(crate) held: Vec<u64>,
    pub(crate) let_go: Vec<u64>,
    pub(crate) invocations: RefCell<Vec<Invocation>>,
}

/// Answers that a list has room for at most, to serve again.
const REUSED_COMPLETIONS_MAX: usize = 16;

/// Bytes of room for an answer at most, to serve again.
const REUSED_BYTES_MAX: usize = 1024;

impl Turn {
    /// Forgets the step before.
    #[inline]
    pub(crate) fn begin(&mut self, seed: u64) {
        self.seed.set(seed);
        self.freed.set(false);
        let completions = self.completions.get_mut();
        if let Some(Completion { outcome: Ok(mut payload), .. }) = completions.pop() {
            payload.clear();
            if payload.capacity() <= REUSED_BYTES_MAX {
                self.payload.set(payload);
            }
        }
        if !completions.is_empty() || completions.capacity() > REUSED_COMPLETIONS_MAX {
            *completions = Vec::new();
        }
        // Most steps give one, and a list that grows takes room for four.
        completions.reserve_exact(1);
        if self.held.len() + self.let_go.len() + self.invocations.get_mut().len() > 0 {
            (self.held, self.let_go) = Default::default();
            self.invocations.take();
        }
    }
}

/// What outlives the steps of an object.
#[derive(Default)]
pub(crate) struct Standing {
    /// When `#[on(tick)]` is wished for.
    pub(crate) wake_at_ms: Cell<Option<u64>>,
    /// Calls that the object completes itself, by [`crate::by_hand`].
    pub(crate) by_hand: RefCell<Vec<Waiting>>,
}

impl Context<'_> {
    /// The host's clock in milliseconds. It never goes back.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Who calls. In a constructor and in hooks without a call: nobody, `Owner::default()`.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The call's number; 0 where there is no call.
    pub fn call_id(&self) -> CallId {
        self.call
    }

    /// The tenant whose object this is.
    pub fn tenant(&self) -> &str {
        self.tenant
    }

    /// A random number, decided by the seed that came with this turn (SplitMix64). Not for secrets.
    pub fn random(&self) -> u64 {
        let seed = self.turn.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.turn.seed.set(seed);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A random number from 0 up to, not including, 1.
    pub fn random_f64(&self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Says that this call is granted something that is held from now on: its reply carries a fence, a number that
    /// rises with every grant of this object, and calls may be guarded by it until [`Context::freed`]. Counts only if the
    /// method returns a value.
    pub fn grant(&self) {
        self.turn.granted.set(Grant::Clean);
    }

    /// The same, of something whose former holder was lost while holding it: what it protects may be half done, and the client that
    /// holds it now can see that.
    pub fn grant_abandoned(&self) {
        self.turn.granted.set(Grant::Abandoned);
    }

    /// Says that nobody holds any more what this object has granted so far: from now on calls that are guarded by one of
    /// its earlier fences are refused. An object whose calls grant must say so whenever the last holder is gone, by
    /// release, by the end of its session, by a reply that was not delivered.
    pub fn freed(&self) {
        self.turn.freed.set(true);
    }

    /// Asks for `#[on(tick)]` at `at_ms`; the earliest wish counts, until its time has come.
    pub fn wake_at(&self, at_ms: u64) {
        let earlier = self.standing.wake_at_ms.get();
        self.standing.wake_at_ms.set(Some(earlier.map_or(at_ms, |earlier| earlier.min(at_ms))));
    }

    /// Answers a call that a method left with [`crate::by_hand`]. False if it does not wait (any more).
    pub fn complete<T: Serialize + ?Sized>(&self, call: CallId, value: &T) -> bool {
        self.answer(call, codec::to_vec(value).map_err(unencodable), Grant::None)
    }

    /// The same, as a grant.
    pub fn complete_with_grant<T: Serialize + ?Sized>(&self, call: CallId, value: &T) -> bool {
        self.answer(call, codec::to_vec(value).map_err(unencodable), Grant::Clean)
    }

    /// The same, with a fault.
    pub fn complete_with_fault(&self, call: CallId, fault: Fault) -> bool {
        self.answer(call, Err(fault), Grant::None)
    }

    fn answer(&self, call: CallId, outcome: std::result::Result<Vec<u8>, Fault>, grant: Grant) -> bool {
        let mut waiting = self.standing.by_hand.borrow_mut();
        let Some(at) = waiting.iter().position(|waiting| waiting.id == call) else { return false };
        waiting.remove(at);
        let grant = if outcome.is_ok() { grant } else { Grant::None };
        self.turn.completions.borrow_mut().push(Completion { call, outcome, grant });
        true
    }

    /// Asks for a call on another object. Its end arrives at `#[on(returned)]` with `tag`. `args` is made by
    /// [`crate::args!`]. What a constructor asks for goes out with the object's first step.
    pub fn invoke(&self, tag: u64, on: &Handle, method: &str, args: Vec<u8>) {
        let invocation = Invocation { tag, ident: on.ident(), method: method.to_owned(), args };
        self.turn.invocations.borrow_mut().push(invocation);
    }

    /// Writes a line to the host's log. Lines are cut at 4 KiB; what exceeds 64 KiB a step is dropped.
    pub fn log(&self, level: Level, message: &str) {
        log(level, message);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now_ms, tenant, owner, call, turn: _, standing: _ } = self;
        f.debug_struct("Context")
            .field("now_ms", now_ms)
            .field("tenant", tenant)
            .field("owner", owner)
            .field("call", call)
            .finish_non_exhaustive()
    }
}

pub(crate) fn unencodable(error: codec::Error) -> Fault {
    Fault::new("TypeError", error.to_string())
}

pub(crate) fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::glue::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}
