//! A goodbye is heard, whatever else is under way and however the program ends that says it.
//!
//! Leases are longer than any test, so a session that is over has said goodbye; and the Lock that it held stays taken, as in
//! CPython, which it would not after a death.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use steward_client::{Manager, Proxy, blocking};
use steward_objects::Value;
use steward_test_support::{
    ClientProcess, HostOptions, RawClient, Relay, Role, TestHost, call_frame, parked, soon, spawn_host,
    steward_program, until,
};
use steward_wire::Ident;
use steward_wire::frame::{Acked, ClientFrame};

use crate::on_both;

/// The role `leave HOW`: takes the Lock `x` and the RLock `y`, and ends.
pub(crate) fn play(role: &Role) {
    let options = steward_client::ConnectOptions::new().authkey(role.authkey.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match &*role.name {
        "leave by dropping a blocking manager" => {
            let manager = blocking::Manager::connect_with(&role.address, options).expect("the host lets its admin in");
            let proxies = ["x", "y"].map(|name| manager.find(name).expect("named"));
            for proxy in &proxies {
                proxy.call::<bool>("acquire", ()).wait().expect("free");
            }
            // The proxies are of no use without it, and keep nothing from its end.
            drop(manager);
            drop(proxies);
        }
        "leave by close" => runtime.block_on(async {
            let manager = options.connect(&role.address).await.expect("the host lets its admin in");
            let proxies = take_both(&manager).await;
            manager.close().await;
            drop(proxies);
        }),
        // Nothing else of the runtime runs after that.
        "leave by dropping a manager" => drop(runtime.block_on(async {
            let manager = options.connect(&role.address).await.expect("the host lets its admin in");
            take_both(&manager).await;
            manager
        })),
        how => panic!("nobody can {how}"),
    }
}

async fn take_both(manager: &Manager) -> [Proxy; 2] {
    let proxies = [manager.find("x").await.expect("named"), manager.find("y").await.expect("named")];
    for proxy in &proxies {
        proxy.call::<bool>("acquire", ()).await.expect("free");
    }
    proxies
}

struct Stage {
    lock: Proxy,
    rlock: Proxy,
    manager: Manager,
    address: String,
    host: TestHost,
}

impl Stage {
    async fn set(over_quic: bool) -> Self {
        let mut options = HostOptions::default();
        options.limits.lease_ms = 600_000;
        let host = spawn_host(options);
        let address = if over_quic { host.quic() } else { host.unix() }.to_owned();
        let manager = host.manager().await;
        let lock = manager.create_named("x", "Lock", ()).await.expect("made");
        let rlock = manager.create_named("y", "RLock", ()).await.expect("made");
        Self { lock, rlock, manager, address, host }
    }

    /// The other session is over, in good order.
    async fn has_heard(&self) {
        let locked = async |lock: &Proxy| lock.call::<bool>("locked", ()).await.expect("answered");
        until("the goodbye is heard, and what is owned released", async || {
            let left = self.host.counters("default");
            let is_over = (left.sessions, left.waiters, left.rows) == (1, 0, 0);
            (is_over && !locked(&self.rlock).await).then_some(())
        })
        .await;
        assert!(locked(&self.lock).await, "nobody has released it");
    }
}

on_both! {
    goodbye_is_heard_whatever_else_is_under_way => busy;
    program_that_closes_its_session_has_said_goodbye => closes;
    blocking_program_that_only_ends_has_said_goodbye => ends_blocking;
    command_says_goodbye => command;
    command_that_is_interrupted_gives_its_call_up_and_says_goodbye => interrupted;
}

/// Large replies nobody waits for any more, calls that wait, a call that is half sent.
async fn busy(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    let manager = stage.host.connect(&stage.address).await;
    take_both(&manager).await;
    let list = manager.list::<String>().await.expect("made");
    list.extend(&vec!["x".repeat(1_000); 500]).await.expect("extended");
    let queue = manager.queue::<String>(0).await.expect("made");
    // What a Queue is the client learns now.
    assert!(queue.empty().await.expect("answered"));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(list.copy().into_future());
    }
    for _ in 0..20 {
        let get = queue.get().into_future();
        calls.spawn(async move { get.await.map(|item| vec![item]) });
    }
    let put = queue.put(&"y".repeat(900_000)).into_future();
    calls.spawn(async move { put.await.map(|()| Vec::new()) });
    // All of them are under way, and few are answered.
    tokio::task::yield_now().await;
    soon("goodbye", manager.close()).await;
    stage.has_heard().await;
    while let Some(call) = soon("a call", calls.join_next()).await {
        // Answered before, or nobody can tell.
        let _ = call.expect("no panic");
    }
}

