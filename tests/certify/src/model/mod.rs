//! What each type may do, written naively: as sequences of calls, each of which takes effect at once.
//!
//! Nobody waits in a model. A call that waited is one that happens later, when it can: so the models need not know in which
//! order calls came to stand in line, which no client sees. What happens without a call (a session's end gives back what it
//! held) is a [`Hidden`] step.

mod barrier;
mod container;
mod data;
mod event;
mod line;
mod lock;
mod queue;
mod semaphore;

use crate::Promise;
use crate::call::{Call, CallId, Made, Seen};
use crate::values::{Val, Values};

use barrier::Barrier;
pub(crate) use line::WaitEnd;
pub(crate) use lock::Lock;

/// An object's state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    Lock(lock::Lock),
    Semaphore(semaphore::Semaphore),
    Event(event::Event),
    Barrier(barrier::Barrier),
    Queue(queue::Queue),
    Data(data::Data),
}

/// Whether a call changes the object, which raises its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    Yes,
    No,
    /// That depends on who waits, which the model does not know.
    Either,
}

/// What a method is, whatever the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It never changes the object and never waits.
    Reads,
    /// It may change the object and never waits.
    Steps,
    /// It may wait.
    Parks,
}

/// Why a call cannot have happened here.
#[derive(Clone, Debug)]
pub(crate) struct Complaint {
    /// The promise it breaks; `None`: that of the type.
    pub(crate) promise: Option<Promise>,
    pub(crate) text: String,
    /// The model does not know what should have happened.
    pub(crate) not_modelled: bool,
}

/// A change that no call of the history makes by its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// What a session held is free again.
    Lost { session: u64 },
    /// One permit of a session that never learnt of it is back.
    PermitBack { session: u64 },
    /// What a call got is back in its queue.
    ItemsBack { call: CallId },
    /// A `Condition.wait` has let go of the lock.
    WaitBegan { call: CallId, end: WaitEnd },
    /// A `Condition.wait` came to its deadline. `None`: whose it was is left open.
    WaitTimedOut { call: Option<CallId> },
    /// A notified `Condition.wait` is gone, and the next is notified in its place.
    PassedOn { call: CallId },
}

/// What a model answers.
pub(crate) enum Reply {
    Value(Val),
    Raises(&'static str),
}

impl Complaint {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { promise: None, text: text.into(), not_modelled: false }
    }

    pub(crate) fn of(promise: Promise, text: impl Into<String>) -> Self {
        Self { promise: Some(promise), ..Self::new(text) }
    }

    pub(crate) fn not_modelled(what: impl Into<String>) -> Self {
        Self { not_modelled: true, ..Self::new(format!("not modelled: {}", what.into())) }
    }
}

/// Whether the history agrees that `call` was answered so.
fn answers(call: &Call, values: &Values, reply: Reply) -> Result<(), Complaint> {
    let agrees = match (call.seen, &reply) {
        (Seen::Unknown, _) => true,
        (Seen::Returned(seen), Reply::Value(value)) => seen == *value,
        (Seen::Raised(kind), Reply::Raises(expected)) => *values.text(kind) == **expected,
        _ => false,
    };
    if agrees {
        return Ok(());
    }
    let expected = match reply {
        Reply::Value(value) => format!("should have returned {}", values.show(value)),
        Reply::Raises(kind) => format!("should have raised {kind}"),
    };
    Err(Complaint::new(format!("{} {expected}", call.show(values))))
}

/// A number among a call's arguments.
fn number(call: &Call, place: usize, default: i64) -> Result<i64, Complaint> {
    match call.args.get(place) {
        None => Ok(default),
        Some(Val::Int(number)) => Ok(*number),
        Some(Val::Bool(number)) => Ok((*number).into()),
        Some(_) => Err(Complaint::not_modelled("an argument that should be an integer")),
    }
}

/// An argument that must be there.
fn argument(call: &Call, place: usize) -> Result<Val, Complaint> {
    call.args.get(place).copied().ok_or_else(|| Complaint::not_modelled("a call without a required argument"))
}

impl Model {
    /// The object as it was made.
    ///
    /// Errors: what is not modelled.
    pub(crate) fn new(made: &Made, values: &mut Values) -> Result<Self, Complaint> {
        Ok(match &*made.typeid {
            "Lock" => Self::Lock(lock::Lock::new(false)),
            "RLock" => Self::Lock(lock::Lock::new(true)),
            "Condition" if made.args.iter().all(|arg| *arg == Val::Null) => Self::Lock(lock::Lock::new(true)),
            "Condition" => return Err(Complaint::not_modelled("a Condition over another object's lock")),
            "Semaphore" => Self::Semaphore(semaphore::Semaphore::new(made, false)?),
            "BoundedSemaphore" => Self::Semaphore(semaphore::Semaphore::new(made, true)?),
            "Event" => Self::Event(event::Event::default()),
            "Barrier" => Self::Barrier(Barrier::new(made)?),
            "Queue" | "JoinableQueue" | "LifoQueue" | "PriorityQueue" => Self::Queue(queue::Queue::new(made)?),
            _ => Self::Data(data::Data::new(made, values)?),
        })
    }

