//! Owners that wait for each other's locks, and objects that call each other.

use std::sync::Arc;

use steward_client::{Error, Lock, Manager, MethodInfo, Token, TypeInfo, Typed as _};
use steward_host::{Registration, Source};
use steward_objects::{Effect, Fault, Ident, Input, Invocation, Outbox, Referent};
use steward_test_support::{HostOptions, parked, soon, spawn_host, until};
use steward_wire::value;
use tokio::task::JoinHandle;

/// Each of two clients holds a lock and waits for the other's, which closes a cycle; gives both waits, once the cycle was listed
/// or the second one was refused, and the locks were let go.
async fn embrace(managers: [&Manager; 2], locks: [&Lock; 2], refuses: bool) -> [JoinHandle<Result<(), Error>>; 2] {
    // They know the host by different addresses.
    let token = |lock: &Lock| Token { address: None, ..lock.proxy().token() };
    let theirs =
        [0, 1].map(|at: usize| managers[at].proxy(&token(locks[1 - at])).and_then(Lock::from_proxy).expect("a lock"));
    let held = [locks[0].acquire().await.expect("free"), locks[1].acquire().await.expect("free")];
    let wait = |lock: Lock| tokio::spawn(async move { lock.acquire().await.map(drop) });
    let [theirs, other] = theirs;
    let first = wait(theirs);
    parked(managers[0], locks[1].proxy(), 1).await;
    let second = wait(other);
    until("the cycle is closed", async || {
        if refuses {
            return second.is_finished().then_some(());
        }
        assert!(!second.is_finished(), "it waits like any other call");
        let cycles = managers[0].deadlocks().await.expect("answered");
        let [cycle] = &cycles[..] else { return None };
        let locks = cycle.iter().map(|link| link.ident).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((cycle.len(), locks.len()), (2, 2), "{cycle:?}");
        Some(())
    })
    .await;
    drop(held);
    [first, second]
}

async fn end(wait: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    soon("the end of a wait", wait).await.expect("no panic")
}

#[tokio::test]
async fn cycle_of_owners_is_listed_until_it_is_broken() {
    let host = spawn_host(HostOptions::default());
    let (one, other) = (host.manager().await, host.connect(host.quic()).await);
    let locks = [one.lock().await.expect("made"), other.lock().await.expect("made")];
    for wait in embrace([&one, &other], [&locks[0], &locks[1]], false).await {
        end(wait).await.expect("granted once the other lets go");
    }
    assert!(one.deadlocks().await.expect("answered").is_empty());
}

#[tokio::test]
async fn lock_that_was_made_so_refuses_the_newest_waiter_of_a_cycle() {
    let host = spawn_host(HostOptions::default());
    let (one, other) = (host.manager().await, host.connect(host.quic()).await);
    let made = one.create("Lock", steward_client::args![refuse_deadlocks = true]).await.expect("made");
    let locks = [Lock::from_proxy(made).expect("a lock"), other.lock().await.expect("made")];
    let [first, refused] = embrace([&one, &other], [&locks[0], &locks[1]], true).await;
    let refused = end(refused).await.expect_err("it would wait for ever");
    assert_eq!((refused.effect(), refused.kind()), (Effect::Refused, "Deadlock"), "{refused}");
    end(first).await.expect("granted once the other lets go");
    assert!(one.deadlocks().await.expect("answered").is_empty());
}

/// Asks another object for the same.
#[derive(Default)]
struct Relay {
    to: Option<Ident>,
    asked: Option<steward_objects::CallId>,
}

impl Referent for Relay {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) if call.method == 0 => {
                let mut to = None;
                value::tokens(call.args.item(), &mut |ident| to = Some(ident));
                to.iter().for_each(|&ident| out.hold(ident));
                self.to = to;
                out.returns_null(call.id);
            }
            Input::Call(call) => {
                self.asked = Some(call.id);
                let (ident, args) = (self.to.expect("it was told whom to ask"), steward_objects::Args::none().item());
                out.invoke(Invocation { tag: 1, ident, method: "ask".into(), args: args.to_vec() });
            }
            Input::Returned { outcome, .. } => {
                let call = self.asked.take().expect("it has asked");
                match outcome {
                    Ok(item) => out.returns_item(call, item),
                    Err(fault) => out.raises(call, &Fault::raised("Asked", fault.kind.clone())),
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn call_chain_that_returns_to_an_object_that_waits_for_it_fails_at_once() {
    let method =
        |name: &str, may_park| MethodInfo { name: name.into(), may_park, exposed: true, ..MethodInfo::default() };
    let info = TypeInfo {
        typeid: "Relay".into(),
        methods: vec![method("ask_whom", false), method("ask", true)],
        ..TypeInfo::default()
    };
    let source = Source::Constructor(info, Arc::new(|_, _| Ok(Box::new(Relay::default()))));
    let host = spawn_host(HostOptions { types: vec![Registration::new("Relay", source)], ..HostOptions::default() });
    let manager = host.manager().await;
    let (a, b) = (manager.create("Relay", ()).await.expect("made"), manager.create("Relay", ()).await.expect("made"));
    a.call::<()>("ask_whom", steward_client::Args::new().arg(&b)).await.expect("told");
    b.call::<()>("ask_whom", steward_client::Args::new().arg(&a)).await.expect("told");
    let error = soon("the end of the chain", a.call::<()>("ask", ()).into_future()).await.expect_err("it never ends");
    assert_eq!(error.kind(), "Asked");
    assert_eq!(error.message(), "Asked", "b was told by a, which waits for b");
    let direct = soon("the end of the chain", b.call::<()>("ask", ()).into_future()).await.expect_err("nor this way");
    assert_eq!(direct.kind(), "Asked");
}
