//! Barrier, by behaviour and against a naive model.

mod support;

use proptest::prelude::*;
use steward_objects::{Effect, Fault, Ident, Owner, Value, Why};
use support::{Driver, arguments, owner, text, token};

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

fn kind(driver: &Driver, call: u64) -> String {
    driver.outcome(call).expect("the call is answered").expect_err("the call raises").kind
}

/// What the state methods say: parties waiting, and whether broken.
fn state(barrier: &mut Driver) -> (i64, bool) {
    match (barrier.now(owner(99), "n_waiting", &[]), barrier.now(owner(99), "broken", &[])) {
        (Ok(Value::Int(waiting)), Ok(Value::Bool(broken))) => (waiting, broken),
        other => panic!("{other:?}"),
    }
}

fn wait(barrier: &mut Driver, session: u64) -> u64 {
    barrier.call(owner(session), "wait", &[])
}

#[test]
fn all_go_when_the_last_arrives_with_the_order_of_arrival() {
    let mut barrier = Driver::new("Barrier", &[Value::Int(3)]);
    assert_eq!(barrier.now(owner(A), "parties", &[]), Ok(Value::Int(3)));
    for _generation in 0..3 {
        let calls: Vec<_> = [A, B].iter().map(|session| wait(&mut barrier, *session)).collect();
        assert_eq!(barrier.parked(), calls);
        assert_eq!(state(&mut barrier), (2, false));
        assert_eq!(barrier.now(owner(A), "__str__", &[]), Ok(text("<Barrier: waiters=2/3>")));
        let last = wait(&mut barrier, C);
        assert_eq!(barrier.value(calls[0]), Some(Value::Int(0)));
        assert_eq!(barrier.value(calls[1]), Some(Value::Int(1)));
        assert_eq!(barrier.value(last), Some(Value::Int(2)));
        assert_eq!(state(&mut barrier), (0, false));
    }
    let mut alone = Driver::new("Barrier", &[Value::Int(1)]);
    assert_eq!(alone.now(owner(A), "wait", &[]), Ok(Value::Int(0)));
}

#[test]
fn constructor_refuses_what_makes_no_sense() {
    let made = |positional: &[Value]| raised(Driver::try_new("Barrier", positional, &[]).map(|_| ()));
    for parties in [0, -1] {
        assert_eq!(made(&[Value::Int(parties)]), is("ValueError", "parties must be > 0"));
    }
    assert_eq!(made(&[text("a")]), is("TypeError", "'<' not supported between instances of 'str' and 'int'"));
    assert_eq!(made(&[]), is("TypeError", "Barrier.__init__() missing 1 required positional argument: 'parties'"));
    for action in [
        Value::Int(5),
        text("host"),
        Value::List(vec![]),
        Value::Tuple(vec![text("a"), text("b")]),
        Value::Tuple(vec![token("Event", 5), Value::Int(1)]),
    ] {
        assert_eq!(made(&[Value::Int(2), action]).0, "TypeError");
    }
    let outcome = made(&[Value::Int(2), Value::Null, text("a")]);
    assert_eq!(outcome, is("TypeError", "timeout must be a number or None, not str"));
}

#[test]
fn timeout_is_kept_for_clients() {
    for (timeout, kept) in [(Value::Float(1.5), Value::Float(1.5)), (Value::Null, Value::Null)] {
        let mut barrier = Driver::try_new("Barrier", &[Value::Int(2)], &[("timeout", timeout)]).unwrap();
        assert_eq!(barrier.now(owner(A), "timeout", &[]), Ok(kept));
    }
    assert_eq!(Driver::new("Barrier", &[Value::Int(2)]).now(owner(A), "timeout", &[]), Ok(Value::Null));
}

