//! Queues, and what they lend.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{Args, IntoArgs};
use crate::call::Name;
use crate::proxy::decode;
use crate::session::Delivered;
use crate::types::{Typed, typed};
use crate::{Call, Error, Proxy};

typed! {
    /// A queue: first in, first out. Follows `queue.Queue`.
    ///
    /// ```no_run
    /// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
    /// use std::time::Duration;
    /// let jobs: steward_client::Queue<String> = manager.named("jobs").await?;
    /// jobs.put("sweep").await?;
    /// let job = jobs.get().timeout(Duration::from_secs(5)).await?;
    /// # let _: String = job; Ok(())
    /// # }
    /// ```
    Queue<T> = "Queue"
}

typed! {
    /// A [`Queue`] under the name that Python's managers have for one whose tasks are joined.
    JoinableQueue<T> = "JoinableQueue"
}

typed! {
    /// A queue that gives out the newest item first. Follows `queue.LifoQueue`.
    LifoQueue<T> = "LifoQueue"
}

typed! {
    /// A queue that gives out the smallest item first. Follows `queue.PriorityQueue`.
    PriorityQueue<T> = "PriorityQueue"
}

macro_rules! queue {
    ($($name:ident)+) => { $(
        impl<T> $name<T> {
            /// Adds an item, waiting for room if the queue is full.
            ///
            /// # Errors
            /// Raised `Full` at the deadline, `ShutDown` once the queue was shut down.
            pub fn put<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<()> {
                self.proxy.call_static("put", (item,))
            }

            /// Adds an item if there is room.
            ///
            /// # Errors
            /// Raised `Full` if there is none, `ShutDown`.
            pub fn put_nowait<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<()> {
                self.proxy.call_static("put_nowait", (item,))
            }

            /// Removes and returns the next item, waiting for one. Give it a [`Call::timeout`] rather than dropping it: an
            /// item that arrives in the moment of the drop is lost.
            ///
            /// # Errors
            /// Raised `Empty` at the deadline, `ShutDown` once the queue is shut down and empty.
            pub fn get(&self) -> Call<T>
            where
                T: DeserializeOwned,
            {
                self.proxy.call_static("get", ())
            }

            /// Removes and returns the next item if there is one.
            ///
            /// # Errors
            /// Raised `Empty` if there is none, `ShutDown`.
            pub fn get_nowait(&self) -> Call<T>
            where
                T: DeserializeOwned,
            {
                self.proxy.call_static("get_nowait", ())
            }

            /// Adds several items in one call and in this order, waiting for room for all of them.
            ///
            /// # Errors
            /// As [`Self::put`].
            pub fn put_many<Q: Serialize>(&self, items: &[Q]) -> Call<()> {
                self.proxy.call_static("put_many", (items,))
            }

            /// Removes and returns up to `n` items in one call, waiting for the first. As with [`Self::get`], prefer a
            /// timeout to dropping it.
            ///
            /// # Errors
            /// As [`Self::get`].
            pub fn get_many(&self, n: u64) -> Call<Vec<T>>
            where
                T: DeserializeOwned,
            {
                self.proxy.call_static("get_many", (n,))
            }

            /// Borrows the next item for `lease`, waiting for one: it is gone from the queue for good once
            /// [`Leased::ack`] says that it is dealt with. If that is not said within the lease, or this session ends, the item
            /// returns to its place, and may have been dealt with all the same: each is delivered at least once.
            ///
            /// The host counts the lease, in milliseconds rounded up, from when it hands the item out. An item that is no `T`
            /// is [`Error::Decode`] and returns with the end of its lease.
            ///
            /// # Errors
            /// As [`Self::get`]; raised `ValueError` for a lease of 0 or above 49 days.
            pub fn get_leased(&self, lease: Duration) -> Call<Leased<T>>
            where
                T: DeserializeOwned,
            {
                self.proxy.call_name(Name::Static("get_leased"), (milliseconds(lease),), leased)
            }

            /// How many items are lent out; [`Self::qsize`] does not count them.
            pub fn lent(&self) -> Call<u64> {
                self.proxy.call_static("lent", ())
            }

            /// Whether the queue was shut down.
            pub fn is_shutdown(&self) -> Call<bool> {
                self.proxy.call_static("is_shutdown", ())
            }

            /// How many items wait.
            pub fn qsize(&self) -> Call<u64> {
                self.proxy.call_static("qsize", ())
            }

            /// Whether no item waits.
            pub fn empty(&self) -> Call<bool> {
                self.proxy.call_static("empty", ())
            }

            /// Whether there is no room.
            pub fn full(&self) -> Call<bool> {
                self.proxy.call_static("full", ())
            }

            /// Says that an item that was got is dealt with; of a leased one, [`Leased::ack`] has said it.
            ///
            /// # Errors
            /// Raised `ValueError` if called more often than items were put.
            pub fn task_done(&self) -> Call<()> {
                self.proxy.call_static("task_done", ())
            }

            /// Waits until every item that was put is dealt with.
            pub fn join(&self) -> Call<()> {
                self.proxy.call_static("join", ())
            }

            /// Takes no more items; `immediate` throws away those that wait, and those that are lent.
            pub fn shutdown(&self, immediate: bool) -> Call<()> {
                self.proxy.call_static("shutdown", (immediate,))
            }
        }
    )+ };
}

