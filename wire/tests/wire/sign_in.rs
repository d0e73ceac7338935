//! The handshake: it succeeds in one way and fails in every other.

use proptest::prelude::*;
use steward_wire::Malformed;
use steward_wire::auth::*;

const KEY: [u8; 32] = [7; 32];
const EXPORTER: [u8; 32] = [9; 32];
const TLS: Channel<'static> = Channel::Tls { exporter: &EXPORTER, leaf_certificate: b"certificate" };

fn hello() -> Hello {
    Hello {
        version: VERSION,
        tenant: "acme".into(),
        key_id: "2026-01".into(),
        nonce: [1; 32],
        algorithms: vec![ALGORITHM.into()],
        resume: None,
        uid: None,
    }
}

fn challenge() -> Challenge {
    Challenge { version: VERSION, algorithm: ALGORITHM.into(), nonce: [2; 32], server_id: "host-1".into() }
}

fn welcome() -> Welcome {
    Welcome { session: 5, secret: [3; 32], epoch: 11, lease_ms: 10_000, limits: SessionLimits::default() }
}

fn proofs(key: &[u8], hello: &Hello, challenge: &Challenge, channel: &Channel<'_>) -> Proofs {
    Proofs::new(key, &hello.encode(), &challenge.encode(), channel).expect("a sound handshake")
}

/// Whether a client that saw these messages on its channel is let in by a host that saw the sound ones, and whether
/// it would take the host's welcome.
#[track_caller]
fn differs(key: &[u8], hello_seen: &Hello, challenge_seen: &Challenge, channel_seen: &Channel<'_>) {
    let host = proofs(&KEY, &hello(), &challenge(), &TLS);
    let client = proofs(key, hello_seen, challenge_seen, channel_seen);
    assert!(!host.verify_client(&client.client()), "let in");
    let body = welcome().encode();
    assert!(!client.verify_welcome(&body, &host.welcome_mac(&body)), "welcome taken");
}

#[test]
fn who_holds_the_key_gets_in_and_knows_the_host() {
    let client = proofs(&KEY, &hello(), &challenge(), &TLS);
    let host = proofs(&KEY, &hello(), &challenge(), &TLS);
    assert!(host.verify_client(&client.client()));
    let body = welcome().encode();
    let signed = SignedWelcome { mac: host.welcome_mac(&body), body };
    let Ok(ServerAnswer::Welcome(received)) = ServerAnswer::decode(&signed.encode()) else { panic!("a welcome") };
    assert!(client.verify_welcome(&received.body, &received.mac));
    assert_eq!(Welcome::decode(&received.body), Ok(welcome()));
}

#[test]
fn another_key_is_refused_by_both() {
    differs(&[8; 32], &hello(), &challenge(), &TLS);
}

#[test]
fn any_change_of_a_message_is_refused() {
    for changed in [
        Hello { tenant: "acmf".into(), ..hello() },
        Hello { key_id: "2026-02".into(), ..hello() },
        Hello { nonce: [0; 32], ..hello() },
        Hello { resume: Some(1), ..hello() },
        Hello { algorithms: vec![ALGORITHM.into(), "x".into()], ..hello() },
    ] {
        differs(&KEY, &changed, &challenge(), &TLS);
    }
    for changed in
        [Challenge { nonce: [0; 32], ..challenge() }, Challenge { server_id: "host-2".into(), ..challenge() }]
    {
        differs(&KEY, &hello(), &changed, &TLS);
    }
}

#[test]
fn a_relay_between_two_connections_is_refused() {
    differs(&KEY, &hello(), &challenge(), &Channel::Tls { exporter: &[0; 32], leaf_certificate: b"certificate" });
    differs(&KEY, &hello(), &challenge(), &Channel::Tls { exporter: &EXPORTER, leaf_certificate: b"another" });
    differs(&KEY, &Hello { uid: Some(0), ..hello() }, &challenge(), &Channel::Unix { client_uid: 0 });
}

#[test]
fn on_a_unix_socket_the_uid_is_part_of_the_proof() {
    let hello = Hello { uid: Some(1000), ..hello() };
    let channel = Channel::Unix { client_uid: 1000 };
    let client = proofs(&KEY, &hello, &challenge(), &channel);
    assert!(proofs(&KEY, &hello, &challenge(), &channel).verify_client(&client.client()));
    for (claimed, actual) in [(Some(1000), 1001), (None, 1000)] {
        let hello = Hello { uid: claimed, ..hello.clone() };
        let refused = Proofs::new(&KEY, &hello.encode(), &challenge().encode(), &Channel::Unix { client_uid: actual });
        assert!(matches!(refused, Err(Malformed::SignIn(_))), "{claimed:?} over {actual}");
    }
    let refused = Proofs::new(&KEY, &hello.encode(), &challenge().encode(), &TLS);
    assert!(matches!(refused, Err(Malformed::SignIn(_))), "a uid over TLS");
}

