//! An item is dealt with or delivered again.

use std::time::Duration;

use steward_client::{Manager, Queue, QueueOptions};
use steward_objects::{Ident, Value};
use steward_test_support::{ClientProcess, HostOptions, RawClient, soon, spawn_host, until};

use crate::{on_both, quick_host};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

on_both! {
    item_whose_arrival_nobody_acknowledged_returns_to_the_head => unacknowledged;
    item_lent_to_a_client_that_died_returns => borrower_dies;
}

async fn unacknowledged(over_quic: bool) {
    let host = quick_host();
    let manager = host.manager().await;
    let queue: Queue<u32> = manager.named("q").await.expect("made");
    queue.put_many(&[1, 2, 3, 4]).await.expect("put");
    let mut client = RawClient::connect(&host, if over_quic { host.quic() } else { host.unix() }).await;
    let ident = match client.call(Ident::HOST, "named", &[Value::Text("q".into())]).await {
        Ok(Value::Token(token)) => token.ident,
        other => panic!("{other:?}"),
    };
    for expected in [1, 2] {
        assert_eq!(client.call(ident, "get", &[]).await, Ok(Value::Int(expected)));
    }
    // This one has arrived for good.
    let seq = client.seq - 1;
    let acked = steward_wire::frame::Acked { floor: 1, ranges: vec![(seq, seq)] };
    client.acknowledge(acked).await.expect("sent");
    client.call(Ident::HOST, "ping", &[]).await.expect("answered");
    client.vanish();
    until("one is back", async || (queue.qsize().await.expect("answered") == 3).then_some(())).await;
    for expected in [2, 3, 4] {
        assert_eq!(queue.get().await.expect("an item"), expected);
    }
}

async fn borrower_dies(over_quic: bool) {
    let host = quick_host();
    let manager = host.manager().await;
    let queue: Queue<u32> = manager.named("x").await.expect("made");
    queue.put_many(&[1, 2]).await.expect("put");
    let client = ClientProcess::start(&host, if over_quic { host.quic() } else { host.unix() }, "x get_leased=60000");
    assert_eq!(client.line(), "get_leased=60000");
    assert_eq!((queue.lent().await.expect("answered"), queue.qsize().await.expect("answered")), (1, 1));
    client.kill();
    until("it is back", async || (queue.qsize().await.expect("answered") == 2).then_some(())).await;
    let again = queue.get_leased(LONG).await.expect("an item");
    assert_eq!((*again.item(), again.deliveries()), (1, 2));
    again.ack().await.expect("lent");
    let other = queue.get_leased(LONG).await.expect("an item");
    assert_eq!((*other.item(), other.deliveries()), (2, 1));
    other.ack().await.expect("lent");
    assert_eq!((queue.lent().await.expect("answered"), queue.qsize().await.expect("answered")), (0, 0));
    forget(&manager, "x").await;
}

/// Takes the name away: a queue that has lent something goes on to wait for the time of its return.
async fn forget(manager: &Manager, name: &str) {
    manager.host_proxy().call::<()>("delete", (name,)).await.expect("it has that name");
}

#[tokio::test]
async fn lent_item_returns_when_it_is_given_back_or_its_lease_ends() {
    let host = spawn_host(HostOptions::default());
    let (manager, other) = (host.manager().await, host.connect(host.quic()).await);
    let queue: Queue<u32> = manager.named("q").await.expect("made");
    let same: Queue<u32> = other.named("q").await.expect("found");
    queue.put_many(&[1, 2]).await.expect("put");
    queue.get_leased(LONG).await.expect("an item").nack().await.expect("lent");
    let short = queue.get_leased(Duration::from_millis(1)).await.expect("an item");
    assert_eq!((*short.item(), short.deliveries()), (1, 2));
    let third = until("its lease ends", async || {
        let item = same.get_leased(LONG).await.expect("an item");
        if *item.item() == 1 {
            return Some(item);
        }
        item.nack().await.expect("lent");
        None
    })
    .await;
    assert_eq!(third.deliveries(), 3);
    let error = short.ack().await.expect_err("somebody else's by now");
    assert!(error.is("ValueError"), "{error}");
    third.extend(LONG).await.expect("lent");
    third.ack().await.expect("lent");
    let error = third.nack().await.expect_err("dealt with");
    assert!(error.is("ValueError"), "{error}");
    let second = queue.get_leased(LONG).await.expect("an item");
    second.ack().await.expect("lent");
    soon("both are dealt with", queue.join().into_future()).await.expect("joined");
    forget(&manager, "q").await;
}

#[tokio::test]
async fn item_that_comes_back_too_often_is_set_aside() {
    let host = spawn_host(HostOptions::default());
    let manager = host.connect(host.quic()).await;
    let failed = manager.queue::<String>(0).await.expect("made");
    let queue: Queue<String> = manager.queue_with(QueueOptions::new().dead_letter(2, &failed)).await.expect("made");
    queue.put("bad").await.expect("put");
    for delivery in 1..=2 {
        let item = queue.get_leased(LONG).await.expect("an item");
        assert_eq!(item.deliveries(), delivery);
        item.nack().await.expect("lent");
    }
    assert_eq!(soon("the item", failed.get().into_future()).await.expect("an item"), "bad");
    assert_eq!((queue.qsize().await.expect("answered"), queue.lent().await.expect("answered")), (0, 0));
    // The queue keeps the other one.
    let ident = failed.proxy().ident();
    drop(failed);
    manager.ping().await.expect("answered");
    assert!(manager.objects().await.expect("listed").iter().any(|line| line.ident == ident.0));
}
