//! A run: one host, many client processes behind proxies, faults by a seeded schedule, and the certificate at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use steward_client::Manager;
use tokio::time::Instant;

use crate::caller::{Caller, Client, Stop};
use crate::client::{ClientRole, KEY};
use crate::cutter::Cutter;
use crate::host::{HostOptions, HostProcess, scratch};
use crate::journal::{self, RunNotes, now_ns};
use crate::process::Signals;
use crate::schedule::{Fault, Kind, Schedule, Transport, Whom};
use crate::udp::{Link, Settings, UdpProxy};
use crate::{objects, work};

/// How often a run says how far it is.
const TELL: Duration = Duration::from_secs(5);
/// How often it looks after its processes.
const LOOK: Duration = Duration::from_millis(20);
/// How long clients may take to finish once the faults are over, beyond a lease.
const FINISH: Duration = Duration::from_secs(60);
/// The client of the run itself, which makes the objects and looks at them last.
const OWN_CLIENT: u32 = 0;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host.
    pub host: HostOptions,
    /// The program that plays clients: this one.
    pub program: PathBuf,
    /// How long it lasts at most.
    pub duration: Duration,
    /// It ends after so many operations, if that comes first.
    pub operations: Option<u64>,
    /// What the schedule and the work of clients are drawn from.
    pub seed: u64,
    /// Client processes; each fourth is on a Unix socket.
    pub clients: usize,
    /// Tasks of each.
    pub tasks: u64,
    /// How long after each other faults come on average; none come if it is zero.
    pub pace: Duration,
    /// Where histories are kept. Without it they are, in a new directory, if there was a violation.
    pub directory: Option<PathBuf>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations that the checker looked at.
    pub operations: u64,
    /// Faults that were applied.
    pub faults: u64,
    /// Them by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// What was wrong, for people.
    pub violations: Vec<String>,
    /// What the checker could not decide, and what it could not take.
    pub undecided: Vec<String>,
}

impl Outcome {
    /// Adds what came of another run.
    pub fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.faults += other.faults;
        for (kind, times) in other.kinds {
            *self.kinds.entry(kind).or_default() += times;
        }
        self.violations.extend(other.violations);
        self.undecided.extend(other.undecided);
    }

    /// Whether all is as promised, and known to be.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }
}

/// The last line of a run.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, faults, violations, .. } = self;
        write!(f, "{operations} operations, {faults} faults, {} violations", violations.len())
    }
}

/// Runs it all.
///
/// # Errors
/// If the run itself fails: something does not start, or a client ends although no fault ended it.
pub async fn run(options: &Options) -> Result<Outcome> {
    let scratch = scratch("steward-faults")?;
    let histories = match &options.directory {
        Some(directory) => directory.clone(),
        None => scratch.path().join("histories"),
    };
    std::fs::create_dir_all(&histories).with_context(|| histories.display().to_string())?;
    ensure!(
        std::fs::read_dir(&histories)?.next().is_none(),
        "{} is not empty: histories of two runs do not mix",
        histories.display()
    );
    let mut host = HostProcess::start(&options.host, scratch.path())?;
    let own = Client::new(OWN_CLIENT, &histories)?;
    let manager = host.connect().await?;
    own.make_objects(&manager).await?;
    // Their names keep them.
    manager.close().await;

    let mut outcome = Outcome::default();
    let mut crew = Crew::start(options, &host, scratch.path(), &histories)?;
    let ended = tokio::select! {
        // Nothing of it outlives this function: processes and proxies end when they are dropped.
        ended = crew.work(options, &mut host, &mut outcome) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("interrupt").and_then(|()| bail!("interrupted")),
    };
    host.go_on();
    ended?;
    crew.finish(&mut outcome, Duration::from_millis(options.host.lease_ms) + FINISH).await?;
    crew.notes.write(&histories)?;
    eprintln!("clients have finished: {}", crew.told(&outcome));
    drop(crew);
    look_last(&own, &host, &mut outcome).await?;
    check_counters(&host, &mut outcome).await?;
    if let Some(status) = host.exit_status() {
        outcome.violations.push(format!("the host ended with {status}"));
    }
    drop(host);
    certify(&histories, &mut outcome)?;
    if !outcome.is_good() && options.directory.is_none() {
        // Not deleted with the scratch: somebody wants to see what happened.
        eprintln!("histories are kept in {}", scratch.keep().join("histories").display());
    }
    Ok(outcome)
}

