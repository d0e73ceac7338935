//! Golden vectors: the files in `tests/vectors`, from which a client in any language can be tested.
//!
//! Each test makes its file anew, compares, and reads back what the file says. With `STEWARD_WRITE_VECTORS=1` it writes
//! the file instead: a difference in a released file is a change of the protocol.

use std::path::PathBuf;

use num_bigint::BigInt;
use serde_json::{Value as Json, json};
use steward_wire::auth::*;
use steward_wire::cbor::{Kind, Reader};
use steward_wire::frame::*;
use steward_wire::value::{Date, Decimal, Time, TimeDelta, Value};
use steward_wire::{Ident, Limits, Token, check};

use crate::frames::{Parts, client_frames, fault, host_frames};
use crate::support::{diagnostic, hex, to_hex};

/// Compares `vectors` with the file of that name, or writes it.
fn check_file(name: &str, vectors: &Json) -> Json {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tests/vectors", name].iter().collect();
    let text = format!("{vectors:#}\n");
    if std::env::var_os("STEWARD_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).expect("the folder of vectors is writable");
    }
    let found = std::fs::read_to_string(&path).expect("the file of vectors is there");
    assert!(found == text, "{name} differs from what this code writes; STEWARD_WRITE_VECTORS=1 rewrites it");
    serde_json::from_str(&found).expect("the file of vectors is JSON")
}

/// The vectors of a list in a file, as name and bytes.
fn listed<'a>(file: &'a Json, list: &str) -> Vec<(&'a str, Vec<u8>)> {
    let vectors = file[list].as_array().expect("a list of vectors");
    assert!(!vectors.is_empty());
    vectors.iter().map(|vector| (text(vector, "name"), hex(text(vector, "hex")))).collect()
}

fn text<'a>(vector: &'a Json, field: &str) -> &'a str {
    vector[field].as_str().expect("a text")
}

fn values() -> Vec<(&'static str, Value)> {
    let bigint = |text: &str| text.parse::<BigInt>().expect("digits");
    let text = |text: &str| Value::Text(text.into());
    let decimal =
        |negative, digits: u32, exponent| Value::Decimal(Decimal::Finite { negative, digits: digits.into(), exponent });
    let date = Date { year: 2026, month: 2, day: 28 };
    let naive = Time { hour: 23, minute: 59, second: 58, microsecond: 999_999, offset_s: None, fold: false };
    let aware = Time { offset_s: Some(-12_600), fold: true, ..naive };
    let token = |address: Option<&str>| {
        Value::Token(Token { typeid: "Queue".into(), ident: Ident(258), address: address.map(Into::into) })
    };
    vec![
        ("null", Value::Null),
        ("false", Value::Bool(false)),
        ("true", Value::Bool(true)),
        ("zero", Value::Int(0)),
        ("largest integer in one byte", Value::Int(23)),
        ("smallest integer in two bytes", Value::Int(24)),
        ("minus one", Value::Int(-1)),
        ("integer of four bytes", Value::Int(1_000_000)),
        ("largest signed integer", Value::Int(i64::MAX)),
        ("smallest signed integer", Value::Int(i64::MIN)),
        ("largest integer without a tag", Value::BigInt(bigint("18446744073709551615"))),
        ("smallest integer with a tag", Value::BigInt(bigint("18446744073709551616"))),
        ("smallest integer without a tag", Value::BigInt(bigint("-18446744073709551616"))),
        ("largest negative integer with a tag", Value::BigInt(bigint("-18446744073709551617"))),
        ("float", Value::Float(1.5)),
        ("minus zero", Value::Float(-0.0)),
        ("infinity", Value::Float(f64::INFINITY)),
        ("not a number", Value::Float(f64::NAN)),
        ("text", text("wasserträger")),
        ("empty text", text("")),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("bytearray", Value::ByteArray(vec![0, 255])),
        ("list", Value::List(vec![Value::Int(1), text("a"), Value::List(vec![])])),
        ("tuple", Value::Tuple(vec![Value::Int(1), Value::Int(2)])),
        ("map", Value::Map(vec![(text("a"), Value::Int(1)), (Value::Tuple(vec![Value::Int(0)]), Value::Null)])),
        ("set", Value::Set(vec![Value::Int(3), Value::Int(1)])),
        ("frozen set", Value::FrozenSet(vec![])),
        ("complex", Value::Complex(1.0, -2.0)),
        ("decimal", decimal(true, 12_345, -2)),
        ("decimal zero with an exponent", decimal(false, 0, 3)),
        ("decimal minus zero", decimal(true, 0, -1)),
        ("decimal infinity", Value::Decimal(Decimal::Infinity { negative: false })),
        ("decimal minus infinity", Value::Decimal(Decimal::Infinity { negative: true })),
        ("decimal not a number", Value::Decimal(Decimal::NaN { signalling: false })),
        ("decimal signalling not a number", Value::Decimal(Decimal::NaN { signalling: true })),
        ("date", Value::Date(date)),
        ("time", Value::Time(naive)),
        ("time with offset and fold", Value::Time(aware)),
        ("date and time", Value::DateTime(date, naive)),
        ("date and time with offset and fold", Value::DateTime(date, aware)),
        ("duration of minus one microsecond", {
            Value::TimeDelta(TimeDelta { days: -1, seconds: 86_399, microseconds: 999_999 })
        }),
        ("uuid", Value::Uuid([0x55; 16])),
        ("array of integers", Value::Array('i', vec![Value::Int(-1), Value::Int(300)])),
        ("array of doubles", Value::Array('d', vec![Value::Float(0.5)])),
        ("token", token(None)),
        ("token of another host", token(Some("steward://host:7878"))),
        ("opaque", Value::Opaque { format: "pickle".into(), bytes: vec![0x80, 4, 0x4e, 0x2e] }),
    ]
}

