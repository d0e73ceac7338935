//! What queues lend, against a host that does what each test says.

#[expect(dead_code, reason = "the other files have other tests")]
mod fake;

use std::time::Duration;

use fake::{Peer, Socket, token};
use steward_client::{AnyValue, Error, Fault, JoinableQueue, Leased, Manager, Queue, QueueOptions, Typed as _};
use steward_wire::frame::ClientFrame;
use steward_wire::{Ident, Value};
use tokio::net::UnixStream;

/// The positional arguments and the keywords that a call or a constructor was given.
fn arguments(item: &[u8]) -> (Vec<Value>, Vec<(Value, Value)>) {
    let Ok(Value::List(parts)) = Value::decode(item) else { panic!("arguments are a list: {item:02x?}") };
    let [Value::List(places), Value::Map(keywords)] = &parts[..] else { panic!("arguments are two: {parts:?}") };
    (places.clone(), keywords.clone())
}

async fn reply(peer: &mut Peer<UnixStream>, method: &str, payload: Value) -> Vec<Value> {
    let seen = peer.call().await;
    assert_eq!(seen.method, method);
    peer.reply(seen.seq, &payload.to_vec(), None).await;
    arguments(&seen.args).0
}

async fn lent(manager: &Manager, peer: &mut Peer<UnixStream>) -> Leased<String> {
    let borrowing = async {
        let queue: Queue<String> = manager.queue(0).await.unwrap();
        queue.get_leased(Duration::from_micros(1500)).await.unwrap()
    };
    let parts = vec![Value::Text("sweep".into()), Value::Int(7), Value::Int(2)];
    let (lent, args) = tokio::join!(borrowing, reply(peer, "get_leased", Value::Tuple(parts)));
    assert_eq!(args, [Value::Int(2)], "a lease is rounded up");
    lent
}

#[tokio::test]
async fn leased_item_is_acknowledged_given_back_or_kept_longer_by_its_receipt() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let lent = lent(&manager, &mut peer).await;
    assert_eq!((lent.item().as_str(), lent.receipt(), lent.deliveries()), ("sweep", 7, 2));
    let (extended, args) =
        tokio::join!(lent.extend(Duration::from_secs(3)).into_future(), reply(&mut peer, "extend", Value::Null));
    extended.unwrap();
    assert_eq!(args, [Value::Int(7), Value::Int(3_000)]);
    let (given_back, args) = tokio::join!(lent.nack().into_future(), reply(&mut peer, "nack", Value::Null));
    given_back.unwrap();
    assert_eq!(args, [Value::Int(7)]);
    let (acknowledged, ()) = tokio::join!(lent.ack().into_future(), async {
        let seen = peer.call().await;
        assert_eq!((seen.method.as_str(), arguments(&seen.args).0), ("ack", vec![Value::Int(7)]));
        peer.fail(seen.seq, &Fault::raised("ValueError", "receipt 7 is not out")).await;
    });
    assert!(acknowledged.unwrap_err().is("ValueError"));
    assert_eq!(lent.into_inner(), "sweep");
}

#[tokio::test]
async fn dropped_lease_says_nothing() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let queue: Queue<AnyValue> = Queue::from_proxy(
        manager.proxy(&steward_client::Token { typeid: "Queue".into(), ident: Ident(5), address: None }).unwrap(),
    )
    .unwrap();
    assert_eq!(peer.refs().await.incref, [Ident(5)]);
    drop(lent(&manager, &mut peer).await);
    // Its queue had no other proxy. Only that is said, and then the next call comes.
    assert_eq!(peer.refs().await.drop.len(), 1);
    let (count, args) = tokio::join!(queue.lent().into_future(), reply(&mut peer, "lent", Value::Int(1)));
    assert_eq!((count.unwrap(), args), (1, vec![]));
}

#[tokio::test]
async fn item_of_another_type_is_an_error_of_decoding() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let borrowing = async {
        let queue: JoinableQueue<u32> = manager.joinable_queue(0).await.unwrap();
        queue.get_leased(Duration::from_secs(1)).await
    };
    let parts = vec![Value::Text("sweep".into()), Value::Int(1), Value::Int(1)];
    let (outcome, _) = tokio::join!(borrowing, reply(&mut peer, "get_leased", Value::Tuple(parts)));
    assert!(matches!(outcome, Err(Error::Decode { .. })));
}

#[tokio::test]
async fn options_of_a_queue_are_its_constructors_arguments() {
    let socket = Socket::new();
    let (manager, mut peer) = socket.connected().await;
    let (made, ()) = tokio::join!(
        async {
            let failed = manager.queue::<u32>(0).await?;
            let options = QueueOptions::new().maxsize(9);
            manager.queue_with::<JoinableQueue<u32>>(options.clone()).await?;
            manager.queue_with::<Queue<u32>>(options.dead_letter(3, &failed)).await
        },
        async {
            for (typeid, wanted) in [("Queue", None), ("JoinableQueue", Some(false)), ("Queue", Some(true))] {
                let body = loop {
                    let body = peer.read().await.unwrap();
                    if matches!(ClientFrame::read(&body).unwrap().0, ClientFrame::Create(_)) {
                        break body;
                    }
                };
                let ClientFrame::Create(create) = ClientFrame::read(&body).unwrap().0 else { unreachable!() };
                assert_eq!(create.typeid, typeid);
                let (places, keywords) = arguments(create.args);
                let dead_letter =
                    Value::Token(steward_client::Token { typeid: "Queue".into(), ident: Ident(5), address: None });
                let name = |name: &str| Value::Text(name.into());
                match wanted {
                    None => assert_eq!((places, keywords), (vec![Value::Int(0)], vec![])),
                    Some(false) => assert_eq!((places, keywords), (vec![Value::Int(9)], vec![])),
                    Some(true) => {
                        let named = vec![(name("max_deliveries"), Value::Int(3)), (name("dead_letter"), dead_letter)];
                        assert_eq!((places, keywords), (vec![Value::Int(9)], named));
                    }
                }
                peer.reply(create.seq, &token(typeid, 5), None).await;
            }
        }
    );
    assert_eq!(made.unwrap().proxy().ident(), Ident(5));
}
