//! A client without manners: it sends whatever bytes it is told to, over either transport.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use steward_objects::{Effect, Fault, Ident, Value};
use steward_wire::auth::{
    ALGORITHM, ALPN, Channel, EXPORTER_LABEL, Hello, Proof, Proofs, Refusal, ServerAnswer, VERSION, Welcome,
};
use steward_wire::frame::{self, Acked, Call, ClientFrame, Create, HostFrame, LENGTH_BYTES, Method};
use steward_wire::{Address, value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::PATIENCE;
use crate::host::{TestHost, runtime};

/// One connection, and the session that it may have signed in to. Dropping it ends the session with a goodbye, if there is
/// one; [`RawClient::vanish`] does not.
pub struct RawClient {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    received: Vec<u8>,
    binding: Binding,
    /// Of a QUIC client.
    pub connection: Option<Connection>,
    /// Of a QUIC client.
    pub endpoint: Option<Endpoint>,
    /// The seq of the last frame that had one.
    pub seq: u64,
    /// It has a session that it is to take leave of.
    signed_in: bool,
}

enum Binding {
    Unix(u32),
    Tls { exporter: [u8; 32], leaf: Vec<u8> },
}

impl Binding {
    fn channel(&self) -> Channel<'_> {
        match self {
            Self::Unix(client_uid) => Channel::Unix { client_uid: *client_uid },
            Self::Tls { exporter, leaf } => Channel::Tls { exporter, leaf_certificate: leaf },
        }
    }
}

/// A reply as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct RawReply {
    /// Whose it is.
    pub seq: u64,
    /// The result or the fault.
    pub outcome: Result<Value, Fault>,
    /// The object's version.
    pub version: u64,
    /// The fence of a grant, and whether the holder before was lost.
    pub grant: Option<(u64, bool)>,
}

/// A call of `method` with positional arguments, encoded as a frame.
pub fn call_frame(seq: u64, ident: Ident, method: &str, args: &[Value], deadline_ms: Option<u64>) -> Vec<u8> {
    let args = crate::driver::arguments(args, &[]);
    let call = Call { seq, ident, owner: 1, method: Method::Name(method), args: &args, deadline_ms, guard: None };
    let mut bytes = Vec::new();
    ClientFrame::Call(call).put(None, &mut bytes);
    bytes
}

impl RawClient {
    /// Opens a connection and says nothing yet.
    ///
    /// # Errors
    /// Whatever the system or quinn says.
    pub async fn open(address: &str) -> io::Result<Self> {
        let address = address.to_owned();
        runtime().spawn(async move { Self::open_here(&address).await }).await.expect("opening does not panic")
    }

