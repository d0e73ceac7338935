//! Whatever a peer sends, no type that people wait on panics, and every call is answered or parks.

use proptest::prelude::*;
use steward_objects::{Args, BUILTINS, Builtin, Call, Effect, Input, Outbox, Owner, Referent, Why, builtin};
use steward_wire::{Ident, Token, Value, cbor, value::tokens};

const TYPES: [&str; 11] = [
    "Lock",
    "RLock",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Event",
    "Barrier",
    "Queue",
    "JoinableQueue",
    "LifoQueue",
    "PriorityQueue",
];

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![-2_i64..4, any::<i64>()].prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        "[a-z]{0,3}".prop_map(Value::Text),
        Just(Value::Text("client".to_owned())),
        Just(Value::Token(Token { typeid: "Event".to_owned(), ident: Ident(5), address: None })),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(inner, 0..4).prop_map(Value::Tuple),
        ]
    })
}

/// Arguments: mostly of the right shape, sometimes any value at all.
fn items() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "n",
        "item",
        "items",
        "immediate",
        "ok",
        "parties",
        "maxsize",
        "value",
        "lease_ms",
        "receipt",
        "max_deliveries",
        "dead_letter",
        "x",
    ]);
    let shaped = (prop::collection::vec(values(), 0..3), prop::collection::vec((names, values()), 0..2));
    let shaped = shaped.prop_map(|(positional, keywords)| {
        let mut item = Vec::new();
        cbor::put_array(&mut item, 2);
        cbor::put_array(&mut item, positional.len());
        positional.iter().for_each(|value| value.encode(&mut item));
        cbor::put_map(&mut item, keywords.len());
        for (name, value) in keywords {
            cbor::put_text(&mut item, name);
            value.encode(&mut item);
        }
        item
    });
    prop_oneof![9 => shaped, 3 => Just(vec![0x82, 0x80, 0xa0]), 1 => values().prop_map(|value| value.to_vec())]
}

fn args(item: &[u8]) -> Args<'_> {
    let mut has_tokens = false;
    tokens(item, &mut |_| has_tokens = true);
    Args::new(item, has_tokens)
}

fn create(kind: &Builtin, item: &[u8]) -> Option<Box<dyn Referent>> {
    let mut out = Outbox::new(1);
    (kind.create)(args(item), &mut out).ok()
}

proptest! {
    #[test]
    fn nothing_that_a_peer_sends_panics(
        typeid in prop::sample::select(&TYPES[..]),
        constructor in items(),
        calls in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..2, 0_u64..3, items(), any::<prop::sample::Index>()), 0..40),
    ) {
        let kind = builtin(typeid).unwrap();
        let two_parties = [0x82, 0x81, 0x02, 0xa0];
        let mut object = create(kind, &constructor)
            .or_else(|| create(kind, Args::none().item()))
            .or_else(|| create(kind, &two_parties))
            .expect("an ordinary object");
        let mut out = Outbox::new(1);
        let methods = [0xffff, 0xfffe, 0xfffd, kind.methods.len() as u16];
        for (at, (method, facet, session, item, given_up)) in calls.iter().enumerate() {
            let id = at as u64 + 1;
            let index = method.index(kind.methods.len() + methods.len());
            let method = index.checked_sub(kind.methods.len()).map_or(index as u16, |at| methods[at]);
            // Only locks have facets, and only those that they gave out are called.
            let facet = if typeid.ends_with("Lock") && *facet == 1 {
                out.clear(out.fence_next(), 0);
                object.step(Input::Join { call: 10_000 + id, typeid: "Condition", to: 0, args: args(item) }, &mut out);
                prop_assert_eq!(out.replies().len(), 1);
                out.replies()[0].facet.map_or(0, |(facet, _)| facet)
            } else {
                0
            };
            out.clear(out.fence_next(), 0);
            let owner = Owner { session: *session, thread: 0 };
            object.step(Input::Call(Call { id, facet, method, owner, now_ms: 0, seed: 0, args: args(item) }), &mut out);
            let answered = out.replies().iter().filter(|reply| reply.call == id).count();
            let may_park = kind.methods.iter().any(|method| method.may_park);
            prop_assert!(answered == 1 || (answered == 0 && may_park));
            for reply in out.replies() {
                if reply.effect == Effect::Returned && reply.facet.is_none() {
                    prop_assert!(Value::decode(out.payload(reply)).is_ok());
                }
            }
            out.clear(out.fence_next(), 0);
            let call = given_up.index(calls.len() + 1) as u64;
            let why = [Why::Deadline, Why::Client][given_up.index(2)];
            object.step(Input::Cancel { call, why, now_ms: 0 }, &mut out);
        }
    }
}

#[test]
fn every_one_of_these_types_is_registered_once() {
    for typeid in TYPES {
        assert_eq!(BUILTINS.iter().filter(|kind| kind.typeid == typeid).count(), 1, "{typeid}");
    }
}

#[test]
fn unknown_methods_are_refused_and_unknown_inputs_ignored() {
    for kind in TYPES.map(|typeid| builtin(typeid).unwrap()) {
        let mut object = create(kind, Args::none().item()).or_else(|| create(kind, &[0x82, 0x81, 0x02, 0xa0])).unwrap();
        let mut out = Outbox::new(1);
        let owner = Owner { session: 1, thread: 1 };
        let method = kind.methods.len() as u16;
        let call = Call { id: 1, facet: 0, method, owner, now_ms: 0, seed: 0, args: Args::none() };
        object.step(Input::Call(call), &mut out);
        assert_eq!(out.replies()[0].effect, Effect::Refused, "{}", kind.typeid);
        out.clear(1, 0);
        for input in [
            Input::Cancel { call: 9, why: Why::Deadline, now_ms: 0 },
            Input::OwnerLost { session: 9, orderly: false, now_ms: 0 },
            Input::Returned { tag: 9, outcome: Ok(&[cbor::NULL]), now_ms: 0 },
            Input::Tick { now_ms: 0 },
            Input::Leave { facet: 9 },
        ] {
            object.step(input, &mut out);
            assert!(out.replies().is_empty() && !out.is_changed(), "{} and {input:?}", kind.typeid);
        }
    }
}
