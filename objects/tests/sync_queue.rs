//! The queues, by behaviour and against a naive model.

mod support;

use proptest::prelude::*;
use steward_objects::{Effect, Fault, Ident, Value, Why};
use support::{Driver, owner, text, token};

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;

fn raised<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> (String, String) {
    let fault = outcome.expect_err("the call raises");
    assert_eq!(fault.effect, Effect::Raised);
    (fault.kind, fault.message)
}

fn is(kind: &str, message: &str) -> (String, String) {
    (kind.to_owned(), message.to_owned())
}

fn int(value: i64) -> Value {
    Value::Int(value)
}

fn ints(values: impl IntoIterator<Item = i64>) -> Value {
    Value::List(values.into_iter().map(Value::Int).collect())
}

fn put(queue: &mut Driver, item: i64) {
    queue.now(owner(A), "put", &[int(item)]).expect("there is room");
}

fn get(queue: &mut Driver) -> Value {
    queue.now(owner(A), "get_nowait", &[]).expect("there is an item")
}

fn kind(driver: &Driver, call: u64) -> String {
    driver.outcome(call).expect("the call is answered").expect_err("the call raises").kind
}

#[test]
fn each_queue_has_its_order() {
    for (typeid, order) in [
        ("Queue", [3, 1, 2, 1]),
        ("JoinableQueue", [3, 1, 2, 1]),
        ("LifoQueue", [1, 2, 1, 3]),
        ("PriorityQueue", [1, 1, 2, 3]),
    ] {
        let mut queue = Driver::new(typeid, &[]);
        [3, 1, 2, 1].into_iter().for_each(|item| put(&mut queue, item));
        assert_eq!(queue.now(owner(A), "qsize", &[]), Ok(int(4)));
        assert_eq!(queue.now(owner(A), "__str__", &[]), Ok(text(&format!("<{typeid}: 4 items>"))));
        assert_eq!(order.map(|_| get(&mut queue)), order.map(int), "{typeid}");
        assert_eq!(queue.now(owner(A), "empty", &[]), Ok(Value::Bool(true)));
    }
}

#[test]
fn item_goes_to_the_getter_that_waits_longest() {
    let mut queue = Driver::new("Queue", &[]);
    let gets: Vec<_> = (1..=3).map(|session| queue.call(owner(session), "get", &[])).collect();
    put(&mut queue, 1);
    put(&mut queue, 2);
    assert_eq!(queue.parked(), gets[2..]);
    assert_eq!((queue.value(gets[0]), queue.value(gets[1])), (Some(int(1)), Some(int(2))));
    assert_eq!(queue.now(owner(A), "qsize", &[]), Ok(int(0)));
}

#[test]
fn full_queue_parks_putters_and_admits_them_in_order() {
    let mut queue = Driver::new("Queue", &[int(1)]);
    assert_eq!(queue.now(owner(A), "full", &[]), Ok(Value::Bool(false)));
    put(&mut queue, 0);
    assert_eq!(queue.now(owner(A), "full", &[]), Ok(Value::Bool(true)));
    assert_eq!(queue.now(owner(A), "__repr__", &[]), Ok(text("<Queue: 1 of 1 items>")));
    let puts: Vec<_> = (1..=3).map(|item| queue.call(owner(A), "put", &[int(item)])).collect();
    assert_eq!(raised(queue.now(owner(A), "put_nowait", &[int(9)])), is("Full", ""));
    for (at, put) in puts.iter().enumerate() {
        assert!(!queue.is_answered(*put));
        assert_eq!(get(&mut queue), int(at as i64));
        assert_eq!(queue.value(*put), Some(Value::Null));
    }
    assert_eq!(get(&mut queue), int(3));
    assert_eq!(raised(queue.now(owner(A), "get_nowait", &[])), is("Empty", ""));
}

#[test]
fn no_limit_below_one() {
    for maxsize in [0, -5] {
        let mut queue = Driver::new("Queue", &[int(maxsize)]);
        (0..100).for_each(|item| put(&mut queue, item));
        assert_eq!(queue.now(owner(A), "full", &[]), Ok(Value::Bool(false)));
    }
}

