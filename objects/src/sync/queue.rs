//! Queue, JoinableQueue, LifoQueue and PriorityQueue.

use std::collections::{BTreeMap, BTreeSet};

use steward_wire::cbor::{self, Kind, Reader};
use steward_wire::value::{tag, tokens};

use crate::{Args, Builtin, Call, CallId, Fault, Input, Method, Outbox, Param, Referent, Why, data};

use super::store::{Item, Store};
use super::{cancelled, common_method, compared_integer, flag, integer, unjoinable};

/// Bytes of items that one `get_many` hands out, unless the first item alone is larger; the rest stays.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// `queue.Queue`.
pub static QUEUE: Builtin = Builtin {
    typeid: "Queue",
    doc: "A queue: first in, first out.\n\nFollows `queue.Queue` of Python 3.13. Those who wait are served in the order in which \
          they came. An item whose getter is lost before it has the item returns to its place.",
    constructor: CONSTRUCTOR,
    methods: METHODS,
    create: |args, _| Queue::create(args, "Queue", Store::Fifo(Default::default())),
    joins: &[],
    snapshots: false,
    constructible: true,
};

/// `queue.Queue` once more, as in CPython's managers.
pub static JOINABLE_QUEUE: Builtin = Builtin {
    typeid: "JoinableQueue",
    doc: "The same as Queue.",
    create: |args, _| Queue::create(args, "JoinableQueue", Store::Fifo(Default::default())),
    ..QUEUE
};

/// `queue.LifoQueue`.
pub static LIFO_QUEUE: Builtin = Builtin {
    typeid: "LifoQueue",
    doc: "A stack: last in, first out.\n\nOtherwise as Queue.",
    create: |args, _| Queue::create(args, "LifoQueue", Store::Lifo(Default::default())),
    ..QUEUE
};

/// `queue.PriorityQueue`.
pub static PRIORITY_QUEUE: Builtin = Builtin {
    typeid: "PriorityQueue",
    doc: "A queue that the least item leaves first, of equal ones the first put.\n\nItems are compared as Python's `<` does. Where they \
          cannot be, `put` or `get` raises TypeError and the queue is as it was. Otherwise as Queue.",
    create: |args, _| Queue::create(args, "PriorityQueue", Store::Priority(Vec::new())),
    ..QUEUE
};

const CONSTRUCTOR: &[Param] = &[Param::optional("maxsize", "int", "0")];

methods! {
    /// Methods of all queues.
    QueueMethod, METHODS:
    Put = Method::new(
        "put",
        &[Param::required("item", "any")],
        "Adds an item, parking while the queue is full.\n\nRaises Full at the deadline, ShutDown if the queue is shut down.",
    ).may_park();
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
    );
    GetNowait = Method::new("get_nowait", &[], "Removes and returns an item. Raises Empty if there is none.");
    PutMany = Method::new(
        "put_many",
        &[Param::required("items", "list")],
        "Adds all items of a list at once, parking until there is room for all.\n\nRaises as `put`, nothing having been added, and \
         ValueError for more items than `maxsize`.",
    ).may_park();
    GetMany = Method::new(
        "get_many",
        &[Param::required("n", "int")],
        "Removes and returns a list of up to `n` items, parking while the queue is empty.\n\nThere may be fewer, never none; a list \
         ends at 1 MiB of items. Raises as `get`.",
    ).may_park();
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
        "Ends the queue: `put` raises ShutDown from now on, and so does `get` once the queue is empty.\n\nIf `immediate`, all items are \
         dropped and count as dealt with.",
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
}

/// What a parked call adds.
#[derive(Debug)]
struct Pending {
    /// Encoded, one after the other.
    items: Box<[u8]>,
    count: u64,
}

impl Queue {
    fn create(args: Args<'_>, typeid: &'static str, store: Store) -> Result<Box<dyn Referent>, Fault> {
        let [maxsize] = args.bind("Queue.__init__", CONSTRUCTOR)?;
        let maxsize = maxsize.map_or(Ok(0), |item| compared_integer(item, ">"))?;
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
                self.get(call.id, Want::One, true, out)?;
            }
            QueueMethod::GetNowait => {
                let [] = call.args.bind("Queue.get_nowait", &[])?;
                self.get(call.id, Want::One, false, out)?;
            }
            QueueMethod::GetMany => {
                let [n] = call.args.bind("Queue.get_many", METHODS[method as usize].params)?;
                let n = integer(n.expect("a required argument"))?;
                let n = u64::try_from(n).ok().filter(|n| *n > 0);
                let n = n.ok_or_else(|| Fault::raised("ValueError", "n must be one or more"))?;
                self.get(call.id, Want::UpTo(n), true, out)?;
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
        if call.args.has_tokens() {
            self.tokens = true;
            tokens(items, &mut |ident| out.hold(ident));
        }
        self.serve(out);
        Ok(())
    }

    fn add(&mut self, items: &[u8], count: u64) -> Result<(), Fault> {
        let first = self.number_next;
        let mut reader = Reader::new(items);
        self.store.push((0..count).map(|index| {
            // One item is not looked into.
            let item = if count == 1 { items } else { reader.raw().expect("arguments were checked on arrival") };
            Item { number: first + index, bytes: item.into() }
        }))?;
        self.number_next += count;
        self.unfinished += count;
        Ok(())
    }

