//! Objects live for as long as somebody refers to them, and no longer.

use std::time::{Duration, Instant};

use steward_client::{AnyValue, Manager};
use steward_test_support::{ClientProcess, HostOptions, RawClient, soon, spawn_host, until};

use crate::{on_both, quick_host};

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

/// Stores an object by one call, and lets go of it by another.
async fn nest(manager: &Manager, typeid: &str, stores: (&str, &[AnyValue]), lets_go: (&str, &[AnyValue])) {
    let outer = manager.create(typeid, ()).await.expect("made");
    let inner = manager.queue::<u8>(0).await.expect("made");
    inner.put(&7).await.expect("put");
    let arguments =
        |values: &[AnyValue]| values.iter().fold(steward_client::Args::new(), |args, value| args.arg(value));
    let (method, before) = stores;
    outer.call::<AnyValue>(method, arguments(before).arg(&inner)).await.expect("stored");
    drop(inner);
    // What was dropped has been heard of by then.
    manager.ping().await.expect("answered");
    assert_eq!(manager.number_of_objects().await.expect("answered"), 2, "{typeid} keeps it");
    let (method, args) = lets_go;
    outer.call_item(method, arguments(args)).await.expect("let go of");
    objects(manager, 1).await;
    drop(outer);
    objects(manager, 0).await;
}

/// In CPython every object that was ever nested stays until the server ends.
async fn nested(over_quic: bool) {
    let host = spawn_host(HostOptions::default());
    let manager = host.connect(if over_quic { host.quic() } else { host.unix() }).await;
    let (key, text) = (|| AnyValue::Text("k".into()), |text: &str| AnyValue::Text(text.into()));
    nest(&manager, "dict", ("__setitem__", &[key()]), ("__delitem__", &[key()])).await;
    nest(&manager, "dict", ("__setitem__", &[key()]), ("__setitem__", &[key(), AnyValue::Null])).await;
    nest(&manager, "dict", ("setdefault", &[key()]), ("clear", &[])).await;
    nest(&manager, "list", ("append", &[]), ("pop", &[])).await;
    nest(&manager, "list", ("insert", &[AnyValue::Int(0)]), ("clear", &[])).await;
    nest(&manager, "Queue", ("put", &[]), ("get", &[])).await;
    nest(&manager, "Namespace", ("__setattr__", &[key()]), ("__delattr__", &[key()])).await;
    nest(&manager, "Namespace", ("__setattr__", &[key()]), ("__setattr__", &[key(), text("else")])).await;
    // A chain goes with what holds its end, however long it is.
    let mut outer = manager.list::<AnyValue>().await.expect("made");
    for _ in 0..200 {
        let next = manager.list::<AnyValue>().await.expect("made");
        next.append(&outer).await.expect("stored");
        outer = next;
    }
    objects(&manager, 201).await;
    drop(outer);
    objects(&manager, 0).await;
}

