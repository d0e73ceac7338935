//! What a step may do, and what happens to a guest that does something else.

use std::time::{Duration, Instant};

use steward_host::guest::GuestConfig;
use steward_objects::{Args, Effect, Ident, Input, Value, Why, common};
use steward_wire::Token;

use super::{Driven, Loaded, config, create, probe};

const NULL: &[u8] = &[0xf6];
const FALSE: &[u8] = &[0xf4];

/// `((#7), {})`, with #7 as a token.
fn args_with_token() -> Vec<u8> {
    let token = Value::Token(Token { typeid: "Lock".into(), ident: Ident(7), address: None });
    Value::List(vec![Value::List(vec![token]), Value::Map(vec![])]).to_vec()
}

/// A call of `method` fails with `message` and has no effect: its object goes on as it was, and so does another one of the
/// same plugin.
pub(super) fn fails(config: GuestConfig, method: &str, message: &str) {
    let plugin = probe(config);
    let mut neighbour = Driven::new(&plugin);
    let mut object = Driven::new(&plugin);
    let parked = object.start("park", Args::none());
    let fault = object.call(method).unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "GuestTrap", false));
    assert_eq!(fault.message, format!("{message}; the call had no effect"));
    assert_eq!(object.out.replies().len(), 1, "nothing of a failed step is seen");
    assert!(object.out.held().is_empty() && !object.out.is_changed() && object.out.poisoned().is_none());
    assert_eq!(object.call("echo").unwrap(), Args::none().item());
    object.call("release").unwrap();
    assert_eq!(object.answer(parked).unwrap(), NULL);
    assert_eq!(neighbour.call("echo").unwrap(), Args::none().item());
}

#[test]
fn echo_returns_its_arguments() {
    let mut object = Driven::new(&probe(config()));
    let args = Value::List(vec![Value::List(vec![Value::Text("héllo".into())]), Value::Map(vec![])]).to_vec();
    let id = object.start("echo", Args::new(&args, false));
    assert_eq!(object.answer(id).unwrap(), args);
    assert!(!object.out.is_changed());
}

/// A call parks, another one answers it and itself; a third is given up.
#[test]
fn parked_call_is_answered_by_a_later_step() {
    let mut object = Driven::new(&probe(config()));
    let parked = object.start("park", Args::none());
    assert!(object.out.replies().is_empty());
    let release = object.start("release", Args::none());
    assert_eq!(object.out.replies().iter().map(|reply| reply.call).collect::<Vec<_>>(), [parked, release]);
    assert_eq!(object.answer(parked).unwrap(), NULL);
    assert!(object.out.is_changed());

    let parked = object.start("park", Args::none());
    object.step(Input::Cancel { call: parked, why: Why::Deadline, now_ms: 2_000 });
    assert_eq!(object.answer(parked).unwrap(), FALSE);
    // Given up twice: the guest, which would answer again, is not bothered.
    object.step(Input::Cancel { call: parked, why: Why::Deadline, now_ms: 2_000 });
    assert!(object.out.replies().is_empty() && object.out.poisoned().is_none());
}

#[test]
fn woken_guest_answers_what_waits() {
    let mut object = Driven::new(&probe(config()));
    let parked = object.start("wake", Args::none());
    assert_eq!(object.out.wake_at_ms(), Some(1_050));
    object.step(Input::Tick { now_ms: 1_050 });
    assert_eq!(object.answer(parked).unwrap(), NULL);
}

#[test]
fn fault_of_a_guest_is_raised_with_its_data() {
    let fault = Driven::new(&probe(config())).call("raise").unwrap_err();
    assert_eq!(
        (fault.effect, fault.kind.as_str(), fault.message.as_str()),
        (Effect::Raised, "KeyError", "no such key")
    );
    assert_eq!(fault.data.as_deref(), Some(&[0x01][..]));
}

#[test]
fn grants_get_rising_fences_from_the_host() {
    let mut object = Driven::new(&probe(config()));
    for fence in 1..=3 {
        object.start("grant", Args::none());
        let grant = object.out.replies()[0].grant.unwrap();
        assert_eq!((grant.fence, grant.abandoned), (fence, false));
    }
}

