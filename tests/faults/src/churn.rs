//! Clients come, use everything, and leave, vanish or are killed, for a long time: whether the host grows.
//!
//! The host's memory is sampled while the same number of clients is at work all the time. After a warm-up it is to stay where it
//! is: a line is laid through the samples (least squares), and its slope said as a share of their mean for ten minutes.

use std::fmt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value as Json, json};
use steward_client::{Args, AuthKey, ConnectOptions, Error, Item, Manager, Proxy};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::KEY;
use crate::host::{HostOptions, HostProcess, scratch};
use crate::kit::Counters;
use crate::objects;

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often a client process is killed.
const KILL: Duration = Duration::from_millis(1_500);
/// How often the run says how far it is.
const TELL: Duration = Duration::from_secs(15);
/// How long what clients leave behind may last.
const SETTLE: Duration = Duration::from_secs(60);
/// A client begins its sessions so often: as many all the time, or what lives would follow what else the machine does.
const SESSION_EVERY: Duration = Duration::from_millis(250);
/// Share of the run that is warm-up.
const WARM_UP: f64 = 0.25;
/// The slope that is allowed, as a share for ten minutes.
const SLOPE_MAX: f64 = 0.01;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host.
    pub host: HostOptions,
    /// The program that plays clients: this one.
    pub program: std::path::PathBuf,
    /// How long it lasts.
    pub duration: Duration,
    /// What is drawn from.
    pub seed: u64,
    /// Client processes, each of which is in one session after the other.
    pub clients: usize,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Samples of the host's memory in bytes, one a second.
    pub samples: Vec<u64>,
    /// Sessions that clients have said they had.
    pub sessions: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// What was wrong, for people.
    pub violations: Vec<String>,
}

impl Outcome {
    /// How the memory changes after the warm-up, as a share of its mean for ten minutes.
    pub fn slope(&self) -> f64 {
        let warm = (self.samples.len() as f64 * WARM_UP) as usize;
        let points: Vec<(f64, f64)> =
            self.samples.iter().enumerate().skip(warm).map(|(x, &y)| (x as f64, y as f64)).collect();
        let count = points.len().max(1) as f64;
        let (mean_x, mean_y) = (
            points.iter().map(|point| point.0).sum::<f64>() / count,
            points.iter().map(|point| point.1).sum::<f64>() / count,
        );
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if variance == 0.0 || mean_y == 0.0 {
            return 0.0;
        }
        covariance / variance / SAMPLE.as_secs_f64() * 600.0 / mean_y
    }
}

/// The last line of a run.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, kills, violations, .. } = self;
        let slope = self.slope() * 100.0;
        write!(f, "{sessions} sessions, {kills} kills, {slope:+.2} % per 10 minutes, {} violations", violations.len())
    }
}

