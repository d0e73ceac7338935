//! Lock, RLock and Condition, by behaviour and against a naive model.

mod support;

use proptest::prelude::*;
use steward_objects::{Effect, Fault, Grant, Owner, Value, Why};
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

fn abandoned(grant: Option<Grant>) -> bool {
    grant.expect("the call is granted").abandoned
}

// Lock

#[test]
fn lock_goes_round_in_the_order_of_arrival() {
    let mut lock = Driver::new("Lock", &[]);
    let calls: Vec<_> = (1..=5).map(|session| lock.call(owner(session), "acquire", &[])).collect();
    for (at, call) in calls.iter().enumerate() {
        assert_eq!(lock.parked(), calls[at + 1..]);
        assert_eq!(lock.value(*call), Some(Value::Bool(true)));
        assert!(!abandoned(lock.grant(*call)));
        assert_eq!(lock.now(owner(9), "locked", &[]), Ok(Value::Bool(true)));
        assert!(!lock.is_free);
        assert_eq!(lock.now(owner(at as u64 + 1), "release", &[]), Ok(Value::Null));
    }
    assert_eq!(lock.now(owner(9), "locked", &[]), Ok(Value::Bool(false)));
    assert!(lock.is_free);
}

#[test]
fn lock_is_not_reentrant_and_anybody_may_release_it() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let again = lock.call(owner(A), "acquire", &[]);
    assert!(!lock.is_answered(again));
    assert_eq!(lock.now(owner(B), "release", &[]), Ok(Value::Null));
    assert!(lock.grant(again).is_some());
}

#[test]
fn lock_refuses_what_cpythons_refuses() {
    let mut lock = Driver::new("Lock", &[]);
    assert_eq!(raised(lock.now(owner(A), "release", &[])), is("RuntimeError", "release unlocked lock"));
    assert_eq!(
        raised(lock.now(owner(A), "acquire", &[Value::Bool(true)])),
        is("TypeError", "Lock.acquire() takes 1 positional argument but 2 were given")
    );
    assert_eq!(raised(lock.now(owner(A), "#GETVALUE", &[])), is("TypeError", "cannot pickle '_thread.lock' object"));
    let made = Driver::try_new("Lock", &[Value::Int(1)], &[]).map(|_| ());
    assert_eq!(raised(made), is("TypeError", "Lock.__init__() takes 1 positional argument but 2 were given"));
}

#[test]
fn lock_says_what_it_is() {
    let mut lock = Driver::new("Lock", &[]);
    assert_eq!(lock.now(owner(A), "__str__", &[]), Ok(text("<unlocked Lock>")));
    lock.call(owner(A), "acquire", &[]);
    assert_eq!(lock.now(owner(A), "__repr__", &[]), Ok(text("<locked Lock>")));
}

#[test]
fn acquire_at_its_deadline_answers_false_and_leaves_the_line() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let (late, next) = (lock.call(owner(B), "acquire", &[]), lock.call(owner(C), "acquire", &[]));
    lock.cancel(late, Why::Deadline);
    assert_eq!(lock.value(late), Some(Value::Bool(false)));
    assert_eq!(lock.grant(late), None);
    lock.now(owner(A), "release", &[]).unwrap();
    assert!(lock.grant(next).is_some());
    // Too late: it has been answered.
    lock.cancel(next, Why::Deadline);
    assert_eq!(lock.now(owner(A), "locked", &[]), Ok(Value::Bool(true)));
}

#[test]
fn dead_waiter_is_never_granted_the_lock() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let (dead, given_up) = (lock.call(owner(B), "acquire", &[]), lock.call(owner(C), "acquire", &[]));
    lock.lose(B, false);
    lock.cancel(given_up, Why::Client);
    for call in [dead, given_up] {
        let fault = lock.outcome(call).unwrap().unwrap_err();
        assert_eq!((fault.effect, fault.kind.as_str()), (Effect::Refused, "Cancelled"));
    }
    lock.now(owner(A), "release", &[]).unwrap();
    assert_eq!(lock.now(owner(A), "locked", &[]), Ok(Value::Bool(false)));
}

