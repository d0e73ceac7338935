//! Clients are killed in whatever they wait for or hold; whoever lives goes on.
//!
//! On the Unix socket the host sees it at once, over QUIC by the end of the lease. Either way a test waits for the dead
//! one's calls to be gone before it looks at what the living get.

use std::sync::Arc;

use steward_client::{AnyValue, Manager, Proxy, Typed as _};
use steward_objects::Effect;
use steward_test_support::{ClientProcess, Role, TestHost, parked, soon, until};

use crate::{on_both, quick_host, quick_host_with};

/// The role `OBJECT METHOD METHOD=NUMBER…`: calls them one after the other and says each that was answered.
pub(crate) fn play(role: &Role) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut words = role.name.split(' ');
    let name = words.next().expect("a role names an object");
    runtime.block_on(async {
        let options = steward_client::ConnectOptions::new().authkey(role.authkey.clone());
        let manager = options.connect(&role.address).await.expect("the host lets its admin in");
        let object = manager.find(name).await.expect("the object has this name");
        // Results stay: they may be objects, which live for as long as this process holds them.
        let mut results = Vec::new();
        for word in words {
            let call = match word.split_once('=') {
                Some((method, number)) => object.call_item(method, (number.parse::<i64>().expect("a number"),)),
                None => object.call_item(word, ()),
            };
            results.push(call.await.expect("the call is answered"));
            role.say(word);
        }
        // The session must go on to live while this waits for its parent, or its death.
        let waiting = tokio::task::spawn_blocking({
            let role = Role { name: String::new(), address: String::new(), authkey: role.authkey.clone() };
            move || role.wait()
        });
        waiting.await.expect("waiting does not fail");
        manager.close().await;
    });
}

/// A host, its admin, and an object that the processes of the test find by the name `x`.
struct Stage {
    address: String,
    manager: Manager,
    object: Proxy,
    // After its clients, whom it sees off.
    host: TestHost,
}

impl Stage {
    async fn set(host: TestHost, over_quic: bool, typeid: &str, args: impl steward_client::IntoArgs) -> Self {
        let address = if over_quic { host.quic() } else { host.unix() }.to_owned();
        // The living use the Unix socket: their life does not depend on the lease.
        let manager = host.manager().await;
        let object = manager.create_named("x", typeid, args).await.expect("the object is made");
        Self { host, address, manager, object }
    }

    fn client(&self, methods: &str) -> ClientProcess {
        ClientProcess::start(&self.host, &self.address, &format!("x {methods}"))
    }

    async fn parked(&self, count: u64) {
        parked(&self.manager, &self.object, count).await;
    }

    async fn call(&self, method: &str) -> AnyValue {
        self.call_with(method, ()).await
    }

    async fn call_with(&self, method: &str, args: impl steward_client::IntoArgs) -> AnyValue {
        soon(method, self.object.call(method, args).into_future()).await.expect("the call is answered")
    }
}

on_both! {
    item_is_not_lost_to_a_dead_getter => getter;
    lock_is_not_stuck_with_a_dead_waiter => lock_waiter;
    lock_of_a_dead_holder_goes_on_as_abandoned => lock_holder;
    rlock_of_a_dead_owner_is_released_once => rlock_owner;
    notification_reaches_the_living => condition_waiter;
    barrier_breaks_when_a_party_dies => barrier_party;
    permits_of_the_dead_come_back => semaphore_holder;
    permit_is_not_given_to_the_dead => semaphore_waiter;
    dead_putter_leaves_no_item => putter;
    set_event_is_not_in_the_way_of_the_dead => event_waiter;
    joiner_that_dies_is_gone => joiner;
    plugin_lock_of_a_dead_holder_goes_on => plugin_holder;
    plugin_queue_loses_nothing_to_a_dead_getter => plugin_getter;
}

/// CPython's server thread stays in `get` and eats the next item.
async fn getter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Queue", ()).await;
    let client = stage.client("get");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    stage.call_with("put", ("item",)).await;
    assert_eq!(stage.call("get").await, AnyValue::Text("item".into()));
}

async fn plugin_getter(over_quic: bool) {
    let stage = Stage::set(quick_host_with(&["conformance"]), over_quic, "GuestQueue", ()).await;
    let client = stage.client("get");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    stage.call_with("put", ("item",)).await;
    assert_eq!(stage.call("get").await, AnyValue::Text("item".into()));
}

/// CPython's server thread later takes the lock and dies with it.
async fn lock_waiter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Lock", ()).await;
    stage.call("acquire").await;
    let client = stage.client("acquire");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    stage.call("release").await;
    assert_eq!(stage.call("locked").await, AnyValue::Bool(false));
    let held = steward_client::Lock::from_proxy(stage.object.clone()).expect("a Lock").acquire().await.expect("free");
    assert!(!held.is_abandoned(), "the dead one never held it");
    held.release().await.expect("held");
}

/// CPython leaves the lock taken for ever.
async fn lock_holder(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Lock", ()).await;
    let client = stage.client("acquire");
    assert_eq!(client.line(), "acquire");
    let lock = steward_client::Lock::from_proxy(stage.object.clone()).expect("a Lock");
    let acquiring = tokio::spawn(lock.acquire().into_future());
    stage.parked(1).await;
    client.kill();
    let held = soon("the lock", acquiring).await.expect("no panic").expect("the lock is granted");
    assert!(held.is_abandoned(), "its next holder can see that the last one died");
    held.release().await.expect("held");
    let held = lock.acquire().await.expect("free");
    assert!(!held.is_abandoned(), "but only the next one");
}

