//! What is waited on, between two sessions: who may do what, who goes first, and what everybody is told.

use std::time::Duration;

use steward_client::{
    AnyValue, Barrier, BoundedSemaphore, Condition, Error, Event, JoinableQueue, Lock, Manager, Proxy, Queue, RLock,
    Semaphore, Typed,
};
use steward_test_support::{HostOptions, TestHost, parked, soon, spawn_host};
use tokio::task::JoinHandle;

use crate::on_both;

/// Two programs by the same transport, and one that looks on.
struct Stage {
    one: Manager,
    other: Manager,
    admin: Manager,
    host: TestHost,
}

impl Stage {
    async fn set(over_quic: bool) -> Self {
        let host = spawn_host(HostOptions::default());
        let address = if over_quic { host.quic() } else { host.unix() };
        let (one, other, admin) = (host.connect(address).await, host.connect(address).await, host.manager().await);
        Self { one, other, admin, host }
    }

    /// An object, as each of the two sees it.
    async fn made<T: Typed>(&self, typeid: &str, args: impl steward_client::IntoArgs) -> (T, T) {
        let made = self.one.create_named("x", typeid, args).await.expect("made");
        let found = self.other.find("x").await.expect("named");
        (T::from_proxy(made).expect("of this type"), T::from_proxy(found).expect("of this type"))
    }

    async fn parked(&self, object: &impl Typed, count: u64) {
        parked(&self.admin, object.proxy(), count).await;
    }
}

fn raised<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    let error = outcome.expect_err("it raises");
    assert_eq!(error.effect(), steward_objects::Effect::Raised, "{error}");
    format!("{}: {}", error.kind(), error.message())
}

async fn end<T>(task: JoinHandle<T>) -> T {
    soon("the end of a wait", task).await.expect("no panic")
}

on_both! {
    rlock_belongs_to_one_owner_of_one_session => rlock;
    semaphore_gives_as_many_permits_as_it_has => semaphore;
    bounded_semaphore_takes_back_no_more_than_it_gave => bounded_semaphore;
    wait_of_a_condition_gives_up_every_level_and_takes_them_back => condition;
    wait_for_asks_in_the_client_and_holds_the_lock_meanwhile => wait_for;
    condition_shares_the_lock_that_it_was_made_with => condition_on;
    event_lets_everybody_go_until_it_is_cleared => event;
    barrier_numbers_its_parties_breaks_and_is_made_new => barrier;
    barrier_does_its_action_before_any_party_goes => barrier_action;
    queue_waits_refuses_and_counts => queue;
    queue_that_is_shut_down_says_so_to_everybody => queue_shutdown;
}

/// In CPython it belongs to the thread that serves the connection.
async fn rlock(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (lock, same): (RLock, RLock) = stage.made("RLock", ()).await;
    let (first, second) = (lock.acquire().await.expect("free"), lock.acquire().await.expect("its own"));
    // Another task of this session, and the very same owner's number in another one.
    let task = lock.with_owner(stage.one.owner());
    for stranger in [&task, &same] {
        assert!(stranger.try_acquire().await.expect("answered").is_none());
        assert_eq!(raised(stranger.release().await), "RuntimeError: cannot release un-acquired lock");
    }
    let waiting = tokio::spawn(same.acquire().into_future());
    stage.parked(&lock, 1).await;
    first.release().await.expect("held twice");
    assert!(!waiting.is_finished() && lock.locked().await.expect("answered"));
    second.release().await.expect("held once");
    let theirs = end(waiting).await.expect("granted");
    assert_eq!(raised(lock.release().await), "RuntimeError: cannot release un-acquired lock");
    // A task that takes it does so as itself, whichever thread it runs on.
    theirs.release().await.expect("held");
    let held = task.acquire().await.expect("free");
    assert!(lock.try_acquire().await.expect("answered").is_none());
    held.release().await.expect("held");
}

async fn semaphore(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (semaphore, same): (Semaphore, Semaphore) = stage.made("Semaphore", (2,)).await;
    let held = (semaphore.acquire().await.expect("free"), same.acquire().await.expect("free"));
    assert_eq!(same.get_value().await.expect("answered"), 0);
    assert!(semaphore.try_acquire().await.expect("answered").is_none());
    assert_eq!(raised(same.acquire().timeout(Duration::from_millis(1)).await).split(':').next(), Some("TimeoutError"));
    let waiting: Vec<_> = [&same, &semaphore].map(|each| tokio::spawn(each.acquire().into_future())).into();
    stage.parked(&semaphore, 2).await;
    // Anybody may add permits, several at once.
    same.release(3).await.expect("three more");
    for waiter in waiting {
        end(waiter).await.expect("granted").release().await.expect("held");
    }
    assert_eq!(semaphore.get_value().await.expect("answered"), 3);
    held.0.release().await.expect("held");
    drop(held.1);
    let refused = [stage.one.create("Semaphore", (-1,)).await.map(drop), same.release(0).await];
    let [refused, released] = refused.map(raised);
    assert_eq!(refused, "ValueError: semaphore initial value must be >= 0");
    assert_eq!(released, "ValueError: n must be one or more");
}