#[test]
fn lock_of_a_lost_holder_goes_to_the_next_who_is_told() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let next = lock.call(owner(B), "acquire", &[]);
    lock.lose(A, false);
    assert!(abandoned(lock.grant(next)));
    lock.now(owner(B), "release", &[]).unwrap();
    let later = lock.call(owner(C), "acquire", &[]);
    assert!(!abandoned(lock.grant(later)), "said once");
}

#[test]
fn abandonment_is_kept_for_whoever_comes_next() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    lock.lose(A, false);
    assert!(lock.is_free);
    let next = lock.call(owner(B), "acquire", &[]);
    assert!(abandoned(lock.grant(next)));
}

#[test]
fn orderly_goodbye_leaves_the_lock_locked_but_not_the_rlock() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    lock.lose(A, true);
    assert_eq!(lock.now(owner(B), "locked", &[]), Ok(Value::Bool(true)));
    assert_eq!(lock.now(owner(B), "release", &[]), Ok(Value::Null));

    let mut rlock = Driver::new("RLock", &[]);
    rlock.call(owner(A), "acquire", &[]);
    rlock.call(owner(A), "acquire", &[]);
    let next = rlock.call(owner(B), "acquire", &[]);
    rlock.lose(A, true);
    assert!(!abandoned(rlock.grant(next)));
}

#[test]
fn grant_that_never_arrived_is_undone_without_a_word() {
    for typeid in ["Lock", "RLock"] {
        let mut lock = Driver::new(typeid, &[]);
        let lost = lock.call(owner(A), "acquire", &[]);
        let next = lock.call(owner(B), "acquire", &[]);
        lock.undelivered(lost);
        assert!(!abandoned(lock.grant(next)), "{typeid}");
        // It comes again, or late: the lock is somebody else's by now.
        lock.undelivered(lost);
        assert_eq!(lock.now(owner(C), "locked", &[]), Ok(Value::Bool(true)));
    }
}

#[test]
fn undone_grant_passes_on_that_the_lock_was_abandoned() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let told = lock.call(owner(B), "acquire", &[]);
    let next = lock.call(owner(C), "acquire", &[]);
    lock.lose(A, false);
    assert!(abandoned(lock.grant(told)));
    lock.undelivered(told);
    assert!(abandoned(lock.grant(next)));
}

// RLock

#[test]
fn rlock_counts_what_its_owner_takes() {
    let mut rlock = Driver::new("RLock", &[]);
    for _ in 0..3 {
        let call = rlock.call(owner(A), "acquire", &[]);
        assert!(rlock.grant(call).is_some(), "every acquire has a fence");
    }
    assert_eq!(rlock.now(owner(A), "__repr__", &[]), Ok(text("<locked RLock owner=1.1 count=3>")));
    let next = rlock.call(owner(B), "acquire", &[]);
    for _ in 0..3 {
        assert!(!rlock.is_answered(next));
        rlock.now(owner(A), "release", &[]).unwrap();
    }
    assert!(rlock.grant(next).is_some());
}

#[test]
fn rlock_is_its_owners_alone() {
    let mut rlock = Driver::new("RLock", &[]);
    let message = is("RuntimeError", "cannot release un-acquired lock");
    assert_eq!(raised(rlock.now(owner(A), "release", &[])), message);
    rlock.call(owner(A), "acquire", &[]);
    assert_eq!(raised(rlock.now(owner(B), "release", &[])), message);
    // Another thread of the same client is another owner.
    let other = Owner { session: A, thread: 2 };
    assert_eq!(raised(rlock.now(other, "release", &[])), message);
    let parked = rlock.call(other, "acquire", &[]);
    assert!(!rlock.is_answered(parked));
    assert_eq!(raised(rlock.now(other, "#GETVALUE", &[])), is("TypeError", "cannot pickle '_thread.RLock' object"));
}

#[test]
fn rlock_of_a_lost_owner_is_released_once_at_every_depth() {
    let mut rlock = Driver::new("RLock", &[]);
    rlock.call(owner(A), "acquire", &[]);
    rlock.call(owner(A), "acquire", &[]);
    let next = rlock.call(owner(B), "acquire", &[]);
    rlock.lose(A, false);
    assert!(abandoned(rlock.grant(next)));
    rlock.lose(A, false);
    assert_eq!(rlock.now(owner(B), "release", &[]), Ok(Value::Null));
    assert_eq!(rlock.now(owner(B), "__str__", &[]), Ok(text("<unlocked RLock>")));
}

