//! A session against a host that does what each test says.

mod fake;

use std::time::Duration;

use fake::{Peer, Socket, key, token};
use steward_client::{ConnectOptions, Effect, Error, Fault, Ident, Lock, Proxy, Queue, Typed as _};
use steward_wire::auth::{Channel, SessionLimits};
use steward_wire::frame::{ClientFrame, Grant};
use steward_wire::value;

fn item<T: serde::Serialize>(value: &T) -> Vec<u8> {
    value::from_serde(value).unwrap()
}

/// A queue of the fake host.
async fn queue(manager: &steward_client::Manager, peer: &mut Peer<tokio::net::UnixStream>) -> Queue<u32> {
    let (queue, seen) = tokio::join!(
        async {
            let queue = manager.queue::<u32>(0).await.unwrap();
            queue.qsize().await.unwrap();
            queue
        },
        async {
            let seen = peer.call().await;
            peer.reply(seen.seq, &item(&0), None).await;
            seen
        }
    );
    assert_eq!((seen.method.as_str(), seen.ident), ("qsize", queue.proxy().ident()));
    queue
}

#[tokio::test]
async fn wrong_key_is_refused_at_sign_in() {
    let socket = Socket::new();
    let address = socket.address();
    let connecting = ConnectOptions::new().authkey(key(2)).connect(&address);
    let (connected, _) = tokio::join!(connecting, socket.accept(SessionLimits::default()));
    let error = connected.unwrap_err();
    assert!(matches!(&error, Error::SignIn { cause, .. } if cause == "denied"), "{error}");
    assert_eq!((error.effect(), error.is_retryable()), (Effect::Refused, false));
}

/// Somebody listens where the host should be. It lets everybody in, to see what they send.
#[tokio::test]
async fn host_that_does_not_hold_the_key_is_sent_nothing() {
    let socket = Socket::new();
    let address = socket.address();
    let connecting = ConnectOptions::new().authkey(key(1)).connect(&address);
    let impostor = async {
        let mut peer = Peer::new(socket.listener.accept().await.unwrap().0);
        let hello = peer.read().await.unwrap();
        let uid = peer.stream.peer_cred().unwrap().uid();
        peer.challenge(&key(3), &hello, &Channel::Unix { client_uid: uid }).await;
        peer.read().await.unwrap();
        peer.welcome_unsigned().await;
        peer.read().await
    };
    let (connected, sent) = tokio::join!(connecting, impostor);
    assert!(matches!(connected.unwrap_err(), Error::SignIn { .. }));
    assert_eq!(sent, None);
}

#[tokio::test]
async fn silent_host_fails_the_connect_in_time() {
    let socket = Socket::new();
    let options = ConnectOptions::new().authkey(key(1)).timeout(Duration::from_millis(50));
    let error = options.connect(&socket.address()).await.unwrap_err();
    assert!(matches!(&error, Error::Connection { cause, .. } if cause.contains("50 ms")), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn replies_in_any_order_find_their_calls() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let queue = queue.clone();
                async move { queue.get().await }
            })
        })
        .collect();
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(peer.call().await.seq);
    }
    for (place, &seq) in seqs.iter().enumerate().rev() {
        peer.reply(seq, &item(&place), None).await;
    }
    for (place, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), place as u32);
    }
    // All of them are acknowledged, at the latest by the next call.
    let sizing = tokio::spawn(queue.qsize().into_future());
    let seq = peer.call().await.seq;
    assert_eq!(peer.floor, seq);
    peer.reply(seq, &item(&0), None).await;
    assert_eq!(sizing.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn raised_fault_reaches_its_caller_with_its_effect() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let get = queue.get().timeout(Duration::from_micros(1500));
    let (got, seen) = tokio::join!(get.into_future(), async {
        let seen = peer.call().await;
        peer.fail(seen.seq, &Fault::raised("Empty", "queue is empty")).await;
        seen
    });
    let error = got.unwrap_err();
    assert!(error.is("Empty"));
    assert_eq!((error.effect(), error.message().as_str()), (Effect::Raised, "queue is empty"));
    assert_eq!(seen.deadline_ms, Some(2), "a timeout is rounded up and never among the arguments");
    assert_eq!(seen.args, [0x82, 0x80, 0xa0]);
}

fn busy() -> Fault {
    Fault::refused("Busy", "20000 inputs wait for object #5, limit is 20000").retry()
}