/// Items that a reader takes although no writer of this protocol makes them: name, bytes, what they stand for.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("half-precision float", "f93e00", "fb3ff8000000000000"),
    ("single-precision float", "fa3fc00000", "fb3ff8000000000000"),
    ("integer in a longer head than needed", "1900ff", "18ff"),
    ("tagged integer that fits 64 bits", "c24105", "05"),
    ("tagged negative integer with leading zeros", "c3420005", "25"),
];

/// Items that are refused: name and bytes. The reason is what this code says.
const REFUSED: &[(&str, &str)] = &[
    ("nothing", ""),
    ("truncated integer", "1901"),
    ("truncated text", "6261"),
    ("truncated list", "8201"),
    ("length beyond all bytes", "9bffffffffffffffff"),
    ("bytes after the item", "0000"),
    ("list of indefinite length", "9fff"),
    ("map of indefinite length", "bfff"),
    ("text of indefinite length", "7f6161ff"),
    ("break alone", "ff"),
    ("reserved head", "1c"),
    ("undefined", "f7"),
    ("simple value in two bytes", "f820"),
    ("text that is not utf-8", "62c328"),
    ("unknown tag", "c11a514b67b0"),
    ("tuple of text", "d9d3b86161"),
    ("uuid of 15 bytes", "d8254f000000000000000000000000000000"),
    ("30th of February", "d9d3be831907ea02181e"),
    ("offset of a day", "d9d3bf86000000001a0001518000"),
    ("complex of integers", "d9d3bb820102"),
    ("array with a list inside", "d9d3c18261698180"),
    ("typecode of two characters", "d9d3c18262696a80"),
    ("token without ident", "d9d3c2816161"),
];

#[test]
fn values_match_their_vectors() {
    let vector = |name: &str, item: &[u8]| json!({ "name": name, "hex": to_hex(item), "diagnostic": diagnostic(item) });
    let any = Limits::default();
    let file = check_file(
        "values.json",
        &json!({
            "about": "Items as docs/protocol.md specifies them. `values` are written exactly so; `accepted` are read as the item in `means`; `refused` are refused.",
            "values": values().iter().map(|(name, value)| vector(name, &value.to_vec())).collect::<Vec<_>>(),
            "accepted": ACCEPTED.iter().map(|(name, item, means)| {
                let mut vector = vector(name, &hex(item));
                vector["means"] = json!(means);
                vector
            }).collect::<Vec<_>>(),
            "refused": REFUSED.iter().map(|(name, item)| {
                let why = check(&hex(item), &any).expect_err(name).to_string();
                json!({ "name": name, "hex": item, "why": why })
            }).collect::<Vec<_>>(),
        }),
    );
    for ((name, item), (expected_name, expected)) in listed(&file, "values").into_iter().zip(values()) {
        assert_eq!(name, expected_name);
        let value = Value::decode(&item).expect(name);
        assert_eq!(format!("{value:?}"), format!("{expected:?}"), "{name}");
        assert_eq!(value.to_vec(), item, "{name}");
    }
    for vector in file["accepted"].as_array().expect("a list of vectors") {
        let value = Value::decode(&hex(text(vector, "hex"))).expect("accepted");
        assert_eq!(to_hex(&value.to_vec()), text(vector, "means"));
    }
    for (name, item) in listed(&file, "refused") {
        assert!(Value::decode(&item).is_err(), "{name}");
    }
}