#[test]
fn refusals_are_cpythons() {
    let made = |argument| raised(Driver::try_new("Queue", &[argument], &[]).map(|_| ()));
    assert_eq!(made(text("a")), is("TypeError", "'>' not supported between instances of 'str' and 'int'"));
    let mut queue = Driver::new("LifoQueue", &[]);
    assert_eq!(
        raised(queue.now(owner(A), "put", &[])),
        is("TypeError", "Queue.put() missing 1 required positional argument: 'item'")
    );
    assert_eq!(
        raised(queue.now(owner(A), "task_done", &[int(1)])),
        is("TypeError", "Queue.task_done() takes 1 positional argument but 2 were given")
    );
    assert_eq!(raised(queue.now(owner(A), "task_done", &[])), is("ValueError", "task_done() called too many times"));
    assert_eq!(raised(queue.now(owner(A), "#GETVALUE", &[])), is("TypeError", "cannot pickle '_thread.lock' object"));
    assert_eq!(raised(queue.now(owner(A), "shutdown", &[text("no")])).0, "TypeError");
}

#[test]
fn deadlines_raise_empty_full_and_timeout() {
    let mut queue = Driver::new("Queue", &[int(1)]);
    let get = queue.call(owner(A), "get", &[]);
    queue.cancel(get, Why::Deadline);
    assert_eq!(queue.outcome(get), Some(Err(Fault::raised("Empty", ""))));
    put(&mut queue, 1);
    let (late, join) = (queue.call(owner(A), "put", &[int(2)]), queue.call(owner(A), "join", &[]));
    queue.cancel(late, Why::Deadline);
    queue.cancel(join, Why::Deadline);
    assert_eq!(queue.outcome(late), Some(Err(Fault::raised("Full", ""))));
    assert_eq!(kind(&queue, join), "TimeoutError");
    assert_eq!(queue.now(owner(A), "get", &[]), Ok(int(1)));
    assert_eq!(queue.now(owner(A), "empty", &[]), Ok(Value::Bool(true)), "the late item never arrived");
}

/// In CPython the thread of a killed getter eats the next item.
#[test]
fn dead_getter_takes_nothing_and_dead_putter_puts_nothing() {
    let mut queue = Driver::new("Queue", &[int(1)]);
    let dead = [queue.call(owner(B), "get", &[]), queue.call(owner(C), "get", &[])];
    queue.lose(B, false);
    queue.cancel(dead[1], Why::Client);
    put(&mut queue, 1);
    let puts = [queue.call(owner(B), "put", &[int(2)]), queue.call(owner(C), "put", &[int(3)])];
    queue.lose(B, false);
    queue.tick();
    for call in dead.into_iter().chain([puts[0]]) {
        assert_eq!(kind(&queue, call), "Cancelled");
    }
    assert_eq!((get(&mut queue), get(&mut queue)), (int(1), int(3)));
    assert_eq!(queue.parked(), []);
}

#[test]
fn join_waits_for_every_item_to_be_dealt_with() {
    for typeid in ["Queue", "JoinableQueue"] {
        let mut queue = Driver::new(typeid, &[]);
        assert_eq!(queue.now(owner(A), "join", &[]), Ok(Value::Null));
        put(&mut queue, 1);
        put(&mut queue, 2);
        let joins = [queue.call(owner(A), "join", &[]), queue.call(owner(B), "join", &[])];
        get(&mut queue);
        get(&mut queue);
        queue.now(owner(A), "task_done", &[]).unwrap();
        assert_eq!(queue.parked(), joins);
        queue.now(owner(A), "task_done", &[]).unwrap();
        assert_eq!(queue.parked(), []);
        assert_eq!(raised(queue.now(owner(A), "task_done", &[])).0, "ValueError");
    }
}

#[test]
fn shutdown_lets_the_rest_be_got() {
    let mut queue = Driver::new("Queue", &[int(1)]);
    put(&mut queue, 1);
    let (parked, join) = (queue.call(owner(A), "put", &[int(2)]), queue.call(owner(A), "join", &[]));
    assert_eq!(queue.now(owner(A), "is_shutdown", &[]), Ok(Value::Bool(false)));
    queue.now(owner(A), "shutdown", &[]).unwrap();
    assert_eq!(queue.now(owner(A), "is_shutdown", &[]), Ok(Value::Bool(true)));
    assert_eq!(queue.outcome(parked), Some(Err(Fault::raised("ShutDown", ""))));
    assert_eq!(raised(queue.now(owner(A), "put", &[int(3)])), is("ShutDown", ""));
    assert_eq!(get(&mut queue), int(1));
    assert_eq!(raised(queue.now(owner(A), "get", &[])), is("ShutDown", ""));
    assert_eq!(raised(queue.now(owner(A), "get_nowait", &[])), is("ShutDown", ""));
    assert!(!queue.is_answered(join));
    queue.now(owner(A), "task_done", &[]).unwrap();
    assert_eq!(queue.value(join), Some(Value::Null));
}

