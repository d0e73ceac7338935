//! Processes that are stopped for a while, as a virtual machine is that moves: nobody does harm with what he lost meanwhile,
//! and nobody loses anything by the host's own pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use steward_client::{AuthKey, ConnectOptions, Lock, Manager, Queue, SessionEvent, Value};
use steward_objects::Effect;
use steward_test_support::{ClientProcess, HostOptions, RawClient, Role, parked, soon, spawn_host, until};
use tokio::sync::Notify;

use crate::on_both;

/// Longer than it takes a host to see that it was paused.
const LEASE_MS: u64 = 2_000;
/// Shorter than the longest pause that a host with a long lease does not notice.
const BRIEF_MS: u64 = 1_400;
/// Descriptors of a host that is to run out of them.
const DESCRIPTORS: u64 = 64;

/// The role `serve`: a host in a process of its own. `serve short`: one with few descriptors. `serve hasty`: one with little
/// patience for those who sign in. `serve brief`: one with a lease as short as a pause that might not be noticed.
pub(crate) fn play_host(role: &Role) {
    let mut options = HostOptions::default();
    options.limits.lease_ms = LEASE_MS;
    if role.name == "serve short" {
        let few = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
        setrlimit(Resource::Nofile, few).expect("less is always allowed");
        options.limits.sign_in_ms = 500;
    }
    match &*role.name {
        "serve hasty" => options.limits.sign_in_ms = 500,
        "serve brief" => options.limits.lease_ms = BRIEF_MS,
        _ => {}
    }
    let host = spawn_host(options);
    for line in [host.unix(), host.quic(), &**host.authkey.to_hex()] {
        role.say(line);
    }
    role.wait();
}

/// The role `write late`: takes the lock `x`, and when it is told to, writes `y` under it. Says what becomes of it.
pub(crate) fn play_writer(role: &Role) {
    // Its session is to live, and to learn, while this thread waits.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = ConnectOptions::new().authkey(role.authkey.clone());
        let manager = options.connect(&role.address).await.expect("the host lets its admin in");
        let ended = Arc::new(Notify::new());
        let tell = Arc::clone(&ended);
        manager.on_event(move |event| {
            if let SessionEvent::Ended { .. } = event {
                tell.notify_one();
            }
        });
        let (lock, value) = (manager.named::<Lock>("x").await, manager.find("y").await);
        let (lock, value) = (lock.expect("the lock has this name"), value.expect("the value has this name"));
        let held = lock.acquire().await.expect("the lock is free");
        value.call::<i64>("get", ()).await.expect("answered");
        assert!(held.is_held());
        role.say("held");
        role.wait();
        let outcome = value.call::<()>("set", (1,)).guard(&held).await;
        role.say(&outcome.map_or_else(|error| format!("{:?}", error.effect()), |()| "written".into()));
        ended.notified().await;
        role.say(if held.is_held() { "held" } else { "lost" });
    });
}

pub(crate) struct HostProcess {
    pub(crate) process: ClientProcess,
    pub(crate) address: String,
    /// By the other transport.
    other_address: String,
    authkey: AuthKey,
}

impl HostProcess {
    pub(crate) fn start(role: &str, over_quic: bool) -> Self {
        let process = ClientProcess::start_alone(role);
        let (unix, quic, key) = (process.line(), process.line(), process.line());
        let authkey = AuthKey::from_hex(&key).expect("a key in hex");
        let (address, other_address) = if over_quic { (quic, unix) } else { (unix, quic) };
        Self { process, address, other_address, authkey }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::new().authkey(self.authkey.clone())
    }

    pub(crate) async fn manager(&self) -> Manager {
        self.options().connect(&self.address).await.expect("the host lets its admin in")
    }

    /// The processor time that it has taken so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().expect("a number"));
        let (user, system) = (ticks.next().expect("utime"), ticks.next().expect("stime"));
        Duration::from_secs(1) * u32::try_from(user + system).expect("little")
            / u32::try_from(rustix::param::clock_ticks_per_second()).expect("little")
    }
}

