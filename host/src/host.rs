//! A running host: its threads, from start to orderly end.
//!
//! One thread with a single-threaded runtime serves QUIC, another the Unix socket, so that a step runs on the very thread that
//! read its frame; the clock has a thread, and guests that are not known to be quick have as many as they need.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use steward_wire::address::Address;
use tokio::sync::watch;

use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::peers::Peers;
use crate::plugins::{self, InstallError, InstallOptions, LazyGuests};
use crate::pool::Pool;
use crate::quic::Quic;
use crate::registry::{PluginReport, RegisterError, Registered, Registration};
use crate::session::Session;
use crate::tenant::{Key, Shared, Tenant};
use crate::unix::{self, UnixSocket};

/// How often leases are looked at, and cycles that nobody refers to; eight times in a lease at least.
const SWEEP_MS: u64 = 500;
/// Receive buffer of a UDP socket: the kernel counts a packet at up to twice its size.
const SOCKET_BYTES: usize = 4 << 20;
/// A sweep this late means that the host itself was paused: sessions get a fresh lease. A quarter of a lease does, too: clients are
/// silent for half of one, so that a pause that is not noticed, with what passes between two sweeps, ends nobody's.
const PAUSE_MS: u64 = 1_500;

/// What a host starts with.
#[derive(Clone)]
pub struct Config {
    /// Where QUIC listens; port 0 takes a free one.
    pub quic: Vec<SocketAddr>,
    /// Where the Unix socket listens. Its directory is made with mode 0700, or must be this user's.
    pub unix: Option<PathBuf>,
    /// Keeps the certificate; without one it lives as long as the host.
    pub data_dir: Option<PathBuf>,
    /// Who may sign in.
    pub tenants: Vec<TenantConfig>,
    /// All bounds.
    pub limits: Limits,
    /// Runs plugins that are registered while the host runs; `None`: there are none but those of [`TenantConfig::types`].
    pub guests: Option<LazyGuests>,
}

/// A tenant.
#[derive(Clone)]
pub struct TenantConfig {
    /// Its name.
    pub name: String,
    /// Its keys, two at most being usual: the present and the next.
    pub keys: Vec<Key>,
    /// Its types beside the built-in ones.
    pub types: Vec<Registration>,
}

impl Default for Config {
    /// Nowhere to listen, nobody to serve, limits for several people.
    fn default() -> Self {
        Self {
            quic: Vec::new(),
            unix: None,
            data_dir: None,
            tenants: Vec::new(),
            limits: Limits::shared(),
            guests: None,
        }
    }
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The certificate cannot be read or made.
    #[error("certificate: {0}")]
    Certificate(std::io::Error),
    /// The certificate and its key do not serve TLS.
    #[error("certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// A type cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The system gave no thread, or no randomness.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// All tenants, by name.
pub(crate) struct Tenants {
    pub(crate) shared: Arc<Shared>,
    by_name: HashMap<String, Arc<Tenant>>,
}

impl Tenants {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.by_name.get(name)
    }
}

/// A running host. Dropping it ends it in good order.
pub struct Host {
    tenants: Arc<Tenants>,
    addresses: Vec<Address>,
    pin: String,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Host {
    /// Binds every address and starts to serve.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let certificate = match &config.data_dir {
            Some(directory) => Certificate::load_or_make(directory),
            None => Certificate::ephemeral(),
        };
        let certificate = certificate.map_err(StartError::Certificate)?;
        let pin = certificate.pin();
        let mut addresses = Vec::new();
        let mut sockets = Vec::new();
        for &address in &config.quic {
            let named = |error| StartError::Listen { address: address.to_string(), error };
            let socket = UdpSocket::bind(address).map_err(named)?;
            // The kernel may grant less. What arrives while a step runs waits here, or is lost and sent again.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
            let bound = socket.local_addr().map_err(named)?;
            addresses.push(Address::Quic { host: bound.ip().to_string(), port: bound.port() });
            sockets.push(socket);
        }
        let unix = match &config.unix {
            Some(path) => {
                let named = |error| StartError::Listen { address: path.display().to_string(), error };
                addresses.push(Address::Unix(path.clone()));
                Some(UnixSocket::bind(path).map_err(named)?)
            }
            None => None,
        };
        let mut boot_secret = [0; 32];
        getrandom::fill(&mut boot_secret).map_err(|error| std::io::Error::other(error.to_string()))?;

        let pool = Pool::start(&config.limits)?;
        let server_id = pin.chars().skip("sha256:".len()).take(16).collect();
        let (limits, clock, ending) = (config.limits, Clock::new(), watch::Sender::new(None));
        let shared = Arc::new(Shared::new(limits, clock, pool, server_id, boot_secret, config.guests, ending));
        let mut by_name = HashMap::new();
        for TenantConfig { name, keys, types } in config.tenants {
            let tenant = Tenant::new(name.clone(), keys, shared.clone());
            for registration in types {
                tenant.registry.register(registration).inspect_err(|_| shared.pool.stop())?;
            }
            by_name.insert(name, Arc::new(tenant));
        }
        let tenants = Arc::new(Tenants { shared: shared.clone(), by_name });
        let peers = Peers::new(&shared.limits);
        let host = Self { tenants: tenants.clone(), addresses, pin, threads: Mutex::default() };

