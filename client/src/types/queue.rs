//! Queues.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Call;
use crate::types::typed;

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

            /// Says that an item that was got is dealt with.
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

            /// Takes no more items; `immediate` throws away those that wait.
            pub fn shutdown(&self, immediate: bool) -> Call<()> {
                self.proxy.call_static("shutdown", (immediate,))
            }
        }
    )+ };
}

queue! { Queue JoinableQueue LifoQueue PriorityQueue }
