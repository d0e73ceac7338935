//! How calls park, are tried again, and leave.
#![allow(missing_docs, reason = "a test")]

use steward_guest::prelude::*;
use steward_guest::testing::{Answer, Harness};

/// Permits that callers take some of, each way of waiting once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Permits {
    free: u32,
    lost: Vec<u64>,
    cancelled: Vec<CallId>,
    ticks: Vec<u64>,
    #[serde(skip)]
    by_hand: Vec<CallId>,
}

#[object(version = "1.2.0")]
impl Permits {
    pub fn new(#[default(0)] free: u32) -> Self {
        Self { free, ..Self::default() }
    }

    #[method(fifo)]
    pub fn take(&mut self, #[default(1)] n: u32) -> Result<u32> {
        if self.free < n {
            return pending();
        }
        self.free -= n;
        Ok(self.free)
    }

    #[method(all, timeout = Ok(self.free))]
    pub fn take_any(&mut self, n: u32) -> Result<u32> {
        self.take(n)
    }

    #[method(fifo)]
    pub fn take_until(&mut self, cx: &Context, at_ms: u64) -> Result<bool> {
        if self.free > 0 {
            self.free -= 1;
            return Ok(true);
        }
        if cx.now_ms() >= at_ms { Ok(false) } else { pending_until(at_ms) }
    }

    /// Waits until there is a permit, and takes none.
    #[method(fifo)]
    pub fn wait(&self) -> Result<()> {
        if self.free == 0 { pending() } else { Ok(()) }
    }

    pub fn give(&mut self, #[default(1)] n: u32) {
        self.free += n;
    }

    pub fn free(&self) -> u32 {
        self.free
    }

    pub fn undeclared(&self) -> Result<()> {
        pending()
    }

    #[method(fifo)]
    pub fn rash(&mut self) -> Result<()> {
        self.free += 1;
        pending()
    }

    #[method(fifo)]
    pub fn join(&mut self, cx: &Context) -> Result<u64> {
        self.by_hand.push(cx.call_id());
        by_hand()
    }

    pub fn answer_joined(&mut self, cx: &Context) -> usize {
        let answered = std::mem::take(&mut self.by_hand);
        answered.iter().filter(|call| cx.complete_with_grant(**call, *call)).count()
    }

    pub fn alarm(&mut self, cx: &Context, at_ms: u64) {
        cx.wake_at(at_ms);
    }

    pub fn random(&self, cx: &Context) -> (u64, f64) {
        (cx.random(), cx.random_f64())
    }

    #[on(owner_lost)]
    fn owner_lost(&mut self, _: &Context, lost: OwnerLost) {
        self.lost.push(lost.session);
        self.free += 1;
    }

    #[on(cancelled)]
    fn cancelled(&mut self, cx: &Context, _: Why) -> bool {
        self.cancelled.push(cx.call_id());
        false
    }

    #[on(tick)]
    fn tick(&mut self, cx: &Context) {
        self.ticks.push(cx.now_ms());
        self.free += 1;
    }

    #[on(load)]
    fn older(_: &Context, _: &[u8], from: &str) -> Result<Self> {
        if from == "1.1.0" { Ok(Self::new(7)) } else { raise("ValueError", format!("state of {from}")) }
    }
}

fn permits(free: u32) -> Harness<Permits> {
    Harness::new(args![free]).unwrap()
}

#[test]
fn head_of_the_line_is_not_overtaken() {
    let mut permits = permits(1);
    let first = permits.call("take", args![2]).parked();
    // One would be free for it.
    let second = permits.call("take", args![1]).parked();
    permits.call("give", args![]).value::<()>();
    assert_eq!(permits.answer(first).value::<u32>(), 0);
    assert_eq!(permits.parked(), [second]);
    permits.call("give", args![5]).value::<()>();
    assert_eq!(permits.answer(second).value::<u32>(), 4);
}

