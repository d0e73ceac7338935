//! Queue, JoinableQueue, LifoQueue and PriorityQueue.
//!
//! What `get` hands out belongs to its session, and comes back only if the session ends without having acknowledged the reply.
//! What `get_leased` hands out stays the queue's (`leases.rs`) until `ack`. Wherever an item comes back from, its number
//! puts it where it was, so that no order of events can lose it, double it, or let a later one overtake.

use std::collections::{BTreeMap, BTreeSet};

use steward_wire::cbor::{self, Kind, Reader};
use steward_wire::value::{tag, tokens};

use crate::{Args, Builtin, Call, CallId, Fault, Input, Method, Outbox, Param, Referent, Why, data};

use super::leases::{DeadLetters, Leases};
use super::store::{Item, Store};
use super::{cancelled, common_method, compared_integer, flag, integer, unjoinable};

/// Bytes of items that one `get_many` hands out, unless the first item alone is larger; the rest stays.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
pub use super::leases::LEASE_MS_MAX;

/// `queue.Queue`.
pub static QUEUE: Builtin = Builtin {
    typeid: "Queue",
    doc: "A queue: first in, first out.\n\nFollows `queue.Queue` of Python 3.13. Those who wait are served in the order in which \
          they came. An item whose getter is lost before it has the item returns to its place.\n\n\
          What `get_leased` lends returns to its place, too, unless it is acknowledged in time. With a `dead_letter`, a queue of the \
          same host, one that was delivered `max_deliveries` times is put there instead; if that raises, it returns after all.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create: |args, out| Queue::create(args, out, "Queue", Store::Fifo(Default::default())),
    joins: &[],
    snapshots: false,
    constructible: true,
};

/// `queue.Queue` once more, as in CPython's managers.
pub static JOINABLE_QUEUE: Builtin = Builtin {
    typeid: "JoinableQueue",
    doc: "The same as Queue.",
    create: |args, out| Queue::create(args, out, "JoinableQueue", Store::Fifo(Default::default())),
    ..QUEUE
};

/// `queue.LifoQueue`.
pub static LIFO_QUEUE: Builtin = Builtin {
    typeid: "LifoQueue",
    doc: "A stack: last in, first out.\n\nOtherwise as Queue.",
    create: |args, out| Queue::create(args, out, "LifoQueue", Store::Lifo(Default::default())),
    ..QUEUE
};

/// `queue.PriorityQueue`.
pub static PRIORITY_QUEUE: Builtin = Builtin {
    typeid: "PriorityQueue",
    doc: "A queue that the least item leaves first, of equal ones the first put.\n\nItems are compared as Python's `<` does. Where they \
          cannot be, `put` or `get` raises TypeError and the queue is as it was. Otherwise as Queue.",
    create: |args, out| Queue::create(args, out, "PriorityQueue", Store::Priority(Vec::new())),
    ..QUEUE
};

const CONSTRUCTOR: &[Param] = &[
    Param::optional("maxsize", "int", "0"),
    Param::keyword("max_deliveries", "int", "0"),
    Param::keyword("dead_letter", "Queue", "None"),
];

