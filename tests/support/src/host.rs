//! Hosts for tests, in the test's own process.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Instant;

use steward_client::{ConnectOptions, Fork, Manager};
use steward_host::guest::{Compiler, GuestConfig, Guests, Isolation, Plugin};
use steward_host::{
    AuthKey, Config, Counters, Host, Key, LazyGuests, Limits, Registration, Role, Source, TenantConfig,
};
use tokio::runtime::Runtime;

use crate::{PACE, PATIENCE};

/// What a host is to have beside the built-in types.
#[derive(Clone)]
pub struct HostOptions {
    /// Its bounds.
    pub limits: Limits,
    /// Plugins of this checkout, whose types are registered under their own names.
    pub plugins: &'static [&'static str],
    /// What keeps the objects of those plugins' types apart; those that do not save have a Store each in any case.
    pub isolation: Isolation,
    /// Further types.
    pub types: Vec<Registration>,
    /// Objects of plugins that are registered later.
    pub guests_max: u32,
}

impl Default for HostOptions {
    /// The limits of a shared host, but room for many connections of this one machine, little time to take leave and little
    /// for tokens on their way: the test waits for either at its end. No further types.
    fn default() -> Self {
        let limits =
            Limits { connections_per_source_max: 20_000, drain_ms: 100, token_grace_ms: 300, ..Limits::shared() };
        Self { limits, plugins: &[], isolation: Isolation::Object, types: Vec::new(), guests_max: 256 }
    }
}

/// A running host with two tenants, which ends when it is dropped.
///
/// `default` has the types of the options and two keys, `default` (an admin's) and `member`; `other` has the built-in types.
///
/// Before it ends it waits until its clients have left, and fails the test if they left anything behind. So a test declares
/// its host first and its clients after it, and waits for the tasks that it gave any to: none of them runs meanwhile. Those that [`TestHost::connect`] and [`RawClient`](crate::RawClient) make take their leave
/// when they are dropped; a killed process has left by the end of its lease, which such a test makes short.
#[derive(Debug)]
pub struct TestHost {
    /// The host itself.
    pub host: Host,
    /// The admin's key of both tenants.
    pub authkey: AuthKey,
    /// The key `member`.
    pub member_key: AuthKey,
    unix: String,
    quic: String,
    /// Objects without a name that are to stay.
    stay: AtomicUsize,
    // After the host, whose socket lies in it.
    _directory: tempfile::TempDir,
}

/// Starts a host on a Unix socket in a directory of its own and on QUIC at a free port of this machine.
///
/// # Panics
/// If it does not start.
pub fn spawn_host(options: HostOptions) -> TestHost {
    let directory = tempfile::Builder::new()
        .prefix("steward")
        // The host takes no directory that others may enter.
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .expect("a directory for the socket");
    let (authkey, member_key) = (random_key(), random_key());
    let mut types = options.types;
    for name in options.plugins {
        let plugin = plugin(name);
        types.extend(plugin.types().iter().map(|offered| {
            let typeid = offered.info().typeid.clone();
            let isolation = Some(options.isolation).filter(|isolation| offered.may_be(*isolation).is_ok());
            let source = Source::Plugin { plugin: Arc::clone(&plugin), typeid: typeid.clone() };
            Registration { isolation, ..Registration::new(typeid, source) }
        }));
    }
    let key = |id: &str, role, authkey: &AuthKey| Key { id: id.into(), role, authkey: authkey.clone() };
    let admin = key("default", Role::Admin, &authkey);
    let keys = vec![admin.clone(), key("member", Role::Member, &member_key)];
    let host = Host::start(Config {
        quic: vec!["127.0.0.1:0".parse().expect("an address")],
        unix: Some(directory.path().join("host.sock")),
        tenants: vec![
            TenantConfig { name: "default".into(), keys, types },
            TenantConfig { name: "other".into(), keys: vec![admin], types: Vec::new() },
        ],
        limits: options.limits,
        guests: Some(LazyGuests::new(guest_config(options.guests_max))),
        ..Config::default()
    })
    .expect("the host starts");
    let [quic, unix] = host.addresses() else { panic!("the host listens at two addresses") };
    let (quic, unix) = (quic.to_string(), unix.to_string());
    TestHost { host, authkey, member_key, unix, quic, stay: AtomicUsize::new(0), _directory: directory }
}