#[test]
fn frames_match_their_vectors() {
    let parts = Parts {
        seq: 7,
        ident: 258,
        owner: 1,
        index: 2,
        name: "Queue".into(),
        // [[1, "a"], {"k": null}]
        item: hex("82 82 01 61 61 a1 61 6b f6"),
        bytes: b"\0asm".to_vec(),
        number: 1500,
        idents: vec![258, 259],
        acked: Acked { floor: 5, ranges: vec![(6, 6), (9, 12)] },
    };
    let mut payload = Vec::new();
    fault().put(&mut payload);
    let vector = |name: &str, frame: &[u8]| json!({ "name": name, "hex": to_hex(frame), "diagnostic": diagnostic(&frame[LENGTH_BYTES..]) });
    let client = client_frames(&parts).into_iter().map(|(name, frame)| {
        let mut out = Vec::new();
        // Some carry acknowledgements, as any may.
        let acked = matches!(frame, ClientFrame::Ack | ClientFrame::Heartbeat).then_some(&parts.acked);
        frame.put(acked, &mut out);
        vector(name, &out)
    });
    let host = host_frames(&parts, &payload).into_iter().map(|(name, frame)| {
        let mut out = Vec::new();
        frame.put(&mut out);
        vector(name, &out)
    });
    let file = check_file(
        "frames.json",
        &json!({
            "about": "Frames as docs/protocol.md specifies them, each with its length before it; the diagnostic notation is that of the body.",
            "client": client.collect::<Vec<_>>(),
            "host": host.collect::<Vec<_>>(),
        }),
    );
    for (name, bytes) in listed(&file, "client") {
        let body = &bytes[LENGTH_BYTES..];
        assert_eq!(length(&bytes), Some(body.len()), "{name}");
        check(body, &Limits::default()).expect(name);
        let (frame, acked) = ClientFrame::read(body).expect(name);
        let mut again = Vec::new();
        frame.put(acked.as_ref(), &mut again);
        assert_eq!(again, bytes, "{name}");
    }
    for (name, bytes) in listed(&file, "host") {
        let body = &bytes[LENGTH_BYTES..];
        assert_eq!(length(&bytes), Some(body.len()), "{name}");
        check(body, &Limits::default()).expect(name);
        let mut again = Vec::new();
        HostFrame::read(body).expect(name).put(&mut again);
        assert_eq!(again, bytes, "{name}");
    }
}