#[test]
fn a_proof_sent_back_proves_nothing() {
    // Reflection: neither direction's MAC is ever the other's.
    let both = proofs(&KEY, &hello(), &challenge(), &TLS);
    assert!(!both.verify_client(&both.welcome_mac(b"")));
    assert!(!both.verify_client(&both.welcome_mac(&welcome().encode())));
    assert!(!both.verify_welcome(b"", &both.client()));
    // Nor is a message of one direction a message of the other.
    assert!(Challenge::decode(&hello().encode()).is_err());
    assert!(Hello::decode(&challenge().encode()).is_err());
    let swapped = Proofs::new(&KEY, &challenge().encode(), &hello().encode(), &TLS);
    assert!(matches!(swapped, Err(Malformed::SignIn(_))));
}

#[test]
fn a_downgrade_is_refused() {
    let weaker = Challenge { algorithm: "none".into(), ..challenge() };
    let refused = Proofs::new(&KEY, &hello().encode(), &weaker.encode(), &TLS);
    assert!(matches!(refused, Err(Malformed::SignIn(_))), "an algorithm nobody offered");
    let offered = Hello { algorithms: vec!["none".into()], ..hello() };
    assert!(Proofs::new(&KEY, &offered.encode(), &weaker.encode(), &TLS).is_err(), "offered, but not spoken here");
    assert!(Proofs::new(&KEY, &offered.encode(), &challenge().encode(), &TLS).is_err(), "spoken, but not offered");
    let older = Challenge { version: 0, ..challenge() };
    assert!(Proofs::new(&KEY, &hello().encode(), &older.encode(), &TLS).is_err(), "another version");
    // A man in the middle who takes offers away changes what both sides prove.
    let more = Hello { algorithms: vec!["hmac-sha512".into(), ALGORITHM.into()], ..hello() };
    differs(&KEY, &more, &challenge(), &TLS);
}

#[test]
fn a_session_is_resumed_with_its_secret_on_this_connection_only() {
    let here = proofs(&KEY, &hello(), &challenge(), &TLS);
    let elsewhere = proofs(&KEY, &Hello { nonce: [0; 32], ..hello() }, &challenge(), &TLS);
    let secret = [5; 32];
    assert!(here.verify_resume(&secret, &here.resume(&secret)));
    assert!(!here.verify_resume(&[6; 32], &here.resume(&secret)));
    assert!(!elsewhere.verify_resume(&secret, &here.resume(&secret)));
    assert!(!here.verify_resume(&secret, &[]));
}

#[test]
fn a_truncated_proof_is_no_proof() {
    let both = proofs(&KEY, &hello(), &challenge(), &TLS);
    assert!(!both.verify_client(&[]));
    assert!(!both.verify_client(&both.client()[..31]));
    let body = welcome().encode();
    assert!(!both.verify_welcome(&body, &both.welcome_mac(&body)[..16]));
    assert!(!both.verify_welcome(&body[1..], &both.welcome_mac(&body)));
}

#[test]
fn messages_survive_their_encoding() {
    let resuming = Hello { resume: Some(u64::MAX), uid: Some(u32::MAX), ..hello() };
    assert_eq!(Hello::decode(&hello().encode()), Ok(hello()));
    assert_eq!(Hello::decode(&resuming.encode()), Ok(resuming));
    assert_eq!(ServerAnswer::decode(&challenge().encode()), Ok(ServerAnswer::Challenge(challenge())));
    for resume in [None, Some([4; 32])] {
        let proof = Proof { proof: [3; 32], resume };
        assert_eq!(Proof::decode(&proof.encode()), Ok(proof));
    }
    for code in [RefusalCode::Denied, RefusalCode::Version, RefusalCode::TryLater] {
        let refusal = Refusal { code, message: "no".into() };
        assert_eq!(ServerAnswer::decode(&refusal.encode()), Ok(ServerAnswer::Refused(refusal)));
    }
    assert_eq!(Refusal::decode(&[0x83, 5, 0x18, 99, 0x60]).unwrap().code, RefusalCode::Denied, "a later code");
}

