//! Queue, LifoQueue, PriorityQueue: what was put comes out, in order, once.

use std::cmp::Reverse;

use rpds::RedBlackTreeMap;

use super::{Changes, Complaint, Hidden, Kind, Reply, answers, argument, number};
use crate::call::{Call, CallId, Made, Seen};
use crate::values::{Val, Values};

pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        "put" | "get" | "put_many" | "get_many" | "join" => Kind::Parks,
        "put_nowait" | "get_nowait" | "task_done" | "shutdown" => Kind::Steps,
        "qsize" | "empty" | "full" | "is_shutdown" | "close" | "join_thread" | "cancel_join_thread" => Kind::Reads,
        _ => return None,
    })
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Queue {
    order: Order,
    /// 0: no limit.
    maxsize: i64,
    puts: u64,
    /// The least leaves first.
    items: RedBlackTreeMap<Turn, Val>,
    /// What calls got whose sessions ended before they acknowledged it.
    got: RedBlackTreeMap<CallId, Vec<(Turn, Val)>>,
    unfinished: i64,
    shut: Shut,
    /// Several may be put at once, so that one who waits may stand in the way of one who need not.
    pub(super) has_batches: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Fifo,
    Lifo,
    Priority,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shut {
    Open,
    Draining,
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Oldest(u64),
    Newest(Reverse<u64>),
    Least(super::container::Rank, u64),
}

impl Queue {
    pub(super) fn new(made: &Made) -> Result<Self, Complaint> {
        let maxsize = match made.args.first() {
            None => 0,
            Some(Val::Int(maxsize)) => (*maxsize).max(0),
            Some(_) => return Err(Complaint::not_modelled("a queue's size that is no integer")),
        };
        Ok(Self {
            order: match &*made.typeid {
                "LifoQueue" => Order::Lifo,
                "PriorityQueue" => Order::Priority,
                _ => Order::Fifo,
            },
            maxsize,
            puts: 0,
            items: RedBlackTreeMap::new(),
            got: RedBlackTreeMap::new(),
            unfinished: 0,
            shut: Shut::Open,
            has_batches: false,
        })
    }

    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        let reply = match &*values.text(call.method) {
            "put" | "put_nowait" => return self.put(call, &[argument(call, 0)?], values),
            "put_many" => {
                let items = argument(call, 0)?;
                let items = values.list(items).ok_or_else(|| Complaint::not_modelled("put_many of no list"))?;
                return self.put(call, &items, values);
            }
            "get" | "get_nowait" => return self.get(call, None, values),
            "get_many" => return self.get(call, Some(number(call, 0, 1)?), values),
            "task_done" => {
                if self.unfinished == 0 {
                    answers(call, values, Reply::Raises("ValueError"))?;
                    return Ok(Changes::No);
                }
                answers(call, values, Reply::Value(Val::Null))?;
                self.unfinished -= 1;
                return Ok(Changes::Yes);
            }
            "join" if self.unfinished > 0 && !call.is_unknown() => Reply::Raises("TimeoutError"),
            "join" => Reply::Value(Val::Null),
            "shutdown" => {
                answers(call, values, Reply::Value(Val::Null))?;
                let immediate = !matches!(call.args.first(), None | Some(Val::Bool(false) | Val::Int(0) | Val::Null));
                let changes = immediate || self.shut == Shut::Open;
                if immediate {
                    self.unfinished = (self.unfinished - self.len()).max(0);
                    self.items = RedBlackTreeMap::new();
                    self.shut = Shut::Dropped;
                } else if self.shut == Shut::Open {
                    self.shut = Shut::Draining;
                }
                return Ok(if changes { Changes::Yes } else { Changes::No });
            }
            "qsize" => Reply::Value(Val::Int(self.len())),
            "empty" => Reply::Value(Val::Bool(self.items.is_empty())),
            "full" => Reply::Value(Val::Bool(!self.has_room(1))),
            "is_shutdown" => Reply::Value(Val::Bool(self.shut != Shut::Open)),
            "close" | "join_thread" | "cancel_join_thread" => Reply::Value(Val::Null),
            method => return Err(Complaint::not_modelled(format!("`{method}` of a queue"))),
        };
        answers(call, values, reply)?;
        Ok(Changes::No)
    }

    fn put(&mut self, call: &Call, items: &[Val], values: &mut Values) -> Result<Changes, Complaint> {
        let count = items.len() as i64;
        if self.shut != Shut::Open {
            answers(call, values, Reply::Raises("ShutDown"))?;
            return Ok(Changes::No);
        }
        if self.maxsize > 0 && count > self.maxsize {
            answers(call, values, Reply::Raises("ValueError"))?;
            return Ok(Changes::No);
        }
        let is_full = matches!(call.seen, Seen::Raised(kind) if &*values.text(kind) == "Full");
        if is_full && self.maxsize > 0 && (self.has_batches || !self.has_room(count)) {
            return Ok(Changes::No);
        }
        if !self.has_room(count) {
            return Err(Complaint::new(format!("{}, but the queue is full", call.show(values))));
        }
        answers(call, values, Reply::Value(Val::Null))?;
        for item in items {
            let turn = match self.order {
                Order::Fifo => Turn::Oldest(self.puts),
                Order::Lifo => Turn::Newest(Reverse(self.puts)),
                Order::Priority => Turn::Least(super::container::Rank::of(*item, values), self.puts),
            };
            self.items.insert_mut(turn, *item);
            self.puts += 1;
        }
        self.unfinished += count;
        Ok(if count > 0 { Changes::Yes } else { Changes::No })
    }

    fn get(&mut self, call: &Call, most: Option<i64>, values: &mut Values) -> Result<Changes, Complaint> {
        if most.is_some_and(|most| most < 1) {
            answers(call, values, Reply::Raises("ValueError"))?;
            return Ok(Changes::No);
        }
        if self.items.is_empty() {
            let shut = self.shut != Shut::Open;
            if call.is_done() {
                return Err(Complaint::new(format!("{}, but the queue is empty", call.show(values))));
            }
            answers(call, values, Reply::Raises(if shut { "ShutDown" } else { "Empty" }))?;
            return Ok(Changes::No);
        }
        let mut count = most.unwrap_or(1).min(self.len()) as usize;
        if let (Some(_), Seen::Returned(list)) = (most, call.seen) {
            // A list may end early, for its size or because items that came back left holes in the order.
            count = values.list(list).map_or(0, |list| list.len()).clamp(1, count);
        }
        let taken: Vec<_> = self.items.iter().take(count).map(|(turn, item)| (turn.clone(), *item)).collect();
        let reply = match most {
            None => taken[0].1,
            Some(_) => values.listed(taken.iter().map(|(_, item)| *item)),
        };
        answers(call, values, Reply::Value(reply))?;
        for (turn, _) in &taken {
            self.items.remove_mut(turn);
        }
        if call.may_come_back {
            self.got.insert_mut(call.id, taken);
        }
        Ok(Changes::Yes)
    }

    pub(super) fn len(&self) -> i64 {
        self.items.size() as i64
    }

    fn has_room(&self, count: i64) -> bool {
        self.maxsize == 0 || self.len() + count <= self.maxsize
    }

    pub(super) fn returnable(&self) -> Vec<CallId> {
        self.got.keys().copied().collect()
    }

    pub(super) fn hide(&mut self, hidden: Hidden) -> Result<(), ()> {
        let Hidden::ItemsBack { call } = hidden else { return Err(()) };
        let items = self.got.get(&call).ok_or(())?.clone();
        self.got.remove_mut(&call);
        if self.shut == Shut::Dropped {
            self.unfinished = (self.unfinished - items.len() as i64).max(0);
            return Ok(());
        }
        for (turn, item) in items {
            self.items.insert_mut(turn, item);
        }
        Ok(())
    }
}

impl Call {
    /// It succeeded, or is to be taken as one that did.
    fn is_done(&self) -> bool {
        matches!(self.seen, Seen::Returned(_) | Seen::Unknown)
    }
}