// Condition

#[test]
fn wait_and_notify_need_the_lock() {
    let mut condition = Driver::new("Condition", &[]);
    let unwaited = is("RuntimeError", "cannot wait on un-acquired lock");
    let unnotified = is("RuntimeError", "cannot notify on un-acquired lock");
    for holder in [None, Some(B)] {
        if let Some(holder) = holder {
            condition.call(owner(holder), "acquire", &[]);
        }
        assert_eq!(raised(condition.now(owner(A), "wait", &[])), unwaited);
        assert_eq!(raised(condition.now(owner(A), "notify", &[])), unnotified);
        assert_eq!(raised(condition.now(owner(A), "notify_all", &[])), unnotified);
        assert_eq!(
            raised(condition.now(owner(A), "release", &[])),
            is("RuntimeError", "cannot release un-acquired lock")
        );
    }
}

#[test]
fn wait_releases_every_level_and_takes_them_again() {
    let mut condition = Driver::new("Condition", &[]);
    condition.call(owner(A), "acquire", &[]);
    condition.call(owner(A), "acquire", &[]);
    let wait = condition.call(owner(A), "wait", &[]);
    let taken = condition.call(owner(B), "acquire", &[]);
    assert!(condition.grant(taken).is_some(), "the lock is free meanwhile");
    assert_eq!(condition.now(owner(B), "notify", &[]), Ok(Value::Null));
    assert!(!condition.is_answered(wait), "it needs the lock first");
    condition.now(owner(B), "release", &[]).unwrap();
    assert_eq!(condition.value(wait), Some(Value::Bool(true)));
    assert!(condition.grant(wait).is_some());
    assert_eq!(condition.now(owner(A), "__str__", &[]), Ok(text("<Condition(<locked RLock owner=1.1 count=2>, 0)>")));
}

/// A Condition with waiters of these sessions, in this order, and the lock free.
fn waiters(sessions: &[u64]) -> (Driver, Vec<u64>) {
    let mut condition = Driver::new("Condition", &[]);
    let mut waits = Vec::new();
    for session in sessions {
        condition.call(owner(*session), "acquire", &[]);
        waits.push(condition.call(owner(*session), "wait", &[]));
    }
    (condition, waits)
}

#[test]
fn notify_wakes_the_oldest_and_no_more_than_asked_for() {
    let (mut condition, waits) = waiters(&[1, 2, 3, 4, 5]);
    condition.call(owner(9), "acquire", &[]);
    for n in [Value::Int(0), Value::Int(-3)] {
        condition.now(owner(9), "notify", &[n]).unwrap();
    }
    condition.now(owner(9), "notify", &[]).unwrap();
    condition.now(owner(9), "notify", &[Value::Int(2)]).unwrap();
    condition.now(owner(9), "release", &[]).unwrap();
    for (at, wait) in waits[..3].iter().enumerate() {
        assert_eq!(condition.value(*wait), Some(Value::Bool(true)));
        condition.now(owner(at as u64 + 1), "release", &[]).unwrap();
    }
    assert_eq!(condition.parked(), waits[3..]);
    assert_eq!(condition.now(owner(9), "__repr__", &[]), Ok(text("<Condition(<unlocked RLock>, 2)>")));
    condition.call(owner(9), "acquire", &[]);
    condition.now(owner(9), "notify_all", &[]).unwrap();
    condition.now(owner(9), "release", &[]).unwrap();
    condition.now(owner(4), "release", &[]).unwrap();
    assert_eq!(condition.parked(), []);
}

#[test]
fn notify_refuses_what_is_no_number() {
    let mut condition = Driver::new("Condition", &[]);
    condition.call(owner(A), "acquire", &[]);
    assert_eq!(
        raised(condition.now(owner(A), "notify", &[text("a")])),
        is("TypeError", "'>' not supported between instances of 'str' and 'int'")
    );
    assert_eq!(
        raised(condition.now(owner(A), "notify", &[Value::Float(1.5)])),
        is("TypeError", "'float' object cannot be interpreted as an integer")
    );
}