on_both! {
    nested_objects_go_when_nothing_stores_them_any_more => nested;
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

/// What a parent does for a process that it forks.
#[tokio::test]
async fn claimed_fork_goes_on_after_its_parent() {
    let host = spawn_host(HostOptions::default());
    for (parent, child) in [(host.unix(), host.quic()), (host.quic(), host.unix())] {
        let parent = host.connect(parent).await;
        let queue = parent.queue::<u8>(0).await.expect("made");
        queue.put(&7).await.expect("put");
        let token = queue.proxy().token();
        let child = host.claim(child, parent.fork().await.expect("forked")).await.expect("claimed");
        drop(queue);
        soon("goodbye", parent.close()).await;
        until("the parent has left", async || (host.counters("default").sessions == 1).then_some(())).await;
        let same = child.proxy(&steward_client::Token { address: None, ..token }).expect("a proxy");
        assert_eq!(same.call::<u8>("get", ()).await.expect("an item"), 7);
        drop(same);
        objects(&child, 0).await;
    }
}

/// Two that share one session would take each other's calls for repeats.
#[tokio::test]
async fn fork_is_claimed_once() {
    let mut options = HostOptions::default();
    options.limits.sign_in_failure_ms_min = 1;
    let host = spawn_host(options);
    for address in [host.unix(), host.quic()] {
        let parent = host.connect(address).await;
        let fork = parent.fork().await.expect("forked");
        let child = host.claim(address, fork.clone()).await.expect("claimed");
        let error = host.claim(address, fork).await.expect_err("claimed by somebody else");
        assert!(matches!(error, steward_client::Error::SignIn { .. }), "{error}");
        child.ping().await.expect("unharmed");
    }
}

#[tokio::test]
async fn unclaimed_fork_lives_with_its_parent_and_a_lease_more() {
    let host = quick_host();
    let (parent, admin) = (host.connect(host.quic()).await, host.manager().await);
    let list = parent.list::<u8>().await.expect("made");
    let fork = parent.fork().await.expect("forked");
    assert_eq!(host.counters("default").references, 2);
    let start = Instant::now();
    let more_than_a_lease = Duration::from_millis(1_600);
    until("a lease and a sweep pass", async || (start.elapsed() > more_than_a_lease).then_some(())).await;
    assert_eq!(host.counters("default").sessions, 3);
    drop(list);
    soon("goodbye", parent.close()).await;
    assert_eq!(admin.number_of_objects().await.expect("answered"), 1, "the fork holds it");
    objects(&admin, 0).await;
    assert_eq!(host.counters("default").sessions, 1);
    host.claim(host.quic(), fork).await.expect_err("it is over");
}

/// CPython's pickled proxy holds no reference: the object is gone before anybody reads it.
#[tokio::test]
async fn token_keeps_its_object_for_whoever_gets_it_in_time() {
    let mut options = HostOptions::default();
    options.limits.token_grace_ms = 1_500;
    let host = spawn_host(options);
    for (from, to) in [(host.unix(), host.quic()), (host.quic(), host.unix())] {
        let (giver, taker) = (host.connect(from).await, host.connect(to).await);
        let list = giver.list::<u8>().await.expect("made");
        list.append(&7).await.expect("appended");
        let token = steward_client::Token { address: None, ..list.proxy().token() };
        drop(list);
        soon("goodbye", giver.close()).await;
        let same = taker.proxy(&token).expect("a proxy");
        assert_eq!(same.value::<Vec<u8>>().await.expect("still there"), [7]);
        // Who has it now keeps it, and nothing else.
        until("its grace ends", async || (host.counters("default").lingering == 0).then_some(())).await;
        assert_eq!(same.value::<Vec<u8>>().await.expect("still there"), [7]);
        drop(same);
        objects(&taker, 0).await;
    }
}

#[tokio::test]
async fn token_that_nobody_takes_keeps_its_object_for_a_while_only() {
    let mut options = HostOptions::default();
    options.limits.token_grace_ms = 1;
    let host = spawn_host(options);
    let (giver, taker) = (host.manager().await, host.connect(host.quic()).await);
    let list = giver.list::<u8>().await.expect("made");
    let token = steward_client::Token { address: None, ..list.proxy().token() };
    drop(list);
    objects(&taker, 0).await;
    let late = taker.proxy(&token).expect("a proxy");
    let error = late.value::<Vec<u8>>().await.expect_err("too late");
    assert!(error.is("UnknownIdent"), "{error}");
}

#[tokio::test]
async fn idle_name_goes_and_a_used_one_stays() {
    let host = spawn_host(HostOptions::default());
    let (manager, admin) = (host.connect(host.quic()).await, host.manager().await);
    let idle = Duration::from_millis(1);
    let used = manager.create_named_for("used", idle, "dict", ()).await.expect("made");
    let stored = manager.create_named_for("stored", idle, "list", ()).await.expect("made");
    used.call::<()>("__setitem__", ("it", stored.clone())).await.expect("stored");
    let lasting = manager.create_named("lasting", "list", ()).await.expect("made");
    let unused = manager.create_named_for("unused", idle, "list", ()).await.expect("made");
    drop((stored, lasting, unused));
    objects(&admin, 3).await;
    admin.find("stored").await.expect("somebody stores it");
    admin.find("lasting").await.expect("it has no time");
    let error = admin.find("unused").await.expect_err("idle");
    assert!(error.is("KeyError"), "{error}");
    drop(used);
    objects(&admin, 1).await;
}