/// CPython reuses the dead one's thread id, whose next bearer owns the lock.
async fn rlock_owner(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "RLock", ()).await;
    let client = stage.client("acquire acquire");
    assert_eq!((&*client.line(), &*client.line()), ("acquire", "acquire"));
    let lock = steward_client::RLock::from_proxy(stage.object.clone()).expect("an RLock");
    assert!(lock.try_acquire().await.expect("answered").is_none());
    let acquiring = tokio::spawn(lock.acquire().into_future());
    stage.parked(1).await;
    client.kill();
    let held = soon("the lock", acquiring).await.expect("no panic").expect("the lock is granted");
    assert!(held.is_abandoned());
    let other = lock.with_owner(stage.manager.owner());
    assert!(other.try_acquire().await.expect("answered").is_none(), "one owner at a time");
    held.release().await.expect("held");
    assert_eq!(stage.call("locked").await, AnyValue::Bool(false));
}

/// CPython spends the notification on the dead one, whose thread then keeps the lock.
async fn condition_waiter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Condition", ()).await;
    let dead = stage.client("acquire wait");
    assert_eq!(dead.line(), "acquire");
    stage.parked(1).await;
    let living = stage.client("acquire wait release");
    assert_eq!(living.line(), "acquire");
    stage.parked(2).await;
    dead.kill();
    stage.parked(1).await;
    stage.call("acquire").await;
    stage.call_with("notify", (1,)).await;
    stage.call("release").await;
    assert_eq!((&*living.line(), &*living.line()), ("wait", "release"));
    assert_eq!(stage.call("locked").await, AnyValue::Bool(false));
    living.finish();
}

/// CPython counts the dead as present.
async fn barrier_party(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Barrier", (3,)).await;
    let client = stage.client("wait");
    stage.parked(1).await;
    let waiting = tokio::spawn(stage.object.call::<AnyValue>("wait", ()).into_future());
    stage.parked(2).await;
    client.kill();
    let error = soon("the barrier", waiting).await.expect("no panic").expect_err("the barrier breaks");
    assert_eq!((error.effect(), error.kind()), (Effect::Raised, "BrokenBarrierError"));
    assert_eq!(stage.call("broken").await, AnyValue::Bool(true));
}

async fn semaphore_holder(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "BoundedSemaphore", (3,)).await;
    let client = stage.client("acquire acquire");
    assert_eq!((&*client.line(), &*client.line()), ("acquire", "acquire"));
    stage.call("acquire").await;
    assert_eq!(stage.call("get_value").await, AnyValue::Int(0));
    client.kill();
    until("two permits come back", async || (stage.call("get_value").await == AnyValue::Int(2)).then_some(())).await;
    stage.call("release").await;
    let error = stage.object.call::<()>("release", ()).await.expect_err("no permit came back twice");
    assert_eq!(error.kind(), "ValueError");
}

async fn semaphore_waiter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Semaphore", (0,)).await;
    let client = stage.client("acquire");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    stage.call("release").await;
    assert_eq!(stage.call("get_value").await, AnyValue::Int(1));
}

async fn putter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Queue", (1,)).await;
    stage.call_with("put", (1,)).await;
    let client = stage.client("put=2");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    assert_eq!(stage.call("get").await, AnyValue::Int(1));
    assert_eq!(stage.call("qsize").await, AnyValue::Int(0));
}

async fn event_waiter(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "Event", ()).await;
    let (dead, living) = (stage.client("wait"), stage.client("wait"));
    stage.parked(2).await;
    dead.kill();
    stage.parked(1).await;
    stage.call("set").await;
    assert_eq!(living.line(), "wait");
    living.finish();
}

async fn joiner(over_quic: bool) {
    let stage = Stage::set(quick_host(), over_quic, "JoinableQueue", ()).await;
    stage.call_with("put", (1,)).await;
    let client = stage.client("join");
    stage.parked(1).await;
    client.kill();
    stage.parked(0).await;
    stage.call("task_done").await;
    stage.call("join").await;
}

async fn plugin_holder(over_quic: bool) {
    let stage = Stage::set(quick_host_with(&["rwlock"]), over_quic, "RWLock", ()).await;
    let client = stage.client("acquire_write");
    assert_eq!(client.line(), "acquire_write");
    assert_eq!(stage.call("writing").await, AnyValue::Bool(true));
    let object = stage.object.clone();
    let reading = tokio::spawn(object.call::<bool>("acquire_read", ()).into_future());
    stage.parked(1).await;
    client.kill();
    assert!(soon("the lock", reading).await.expect("no panic").expect("granted"));
    assert_eq!(stage.call("writing").await, AnyValue::Bool(false));
}

/// A goodbye is not a death: CPython leaves the lock taken, and so does this host.
#[tokio::test]
async fn orderly_goodbye_leaves_a_lock_taken_and_an_rlock_free() {
    let host = Arc::new(quick_host());
    let manager = host.manager().await;
    let lock = manager.create_named("x", "Lock", ()).await.expect("made");
    let rlock = manager.create_named("y", "RLock", ()).await.expect("made");
    let mut clients =
        [ClientProcess::start(&host, host.quic(), "x acquire"), ClientProcess::start(&host, host.quic(), "y acquire")];
    for client in &mut clients {
        assert_eq!(client.line(), "acquire");
    }
    clients.into_iter().for_each(ClientProcess::finish);
    until("the rlock is free", async || (!rlock.call::<bool>("locked", ()).await.expect("answered")).then_some(()))
        .await;
    assert!(lock.call::<bool>("locked", ()).await.expect("answered"), "nobody has released it");
    lock.call::<()>("release", ()).await.expect("anybody may");
}