async fn bounded_semaphore(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (semaphore, same): (BoundedSemaphore, BoundedSemaphore) = stage.made("BoundedSemaphore", (2,)).await;
    assert_eq!(raised(semaphore.release(1).await), "ValueError: Semaphore released too many times");
    let held = semaphore.acquire().await.expect("free");
    assert_eq!(raised(same.release(2).await), "ValueError: Semaphore released too many times");
    assert_eq!(same.get_value().await.expect("answered"), 1, "none of the two was taken back");
    held.release().await.expect("held");
    assert_eq!(same.get_value().await.expect("answered"), 2);
}

async fn condition(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (condition, same): (Condition, Condition) = stage.made("Condition", ()).await;
    assert_eq!(
        raised(condition.proxy().call::<bool>("wait", ()).await),
        "RuntimeError: cannot wait on un-acquired lock"
    );
    assert_eq!(raised(condition.notify(1).await), "RuntimeError: cannot notify on un-acquired lock");
    assert_eq!(raised(condition.notify_all().await), "RuntimeError: cannot notify on un-acquired lock");
    assert_eq!(raised(condition.release().await), "RuntimeError: cannot release un-acquired lock");
    // Twice, as an RLock may be.
    let waiter = |manager: &Manager, condition: &Condition| {
        let condition = condition.with_owner(manager.owner());
        tokio::spawn(async move {
            let (outer, inner) = (condition.acquire().await?, condition.acquire().await?);
            let notified = condition.wait(&inner).await?;
            inner.release().await?;
            let locked = condition.locked().await?;
            outer.release().await?;
            Ok::<_, Error>(notified && locked)
        })
    };
    let mut waiting = Vec::new();
    for (count, (manager, condition)) in
        (1..).zip([(&stage.one, &condition), (&stage.other, &same), (&stage.one, &condition), (&stage.other, &same)])
    {
        waiting.push(waiter(manager, condition));
        stage.parked(condition, count).await;
    }
    let held = soon("the lock", same.acquire().into_future()).await.expect("they have given up both levels");
    same.notify(1).await.expect("held");
    stage.parked(&same, 4).await;
    held.release().await.expect("held");
    let rest = waiting.split_off(1);
    assert!(end(waiting.remove(0)).await.expect("who has waited longest"));
    let held = same.acquire().await.expect("free");
    // At its deadline it has the lock again.
    assert!(!same.wait(&held).timeout(Duration::from_millis(1)).await.expect("answered"));
    assert_eq!(rest.iter().filter(|waiter| waiter.is_finished()).count(), 0, "one was notified");
    same.notify_all().await.expect("held again");
    held.release().await.expect("held again");
    for waiter in rest {
        assert!(end(waiter).await.expect("notified"));
    }
    assert!(!condition.locked().await.expect("answered"));
}

async fn wait_for(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (condition, same): (Condition, Condition) = stage.made("Condition", ()).await;
    let count = stage.one.value("i", &0).await.expect("made");
    let held = condition.acquire().await.expect("free");
    let short = Some(Duration::from_millis(1));
    let mut asked = 0;
    let never = condition.wait_for(&held, short, async || {
        asked += 1;
        Ok(false)
    });
    assert!(!never.await.expect("answered"), "its last word at the timeout");
    assert!(asked >= 2);
    // The predicate is this program's own, and looks at what is nowhere else.
    let wanted = 2;
    let waiting = async { condition.wait_for(&held, None, async || Ok(count.get().await? == wanted)).await };
    let notifying = async {
        for value in [1, 2] {
            stage.parked(&condition, 1).await;
            let held = same.acquire().await.expect("the wait gave it up");
            count.set(&value).await.expect("set");
            same.notify_all().await.expect("held");
            held.release().await.expect("held");
        }
    };
    let (done, ()) = soon("the wait", async { tokio::join!(waiting, notifying) }).await;
    assert!(done.expect("notified"));
    held.release().await.expect("held again");
}