/// Runs it all.
///
/// # Errors
/// If the run itself fails.
pub async fn run(options: &Options) -> Result<Outcome> {
    let scratch = scratch("steward-churn")?;
    let mut host = HostProcess::start(&options.host, scratch.path())?;
    let admin = host.connect().await?;
    let mut shared = Vec::new();
    for object in objects::all() {
        match make(&admin, &object, Some(object.name)).await {
            Ok(proxy) => shared.push(proxy),
            // The plugin's, if the host was given none.
            Err(error) if error.is("UnknownType") => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(shared);

    let mut outcome = Outcome::default();
    let sessions = Arc::new(Mutex::new(0));
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let start = |host: &HostProcess, number, rng: &mut fastrand::Rng| {
        Process::start(options, host, number, rng.u64(..), &sessions)
    };
    let mut processes =
        (0..options.clients).map(|number| start(&host, number, &mut rng)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let (mut sample, mut kill, mut tell) = (interval(SAMPLE), interval(KILL), interval(TELL));
    for ticks in [&mut sample, &mut kill, &mut tell] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut host_ended = false;
    while begun.elapsed() < options.duration && !host_ended {
        tokio::select! {
            _ = sample.tick() => outcome.samples.push(own_bytes(host.id())?),
            _ = kill.tick() => {
                let number = rng.usize(..processes.len());
                // Dropping it kills it.
                processes[number] = start(&host, number, &mut rng)?;
                outcome.kills += 1;
            }
            _ = tell.tick() => {
                outcome.sessions = *sessions.lock().expect("nobody panics with it");
                let memory = outcome.samples.last().copied().unwrap_or_default() >> 10;
                eprintln!("{:>5} s: {memory} KiB, {outcome}", begun.elapsed().as_secs());
                for (number, process) in processes.iter_mut().enumerate() {
                    if let Some(status) = process.0.try_wait()? {
                        outcome.violations.push(format!("client {number} ended by itself with {status}"));
                        *process = start(&host, number, &mut rng)?;
                    }
                }
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("interrupt")?;
                bail!("interrupted");
            }
        }
        host_ended = host.exit_status().is_some();
    }
    drop(processes);
    outcome.sessions = *sessions.lock().expect("nobody panics with it");
    if let Some(status) = host.exit_status() {
        outcome.violations.push(format!("the host ended with {status}"));
        return Ok(outcome);
    }
    outcome.violations.extend(what_is_left(&admin).await?);
    let slope = outcome.slope();
    if slope >= SLOPE_MAX {
        outcome.violations.push(format!("the host grows by {:.2} % in ten minutes", slope * 100.0));
    }
    Ok(outcome)
}

/// What clients have left behind when their leases and all periods of grace are over.
async fn what_is_left(admin: &Manager) -> Result<Option<String>> {
    let end = Instant::now() + SETTLE;
    loop {
        let counters: Counters = admin.host_proxy().call("counters", ()).await?;
        // The session that asks may not have acknowledged its last reply, and names keep their objects.
        let Counters { rows, objects, names, .. } = counters;
        let nothing = Counters { sessions: 1, rows: rows.min(1), objects, names: objects, ..Counters::default() };
        if counters == nothing && objects == names {
            return Ok(None);
        }
        if Instant::now() > end {
            return Ok(Some(format!("this is left after {SETTLE:?} without clients: {counters:?}")));
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

/// Memory that a process has taken for itself. Not its program and libraries, which it shares with others: what counts of those
/// depends on who else runs.
fn own_bytes(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let text = std::fs::read_to_string(&path).context(path)?;
    let kib = |field: &str| -> Result<u64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field} in it"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    };
    Ok((kib("RssAnon:")? + kib("VmSwap:")?) << 10)
}

/// A client process, which is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(
        options: &Options,
        host: &HostProcess,
        number: usize,
        seed: u64,
        sessions: &Arc<Mutex<u64>>,
    ) -> Result<Self> {
        let address = match number % 4 {
            0 => format!("steward+unix://{}", host.unix.display()),
            _ => format!("steward://{}", host.quic),
        };
        let mut command = Command::new(&options.program);
        command.args(["churn", "--address", &address, "--seed", &seed.to_string()]);
        let mut child = command
            .env(KEY, host.authkey.to_hex())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| options.program.display().to_string())?;
        let stdout = child.stdout.take().context("it was asked for")?;
        let sessions = Arc::clone(sessions);
        // Ends with the process.
        std::thread::spawn(move || {
            use std::io::BufRead as _;
            for _ in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                *sessions.lock().expect("nobody panics with it") += 1;
            }
        });
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client that is in one session after the other. The run starts it, and kills it.
#[derive(Clone, Debug, clap::Args)]
pub struct ChurnRole {
    /// Where the host is.
    #[arg(long)]
    address: String,
    /// What is drawn from.
    #[arg(long)]
    seed: u64,
}

impl ChurnRole {
    /// Works until it is killed, or standard input closes.
    ///
    /// # Errors
    /// If anything happens that has no reason.
    pub fn run(&self) -> Result<()> {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let authkey = AuthKey::from_hex(&std::env::var(KEY).context(KEY)?)?;
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let finish = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finish);
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            told.store(true, Ordering::Release);
        });
        let mut next = std::time::Instant::now();
        while !finish.load(Ordering::Acquire) {
            std::thread::sleep(next.saturating_duration_since(std::time::Instant::now()));
            next += SESSION_EVERY;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let manager = runtime.block_on(async {
                let options = ConnectOptions::new().authkey(authkey.clone());
                let manager = options.connect(&self.address).await?;
                use_everything(&manager, &mut rng).await?;
                Ok::<_, Error>(manager)
            })?;
            if rng.u8(..3) > 0 {
                runtime.block_on(manager.close());
            } else {
                // No goodbye: the host learns of it when the lease ends.
                runtime.shutdown_background();
                drop(manager);
            }
            println!("session");
        }
        Ok(())
    }
}

