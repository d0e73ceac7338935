//! What was released goes on working: a component of each released world, built when that was released and never again.

use sha2::{Digest as _, Sha256};
use steward_host::guest::Guests;
use steward_objects::{Args, Outbox, Value};

use super::{Driven, Loaded, config, create};

/// A `HyperLogLog` in C, of world 0.1.0.
const WORLD_0_1_0: &[u8] = include_bytes!("frozen/hyperloglog-0.1.0.wasm");

#[test]
fn plugin_of_world_0_1_0_is_served() {
    let guests = Guests::new(config()).unwrap();
    let plugin = guests.load("hyperloglog", WORLD_0_1_0).unwrap();
    let kind = &plugin.types()[0];
    assert_eq!((kind.info().typeid.as_str(), kind.saves()), ("HyperLogLog", true));
    let plugin = Loaded::new(plugin);
    let referent = create(&plugin, "HyperLogLog").unwrap();
    let mut object = Driven { plugin, referent, out: Outbox::new(1), calls: 0 };
    for name in ["ada", "grace", "ada"] {
        let args = Value::List(vec![Value::List(vec![Value::Text(name.into())]), Value::Map(vec![])]).to_vec();
        let call = object.start("add", Args::new(&args, false));
        object.answer(call).unwrap();
    }
    assert_eq!(object.call("count"), Ok(vec![2]));
}

#[test]
fn plugin_of_a_world_that_is_not_served_is_told_so() {
    // The names of what it imports and exports, made those of a later version.
    let mut later = WORLD_0_1_0.to_vec();
    let (now, then) = (b"@0.1.0", b"@0.2.0");
    let places: Vec<_> = (0..later.len() - now.len()).filter(|at| later[*at..].starts_with(now)).collect();
    places.into_iter().for_each(|at| later[at..at + then.len()].copy_from_slice(then));
    let refused = Guests::new(config()).unwrap().load("later", &later).unwrap_err();
    assert_eq!(refused.to_string(), "plugin was built for world 0.2, this host serves 0.1");
}

/// Plugins that people have built know it as it was. What comes later stands in a folder of its own.
#[test]
fn released_worlds_do_not_change() {
    let digest = Sha256::digest(include_bytes!("../../../wit/0.1.0/plugin.wit"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "0e99c6ef74d506665207eca586d82d341111ed9c7056240a8a64b540a6337829");
}
