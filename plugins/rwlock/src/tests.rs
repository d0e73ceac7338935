use proptest::prelude::*;
use steward_guest::testing::{Answer, Harness};

use super::*;

const fn thread(thread: u64) -> Owner {
    Owner { session: thread, thread: 1 }
}

fn lock() -> Harness<RWLock> {
    Harness::new(args![]).unwrap()
}

#[test]
fn readers_share_and_a_writer_waits_for_the_last_of_them() {
    let mut lock = lock();
    assert!(lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>());
    assert!(lock.call_as(thread(2), "acquire_read", args![]).granted::<bool>());
    assert_eq!(lock.call("readers", args![]).value::<usize>(), 2);
    let writer = lock.call_as(thread(3), "acquire_write", args![]).parked();
    lock.call_as(thread(1), "release", args![]).value::<()>();
    assert_eq!(lock.answer(writer), Answer::Parked(writer));
    lock.call_as(thread(2), "release", args![]).value::<()>();
    assert!(lock.answer(writer).granted::<bool>());
    assert!(lock.call("writing", args![]).value::<bool>());
}

#[test]
fn grants_guard_until_the_last_holder_is_gone() {
    let mut lock = lock();
    assert!(lock.is_free());
    for reader in [1, 2] {
        lock.call_as(thread(reader), "acquire_read", args![]).granted::<bool>();
    }
    lock.call_as(thread(1), "release", args![]).value::<()>();
    assert!(!lock.is_free());
    lock.owner_lost(2, false);
    assert!(lock.is_free());
    lock.call_as(thread(3), "acquire_write", args![]).granted::<bool>();
    assert!(!lock.is_free());
    lock.call_as(thread(3), "release", args![]).value::<()>();
    assert!(lock.is_free());
}

#[test]
fn late_reader_does_not_overtake_a_waiting_writer() {
    let mut lock = lock();
    lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>();
    let writer = lock.call_as(thread(2), "acquire_write", args![]).parked();
    let readers = [3, 4].map(|who| lock.call_as(thread(who), "acquire_read", args![]).parked());
    let last = lock.call_as(thread(5), "acquire_write", args![]).parked();
    lock.call_as(thread(1), "release", args![]).value::<()>();
    assert!(lock.answer(writer).granted::<bool>());
    assert_eq!(lock.parked(), [readers[0], readers[1], last]);
    lock.call_as(thread(2), "release", args![]).value::<()>();
    assert!(readers.map(|reader| lock.answer(reader).granted::<bool>()).iter().all(|granted| *granted));
    assert_eq!(lock.parked(), [last]);
}

#[test]
fn deadline_answers_false_and_lets_those_behind_through() {
    let mut lock = lock();
    lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>();
    let writer = lock.call_as(thread(2), "acquire_write", args![]).parked();
    let reader = lock.call_as(thread(3), "acquire_read", args![]).parked();
    lock.cancel(writer, Why::Deadline);
    assert!(!lock.answer(writer).value::<bool>());
    assert!(lock.answer(reader).granted::<bool>());
}

#[test]
fn session_that_ends_releases_what_it_held_and_waits_no_more() {
    for orderly in [false, true] {
        let mut lock = lock();
        lock.call_as(thread(1), "acquire_write", args![]).granted::<bool>();
        let gone = lock.call_as(thread(2), "acquire_write", args![]).parked();
        let next = lock.call_as(thread(3), "acquire_read", args![]).parked();
        lock.owner_lost(2, orderly);
        assert_eq!(lock.parked(), [next]);
        lock.owner_lost(1, orderly);
        let granted = lock.answer(next);
        assert_eq!(matches!(granted, Answer::GrantedAbandoned(_)), !orderly, "{granted:?}");
        assert!(gone < next);
    }
}

#[test]
fn session_that_held_nothing_changes_nothing() {
    let mut lock = lock();
    lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>();
    let version = lock.version();
    lock.owner_lost(9, false);
    assert_eq!(lock.version(), version);
}

