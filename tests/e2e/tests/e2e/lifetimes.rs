//! Objects live for as long as somebody refers to them, and no longer.

use steward_client::{AnyValue, Manager};
use steward_test_support::{ClientProcess, HostOptions, RawClient, soon, spawn_host, until};

use crate::quick_host;

async fn objects(manager: &Manager, count: u64) {
    until(&format!("{count} objects"), async || {
        (manager.number_of_objects().await.expect("answered") == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn references_of_a_killed_client_are_dropped() {
    for over_quic in [false, true] {
        let host = quick_host();
        let manager = host.manager().await;
        let _named = manager.create_named("d", "dict", ()).await.expect("made");
        let address = if over_quic { host.quic() } else { host.unix() };
        // Iterators are objects, too, and this client's alone.
        let client = ClientProcess::start(&host, address, "d __iter__");
        assert_eq!(client.line(), "__iter__");
        assert_eq!(manager.number_of_objects().await.expect("answered"), 2);
        client.kill();
        objects(&manager, 1).await;
    }
}

#[tokio::test]
async fn objects_of_a_client_that_vanishes_go_with_it() {
    let host = quick_host();
    let manager = host.manager().await;
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        for _ in 0..5 {
            client.create("list", &[]).await.expect("made");
        }
        assert_eq!(manager.number_of_objects().await.expect("answered"), 5);
        client.vanish();
        objects(&manager, 0).await;
    }
}

#[tokio::test]
async fn object_goes_with_its_last_proxy() {
    let host = spawn_host(HostOptions::default());
    let manager = host.connect(host.quic()).await;
    let (list, again) = (manager.list::<u8>().await.expect("made"), manager.list::<u8>().await.expect("made"));
    let clone = list.clone();
    drop(list);
    assert_eq!(manager.number_of_objects().await.expect("answered"), 2);
    drop(clone);
    objects(&manager, 1).await;
    drop(again);
    objects(&manager, 0).await;
}

#[tokio::test]
async fn object_in_a_container_lives_as_long_as_it_is_there() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let jobs = manager.dict::<String, AnyValue>().await.expect("made");
    let queue = manager.queue::<u8>(0).await.expect("made");
    jobs.insert("q", &queue).await.expect("stored");
    queue.put(&7).await.expect("put");
    drop(queue);
    manager.ping().await.expect("answered");
    let again: steward_client::Queue<u8> = jobs.proxy().call("__getitem__", ("q",)).await.expect("still there");
    assert_eq!(again.get().await.expect("an item"), 7);
    drop(again);
    jobs.remove("q").await.expect("removed");
    objects(&manager, 1).await;
}

/// CPython leaks them until its server ends.
#[tokio::test]
async fn cycles_that_nobody_refers_to_go() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let (a, b) = (manager.list::<AnyValue>().await.expect("made"), manager.list::<AnyValue>().await.expect("made"));
    let (kept, leaf) = (manager.list::<AnyValue>().await.expect("made"), manager.event().await.expect("made"));
    a.append(&a).await.expect("itself");
    a.append(&b).await.expect("another");
    b.append(&a).await.expect("and back");
    b.append(&kept).await.expect("what is held elsewhere, too");
    b.append(&leaf).await.expect("what is in no cycle");
    a.proxy().str().await.expect("shown, and not for ever");
    a.extend(&a).await.expect("a copy of itself");
    // An iterator is of its list's cell.
    let iterator = b.proxy().call_proxy("__iter__", ()).await.expect("made");
    assert_eq!(manager.number_of_objects().await.expect("answered"), 5);
    drop((a, b, leaf));
    let first: steward_client::Proxy = iterator.call("__next__", ()).await.expect("the iterator keeps all of it");
    assert_eq!(first.typeid(), "list");
    drop((first, iterator));
    objects(&manager, 1).await;
    kept.append(&1).await.expect("unharmed");
    assert_eq!(kept.len().await.expect("answered"), 1);
}

#[tokio::test]
async fn cycle_that_a_name_or_a_session_reaches_stays() {
    let host = spawn_host(HostOptions::default());
    let (manager, other) = (host.manager().await, host.connect(host.quic()).await);
    let root = manager.create_named("root", "dict", ()).await.expect("made");
    let (a, b) = (manager.list::<AnyValue>().await.expect("made"), manager.list::<AnyValue>().await.expect("made"));
    a.append(&b).await.expect("stored");
    b.append(&a).await.expect("stored");
    root.call::<()>("__setitem__", ("a", a.clone())).await.expect("stored");
    drop((a, b));
    // A cycle of its own, made and dropped later, is what shows that the host has looked.
    let scrap = manager.list::<AnyValue>().await.expect("made");
    scrap.append(&scrap).await.expect("stored");
    drop(scrap);
    objects(&manager, 3).await;
    let a: steward_client::List<steward_client::Proxy> =
        other.find("root").await.expect("named").call("__getitem__", ("a",)).await.expect("still there");
    root.call::<()>("clear", ()).await.expect("cleared");
    let b = a.get(0).await.expect("still there");
    assert_eq!(b.call::<u64>("__len__", ()).await.expect("still there"), 1);
    drop((a, b));
    objects(&manager, 1).await;
}

#[tokio::test]
async fn goodbye_drops_everything_of_the_session() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let other = host.connect(host.quic()).await;
    let held = other.list::<u8>().await.expect("made");
    assert_eq!(manager.number_of_objects().await.expect("answered"), 1);
    soon("goodbye", other.close()).await;
    objects(&manager, 0).await;
    let error = held.len().await.expect_err("its session has ended");
    assert!(error.is("NotConnected"), "{error}");
}