/// CPython's works over a Lock alone: over an RLock its `wait` raises.
async fn condition_on(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let lock: Lock = stage.one.named("lock").await.expect("made");
    let rlock: RLock = stage.one.named("rlock").await.expect("made");
    let conditions = [
        (lock.proxy(), stage.one.condition_on(&lock).await.expect("over a Lock")),
        (rlock.proxy(), stage.one.condition_on(&rlock).await.expect("over an RLock")),
    ];
    for (lock, condition) in conditions {
        let theirs: Proxy =
            stage.other.proxy(&steward_client::Token { address: None, ..lock.token() }).expect("a proxy");
        let waiting = tokio::spawn({
            let condition = condition.with_owner(stage.one.owner());
            async move {
                let held = condition.acquire().await?;
                let notified = condition.wait(&held).await?;
                held.release().await?;
                Ok::<_, Error>(notified)
            }
        });
        stage.parked(&condition, 1).await;
        // The lock itself is what is held and given up.
        assert!(theirs.call::<bool>("acquire", ()).blocking(false).await.expect("the wait gave it up"));
        assert!(condition.locked().await.expect("answered"));
        assert!(condition.try_acquire().await.expect("answered").is_none());
        theirs.call::<()>("release", ()).await.expect("held");
        let held = condition.acquire().await.expect("free");
        assert!(theirs.call::<bool>("locked", ()).await.expect("answered"));
        condition.notify(1).await.expect("held");
        held.release().await.expect("held");
        assert!(end(waiting).await.expect("notified"));
        assert!(!theirs.call::<bool>("locked", ()).await.expect("answered"));
    }
}

async fn event(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (event, same): (Event, Event) = stage.made("Event", ()).await;
    assert!(!event.is_set().await.expect("answered"));
    assert!(!event.wait().blocking(false).await.expect("answered"));
    assert!(!event.wait().timeout(Duration::from_millis(1)).await.expect("answered"));
    let waiting: Vec<_> = [&event, &same, &event].map(|each| tokio::spawn(each.wait().into_future())).into();
    stage.parked(&event, 3).await;
    same.set().await.expect("set");
    // Even if it is cleared before they have heard of it.
    same.clear().await.expect("cleared");
    for waiter in waiting {
        assert!(end(waiter).await.expect("answered"));
    }
    assert!(!event.is_set().await.expect("answered"));
    same.set().await.expect("set");
    same.set().await.expect("it is");
    assert!(event.wait().await.expect("answered") && event.is_set().await.expect("answered"));
}

async fn barrier(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (barrier, same): (Barrier, Barrier) = stage.made("Barrier", (3,)).await;
    assert_eq!(barrier.parties().await.expect("answered"), 3);
    let two = async || {
        let waiting = [&barrier, &same].map(|each| tokio::spawn(each.wait().into_future()));
        stage.parked(&barrier, 2).await;
        assert_eq!(same.n_waiting().await.expect("answered"), 2);
        waiting
    };
    let broken = "BrokenBarrierError: ";
    for generation in 0..3 {
        let waiting = two().await;
        assert_eq!(barrier.wait().await.expect("the third"), 2, "generation {generation}");
        let [first, second] = waiting;
        let mut numbers = [end(first).await.expect("through"), end(second).await.expect("through")];
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
        assert_eq!(same.n_waiting().await.expect("answered"), 0);
    }
    let waiting = two().await;
    same.abort().await.expect("aborted");
    for waiter in waiting {
        assert_eq!(raised(end(waiter).await), broken);
    }
    assert!(barrier.broken().await.expect("answered"));
    assert_eq!(raised(barrier.wait().await), broken);
    same.reset().await.expect("made new");
    assert!(!barrier.broken().await.expect("answered"));
    let waiting = two().await;
    same.reset().await.expect("made new");
    for waiter in waiting {
        assert_eq!(raised(end(waiter).await), broken);
    }
    assert!(!barrier.broken().await.expect("answered"), "it is new all the same");
    // Whoever gives up after a time breaks it for the others.
    let waiting = tokio::spawn(same.wait().into_future());
    stage.parked(&barrier, 1).await;
    assert_eq!(raised(barrier.wait().timeout(Duration::from_millis(1)).await), broken);
    assert_eq!(raised(end(waiting).await), broken);
    assert_eq!(raised(stage.one.create("Barrier", (0,)).await), "ValueError: parties must be > 0");
}

