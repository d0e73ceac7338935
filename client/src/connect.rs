//! Reaching a host: transports, certificates, signing in.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use steward_wire::address::Address;
use steward_wire::auth::{
    ALGORITHM, ALPN, AuthKey, Channel, EXPORTER_LABEL, HOST_BYTES_MAX, Hello, Proof, Proofs, Refusal, RefusalCode,
    ServerAnswer, VERSION, Welcome,
};
use steward_wire::cbor::Reader;
use steward_wire::frame::LENGTH_BYTES;
use steward_wire::{Ident, Malformed};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::context::{self, Contexts, from_hex};
use crate::error::{ConfigError, Error};
use crate::lane::{BULK_STREAMS_MAX, Frames, Sink, Source};
use crate::session::{Bounds, Session, now_ms};

/// Time for a connection and for signing in, where the caller names none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Receive windows: a bulk reply's stream, and all streams together. A stream's is a quarter of what the host sends at once, so that
/// small replies find room beside large ones.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes on their way to the host that quinn keeps.
const SEND_WINDOW_BYTES: u64 = 1 << 20;
/// Receive buffer of the UDP socket: the kernel counts a packet at up to twice its size.
const SOCKET_BYTES: usize = 4 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);

/// How to reach a host and sign in there.
///
/// ```no_run
/// # async fn example() -> Result<(), steward_client::Error> {
/// use steward_client::{ConnectOptions, Manager};
/// let manager = ConnectOptions::new().tenant("acme").key_file("keys/acme.key").connect("steward://10.0.0.7:7777").await?;
/// # let _: Manager = manager; Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConnectOptions {
    tenant: Option<String>,
    key_id: Option<String>,
    key: Option<Key>,
    pin: Option<String>,
    ca: Option<PathBuf>,
    timeout: Duration,
    reconnect: Option<Duration>,
}

