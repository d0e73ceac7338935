//! `steward demo`: a host and a few client processes, one of which is killed while it holds a lock.
//!
//! It tells what happens and checks it: every job done once, the sums right, the waiting ones not stuck.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use steward_client::blocking::Manager;
use steward_client::{ConnectOptions, Dict, JoinableQueue, Lock, args};
use steward_host::{AuthKey, Config, Host, Key, Limits, Role, TenantConfig};

use super::connect::Connect;
use super::failure::{Failure, Outcome, Status};
use super::format::line;
use super::serve::random_key;
use super::{paths, plugins};

const WORKERS: usize = 3;
const JOBS: u64 = 60;
/// How long the session of a killed process keeps its lock. A host's usual lease is longer; one shorter than the time between the
/// heartbeats of clients, 3 s, would end the living, too.
const LEASE_MS: u64 = 4_000;
const DRAIN_MS: u64 = 500;
/// Nothing in here takes nearly as long; what does has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the host is asked how many calls wait.
const LOOK: Duration = Duration::from_millis(20);
const TENANT: &str = "demo";

/// The components that take part, by the files that `cargo xtask plugins` makes.
const PLUGINS: [&str; 3] = ["rate-limiter", "rwlock", "leaderboard"];
const LIMITER_RATE: f64 = 100.0;
const LIMITER_BURST: f64 = 20.0;

