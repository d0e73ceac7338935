//! What a peer sends that has signed in and does not keep to the protocol.

use std::time::{Duration, Instant};

use steward_objects::{Effect, Ident, Value};
use steward_test_support::{HostOptions, PATIENCE, RawClient, TestHost, call_frame, parked, soon, spawn_host};
use steward_wire::frame::{Acked, ClientFrame, HostFrame, Upload};

/// Sends `bytes` on a fresh session of either transport; the host says a goodbye that contains `reason`, closes, and
/// serves everybody else as before.
async fn check(host: &TestHost, bytes: &[u8], reason: &str) {
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(host, address).await;
        // The host may close before it has read everything.
        let _ = client.send(bytes).await;
        let said = soon("a goodbye", client.reply()).await.expect_err("no reply");
        assert!(said.contains(reason), "{address}: `{said}` should say `{reason}`");
        assert_eq!(soon("the end", client.message()).await.expect("closed in good order"), None);
        let mut other = RawClient::connect(host, address).await;
        other.call(Ident::HOST, "ping", &[]).await.expect("the host lives");
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("little").to_be_bytes();
    [&length, body].concat()
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

#[tokio::test]
async fn oversized_frame_closes_before_it_is_read() {
    let host = spawn_host(HostOptions::default());
    check(&host, &[0x7f, 0xff, 0xff, 0xff, 0x81], "frame is 2147483647 bytes, limit is 1048576").await;
}

#[tokio::test]
async fn what_is_no_frame_closes() {
    let host = spawn_host(HostOptions::default());
    check(&host, &framed(b""), "").await;
    check(&host, &framed(&[0xff; 64]), "").await;
    check(&host, &framed(b"GET / HTTP/1.1\r\n\r\n"), "").await;
    // Kinds that nobody knows, and one that only hosts send.
    check(&host, &framed(&[0x82, 0x18, 99, 0xf6]), "kind").await;
    check(&host, &framed(&[0x82, 0x03, 0xf6]), "").await;
    // Too few fields; trailing bytes; an indefinite length.
    check(&host, &framed(&[0x83, 0x02, 0xf6, 0x01]), "").await;
    check(&host, &framed(&[0x82, 0x07, 0xf6, 0x00]), "").await;
    check(&host, &framed(&[0x9f, 0x07, 0xf6, 0xff]), "").await;
}

#[tokio::test]
async fn deep_and_wide_items_close() {
    let host = spawn_host(HostOptions::default());
    check(&host, &call_frame(1, Ident::HOST, "ping", &[nested(40)], None), "32").await;
    let wide = Value::List(vec![Value::Null; 70_000]);
    check(&host, &call_frame(1, Ident::HOST, "ping", &[wide], None), "65536").await;
    // An array that claims more than the frame has.
    let claims = [0x87, 0x02, 0xf6, 0x01, 0x00, 0x01, 0x64, b'p', b'i', b'n', b'g', 0x9a, 0xff, 0xff, 0xff, 0xff];
    check(&host, &framed(&claims), "").await;
}

#[tokio::test]
async fn frame_that_does_not_come_to_its_end_is_not_waited_for() {
    let mut options = HostOptions::default();
    options.limits.frame_ms_max = 300;
    // What closed the connection has not ended the session.
    options.limits.lease_ms = 1_000;
    let host = spawn_host(options);
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        let start = Instant::now();
        client.send(&[0, 0, 1]).await.expect("sent");
        let ended = soon("the end", client.message()).await;
        assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
        assert!(start.elapsed() >= Duration::from_millis(300), "{address}: an honest client gets its time");
        assert!(start.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn repeat_of_a_call_joins_it_and_then_gets_its_reply() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let event = manager.create_named("e", "Event", ()).await.expect("made");
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        let Ok(Value::Token(token)) = client.call(Ident::HOST, "named", &[Value::Text("e".into())]).await else {
            panic!("no token")
        };
        client.send(&call_frame(5, token.ident, "wait", &[], None)).await.expect("sent");
        parked(&manager, &event, 1).await;
        // Whatever comes under its number is taken for the same call.
        client.send(&call_frame(5, token.ident, "set", &[], None)).await.expect("sent");
        client.seq = 6;
        assert_eq!(client.call(token.ident, "is_set", &[]).await, Ok(Value::Bool(false)));
        parked(&manager, &event, 1).await;
        event.call::<()>("set", ()).await.expect("set");
        let first = client.reply().await.expect("a reply");
        assert_eq!((first.seq, &first.outcome), (5, &Ok(Value::Bool(true))));
        event.call::<()>("clear", ()).await.expect("cleared");
        client.send(&call_frame(5, token.ident, "wait", &[], None)).await.expect("sent");
        let again = client.reply().await.expect("a reply");
        assert_eq!((again.seq, again.outcome, again.version), (5, first.outcome, first.version));
        client.acknowledge(Acked { floor: 8, ranges: Vec::new() }).await.expect("sent");
        client.send(&call_frame(5, token.ident, "wait", &[], None)).await.expect("sent");
        let forgotten = client.reply().await.expect("a reply").outcome.expect_err("refused");
        assert_eq!((forgotten.effect, &*forgotten.kind), (Effect::Refused, "Forgotten"));
    }
}

/// Another tenant's object, another session's, and one that never was: nobody can tell them apart.
#[tokio::test]
async fn foreign_object_looks_like_none() {
    let host = spawn_host(HostOptions::default());
    for address in [host.unix(), host.quic()] {
        let mut other = RawClient::open(address).await.expect("open");
        other.sign_in("other", "default", host.authkey.as_bytes()).await.expect("signed in");
        // More than this tenant has, so that the number means nothing in it.
        let mut theirs = Ident(0);
        for _ in 0..9 {
            theirs = other.create("list", &[]).await.expect("made");
        }
        let mut neighbour = RawClient::connect(&host, address).await;
        let hidden = neighbour.create("list", &[]).await.expect("made");
        let mut client = RawClient::connect(&host, address).await;
        let list = client.create("list", &[]).await.expect("made");

        let mut found = Vec::new();
        for ident in [theirs, hidden, Ident(0xffff_ffff), Ident(u64::MAX)] {
            let token = Value::Token(steward_wire::Token { typeid: "list".into(), ident, address: None });
            for outcome in [
                client.call(ident, "__len__", &[]).await,
                client.call(ident, "no such method", &[]).await,
                client.call(list, "append", std::slice::from_ref(&token)).await,
                client.call(list, "extend", std::slice::from_ref(&token)).await,
                client.create("Condition", std::slice::from_ref(&token)).await.map(|_| Value::Null),
            ] {
                let mut fault = outcome.expect_err("not this session's");
                fault.message = fault.message.replace(&ident.to_string(), "N");
                found.push(fault);
            }
        }
        assert_eq!(found[0].kind, "UnknownIdent");
        assert!(found.iter().all(|fault| *fault == found[0]), "{found:#?}");
        assert_eq!(client.call(list, "__len__", &[]).await, Ok(Value::Int(0)));
    }
}

#[tokio::test]
async fn goodbye_of_a_client_ends_its_session_at_once() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    for address in [host.unix(), host.quic()] {
        let mut client = RawClient::connect(&host, address).await;
        client.create("list", &[]).await.expect("made");
        client.frame(&ClientFrame::Goodbye).await.expect("sent");
        let said = soon("the host's goodbye", client.reply()).await.expect_err("no reply");
        assert_eq!(said, "session ended");
        assert_eq!(manager.number_of_objects().await.expect("answered"), 0);
    }
}

