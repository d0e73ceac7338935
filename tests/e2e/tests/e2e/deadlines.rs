//! Every call that may wait has a deadline, and answers at it as its method does.

use std::time::{Duration, Instant};

use steward_client::{AnyValue, Manager};
use steward_objects::BUILTINS;
use steward_test_support::{HostOptions, parked, soon, spawn_host, until};

const DEADLINE_MS: u64 = 40;

/// What a call answers that nobody answers: a value, or the kind of what it raises.
async fn at_deadline(manager: &Manager, typeid: &str, method: &str) -> Result<AnyValue, String> {
    let args = |typeid: &str| match typeid {
        "Semaphore" | "BoundedSemaphore" => vec![AnyValue::Int(0)],
        "Barrier" => vec![AnyValue::Int(2)],
        // Full with one item.
        "Queue" | "JoinableQueue" | "LifoQueue" | "PriorityQueue" => vec![AnyValue::Int(1)],
        _ => vec![],
    };
    let made = args(typeid).iter().fold(steward_client::Args::new(), |args, value| args.arg(value));
    let object = manager.create(typeid, made).await.expect("made");
    let other = object.with_owner(manager.owner());
    match (typeid, method) {
        ("Lock" | "RLock" | "Condition", "acquire") => assert!(other.call::<bool>("acquire", ()).await.expect("free")),
        ("Condition", "wait") => assert!(object.call::<bool>("acquire", ()).await.expect("free")),
        (_, "put" | "put_many" | "join") => object.call("put", (1,)).await.expect("room"),
        _ => {}
    }
    let args = match method {
        "put" => steward_client::args![2],
        "put_many" => steward_client::args![[2]],
        "get_many" => steward_client::args![3],
        "get_leased" => steward_client::args![1_000],
        _ => steward_client::args![],
    };
    let start = Instant::now();
    let call = object.call::<AnyValue>(method, args).deadline_ms(DEADLINE_MS);
    let outcome = soon(method, call.into_future()).await.map_err(|error| error.kind().to_owned());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(DEADLINE_MS), "{typeid}.{method} answers after {waited:?}");
    outcome
}

#[tokio::test]
async fn every_call_that_parks_answers_at_its_deadline() {
    let host = spawn_host(HostOptions::default());
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        for builtin in BUILTINS {
            for method in builtin.methods.iter().filter(|method| method.may_park) {
                let expected = match (builtin.typeid, method.name) {
                    (_, "get" | "get_many" | "get_leased") => Err("Empty"),
                    (_, "put" | "put_many") => Err("Full"),
                    (_, "join") => Err("TimeoutError"),
                    ("Barrier", "wait") => Err("BrokenBarrierError"),
                    (_, "acquire" | "wait") => Ok(AnyValue::Bool(false)),
                    (typeid, method) => panic!("{typeid}.{method} parks: say what it answers at its deadline"),
                };
                let found = at_deadline(&manager, builtin.typeid, method.name).await;
                assert_eq!(found, expected.map_err(str::to_owned), "{}.{}", builtin.typeid, method.name);
            }
        }
    }
}

#[tokio::test]
async fn deadline_of_a_plugin_s_call_is_kept() {
    let host = spawn_host(HostOptions { plugins: &["rwlock"], ..HostOptions::default() });
    let manager = host.manager().await;
    let lock = manager.create("RWLock", ()).await.expect("made");
    assert!(lock.call::<bool>("acquire_write", ()).await.expect("free"));
    let start = Instant::now();
    assert!(!lock.call::<bool>("acquire_read", ()).deadline_ms(DEADLINE_MS).await.expect("answered"));
    assert!(start.elapsed() >= Duration::from_millis(DEADLINE_MS));
}

/// Each is earlier than the one before, so that the clock has to be asked for it.
#[tokio::test]
async fn deadlines_that_come_to_nothing_leave_no_timers() {
    let host = spawn_host(HostOptions::default());
    let manager = host.connect(host.quic()).await;
    let event = manager.event().await.expect("made");
    for round in 0..50 {
        let waiting = tokio::spawn(event.wait().deadline_ms(1_000_000 - 1_000 * round).into_future());
        parked(&manager, event.proxy(), 1).await;
        event.set().await.expect("set");
        assert!(soon("the wait", waiting).await.expect("no panic").expect("set"));
        event.clear().await.expect("cleared");
    }
    until("nobody waits for any time", async || (host.counters("default").timers == 0).then_some(())).await;
    assert!(!event.wait().deadline_ms(1).await.expect("answered"), "the clock serves it as before");
}