    fn get(&mut self, call: CallId, want: Want, may_park: bool, out: &mut Outbox) -> Result<(), Fault> {
        if !self.store.is_empty() {
            self.hand_out(call, want, out);
            self.serve(out);
            return Ok(());
        }
        if self.shut != Shut::Open {
            return Err(shut_down());
        }
        if !may_park {
            return Err(empty());
        }
        self.getters.insert(call, want);
        Ok(())
    }

    /// Serves whoever can be served, first come first.
    fn serve(&mut self, out: &mut Outbox) {
        loop {
            while !self.store.is_empty()
                && let Some((call, want)) = self.getters.pop_first()
            {
                self.hand_out(call, want, out);
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
                    self.let_go(&items, out);
                    out.raises(call, &fault);
                }
            }
        }
    }

    /// Answers `call` with what it wants, from a queue that is not empty.
    fn hand_out(&mut self, call: CallId, want: Want, out: &mut Outbox) {
        let first = match self.store.pop() {
            Ok(first) => first.expect("the queue is not empty"),
            Err(fault) => return out.raises(call, &fault),
        };
        self.let_go(&first.bytes, out);
        out.changed();
        let number = first.number;
        let Want::UpTo(n) = want else {
            out.returns_item(call, &first.bytes);
            return out.note(call, number);
        };
        let mut bytes = first.bytes.len();
        let mut items = vec![first];
        while (items.len() as u64) < n
            && let Some(next) = self.store.peek()
        {
            // The note names one number, from which those of the others must follow.
            let follows = match self.store {
                Store::Fifo(_) | Store::Lifo(_) => {
                    next.number == self.store.number_in_batch(number, items.len() as u64)
                }
                Store::Priority(_) => true,
            };
            bytes += next.bytes.len();
            if !follows || bytes > BATCH_BYTES_MAX {
                break;
            }
            // Two that cannot be compared end the batch; the next `get` says so.
            let Ok(Some(next)) = self.store.pop() else { break };
            self.let_go(&next.bytes, out);
            items.push(next);
        }
        out.returns(call, |bytes| {
            cbor::put_array(bytes, items.len());
            items.iter().for_each(|item| bytes.extend_from_slice(&item.bytes));
        });
        out.note(call, number);
    }

    /// What a lost reply carried goes back to its place, or where `shutdown` has sent the rest.
    fn take_back(&mut self, method: u16, payload: &[u8], first: u64, now_ms: u64, out: &mut Outbox) {
        let (items, count) = match QueueMethod::of(method) {
            Some(QueueMethod::Get | QueueMethod::GetNowait) => (payload, 1),
            Some(QueueMethod::GetMany) => elements(payload).expect("the reply was a list"),
            _ => return,
        };
        out.changed();
        if self.shut == Shut::Dropped {
            self.unfinished = self.unfinished.saturating_sub(count);
            return self.let_joiners_go(out);
        }
        if self.tokens {
            tokens(items, &mut |ident| out.hold(ident));
        }
        let mut reader = Reader::new(items);
        for index in 0..count {
            let item = if count == 1 { items } else { reader.raw().expect("the reply was a list of items") };
            let number = self.store.number_in_batch(first, index);
            self.store.give_back(Item { number, bytes: item.into() });
        }
        self.serve_later(now_ms, out);
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
            self.unfinished = self.unfinished.saturating_sub(self.store.len() as u64);
            let has_tokens = self.tokens;
            for item in self.store.drain().filter(|_| has_tokens) {
                tokens(&item.bytes, &mut |ident| out.let_go(ident));
            }
        } else if self.shut == Shut::Open {
            self.shut = Shut::Draining;
        }
        for (call, _) in std::mem::take(&mut self.getters) {
            out.raises(call, &shut_down());
        }
        for (call, pending) in std::mem::take(&mut self.putters) {
            self.let_go(&pending.items, out);
            out.raises(call, &shut_down());
        }
        self.let_joiners_go(out);
    }

    fn cancel(&mut self, call: CallId, why: Why, now_ms: u64, out: &mut Outbox) {
        let timed_out = if self.getters.remove(&call).is_some() {
            empty()
        } else if let Some(pending) = self.putters.remove(&call) {
            self.let_go(&pending.items, out);
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
            Why::Deadline | Why::Client => self.serve(out),
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

    fn let_go(&self, items: &[u8], out: &mut Outbox) {
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
        let clears_up = matches!(
            input,
            Input::Cancel { why: Why::SessionEnded, .. } | Input::OwnerLost { .. } | Input::Undelivered { .. }
        );
        if self.serves_later && !clears_up {
            self.serves_later = false;
            self.serve(out);
        }
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, now_ms } => self.cancel(call, why, now_ms, out),
            Input::Undelivered { method, payload, note, now_ms, .. } => {
                self.take_back(method, payload, note, now_ms, out);
            }
            Input::Join { call, typeid, .. } => out.raises(call, &unjoinable(typeid)),
            Input::OwnerLost { .. } | Input::Returned { .. } | Input::Tick { .. } | Input::Leave { .. } => {}
        }
    }
}