/// One sign-in over each kind of connection, with fixed nonces and secrets.
#[test]
fn the_handshake_matches_its_vectors() {
    let (authkey, exporter, secret_before) = ([0x11; 32], [0x22; 32], [0x33; 32]);
    let certificate = b"the leaf certificate in DER";
    let sign_in = |name: &str, channel: Channel<'_>, resume: Option<u64>, uid: Option<u32>| {
        let hello = Hello {
            version: VERSION,
            tenant: "acme".into(),
            key_id: "2026-01".into(),
            nonce: [0xc1; 32],
            algorithms: vec![ALGORITHM.into()],
            resume,
            uid,
        }
        .encode();
        let challenge =
            Challenge { version: VERSION, algorithm: ALGORITHM.into(), nonce: [0x5e; 32], server_id: "host-1".into() }
                .encode();
        let proofs = Proofs::new(&authkey, &hello, &challenge, &channel).expect("a sound handshake");
        let proof = Proof { proof: proofs.client(), resume: resume.map(|_| proofs.resume(&secret_before)) }.encode();
        let welcome =
            Welcome { session: 42, secret: [0x44; 32], epoch: 3, lease_ms: 10_000, limits: SessionLimits::default() }
                .encode();
        let signed = SignedWelcome { mac: proofs.welcome_mac(&welcome), body: welcome.clone() }.encode();
        let message = |body: &[u8]| json!({ "hex": to_hex(body), "diagnostic": diagnostic(body) });
        let mut vector = json!({
            "name": name,
            "authkey": to_hex(&authkey),
            "hello": message(&hello),
            "challenge": message(&challenge),
            "proof": message(&proof),
            "welcome": message(&signed),
            "welcome_body": message(&welcome),
        });
        match channel {
            Channel::Tls { exporter, leaf_certificate } => {
                vector["exporter"] = json!(to_hex(exporter));
                vector["leaf_certificate"] = json!(to_hex(leaf_certificate));
            }
            Channel::Unix { client_uid } => vector["client_uid"] = json!(client_uid),
        }
        if resume.is_some() {
            vector["session_secret"] = json!(to_hex(&secret_before));
        }
        vector
    };
    let tls = Channel::Tls { exporter: &exporter, leaf_certificate: certificate };
    let refusal = Refusal { code: RefusalCode::Denied, message: "not authenticated".into() }.encode();
    let file = check_file(
        "handshake.json",
        &json!({
            "about": "Sign-in as docs/protocol.md specifies it: what each side sends, without the length before each message. All bytes are hexadecimal.",
            "handshakes": [
                sign_in("a new session over TLS", tls, None, None),
                sign_in("a session resumed over TLS", tls, Some(42), None),
                sign_in("a new session over a Unix socket", Channel::Unix { client_uid: 1000 }, None, Some(1000)),
            ],
            "refusal": { "hex": to_hex(&refusal), "diagnostic": diagnostic(&refusal) },
        }),
    );
    for vector in file["handshakes"].as_array().expect("a list of vectors") {
        let bytes = |field: &str| hex(text(&vector[field], "hex"));
        let exporter = vector["exporter"].as_str().map(|text| <[u8; 32]>::try_from(hex(text)).expect("32 bytes"));
        let leaf_certificate = vector["leaf_certificate"].as_str().map(hex).unwrap_or_default();
        let channel = match &exporter {
            Some(exporter) => Channel::Tls { exporter, leaf_certificate: &leaf_certificate },
            None => Channel::Unix { client_uid: vector["client_uid"].as_u64().expect("a uid") as u32 },
        };
        let proofs = Proofs::new(&hex(text(vector, "authkey")), &bytes("hello"), &bytes("challenge"), &channel)
            .expect("a sound handshake");
        let proof = Proof::decode(&bytes("proof")).expect("a proof");
        assert!(proofs.verify_client(&proof.proof));
        assert_eq!(proof.resume.is_some(), Hello::decode(&bytes("hello")).expect("a hello").resume.is_some());
        if let Some(resume) = proof.resume {
            let secret = hex(text(vector, "session_secret")).try_into().expect("32 bytes");
            assert!(proofs.verify_resume(&secret, &resume));
        }
        let Ok(ServerAnswer::Welcome(signed)) = ServerAnswer::decode(&bytes("welcome")) else { panic!("a welcome") };
        assert!(proofs.verify_welcome(&signed.body, &signed.mac));
        assert_eq!(signed.body, bytes("welcome_body"));
        assert_eq!(Welcome::decode(&signed.body).expect("a welcome").encode(), signed.body);
    }
    let refusal = ServerAnswer::decode(&hex(text(&file["refusal"], "hex")));
    assert!(matches!(refusal, Ok(ServerAnswer::Refused(refusal)) if refusal.code == RefusalCode::Denied));
}

#[test]
fn the_specification_lists_every_tag_of_the_vectors() {
    let specification = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md"))
        .expect("the specification");
    let rows: Vec<&str> = specification.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    let listed = |tag: u64| {
        rows.iter()
            .any(|row| row.split('|').next().is_some_and(|tags| tags.split(',').any(|t| t.trim() == tag.to_string())))
    };
    for (name, value) in values() {
        let head = Reader::new(&value.to_vec()).head().expect("an item");
        assert!(head.kind != Kind::Tag || listed(head.argument), "{name}: tag {}", head.argument);
    }
}
