//! Many clients at once: none costs the host a thread, and who only takes up room is shown out.

use steward_client::Queue;
use steward_test_support::{RawClient, parked, soon, until};

use crate::on_both;
use crate::stops::HostProcess;

/// What a folder of the host's in `/proc` has: `task` its threads, `fd` its descriptors.
fn count(host: &HostProcess, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", host.process.id())).expect("it runs").count()
}

on_both! {
    clients_and_calls_that_wait_cost_the_host_no_thread => waiting;
    silent_peers_cost_no_thread_and_are_shown_out => silent;
}

/// CPython has a thread with its stack for each thread of each client.
async fn waiting(over_quic: bool) {
    const CLIENTS: u64 = 50;
    const CALLS: u64 = 20;
    let host = HostProcess::start("serve", over_quic);
    let admin = host.manager().await;
    let queue: Queue<u64> = admin.named("q").await.expect("made");
    queue.put(&0).await.expect("put");
    queue.get().await.expect("an item");
    let threads = count(&host, "task");
    let mut clients = Vec::new();
    let mut getting = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let manager = host.manager().await;
        let same: Queue<u64> = manager.named("q").await.expect("found");
        // What a Queue is each client learns once.
        same.empty().await.expect("answered");
        for _ in 0..CALLS {
            getting.spawn(same.get().into_future());
        }
        clients.push(manager);
    }
    parked(&admin, steward_client::Typed::proxy(&queue), CLIENTS * CALLS).await;
    assert_eq!(count(&host, "task"), threads, "{CLIENTS} clients with {CALLS} calls each");
    queue.put_many(&(0..CLIENTS * CALLS).collect::<Vec<_>>()).await.expect("put");
    while let Some(got) = soon("an item", getting.join_next()).await {
        got.expect("no panic").expect("an item");
    }
    for manager in clients {
        manager.close().await;
    }
    drop(queue);
    admin.close().await;
    host.process.finish();
}

/// CPython gives each a thread for ever. More than the host lets in without having seen that their addresses are their own.
async fn silent(over_quic: bool) {
    const PEERS: usize = 300;
    let host = HostProcess::start("serve hasty", over_quic);
    let admin = host.manager().await;
    // Then the host looks after it with all that it needs.
    admin.ping().await.expect("answered");
    let (threads, descriptors) = (count(&host, "task"), count(&host, "fd"));
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = RawClient::open(&host.address).await.expect("there is room");
        // A stream of QUIC exists once something is sent on it; on a busy machine the peer is shown out before that.
        let _ = peer.send(&[0]).await;
        peers.push(peer);
    }
    let newcomer = soon("a newcomer", host.manager()).await;
    newcomer.ping().await.expect("served meanwhile");
    assert_eq!(count(&host, "task"), threads, "{PEERS} peers that say nothing");
    for peer in &mut peers {
        let ended = soon("the end", peer.message()).await;
        assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
    }
    newcomer.close().await;
    until("all is as before", async || {
        (count(&host, "task") == threads && count(&host, "fd") == descriptors).then_some(())
    })
    .await;
    admin.ping().await.expect("served as before");
    admin.close().await;
    host.process.finish();
}