#[test]
fn whoever_leaves_early_breaks_it_for_all() {
    type Leave = fn(&mut Driver, u64);
    let leaves: [(Leave, &str); 4] = [
        (|driver, call| driver.cancel(call, Why::Deadline), "BrokenBarrierError"),
        (|driver, call| driver.cancel(call, Why::Client), "Cancelled"),
        (|driver, _| driver.lose(A, false), "Cancelled"),
        (|driver, _| driver.lose(A, true), "Cancelled"),
    ];
    for (leave, answer) in leaves {
        let mut barrier = Driver::new("Barrier", &[Value::Int(3)]);
        let (leaver, other) = (wait(&mut barrier, A), wait(&mut barrier, B));
        leave(&mut barrier, leaver);
        assert_eq!(kind(&barrier, leaver), answer);
        assert_eq!(barrier.outcome(other), Some(Err(Fault::raised("BrokenBarrierError", ""))));
        assert_eq!(state(&mut barrier), (0, true));
        assert_eq!(barrier.now(owner(A), "__repr__", &[]), Ok(text("<Barrier: broken>")));
        assert_eq!(raised(barrier.now(owner(C), "wait", &[])), is("BrokenBarrierError", ""));
        barrier.now(owner(C), "reset", &[]).unwrap();
        assert_eq!(state(&mut barrier), (0, false));
    }
}

/// In CPython one live party passes a barrier of two whose other party was killed.
#[test]
fn nobody_passes_with_the_dead() {
    let mut barrier = Driver::new("Barrier", &[Value::Int(2)]);
    wait(&mut barrier, A);
    barrier.lose(A, false);
    assert_eq!(raised(barrier.now(owner(B), "wait", &[])).0, "BrokenBarrierError");
}

#[test]
fn abort_breaks_and_reset_starts_afresh() {
    let mut barrier = Driver::new("Barrier", &[Value::Int(2)]);
    let waiting = wait(&mut barrier, A);
    barrier.now(owner(C), "abort", &[]).unwrap();
    assert_eq!(kind(&barrier, waiting), "BrokenBarrierError");
    assert_eq!(state(&mut barrier), (0, true));
    let version = barrier.version;
    barrier.now(owner(C), "reset", &[]).unwrap();
    assert_eq!(barrier.version, version + 1, "a broken barrier is made whole");
    let waiting = wait(&mut barrier, A);
    barrier.now(owner(C), "reset", &[]).unwrap();
    assert_eq!(kind(&barrier, waiting), "BrokenBarrierError");
    assert_eq!(state(&mut barrier), (0, false));
    let version = barrier.version;
    barrier.now(owner(C), "reset", &[]).unwrap();
    assert_eq!(barrier.version, version, "there was nothing to reset");
    assert_eq!(raised(barrier.now(owner(A), "#GETVALUE", &[])), is("TypeError", "cannot pickle '_thread.lock' object"));
}

// An action on another object

fn with_action() -> Driver {
    let action = Value::Tuple(vec![token("list", 5), text("append"), Value::Int(7), token("Lock", 6)]);
    Driver::new("Barrier", &[Value::Int(2), action])
}

#[test]
fn action_is_called_when_all_have_arrived_and_before_any_goes() {
    let mut barrier = with_action();
    assert_eq!(barrier.held.keys().copied().collect::<Vec<_>>(), [Ident(5), Ident(6)]);
    for _generation in 0..2 {
        let first = wait(&mut barrier, A);
        assert_eq!(barrier.invocations, []);
        let last = wait(&mut barrier, B);
        let invocation = barrier.invocations.pop().expect("the action is called");
        assert_eq!((invocation.ident, invocation.method.as_str()), (Ident(5), "append"));
        assert_eq!(invocation.args, arguments(&[Value::Int(7), token("Lock", 6)], &[]));
        assert_eq!(barrier.parked(), [first, last]);
        assert_eq!(state(&mut barrier), (2, false));
        barrier.returned(invocation.tag, Ok(Value::Null));
        assert_eq!((barrier.value(first), barrier.value(last)), (Some(Value::Int(0)), Some(Value::Int(1))));
    }
}

