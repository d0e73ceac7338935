//! What each type may answer, written naively, in the order in which a host's steps answered.
//!
//! A model sees calls come ([`Model::entered`]), answers go ([`Model::answered`]) and sessions end. It says what cannot have
//! happened, and whether somebody waits who should not ([`Model::should_not_wait`]).

use std::collections::BTreeMap;

use steward_wire::{Effect, Value};

/// A session and a task of it.
pub(crate) type Owner = (u64, u64);
/// A session and the number of a call of it.
pub(crate) type CallKey = (u64, u64);

/// A call as an object sees it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: CallKey,
    pub(crate) owner: Owner,
    pub(crate) method: String,
    pub(crate) args: Vec<Value>,
}

/// What a step answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) effect: Effect,
    pub(crate) value: Value,
    pub(crate) fence: Option<u64>,
    pub(crate) version: u64,
    /// The session had ended: whatever was given comes back.
    pub(crate) is_late: bool,
}

#[derive(Debug)]
pub(crate) enum Model {
    Lock(Lock),
    Semaphore(Semaphore),
    Event { is_set: bool },
    Barrier(Barrier),
    Queue(Queue),
    Value(i64),
    Dict(BTreeMap<i64, Value>),
    List(Vec<i64>),
}

#[derive(Debug, Default)]
pub(crate) struct Lock {
    is_reentrant: bool,
    pub(crate) holder: Option<Holder>,
    /// How often a call that waits to be notified had taken the lock.
    depths: BTreeMap<CallKey, u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: Owner,
    depth: u64,
    pub(crate) fence_first: u64,
    pub(crate) fence_last: u64,
    /// The call by which it got the lock.
    granted: CallKey,
}

#[derive(Debug)]
pub(crate) struct Semaphore {
    value: i64,
    out: BTreeMap<u64, Vec<CallKey>>,
}

#[derive(Debug)]
pub(crate) struct Barrier {
    parties: usize,
    /// Of which step the replies are, and their numbers.
    generation: (u64, Vec<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Fifo,
    Lifo,
    Priority,
}

#[derive(Debug)]
pub(crate) struct Queue {
    order: Order,
    maxsize: usize,
    /// By the number of their put.
    pub(crate) items: BTreeMap<u64, Value>,
    number_next: u64,
    /// What calls got, while it may come back.
    handed_out: BTreeMap<CallKey, Vec<(u64, Value)>>,
    /// What must come back, since its session ended before it was acknowledged.
    owed: Vec<(u64, Value)>,
}

type Verdict = Result<(), String>;

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        _ => i64::MIN,
    }
}

fn expect(what: &str, answer: &Answer, value: &Value) -> Verdict {
    match answer.effect == Effect::Returned && answer.value == *value {
        true => Ok(()),
        false => Err(format!("{what} should have returned {value:?}, and was {:?} {:?}", answer.effect, answer.value)),
    }
}

impl Model {
    pub(crate) fn new(typeid: &str, args: &[Value]) -> Self {
        let number = |otherwise| args.first().map_or(otherwise, int);
        let queue = |order| {
            let (items, handed_out, owed) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            Self::Queue(Queue { order, maxsize: number(0) as usize, items, number_next: 0, handed_out, owed })
        };
        match typeid.trim_end_matches(".pooled") {
            "Lock" => Self::Lock(Lock::default()),
            "RLock" | "Condition" => Self::Lock(Lock { is_reentrant: true, ..Lock::default() }),
            "Semaphore" | "BoundedSemaphore" => Self::Semaphore(Semaphore { value: number(1), out: BTreeMap::new() }),
            "Event" => Self::Event { is_set: false },
            "Barrier" => Self::Barrier(Barrier { parties: number(1) as usize, generation: (0, Vec::new()) }),
            "Queue" | "JoinableQueue" => queue(Order::Fifo),
            "LifoQueue" => queue(Order::Lifo),
            "PriorityQueue" => queue(Order::Priority),
            "Value" => Self::Value(args.get(1).map_or(0, int)),
            "dict" => Self::Dict(BTreeMap::new()),
            "list" => Self::List(Vec::new()),
            _ => unreachable!("no model of `{typeid}`"),
        }
    }

