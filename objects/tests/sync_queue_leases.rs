//! What queues lend: leases, receipts, dead letters; by behaviour and against a naive model.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use steward_objects::{Effect, Fault, Ident, Value, Why};
use support::{Driver, owner, text, token};

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;
/// The dead-letter queue.
const DEAD: u64 = 9;

fn int(value: i64) -> Value {
    Value::Int(value)
}

/// What `get_leased` returns.
fn leased(item: i64, receipt: i64, deliveries: i64) -> Value {
    Value::Tuple(vec![int(item), int(receipt), int(deliveries)])
}

fn raised<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> (String, String) {
    let fault = outcome.expect_err("the call raises");
    assert_eq!(fault.effect, Effect::Raised);
    (fault.kind, fault.message)
}

fn is(kind: &str, message: &str) -> (String, String) {
    (kind.to_owned(), message.to_owned())
}

fn not_out(receipt: i64) -> (String, String) {
    let text = format!("receipt {receipt} is not out: it was acknowledged, given back, or its lease has ended");
    is("ValueError", &text)
}

/// A queue with these items.
fn filled(typeid: &str, items: impl IntoIterator<Item = i64>) -> Driver {
    let mut queue = Driver::new(typeid, &[]);
    items.into_iter().for_each(|item| put(&mut queue, item));
    queue
}

/// The same, with a dead-letter queue.
fn letters(max_deliveries: i64, items: impl IntoIterator<Item = i64>) -> Driver {
    let keywords = [("max_deliveries", int(max_deliveries)), ("dead_letter", token("Queue", DEAD))];
    let mut queue = Driver::try_new("Queue", &[], &keywords).expect("the arguments are good");
    items.into_iter().for_each(|item| put(&mut queue, item));
    queue
}

fn put(queue: &mut Driver, item: i64) {
    queue.now(owner(A), "put", &[int(item)]).expect("there is room");
}

/// Lends the next item for 10 ms.
fn lend(queue: &mut Driver, session: u64) -> Value {
    queue.now(owner(session), "get_leased", &[int(10)]).expect("there is an item")
}

fn counts(queue: &mut Driver) -> (Value, Value) {
    let mut count = |method| queue.now(owner(A), method, &[]).expect("a count");
    (count("qsize"), count("lent"))
}

/// Lets time pass, and wakes the queue when it asked for that.
fn pass(queue: &mut Driver, ms: u64) {
    let end_ms = queue.now_ms + ms;
    while queue.wake_at_ms.is_some_and(|at_ms| at_ms <= end_ms) {
        queue.tick();
    }
    queue.now_ms = end_ms;
}

#[test]
fn lent_item_is_gone_once_it_is_acknowledged() {
    for typeid in ["Queue", "JoinableQueue", "LifoQueue", "PriorityQueue"] {
        let mut queue = filled(typeid, [5]);
        let join = queue.call(owner(B), "join", &[]);
        assert_eq!(lend(&mut queue, A), leased(5, 1, 1));
        assert_eq!(counts(&mut queue), (int(0), int(1)));
        assert_eq!(queue.now(owner(A), "empty", &[]), Ok(Value::Bool(true)));
        assert!(!queue.is_answered(join));
        // Whoever has the receipt may.
        assert_eq!(queue.now(owner(B), "ack", &[int(1)]), Ok(Value::Null));
        assert_eq!(counts(&mut queue), (int(0), int(0)));
        assert_eq!(queue.value(join), Some(Value::Null), "an acknowledged item is dealt with");
        assert_eq!(raised(queue.now(owner(A), "ack", &[int(1)])), not_out(1));
        pass(&mut queue, 100);
        assert_eq!(counts(&mut queue), (int(0), int(0)));
        assert_eq!(raised(queue.now(owner(A), "task_done", &[])).0, "ValueError", "`ack` has said it");
    }
}

#[test]
fn parked_borrower_stands_in_line_and_its_lease_counts_from_the_hand_out() {
    let mut queue = Driver::new("Queue", &[]);
    let first = queue.call(owner(A), "get_leased", &[int(10)]);
    let second = queue.call(owner(B), "get", &[]);
    let third = queue.call(owner(C), "get_leased", &[int(10)]);
    pass(&mut queue, 100);
    [1, 2, 3].into_iter().for_each(|item| put(&mut queue, item));
    assert_eq!(
        [first, second, third].map(|call| queue.value(call).unwrap()),
        [leased(1, 1, 1), int(2), leased(3, 2, 1)]
    );
    pass(&mut queue, 9);
    assert_eq!(counts(&mut queue), (int(0), int(2)));
    pass(&mut queue, 1);
    assert_eq!(counts(&mut queue), (int(2), int(0)));
    assert_eq!(lend(&mut queue, A), leased(1, 3, 2));
}

