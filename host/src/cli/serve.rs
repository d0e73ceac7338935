//! `steward serve`: a host, from its first start to its orderly end.

use std::io::{self, BufRead as _, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use steward_client::context::{Context, Contexts, DEFAULT, read_key, write_key};
use steward_client::{AnyValue as Value, Args, IntoArgs as _};
use steward_host::guest::{Isolation, LoadOptions, Profile};
use steward_host::{
    AuthKey, Config, Host, Key, LazyGuests, Limits, RegisterError, Registration, Role, Source, StartError, TenantConfig,
};
use steward_wire::Address;
use steward_wire::auth::NAME_BYTES_MAX;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::connect::no_runtime;
use super::failure::{Failure, Outcome, Status, did_you_mean};
use super::format::{line, say};
use super::{json, paths, plugins};

/// Where QUIC listens if nobody says where.
const QUIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7777);
/// A free port of this machine.
const ANY_QUIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The tenant and the key id that clients use where they name none.
const NAMELESS: &str = "default";
/// Longest first line of a lifeline, which is a key.
const KEY_LINE_BYTES_MAX: u64 = 4 << 10;
/// What the system makes a socket's path fit into.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Runs a host until it is told to end.
///
/// It needs no flag: it listens on a Unix socket and on QUIC at 127.0.0.1:7777, makes a key at its first start, and writes the
/// context `local`, by which every other command and client of this user finds it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// Address and port for QUIC, any number of times. [default: 127.0.0.1:7777, or a free port if that is taken]
    #[arg(long, env = "STEWARD_QUIC", value_name = "ADDRESS:PORT", value_delimiter = ',')]
    quic: Vec<SocketAddr>,

    /// Does not listen on QUIC.
    #[arg(long)]
    no_quic: bool,

    /// Path of the Unix socket, in a directory of this user alone. [default: $XDG_RUNTIME_DIR/steward/steward.sock]
    #[arg(long, env = "STEWARD_UNIX", value_name = "PATH")]
    unix: Option<PathBuf>,

    /// Does not listen on a Unix socket.
    #[arg(long)]
    no_unix: bool,

    /// Where keys and certificate are kept. [default: ~/.local/share/steward]
    #[arg(long, env = "STEWARD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Name of the tenant.
    #[arg(long, env = "STEWARD_TENANT", value_name = "NAME", default_value = NAMELESS)]
    tenant: String,

    /// Name of the context to write.
    #[arg(long, value_name = "NAME", default_value = DEFAULT)]
    context: String,

    /// Does not write a context.
    #[arg(long)]
    no_context: bool,

    /// Component whose types to register under their own names, any number of times.
    #[arg(long, env = "STEWARD_PLUGIN", value_name = "FILE.wasm", value_delimiter = ',', help_heading = "Types")]
    plugin: Vec<PathBuf>,

    /// Memory that an object of a plugin may have, any number of times: of all plugins, or with a file's name of those in that file.
    /// What a component starts with, if that is more. [default: 64 MiB, with --profile dense what its size class gives]
    #[arg(
        long,
        env = "STEWARD_PLUGIN_MEMORY_BYTES",
        value_name = "[FILE.wasm=]BYTES",
        value_delimiter = ',',
        help_heading = "Types"
    )]
    plugin_memory_bytes: Vec<MemoryOf>,

    /// Registers a type under another name: `Jobs=Queue`, `Limiter=limiter.wasm:RateLimiter`.
    #[arg(long, value_name = "TYPE=SOURCE", help_heading = "Types")]
    register: Vec<Named>,

    /// What keeps the objects of a plugin's type apart: `Leaderboard=shared` puts many in one sandbox, which takes little memory and a type
    /// that saves. [default: object, a sandbox for each]
    #[arg(long, value_name = "TYPE=object|shared", help_heading = "Types")]
    isolation: Vec<Named>,

    /// Registers one object for everybody: `get_queue=Queue`, with arguments as JSON `get_queue=Queue[100]`.
    #[arg(long, value_name = "NAME=TYPE", help_heading = "Types")]
    singleton: Vec<Named>,

    /// How the memories of plugins' objects are laid out: fast, for some 14,000 objects with the kernel's default limits; dense, for
    /// 100,000 and more; auto takes fast where --plugin-objects-max fits.
    #[arg(
        long,
        env = "STEWARD_PROFILE",
        value_name = "auto|fast|dense",
        default_value = "auto",
        help_heading = "Types"
    )]
    profile: Profile,

    /// Limits for a host that one program has for itself: almost none.
    #[arg(long, help_heading = "Limits")]
    private: bool,

    #[command(flatten)]
    limits: LimitFlags,

    /// Ends the host when its standard input closes; the first line there is the key in hex. It then listens on places of its
    /// own, keeps nothing, and ignores interrupts.
    #[arg(long, value_name = "INPUT", hide_short_help = true)]
    lifeline: Option<Lifeline>,

    /// Prints a line of JSON on stdout when ready, and errors as JSON on stderr. Implied by --lifeline but for the errors.
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  steward serve
  steward serve --plugin limiter.wasm --objects-max 50000
  steward serve --plugin limiter.wasm --plugin cache.wasm --plugin-memory-bytes cache.wasm=16777216
  steward serve --plugin board.wasm --isolation Leaderboard=shared --objects-max 1000000
  steward serve --quic 0.0.0.0:7777 --no-unix --tenant acme --context acme
  steward serve --register Jobs=Queue --singleton 'get_queue=Queue[100]'

