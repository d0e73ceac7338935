//! Sessions over QUIC: certificates, and large frames on streams of their own.

#[expect(dead_code, reason = "the Unix socket half is the other file's")]
mod fake;

use std::sync::Arc;

use fake::{Peer, key, reply};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, ReadError, ReadToEndError, RecvStream, SendStream, ServerConfig, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use steward_client::{ConnectOptions, Effect, Error, Fault, Queue};
use steward_wire::auth::{ALPN, Channel, EXPORTER_LABEL, SessionLimits};
use steward_wire::value;
use tokio::io::{Join, join};

struct Host {
    endpoint: Endpoint,
    certificate: CertificateDer<'static>,
}

impl Host {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let secret = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], secret)
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let mut transport = TransportConfig::default();
        transport.stream_receive_window((64u32 << 10).into());
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { endpoint, certificate }
    }

    fn address(&self) -> String {
        format!("steward://localhost:{}", self.endpoint.local_addr().unwrap().port())
    }

    fn pin(&self) -> String {
        let digest = Sha256::digest(&self.certificate);
        format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    async fn accept(&self) -> Option<(Connection, Peer<Join<RecvStream, SendStream>>)> {
        let connection = self.endpoint.accept().await?.await.ok()?;
        let mut exporter = [0; 32];
        connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").unwrap();
        let (send, receive) = connection.accept_bi().await.ok()?;
        let mut peer = Peer::new(join(receive, send));
        let channel = Channel::Tls { exporter: &exporter, leaf_certificate: &self.certificate };
        peer.sign_in(&key(1), &channel, SessionLimits { request_bytes_max: 8 << 20, ..SessionLimits::default() }).await;
        Some((connection, peer))
    }
}

#[tokio::test]
async fn pin_lets_the_right_certificate_in_and_no_other() {
    let host = Host::new();
    let options = ConnectOptions::new().authkey(key(1));
    let address = host.address();
    let (manager, peer) = tokio::join!(options.clone().pin(host.pin()).connect(&address), host.accept());
    assert!(peer.is_some());
    drop(manager.unwrap());
    let other = format!("sha256:{}", "0".repeat(64));
    let (refused, peer) = tokio::join!(options.clone().pin(other).connect(&address), host.accept());
    assert!(peer.is_none(), "the handshake fails before anything is sent");
    assert!(matches!(refused.unwrap_err(), Error::Connection { .. }));
    let malformed = options.pin("sha256:00").connect(&address).await.unwrap_err();
    assert!(matches!(malformed, Error::Config(_)), "{malformed}");
}

/// A megabyte goes out on a stream of its own and comes back on one that the host opens, while the lane is idle.
#[tokio::test]
async fn large_calls_and_replies_take_streams_of_their_own() {
    let host = Host::new();
    let address = host.address();
    let connecting = ConnectOptions::new().authkey(key(1)).connect(&address);
    let (manager, accepted) = tokio::join!(connecting, host.accept());
    let (manager, (connection, mut peer)) = (manager.unwrap(), accepted.unwrap());
    let large = "x".repeat(1_000_000);
    let serving = tokio::spawn(async move {
        // The create and the description come by the lane, so it has to be served beside the stream.
        let (first, stream) = tokio::join!(peer.call(), connection.accept_bi());
        assert_eq!(first.method, "qsize");
        peer.reply(first.seq, &value::from_serde(&0).unwrap(), None).await;
        let (send, receive) = stream.unwrap();
        let mut bulk = Peer::new(join(receive, send));
        let put = bulk.call().await;
        assert_eq!(put.method, "put");
        bulk.reply(put.seq, &[0xf6], None).await;
        drop(bulk);
        let get = peer.call().await;
        assert_eq!(get.method, "get");
        let mut uni = connection.open_uni().await.unwrap();
        let payload = value::from_serde(&"y".repeat(1_000_000)).unwrap();
        uni.write_all(&reply(get.seq, Effect::Returned, &payload, None)).await.unwrap();
        uni.finish().unwrap();
        // The peer's half of the lane is kept open until the client goes.
        while peer.read().await.is_some() {}
    });
    let queue: Queue<String> = manager.queue(0).await.unwrap();
    let (put, size) = tokio::join!(queue.put(&large).into_future(), queue.qsize().into_future());
    put.unwrap();
    assert_eq!(size.unwrap(), 0);
    assert_eq!(queue.get().await.unwrap().len(), 1_000_000);
    drop(queue);
    manager.close().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn dropped_bulk_call_resets_its_stream() {
    let host = Host::new();
    let address = host.address();
    let connecting = ConnectOptions::new().authkey(key(1)).connect(&address);
    let (manager, accepted) = tokio::join!(connecting, host.accept());
    let (manager, (connection, mut peer)) = (manager.unwrap(), accepted.unwrap());
    let (queue, ()) = tokio::join!(
        async {
            let queue: Queue<String> = manager.queue(0).await.unwrap();
            queue.qsize().await.unwrap();
            queue
        },
        async {
            let seen = peer.call().await;
            peer.reply(seen.seq, &value::from_serde(&0).unwrap(), None).await;
        }
    );
    // More than the client's send window and this stream's together: the call cannot leave whole while nobody reads.
    let putting = tokio::spawn(queue.put(&"x".repeat(4_000_000)).into_future());
    let (_send, mut receive) = connection.accept_bi().await.unwrap();
    let mut some = [0; 1000];
    receive.read_exact(&mut some).await.unwrap();
    putting.abort();
    assert!(putting.await.unwrap_err().is_cancelled());
    let read = receive.read_to_end(8_000_000).await;
    assert!(matches!(read, Err(ReadToEndError::Read(ReadError::Reset(_)))), "{:?}", read.map(|bytes| bytes.len()));
    // The session lives. The host is told, should the call ever come by a stream that is sent again.
    let given_up = peer.cancel().await;
    peer.fail(given_up, &Fault::refused("Cancelled", "")).await;
    let (size, seen) = tokio::join!(queue.qsize().into_future(), async {
        let seen = peer.call().await;
        peer.reply(seen.seq, &value::from_serde(&3).unwrap(), None).await;
        seen
    });
    assert_eq!(size.unwrap(), 3);
    assert!(seen.seq > given_up);
}
