//! The QUIC transport: endpoints, connections, streams.
//!
//! A connection's first stream is its main lane, on which it also signs in. Further streams that the client opens carry a
//! large call each, and its reply; large replies to calls of the main lane go on streams that the host opens. Before
//! sign-in a peer has one stream and a 16 KiB window, and nothing it sends creates anything that outlives it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, TokioRuntime, TransportConfig, VarInt};
use steward_wire::auth::{ALPN, Channel, EXPORTER_LABEL};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::certificate::Certificate;
use crate::host::Tenants;
use crate::lane::{self, Lane, LaneEnd, LaneKind};
use crate::limits::Limits;
use crate::peers::{Admission, Peers};
use crate::session::Session;
use crate::sign_in::{self, Peer};

/// Receive window of a connection that has not signed in.
const UNSIGNED_WINDOW_BYTES: u32 = 16 << 10;

/// Large replies that are on their way at once. Each fills its stream's window and no more of the connection's send window, which
/// is four times as large: the main lane always finds room in it.
const BULK_SENDS_MAX: usize = 3;

/// How long a connection that ends waits for its client to have everything: a dead one never says so.
const GOODBYE: Duration = Duration::from_secs(1);

/// Close codes of the application, for people who look at captures; clients read the goodbye.
mod code {
    pub(super) const DONE: u32 = 0;
    pub(super) const SIGN_IN: u32 = 1;
    pub(super) const VIOLATION: u32 = 2;
}

/// What every connection of an endpoint needs.
pub(crate) struct Quic {
    tenants: Arc<Tenants>,
    peers: Arc<Peers>,
    certificate: Certificate,
    remote: Arc<quinn::ServerConfig>,
    loopback: Arc<quinn::ServerConfig>,
}

impl Quic {
    pub(crate) fn new(
        tenants: Arc<Tenants>,
        peers: Arc<Peers>,
        certificate: Certificate,
    ) -> Result<Self, rustls::Error> {
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der.clone()], certificate.key.clone_key())?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.max_early_data_size = 0;
        tls.send_tls13_tickets = 0;
        let tls = QuicServerConfig::try_from(tls).expect("TLS 1.3 with ring has the suite that QUIC starts with");
        let tls = Arc::new(tls);
        let limits = &tenants.shared.limits;
        let config = |loopback| {
            let mut config = quinn::ServerConfig::with_crypto(tls.clone());
            config.transport_config(Arc::new(transport(limits, loopback)));
            Arc::new(config)
        };
        let (remote, loopback) = (config(false), config(true));
        Ok(Self { tenants, peers, certificate, remote, loopback })
    }

    /// Serves a bound socket until the host ends. Must run within a tokio runtime with I/O and time.
    pub(crate) async fn serve(self: Arc<Self>, socket: std::net::UdpSocket) -> std::io::Result<()> {
        let shared = self.tenants.shared.clone();
        let limits = &shared.limits;
        let config = EndpointConfig::default();
        let endpoint = Endpoint::new(config, Some((*self.remote).clone()), socket, Arc::new(TokioRuntime))?;
        let mut ending = shared.ending.subscribe();
        let mut connections = JoinSet::new();
        loop {
            // Both branches only wait; nothing is lost when one is dropped.
            tokio::select! {
                incoming = endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    while connections.try_join_next().is_some() {}
                    self.clone().admit(incoming, &mut connections);
                }
                _ = ending.wait_for(Option::is_some) => break,
            }
        }
        endpoint.set_server_config(None);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(limits.drain_ms), drained).await;
        endpoint.close(VarInt::from_u32(code::DONE), b"host ended");
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        Ok(())
    }

    fn admit(self: Arc<Self>, incoming: Incoming, connections: &mut JoinSet<()>) {
        let address = incoming.remote_address();
        let limits = &self.tenants.shared.limits;
        if self.peers.half_open() >= limits.half_open_retry && !incoming.remote_address_validated() {
            // The error only says that this one cannot be retried; it is then dropped, which refuses it.
            let _ = incoming.retry();
            return;
        }
        let Some(admission) = self.peers.admit(Some(address.ip())) else { return incoming.refuse() };
        connections.spawn(async move {
            let peer = address.to_string();
            if let Err(error) = self.connection(incoming, address, admission).await {
                tracing::debug!(peer, %error, "connection ended");
            }
        });
    }

    async fn connection(
        &self,
        incoming: Incoming,
        address: SocketAddr,
        mut admission: Admission,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let shared = &self.tenants.shared;
        let limits = &shared.limits;
        let deadline = Instant::now() + Duration::from_millis(limits.sign_in_ms);
        let config = if address.ip().is_loopback() { &self.loopback } else { &self.remote };
        let (connection, mut writer, mut reader, signed) = tokio::time::timeout_at(deadline, async {
            let connection = incoming.accept_with(config.clone())?.await?;
            let mut exporter = [0; 32];
            connection
                .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
                .map_err(|_| "the TLS session exports no key")?;
            let (mut writer, mut reader) = connection.accept_bi().await?;
            let channel = Channel::Tls { exporter: &exporter, leaf_certificate: &self.certificate.der };
            let peer = Peer { name: address.to_string(), source: Some(address.ip()), channel };
            let signed = sign_in::serve(&self.tenants, &self.peers, peer, &mut reader, &mut writer).await;
            if signed.is_err() {
                // The refusal shall arrive before the close does.
                let _ = writer.finish();
                let _ = writer.stopped().await;
                connection.close(VarInt::from_u32(code::SIGN_IN), b"sign-in failed");
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((connection, writer, reader, signed?))
        })
        .await
        .map_err(|_| "signing in took too long")??;
        admission.signed_in();
        connection.set_receive_window(VarInt::from_u32(limits.connection_window_bytes));
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams_max));
        let (session, received) = (signed.session, signed.received);
        let end = self.session(&connection, &mut reader, &mut writer, received, &session).await;
        let (code, reason) = match &end {
            LaneEnd::Violation(reason) => (code::VIOLATION, &**reason),
            _ => (code::DONE, ""),
        };
        if !matches!(end, LaneEnd::Io(_)) {
            let _ = writer.finish();
            let _ = tokio::time::timeout(GOODBYE, writer.stopped()).await;
        }
        connection.close(VarInt::from_u32(code), reason.as_bytes());
        tracing::debug!(session = session.id, reason = %end, "lane ended");
        Ok(())
    }

    async fn session(
        &self,
        connection: &Connection,
        reader: &mut quinn::RecvStream,
        writer: &mut quinn::SendStream,
        received: Vec<u8>,
        session: &Arc<Session>,
    ) -> LaneEnd {
        let limits = &self.tenants.shared.limits;
        let main = Lane::new(limits, LaneKind::Main, session.connection());
        session.attach(&main);
        // Small calls go before large ones when both are ready.
        let _ = writer.set_priority(1);
        // Owns every task of this connection: all end with it.
        let mut sends = JoinSet::new();
        let room = Arc::new(Semaphore::new(BULK_SENDS_MAX));
        let mut send_bulk = |frame: Bytes| {
            while sends.try_join_next().is_some() {}
            let (connection, lane, room) = (connection.clone(), main.clone(), room.clone());
            sends.spawn(async move {
                let _room = room.acquire().await.expect("the semaphore is never closed");
                if send_alone(&connection, &lane, frame).await.is_err() {
                    tracing::debug!("a large reply was not sent: its connection ends");
                }
            });
        };
        let mut streams = JoinSet::new();
        streams.spawn(self::streams(connection.clone(), session.clone(), main.connection));
        lane::serve(reader, writer, received, &main, session, &mut send_bulk).await
    }
}

