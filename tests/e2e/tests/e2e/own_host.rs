//! Hosts that a program starts for itself: they end with it, however it ends.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use steward_client::{AnyValue, ConnectOptions, Error, Manager, StartOptions};
use steward_objects::Effect;
use steward_test_support::{ClientProcess, Role, parked, soon, steward_program, until};

fn options() -> StartOptions {
    StartOptions::new().program(steward_program()).arg("--no-quic")
}

async fn start() -> (Manager, u32) {
    let manager = Manager::start(options()).await.expect("the host starts");
    let id = manager.host_process().expect("started here").id();
    (manager, id)
}

/// Whether the process runs. A zombie does not: whoever adopted it may take its time.
fn is_alive(id: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

async fn gone(id: u32) {
    until(&format!("host {id} has ended"), async || {
        // Another task of this process reaps it.
        tokio::task::yield_now().await;
        (!is_alive(id)).then_some(())
    })
    .await;
}

/// The role `start a host`.
pub(crate) fn play(role: &Role) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (manager, id) = start().await;
        role.say(&id.to_string());
        role.say(manager.address());
        role.wait();
    });
}

#[tokio::test]
async fn host_serves_its_program_and_ends_when_told() {
    let (manager, id) = start().await;
    let queue = manager.queue::<u8>(0).await.expect("made");
    queue.put(&1).await.expect("put");
    assert_eq!(queue.get().await.expect("got"), 1);
    let clone = manager.clone();
    soon("shutdown", manager.shutdown()).await.expect("ended");
    assert!(!is_alive(id));
    let status = clone.host_process().and_then(|host| host.exit_status()).expect("it has ended");
    assert!(status.success(), "{status}");
    let error = queue.get().await.expect_err("the host is gone");
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    soon("a second shutdown", clone.shutdown()).await.expect("may be called many times");
}

#[tokio::test]
async fn host_ends_with_the_last_manager() {
    let (manager, id) = start().await;
    let clone = manager.clone();
    drop(manager);
    clone.ping().await.expect("a clone keeps it");
    drop(clone);
    gone(id).await;
}

/// CPython's manager process lives for ever.
#[tokio::test]
async fn host_ends_when_its_program_is_killed() {
    let client = ClientProcess::start_alone("start a host");
    let id: u32 = client.line().parse().expect("a process id");
    assert!(client.line().starts_with("steward+unix://"));
    assert!(is_alive(id));
    client.kill();
    gone(id).await;
}

#[tokio::test]
async fn host_that_is_terminated_says_goodbye_first() {
    let (manager, id) = start().await;
    let queue = manager.queue::<u8>(0).await.expect("made");
    let getting = tokio::spawn(queue.get().into_future());
    parked(&manager, queue.proxy(), 1).await;
    let pid = Pid::from_raw(id.try_into().expect("a process id")).expect("not 0");
    kill_process(pid, Signal::TERM).expect("it is this process's child");
    let error = soon("the parked call", getting).await.expect("no panic").expect_err("given up");
    assert_eq!(error.effect(), Effect::Refused, "nothing happened: {error}");
    gone(id).await;
    let host = manager.host_process().expect("started here");
    let status = until("its exit status", async || host.exit_status()).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn host_takes_no_other_key() {
    let (manager, _) = start().await;
    let key = steward_client::AuthKey::new(vec![7; 32]).expect("long enough");
    let error = ConnectOptions::new().authkey(key).connect(manager.address()).await.expect_err("the wrong key");
    assert!(matches!(error, Error::SignIn { .. }), "{error}");
    manager.objects().await.expect("its program is its admin");
}

#[tokio::test]
async fn start_tells_why_it_failed() {
    let missing = StartOptions::new().program("/no/such/program");
    let error = Manager::start(missing).await.expect_err("no such program");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = Manager::start(options().arg("--no-such-flag")).await.expect_err("it ends");
    assert!(error.to_string().contains("--no-such-flag"), "its own words are shown: {error}");
    let silent = StartOptions::new().program("/bin/cat").timeout(Duration::from_millis(1));
    assert!(matches!(Manager::start(silent).await.expect_err("no host"), Error::Start(_)));
}

#[tokio::test]
async fn two_hosts_of_one_program_are_apart() {
    let ((one, _), (other, _)) = (start().await, start().await);
    let list = one.list::<AnyValue>().await.expect("made");
    assert_eq!(one.number_of_objects().await.expect("answered"), 1);
    assert_eq!(other.number_of_objects().await.expect("answered"), 0);
    let error = other.proxy(&list.proxy().token()).expect_err("kept elsewhere");
    assert!(matches!(error, Error::Config(_)), "{error}");
}
