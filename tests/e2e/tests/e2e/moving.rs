//! A QUIC client that moves to another address keeps its session, its locks and the calls that wait.

use steward_objects::{Ident, Value};
use steward_test_support::{HostOptions, RawClient, call_frame, parked, soon, spawn_host};

#[tokio::test]
async fn client_that_moves_keeps_its_session() {
    let host = spawn_host(HostOptions::default());
    let manager = host.manager().await;
    let events = manager.create_named("e", "Event", ()).await.expect("made");
    let mut client = RawClient::connect(&host, host.quic()).await;
    let lock = client.create("Lock", &[]).await.expect("made");
    assert_eq!(client.call(lock, "acquire", &[]).await, Ok(Value::Bool(true)));
    let event = named(&mut client, "e").await;
    client.seq += 1;
    let waiting = client.seq;
    client.send(&call_frame(waiting, event, "wait", &[], None)).await.expect("sent");
    parked(&manager, &events, 1).await;

    let before = client.endpoint.as_ref().expect("QUIC").local_addr().expect("bound");
    let after = client.move_away();
    assert_ne!(before, after);
    assert_eq!(soon("a call after the move", client.call(lock, "locked", &[])).await, Ok(Value::Bool(true)));
    events.call::<()>("set", ()).await.expect("set");
    let reply = soon("the reply to the new address", client.reply()).await.expect("a reply");
    assert_eq!((reply.seq, reply.outcome), (waiting, Ok(Value::Bool(true))));
    assert_eq!(client.call(lock, "release", &[]).await, Ok(Value::Null));
}

async fn named(client: &mut RawClient, name: &str) -> Ident {
    match client.call(Ident::HOST, "named", &[Value::Text(name.into())]).await {
        Ok(Value::Token(token)) => token.ident,
        other => panic!("{name}: {other:?}"),
    }
}
