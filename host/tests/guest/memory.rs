//! How much memory an object may have, in each layout.

use steward_host::guest::{GuestConfig, GuestError, Guests, LoadOptions};
use wasm_encoder::{Component, InstanceSection, MemorySection, MemoryType, Module, ModuleArg, ModuleSection};

use super::steps::fails;
use super::{Driven, IS_DENSE, Loaded, component, config, probe};

#[test]
fn memory_beyond_its_limit_is_refused() {
    let message = "guest trapped in `Probe.grow`: out of memory, limit is 8388608 bytes: unreachable executed";
    fails(GuestConfig { memory_bytes_max: 8 << 20, ..config() }, "grow", message);
}

#[test]
fn memory_within_its_limit_is_given() {
    let mut object = Driven::new(&probe(config()));
    assert!(object.call("exhaust").is_ok());
    let mut object = Driven::new(&probe(GuestConfig { memory_bytes_max: 8 << 20, ..config() }));
    assert!(object.call("exhaust").unwrap_err().message.contains("out of memory"));
}

/// The limit of an object of the probe that is registered with this wish, as it says itself when it is reached.
fn limit_of(memory_bytes: Option<usize>) -> String {
    let guests = Guests::new(config()).unwrap();
    let plugin = guests.load_with("probe", &component("probe"), LoadOptions { memory_bytes }).unwrap();
    let mut object = Driven::new(&Loaded::new(plugin));
    object.call("echo").unwrap();
    let message = object.call("grow").unwrap_err().message;
    let limit = message.split_once("limit is ").unwrap_or_else(|| panic!("{message}")).1;
    limit.split_once(' ').unwrap().0.to_owned()
}

/// An object works in each class of the dense layout, and gets what was asked for, no more; in the fast layout the same
/// wishes are as good.
#[test]
fn object_has_the_memory_that_it_was_registered_with() {
    // The last is beyond the largest class: such a plugin is laid out fast in any case.
    for bytes in [1 << 20, 2 << 20, 3 << 20, 4 << 20, 16 << 20, 17 << 20] {
        assert_eq!(limit_of(Some(bytes)), bytes.to_string());
    }
    let unasked = if IS_DENSE { 1 << 20 } else { 64 << 20 };
    assert_eq!(limit_of(None), unasked.to_string());
}

/// Whose memory lies there depends on the layout; that nobody can look does not.
#[test]
fn memory_ends_where_it_ends() {
    let message = "guest trapped in `Probe.overreach`: out of bounds memory access";
    fails(config(), "overreach", message);
    let plugin = probe(config());
    let _neighbours: Vec<_> = (0..3).map(|_| Driven::new(&plugin)).collect();
    assert!(Driven::new(&plugin).call("reach").is_ok());
}

#[test]
fn what_is_given_back_is_empty_for_the_next() {
    let plugin = probe(GuestConfig { objects_max: 1, shard_objects_max: 1, ..config() });
    for _ in 0..2 {
        // Each fills 12 MiB with ones, of a memory that std believes to be zeroed.
        assert!(Driven::new(&plugin).call("exhaust").is_ok());
        assert!(Driven::new(&plugin).call("echo").is_ok());
    }
}

/// A component whose memory has so many pages of 64 KiB at its start.
fn declaring(pages: u64) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut module = Module::new();
    module.section(&memories);
    let mut instances = InstanceSection::new();
    instances.instantiate::<[(&str, ModuleArg); 0], _>(0, []);
    let mut component = Component::new();
    component.section(&ModuleSection(&module)).section(&instances);
    component.finish()
}

#[test]
fn plugin_that_needs_more_than_there_is_is_refused() {
    let guests = Guests::new(config()).unwrap();
    let load =
        |pages, memory_bytes| guests.load_with("test", &declaring(pages), LoadOptions { memory_bytes }).unwrap_err();
    // What fits is refused for another reason: it exports nothing.
    assert!(matches!(load(1024, None), GuestError::Invalid(_)));
    assert!(matches!(load(1, Some(64 << 20)), GuestError::Invalid(_)));
    for refused in [load(1, Some((64 << 20) + 1)), load(1025, None)] {
        assert!(matches!(refused, GuestError::Memory { limit: 0x400_0000, .. }), "{refused}");
    }
    let message = "an object would have 67174400 bytes of memory, limit is 67108864";
    assert_eq!(load(1025, None).to_string(), message);
}