SIGTERM or an interrupt ends it in good order: calls that wait are cancelled, clients are told. A second interrupt ends it at once.";

/// Bounds that people change. Each is explained where it is reached: the error says the limit.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Objects of a tenant.
    #[arg(long, env = "STEWARD_OBJECTS_MAX", value_name = "N")]
    objects_max: Option<usize>,

    /// Bytes that a tenant may keep: stored items, replies that are not acknowledged, calls that wait for a busy object, memory that
    /// objects of plugins have asked for and by which they are made again, components that are uploaded.
    #[arg(long, env = "STEWARD_TENANT_BYTES_MAX", value_name = "BYTES")]
    tenant_bytes_max: Option<u64>,

    /// Objects of plugins, of all tenants; a tenant's own limit is --objects-max. [default: 12000, with --profile dense 100000]
    #[arg(long, env = "STEWARD_PLUGIN_OBJECTS_MAX", value_name = "N")]
    plugin_objects_max: Option<u32>,

    /// Sessions of a tenant.
    #[arg(long, env = "STEWARD_SESSIONS_MAX", value_name = "N")]
    sessions_max: Option<usize>,

    /// Connections of all transports.
    #[arg(long, env = "STEWARD_CONNECTIONS_MAX", value_name = "N")]
    connections_max: Option<usize>,

    /// Connections of one network source, a /24 or a /56.
    #[arg(long, env = "STEWARD_CONNECTIONS_PER_SOURCE_MAX", value_name = "N")]
    connections_per_source_max: Option<usize>,

    /// Calls that wait in one object.
    #[arg(long, env = "STEWARD_WAITERS_MAX", value_name = "N")]
    waiters_max: Option<usize>,

    /// Plugins' steps at once, but for those that are known to be quick. More wait, and tenants take turns. [default: 64]
    #[arg(long, env = "STEWARD_GUEST_STEPS_MAX", value_name = "N", value_parser = at_least_one())]
    guest_steps_max: Option<usize>,

    /// Of these a tenant's; one less than --guest-steps-max in any case, if that is not 1. [default: 8, with --private all]
    #[arg(long, env = "STEWARD_GUEST_STEPS_PER_TENANT_MAX", value_name = "N", value_parser = at_least_one())]
    guest_steps_per_tenant_max: Option<usize>,

    /// Plugins that clients of a tenant on other machines may upload in an hour. [default: 10, with --private any number]
    #[arg(long, env = "STEWARD_UPLOADS_PER_HOUR_MAX", value_name = "N")]
    uploads_per_hour_max: Option<usize>,

    /// Largest request.
    #[arg(long, env = "STEWARD_REQUEST_BYTES_MAX", value_name = "BYTES")]
    request_bytes_max: Option<usize>,

    /// Largest reply.
    #[arg(long, env = "STEWARD_REPLY_BYTES_MAX", value_name = "BYTES")]
    reply_bytes_max: Option<usize>,

    /// How long a silent session lives and keeps what it holds; 4000 at least, since clients are heard every 3 s.
    #[arg(long, env = "STEWARD_LEASE_MS", value_name = "MS", value_parser = clap::value_parser!(u64).range(4_000..))]
    lease_ms: Option<u64>,

    /// How long an ending host waits for its clients.
    #[arg(long, env = "STEWARD_DRAIN_MS", value_name = "MS")]
    drain_ms: Option<u64>,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