#[test]
fn the_longest_names_fit_and_longer_ones_do_not() {
    let longest = Hello {
        tenant: "t".repeat(NAME_BYTES_MAX),
        key_id: "k".repeat(NAME_BYTES_MAX),
        algorithms: vec!["a".repeat(ALGORITHM_BYTES_MAX); ALGORITHMS_MAX],
        resume: Some(u64::MAX),
        uid: Some(u32::MAX),
        ..hello()
    };
    assert!(longest.encode().len() <= CLIENT_BYTES_MAX, "{}", longest.encode().len());
    assert_eq!(Hello::decode(&longest.encode()), Ok(longest.clone()));
    for longer in [
        Hello { tenant: "t".repeat(NAME_BYTES_MAX + 1), ..hello() },
        Hello { key_id: "k".repeat(NAME_BYTES_MAX + 1), ..hello() },
        Hello { algorithms: vec!["a".repeat(ALGORITHM_BYTES_MAX + 1)], ..hello() },
        Hello { algorithms: vec!["a".into(); ALGORITHMS_MAX + 1], ..hello() },
    ] {
        assert!(matches!(Hello::decode(&longer.encode()), Err(Malformed::SignIn(_))));
    }
}

#[test]
fn a_later_version_may_say_more() {
    let mut later = hello().encode();
    later[0] += 1;
    later.extend([0x82, 0x01, 0x02]);
    assert_eq!(Hello::decode(&later), Ok(hello()), "unknown fields at the end are skipped");
    let pad = vec![0u8; CLIENT_BYTES_MAX];
    later[0] += 1;
    later.extend([0x59, 0x01, 0x00]);
    later.extend(pad);
    assert!(matches!(Hello::decode(&later), Err(Malformed::SignIn(_))), "but not without bound");
    let mut trailing = hello().encode();
    trailing.push(0);
    assert_eq!(Hello::decode(&trailing), Err(Malformed::Trailing(1)));
}

#[test]
fn an_authkey_is_long_enough_and_hidden() {
    let key = AuthKey::from_hex(&format!(" {}\n", "0aF9".repeat(16))).unwrap();
    assert_eq!(key.as_bytes(), [0x0a, 0xf9].repeat(16));
    assert_eq!(*key.to_hex(), "0af9".repeat(16));
    assert_eq!(format!("{key:?}"), "AuthKey(…)");
    assert_eq!(AuthKey::new(vec![0; 31]).unwrap_err(), AuthKeyError::TooShort { bytes: 31 });
    assert_eq!(AuthKey::from_hex("00").unwrap_err(), AuthKeyError::TooShort { bytes: 1 });
    assert_eq!(AuthKey::from_hex("0x").unwrap_err(), AuthKeyError::NotHex { at: 2 });
    assert_eq!(AuthKey::from_hex("000").unwrap_err(), AuthKeyError::NotHex { at: 4 });
    let message = AuthKey::new(vec![0; 31]).unwrap_err().to_string();
    assert_eq!(message, "authkey is 31 bytes, at least 32 are needed");
}

#[test]
fn secrets_are_not_printed() {
    let body = welcome().encode();
    let printed = format!("{:?} {:?}", welcome(), SignedWelcome { mac: [0; 32], body });
    assert!(!printed.contains("3, 3, 3"), "{printed}");
}

#[test]
fn unknown_keys_have_a_steady_dummy_of_their_own() {
    let dummy = |boot: u8, tenant: &str, key_id: &str| AuthKey::dummy(&[boot; 32], tenant, key_id).as_bytes().to_vec();
    assert_eq!(dummy(1, "a", "b"), dummy(1, "a", "b"));
    for other in [dummy(2, "a", "b"), dummy(1, "b", "b"), dummy(1, "a", "c"), dummy(1, "ab", ""), dummy(1, "", "ab")] {
        assert_ne!(dummy(1, "a", "b"), other);
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_never_passes(bit in 0usize..8 * 400) {
        let mut message = hello().encode();
        let (at, mask) = (bit / 8 % message.len(), 1 << (bit % 8));
        message[at] ^= mask;
        let host = proofs(&KEY, &hello(), &challenge(), &TLS);
        if let Ok(client) = Proofs::new(&KEY, &message, &challenge().encode(), &TLS) {
            prop_assert!(!host.verify_client(&client.client()));
        }
        let mut body = welcome().encode();
        let mac = host.welcome_mac(&body);
        let at = bit / 8 % body.len();
        body[at] ^= mask;
        prop_assert!(!host.verify_welcome(&body, &mac));
    }

    #[test]
    fn a_cut_message_is_refused(cut in any::<prop::sample::Index>()) {
        for message in [hello().encode(), challenge().encode(), welcome().encode()] {
            let short = &message[..cut.index(message.len())];
            prop_assert!(Hello::decode(short).is_err());
            prop_assert!(ServerAnswer::decode(short).is_err());
            prop_assert!(Welcome::decode(short).is_err());
        }
    }
}