#[tokio::test]
async fn uploads_that_are_no_plugin_are_refused_and_the_lane_lives() {
    let host = spawn_host(HostOptions::default());
    let mut client = RawClient::connect(&host, host.quic()).await;
    for (offset, total, chunk, kind) in [
        (0, 1, &[0][..], "BadPlugin"),
        (0, u64::MAX, &[0], "TooLarge"),
        (1, 2, &[0], "BadUpload"),
        (0, 1, &[0, 0], "BadUpload"),
    ] {
        client.seq += 1;
        let chunk = Upload { seq: client.seq, upload: 1, offset, total, chunk };
        client.frame(&ClientFrame::Upload(chunk)).await.expect("sent");
        let fault = client.reply().await.expect("a reply").outcome.expect_err("refused");
        assert_eq!((fault.effect, &*fault.kind), (Effect::Refused, kind));
    }
    client.call(Ident::HOST, "ping", &[]).await.expect("the lane lives");
}

/// Large replies that nobody reads hold calls back, but say nothing against their client, which may be slow. It is still heard.
#[tokio::test]
async fn heartbeat_is_answered_before_calls_that_wait_behind_large_replies() {
    let host = spawn_host(HostOptions::default());
    let mut client = RawClient::connect(&host, host.quic()).await;
    let list = client.create("list", &[]).await.expect("a list");
    for _ in 0..3 {
        client.call(list, "append", &[Value::Text("x".repeat(1_000_000))]).await.expect("appended");
    }
    client.send(&call_frame(10, list, "copy", &[], None)).await.expect("sent");
    client.frame(&ClientFrame::Heartbeat).await.expect("sent");
    let answer = soon("an answer", client.message()).await.expect("the connection lives").expect("a frame");
    assert_eq!(HostFrame::read(&answer), Ok(HostFrame::Heartbeat));
    client.send(&call_frame(11, list, "__len__", &[], None)).await.expect("sent");
    client.frame(&ClientFrame::Goodbye).await.expect("sent");
    let waits = tokio::time::timeout(Duration::from_millis(300), client.message()).await;
    assert!(waits.is_err(), "the call before it waits: {waits:?}");
}

/// A client asks for a large reply and does not read its stream, of which a window of 1.25 MB leaves all the same. Its small calls
/// are answered meanwhile: what is left of the large one is less than what may wait.
#[tokio::test]
async fn small_call_does_not_wait_for_a_large_reply_that_nobody_reads() {
    let host = spawn_host(HostOptions::default());
    let mut client = RawClient::connect(&host, host.quic()).await;
    let list = client.create("list", &[]).await.expect("a list");
    for _ in 0..3 {
        client.call(list, "append", &[Value::Text("x".repeat(600 << 10))]).await.expect("appended");
    }
    client.seq += 1;
    let large = call_frame(client.seq, list, "copy", &[], None);
    client.send(&large).await.expect("sent");
    for length in [3; 3] {
        let answer = soon("a small reply", client.call(list, "__len__", &[])).await;
        assert_eq!(answer.expect("it is answered"), Value::Int(length.into()));
    }
}