async fn barrier_action(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let list = stage.one.list::<u32>().await.expect("made");
    let action = (list.proxy().clone(), "append", 7);
    // The named Barrier keeps the list.
    stage.host.keeps(1);
    let barrier = stage.one.create_named("calls", "Barrier", (2, action)).await.expect("made");
    let same = stage.other.find("calls").await.expect("named");
    let waiting = tokio::spawn(same.call::<u64>("wait", ()).into_future());
    parked(&stage.admin, &barrier, 1).await;
    assert_eq!(list.len().await.expect("answered"), 0);
    assert_eq!(barrier.call::<u64>("wait", ()).await.expect("through"), 1);
    assert_eq!(end(waiting).await.expect("through"), 0);
    assert_eq!(list.copy().await.expect("copied"), [7], "once");

    // The party that comes last does it.
    let barrier = stage.one.create_named("asks", "Barrier", (2, "client")).await.expect("made");
    let same = stage.other.find("asks").await.expect("named");
    for goes_well in [true, false] {
        let waiting = tokio::spawn(same.call::<AnyValue>("wait", ()).into_future());
        parked(&stage.admin, &barrier, 1).await;
        let told = barrier.call::<(String, u64)>("wait", ()).await.expect("it is to act");
        assert_eq!(told, ("action".to_owned(), 1));
        assert!(!waiting.is_finished());
        barrier.call::<AnyValue>("action_done", (goes_well,)).await.expect("it was told");
        match end(waiting).await {
            Ok(number) => assert!(goes_well && number == AnyValue::Int(0)),
            outcome => assert_eq!((goes_well, &*raised(outcome)), (false, "BrokenBarrierError: ")),
        }
    }
}

async fn queue(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (queue, same): (Queue<u32>, Queue<u32>) = stage.made("Queue", (2,)).await;
    assert!(same.empty().await.expect("answered") && !same.full().await.expect("answered"));
    assert_eq!(raised(same.get_nowait().await), "Empty: ");
    assert_eq!(raised(same.get().blocking(false).await), "Empty: ");
    assert_eq!(raised(same.get().timeout(Duration::from_millis(1)).await), "Empty: ");
    // Getters are served in the order in which they came, wherever they are.
    let mut getting = Vec::new();
    for (count, each) in (1..).zip([&queue, &same, &queue]) {
        getting.push(tokio::spawn(each.get().into_future()));
        stage.parked(&queue, count).await;
    }
    for item in 1..=3 {
        same.put(&item).await.expect("put");
    }
    for (expected, getter) in (1..).zip(getting) {
        assert_eq!(end(getter).await.expect("an item"), expected);
    }
    same.put_many(&[4, 5]).await.expect("room");
    assert!(queue.full().await.expect("answered"));
    assert_eq!(raised(queue.put_nowait(&6).await), "Full: ");
    assert_eq!(raised(queue.put(&6).blocking(false).await), "Full: ");
    assert_eq!(raised(queue.put(&6).timeout(Duration::from_millis(1)).await), "Full: ");
    let putting = tokio::spawn(queue.put(&6).into_future());
    stage.parked(&queue, 1).await;
    assert_eq!(same.get().await.expect("an item"), 4);
    end(putting).await.expect("there is room now");
    assert_eq!((same.qsize().await.expect("answered"), queue.get_many(2).await.expect("both")), (2, vec![5, 6]));

    let queue: JoinableQueue<u32> = stage.one.named("jobs").await.expect("made");
    let same: JoinableQueue<u32> = stage.other.named("jobs").await.expect("found");
    queue.join().await.expect("there is nothing to wait for");
    queue.put_many(&[1, 2]).await.expect("put");
    let joining = tokio::spawn(queue.join().into_future());
    stage.parked(&queue, 1).await;
    for item in [1, 2] {
        assert_eq!(same.get().await.expect("an item"), item);
        assert!(!joining.is_finished());
        same.task_done().await.expect("one was got");
    }
    end(joining).await.expect("all is dealt with");
    assert_eq!(raised(same.task_done().await), "ValueError: task_done() called too many times");
    // What multiprocessing's own queues have, and these need not.
    for method in ["close", "join_thread", "cancel_join_thread"] {
        same.proxy().call::<()>(method, ()).await.expect("nothing to do");
    }
    same.put(&3).await.expect("it goes on");
    assert_eq!(queue.get().await.expect("an item"), 3);
}

async fn queue_shutdown(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let (queue, same): (Queue<u32>, Queue<u32>) = stage.made("Queue", (1,)).await;
    queue.put(&1).await.expect("room");
    let putting = tokio::spawn(same.put(&2).into_future());
    stage.parked(&queue, 1).await;
    queue.shutdown(false).await.expect("shut down");
    assert_eq!(raised(end(putting).await), "ShutDown: ");
    assert_eq!(raised(same.put(&3).await), "ShutDown: ");
    assert_eq!(same.get().await.expect("what is there may be had"), 1);
    assert_eq!(raised(same.get().await), "ShutDown: ");

    let queue: Queue<u32> = stage.one.named("at once").await.expect("made");
    let same: Queue<u32> = stage.other.named("at once").await.expect("found");
    let getting = tokio::spawn(same.get().into_future());
    stage.parked(&queue, 1).await;
    queue.shutdown(true).await.expect("shut down");
    assert_eq!(raised(end(getting).await), "ShutDown: ");
    assert!(same.is_shutdown().await.expect("answered"));
}
