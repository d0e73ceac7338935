//! Objects that share a Store: what is one's affair stays one's, though a trap ends the guests of all.

use std::sync::Arc;

use steward_host::guest::{Birth, GuestConfig, Isolation, ReleaseError, Releases};
use steward_objects::{Args, Effect, Fault, Ident, Input, Outbox, Value, Why};

use super::lives::{Living, first, kind, no_trap_shows, padding, second, version};
use super::{Driven, Loaded, config, probe};

/// The changeling, whose objects share.
fn changelings() -> Arc<Releases> {
    Releases::after(Vec::new(), kind(&first(), "Changeling"), Isolation::Shared).unwrap()
}

/// So many of them, in one shard.
fn neighbours<const N: usize>() -> [Living; N] {
    let releases = changelings();
    let living = [(); N].map(|()| Living::of(Arc::clone(&releases)));
    assert_eq!(shards(&releases), 1);
    living
}

/// The probe, whose objects share.
fn probes(config: GuestConfig) -> Arc<Loaded> {
    let loaded = probe(config);
    let plugin = Arc::clone(&loaded.plugin);
    let shared = |kind| Releases::after(Vec::new(), Arc::clone(kind), Isolation::Shared);
    let releases = plugin.types()[..1].iter().map(|kind| shared(kind).unwrap()).collect();
    Arc::new(Loaded { plugin, releases })
}

/// In how many Stores the newest version's objects are.
fn shards(releases: &Releases) -> usize {
    releases.report().versions.last().unwrap().shards
}

fn int(n: i64) -> Result<Vec<u8>, Fault> {
    Ok(Value::Int(n).to_vec())
}

#[test]
fn objects_of_a_shard_do_not_see_one_another() {
    let [mut ada, mut grace, mut mary] = neighbours();
    assert_eq!((ada.int("add", &[Value::Int(1)]), grace.int("add", &[Value::Int(2)])), (1, 2));
    let waits = ada.start("take_in_turn", &[Value::Int(9)]);
    // Enough for the one who waits, but it is another's.
    assert_eq!(mary.int("add", &[Value::Int(100)]), 100);
    assert_eq!(mary.answers().len(), 1);
    ada.step(Input::Cancel { call: waits, why: Why::Deadline, now_ms: 1_000 });
    assert_eq!(ada.answer(waits).unwrap_err().kind, "Empty");
    assert_eq!((ada.int("sum", &[]), grace.int("sum", &[]), mary.int("sum", &[])), (1, 2, 100));
}

/// One traps; what the others were told stands, and their calls that waited wait on.
#[test]
fn trap_costs_its_call_and_nobody_elses() {
    let [mut ada, mut grace, mut mary] = neighbours();
    ada.call("add", &[Value::Int(1)]).unwrap();
    grace.call("add", &[Value::Int(2)]).unwrap();
    let sleeps = mary.start("sleep", &[Value::Int(5_000)]);
    let waits = grace.start("take_in_turn", &[Value::Int(9)]);
    let fault = ada.call("trap", &[Value::Int(5)]).unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "GuestTrap", false));
    assert_eq!((ada.int("sum", &[]), grace.int("sum", &[])), (1, 2));
    let adds = grace.start("add", &[Value::Int(8)]);
    assert_eq!((grace.answer(waits), grace.answer(adds)), (int(1), int(10)));
    // One that nobody calls comes back when its time has come.
    assert_eq!(mary.advance(4_000), [(sleeps, int(5_000), None)]);
    let report = ada.releases.report();
    assert_eq!((report.traps, report.recovered, report.poisoned), (1, 3, 0));
}

#[test]
fn no_trap_of_a_shard_shows() {
    let living = || Living::of(changelings());
    no_trap_shows(&living, &|troubled| (0..3).map(|_| Living::of(Arc::clone(&troubled.releases))).collect());
}

/// What one keeps outside its state, against all rules, is its own misfortune.
#[test]
fn object_that_cannot_come_back_is_poisoned_alone() {
    let [mut ada, mut grace, mut mary] = neighbours();
    assert_eq!(grace.int("count", &[]), 1);
    grace.call("add", &[Value::Int(1), padding(5_000)]).unwrap();
    assert_eq!(grace.int("count", &[]), 2);
    mary.call("add", &[Value::Int(7)]).unwrap();
    ada.call("trap", &[Value::Int(1)]).unwrap_err();
    grace.start("sum", &[]);
    let expected = "another `Changeling` of its shard trapped; it cannot be made again: \
                    its outcome differs the second time in `Changeling.count`";
    assert_eq!(grace.poison(), expected);
    assert_eq!((ada.int("sum", &[]), mary.int("sum", &[])), (0, 7));
    assert_eq!(ada.releases.report().poisoned, 1);
}

