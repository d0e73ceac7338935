//! Signing in, the host's side: brings I/O, time and randomness to the pure handshake of [`steward_wire::auth`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use steward_wire::auth::{
    ALGORITHM, AuthKey, CLIENT_BYTES_MAX, Challenge, Channel, Hello, Proof, Proofs, Refusal, RefusalCode,
    SessionLimits, SignedWelcome, VERSION, Welcome,
};
use steward_wire::frame::{self, LENGTH_BYTES};
use steward_wire::{Fault, Ident};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::host::Tenants;
use crate::peers::Peers;
use crate::session::Session;
use crate::tenant::{Key, Shared, Tenant};

/// Who is at the other end.
pub(crate) struct Peer<'a> {
    /// For logs and listings.
    pub(crate) name: String,
    /// What failures are counted by; `None` on the Unix socket.
    pub(crate) source: Option<IpAddr>,
    /// What the proofs are bound to.
    pub(crate) channel: Channel<'a>,
}

/// Somebody who signed in.
pub(crate) struct SignedIn {
    pub(crate) session: Arc<Session>,
    /// What was read beyond the handshake.
    pub(crate) received: Vec<u8>,
}

/// Why nobody signed in. The peer was told no more than a [`RefusalCode`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("message of {0} bytes, limit is {CLIENT_BYTES_MAX}")]
    TooLong(usize),
    #[error(transparent)]
    Malformed(#[from] steward_wire::Malformed),
    #[error("version {0} is not spoken")]
    Version(u16),
    #[error("no algorithm in common")]
    Algorithm,
    #[error("tenant `{tenant}`, key `{key_id}`: {why}")]
    Denied { tenant: String, key_id: String, why: &'static str },
    #[error("tenant `{tenant}`: {why}")]
    TryLater { tenant: String, why: &'static str },
}

/// Signs a peer in. The caller limits the time and closes the connection after an error.
pub(crate) async fn serve<R, W>(
    tenants: &Arc<Tenants>,
    peers: &Peers,
    peer: Peer<'_>,
    reader: &mut R,
    writer: &mut W,
) -> Result<SignedIn, SignInError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let shared = &tenants.shared;
    let name = peer.name.clone();
    let mut lane = Messages { reader, writer, received: Vec::new(), heard: Instant::now() };
    let error = match sign_in(tenants, peers, peer, &mut lane).await {
        Ok(session) => {
            tracing::info!(session = session.id, peer = name, tenant = session.tenant.name, "signed in");
            return Ok(SignedIn { session, received: lane.received });
        }
        Err(error) => error,
    };
    tracing::info!(peer = name, %error, "sign-in refused");
    let refusal = match &error {
        SignInError::Io(_) => return Err(error),
        SignInError::Version(_) | SignInError::Algorithm => Refusal {
            code: RefusalCode::Version,
            message: format!("version {VERSION} with {ALGORITHM} is spoken here"),
        },
        SignInError::TryLater { why, .. } => Refusal { code: RefusalCode::TryLater, message: (*why).to_owned() },
        _ => Refusal { code: RefusalCode::Denied, message: "sign-in was refused".to_owned() },
    };
    // However it failed, it takes the same time since the peer's last message: who sends that late gains nothing.
    tokio::time::sleep_until(lane.heard + Duration::from_millis(shared.limits.sign_in_failure_ms_min)).await;
    lane.send(&refusal.encode()).await?;
    Err(error)
}

async fn sign_in<R, W>(
    tenants: &Arc<Tenants>,
    peers: &Peers,
    peer: Peer<'_>,
    lane: &mut Messages<'_, R, W>,
) -> Result<Arc<Session>, SignInError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let shared = &tenants.shared;
    let hello_bytes = lane.receive().await?;
    let hello = Hello::decode(&hello_bytes)?;
    if hello.version != VERSION {
        return Err(SignInError::Version(hello.version));
    }
    if !hello.algorithms.iter().any(|algorithm| algorithm == ALGORITHM) {
        return Err(SignInError::Algorithm);
    }
    let (tenant, key_id) = (hello.tenant.clone(), hello.key_id.clone());
    if peers.is_throttled(&tenant, &key_id, peer.source, shared.clock.now_ms()) {
        return Err(SignInError::TryLater { tenant, why: "too many failed sign-ins from here, wait a minute" });
    }
    let challenge = Challenge {
        version: VERSION,
        algorithm: ALGORITHM.to_owned(),
        nonce: *random()?,
        server_id: shared.server_id.clone(),
    };
    let challenge_bytes = challenge.encode();
    lane.send(&challenge_bytes).await?;
    let proof = Proof::decode(&lane.receive().await?)?;

    let known = tenants.get(&tenant).and_then(|tenant| {
        let key = tenant.keys.iter().find(|key| key.id == key_id)?;
        Some((tenant, key))
    });
    // For an unknown key the same work is done with one that nobody holds.
    let dummy = AuthKey::dummy(&shared.boot_secret, &tenant, &key_id);
    let authkey = known.map_or(&dummy, |(_, key)| &key.authkey);
    let proofs = Proofs::new(authkey.as_bytes(), &hello_bytes, &challenge_bytes, &peer.channel)?;
    let verified = proofs.verify_client(&proof.proof);
    let (true, Some((of, key))) = (verified, known) else {
        peers.failed(&tenant, &key_id, peer.source, shared.clock.now_ms());
        return Err(SignInError::Denied { tenant, key_id, why: "wrong key, or none of that name" });
    };
    let secret = random()?;
    let session = match hello.resume {
        Some(number) => resume(shared, of, number, &proofs, proof.resume, &secret).ok_or(SignInError::Denied {
            tenant,
            key_id,
            why: "no such session, or a wrong secret for it",
        })?,
        None => begin(shared, of, key, peer.name, &secret)?,
    };
    let welcome = Welcome {
        session: session.id,
        secret: *secret,
        epoch: shared.epoch,
        lease_ms: shared.limits.lease_ms,
        limits: session_limits(shared),
    };
    let body = welcome.encode();
    let mac = proofs.welcome_mac(&body);
    lane.send(&SignedWelcome { body, mac }.encode()).await.inspect_err(|_| {
        // Nobody knows of a session that was never welcomed.
        if hello.resume.is_none() {
            session.end(true);
        }
    })?;
    Ok(session)
}

