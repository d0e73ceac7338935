//! Limits: what happens when one is reached, and that it can be gone back from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steward_client::AnyValue;
use steward_host::guest::Isolation;
use steward_host::{InstallOptions, Limits, Registration, Source};
use steward_objects::{Args, Effect, Ident, Input, Outbox, Referent, Value};
use steward_test_support::{
    HostOptions, PATIENCE, RawClient, TestHost, call_frame, component, parked, soon, spawn_host, until,
};
use steward_wire::auth::RefusalCode;
use steward_wire::describe::TypeInfo;
use steward_wire::frame::{Acked, ClientFrame};

use super::types::method;

fn host(change: impl FnOnce(&mut Limits)) -> TestHost {
    let mut options = HostOptions::default();
    change(&mut options.limits);
    spawn_host(options)
}

#[tokio::test]
async fn tenant_has_so_many_objects_and_no_more() {
    let host = host(|limits| limits.objects_max = 3);
    let manager = host.manager().await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(manager.list::<u8>().await.expect("room"));
    }
    let error = manager.list::<u8>().await.expect_err("full");
    assert_eq!((error.effect(), error.kind()), (Effect::Refused, "OverQuota"));
    assert!(error.message().contains('3'), "{error} should say the limit");
    let error = kept[0].iter().await.expect_err("an iterator is an object, too");
    assert!(error.is("OverQuota"), "{error}");
    kept.pop();
    until("there is room again", async || manager.list::<u8>().await.ok()).await;
}

/// What objects of plugins keep in memory of their own, and what they are made again from.
async fn memory_of_plugins_is_the_tenant_s(isolation: Isolation) {
    let mut options = HostOptions { plugins: &["conformance"], isolation, ..HostOptions::default() };
    options.limits.tenant_bytes_max = 4_000_000;
    let host = spawn_host(options);
    let manager = host.manager().await;
    let dict = manager.create("GuestDict", ()).await.expect("made");
    let other = manager.create("GuestDict", ()).await.expect("made");
    let item = "x".repeat(100_000);
    let mut kept = 0;
    let error = loop {
        match dict.call::<()>("__setitem__", (kept, &item)).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        // Each is there twice: in memory, and in what the object is made again from.
        assert!(kept < 20, "4,000,000 bytes have no room for that");
    };
    assert_eq!((error.effect(), error.kind(), error.is_retryable()), (Effect::Refused, "OverQuota", true));
    assert!(error.message().contains("limit is 4000000"), "{error} should say the limit");
    // It had no effect, and the object goes on.
    assert!(kept > 5, "{kept} were kept");
    assert_eq!(dict.call::<u64>("__len__", ()).await.expect("served"), kept);
    assert_eq!(dict.call::<String>("__getitem__", (kept - 1,)).await.expect("served"), item);
    let large = "x".repeat(1_000_000);
    let error = other.call::<()>("__setitem__", (0, &large)).await.expect_err("another object's, too");
    assert!(error.is("OverQuota"), "{error}");
    assert_eq!(other.call::<u64>("__len__", ()).await.expect("served"), 0);
    drop(dict);
    // A sandbox that is shared keeps what it has grown to for as long as somebody is in it.
    if isolation == Isolation::Object {
        until("there is room again", async || other.call::<()>("__setitem__", (0, &item)).await.ok()).await;
        assert!(host.counters("default").bytes < 2_000_000);
    }
    drop(other);
    until("all of it is given back", async || (host.counters("default").bytes < 10_000).then_some(())).await;
    let next = manager.create("GuestDict", ()).await.expect("made");
    next.call::<()>("__setitem__", (0, &item)).await.expect("there is room again");
}

#[tokio::test]
async fn memory_of_plugins_is_the_tenant_s_and_comes_back_with_their_objects() {
    memory_of_plugins_is_the_tenant_s(Isolation::Object).await;
}

#[tokio::test]
async fn memory_that_plugins_share_is_the_tenant_s_and_comes_back_with_their_sandbox() {
    memory_of_plugins_is_the_tenant_s(Isolation::Shared).await;
}