impl LimitFlags {
    fn apply(&self, limits: &mut Limits) -> Result<(), Failure> {
        fn set<T: Copy>(limit: &mut T, flag: Option<T>) {
            *limit = flag.unwrap_or(*limit);
        }
        set(&mut limits.objects_max, self.objects_max);
        set(&mut limits.tenant_bytes_max, self.tenant_bytes_max);
        set(&mut limits.sessions_max, self.sessions_max);
        set(&mut limits.connections_max, self.connections_max);
        set(&mut limits.connections_per_source_max, self.connections_per_source_max);
        set(&mut limits.waiters_max, self.waiters_max);
        set(&mut limits.guest_steps_max, self.guest_steps_max);
        set(&mut limits.guest_steps_per_tenant_max, self.guest_steps_per_tenant_max);
        set(&mut limits.uploads_per_hour_max, self.uploads_per_hour_max);
        set(&mut limits.request_bytes_max, self.request_bytes_max);
        set(&mut limits.reply_bytes_max, self.reply_bytes_max);
        set(&mut limits.lease_ms, self.lease_ms);
        set(&mut limits.drain_ms, self.drain_ms);
        let most = limits.guest_steps_max;
        match self.guest_steps_per_tenant_max {
            Some(own) if own > most => {
                let message = format!("--guest-steps-per-tenant-max is {own}, limit is {most}, which all tenants have");
                Err(Failure::usage(message).hint(format!("raise that: --guest-steps-max {own}")))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lifeline {
    Stdin,
}

/// `NAME=SOURCE`.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    source: String,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, source)) if !name.is_empty() && !source.is_empty() => {
                Ok(Self { name: name.into(), source: source.into() })
            }
            _ => Err(format!("`{text}` is not `name=source`")),
        }
    }
}

/// `BYTES`, or `FILE.wasm=BYTES`.
#[derive(Clone, Debug)]
struct MemoryOf {
    /// `None`: of all plugins that are not named.
    file: Option<PathBuf>,
    bytes: usize,
}

impl std::str::FromStr for MemoryOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, bytes) = match text.rsplit_once('=') {
            Some((file, bytes)) => (Some(file.into()), bytes),
            None => (None, text),
        };
        Ok(Self { file, bytes: plugins::memory_bytes(bytes)? })
    }
}

impl Serve {
    /// Whether the host is a program's own, so that its log is for errors.
    pub(crate) fn is_private(&self) -> bool {
        self.lifeline.is_some()
    }