#[test]
fn failed_action_breaks_and_the_last_to_arrive_learns_why() {
    let mut barrier = with_action();
    let (first, last) = (wait(&mut barrier, A), wait(&mut barrier, B));
    let tag = barrier.invocations.pop().unwrap().tag;
    barrier.returned(tag, Err(Fault::refused("UnknownIdent", "gone").retry()));
    assert_eq!(kind(&barrier, first), "BrokenBarrierError");
    // Raised, for here it did happen: the barrier is broken.
    assert_eq!(barrier.outcome(last), Some(Err(Fault::raised("UnknownIdent", "gone"))));
    assert_eq!(state(&mut barrier), (0, true));
}

#[test]
fn newcomers_wait_for_the_action_and_make_the_next_generation() {
    let mut barrier = with_action();
    let calls: Vec<_> = [A, B].iter().map(|session| wait(&mut barrier, *session)).collect();
    let next: Vec<_> = (3..6).map(|session| wait(&mut barrier, session)).collect();
    let tag = barrier.invocations.pop().unwrap().tag;
    barrier.returned(tag, Ok(Value::Null));
    assert!(calls.iter().all(|call| barrier.is_answered(*call)));
    // The first two of them have filled the barrier again, the third is a generation later.
    assert_eq!(barrier.parked(), next);
    let again = barrier.invocations.pop().unwrap().tag;
    assert_ne!(again, tag);
    barrier.returned(tag, Ok(Value::Null));
    assert_eq!(barrier.parked(), next, "the old action's end is not the new one's");
    barrier.returned(again, Ok(Value::Null));
    assert_eq!(barrier.parked(), next[2..]);
    assert_eq!(barrier.value(next[1]), Some(Value::Int(1)));
}

#[test]
fn newcomer_that_leaves_breaks_the_next_generation_only() {
    let mut barrier = with_action();
    let (first, last) = (wait(&mut barrier, A), wait(&mut barrier, B));
    let (leaver, with_it) = (wait(&mut barrier, C), wait(&mut barrier, 4));
    barrier.cancel(leaver, Why::Deadline);
    assert_eq!(
        (kind(&barrier, leaver), kind(&barrier, with_it)),
        ("BrokenBarrierError".into(), "BrokenBarrierError".into())
    );
    let after = wait(&mut barrier, 5);
    assert_eq!(kind(&barrier, after), "BrokenBarrierError");
    assert_eq!(barrier.parked(), [first, last]);
    let tag = barrier.invocations.pop().unwrap().tag;
    barrier.returned(tag, Ok(Value::Null));
    assert_eq!((barrier.value(first), barrier.value(last)), (Some(Value::Int(0)), Some(Value::Int(1))));
    assert_eq!(state(&mut barrier), (0, true));
}

#[test]
fn deadline_during_the_action_changes_nothing_but_a_death_breaks() {
    let mut barrier = with_action();
    let (first, last) = (wait(&mut barrier, A), wait(&mut barrier, B));
    barrier.cancel(first, Why::Deadline);
    barrier.cancel(last, Why::Deadline);
    assert_eq!(barrier.parked(), [first, last]);
    barrier.lose(A, false);
    assert_eq!((kind(&barrier, first), kind(&barrier, last)), ("Cancelled".into(), "BrokenBarrierError".into()));
    let tag = barrier.invocations.pop().unwrap().tag;
    barrier.returned(tag, Ok(Value::Null));
    assert_eq!(state(&mut barrier), (0, true));
}

#[test]
fn abort_and_reset_do_not_wait_for_the_action() {
    for (method, is_broken) in [("abort", true), ("reset", false)] {
        let mut barrier = with_action();
        let calls: Vec<_> = [A, B, C].iter().map(|session| wait(&mut barrier, *session)).collect();
        barrier.now(owner(9), method, &[]).unwrap();
        for call in calls {
            assert_eq!(kind(&barrier, call), "BrokenBarrierError");
        }
        let tag = barrier.invocations.pop().unwrap().tag;
        barrier.returned(tag, Ok(Value::Null));
        assert_eq!(state(&mut barrier), (0, is_broken));
    }
}

// An action of the last party's own

fn with_client_action() -> (Driver, u64, u64) {
    let mut barrier = Driver::new("Barrier", &[Value::Int(2), text("client")]);
    let (first, last) = (wait(&mut barrier, A), wait(&mut barrier, B));
    (barrier, first, last)
}