/// Its constructor is not to blame, and is not closed as one that does nothing but trap.
#[tokio::test]
async fn object_that_is_too_large_for_its_tenant_is_so_however_often_it_is_tried() {
    let mut options = HostOptions { plugins: &["conformance"], isolation: Isolation::Shared, ..HostOptions::default() };
    options.limits.tenant_bytes_max = 2_000_000;
    let host = spawn_host(options);
    let manager = host.manager().await;
    let neighbour = manager.create("GuestDict", ()).await.expect("made");
    // The arguments by themselves would have room, but they are read and kept.
    let large = "x".repeat(900_000);
    for _ in 0..8 {
        let error = manager.create("GuestDict", ([(0, &large)],)).await.expect_err("too large");
        assert_eq!((error.kind(), error.is_retryable()), ("OverQuota", true), "{error}");
    }
    neighbour.call::<()>("__setitem__", (0, 1)).await.expect("unharmed");
    manager.create("GuestDict", ([(0, 1)],)).await.expect("a small one has room");
}

#[tokio::test]
async fn tenant_stores_so_much_and_no_more() {
    let mut options = HostOptions { plugins: &["leaderboard"], ..HostOptions::default() };
    options.limits.tenant_bytes_max = 100_000;
    let host = spawn_host(options);
    let manager = host.manager().await;
    let queue = manager.queue::<String>(0).await.expect("made");
    let list = manager.list::<String>().await.expect("made");
    // Every call of it waits for a thread of the pool.
    let board = manager.create("Leaderboard", ()).await.expect("made");
    let item = "x".repeat(10_000);
    let mut stored = 0;
    let error = loop {
        match queue.put(&item).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.effect(), error.kind(), error.is_retryable()), (Effect::Refused, "OverQuota", true));
    assert!(error.message().contains("100000"), "{error} should say the limit");
    assert!((8..=9).contains(&stored), "{stored} items of 10,000 bytes were stored within 100,000");
    for _ in 0..200 {
        if list.append(&"z".repeat(100)).await.is_err() {
            break;
        }
    }
    assert!(board.call::<Vec<(u64, String, f64)>>("top", (3,)).await.expect("served").is_empty());
    let made = manager.create("list", ([&item],)).await.expect_err("full");
    for refused in [list.append(&item).await.expect_err("full"), made] {
        assert!(refused.is("OverQuota"), "{refused}");
    }
    // What reads or removes is served, and makes room.
    list.clear().await.expect("served");
    assert_eq!(queue.get().await.expect("an item"), item);
    list.append(&item).await.expect("there is room");
    drop(queue);
    until("its items are gone with it", async || (host.counters("default").bytes < 20_000).then_some(())).await;
    let mut other = RawClient::open(host.quic()).await.expect("open");
    other.sign_in("other", "default", host.authkey.as_bytes()).await.expect("signed in");
    let value = Value::List(vec![Value::Text(item)]);
    other.create("list", &[value]).await.expect("another tenant has its own");
}

/// Steps for as long as the test likes, where guests do that are not known to be quick.
struct Spinner {
    began: Arc<AtomicUsize>,
    may_end: Arc<Mutex<Receiver<()>>>,
}

impl Referent for Spinner {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        let Input::Call(call) = input else { return };
        self.began.fetch_add(1, Ordering::Relaxed);
        let _ = self.may_end.lock().expect("nobody panics with it").recv();
        out.returns_int(call.id, 1);
    }

    fn is_busy(&self) -> bool {
        true
    }
}

/// The type `Spinner`, whose steps end when the other side of `may_end` goes, and how many have begun.
fn spinner(may_end: Receiver<()>) -> (Arc<AtomicUsize>, Vec<Registration>) {
    let (began, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(may_end)));
    let info = TypeInfo { typeid: "Spinner".into(), methods: vec![method("spin")], ..TypeInfo::default() };
    let make = {
        let began = began.clone();
        move |_: Args<'_>, _: &mut Outbox| {
            let spinner = Spinner { began: began.clone(), may_end: may_end.clone() };
            Ok(Box::new(spinner) as Box<dyn Referent>)
        }
    };
    (began, vec![Registration::new("Spinner", Source::Constructor(info, Arc::new(make)))])
}

