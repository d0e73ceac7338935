//! Signing in: who does not hold the key learns nothing and holds up nobody.

use std::time::{Duration, Instant};

use steward_objects::{Effect, Ident, Value};
use steward_test_support::{HostOptions, PATIENCE, RawClient, call_frame, soon, spawn_host, until};
use steward_wire::auth::{Proof, Refusal, RefusalCode, ServerAnswer};
use tokio::net::UdpSocket;

const FLOOR: Duration = Duration::from_millis(250);

#[tokio::test]
async fn wrong_key_unknown_key_and_unknown_tenant_are_refused_alike() {
    let host = spawn_host(HostOptions::default());
    for address in [host.unix(), host.quic()] {
        let mut refusals: Vec<Refusal> = Vec::new();
        for (tenant, key_id) in [("default", "default"), ("default", "no such key"), ("no such tenant", "default")] {
            let mut client = RawClient::open(address).await.expect("open");
            let hello = client.hello(tenant, key_id).encode();
            client.send_message(&hello).await.expect("sent");
            let proofs = client.challenged(&hello, &[7; 32]).await.expect("challenged like anybody");
            // From the proof on: what came before is the client's own time.
            let start = Instant::now();
            client.send_message(&Proof { proof: proofs.client(), resume: None }.encode()).await.expect("sent");
            let ServerAnswer::Refused(refusal) = client.answer().await else { panic!("a wrong key is let in") };
            assert!(start.elapsed() >= FLOOR, "{address}: it took {:?}", start.elapsed());
            assert_eq!(client.message().await.expect("closed in good order"), None);
            refusals.push(refusal);
        }
        assert_eq!(refusals[0].code, RefusalCode::Denied);
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    }
}

/// A key of one tenant is none of another's, whatever its name.
#[tokio::test]
async fn key_opens_its_own_tenant_only() {
    let host = spawn_host(HostOptions::default());
    let mut client = RawClient::open(host.quic()).await.expect("open");
    let refusal = client.sign_in("other", "member", host.member_key.as_bytes()).await.expect_err("refused");
    assert_eq!(refusal.code, RefusalCode::Denied);
}

#[tokio::test]
async fn recorded_sign_in_is_worth_nothing() {
    let host = crate::quick_host();
    for address in [host.unix(), host.quic()] {
        let mut honest = RawClient::open(address).await.expect("open");
        let hello = honest.hello("default", "default").encode();
        honest.send_message(&hello).await.expect("sent");
        let proofs = honest.challenged(&hello, host.authkey.as_bytes()).await.expect("challenged");
        let proof = Proof { proof: proofs.client(), resume: None }.encode();
        honest.send_message(&proof).await.expect("sent");
        assert!(matches!(honest.answer().await, ServerAnswer::Welcome(_)));

        let mut replay = RawClient::open(address).await.expect("open");
        replay.send_message(&hello).await.expect("sent");
        let _ = replay.challenged(&hello, host.authkey.as_bytes()).await.expect("challenged");
        replay.send_message(&proof).await.expect("sent");
        let ServerAnswer::Refused(refusal) = replay.answer().await else { panic!("a replay is let in") };
        assert_eq!(refusal.code, RefusalCode::Denied);
    }
}

/// What is sent before sign-in has no effect, and an honest client's patience is not tried either.
#[tokio::test]
async fn nothing_is_served_before_sign_in() {
    let host = spawn_host(HostOptions::default());
    let frame = call_frame(1, Ident::HOST, "shutdown", &[], None);
    let long = [&[0, 0, 1, 1][..], &[0; 257]].concat();
    for address in [host.unix(), host.quic()] {
        for bytes in [&frame[..], &long, &[0xff; 64], &[0, 0, 0, 0]] {
            let mut client = RawClient::open(address).await.expect("open");
            client.send(bytes).await.expect("sent");
            let ServerAnswer::Refused(refusal) = soon("an answer", client.answer()).await else { panic!("no refusal") };
            assert_eq!(refusal.code, RefusalCode::Denied);
            assert_eq!(client.message().await.expect("closed in good order"), None);
        }
        RawClient::connect(&host, address).await.call(Ident::HOST, "ping", &[]).await.expect("the host lives");
    }
}

#[tokio::test]
async fn silent_peer_is_closed_in_time() {
    let mut options = HostOptions::default();
    options.limits.sign_in_ms = 300;
    let host = spawn_host(options);
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::open(address).await.expect("open");
        let start = Instant::now();
        // A stream of QUIC exists once something is sent on it.
        client.send(&[0]).await.expect("sent");
        let ended = soon("the end", client.message()).await;
        assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
        assert!(start.elapsed() >= Duration::from_millis(290) && start.elapsed() < PATIENCE);
    }
}