#[tokio::test]
async fn call_that_may_succeed_later_is_sent_again_while_its_deadline_lasts() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let (got, ()) = tokio::join!(queue.get().timeout(Duration::from_secs(60)).into_future(), async {
        let first = peer.call().await;
        assert_eq!(first.deadline_ms, Some(60_000));
        peer.fail(first.seq, &busy()).await;
        let second = peer.call().await;
        assert_eq!((&second.method, second.owner, &second.args), (&first.method, first.owner, &first.args));
        assert_ne!(second.seq, first.seq, "the first has its answer");
        peer.fail(second.seq, &busy()).await;
        let third = peer.call().await;
        assert!(third.deadline_ms < second.deadline_ms && second.deadline_ms < first.deadline_ms);
        peer.reply(third.seq, &item(&7), None).await;
    });
    assert_eq!(got.unwrap(), 7);
}

#[tokio::test]
async fn large_call_is_sent_again_as_well() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let text = "x".repeat(100_000);
    let (put, ()) = tokio::join!(queue.put(&text).timeout(Duration::from_secs(60)).into_future(), async {
        let mut further = socket.accept(SessionLimits::default()).await;
        let first = further.call().await;
        further.fail(first.seq, &busy()).await;
        let second = further.call().await;
        assert_eq!((&second.method, &second.args), (&first.method, &first.args));
        further.reply(second.seq, &[0xf6], None).await;
    });
    put.unwrap();
}

/// Nobody has said how long to go on, or there is no time left: the caller decides.
#[tokio::test]
async fn refusal_is_the_answer_without_a_deadline_and_at_its_end() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let denied = Fault::refused("Denied", "no");
    let calls = [
        (queue.get(), busy()),
        (queue.get().blocking(false), busy()),
        (queue.get().timeout(Duration::from_millis(1)), busy()),
        (queue.get().timeout(Duration::from_secs(60)), denied),
    ];
    for (call, fault) in calls {
        let (got, ()) = tokio::join!(call.into_future(), async {
            let seen = peer.call().await;
            peer.fail(seen.seq, &fault).await;
        });
        let error = got.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (&*fault.kind, fault.retryable));
    }
}

#[tokio::test]
async fn dropped_call_is_cancelled_and_its_late_grant_released() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let (lock, ()) = tokio::join!(manager.lock(), async {
        let body = peer.read().await.unwrap();
        let ClientFrame::Create(create) = ClientFrame::read(&body).unwrap().0 else { panic!("a create comes first") };
        peer.reply(create.seq, &token("Lock", 5), None).await;
    });
    let lock: Lock = lock.unwrap();
    let acquiring = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|_| ()) }
    });
    let acquire = peer.call().await;
    assert_eq!(acquire.method, "acquire");
    acquiring.abort();
    assert!(acquiring.await.unwrap_err().is_cancelled());
    assert_eq!(peer.cancel().await, acquire.seq);
    // The grant was on its way already.
    peer.reply(acquire.seq, &item(&true), Some(Grant { fence: 3, abandoned: false })).await;
    let release = peer.call().await;
    assert_eq!((release.method.as_str(), release.ident, release.owner), ("release", Ident(5), acquire.owner));
}

#[tokio::test]
async fn dropped_guard_releases_and_a_guarded_call_names_its_fence() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let lock = Lock::from_proxy(
        manager.proxy(&steward_client::Token { typeid: "Lock".into(), ident: Ident(5), address: None }).unwrap(),
    )
    .unwrap();
    assert_eq!(peer.refs().await.incref, [Ident(5)]);
    let (held, ()) = tokio::join!(lock.acquire().into_future(), async {
        let seen = peer.call().await;
        peer.reply(seen.seq, &item(&true), Some(Grant { fence: 8, abandoned: true })).await;
    });
    let held = held.unwrap();
    assert_eq!((held.fence(), held.is_abandoned()), (8, true));
    let (put, seen) = tokio::join!(queue.put(&1).guard(&held).into_future(), async {
        let seen = peer.call().await;
        peer.fail(seen.seq, &Fault::refused("StaleFence", "lock #5 is no longer held under fence 8")).await;
        seen
    });
    assert_eq!(seen.guard, Some((Ident(5), 8)));
    assert_eq!(put.unwrap_err().effect(), Effect::Refused);
    drop(held);
    assert_eq!(peer.call().await.method, "release");
}

/// Proxies of so many queues that nobody has called yet, numbered from 1.
async fn untouched(
    manager: &steward_client::Manager,
    peer: &mut Peer<tokio::net::UnixStream>,
    count: u64,
) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for ident in 1..=count {
        let token = steward_client::Token { typeid: "Queue".into(), ident: Ident(ident), address: None };
        proxies.push(manager.proxy(&token).unwrap());
        assert_eq!(peer.refs().await.incref, [Ident(ident)]);
    }
    proxies
}

fn sizing(queue: &Proxy) -> impl Future<Output = Result<u32, Error>> + use<> {
    queue.call("qsize", ()).into_future()
}