#[test]
fn one_step_answers_as_many_as_it_can() {
    let mut permits = permits(0);
    let calls: Vec<CallId> = (0..5).map(|_| permits.call("take", args![]).parked()).collect();
    permits.call("give", args![3]).value::<()>();
    assert_eq!(permits.parked(), calls[3..]);
}

#[test]
fn all_are_tried_in_the_order_they_came() {
    let mut permits = permits(1);
    let two = permits.call("take_any", args![2]).parked();
    let three = permits.call("take_any", args![3]).parked();
    assert_eq!(permits.call("take_any", args![1]).value::<u32>(), 0);
    let one = permits.call("take_any", args![1]).parked();
    permits.call("give", args![2]).value::<()>();
    assert_eq!(permits.answer(two).value::<u32>(), 0);
    assert_eq!(permits.parked(), [three, one]);
    permits.call("give", args![2]).value::<()>();
    assert_eq!(permits.answer(one).value::<u32>(), 1);
}

#[test]
fn deadline_raises_timeout_error_or_what_the_method_says() {
    let mut permits = permits(0);
    let (take, any) = (permits.call("take", args![]).parked(), permits.call("take_any", args![1]).parked());
    permits.cancel(take, Why::Deadline);
    permits.cancel(any, Why::Deadline);
    assert_eq!(permits.answer(take).raised().0, "TimeoutError");
    assert_eq!(permits.answer(any).value::<u32>(), 0);
    assert_eq!(permits.object().cancelled, [take, any]);
}

#[test]
fn cancelled_head_lets_the_next_through() {
    let mut permits = permits(1);
    let head = permits.call("take", args![2]).parked();
    let next = permits.call("take", args![1]).parked();
    permits.cancel(head, Why::Client);
    assert_eq!(permits.answer(next).value::<u32>(), 0);
}

#[test]
fn lost_session_waits_no_more_and_its_holdings_serve_others() {
    let mut permits = permits(0);
    let other = Owner { session: 2, thread: 1 };
    let gone = permits.call_as(other, "take", args![]).parked();
    let stays = permits.call("take", args![]).parked();
    permits.owner_lost(2, false);
    assert_eq!(permits.answer(stays).value::<u32>(), 0);
    let object = permits.object();
    assert_eq!((object.lost, object.cancelled), (vec![2], vec![gone]));
}

#[test]
fn call_that_only_parks_changes_no_version() {
    let mut permits = permits(0);
    let take = permits.call("take", args![]).parked();
    permits.call("free", args![]).value::<u32>();
    assert_eq!(permits.version(), 0);
    permits.call("give", args![]).value::<()>();
    assert_eq!((permits.answer(take).value::<u32>(), permits.version()), (0, 1));
}

#[test]
fn reader_that_waited_changes_nothing() {
    let mut permits = permits(0);
    let (first, second) = (permits.call("wait", args![]).parked(), permits.call("wait", args![]).parked());
    permits.call("give", args![]).value::<()>();
    permits.answer(first).value::<()>();
    permits.answer(second).value::<()>();
    assert_eq!((permits.version(), permits.object().free), (1, 1));
}

#[test]
fn time_wakes_the_head_alone() {
    let mut permits = permits(0);
    let late = permits.call("take_until", args![500]).parked();
    let early = permits.call("take_until", args![100]).parked();
    permits.advance(499);
    assert_eq!(permits.parked(), [late, early]);
    permits.advance(1);
    assert!(!permits.answer(late).value::<bool>());
    // The next is tried as soon as it is the head.
    assert!(!permits.answer(early).value::<bool>());
}

#[test]
fn own_alarm_and_waiting_calls_share_the_clock() {
    let mut permits = permits(0);
    permits.call("alarm", args![300]).value::<()>();
    let gives_up = permits.call("take_until", args![200]).parked();
    permits.reload();
    permits.advance(250);
    assert!(!permits.answer(gives_up).value::<bool>());
    let gets_it = permits.call("take_until", args![10_000]).parked();
    permits.advance(250);
    assert_eq!(permits.object().ticks, [300]);
    assert!(permits.answer(gets_it).value::<bool>());
}