    /// A call is about to be stepped.
    pub(crate) fn entered(&mut self, call: &Call) {
        if let (Self::Lock(lock), "wait") = (self, &*call.method)
            && let Some(holder) = lock.holder.take_if(|holder| holder.owner == call.owner)
        {
            lock.depths.insert(call.key, holder.depth);
        }
    }

    /// A step has answered a call.
    pub(crate) fn answered(&mut self, call: &Call, answer: &Answer) -> Verdict {
        let returned = answer.effect == Effect::Returned;
        match self {
            Self::Lock(lock) => lock.answered(call, answer, returned),
            Self::Semaphore(semaphore) => semaphore.answered(call, answer, returned),
            Self::Event { is_set } => match &*call.method {
                "set" | "clear" => {
                    *is_set = call.method == "set";
                    Ok(())
                }
                "wait" if returned && answer.value == Value::Bool(true) && !*is_set => {
                    Err("a wait returned True although the flag is not set".to_owned())
                }
                "is_set" => expect("is_set", answer, &Value::Bool(*is_set)),
                _ => Ok(()),
            },
            Self::Barrier(barrier) => barrier.answered(call, answer, returned),
            Self::Queue(queue) => queue.answered(call, answer, returned),
            Self::Value(value) => match &*call.method {
                "add" => {
                    *value += 1;
                    expect("add", answer, &Value::Int(*value))
                }
                _ => expect("get", answer, &Value::Int(*value)),
            },
            Self::Dict(dict) => answered_dict(dict, call, answer),
            Self::List(list) => match (&*call.method, list.is_empty()) {
                ("append", _) => {
                    list.push(int(&call.args[0]));
                    expect("append", answer, &Value::Null)
                }
                ("pop", true) if answer.effect == Effect::Raised => Ok(()),
                ("pop", true) => Err("an item came out of an empty list".to_owned()),
                ("pop", false) => expect("pop", answer, &Value::Int(list.remove(0))),
                _ => expect("copy", answer, &Value::List(list.iter().map(|item| Value::Int(*item)).collect())),
            },
        }
    }

    /// A session is over. `is_acked`: whether a call's reply was acknowledged before.
    pub(crate) fn ended(&mut self, session: u64, is_orderly: bool, is_acked: &dyn Fn(CallKey) -> bool) {
        match self {
            Self::Lock(lock) => {
                let stays = is_orderly && !lock.is_reentrant;
                lock.holder.take_if(|holder| {
                    let is_known = is_acked(holder.granted);
                    holder.owner.0 == session && !(stays && is_known)
                });
            }
            Self::Semaphore(semaphore) => {
                let out = semaphore.out.entry(session).or_default();
                let before = out.len();
                out.retain(|key| is_orderly && is_acked(*key));
                semaphore.value += (before - out.len()) as i64;
            }
            Self::Queue(queue) => {
                let is_lost = |key: &CallKey| key.0 == session;
                let keys: Vec<_> = queue.handed_out.keys().copied().filter(is_lost).collect();
                for key in keys {
                    let items = queue.handed_out.remove(&key).unwrap_or_default();
                    if !is_acked(key) {
                        queue.owed.extend(items);
                    }
                }
            }
            _ => {}
        }
    }

    /// What an object gave comes back to it.
    pub(crate) fn returned(&mut self, value: &Value) -> Verdict {
        let Self::Queue(queue) = self else { return Ok(()) };
        let items = match value {
            Value::List(items) => items.clone(),
            item => vec![item.clone()],
        };
        for item in items {
            // Replies of other methods come back, too.
            if matches!(item, Value::Null | Value::Bool(_)) {
                continue;
            }
            let Some(at) = queue.owed.iter().position(|(_, owed)| *owed == item) else {
                return Err(format!("item {item:?} came back although its getter has it"));
            };
            let (number, item) = queue.owed.swap_remove(at);
            queue.items.insert(number, item);
        }
        Ok(())
    }