#[test]
fn borrower_gives_up_and_is_refused_as_get() {
    let mut queue = Driver::new("Queue", &[]);
    for (why, kind) in [(Why::Deadline, "Empty"), (Why::Client, "Cancelled")] {
        let call = queue.call(owner(A), "get_leased", &[int(10)]);
        queue.cancel(call, why);
        assert_eq!(queue.outcome(call).unwrap().unwrap_err().kind, kind);
    }
    let parked = queue.call(owner(A), "get_leased", &[int(10)]);
    queue.now(owner(A), "shutdown", &[]).unwrap();
    assert_eq!(raised(queue.outcome(parked).unwrap()), is("ShutDown", ""));
    assert_eq!(raised(queue.now(owner(A), "get_leased", &[int(10)])), is("ShutDown", ""));
}

#[test]
fn what_comes_back_returns_to_its_place() {
    for (typeid, order) in [("Queue", [1, 2, 3, 4]), ("LifoQueue", [4, 3, 2, 1]), ("PriorityQueue", [1, 2, 3, 4])] {
        let mut queue = filled(typeid, 1..=4);
        assert_eq!(order.map(|_| lend(&mut queue, A)), [0, 1, 2, 3].map(|at| leased(order[at], at as i64 + 1, 1)));
        for receipt in [2, 4, 1] {
            assert_eq!(queue.now(owner(A), "nack", &[int(receipt)]), Ok(Value::Null));
            assert_eq!(raised(queue.now(owner(A), "nack", &[int(receipt)])), not_out(receipt));
        }
        assert_eq!(counts(&mut queue), (int(3), int(1)));
        pass(&mut queue, 10);
        assert_eq!(counts(&mut queue), (int(4), int(0)));
        for (at, item) in order.into_iter().enumerate() {
            assert_eq!(lend(&mut queue, B), leased(item, at as i64 + 5, 2), "{typeid}");
        }
    }
}

#[test]
fn given_back_item_reaches_who_waits_longest_at_once() {
    let mut queue = filled("Queue", [1]);
    lend(&mut queue, A);
    let waiting = [queue.call(owner(B), "get_leased", &[int(10)]), queue.call(owner(C), "get", &[])];
    queue.now(owner(A), "nack", &[int(1)]).unwrap();
    assert_eq!(queue.value(waiting[0]), Some(leased(1, 2, 2)));
    pass(&mut queue, 10);
    assert_eq!(queue.value(waiting[1]), Some(int(1)));
    assert_eq!(counts(&mut queue), (int(0), int(0)));
}

#[test]
fn extended_lease_ends_later_and_a_shortened_one_earlier() {
    let mut queue = filled("Queue", [1, 2]);
    lend(&mut queue, A);
    lend(&mut queue, A);
    pass(&mut queue, 5);
    assert_eq!(queue.now(owner(A), "extend", &[int(1), int(20)]), Ok(Value::Null));
    assert_eq!(queue.now(owner(A), "extend", &[int(2), int(1)]), Ok(Value::Null));
    pass(&mut queue, 1);
    assert_eq!(counts(&mut queue), (int(1), int(1)));
    assert_eq!(raised(queue.now(owner(A), "extend", &[int(2), int(20)])), not_out(2));
    pass(&mut queue, 18);
    assert_eq!(counts(&mut queue), (int(1), int(1)));
    pass(&mut queue, 1);
    assert_eq!(counts(&mut queue), (int(2), int(0)));
}

#[test]
fn session_gives_back_what_it_has_however_it_ends() {
    for orderly in [false, true] {
        let mut queue = filled("Queue", 1..=3);
        lend(&mut queue, A);
        lend(&mut queue, B);
        lend(&mut queue, A);
        let waiting = queue.call(owner(C), "get", &[]);
        queue.lose(A, orderly);
        assert!(!queue.is_answered(waiting), "more may come back");
        pass(&mut queue, 0);
        assert_eq!(queue.value(waiting), Some(int(1)));
        assert_eq!(counts(&mut queue), (int(1), int(1)));
        assert_eq!(raised(queue.now(owner(A), "ack", &[int(1)])), not_out(1));
        assert_eq!(queue.now(owner(B), "ack", &[int(2)]), Ok(Value::Null));
        // The end of B's lease was asked for before the loss woke the queue, and that of the next one still is.
        assert_eq!(lend(&mut queue, B), leased(3, 4, 2));
        pass(&mut queue, 10);
        assert_eq!(counts(&mut queue), (int(1), int(0)));
    }
}