impl TestHost {
    /// The address of its Unix socket.
    pub fn unix(&self) -> &str {
        &self.unix
    }

    /// Its QUIC address.
    pub fn quic(&self) -> &str {
        &self.quic
    }

    /// How the admin of `default` signs in.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new().authkey(self.authkey.clone())
    }

    /// Signs in as the admin.
    ///
    /// # Panics
    /// If that fails.
    pub async fn connect(&self, address: &str) -> Manager {
        self.connect_with(self.options(), address).await.expect("the host lets its admin in")
    }

    /// Connects with other options than [`TestHost::options`].
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`].
    pub async fn connect_with(&self, options: ConnectOptions, address: &str) -> Result<Manager, steward_client::Error> {
        let address = address.to_owned();
        runtime().spawn(async move { options.connect(&address).await }).await.expect("connecting does not panic")
    }

    /// Signs in to the session that was forked.
    ///
    /// # Errors
    /// As [`ConnectOptions::claim`].
    pub async fn claim(&self, address: &str, fork: Fork) -> Result<Manager, steward_client::Error> {
        let (options, address) = (self.options(), address.to_owned());
        runtime().spawn(async move { options.claim(&address, fork).await }).await.expect("claiming does not panic")
    }

    /// Signs in as the admin, over the Unix socket.
    ///
    /// # Panics
    /// If that fails.
    pub async fn manager(&self) -> Manager {
        self.connect(self.unix()).await
    }

    /// Says how many objects without a name are to be there at the end: those that named containers store, and singletons.
    pub fn keeps(&self, objects: usize) {
        self.stay.store(objects, Ordering::Relaxed);
    }

    /// What a tenant has at this moment.
    ///
    /// # Panics
    /// If there is no such tenant.
    pub fn counters(&self, tenant: &str) -> Counters {
        self.host.counters(tenant).expect("a tenant of this host")
    }

    /// What is left of both tenants, if anything is that should not be.
    fn left(&self) -> Option<[Counters; 2]> {
        let left = ["default", "other"].map(|tenant| self.counters(tenant));
        let objects: usize = left.iter().map(|left| left.objects - left.names).sum();
        let is_clean = left
            .iter()
            .all(|left| left.sessions + left.references + left.waiters + left.rows + left.lingering + left.timers == 0);
        // What named objects store is there to stay.
        let is_clean = is_clean && left.iter().all(|left| left.names > 0 || objects > 0 || left.bytes == 0);
        (!is_clean || objects != self.stay.load(Ordering::Relaxed)).then_some(left)
    }

    fn has_ended(&self) -> bool {
        std::pin::pin!(self.host.ending()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if std::thread::panicking() || self.has_ended() {
            return;
        }
        let start = Instant::now();
        while let Some(left) = self.left() {
            assert!(start.elapsed() < PATIENCE, "clients have left and this has not: {left:#?}");
            std::thread::park_timeout(PACE);
        }
    }
}

/// Where the connections of clients in this process live: a test that ends or blocks does not keep them from taking their leave.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // As many as tests run at once, so that the system shares the processor among them fairly: leases are short.
        builder.worker_threads(8).enable_all().build().expect("the system gives threads")
    })
}

fn random_key() -> AuthKey {
    let mut bytes = vec![0; AuthKey::BYTES_MIN];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    AuthKey::new(bytes).expect("long enough")
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(3).expect("a test lies in target/PROFILE/deps").to_owned()
}

/// A component of this checkout.
///
/// # Panics
/// If it is not built, naming the command that does.
pub fn component(name: &str) -> Vec<u8> {
    let path: &Path = &target().join("plugins").join(format!("{name}.wasm"));
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins` first", path.display()))
}

fn guest_config(objects_max: u32) -> GuestConfig {
    GuestConfig { objects_max, ..GuestConfig::new(Compiler::InProcess) }
}

/// A plugin of this checkout, compiled once for all hosts of this process that ask at different times.
///
/// # Panics
/// If it is not built, or refused.
pub fn plugin(name: &str) -> Arc<Plugin> {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    let guests = GUESTS.get_or_init(|| Guests::new(guest_config(256)).expect("wasmtime starts"));
    guests.load(name, &component(name)).expect("the plugin is a good one")
}
