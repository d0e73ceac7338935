//! A host of few words: it signs clients in, describes two types, and otherwise does what the test says, one
//! frame at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use steward_client::{AuthKey, ConnectOptions, Effect, Fault, Ident, Manager, MethodInfo, TypeInfo};
use steward_wire::auth::{
    Challenge, Channel, Hello, Proof, Proofs, Refusal, RefusalCode, SessionLimits, SignedWelcome, Welcome,
};
use steward_wire::frame::{self, ClientFrame, Grant, HostFrame, LENGTH_BYTES, Method, Refs, Subject};
use steward_wire::value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

pub(crate) fn key(byte: u8) -> AuthKey {
    AuthKey::new(vec![byte; 32]).expect("32 bytes are enough")
}

/// A listening socket in a directory of its own.
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    directory: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Socket {
    pub(crate) fn new() -> Self {
        static SOCKETS: AtomicU64 = AtomicU64::new(0);
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("steward-client-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory takes a new one");
        let listener = UnixListener::bind(directory.join("socket")).expect("the directory is new");
        Self { listener, directory }
    }

    pub(crate) fn address(&self) -> String {
        format!("steward+unix://{}", self.directory.join("socket").display())
    }

    /// A client and the host's side of its lane.
    pub(crate) async fn connected(&self) -> (Manager, Peer<UnixStream>) {
        self.connected_with(SessionLimits::default()).await
    }

    pub(crate) async fn connected_with(&self, limits: SessionLimits) -> (Manager, Peer<UnixStream>) {
        let address = self.address();
        let connecting = ConnectOptions::new().authkey(key(1)).connect(&address);
        let (manager, peer) = tokio::join!(connecting, self.accept(limits));
        (manager.expect("both hold the same key"), peer)
    }

    pub(crate) async fn accept(&self, limits: SessionLimits) -> Peer<UnixStream> {
        let (stream, _) = self.listener.accept().await.expect("the socket listens");
        let uid = stream.peer_cred().expect("a Unix socket has credentials").uid();
        let mut peer = Peer::new(stream);
        peer.sign_in(&key(1), &Channel::Unix { client_uid: uid }, limits).await;
        peer
    }
}

/// One connection, seen from the host.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    /// Every reply below has been acknowledged.
    pub(crate) floor: u64,
    /// How many descriptions [`Peer::call`] has given.
    descriptions: usize,
}