    /// `None`: the model does not know the method.
    pub(crate) fn kind(typeid: &str, method: &str) -> Option<Kind> {
        match typeid {
            "Lock" | "RLock" => lock::kind(method),
            "Condition" => lock::condition_kind(method),
            "Semaphore" | "BoundedSemaphore" => semaphore::kind(method),
            "Event" => event::kind(method),
            "Barrier" => barrier::kind(method),
            "Queue" | "JoinableQueue" | "LifoQueue" | "PriorityQueue" => queue::kind(method),
            _ => data::kind(typeid, method),
        }
    }

    /// The promise that a history breaks which this type cannot have.
    pub(crate) fn promise(typeid: &str) -> Promise {
        match typeid {
            "Lock" | "RLock" => Promise::R1,
            "Queue" | "JoinableQueue" | "LifoQueue" | "PriorityQueue" => Promise::R4,
            "Condition" | "Semaphore" | "BoundedSemaphore" | "Event" | "Barrier" => Promise::R5,
            _ => Promise::R3,
        }
    }

    /// Lets a call happen. One of unknown end happens as it would have if all had gone well.
    ///
    /// Errors: it cannot have happened here, and nothing has changed.
    pub(crate) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        if let Seen::Raised(kind) = call.seen
            && matches!(&*values.text(kind), "TypeError" | "OverflowError")
        {
            // What arguments and items are worth is beyond a model: all it needs is that nothing happened.
            return Ok(Changes::No);
        }
        match self {
            Self::Lock(lock) => lock.apply(call, values),
            Self::Semaphore(semaphore) => semaphore.apply(call, values),
            Self::Event(event) => event.apply(call, values),
            Self::Barrier(barrier) => barrier.apply(call, values),
            Self::Queue(queue) => queue.apply(call, values),
            Self::Data(data) => data.apply(call, values),
        }
    }

    /// Lets a hidden change happen.
    ///
    /// Errors: there is nothing of it to happen here.
    pub(crate) fn hide(&mut self, hidden: Hidden) -> Result<(), ()> {
        match self {
            Self::Lock(lock) => lock.hide(hidden),
            Self::Semaphore(semaphore) => semaphore.hide(hidden),
            Self::Queue(queue) => queue.hide(hidden),
            Self::Event(_) | Self::Barrier(_) | Self::Data(_) => Err(()),
        }
    }

    /// The sessions whose end would change something.
    pub(crate) fn holders(&self) -> Vec<u64> {
        match self {
            Self::Lock(lock) => lock.holder.as_ref().map(|holder| holder.session).into_iter().collect(),
            Self::Semaphore(semaphore) => semaphore.holders(),
            _ => Vec::new(),
        }
    }

    /// Several items may be put at once: one who waits for much room may then stand in the way of one who needs little.
    pub(crate) fn expect_batches(&mut self) {
        if let Self::Queue(queue) = self {
            queue.has_batches = true;
        }
    }

    /// Whether one who waits may stand in the way of one who need not.
    pub(crate) fn may_be_in_the_way(&self) -> bool {
        matches!(self, Self::Queue(queue) if queue.has_batches)
    }

    /// How many items a queue has.
    pub(crate) fn len(&self) -> i64 {
        match self {
            Self::Queue(queue) => queue.len(),
            _ => 0,
        }
    }

    /// Whether calls of `Condition.wait` stand in line, which may come to their deadline unseen at any time.
    pub(crate) fn has_waits(&self) -> bool {
        matches!(self, Self::Lock(lock) if !lock.line.is_empty())
    }

    /// Whether all that may become of `other` may become of this one, too.
    pub(crate) fn has_all_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lock(lock), Self::Lock(other)) => lock.has_all_of(other),
            _ => self == other,
        }
    }

    /// Whether a call of `Condition.wait` stands in line, or has left it at a deadline that may be another's.
    pub(crate) fn has_in_line(&self, call: CallId) -> bool {
        matches!(self, Self::Lock(lock) if lock.line.has(call))
    }

    /// The calls whose items may come back.
    pub(crate) fn returnable(&self) -> Vec<CallId> {
        match self {
            Self::Queue(queue) => queue.returnable(),
            _ => Vec::new(),
        }
    }
}
