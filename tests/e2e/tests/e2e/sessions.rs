//! Sessions outlive their connections: calls take longer and happen once, and nobody takes over what is not his.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steward_client::{AnyValue, Dict, List, Manager, Queue, SessionEvent};
use steward_host::Limits;
use steward_objects::{Effect, Ident, Value};
use steward_test_support::{HostOptions, RawClient, Relay, TestHost, call_frame, parked, soon, spawn_host, until};
use steward_wire::auth::{RefusalCode, Welcome};
use steward_wire::frame::{Acked, ClientFrame, HostFrame, Refs};

use crate::on_both;

fn host(change: impl FnOnce(&mut Limits)) -> TestHost {
    let mut options = HostOptions::default();
    change(&mut options.limits);
    spawn_host(options)
}

fn address(host: &TestHost, over_quic: bool) -> &str {
    if over_quic { host.quic() } else { host.unix() }
}

/// A lease in which a client over QUIC finds out soon that its connection leads nowhere.
fn soon_suspicious(limits: &mut Limits) {
    limits.lease_ms = 3_000;
}

on_both! {
    calls_in_flight_outlive_their_connections_and_happen_once => in_flight;
    parked_get_outlives_its_connection_and_gets_its_item => parked_get;
    reply_that_never_arrived_comes_again => lost_reply;
    calls_are_unknown_after_the_end_of_their_session_and_happened_at_most_once => ended;
    gets_that_wait_never_block_the_put_that_frees_them => many_gets;
    gets_at_the_least_limits_never_block_what_frees_them => minimal;
    repeat_gets_the_very_same_bytes => same_bytes;
    read_only_repeat_reads_again => reads_again;
    call_that_was_cancelled_before_it_came_never_runs => cancelled_first;
    dropped_calls_never_shift_later_replies => dropped;
    large_replies_are_acknowledged_without_delay => acknowledged;
    events_come_in_order => events;
}

/// Several writers append their numbers through a connection that is lost again and again, each time with replies on their way.
async fn in_flight(over_quic: bool) {
    let host = host(soon_suspicious);
    let relay = Relay::before(address(&host, over_quic)).await;
    let (admin, manager) = (host.manager().await, host.connect(relay.address()).await);
    let list: List<u64> = manager.named("numbers").await.expect("made");
    let seen: List<u64> = admin.named("numbers").await.expect("found");
    let cuts = if over_quic { 2 } else { 20 };
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let list = list.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    list.append(&(writer * 1_000 + number)).await.expect("it only takes longer");
                }
            })
        })
        .collect();
    for cut in 0..cuts {
        let before = seen.len().await.expect("answered");
        until("further calls happen", async || {
            let len = seen.len().await.expect("answered");
            (len > before || len == 400).then_some(())
        })
        .await;
        match cut % 3 {
            0 => relay.mute_host(),
            1 => relay.mute_clients(),
            _ => {}
        }
        relay.cut();
    }
    for writer in writers {
        soon("a writer", writer).await.expect("no panic");
    }
    let numbers = seen.copy().await.expect("copied");
    assert_eq!(numbers.len(), 400);
    for writer in 0..4 {
        let of_one: Vec<_> = numbers.iter().copied().filter(|number| number / 1_000 == writer).collect();
        assert_eq!(of_one, (0..100).map(|number| writer * 1_000 + number).collect::<Vec<_>>());
    }
}

async fn parked_get(over_quic: bool) {
    let host = host(soon_suspicious);
    let relay = Relay::before(address(&host, over_quic)).await;
    let (admin, manager) = (host.manager().await, host.connect(relay.address()).await);
    let queue: Queue<u32> = manager.named("q").await.expect("made");
    let same: Queue<u32> = admin.named("q").await.expect("found");
    let getting = tokio::spawn(queue.get().into_future());
    parked(&admin, same.proxy(), 1).await;
    relay.part();
    // Its reply has nowhere to go.
    same.put(&7).await.expect("put");
    assert_eq!(same.qsize().await.expect("answered"), 0, "the parked call has it");
    until("the client notices", async || (!manager.is_connected()).then_some(())).await;
    assert!(!getting.is_finished());
    relay.cut();
    assert_eq!(soon("the item", getting).await.expect("no panic").expect("an item"), 7);
    assert!(manager.is_connected());
}