/// All that a tenant may have under way never ends. His further steps wait; another tenant's plugin is served.
#[tokio::test]
async fn tenant_whose_guests_spin_delays_himself_alone() {
    let (end, may_end) = channel();
    let (began, types) = spinner(may_end);
    let mut options = HostOptions { types, ..HostOptions::default() };
    (options.limits.guest_steps_max, options.limits.guest_steps_per_tenant_max) = (4, 2);
    let host = spawn_host(options);
    // Before the host, whatever happens: it waits for them.
    let end = end;
    host.host.register("other", &component("probe"), InstallOptions::default()).expect("registered");
    let manager = host.manager().await;
    let mut spinning = Vec::new();
    for _ in 0..4 {
        let spinner = manager.create("Spinner", ()).await.expect("made");
        spinning.push(tokio::spawn(spinner.call::<u64>("spin", ()).into_future()));
    }
    until("as many as may have begun", async || (began.load(Ordering::Relaxed) == 2).then_some(())).await;
    let mut other = RawClient::open(host.quic()).await.expect("open");
    other.sign_in("other", "default", host.authkey.as_bytes()).await.expect("signed in");
    for _ in 0..3 {
        let probe = soon("an object", other.create("Probe", &[])).await.expect("made");
        let echo = soon("an answer", other.call(probe, "echo", &[Value::Int(1)])).await;
        assert!(echo.is_ok(), "{echo:?}");
    }
    assert_eq!(began.load(Ordering::Relaxed), 2);
    drop(end);
    for spun in spinning {
        assert_eq!(soon("its turn", spun).await.expect("no panic").expect("served"), 1);
    }
}

#[tokio::test]
async fn tenant_has_so_many_sessions_and_no_more() {
    let host = host(|limits| limits.sessions_max = 2);
    let (first, _second) = (host.manager().await, host.connect(host.quic()).await);
    let mut third = RawClient::open(host.quic()).await.expect("open");
    let refusal = third.sign_in("default", "default", host.authkey.as_bytes()).await.expect_err("full");
    assert_eq!(refusal.code, RefusalCode::TryLater);
    let mut other = RawClient::open(host.quic()).await.expect("open");
    other.sign_in("other", "default", host.authkey.as_bytes()).await.expect("another tenant has its own");
    soon("goodbye", first.close()).await;
    until("there is room again", async || {
        let mut client = RawClient::open(host.unix()).await.expect("open");
        client.sign_in("default", "default", host.authkey.as_bytes()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn session_parks_so_many_calls_and_no_more() {
    let host = host(|limits| limits.calls_parked_max = 2);
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        let event = client.create("Event", &[]).await.expect("made");
        for seq in [11, 12, 13] {
            client.send(&call_frame(seq, event, "wait", &[], None)).await.expect("sent");
        }
        let reply = client.reply().await.expect("a reply");
        let fault = reply.outcome.expect_err("too many");
        assert_eq!((reply.seq, &*fault.kind, fault.retryable), (13, "TooManyParked", true));
        // What does not wait is served: without it nothing might ever let those go that do.
        client.seq = 13;
        assert_eq!(client.call(event, "is_set", &[]).await, Ok(Value::Bool(false)));
        client.send(&call_frame(15, event, "wait", &[], Some(0))).await.expect("sent");
        assert_eq!(client.reply().await.expect("a reply").outcome, Ok(Value::Bool(false)));
        client.frame(&ClientFrame::Cancel { seq: 11 }).await.expect("sent");
        assert_eq!(client.reply().await.expect("a reply").seq, 11);
        // Its reply counts, too, until it is acknowledged.
        client.acknowledge(Acked { floor: 12, ranges: Vec::new() }).await.expect("sent");
        client.send(&call_frame(16, event, "wait", &[], None)).await.expect("sent");
        client.seq = 16;
        assert_eq!(client.call(event, "set", &[]).await, Ok(Value::Null), "there was room for one more");
    }
}

#[tokio::test]
async fn client_waits_by_itself_before_it_parks_too_much() {
    let host = host(|limits| limits.calls_parked_max = 2);
    let manager = host.manager().await;
    let queue = manager.queue::<u32>(0).await.expect("made");
    let getters: Vec<_> = (0..4).map(|_| tokio::spawn(queue.get().into_future())).collect();
    parked(&manager, queue.proxy(), 2).await;
    let other = host.connect(host.quic()).await;
    let same: steward_client::Proxy =
        other.proxy(&steward_client::Token { address: None, ..queue.proxy().token() }).expect("a proxy");
    for item in 0..4 {
        same.call::<()>("put", (item,)).await.expect("put");
    }
    let mut items = Vec::new();
    for getter in getters {
        items.push(soon("an item", getter).await.expect("no panic").expect("an item"));
    }
    items.sort_unstable();
    assert_eq!(items, [0, 1, 2, 3]);
}

/// As many `get`s wait as a session may have. The `put`s that free them may wait, too, but do not have to.
#[tokio::test]
async fn a_session_full_of_parked_gets_can_still_put() {
    let host = host(|limits| limits.calls_parked_max = 3);
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        let queue = manager.queue::<u32>(0).await.expect("made");
        let getters: Vec<_> = (0..3).map(|_| tokio::spawn(queue.get().into_future())).collect();
        parked(&manager, queue.proxy(), 3).await;
        let mut items = Vec::new();
        for item in 0..3 {
            soon("a put", queue.put(&item).into_future()).await.expect("put");
        }
        for getter in getters {
            items.push(soon("an item", getter).await.expect("no panic").expect("an item"));
        }
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2]);
        assert!(queue.empty().await.expect("an answer"), "each put happened once");
    }
}