#[test]
fn notified_waiter_does_not_overtake_those_who_wait_for_the_lock() {
    let (mut condition, waits) = waiters(&[A]);
    condition.call(owner(B), "acquire", &[]);
    let earlier = condition.call(owner(C), "acquire", &[]);
    condition.now(owner(B), "notify", &[]).unwrap();
    condition.now(owner(B), "release", &[]).unwrap();
    assert!(condition.grant(earlier).is_some());
    assert!(!condition.is_answered(waits[0]));
    condition.now(owner(C), "release", &[]).unwrap();
    assert_eq!(condition.value(waits[0]), Some(Value::Bool(true)));
}

#[test]
fn timed_out_wait_answers_false_only_with_its_lock() {
    let (mut condition, waits) = waiters(&[A]);
    condition.call(owner(B), "acquire", &[]);
    condition.cancel(waits[0], Why::Deadline);
    assert!(!condition.is_answered(waits[0]));
    // It has left the line, so this reaches nobody.
    condition.now(owner(B), "notify", &[]).unwrap();
    condition.now(owner(B), "release", &[]).unwrap();
    assert_eq!(condition.value(waits[0]), Some(Value::Bool(false)));
    assert!(condition.grant(waits[0]).is_some());

    // With the lock free it answers at once.
    let (mut condition, waits) = waiters(&[A]);
    condition.cancel(waits[0], Why::Deadline);
    assert_eq!(condition.value(waits[0]), Some(Value::Bool(false)));
    assert_eq!(condition.now(owner(A), "release", &[]), Ok(Value::Null));
}

#[test]
fn deadline_after_the_notify_changes_nothing() {
    let (mut condition, waits) = waiters(&[A]);
    condition.call(owner(B), "acquire", &[]);
    condition.now(owner(B), "notify", &[]).unwrap();
    condition.cancel(waits[0], Why::Deadline);
    assert!(!condition.is_answered(waits[0]));
    condition.now(owner(B), "release", &[]).unwrap();
    assert_eq!(condition.value(waits[0]), Some(Value::Bool(true)));
}

#[test]
fn wait_that_is_given_up_leaves_without_the_lock() {
    let (mut condition, waits) = waiters(&[A, B]);
    condition.cancel(waits[0], Why::Client);
    assert_eq!(condition.outcome(waits[0]).unwrap().unwrap_err().kind, "Cancelled");
    assert_eq!(condition.now(owner(C), "locked", &[]), Ok(Value::Bool(false)));
    condition.call(owner(C), "acquire", &[]);
    condition.now(owner(C), "notify", &[]).unwrap();
    condition.now(owner(C), "release", &[]).unwrap();
    assert_eq!(condition.value(waits[1]), Some(Value::Bool(true)));
}

/// CPython spends the notify on the dead one, and the live one waits for ever.
#[test]
fn wake_up_of_a_dead_waiter_goes_to_the_next() {
    for lost in [
        |driver: &mut Driver, _: u64| driver.lose(A, false),
        |driver: &mut Driver, wait| {
            driver.cancel(wait, Why::Client);
        },
    ] {
        let (mut condition, waits) = waiters(&[A, B]);
        condition.call(owner(C), "acquire", &[]);
        condition.now(owner(C), "notify", &[]).unwrap();
        lost(&mut condition, waits[0]);
        condition.now(owner(C), "release", &[]).unwrap();
        assert_eq!(condition.value(waits[1]), Some(Value::Bool(true)));
    }
    // Even where the reply was on its way already.
    let (mut condition, waits) = waiters(&[A, B]);
    condition.call(owner(C), "acquire", &[]);
    condition.now(owner(C), "notify", &[]).unwrap();
    condition.now(owner(C), "release", &[]).unwrap();
    assert!(condition.grant(waits[0]).is_some());
    condition.undelivered(waits[0]);
    assert_eq!(condition.value(waits[1]), Some(Value::Bool(true)));
    assert!(!abandoned(condition.grant(waits[1])));
}

#[test]
fn timed_out_waiter_that_dies_wakes_nobody() {
    let (mut condition, waits) = waiters(&[A, B]);
    condition.call(owner(C), "acquire", &[]);
    condition.cancel(waits[0], Why::Deadline);
    condition.lose(A, false);
    condition.now(owner(C), "release", &[]).unwrap();
    assert_eq!(condition.parked(), waits[1..]);
}