/// A large call goes its own way, and the news that its reply is there goes with nothing: it must not wait for a heartbeat.
async fn acknowledged(over_quic: bool) {
    let host = host(|_| {});
    let manager = host.connect(address(&host, over_quic)).await;
    let dict: Dict<u64, String> = manager.dict().await.expect("made");
    assert_eq!(dict.len().await.expect("answered"), 0);
    let item = "x".repeat(100_000);
    let start = Instant::now();
    for key in 0..20 {
        dict.setdefault(&key, &item).await.expect("set");
        until("its reply is acknowledged", async || (host.counters("default").rows == 0).then_some(())).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A reply takes longer on its way than a silent connection, and then a silent session, is believed in. Heartbeats are answered
/// meanwhile; a call comes behind it, and waits for room on the way back.
#[tokio::test]
async fn large_reply_over_a_slow_network_comes_by_its_first_connection() {
    let host = host(|limits| limits.lease_ms = 2_000);
    let relay = Relay::before(host.quic()).await;
    let manager = host.connect(relay.address()).await;
    let lost = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&lost);
    manager.on_event(move |event| events.lock().expect("nobody panics with it").push(event.clone()));
    let list: List<String> = manager.list().await.expect("made");
    for _ in 0..4 {
        list.append(&"x".repeat(1_000_000)).await.expect("appended");
    }
    relay.slow_host(500_000);
    let both = async { tokio::join!(list.copy().into_future(), list.len().into_future()) };
    let (copied, len) = soon("both replies", both).await;
    assert_eq!(len.expect("answered"), 4);
    assert_eq!(copied.expect("copied").iter().map(String::len).sum::<usize>(), 4_000_000);
    let events = lost.lock().expect("nobody panics with it").clone();
    let is_lost = |event: &SessionEvent| matches!(event, SessionEvent::Lost { .. } | SessionEvent::Ended { .. });
    assert!(!events.iter().any(is_lost), "{events:?}");
}

async fn lost_reply(over_quic: bool) {
    let host = host(|_| {});
    let (mut client, welcome) = RawClient::welcomed(&host, address(&host, over_quic)).await;
    let list = client.create("list", &[]).await.expect("made");
    client.send(&call_frame(2, list, "append", &[Value::Int(1)], None)).await.expect("sent");
    let first = body(&mut client).await;
    client.vanish();
    let (mut client, _) = resume(&host, address(&host, over_quic), &welcome).await;
    client.send(&call_frame(2, list, "append", &[Value::Int(1)], None)).await.expect("sent");
    assert_eq!(body(&mut client).await, first);
    client.seq = 2;
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(1)));
}

/// The body of the next frame.
async fn body(client: &mut RawClient) -> Vec<u8> {
    soon("a frame", client.message()).await.expect("the connection lives").expect("the host says something")
}

async fn resume(host: &TestHost, address: &str, welcome: &Welcome) -> (RawClient, Welcome) {
    RawClient::resumed(host, address, welcome.session, &welcome.secret).await.expect("the session lives")
}

async fn ended(over_quic: bool) {
    let host = host(|limits| limits.lease_ms = 1_000);
    let relay = Relay::before(address(&host, over_quic)).await;
    let (admin, manager) = (host.manager().await, host.connect(relay.address()).await);
    let list: List<u32> = manager.named("l").await.expect("made");
    let queue: Queue<u32> = manager.named("q").await.expect("made");
    let seen: List<u32> = admin.named("l").await.expect("found");
    // The methods of both are known from here on.
    list.len().await.expect("answered");
    queue.qsize().await.expect("answered");
    relay.mute_host();
    let happened = tokio::spawn(list.append(&1).into_future());
    until("the call happens", async || (seen.len().await.expect("answered") == 1).then_some(())).await;
    relay.part();
    // These never get as far as the host.
    let never = tokio::spawn(list.append(&2).into_future());
    let parked = tokio::spawn(queue.get().into_future());
    until("its lease is over", async || (host.counters("default").sessions == 1).then_some(())).await;
    relay.cut();
    for call in [happened, never] {
        let error = soon("a call", call).await.expect("no panic").expect_err("its session has ended");
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
    }
    let error = soon("a parked call", parked).await.expect("no panic").expect_err("its session has ended");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let error = list.len().await.expect_err("a new call is not sent");
    assert!(error.is("NotConnected"), "{error}");
    assert_eq!(seen.copy().await.expect("copied"), [1]);
}

