//! Registered types: what they expose, what their results become, where their objects come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use steward_client::{AnyValue, Queue};
use steward_host::{Registration, Source};
use steward_objects::{Args, Effect, Fault, Input, Outbox, Referent, common};
use steward_test_support::{HostOptions, TestHost, spawn_host};
use steward_wire::describe::{MethodInfo, TypeInfo};

pub(super) fn method(name: &str) -> MethodInfo {
    MethodInfo {
        name: name.into(),
        params: Vec::new(),
        doc: "For the test.".into(),
        read_only: false,
        may_park: false,
        result_type: String::new(),
        returns: None,
        exposed: true,
    }
}

/// A counter in the embedder's own Rust. `items` gives a plain list, `fail` panics.
struct Counter(u64);

impl Referent for Counter {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        let Input::Call(call) = input else { return };
        match call.method {
            0 => {
                self.0 += 1;
                out.returns_int(call.id, self.0 as i64);
                out.changed();
            }
            1 => out.returns_item(call.id, b"\x82\x01\x02"),
            2 => panic!("as asked"),
            common::GET_VALUE => out.returns_int(call.id, self.0 as i64),
            _ => out.raises(call.id, &Fault::refused("NotExposed", "no such method")),
        }
    }
}

fn counter() -> Source {
    let info = TypeInfo {
        typeid: "Counter".into(),
        doc: "Counts.".into(),
        constructor: Vec::new(),
        methods: vec![method("next"), method("items"), method("fail")],
    };
    let make = |args: Args<'_>, _: &mut Outbox| {
        let [] = args.bind("Counter.__init__", &[])?;
        Ok(Box::new(Counter(0)) as Box<dyn Referent>)
    };
    Source::Constructor(info, Arc::new(make))
}

/// Answers with the thread that steps it, and may have something in common with others that are stepped.
struct Threaded(Arc<AtomicBool>);

