//! Calls that take effect only while a lock is held.

use steward_client::{Condition, Effect, Lock, Typed as _, Value};
use steward_objects::Value as Any;
use steward_test_support::{HostOptions, RawClient, parked, soon, spawn_host};
use steward_wire::frame::{Call, ClientFrame, Guard, Method};

fn refused<T: std::fmt::Debug>(result: Result<T, steward_client::Error>) -> (Effect, String) {
    let error = result.expect_err("the guard is stale");
    (error.effect(), error.kind().to_owned())
}

fn stale() -> (Effect, String) {
    (Effect::Refused, "StaleFence".to_owned())
}

#[tokio::test]
async fn stale_guard_has_no_effect_and_a_held_one_does() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let (lock, dict) = (manager.lock().await.expect("made"), manager.dict::<String, u64>().await.expect("made"));
    let held = lock.acquire().await.expect("free");
    dict.insert("a", &1).guard(&held).await.expect("it is held");
    assert!(held.is_held());
    // Anybody may release a Lock.
    lock.release().await.expect("it is held");
    assert_eq!(refused(dict.insert("a", &2).guard(&held).await), stale());
    let again = lock.acquire().await.expect("free");
    assert!(again.fence() > held.fence());
    assert_eq!(refused(dict.insert("a", &3).guard(&held).await), stale(), "somebody holds it, under a higher fence");
    dict.insert("b", &4).guard(&again).await.expect("it is held");
    assert_eq!(dict.get("a").await.expect("answered"), Some(1));
    assert_eq!(dict.get("b").await.expect("answered"), Some(4));
    std::mem::forget(held);
    manager.close().await;
}

#[tokio::test]
async fn parked_call_is_refused_as_soon_as_its_guard_is_stale() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let lock = manager.lock().await.expect("made");
    let queue = manager.queue::<u64>(1).await.expect("made");
    queue.put(&1).await.expect("there is room");
    let held = lock.acquire().await.expect("free");
    let put = tokio::spawn(queue.put(&2).guard(&held).into_future());
    parked(&manager, queue.proxy(), 1).await;
    // Nobody touches the queue.
    lock.release().await.expect("it is held");
    assert_eq!(refused(soon("the refusal", put).await.expect("no panic")), stale());
    assert_eq!(queue.get().await.expect("an item"), 1);
    assert_eq!(queue.qsize().await.expect("answered"), 0);
    std::mem::forget(held);
    manager.close().await;
}

#[tokio::test]
async fn rlock_taken_again_keeps_the_first_fence_valid() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let (lock, value) = (manager.rlock().await.expect("made"), manager.value("i", &0).await.expect("made"));
    let first = lock.acquire().await.expect("free");
    let second = lock.acquire().await.expect("its own");
    value.set(&1).guard(&first).await.expect("held");
    second.release().await.expect("held twice");
    value.set(&2).guard(&first).await.expect("held once");
    let fence = first.fence();
    lock.release().await.expect("held");
    assert_eq!(refused(value.set(&3).guard(&first).await), stale());
    assert_eq!((value.get().await.expect("answered"), first.fence()), (2, fence));
    std::mem::forget(first);
    manager.close().await;
}

#[tokio::test]
async fn guard_by_what_is_no_lock_is_a_type_error() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let value = manager.value("i", &0).await.expect("made");
    let semaphore = manager.semaphore(2).await.expect("made");
    let held = semaphore.acquire().await.expect("free");
    assert_eq!(refused(value.set(&1).guard(&held).await), (Effect::Refused, "TypeError".to_owned()));
    let dict = manager.dict::<String, u64>().await.expect("made");
    let guarded = value.set(&1).guard_by(dict.proxy(), 1);
    assert_eq!(refused(guarded.await), (Effect::Refused, "TypeError".to_owned()));
}

#[tokio::test]
async fn parked_call_goes_on_under_a_lock_that_is_held() {
    let host = spawn_host(HostOptions::default());
    let (manager, other) = (host.connect(host.quic()).await, host.manager().await);
    let (lock, queue) = (manager.lock().await.expect("made"), manager.queue::<u64>(1).await.expect("made"));
    queue.put(&1).await.expect("there is room");
    let held = lock.acquire().await.expect("free");
    let put = tokio::spawn(queue.put(&2).guard(&held).into_future());
    parked(&other, queue.proxy(), 1).await;
    assert_eq!(queue.get().await.expect("an item"), 1);
    soon("the put", put).await.expect("no panic").expect("held");
    assert_eq!(queue.get().guard(&held).await.expect("an item"), 2);
    held.release().await.expect("held");
}