/// The one that does nothing but trap is slowed down; its neighbours are not.
#[test]
fn traps_are_counted_where_they_happen() {
    let [mut ada, mut grace] = neighbours();
    for _ in 0..6 {
        assert!(!ada.call("trap", &[Value::Int(1)]).unwrap_err().retryable);
        grace.call("add", &[Value::Int(1)]).unwrap();
    }
    assert!(ada.call("sum", &[]).unwrap_err().retryable);
    assert!(!grace.call("trap", &[Value::Int(1)]).unwrap_err().retryable);
    assert_eq!(grace.int("sum", &[]), 6);
}

#[test]
fn constructors_that_do_nothing_but_trap_are_slowed_down() {
    let probes = probes(config());
    let mut neighbour = Driven::new(&probes);
    let parked = neighbour.start("park", Args::none());
    let args = Value::List(vec![Value::List(vec![Value::Int(1)]), Value::Map(vec![])]).to_vec();
    let create = |now_ms| {
        let birth = Birth { tenant: "default", ident: Ident(3), now_ms, seed: 7 };
        probes.releases[0].create(Args::new(&args, false), birth, &mut Outbox::new(1)).err().expect("it traps")
    };
    for _ in 0..6 {
        assert!(!create(1_000).retryable);
    }
    let fault = create(1_099);
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "GuestTrap", true));
    let expected = "constructors of `Probe` trapped 6 times in a row: none is entered for another 1 ms";
    assert_eq!(fault.message, expected);
    assert!(!create(1_100).retryable);
    neighbour.call("release").unwrap();
    assert!(neighbour.answer(parked).is_ok());
}

/// An object that goes while others stay runs code of the guest's: it traps, or does not end. `neighbour` is as it was.
#[track_caller]
fn goes(how: &str) {
    let probes = probes(GuestConfig { step_cpu_ms: 20, ..config() });
    let mut neighbour = Driven::new(&probes);
    let mut object = Driven::new(&probes);
    let parked = neighbour.start("park", Args::none());
    object.call(how).unwrap();
    drop(object);
    let report = || probes.releases[0].report();
    assert_eq!((report().traps, report().recovered), (1, 0));
    neighbour.call("release").unwrap();
    assert!(neighbour.answer(parked).is_ok());
    assert_eq!((report().traps, report().recovered, report().poisoned), (1, 1, 0));
    // With the last one the Store goes, and no guest is asked.
    neighbour.call(how).unwrap();
    drop(neighbour);
    assert_eq!((report().traps, report().versions[0].objects, report().versions[0].shards), (1, 0, 0));
}

#[test]
fn trap_of_an_object_that_goes_costs_its_neighbours_nothing() {
    goes("trap_when_dropped");
}

#[test]
fn object_that_goes_is_cut_at_the_deadline_of_a_step() {
    goes("spin_when_dropped");
}

/// Once going took long, those who go are left to whoever enters their shard next. Until then they have their seats.
#[test]
fn objects_that_take_long_to_go_are_left_to_the_next_who_enters() {
    let probes = probes(GuestConfig { step_cpu_ms: 30_000, shard_objects_max: 3, ..config() });
    let mut objects: Vec<_> = (0..3).map(|_| Driven::new(&probes)).collect();
    objects.iter_mut().for_each(|object| _ = object.call("work_when_dropped").unwrap());
    let shards = || shards(&probes.releases[0]);
    objects.pop();
    objects.push(Driven::new(&probes));
    assert_eq!(shards(), 1, "the first was dropped at once");
    objects.remove(0);
    let elsewhere = Driven::new(&probes);
    assert_eq!(shards(), 2, "the second was not");
    drop(elsewhere);
    objects[0].call("echo").unwrap();
    objects.push(Driven::new(&probes));
    assert_eq!(shards(), 1);
}

#[test]
fn full_shard_is_followed_by_another_and_an_empty_one_goes() {
    let probes = probes(GuestConfig { objects_max: 2, shard_objects_max: 2, ..config() });
    let shards = || shards(&probes.releases[0]);
    let mut objects: Vec<_> = (0..4).map(|_| Driven::new(&probes)).collect();
    assert_eq!(shards(), 2);
    let birth = Birth { tenant: "default", ident: Ident(3), now_ms: 1_000, seed: 7 };
    let create = || probes.releases[0].create(Args::none(), birth, &mut Outbox::new(1));
    let fault = create().err().expect("the host has no room for a third Store");
    assert_eq!((fault.kind.as_str(), fault.retryable), ("OverQuota", true));
    drop(objects.remove(1));
    objects.push(Driven::new(&probes));
    assert!(create().is_err(), "the room that was left is taken");
    objects.truncate(2);
    assert!(create().is_ok());
    drop(objects);
    assert_eq!(shards(), 0);
}