/// The same where the `put` does have to wait: it happens once, when there is room among those that wait.
#[tokio::test]
async fn a_put_that_must_wait_waits_for_room_among_those_that_wait() {
    let host = host(|limits| limits.calls_parked_max = 2);
    for address in [host.unix(), host.quic()] {
        let (manager, other) = (host.connect(address).await, host.connect(address).await);
        let (empty, full) =
            (manager.queue::<u32>(0).await.expect("made"), manager.queue::<u32>(1).await.expect("made"));
        full.put(&1).await.expect("put");
        let getters: Vec<_> = (0..2).map(|_| tokio::spawn(empty.get().into_future())).collect();
        parked(&manager, empty.proxy(), 2).await;
        let small = tokio::spawn(full.put(&2).into_future());
        // One that travels by itself, too.
        let list = manager.queue::<String>(1).await.expect("made");
        list.put(&"x".to_owned()).await.expect("put");
        let large = tokio::spawn(list.put(&"y".repeat(100_000)).into_future());
        for (item, getter) in (3..).zip(getters) {
            empty.put(&item).await.expect("put");
            soon("an item", getter).await.expect("no panic").expect("an item");
        }
        parked(&other, full.proxy(), 1).await;
        parked(&other, list.proxy(), 1).await;
        assert_eq!(full.get().await.expect("an item"), 1);
        assert_eq!(list.get().await.expect("an item"), "x");
        soon("the put", small).await.expect("no panic").expect("put");
        soon("the large put", large).await.expect("no panic").expect("put");
        assert_eq!(full.get().await.expect("an item"), 2);
        assert_eq!(list.get().await.expect("an item").len(), 100_000);
        assert!(full.empty().await.expect("an answer") && list.empty().await.expect("an answer"));
    }
}

/// A call whose waiting others would feel is refused before its object hears of it.
#[tokio::test]
async fn a_wait_beyond_the_limit_lets_go_of_no_lock_and_breaks_no_barrier() {
    // One waits, and the reply of the `acquire` is never acknowledged.
    let host = host(|limits| limits.calls_parked_max = 2);
    let mut client = RawClient::connect(&host, host.unix()).await;
    let event = client.create("Event", &[]).await.expect("made");
    let condition = client.create("Condition", &[]).await.expect("made");
    let barrier = client.create("Barrier", &[Value::Int(2)]).await.expect("made");
    assert_eq!(client.call(condition, "acquire", &[]).await, Ok(Value::Bool(true)));
    client.send(&call_frame(20, event, "wait", &[], None)).await.expect("sent");
    for (seq, object) in [(21, condition), (22, barrier)] {
        client.send(&call_frame(seq, object, "wait", &[], None)).await.expect("sent");
        let reply = client.reply().await.expect("a reply");
        assert_eq!((reply.seq, reply.outcome.expect_err("too many").kind.as_str()), (seq, "TooManyParked"));
    }
    client.seq = 22;
    assert_eq!(client.call(condition, "locked", &[]).await, Ok(Value::Bool(true)));
    assert_eq!(client.call(barrier, "broken", &[]).await, Ok(Value::Bool(false)));
}

