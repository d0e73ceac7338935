//! Locks, and what else is waited on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steward_wire::frame::{Grant, Guard};
use steward_wire::{Fault, value};

use crate::call::Name;
use crate::session::Delivered;
use crate::types::typed;
use crate::{Call, Error, Proxy};

typed! {
    /// A lock without owner: whoever has a proxy may release it. Waiters are served in order.
    ///
    /// ```no_run
    /// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
    /// let lock = manager.lock().await?;
    /// let balances = manager.dict::<String, i64>().await?;
    /// let held = lock.acquire().await?;
    /// balances.insert("ada", &7).guard(&held).await?;    // refused once the lock is lost
    /// held.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    Lock = "Lock"
}

typed! {
    /// A lock that its [`crate::Owner`] may take repeatedly.
    ///
    /// Tasks that use clones of one proxy are one owner and do not exclude each other: give each
    /// [`RLock::with_owner`].
    RLock = "RLock"
}

typed! {
    /// A number of permits.
    Semaphore = "Semaphore"
}

typed! {
    /// A [`Semaphore`] that refuses to be released more often than it was acquired.
    BoundedSemaphore = "BoundedSemaphore"
}

typed! {
    /// A condition variable, with an RLock of its own or over another lock.
    ///
    /// ```no_run
    /// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
    /// let (ready, count) = (manager.condition().await?, manager.value("i", &0).await?);
    /// let held = ready.acquire().await?;
    /// ready.wait_for(&held, None, async || Ok(count.get().await? > 3)).await?;
    /// held.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    Condition = "Condition"
}

typed! {
    /// A flag that is waited for.
    Event = "Event"
}

typed! {
    /// A number of parties that wait for each other.
    Barrier = "Barrier"
}

macro_rules! lock {
    ($($name:ident)+) => { $(
        impl $name {
            /// Takes it, waiting in line. Dropping the future gives it up, and what is granted all the same is released.
            ///
            /// # Errors
            /// Raised `TimeoutError` at the deadline.
            pub fn acquire(&self) -> Call<Held> {
                self.proxy.call_name(Name::Static("acquire"), (), granted)
            }

            /// Takes it if that needs no waiting.
            pub fn try_acquire(&self) -> Call<Option<Held>> {
                self.proxy.call_name(Name::Static("acquire"), (), Held::from_reply).blocking(false)
            }

            /// Whether it could not be had without waiting.
            pub fn locked(&self) -> Call<bool> {
                self.proxy.call_static("locked", ())
            }
        }
    )+ };
}

lock! { Lock RLock Semaphore BoundedSemaphore Condition }

macro_rules! release {
    ($($name:ident)+) => { $(
        impl $name {
            /// Releases it without a [`Held`]: what another task or process took, for instance.
            ///
            /// # Errors
            /// Raised `RuntimeError` if it is not held, or not by this owner.
            pub fn release(&self) -> Call<()> {
                self.proxy.call_static("release", ())
            }
        }
    )+ };
}

release! { Lock RLock Condition }

macro_rules! semaphore {
    ($($name:ident)+) => { $(
        impl $name {
            /// Adds `n` permits.
            ///
            /// # Errors
            /// Raised `ValueError` if `n` is 0, or more than a bounded one takes.
            pub fn release(&self, n: u64) -> Call<()> {
                self.proxy.call_static("release", (n,))
            }

            /// How many permits are free.
            pub fn get_value(&self) -> Call<u64> {
                self.proxy.call_static("get_value", ())
            }
        }
    )+ };
}

semaphore! { Semaphore BoundedSemaphore }

/// A lock or permit that is held. Dropping it releases it without waiting; [`Held::release`] waits and tells of errors.
#[derive(Debug)]
#[must_use = "what is held is released when this is dropped"]
pub struct Held {
    proxy: Proxy,
    hold: Arc<Hold>,
    abandoned: bool,
    released: bool,
}

/// What a wait on the lock's condition changes, and the end of the session's lease.
pub(crate) struct Hold {
    fence: AtomicU64,
    /// A wait gave it up and was not answered: it is not held any more, or nobody can tell.
    lost: AtomicBool,
    /// To be told, once, when it may be lost.
    on_lost: Mutex<Vec<OnLost>>,
}