/// As many as there may be, each with a handle in the one Store.
#[test]
fn shard_takes_as_many_objects_as_it_may_and_steps_them_all() {
    let releases = changelings();
    let limit = usize::try_from(config().shard_objects_max).unwrap();
    let mut objects: Vec<_> = (0..limit).map(|_| Living::of(Arc::clone(&releases))).collect();
    assert_eq!(shards(&releases), 1);
    for (n, object) in (0..).zip(&mut objects) {
        assert_eq!(object.int("add", &[Value::Int(n)]), n);
    }
    objects[0].call("trap", &[Value::Int(1)]).unwrap_err();
    for (n, object) in (0..).zip(&mut objects) {
        assert_eq!(object.int("sum", &[]), n);
    }
    objects.push(Living::of(Arc::clone(&releases)));
    assert_eq!(shards(&releases), 2);
}

#[test]
fn tenants_never_share() {
    let releases = changelings();
    let create = |tenant| {
        let birth = Birth { tenant, ident: Ident(3), now_ms: 1_000, seed: 7 };
        releases.create(Args::none(), birth, &mut Outbox::new(1)).unwrap()
    };
    let _objects: Vec<_> = ["ada", "grace", "ada", "grace"].map(create).into();
    assert_eq!(shards(&releases), 2);
}

/// As much as a memory has, and an object more. In the dense layout the probe has the same.
const MEMORY_BYTES: usize = 16 << 20;

#[test]
fn memory_of_a_shard_is_bounded_and_nobody_lacks_what_others_have() {
    let probes = probes(GuestConfig { memory_bytes_max: MEMORY_BYTES, ..config() });
    let (mut ada, mut grace) = (Driven::new(&probes), Driven::new(&probes));
    let parked = ada.start("park", Args::none());
    let hoarded = |object: &mut Driven| object.call("hoarded").unwrap()[0];
    ada.call("hoard").unwrap();
    assert_eq!(shards(&probes.releases[0]), 1);
    // Not both have room there: the one who wants more leaves, and its call finds what it needs.
    grace.call("hoard").unwrap();
    assert_eq!(shards(&probes.releases[0]), 2);
    assert_eq!((hoarded(&mut ada), hoarded(&mut grace)), (10, 10));
    // What is too much for one alone, is.
    let fault = grace.call("grow").unwrap_err();
    let expected = "guest trapped in `Probe.grow`: out of memory, limit is 16777216 bytes: unreachable executed; \
                    the call had no effect";
    assert_eq!(fault.message, expected);
    assert_eq!((hoarded(&mut ada), hoarded(&mut grace)), (10, 10));
    ada.call("release").unwrap();
    assert!(ada.answer(parked).is_ok());
    assert_eq!(probes.releases[0].report().poisoned, 0);
}

#[test]
fn shard_whose_memory_is_nearly_used_up_takes_nobody_in() {
    let probes = probes(GuestConfig { memory_bytes_max: 13 << 20, ..config() });
    let (mut ada, _grace) = (Driven::new(&probes), Driven::new(&probes));
    ada.call("hoard").unwrap();
    let _mary = Driven::new(&probes);
    assert_eq!(shards(&probes.releases[0]), 2);
    assert_eq!(ada.call("hoarded").unwrap(), [10]);
}

/// Each moves with its own next step, and takes its calls along.
#[test]
fn objects_of_a_shard_move_one_by_one() {
    let [mut ada, mut grace] = neighbours();
    grace.call("add", &[Value::Int(2)]).unwrap();
    let waits = grace.start("take_in_turn", &[Value::Int(9)]);
    ada.replace(&second("changed....."), "Changeling");
    assert_eq!(ada.behaviour(), "changed.....");
    let versions = |object: &Living| {
        let report = object.releases.report();
        report.versions.iter().map(|version| (version.objects, version.shards)).collect::<Vec<_>>()
    };
    assert_eq!(versions(&ada), [(1, 1), (1, 1)]);
    // Those who have moved and those who have not are none of each other's business.
    ada.call("trap", &[Value::Int(1)]).unwrap_err();
    let adds = grace.start("add", &[Value::Int(7)]);
    assert_eq!((grace.answer(waits), grace.answer(adds)), (int(0), int(9)));
    assert_eq!(grace.behaviour(), "changed.....");
    assert_eq!(versions(&ada), [(2, 1)]);
    assert_eq!(ada.releases.report().moved, 2);
}