#[test]
fn wake_for_a_lost_session_does_not_forget_the_leases_of_others() {
    let mut queue = filled("Queue", 1..=2);
    lend(&mut queue, A);
    lend(&mut queue, B);
    let waiting = queue.call(owner(C), "get", &[]);
    queue.lose(A, false);
    pass(&mut queue, 10);
    assert_eq!(queue.value(waiting), Some(int(1)));
    assert_eq!(counts(&mut queue), (int(1), int(0)), "B's lease has ended");
}

#[test]
fn lost_reply_comes_back_once() {
    let mut queue = filled("Queue", [1]);
    let lost = queue.call(owner(A), "get_leased", &[int(10)]);
    queue.undelivered(lost);
    assert_eq!(counts(&mut queue), (int(1), int(0)));
    queue.lose(A, false);
    queue.undelivered(lost);
    pass(&mut queue, 100);
    assert_eq!(counts(&mut queue), (int(1), int(0)));

    let lost = queue.call(owner(A), "get_leased", &[int(10)]);
    assert_eq!(queue.value(lost), Some(leased(1, 2, 2)));
    queue.now(owner(B), "ack", &[int(2)]).unwrap();
    queue.undelivered(lost);
    assert_eq!(counts(&mut queue), (int(0), int(0)), "it was dealt with, whoever knows of it");
}

#[test]
fn deliveries_count_lost_replies_of_plain_gets() {
    let mut queue = filled("Queue", 1..=3);
    let lost = queue.call(owner(A), "get", &[]);
    queue.undelivered(lost);
    let many = queue.call(owner(A), "get_many", &[int(9)]);
    assert_eq!(queue.value(many), Some(Value::List(vec![int(1)])), "the others were not handed out as often");
    queue.undelivered(many);
    let many = queue.call(owner(A), "get_nowait", &[]);
    queue.undelivered(many);
    assert_eq!([(); 3].map(|()| lend(&mut queue, A)), [leased(1, 1, 4), leased(2, 2, 1), leased(3, 3, 1)]);
}

#[test]
fn shutdown_lets_lent_items_come_back_and_immediately_drops_them() {
    let mut queue = filled("Queue", 1..=2);
    lend(&mut queue, A);
    lend(&mut queue, A);
    let join = queue.call(owner(B), "join", &[]);
    queue.now(owner(A), "shutdown", &[]).unwrap();
    queue.now(owner(A), "nack", &[int(1)]).unwrap();
    assert_eq!(lend(&mut queue, A), leased(1, 3, 2), "it may still be got");
    queue.now(owner(A), "shutdown", &[Value::Bool(true)]).unwrap();
    assert_eq!(queue.value(join), Some(Value::Null));
    assert_eq!(counts(&mut queue), (int(0), int(0)));
    assert_eq!(raised(queue.now(owner(A), "ack", &[int(2)])), not_out(2));
    assert_eq!(raised(queue.now(owner(A), "nack", &[int(3)])), not_out(3));
    pass(&mut queue, 100);
    assert_eq!(raised(queue.now(owner(A), "get", &[])).0, "ShutDown");
}

#[test]
fn lent_item_leaves_room_and_may_come_back_to_a_full_queue() {
    let mut queue = Driver::new("Queue", &[int(1)]);
    put(&mut queue, 1);
    lend(&mut queue, A);
    put(&mut queue, 2);
    queue.now(owner(A), "nack", &[int(1)]).unwrap();
    assert_eq!(counts(&mut queue), (int(2), int(0)));
    let late = queue.call(owner(A), "put", &[int(3)]);
    assert_eq!(queue.now(owner(A), "get", &[]), Ok(int(1)));
    assert!(!queue.is_answered(late));
    assert_eq!(queue.now(owner(A), "get", &[]), Ok(int(2)));
    assert_eq!(queue.value(late), Some(Value::Null));
}

#[test]
fn lent_items_hold_their_tokens_until_they_are_acknowledged() {
    let held = |queue: &Driver| queue.held.iter().map(|(ident, count)| (ident.0, *count)).collect::<Vec<_>>();
    let mut queue = letters(2, []);
    assert_eq!(held(&queue), [(DEAD, 1)]);
    for ident in [5, 6] {
        queue.now(owner(A), "put", &[token("dict", ident)]).unwrap();
    }
    lend(&mut queue, A);
    lend(&mut queue, A);
    assert_eq!(held(&queue), [(5, 1), (6, 1), (DEAD, 1)]);
    queue.now(owner(A), "ack", &[int(1)]).unwrap();
    assert_eq!(held(&queue), [(6, 1), (DEAD, 1)]);
    queue.now(owner(A), "nack", &[int(2)]).unwrap();
    lend(&mut queue, A);
    queue.now(owner(A), "nack", &[int(3)]).unwrap();
    assert_eq!(held(&queue), [(6, 1), (DEAD, 1)], "the other queue has not taken it yet");
    queue.returned(3, Ok(Value::Null));
    assert_eq!(held(&queue), [(DEAD, 1)]);
}