#[derive(Clone)]
enum Key {
    Given(AuthKey),
    File(PathBuf),
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { tenant: None, key_id: None, key: None, pin: None, ca: None, timeout: TIMEOUT, reconnect: None }
    }
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("tenant", &self.tenant)
            .field("key_id", &self.key_id)
            .field("pin", &self.pin)
            .field("ca", &self.ca)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// What the context says, or the defaults where there is none.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tenant; `default` unless a context says otherwise.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Which of the tenant's keys; `default` unless a context says otherwise.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The key itself. It never travels.
    #[must_use]
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.key = Some(Key::Given(key));
        self
    }

    /// A file with the key: one line of hex digits.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key = Some(Key::File(path.into()));
        self
    }

    /// The host's certificate, as `sha256:` and the hex digest of its DER encoding: a host keeps the one it
    /// makes on its first start and prints its pin. Another certificate is then refused.
    ///
    /// Neither a pin nor a CA is needed to be safe: both sides prove that they hold the key, and the proofs are
    /// bound to the TLS session, so that nobody in between can pass them on. A pin also tells two hosts apart that
    /// share a key.
    #[must_use]
    pub fn pin(mut self, pin: impl Into<String>) -> Self {
        self.pin = Some(pin.into());
        self
    }

    /// A file with the certificates (PEM) of the authorities that may vouch for the host under the name it is dialled by.
    #[must_use]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// Time to connect and sign in; 10 s if left alone.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For how long a connection that is lost later is tried to be made again before the session is given up; three leases if
    /// left alone. The host itself gives a session up after one, but for its own pauses.
    #[must_use]
    pub fn reconnect_for(mut self, patience: Duration) -> Self {
        self.reconnect = Some(patience);
        self
    }

    /// Connects to `target` as the session that was forked: see [`crate::Manager::fork`].
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`]; [`Error::SignIn`] also if the fork was claimed by somebody else, or is over.
    pub async fn claim(self, target: &str, fork: Fork) -> Result<crate::Manager, Error> {
        let session = self.open_session(target, Some(fork)).await?;
        Ok(crate::Manager::new(session))
    }

    /// Connects to `target`: an address or the name of a context. What these options leave open the context says.
    ///
    /// # Errors
    /// [`Error::Config`] for a target, key or pin that cannot be used; [`Error::Connection`] if the host cannot be reached in
    /// time; [`Error::SignIn`] if one side does not prove that it holds the key.
    pub async fn connect(self, target: &str) -> Result<crate::Manager, Error> {
        let session = self.session(target).await?;
        Ok(crate::Manager::new(session))
    }

    pub(crate) async fn session(self, target: &str) -> Result<Arc<Session>, Error> {
        self.open_session(target, None).await
    }

    async fn open_session(mut self, target: &str, fork: Option<Fork>) -> Result<Arc<Session>, Error> {
        let address = if target.contains("://") {
            target.to_owned()
        } else {
            let path = context::path()?;
            let context = Contexts::read(&path)?.get(Some(target).filter(|name| !name.is_empty()), &path)?;
            self.tenant = self.tenant.or(context.tenant);
            self.key_id = self.key_id.or(context.key_id);
            self.key = self.key.or(context.key_file.map(Key::File));
            self.pin = self.pin.or(context.pin);
            context.address
        };
        let parsed: Address = address.parse().map_err(|error| ConfigError::Option(format!("{error}")))?;
        let key = match &self.key {
            Some(Key::Given(key)) => key.clone(),
            Some(Key::File(path)) => context::read_key(path)?,
            None => return Err(ConfigError::Option(format!("no key for `{address}`")).into()),
        };
        let claim = Claim {
            address: address.clone(),
            tenant: self.tenant.clone().unwrap_or_else(|| "default".into()),
            key_id: self.key_id.clone().unwrap_or_else(|| "default".into()),
            key,
        };
        let timeout = self.timeout;
        let connecting = async {
            let open = match parsed {
                Address::Quic { host, port } => Open::Quic { verifier: self.verifier()?, host, port },
                Address::Unix(path) => Open::Unix(path),
            };
            let since_ms = now_ms();
            let dialer = Dialer::new(claim, open, timeout, self.reconnect);
            let (link, welcome) = match &fork {
                None => dialer.sign_in().await?,
                Some(fork) => dialer.claim_fork(fork).await?,
            };
            tracing::debug!(address, session = welcome.session, "signed in");
            let inherited = fork.iter().flat_map(|fork| &fork.idents).map(|&ident| Ident(ident));
            Ok(Session::start(dialer.welcomed(&welcome), bounds(&welcome), link, since_ms, inherited))
        };
        // Cancelled at the timeout, it leaves nothing behind but a connection that closes.
        match tokio::time::timeout(timeout, connecting).await {
            Ok(session) => session,
            Err(_) => Err(Error::Connection { address, cause: format!("no answer within {} ms", timeout.as_millis()) }),
        }
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        if let Some(pin) = &self.pin {
            let digest = pin.strip_prefix("sha256:").and_then(from_hex).and_then(|digest| digest.try_into().ok());
            let digest =
                digest.ok_or_else(|| ConfigError::Option(format!("pin `{pin}` is not `sha256:` and 64 hex digits")))?;
            return Ok(Arc::new(Leaf { pin: Some(digest), provider }));
        }
        let Some(path) = &self.ca else { return Ok(Arc::new(Leaf { pin: None, provider })) };
        let invalid = |message: String| ConfigError::Invalid { path: path.clone(), message };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| invalid(error.to_string()))? {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(verifier.map_err(|error| invalid(error.to_string()))?)
    }
}

/// Who signs in, and where.
#[derive(Clone)]
struct Claim {
    address: String,
    tenant: String,
    key_id: String,
    key: AuthKey,
}

impl Claim {
    fn lost(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::Connection { address: self.address.clone(), cause: cause.to_string() }
    }

    /// What a refusal means: a host that says "later" has not looked at the key.
    fn refusal(&self, refusal: Refusal) -> Error {
        match refusal.code {
            RefusalCode::TryLater => self.lost(&refusal.message),
            _ => self.refused(refusal.message),
        }
    }

    fn refused(&self, cause: impl Into<String>) -> Error {
        Error::SignIn { address: self.address.clone(), cause: cause.into() }
    }

    /// Signs in on a fresh connection. Nothing but hello and proof is sent before the welcome is verified.
    async fn sign_in(
        &self,
        sink: &mut Sink,
        frames: &mut Frames,
        channel: &Channel<'_>,
        resume: Option<(u64, &[u8; 32])>,
    ) -> Result<Welcome, Error> {
        let mut nonce = [0; 32];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut nonce)
            .map_err(|_| self.lost(&"the system gives no random bytes"))?;
        let hello = Hello {
            version: VERSION,
            tenant: self.tenant.clone(),
            key_id: self.key_id.clone(),
            nonce,
            algorithms: vec![ALGORITHM.into()],
            resume: resume.map(|(session, _)| session),
            uid: match channel {
                Channel::Unix { client_uid } => Some(*client_uid),
                Channel::Tls { .. } => None,
            },
        }
        .encode();
        self.write(sink, &hello).await?;
        let challenge = self.read(frames).await?;
        match ServerAnswer::decode(&challenge).map_err(|error| self.refused(error.to_string()))? {
            ServerAnswer::Challenge(_) => {}
            ServerAnswer::Refused(refusal) => return Err(self.refusal(refusal)),
            ServerAnswer::Welcome(_) => return Err(self.refused("host welcomes without a challenge")),
        }
        let proofs = Proofs::new(self.key.as_bytes(), &hello, &challenge, channel)
            .map_err(|error| self.refused(error.to_string()))?;
        let proof = Proof { proof: proofs.client(), resume: resume.map(|(_, secret)| proofs.resume(secret)) };
        self.write(sink, &proof.encode()).await?;
        let answer = Zeroizing::new(self.read(frames).await?);
        match ServerAnswer::decode(&answer).map_err(|error| self.refused(error.to_string()))? {
            ServerAnswer::Welcome(welcome) if proofs.verify_welcome(&welcome.body, &welcome.mac) => {
                Welcome::decode(&welcome.body).map_err(|error| self.refused(error.to_string()))
            }
            ServerAnswer::Welcome(_) => Err(self.refused("host does not hold the key")),
            ServerAnswer::Refused(refusal) => Err(self.refusal(refusal)),
            ServerAnswer::Challenge(_) => Err(self.refused("host challenges twice")),
        }
    }

    async fn write(&self, sink: &mut Sink, body: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(body.len()).expect("messages of sign-in are bounded by their names");
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + body.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        let mut sent = 0;
        while sent < bytes.len() {
            let written = std::future::poll_fn(|cx| sink.poll_write(cx, &bytes[sent..])).await;
            sent += written.map_err(|error| self.lost(&error))?;
        }
        Ok(())
    }

    async fn read(&self, frames: &mut Frames) -> Result<Vec<u8>, Error> {
        frames.read(HOST_BYTES_MAX).await.map_err(|error| match error.kind() {
            // No refusal, which would be said: a session is resumed by another attempt.
            io::ErrorKind::UnexpectedEof => self.lost(&"host closed the connection while signing in"),
            _ => self.lost(&error),
        })
    }
}

fn bounds(welcome: &Welcome) -> Bounds {
    let limits = &welcome.limits;
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    Bounds {
        // A call that runs will leave a reply to keep, unless it waits.
        calls_running_max: bytes(limits.calls_running_max.min(limits.reply_rows_max).into()),
        calls_parked_max: bytes(limits.calls_parked_max.into()),
        request_bytes_max: bytes(limits.request_bytes_max),
        reply_bytes_max: bytes(limits.reply_bytes_max).saturating_add(REPLY_HEAD_BYTES_MAX),
        bulk_bytes_min: bytes(limits.bulk_bytes_min),
        lease_ms: welcome.lease_ms,
    }
}

/// An attempt to make a connection again may take so long, however short the lease.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// What a reply's frame takes beyond its payload, for hosts that bound only that.
const REPLY_HEAD_BYTES_MAX: usize = 256;

/// Both directions of a signed-in connection.
pub(crate) struct Link {
    pub(crate) sink: Sink,
    pub(crate) frames: Frames,
    pub(crate) quic: Option<quinn::Connection>,
}

/// Why a session could not be resumed.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The session is over, or the host itself: further attempts are in vain.
    Over(Error),
    /// Another attempt may succeed.
    Failed(Error),
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Over(error) | Self::Failed(error)) = self;
        error.fmt(f)
    }
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Self {
        let (DialError::Over(error) | DialError::Failed(error)) = error;
        error
    }
}

/// How a connection is made.
enum Open {
    Quic { verifier: Arc<dyn ServerCertVerifier>, host: String, port: u16 },
    Unix(PathBuf),
}

/// What the proofs of a connection are bound to.
enum Binding {
    Tls { exporter: Zeroizing<[u8; 32]>, leaf: CertificateDer<'static> },
    Unix(u32),
}

impl Binding {
    fn channel(&self) -> Channel<'_> {
        match self {
            Self::Tls { exporter, leaf } => Channel::Tls { exporter, leaf_certificate: leaf },
            Self::Unix(client_uid) => Channel::Unix { client_uid: *client_uid },
        }
    }
}

impl Open {
    async fn open(&self, claim: &Claim) -> Result<(Link, Binding), DialError> {
        match self {
            Self::Quic { verifier, host, port } => open_quic(claim, verifier, host, *port).await,
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
                    // Sessions live in the host's memory: with the socket's listener they are gone.
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => DialError::Over(claim.lost(&error)),
                    _ => DialError::Failed(claim.lost(&error)),
                })?;
                let stream = Arc::new(stream);
                let frames = Frames::new(Source::Unix(Arc::clone(&stream)));
                let link = Link { sink: Sink::Unix(stream), frames, quic: None };
                Ok((link, Binding::Unix(rustix::process::getuid().as_raw())))
            }
        }
    }
}

async fn open_quic(
    claim: &Claim,
    verifier: &Arc<dyn ServerCertVerifier>,
    host: &str,
    port: u16,
) -> Result<(Link, Binding), DialError> {
    let lost = |error: &dyn std::fmt::Display| DialError::Failed(claim.lost(error));
    let mut cause = None;
    for remote in tokio::net::lookup_host((host, port)).await.map_err(|error| lost(&error))? {
        let endpoint = endpoint(remote).map_err(|error| lost(&error))?;
        let config = client_config(verifier.clone(), remote.ip().is_loopback()).map_err(DialError::Over)?;
        let connecting = endpoint.connect_with(config, remote, host).map_err(|error| lost(&error))?;
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => {
                cause = Some(error);
                continue;
            }
        };
        let mut exporter = Zeroizing::new([0; 32]);
        let refused = |cause: &str| DialError::Failed(claim.refused(cause));
        connection
            .export_keying_material(exporter.as_mut(), EXPORTER_LABEL, b"")
            .map_err(|_| refused("the TLS session exports no key"))?;
        let identity =
            connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = identity.and_then(|chain| chain.into_iter().next());
        let leaf = leaf.ok_or_else(|| refused("host shows no certificate"))?;
        let (send, receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
        let frames = Frames::new(Source::Quic(receive));
        let link = Link { sink: Sink::Quic(send), frames, quic: Some(connection) };
        return Ok((link, Binding::Tls { exporter, leaf }));
    }
    Err(match cause {
        Some(error) => lost(&error),
        None => lost(&"the name has no address"),
    })
}

/// Makes the connections of one session.
pub(crate) struct Dialer {
    claim: Claim,
    open: Open,
    timeout: Duration,
    patience: Option<Duration>,
    /// The session, and the secret that proves the right to it: each welcome brings the next. One connection is made at a
    /// time.
    session: u64,
    secret: tokio::sync::Mutex<Zeroizing<[u8; 32]>>,
    lease_ms: u64,
}

impl Dialer {
    fn new(claim: Claim, open: Open, timeout: Duration, patience: Option<Duration>) -> Self {
        let secret = tokio::sync::Mutex::new(Zeroizing::new([0; 32]));
        Self { claim, open, timeout, patience, session: 0, secret, lease_ms: 0 }
    }

    /// The same, for the session that the host has begun.
    fn welcomed(self, welcome: &Welcome) -> Self {
        let secret = tokio::sync::Mutex::new(Zeroizing::new(welcome.secret));
        Self { session: welcome.session, secret, lease_ms: welcome.lease_ms, ..self }
    }

    pub(crate) fn address(&self) -> &str {
        &self.claim.address
    }

    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    pub(crate) fn is_quic(&self) -> bool {
        matches!(self.open, Open::Quic { .. })
    }

    /// For how long a lost connection is tried to be made again: three leases unless the options said so.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.unwrap_or(Duration::from_millis(self.lease_ms.saturating_mul(3)))
    }

    /// How long one attempt to make a lost connection again may take: several must fit into a lease, since one that began
    /// while nothing got through may not notice when that is over.
    fn attempt(&self) -> Duration {
        self.timeout.min(Duration::from_millis(self.lease_ms / 3).max(ATTEMPT_MIN))
    }

    /// A random duration between a half and the whole of `delay`, so that many clients of one host do not come at once.
    pub(crate) fn jitter(&self, delay: Duration) -> Duration {
        let mut random = [0; 1];
        // Without randomness they come at once, which is no harm to any of them.
        let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut random);
        delay / 2 + delay.mul_f64(f64::from(random[0]) / 510.0)
    }

    /// Begins to make a connection, once no other is being made.
    pub(crate) async fn begin(&self) -> Dialling<'_> {
        Dialling { dialer: self, secret: self.secret.lock().await }
    }

    async fn sign_in(&self) -> Result<(Link, Welcome), Error> {
        self.connect(None).await.map_err(Error::from)
    }

    /// Signs in to the session that a parent has forked.
    async fn claim_fork(&self, fork: &Fork) -> Result<(Link, Welcome), Error> {
        self.connect(Some((fork.session, &fork.secret))).await.map_err(Error::from)
    }

    async fn connect(&self, resume: Option<(u64, &[u8; 32])>) -> Result<(Link, Welcome), DialError> {
        let (mut link, binding) = self.open.open(&self.claim).await?;
        match self.claim.sign_in(&mut link.sink, &mut link.frames, &binding.channel(), resume).await {
            Ok(welcome) => Ok((link, welcome)),
            Err(error) => {
                if let Some(quic) = &link.quic {
                    quic.close(1u32.into(), b"sign-in failed");
                }
                Err(match error {
                    Error::SignIn { .. } => DialError::Over(error),
                    error => DialError::Failed(error),
                })
            }
        }
    }
}

/// The making of a further connection of a session.
pub(crate) struct Dialling<'a> {
    dialer: &'a Dialer,
    secret: tokio::sync::MutexGuard<'a, Zeroizing<[u8; 32]>>,
}

impl Dialling<'_> {
    pub(crate) async fn dial(&mut self) -> Result<Link, DialError> {
        let Dialer { claim, session, .. } = self.dialer;
        let timeout = self.dialer.attempt();
        let dialled = tokio::time::timeout(timeout, self.dialer.connect(Some((*session, &self.secret)))).await;
        let late = || DialError::Failed(claim.lost(&format_args!("no answer within {} ms", timeout.as_millis())));
        let (link, welcome) = dialled.map_err(|_| late())??;
        **self.secret = welcome.secret;
        Ok(link)
    }
}

/// A session that was forked from another one and waits to be claimed: by a child process, or by another one that this
/// is handed to. It holds what its parent held, and ends a lease after the parent unless somebody claims it.
///
/// Whoever has it is the session's owner: keep it as secret as a key.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Fork {
    pub(crate) session: u64,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    pub(crate) idents: Vec<u64>,
}

impl Fork {
    /// What a host answers a fork with.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Error> {
        let read = || {
            let mut reader = Reader::new(payload);
            if reader.array()? < 3 {
                return Err(Malformed::Frame("a fork has a number, a secret and idents"));
            }
            let session = reader.u64()?;
            let secret = reader.bytes()?.try_into().map_err(|_| Malformed::Frame("a secret has 32 bytes"))?;
            let idents = (0..reader.array()?).map(|_| reader.u64()).collect::<Result<_, Malformed>>()?;
            Ok(Self { session, secret: Zeroizing::new(secret), idents })
        };
        read().map_err(Error::malformed::<Self>)
    }
}

impl std::fmt::Debug for Fork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fork").field("session", &self.session).finish_non_exhaustive()
    }
}

fn endpoint(remote: SocketAddr) -> io::Result<Endpoint> {
    let local = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(local, 0))?;
    // The kernel may grant less. What arrives while the lane works off a large reply waits here, or is lost and sent again.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

fn client_config(verifier: Arc<dyn ServerCertVerifier>, is_loopback: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ConfigError::Option(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).map_err(|error| ConfigError::Option(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport(is_loopback)));
    Ok(config)
}

fn transport(is_loopback: bool) -> TransportConfig {
    let mut transport = crate::transport::transport(is_loopback);
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(BULK_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE.try_into().expect("30 s are within a QUIC timeout")));
    transport
}

/// Checks the certificate against a pin, or not at all: then the proofs of sign-in, which cover the TLS session and
/// this certificate, are what authenticates the host. Its signature is verified in either case.
#[derive(Debug)]
struct Leaf {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Leaf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.pin {
            Some(pin) if Sha256::digest(leaf).as_slice() != pin => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