#[test]
fn calls_left_to_the_object_are_answered_by_it_and_survive_an_upgrade() {
    let mut permits = permits(0);
    let calls = [permits.call("join", args![]).parked(), permits.call("join", args![]).parked()];
    permits.cancel(calls[0], Why::Deadline);
    assert_eq!(permits.answer(calls[0]).raised().0, "TimeoutError");
    permits.reload();
    assert_eq!(permits.call("answer_joined", args![]).value::<usize>(), 1);
    assert_eq!(permits.answer(calls[1]).granted::<u64>(), calls[1]);
}

#[test]
fn method_that_waits_undeclared_raises() {
    let (kind, message) = permits(0).call("undeclared", args![]).raised();
    assert_eq!(kind, "RuntimeError");
    assert_eq!(message, "Permits.undeclared waits, but is not declared #[method(fifo)] or #[method(all)]");
}

#[test]
#[should_panic(expected = "Permits.rash changed the object and then parked")]
fn harness_refuses_calls_that_change_and_park() {
    let _ = permits(0).call("rash", args![]);
}

#[test]
fn older_states_go_through_the_load_hook() {
    let mut permits = permits(3);
    let saved = permits.save();
    permits.load(&saved, "1.1.0");
    assert_eq!(permits.object().free, 7);
    permits.load(&saved, "1.2.0");
    assert_eq!(permits.object().free, 3);
}

#[test]
fn randomness_is_the_seed_s() {
    let mut permits = permits(0);
    let (first, fraction) = permits.call("random", args![]).value::<(u64, f64)>();
    let (second, _) = permits.call("random", args![]).value::<(u64, f64)>();
    assert_ne!(first, second);
    assert!((0.0..1.0).contains(&fraction));
}

#[test]
fn arguments_bind_by_name_with_defaults() {
    let mut permits = permits(5);
    assert_eq!(permits.call("take", args![n = 2]).value::<u32>(), 3);
    let (kind, message) = permits.call("take", args![n = "2"]).raised();
    assert_eq!((kind.as_str(), message.as_str()), ("TypeError", "Permits.take() argument 'n' must be int, not str"));
    let error = Harness::<Permits>::new(args![1, 2]).unwrap_err();
    assert_eq!(error.message, "Permits.__init__() takes from 1 to 2 positional arguments but 3 were given");
}

/// A cupboard for proxies and whatever else.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cupboard {
    handle: Option<Handle>,
    items: Vec<Item>,
}

#[object(version = "1.0.0")]
impl Cupboard {
    pub fn new(#[rest] items: Vec<Item>) -> Self {
        Self { handle: None, items }
    }

    pub fn keep(&mut self, handle: Handle) {
        self.handle = Some(handle);
    }