#[test]
fn conditions_of_a_lock_share_it_and_keep_their_lines_apart() {
    for typeid in ["Lock", "RLock"] {
        let mut lock = Driver::new(typeid, &[]);
        let (first, second) = (lock.join("Condition", 0, &[]).unwrap(), lock.join("Condition", 0, &[]).unwrap());
        assert_ne!(first, second);
        lock.call_facet(first, owner(A), "acquire", &[], &[]);
        assert_eq!(lock.now(owner(B), "locked", &[]), Ok(Value::Bool(true)), "{typeid}");
        let one = lock.call_facet(first, owner(A), "wait", &[], &[]);
        lock.call(owner(B), "acquire", &[]);
        let two = lock.call_facet(second, owner(B), "wait", &[], &[]);
        lock.call(owner(C), "acquire", &[]);
        lock.now_facet(second, owner(C), "notify_all", &[]).unwrap();
        lock.now(owner(C), "release", &[]).unwrap();
        assert_eq!(lock.value(two), Some(Value::Bool(true)));
        assert!(!lock.is_answered(one));
        lock.now_facet(second, owner(B), "release", &[]).unwrap();
        lock.cancel(one, Why::Deadline);
        lock.now(owner(A), "release", &[]).unwrap();
        lock.leave(second);
        assert!(lock.join("Condition", 0, &[]).unwrap() > second, "a number is never used again");
    }
}

#[test]
fn condition_over_a_lock_owns_it_when_anybody_does() {
    let mut lock = Driver::new("Lock", &[]);
    let condition = lock.join("Condition", 0, &[]).unwrap();
    assert_eq!(
        raised(lock.now_facet(condition, owner(A), "wait", &[])),
        is("RuntimeError", "cannot wait on un-acquired lock")
    );
    lock.call(owner(B), "acquire", &[]);
    assert_eq!(lock.now_facet(condition, owner(A), "notify", &[]), Ok(Value::Null));
    let wait = lock.call_facet(condition, owner(A), "wait", &[], &[]);
    assert_eq!(lock.now(owner(A), "locked", &[]), Ok(Value::Bool(false)), "wait released what B took, as CPython's");
    lock.cancel(wait, Why::Deadline);
    assert_eq!(lock.now_facet(condition, owner(A), "__str__", &[]), Ok(text("<Condition(<locked Lock>, 0)>")));
    assert_eq!(
        raised(lock.now_facet(condition, owner(A), "#GETVALUE", &[])),
        is("TypeError", "cannot pickle '_thread.lock' object")
    );
}

#[test]
fn condition_refuses_other_locks_and_a_lock_other_objects() {
    let made = |argument| raised(Driver::try_new("Condition", &[argument], &[]).map(|_| ()));
    assert_eq!(made(Value::Int(5)), is("AttributeError", "'int' object has no attribute 'acquire'"));
    assert_eq!(made(token("Queue", 5)), is("TypeError", "lock must be a Lock or an RLock, not `Queue`"));
    assert!(Driver::try_new("Condition", &[Value::Null], &[]).is_ok());

    let mut lock = Driver::new("Lock", &[]);
    assert_eq!(lock.join("Event", 0, &[]).unwrap_err().kind, "TypeError");
    let surplus = lock.join("Condition", 0, &[Value::Int(1)]);
    assert_eq!(
        raised(surplus),
        is("TypeError", "Condition.__init__() takes from 1 to 2 positional arguments but 3 were given")
    );
    assert_eq!(Driver::new("Event", &[]).join("Condition", 0, &[]).unwrap_err().effect, Effect::Refused);
}

#[test]
fn thousands_of_waiters_leave_from_anywhere_and_the_rest_keep_their_order() {
    let mut lock = Driver::new("Lock", &[]);
    lock.call(owner(A), "acquire", &[]);
    let waiters: Vec<_> = (0..10_000).map(|at| lock.call(owner(10 + at), "acquire", &[])).collect();
    for waiter in waiters.iter().rev().step_by(2) {
        lock.cancel(*waiter, Why::Deadline);
    }
    for waiter in waiters.iter().step_by(2) {
        assert!(!lock.is_answered(*waiter));
        lock.now(owner(A), "release", &[]).unwrap();
        assert!(lock.grant(*waiter).is_some());
    }
}

