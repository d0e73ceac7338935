//! What was released goes on working: a component of each released world, built when that was released and never again.

use sha2::{Digest as _, Sha256};
use steward_host::guest::Guests;
use steward_objects::{Args, Outbox, Value};

use super::{Driven, config, create};

/// A `HyperLogLog` in C, of world 0.1.0.
const WORLD_0_1_0: &[u8] = include_bytes!("frozen/hyperloglog-0.1.0.wasm");

#[test]
fn plugin_of_world_0_1_0_is_served() {
    let guests = Guests::new(config()).unwrap();
    let plugin = guests.load("hyperloglog", WORLD_0_1_0).unwrap();
    let kind = &plugin.types()[0];
    assert_eq!((kind.info().typeid.as_str(), kind.saves()), ("HyperLogLog", true));
    let referent = create(&plugin, "HyperLogLog").unwrap();
    let mut object = Driven { plugin, referent, out: Outbox::new(1), calls: 0 };
    for name in ["ada", "grace", "ada"] {
        let args = Value::List(vec![Value::List(vec![Value::Text(name.into())]), Value::Map(vec![])]).to_vec();
        let call = object.start("add", Args::new(&args, false));
        object.answer(call).unwrap();
    }
    assert_eq!(object.call("count"), Ok(vec![2]));
}

/// Plugins that people have built know it as it was. What comes later stands in a folder of its own.
#[test]
fn released_worlds_do_not_change() {
    let digest = Sha256::digest(include_bytes!("../../../wit/0.1.0/plugin.wit"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "0e99c6ef74d506665207eca586d82d341111ed9c7056240a8a64b540a6337829");
}