#[test]
fn grant_that_nobody_learnt_of_is_taken_back() {
    let mut lock = lock();
    lock.call_as(thread(1), "acquire_write", args![]).granted::<bool>();
    let next = lock.call_as(thread(2), "acquire_write", args![]).parked();
    lock.undelivered(next - 1, "acquire_write", &Item::new(&true).unwrap(), false);
    assert!(matches!(lock.answer(next), Answer::Granted(_)));
    lock.undelivered(next, "acquire_write", &Item::new(&true).unwrap(), true);
    assert!(matches!(lock.call_as(thread(3), "acquire_read", args![]), Answer::GrantedAbandoned(_)));
}

#[test]
fn only_holders_release() {
    let mut lock = lock();
    let refused = ("RuntimeError".to_owned(), "cannot release un-acquired lock".to_owned());
    assert_eq!(lock.call_as(thread(1), "release", args![]).raised(), refused);
    lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>();
    assert_eq!(lock.call_as(thread(2), "release", args![]).raised(), refused);
}

#[test]
fn waiting_calls_and_holders_survive_an_upgrade() {
    let mut lock = lock();
    lock.call_as(thread(1), "acquire_read", args![]).granted::<bool>();
    let writer = lock.call_as(thread(2), "acquire_write", args![]).parked();
    let reader = lock.call_as(thread(3), "acquire_read", args![]).parked();
    lock.reload();
    assert_eq!(lock.parked(), [writer, reader]);
    lock.call_as(thread(1), "release", args![]).value::<()>();
    assert!(lock.answer(writer).granted::<bool>());
}

proptest! {
    /// Whatever callers do, a writer is alone, grants go in the order of the line, and nobody waits while the head could go.
    #[test]
    fn writer_is_alone_and_turns_are_kept(turns in prop::collection::vec((0..5u64, 0..4u8), 1..60)) {
        let mut lock = lock();
        // Owner of each grant that is out, and whether it is to write.
        let mut holds: Vec<(u64, bool)> = Vec::new();
        let mut line: Vec<(u64, u64, bool)> = Vec::new();
        for (who, what) in turns {
            let waits = line.iter().any(|(_, waiter, _)| *waiter == who);
            match what {
                0 | 1 if !waits => {
                    let write = what == 1;
                    let method = if write { "acquire_write" } else { "acquire_read" };
                    match lock.call_as(thread(who), method, args![]) {
                        Answer::Granted(_) | Answer::GrantedAbandoned(_) => {
                            prop_assert!(line.is_empty(), "{who} overtook {line:?}");
                            holds.push((who, write));
                        }
                        Answer::Parked(call) => line.push((call, who, write)),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                2 => {
                    let held = holds.iter().rposition(|(holder, _)| *holder == who);
                    let answer = lock.call_as(thread(who), "release", args![]);
                    prop_assert_eq!(held.is_some(), matches!(answer, Answer::Returned(_)));
                    held.map(|at| holds.remove(at));
                }
                3 => {
                    lock.owner_lost(who, false);
                    holds.retain(|(holder, _)| *holder != who);
                    line.retain(|(_, waiter, _)| *waiter != who);
                }
                _ => {}
            }
            while let Some((call, who, write)) = line.first().copied()
                && !lock.parked().contains(&call)
            {
                prop_assert!(lock.answer(call).granted::<bool>());
                holds.push((who, write));
                line.remove(0);
            }
            prop_assert_eq!(lock.parked(), line.iter().map(|(call, ..)| *call).collect::<Vec<_>>());
            let writers = holds.iter().filter(|(_, write)| *write).count();
            prop_assert!(writers == 0 || holds.len() == 1, "{:?}", holds);
            let could_go = line.first().is_some_and(|(.., write)| if *write { holds.is_empty() } else { writers == 0 });
            prop_assert!(!could_go, "{:?} waits while {:?} hold the lock", line, holds);
        }
    }
}