#[tokio::test]
async fn wait_of_a_condition_ends_the_old_fence_and_what_is_held_follows() {
    let host = spawn_host(HostOptions::default());
    let (manager, other) = (host.connect(host.quic()).await, host.manager().await);
    let (condition, value): (Condition, Value<i64>) =
        (manager.named("c").await.expect("made"), manager.value("i", &0).await.expect("made"));
    let same: Condition = other.named("c").await.expect("found");
    let held = condition.acquire().await.expect("free");
    let old = held.fence();
    value.set(&1).guard(&held).await.expect("held");
    let waiting = async { condition.wait(&held).await.expect("notified") };
    let notifying = async {
        parked(&other, same.proxy(), 1).await;
        assert_eq!(refused(value.set(&2).guard_by(condition.proxy(), old).await), stale(), "it is given up");
        let theirs = same.acquire().await.expect("free");
        same.notify(1).await.expect("held");
        theirs.release().await.expect("held");
    };
    let (notified, ()) = soon("the wait", async { tokio::join!(waiting, notifying) }).await;
    assert!(notified && held.fence() > old);
    assert_eq!(refused(value.set(&3).guard_by(condition.proxy(), old).await), stale());
    value.set(&4).guard(&held).await.expect("held again");
    assert_eq!(value.get().await.expect("answered"), 4);
    held.release().await.expect("held");
}

#[tokio::test]
async fn fence_that_was_never_granted_is_stale() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let (lock, value) = (manager.lock().await.expect("made"), manager.value("i", &0).await.expect("made"));
    let held = lock.acquire().await.expect("free");
    for fence in [held.fence() + 1, u64::MAX - 1, u64::MAX, 0] {
        assert_eq!(refused(value.set(&1).guard_by(lock.proxy(), fence).await), stale(), "{fence}");
    }
    held.release().await.expect("held");
    for fence in [1, u64::MAX] {
        assert_eq!(refused(value.set(&1).guard_by(lock.proxy(), fence).await), stale(), "{fence}");
    }
    assert_eq!(value.get().await.expect("answered"), 0);
}

#[tokio::test]
async fn lock_that_the_session_does_not_hold_guards_nothing() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let lock = manager.lock().await.expect("made");
    let held = lock.acquire().await.expect("free");
    let mut client = RawClient::connect(&host, host.quic()).await;
    let list = client.create("list", &[]).await.expect("made");
    let args = steward_test_support::driver::arguments(&[Any::Null], &[]);
    let guard = Some(Guard { lock: lock.proxy().ident(), fence: held.fence() });
    let method = Method::Name("append");
    let call = Call { seq: 2, ident: list, owner: 1, method, args: &args, deadline_ms: None, guard };
    client.frame(&ClientFrame::Call(call)).await.expect("sent");
    let fault = client.reply().await.expect("a reply").outcome.expect_err("not this session's");
    assert_eq!((fault.effect, &*fault.kind), (Effect::Refused, "UnknownIdent"));
    client.seq = 2;
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Any::Int(0)));
    held.release().await.expect("held");
}

#[tokio::test]
async fn plugin_says_until_when_its_grants_may_guard() {
    let host = spawn_host(HostOptions { plugins: &["rwlock"], ..HostOptions::default() });
    let manager = host.manager().await;
    let made = manager.create("RWLock", ()).await.expect("made");
    // It is acquired by other names than a Lock.
    let lock = made.clone();
    let value = manager.value("i", &0).await.expect("made");
    let fence = async |method: &str| {
        let item = lock.call_item(method, ()).await.expect("free");
        item.grant().expect("a grant").fence
    };
    let written = fence("acquire_write").await;
    value.set(&1).guard_by(&lock, written).await.expect("held");
    lock.call::<()>("release", ()).await.expect("held");
    assert_eq!(refused(value.set(&2).guard_by(&lock, written).await), stale());
    let (one, other) = (fence("acquire_read").await, fence("acquire_read").await);
    assert!(written < one && one < other);
    lock.call::<()>("release", ()).await.expect("held");
    value.set(&3).guard_by(&lock, one).await.expect("somebody still reads");
    lock.call::<()>("release", ()).await.expect("held");
    assert_eq!(refused(value.set(&4).guard_by(&lock, other).await), stale());
    assert_eq!(value.get().await.expect("answered"), 3);
    assert!(Lock::from_proxy(made).is_err(), "it is no Lock");
}