#[tokio::test]
async fn first_calls_at_once_ask_for_the_description_of_their_type_once() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queues = untouched(&manager, &mut peer, 2).await;
    let calls: Vec<_> = (0..8).map(|place| tokio::spawn(sizing(&queues[place % 2]))).collect();
    let (seq, _) = peer.asked().await;
    peer.described(seq).await;
    for _ in &calls {
        let seq = peer.only_call().await.seq;
        peer.reply(seq, &item(&3), None).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 3);
    }
}

/// The call that began to ask is given up before the answer, or is not polled any more: the others go on without it.
#[tokio::test]
async fn description_does_not_depend_on_the_call_that_asked_first() {
    for is_given_up in [true, false] {
        let socket = Socket::new();
        let (manager, mut peer) = socket.connected().await;
        let queues = untouched(&manager, &mut peer, 1).await;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let [mut first, mut second] = [0, 1].map(|_| Box::pin(sizing(&queues[0])));
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
        let (asked, _) = peer.asked().await;
        let _left = (!is_given_up).then_some(first);
        let (size, ()) = tokio::join!(second, async {
            peer.described(asked).await;
            let seq = peer.only_call().await.seq;
            peer.reply(seq, &item(&3), None).await;
        });
        assert_eq!(size.unwrap(), 3);
    }
}

#[tokio::test]
async fn description_that_nobody_waits_for_is_given_up_and_asked_for_anew() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queues = untouched(&manager, &mut peer, 1).await;
    let calls = [tokio::spawn(sizing(&queues[0])), tokio::spawn(sizing(&queues[0]))];
    let (asked, _) = peer.asked().await;
    calls.iter().for_each(|call| call.abort());
    assert_eq!(peer.cancel().await, asked);
    let call = tokio::spawn(sizing(&queues[0]));
    let (asked, _) = peer.asked().await;
    peer.described(asked).await;
    let seq = peer.only_call().await.seq;
    peer.reply(seq, &item(&3), None).await;
    assert_eq!(call.await.unwrap().unwrap(), 3);
}

/// The object that was asked about is gone, which says nothing about others of its type.
#[tokio::test]
async fn refused_description_concerns_only_the_call_that_asked() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queues = untouched(&manager, &mut peer, 3).await;
    let calls: Vec<_> = queues.iter().map(|queue| tokio::spawn(sizing(queue))).collect();
    let (asked, ident) = peer.asked().await;
    assert_eq!(ident, Ident(1));
    peer.fail(asked, &Fault::refused("UnknownIdent", "object #1 is not known to this session")).await;
    let (asked, ident) = peer.asked().await;
    assert_ne!(ident, Ident(1));
    peer.described(asked).await;
    for _ in 0..2 {
        let seq = peer.only_call().await.seq;
        peer.reply(seq, &item(&3), None).await;
    }
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    assert!(results[0].as_ref().is_err_and(|error| error.is("UnknownIdent")), "{results:?}");
    assert!(results[1..].iter().all(|size| matches!(size, Ok(3))), "{results:?}");
}

/// Two results name the same object; its proxies go one by one. One frame drops it, and says how often it came.
#[tokio::test]
async fn last_proxy_of_an_object_drops_it_with_its_count() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let (found, ()) = tokio::join!(
        async {
            let inside: Vec<Proxy> = queue.proxy().call("get", ()).await.unwrap();
            let alone = queue.proxy().call_proxy("get", ()).await.unwrap();
            (inside, alone)
        },
        async {
            let seen = peer.call().await;
            let list = [&[0x83][..], &token("list", 9), &token("list", 9), &token("dict", 10)].concat();
            peer.reply(seen.seq, &list, None).await;
            let seen = peer.call().await;
            peer.reply(seen.seq, &token("list", 9), None).await;
        }
    );
    let (mut inside, alone) = found;
    assert_eq!(inside[0], alone);
    assert_ne!(inside[0], inside[2]);
    let dict = inside.pop().unwrap();
    drop((inside, alone.clone(), dict));
    assert_eq!(peer.refs().await.drop, [(Ident(10), 1)]);
    drop(alone);
    assert_eq!(peer.refs().await.drop, [(Ident(9), 3)]);
}

#[tokio::test]
async fn proxy_travels_as_a_token_without_address_within_its_session() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let (_, seen) = tokio::join!(queue.put(&(1, &queue)).into_future(), async {
        let seen = peer.call().await;
        peer.reply(seen.seq, &[0xf6], None).await;
        seen
    });
    let token = token("Queue", queue.proxy().ident().0);
    assert!(seen.args.windows(token.len()).any(|window| window == token), "{:x?}", seen.args);
    assert_eq!(queue.proxy().token().address, Some(socket.address()));
}

#[tokio::test]
async fn lost_connection_makes_calls_unknown_and_refuses_later_ones() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let (got, ()) = tokio::join!(queue.get().into_future(), async {
        peer.call().await;
        // With its socket the host is gone, and every session with it.
        drop((peer, socket));
    });
    let error = got.unwrap_err();
    assert_eq!((error.effect(), error.is_retryable()), (Effect::Unknown, false), "{error}");
    let error = queue.get().await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    assert_eq!(error.effect(), Effect::Refused);
}