methods! {
    /// Methods of all queues.
    QueueMethod, METHODS:
    Put = Method::new(
        "put",
        &[Param::required("item", "any")],
        "Adds an item, parking while the queue is full.\n\nRaises Full at the deadline, ShutDown if the queue is shut down.",
    ).stores().may_park();
    Get = Method::new(
        "get",
        &[],
        "Removes and returns an item, parking while the queue is empty.\n\nRaises Empty at the deadline, ShutDown if the queue is empty \
         and shut down.",
    ).may_park();
    PutNowait = Method::new(
        "put_nowait",
        &[Param::required("item", "any")],
        "Adds an item. Raises Full if there is no room, or others wait for it.",
    ).stores();
    GetNowait = Method::new("get_nowait", &[], "Removes and returns an item. Raises Empty if there is none.");
    PutMany = Method::new(
        "put_many",
        &[Param::required("items", "list")],
        "Adds all items of a list at once, parking until there is room for all.\n\nRaises as `put`, nothing having been added, and \
         ValueError for more items than `maxsize`.",
    ).stores().may_park();
    GetMany = Method::new(
        "get_many",
        &[Param::required("n", "int")],
        "Removes and returns a list of up to `n` items, parking while the queue is empty.\n\nThere may be fewer, never none; a list \
         ends at 1 MiB of items. Raises as `get`.",
    ).may_park();
    GetLeased = Method::new(
        "get_leased",
        &[Param::required("lease_ms", "int")],
        "Lends an item for `lease_ms`, parking while the queue is empty; returns it in a tuple with a receipt and the number of its \
         deliveries, this one included.\n\nUnless it is acknowledged with the receipt before the lease ends, or if the session ends in \
         whatever way, the item returns to its place. Raises as `get`, and ValueError for a lease below 1 ms or above 49 days.",
    ).may_park();
    Ack = Method::new(
        "ack",
        &[Param::required("receipt", "int")],
        "Says that a lent item is dealt with: it is gone, and `join` no longer waits for it (no `task_done` for a lent item).\n\nAny \
         session may that has the receipt. Raises ValueError if the item is not out (any more).",
    );
    Nack = Method::new(
        "nack",
        &[Param::required("receipt", "int")],
        "Gives a lent item back: it returns to its place at once, as if its lease had ended. Raises ValueError as `ack`.",
    );
    Extend = Method::new(
        "extend",
        &[Param::required("receipt", "int"), Param::required("lease_ms", "int")],
        "Lets a lease end `lease_ms` from now, whatever was left of it. Raises ValueError as `ack`, and for a lease out of bounds.",
    );
    Lent = Method::new("lent", &[], "How many items are lent out; `qsize` does not count them.").read_only();
    Qsize = Method::new("qsize", &[], "How many items there are.").read_only();
    Empty = Method::new("empty", &[], "Whether there are no items.").read_only();
    Full = Method::new("full", &[], "Whether there are as many items as `maxsize` allows.").read_only();
    TaskDone = Method::new(
        "task_done",
        &[],
        "Says that an item that was got is dealt with. Raises ValueError if called more often than items were put.",
    );
    Join = Method::new(
        "join",
        &[],
        "Parks until every item that was put is dealt with. Raises TimeoutError at the deadline.",
    ).may_park();
    Shutdown = Method::new(
        "shutdown",
        &[Param::optional("immediate", "bool", "False")],
        "Ends the queue: `put` raises ShutDown from now on, and so does `get` once the queue is empty.\n\nIf `immediate`, all items, lent \
         ones too, are dropped and count as dealt with.",
    );
    IsShutdown = Method::new("is_shutdown", &[], "Whether the queue is shut down.").read_only();
    Close = Method::new("close", &[], "Does nothing; `multiprocessing.Queue` has it.").read_only();
    JoinThread = Method::new("join_thread", &[], "Does nothing; `multiprocessing.Queue` has it.").read_only();
    CancelJoinThread =
        Method::new("cancel_join_thread", &[], "Does nothing; `multiprocessing.Queue` has it.").read_only();
}

#[derive(Debug)]
struct Queue {
    typeid: &'static str,
    /// 0: no limit.
    maxsize: u64,
    store: Store,
    /// Of the next item.
    number_next: u64,
    /// Items that were put and not yet dealt with.
    unfinished: u64,
    shut: Shut,
    /// A token was put at some time, so items must be searched for tokens when they come and go.
    tokens: bool,
    /// Somebody can be served, and will be in the first step that no longer clears up after a lost session: by then all items
    /// that were lost with it are back, in order, and of its calls none is left that could be served.
    serves_later: bool,
    /// Who waits for items. Empty while there are items, but for `serves_later`.
    getters: BTreeMap<CallId, Want>,
    /// Who waits for room.
    putters: BTreeMap<CallId, Pending>,
    /// Who waits for `unfinished` to be 0.
    joiners: BTreeSet<CallId>,
    /// A plain queue has none.
    leases: Option<Box<Leases>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shut {
    Open,
    /// What is there may still be got.
    Draining,
    /// Shut down at once: what comes back is dropped.
    Dropped,
}

/// What a parked call wants.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// The item.
    One,
    /// A list of up to so many.
    UpTo(u64),
    /// The item on loan.
    Leased { lease_ms: u32, session: u64 },
}

/// What a parked call adds.
#[derive(Debug)]
struct Pending {
    /// Encoded, one after the other.
    items: Box<[u8]>,
    count: u64,
}

