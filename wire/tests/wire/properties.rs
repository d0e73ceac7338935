//! What must hold for any bytes at all. The fuzz targets run the same functions.

use steward_wire::auth::{Challenge, Hello, Proof, ServerAnswer, Welcome};
use steward_wire::check::DEPTH_MAX;
use steward_wire::frame::{ClientFrame, HostFrame, LENGTH_BYTES};
use steward_wire::{Fault, Limits, Malformed, Value, check, fault::Effect, value};

/// The validator and the decoder agree, and what they accept has one encoding.
pub(crate) fn item(bytes: &[u8]) {
    let any = Limits { depth_max: DEPTH_MAX, items_max: u64::MAX };
    let checked = check(bytes, &any);
    match (&checked, Value::decode(bytes)) {
        (Ok(checked), Ok(value)) => {
            let encoded = value.to_vec();
            assert_eq!(check(&encoded, &any).map(|again| again.tokens), Ok(checked.tokens));
            assert_eq!(Value::decode(&encoded).map(|again| again.to_vec()), Ok(encoded));
        }
        (Ok(_), Err(error)) => assert_eq!(error, Malformed::DuplicateKey),
        (Err(refused), Err(error)) => assert_eq!(*refused, error),
        (Err(refused), Ok(_)) => panic!("decoded although {refused}"),
    }
    let mut tokens = 0;
    value::tokens(bytes, &mut |_| tokens += 1);
    if let Ok(checked) = checked {
        assert_eq!(checked.tokens, tokens > 0);
        assert!(checked.items <= bytes.len() as u64);
    }
    if let Some(token) = value::token_of(bytes) {
        let mut encoded = Vec::new();
        token.encode(&mut encoded);
        assert_eq!(value::token_of(&encoded), Some(token));
    }
}

/// What reads as a frame of either side reads the same after it was written again.
pub(crate) fn frame(body: &[u8]) {
    if let Ok((frame, acked)) = ClientFrame::read(body) {
        let mut written = Vec::new();
        frame.put(acked.as_ref(), &mut written);
        assert_eq!(ClientFrame::read(&written[LENGTH_BYTES..]), Ok((frame, acked)));
    }
    if let Ok(frame) = HostFrame::read(body) {
        let mut written = Vec::new();
        frame.put(&mut written);
        assert_eq!(HostFrame::read(&written[LENGTH_BYTES..]), Ok(frame));
    }
    if let Ok(fault) = Fault::read(Effect::Raised, body) {
        let mut written = Vec::new();
        fault.put(&mut written);
        assert_eq!(Fault::read(Effect::Raised, &written), Ok(fault));
    }
}

/// The same for the messages of sign-in.
pub(crate) fn sign_in(body: &[u8]) {
    if let Ok(hello) = Hello::decode(body) {
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
    if let Ok(challenge) = Challenge::decode(body) {
        assert_eq!(Challenge::decode(&challenge.encode()), Ok(challenge));
    }
    if let Ok(proof) = Proof::decode(body) {
        assert_eq!(Proof::decode(&proof.encode()), Ok(proof));
    }
    if let Ok(welcome) = Welcome::decode(body) {
        assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    }
    if let Ok(answer) = ServerAnswer::decode(body) {
        let written = match &answer {
            ServerAnswer::Challenge(challenge) => challenge.encode(),
            ServerAnswer::Welcome(welcome) => welcome.encode(),
            ServerAnswer::Refused(refusal) => refusal.encode(),
        };
        assert_eq!(ServerAnswer::decode(&written), Ok(answer));
    }
}
