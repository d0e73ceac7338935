//! The objects that all clients share, by name.

use serde_json::{Value as Json, json};

/// An object of a run.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub typeid: &'static str,
    /// What it is made with.
    pub args: Vec<Json>,
}

/// Parties of the barrier.
pub const PARTIES: u64 = 3;
/// Elements of the array.
pub const ELEMENTS: i64 = 8;
/// The type that a plugin gives, if the host has it. No certificate is asked of it.
pub const PLUGIN_TYPE: &str = "RWLock";

/// Every built-in type, and the plugin's.
pub fn all() -> Vec<Shared> {
    let object = |name, typeid, args| Shared { name, typeid, args };
    vec![
        object("lock", "Lock", vec![]),
        object("rlock", "RLock", vec![]),
        object("semaphore", "Semaphore", vec![json!(3)]),
        object("bounded", "BoundedSemaphore", vec![json!(2)]),
        object("event", "Event", vec![]),
        object("condition", "Condition", vec![]),
        object("barrier", "Barrier", vec![json!(PARTIES)]),
        object("queue", "Queue", vec![json!(0)]),
        object("short-queue", "Queue", vec![json!(4)]),
        object("joinable", "JoinableQueue", vec![json!(0)]),
        object("lifo", "LifoQueue", vec![json!(0)]),
        object("priority", "PriorityQueue", vec![json!(0)]),
        object("value", "Value", vec![json!("q"), json!(0)]),
        object("guarded", "Value", vec![json!("q"), json!(0)]),
        object("array", "Array", vec![json!("q"), Json::from(vec![0; ELEMENTS as usize])]),
        object("list", "list", vec![]),
        object("dict", "dict", vec![]),
        object("set", "set", vec![]),
        object("namespace", "Namespace", vec![]),
        object("rwlock", PLUGIN_TYPE, vec![]),
    ]
}