/// The first step with the new version traps, and with it ends the new shard, in which another object is already.
#[test]
fn object_that_the_new_version_cannot_step_stays_and_those_that_moved_come_back() {
    let [mut ada, mut grace] = neighbours();
    ada.call("add", &[Value::Int(4)]).unwrap();
    let waits = grace.start("take_in_turn", &[Value::Int(3)]);
    ada.replace(&second("traps first."), "Changeling");
    assert_eq!(ada.int("sum", &[]), 4);
    let adds = grace.start("add", &[Value::Int(3)]);
    assert_eq!((grace.answer(adds), grace.answer(waits)), (int(3), int(0)));
    assert_eq!((ada.behaviour().as_str(), grace.behaviour().as_str()), ("traps first.", "as it is...."));
    assert_eq!(ada.int("sum", &[]), 4);
    let report = ada.releases.report();
    assert_eq!((report.moved, report.not_moved, report.poisoned), (1, 1, 0));
    // A third version has both.
    ada.replace(&version("3.0.7001", "changed.....", &[]), "Changeling");
    assert_eq!((ada.int("sum", &[]), grace.int("sum", &[])), (4, 0));
    assert_eq!((ada.behaviour(), grace.behaviour()), ("changed.....".into(), "changed.....".into()));
}

/// With a replacement the operator may change his mind, either way.
#[test]
fn isolation_changes_with_a_version() {
    let releases = Releases::new(kind(&first(), "Changeling"));
    let [mut ada, mut grace] = [(), ()].map(|()| Living::of(Arc::clone(&releases)));
    ada.call("add", &[Value::Int(4)]).unwrap();
    assert_eq!(shards(&releases), 0);
    for (isolation, in_shards) in [(Isolation::Shared, 1), (Isolation::Object, 0)] {
        releases.replace(kind(&first(), "Changeling"), Some(isolation)).unwrap();
        assert_eq!((ada.int("sum", &[]), grace.int("sum", &[])), (4, 0));
        let report = releases.report();
        let [version] = &report.versions[..] else { panic!("{report:?}") };
        assert_eq!((version.isolation, version.objects, version.shards), (isolation, 2, in_shards));
    }
    // And stays as it is, if he says nothing.
    releases.replace(kind(&first(), "Changeling"), None).unwrap();
    assert_eq!(releases.newest().isolation(), Isolation::Object);
}

#[test]
fn type_that_does_not_save_is_refused() {
    let stone = kind(&first(), "Stone");
    let error = Releases::after(Vec::new(), Arc::clone(&stone), Isolation::Shared).expect_err("it is refused");
    assert_eq!(error, ReleaseError::DoesNotSave { typeid: "Stone".into() });
    let expected =
        "`Stone` does not save, so its objects cannot share: let it save, or register it with isolation `object`";
    assert_eq!(error.to_string(), expected);
    let releases = changelings();
    assert_eq!(releases.replace(stone, None).err(), Some(error));
    assert_eq!(releases.newest().kind().info().typeid, "Changeling");
}

/// Threads step objects of few shards at once, with traps among the calls. What each object was told is true in the end.
#[test]
fn threads_may_step_the_objects_of_a_shard() {
    let plugin = first();
    let releases = changelings();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let mut objects: Vec<_> = (0..3).map(|_| Living::of(Arc::clone(&releases))).collect();
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut sums = [0; 3];
                for turn in 0..300 {
                    let at = random.usize(..3);
                    let object = &mut objects[at];
                    match random.u8(..20) {
                        0 => {
                            object.advance(60_001);
                            object.call("trap", &[Value::Int(1)]).unwrap_err();
                        }
                        1 => {
                            objects[at] = Living::of(Arc::clone(&objects[at].releases));
                            sums[at] = 0;
                        }
                        _ => {
                            sums[at] += 1;
                            assert_eq!(object.int("add", &[Value::Int(1)]), sums[at], "seed {seed}, turn {turn}");
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let report = releases.report();
    assert_eq!((report.poisoned, report.versions[0].objects), (0, 0), "{report:?}");
    assert!(report.traps > 10, "{report:?}");
    drop(plugin);
}

/// Who must not wait can see that somebody is in the shard.
#[test]
fn shard_is_busy_while_one_of_its_objects_is_stepped() {
    let probes = probes(GuestConfig { step_cpu_ms: 200, ..config() });
    let (mut object, neighbour) = (Driven::new(&probes), Driven::new(&probes));
    assert!(!neighbour.referent.is_busy());
    let spinning = std::thread::spawn(move || {
        object.call("spin").unwrap_err();
        object
    });
    while !neighbour.referent.is_busy() && !spinning.is_finished() {
        std::thread::yield_now();
    }
    assert!(neighbour.referent.is_busy(), "the step takes 200 ms");
    let _object = spinning.join().unwrap();
    assert!(!neighbour.referent.is_busy());
}
