//! Calls that take effect only while a lock is held.

use steward_client::{Effect, Lock, Typed as _};
use steward_test_support::{HostOptions, parked, soon, spawn_host};

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