// Dead letters

#[test]
fn item_that_came_back_too_often_goes_to_the_dead_letter_queue() {
    let mut queue = letters(2, [7]);
    let join = queue.call(owner(B), "join", &[]);
    lend(&mut queue, A);
    pass(&mut queue, 10);
    assert_eq!(lend(&mut queue, A), leased(7, 2, 2));
    assert!(queue.invocations.is_empty());
    pass(&mut queue, 10);
    assert_eq!(counts(&mut queue), (int(0), int(0)));
    let [letter] = &queue.invocations[..] else { panic!("one call is asked for: {:?}", queue.invocations) };
    assert_eq!((letter.tag, letter.ident, letter.method.as_str()), (2, Ident(DEAD), "put"));
    assert_eq!(letter.args, support::arguments(&[int(7)], &[]));
    assert!(!queue.is_answered(join));
    queue.returned(2, Ok(Value::Null));
    assert_eq!(queue.value(join), Some(Value::Null), "nobody will say that of it here");
    queue.returned(2, Err(Fault::raised("ShutDown", "")));
    assert_eq!(counts(&mut queue), (int(0), int(0)), "a second return of the same call is none");
}

#[test]
fn item_that_the_dead_letter_queue_refuses_returns_to_its_place() {
    let mut queue = letters(1, 1..=2);
    lend(&mut queue, A);
    queue.lose(A, false);
    assert_eq!(counts(&mut queue), (int(1), int(0)));
    queue.returned(1, Err(Fault::refused("UnknownIdent", "")));
    assert_eq!(lend(&mut queue, A), leased(1, 2, 2), "it is there for whoever wants it, before the others");
    queue.now(owner(A), "nack", &[int(2)]).unwrap();
    let waiting = [queue.call(owner(B), "get", &[]), queue.call(owner(B), "get", &[])];
    assert_eq!(queue.value(waiting[0]), Some(int(2)));
    queue.returned(2, Err(Fault::raised("ShutDown", "")));
    assert_eq!(queue.value(waiting[1]), Some(int(1)));
}

#[test]
fn item_that_is_refused_after_an_immediate_shutdown_is_dropped() {
    let mut queue = letters(1, 1..=1);
    let join = queue.call(owner(B), "join", &[]);
    lend(&mut queue, A);
    queue.now(owner(A), "nack", &[int(1)]).unwrap();
    queue.now(owner(A), "shutdown", &[Value::Bool(true)]).unwrap();
    assert!(!queue.is_answered(join), "it is on its way");
    queue.returned(1, Err(Fault::raised("Full", "")));
    assert_eq!(queue.value(join), Some(Value::Null));
    assert_eq!(counts(&mut queue), (int(0), int(0)));
}

#[test]
fn plain_gets_never_make_dead_letters() {
    let mut queue = letters(1, [1]);
    for _ in 0..3 {
        let lost = queue.call(owner(A), "get", &[]);
        queue.undelivered(lost);
    }
    assert!(queue.invocations.is_empty());
    assert_eq!(lend(&mut queue, A), leased(1, 1, 4));
    queue.now(owner(A), "nack", &[int(1)]).unwrap();
    assert_eq!(queue.invocations.len(), 1);
}