#[test]
fn immediate_shutdown_drops_the_rest() {
    let mut queue = Driver::new("Queue", &[]);
    put(&mut queue, 1);
    put(&mut queue, 2);
    let join = queue.call(owner(A), "join", &[]);
    queue.call_facet(0, owner(A), "shutdown", &[], &[("immediate", Value::Bool(true))]);
    assert_eq!(queue.value(join), Some(Value::Null));
    assert_eq!(raised(queue.now(owner(A), "get", &[])).0, "ShutDown");

    let mut queue = Driver::new("Queue", &[]);
    let get = queue.call(owner(A), "get", &[]);
    queue.now(owner(A), "shutdown", &[]).unwrap();
    assert_eq!(kind(&queue, get), "ShutDown");
}

#[test]
fn what_multiprocessings_queue_has_does_nothing() {
    let mut queue = Driver::new("Queue", &[]);
    for method in ["close", "join_thread", "cancel_join_thread"] {
        assert_eq!(queue.now(owner(A), method, &[]), Ok(Value::Null));
    }
    put(&mut queue, 1);
    assert_eq!(get(&mut queue), int(1));
}

// Many at once

#[test]
fn many_are_put_all_at_once_or_not_at_all() {
    let mut queue = Driver::new("Queue", &[int(3)]);
    assert_eq!(queue.now(owner(A), "put_many", &[ints([])]), Ok(Value::Null));
    put(&mut queue, 0);
    let items = Value::Tuple(vec![int(1), int(2), int(3)]);
    let many = queue.call(owner(A), "put_many", &[items]);
    // One would fit, but does not overtake.
    let one = queue.call(owner(B), "put", &[int(4)]);
    assert_eq!(raised(queue.now(owner(C), "put_nowait", &[int(5)])).0, "Full");
    assert_eq!(queue.now(owner(A), "qsize", &[]), Ok(int(1)));
    assert_eq!(get(&mut queue), int(0));
    assert_eq!(queue.value(many), Some(Value::Null));
    assert!(!queue.is_answered(one));
    assert_eq!((1..=4).map(|_| get(&mut queue)).collect::<Vec<_>>(), (1..=4).map(int).collect::<Vec<_>>());
    assert_eq!(
        raised(queue.now(owner(A), "put_many", &[ints(0..4)])),
        is("ValueError", "4 items never fit, maxsize is 3")
    );
    assert_eq!(
        raised(queue.now(owner(A), "put_many", &[text("ab")])),
        is("TypeError", "items must be a list or a tuple, not str")
    );
}

#[test]
fn many_that_give_up_let_the_next_one_in() {
    for why in [Why::Deadline, Why::Client] {
        let mut queue = Driver::new("Queue", &[int(2)]);
        put(&mut queue, 0);
        let many = queue.call(owner(A), "put_many", &[ints([1, 2])]);
        let one = queue.call(owner(B), "put", &[int(3)]);
        queue.cancel(many, why);
        assert_eq!(kind(&queue, many), if why == Why::Deadline { "Full" } else { "Cancelled" });
        assert_eq!(queue.value(one), Some(Value::Null));
    }
}

#[test]
fn no_put_of_a_lost_session_takes_effect() {
    let mut queue = Driver::new("Queue", &[int(2)]);
    put(&mut queue, 0);
    queue.call(owner(B), "put_many", &[ints([1, 2])]);
    let also_lost = queue.call(owner(B), "put", &[int(3)]);
    let live = queue.call(owner(C), "put", &[int(4)]);
    queue.lose(B, false);
    assert_eq!(kind(&queue, also_lost), "Cancelled");
    queue.tick();
    assert_eq!(queue.value(live), Some(Value::Null));
    assert_eq!((get(&mut queue), get(&mut queue)), (int(0), int(4)));
}

#[test]
fn many_are_got_as_far_as_there_are_any() {
    let mut queue = Driver::new("Queue", &[]);
    let parked = queue.call(owner(A), "get_many", &[int(2)]);
    let one = queue.call(owner(B), "get", &[]);
    queue.now(owner(A), "put_many", &[ints(0..6)]).unwrap();
    assert_eq!((queue.value(parked), queue.value(one)), (Some(ints([0, 1])), Some(int(2))));
    assert_eq!(queue.now(owner(A), "get_many", &[int(2)]), Ok(ints([3, 4])));
    assert_eq!(queue.now(owner(A), "get_many", &[int(9)]), Ok(ints([5])));
    let late = queue.call(owner(A), "get_many", &[int(9)]);
    queue.cancel(late, Why::Deadline);
    assert_eq!(kind(&queue, late), "Empty");
    for n in [0, -1] {
        assert_eq!(raised(queue.now(owner(A), "get_many", &[int(n)])), is("ValueError", "n must be one or more"));
    }
}