// Against a model

/// None, a truth value, or the kind of a fault.
type Outcome = Result<Option<bool>, &'static str>;

/// The naive one: lists, searched from the front.
#[derive(Default)]
struct Model {
    reentrant: bool,
    /// Owner, depth.
    holder: Option<(Owner, u32)>,
    abandoned: bool,
    /// Call, owner, depth, what it answers, and whether it was a notified wait of this condition.
    line: Vec<(u64, Owner, u32, bool, Option<u32>)>,
    /// Call, condition, owner, depth.
    waiting: Vec<(u64, u32, Owner, u32)>,
    /// Call, result, and for grants whether abandoned.
    answers: Vec<(u64, Outcome, Option<bool>)>,
}

impl Model {
    fn settle(&mut self) {
        if self.holder.is_none() && !self.line.is_empty() {
            let (call, owner, depth, answer, _) = self.line.remove(0);
            self.holder = Some((owner, depth));
            self.answers.push((call, Ok(Some(answer)), Some(std::mem::take(&mut self.abandoned))));
        }
    }

    fn owns(&self, owner: Owner) -> bool {
        self.holder.is_some_and(|(holder, _)| !self.reentrant || holder == owner)
    }

    fn acquire(&mut self, call: u64, owner: Owner) {
        match &mut self.holder {
            Some((holder, depth)) if self.reentrant && *holder == owner => {
                *depth += 1;
                self.answers.push((call, Ok(Some(true)), Some(false)));
            }
            _ => self.line.push((call, owner, 1, true, None)),
        }
        self.settle();
    }

    fn release(&mut self, call: u64, owner: Owner) {
        if !self.owns(owner) {
            return self.answers.push((call, Err("RuntimeError"), None));
        }
        let (_, depth) = self.holder.as_mut().unwrap();
        *depth -= 1;
        if *depth == 0 {
            self.holder = None;
        }
        self.answers.push((call, Ok(None), None));
        self.settle();
    }

    fn wait(&mut self, call: u64, condition: u32, owner: Owner) {
        if !self.owns(owner) {
            return self.answers.push((call, Err("RuntimeError"), None));
        }
        let (_, depth) = self.holder.take().unwrap();
        self.waiting.push((call, condition, owner, depth));
        self.settle();
    }

    fn notify(&mut self, call: u64, condition: u32, owner: Owner, n: usize) {
        if !self.owns(owner) {
            return self.answers.push((call, Err("RuntimeError"), None));
        }
        self.answers.push((call, Ok(None), None));
        (0..n).for_each(|_| self.wake_one(condition));
    }