#[test]
fn arguments_that_are_refused() {
    let made = |keywords: &[(&str, Value)]| raised(Driver::try_new("LifoQueue", &[], keywords).map(|_| ()));
    let dead = || ("dead_letter", token("Queue", DEAD));
    assert_eq!(made(&[("max_deliveries", int(-1)), dead()]), is("ValueError", "max_deliveries must be >= 0"));
    assert_eq!(made(&[("max_deliveries", int(3))]), is("ValueError", "max_deliveries needs a dead_letter"));
    assert_eq!(made(&[dead()]), is("ValueError", "dead_letter needs max_deliveries"));
    assert_eq!(
        made(&[("max_deliveries", int(3)), ("dead_letter", text("jobs"))]),
        is("TypeError", "dead_letter must be a queue of this host, not str")
    );
    assert_eq!(made(&[("max_deliveries", text("a")), dead()]).0, "TypeError");
    assert!(Driver::try_new("Queue", &[int(1)], &[("max_deliveries", int(0)), ("dead_letter", Value::Null)]).is_ok());

    let mut queue = filled("Queue", [1]);
    let bounds = is("ValueError", "lease_ms must be from 1 to 4294967295");
    for lease_ms in [0, -1, 1 << 32] {
        assert_eq!(raised(queue.now(owner(A), "get_leased", &[int(lease_ms)])), bounds);
    }
    assert_eq!(raised(queue.now(owner(A), "get_leased", &[text("a")])).0, "TypeError");
    for receipt in [0, 1, -7] {
        assert_eq!(raised(queue.now(owner(A), "ack", &[int(receipt)])), not_out(receipt));
        assert_eq!(raised(queue.now(owner(A), "extend", &[int(receipt), int(10)])), not_out(receipt));
    }
    assert_eq!(queue.now(owner(A), "get_leased", &[int((1 << 32) - 1)]), Ok(leased(1, 1, 1)));
    assert_eq!(raised(queue.now(owner(A), "extend", &[int(1), int(0)])), bounds);
    assert_eq!(queue.wake_at_ms, Some((1 << 32) - 1));
}

// Against a model

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Fifo,
    Lifo,
    Priority,
}

