//! Semaphore, BoundedSemaphore and Event, by behaviour and against a naive model.

mod support;

use std::collections::BTreeMap;

use num_bigint::BigInt;
use proptest::prelude::*;
use steward_objects::{Effect, Fault, Value, Why};
use support::{Driver, owner, text};

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

fn value(driver: &mut Driver) -> i64 {
    match driver.now(owner(99), "get_value", &[]) {
        Ok(Value::Int(value)) => value,
        other => panic!("get_value answered {other:?}"),
    }
}

#[test]
fn semaphore_hands_out_its_permits_and_then_one_for_each_release() {
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(2)]);
    assert_eq!(value(&mut semaphore), 2);
    let calls: Vec<_> = (1..=5).map(|session| semaphore.call(owner(session), "acquire", &[])).collect();
    assert_eq!(semaphore.parked(), calls[2..]);
    assert_eq!(semaphore.now(owner(9), "locked", &[]), Ok(Value::Bool(true)));
    semaphore.now(owner(1), "release", &[]).unwrap();
    assert_eq!(semaphore.parked(), calls[3..]);
    semaphore.now(owner(9), "release", &[Value::Int(3)]).unwrap();
    assert_eq!(semaphore.parked(), []);
    assert_eq!(value(&mut semaphore), 1);
    assert_eq!(semaphore.now(owner(9), "locked", &[]), Ok(Value::Bool(false)));
    for call in calls {
        assert_eq!(semaphore.value(call), Some(Value::Bool(true)));
        assert!(semaphore.grant(call).is_some());
    }
}

#[test]
fn semaphore_refuses_what_cpythons_refuses() {
    let made = |argument: Value| raised(Driver::try_new("Semaphore", &[argument], &[]).map(|_| ()));
    assert_eq!(made(Value::Int(-1)), is("ValueError", "semaphore initial value must be >= 0"));
    assert_eq!(made(text("a")), is("TypeError", "'<' not supported between instances of 'str' and 'int'"));
    assert_eq!(made(Value::Null), is("TypeError", "'<' not supported between instances of 'NoneType' and 'int'"));
    assert_eq!(made(Value::BigInt(BigInt::from(1) << 80)).0, "OverflowError");

    let mut semaphore = Driver::new("Semaphore", &[]);
    for n in [0, -1] {
        let outcome = semaphore.now(owner(A), "release", &[Value::Int(n)]);
        assert_eq!(raised(outcome), is("ValueError", "n must be one or more"));
    }
    assert_eq!(
        raised(semaphore.now(owner(A), "release", &[text("a")])),
        is("TypeError", "'<' not supported between instances of 'str' and 'int'")
    );
    assert_eq!(
        raised(semaphore.now(owner(A), "release", &[Value::Int(1), Value::Int(2)])),
        is("TypeError", "Semaphore.release() takes from 1 to 2 positional arguments but 3 were given")
    );
    assert_eq!(raised(semaphore.now(owner(A), "release", &[Value::Int(i64::MAX)])).0, "OverflowError");
    assert_eq!(value(&mut semaphore), 1);
    assert_eq!(
        raised(semaphore.now(owner(A), "#GETVALUE", &[])),
        is("TypeError", "cannot pickle '_thread.lock' object")
    );
}

#[test]
fn bounded_semaphore_is_not_released_beyond_its_start() {
    let mut semaphore = Driver::new("BoundedSemaphore", &[Value::Int(2)]);
    let message = is("ValueError", "Semaphore released too many times");
    assert_eq!(raised(semaphore.now(owner(A), "release", &[])), message);
    semaphore.call(owner(A), "acquire", &[]);
    assert_eq!(raised(semaphore.now(owner(A), "release", &[Value::Int(2)])), message);
    assert_eq!(semaphore.now(owner(A), "__str__", &[]), Ok(text("<BoundedSemaphore: value=1/2>")));
    assert_eq!(semaphore.now(owner(A), "release", &[]), Ok(Value::Null));
    assert_eq!(value(&mut semaphore), 2);
    // An unbounded one grows.
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(0)]);
    semaphore.now(owner(A), "release", &[Value::Int(3)]).unwrap();
    assert_eq!(semaphore.now(owner(A), "__repr__", &[]), Ok(text("<Semaphore: value=3>")));
}

