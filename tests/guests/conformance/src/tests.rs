//! What the conformance cases do not reach: moves to a new version, lost results. The rest is tested there, against the built-in types.

use steward_guest::testing::{Answer, Harness};

use super::*;

const OTHER: Owner = Owner { session: 2, thread: 1 };

#[test]
fn lock_goes_in_turn_and_frees_itself_of_the_dead() {
    let mut lock = Harness::<Lock>::new(args![]).unwrap();
    assert!(lock.call_as(OTHER, "acquire", args![]).granted::<bool>());
    let waits = lock.call("acquire", args![]).parked();
    let gives_up = lock.call("acquire", args![]).parked();
    lock.cancel(gives_up, Why::Deadline);
    assert!(!lock.answer(gives_up).value::<bool>());
    lock.reload();
    lock.owner_lost(2, true);
    assert_eq!(lock.answer(waits), Answer::Parked(waits), "a goodbye leaves the lock taken");
    lock.call("release", args![]).value::<()>();
    assert!(lock.answer(waits).granted::<bool>());
    lock.owner_lost(1, false);
    assert!(!lock.call("locked", args![]).value::<bool>());
    assert!(matches!(lock.call("acquire", args![]), Answer::GrantedAbandoned(_)));
    lock.call("release", args![]).value::<()>();
    let refused = ("RuntimeError".into(), "release unlocked lock".into());
    assert_eq!(lock.call("release", args![]).raised(), refused);
    assert_eq!(
        lock.call("acquire", args![1]).raised().1,
        "Lock.acquire() takes 1 positional argument but 2 were given"
    );
}

#[test]
fn lost_session_gives_permits_back_less_what_others_gave() {
    let mut semaphore = Harness::<Semaphore>::new(args![2]).unwrap();
    semaphore.call_as(OTHER, "acquire", args![]).granted::<bool>();
    semaphore.call_as(OTHER, "acquire", args![]).granted::<bool>();
    semaphore.call("release", args![]).value::<()>();
    semaphore.owner_lost(2, false);
    assert_eq!(semaphore.call("get_value", args![]).value::<i64>(), 2);
    assert!(matches!(semaphore.call("acquire", args![]), Answer::GrantedAbandoned(_)));
    assert!(matches!(semaphore.call("acquire", args![]), Answer::Granted(_)));
    assert_eq!(semaphore.call("release", args![0]).raised().1, "n must be one or more");
}

#[test]
fn permit_that_nobody_learnt_of_is_free_again() {
    let mut semaphore = Harness::<Semaphore>::new(args![]).unwrap();
    semaphore.call("acquire", args![]).granted::<bool>();
    semaphore.undelivered(1, "acquire", &Item::new(&true).unwrap(), true);
    assert_eq!(semaphore.call("get_value", args![]).value::<i64>(), 1);
}

#[test]
fn event_lets_all_go() {
    let mut event = Harness::<Event>::new(args![]).unwrap();
    let waits = [event.call("wait", args![]).parked(), event.call("wait", args![]).parked()];
    event.call("set", args![]).value::<()>();
    assert!(waits.map(|call| event.answer(call).value::<bool>()).iter().all(|set| *set));
}

#[test]
fn queue_serves_in_turn_on_both_sides() {
    let mut queue = Harness::<Queue>::new(args![1]).unwrap();
    let get = queue.call("get", args![]).parked();
    queue.call("put", args!["a"]).value::<()>();
    assert_eq!(queue.answer(get).value::<String>(), "a");
    queue.call("put", args!["b"]).value::<()>();
    let put = queue.call("put", args!["c"]).parked();
    assert_eq!(queue.call("put_nowait", args!["d"]).raised().0, "Full");
    queue.reload();
    assert_eq!(queue.call("get_many", args![5]).value::<Vec<String>>(), ["b"]);
    queue.answer(put).value::<()>();
    let join = queue.call("join", args![]).parked();
    queue.cancel(join, Why::Deadline);
    assert_eq!(queue.answer(join).raised(), ("TimeoutError".into(), "3 items are not dealt with".into()));
}

#[test]
fn lost_items_return_to_their_places() {
    let mut queue = Harness::<Queue>::new(args![]).unwrap();
    queue.call("put_many", args![vec![1, 2, 3]]).value::<()>();
    let first = queue.call("get", args![]).value::<Item>();
    let second = queue.call("get", args![]).value::<Item>();
    queue.undelivered(3, "get", &second, true);
    queue.undelivered(2, "get", &first, true);
    assert_eq!(queue.call("get_many", args![9]).value::<Vec<i32>>(), [1, 2, 3]);
}

#[test]
fn shutdown_ends_those_who_wait() {
    let mut queue = Harness::<Queue>::new(args![]).unwrap();
    let get = queue.call("get", args![]).parked();
    queue.call("shutdown", args![]).value::<()>();
    assert_eq!(queue.answer(get).raised().0, "ShutDown");
}

#[test]
fn dict_has_python_s_keys_in_order_and_keeps_them_over_a_move() {
    let mut dict = Harness::<dict>::new(args![vec![(1, "one")], x = 2]).unwrap();
    dict.call("__setitem__", args![true, "yes"]).value::<()>();
    dict.call("__setitem__", args![f64::NAN, 0]).value::<()>();
    dict.call("__setitem__", args![f64::NAN, 0]).value::<()>();
    dict.reload();
    assert_eq!(dict.call("__len__", args![]).value::<usize>(), 4);
    assert_eq!(dict.call("__str__", args![]).value::<String>(), "{1: 'yes', 'x': 2, nan: 0, nan: 0}");
    assert_eq!(dict.call("__getitem__", args!["y"]).raised(), ("KeyError".into(), "'y'".into()));
    assert_eq!(dict.call("get", args![vec![1]]).raised().1, "unhashable type: 'list'");
    assert_eq!(dict.call("pop", args!["y", 7]).value::<i32>(), 7);
    assert_eq!(dict.call("popitem", args![]).value::<(Item, i32)>().1, 0);
}