    #[method(fifo)]
    pub fn put(&mut self, item: Item) -> Result<()> {
        if self.items.len() == 1 {
            return pending();
        }
        self.items.push(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<Item> {
        self.items.pop()
    }

    pub fn ask(&mut self, cx: &Context, n: u32) {
        let handle = self.handle.as_ref().expect("there is a handle");
        cx.invoke(9, handle, "put", args![n]);
    }

    #[on(returned)]
    fn returned(&mut self, _: &Context, returned: Returned) {
        assert_eq!(returned.tag, 9);
        let text = returned.result::<String>().unwrap_or_else(|_| "raised".into());
        self.items.push(Item::new(&text).unwrap());
    }

    #[on(undelivered)]
    fn undelivered(&mut self, _: &Context, lost: Undelivered) -> bool {
        let item = lost.result::<Item>().unwrap();
        self.items.push(item);
        lost.method == "pop"
    }
}

/// A token as a client sends it.
fn token(ident: u8) -> Item {
    // Tag 54210 around ["Queue", ident, null].
    codec(&[&b"\xd9\xd3\xc2\x83\x65Queue"[..], &[ident], b"\xf6"].concat())
}

fn codec(bytes: &[u8]) -> Item {
    steward_guest::codec::from_slice(bytes).unwrap()
}

#[test]
fn stored_tokens_are_held_and_removed_ones_let_go() {
    let mut cupboard = Harness::<Cupboard>::new(args![]).unwrap();
    cupboard.call("keep", args![token(3)]).value::<()>();
    assert!(cupboard.held().iter().eq(&[3]));
    cupboard.call("keep", args![token(4)]).value::<()>();
    assert!(cupboard.held().iter().eq(&[4]));

    cupboard.call("put", args![vec![token(5)]]).value::<()>();
    let waits = cupboard.call("put", args![token(6)]).parked();
    assert!(cupboard.held().iter().eq(&[4, 5, 6]), "a waiting call's arguments are held");
    cupboard.reload();
    assert!(cupboard.held().iter().eq(&[4, 5, 6]));
    assert_eq!(cupboard.call("pop", args![]).value::<Vec<Item>>(), [token(5)]);
    assert_eq!(cupboard.answer(waits), Answer::Returned(Item::new(&()).unwrap()));
    assert!(cupboard.held().iter().eq(&[4, 6]));
}

#[test]
fn constructor_stores_tokens() {
    let cupboard = Harness::<Cupboard>::new(args![token(1)]).unwrap();
    assert!(cupboard.held().iter().eq(&[1]));
    assert!(Harness::<Cupboard>::new(args![1, "two"]).unwrap().held().is_empty());
}

#[test]
fn calls_on_other_objects_come_back() {
    let mut cupboard = Harness::<Cupboard>::new(args![]).unwrap();
    cupboard.call("keep", args![token(3)]).value::<()>();
    cupboard.call("ask", args![1]).value::<()>();
    assert_eq!(cupboard.invoked(), [(9, 3, "put".to_owned(), args![1u32])]);
    cupboard.returned(9, Ok(Item::new("done").unwrap()));
    assert_eq!(cupboard.call("pop", args![]).value::<String>(), "done");
    cupboard.returned(9, Err(Fault::new("Full", "")));
    assert_eq!(cupboard.call("pop", args![]).value::<String>(), "raised");
}

/// It asks another object as soon as it is made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asker {
    handle: Handle,
    heard: u32,
}

#[object(version = "1.0.0")]
impl Asker {
    pub fn new(cx: &Context, handle: Handle) -> Self {
        cx.invoke(1, &handle, "get", args![]);
        Self { handle, heard: 0 }
    }

    pub fn heard(&self) -> u32 {
        self.heard
    }

    #[on(returned)]
    fn returned(&mut self, _: &Context, _: Returned) {
        self.heard += 1;
    }
}

#[test]
fn what_a_constructor_asks_for_is_asked_for_with_the_first_step() {
    let mut asker = Harness::<Asker>::new(args![token(3)]).unwrap();
    assert_eq!(asker.call("heard", args![]).value::<u32>(), 0);
    assert_eq!(asker.invoked(), [(1, 3, "get".to_owned(), args![])]);
    asker.returned(1, Ok(Item::new("done").unwrap()));
    assert_eq!(asker.call("heard", args![]).value::<u32>(), 1);
    assert_eq!(asker.invoked(), []);
}

#[test]
fn lost_result_comes_back_to_the_object() {
    let mut cupboard = Harness::<Cupboard>::new(args![1]).unwrap();
    let lost = cupboard.call("pop", args![]).value::<Item>();
    cupboard.undelivered(1, "pop", &lost, true);
    assert_eq!(cupboard.call("pop", args![]).value::<u8>(), 1);
}
