//! A guest that does whatever the host must survive: each method of `Probe` misbehaves in its own way,
//! but for those that show that an honest guest next to it is served.
//!
//! It speaks to the bindings directly, because the SDK would not let it break the rules.

wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "plugin" });

use std::cell::RefCell;
use std::hint::black_box;

use exports::steward::plugin::referent::{Guest, GuestObject, Made, Object};
use steward::plugin::host;
use steward::plugin::types::{
    Call, Completion, Context, Fault, Grant, Input, Invocation, MethodInfo, Outcome, Param, ParamKind, TypeInfo,
};

/// What `describe` does. Tests overwrite the ten bytes after the marker in the component.
#[used]
static DESCRIBE: [u8; 20] = *b"describe: as it is..";

struct Plugin;

struct Probe {
    parked: RefCell<Vec<u64>>,
    spin_when_lost: RefCell<bool>,
    /// The method that asked for it.
    when_dropped: RefCell<&'static str>,
    hoard: RefCell<Vec<u8>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        match *self.when_dropped.borrow() {
            "trap_when_dropped" => panic!("as asked"),
            "spin_when_dropped" => loop {
                black_box(0);
            },
            "work_when_dropped" => work(),
            _ => {}
        }
    }
}

/// Some milliseconds of honest work.
fn work() {
    let mut sum = 0u64;
    for n in 0..20_000_000u64 {
        sum = black_box(sum.wrapping_add(n));
    }
}

const METHODS: &[&str] = &[
    "echo",
    "spin",
    "trap",
    "grow",
    "bad_cbor",
    "unknown_completion",
    "flood",
    "recurse",
    "park",
    "release",
    "hold",
    "big_reply",
    "raise",
    "twice",
    "invoke",
    "wake",
    "grant",
    "let_go",
    "spin_when_lost",
    "table",
    "work",
    "shout",
    "raise_badly",
    "exhaust",
    "reach",
    "overreach",
    "trap_when_dropped",
    "spin_when_dropped",
    "work_when_dropped",
    "hoard",
    "hoarded",
];

impl Guest for Plugin {
    type Object = Probe;

    fn describe() -> Vec<TypeInfo> {
        let wish = black_box(&DESCRIBE);
        let mut methods: Vec<MethodInfo> = METHODS.iter().map(|name| method(name)).collect();
        methods[0].params =
            vec![Param { name: "values".into(), kind: ParamKind::Rest, type_name: "any".into(), default: None }];
        methods[0].read_only = true;
        methods[8].may_park = true;
        match &wish[10..] {
            b"for ever.." => loop {
                black_box(0);
            },
            b"trapping.." => panic!("as asked"),
            b"two alike." => methods[1].name = "echo".into(),
            b"bad name.." => methods[1].name = "not a name".into(),
            b"too many.." => methods.resize_with(1_000, || method("echo")),
            b"no types.." => return vec![],
            _ => {}
        }
        let types = ["Probe", "SpinInCreate", "TrapInCreate", "Refuses"].map(|typeid| TypeInfo {
            typeid: typeid.into(),
            version: "1.2.3".into(),
            doc: "Misbehaves when asked to.".into(),
            constructor_params: vec![],
            methods: methods.clone(),
            saves: typeid == "Probe",
        });
        types.to_vec()
    }
}

fn method(name: &str) -> MethodInfo {
    MethodInfo {
        name: name.into(),
        params: vec![],
        doc: String::new(),
        read_only: false,
        may_park: false,
        result_type: "any".into(),
        returns: None,
    }
}

impl GuestObject for Probe {
    fn create(typeid: String, args: Vec<u8>, _context: Context) -> Result<Made, Fault> {
        match typeid.as_str() {
            "Probe" if args != NO_ARGS => panic!("as asked"),
            "SpinInCreate" => loop {
                black_box(0);
            },
            "TrapInCreate" => panic!("as asked"),
            "Refuses" => Err(fault("ValueError", "not today")),
            _ => Ok(made()),
        }
    }

    fn step(&self, now_ms: u64, _seed: u64, input: Input) -> Outcome {
        let mut outcome = Outcome {
            completions: vec![],
            freed: false,
            changed: false,
            wake_at: None,
            held: vec![],
            let_go: vec![],
            invokes: vec![],
        };
        match input {
            Input::Call(call) => self.call(call, now_ms, &mut outcome),
            Input::Cancel(cancel) => {
                self.parked.borrow_mut().retain(|id| *id != cancel.call);
                outcome.completions.push(completion(cancel.call, Ok(FALSE.to_vec())));
            }
            Input::OwnerLost(_) if *self.spin_when_lost.borrow() => loop {
                black_box(0);
            },
            Input::Returned(returned) => {
                let payload = returned.outcome;
                for id in self.parked.take() {
                    outcome.completions.push(completion(id, payload.clone()));
                }
            }
            Input::Tick => {
                for id in self.parked.take() {
                    outcome.completions.push(completion(id, Ok(NULL.to_vec())));
                }
            }
            Input::OwnerLost(_) | Input::Undelivered(_) => {}
        }
        outcome
    }

    fn save(&self) -> Result<Vec<u8>, Fault> {
        Ok(vec![0xa0])
    }

    fn load(_typeid: String, _state: Vec<u8>, _from: String, _context: Context) -> Result<Made, Fault> {
        Ok(made())
    }
}