/// A client's place: its process is replaced when it is killed, its proxy stays.
struct Place {
    road: Road,
    process: ClientProcess,
    /// Until when it is stopped.
    stopped: bool,
}

enum Road {
    Quic(UdpProxy),
    Unix(Cutter),
}

impl Road {
    fn transport(client: usize) -> Transport {
        if client % 4 == 3 { Transport::Unix } else { Transport::Quic }
    }

    fn address(&self) -> String {
        match self {
            Self::Quic(proxy) => format!("steward://{}", proxy.address()),
            Self::Unix(cutter) => format!("steward+unix://{}", cutter.path().display()),
        }
    }
}

/// A client in a process of its own. Dropping it kills it.
struct ClientProcess {
    number: u32,
    child: Child,
    /// It finishes when this closes.
    stdin: Option<ChildStdin>,
    calls: Arc<AtomicU64>,
}

impl ClientProcess {
    fn start(program: &Path, authkey: &steward_client::AuthKey, role: &ClientRole) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("client")
            .args(role.to_args())
            .env(KEY, authkey.to_hex().as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it was asked for"));
        let calls = Arc::<AtomicU64>::default();
        let told = Arc::clone(&calls);
        // It ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(calls) = line.parse() {
                    told.store(calls, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { number: role.number(), child, stdin, calls })
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Signals for ClientProcess {
    fn child(&self) -> &Child {
        &self.child
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All clients, and what befalls them.
struct Crew<'a> {
    options: &'a Options,
    authkey: steward_client::AuthKey,
    histories: &'a Path,
    places: Vec<Place>,
    /// The next process's number; from 1.
    number_next: u32,
    rng: fastrand::Rng,
    /// Calls of processes that were killed.
    calls_before: u64,
    /// For those who check the histories.
    notes: RunNotes,
    /// Faults that last, by when they end.
    lasting: BTreeMap<(Instant, u64), Fault>,
}

impl<'a> Crew<'a> {
    fn start(options: &'a Options, host: &HostProcess, scratch: &Path, histories: &'a Path) -> Result<Self> {
        ensure!(options.clients > 0, "a run needs clients");
        let mut crew = Self {
            options,
            authkey: host.authkey.clone(),
            histories,
            places: Vec::new(),
            number_next: 1,
            rng: fastrand::Rng::with_seed(options.seed),
            calls_before: 0,
            notes: RunNotes { lease_ms: options.host.lease_ms, ..RunNotes::default() },
            lasting: BTreeMap::new(),
        };
        for client in 0..options.clients {
            let seed = crew.rng.u64(..);
            let road = match Road::transport(client) {
                Transport::Quic => Road::Quic(UdpProxy::start(seed, host.quic)?),
                Transport::Unix => {
                    Road::Unix(Cutter::start(seed, scratch.join(format!("client-{client}.sock")), &host.unix)?)
                }
            };
            let process = crew.start_process(&road)?;
            crew.places.push(Place { road, process, stopped: false });
        }
        Ok(crew)
    }

    fn start_process(&mut self, road: &Road) -> Result<ClientProcess> {
        let (number, seed) = (self.number_next, self.rng.u64(..));
        self.number_next += 1;
        let role = ClientRole::new(road.address(), number, self.options.tasks, seed, self.histories.to_owned());
        ClientProcess::start(&self.options.program, &self.authkey, &role)
    }

    fn calls(&self) -> u64 {
        let calls = self.places.iter().map(|place| place.process.calls.load(Ordering::Relaxed));
        self.calls_before + calls.sum::<u64>()
    }

    fn told(&self, outcome: &Outcome) -> String {
        let kinds: Vec<_> = outcome.kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        format!("{} operations, {} faults ({})", self.calls(), outcome.faults, kinds.join(", "))
    }

    /// Applies faults until the run is long enough.
    async fn work(&mut self, options: &Options, host: &mut HostProcess, outcome: &mut Outcome) -> Result<()> {
        let transports = (0..options.clients).map(Road::transport).collect();
        let lease = Duration::from_millis(options.host.lease_ms);
        let mut schedule = Schedule::new(options.seed, transports, options.pace, lease);
        let started = Instant::now();
        let mut fault = schedule.next().expect("a schedule has no end");
        let mut fault_at = started + fault.after;
        let mut tell_at = started + TELL;
        while started.elapsed() < options.duration && options.operations.is_none_or(|wanted| self.calls() < wanted) {
            let now = Instant::now();
            if now >= fault_at && !options.pace.is_zero() {
                self.apply(fault, host)?;
                outcome.faults += 1;
                *outcome.kinds.entry(fault.kind).or_default() += 1;
                fault = schedule.next().expect("a schedule has no end");
                fault_at += fault.after;
            }
            while let Some(first) = self.lasting.first_entry()
                && first.key().0 <= now
            {
                let over = first.remove();
                self.end(over, host);
            }
            for (client, place) in self.places.iter_mut().enumerate() {
                if let Some(status) = place.process.exit_status()? {
                    bail!("client {client} ended with {status}, which no fault explains");
                }
            }
            if let Some(status) = host.exit_status() {
                bail!("the host ended with {status}");
            }
            if now >= tell_at {
                tell_at += TELL;
                eprintln!("{:>5} s: {}", started.elapsed().as_secs(), self.told(outcome));
            }
            tokio::time::sleep(LOOK).await;
        }
        while let Some((_, over)) = self.lasting.pop_first() {
            self.end(over, host);
        }
        Ok(())
    }

    fn apply(&mut self, fault: Fault, host: &HostProcess) -> Result<()> {
        match (fault.kind, fault.whom) {
            (Kind::HostPause, _) => {
                self.notes.host_pauses.push((now_ns(), u64::MAX));
                host.stop();
            }
            (Kind::Move, Whom::Client(client)) => {
                if let Road::Quic(proxy) = &self.places[client].road {
                    proxy.move_addresses();
                }
                return Ok(());
            }
            (Kind::Cut, Whom::Client(client)) => {
                if let Road::Unix(cutter) = &self.places[client].road {
                    cutter.cut_open();
                }
                return Ok(());
            }
            (Kind::Pause, Whom::Client(client)) => {
                self.places[client].stopped = true;
                self.places[client].process.stop();
            }
            (Kind::Kill, Whom::Client(client)) => return self.replace(client),
            _ => self.change(fault, |link| set(link, &fault)),
        }
        let end = (Instant::now() + fault.lasts, self.lasting.len() as u64 + self.number_next as u64);
        self.lasting.insert(end, fault);
        Ok(())
    }

    fn end(&mut self, fault: Fault, host: &HostProcess) {
        match (fault.kind, fault.whom) {
            (Kind::HostPause, _) => {
                host.go_on();
                // Should two overlap, the host goes on at the end of the first.
                for (_, until_ns) in self.notes.host_pauses.iter_mut().filter(|(_, until_ns)| *until_ns == u64::MAX) {
                    *until_ns = now_ns();
                }
            }
            (Kind::Pause, Whom::Client(client)) => {
                self.places[client].stopped = false;
                self.places[client].process.go_on();
            }
            _ => self.change(fault, |link| set(link, &Fault { share: 0.0, delay: Default::default(), ..fault })),
        }
    }

    /// Changes the links of those whom a fault befalls.
    fn change(&self, fault: Fault, change: impl Fn(&mut Link)) {
        for (client, place) in self.places.iter().enumerate() {
            if let Road::Quic(proxy) = &place.road
                && (fault.whom == Whom::Everybody || fault.whom == Whom::Client(client))
            {
                proxy.change(|Settings { to_host, to_client }| {
                    change(to_host);
                    change(to_client);
                });
            }
        }
    }

    /// Kills a client and has another one take its place.
    fn replace(&mut self, client: usize) -> Result<()> {
        let place = self.places.remove(client);
        self.calls_before += place.process.calls.load(Ordering::Relaxed);
        let number = place.process.number;
        drop(place.process);
        self.notes.kills.push((number, now_ns()));
        let process = self.start_process(&place.road)?;
        self.places.insert(client, Place { process, stopped: false, ..place });
        Ok(())
    }

    /// Lets all finish, and waits for that.
    async fn finish(&mut self, outcome: &mut Outcome, patience: Duration) -> Result<()> {
        for place in &mut self.places {
            if let Road::Quic(proxy) = &place.road {
                proxy.change(|settings| *settings = Settings::default());
            }
            place.process.go_on();
            drop(place.process.stdin.take());
        }
        let end = Instant::now() + patience;
        let mut finished = vec![false; self.places.len()];
        while finished.iter().any(|finished| !finished) {
            if Instant::now() > end {
                let late = finished.iter().filter(|finished| !**finished).count();
                outcome.violations.push(format!("{late} clients did not finish within {patience:?}"));
                return Ok(());
            }
            for (client, place) in self.places.iter_mut().enumerate() {
                if let Some(status) = place.process.exit_status()? {
                    ensure!(status.success(), "client {client} ended with {status}");
                    finished[client] = true;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn set(link: &mut Link, fault: &Fault) {
    match fault.kind {
        Kind::Loss => link.loss = fault.share,
        Kind::Duplication => link.duplication = fault.share,
        Kind::Reordering => link.reordering = fault.share,
        Kind::BitFlips => link.bit_flips = fault.share,
        Kind::Delay => (link.delay, link.jitter) = (fault.delay.0, fault.delay.1.saturating_sub(fault.delay.0)),
        Kind::Blackout => link.blackout = fault.share > 0.0,
        Kind::Move | Kind::Cut | Kind::Pause | Kind::Kill | Kind::HostPause => {}
    }
}

/// Drains what is left and looks at each object, once the sessions of the dead have ended.
async fn look_last(own: &Client, host: &HostProcess, outcome: &mut Outcome) -> Result<()> {
    let manager = host.connect().await?;
    wait_for_counters(&manager, outcome, "only this session is left", |counters| counters.sessions == 1).await?;
    let mut task = Caller::new(own, &manager, 1, fastrand::Rng::with_seed(0)).await?;
    match work::last_look(&mut task).await {
        Ok(()) => {}
        Err(Stop::Gone(cause)) => bail!("the last session was lost: {cause}"),
        Err(Stop::Failed(error)) => outcome.violations.push(error.to_string()),
    }
    drop(task);
    let host = manager.host_proxy();
    for object in objects::all() {
        match host.call::<()>("delete", (object.name,)).await {
            Err(error) if !error.is("KeyError") => return Err(error.into()),
            _ => {}
        }
    }
    manager.close().await;
    Ok(())
}

/// What the host says it keeps for this tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Counters {
    pub(crate) sessions: u64,
    pub(crate) references: u64,
    pub(crate) waiters: u64,
    pub(crate) rows: u64,
    pub(crate) objects: u64,
    pub(crate) names: u64,
    pub(crate) lingering: u64,
    pub(crate) timers: u64,
}

/// After everybody has left, nothing may be left but the session that asks.
async fn check_counters(host: &HostProcess, outcome: &mut Outcome) -> Result<()> {
    let manager = host.connect().await?;
    wait_for_counters(&manager, outcome, "nothing is left but the session that asks", |counters| {
        // Its own last reply may not be acknowledged yet.
        counters == Counters { sessions: 1, rows: counters.rows.min(1), ..Counters::default() }
    })
    .await?;
    manager.close().await;
    Ok(())
}

async fn wait_for_counters(
    manager: &Manager,
    outcome: &mut Outcome,
    what: &str,
    is_met: impl Fn(Counters) -> bool,
) -> Result<()> {
    let end = Instant::now() + FINISH;
    loop {
        let counters: Counters = manager.host_proxy().call("counters", ()).await?;
        if is_met(counters) {
            return Ok(());
        }
        if Instant::now() > end {
            outcome.violations.push(format!("not so within {FINISH:?}: {what}; the host has {counters:?}"));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has the histories in a directory checked, and says at length what is wrong.
///
/// # Errors
/// If they cannot be read.
pub fn certify(histories: &Path, outcome: &mut Outcome) -> Result<()> {
    let started = Instant::now();
    let report = steward_certify::certify(journal::read_all(histories)?);
    eprint!("checked in {:.1} s: {report}", started.elapsed().as_secs_f64());
    outcome.operations = report.operations;
    outcome.violations.extend(
        report
            .violations
            .iter()
            .map(|violation| format!("{:?}, object {}: {}", violation.promise, violation.object, violation.text)),
    );
    let undecided = report.undecided.iter().map(|undecided| (undecided.object, &undecided.text));
    let errors = report.errors.iter().map(|error| (error.object, &error.text));
    outcome.undecided.extend(undecided.chain(errors).map(|(object, text)| format!("object {object}: {text}")));
    Ok(())
}
