//! What comes to a session that has ended: nothing is let in.

use steward_host::Limits;
use steward_host::sim::Host;
use steward_wire::Value;
use steward_wire::frame::{ClientFrame, Create};

fn create(seq: u64) -> Vec<u8> {
    let args = Value::List(vec![Value::List(vec![]), Value::Map(vec![])]).to_vec();
    let create = Create { seq, owner: 1, typeid: "Lock", args: &args, name: Some("late"), idle_ms: None };
    let mut frame = Vec::new();
    ClientFrame::Create(create).put(None, &mut frame);
    frame
}

#[test]
fn creation_in_one_piece_with_a_goodbye_is_not_let_in() {
    let host = Host::new(0, Limits::shared(), Vec::new());
    let mut lane = host.lane(host.begin().0).unwrap();
    let mut frames = Vec::new();
    ClientFrame::Goodbye.put(None, &mut frames);
    frames.extend(create(1));
    lane.feed(&frames);
    assert_eq!((host.counters().sessions, host.counters().names), (0, 0));
}

/// A large call is on its way when its session ends; the connection is still there.
#[test]
fn stream_of_an_ended_session_is_closed_and_not_read() {
    let host = Host::new(0, Limits::shared(), Vec::new());
    let (session, _) = host.begin();
    let lane = host.lane(session).unwrap();
    host.end(session, false);
    let mut stream = lane.stream();
    assert!(!stream.feed(&create(1)));
    assert_eq!(host.counters().names, 0);
    assert!(!stream.take().is_empty(), "it says goodbye");
}