        let mut threads = Vec::new();
        let quic = Arc::new(Quic::new(tenants.clone(), peers.clone(), certificate)?);
        for socket in sockets {
            socket.set_nonblocking(true)?;
            let quic = quic.clone();
            threads.push(serve("steward-quic", move || quic.serve(socket))?);
        }
        if let Some(socket) = unix {
            let tenants = tenants.clone();
            threads.push(serve("steward-unix", move || unix::serve(tenants, peers, socket))?);
        }
        let swept = tenants.clone();
        let clock = std::thread::Builder::new().name("steward-clock".into()).spawn(move || {
            let sweep_ms = SWEEP_MS.min((swept.shared.limits.lease_ms / 8).max(1));
            swept.shared.clock.run(sweep_ms, |now_ms, late_ms| {
                sweep(&swept.shared, swept.by_name.values(), now_ms, late_ms);
            });
        })?;
        let ender = shared.clone();
        let mut ending = shared.ending.subscribe();
        threads.push(serve("steward-end", move || async move {
            if ending.wait_for(Option::is_some).await.is_ok() {
                drain(&ender);
            }
            Ok(())
        })?);
        threads.push(clock);
        *host.threads.lock() = threads;
        Ok(host)
    }

    /// Where it listens, with the ports that were taken.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What a client may pin: `sha256:` and the digest of the certificate in hex.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// What a tenant has at this moment; `None` if there is no such tenant.
    pub fn counters(&self, tenant: &str) -> Option<Counters> {
        self.tenants.get(tenant).map(Counters::of)
    }

    /// Registers the types of a plugin with a tenant, all or none, or makes them the newest versions of those there are.
    /// Blocks for as long as compiling takes. Nothing is kept for the next start.
    ///
    /// # Errors
    /// [`InstallError`]; nothing has changed then.
    pub fn register(
        &self,
        tenant: &str,
        component: &[u8],
        options: InstallOptions,
    ) -> Result<Vec<Registered>, InstallError> {
        let tenant = self.tenants.get(tenant).ok_or_else(|| InstallError::UnknownTenant(tenant.into()))?;
        plugins::install(tenant, &plugins::load(tenant, component, options.memory_bytes)?, options)
    }

    /// Removes a plugin's type from a tenant. Its name is free at once; its objects go on with the version that they have,
    /// or, if it `poisons`, fail from now on. Returns how many there are.
    ///
    /// # Errors
    /// [`InstallError::UnknownTenant`], and [`InstallError::Register`] if there is no such type or it is not a plugin's.
    pub fn remove(&self, tenant: &str, typeid: &str, poisons: bool) -> Result<usize, InstallError> {
        let tenant = self.tenants.get(tenant).ok_or_else(|| InstallError::UnknownTenant(tenant.into()))?;
        plugins::remove(tenant, typeid, poisons)
    }

    /// The types of plugins that a tenant has, their versions, and what happened to their objects; `None` if there is no
    /// such tenant.
    pub fn plugins(&self, tenant: &str) -> Option<Vec<PluginReport>> {
        self.tenants.get(tenant).map(|tenant| tenant.registry.plugins())
    }

    /// Asks the host to end in good order and returns at once; `reason` is for its clients.
    pub fn end(&self, reason: &str) {
        self.tenants.shared.end(reason);
    }

    /// Waits until the host is asked to end, by [`Host::end`] or by a client.
    pub async fn ending(&self) {
        // The sender lives in `shared`, so this cannot fail.
        let _ = self.tenants.shared.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Ends the host in good order and waits for that, at most the drain time and a little.
    pub fn shutdown(&self) {
        self.end("host ended");
        let threads = std::mem::take(&mut *self.threads.lock());
        let mut clock = None;
        for thread in threads {
            // Transports first: they still need the clock and the pool.
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if name == "steward-clock" {
                clock = Some(thread);
            } else if thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the host panicked");
            }
        }
        let sessions: Vec<_> = self.tenants.shared.sessions.lock().values().cloned().collect();
        for session in sessions {
            session.end(true);
        }
        self.tenants.shared.pool.stop();
        self.tenants.shared.clock.stop();
        if clock.is_some_and(|clock| clock.join().is_err()) {
            tracing::error!(thread = "steward-clock", "a thread of the host panicked");
        }
        for tenant in self.tenants.by_name.values() {
            tenant.table.clear();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Starts a thread with a single-threaded runtime of its own.
fn serve<F, Fut>(name: &str, serve: F) -> std::io::Result<JoinHandle<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = std::io::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let named = name.to_owned();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(serve()) {
            tracing::error!(thread = named, %error, "a transport of the host failed");
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
    })
}

/// Ends the sessions whose lease is over, and lets go of objects that nobody refers to any more.
pub(crate) fn sweep<'a>(shared: &Shared, tenants: impl Iterator<Item = &'a Arc<Tenant>>, now_ms: u64, late_ms: u64) {
    let sessions: Vec<Arc<Session>> = shared.sessions.lock().values().cloned().collect();
    if late_ms > PAUSE_MS.min(shared.limits.lease_ms / 4) {
        tracing::warn!(late_ms, "the host was paused: every session gets a fresh lease");
        for session in &sessions {
            session.heard(now_ms);
        }
    }
    for session in sessions {
        if session.is_over(now_ms) {
            tracing::info!(session = session.id, peer = session.peer, "lease ended");
            session.end(false);
        }
    }
    for tenant in tenants {
        tenant.table.collect_cycles().finish();
        tenant.table.expire(now_ms).finish();
    }
    shared.clock.tidy();
}

/// Cancels what is parked and says goodbye to everybody.
fn drain(shared: &Shared) {
    let reason = shared.ending.borrow().clone().unwrap_or_default();
    let sessions: Vec<_> = shared.sessions.lock().values().cloned().collect();
    tracing::info!(sessions = sessions.len(), reason, "draining");
    for session in sessions {
        session.drain(&reason);
    }
}