#[derive(Clone, Debug)]
enum Act {
    Put(u64, i64),
    Get(u64),
    GetMany(u64, usize),
    GetLeased(u64, u64),
    Ack(prop::sample::Index),
    Nack(prop::sample::Index),
    Extend(prop::sample::Index, u64),
    Pass(u64),
    Cancel(prop::sample::Index, Why),
    /// A session ends, and its replies since its last acknowledgement were lost; which of the two is told first.
    Lose {
        session: u64,
        orderly: bool,
        replies_first: bool,
    },
    Acknowledge(u64),
    /// The dead-letter queue answers, with success or not.
    Returned(prop::sample::Index, bool),
    Shutdown(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    use prop::sample::{Index, select};
    let session = || 1_u64..4;
    let act = prop_oneof![
        6 => (session(), 0_i64..4).prop_map(|(by, priority)| Act::Put(by, priority)),
        2 => session().prop_map(Act::Get),
        1 => (session(), 1_usize..4).prop_map(|(by, n)| Act::GetMany(by, n)),
        7 => (session(), 1_u64..20).prop_map(|(by, lease_ms)| Act::GetLeased(by, lease_ms)),
        3 => any::<Index>().prop_map(Act::Ack),
        3 => any::<Index>().prop_map(Act::Nack),
        2 => (any::<Index>(), 1_u64..20).prop_map(|(index, lease_ms)| Act::Extend(index, lease_ms)),
        4 => (0_u64..12).prop_map(Act::Pass),
        2 => (any::<Index>(), select(vec![Why::Deadline, Why::Client])).prop_map(|(index, why)| Act::Cancel(index, why)),
        2 => (session(), any::<bool>(), any::<bool>())
            .prop_map(|(session, orderly, replies_first)| Act::Lose { session, orderly, replies_first }),
        2 => session().prop_map(Act::Acknowledge),
        3 => (any::<Index>(), any::<bool>()).prop_map(|(index, is_taken)| Act::Returned(index, is_taken)),
    ];
    let shutdowns = prop::collection::vec((any::<bool>(), 0_usize..120), 0..2);
    (prop::collection::vec(act, 0..120), shutdowns).prop_map(|(mut acts, shutdowns)| {
        for (immediate, at) in shutdowns {
            acts.insert(at.min(acts.len()), Act::Shutdown(immediate));
        }
        acts
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Thing {
    priority: i64,
    /// Names it in the model and in the queue.
    label: i64,
    /// Its place in the order of puts, once it is in.
    number: i64,
    deliveries: i64,
}

impl Thing {
    fn value(&self) -> Value {
        let token = token("dict", self.ident().0);
        Value::Tuple(vec![int(self.priority), int(self.label), token])
    }

    fn ident(&self) -> Ident {
        Ident(1_000 + self.label as u64)
    }
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    One,
    UpTo(usize),
    Leased(u64),
}

/// The naive one: lists, searched and sorted as it comes.
#[derive(Debug)]
struct Model {
    order: Order,
    maxsize: usize,
    max_deliveries: i64,
    now_ms: u64,
    puts: i64,
    queued: Vec<Thing>,
    /// Receipt, item, session, end.
    lent: Vec<(i64, Thing, u64, u64)>,
    receipts: i64,
    leaving: Vec<(i64, Thing)>,
    /// Items that have met their end: acknowledged, dead-lettered or dropped.
    ended: Vec<Thing>,
    /// Replies with items that their sessions have not acknowledged: session, call, items or a receipt.
    unacknowledged: Vec<(u64, u64, Result<Vec<Thing>, i64>)>,
    /// What plain gets have taken for good.
    taken: Vec<Thing>,
    getters: Vec<(u64, u64, Wanted)>,
    putters: Vec<(u64, Thing)>,
    shut: Option<bool>,
    expected: Vec<(u64, Result<Value, &'static str>)>,
}

impl Model {
    fn serve(&mut self) {
        loop {
            if !self.queued.is_empty() && !self.getters.is_empty() {
                let (call, session, wanted) = self.getters.remove(0);
                self.hand_out(call, session, wanted);
            } else if !self.putters.is_empty() && (self.maxsize == 0 || self.queued.len() < self.maxsize) {
                let (call, thing) = self.putters.remove(0);
                self.queued.push(Thing { number: self.puts, ..thing });
                self.puts += 1;
                self.expected.push((call, Ok(Value::Null)));
            } else {
                return;
            }
        }
    }

    fn hand_out(&mut self, call: u64, session: u64, wanted: Wanted) {
        match self.order {
            Order::Fifo => self.queued.sort_by_key(|thing| thing.number),
            Order::Lifo => self.queued.sort_by_key(|thing| -thing.number),
            Order::Priority => self.queued.sort_by_key(|thing| (thing.priority, thing.label)),
        }
        let follows = |a: &Thing, b: &Thing| {
            let is_next = self.order == Order::Priority || (a.number - b.number).abs() == 1;
            is_next && a.deliveries == b.deliveries
        };
        let most = if let Wanted::UpTo(n) = wanted { n } else { 1 };
        let mut count = 1;
        while count < most && count < self.queued.len() && follows(&self.queued[count - 1], &self.queued[count]) {
            count += 1;
        }
        let mut things: Vec<Thing> = self.queued.drain(..count).collect();
        things.iter_mut().for_each(|thing| thing.deliveries += 1);
        let (first, value) = (things[0], things[0].value());
        let kept = match wanted {
            Wanted::Leased(lease_ms) => {
                self.receipts += 1;
                self.lent.push((self.receipts, first, session, self.now_ms + lease_ms));
                let parts = vec![value, int(self.receipts), int(first.deliveries)];
                self.expected.push((call, Ok(Value::Tuple(parts))));
                Err(self.receipts)
            }
            Wanted::One => {
                self.expected.push((call, Ok(value)));
                Ok(things)
            }
            Wanted::UpTo(_) => {
                self.expected.push((call, Ok(Value::List(things.iter().map(Thing::value).collect()))));
                Ok(things)
            }
        };
        self.unacknowledged.push((session, call, kept));
    }

    fn take(&mut self, receipt: i64) -> Option<Thing> {
        let at = self.lent.iter().position(|lent| lent.0 == receipt)?;
        Some(self.lent.remove(at).1)
    }

    fn come_back(&mut self, receipt: i64) {
        let Some(thing) = self.take(receipt) else { return };
        if self.max_deliveries > 0 && thing.deliveries >= self.max_deliveries {
            self.leaving.push((receipt, thing));
        } else {
            self.queued.push(thing);
        }
    }

    /// Lets time pass from one end of a lease to the next.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(next_ms) = self.lent.iter().map(|lent| lent.3).min().filter(|at_ms| *at_ms <= until_ms) {
            self.now_ms = next_ms;
            let ended: Vec<i64> = self.lent.iter().filter(|lent| lent.3 == next_ms).map(|lent| lent.0).collect();
            ended.into_iter().for_each(|receipt| self.come_back(receipt));
            self.serve();
        }
        self.now_ms = until_ms;
    }

    fn lose(&mut self, session: u64) {
        let receipts: Vec<i64> = self.lent.iter().filter(|lent| lent.2 == session).map(|lent| lent.0).collect();
        receipts.into_iter().for_each(|receipt| self.come_back(receipt));
        let (lost, rest) = std::mem::take(&mut self.unacknowledged).into_iter().partition(|reply| reply.0 == session);
        self.unacknowledged = rest;
        let lost: Vec<(u64, u64, Result<Vec<Thing>, i64>)> = lost;
        for things in lost.into_iter().filter_map(|(_, _, kept)| kept.ok()) {
            if self.shut == Some(true) { self.ended.extend(things) } else { self.queued.extend(things) }
        }
        self.serve();
    }

    fn parked(&self) -> Vec<u64> {
        let mut parked: Vec<u64> = self.getters.iter().map(|getter| getter.0).collect();
        parked.extend(self.putters.iter().map(|putter| putter.0));
        parked.sort_unstable();
        parked
    }

    fn give_up(&mut self, call: u64, outcome: &'static str) {
        self.getters.retain(|getter| getter.0 != call);
        self.putters.retain(|putter| putter.0 != call);
        self.expected.push((call, Err(outcome)));
    }

    /// The tokens that the queue must hold.
    fn held(&self) -> BTreeMap<Ident, u64> {
        let things = self.queued.iter().chain(self.lent.iter().map(|lent| &lent.1));
        let things = things.chain(self.leaving.iter().map(|leaving| &leaving.1));
        let things = things.chain(self.putters.iter().map(|putter| &putter.1));
        let dead_letter = (self.max_deliveries > 0).then_some(Ident(DEAD));
        things.map(Thing::ident).chain(dead_letter).map(|ident| (ident, 1)).collect()
    }

    /// Items that `join` waits for.
    fn unfinished(&self) -> usize {
        let kept = self.unacknowledged.iter().filter_map(|reply| reply.2.as_ref().ok()).map(Vec::len).sum::<usize>();
        self.queued.len() + self.lent.len() + self.leaving.len() + self.taken.len() + kept
    }
}

proptest! {
    /// Whatever comes between a hand-out and its end, each item has one fate: acknowledged, queued, lent, on its way to the
    /// dead-letter queue or there, dropped by a shutdown, or taken by a plain `get`.
    #[test]
    fn leases_behave_as_the_model(
        order in prop::sample::select(vec![Order::Fifo, Order::Lifo, Order::Priority]),
        maxsize in 0_usize..4,
        max_deliveries in 0_i64..4,
        acts in acts(),
    ) {
        let typeid = match order {
            Order::Fifo => "JoinableQueue",
            Order::Lifo => "LifoQueue",
            Order::Priority => "PriorityQueue",
        };
        let keywords = [("max_deliveries", int(max_deliveries)), ("dead_letter", token("Queue", DEAD))];
        let keywords = if max_deliveries > 0 { &keywords[..] } else { &[] };
        let mut queue = Driver::try_new(typeid, &[int(maxsize as i64)], keywords).expect("the arguments are good");
        let mut model = Model {
            order, maxsize, max_deliveries, now_ms: 0, puts: 0, queued: vec![], lent: vec![], receipts: 0, leaving: vec![],
            ended: vec![], unacknowledged: vec![], taken: vec![], getters: vec![], putters: vec![], shut: None,
            expected: vec![],
        };
        let mut labels = 0;
        let receipt = |index: &prop::sample::Index, model: &Model| 1 + index.index(model.receipts as usize + 1) as i64;
        for act in acts {
            match act {
                Act::Put(by, priority) => {
                    labels += 1;
                    let thing = Thing { priority, label: labels, number: 0, deliveries: 0 };
                    let call = queue.call(owner(by), "put", &[thing.value()]);
                    match model.shut {
                        Some(_) => model.expected.push((call, Err("ShutDown"))),
                        None => model.putters.push((call, thing)),
                    }
                    model.serve();
                }
                Act::Get(by) | Act::GetMany(by, _) | Act::GetLeased(by, _) => {
                    let (method, arguments, wanted) = match act {
                        Act::GetMany(_, n) => ("get_many", vec![int(n as i64)], Wanted::UpTo(n)),
                        Act::GetLeased(_, ms) => ("get_leased", vec![int(ms as i64)], Wanted::Leased(ms)),
                        _ => ("get", vec![], Wanted::One),
                    };
                    let call = queue.call(owner(by), method, &arguments);
                    if model.queued.is_empty() && model.shut.is_some() {
                        model.expected.push((call, Err("ShutDown")));
                    } else {
                        model.getters.push((call, by, wanted));
                        model.serve();
                    }
                }
                Act::Ack(index) => {
                    let receipt = receipt(&index, &model);
                    let call = queue.call(owner(A), "ack", &[int(receipt)]);
                    let taken = model.take(receipt);
                    model.expected.push((call, taken.map(|_| Value::Null).ok_or("ValueError")));
                    model.ended.extend(taken);
                }
                Act::Nack(index) => {
                    let receipt = receipt(&index, &model);
                    let call = queue.call(owner(A), "nack", &[int(receipt)]);
                    let is_out = model.lent.iter().any(|lent| lent.0 == receipt);
                    model.expected.push((call, is_out.then_some(Value::Null).ok_or("ValueError")));
                    model.come_back(receipt);
                    model.serve();
                }
                Act::Extend(index, lease_ms) => {
                    let receipt = receipt(&index, &model);
                    let call = queue.call(owner(A), "extend", &[int(receipt), int(lease_ms as i64)]);
                    let ends_ms = model.now_ms + lease_ms;
                    let lent = model.lent.iter_mut().find(|lent| lent.0 == receipt);
                    let extended = lent.map(|lent| lent.3 = ends_ms);
                    model.expected.push((call, extended.map(|()| Value::Null).ok_or("ValueError")));
                }
                Act::Pass(ms) => {
                    pass(&mut queue, ms);
                    model.pass(ms);
                }
                Act::Cancel(index, why) => {
                    let parked = queue.parked();
                    if !parked.is_empty() {
                        let call = parked[index.index(parked.len())];
                        queue.cancel(call, why);
                        let gets = model.getters.iter().any(|getter| getter.0 == call);
                        let timed_out = if gets { "Empty" } else { "Full" };
                        model.give_up(call, if why == Why::Deadline { timed_out } else { "Cancelled" });
                        model.serve();
                    }
                }
                Act::Lose { session, orderly, replies_first } => {
                    let parked = queue.parked().into_iter().filter(|call| queue.owner_of(*call).session == session);
                    parked.collect::<Vec<_>>().into_iter().for_each(|call| model.give_up(call, "Cancelled"));
                    let replies = model.unacknowledged.iter().rev().filter(|reply| reply.0 == session);
                    let replies: Vec<u64> = replies.map(|reply| reply.1).collect();
                    if !replies_first {
                        queue.lose(session, orderly);
                    }
                    replies.into_iter().for_each(|call| queue.undelivered(call));
                    if replies_first {
                        queue.lose(session, orderly);
                    }
                    pass(&mut queue, 0);
                    model.lose(session);
                }
                Act::Acknowledge(session) => {
                    for (by, call, kept) in std::mem::take(&mut model.unacknowledged) {
                        match kept {
                            Ok(things) if by == session => model.taken.extend(things),
                            Err(_) if by == session => {}
                            kept => model.unacknowledged.push((by, call, kept)),
                        }
                    }
                }
                Act::Returned(index, is_taken) => {
                    if !model.leaving.is_empty() {
                        let (receipt, thing) = model.leaving.remove(index.index(model.leaving.len()));
                        queue.invocations.retain(|invocation| invocation.tag != receipt as u64);
                        let outcome = if is_taken { Ok(Value::Null) } else { Err(Fault::raised("ShutDown", "")) };
                        queue.returned(receipt as u64, outcome);
                        if is_taken || model.shut == Some(true) { model.ended.push(thing) } else { model.queued.push(thing) }
                        model.serve();
                    }
                }
                Act::Shutdown(immediate) => {
                    queue.now(owner(A), "shutdown", &[Value::Bool(immediate)]).unwrap();
                    model.shut = Some(immediate || model.shut == Some(true));
                    if immediate {
                        model.ended.append(&mut model.queued);
                        model.ended.extend(std::mem::take(&mut model.lent).into_iter().map(|lent| lent.1));
                    }
                    model.parked().into_iter().for_each(|call| model.give_up(call, "ShutDown"));
                }
            }
            for (call, outcome) in model.expected.drain(..) {
                let answer = queue.outcome(call);
                prop_assert_eq!(answer.map(|answer| answer.map_err(|fault| fault.kind)), Some(outcome.map_err(str::to_owned)));
            }
            prop_assert_eq!(queue.parked(), model.parked());
            prop_assert_eq!(counts(&mut queue), (int(model.queued.len() as i64), int(model.lent.len() as i64)));
            prop_assert_eq!(&queue.held, &model.held());
            let mut letters: Vec<_> = queue.invocations.iter().map(|letter| (letter.tag, letter.args.clone())).collect();
            let mut leaving: Vec<_> = model.leaving.iter()
                .map(|(receipt, thing)| (*receipt as u64, support::arguments(&[thing.value()], &[]))).collect();
            letters.sort_unstable();
            leaving.sort_unstable();
            prop_assert_eq!(letters, leaving);
            // Nobody says `task_done` here.
            let join = queue.call(owner(A), "join", &[]);
            if model.unfinished() > 0 {
                queue.cancel(join, Why::Deadline);
                let message = format!("{} items are not dealt with", model.unfinished());
                prop_assert_eq!(queue.outcome(join), Some(Err(Fault::raised("TimeoutError", message))));
            } else {
                prop_assert_eq!(queue.value(join), Some(Value::Null));
            }
            prop_assert_eq!(model.puts as usize, model.unfinished() + model.ended.len(), "each item has one fate");
        }
    }
}