#[test]
fn last_party_acts_and_then_lets_the_others_go() {
    let (mut barrier, first, last) = with_client_action();
    assert_eq!(barrier.value(last), Some(Value::List(vec![text("action"), Value::Int(1)])));
    assert_eq!(barrier.parked(), [first]);
    assert_eq!(state(&mut barrier), (2, false));
    let next = wait(&mut barrier, C);
    // Nobody else says that it is done, not even another thread of that client.
    let message = is("RuntimeError", "no action of this caller is pending");
    for other in [owner(A), Owner { session: B, thread: 2 }] {
        assert_eq!(raised(barrier.now(other, "action_done", &[Value::Bool(true)])), message);
    }
    assert_eq!(barrier.now(owner(B), "action_done", &[]), Ok(Value::Null));
    assert_eq!(barrier.value(first), Some(Value::Int(0)));
    assert_eq!(barrier.parked(), [next]);
    assert_eq!(raised(barrier.now(owner(B), "action_done", &[])), message);
}

#[test]
fn partys_failure_end_or_silence_breaks() {
    let fails: [fn(&mut Driver, u64); 4] = [
        |driver, _| {
            driver.now(owner(B), "action_done", &[Value::Bool(false)]).unwrap();
        },
        |driver, _| driver.lose(B, false),
        |driver, _| driver.lose(B, true),
        |driver, last| driver.undelivered(last),
    ];
    for fail in fails {
        let (mut barrier, first, last) = with_client_action();
        fail(&mut barrier, last);
        assert_eq!(kind(&barrier, first), "BrokenBarrierError");
        assert_eq!(state(&mut barrier), (0, true));
        assert_eq!(raised(barrier.now(owner(B), "action_done", &[])), is("BrokenBarrierError", ""));
    }
}

#[test]
fn another_sessions_end_does_not_disturb_the_partys_action() {
    let (mut barrier, first, _) = with_client_action();
    barrier.lose(C, false);
    assert_eq!(barrier.parked(), [first]);
    // A reply lost in an earlier generation is not this one's.
    barrier.now(owner(B), "action_done", &[]).unwrap();
    let (other, last) = (wait(&mut barrier, A), wait(&mut barrier, B));
    barrier.undelivered(first);
    assert!(!barrier.is_answered(other));
    barrier.undelivered(last);
    assert_eq!(kind(&barrier, other), "BrokenBarrierError");
}

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Leave(prop::sample::Index, Why),
    Lose(u64),
    Abort,
    Reset,
    /// The action ends well or badly.
    End(bool),
}