async fn many_gets(over_quic: bool) {
    let host = host(|_| {});
    let manager = host.connect(address(&host, over_quic)).await;
    gets(&manager, 600).await;
    // From threads, which block.
    let queue = manager.queue::<u64>(0).await.expect("made");
    let threads: Vec<_> = (0..256)
        .map(|_| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.get().wait().expect("an item"))
        })
        .collect();
    parked(&manager, queue.proxy(), 256).await;
    let put: Vec<u64> = (0..256).collect();
    for item in &put {
        queue.put(item).await.expect("put");
    }
    let mut got: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    got.sort_unstable();
    assert_eq!(got, put);
}

async fn minimal(over_quic: bool) {
    let host = host(|limits| {
        (limits.calls_running_max, limits.calls_parked_max, limits.reply_rows_max) = (1, 1, 1);
    });
    gets(&host.connect(address(&host, over_quic)).await, 20).await;
    // Of several that run at once the client keeps back those that the host has no room to answer.
    let host = self::host(|limits| limits.reply_rows_max = 1);
    gets(&host.connect(address(&host, over_quic)).await, 20).await;
}

/// As many tasks wait for an item as are put by as many others.
async fn gets(manager: &Manager, count: u64) {
    let queue = manager.queue::<u64>(0).await.expect("made");
    // What a Queue is the client learns now, and not once for each of them.
    assert!(queue.empty().await.expect("answered"));
    let getters: Vec<_> = (0..count).map(|_| tokio::spawn(queue.get().into_future())).collect();
    // A put that may wait for room counts as one that waits, so at the least limits it would stand behind the gets.
    let putters: Vec<_> = (0..count).map(|item| tokio::spawn(queue.put_nowait(&item).into_future())).collect();
    for putter in putters {
        soon("a put", putter).await.expect("no panic").expect("put");
    }
    let mut got = Vec::new();
    for getter in getters {
        got.push(soon("an item", getter).await.expect("no panic").expect("an item"));
    }
    got.sort_unstable();
    assert_eq!(got, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn ten_thousand_calls_wait_in_one_session() {
    const COUNT: u64 = 10_000;
    let host = host(|_| {});
    let (manager, putter) = (host.connect(host.quic()).await, host.manager().await);
    let queue: Queue<u64> = manager.named("q").await.expect("made");
    let same: Queue<u64> = putter.named("q").await.expect("found");
    // What a Queue is the client learns now, and not ten thousand times.
    assert!(queue.empty().await.expect("answered"));
    let getters: Vec<_> = (0..COUNT).map(|_| tokio::spawn(queue.get().into_future())).collect();
    parked(&putter, same.proxy(), COUNT).await;
    // The session that waits is served meanwhile.
    queue.put_nowait(&0).await.expect("put");
    for start in (1..COUNT).step_by(1_000) {
        let items: Vec<u64> = (start..COUNT.min(start + 1_000)).collect();
        same.put_many(&items).await.expect("put");
    }
    let mut sum = 0;
    for getter in getters {
        sum += soon("an item", getter).await.expect("no panic").expect("an item");
    }
    assert_eq!(sum, COUNT * (COUNT - 1) / 2);
}

/// It joins while the call waits, also from another connection; then it gets what the first one got.
async fn same_bytes(over_quic: bool) {
    let host = host(|_| {});
    let admin = host.manager().await;
    let queue: Queue<u32> = admin.named("q").await.expect("made");
    let (mut client, welcome) = RawClient::welcomed(&host, address(&host, over_quic)).await;
    let ident = named(&mut client, "q").await;
    let get = call_frame(9, ident, "get", &[], None);
    client.send(&get).await.expect("sent");
    parked(&admin, queue.proxy(), 1).await;
    client.send(&get).await.expect("sent");
    // From the other transport: the secret is what counts.
    let (mut other, _) = resume(&host, address(&host, !over_quic), &welcome).await;
    other.send(&get).await.expect("sent");
    other.seq = 20;
    other.call(Ident::HOST, "ping", &[]).await.expect("answered");
    parked(&admin, queue.proxy(), 1).await;
    queue.put(&1).await.expect("put");
    let first = body(&mut other).await;
    for _ in 0..3 {
        client.send(&get).await.expect("sent");
        assert_eq!(body(&mut client).await, first);
    }
    assert!(matches!(HostFrame::read(&first), Ok(HostFrame::Reply(reply)) if reply.seq == 9));
    client.acknowledge(Acked { floor: 1, ranges: vec![(9, 9)] }).await.expect("sent");
    client.send(&get).await.expect("sent");
    let fault = client.reply().await.expect("a reply").outcome.expect_err("acknowledged");
    assert_eq!((fault.effect, &*fault.kind), (Effect::Refused, "Forgotten"));
    assert_eq!(queue.qsize().await.expect("answered"), 0);
    other.vanish();
}

async fn named(client: &mut RawClient, name: &str) -> Ident {
    match client.call(Ident::HOST, "named", &[Value::Text(name.into())]).await {
        Ok(Value::Token(token)) => token.ident,
        other => panic!("{name}: {other:?}"),
    }
}

async fn reads_again(over_quic: bool) {
    let host = host(|_| {});
    let mut client = RawClient::connect(&host, address(&host, over_quic)).await;
    let list = client.create("list", &[]).await.expect("made");
    let len = call_frame(50, list, "__len__", &[], None);
    for expected in 0..3 {
        client.send(&len).await.expect("sent");
        let reply = client.reply().await.expect("a reply");
        assert_eq!((reply.seq, reply.outcome), (50, Ok(Value::Int(expected.into()))));
        client.call(list, "append", &[Value::Null]).await.expect("appended");
    }
    assert_eq!(host.counters("default").rows, 4, "one for the list, one for each append");
}

async fn cancelled_first(over_quic: bool) {
    let host = host(|_| {});
    let mut client = RawClient::connect(&host, address(&host, over_quic)).await;
    let list = client.create("list", &[]).await.expect("made");
    client.frame(&ClientFrame::Cancel { seq: 5 }).await.expect("sent");
    client.send(&call_frame(5, list, "append", &[Value::Int(1)], None)).await.expect("sent");
    for _ in 0..2 {
        let reply = client.reply().await.expect("a reply");
        let fault = reply.outcome.expect_err("given up");
        assert_eq!((reply.seq, fault.effect, &*fault.kind), (5, Effect::Refused, "Cancelled"));
    }
    client.seq = 6;
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
    // One that was answered is not changed by it.
    client.frame(&ClientFrame::Cancel { seq: 1 }).await.expect("sent");
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
}

/// CPython leaves the reply in the socket, and the next call returns it.
async fn dropped(over_quic: bool) {
    let host = host(|_| {});
    let manager = host.connect(address(&host, over_quic)).await;
    let list = manager.list::<u64>().await.expect("made");
    list.extend(&(0..100).collect::<Vec<_>>()).await.expect("extended");
    let queue = manager.queue::<u64>(0).await.expect("made");
    for round in 0..100 {
        // Sent and given up; on a busy machine what reads may have been answered in between.
        let mut read = list.get(round).into_future();
        let mut wait = queue.get().into_future();
        let _ = futures_poll(&mut read).await;
        assert!(futures_poll(&mut wait).await.is_none());
        drop((read, wait));
        let other = 99 - round;
        assert_eq!(list.get(other).await.expect("answered"), u64::try_from(other).expect("small"));
    }
    until("nobody waits", async || (host.counters("default").waiters == 0).then_some(())).await;
    queue.put(&1).await.expect("put");
    assert_eq!(queue.get().await.expect("an item"), 1, "none was eaten by those who gave up");
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

async fn events(over_quic: bool) {
    let host = host(|limits| limits.lease_ms = 1_000);
    let relay = Relay::before(address(&host, over_quic)).await;
    let manager = host.connect(relay.address()).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    manager.on_event(move |event| {
        let event = match event {
            SessionEvent::Lost { .. } => "lost",
            SessionEvent::Resumed { attempts, .. } => {
                assert!(*attempts > 0);
                "resumed"
            }
            SessionEvent::Doubted => "doubted",
            SessionEvent::Ended { .. } => "ended",
            _ => "something else",
        };
        tell.lock().expect("no panic").push(event);
    });
    let told = || told.lock().expect("no panic").clone();
    assert!(manager.is_connected());
    relay.cut();
    until("it is resumed", async || (told().last() == Some(&"resumed")).then_some(())).await;
    assert!(manager.is_connected());
    assert_eq!(told(), ["lost", "resumed"]);
    relay.part();
    until("it is doubted", async || (told().last() == Some(&"doubted")).then_some(())).await;
    assert!(!manager.is_connected());
    until("its lease is over", async || (host.counters("default").sessions == 0).then_some(())).await;
    relay.cut();
    until("it has ended", async || (told().last() == Some(&"ended")).then_some(())).await;
    assert_eq!(told(), ["lost", "resumed", "lost", "doubted", "ended"]);
    assert!(!manager.is_connected());
}

#[tokio::test]
async fn session_is_resumed_with_its_own_secret_only() {
    let host = host(|limits| (limits.sign_in_failure_ms_min, limits.lease_ms) = (1, 1_000));
    let key = host.authkey.as_bytes();
    for address in [host.unix(), host.quic()] {
        let (mine, welcome) = RawClient::welcomed(&host, address).await;
        let (_neighbour, theirs) = RawClient::welcomed(&host, address).await;
        let mut other = RawClient::open(address).await.expect("open");
        let foreign = other.sign_in("other", "default", key).await.expect("signed in");
        let secrets = [(welcome.session, [7; 32]), (welcome.session, theirs.secret), (foreign.session, foreign.secret)];
        for (session, secret) in secrets.into_iter().chain([(u64::MAX, welcome.secret)]) {
            let refusal = RawClient::resumed(&host, address, session, &secret).await.expect_err("not this one's");
            assert_eq!((refusal.code, &*refusal.message), (RefusalCode::Denied, "sign-in was refused"));
        }
        // Another key of the same tenant with the right secret is the same client for all that the host can tell.
        mine.vanish();
        let (mut again, _) = resume(&host, address, &welcome).await;
        again.call(Ident::HOST, "ping", &[]).await.expect("it lives on");
        let before = host.counters("default").sessions;
        again.frame(&ClientFrame::Goodbye).await.expect("sent");
        until("it ends", async || (host.counters("default").sessions < before).then_some(())).await;
        let refusal = RawClient::resumed(&host, address, welcome.session, &welcome.secret).await.expect_err("over");
        assert_eq!(refusal.code, RefusalCode::Denied);
    }
}

/// Each welcome brings a new secret, and may be lost on its way: so the one that the client used last stays good.
#[tokio::test]
async fn secret_rotates_and_the_last_one_used_stays_good() {
    let host = host(|limits| limits.sign_in_failure_ms_min = 1);
    for address in [host.unix(), host.quic()] {
        let (client, first) = RawClient::welcomed(&host, address).await;
        client.vanish();
        let (lost, second) = resume(&host, address, &first).await;
        assert_ne!(first.secret, second.secret);
        lost.vanish();
        let (client, third) = resume(&host, address, &first).await;
        let refusal = RawClient::resumed(&host, address, first.session, &second.secret).await;
        assert_eq!(refusal.expect_err("the host believes it lost").code, RefusalCode::Denied);
        client.vanish();
        let (client, _) = resume(&host, address, &third).await;
        let refusal = RawClient::resumed(&host, address, first.session, &first.secret).await;
        assert_eq!(refusal.expect_err("older").code, RefusalCode::Denied);
        drop(client);
    }
}

#[tokio::test]
async fn acknowledgements_with_too_many_gaps_end_the_session() {
    let host = host(|_| {});
    let mut client = RawClient::connect(&host, host.unix()).await;
    let mut next = 10;
    for _ in 0..100 {
        let ranges = (0..1_000).map(|n| (next + 2 * n, next + 2 * n)).collect();
        next += 2_000;
        if client.acknowledge(Acked { floor: 1, ranges }).await.is_err() {
            break;
        }
    }
    let reason = soon("the end", client.reply()).await.expect_err("closed");
    assert!(reason.contains("gaps"), "{reason}");
    until("its session is over", async || (host.counters("default").sessions == 0).then_some(())).await;
}

#[tokio::test]
async fn client_that_never_acknowledges_is_refused_until_it_does() {
    let host = host(|limits| limits.reply_rows_max = 3);
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        let list = client.create("list", &[]).await.expect("made");
        for _ in 0..2 {
            client.call(list, "append", &[Value::Int(1)]).await.expect("room");
        }
        for _ in 0..2 {
            let fault = client.call(list, "append", &[Value::Int(1)]).await.expect_err("full");
            assert_eq!((fault.effect, &*fault.kind, fault.retryable), (Effect::Refused, "TooManyReplies", true));
        }
        assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(2)), "what keeps no row is served");
        client.acknowledge(Acked { floor: 3, ranges: Vec::new() }).await.expect("sent");
        client.call(list, "append", &[Value::Int(1)]).await.expect("room");
        assert_eq!(host.counters("default").rows, 2);
    }
}

