//! Owners: which thread or task of this process holds a lock.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who calls and who holds, within this process: a number that is never used again.
///
/// Only what has an owner cares: an [`crate::RLock`] may be taken again by the owner that holds it, and
/// a [`crate::Condition`] is waited for by the owner that holds its lock. A [`crate::Manager`] has one,
/// each clone of it another, and a proxy has that of the manager it was made by. Tasks that contend for
/// an RLock each need an owner of their own:
///
/// ```no_run
/// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
/// let lock = manager.rlock().await?;
/// for _ in 0..4 {
///     let lock = lock.with_owner(manager.owner());
///     tokio::spawn(async move {
///         let held = lock.acquire().await?;
///         held.release().await
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Fixed(u64),
    Thread,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// This thread's owner; 0 until it first calls as one. Never a thread's id, which systems reuse.
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
}

impl Owner {
    /// A new owner.
    #[expect(clippy::new_without_default, reason = "two owners are never equal, so there is no default one")]
    pub fn new() -> Self {
        Self(Kind::Fixed(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Whichever thread makes the call: what [`crate::blocking`] uses. Of no use to tasks, which move
    /// between threads.
    pub fn thread() -> Self {
        Self(Kind::Thread)
    }

    /// The number that travels.
    pub(crate) fn number(self) -> u64 {
        match self.0 {
            Kind::Fixed(number) => number,
            Kind::Thread => OF_THREAD.with(|of_thread| {
                if of_thread.get() == 0 {
                    of_thread.set(NEXT.fetch_add(1, Ordering::Relaxed));
                }
                of_thread.get()
            }),
        }
    }

    /// The same owner, no longer depending on the calling thread.
    pub(crate) fn fixed(self) -> Self {
        Self(Kind::Fixed(self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_owner_differs_by_thread_and_stays_within_one() {
        let here = Owner::thread().number();
        assert_eq!(here, Owner::thread().number());
        let there = std::thread::spawn(|| Owner::thread().number()).join().expect("the thread only counts");
        assert_ne!(here, there);
        assert_ne!(Owner::new(), Owner::new());
    }
}
