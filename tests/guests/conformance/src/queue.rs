//! `queue.Queue`.

use std::collections::VecDeque;

use steward_guest::prelude::*;

use crate::not_picklable;

/// Bytes of items that one `get_many` hands out, unless the first item alone is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Items in the order they were put.
#[derive(Debug, Serialize, Deserialize)]
pub struct Queue {
    /// 0: no limit.
    maxsize: usize,
    items: VecDeque<Item>,
    /// Items that were put and not yet dealt with.
    unfinished: u64,
    shut: Shut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Shut {
    Open,
    /// What is there may still be got.
    Draining,
    /// Shut down at once: what comes back is dropped.
    Dropped,
}

/// A queue: first in, first out.
#[object(version = "1.0.0", name = "GuestQueue")]
impl Queue {
    /// An empty queue; it has no limit if `maxsize` is not above 0.
    pub fn new(#[default(0)] maxsize: i64) -> Self {
        let maxsize = usize::try_from(maxsize.max(0)).unwrap_or(usize::MAX);
        Self { maxsize, items: VecDeque::new(), unfinished: 0, shut: Shut::Open }
    }

    /// Adds an item, parking while the queue is full. Raises Full at the deadline, ShutDown if the queue is shut down.
    #[method(fifo, line = "put", timeout = raise("Full", ""))]
    pub fn put(&mut self, item: Item) -> Result<()> {
        self.put_many(vec![item])
    }

    /// Removes and returns an item, parking while the queue is empty.
    #[method(fifo, line = "get", timeout = raise("Empty", ""))]
    pub fn get(&mut self) -> Result<Item> {
        match self.items.pop_front() {
            Some(item) => Ok(item),
            None if self.shut == Shut::Open => pending(),
            None => raise("ShutDown", ""),
        }
    }

    /// Adds an item. Raises Full if there is no room.
    pub fn put_nowait(&mut self, item: Item) -> Result<()> {
        match self.put(item) {
            Err(Stop::Pending { .. }) => raise("Full", ""),
            result => result,
        }
    }

    /// Removes and returns an item. Raises Empty if there is none.
    pub fn get_nowait(&mut self) -> Result<Item> {
        match self.get() {
            Err(Stop::Pending { .. }) => raise("Empty", ""),
            result => result,
        }
    }

    /// Adds all items of a list at once, parking until there is room for all.
    #[method(fifo, line = "put", timeout = raise("Full", ""))]
    pub fn put_many(&mut self, items: Vec<Item>) -> Result<()> {
        let count = items.len();
        if self.shut != Shut::Open {
            return raise("ShutDown", "");
        }
        if self.maxsize > 0 && count > self.maxsize {
            return raise("ValueError", format!("{count} items never fit, maxsize is {}", self.maxsize));
        }
        if self.maxsize > 0 && self.items.len() + count > self.maxsize {
            return pending();
        }
        self.items.extend(items);
        self.unfinished += count as u64;
        Ok(())
    }

    /// Removes and returns a list of up to `n` items, parking while the queue is empty.
    #[method(fifo, line = "get", timeout = raise("Empty", ""))]
    pub fn get_many(&mut self, n: i64) -> Result<Vec<Item>> {
        let Some(n) = usize::try_from(n).ok().filter(|n| *n > 0) else {
            return raise("ValueError", "n must be one or more");
        };
        let mut batch = vec![self.get()?];
        let mut bytes = batch[0].as_bytes().len();
        while batch.len() < n
            && let Some(next) = self.items.front()
        {
            bytes += next.as_bytes().len();
            if bytes > BATCH_BYTES_MAX {
                break;
            }
            batch.extend(self.items.pop_front());
        }
        Ok(batch)
    }

    /// How many items there are.
    pub fn qsize(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub fn empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there are as many items as `maxsize` allows.
    pub fn full(&self) -> bool {
        self.maxsize > 0 && self.items.len() >= self.maxsize
    }

    /// Says that an item that was got is dealt with.
    pub fn task_done(&mut self) -> Result<()> {
        match self.unfinished.checked_sub(1) {
            Some(unfinished) => self.unfinished = unfinished,
            None => return raise("ValueError", "task_done() called too many times"),
        }
        Ok(())
    }

    /// Parks until every item that was put is dealt with. Raises TimeoutError at the deadline.
    #[method(all, timeout = raise("TimeoutError", format!("{} items are not dealt with", self.unfinished)))]
    pub fn join(&self) -> Result<()> {
        if self.unfinished == 0 { Ok(()) } else { pending() }
    }

    /// Ends the queue; if `immediate`, all items are dropped and count as dealt with.
    pub fn shutdown(&mut self, #[default(false)] immediate: bool) {
        if immediate {
            self.shut = Shut::Dropped;
            self.unfinished = self.unfinished.saturating_sub(self.items.len() as u64);
            self.items.clear();
        } else if self.shut == Shut::Open {
            self.shut = Shut::Draining;
        }
    }

    /// Whether the queue is shut down.
    pub fn is_shutdown(&self) -> bool {
        self.shut != Shut::Open
    }

    /// Does nothing; `multiprocessing.Queue` has it.
    pub fn close(&self) {}

    /// Does nothing; `multiprocessing.Queue` has it.
    pub fn join_thread(&self) {}

    /// Does nothing; `multiprocessing.Queue` has it.
    pub fn cancel_join_thread(&self) {}

    /// A queue has no value to copy.
    #[method(name = "#GETVALUE")]
    pub fn value(&self) -> Result<()> {
        not_picklable()
    }

    /// `str(queue)`.
    pub fn __str__(&self) -> String {
        match (self.items.len(), self.maxsize) {
            (1, 0) => "<Queue: 1 item>".into(),
            (count, 0) => format!("<Queue: {count} items>"),
            (count, maxsize) => format!("<Queue: {count} of {maxsize} items>"),
        }
    }

    /// `repr(queue)`.
    pub fn __repr__(&self) -> String {
        self.__str__()
    }

    /// Items that nobody got go back to their place; those lost last come first.
    #[on(undelivered)]
    fn undelivered(&mut self, _: &Context, lost: Undelivered) -> bool {
        let items = match lost.method {
            "get" | "get_nowait" => lost.result().map(|item| vec![item]),
            "get_many" => lost.result(),
            _ => return false,
        };
        let Ok(items) = items else { return false };
        if self.shut == Shut::Dropped {
            self.unfinished = self.unfinished.saturating_sub(items.len() as u64);
        } else {
            items.into_iter().rev().for_each(|item| self.items.push_front(item));
        }
        true
    }
}