proptest! {
    /// Generations never mix: a party passes only with all others of its generation, its index is its place among them, and nobody
    /// who was lost is among those who wait.
    #[test]
    fn barrier_behaves_as_the_model(
        parties in 1_usize..4,
        has_action: bool,
        acts in prop::collection::vec(prop_oneof![
            8 => (1_u64..6).prop_map(Act::Wait),
            1 => (any::<prop::sample::Index>(), prop::sample::select(vec![Why::Deadline, Why::Client]))
                .prop_map(|(index, why)| Act::Leave(index, why)),
            1 => (1_u64..6).prop_map(Act::Lose),
            1 => Just(Act::Abort),
            2 => Just(Act::Reset),
            3 => any::<bool>().prop_map(Act::End),
        ], 0..80),
    ) {
        let action = if has_action { Value::List(vec![token("Event", 5), text("set")]) } else { Value::Null };
        let mut barrier = Driver::new("Barrier", &[Value::Int(parties as i64), action]);
        // Those of the generation that fills or acts, those who come after, and what the barrier is.
        let (mut waiting, mut next) = (Vec::<u64>::new(), Vec::<u64>::new());
        let (mut acts_now, mut broken, mut next_broken) = (false, false, false);
        for act in acts {
            let mut expected: Vec<(u64, Result<i64, &str>)> = Vec::new();
            let mut arrivals = Vec::new();
            let mut breaks = false;
            match act {
                Act::Wait(session) => arrivals.push(wait(&mut barrier, session)),
                Act::Leave(index, why) => {
                    let parked = barrier.parked();
                    if !parked.is_empty() {
                        let call = parked[index.index(parked.len())];
                        barrier.cancel(call, why);
                        let kind = if why == Why::Deadline { "BrokenBarrierError" } else { "Cancelled" };
                        if next.contains(&call) {
                            next.retain(|other| *other != call);
                            expected.push((call, Err(kind)));
                            expected.extend(next.drain(..).map(|call| (call, Err("BrokenBarrierError"))));
                            next_broken = true;
                        } else if why == Why::Client || !acts_now {
                            waiting.retain(|other| *other != call);
                            expected.push((call, Err(kind)));
                            breaks = true;
                        }
                    }
                }
                Act::Lose(session) => {
                    let (mut is_member, mut is_next) = (false, false);
                    for call in waiting.iter().chain(&next).filter(|call| barrier.owner_of(**call).session == session) {
                        is_member |= waiting.contains(call);
                        is_next |= next.contains(call);
                    }
                    barrier.lose(session, false);
                    // Whose break reached a call first is of no interest here: each of them fails.
                    if is_member {
                        prop_assert!(waiting.iter().chain(&next).all(|call| barrier.outcome(*call).is_some_and(|o| o.is_err())));
                        (waiting, next, acts_now, broken, next_broken) = (vec![], vec![], false, true, false);
                    } else if is_next {
                        prop_assert!(next.iter().all(|call| barrier.outcome(*call).is_some_and(|o| o.is_err())));
                        next.clear();
                        next_broken = true;
                    }
                }
                Act::Abort => {
                    barrier.now(owner(9), "abort", &[]).unwrap();
                    breaks = true;
                }
                Act::Reset => {
                    barrier.now(owner(9), "reset", &[]).unwrap();
                    expected.extend(waiting.drain(..).chain(next.drain(..)).map(|call| (call, Err("BrokenBarrierError"))));
                    (acts_now, broken, next_broken) = (false, false, false);
                }
                Act::End(ok) if acts_now => {
                    let tag = barrier.invocations.last().unwrap().tag;
                    if ok {
                        barrier.returned(tag, Ok(Value::Null));
                        expected.extend(waiting.drain(..).enumerate().map(|(index, call)| (call, Ok(index as i64))));
                        (acts_now, broken, next_broken) = (false, next_broken, false);
                        arrivals.append(&mut next);
                    } else {
                        barrier.returned(tag, Err(Fault::raised("KeyError", "k")));
                        expected.push((waiting.pop().unwrap(), Err("KeyError")));
                        breaks = true;
                    }
                }
                Act::End(_) => {}
            }
            if breaks {
                expected.extend(waiting.drain(..).chain(next.drain(..)).map(|call| (call, Err("BrokenBarrierError"))));
                (acts_now, broken, next_broken) = (false, true, false);
            }
            for call in arrivals {
                if broken || next_broken {
                    expected.push((call, Err("BrokenBarrierError")));
                } else if acts_now {
                    next.push(call);
                } else {
                    waiting.push(call);
                    if waiting.len() == parties && has_action {
                        acts_now = true;
                    } else if waiting.len() == parties {
                        expected.extend(waiting.drain(..).enumerate().map(|(index, call)| (call, Ok(index as i64))));
                    }
                }
            }
            for (call, outcome) in expected {
                let answer = barrier.outcome(call);
                let answer = answer.map(|answer| match answer {
                    Ok(Value::Int(index)) => Ok(index),
                    Ok(other) => Err(format!("{other:?}")),
                    Err(fault) => Err(fault.kind),
                });
                prop_assert_eq!(answer, Some(outcome.map_err(str::to_owned)));
            }
            prop_assert_eq!(barrier.parked(), waiting.iter().chain(&next).copied().collect::<Vec<_>>());
            prop_assert_eq!(state(&mut barrier), (waiting.len() as i64, broken));
        }
    }
}
