//! What an idle object costs.

use steward_objects::{Args, Outbox, builtin};
use steward_wire::cbor;

/// Lines and tables allocate when somebody waits and free when nobody does, so the state itself is all.
#[test]
fn idle_objects_are_small() {
    for (typeid, bytes_max) in [
        ("Lock", 80),
        ("RLock", 80),
        ("Condition", 80),
        ("Semaphore", 112),
        ("BoundedSemaphore", 112),
        ("Event", 32),
        ("Queue", 192),
        ("JoinableQueue", 192),
        ("LifoQueue", 192),
        ("PriorityQueue", 192),
    ] {
        let kind = builtin(typeid).expect("a built-in type");
        let object = (kind.create)(Args::none(), &mut Outbox::new(1)).expect("it needs no arguments");
        let bytes = size_of_val(&*object);
        assert!(bytes <= bytes_max, "an idle {typeid} takes {bytes} bytes, limit is {bytes_max}");
    }
    let mut args = Vec::new();
    cbor::put_array(&mut args, 2);
    cbor::put_array(&mut args, 1);
    cbor::put_u64(&mut args, 2);
    cbor::put_map(&mut args, 0);
    let kind = builtin("Barrier").expect("a built-in type");
    let barrier = (kind.create)(Args::new(&args, false), &mut Outbox::new(1)).expect("two parties");
    let bytes = size_of_val(&*barrier);
    assert!(bytes <= 144, "an idle Barrier takes {bytes} bytes, limit is 144");
}