    async fn open_here(address: &str) -> io::Result<Self> {
        match address.parse().expect("a host's address") {
            Address::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                Ok(Self {
                    reader: Box::pin(reader),
                    writer: Box::pin(writer),
                    received: Vec::new(),
                    binding: Binding::Unix(rustix::process::getuid().as_raw()),
                    connection: None,
                    endpoint: None,
                    seq: 0,
                    signed_in: false,
                })
            }
            Address::Quic { host, port } => {
                let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let remote = SocketAddr::new(host.parse().map_err(io::Error::other)?, port);
                let connecting = endpoint.connect_with(client_config(), remote, "localhost");
                let connection = connecting.map_err(io::Error::other)?.await?;
                let mut exporter = [0; 32];
                connection
                    .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
                    .map_err(|_| io::Error::other("TLS exports no key"))?;
                let identity = connection.peer_identity().expect("the host shows a certificate");
                let chain = identity.downcast::<Vec<CertificateDer<'static>>>().expect("a chain of certificates");
                let (writer, reader) = connection.open_bi().await?;
                Ok(Self {
                    reader: Box::pin(reader),
                    writer: Box::pin(writer),
                    received: Vec::new(),
                    binding: Binding::Tls { exporter, leaf: chain[0].to_vec() },
                    connection: Some(connection),
                    endpoint: Some(endpoint),
                    seq: 0,
                    signed_in: false,
                })
            }
        }
    }

    /// Opens a connection and signs in as the admin.
    ///
    /// # Panics
    /// If either fails.
    pub async fn connect(host: &TestHost, address: &str) -> Self {
        Self::welcomed(host, address).await.0
    }

    /// As [`Self::connect`], with the host's welcome: what it takes to resume the session, by [`Self::resumed`].
    ///
    /// # Panics
    /// If either fails.
    pub async fn welcomed(host: &TestHost, address: &str) -> (Self, Welcome) {
        let mut client = Self::open(address).await.expect("the host listens");
        let welcome = client.sign_in("default", "default", host.authkey.as_bytes()).await;
        (client, welcome.expect("the host lets its admin in"))
    }

    /// Opens a connection and resumes a session as the admin of `default`.
    ///
    /// # Errors
    /// The host's refusal.
    ///
    /// # Panics
    /// If the connection breaks, or the host does not keep to the protocol.
    pub async fn resumed(
        host: &TestHost,
        address: &str,
        session: u64,
        secret: &[u8; 32],
    ) -> Result<(Self, Welcome), Refusal> {
        let mut client = Self::open(address).await.expect("the host listens");
        let key = host.authkey.as_bytes();
        let welcome = client.sign_in_to("default", "default", key, Some((session, secret))).await?;
        Ok((client, welcome))
    }

    /// Closes the connection without a word. The session lives on.
    pub fn vanish(mut self) {
        self.signed_in = false;
    }

    /// A HELLO as an honest client sends it.
    pub fn hello(&self, tenant: &str, key_id: &str) -> Hello {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        Hello {
            version: VERSION,
            tenant: tenant.into(),
            key_id: key_id.into(),
            nonce,
            algorithms: vec![ALGORITHM.into()],
            resume: None,
            uid: match self.binding {
                Binding::Unix(uid) => Some(uid),
                Binding::Tls { .. } => None,
            },
        }
    }

    /// Signs in with a key.
    ///
    /// # Errors
    /// The host's refusal.
    ///
    /// # Panics
    /// If the connection breaks, or the host does not keep to the protocol.
    pub async fn sign_in(&mut self, tenant: &str, key_id: &str, key: &[u8]) -> Result<Welcome, Refusal> {
        self.sign_in_to(tenant, key_id, key, None).await
    }

    /// Signs in with a key, to a session that is there already if `resume` names it and its secret.
    ///
    /// # Errors
    /// The host's refusal.
    ///
    /// # Panics
    /// As [`Self::sign_in`].
    pub async fn sign_in_to(
        &mut self,
        tenant: &str,
        key_id: &str,
        key: &[u8],
        resume: Option<(u64, &[u8; 32])>,
    ) -> Result<Welcome, Refusal> {
        let hello = Hello { resume: resume.map(|(session, _)| session), ..self.hello(tenant, key_id) }.encode();
        self.send_message(&hello).await.expect("the host reads");
        let proofs = self.challenged(&hello, key).await?;
        let proof = Proof { proof: proofs.client(), resume: resume.map(|(_, secret)| proofs.resume(secret)) };
        self.send_message(&proof.encode()).await.expect("the host reads");
        match self.answer().await {
            ServerAnswer::Welcome(welcome) => {
                assert!(proofs.verify_welcome(&welcome.body, &welcome.mac), "the host holds the key");
                self.signed_in = true;
                Ok(Welcome::decode(&welcome.body).expect("a welcome"))
            }
            ServerAnswer::Refused(refusal) => Err(refusal),
            ServerAnswer::Challenge(_) => panic!("a second challenge"),
        }
    }

    /// Takes the challenge and computes the proofs for it.
    ///
    /// # Errors
    /// The host's refusal.
    ///
    /// # Panics
    /// As [`Self::sign_in`].
    pub async fn challenged(&mut self, hello: &[u8], key: &[u8]) -> Result<Proofs, Refusal> {
        let challenge = self.message().await.expect("the host answers").expect("the host challenges");
        match ServerAnswer::decode(&challenge).expect("a message of sign-in") {
            ServerAnswer::Challenge(_) => {}
            ServerAnswer::Refused(refusal) => return Err(refusal),
            ServerAnswer::Welcome(_) => panic!("a welcome without a challenge"),
        }
        Ok(Proofs::new(key, hello, &challenge, &self.binding.channel()).expect("both messages are good"))
    }

    /// The host's next message of sign-in.
    ///
    /// # Panics
    /// If there is none.
    pub async fn answer(&mut self) -> ServerAnswer {
        let message = self.message().await.expect("the host answers").expect("the host says something");
        ServerAnswer::decode(&message).expect("a message of sign-in")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the host no longer reads.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// Sends a body with its length before it.
    ///
    /// # Errors
    /// If the host no longer reads.
    pub async fn send_message(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).expect("tests send little").to_be_bytes();
        self.send(&[&length, body].concat()).await
    }

    /// The body of the next message or frame; `None` if the host has closed its side, in good order or not.
    ///
    /// # Errors
    /// If it closed in the middle of one.
    pub async fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = frame::length(&self.received)
                && let Some(body) = self.received.get(LENGTH_BYTES..LENGTH_BYTES + length)
            {
                let body = body.to_vec();
                self.received.drain(..LENGTH_BYTES + length);
                return Ok(Some(body));
            }
            let mut room = [0; 4096];
            match self.reader.read(&mut room).await {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.received.extend_from_slice(&room[..read]),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next reply, or the reason of the host's goodbye; an empty one if it closed without a word.
    ///
    /// # Errors
    /// That reason.
    ///
    /// # Panics
    /// If the host sends what is no frame.
    pub async fn reply(&mut self) -> Result<RawReply, String> {
        let body = loop {
            let Some(body) = self.message().await.map_err(|error| error.to_string())? else {
                return Err(String::new());
            };
            // Answers to heartbeats are not waited for.
            if HostFrame::read(&body).expect("the host sends frames") != HostFrame::Heartbeat {
                break body;
            }
        };
        match HostFrame::read(&body).expect("the host sends frames") {
            HostFrame::Heartbeat => unreachable!("it was passed over"),
            HostFrame::Goodbye { reason } => Err(reason.to_owned()),
            HostFrame::Reply(reply) => {
                let outcome = match reply.effect {
                    Effect::Returned => Ok(Value::decode(reply.payload).expect("a result is one item")),
                    effect => Err(Fault::read(effect, reply.payload).expect("a fault reads as one")),
                };
                let grant = reply.grant.map(|grant| (grant.fence, grant.abandoned));
                Ok(RawReply { seq: reply.seq, outcome, version: reply.version, grant })
            }
        }
    }

    /// Says which replies have arrived.
    ///
    /// # Errors
    /// The connection's.
    pub async fn acknowledge(&mut self, acked: Acked) -> io::Result<()> {
        let mut bytes = Vec::new();
        ClientFrame::Ack.put(Some(&acked), &mut bytes);
        self.send(&bytes).await
    }

    /// Calls a method and waits for its reply, which must be the next one.
    ///
    /// # Panics
    /// If the host closes instead.
    pub async fn call(&mut self, ident: Ident, method: &str, args: &[Value]) -> Result<Value, Fault> {
        self.seq += 1;
        self.send(&call_frame(self.seq, ident, method, args, None)).await.expect("the host reads");
        let reply = self.reply().await.expect("the host answers");
        assert_eq!(reply.seq, self.seq, "the reply belongs to the call");
        reply.outcome
    }

    /// Makes an object.
    ///
    /// # Errors
    /// The host's refusal.
    ///
    /// # Panics
    /// If the host closes instead.
    pub async fn create(&mut self, typeid: &str, args: &[Value]) -> Result<Ident, Fault> {
        self.seq += 1;
        let args = crate::driver::arguments(args, &[]);
        let mut bytes = Vec::new();
        let create = Create { seq: self.seq, owner: 1, typeid, args: &args, name: None, idle_ms: None };
        ClientFrame::Create(create).put(None, &mut bytes);
        self.send(&bytes).await.expect("the host reads");
        let payload = self.reply().await.expect("the host answers").outcome?.to_vec();
        Ok(value::token_of(&payload).expect("an object's token").ident)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the host no longer reads.
    pub async fn frame(&mut self, frame: &ClientFrame<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.put(None, &mut bytes);
        self.send(&bytes).await
    }

    /// Opens a further stream of a QUIC client once the host allows it, and resets it.
    ///
    /// # Panics
    /// If this is no QUIC client, or its connection is lost.
    pub async fn reset_stream(&self) {
        let connection = self.connection.as_ref().expect("a QUIC client");
        let (mut writer, _reader) = connection.open_bi().await.expect("the connection lives");
        // The host hears of a stream once something is sent on it.
        writer.write_all(&[0]).await.expect("there is room for a byte");
        writer.reset(0u32.into()).expect("it was not before");
    }

    /// Opens a further stream of a QUIC client, which stays as long as the result; `None` if the host does not allow it within
    /// so long.
    ///
    /// # Panics
    /// If this is no QUIC client, or its connection is lost.
    pub async fn open_stream(&self, within: Duration) -> Option<impl Sized + use<>> {
        let connection = self.connection.as_ref().expect("a QUIC client");
        let opened = tokio::time::timeout(within, connection.open_bi()).await.ok()?;
        Some(opened.expect("the connection lives"))
    }

    /// Moves a QUIC client to another port of this machine, as a roaming one moves to another network.
    ///
    /// # Panics
    /// If this is no QUIC client, or no socket is free.
    pub fn move_away(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        self.endpoint.as_ref().expect("a QUIC client").rebind(socket).expect("quinn takes the socket");
        address
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        if !self.signed_in {
            return;
        }
        let mut reader = std::mem::replace(&mut self.reader, Box::pin(tokio::io::empty()));
        let mut writer = std::mem::replace(&mut self.writer, Box::pin(tokio::io::sink()));
        let connection = (self.connection.take(), self.endpoint.take());
        runtime().spawn(async move {
            let mut goodbye = Vec::new();
            ClientFrame::Goodbye.put(None, &mut goodbye);
            let leave = async {
                if writer.write_all(&goodbye).await.is_ok() && writer.flush().await.is_ok() {
                    // Until the host has read it and closes. What else it sends is in nobody's way.
                    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
                }
            };
            let _ = tokio::time::timeout(PATIENCE, leave).await;
            drop(connection);
        });
    }
}

impl std::fmt::Debug for RawClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawClient").field("seq", &self.seq).finish_non_exhaustive()
    }
}

fn client_config() -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 serves QUIC");
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(16));
    config.transport_config(Arc::new(transport));
    config
}

/// Takes any certificate: the proofs of sign-in are what authenticates the host.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