#[tokio::test]
async fn client_that_calls_too_much_at_once_is_refused_until_it_does_less() {
    let mut options = HostOptions { plugins: &["probe"], ..HostOptions::default() };
    options.limits.calls_running_max = 1;
    let host = spawn_host(options);
    let mut client = RawClient::connect(&host, host.quic()).await;
    let probe = client.create("Probe", &[]).await.expect("made");
    let list = client.create("list", &[]).await.expect("made");
    // The first runs elsewhere until it is cut.
    let both = [call_frame(11, probe, "spin", &[], None), call_frame(12, list, "append", &[Value::Int(1)], None)];
    client.send(&both.concat()).await.expect("sent");
    let refused = soon("a reply", client.reply()).await.expect("a reply");
    let fault = refused.outcome.expect_err("too many");
    assert_eq!((refused.seq, &*fault.kind, fault.retryable), (12, "TooManyCalls", true));
    let spun = soon("the first", client.reply()).await.expect("a reply");
    assert_eq!((spun.seq, spun.outcome.expect_err("cut").effect), (11, Effect::Refused));
    client.send(&call_frame(12, list, "append", &[Value::Int(1)], None)).await.expect("sent");
    assert_eq!(client.reply().await.expect("a reply").outcome, Ok(Value::Null));
}