async fn make(manager: &Manager, object: &objects::Shared, name: Option<&str>) -> Result<Proxy, Error> {
    let args = object.args.iter().fold(Args::new(), |args, value| args.arg(value));
    match name {
        Some(name) => manager.create_named(name, object.typeid, args).await,
        None => manager.create(object.typeid, args).await,
    }
}

/// Makes an object of each type and uses it and the shared one, and keeps and holds some of it to the end.
async fn use_everything(manager: &Manager, rng: &mut fastrand::Rng) -> Result<(), Error> {
    let container: Proxy = manager.create("list", ()).await?;
    for object in objects::all() {
        let own = match make(manager, &object, None).await {
            Ok(own) => own,
            Err(error) if error.is("UnknownType") => continue,
            Err(error) => return Err(error),
        };
        let shared = manager.find(object.name).await?;
        for proxy in [&own, &shared] {
            for (method, args) in calls(object.typeid) {
                let args = args.iter().fold(Args::new(), |args, value| args.arg(value));
                // What a method raises is its own affair: a queue is empty, a barrier broken.
                match proxy.call_item(method, args).deadline_ms(rng.u64(..3)).await {
                    Ok(Item { .. }) | Err(Error::Raised(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if rng.bool() {
            container.call::<()>("append", Args::new().arg(&own)).await?;
        }
        if rng.u8(..8) == 0 {
            let _ = own.token();
        }
    }
    // A cycle that nobody but the collector finds.
    container.call::<()>("append", Args::new().arg(&container)).await?;
    Ok(())
}

/// Some calls of each type, in this order. What they take they mostly give back; the session's end does the rest.
fn calls(typeid: &str) -> Vec<(&'static str, Vec<Json>)> {
    match typeid {
        "Lock" | "RLock" | "Semaphore" | "BoundedSemaphore" => vec![("acquire", vec![]), ("release", vec![])],
        "Event" => vec![("set", vec![]), ("wait", vec![]), ("clear", vec![]), ("wait", vec![])],
        "Condition" => vec![("acquire", vec![]), ("wait", vec![]), ("notify_all", vec![]), ("release", vec![])],
        "Barrier" => vec![("wait", vec![]), ("reset", vec![])],
        "Queue" | "LifoQueue" | "PriorityQueue" => {
            vec![
                ("put", vec![json!(1)]),
                ("get_leased", vec![json!(50)]),
                ("get", vec![]),
                ("put", vec![json!(2)]),
                ("get", vec![]),
            ]
        }
        "JoinableQueue" => vec![("put", vec![json!(1)]), ("get", vec![]), ("task_done", vec![]), ("join", vec![])],
        "Value" => vec![("add", vec![json!(1)]), ("get", vec![])],
        "Array" => vec![("incr", vec![json!(0), json!(1)]), ("__getitem__", vec![json!(0)])],
        "list" => vec![("append", vec![json!("x")]), ("__iter__", vec![]), ("pop", vec![])],
        "dict" => vec![("__setitem__", vec![json!("k"), json!([1, 2])]), ("items", vec![]), ("clear", vec![])],
        "set" => vec![("add", vec![json!(7)]), ("discard", vec![json!(7)])],
        "Namespace" => vec![("__setattr__", vec![json!("a"), json!(1)]), ("__getattribute__", vec![json!("a")])],
        _ => vec![("acquire_read", vec![]), ("release", vec![])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_is_that_of_the_samples_after_the_warm_up() {
        // It triples while warming up, and then grows by a byte a second on a thousand.
        let samples = (0..100).map(|at| if at < 25 { 300 + 20 * at } else { 1_000 + at }).collect();
        let outcome = Outcome { samples, ..Outcome::default() };
        let mean = 1_000.0 + 62.0;
        assert!((outcome.slope() - 600.0 / mean).abs() < 1e-9, "{}", outcome.slope());
        let flat = Outcome { samples: vec![5; 100], ..Outcome::default() };
        assert_eq!(flat.slope(), 0.0);
    }
}