queue! { Queue JoinableQueue LifoQueue PriorityQueue }

/// An item that a queue has lent, as `get_leased` gives it.
///
/// Dropping it says nothing to the queue: the item stays lent until its lease ends, and then returns.
///
/// ```no_run
/// # async fn example(jobs: steward_client::Queue<String>) -> Result<(), steward_client::Error> {
/// use std::time::Duration;
/// let job = jobs.get_leased(Duration::from_secs(60)).await?;
/// match job.item().as_str() {
///     "sweep" => job.ack().await?,
///     _ => job.nack().await?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an item that is not acknowledged returns to its queue"]
pub struct Leased<T> {
    queue: Proxy,
    item: T,
    receipt: u64,
    deliveries: u64,
}

impl<T> Leased<T> {
    /// The item.
    pub fn item(&self) -> &T {
        &self.item
    }

    /// The item alone: its lease goes on, and only [`Self::receipt`] still reaches it.
    pub fn into_inner(self) -> T {
        self.item
    }

    /// How often the item was handed out, this time included.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The number by which the queue knows the loan: who has it may call the queue's `ack`, `nack` and `extend`.
    pub fn receipt(&self) -> u64 {
        self.receipt
    }

    /// Says that the item is dealt with. The queue lets it go, and its `join` no longer waits for it.
    ///
    /// # Errors
    /// Raised `ValueError` if the lease has ended: the item is somebody else's by now, or will be.
    pub fn ack(&self) -> Call<()> {
        self.queue.call_static("ack", (self.receipt,))
    }

    /// Gives the item back. It returns to its place at once, or goes to the dead-letter queue.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn nack(&self) -> Call<()> {
        self.queue.call_static("nack", (self.receipt,))
    }

    /// Lets the lease end `lease` from now, whatever was left of it.
    ///
    /// # Errors
    /// As [`Self::ack`]; raised `ValueError` for a lease of 0 or above 49 days.
    pub fn extend(&self, lease: Duration) -> Call<()> {
        self.queue.call_static("extend", (self.receipt, milliseconds(lease)))
    }
}

fn leased<T: DeserializeOwned>(queue: &Proxy, delivered: Delivered) -> Result<Leased<T>, Error> {
    let (item, receipt, deliveries) = decode(queue, delivered)?;
    Ok(Leased { queue: queue.clone(), item, receipt, deliveries })
}

fn milliseconds(lease: Duration) -> u64 {
    u64::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// How a queue is made: [`crate::Manager::queue_with`].
///
/// ```no_run
/// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
/// use steward_client::{Queue, QueueOptions};
/// let failed = manager.queue::<String>(0).await?;
/// let options = QueueOptions::new().maxsize(100).dead_letter(3, &failed);
/// let jobs: Queue<String> = manager.queue_with(options).await?;
/// # let _ = jobs; Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct QueueOptions {
    maxsize: u64,
    dead_letter: Option<(u32, Proxy)>,
}

impl QueueOptions {
    /// A queue without a bound, which delivers an item as often as it comes back.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with room for so many items; 0 means no bound. What is lent takes none.
    #[must_use]
    pub fn maxsize(mut self, maxsize: u64) -> Self {
        self.maxsize = maxsize;
        self
    }

    /// The same with another queue for items that were lent `max_deliveries` times, at least 1, and came back. The queue keeps
    /// it alive.
    #[must_use]
    pub fn dead_letter(mut self, max_deliveries: u32, queue: &impl Typed) -> Self {
        self.dead_letter = Some((max_deliveries, queue.proxy().clone()));
        self
    }
}

impl IntoArgs for QueueOptions {
    fn into_args(self) -> Result<Vec<u8>, Error> {
        let args = Args::new().arg(&self.maxsize);
        let args = match &self.dead_letter {
            Some((max_deliveries, queue)) => {
                args.keyword("max_deliveries", max_deliveries).keyword("dead_letter", queue)
            }
            None => args,
        };
        args.into_args()
    }
}