/// What a client was answered and does not acknowledge is kept: so many bytes, the last reply included whatever its size.
#[tokio::test]
async fn session_leaves_so_many_bytes_unacknowledged_and_no_more() {
    let host = host(|limits| limits.reply_row_bytes_max = 10_000);
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        let dict = client.create("dict", &[]).await.expect("made");
        let args = |key| [Value::Int(key), Value::Text("x".repeat(6_000))];
        for key in 0..2 {
            client.call(dict, "setdefault", &args(key)).await.expect("room");
        }
        let fault = client.call(dict, "setdefault", &args(2)).await.expect_err("full");
        assert_eq!((fault.effect, &*fault.kind, fault.retryable), (Effect::Refused, "TooManyReplies", true));
        assert!(fault.message.contains("10000 bytes"), "{fault} should say the limit");
        assert_eq!(client.call(dict, "__len__", &[]).await, Ok(Value::Int(2)), "what keeps no row is served");
        client.acknowledge(Acked { floor: client.seq, ranges: Vec::new() }).await.expect("sent");
        client.call(dict, "setdefault", &args(2)).await.expect("room");
    }
}

/// Of calls with large replies more are made than the host keeps replies for. The client, which acknowledges each, brings them to
/// their end, whichever way they go.
#[tokio::test]
async fn client_waits_by_itself_for_room_for_large_replies() {
    let host = host(|limits| limits.reply_row_bytes_max = 100_000);
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        let dict = manager.dict::<u64, String>().await.expect("made");
        let item = "x".repeat(90_000);
        assert_eq!(dict.len().await.expect("answered"), 0);
        let calls: Vec<_> = (0..30).map(|key| tokio::spawn(dict.setdefault(&key, &item).into_future())).collect();
        for call in calls {
            assert_eq!(soon("its end", call).await.expect("no panic").expect("it only takes longer"), item);
        }
    }
}

/// One step does not end; behind it so many calls wait.
#[tokio::test]
async fn object_that_is_busy_keeps_so_many_calls_and_no_more() {
    let (end, may_end) = channel();
    let (began, types) = spinner(may_end);
    let mut options = HostOptions { types, ..HostOptions::default() };
    options.limits.inbox_max = 2;
    let host = spawn_host(options);
    // Before the host, whatever happens: it waits for it.
    let end = end;
    let mut client = RawClient::connect(&host, host.quic()).await;
    let spinner = client.create("Spinner", &[]).await.expect("made");
    client.send(&call_frame(11, spinner, "spin", &[], None)).await.expect("sent");
    until("it has begun", async || (began.load(Ordering::Relaxed) == 1).then_some(())).await;
    for seq in [12, 13, 14] {
        client.send(&call_frame(seq, spinner, "spin", &[], None)).await.expect("sent");
    }
    let refused = soon("a reply", client.reply()).await.expect("a reply");
    let fault = refused.outcome.expect_err("too much");
    assert_eq!((refused.seq, &*fault.kind, fault.retryable), (14, "Busy", true));
    assert!(fault.message.contains("limit is 2"), "{fault} should say the limit");
    drop(end);
    for seq in [11, 12, 13] {
        assert_eq!(soon("its turn", client.reply()).await.expect("a reply").seq, seq);
    }
    client.seq = 14;
    client.call(spinner, "spin", &[]).await.expect("there is room again");
}

#[tokio::test]
async fn object_has_so_many_waiters_and_no_more() {
    let host = host(|limits| limits.waiters_max = 2);
    let manager = host.manager().await;
    let event = manager.create_named("e", "Event", ()).await.expect("made");
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(event.call::<bool>("wait", ()).into_future())).collect();
    parked(&manager, &event, 2).await;
    let error = event.call::<bool>("wait", ()).await.expect_err("too many");
    assert_eq!((error.kind(), error.is_retryable()), ("TooManyWaiters", true));
    event.call::<()>("set", ()).await.expect("what does not wait is served");
    for waiter in waiting {
        assert!(soon("a waiter", waiter).await.expect("no panic").expect("answered"));
    }
}