#[test]
fn acquire_at_its_deadline_answers_false_and_dead_waiters_vanish() {
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(0)]);
    let calls: Vec<_> = (1..=4).map(|session| semaphore.call(owner(session), "acquire", &[])).collect();
    semaphore.cancel(calls[0], Why::Deadline);
    semaphore.cancel(calls[1], Why::Client);
    semaphore.lose(3, false);
    assert_eq!(semaphore.value(calls[0]), Some(Value::Bool(false)));
    for gone in &calls[1..3] {
        assert_eq!(semaphore.outcome(*gone).unwrap().unwrap_err().kind, "Cancelled");
    }
    semaphore.now(owner(9), "release", &[]).unwrap();
    assert_eq!(semaphore.value(calls[3]), Some(Value::Bool(true)));
    assert_eq!(value(&mut semaphore), 0);
}

#[test]
fn permits_of_a_lost_session_come_back_and_are_said_to_be_abandoned() {
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(2)]);
    semaphore.call(owner(A), "acquire", &[]);
    semaphore.call(owner(A), "acquire", &[]);
    let next = semaphore.call(owner(B), "acquire", &[]);
    semaphore.lose(A, false);
    assert!(semaphore.grant(next).unwrap().abandoned);
    assert_eq!(value(&mut semaphore), 1);
    let later = semaphore.call(owner(C), "acquire", &[]);
    assert!(semaphore.grant(later).unwrap().abandoned, "two were");
    semaphore.now(owner(B), "release", &[]).unwrap();
    let fresh = semaphore.call(owner(B), "acquire", &[]);
    assert!(!semaphore.grant(fresh).unwrap().abandoned);
    semaphore.lose(A, false);
    assert_eq!(value(&mut semaphore), 0);
}

#[test]
fn orderly_goodbye_leaves_permits_out() {
    let mut semaphore = Driver::new("BoundedSemaphore", &[Value::Int(1)]);
    semaphore.call(owner(A), "acquire", &[]);
    semaphore.lose(A, true);
    assert_eq!(value(&mut semaphore), 0);
    // Somebody else may have taken over, so it may still be released.
    semaphore.now(owner(B), "release", &[]).unwrap();
    assert_eq!(value(&mut semaphore), 1);
}

/// B releases what A took; when A is lost, nothing is left to give back.
#[test]
fn permit_released_by_another_is_not_given_back_twice() {
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(2)]);
    semaphore.call(owner(A), "acquire", &[]);
    semaphore.call(owner(C), "acquire", &[]);
    semaphore.now(owner(B), "release", &[]).unwrap();
    semaphore.lose(A, false);
    assert_eq!(value(&mut semaphore), 1);
    semaphore.lose(C, false);
    assert_eq!(value(&mut semaphore), 2);
}

/// A semaphore as a signal: the producer releases, the consumer acquires and never releases.
#[test]
fn signals_once_received_do_not_come_back() {
    let mut semaphore = Driver::new("Semaphore", &[Value::Int(0)]);
    for _ in 0..100 {
        let wait = semaphore.call(owner(A), "acquire", &[]);
        semaphore.now(owner(B), "release", &[]).unwrap();
        assert!(semaphore.grant(wait).is_some());
    }
    semaphore.lose(A, false);
    assert!(value(&mut semaphore) <= 1, "the latest may be taken for a permit that was held");
}