    /// Once the host has nothing left to do: whether one of these calls, in the order in which they came, waits for what is there.
    pub(crate) fn should_not_wait<'a>(&self, mut parked: impl Iterator<Item = &'a Call>) -> Verdict {
        match self {
            Self::Lock(Lock { holder: None, .. }) => parked
                .find(|call| call.method == "acquire")
                .map_or(Ok(()), |call| Err(format!("the lock is free, and {call:?} waits for it"))),
            Self::Semaphore(Semaphore { value: 1.., .. }) => {
                parked.next().map_or(Ok(()), |call| Err(format!("there are permits, and {call:?} waits for one")))
            }
            Self::Event { is_set: true } => {
                parked.next().map_or(Ok(()), |call| Err(format!("the flag is set, and {call:?} waits for it")))
            }
            Self::Barrier(barrier) => {
                let (count, wanted) = (parked.count(), barrier.parties);
                if !barrier.is_whole() {
                    return Err(format!("a generation of the barrier let only {:?} go", barrier.generation.1));
                }
                if count >= wanted { Err(format!("{count} wait at a barrier of {wanted}")) } else { Ok(()) }
            }
            Self::Queue(queue) => {
                if let Some((_, item)) = queue.owed.first() {
                    return Err(format!("item {item:?} is lost: its getter's session ended before acknowledging it"));
                }
                let mut is_first_putter = true;
                for call in parked {
                    let is_put = call.method.starts_with("put");
                    if !is_put && !queue.items.is_empty() {
                        return Err(format!("the queue has items, and {call:?} waits for one"));
                    }
                    let fits = queue.items.len() + put_items(call).len() <= queue.maxsize;
                    if is_put && std::mem::take(&mut is_first_putter) && fits {
                        return Err(format!("the queue has room, and {call:?} waits for it"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Lock {
    fn answered(&mut self, call: &Call, answer: &Answer, returned: bool) -> Verdict {
        let is_granted = answer.fence.is_some() && returned;
        match &*call.method {
            "acquire" | "wait" if is_granted => {
                let fence = answer.fence.unwrap_or_default();
                let depth = self.depths.remove(&call.key).unwrap_or(1);
                match &mut self.holder {
                    Some(holder) if self.is_reentrant && holder.owner == call.owner && call.method == "acquire" => {
                        holder.depth += 1;
                        holder.fence_last = fence;
                    }
                    Some(holder) => return Err(format!("{call:?} was granted what {holder:?} holds")),
                    // Nobody's: it goes back at once.
                    None if answer.is_late => {}
                    None => {
                        let (fence_first, fence_last, granted) = (fence, fence, call.key);
                        self.holder = Some(Holder { owner: call.owner, depth, fence_first, fence_last, granted });
                    }
                }
                Ok(())
            }
            "acquire" | "wait" => {
                self.depths.remove(&call.key);
                match returned && answer.value == Value::Bool(true) {
                    true => Err(format!("{call:?} returned True without a grant")),
                    false => Ok(()),
                }
            }
            "release" if returned => match &mut self.holder {
                Some(holder) if !self.is_reentrant || holder.owner == call.owner => {
                    holder.depth -= 1;
                    self.holder.take_if(|holder| holder.depth == 0);
                    Ok(())
                }
                holder => Err(format!("{call:?} released what {holder:?} holds")),
            },
            _ => Ok(()),
        }
    }

    /// Whether a fence is not that of a former holder.
    pub(crate) fn stands(&self, fence: u64) -> bool {
        self.holder.as_ref().is_some_and(|holder| (holder.fence_first..=holder.fence_last).contains(&fence))
    }
}

impl Semaphore {
    fn answered(&mut self, call: &Call, answer: &Answer, returned: bool) -> Verdict {
        match &*call.method {
            "acquire" if returned && answer.value == Value::Bool(true) => {
                if self.value < 1 {
                    return Err(format!("{call:?} was granted a permit that is not there"));
                }
                if !answer.is_late {
                    self.value -= 1;
                    self.out.entry(call.key.0).or_default().push(call.key);
                }
                Ok(())
            }
            "release" => {
                // The oldest is the one whose holder has surely seen it.
                let own = self.out.get_mut(&call.key.0).filter(|out| !out.is_empty()).map(|out| out.remove(0));
                self.value += i64::from(returned);
                match (own.is_some(), returned) {
                    (true, false) => Err(format!("{call:?} was not let to give a permit back")),
                    (false, true) => Err(format!("{call:?} gave back a permit that it does not have")),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether a session has permits that has not ended.
    pub(crate) fn is_out(&self, is_ended: impl Fn(u64) -> bool) -> bool {
        self.out.iter().any(|(session, out)| !out.is_empty() && !is_ended(*session))
    }
}

impl Barrier {
    fn answered(&mut self, call: &Call, answer: &Answer, returned: bool) -> Verdict {
        if call.method != "wait" || !returned {
            return Ok(());
        }
        let is_whole = self.is_whole();
        let (version, numbers) = &mut self.generation;
        if *version != answer.version {
            if !is_whole {
                return Err(format!("a generation of the barrier let only {numbers:?} go"));
            }
            *version = answer.version;
            numbers.clear();
        }
        let number = int(&answer.value);
        let is_new = (0..self.parties as i64).contains(&number) && !numbers.contains(&number);
        numbers.push(number);
        if is_new { Ok(()) } else { Err(format!("a generation of the barrier let {numbers:?} go")) }
    }

    /// Whether the last generation was whole.
    fn is_whole(&self) -> bool {
        self.generation.1.is_empty() || self.generation.1.len() == self.parties
    }
}

fn put_items(call: &Call) -> Vec<Value> {
    match (&*call.method, call.args.first()) {
        ("put_many", Some(Value::List(items))) => items.clone(),
        (_, item) => item.cloned().into_iter().collect(),
    }
}

impl Queue {
    fn answered(&mut self, call: &Call, answer: &Answer, returned: bool) -> Verdict {
        if !returned {
            return Ok(());
        }
        match &*call.method {
            "put" | "put_nowait" | "put_many" => {
                for item in put_items(call) {
                    self.items.insert(self.number_next, item);
                    self.number_next += 1;
                }
                Ok(())
            }
            "get" | "get_nowait" | "get_many" => {
                let items = match (&*call.method, &answer.value) {
                    ("get_many", Value::List(items)) => items.clone(),
                    (_, item) => vec![item.clone()],
                };
                let mut handed_out = Vec::new();
                for item in items {
                    let next = match self.order {
                        Order::Fifo => self.items.first_key_value(),
                        Order::Lifo => self.items.last_key_value(),
                        Order::Priority => self.items.iter().min_by_key(|(number, item)| (int(item), **number)),
                    };
                    let Some((number, _)) = next.filter(|(_, next)| **next == item) else {
                        return Err(format!("{call:?} got {item:?}, and next is {next:?}"));
                    };
                    handed_out.push(self.items.remove_entry(&number.clone()).expect("it was just found"));
                }
                match answer.is_late {
                    true => self.owed.extend(handed_out),
                    false => drop(self.handed_out.insert(call.key, handed_out)),
                }
                Ok(())
            }
            "qsize" => expect("qsize", answer, &Value::Int(self.items.len() as i64)),
            _ => Ok(()),
        }
    }
}

fn answered_dict(dict: &mut BTreeMap<i64, Value>, call: &Call, answer: &Answer) -> Verdict {
    let key = call.args.first().map_or(0, int);
    let or_default = |value: Option<Value>| value.or_else(|| call.args.get(1).cloned()).unwrap_or(Value::Null);
    match &*call.method {
        "incr" => {
            let value = dict.entry(key).or_insert(Value::Int(0));
            *value = Value::Int(int(value) + 1);
            expect("incr", answer, value)
        }
        "__setitem__" => {
            dict.insert(key, call.args[1].clone());
            expect("__setitem__", answer, &Value::Null)
        }
        "pop" => expect("pop", answer, &or_default(dict.remove(&key))),
        _ => expect("get", answer, &or_default(dict.get(&key).cloned())),
    }
}