    pub(crate) fn run(self) -> Outcome {
        let started = Instant::now();
        check_tenant(&self.tenant)?;
        let mut limits = if self.private { Limits::private() } else { Limits::shared() };
        self.limits.apply(&mut limits)?;
        let mut config = plugins::config();
        config.profile = self.profile;
        let most = if self.profile == Profile::Dense { 100_000 } else { config.objects_max };
        config.objects_max = self.limits.plugin_objects_max.unwrap_or(most);
        config.reply_bytes_max = limits.reply_bytes_max;
        config.item_limits = steward_wire::Limits { depth_max: limits.depth_max, items_max: limits.items_max };
        let asked_for = self.profile == Profile::Dense || self.limits.plugin_objects_max.is_some();
        if asked_for && self.limits.objects_max.is_none() && (limits.objects_max as u64) < u64::from(config.objects_max)
        {
            let (own, all) = (limits.objects_max, config.objects_max);
            say(&format!(
                "note: a tenant may have {own} objects, fewer than the {all} of plugins; --objects-max raises it"
            ));
        }
        let guests = LazyGuests::new(config);
        let types = self.types(&guests)?;
        // Until the host has ended, its sockets need their directory.
        let mut own_directory = None;
        let (authkey, key_file, data_dir, unix, quic);
        if self.lifeline.is_some() {
            authkey = key_from_stdin()?;
            (key_file, data_dir) = (None, self.data_dir.clone());
            if self.unix.is_none() && !self.no_unix {
                own_directory = Some(OwnDirectory::make()?);
            }
            unix = self.unix.clone().or_else(|| own_directory.as_ref().map(|own| own.0.join("socket")));
            quic = vec![ANY_QUIC];
        } else {
            let directory = self.data_dir.clone().map_or_else(paths::data_dir, Ok)?;
            let directory = paths::absolute(&directory)?;
            make_directory(&directory)?;
            let file = directory.join("keys").join(format!("{}.key", self.tenant));
            authkey = key_from_file(&file)?;
            (key_file, data_dir) = (Some(file), Some(directory));
            let default = || paths::socket_dir().map(|directory| directory.join("steward.sock"));
            unix = Some(self.unix.clone().map_or_else(default, Ok)?);
            quic = vec![QUIC];
        }
        if let Some(directory) = &data_dir {
            make_directory(directory)?;
        }
        let quic = match (self.no_quic, &self.quic[..]) {
            (true, _) => Vec::new(),
            (false, []) => quic,
            (false, named) => named.to_vec(),
        };
        let unix = unix.filter(|_| !self.no_unix).map(|path| socket_path(&path)).transpose()?;
        if quic.is_empty() && unix.is_none() {
            return Err(
                Failure::usage("a host that listens nowhere serves nobody").hint("leave out --no-quic or --no-unix")
            );
        }

        let key = Key { id: NAMELESS.into(), role: Role::Admin, authkey };
        let tenants = vec![TenantConfig { name: self.tenant.clone(), keys: vec![key], types }];
        let config = Config { quic, unix, data_dir, tenants, limits, guests: Some(guests) };
        let host = start(config, self.quic.is_empty())?;
        let ready = Ready::of(&host);
        if let (Some(key_file), false) = (key_file, self.no_context)
            && let Err(failure) = self.write_context(&ready, key_file)
        {
            say(&format!("warning: context `{}` is not written: {}", self.context, failure.message));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        runtime.block_on(self.serve(host, &ready, started))
    }

    /// Says that the host is ready, and stays until it has ended.
    async fn serve(&self, host: Host, ready: &Ready, started: Instant) -> Outcome {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(no_runtime)?;
        // Without a lifeline the sender must live for as long as the host, or it would seem to be cut.
        let (_no_lifeline, mut lifeline) = oneshot::channel();
        if self.lifeline.is_some() {
            lifeline = watch_lifeline();
        }
        if self.json || self.lifeline.is_some() {
            #[derive(Serialize)]
            struct Line<'a> {
                ready: &'a Ready,
            }
            line(&serde_json::to_string(&Line { ready }).expect("texts are JSON"))?;
        }
        if self.lifeline.is_none() {
            say(&format!("{}  ready in {:.1} s", ready.text(), started.elapsed().as_secs_f64()));
        }
        // Every branch only waits.
        tokio::select! {
            () = host.ending() => {}
            _ = terminate.recv() => host.end("host was asked to end"),
            // A terminal interrupts the whole group of processes; a private host is its program's to end, as in CPython.
            _ = interrupt.recv(), if self.lifeline.is_none() => host.end("host was interrupted"),
            _ = &mut lifeline => host.end("the program of this host has ended"),
        }
        let mut ended = tokio::task::spawn_blocking(move || host.shutdown());
        tokio::select! {
            ended = &mut ended => match ended {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(Failure::new(Status::Unknown, "EndedBadly", error.to_string())),
            },
            // The runtime would wait for the drain.
            _ = interrupt.recv(), if self.lifeline.is_none() => std::process::exit(Status::Interrupted as i32),
        }
    }