/// Closing a Unix socket with something in it resets it, and the host fails to send what it owes.
#[tokio::test]
async fn goodbye_of_a_client_that_reads_no_more_counts() {
    let stage = Stage::set(false).await;
    let mut client = RawClient::connect(&stage.host, &stage.address).await;
    for name in ["x", "y"] {
        let Ok(Value::Token(token)) = client.call(Ident::HOST, "named", &[Value::Text(name.into())]).await else {
            panic!("{name} is named")
        };
        client.call(token.ident, "acquire", &[]).await.expect("free");
    }
    let list = client.create("list", &[Value::List(vec![Value::Text("x".repeat(1_000)); 500])]).await.expect("made");
    // A grant that is not acknowledged is taken back.
    client.acknowledge(Acked { floor: client.seq + 1, ranges: Vec::new() }).await.expect("sent");
    // More than the host writes before it reads on.
    let mut frames: Vec<u8> = (100..120).flat_map(|seq| call_frame(seq, list, "copy", &[], None)).collect();
    ClientFrame::Goodbye.put(None, &mut frames);
    client.send(&frames).await.expect("sent");
    client.vanish();
    stage.has_heard().await;
}

/// What is between client and host may be lost in the moment of the goodbye.
#[tokio::test]
async fn goodbye_is_said_again_when_its_connection_is_lost() {
    let stage = Stage::set(false).await;
    let relay = Relay::before(&stage.address).await;
    let manager = stage.host.connect(relay.address()).await;
    let proxies = take_both(&manager).await;
    relay.mute_clients();
    let closing = tokio::spawn(manager.close());
    // It is on its way, and goes no further.
    tokio::task::yield_now().await;
    let error = proxies[0].call::<bool>("locked", ()).await.expect_err("nothing goes behind a goodbye");
    assert!(error.is("NotConnected"), "{error}");
    relay.cut();
    soon("goodbye", closing).await.expect("no panic");
    stage.has_heard().await;
}

/// Whoever closes the session waits a second for that, and the session longer.
#[tokio::test]
async fn goodbye_is_said_as_soon_as_there_is_a_connection_again() {
    let stage = Stage::set(false).await;
    let relay = Relay::before(&stage.address).await;
    let manager = stage.host.connect(relay.address()).await;
    let proxies = take_both(&manager).await;
    relay.part();
    until("the client notices", async || (!manager.is_connected()).then_some(())).await;
    soon("the end of a vain wait", manager.close()).await;
    drop(proxies);
    assert_eq!(stage.host.counters("default").sessions, 2);
    relay.cut();
    stage.has_heard().await;
}

async fn program(over_quic: bool, how: &str) {
    let stage = Stage::set(over_quic).await;
    ClientProcess::start(&stage.host, &stage.address, how).finish();
    stage.has_heard().await;
}

async fn closes(over_quic: bool) {
    program(over_quic, "leave by close").await;
}

async fn ends_blocking(over_quic: bool) {
    program(over_quic, "leave by dropping a blocking manager").await;
}

/// Over QUIC the runtime would have to go on for a moment.
#[tokio::test]
async fn program_that_only_ends_has_said_goodbye_over_unix() {
    program(false, "leave by dropping a manager").await;
}

impl Stage {
    fn command(&self, words: &[&str]) -> Child {
        let mut command = Command::new(steward_program());
        command.args(words).args(["--context", &self.address]).env("STEWARD_KEY", &**self.host.authkey.to_hex());
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program runs")
    }
}

/// The status of a process of this test, whose runtime serves nobody else.
async fn status(mut child: Child) -> Option<i32> {
    until("the program ends", async || child.try_wait().expect("it is a child")).await.code()
}

async fn command(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    for name in ["x", "y"] {
        assert_eq!(status(stage.command(&["call", name, "acquire"])).await, Some(0));
    }
    // That of the second one has released its RLock.
    stage.has_heard().await;
}

async fn interrupted(over_quic: bool) {
    let stage = Stage::set(over_quic).await;
    stage.lock.call::<bool>("acquire", ()).await.expect("free");
    let waiting = stage.command(&["call", "x", "acquire"]);
    parked(&stage.manager, &stage.lock, 1).await;
    let pid = Pid::from_raw(waiting.id().try_into().expect("a process id")).expect("not 0");
    kill_process(pid, Signal::INT).expect("it is this process's child");
    assert_ne!(soon("the program", status(waiting)).await, Some(0));
    stage.has_heard().await;
}