fn signal(process: &ClientProcess, signal: Signal) {
    let pid = Pid::from_raw(process.id().try_into().expect("a process id")).expect("not 0");
    kill_process(pid, signal).expect("it is this process's child");
}

/// Stops all of its threads.
async fn stop(process: &ClientProcess) {
    signal(process, Signal::STOP);
    let tasks = format!("/proc/{}/task", process.id());
    until("every thread has stopped", async || {
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            let (_, state) = stat.rsplit_once(')')?;
            state.trim_start().starts_with('T').then_some(())
        };
        std::fs::read_dir(&tasks).expect("the process is there").map(is_stopped).collect::<Option<()>>()
    })
    .await;
}

on_both! {
    pause_of_the_host_costs_nobody_a_lock => host_pauses;
    pause_of_the_host_ends_no_session_however_short_the_lease => host_pauses_briefly;
    stopped_client_loses_its_lock_and_does_no_harm_with_it => client_pauses;
    calls_to_a_host_that_stopped_for_good_end_as_unknown => host_stops;
}

async fn host_pauses(over_quic: bool) {
    let host = HostProcess::start("serve", over_quic);
    let (manager, other) = (host.manager().await, host.manager().await);
    let (lock, value) = (manager.named::<Lock>("x").await.expect("made"), manager.value("i", &0).await.expect("made"));
    let held = lock.acquire().await.expect("free");
    let same: Lock = other.named("x").await.expect("found");
    let waiting = tokio::spawn(same.acquire().into_future());
    parked(&manager, lock_proxy(&lock), 1).await;
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    held.on_lost(move || {
        tell.fetch_add(1, Ordering::Relaxed);
    });
    assert!(held.is_held());

    let start = Instant::now();
    stop(&host.process).await;
    until("the lock is doubted", async || (told.load(Ordering::Relaxed) == 1).then_some(())).await;
    assert!(!held.is_held());
    let pause = Duration::from_millis(LEASE_MS + 500);
    until("the lease is over by any clock", async || (start.elapsed() > pause).then_some(())).await;
    signal(&host.process, Signal::CONT);

    value.set(&1).guard(&held).await.expect("the host took nothing away from anybody");
    until("it is believed in again", async || held.is_held().then_some(())).await;
    assert!(!waiting.is_finished());
    held.release().await.expect("held");
    let next = soon("the lock", waiting).await.expect("no panic").expect("granted");
    assert!(!next.is_abandoned());
    next.release().await.expect("held");
    assert_eq!(told.load(Ordering::Relaxed), 1, "told once");
    drop((value, lock, same));
    manager.close().await;
    other.close().await;
    host.process.finish();
}

/// Also of a client that says nothing meanwhile, which the host looks at before it reads anything.
async fn host_pauses_briefly(over_quic: bool) {
    let host = HostProcess::start("serve brief", over_quic);
    let mut client = RawClient::open(&host.address).await.expect("the host listens");
    client.sign_in("default", "default", host.authkey.as_bytes()).await.expect("signed in");
    let lock = client.create("Lock", &[]).await.expect("made");
    client.call(lock, "acquire", &[]).await.expect("free");
    stop(&host.process).await;
    let start = Instant::now();
    let pause = Duration::from_millis(BRIEF_MS + 50);
    until("its lease is over by any clock", async || (start.elapsed() > pause).then_some(())).await;
    signal(&host.process, Signal::CONT);
    // A name that goes by itself shows that the host has looked.
    let manager = host.manager().await;
    drop(manager.create_named_for("idle", Duration::from_millis(1), "list", ()).await.expect("made"));
    let objects = async || manager.number_of_objects().await.expect("answered");
    until("the host looks", async || (objects().await == 1).then_some(())).await;
    client.call(lock, "release", &[]).await.expect("the host took nothing away from anybody");
    manager.close().await;
    drop(client);
    host.process.finish();
}