    /// The types beside the built-in ones.
    fn types(&self, guests: &LazyGuests) -> Result<Vec<Registration>, Failure> {
        self.check_memory_bytes()?;
        let mut types = Vec::new();
        let load = |file: &Path| {
            let guests = guests.get().map_err(plugins::no_guests)?;
            let plugin = plugins::load_with(&guests, file, LoadOptions { memory_bytes: self.memory_bytes(file) })?;
            let profile = guests.memory_profile();
            let offered =
                plugin.types().iter().map(|offered| format!("{} {}", offered.info().typeid, offered.version()));
            let offered = offered.collect::<Vec<_>>().join(", ");
            tracing::info!(plugin = %file.display(), types = offered, ?profile, "loaded a plugin");
            Ok::<_, Failure>(plugin)
        };
        for file in &self.plugin {
            types.extend(plugins::registrations(&load(file)?));
        }
        for Named { name, source } in &self.register {
            let source = match source.rsplit_once(':') {
                Some((file, typeid)) => Source::Plugin { plugin: load(Path::new(file))?, typeid: typeid.into() },
                None => match steward_objects::builtin(source) {
                    Some(builtin) => Source::Builtin(builtin.typeid),
                    None => {
                        let known = steward_objects::BUILTINS.iter().map(|builtin| builtin.typeid);
                        let hint = did_you_mean(source, known);
                        let hint = hint.unwrap_or_else(|| "a plugin's type is written `file.wasm:Type`".into());
                        return Err(Failure::usage(format!("no built-in type is called `{source}`")).hint(hint));
                    }
                },
            };
            types.push(Registration::new(name, source));
        }
        for Named { name, source } in &self.isolation {
            let isolation: Isolation =
                source.parse().map_err(|error| Failure::usage(format!("--isolation: {error}")))?;
            let known = types.iter().map(|kind| kind.typeid.clone()).collect::<Vec<_>>();
            let Some(kind) = types.iter_mut().find(|kind| kind.typeid == *name) else {
                let hint = did_you_mean(name, known.iter().map(|known| &**known));
                let hint = hint.unwrap_or_else(|| "name a type that --plugin or --register brings".into());
                return Err(Failure::usage(format!("--isolation: no plugin's type is called `{name}`")).hint(hint));
            };
            kind.isolation = Some(isolation);
        }
        for Named { name, source } in &self.singleton {
            let (typeid, args) = match source.find('[') {
                Some(at) => source.split_at(at),
                None => (source.as_str(), "[]"),
            };
            let Ok(Value::List(args)) = json::parse(args) else {
                let message = format!("arguments of singleton `{name}` are `{args}`, which is no list");
                return Err(Failure::usage(message).hint("write them as `get_queue=Queue[100]`"));
            };
            let args = args.iter().fold(Args::new(), |all, argument| all.item(&argument.to_vec())).into_args()?;
            types.push(Registration::new(name, Source::Singleton { typeid: typeid.into(), args }));
        }
        Ok(types)
    }

    /// The memory that was chosen for the objects of a plugin.
    fn memory_bytes(&self, file: &Path) -> Option<usize> {
        let of = |wanted: Option<&Path>| self.plugin_memory_bytes.iter().rfind(|of| of.file.as_deref() == wanted);
        of(Some(file)).or_else(|| of(None)).map(|of| of.bytes)
    }

    /// Whoever chooses memory for a file that is not served has mistyped its name.
    fn check_memory_bytes(&self) -> Result<(), Failure> {
        let of_types = self.register.iter().filter_map(|named| named.source.rsplit_once(':'));
        let served: Vec<_> =
            self.plugin.iter().map(PathBuf::as_path).chain(of_types.map(|(file, _)| Path::new(file))).collect();
        let mut named = self.plugin_memory_bytes.iter().filter_map(|of| of.file.as_deref());
        let Some(unknown) = named.find(|file| !served.contains(file)) else { return Ok(()) };
        let message = format!("--plugin-memory-bytes names {}, which is not served", unknown.display());
        let names: Vec<_> = served.iter().map(|file| file.to_string_lossy()).collect();
        let hint = did_you_mean(&unknown.to_string_lossy(), names.iter().map(|name| &**name));
        Err(Failure::usage(message)
            .hint(hint.unwrap_or_else(|| "name the file as --plugin or --register does".to_owned())))
    }