/// A token that came is held, used while it is held, and let go; then it is the guest's no more.
#[test]
fn guest_holds_the_tokens_that_it_was_given() {
    let mut object = Driven::new(&probe(config()));
    let args = args_with_token();
    object.start("hold", Args::new(&args, true));
    assert_eq!(object.out.held(), [Ident(7)]);
    // Held already, so it need not come again.
    object.start("hold", Args::none());
    assert_eq!(object.out.held(), [Ident(7)]);
    object.start("invoke", Args::none());
    let invocations = object.out.take_invocations();
    assert_eq!((invocations[0].ident, invocations[0].method.as_str()), (Ident(7), "get"));
    let parked = object.start("park", Args::none());
    object.step(Input::Returned { tag: 1, outcome: Ok(&args), now_ms: 1_000 });
    assert_eq!(object.answer(parked).unwrap(), args);
    object.start("let_go", Args::none());
    object.start("let_go", Args::none());
    assert_eq!(object.out.let_go_of(), [Ident(7)]);
    let fault = object.call("let_go").unwrap_err();
    assert!(fault.message.contains("it used a token of #7, which it was not given"), "{}", fault.message);
}

#[test]
fn token_may_come_back_in_a_reply_only_if_it_was_given() {
    let mut object = Driven::new(&probe(config()));
    let args = args_with_token();
    let id = object.start("echo", Args::new(&args, true));
    assert_eq!(object.answer(id).unwrap(), args);
    // The same bytes where the host saw no token: as if the guest had made it up.
    let id = object.start("echo", Args::new(&args, false));
    let fault = object.answer(id).unwrap_err();
    assert!(fault.message.contains("it used a token of #7, which it was not given"), "{}", fault.message);
}

#[test]
fn methods_that_every_object_has_are_answered_for_a_guest_without_them() {
    let mut object = Driven::new(&probe(config()));
    for method in [common::STR, common::REPR] {
        let id = object.start_index(method, Args::none());
        assert_eq!(object.answer(id).unwrap(), Value::Text("<Probe object #3>".into()).to_vec());
    }
    let id = object.start_index(common::GET_VALUE, Args::none());
    let fault = object.answer(id).unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str()), (Effect::Raised, "TypeError"));
    let id = object.start_index(200, Args::none());
    assert_eq!(object.answer(id).unwrap_err().effect, Effect::Refused);
}

#[test]
fn nothing_joins_the_state_of_a_guest() {
    let mut object = Driven::new(&probe(config()));
    object.step(Input::Join { call: 1, typeid: "Condition", to: 0, args: Args::none() });
    assert_eq!(object.answer(1).unwrap_err().kind, "TypeError");
}

/// The limit is of CPU time: at half of it nothing happens, and it is met within the promised 100 ms.
#[test]
fn endless_loop_is_cut_at_its_deadline() {
    let started = Instant::now();
    let step = GuestConfig { step_cpu_ms: 50, ..config() };
    fails(step, "spin", "guest trapped in `Probe.spin`: cut after 50 ms of CPU time");
    assert!(started.elapsed() >= Duration::from_millis(45));
}

#[test]
fn long_step_within_its_deadline_is_not_cut() {
    let mut object = Driven::new(&probe(GuestConfig { step_cpu_ms: 30_000, ..config() }));
    assert_eq!(object.call("work").unwrap(), NULL);
}

#[test]
fn endless_loop_in_any_input_is_cut() {
    let mut object = Driven::new(&probe(GuestConfig { step_cpu_ms: 20, ..config() }));
    object.call("spin_when_lost").unwrap();
    object.step(Input::OwnerLost { session: 1, orderly: false, now_ms: 1_000 });
    let expected = "guest trapped in `Probe` when an owner was lost: cut after 20 ms of CPU time";
    assert_eq!(object.poison().message, expected);
}

fn refused(plugin: &Loaded, typeid: &str) -> (Effect, String) {
    let fault = create(plugin, typeid).err().expect("the object is not made");
    (fault.effect, fault.message)
}

#[test]
fn creation_that_traps_or_loops_or_raises_makes_no_object() {
    let plugin = probe(GuestConfig { step_cpu_ms: 20, ..config() });
    let cut = "guest trapped in `SpinInCreate`: cut after 20 ms of CPU time";
    assert_eq!(refused(&plugin, "SpinInCreate"), (Effect::Refused, cut.into()));
    let trap = "guest trapped in `TrapInCreate`: unreachable executed";
    assert_eq!(refused(&plugin, "TrapInCreate"), (Effect::Refused, trap.into()));
    assert_eq!(refused(&plugin, "Refuses"), (Effect::Raised, "not today".into()));
}

