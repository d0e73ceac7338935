//! Frames: every kind survives, and nothing that is cut or changed does any harm.

use proptest::prelude::*;
use steward_wire::fault::Effect;
use steward_wire::frame::*;
use steward_wire::{Fault, Ident, Limits, Malformed, check};

use crate::properties;
use crate::support::any_value;

/// What frames are made of; they borrow it.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) seq: u64,
    pub(crate) ident: u64,
    pub(crate) owner: u64,
    pub(crate) index: u16,
    pub(crate) name: String,
    pub(crate) item: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) idents: Vec<u64>,
    pub(crate) acked: Acked,
}

fn any_parts() -> impl Strategy<Value = Parts> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u64>());
    let payloads = (any::<String>(), any_value(2), any::<Vec<u8>>());
    (numbers, payloads, prop::collection::vec(any::<u64>(), 0..5), any_acked()).prop_map(
        |((seq, ident, owner, index, number), (name, value, bytes), idents, acked)| {
            let item = value.to_vec();
            Parts { seq, ident, owner, index, name, item, bytes, number, idents, acked }
        },
    )
}

fn any_acked() -> impl Strategy<Value = Acked> {
    (0u64..1 << 40, prop::collection::vec((0u64..1000, 0u64..1000), 0..5)).prop_map(|(floor, steps)| {
        let mut above = floor;
        let ranges = steps
            .into_iter()
            .map(|(gap, more)| {
                let range = (above + gap, above + gap + more);
                above = range.1 + 1;
                range
            })
            .collect();
        Acked { floor, ranges }
    })
}

/// A frame of every kind, with every combination of optional fields, named.
pub(crate) fn client_frames(parts: &Parts) -> Vec<(&'static str, ClientFrame<'_>)> {
    let seq = parts.seq;
    let call = |method, deadline_ms, guard| Call {
        seq,
        ident: Ident(parts.ident),
        owner: parts.owner,
        method,
        args: &parts.item,
        deadline_ms,
        guard,
    };
    let (index, name) = (Method::Index(parts.index), Method::Name(&parts.name));
    let guard = Some(Guard { lock: Ident(parts.ident), fence: parts.number });
    let create = |name| Create { seq, owner: parts.owner, typeid: &parts.name, args: &parts.item, name, idle_ms: None };
    let idents = || parts.idents.iter().copied().map(Ident);
    vec![
        ("create", ClientFrame::Create(create(None))),
        ("create, named", ClientFrame::Create(create(Some(&parts.name)))),
        (
            "create, named while used",
            ClientFrame::Create(Create { idle_ms: Some(parts.number), ..create(Some(&parts.name)) }),
        ),
        ("call", ClientFrame::Call(call(index, None, None))),
        ("call by name", ClientFrame::Call(call(name, None, None))),
        ("call that may park for a time", ClientFrame::Call(call(index, Some(parts.number), None))),
        ("call under a guard", ClientFrame::Call(call(index, None, guard))),
        ("call under a guard that may not park", ClientFrame::Call(call(index, Some(0), guard))),
        ("batch", ClientFrame::Batch(vec![call(index, Some(1), guard), call(name, None, None)])),
        ("empty batch", ClientFrame::Batch(vec![])),
        ("cancel", ClientFrame::Cancel { seq }),
        (
            "refs",
            ClientFrame::Refs(Refs {
                incref: idents().collect(),
                drop: idents().map(|ident| (ident, parts.number)).collect(),
                ..Refs::default()
            }),
        ),
        (
            "refs, numbered",
            ClientFrame::Refs(Refs { incref: idents().collect(), number: parts.seq, ..Refs::default() }),
        ),
        (
            "refs, with tokens that left",
            ClientFrame::Refs(Refs { shared: idents().collect(), number: parts.number, ..Refs::default() }),
        ),
        ("ack", ClientFrame::Ack),
        ("heartbeat", ClientFrame::Heartbeat),
        ("fork", ClientFrame::Fork { seq }),
        ("goodbye of a client", ClientFrame::Goodbye),
        ("describe all types", ClientFrame::Describe { seq, subject: Subject::All }),
        ("describe a type", ClientFrame::Describe { seq, subject: Subject::Typeid(&parts.name) }),
        ("describe an object", ClientFrame::Describe { seq, subject: Subject::Object(Ident(parts.ident)) }),
        (
            "upload",
            ClientFrame::Upload(Upload {
                seq,
                upload: parts.owner,
                offset: parts.ident,
                total: parts.number,
                chunk: &parts.bytes,
            }),
        ),
    ]
}