/// Shows a host at work: processes share a queue, a lock, a dict and plugins over QUIC, and one of them is killed.
///
/// It needs nothing and leaves nothing behind. It exits with 1 if anything comes out wrong.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward demo\n  steward demo --plugins target/plugins")]
pub(crate) struct Demo {
    /// Directory with rate-limiter.wasm, rwlock.wasm, leaderboard.wasm, of which those that are there take part.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

/// A client process of the demo.
#[derive(clap::Args)]
pub(crate) struct Worker {
    role: Part,
    name: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    /// Takes the lock and keeps it.
    Hold,
    /// Does jobs until there are no more.
    Work,
}

impl Demo {
    pub(crate) fn run(self) -> Outcome {
        let started = Instant::now();
        let (types, shown) = types(self.plugins.as_deref())?;
        let authkey = random_key()?;
        let config = Config {
            quic: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            tenants: vec![TenantConfig {
                name: TENANT.into(),
                keys: vec![Key { id: "default".into(), role: Role::Admin, authkey: authkey.clone() }],
                types,
            }],
            // The killed process never takes leave: waiting for it would only take time.
            limits: Limits { lease_ms: LEASE_MS, drain_ms: DRAIN_MS, ..Limits::shared() },
            ..Config::default()
        };
        let host =
            Host::start(config).map_err(|error| Failure::new(Status::Refused, "NotStarted", error.to_string()))?;
        let address = host.addresses().first().map(ToString::to_string).unwrap_or_default();
        tell("host", &format!("pid {} listens on {address}", std::process::id()))?;
        let shown = if shown.is_empty() {
            "no plugins: see --plugins".to_owned()
        } else {
            format!("plugins {}", shown.join(", "))
        };
        tell("types", &format!("{} built in, {shown}", steward_objects::BUILTINS.len()))?;

        let options = ConnectOptions::new().tenant(TENANT).authkey(authkey.clone()).pin(host.pin());
        let manager = Manager::connect_with(&address, options)?;
        let place = Place { address, pin: host.pin().to_owned(), authkey };
        let shown = show(&manager, &place);
        manager.close();
        host.shutdown();
        shown?;
        tell("ok", &format!("everything came out right, in {:.1} s", started.elapsed().as_secs_f64()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a worker finds the host.
struct Place {
    address: String,
    pin: String,
    authkey: AuthKey,
}

/// The types of the plugins that are there, and what they are called.
fn types(directory: Option<&Path>) -> Result<(Vec<steward_host::Registration>, Vec<String>), Failure> {
    let (mut types, mut shown) = (Vec::new(), Vec::new());
    let Some(directory) = directory else { return Ok((types, shown)) };
    let files = PLUGINS.map(|name| paths::absolute(directory).map(|directory| directory.join(format!("{name}.wasm"))));
    let files: Vec<_> = files.into_iter().collect::<Result<_, _>>()?;
    if !files.iter().any(|file| file.is_file()) {
        let message = format!("no plugin of the demo in {}", directory.display());
        return Err(Failure::usage(message).hint("`cargo xtask plugins` builds them into target/plugins"));
    }
    let guests = plugins::guests(plugins::config())?;
    for file in files.iter().filter(|file| file.is_file()) {
        let plugin = plugins::load(&guests, file)?;
        shown.extend(plugin.types().iter().map(|offered| format!("{} {}", offered.info().typeid, offered.version())));
        types.extend(plugins::registrations(&plugin));
    }
    Ok((types, shown))
}

/// The objects that all of them share, by their names.
struct Shared {
    jobs: JoinableQueue<Option<u64>>,
    lock: Lock,
    /// The sum of the squares, changed under the lock only.
    ledger: Dict<String, u64>,
    /// For each job who did it, and its square.
    done: Dict<u64, (String, u64)>,
}

fn show(manager: &Manager, place: &Place) -> Result<(), Failure> {
    let shared = Shared {
        jobs: manager.named("jobs")?,
        lock: manager.named("ledger-lock")?,
        ledger: manager.named("ledger")?,
        done: manager.named("done")?,
    };
    let registered: Vec<String> = manager.types()?.into_iter().map(|info| info.typeid).collect();
    let has = |typeid: &str| registered.iter().any(|registered| registered == typeid);
    let create = |typeid: &str, name: &str, args: steward_client::Args| match has(typeid) {
        true => manager.create_named(name, typeid, args).map(Some),
        false => Ok(None),
    };
    let limiter = create("RateLimiter", "api", args![rate = LIMITER_RATE, burst = LIMITER_BURST])?;
    let board = create("Leaderboard", "board", args![])?;
    let rwlock = create("RWLock", "settings-lock", args![])?;
    let limited_since = Instant::now();

    let (lines_tx, lines) = sync_channel(64);
    let mut processes = Processes::default();
    let holder = processes.start(Part::Hold, "holder", place, &lines_tx)?;
    let fence = expect(&lines, "holder", "holding ")?;
    tell("holder", &format!("pid {holder} takes the lock (fence {fence}) and will never give it back"))?;

    for job in 1..=JOBS {
        shared.jobs.put(&Some(job)).wait()?;
    }
    for _ in 0..WORKERS {
        shared.jobs.put(&None::<u64>).wait()?;
    }
    tell("jobs", &format!("{JOBS} in the queue; each is squared and added to a sum, under the lock"))?;
    for number in 1..=WORKERS {
        let name = format!("worker-{number}");
        let pid = processes.start(Part::Work, &name, place, &lines_tx)?;
        tell(&name, &format!("pid {pid} starts"))?;
    }
    drop(lines_tx);
    wait_for_waiters(manager, &shared.lock, WORKERS as u64)?;
    tell("lock", &format!("{WORKERS} workers wait for it"))?;

    processes.kill("holder")?;
    let killed = Instant::now();
    tell("holder", &format!("pid {holder} is killed while it holds the lock"))?;
    let (mut seen_abandoned, mut finished) = (0, 0);
    while finished < WORKERS {
        let Line { who, text } = next(&lines)?;
        if let Some(fence) = text.strip_prefix("abandoned ") {
            seen_abandoned += 1;
            let after_s = killed.elapsed().as_secs_f64();
            let seen = format!("has the lock (fence {fence}) {after_s:.1} s later, and is told that its holder died");
            tell(&who, &seen)?;
        } else if let Some(jobs) = text.strip_prefix("done ") {
            finished += 1;
            tell(&who, &format!("did {jobs} jobs"))?;
        } else {
            return Err(wrong(&format!("{who} said `{text}`")));
        }
    }
    shared.jobs.join().timeout(PATIENCE).wait()?;
    processes.wait()?;

    check("workers that were told of the dead holder", seen_abandoned, 1)?;
    let sum = (1..=JOBS).map(|job| job * job).sum::<u64>();
    check("sum in the ledger", shared.ledger.get_item("sum").wait()?, sum)?;
    let done = shared.done.copy().wait()?;
    check("jobs done", done.len() as u64, JOBS)?;
    check(
        "jobs squared rightly",
        done.iter().filter(|(job, (_, square))| **job * **job == *square).count() as u64,
        JOBS,
    )?;
    tell("sum", &format!("{sum}, as it should be: no job was lost or done twice"))?;
    if let Some(rwlock) = rwlock {
        let (readers, writing): (u64, bool) = (rwlock.call("readers", ()).wait()?, rwlock.call("writing", ()).wait()?);
        check("readers left in the RWLock", readers, 0)?;
        check("writers left in the RWLock", u64::from(writing), 0)?;
        tell("rwlock", "every worker read the settings under it; nobody holds it now")?;
    }
    if limiter.is_some() {
        let least = Duration::from_secs_f64((JOBS as f64 - LIMITER_BURST) / LIMITER_RATE);
        if limited_since.elapsed() < least {
            return Err(wrong(&format!("the limiter let {JOBS} calls through in less than {least:?}")));
        }
        tell("limiter", &format!("let {JOBS} calls through, {LIMITER_RATE} a second after the first {LIMITER_BURST}"))?;
    }
    if let Some(board) = board {
        let rows: Vec<(u64, String, f64)> = board.call("top", ()).wait()?;
        check("points on the board", rows.iter().map(|(_, _, points)| *points as u64).sum(), JOBS)?;
        let first = rows.first().map(|(_, name, points)| (name.clone(), *points)).unwrap_or_default();
        let did = |name: &str| done.values().filter(|(who, _)| who == name).count() as u64;
        check("points of the first", first.1 as u64, did(&first.0))?;
        tell("board", &format!("{} leads with {} jobs", first.0, first.1))?;
    }
    Ok(())
}

impl Worker {
    pub(crate) fn run(self) -> Outcome {
        let Self { role, name, connect } = self;
        connect.run(async |manager| {
            let lock: Lock = manager.named("ledger-lock").await?;
            if matches!(role, Part::Hold) {
                let held = lock.acquire().await?;
                line(&format!("holding {}", held.fence()))?;
                // Until it is killed, or until its host ends: nobody sets this event.
                let _ = manager.event().await?.wait().await;
                drop(held);
                return Ok(());
            }
            let jobs: JoinableQueue<Option<u64>> = manager.named("jobs").await?;
            let ledger: Dict<String, u64> = manager.named("ledger").await?;
            let done: Dict<u64, (String, u64)> = manager.named("done").await?;
            // Plugins take part if the demo has made their objects.
            let limiter = manager.find("api").await.ok();
            let board = manager.find("board").await.ok();
            if let Ok(settings) = manager.find("settings-lock").await {
                settings.call::<bool>("acquire_read", ()).timeout(PATIENCE).await?;
                settings.call::<()>("release", ()).await?;
            }
            let mut finished = 0;
            while let Some(job) = jobs.get().timeout(PATIENCE).await? {
                if let Some(limiter) = &limiter {
                    limiter.call::<()>("acquire", ()).timeout(PATIENCE).await?;
                }
                let held = lock.acquire().timeout(PATIENCE).await?;
                if held.is_abandoned() {
                    line(&format!("abandoned {}", held.fence()))?;
                }
                let sum = ledger.get("sum").await?.unwrap_or(0);
                ledger.insert("sum", &(sum + job * job)).await?;
                held.release().await?;
                done.insert(&job, &(&name, job * job)).await?;
                if let Some(board) = &board {
                    board.call::<f64>("add", (&name,)).await?;
                }
                jobs.task_done().await?;
                finished += 1;
            }
            jobs.task_done().await?;
            line(&format!("done {finished}"))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A line that a process wrote.
struct Line {
    who: String,
    text: String,
}

/// The client processes; none outlives this.
#[derive(Default)]
struct Processes(Vec<(String, Child)>);

impl Processes {
    /// Starts one. Its lines go to `lines` for as long as somebody listens.
    fn start(&mut self, role: Part, name: &str, place: &Place, lines: &SyncSender<Line>) -> Result<u32, Failure> {
        let role = match role {
            Part::Hold => "hold",
            Part::Work => "work",
        };
        let failed = |error: std::io::Error| {
            Failure::new(Status::Refused, "NotStarted", format!("cannot start {name}: {error}"))
        };
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["demo-worker", role, name, "--context", &place.address, "--pin", &place.pin])
            .args(["--tenant", TENANT, "--key-id", "default"])
            .env_remove("STEWARD_KEY_FILE")
            .env("STEWARD_KEY", place.authkey.to_hex().as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (pid, stdout) = (child.id(), child.stdout.take());
        self.0.push((name.to_owned(), child));
        let (who, lines) = (name.to_owned(), lines.clone());
        // It ends with the process that it reads.
        std::thread::spawn(move || {
            for text in BufReader::new(stdout.expect("stdout is piped")).lines().map_while(Result::ok) {
                if lines.send(Line { who: who.clone(), text }).is_err() {
                    break;
                }
            }
        });
        Ok(pid)
    }

    /// Ends one as the system would: it gets no chance to say goodbye.
    fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let (_, child) = self.0.iter_mut().find(|(of, _)| of == name).expect("it was started");
        child.kill().and_then(|()| child.wait()).map_err(|error| wrong(&format!("cannot kill {name}: {error}")))?;
        self.0.retain(|(of, _)| of != name);
        Ok(())
    }

    /// Waits until all have ended well.
    fn wait(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.0 {
            let status = child.wait().map_err(|error| wrong(&format!("{name}: {error}")))?;
            if !status.success() {
                return Err(wrong(&format!("{name} ended with {status}")));
            }
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn next(lines: &Receiver<Line>) -> Result<Line, Failure> {
    lines.recv_timeout(PATIENCE).map_err(|error| match error {
        RecvTimeoutError::Timeout => wrong(&format!("nothing happened for {} s", PATIENCE.as_secs())),
        RecvTimeoutError::Disconnected => wrong("a worker ended before its work was done"),
    })
}

/// What follows `prefix` in the next line, which must be of `who`.
fn expect(lines: &Receiver<Line>, who: &str, prefix: &str) -> Result<String, Failure> {
    let said = next(lines)?;
    match said.text.strip_prefix(prefix) {
        Some(rest) if said.who == who => Ok(rest.to_owned()),
        _ => Err(wrong(&format!("{} said `{}`", said.who, said.text))),
    }
}

fn wait_for_waiters(manager: &Manager, lock: &Lock, wanted: u64) -> Result<(), Failure> {
    let ident = lock.proxy().ident().0;
    let started = Instant::now();
    loop {
        let waiters =
            manager.objects()?.into_iter().find(|object| object.ident == ident).and_then(|object| object.waiters);
        if waiters == Some(wanted) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(wrong(&format!("{waiters:?} calls wait for the lock, not {wanted}")));
        }
        std::thread::sleep(LOOK);
    }
}

fn check(what: &str, is: u64, wanted: u64) -> Result<(), Failure> {
    if is == wanted { Ok(()) } else { Err(wrong(&format!("{what}: {is}, should be {wanted}"))) }
}

fn wrong(message: &str) -> Failure {
    Failure::new(Status::Raised, "DemoFailed", message)
}

/// Says what happens, as it happens.
fn tell(who: &str, what: &str) -> Result<(), Failure> {
    line(&format!("{who:<9} {what}"))
}