fn begin(
    shared: &Shared,
    tenant: &Arc<Tenant>,
    key: &Key,
    peer: String,
    secret: &Zeroizing<[u8; 32]>,
) -> Result<Arc<Session>, SignInError> {
    let mut sessions = shared.sessions.lock();
    let why = if shared.ending.borrow().is_some() {
        "the host is ending"
    } else if sessions.values().filter(|session| Arc::ptr_eq(&session.tenant, tenant)).count()
        >= shared.limits.sessions_max
    {
        "the tenant has all the sessions it may have"
    } else {
        let session = Arc::new(Session::new(tenant.clone(), key.role, peer, secret.clone()));
        sessions.insert(session.id, session.clone());
        return Ok(session);
    };
    Err(SignInError::TryLater { tenant: tenant.name.clone(), why })
}

/// A session that waits to be claimed.
pub(crate) struct Forked {
    pub(crate) session: u64,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    /// What it holds.
    pub(crate) idents: Vec<Ident>,
}

/// Makes a child session of `session`, to be claimed with the secret.
///
/// # Errors
/// Refused `OverQuota`.
pub(crate) fn fork(session: &Arc<Session>) -> Result<Forked, Fault> {
    let tenant = &session.tenant;
    let shared = &tenant.shared;
    let secret = random().map_err(|error| Fault::refused("Internal", error.to_string()))?;
    if shared.sessions_of(tenant) >= shared.limits.sessions_max {
        let limit = shared.limits.sessions_max;
        return Err(Fault::refused("OverQuota", format!("the tenant has {limit} sessions, limit is {limit}")).retry());
    }
    let (child, idents) = session.fork(secret.clone());
    let child = Arc::new(child);
    shared.sessions.lock().insert(child.id, child.clone());
    Ok(Forked { session: child.id, secret, idents })
}

/// Attaches a further connection to a session of the same tenant, whose secret the client has proven to hold.
fn resume(
    shared: &Shared,
    tenant: &Arc<Tenant>,
    number: u64,
    proofs: &Proofs,
    proof: Option<[u8; 32]>,
    secret: &Zeroizing<[u8; 32]>,
) -> Option<Arc<Session>> {
    let session = shared.sessions.lock().get(&number).cloned()?;
    let proof = proof?;
    let resumed =
        Arc::ptr_eq(&session.tenant, tenant) && session.resume(secret, |secret| proofs.verify_resume(secret, &proof));
    resumed.then_some(session)
}

fn session_limits(shared: &Shared) -> SessionLimits {
    let limits = &shared.limits;
    SessionLimits {
        request_bytes_max: limits.request_bytes_max as u64,
        reply_bytes_max: limits.reply_bytes_max as u64,
        bulk_bytes_min: limits.bulk_bytes_min as u64,
        calls_running_max: limits.calls_running_max,
        calls_parked_max: limits.calls_parked_max,
        reply_rows_max: limits.reply_rows_max,
        reply_row_bytes_max: limits.reply_row_bytes_max,
    }
}

fn random() -> std::io::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// The handshake's messages on a stream: each preceded by its length, as frames are.
struct Messages<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    received: Vec<u8>,
    /// When something last arrived.
    heard: Instant,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Messages<'_, R, W> {
    async fn receive(&mut self) -> Result<Vec<u8>, SignInError> {
        loop {
            if let Some(length) = frame::length(&self.received) {
                if length > CLIENT_BYTES_MAX {
                    return Err(SignInError::TooLong(length));
                }
                let end = LENGTH_BYTES + length;
                if self.received.len() >= end {
                    let body = self.received[LENGTH_BYTES..end].to_vec();
                    self.received.drain(..end);
                    return Ok(body);
                }
            }
            let mut room = [0; 1024];
            let read = self.reader.read(&mut room).await?;
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            self.heard = Instant::now();
            self.received.extend_from_slice(&room[..read]);
        }
    }

    async fn send(&mut self, body: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(body.len()).expect("messages of the handshake are short");
        let mut message = Zeroizing::new(Vec::with_capacity(LENGTH_BYTES + body.len()));
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.writer.write_all(&message).await?;
        self.writer.flush().await
    }
}
