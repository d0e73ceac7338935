//! Plugins that come and go while a host runs, and what their objects live through meanwhile.

use steward_client::{Error, Isolation, Manager};
use steward_host::{Registration, Source};
use steward_test_support::{HostOptions, component, plugin, spawn_host, version};
use steward_wire::Effect;

use super::load::{self, Load, register_changeling};
use super::on_both;

on_both! {
    type_is_replaced_under_load => replaced_under_load;
    type_whose_objects_share_is_replaced_under_load => shared_replaced_under_load;
}

async fn replaced_under_load(quic: bool) {
    replaced_under_load_with(Isolation::Object, quic).await;
}

async fn shared_replaced_under_load(quic: bool) {
    replaced_under_load_with(Isolation::Shared, quic).await;
}

async fn replaced_under_load_with(isolation: Isolation, quic: bool) {
    let host = spawn_host(HostOptions::default());
    let address = if quic { host.quic() } else { host.unix() };
    let seen = load::run(&host, address, Load { clients: 4, objects: 11, calls: 100, isolation }).await;
    assert!(seen.calls >= 400 && seen.moved >= 11 && !seen.longest.is_zero(), "{seen:?}");
}

#[track_caller]
fn refused(error: Error) -> String {
    assert_eq!(error.effect(), Effect::Refused, "{error}");
    error.kind().to_owned()
}

async fn register(manager: &Manager, component: &[u8]) {
    manager.register(component, false).await.expect("the plugin is accepted");
}

/// Every two hundredth call traps. It fails; all others have their effect, and other objects notice nothing.
#[tokio::test]
async fn object_that_traps_now_and_then_loses_nothing_and_its_neighbours_do_not_notice() {
    traps_now_and_then(Isolation::Object, 10).await;
}

#[tokio::test]
async fn neighbours_do_not_notice_if_they_share_either() {
    // They are made again, too.
    traps_now_and_then(Isolation::Shared, 20).await;
}

async fn traps_now_and_then(isolation: Isolation, recovered: u64) {
    let host = spawn_host(HostOptions::default());
    let manager = host.connect(host.quic()).await;
    register_changeling(&manager, &component("changeling"), isolation).await;
    let object = manager.create("Changeling", ()).await.unwrap();
    let neighbour = manager.create("Changeling", ()).await.unwrap();
    let mut sum = 0;
    for round in 1..=2_000 {
        if round % 200 == 0 {
            let error = object.call::<i64>("trap", (1,)).await.unwrap_err();
            assert_eq!(refused(error), "GuestTrap");
            // Enough of them in between, so that it is not slowed down.
            assert_eq!(neighbour.call::<i64>("add", (1,)).await.unwrap(), round / 200);
        } else {
            sum += 1;
            assert_eq!(object.call::<i64>("add", (1,)).await.unwrap(), sum);
        }
    }
    let report = manager.plugins().await.unwrap().remove(0);
    assert_eq!((report.traps, report.recovered, report.poisoned), (10, recovered, 0));
}

#[tokio::test]
async fn only_admins_register_and_names_are_taken_once() {
    let host = spawn_host(HostOptions::default());
    let options = host.options().key_id("member").authkey(host.member_key.clone());
    let member = host.connect_with(options, host.unix()).await.unwrap();
    let changeling = component("changeling");
    assert_eq!(refused(member.register(&changeling, false).await.unwrap_err()), "Denied");
    assert_eq!(refused(member.plugins().await.unwrap_err()), "Denied");
    assert_eq!(refused(member.unregister("Changeling", false).await.unwrap_err()), "Denied");

    let admin = host.manager().await;
    register(&admin, &changeling).await;
    assert_eq!(refused(admin.register(&changeling, false).await.unwrap_err()), "Taken");
    assert_eq!(refused(admin.register(b"no component", false).await.unwrap_err()), "BadPlugin");
    assert_eq!(refused(admin.unregister("Queue", false).await.unwrap_err()), "BadRegistration");
    assert_eq!(refused(admin.unregister("Nothing", false).await.unwrap_err()), "UnknownType");
    member.create("Changeling", ()).await.unwrap();
}