fn lock_proxy(lock: &Lock) -> &steward_client::Proxy {
    steward_client::Typed::proxy(lock)
}

async fn client_pauses(over_quic: bool) {
    let mut options = HostOptions::default();
    options.limits.lease_ms = LEASE_MS;
    let host = spawn_host(options);
    let manager = host.manager().await;
    let (lock, value): (Lock, Value<i64>) = (manager.named("x").await.expect("made"), made(&manager, "y").await);
    let address = if over_quic { host.quic() } else { host.unix() };
    let mut client = ClientProcess::start(&host, address, "write late");
    assert_eq!(client.line(), "held");
    let waiting = tokio::spawn(lock.acquire().into_future());
    parked(&manager, lock_proxy(&lock), 1).await;
    stop(&client).await;
    let held = soon("the lock", waiting).await.expect("no panic").expect("granted");
    assert!(held.is_abandoned());
    value.set(&7).guard(&held).await.expect("held");
    signal(&client, Signal::CONT);
    client.go_on();
    let outcome = client.line();
    assert!(matches!(&*outcome, "Refused" | "Unknown"), "{outcome}");
    assert_eq!(client.line(), "lost");
    assert_eq!(value.get().await.expect("answered"), 7);
    held.release().await.expect("held");
    client.finish();
}

async fn made(manager: &Manager, name: &str) -> Value<i64> {
    let proxy = manager.create_named(name, "Value", ("i", 0)).await.expect("made");
    steward_client::Typed::from_proxy(proxy).expect("a Value")
}

/// CPython's client waits without limit.
async fn host_stops(over_quic: bool) {
    let host = HostProcess::start("serve", over_quic);
    let options = host.options().reconnect_for(Duration::from_millis(500)).timeout(Duration::from_secs(1));
    let manager = options.connect(&host.address).await.expect("connected");
    let queue: Queue<u32> = manager.named("q").await.expect("made");
    let getting = tokio::spawn(queue.get().into_future());
    parked(&manager, steward_client::Typed::proxy(&queue), 1).await;
    stop(&host.process).await;
    let putting = tokio::spawn(queue.put(&1).into_future());
    for error in [
        soon("the parked call", getting).await.expect("no panic").expect_err("no answer"),
        soon("the other call", putting).await.expect("no panic").expect_err("no answer"),
    ] {
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
    }
    host.process.kill();
}

/// CPython's accept loop spins, and its shutdown hangs.
#[tokio::test]
async fn host_without_descriptors_serves_who_is_in_and_then_newcomers() {
    let host = HostProcess::start("serve short", false);
    let manager = host.manager().await;
    let queue = manager.queue::<u32>(0).await.expect("made");
    let (cpu, start) = (host.cpu(), Instant::now());
    let mut silent = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        // The system takes them, the host has no descriptors for all of them.
        silent.push(RawClient::open(&host.address).await.expect("the backlog has room"));
    }
    queue.put(&1).await.expect("put");
    assert_eq!(queue.get().await.expect("an item"), 1);
    // What comes by QUIC needs no descriptor.
    let by_quic = soon("a newcomer by QUIC", host.options().connect(&host.other_address)).await.expect("let in");
    by_quic.ping().await.expect("served");
    // Who says nothing is shown out in time, and others come in; who comes meanwhile waits.
    let newcomer = soon("a newcomer", host.manager()).await;
    newcomer.ping().await.expect("served");
    let (cpu, time) = (host.cpu() - cpu, start.elapsed());
    assert!(cpu < time / 2, "it rested, and did not spend {cpu:?} of {time:?} on trying");
    drop(silent);
    by_quic.close().await;
    let shut = soon("the shutdown", manager.shutdown()).await;
    shut.expect("the host ends");
    newcomer.close().await;
    host.process.finish();
}