impl Queue {
    fn create(
        args: Args<'_>,
        out: &mut Outbox,
        typeid: &'static str,
        store: Store,
    ) -> Result<Box<dyn Referent>, Fault> {
        let [maxsize, max_deliveries, dead_letter] = args.bind("Queue.__init__", CONSTRUCTOR)?;
        let maxsize = maxsize.map_or(Ok(0), |item| compared_integer(item, ">"))?;
        let dead_letters = DeadLetters::read(max_deliveries, dead_letter, out)?;
        Ok(Box::new(Self {
            typeid,
            maxsize: maxsize.max(0) as u64,
            store,
            number_next: 0,
            unfinished: 0,
            shut: Shut::Open,
            tokens: false,
            serves_later: false,
            getters: BTreeMap::new(),
            putters: BTreeMap::new(),
            joiners: BTreeSet::new(),
            leases: dead_letters.map(|dead_letters| Box::new(Leases::new(dead_letters))),
        }))
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let Some(method) = QueueMethod::of(call.method) else {
            common_method(call, out, "_thread.lock", || match (self.store.len(), self.maxsize) {
                (1, 0) => format!("<{}: 1 item>", self.typeid),
                (count, 0) => format!("<{}: {count} items>", self.typeid),
                (count, maxsize) => format!("<{}: {count} of {maxsize} items>", self.typeid),
            });
            return Ok(());
        };
        match method {
            QueueMethod::Put | QueueMethod::PutNowait => {
                let may_park = method == QueueMethod::Put;
                let name = if may_park { "Queue.put" } else { "Queue.put_nowait" };
                let [item] = call.args.bind(name, METHODS[method as usize].params)?;
                self.put(call, item.expect("a required argument"), 1, may_park, out)?;
            }
            QueueMethod::PutMany => {
                let [items] = call.args.bind("Queue.put_many", METHODS[method as usize].params)?;
                let (items, count) = elements(items.expect("a required argument"))?;
                self.put(call, items, count, true, out)?;
            }
            QueueMethod::Get => {
                let [] = call.args.bind("Queue.get", &[])?;
                self.get(call, Want::One, true, out)?;
            }
            QueueMethod::GetNowait => {
                let [] = call.args.bind("Queue.get_nowait", &[])?;
                self.get(call, Want::One, false, out)?;
            }
            QueueMethod::GetMany => {
                let [n] = call.args.bind("Queue.get_many", METHODS[method as usize].params)?;
                let n = integer(n.expect("a required argument"))?;
                let n = u64::try_from(n).ok().filter(|n| *n > 0);
                let n = n.ok_or_else(|| Fault::raised("ValueError", "n must be one or more"))?;
                self.get(call, Want::UpTo(n), true, out)?;
            }
            QueueMethod::GetLeased => {
                let [lease_ms] = call.args.bind("Queue.get_leased", METHODS[method as usize].params)?;
                let lease_ms = lease(lease_ms.expect("a required argument"))?;
                self.get(call, Want::Leased { lease_ms, session: call.owner.session }, true, out)?;
            }
            QueueMethod::Ack => {
                let [receipt] = call.args.bind("Queue.ack", METHODS[method as usize].params)?;
                let (_, item) = self.take_lent(receipt.expect("a required argument"))?;
                out.returns_null(call.id);
                out.changed();
                self.removed(&item.bytes, 1, out);
                self.dealt_with(1, out);
            }
            QueueMethod::Nack => {
                let [receipt] = call.args.bind("Queue.nack", METHODS[method as usize].params)?;
                let lent = self.take_lent(receipt.expect("a required argument"))?;
                out.returns_null(call.id);
                self.come_back(vec![lent], out);
                self.serve(call.now_ms, out);
            }
            QueueMethod::Extend => {
                let [item, lease_ms] = call.args.bind("Queue.extend", METHODS[method as usize].params)?;
                let receipt = integer(item.expect("a required argument"))?;
                let ends_ms = call.now_ms.saturating_add(lease(lease_ms.expect("a required argument"))?.into());
                let number = u64::try_from(receipt).ok();
                let extended = number.zip(self.leases.as_mut());
                if !extended.is_some_and(|(number, leases)| leases.extend(number, ends_ms, out)) {
                    return Err(not_out(receipt));
                }
                out.returns_null(call.id);
                out.changed();
            }
            QueueMethod::Lent => {
                let [] = call.args.bind("Queue.lent", &[])?;
                let lent = self.leases.as_ref().map_or(0, |leases| leases.len());
                out.returns(call.id, |bytes| cbor::put_u64(bytes, lent as u64));
            }
            QueueMethod::Qsize => {
                let [] = call.args.bind("Queue.qsize", &[])?;
                out.returns(call.id, |bytes| cbor::put_u64(bytes, self.store.len() as u64));
            }
            QueueMethod::Empty => {
                let [] = call.args.bind("Queue.empty", &[])?;
                out.returns_bool(call.id, self.store.is_empty());
            }
            QueueMethod::Full => {
                let [] = call.args.bind("Queue.full", &[])?;
                out.returns_bool(call.id, !self.has_room(1));
            }
            QueueMethod::TaskDone => {
                let [] = call.args.bind("Queue.task_done", &[])?;
                let unfinished = self.unfinished.checked_sub(1);
                self.unfinished =
                    unfinished.ok_or_else(|| Fault::raised("ValueError", "task_done() called too many times"))?;
                out.returns_null(call.id);
                out.changed();
                self.let_joiners_go(out);
            }
            QueueMethod::Join => {
                let [] = call.args.bind("Queue.join", &[])?;
                self.joiners.insert(call.id);
                self.let_joiners_go(out);
            }
            QueueMethod::Shutdown => {
                let [immediate] = call.args.bind("Queue.shutdown", METHODS[method as usize].params)?;
                let immediate = flag(immediate, false)?;
                out.returns_null(call.id);
                self.shut_down(immediate, out);
            }
            QueueMethod::IsShutdown => {
                let [] = call.args.bind("Queue.is_shutdown", &[])?;
                out.returns_bool(call.id, self.shut != Shut::Open);
            }
            QueueMethod::Close => {
                let [] = call.args.bind("Queue.close", &[])?;
                out.returns_null(call.id);
            }
            QueueMethod::JoinThread => {
                let [] = call.args.bind("Queue.join_thread", &[])?;
                out.returns_null(call.id);
            }
            QueueMethod::CancelJoinThread => {
                let [] = call.args.bind("Queue.cancel_join_thread", &[])?;
                out.returns_null(call.id);
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        call: &Call<'_>,
        items: &[u8],
        count: u64,
        may_park: bool,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if self.shut != Shut::Open {
            return Err(shut_down());
        }
        if count == 0 {
            out.returns_null(call.id);
            return Ok(());
        }
        if self.maxsize > 0 && count > self.maxsize {
            return Err(Fault::raised("ValueError", format!("{count} items never fit, maxsize is {}", self.maxsize)));
        }
        // A newcomer never overtakes, even where it would fit and the one in front does not.
        let goes = self.putters.is_empty() && self.has_room(count);
        if !goes && !may_park {
            return Err(full());
        }
        if goes {
            self.add(items, count)?;
            out.returns_null(call.id);
            out.changed();
        } else {
            self.putters.insert(call.id, Pending { items: items.into(), count });
        }
        self.tokens |= call.args.has_tokens();
        self.stored(items, count, out);
        self.serve(call.now_ms, out);
        Ok(())
    }

    fn add(&mut self, items: &[u8], count: u64) -> Result<(), Fault> {
        let first = self.number_next;
        let mut reader = Reader::new(items);
        self.store.push((0..count).map(|index| {
            // One item is not looked into.
            let item = if count == 1 { items } else { reader.raw().expect("arguments were checked on arrival") };
            Item { number: first + index, deliveries: 0, bytes: item.into() }
        }))?;
        self.number_next += count;
        self.unfinished += count;
        Ok(())
    }

    fn get(&mut self, call: &Call<'_>, want: Want, may_park: bool, out: &mut Outbox) -> Result<(), Fault> {
        if !self.store.is_empty() {
            self.hand_out(call.id, want, call.now_ms, out);
            self.serve(call.now_ms, out);
            return Ok(());
        }
        if self.shut != Shut::Open {
            return Err(shut_down());
        }
        if !may_park {
            return Err(empty());
        }
        self.getters.insert(call.id, want);
        Ok(())
    }

    /// Serves whoever can be served, first come first.
    fn serve(&mut self, now_ms: u64, out: &mut Outbox) {
        loop {
            while !self.store.is_empty()
                && let Some((call, want)) = self.getters.pop_first()
            {
                self.hand_out(call, want, now_ms, out);
            }
            let Some(first) = self.putters.first_entry() else { return };
            if self.maxsize > 0 && self.store.len() as u64 + first.get().count > self.maxsize {
                return;
            }
            let (call, Pending { items, count }) = first.remove_entry();
            match self.add(&items, count) {
                Ok(()) => {
                    out.returns_null(call);
                    out.changed();
                }
                Err(fault) => {
                    self.removed(&items, count, out);
                    out.raises(call, &fault);
                }
            }
        }
    }

    /// Answers `call` with what it wants, from a queue that is not empty.
    fn hand_out(&mut self, call: CallId, want: Want, now_ms: u64, out: &mut Outbox) {
        let mut first = match self.store.pop() {
            Ok(first) => first.expect("the queue is not empty"),
            Err(fault) => return out.raises(call, &fault),
        };
        out.changed();
        first.deliveries = first.deliveries.saturating_add(1);
        let note = note(&first);
        let n = match want {
            Want::One => {
                self.removed(&first.bytes, 1, out);
                out.returns_item(call, &first.bytes);
                return out.note(call, note);
            }
            Want::Leased { lease_ms, session } => return self.lend(call, first, lease_ms, session, now_ms, out),
            Want::UpTo(n) => n,
        };
        self.removed(&first.bytes, 1, out);
        let (number, deliveries) = (first.number, first.deliveries);
        let mut bytes = first.bytes.len();
        let mut items = vec![first];
        while (items.len() as u64) < n
            && let Some(next) = self.store.peek()
        {
            // The note names one number and one count of deliveries, from which those of the others must follow.
            let follows = match self.store {
                Store::Fifo(_) | Store::Lifo(_) => {
                    next.number == self.store.number_in_batch(number, items.len() as u64)
                }
                Store::Priority(_) => true,
            };
            bytes += next.bytes.len();
            if !follows || next.deliveries.saturating_add(1) != deliveries || bytes > BATCH_BYTES_MAX {
                break;
            }
            // Two that cannot be compared end the batch; the next `get` says so.
            let Ok(Some(next)) = self.store.pop() else { break };
            self.removed(&next.bytes, 1, out);
            items.push(next);
        }
        out.returns(call, |bytes| {
            cbor::put_array(bytes, items.len());
            items.iter().for_each(|item| bytes.extend_from_slice(&item.bytes));
        });
        out.note(call, note);
    }

    /// Answers `call` with an item that stays the queue's, tokens and all.
    fn lend(&mut self, call: CallId, item: Item, lease_ms: u32, session: u64, now_ms: u64, out: &mut Outbox) {
        let leases = self.leases.get_or_insert_default();
        out.returns(call, |bytes| {
            cbor::put_tag(bytes, tag::TUPLE);
            cbor::put_array(bytes, 3);
            bytes.extend_from_slice(&item.bytes);
            cbor::put_u64(bytes, leases.receipt_next());
            cbor::put_u64(bytes, item.deliveries.into());
        });
        let receipt = leases.lend(item, session, now_ms.saturating_add(lease_ms.into()), out);
        out.note(call, receipt);
    }

    /// What a lost reply carried goes back to its place, or where `shutdown` has sent the rest.
    fn take_back(&mut self, method: u16, payload: &[u8], note: u64, now_ms: u64, out: &mut Outbox) {
        let (items, count) = match QueueMethod::of(method) {
            Some(QueueMethod::Get | QueueMethod::GetNowait) => (payload, 1),
            Some(QueueMethod::GetMany) => elements(payload).expect("the reply was a list"),
            Some(QueueMethod::GetLeased) => {
                // It may have come back already, with its session or at the end of its lease.
                if let Some(item) = self.leases.as_mut().and_then(|leases| leases.take(note)) {
                    self.come_back(vec![(note, item)], out);
                    self.serve_later(now_ms, out);
                }
                return;
            }
            _ => return,
        };
        out.changed();
        if self.shut == Shut::Dropped {
            return self.dealt_with(count, out);
        }
        self.stored(items, count, out);
        let (first, deliveries) = noted(note);
        let mut reader = Reader::new(items);
        for index in 0..count {
            let item = if count == 1 { items } else { reader.raw().expect("the reply was a list of items") };
            let number = self.store.number_in_batch(first, index);
            self.store.give_back(Item { number, deliveries, bytes: item.into() });
        }
        self.serve_later(now_ms, out);
    }

    /// The lent item that an argument names, no longer lent.
    fn take_lent(&mut self, receipt: &[u8]) -> Result<(u64, Item), Fault> {
        let receipt = integer(receipt)?;
        let number = u64::try_from(receipt).map_err(|_| not_out(receipt))?;
        let item = self.leases.as_mut().and_then(|leases| leases.take(number));
        Ok((number, item.ok_or_else(|| not_out(receipt))?))
    }

    /// Lent items return to their places, or go to the dead-letter queue. Serves nobody yet.
    fn come_back(&mut self, mut lent: Vec<(u64, Item)>, out: &mut Outbox) {
        let leases = self.leases.as_mut().expect("it lent these");
        lent.sort_unstable_by_key(|(_, item)| item.number);
        let again = lent.into_iter().filter_map(|(receipt, item)| leases.send_away(receipt, item, out)).collect();
        self.store.give_back_all(again);
        out.changed();
    }

    /// The dead-letter queue has taken an item, or it has not, and the item returns to its place.
    fn sent_away(&mut self, receipt: u64, is_taken: bool, now_ms: u64, out: &mut Outbox) {
        let Some(item) = self.leases.as_mut().and_then(|leases| leases.take_sent(receipt)) else { return };
        out.changed();
        if is_taken || self.shut == Shut::Dropped {
            self.removed(&item.bytes, 1, out);
            self.dealt_with(1, out);
        } else {
            self.store.give_back(item);
            self.serve(now_ms, out);
        }
    }

    /// Time has passed: what is lent too long comes back.
    fn tick(&mut self, now_ms: u64, out: &mut Outbox) {
        let Some(leases) = &mut self.leases else { return };
        let ended = leases.take_ended(now_ms);
        if !ended.is_empty() {
            self.come_back(ended, out);
            self.serve(now_ms, out);
        }
        if let Some(leases) = &mut self.leases {
            leases.wake(out);
        }
    }

    fn owner_lost(&mut self, session: u64, now_ms: u64, out: &mut Outbox) {
        let lent = self.leases.as_mut().map(|leases| leases.take_of(session)).unwrap_or_default();
        if !lent.is_empty() {
            self.come_back(lent, out);
            self.serve_later(now_ms, out);
        }
    }

    /// Items that nobody will say `task_done` of.
    fn dealt_with(&mut self, count: u64, out: &mut Outbox) {
        self.unfinished = self.unfinished.saturating_sub(count);
        self.let_joiners_go(out);
    }

    fn serve_later(&mut self, now_ms: u64, out: &mut Outbox) {
        if !self.getters.is_empty() || !self.putters.is_empty() {
            self.serves_later = true;
            out.wake_at(now_ms);
        }
    }

    fn shut_down(&mut self, immediate: bool, out: &mut Outbox) {
        if self.shut == Shut::Open || immediate {
            out.changed();
        }
        if immediate {
            self.shut = Shut::Dropped;
            let has_tokens = self.tokens;
            let lent = self.leases.iter_mut().flat_map(|leases| leases.drain());
            for item in self.store.drain().chain(lent) {
                self.unfinished = self.unfinished.saturating_sub(1);
                out.remove_item(item.bytes.len());
                if has_tokens {
                    tokens(&item.bytes, &mut |ident| out.let_go(ident));
                }
            }
        } else if self.shut == Shut::Open {
            self.shut = Shut::Draining;
        }
        for (call, _) in std::mem::take(&mut self.getters) {
            out.raises(call, &shut_down());
        }
        for (call, pending) in std::mem::take(&mut self.putters) {
            self.removed(&pending.items, pending.count, out);
            out.raises(call, &shut_down());
        }
        self.let_joiners_go(out);
    }

    fn cancel(&mut self, call: CallId, why: Why, now_ms: u64, out: &mut Outbox) {
        let timed_out = if self.getters.remove(&call).is_some() {
            empty()
        } else if let Some(pending) = self.putters.remove(&call) {
            self.removed(&pending.items, pending.count, out);
            full()
        } else if self.joiners.remove(&call) {
            Fault::raised("TimeoutError", format!("{} items are not dealt with", self.unfinished))
        } else {
            return;
        };
        match why {
            Why::Deadline => out.raises(call, &timed_out),
            Why::Client | Why::SessionEnded => out.raises(call, &cancelled()),
        }
        // It may have stood in the way of one that fits.
        match why {
            Why::Deadline | Why::Client => self.serve(now_ms, out),
            Why::SessionEnded => self.serve_later(now_ms, out),
        }
    }

    fn let_joiners_go(&mut self, out: &mut Outbox) {
        if self.unfinished == 0 {
            for call in std::mem::take(&mut self.joiners) {
                out.returns_null(call);
            }
        }
    }

    /// Says that `count` items, encoded one after the other, are here now.
    fn stored(&self, items: &[u8], count: u64, out: &mut Outbox) {
        out.store_items(count, items.len());
        if self.tokens {
            tokens(items, &mut |ident| out.hold(ident));
        }
    }

    /// Says that they are not here any more.
    fn removed(&self, items: &[u8], count: u64, out: &mut Outbox) {
        out.remove_items(count, items.len());
        if self.tokens {
            tokens(items, &mut |ident| out.let_go(ident));
        }
    }

    fn has_room(&self, count: u64) -> bool {
        self.maxsize == 0 || self.store.len() as u64 + count <= self.maxsize
    }
}

/// The elements of an encoded list or tuple, one after the other, and their number.
fn elements(item: &[u8]) -> Result<(&[u8], u64), Fault> {
    let mut reader = Reader::new(item);
    let mut head = reader.head().map_err(data::malformed)?;
    if head.kind == Kind::Tag && head.argument == tag::TUPLE {
        head = reader.head().map_err(data::malformed)?;
    }
    if head.kind != Kind::Array {
        let name = data::type_name(&data::decode(item)?);
        return Err(Fault::raised("TypeError", format!("items must be a list or a tuple, not {name}")));
    }
    Ok((&item[reader.position()..], head.argument))
}

/// How long a lease is to last, as an argument says.
fn lease(item: &[u8]) -> Result<u32, Fault> {
    let lease_ms = u32::try_from(integer(item)?).ok().filter(|lease_ms| *lease_ms > 0);
    lease_ms.ok_or_else(|| Fault::raised("ValueError", format!("lease_ms must be from 1 to {LEASE_MS_MAX}")))
}

fn not_out(receipt: i64) -> Fault {
    let text = format!("receipt {receipt} is not out: it was acknowledged, given back, or its lease has ended");
    Fault::raised("ValueError", text)
}

/// What a reply's note says of its first item: 48 bits are its number, enough for a million puts a second in nine years,
/// 16 the deliveries, of which no more are counted once they are lost with a session.
fn note(first: &Item) -> u64 {
    first.number << 16 | u64::from(first.deliveries.min(0xffff))
}

/// The number and the deliveries of a [`note`].
fn noted(note: u64) -> (u64, u32) {
    (note >> 16, (note & 0xffff) as u32)
}

fn empty() -> Fault {
    Fault::raised("Empty", "")
}

fn full() -> Fault {
    Fault::raised("Full", "")
}

fn shut_down() -> Fault {
    Fault::raised("ShutDown", "")
}

impl Referent for Queue {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        let (now_ms, clears_up) = match input {
            Input::Call(Call { now_ms, .. }) | Input::Returned { now_ms, .. } | Input::Tick { now_ms } => {
                (now_ms, false)
            }
            Input::Cancel { why, now_ms, .. } => (now_ms, why == Why::SessionEnded),
            Input::OwnerLost { now_ms, .. } | Input::Undelivered { now_ms, .. } => (now_ms, true),
            Input::Join { call, typeid, .. } => return out.raises(call, &unjoinable(typeid)),
            Input::Leave { .. } => return,
        };
        if let Input::Tick { .. } = input {
            self.tick(now_ms, out);
        }
        if self.serves_later && !clears_up {
            self.serves_later = false;
            self.serve(now_ms, out);
        }
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => self.cancel(call, why, now_ms, out),
            Input::OwnerLost { session, .. } => self.owner_lost(session, now_ms, out),
            Input::Undelivered { method, payload, note, .. } => self.take_back(method, payload, note, now_ms, out),
            Input::Returned { tag, outcome, .. } => self.sent_away(tag, outcome.is_ok(), now_ms, out),
            Input::Tick { .. } | Input::Join { .. } | Input::Leave { .. } => {}
        }
    }
}