/// CPython gives each a thread, for ever.
#[tokio::test]
async fn peers_that_have_not_signed_in_have_few_places() {
    let mut options = HostOptions::default();
    options.limits.half_open_max = 2;
    let host = spawn_host(options);
    let mut signed_in = RawClient::connect(&host, host.unix()).await;
    for address in [host.unix(), host.quic()] {
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut client = RawClient::open(address).await.expect("a place");
            client.send(&[0]).await.expect("sent");
            silent.push(client);
        }
        let refused = until("the third has no place", async || match RawClient::open(address).await {
            Err(_) => Some(()),
            Ok(mut third) => {
                let hello = third.hello("default", "default").encode();
                let _ = third.send_message(&hello).await;
                matches!(third.message().await, Ok(None) | Err(_)).then_some(())
            }
        });
        refused.await;
        signed_in.call(Ident::HOST, "ping", &[]).await.expect("who is in is served");
        drop(silent);
        until("their places are free", async || {
            let mut client = RawClient::open(address).await.ok()?;
            let hello = client.hello("default", "default").encode();
            client.send_message(&hello).await.ok()?;
            client.message().await.ok()?
        })
        .await;
    }
}

/// So nobody who writes another's address on his packets makes the host remember anything, or send more than he sent.
#[tokio::test]
async fn peer_must_prove_its_address_while_many_have_not_signed_in() {
    for (half_open_retry, proves) in [(0, true), (200, false)] {
        let mut options = HostOptions::default();
        options.limits.half_open_retry = half_open_retry;
        let host = spawn_host(options);
        // Passes packets on between one client and the host, and keeps the first byte of the first answer.
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let port = socket.local_addr().expect("a bound socket has an address").port();
        let host_address = host.quic().strip_prefix("steward://").expect("a QUIC address").to_owned();
        let (told, first_byte) = tokio::sync::oneshot::channel();
        let relay = tokio::spawn(async move {
            let mut told = Some(told);
            let way = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            way.connect(host_address).await.expect("an address of this machine");
            let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
            let mut client = None;
            loop {
                tokio::select! {
                    received = socket.recv_from(&mut up) => {
                        let (read, from) = received.expect("a packet");
                        client = Some(from);
                        // The host may be gone by the time of the last.
                        let _ = way.send(&up[..read]).await;
                    }
                    Ok(read) = way.recv(&mut down) => {
                        if let Some(told) = told.take() {
                            told.send(down[0]).expect("the test listens");
                        }
                        let _ = socket.send_to(&down[..read], client.expect("it has spoken")).await;
                    }
                }
            }
        });
        RawClient::open(&format!("steward://127.0.0.1:{port}")).await.expect("it proves it by itself");
        let first = soon("the first answer", first_byte).await.expect("there was one");
        // RFC 9000, section 17.2: a long header, and the type Retry.
        assert_eq!(first & 0xf0 == 0xf0, proves, "{first:#x}");
        relay.abort();
    }
}

#[tokio::test]
async fn failures_make_that_key_wait_and_no_other() {
    let mut options = HostOptions::default();
    options.limits.sign_in_failure_ms_min = 1;
    options.limits.sign_in_failures_max = 3;
    let host = spawn_host(options);
    for _ in 0..3 {
        let mut client = RawClient::open(host.quic()).await.expect("open");
        let refusal = client.sign_in("default", "default", &[7; 32]).await.expect_err("refused");
        assert_eq!(refusal.code, RefusalCode::Denied);
    }
    let mut client = RawClient::open(host.quic()).await.expect("open");
    let refusal = client.sign_in("default", "default", host.authkey.as_bytes()).await.expect_err("must wait");
    assert_eq!(refusal.code, RefusalCode::TryLater);
    let mut member = RawClient::open(host.quic()).await.expect("open");
    member.sign_in("default", "member", host.member_key.as_bytes()).await.expect("another key");
    RawClient::connect(&host, host.unix()).await.call(Ident::HOST, "ping", &[]).await.expect("from elsewhere");
}

#[tokio::test]
async fn member_may_use_objects_and_not_manage_the_host() {
    let host = spawn_host(HostOptions::default());
    let mut client = RawClient::open(host.unix()).await.expect("open");
    client.sign_in("default", "member", host.member_key.as_bytes()).await.expect("signed in");
    let list = client.create("list", &[]).await.expect("made");
    assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
    for method in ["objects", "debug_info", "shutdown"] {
        let fault = client.call(Ident::HOST, method, &[]).await.expect_err("not for members");
        assert_eq!((fault.effect, &*fault.kind), (Effect::Refused, "Denied"), "{method}");
    }
    client.call(Ident::HOST, "ping", &[]).await.expect("the host lives");
}