#[tokio::test]
async fn what_a_replacement_does_is_said() {
    let host = spawn_host(HostOptions::default());
    let admin = host.manager().await;
    let changeling = component("changeling");
    register(&admin, &changeling).await;
    let _moves = admin.create("Changeling", ()).await.unwrap();
    let _stays = admin.create("Stone", ()).await.unwrap();
    let said = async |component: &[u8]| {
        let registered = admin.register(component, true).await.unwrap();
        let said = registered.into_iter().map(|type_| {
            let note = type_.note.unwrap_or_default();
            (type_.typeid, type_.from.unwrap_or_default(), type_.to, type_.will_move, type_.will_stay, note)
        });
        said.collect::<Vec<_>>()
    };
    let line = |typeid: &str, from: &str, to: &str, moves, stays, note: &str| {
        (typeid.to_owned(), from.to_owned(), to.to_owned(), moves, stays, note.to_owned())
    };
    let second = version(&changeling, "2.0.7001", "changed.....", &[]);
    let expected =
        [line("Changeling", "1.0.7001", "2.0.7001", 1, 0, ""), line("Stone", "1.0.7001", "2.0.7001", 0, 1, "")];
    assert_eq!(said(&second).await, expected);
    assert_eq!(said(&second).await[0].5, "this is the very same component");
    let fixed = version(&changeling, "2.0.7001", "generous....", &[]);
    assert_eq!(said(&fixed).await[0].5, "this is the same version with other content");
    assert_eq!(said(&changeling).await[0].5, "this version is lower than the one it replaces");
}

/// Larger than a frame: it comes in parts. As bytes in a call it comes as well, if it fits.
#[tokio::test]
async fn component_comes_in_parts_or_as_an_argument() {
    let host = spawn_host(HostOptions::default());
    for address in [host.quic(), host.unix()] {
        let admin = host.connect(address).await;
        let mut large = component("changeling");
        // A custom section of 2 MiB, named `x`.
        large.extend_from_slice(&[0, 0x82, 0x80, 0x80, 0x01, 1, b'x']);
        large.resize(large.len() + (2 << 20), 0);
        register(&admin, &large).await;
        let object = admin.create("Changeling", (5,)).await.unwrap();
        assert_eq!(object.call::<i64>("sum", ()).await.unwrap(), 5);

        let changed =
            steward_client::AnyValue::Bytes(version(&component("changeling"), "2.0.7001", "changed.....", &[]));
        admin.host_proxy().call::<steward_client::AnyValue>("replace", (changed,)).await.unwrap();
        assert_eq!(object.call::<String>("behaviour", ()).await.unwrap(), "changed.....");
        admin.unregister("Changeling", false).await.unwrap();
        admin.unregister("Stone", false).await.unwrap();
    }
}

/// One object for everybody shows the methods that its type has now.
#[tokio::test]
async fn singleton_of_a_replaced_type_shows_its_new_methods() {
    let of = Source::Plugin { plugin: plugin("changeling"), typeid: "Changeling".into() };
    let single = Source::Singleton { typeid: "Changeling".into(), args: vec![0x82, 0x80, 0xa0] };
    let types = vec![Registration::new("Changeling", of), Registration::new("the_sum", single)];
    let host = spawn_host(HostOptions { types, ..HostOptions::default() });
    host.keeps(1);
    let manager = host.manager().await;
    let single = manager.create("the_sum", ()).await.unwrap();
    assert_eq!(single.call::<i64>("bravo_method", ()).await.unwrap(), 2);
    let renamed = version(&component("changeling"), "2.0.7001", "changed.....", &[("bravo_method", "gamma_method")]);
    manager.register(&renamed, true).await.unwrap();
    assert_eq!(single.call::<i64>("gamma_method", ()).await.unwrap(), 2);
    assert_eq!(refused(single.call::<i64>("bravo_method", ()).await.unwrap_err()), "NotExposed");
}

/// Proxies know methods by numbers. A number means the same in every type that ever has the name.
#[tokio::test]
async fn removed_type_leaves_its_objects_and_the_numbers_of_its_methods() {
    let host = spawn_host(HostOptions::default());
    let admin = host.manager().await;
    let changeling = component("changeling");
    register(&admin, &changeling).await;
    let old = admin.create("Changeling", (5,)).await.unwrap();
    assert_eq!(old.call::<i64>("bravo_method", ()).await.unwrap(), 2);
    assert_eq!(admin.unregister("Changeling", false).await.unwrap(), 1);
    assert_eq!(old.call::<i64>("add", (1,)).await.unwrap(), 6);
    assert_eq!(refused(admin.create("Changeling", ()).await.unwrap_err()), "UnknownType");
    admin.unregister("Stone", false).await.unwrap();

    // The client calls by the numbers that it learned.
    let swapped = [("alpha_method", "bravo_method"), ("bravo_method", "alpha_method")];
    register(&admin, &version(&changeling, "2.0.7001", "changed.....", &swapped)).await;
    let new = admin.create("Changeling", ()).await.unwrap();
    assert_eq!(new.call::<i64>("bravo_method", ()).await.unwrap(), 1);
    assert_eq!(old.call::<String>("behaviour", ()).await.unwrap(), "as it is....");

    assert_eq!(admin.unregister("Changeling", true).await.unwrap(), 1);
    let error = new.call::<i64>("sum", ()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Poisoned);
    assert!(error.to_string().contains("typeid `Changeling` was removed with its objects"), "{error}");
    assert_eq!(old.call::<i64>("sum", ()).await.unwrap(), 6);
}