/// The same for the host; `fault` is the payload of one reply.
pub(crate) fn host_frames<'a>(parts: &'a Parts, fault: &'a [u8]) -> Vec<(&'static str, HostFrame<'a>)> {
    let reply = |effect, payload, grant| {
        HostFrame::Reply(Reply {
            seq: parts.seq,
            effect,
            payload,
            epoch: parts.owner,
            version: parts.number,
            index: u64::from(parts.index),
            grant,
        })
    };
    let grant = |abandoned| Some(Grant { fence: parts.number, abandoned });
    vec![
        ("reply", reply(Effect::Returned, &parts.item, None)),
        ("reply with a grant", reply(Effect::Returned, &parts.item, grant(false))),
        ("reply with a grant after an abandoned one", reply(Effect::Returned, &parts.item, grant(true))),
        ("reply: raised", reply(Effect::Raised, fault, None)),
        ("reply: refused", reply(Effect::Refused, fault, None)),
        ("reply: unknown", reply(Effect::Unknown, fault, None)),
        ("reply: poisoned", reply(Effect::Poisoned, fault, None)),
        ("heartbeat of a host", HostFrame::Heartbeat),
        ("goodbye of a host", HostFrame::Goodbye { reason: &parts.name }),
    ]
}

pub(crate) fn fault() -> Fault {
    Fault::raised("KeyError", "key is absent").with_data(vec![0x61, b'k'])
}

fn encoded(fault: &Fault) -> Vec<u8> {
    let mut out = Vec::new();
    fault.put(&mut out);
    out
}

/// Encoded frames of every kind, without their length.
fn bodies(parts: &Parts) -> Vec<Vec<u8>> {
    let fault = encoded(&fault());
    let client = client_frames(parts).into_iter().map(|(_, frame)| {
        let mut out = Vec::new();
        frame.put(Some(&parts.acked), &mut out);
        out
    });
    let host = host_frames(parts, &fault).into_iter().map(|(_, frame)| {
        let mut out = Vec::new();
        frame.put(&mut out);
        out
    });
    client.chain(host).map(|frame| frame[LENGTH_BYTES..].to_vec()).collect()
}