#[tokio::test]
async fn counted_frame_of_references_is_applied_once() {
    let host = host(|_| {});
    let mut owner = RawClient::connect(&host, host.unix()).await;
    let list = owner.create("list", &[]).await.expect("made");
    let mut client = RawClient::connect(&host, host.unix()).await;
    for _ in 0..2 {
        let refs = Refs { incref: vec![list], number: 1, ..Refs::default() };
        client.frame(&ClientFrame::Refs(refs)).await.expect("sent");
    }
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
    let drop = Refs { drop: vec![(list, 1)], number: 2, ..Refs::default() };
    client.frame(&ClientFrame::Refs(drop)).await.expect("sent");
    let fault = client.call(list, "__len__", &[]).await.expect_err("it was received once");
    assert_eq!(&*fault.kind, "UnknownIdent");
    // The host says again what it has given, and a late frame of before takes nothing back.
    let refs = Refs { incref: vec![list], number: 3, ..Refs::default() };
    client.frame(&ClientFrame::Refs(refs)).await.expect("sent");
    let late = Refs { drop: vec![(list, 1)], number: 2, ..Refs::default() };
    client.frame(&ClientFrame::Refs(late)).await.expect("sent");
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
}

/// A reconnect in the middle of it all: what the client holds and has dropped agrees with the host's counts.
#[tokio::test]
async fn references_agree_after_reconnects() {
    let host = host(|_| {});
    let relay = Relay::before(host.unix()).await;
    let manager = host.connect(relay.address()).await;
    let outer = manager.list::<AnyValue>().await.expect("made");
    for round in 0..9 {
        let inner = manager.list::<u32>().await.expect("made");
        outer.append(&inner).await.expect("stored");
        if round % 3 == 0 {
            relay.mute_host();
        }
        let again = tokio::spawn(outer.get(round).into_future());
        drop(inner);
        relay.cut();
        soon("the reply", again).await.expect("no panic").expect("there");
    }
    outer.clear().await.expect("cleared");
    until("only the outer list is left", async || (host.counters("default").objects == 1).then_some(())).await;
    until("and its reference", async || (host.counters("default").references == 1).then_some(())).await;
    assert_eq!(outer.proxy().typeid(), "list");
}

#[tokio::test]
async fn session_gives_up_after_its_patience() {
    let host = host(|limits| limits.lease_ms = 1_000);
    let relay = Relay::before(host.unix()).await;
    let options = host.options().reconnect_for(Duration::from_millis(100));
    let manager = host.connect_with(options, relay.address()).await.expect("connected");
    let queue = manager.queue::<u32>(0).await.expect("made");
    let getting = tokio::spawn(queue.get().into_future());
    until("it waits", async || (host.counters("default").waiters == 1).then_some(())).await;
    relay.part();
    let error = soon("the call", getting).await.expect("no panic").expect_err("given up");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
}