impl Referent for Threaded {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        let Input::Call(call) = input else { return };
        out.returns_text(call.id, std::thread::current().name().unwrap_or_default());
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn host(types: Vec<Registration>) -> TestHost {
    spawn_host(HostOptions { types, ..HostOptions::default() })
}

/// The thread of a transport has others to serve.
#[tokio::test]
async fn transport_does_not_wait_for_a_referent_that_is_busy_with_another() {
    let busy = Arc::new(AtomicBool::new(false));
    let shared = busy.clone();
    let info = TypeInfo { typeid: "Threaded".into(), methods: vec![method("thread")], ..TypeInfo::default() };
    let make = move |_: Args<'_>, _: &mut Outbox| Ok(Box::new(Threaded(shared.clone())) as Box<dyn Referent>);
    let host = host(vec![Registration::new("Threaded", Source::Constructor(info, Arc::new(make)))]);
    let manager = host.connect(host.unix()).await;
    let object = manager.create("Threaded", ()).await.expect("made");
    for (is_busy, expected) in [(false, "steward-unix"), (true, "steward-pool"), (false, "steward-unix")] {
        busy.store(is_busy, Ordering::Relaxed);
        let thread = object.call::<String>("thread", ()).await.expect("answered");
        assert!(thread.starts_with(expected), "{thread}");
    }
}

#[tokio::test]
async fn type_of_the_embedder_is_served_as_any_other() {
    let host = host(vec![Registration::new("Counter", counter())]);
    let manager = host.connect(host.quic()).await;
    let counter = manager.create("Counter", ()).await.expect("made");
    assert_eq!(counter.call::<u64>("next", ()).await.expect("answered"), 1);
    assert_eq!(counter.call::<u64>("next", ()).await.expect("answered"), 2);
    assert_eq!(counter.value::<u64>().await.expect("copied"), 2);
    let error = manager.create("Counter", (1,)).await.expect_err("it takes no arguments");
    assert_eq!((error.effect(), error.kind()), (Effect::Raised, "TypeError"));
    let error = counter.call::<()>("missing", ()).await.expect_err("no such method");
    assert_eq!((error.effect(), error.kind()), (Effect::Refused, "NotExposed"));
}

#[tokio::test]
async fn panic_poisons_its_object_and_no_other() {
    let host = host(vec![Registration::new("Counter", counter())]);
    let manager = host.manager().await;
    let (bad, good) =
        (manager.create("Counter", ()).await.expect("made"), manager.create("Counter", ()).await.expect("made"));
    for method in ["fail", "next"] {
        let error = bad.call::<u64>(method, ()).await.expect_err("poisoned");
        assert_eq!(error.effect(), Effect::Poisoned);
        assert!(error.message().contains("as asked"), "{error}");
    }
    assert_eq!(good.call::<u64>("next", ()).await.expect("unharmed"), 1);
}

#[tokio::test]
async fn only_what_is_exposed_is_called() {
    let exposed = Some(vec!["put".to_owned(), "qsize".to_owned()]);
    let host = host(vec![Registration { exposed, ..Registration::new("Inbox", Source::Builtin("Queue")) }]);
    let manager = host.manager().await;
    let inbox = manager.create("Inbox", ()).await.expect("made");
    inbox.call::<()>("put", (1,)).await.expect("exposed");
    assert_eq!(inbox.call::<u64>("qsize", ()).await.expect("exposed"), 1);
    let error = inbox.call::<u64>("get", ()).await.expect_err("not exposed");
    assert_eq!(error.to_string(), "NotExposed: method `get` of typeid `Inbox` is not exposed");
    let info = inbox.describe().await.expect("described");
    let exposed: Vec<_> = info.methods.iter().filter(|method| method.exposed).map(|method| &*method.name).collect();
    assert_eq!(exposed, ["put", "qsize"]);
}

#[tokio::test]
async fn results_become_objects_by_method_to_typeid() {
    let method_to_typeid = vec![("items".to_owned(), "list".to_owned())];
    let host = host(vec![Registration { method_to_typeid, ..Registration::new("Counter", counter()) }]);
    for address in [host.unix(), host.quic()] {
        let manager = host.connect(address).await;
        let counter = manager.create("Counter", ()).await.expect("made");
        let items = counter.call_proxy("items", ()).await.expect("an object");
        assert_eq!(items.typeid(), "list");
        items.call::<()>("append", (3,)).await.expect("a list of its own");
        assert_eq!(items.value::<Vec<u8>>().await.expect("copied"), [1, 2, 3]);
        let again = counter.call_proxy("items", ()).await.expect("another object");
        assert_ne!(items.ident(), again.ident());
    }
}

/// `register('get_queue', callable=lambda: queue)` of CPython's documentation.
#[tokio::test]
async fn singleton_is_one_object_for_everybody() {
    let source = Source::Singleton { typeid: "Queue".into(), args: vec![0x82, 0x81, 0x05, 0xa0] };
    let host = host(vec![Registration::new("get_queue", source)]);
    host.keeps(1);
    let (one, other) = (host.manager().await, host.connect(host.quic()).await);
    let queue = one.create("get_queue", ()).await.expect("got");
    queue.call::<()>("put", ("job",)).await.expect("put");
    drop(queue);
    let again = other.create("get_queue", ()).await.expect("got");
    assert_eq!(again.call::<String>("get", ()).await.expect("still there"), "job");
    // `Queue(5)`: the arguments are the registration's.
    for _ in 0..5 {
        again.call::<()>("put", ((),)).blocking(false).await.expect("room");
    }
    assert!(again.call::<bool>("full", ()).await.expect("answered"));
}

#[tokio::test]
async fn type_without_create_method_only_comes_from_others() {
    let method_to_typeid = vec![("items".to_owned(), "Page".to_owned())];
    let host = host(vec![
        Registration { create_method: false, ..Registration::new("Page", Source::Builtin("list")) },
        Registration { method_to_typeid, ..Registration::new("Counter", counter()) },
    ]);
    let manager = host.manager().await;
    let error = manager.create("Page", ()).await.expect_err("not to be made");
    assert!(error.is("UnknownType"), "{error}");
    let counter = manager.create("Counter", ()).await.expect("made");
    assert_eq!(counter.call_proxy("items", ()).await.expect("an object").typeid(), "Page");
}

#[tokio::test]
async fn named_object_is_the_same_for_everybody_and_of_one_type() {
    let host = host(Vec::new());
    let (one, other) = (host.manager().await, host.connect(host.quic()).await);
    let queue: Queue<u8> = one.named("jobs").await.expect("made");
    let again: Queue<u8> = other.named("jobs").await.expect("found");
    assert_eq!(queue.proxy().ident(), again.proxy().ident());
    let error = other.create_named("jobs", "list", ()).await.expect_err("another type");
    assert!(error.is("WrongType"), "{error}");
    let error = other.find("nothing").await.expect_err("no such name");
    assert_eq!((error.effect(), error.kind()), (Effect::Raised, "KeyError"));
    let error = other.create("no such type", ()).await.expect_err("no such type");
    assert!(error.message().contains("known are") && error.message().contains("Queue"), "{error}");
}

/// A call that traps fails; its object, its neighbours of the same plugin, and the host live on.
#[tokio::test]
async fn guest_that_traps_harms_nobody() {
    let host = spawn_host(HostOptions { plugins: &["probe"], ..HostOptions::default() });
    let manager = host.connect(host.quic()).await;
    let (bad, good) =
        (manager.create("Probe", ()).await.expect("made"), manager.create("Probe", ()).await.expect("made"));
    let queue = manager.queue::<u8>(0).await.expect("made");
    let error = bad.call::<AnyValue>("trap", ()).await.expect_err("it trapped");
    assert_eq!((error.effect(), error.kind()), (Effect::Refused, "GuestTrap"), "{error}");
    bad.call::<AnyValue>("echo", (1,)).await.expect("made again");
    good.call::<AnyValue>("echo", (1,)).await.expect("unharmed");
    for endless in ["spin", "recurse", "grow"] {
        let object = manager.create("Probe", ()).await.expect("made");
        let error = object.call::<AnyValue>(endless, ()).await.expect_err("it is cut");
        assert_eq!((error.effect(), error.kind()), (Effect::Refused, "GuestTrap"), "{endless}: {error}");
    }
    queue.put(&1).await.expect("the host lives");
    good.call::<AnyValue>("echo", (2,)).await.expect("unharmed");
}