/// Sends a frame on a stream of its own, until it is acknowledged: before that it takes room of the connection's window. The lane
/// hears of each part that has left, so that calls are taken again as soon as there is room.
async fn send_alone(
    connection: &Connection,
    lane: &Lane,
    frame: Bytes,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut left = frame.len();
    let sent = async {
        let mut stream = connection.open_uni().await?;
        let mut rest = [frame];
        while left > 0 {
            let written = stream.write_chunks(&mut rest).await?.bytes;
            lane.bulk_sent(written);
            left -= written;
        }
        stream.finish()?;
        stream.stopped().await?;
        Ok(())
    };
    let sent = sent.await;
    lane.bulk_sent(left);
    sent
}

/// Accepts the streams of large calls until the connection ends. A task of its own, since the main lane's is polled with
/// every call.
async fn streams(connection: Connection, session: Arc<Session>, number: u64) {
    let limits = &session.tenant.shared.limits;
    let mut tasks = JoinSet::new();
    let (per_s, burst) = (f64::from(limits.stream_opens_per_s_max.max(1)), f64::from(limits.stream_opens_burst_max));
    let mut opens = burst;
    let mut counted = Instant::now();
    while let Ok((mut writer, mut reader)) = connection.accept_bi().await {
        let now = Instant::now();
        let refilled = (now - counted).as_secs_f64() * per_s;
        (opens, counted) = ((opens + refilled).min(burst) - 1.0, now);
        if opens < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-opens / per_s)).await;
        }
        while tasks.try_join_next().is_some() {}
        let lane = Lane::new(limits, LaneKind::Bulk, number);
        session.attach(&lane);
        let session = session.clone();
        tasks.spawn(async move {
            let end = lane::serve(&mut reader, &mut writer, Vec::new(), &lane, &session, &mut |_| {}).await;
            match end {
                LaneEnd::Closed | LaneEnd::Done => {
                    let _ = writer.finish();
                }
                end => tracing::debug!(session = session.id, reason = %end, "stream ended"),
            }
        });
    }
}

fn transport(limits: &Limits, is_loopback: bool) -> TransportConfig {
    let mut transport = steward_client::transport::transport(is_loopback);
    let idle = Duration::from_millis(limits.idle_ms);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .receive_window(VarInt::from_u32(UNSIGNED_WINDOW_BYTES))
        .send_window(limits.send_window_bytes)
        .max_idle_timeout(Some(idle.try_into().expect("limits are far below 2^62 ms")))
        .keep_alive_interval(Some(Duration::from_millis(limits.keep_alive_ms)));
    transport
}

/// The network that an address counts for: a /24, or a /56.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return source(IpAddr::V4(mapped));
            }
            let mut octets = address.octets();
            octets[7..].fill(0);
            IpAddr::from(octets)
        }
    }
}