#[tokio::test]
async fn callers_wait_when_the_hosts_limits_are_reached() {
    let socket = Socket::new();
    let limits = SessionLimits { calls_running_max: 1, ..SessionLimits::default() };
    let (manager, mut peer) = socket.connected_with(limits).await;
    let queue = queue(&manager, &mut peer).await;
    let sizes: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let queue = queue.clone();
                async move { queue.qsize().await }
            })
        })
        .collect();
    let parked = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await }
    });
    // The second size has to wait; the parked get counts against another limit and overtakes it.
    let (first, second) = (peer.call().await, peer.call().await);
    assert_eq!((first.method.as_str(), second.method.as_str()), ("qsize", "get"));
    peer.reply(first.seq, &item(&1), None).await;
    let third = peer.call().await;
    assert_eq!(third.method, "qsize");
    peer.reply(third.seq, &item(&1), None).await;
    peer.reply(second.seq, &item(&7), None).await;
    for size in sizes {
        assert_eq!(size.await.unwrap().unwrap(), 1);
    }
    assert_eq!(parked.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn large_call_takes_a_further_connection_of_the_same_session() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let text = "x".repeat(100_000);
    let (put, second) = tokio::join!(queue.put(&text).into_future(), async {
        let mut second = socket.accept(SessionLimits::default()).await;
        let seen = second.call().await;
        assert!(seen.args.len() > 100_000);
        second.reply(seen.seq, &[0xf6], None).await;
        second
    });
    put.unwrap();
    let mut second = second;
    // The next one finds it there.
    let (put, ()) = tokio::join!(queue.put(&text).into_future(), async {
        let seen = second.call().await;
        second.reply(seen.seq, &[0xf6], None).await;
    });
    put.unwrap();
}

#[tokio::test]
async fn request_beyond_the_limit_is_not_sent() {
    let socket = Socket::new();
    let limits = SessionLimits { request_bytes_max: 1000, ..SessionLimits::default() };
    let (manager, mut peer) = socket.connected_with(limits).await;
    let queue = queue(&manager, &mut peer).await;
    let error = queue.put(&"x".repeat(1000)).await.unwrap_err();
    assert!(matches!(&error, Error::Encode(cause) if cause.contains("limit is 1000")), "{error}");
}

#[tokio::test]
async fn frame_that_is_none_ends_the_session() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue = queue(&manager, &mut peer).await;
    let (got, ()) = tokio::join!(queue.get().into_future(), async {
        peer.call().await;
        use tokio::io::AsyncWriteExt as _;
        peer.stream.write_all(&[0, 0, 0, 2, 0x81, 0xff]).await.unwrap();
    });
    let error = got.unwrap_err();
    assert!(error.effect() == Effect::Unknown && error.message().contains("no frame"), "{error}");
}

#[tokio::test]
async fn closed_session_says_goodbye() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let (_, last) = tokio::join!(manager.close(), async {
        let mut last = None;
        while let Some(body) = peer.read().await {
            last = Some(format!("{:?}", ClientFrame::read(&body).unwrap().0));
        }
        last
    });
    assert_eq!(last.as_deref(), Some("Goodbye"));
}

#[tokio::test]
async fn idle_client_sends_heartbeats() {
    let socket = Socket::new();
    let (_manager, mut peer) = socket.connected().await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let body = peer.read().await.unwrap();
    assert_eq!(ClientFrame::read(&body).unwrap().0, ClientFrame::Heartbeat);
    assert!(before.elapsed() <= Duration::from_secs(3), "{:?}", before.elapsed());
}

#[test]
fn blocking_threads_are_owners_of_their_own() {
    let host = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = host.block_on(async { Socket::new() });
    let address = socket.address();
    let clients = std::thread::spawn(move || {
        let options = ConnectOptions::new().authkey(key(1));
        let manager = steward_client::blocking::Manager::connect_with(&address, options).unwrap();
        let queue = manager.queue::<u32>(0).unwrap();
        queue.get().wait().unwrap();
        let other = queue.clone();
        std::thread::spawn(move || other.get().wait().unwrap()).join().unwrap();
        queue.get().wait().unwrap()
    });
    host.block_on(async {
        let mut peer = socket.accept(SessionLimits::default()).await;
        let mut owners = Vec::new();
        for _ in 0..3 {
            let seen = peer.call().await;
            owners.push(seen.owner);
            peer.reply(seen.seq, &item(&7), None).await;
        }
        assert_ne!(owners[0], owners[1]);
        assert_eq!(owners[0], owners[2]);
    });
    assert_eq!(clients.join().unwrap(), 7);
}