    fn wake_one(&mut self, condition: u32) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.1 == condition) {
            let (call, _, owner, depth) = self.waiting.remove(at);
            self.line.push((call, owner, depth, true, Some(condition)));
        }
        self.settle();
    }

    fn cancel(&mut self, call: u64, why: Why) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.0 == call) {
            let (_, _, owner, depth) = self.waiting.remove(at);
            match why {
                Why::Deadline => self.line.push((call, owner, depth, false, Some(u32::MAX))),
                _ => self.answers.push((call, Err("Cancelled"), None)),
            }
            self.settle();
        } else if let Some(at) = self.line.iter().position(|parked| parked.0 == call) {
            match (why, self.line[at].4) {
                (Why::Deadline, Some(_)) => {}
                (Why::Deadline, None) => {
                    self.line.remove(at);
                    self.answers.push((call, Ok(Some(false)), None));
                }
                (_, wait) => {
                    self.line.remove(at);
                    self.answers.push((call, Err("Cancelled"), None));
                    // `u32::MAX` stands for a wait that timed out: nobody notified it.
                    if let Some(condition) = wait {
                        self.wake_one(condition);
                    }
                }
            }
        }
    }

    fn lose(&mut self, session: u64, orderly: bool) {
        let mut calls: Vec<_> =
            self.waiting.iter().filter(|waiting| waiting.2.session == session).map(|w| w.0).collect();
        calls.extend(self.line.iter().filter(|parked| parked.1.session == session).map(|parked| parked.0));
        calls.sort_unstable();
        for call in calls {
            // One may have been answered as a result of another's end.
            self.cancel(call, Why::SessionEnded);
        }
        if self.holder.is_some_and(|(owner, _)| owner.session == session) && (self.reentrant || !orderly) {
            self.holder = None;
            self.abandoned |= !orderly;
            self.settle();
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Acquire(u32, Owner),
    Release(u32, Owner),
    Wait(u32, Owner),
    Notify(u32, Owner, usize),
    Cancel(prop::sample::Index, Why),
    Lose(u64, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let owners = || (1_u64..4, 1_u64..3).prop_map(|(session, thread)| Owner { session, thread });
    let why = prop::sample::select(vec![Why::Deadline, Why::Client]);
    let act = prop_oneof![
        4 => (0_u32..3, owners()).prop_map(|(facet, owner)| Act::Acquire(facet, owner)),
        4 => (0_u32..3, owners()).prop_map(|(facet, owner)| Act::Release(facet, owner)),
        4 => (1_u32..3, owners()).prop_map(|(facet, owner)| Act::Wait(facet, owner)),
        3 => (1_u32..3, owners(), 0_usize..4).prop_map(|(facet, owner, n)| Act::Notify(facet, owner, n)),
        2 => (any::<prop::sample::Index>(), why).prop_map(|(index, why)| Act::Cancel(index, why)),
        1 => (1_u64..4, any::<bool>()).prop_map(|(session, orderly)| Act::Lose(session, orderly)),
    ];
    prop::collection::vec(act, 0..80)
}

proptest! {
    /// Mutual exclusion, order, wake-ups and fences are those of the model, whatever happens to whom.
    #[test]
    fn lock_with_conditions_behaves_as_the_model(acts in acts(), reentrant: bool) {
        let mut driver = Driver::new(if reentrant { "RLock" } else { "Lock" }, &[]);
        driver.join("Condition", 0, &[]).unwrap();
        driver.join("Condition", 0, &[]).unwrap();
        let mut model = Model { reentrant, ..Model::default() };
        for act in acts {
            match act {
                Act::Acquire(facet, owner) => {
                    let call = driver.call_facet(facet, owner, "acquire", &[], &[]);
                    model.acquire(call, owner);
                }
                Act::Release(facet, owner) => {
                    let call = driver.call_facet(facet, owner, "release", &[], &[]);
                    model.release(call, owner);
                }
                Act::Wait(facet, owner) => {
                    let call = driver.call_facet(facet, owner, "wait", &[], &[]);
                    model.wait(call, facet, owner);
                }
                Act::Notify(facet, owner, n) => {
                    let call = driver.call_facet(facet, owner, "notify", &[Value::Int(n as i64)], &[]);
                    model.notify(call, facet, owner, n);
                }
                Act::Cancel(index, why) => {
                    let parked = driver.parked();
                    if !parked.is_empty() {
                        let call = parked[index.index(parked.len())];
                        driver.cancel(call, why);
                        model.cancel(call, why);
                    }
                }
                Act::Lose(session, orderly) => {
                    driver.lose(session, orderly);
                    model.lose(session, orderly);
                }
            }
            for (call, outcome, grant) in model.answers.drain(..) {
                let answer = driver.answer(call);
                prop_assert!(answer.is_some(), "call {call} is answered");
                let answer = answer.unwrap();
                match outcome {
                    Ok(None) => prop_assert_eq!(&answer.outcome, &Ok(Value::Null)),
                    Ok(Some(value)) => prop_assert_eq!(&answer.outcome, &Ok(Value::Bool(value))),
                    Err(kind) => prop_assert_eq!(&answer.outcome.as_ref().unwrap_err().kind, kind),
                }
                prop_assert_eq!(answer.grant.map(|grant| grant.abandoned), grant);
            }
            let mut parked: Vec<u64> = model.line.iter().map(|parked| parked.0).collect();
            parked.extend(model.waiting.iter().map(|waiting| waiting.0));
            parked.sort_unstable();
            prop_assert_eq!(driver.parked(), parked);
            prop_assert_eq!(driver.is_free, model.holder.is_none());
        }
    }
}
