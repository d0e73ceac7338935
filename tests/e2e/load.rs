//! Clients that call while the type of what they call is replaced: shared by a test and by the example that measures it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use steward_client::{Isolation, Manager, RegisterOptions};
use steward_test_support::{TestHost, component, soon, version};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) objects: usize,
    /// Calls that each client makes at least, and those between two replacements.
    pub(crate) calls: usize,
    /// What keeps the objects apart.
    pub(crate) isolation: Isolation,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) longest: Duration,
    pub(crate) moved: u64,
}

/// Registers the changeling's one type whose objects may share.
///
/// # Panics
/// If it is not accepted.
pub(crate) async fn register_changeling(admin: &Manager, component: &[u8], isolation: Isolation) {
    let typeid = Some("Changeling".to_owned());
    let options = RegisterOptions { typeid, isolation: Some(isolation), ..RegisterOptions::default() };
    admin.register_with(component, options).await.expect("the plugin is accepted");
}

/// Calls objects of a type that is replaced three times meanwhile, each with a call that waits through all of it.
///
/// # Panics
/// If a call is lost, fails or is executed twice.
pub(crate) async fn run(host: &TestHost, address: &str, load: Load) -> Seen {
    let Load { clients, objects, calls, isolation } = load;
    let changeling = component("changeling");
    let admin = host.connect(address).await;
    register_changeling(&admin, &changeling, isolation).await;
    let mut proxies = Vec::new();
    let mut waits = Vec::new();
    for number in 0..objects {
        let proxy = admin.create_named(&format!("sum-{number}"), "Changeling", ()).await.expect("there is room");
        let waiter = proxy.clone();
        waits.push(tokio::spawn(async move { waiter.call::<i64>("take_in_turn", (1_000_000,)).await }));
        proxies.push(proxy);
    }

    let ended = Arc::new(AtomicBool::new(false));
    let mut working = Vec::new();
    for client in 0..clients {
        let manager = host.connect(address).await;
        working.push(tokio::spawn(work(manager, client, objects, calls, Arc::clone(&ended))));
    }
    for next in ["2.0.7001", "3.0.7001", "4.0.7001"] {
        // So that every object is called before, between and after.
        for round in 0..calls {
            proxies[round % objects].call::<i64>("sum", ()).await.expect("reading does not fail");
        }
        let changed = version(&changeling, next, "changed.....", &[]);
        admin.register(&changed, true).await.expect("the plugin is accepted");
    }
    for proxy in &proxies {
        proxy.call::<i64>("sum", ()).await.expect("reading does not fail");
    }
    ended.store(true, Ordering::Relaxed);

    // What an object answered, in the order of its sums: each once, and all of them.
    let mut sums: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    let (mut made, mut longest) = (0, Duration::ZERO);
    for work in working {
        let (answers, slowest) = work.await.expect("no call fails");
        made += answers.len();
        longest = longest.max(slowest);
        answers.into_iter().for_each(|(object, sum)| sums.entry(object).or_default().push(sum));
    }
    for (number, proxy) in proxies.iter().enumerate() {
        let mut answered = sums.remove(&number).unwrap_or_default();
        answered.sort_unstable();
        assert_eq!(answered, (1..=answered.len() as i64).collect::<Vec<_>>(), "object {number}");
        let sum: i64 = proxy.call("sum", ()).await.expect("reading does not fail");
        assert_eq!(sum, answered.len() as i64, "object {number}");
        proxy.call::<i64>("add", (1_000_000,)).await.expect("adding does not fail");
    }
    for (number, wait) in waits.into_iter().enumerate() {
        let left = soon("what waited is answered", wait).await.expect("no panic").expect("waiting does not fail");
        assert!(left >= 0, "object {number}");
    }
    let plugins = admin.plugins().await.expect("an admin may ask");
    let report = plugins.iter().find(|plugin| plugin.typeid == "Changeling").expect("it is registered");
    assert_eq!((report.not_moved, report.traps), (0, 0), "{report:?}");
    assert_eq!(report.versions.len(), 1, "{report:?}");
    for number in 0..objects {
        admin.host_proxy().call::<()>("delete", (format!("sum-{number}"),)).await.expect("it has this name");
    }
    Seen { calls: made, longest, moved: report.moved }
}

async fn work(
    manager: Manager,
    client: usize,
    objects: usize,
    calls: usize,
    ended: Arc<AtomicBool>,
) -> (Vec<(usize, i64)>, Duration) {
    let mut proxies = Vec::new();
    for number in 0..objects {
        proxies.push(manager.find(&format!("sum-{number}")).await.expect("the object has this name"));
    }
    let (mut answers, mut longest) = (Vec::new(), Duration::ZERO);
    while answers.len() < calls || !ended.load(Ordering::Relaxed) {
        // Strides without a common divisor: clients meet at all objects.
        let object = (client * 7 + answers.len() * 13) % objects;
        let start = Instant::now();
        let sum = proxies[object].call::<i64>("add", (1,)).await.expect("no call fails");
        longest = longest.max(start.elapsed());
        answers.push((object, sum));
    }
    // It says goodbye: an object loses one when a session dies.
    manager.close().await;
    (answers, longest)
}
