//! A relay between clients and a host, which loses what it is told to lose.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use steward_wire::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::PATIENCE;
use crate::host::runtime;

/// Stands between clients and a host's address of either transport.
#[derive(Debug)]
pub struct Relay {
    address: String,
    mode: watch::Sender<Mode>,
    _directory: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    /// Rises when all present connections are cut.
    cuts: u64,
    /// What clients say is held back, and lost with the connection.
    mutes_clients: bool,
    /// What the host says is.
    mutes_host: bool,
    /// New connections come to nothing.
    refuses: bool,
    /// So many bytes of the host's get through in a second, over QUIC; 0: all.
    host_bytes_per_s: u32,
}

impl Relay {
    /// Starts one before `address`.
    ///
    /// # Panics
    /// If the system gives no socket.
    pub async fn before(address: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("relay")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .expect("a directory for the socket");
        let (mode, modes) = watch::channel(Mode::default());
        let path = directory.path().join("relay.sock");
        let _runtime = runtime().enter();
        let address = match address.parse().expect("a host's address") {
            Address::Unix(host) => {
                let listener = UnixListener::bind(&path).expect("a socket in a new directory");
                runtime().spawn(async move {
                    tokio::select! {
                        () = relay_streams(listener, host, modes.clone()) => {}
                        () = over(modes) => {}
                    }
                });
                Address::Unix(path).to_string()
            }
            Address::Quic { host, port } => {
                let host = SocketAddr::new(host.parse().expect("a host of this machine"), port);
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
                socket.set_nonblocking(true).expect("sockets may not block");
                let socket = UdpSocket::from_std(socket).expect("a socket of this runtime");
                let port = socket.local_addr().expect("a bound socket has an address").port();
                runtime().spawn(async move {
                    tokio::select! {
                        () = relay_datagrams(Arc::new(socket), host, modes.clone()) => {}
                        () = over(modes) => {}
                    }
                });
                Address::Quic { host: "127.0.0.1".into(), port }.to_string()
            }
        };
        Self { address, mode, _directory: directory }
    }

    /// Where clients find it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Loses all present connections, with what was held back; new ones are as good as any. Over QUIC a client finds out when nobody
    /// answers its heartbeats.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| *mode = Mode { cuts: mode.cuts + 1, ..Mode::default() });
    }

    /// As [`Self::cut`]; nothing new gets through until the next cut.
    pub fn part(&self) {
        self.mode.send_modify(|mode| *mode = Mode { cuts: mode.cuts + 1, refuses: true, ..Mode::default() });
    }

    /// Holds back what clients say.
    pub fn mute_clients(&self) {
        self.mode.send_modify(|mode| mode.mutes_clients = true);
    }

    /// Holds back what the host says.
    pub fn mute_host(&self) {
        self.mode.send_modify(|mode| mode.mutes_host = true);
    }

    /// Lets so many bytes in a second through that the host says, over QUIC, until the next cut. What comes faster is lost where it
    /// does not find room.
    pub fn slow_host(&self, bytes_per_s: u32) {
        self.mode.send_modify(|mode| mode.host_bytes_per_s = bytes_per_s);
    }
}

/// Ends some time after the relay was dropped: clients that go after it still take their leave through it.
async fn over(mut modes: watch::Receiver<Mode>) {
    while modes.changed().await.is_ok() {}
    tokio::time::sleep(PATIENCE).await;
}

async fn relay_streams(listener: UnixListener, host: std::path::PathBuf, modes: watch::Receiver<Mode>) {
    // They end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let mut modes = modes.clone();
        let now = *modes.borrow_and_update();
        if now.refuses {
            continue;
        }
        let Ok(host) = UnixStream::connect(&host).await else { continue };
        connections.spawn(async move {
            let (from_client, to_client) = client.into_split();
            let (from_host, to_host) = host.into_split();
            let up = pump(from_client, to_host, modes.clone(), now.cuts, |mode| !mode.mutes_clients);
            let down = pump(from_host, to_client, modes.clone(), now.cuts, |mode| !mode.mutes_host);
            let cut = async {
                if modes.wait_for(|mode| mode.cuts != now.cuts).await.is_err() {
                    std::future::pending().await
                }
            };
            // Whichever ends: the connection is over.
            tokio::select! {
                () = up => {}
                () = down => {}
                () = cut => {}
            }
        });
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut modes: watch::Receiver<Mode>,
    cuts: u64,
    passes: impl Fn(&Mode) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // A cut lets nothing go that was held back.
        match modes.wait_for(|mode| mode.cuts != cuts || passes(mode)).await {
            Ok(mode) if mode.cuts == cuts => {}
            _ => return,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn relay_datagrams(socket: Arc<UdpSocket>, host: SocketAddr, modes: watch::Receiver<Mode>) {
    // By the client's address; dropping them ends their tasks. What is cut stays here, and leads nowhere.
    let mut ways: HashMap<SocketAddr, (Arc<UdpSocket>, u64)> = HashMap::new();
    let mut downs = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
        let now = *modes.borrow();
        if let Entry::Vacant(place) = ways.entry(client) {
            let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
            way.connect(host).await.expect("an address of this machine");
            // What begins while nothing gets through is not cut with what was there before.
            let cuts = now.cuts + u64::from(now.refuses);
            place.insert((Arc::clone(&way), cuts));
            let (socket, modes) = (Arc::clone(&socket), modes.clone());
            downs.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read) = way.recv(&mut buffer).await {
                    let now = *modes.borrow();
                    if now.cuts == cuts && !now.refuses && !now.mutes_host {
                        let _ = socket.send_to(&buffer[..read], client).await;
                    }
                    if now.host_bytes_per_s > 0 {
                        tokio::time::sleep(Duration::from_secs(1) * read as u32 / now.host_bytes_per_s).await;
                    }
                }
            });
        }
        let (way, cuts) = &ways[&client];
        if *cuts == now.cuts && !now.refuses && !now.mutes_clients {
            let _ = way.send(&buffer[..read]).await;
        }
    }
}
