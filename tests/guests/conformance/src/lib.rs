//! Lock, Semaphore, Event, Queue and dict once more, as a plugin: `GuestLock`, `GuestSemaphore`, `GuestEvent`, `GuestQueue`, `GuestDict`.
//!
//! Methods, results, error kinds and messages are those of the built-in types, so that the same cases run against both. What a
//! guest has no way to do is missing: of dict the methods that take other objects'
//! values or give iterators (`__iter__`, `__reversed__`, `__or__`, `__ror__`, `__ior__`, `fromkeys`, `compare_and_set`, `get_many`,
//! `incr`, `update_in`).

mod event;
mod lock;
mod mapping;
mod queue;
mod semaphore;

pub use event::Event;
pub use lock::Lock;
pub use mapping::dict;
pub use queue::Queue;
pub use semaphore::Semaphore;

use steward_guest::prelude::*;

steward_guest::export!(Lock, Semaphore, Event, Queue, dict);

/// What CPython says when a value that wraps a thread's lock is to be copied.
fn not_picklable<T>() -> Result<T> {
    raise("TypeError", "cannot pickle '_thread.lock' object")
}

#[cfg(test)]
mod tests;