#[test]
fn list_ends_at_its_limit_of_bytes_and_one_large_item_goes_alone() {
    use steward_objects::sync::queue::BATCH_BYTES_MAX;
    let mut queue = Driver::new("Queue", &[]);
    let half = BATCH_BYTES_MAX / 2;
    // Five bytes are the head.
    for bytes in [half - 5, half - 5, 1, BATCH_BYTES_MAX + 1, 1] {
        queue.now(owner(A), "put", &[Value::Bytes(vec![0; bytes])]).unwrap();
    }
    let lengths: Vec<_> = (0..4)
        .map(|_| match queue.now(owner(A), "get_many", &[int(9)]) {
            Ok(Value::List(items)) => items.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [2, 1, 1, 1]);
}

// Lost replies

#[test]
fn lost_items_return_to_their_places_by_put_order() {
    let mut queue = Driver::new("Queue", &[]);
    (0..6).for_each(|item| put(&mut queue, item));
    let gets: Vec<_> = (0..4).map(|session| queue.call(owner(session), "get", &[])).collect();
    // Two sessions die, the one that got earlier ones first.
    queue.undelivered(gets[1]);
    queue.undelivered(gets[0]);
    assert_eq!(get(&mut queue), int(0), "which is handed out once more");
    queue.undelivered(gets[3]);
    queue.undelivered(gets[2]);
    assert_eq!([1, 2, 3, 4, 5].map(|_| get(&mut queue)), [1, 2, 3, 4, 5].map(int));
}

#[test]
fn lost_items_of_the_other_queues_return_to_their_places() {
    let mut stack = Driver::new("LifoQueue", &[]);
    (0..4).for_each(|item| put(&mut stack, item));
    let (top, below) = (stack.call(owner(A), "get", &[]), stack.call(owner(A), "get_many", &[int(2)]));
    put(&mut stack, 9);
    stack.undelivered(below);
    stack.undelivered(top);
    assert_eq!([9, 3, 2, 1, 0].map(|_| get(&mut stack)), [9, 3, 2, 1, 0].map(int));

    let mut heap = Driver::new("PriorityQueue", &[]);
    [5, 1, 3].into_iter().for_each(|item| put(&mut heap, item));
    let least = heap.call(owner(A), "get_many", &[int(2)]);
    assert_eq!(heap.value(least), Some(ints([1, 3])));
    put(&mut heap, 2);
    heap.undelivered(least);
    assert_eq!([1, 2, 3, 5].map(|_| get(&mut heap)), [1, 2, 3, 5].map(int));
}

#[test]
fn lost_list_returns_in_order_and_later_lists_close_no_gap() {
    let mut queue = Driver::new("Queue", &[]);
    (0..6).for_each(|item| put(&mut queue, item));
    let first = queue.call(owner(A), "get_many", &[int(2)]);
    let second = queue.call(owner(B), "get_many", &[int(2)]);
    queue.undelivered(first);
    // 0 and 1 are back, 2 and 3 are out: the list ends before the gap, so that its place can be told by its first number.
    let again = queue.call(owner(C), "get_many", &[int(9)]);
    assert_eq!(queue.value(again), Some(ints([0, 1])));
    queue.undelivered(second);
    queue.undelivered(again);
    // A list ends where the number of deliveries changes, too: the reply notes one for all.
    for pair in [[0, 1], [2, 3], [4, 5]] {
        assert_eq!(queue.now(owner(A), "get_many", &[int(9)]), Ok(ints(pair)));
    }
}

#[test]
fn lost_items_reach_those_who_wait_in_order() {
    let mut queue = Driver::new("Queue", &[]);
    put(&mut queue, 0);
    put(&mut queue, 1);
    let lost = [queue.call(owner(A), "get", &[]), queue.call(owner(A), "get", &[])];
    let waiting = [queue.call(owner(B), "get", &[]), queue.call(owner(C), "get", &[])];
    queue.undelivered(lost[1]);
    queue.undelivered(lost[0]);
    assert_eq!(queue.parked(), waiting, "more may come back");
    queue.tick();
    assert_eq!((queue.value(waiting[0]), queue.value(waiting[1])), (Some(int(0)), Some(int(1))));
}

#[test]
fn any_call_serves_those_who_wait_for_what_came_back() {
    let mut queue = Driver::new("Queue", &[]);
    put(&mut queue, 0);
    let lost = queue.call(owner(A), "get", &[]);
    let waiting = queue.call(owner(B), "get", &[]);
    queue.undelivered(lost);
    let newcomer = queue.call(owner(C), "get", &[]);
    assert_eq!(queue.value(waiting), Some(int(0)));
    assert!(!queue.is_answered(newcomer), "a late getter does not overtake");
}

#[test]
fn lost_item_of_a_queue_that_was_shut_down() {
    let mut queue = Driver::new("Queue", &[]);
    put(&mut queue, 0);
    let lost = queue.call(owner(A), "get", &[]);
    let join = queue.call(owner(B), "join", &[]);
    queue.now(owner(A), "shutdown", &[]).unwrap();
    queue.undelivered(lost);
    assert_eq!(get(&mut queue), int(0), "it may still be got");
    queue.now(owner(A), "shutdown", &[Value::Bool(true)]).unwrap();
    assert!(!queue.is_answered(join));
    queue.undelivered(lost);
    assert_eq!(queue.value(join), Some(Value::Null), "dropped, it counts as dealt with");
    assert_eq!(raised(queue.now(owner(A), "get", &[])).0, "ShutDown");
}

// Tokens

#[test]
fn stored_tokens_keep_their_objects_until_they_leave() {
    let both = Value::List(vec![token("dict", 5), token("list", 6)]);
    let mut queue = Driver::new("Queue", &[int(2)]);
    let held = |queue: &Driver| queue.held.iter().map(|(ident, count)| (ident.0, *count)).collect::<Vec<_>>();
    queue.now(owner(A), "put", std::slice::from_ref(&both)).unwrap();
    queue.now(owner(A), "put", &[token("dict", 5)]).unwrap();
    assert_eq!(held(&queue), [(5, 2), (6, 1)]);
    // A parked item is stored, too, and gone when its put is given up.
    let parked = queue.call(owner(A), "put", &[token("set", 7)]);
    assert_eq!(held(&queue), [(5, 2), (6, 1), (7, 1)]);
    queue.cancel(parked, Why::Deadline);
    assert_eq!(held(&queue), [(5, 2), (6, 1)]);
    let lost = queue.call(owner(B), "get", &[]);
    assert_eq!(queue.value(lost), Some(both));
    assert_eq!(held(&queue), [(5, 1)]);
    queue.undelivered(lost);
    assert_eq!(held(&queue), [(5, 2), (6, 1)]);
    let _ = (get(&mut queue), get(&mut queue));
    assert_eq!(held(&queue), []);
    queue.now(owner(A), "put_many", &[Value::List(vec![token("dict", 5), token("dict", 5)])]).unwrap();
    assert_eq!(held(&queue), [(5, 2)]);
    queue.now(owner(A), "get_many", &[int(2)]).unwrap();
    assert_eq!(held(&queue), []);
    // One that is handed on at once is never kept.
    let waiting = queue.call(owner(A), "get", &[]);
    queue.now(owner(A), "put", &[token("set", 7)]).unwrap();
    assert!(queue.is_answered(waiting));
    assert_eq!(held(&queue), []);
    queue.now(owner(A), "put_many", &[Value::List(vec![token("set", 7), token("set", 8)])]).unwrap();
    queue.call(owner(A), "put", &[token("set", 9)]);
    assert_eq!(held(&queue), [(7, 1), (8, 1), (9, 1)]);
    queue.now(owner(A), "shutdown", &[Value::Bool(true)]).unwrap();
    assert!(!queue.held.contains_key(&Ident(7)));
    assert_eq!(held(&queue), []);
}

// Priorities

#[test]
fn equal_priorities_leave_in_put_order() {
    let mut heap = Driver::new("PriorityQueue", &[]);
    let items = [Value::Int(1), Value::Bool(true), Value::Float(1.0), Value::Int(0), Value::Float(1.0), Value::Int(1)];
    for item in &items {
        heap.now(owner(A), "put", std::slice::from_ref(item)).unwrap();
    }
    let order = [3, 0, 1, 2, 4, 5].map(|at: usize| items[at].clone());
    assert_eq!([(); 6].map(|()| get(&mut heap)), order);
}

#[test]
fn what_cannot_be_compared_is_refused_and_nothing_lost() {
    let mut heap = Driver::new("PriorityQueue", &[]);
    put(&mut heap, 2);
    let message = is("TypeError", "'<' not supported between instances of 'str' and 'int'");
    assert_eq!(raised(heap.now(owner(A), "put", &[text("a")])), message);
    let many = Value::List(vec![int(1), int(0), int(3), text("a"), int(4)]);
    assert_eq!(raised(heap.now(owner(A), "put_many", &[many])), message);
    assert_eq!(heap.now(owner(A), "qsize", &[]), Ok(int(1)));
    let join = heap.call(owner(A), "join", &[]);
    assert_eq!(get(&mut heap), int(2));
    heap.now(owner(A), "task_done", &[]).unwrap();
    assert!(heap.is_answered(join), "what was refused is not to be dealt with");

    // Two that are never compared on their way in are on the way out.
    let pair = |first: i64, second: Value| Value::Tuple(vec![int(first), second]);
    heap.now(owner(A), "put", &[pair(0, int(0))]).unwrap();
    heap.now(owner(A), "put", &[pair(1, int(0))]).unwrap();
    heap.now(owner(A), "put", &[pair(1, text("a"))]).unwrap();
    heap.now(owner(A), "put", &[pair(2, int(0))]).unwrap();
    for _ in 0..2 {
        assert_eq!(raised(heap.now(owner(A), "get", &[])).0, "TypeError");
        assert_eq!(heap.now(owner(A), "qsize", &[]), Ok(int(4)));
    }
}

#[test]
fn parked_put_that_cannot_be_compared_raises_when_its_turn_comes() {
    let mut heap = Driver::new("PriorityQueue", &[int(2)]);
    put(&mut heap, 1);
    put(&mut heap, 2);
    let bad = heap.call(owner(A), "put", &[Value::List(vec![token("dict", 5)])]);
    let good = heap.call(owner(A), "put", &[int(0)]);
    assert_eq!(heap.held.len(), 1);
    assert_eq!(get(&mut heap), int(1));
    assert_eq!(kind(&heap, bad), "TypeError");
    assert_eq!(heap.held.len(), 0);
    assert_eq!(heap.value(good), Some(Value::Null));
    assert_eq!((get(&mut heap), get(&mut heap)), (int(0), int(2)));
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
    PutNowait(u64, i64),
    PutMany(u64, Vec<i64>),
    Get(u64),
    GetNowait(u64),
    GetMany(u64, usize),
    TaskDone,
    Cancel(prop::sample::Index, Why),
    /// The session's replies since its last acknowledgement were lost.
    Lose(u64),
    Acknowledge(u64),
    Shutdown(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let session = || 1_u64..5;
    let act = prop_oneof![
        6 => (session(), 0_i64..5).prop_map(|(by, priority)| Act::Put(by, priority)),
        1 => (session(), 0_i64..5).prop_map(|(by, priority)| Act::PutNowait(by, priority)),
        2 => (session(), prop::collection::vec(0_i64..5, 0..4)).prop_map(|(by, many)| Act::PutMany(by, many)),
        5 => session().prop_map(Act::Get),
        1 => session().prop_map(Act::GetNowait),
        2 => (session(), 1_usize..4).prop_map(|(by, n)| Act::GetMany(by, n)),
        2 => Just(Act::TaskDone),
        2 => (any::<prop::sample::Index>(), prop::sample::select(vec![Why::Deadline, Why::Client]))
            .prop_map(|(index, why)| Act::Cancel(index, why)),
        2 => session().prop_map(Act::Lose),
        2 => session().prop_map(Act::Acknowledge),
    ];
    let last = any::<Option<bool>>().prop_map(|last| last.map(Act::Shutdown));
    (prop::collection::vec(act, 0..100), last, 0_usize..100).prop_map(|(mut acts, last, at)| {
        if let Some(last) = last {
            acts.insert(at.min(acts.len()), last);
        }
        acts
    })
}

/// The naive one: a list of (put number, priority), searched and sorted as it comes.
struct Model {
    order: Order,
    maxsize: usize,
    items: Vec<(i64, i64)>,
    puts: i64,
    /// How often the items were handed out and came back, by their put numbers.
    returns: std::collections::BTreeMap<i64, u32>,
    unfinished: usize,
    getters: Vec<(u64, Option<usize>)>,
    putters: Vec<(u64, Vec<i64>)>,
    shut: Option<bool>,
    expected: Vec<(u64, Result<Vec<i64>, &'static str>)>,
}

impl Model {
    fn serve(&mut self) {
        loop {
            if !self.items.is_empty() && !self.getters.is_empty() {
                let (call, n) = self.getters.remove(0);
                self.hand_out(call, n);
            } else if let Some((_, many)) = self.putters.first()
                && (self.maxsize == 0 || self.items.len() + many.len() <= self.maxsize)
            {
                let (call, many) = self.putters.remove(0);
                self.add(call, many);
            } else {
                return;
            }
        }
    }

    fn add(&mut self, call: u64, many: Vec<i64>) {
        for priority in many {
            self.items.push((self.puts, priority));
            self.puts += 1;
            self.unfinished += 1;
        }
        self.expected.push((call, Ok(vec![])));
    }

    fn hand_out(&mut self, call: u64, n: Option<usize>) {
        match self.order {
            Order::Fifo => self.items.sort_unstable_by_key(|(number, _)| *number),
            Order::Lifo => self.items.sort_unstable_by_key(|(number, _)| -number),
            Order::Priority => self.items.sort_unstable_by_key(|(number, priority)| (*priority, *number)),
        }
        let mut count = 1;
        while count < n.unwrap_or(1)
            && count < self.items.len()
            && self.returns.get(&self.items[count].0) == self.returns.get(&self.items[0].0)
            && (self.order == Order::Priority || (self.items[count].0 - self.items[count - 1].0).abs() == 1)
        {
            count += 1;
        }
        self.expected.push((call, Ok(self.items.drain(..count).map(|(number, _)| number).collect())));
    }
}

/// An item says both what it is sorted by and which put it was.
fn item(priority: i64, number: i64) -> Value {
    Value::Tuple(vec![int(priority), int(number)])
}

fn numbers(value: &Value) -> Vec<i64> {
    match value {
        Value::Tuple(parts) => match parts[..] {
            [_, Value::Int(number)] => vec![number],
            _ => panic!("{value:?}"),
        },
        Value::List(items) => items.iter().flat_map(numbers).collect(),
        Value::Null => vec![],
        other => panic!("{other:?}"),
    }
}

proptest! {
    /// Nothing is lost, doubled, overtaken or forgotten, whoever dies with whatever in their hands.
    #[test]
    fn queues_behave_as_the_model(
        order in prop::sample::select(vec![Order::Fifo, Order::Lifo, Order::Priority]),
        maxsize in 0_usize..4,
        acts in acts(),
    ) {
        let typeid = match order {
            Order::Fifo => "Queue",
            Order::Lifo => "LifoQueue",
            Order::Priority => "PriorityQueue",
        };
        let mut queue = Driver::new(typeid, &[int(maxsize as i64)]);
        let mut model = Model {
            order, maxsize, items: vec![], puts: 0, returns: Default::default(), unfinished: 0, getters: vec![], putters: vec![], shut: None, expected: vec![],
        };
        // Each put's item carries a number of its own, since a parked one is numbered late.
        let mut labels = 0;
        let mut label_of = std::collections::BTreeMap::<u64, Vec<i64>>::new();
        let mut put_order = Vec::<i64>::new();
        let priorities = std::cell::RefCell::new(std::collections::BTreeMap::<i64, i64>::new());
        // Replies with items that their sessions have not acknowledged: call, put numbers.
        let mut unacknowledged = std::collections::BTreeMap::<u64, Vec<(u64, Vec<i64>)>>::new();
        let mut label = |priority: i64, call_labels: &mut Vec<i64>| {
            labels += 1;
            call_labels.push(labels);
            priorities.borrow_mut().insert(labels, priority);
            item(priority, labels)
        };
        for act in acts {
            match act {
                Act::Put(by, priority) | Act::PutNowait(by, priority) => {
                    let may_park = matches!(act, Act::Put(..));
                    let mut own = vec![];
                    let value = label(priority, &mut own);
                    let call = queue.call(owner(by), if may_park { "put" } else { "put_nowait" }, &[value]);
                    label_of.insert(call, own);
                    let fits = model.maxsize == 0 || model.items.len() < model.maxsize;
                    if model.shut.is_some() {
                        model.expected.push((call, Err("ShutDown")));
                    } else if may_park || (fits && model.putters.is_empty()) {
                        model.putters.push((call, vec![priority]));
                    } else {
                        model.expected.push((call, Err("Full")));
                    }
                    model.serve();
                }
                Act::PutMany(by, many) => {
                    let mut own = vec![];
                    let values = many.iter().map(|priority| label(*priority, &mut own)).collect();
                    let call = queue.call(owner(by), "put_many", &[Value::List(values)]);
                    label_of.insert(call, own);
                    if model.shut.is_some() {
                        model.expected.push((call, Err("ShutDown")));
                    } else if many.is_empty() {
                        model.expected.push((call, Ok(vec![])));
                    } else if maxsize > 0 && many.len() > maxsize {
                        model.expected.push((call, Err("ValueError")));
                    } else {
                        model.putters.push((call, many));
                        model.serve();
                    }
                }
                Act::Get(by) | Act::GetNowait(by) | Act::GetMany(by, _) => {
                    let (method, arguments, n) = match act {
                        Act::GetMany(_, n) => ("get_many", vec![int(n as i64)], Some(n)),
                        Act::GetNowait(_) => ("get_nowait", vec![], None),
                        _ => ("get", vec![], None),
                    };
                    let call = queue.call(owner(by), method, &arguments);
                    if model.items.is_empty() && model.shut.is_some() {
                        model.expected.push((call, Err("ShutDown")));
                    } else if model.items.is_empty() && method == "get_nowait" {
                        model.expected.push((call, Err("Empty")));
                    } else {
                        model.getters.push((call, n));
                        model.serve();
                    }
                }
                Act::TaskDone => {
                    let call = queue.call(owner(A), "task_done", &[]);
                    match model.unfinished.checked_sub(1) {
                        Some(unfinished) => {
                            model.unfinished = unfinished;
                            model.expected.push((call, Ok(vec![])));
                        }
                        None => model.expected.push((call, Err("ValueError"))),
                    }
                }
                Act::Cancel(index, why) => {
                    let parked = queue.parked();
                    if !parked.is_empty() {
                        let call = parked[index.index(parked.len())];
                        queue.cancel(call, why);
                        let timed_out = if model.getters.iter().any(|getter| getter.0 == call) { "Empty" } else { "Full" };
                        model.getters.retain(|getter| getter.0 != call);
                        model.putters.retain(|putter| putter.0 != call);
                        model.expected.push((call, Err(if why == Why::Deadline { timed_out } else { "Cancelled" })));
                        model.serve();
                    }
                }
                Act::Lose(session) => {
                    let gone: Vec<_> = queue.parked().into_iter().filter(|call| queue.owner_of(*call).session == session).collect();
                    model.getters.retain(|getter| !gone.contains(&getter.0));
                    model.putters.retain(|putter| !gone.contains(&putter.0));
                    model.expected.extend(gone.into_iter().map(|call| (call, Err("Cancelled"))));
                    queue.lose(session, false);
                    for (call, lost) in unacknowledged.remove(&session).unwrap_or_default().into_iter().rev() {
                        queue.undelivered(call);
                        if model.shut == Some(true) {
                            model.unfinished = model.unfinished.saturating_sub(lost.len());
                        } else {
                            lost.iter().for_each(|number| *model.returns.entry(*number).or_default() += 1);
                            model.items.extend(lost.into_iter().map(|number| {
                                (number, priorities.borrow()[&put_order[number as usize]])
                            }));
                        }
                    }
                    model.serve();
                    queue.tick();
                }
                Act::Acknowledge(session) => {
                    unacknowledged.remove(&session);
                }
                Act::Shutdown(immediate) => {
                    queue.now(owner(A), "shutdown", &[Value::Bool(immediate)]).unwrap();
                    model.shut = Some(immediate);
                    if immediate {
                        model.unfinished = model.unfinished.saturating_sub(model.items.len());
                        model.items.clear();
                    }
                    let parked: Vec<_> = model.getters.drain(..).map(|getter| getter.0)
                        .chain(model.putters.drain(..).map(|putter| putter.0)).collect();
                    model.expected.extend(parked.into_iter().map(|call| (call, Err("ShutDown"))));
                }
            }
            for (call, outcome) in model.expected.drain(..) {
                let answer = queue.outcome(call);
                prop_assert!(answer.is_some(), "call {call} is answered");
                match (answer.unwrap(), outcome) {
                    (Ok(value), Ok(puts)) => {
                        if let Some(own) = label_of.get(&call) {
                            put_order.extend(own);
                        }
                        let labels: Vec<i64> = puts.iter().map(|number| put_order[*number as usize]).collect();
                        prop_assert_eq!(numbers(&value), labels);
                        if !puts.is_empty() {
                            let session = queue.owner_of(call).session;
                            unacknowledged.entry(session).or_default().push((call, puts));
                        }
                    }
                    (Err(fault), Err(kind)) => prop_assert_eq!(fault.kind, kind),
                    (answer, outcome) => prop_assert!(false, "answered {answer:?}, expected {outcome:?}"),
                }
            }
            let mut parked: Vec<_> = model.getters.iter().map(|getter| getter.0)
                .chain(model.putters.iter().map(|putter| putter.0)).collect();
            parked.sort_unstable();
            prop_assert_eq!(queue.parked(), parked);
            prop_assert_eq!(queue.now(owner(A), "qsize", &[]), Ok(int(model.items.len() as i64)));
        }
        let join = queue.call(owner(A), "join", &[]);
        prop_assert_eq!(queue.is_answered(join), model.unfinished == 0);
        queue.now(owner(A), "shutdown", &[Value::Bool(true)]).unwrap();
        prop_assert_eq!(queue.stored_bytes, 0);
    }
}