#[tokio::test]
async fn result_that_is_too_large_is_an_error_and_the_lane_lives() {
    let host = host(|limits| limits.reply_bytes_max = 10_000);
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        let list = manager.list::<String>().await.expect("made");
        list.append(&"x".repeat(6_000)).await.expect("appended");
        list.append(&"y".repeat(6_000)).await.expect("appended");
        let error = list.copy().await.expect_err("too large");
        assert_eq!((error.effect(), error.kind()), (Effect::Raised, "ReplyTooLarge"));
        assert_eq!(list.get(1).await.expect("the lane lives").len(), 6_000);
    }
}

#[tokio::test]
async fn request_that_is_too_large_is_not_sent() {
    let host = host(|limits| limits.request_bytes_max = 10_000);
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        let list = manager.list::<AnyValue>().await.expect("made");
        let error = list.append(&"x".repeat(20_000)).await.expect_err("too large");
        assert_eq!(error.effect(), Effect::Refused, "{error}");
        assert_eq!(list.len().await.expect("the lane lives"), 0);
    }
}

#[tokio::test]
async fn client_has_so_many_streams_open_and_no_more() {
    let host = host(|limits| limits.streams_max = 3);
    let mut client = RawClient::connect(&host, host.quic()).await;
    // The lane is one. What is opened and not written to counts as well.
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(client.open_stream(PATIENCE).await.expect("room"));
    }
    assert!(client.open_stream(Duration::from_millis(200)).await.is_none());
    client.call(Ident::HOST, "ping", &[]).await.expect("the lane is served");
    drop(open);
    assert!(client.open_stream(PATIENCE).await.is_some(), "two were given back");
}

/// Opening streams and resetting them costs the client its own time: not that of its lane, nor anybody else's.
#[tokio::test]
async fn client_opens_so_many_streams_in_a_second_and_no_more() {
    let host = host(|limits| {
        (limits.streams_max, limits.stream_opens_burst_max, limits.stream_opens_per_s_max) = (4, 5, 20);
    });
    let mut client = RawClient::connect(&host, host.quic()).await;
    let mut other = RawClient::connect(&host, host.quic()).await;
    let start = Instant::now();
    for _ in 0..5 + 3 + 20 {
        client.reset_stream().await;
        client.call(Ident::HOST, "ping", &[]).await.expect("its lane is served");
        other.call(Ident::HOST, "ping", &[]).await.expect("others are");
    }
    // The last three are on their way.
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
}

#[tokio::test]
async fn host_takes_so_many_connections_and_no_more() {
    let host = host(|limits| limits.connections_max = 2);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(RawClient::connect(&host, host.unix()).await);
    }
    for address in [host.unix(), host.quic()] {
        match RawClient::open(address).await {
            Err(_) => {}
            Ok(mut third) => {
                let _ = third.send(&[0]).await;
                assert!(matches!(third.message().await, Ok(None) | Err(_)));
            }
        }
    }
    clients[0].call(Ident::HOST, "ping", &[]).await.expect("who is in is served");
    clients.pop();
    until("a place is free", async || {
        let mut client = RawClient::open(host.quic()).await.ok()?;
        client.sign_in("default", "default", host.authkey.as_bytes()).await.ok()
    })
    .await;
}

/// Compiling takes seconds of a processor: who is elsewhere may ask for so much of it. Who runs the host may ask for all.
#[tokio::test]
async fn so_many_plugins_come_from_other_machines_in_an_hour() {
    let mut options = HostOptions::default();
    options.limits.uploads_per_hour_max = 2;
    let host = spawn_host(options);
    let afar = host.connect(host.quic()).await;
    let component = component("changeling");
    afar.register(&component, false).await.expect("the first");
    // Whether it is accepted comes after.
    assert_eq!(afar.register(&component, false).await.expect_err("it is there").kind(), "Taken");
    let error = afar.register(&component, true).await.expect_err("too many");
    assert!(error.kind() == "TooManyUploads" && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("limit is 2"), "{error}");
    let own = host.connect(host.unix()).await;
    own.register(&component, true).await.expect("replaced");
}
