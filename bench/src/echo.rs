//! Bare echoes: what the transport alone costs.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use anyhow::{Context, Result};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::servers;

/// The size of an echo.
pub(crate) const BYTES: usize = 64;

/// One long-lived stream to an echo server.
pub(crate) struct QuicEcho {
    _endpoint: Endpoint,
    _connection: Connection,
    writer: SendStream,
    reader: RecvStream,
}

/// One connection to an echo server's Unix socket.
pub(crate) struct UnixEcho(UnixStream);

impl QuicEcho {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(servers::transport());
        let mut endpoint = Endpoint::new(EndpointConfig::default(), None, servers::socket()?, Arc::new(TokioRuntime))?;
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(address, "localhost")?.await?;
        let (writer, reader) = connection.open_bi().await?;
        Ok(Self { _endpoint: endpoint, _connection: connection, writer, reader })
    }

    /// Microseconds of one round trip of `bytes` bytes.
    pub(crate) async fn round_trip(&mut self, bytes: usize) -> Result<f64> {
        let sent = vec![7; bytes];
        let mut received = vec![0; bytes];
        let started = Instant::now();
        self.writer.write_all(&sent).await?;
        self.reader.read_exact(&mut received).await?;
        Ok(started.elapsed().as_secs_f64() * 1e6)
    }

    /// Microseconds of a small round trip that is sent behind a large one on the same stream.
    pub(crate) async fn behind(&mut self, large: usize) -> Result<f64> {
        let sent = vec![7; large];
        let Self { writer, reader, .. } = self;
        let mut rest = vec![0; large + BYTES];
        let send = async {
            let (first, last) = sent.split_at(large / 2);
            writer.write_all(first).await?;
            // The small one is asked for while the large one is under way.
            let asked = Instant::now();
            writer.write_all(last).await?;
            writer.write_all(&[8; BYTES]).await?;
            anyhow::Ok(asked)
        };
        let (asked, received) = tokio::join!(send, reader.read_exact(&mut rest));
        received?;
        Ok(asked?.elapsed().as_secs_f64() * 1e6)
    }

    /// Echoes per second with `callers` tasks that each have one under way: multiplexed on the stream by a number in each
    /// echo, as calls are by theirs, and nothing else.
    pub(crate) async fn throughput(&mut self, callers: usize, echoes: usize) -> Result<f64> {
        let shared = Arc::new(Mutex::new(Multiplexed::default()));
        shared.lock().unwrap_or_else(PoisonError::into_inner).callers.resize_with(callers, Caller::default);
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| tokio::spawn(Multiplexed::call(shared.clone(), caller, echoes / callers)))
            .collect();
        let mut room = vec![0; 64 << 10];
        let (mut part, mut received, mut sending, mut sent) = (0, 0, Vec::new(), 0);
        let Self { writer, reader, .. } = self;
        poll_fn(|cx| {
            while received < echoes / callers * callers {
                let mut moved = false;
                {
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    shared.lane = Some(cx.waker().clone());
                    if sent == sending.len() {
                        (sent, moved) = (0, !shared.out.is_empty());
                        sending.clear();
                        std::mem::swap(&mut sending, &mut shared.out);
                    }
                }
                while sent < sending.len() {
                    match Pin::new(&mut *writer).poll_write(cx, &sending[sent..])? {
                        Poll::Ready(written) => (sent, moved) = (sent + written, true),
                        Poll::Pending => break,
                    }
                }
                if let Poll::Ready(read) = reader.poll_read(cx, &mut room[part..])? {
                    let whole = (part + read) / BYTES;
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    for echo in room[..whole * BYTES].chunks(BYTES) {
                        let caller = &mut shared.callers[usize::from(echo[0])];
                        caller.answered = true;
                        caller.waker.take().into_iter().for_each(Waker::wake);
                    }
                    room.copy_within(whole * BYTES..part + read, 0);
                    (part, received, moved) = (part + read - whole * BYTES, received + whole, true);
                }
                if !moved {
                    return Poll::Pending;
                }
            }
            Poll::Ready(anyhow::Ok(()))
        })
        .await?;
        for task in tasks {
            task.await?;
        }
        Ok(received as f64 / started.elapsed().as_secs_f64())
    }
}

impl UnixEcho {
    pub(crate) async fn connect(path: &Path) -> Result<Self> {
        Ok(Self(UnixStream::connect(path).await?))
    }

    /// Microseconds of one round trip of a frame with 64 bytes.
    pub(crate) async fn round_trip(&mut self) -> Result<f64> {
        let mut sent = vec![7; 4 + BYTES];
        sent[..4].copy_from_slice(&(BYTES as u32).to_be_bytes());
        let started = Instant::now();
        self.0.write_all(&sent).await?;
        let mut received = Vec::with_capacity(sent.len());
        while received.len() < sent.len() {
            self.0.read_buf(&mut received).await?;
        }
        Ok(started.elapsed().as_secs_f64() * 1e6)
    }
}

/// What the callers of a multiplexed echo share with its lane.
#[derive(Default)]
struct Multiplexed {
    out: Vec<u8>,
    callers: Vec<Caller>,
    lane: Option<Waker>,
}

#[derive(Default)]
struct Caller {
    answered: bool,
    waker: Option<Waker>,
}

impl Multiplexed {
    /// One caller: `echoes` of them, one after the other.
    async fn call(shared: Arc<Mutex<Self>>, caller: usize, echoes: usize) {
        let number = u8::try_from(caller).expect("callers are numbered in a byte");
        for _ in 0..echoes {
            {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.out.extend_from_slice(&[number; BYTES]);
                shared.lane.take().into_iter().for_each(Waker::wake);
            }
            poll_fn(|cx| {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let caller = &mut shared.callers[caller];
                if std::mem::take(&mut caller.answered) {
                    return Poll::Ready(());
                }
                caller.waker = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}

/// Accepts any certificate: the echo server has nothing to protect.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The median round trip of `count`, in microseconds.
pub(crate) async fn median<F: AsyncFnMut() -> Result<f64>>(count: usize, mut one: F) -> Result<f64> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(one().await?);
    }
    all.sort_by(f64::total_cmp);
    all.get(count / 2).copied().context("at least one round trip")
}
