//! The types that every host has, as state machines.
//!
//! A [`Referent`] is stepped: one input in, any number of replies and requests out, never blocking. It has no
//! clock, no randomness, no thread and no I/O: time, deadlines, lost clients and lost replies arrive
//! as inputs, and what it wants from the world it writes into its [`Outbox`]. A call that cannot be
//! answered yet gets no reply in its step (it is *parked*), and a later step answers it.
//!
//! Plugins are stepped through the same trait, so whoever drives a referent cannot tell the two apart.

mod args;
mod builtin;
pub mod data;
mod outbox;
pub mod sync;

pub use args::Args;
pub use builtin::{BUILTINS, Builtin, Create, Method, Param, builtin};
pub use outbox::{HoldChange, ITEM_BYTES, Invocation, Outbox, Reply};
pub use steward_wire::{Effect, Fault, Ident, Value, frame::Grant};

/// A shared object: the referent of proxies.
pub trait Referent: Send {
    /// Takes one turn: bounded, never blocking.
    ///
    /// A panic poisons the referent's cell. A referent that cannot go on for another reason says so
    /// with [`Outbox::poison`].
    fn step(&mut self, input: Input<'_>, out: &mut Outbox);

    /// Who holds what it grants, if one holder excludes all others: whoever waits for it then waits for that one.
    fn holder(&self) -> Option<Owner> {
        None
    }

    /// Whether a step at this moment would wait for one of another referent: they share something. Whoever must not wait
    /// has the step taken elsewhere.
    fn is_busy(&self) -> bool {
        false
    }
}

/// Number of a call within its cell; never reused there.
pub type CallId = u64;

/// Which object of a cell is meant: 0 is the one it was made for, others share its state
/// (the Conditions of a Lock, the live iterators of a container).
pub type Facet = u32;

/// Who calls and who holds: a session and a thread or task of that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The session.
    pub session: u64,
    /// The client's own number for its thread or task.
    pub thread: u64,
}

/// What a referent is stepped with.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A method is called.
    Call(Call<'a>),
    /// A parked call is given up; it must be answered, now or (a `Condition.wait`) as soon as it may.
    Cancel {
        /// The call. A referent that does not know it (any more) ignores the input.
        call: CallId,
        /// Why.
        why: Why,
        /// The host's clock.
        now_ms: u64,
    },
    /// A session has ended. Its parked calls were cancelled before. What it held is to be let go.
    OwnerLost {
        /// The session; all its owners are lost.
        session: u64,
        /// The client said goodbye: what CPython leaves without owner (Lock, Semaphore) stays as it is.
        orderly: bool,
        /// The host's clock.
        now_ms: u64,
    },
    /// A reply never reached its client, whose session has ended. Several arrive newest first.
    Undelivered {
        /// The call.
        call: CallId,
        /// The facet it went to.
        facet: Facet,
        /// Its method.
        method: u16,
        /// The lost result, encoded.
        payload: &'a [u8],
        /// The reply's note: [`Reply::note`].
        note: u64,
        /// The reply was sent, only never acknowledged: the client may have seen it before its end.
        sent: bool,
        /// The host's clock.
        now_ms: u64,
    },
    /// A call that this referent asked for with [`Outbox::invoke`] has ended.
    Returned {
        /// The number that the referent chose.
        tag: u64,
        /// Its encoded result.
        outcome: Result<&'a [u8], &'a Fault>,
        /// The host's clock.
        now_ms: u64,
    },
    /// The time asked for with [`Outbox::wake_at`] has come.
    Tick {
        /// The host's clock.
        now_ms: u64,
    },
    /// Another object joins this cell: `Condition(lock)`. The referent answers `call` with
    /// [`Outbox::returns_facet`] or raises.
    Join {
        /// The call to answer.
        call: CallId,
        /// The type of the object that joins.
        typeid: &'a str,
        /// The facet of this cell that it names.
        to: Facet,
        /// The constructor's arguments.
        args: Args<'a>,
    },
    /// The last reference to a facet other than 0 is gone, and no call of it is parked.
    Leave {
        /// The facet, whose number is never used again.
        facet: Facet,
    },
}

/// One call of a method.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its number.
    pub id: CallId,
    /// Which object of the cell is called.
    pub facet: Facet,
    /// Place in the method table of the facet's type, or one of the [`common`] methods.
    pub method: u16,
    /// Who calls.
    pub owner: Owner,
    /// The host's clock in milliseconds; it never goes back.
    pub now_ms: u64,
    /// For referents that want randomness: the same input gives the same step.
    pub seed: u64,
    /// The arguments, still encoded.
    pub args: Args<'a>,
}

/// Why a parked call is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its deadline has passed (or it was not to park at all): it answers as a timeout does.
    Deadline,
    /// Its client gave it up; the answer, if any, is thrown away. No effect may follow.
    Client,
    /// Its session has ended: as `Client`, and a Barrier breaks.
    SessionEnded,
}

/// Methods that every referent answers, whatever its table has.
pub mod common {
    /// A copy of the referent's value: CPython's `#GETVALUE`.
    pub const GET_VALUE: u16 = 0xffff;
    /// `str(referent)`.
    pub const STR: u16 = 0xfffe;
    /// `repr(referent)`.
    pub const REPR: u16 = 0xfffd;
}