type OnLost = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("fence", &self.fence).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Hold {
    /// A wait begins: if it is never answered, the lock is lost.
    pub(crate) fn give_up(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// It may be lost: tells those who want to know.
    pub(crate) fn lose(&self) {
        for on_lost in std::mem::take(&mut *self.on_lost.lock()) {
            on_lost();
        }
    }

    /// The wait was answered: the lock is held again.
    pub(crate) fn take_back(&self, grant: Option<Grant>) {
        if let Some(grant) = grant {
            self.fence.store(grant.fence, Ordering::Relaxed);
        }
        self.lost.store(false, Ordering::Release);
    }
}

impl Held {
    fn from_reply(proxy: &Proxy, delivered: Delivered) -> Result<Option<Self>, Error> {
        let payload = &delivered.reply.payload;
        let wrong = |cause: String| Error::Decode { wanted: "Held", cause };
        let taken: bool = value::to_serde(payload).map_err(|error| wrong(error.to_string()))?;
        match delivered.reply.grant {
            Some(grant) if taken => Ok(Some(Self {
                proxy: proxy.clone(),
                hold: Arc::new(Hold {
                    fence: AtomicU64::new(grant.fence),
                    lost: AtomicBool::new(false),
                    on_lost: Mutex::default(),
                }),
                abandoned: grant.abandoned,
                released: false,
            })),
            None if taken => Err(wrong("granted without a fence".into())),
            _ => Ok(None),
        }
    }

    /// The number of this grant: higher than that of every earlier one of the same lock. Store it with what the lock
    /// protects elsewhere, and refuse writes that come with a lower one.
    pub fn fence(&self) -> u64 {
        self.hold.fence.load(Ordering::Relaxed)
    }

    /// The previous holder's session ended while it held the lock: what it protects may be half done.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether it is surely still held: no wait on its condition has given it up, and the session's lease has not ended, which
    /// this side counts from when it last sent what the host has surely had, less a margin. False means that it *may* be
    /// lost: somebody else may hold it already. True is certain, unless somebody released this very lock, or the host itself
    /// is gone.
    ///
    /// It is a look at a clock, and time goes on after it. What must not happen once the lock is lost belongs under
    /// [`crate::Call::guard`], or under [`Held::fence`] where it happens elsewhere.
    pub fn is_held(&self) -> bool {
        !self.hold.lost.load(Ordering::Acquire) && self.proxy.handle.session.shared.is_believed()
    }

    /// Calls `on_lost`, once, when it may be lost: when the lease can no longer be believed in, or the session ends. At
    /// once if that is so already, not at all if this is dropped before. It runs on the session's own task: it must not block.
    pub fn on_lost(&self, on_lost: impl FnOnce() + Send + 'static) {
        self.hold.on_lost.lock().push(Box::new(on_lost));
        self.proxy.handle.session.shared.watch(&self.hold);
    }

    /// Releases it and waits for the host to say so.
    ///
    /// # Errors
    /// Raised `RuntimeError` if it is not held any more; unknown if the connection is lost meanwhile.
    pub async fn release(mut self) -> Result<(), Error> {
        self.released = true;
        self.proxy.call_static("release", ()).await
    }

    /// As [`Held::release`], blocking the thread.
    ///
    /// # Errors
    /// As [`Held::release`].
    pub fn release_wait(self) -> Result<(), Error> {
        crate::call::wait(self.release())
    }

    pub(crate) fn as_guard(&self) -> Guard {
        Guard { lock: self.proxy.ident(), fence: self.fence() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released && !self.hold.lost.load(Ordering::Acquire) {
            self.proxy.handle.session.release(self.proxy.ident(), self.proxy.owner.number());
        }
    }
}

fn granted(proxy: &Proxy, delivered: Delivered) -> Result<Held, Error> {
    Held::from_reply(proxy, delivered)?
        .ok_or_else(|| Error::Raised(Fault::raised("TimeoutError", "lock was not free before the deadline")))
}

impl Condition {
    /// Lets go of the lock, waits until notified, and takes the lock again. Returns whether it was notified: false at the
    /// deadline, also then with the lock held again. `held` is what [`Condition::acquire`] gave, or the lock that the
    /// condition was made with.
    ///
    /// Dropping the future gives the lock up for good: `held` then holds nothing, and dropping it releases nothing.
    ///
    /// # Errors
    /// Raised `RuntimeError` if the lock is not held by this owner.
    pub fn wait(&self, held: &Held) -> Call<bool> {
        self.proxy.with_owner(held.proxy.owner).call_static("wait", ()).giving_up(Arc::clone(&held.hold))
    }

    /// Waits until `predicate`, which runs here with the lock held, says so. Returns its last word: false only at the
    /// timeout, which spans all waits together.
    ///
    /// # Errors
    /// As [`Condition::wait`], and those of the predicate.
    pub async fn wait_for(
        &self,
        held: &Held,
        timeout: Option<Duration>,
        mut predicate: impl AsyncFnMut() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        // A timeout too long for the clock is none.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if predicate().await? {
                return Ok(true);
            }
            let wait = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => self.wait(held).timeout(left),
                None => self.wait(held),
            };
            wait.await?;
        }
    }

    /// Wakes `n` that wait, the longest waiting first.
    ///
    /// # Errors
    /// Raised `RuntimeError` unless the lock is held.
    pub fn notify(&self, n: u64) -> Call<()> {
        self.proxy.call_static("notify", (n,))
    }

    /// Wakes all that wait.
    ///
    /// # Errors
    /// As [`Condition::notify`].
    pub fn notify_all(&self) -> Call<()> {
        self.proxy.call_static("notify_all", ())
    }
}

impl Event {
    /// Whether the flag is set.
    pub fn is_set(&self) -> Call<bool> {
        self.proxy.call_static("is_set", ())
    }

    /// Sets the flag and lets all go that wait for it.
    pub fn set(&self) -> Call<()> {
        self.proxy.call_static("set", ())
    }

    /// Clears the flag.
    pub fn clear(&self) -> Call<()> {
        self.proxy.call_static("clear", ())
    }

    /// Waits for the flag. Returns whether it is set: false only at the deadline.
    pub fn wait(&self) -> Call<bool> {
        self.proxy.call_static("wait", ())
    }
}

impl Barrier {
    /// Waits for all parties, and returns this one's number, from 0.
    ///
    /// # Errors
    /// Raised `BrokenBarrierError` if a party gives up, times out or is lost, at this one's own deadline too.
    pub fn wait(&self) -> Call<u64> {
        self.proxy.call_static("wait", ())
    }

    /// Breaks the barrier.
    pub fn abort(&self) -> Call<()> {
        self.proxy.call_static("abort", ())
    }

    /// Makes the barrier new; whoever waits is told that it broke.
    pub fn reset(&self) -> Call<()> {
        self.proxy.call_static("reset", ())
    }

    /// How many parties it takes.
    pub fn parties(&self) -> Call<u64> {
        self.proxy.call_static("parties", ())
    }

    /// How many wait.
    pub fn n_waiting(&self) -> Call<u64> {
        self.proxy.call_static("n_waiting", ())
    }

    /// Whether it is broken.
    pub fn broken(&self) -> Call<bool> {
        self.proxy.call_static("broken", ())
    }
}