#[test]
fn objects_beyond_the_limit_are_refused_until_one_goes() {
    let plugin = probe(GuestConfig { objects_max: 2, shard_objects_max: 1, ..config() });
    let _first = create(&plugin, "Probe").unwrap();
    let second = create(&plugin, "Probe").unwrap();
    let fault = create(&plugin, "Probe").err().expect("there is no room");
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "OverQuota", true));
    drop(second);
    assert!(create(&plugin, "Probe").is_ok());
}

/// A poisoned object gives its memory back at once, though its proxies live on. One that is made again keeps its place.
#[test]
fn poisoned_object_makes_room_for_another_and_one_that_is_made_again_does_not() {
    let plugin = probe(GuestConfig { objects_max: 1, shard_objects_max: 1, step_cpu_ms: 20, ..config() });
    let mut object = Driven::new(&plugin);
    object.start("trap", Args::none());
    assert!(create(&plugin, "Probe").is_err());
    object.call("spin_when_lost").unwrap();
    object.step(Input::OwnerLost { session: 1, orderly: false, now_ms: 1_000 });
    assert!(create(&plugin, "Probe").is_ok());
}

#[test]
fn trap_fails_its_call() {
    fails(config(), "trap", "guest trapped in `Probe.trap`: unreachable executed");
}

#[test]
fn deep_recursion_ends_at_the_stack() {
    fails(config(), "recurse", "guest trapped in `Probe.recurse`: call stack exhausted");
}

#[test]
fn reply_that_is_no_item_fails_its_call() {
    let message =
        "guest broke the rules in `Probe.bad_cbor`: its payload is not an item: indefinite lengths are not accepted";
    fails(config(), "bad_cbor", message);
}

#[test]
fn fault_whose_data_is_no_item_fails_its_call() {
    let message =
        "guest broke the rules in `Probe.raise_badly`: its payload is not an item: indefinite lengths are not accepted";
    fails(config(), "raise_badly", message);
}

#[test]
fn answer_to_a_call_that_does_not_wait_fails_its_step() {
    let message = "guest broke the rules in `Probe.unknown_completion`: \
                   it answered call 1000002, which does not wait for an answer";
    fails(config(), "unknown_completion", message);
    let message = "guest broke the rules in `Probe.twice`: it answered call 2, which does not wait for an answer";
    fails(config(), "twice", message);
}

#[test]
fn token_that_never_came_fails_its_call() {
    for method in ["hold", "invoke", "let_go"] {
        let message =
            format!("guest broke the rules in `Probe.{method}`: it used a token of #7, which it was not given");
        fails(config(), method, &message);
    }
}

/// A little beyond the limit is the host's to refuse; far beyond it, the bytes never leave the sandbox.
#[test]
fn reply_beyond_its_limit_fails_its_call() {
    // Size is what ends these, never the time that a slow machine takes to move 6 MiB.
    let config = || GuestConfig { step_cpu_ms: 60_000, ..config() };
    let message = "guest broke the rules in `Probe.big_reply`: its payload is 6291461 bytes, limit is 6291460";
    fails(GuestConfig { reply_bytes_max: 6_291_460, ..config() }, "big_reply", message);

    let mut object = Driven::new(&probe(GuestConfig { reply_bytes_max: 6_291_461, ..config() }));
    assert_eq!(object.call("big_reply").unwrap().len(), 6_291_461);

    let plugin = probe(config());
    let mut object = Driven::new(&plugin);
    let fault = object.call("big_reply").unwrap_err();
    assert!(fault.message.starts_with("guest trapped in `Probe.big_reply`: "));
}

#[test]
fn calls_beyond_what_may_wait_are_refused() {
    let mut object = Driven::new(&probe(GuestConfig { parked_max: 2, ..config() }));
    object.start("park", Args::none());
    object.start("park", Args::none());
    let fault = object.call("release").unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "OverQuota", true));
    object.step(Input::Tick { now_ms: 2_000 });
    assert!(object.call("release").is_ok());
}

#[test]
fn placement_follows_the_length_of_steps() {
    let plugin = probe(config());
    let mut object = Driven::new(&plugin);
    let placement = plugin.types()[0].placement();
    assert!(!placement.inline());
    // A step may look long on a machine that is busy, but hardly 64 times in a row.
    while !placement.inline() {
        object.call("echo").unwrap();
    }
    while placement.inline() {
        object.call("work").unwrap();
    }
    // Other types of the plugin are not judged by it.
    assert!(!plugin.types()[1].placement().inline());
}