proptest! {
    #[test]
    fn every_frame_survives_its_encoding(parts in any_parts()) {
        for (_, frame) in client_frames(&parts) {
            for acked in [None, Some(parts.acked.clone())] {
                let mut out = Vec::new();
                frame.put(acked.as_ref(), &mut out);
                let body = &out[LENGTH_BYTES..];
                prop_assert_eq!(length(&out), Some(body.len()));
                prop_assert!(check(body, &Limits::default()).is_ok());
                prop_assert_eq!(ClientFrame::read(body), Ok((frame.clone(), acked)));
            }
        }
        let fault = encoded(&fault());
        for (_, frame) in host_frames(&parts, &fault) {
            let mut out = Vec::new();
            frame.put(&mut out);
            let body = &out[LENGTH_BYTES..];
            prop_assert!(check(body, &Limits::default()).is_ok());
            prop_assert_eq!(HostFrame::read(body), Ok(frame));
        }
    }

    #[test]
    fn a_cut_frame_is_refused(parts in any_parts(), cut in any::<prop::sample::Index>()) {
        for body in bodies(&parts) {
            let short = &body[..cut.index(body.len())];
            prop_assert!(ClientFrame::read(short).is_err());
            prop_assert!(HostFrame::read(short).is_err());
            prop_assert!(check(short, &Limits::default()).is_err());
        }
    }

    #[test]
    fn changed_bits_do_no_harm(parts in any_parts(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        for mut body in bodies(&parts) {
            for flip in &flips {
                let bit = flip.index(8 * body.len());
                body[bit / 8] ^= 1 << (bit % 8);
            }
            properties::item(&body);
            properties::frame(&body);
        }
    }

    #[test]
    fn no_bytes_do_any_harm(bytes in any::<Vec<u8>>()) {
        properties::item(&bytes);
        properties::frame(&bytes);
        properties::sign_in(&bytes);
    }

    #[test]
    fn a_fault_survives_its_encoding(kind in any::<String>(), message in any::<String>(), data in any_value(2), retryable: bool) {
        // Null data is no data.
        let data = Some(data.to_vec()).filter(|data| data != &[0xf6]);
        for data in [None, data] {
            let fault = Fault { effect: Effect::Refused, kind: kind.clone(), message: message.clone(), data, retryable };
            prop_assert_eq!(Fault::read(Effect::Refused, &encoded(&fault)), Ok(fault));
        }
    }
}

fn put(frame: &ClientFrame<'_>, acked: Option<&Acked>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.put(acked, &mut out);
    out.split_off(LENGTH_BYTES)
}

#[test]
fn the_fullest_frames_pass_and_fuller_ones_do_not() {
    let call = Call {
        seq: 1,
        ident: Ident(2),
        owner: 3,
        method: Method::Index(4),
        args: &[0x80],
        deadline_ms: None,
        guard: None,
    };
    let batch = |count| put(&ClientFrame::Batch(vec![call.clone(); count]), None);
    assert!(ClientFrame::read(&batch(BATCH_CALLS_MAX)).is_ok());
    assert!(matches!(ClientFrame::read(&batch(BATCH_CALLS_MAX + 1)), Err(Malformed::Frame(_))));

    let refs = |incref, drop| {
        put(
            &ClientFrame::Refs(Refs {
                incref: vec![Ident(1); incref],
                drop: vec![(Ident(1), 1); drop],
                ..Refs::default()
            }),
            None,
        )
    };
    assert!(ClientFrame::read(&refs(REFS_MAX, REFS_MAX)).is_ok());
    assert!(matches!(ClientFrame::read(&refs(REFS_MAX + 1, 0)), Err(Malformed::Frame(_))));
    assert!(matches!(ClientFrame::read(&refs(0, REFS_MAX + 1)), Err(Malformed::Frame(_))));

    let acked = |ranges: usize| {
        let ranges = (0..ranges as u64).map(|n| (3 * n, 3 * n + 1)).collect();
        put(&ClientFrame::Ack, Some(&Acked { floor: 0, ranges }))
    };
    assert!(ClientFrame::read(&acked(ACKED_RANGES_MAX)).is_ok());
    assert!(matches!(ClientFrame::read(&acked(ACKED_RANGES_MAX + 1)), Err(Malformed::Frame(_))));
}

#[test]
fn acknowledged_ranges_ascend_and_do_not_overlap() {
    let read = |floor, ranges: &[(u64, u64)]| {
        ClientFrame::read(&put(&ClientFrame::Ack, Some(&Acked { floor, ranges: ranges.to_vec() }))).map(|_| ())
    };
    assert_eq!(read(5, &[(5, 5), (6, 9), (u64::MAX, u64::MAX)]), Ok(()));
    for (floor, ranges) in [(5, &[(4, 6)][..]), (0, &[(2, 1)]), (0, &[(1, 3), (3, 4)]), (0, &[(9, 9), (1, 1)])] {
        assert!(matches!(read(floor, ranges), Err(Malformed::Frame(_))), "{ranges:?} above {floor}");
    }
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let mut goodbye = put(&ClientFrame::Goodbye, None);
    goodbye[0] += 2;
    goodbye.extend([0x82, 0x01, 0x02, 0x61, b'x']);
    assert_eq!(ClientFrame::read(&goodbye), Ok((ClientFrame::Goodbye, None)));
    let reply = [0x89, 3, 1, 0, 0xf6, 1, 1, 0, 0xf6, 0x80];
    assert!(matches!(HostFrame::read(&reply), Ok(HostFrame::Reply(Reply { seq: 1, grant: None, .. }))));
}

#[test]
fn each_side_refuses_the_other_sides_frames() {
    let goodbye = put(&ClientFrame::Goodbye, None);
    assert!(HostFrame::read(&goodbye).is_err());
    let mut reply = Vec::new();
    HostFrame::Goodbye { reason: "" }.put(&mut reply);
    assert!(ClientFrame::read(&reply[LENGTH_BYTES..]).is_err());
}