    fn write_context(&self, ready: &Ready, key_file: PathBuf) -> Result<(), Failure> {
        let path = paths::contexts()?;
        let mut contexts = Contexts::read(&path).map_err(|error| Failure::usage(error.to_string()))?;
        let address = ready.unix.clone().or_else(|| ready.quic.clone()).unwrap_or_default();
        let context = Context {
            address,
            tenant: Some(self.tenant.clone()).filter(|tenant| tenant != NAMELESS),
            key_id: None,
            key_file: Some(key_file),
            pin: Some(ready.pin.clone()),
        };
        contexts.contexts.insert(self.context.clone(), context);
        contexts.write(&path).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// What a ready host says.
#[derive(Serialize)]
struct Ready {
    unix: Option<String>,
    quic: Option<String>,
    pin: String,
    pid: u32,
    version: &'static str,
}

impl Ready {
    fn of(host: &Host) -> Self {
        let address = |wanted: fn(&Address) -> bool| {
            host.addresses().iter().find(|address| wanted(address)).map(Address::to_string)
        };
        Self {
            unix: address(|address| matches!(address, Address::Unix(_))),
            quic: address(|address| matches!(address, Address::Quic { .. })),
            pin: host.pin().to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(quic) = &self.quic {
            parts.push(format!("quic {quic}  pin {}", self.pin));
        }
        if let Some(unix) = &self.unix {
            parts.push(format!("unix {}", unix.trim_start_matches("steward+unix://")));
        }
        parts.join("  ")
    }
}

/// Starts the host; a port that nobody asked for gives way to a free one.
fn start(config: Config, is_default_quic: bool) -> Result<Host, Failure> {
    let taken = |error: &StartError| {
        let StartError::Listen { address, error } = error else { return false };
        error.kind() == io::ErrorKind::AddrInUse && *address == QUIC.to_string()
    };
    let started = match Host::start(config.clone()) {
        Err(error) if is_default_quic && taken(&error) => {
            say(&format!("note: {QUIC} is taken; listening on a free port instead"));
            Host::start(Config { quic: vec![ANY_QUIC], ..config })
        }
        started => started,
    };
    started.map_err(|error| {
        let failure = Failure::new(Status::Refused, "NotStarted", error.to_string());
        match &error {
            StartError::Listen { address, error } if address.contains('/') => match error.kind() {
                io::ErrorKind::AddrInUse => {
                    failure.hint("end that host, or start this one beside it: --unix PATH --context NAME")
                }
                _ => failure.hint("choose a path in a directory that only you may enter: --unix PATH"),
            },
            StartError::Listen { .. } => {
                failure.hint("choose another port, or let the system choose one: --quic 127.0.0.1:0")
            }
            StartError::Register(RegisterError::Taken(typeid)) => {
                failure.hint(format!("register it under another name: --register NAME=file.wasm:{typeid}"))
            }
            StartError::Certificate(_) | StartError::Tls(_) => failure
                .hint("mend or remove certificate.pem and certificate.key in the data directory: both are made anew"),
            StartError::Register(_) | StartError::System(_) => failure,
        }
    })
}

/// A tenant's name is also that of its key file.
fn check_tenant(name: &str) -> Result<(), Failure> {
    let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(legal) && !name.starts_with('.') {
        return Ok(());
    }
    let message = format!("`{name}` is no name for a tenant");
    Err(Failure::usage(message).hint(format!("use 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.`, no `.` first")))
}

/// The system would cut a longer path, or say no more than that it is invalid.
fn socket_path(path: &Path) -> Result<PathBuf, Failure> {
    let path = paths::absolute(path)?;
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let message = format!("socket path `{}` is {bytes} bytes, limit is {SOCKET_PATH_BYTES_MAX}", path.display());
        return Err(Failure::usage(message).hint("choose a shorter one: --unix PATH"));
    }
    Ok(path)
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::new(Status::Refused, "NotStarted", format!("cannot make directory {}: {error}", directory.display()))
            .hint("choose another: --data-dir DIR")
    })
}

/// The key of earlier starts, or a new one.
fn key_from_file(file: &Path) -> Result<AuthKey, Failure> {
    let broken = |error: steward_client::ConfigError| {
        Failure::new(Status::Refused, "BadKey", error.to_string())
            .hint("mend or remove the file: a new key is then made")
    };
    if !file.exists() {
        write_key(file, &random_key()?).map_err(broken)?;
    }
    read_key(file).map_err(broken)
}

pub(crate) fn random_key() -> Result<AuthKey, Failure> {
    let mut bytes = vec![0; AuthKey::BYTES_MIN];
    getrandom::fill(&mut bytes).map_err(|error| no_runtime(io::Error::other(error.to_string())))?;
    Ok(AuthKey::new(bytes).expect("it has the least length"))
}

/// The first line of a lifeline.
fn key_from_stdin() -> Result<AuthKey, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(KEY_LINE_BYTES_MAX).read_line(&mut text);
    let key = read
        .map_err(|error| error.to_string())
        .and_then(|_| AuthKey::from_hex(&text).map_err(|error| error.to_string()));
    key.map_err(|error| {
        Failure::usage(format!("first line of stdin: {error}")).hint("--lifeline stdin wants the key in hex there")
    })
}

/// Tells when stdin has closed. The thread that reads it cannot be woken, so nobody joins it: it ends with the process.
fn watch_lifeline() -> oneshot::Receiver<()> {
    let (closed, lifeline) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    lifeline
}

/// A directory for the socket of a private host; removed with it.
struct OwnDirectory(PathBuf);

impl OwnDirectory {
    fn make() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| no_runtime(io::Error::other(error.to_string())))?;
        let path = std::env::temp_dir().join(format!("steward-{:016x}", u64::from_ne_bytes(random)));
        // Not recursive: a directory that exists already is somebody else's.
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Failure::new(Status::Refused, "NotStarted", format!("cannot make directory {}: {error}", path.display()))
                .hint("set TMPDIR to a directory that can be written, or name a socket: --unix PATH")
        })?;
        Ok(Self(path))
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