#[test]
fn grant_that_never_arrived_is_undone_once() {
    let mut semaphore = Driver::new("Semaphore", &[]);
    let lost = semaphore.call(owner(A), "acquire", &[]);
    let next = semaphore.call(owner(B), "acquire", &[]);
    semaphore.undelivered(lost);
    assert!(!semaphore.grant(next).unwrap().abandoned);
    semaphore.lose(A, false);
    semaphore.undelivered(lost);
    assert_eq!(value(&mut semaphore), 0);
    semaphore.lose(B, false);
    semaphore.undelivered(next);
    assert_eq!(value(&mut semaphore), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Acquire(u64),
    /// Releases some of the session's own permits, if it has as many.
    ReleaseOwn(u64, i64),
    /// A session that holds nothing gives back a permit on behalf of another.
    ReleaseFor(u64, u64),
    Cancel(prop::sample::Index, Why),
    Lose(u64, bool),
    Undelivered(prop::sample::Index),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let why = prop::sample::select(vec![Why::Deadline, Why::Client]);
    let act = prop_oneof![
        6 => (1_u64..6).prop_map(Act::Acquire),
        4 => (1_u64..6, 1_i64..3).prop_map(|(session, n)| Act::ReleaseOwn(session, n)),
        1 => (1_u64..6, 1_u64..6).prop_map(|(by, of)| Act::ReleaseFor(by, of)),
        1 => (any::<prop::sample::Index>(), why).prop_map(|(index, why)| Act::Cancel(index, why)),
        1 => (1_u64..6, any::<bool>()).prop_map(|(session, orderly)| Act::Lose(session, orderly)),
        1 => any::<prop::sample::Index>().prop_map(Act::Undelivered),
    ];
    prop::collection::vec(act, 0..120)
}

proptest! {
    /// Whatever happens to whom: permits that are free and permits that somebody really holds are never more than there
    /// are; nobody waits while one is free; who waits is served in order. As long as everybody releases only
    /// their own, none is missing either.
    #[test]
    fn semaphore_is_never_over_issued(start in 0_i64..4, bounded: bool, acts in acts()) {
        let typeid = if bounded { "BoundedSemaphore" } else { "Semaphore" };
        let mut driver = Driver::new(typeid, &[Value::Int(start)]);
        // Who really holds how many; what goodbyes left behind is still in use.
        let mut held = BTreeMap::<u64, i64>::new();
        let mut left_behind = 0;
        let mut line = Vec::new();
        let mut ended = Vec::new();
        let mut granted = Vec::<(u64, u64)>::new();
        let mut exact = true;
        let mut free = start;
        for act in acts {
            match act {
                Act::Acquire(session) if !ended.contains(&session) => {
                    line.push((driver.call(owner(session), "acquire", &[]), session));
                }
                Act::ReleaseOwn(session, n) if !ended.contains(&session) && held.get(&session).is_some_and(|h| *h >= n) => {
                    *held.get_mut(&session).unwrap() -= n;
                    granted.retain(|(_, by)| *by != session);
                    driver.now(owner(session), "release", &[Value::Int(n)]).unwrap();
                    free += n;
                }
                Act::ReleaseFor(by, of)
                    if !ended.contains(&by)
                        && held.get(&by).is_none_or(|h| *h == 0)
                        && held.get(&of).is_some_and(|h| *h > 0) =>
                {
                    exact = false;
                    granted.retain(|(_, session)| *session != of);
                    *held.get_mut(&of).unwrap() -= 1;
                    driver.now(owner(by), "release", &[]).unwrap();
                    free += 1;
                }
                Act::Cancel(index, why) if !line.is_empty() => {
                    let (call, _) = line.remove(index.index(line.len()));
                    driver.cancel(call, why);
                    prop_assert!(driver.is_answered(call) && driver.grant(call).is_none());
                }
                Act::Lose(session, orderly) if !ended.contains(&session) => {
                    ended.push(session);
                    line.retain(|(_, waiting)| *waiting != session);
                    driver.lose(session, orderly);
                    let had = held.remove(&session).unwrap_or(0);
                    if orderly { left_behind += had } else { free += had }
                }
                Act::Undelivered(index) if !granted.is_empty() => {
                    let (call, session) = granted.remove(index.index(granted.len()));
                    if held.get(&session).is_some_and(|h| *h > 0) {
                        *held.get_mut(&session).unwrap() -= 1;
                        free += 1;
                    }
                    driver.undelivered(call);
                }
                _ => {}
            }
            while line.first().is_some_and(|(call, _)| driver.is_answered(*call)) {
                let (call, session) = line.remove(0);
                prop_assert_eq!(driver.value(call), Some(Value::Bool(true)));
                prop_assert!(driver.grant(call).is_some());
                prop_assert!(!ended.contains(&session), "granted to a lost session");
                *held.entry(session).or_default() += 1;
                granted.push((call, session));
                free -= 1;
            }
            prop_assert!(line.iter().all(|(call, _)| !driver.is_answered(*call)), "served out of order");
            let now = value(&mut driver);
            prop_assert!(line.is_empty() || now == 0, "a permit is free and somebody waits");
            let used: i64 = held.values().sum::<i64>() + left_behind;
            prop_assert!(now + used <= start, "{now} free and {used} in use of {start}");
            if exact {
                prop_assert_eq!(now, free);
            }
        }
    }
}

// Event

#[test]
fn event_lets_all_go_when_set_and_parks_again_when_cleared() {
    let mut event = Driver::new("Event", &[]);
    let waits: Vec<_> = (1..=3).map(|session| event.call(owner(session), "wait", &[])).collect();
    assert_eq!(event.now(owner(A), "is_set", &[]), Ok(Value::Bool(false)));
    assert_eq!(event.now(owner(A), "__str__", &[]), Ok(text("<Event: unset>")));
    assert_eq!(event.parked(), waits);
    event.now(owner(9), "set", &[]).unwrap();
    for wait in waits {
        assert_eq!(event.value(wait), Some(Value::Bool(true)));
    }
    assert_eq!(event.now(owner(A), "wait", &[]), Ok(Value::Bool(true)));
    assert_eq!(event.now(owner(A), "__repr__", &[]), Ok(text("<Event: set>")));
    event.now(owner(9), "clear", &[]).unwrap();
    let wait = event.call(owner(A), "wait", &[]);
    assert!(!event.is_answered(wait));
    assert_eq!(event.now(owner(A), "is_set", &[]), Ok(Value::Bool(false)));
}

#[test]
fn event_wait_at_its_deadline_answers_false_and_dead_waiters_vanish() {
    let mut event = Driver::new("Event", &[]);
    let waits: Vec<_> = (1..=4).map(|session| event.call(owner(session), "wait", &[])).collect();
    event.cancel(waits[0], Why::Deadline);
    event.cancel(waits[1], Why::Client);
    event.lose(3, false);
    assert_eq!(event.value(waits[0]), Some(Value::Bool(false)));
    for gone in &waits[1..3] {
        assert_eq!(event.outcome(*gone).unwrap().unwrap_err().kind, "Cancelled");
    }
    event.now(owner(9), "set", &[]).unwrap();
    assert_eq!(event.value(waits[3]), Some(Value::Bool(true)));
    event.cancel(waits[3], Why::Deadline);
}

#[test]
fn event_changes_only_when_its_flag_does() {
    let mut event = Driver::new("Event", &[]);
    for (method, version) in [("clear", 0), ("set", 1), ("set", 1), ("wait", 1), ("clear", 2), ("clear", 2)] {
        event.now(owner(A), method, &[]).unwrap();
        assert_eq!(event.version, version, "after {method}");
    }
    event.call(owner(A), "wait", &[]);
    assert_eq!(event.version, 2, "a call that only parks changes nothing");
    assert_eq!(raised(event.now(owner(A), "#GETVALUE", &[])).0, "TypeError");
    assert_eq!(raised(Driver::try_new("Event", &[Value::Int(1)], &[]).map(|_| ())).0, "TypeError");
}