/// A call as it arrived.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) ident: Ident,
    pub(crate) owner: u64,
    pub(crate) method: String,
    pub(crate) args: Vec<u8>,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) guard: Option<(Ident, u64)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, floor: 0, descriptions: 0 }
    }

    pub(crate) async fn read(&mut self) -> Option<Vec<u8>> {
        let length = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    async fn write(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap();
        self.stream.write_all(&[&length.to_be_bytes()[..LENGTH_BYTES], body].concat()).await.unwrap();
    }

    /// Answers a hello and a proof; the client must hold `key`.
    pub(crate) async fn sign_in(&mut self, key: &AuthKey, channel: &Channel<'_>, limits: SessionLimits) -> Hello {
        let hello = self.read().await.unwrap();
        let proofs = self.challenge(key, &hello, channel).await;
        let proof = Proof::decode(&self.read().await.unwrap()).unwrap();
        if !proofs.verify_client(&proof.proof) {
            self.write(&Refusal { code: RefusalCode::Denied, message: "denied".into() }.encode()).await;
            return Hello::decode(&hello).unwrap();
        }
        let said = Hello::decode(&hello).unwrap();
        if said.resume.is_some() {
            assert!(proofs.verify_resume(&[7; 32], &proof.resume.expect("a resumed session is proved")));
        }
        let body = Welcome { session: 42, secret: [7; 32], epoch: 1, lease_ms: 10_000, limits }.encode();
        let mac = proofs.welcome_mac(&body);
        self.write(&SignedWelcome { body, mac }.encode()).await;
        said
    }

    pub(crate) async fn challenge(&mut self, key: &AuthKey, hello: &[u8], channel: &Channel<'_>) -> Proofs {
        let challenge =
            Challenge { version: 1, algorithm: "hmac-sha256".into(), nonce: [9; 32], server_id: "fake".into() }
                .encode();
        self.write(&challenge).await;
        Proofs::new(key.as_bytes(), hello, &challenge, channel).unwrap()
    }

    /// A welcome that its sender cannot sign.
    pub(crate) async fn welcome_unsigned(&mut self) {
        let welcome =
            Welcome { session: 42, secret: [7; 32], epoch: 1, lease_ms: 10_000, limits: SessionLimits::default() };
        self.write(&SignedWelcome { body: welcome.encode(), mac: [0; 32] }.encode()).await;
    }

    /// The next call, before which nothing else is asked for.
    pub(crate) async fn only_call(&mut self) -> Seen {
        let (before, seen) = (self.descriptions, self.call().await);
        assert_eq!(self.descriptions, before, "a description was asked for");
        seen
    }

    /// The next call. Creates make object number 100 and up, types are described, acknowledgements and heartbeats pass by.
    pub(crate) async fn call(&mut self) -> Seen {
        loop {
            let body = self.read().await.expect("the client still calls");
            let (frame, acked) = ClientFrame::read(&body).unwrap();
            self.floor = acked.map_or(self.floor, |acked| acked.floor);
            match frame {
                ClientFrame::Call(call) => {
                    let method = match call.method {
                        Method::Name(name) => name.to_owned(),
                        Method::Index(index) => describe().methods[usize::from(index)].name.clone(),
                    };
                    return Seen {
                        seq: call.seq,
                        ident: call.ident,
                        owner: call.owner,
                        method,
                        args: call.args.to_vec(),
                        deadline_ms: call.deadline_ms,
                        guard: call.guard.map(|guard| (guard.lock, guard.fence)),
                    };
                }
                ClientFrame::Create(create) => {
                    let (seq, token) = (create.seq, token(create.typeid, 100 + create.seq));
                    self.reply(seq, &token, None).await;
                }
                ClientFrame::Describe { seq, subject } => {
                    assert_ne!(subject, Subject::All);
                    self.described(seq).await;
                    self.descriptions += 1;
                }
                ClientFrame::Ack | ClientFrame::Heartbeat => {}
                other => panic!("a call was expected, not {other:?}"),
            }
        }
    }

    /// The next request for a type's description: its seq, and the object that it asks about.
    pub(crate) async fn asked(&mut self) -> (u64, Ident) {
        loop {
            let body = self.read().await.expect("the client still asks");
            match ClientFrame::read(&body).unwrap().0 {
                ClientFrame::Describe { seq, subject: Subject::Object(ident) } => return (seq, ident),
                ClientFrame::Ack | ClientFrame::Heartbeat => {}
                other => panic!("a description was to be asked for, not {other:?}"),
            }
        }
    }

    /// Answers it.
    pub(crate) async fn described(&mut self, seq: u64) {
        self.reply(seq, &value::from_serde(&[describe()]).unwrap(), None).await;
    }

    /// The next change of references.
    pub(crate) async fn refs(&mut self) -> Refs {
        loop {
            let body = self.read().await.expect("the client still speaks");
            match ClientFrame::read(&body).unwrap().0 {
                ClientFrame::Refs(refs) => return refs,
                ClientFrame::Ack | ClientFrame::Heartbeat => {}
                other => panic!("references were expected, not {other:?}"),
            }
        }
    }

    /// The next cancel's seq.
    pub(crate) async fn cancel(&mut self) -> u64 {
        loop {
            let body = self.read().await.expect("the client still speaks");
            match ClientFrame::read(&body).unwrap().0 {
                ClientFrame::Cancel { seq } => return seq,
                ClientFrame::Ack | ClientFrame::Heartbeat => {}
                other => panic!("a cancel was expected, not {other:?}"),
            }
        }
    }

    pub(crate) async fn reply(&mut self, seq: u64, payload: &[u8], grant: Option<Grant>) {
        let bytes = reply(seq, Effect::Returned, payload, grant);
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn fail(&mut self, seq: u64, fault: &Fault) {
        let mut payload = Vec::new();
        fault.put(&mut payload);
        let bytes = reply(seq, fault.effect, &payload, None);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

pub(crate) fn reply(seq: u64, effect: Effect, payload: &[u8], grant: Option<Grant>) -> Vec<u8> {
    let mut bytes = Vec::new();
    HostFrame::Reply(frame::Reply { seq, effect, payload, epoch: 1, version: 1, index: 0, grant }).put(&mut bytes);
    bytes
}

pub(crate) fn token(typeid: &str, ident: u64) -> Vec<u8> {
    let mut item = Vec::new();
    steward_client::Token { typeid: typeid.into(), ident: Ident(ident), address: None }.encode(&mut item);
    item
}

/// What every object here offers.
fn describe() -> TypeInfo {
    let method =
        |name: &str, may_park| MethodInfo { name: name.into(), may_park, exposed: true, ..MethodInfo::default() };
    let methods = vec![method("put", true), method("get", true), method("acquire", true), method("qsize", false)];
    TypeInfo { typeid: "Queue".into(), methods, ..TypeInfo::default() }
}