fn made() -> Made {
    let probe = Probe {
        parked: RefCell::default(),
        spin_when_lost: RefCell::default(),
        when_dropped: RefCell::default(),
        hoard: RefCell::default(),
    };
    Made { object: Object::new(probe), held: vec![] }
}

/// `[[], {}]`
const NO_ARGS: &[u8] = &[0x82, 0x80, 0xa0];
const NULL: &[u8] = &[0xf6];
const FALSE: &[u8] = &[0xf4];

impl Probe {
    fn call(&self, call: Call, now_ms: u64, outcome: &mut Outcome) {
        let result = match METHODS[call.method as usize] {
            "echo" => Ok(call.args),
            "spin" => loop {
                black_box(0);
            },
            "trap" => panic!("as asked"),
            "grow" => {
                let mut kept: Vec<Vec<u8>> = vec![];
                loop {
                    kept.push(black_box(vec![1; 1 << 20]));
                }
            }
            "bad_cbor" => Ok(vec![0xff]),
            "unknown_completion" => {
                outcome.completions.push(completion(call.id + 1_000_000, Ok(NULL.to_vec())));
                Ok(NULL.to_vec())
            }
            "flood" => {
                for _ in 0..100_000 {
                    host::log(host::Level::Info, "all work and no play makes a dull guest!");
                }
                Ok(NULL.to_vec())
            }
            "shout" => {
                host::log(host::Level::Warn, &"é".repeat(10_000));
                Ok(NULL.to_vec())
            }
            "recurse" => Ok(vec![recurse(now_ms) as u8 & 0x0f]),
            "park" => {
                self.parked.borrow_mut().push(call.id);
                return;
            }
            "release" => {
                for id in self.parked.take() {
                    outcome.completions.push(completion(id, Ok(NULL.to_vec())));
                }
                outcome.changed = true;
                Ok(NULL.to_vec())
            }
            "hold" => {
                outcome.held.push(7);
                Ok(NULL.to_vec())
            }
            "let_go" => {
                outcome.let_go.push(7);
                Ok(NULL.to_vec())
            }
            "big_reply" => {
                let mut item = vec![0x5a, 0x00, 0x60, 0x00, 0x00];
                item.resize(item.len() + 0x60_0000, 0);
                Ok(item)
            }
            "raise" => Err(Fault { data: Some(vec![0x01]), ..fault("KeyError", "no such key") }),
            "raise_badly" => Err(Fault { data: Some(vec![0xff]), ..fault("KeyError", "no such key") }),
            "twice" => {
                outcome.completions.push(completion(call.id, Ok(NULL.to_vec())));
                Ok(NULL.to_vec())
            }
            "invoke" => {
                outcome.invokes.push(Invocation { tag: 1, ident: 7, method: "get".into(), args: NO_ARGS.to_vec() });
                Ok(NULL.to_vec())
            }
            "wake" => {
                outcome.wake_at = Some(now_ms + 50);
                self.parked.borrow_mut().push(call.id);
                return;
            }
            "grant" => {
                outcome.completions.push(Completion { call: call.id, outcome: Ok(NULL.to_vec()), grant: Grant::Clean });
                return;
            }
            "spin_when_lost" => {
                *self.spin_when_lost.borrow_mut() = true;
                Ok(NULL.to_vec())
            }
            "work" => {
                work();
                Ok(NULL.to_vec())
            }
            method @ ("trap_when_dropped" | "spin_when_dropped" | "work_when_dropped") => {
                *self.when_dropped.borrow_mut() = method;
                outcome.changed = true;
                Ok(NULL.to_vec())
            }
            // 10 MiB to keep, and how many MiB there are.
            "hoard" => {
                *self.hoard.borrow_mut() = black_box(vec![1; 10 << 20]);
                outcome.changed = true;
                Ok(NULL.to_vec())
            }
            "hoarded" => Ok(vec![(self.hoard.borrow().len() >> 20) as u8]),
            // The last byte of its memory, and what lies behind.
            "reach" | "overreach" => {
                let at = memory_end() - usize::from(METHODS[call.method as usize] == "reach");
                let byte = peek(at);
                Ok(vec![byte & 1])
            }
            // Much memory, at once.
            "exhaust" => {
                let filled = black_box(vec![1u8; 12 << 20]);
                Ok(vec![filled[1] & 1])
            }
            _ => Err(fault("NotImplementedError", "nothing")),
        };
        outcome.completions.push(completion(call.id, result));
    }
}

#[cfg(target_arch = "wasm32")]
fn memory_end() -> usize {
    core::arch::wasm32::memory_size(0) << 16
}

/// Only as a guest is there such an end.
#[cfg(not(target_arch = "wasm32"))]
fn memory_end() -> usize {
    unimplemented!("this is no guest")
}

fn peek(at: usize) -> u8 {
    // SAFETY: in a guest every address is its own, or traps.
    unsafe { black_box(at as *const u8).read_volatile() }
}

/// Recurses without touching memory, so that it is the host's stack that ends.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    let deeper = recurse(depth + 1);
    deeper.wrapping_mul(deeper) ^ depth
}

fn completion(call: u64, outcome: Result<Vec<u8>, Fault>) -> Completion {
    Completion { call, outcome, grant: Grant::None }
}

fn fault(kind: &str, message: &str) -> Fault {
    Fault { kind: kind.into(), message: message.into(), data: None }
}

// A linker for anything else takes no such names.
#[cfg(target_arch = "wasm32")]
export!(Plugin);
