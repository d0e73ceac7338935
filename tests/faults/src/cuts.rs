//! One client whose replies are cut again and again: every call must happen once, and be answered as it was the first time.
//!
//! All calls change something, since the host keeps replies of these alone: a repeated read reads again.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use steward_client::{AuthKey, ConnectOptions, Error, List, Manager, Queue, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cutter::Cutter;
use crate::host::{HostOptions, HostProcess, scratch};

/// Tasks that make one call at a time, so that a cut befalls several calls at once.
const TASKS: u64 = 8;
/// How often it looks how many cuts there were.
const LOOK: Duration = Duration::from_millis(1);
/// How often a run says how far it is.
const TELL: Duration = Duration::from_secs(5);

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Replies that were cut.
    pub cuts: u64,
    /// Calls that the client made.
    pub calls: u64,
    /// Replies that the host sent again.
    pub repeated: u64,
    /// What was wrong, for people.
    pub violations: Vec<String>,
}

/// The last line of a run.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cuts, calls, violations, .. } = self;
        write!(f, "{cuts} cuts, {calls} calls, {} violations", violations.len())
    }
}

/// Starts a host and runs it there.
///
/// # Errors
/// As [`run`].
pub async fn run_with_host(options: &HostOptions, cuts: u64, seed: u64) -> Result<Outcome> {
    let scratch = scratch("steward-cuts")?;
    let host = HostProcess::start(options, scratch.path())?;
    run(&host.unix, &host.authkey, scratch.path(), cuts, seed).await
}

/// Works with the host at the Unix socket `host` until so many replies have been cut, and looks at what came of it. The
/// proxy's socket lies in `directory`.
///
/// # Errors
/// If it cannot begin, or the host fails at the end, when nothing is cut any more.
pub async fn run(host: &Path, authkey: &AuthKey, directory: &Path, cuts: u64, seed: u64) -> Result<Outcome> {
    let cutter = Cutter::start(seed, directory.join("cutter.sock"), host)?;
    let options = ConnectOptions::new().authkey(authkey.clone());
    let manager = options.connect(&format!("steward+unix://{}", cutter.path().display())).await?;
    let objects =
        Objects { counter: manager.value("q", &0).await?, list: manager.list().await?, queue: manager.queue(0).await? };
    // Descriptions of types are asked for once, by calls that only read.
    objects.warm_up().await?;
    cutter.cut_all(true);
    // The connection that is open began before.
    cutter.cut_open();

    let finish = Arc::<AtomicBool>::default();
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        tasks.spawn(work(number, objects.clone(), Arc::clone(&finish)));
    }
    let started = Instant::now();
    let mut tell_at = started + TELL;
    let mut did = Vec::new();
    while cutter.counts().cut_replies < cuts && did.is_empty() {
        let look = tokio::time::timeout(LOOK, tasks.join_next()).await;
        // A task ends before it is told to only if a call failed.
        if let Ok(Some(ended)) = look {
            did.push(ended?);
        }
        if Instant::now() >= tell_at {
            tell_at += TELL;
            let counts = cutter.counts();
            let (seconds, cuts, repeated) = (started.elapsed().as_secs(), counts.cut_replies, counts.repeated);
            eprintln!("{seconds:>5} s: {cuts} cuts in {} connections, {repeated} replies again", counts.connections);
        }
    }
    cutter.cut_all(false);
    finish.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        did.push(ended?);
    }
    check(&manager, &objects, &cutter, did).await
}

/// What all tasks share.
#[derive(Clone)]
struct Objects {
    counter: Value<u64>,
    list: List<u64>,
    queue: Queue<u64>,
}

impl Objects {
    async fn warm_up(&self) -> Result<(), Error> {
        self.counter.get().await?;
        self.list.len().await?;
        self.queue.qsize().await.map(drop)
    }
}

/// What a task did, and what it was told.
#[derive(Default)]
struct Did {
    calls: u64,
    /// What the counter was after each of its increments.
    sums: Vec<u64>,
    appended: Vec<u64>,
    put: Vec<u64>,
    got: Vec<u64>,
    /// Why it could not go on.
    failed: Option<Error>,
}

async fn work(number: u64, objects: Objects, finish: Arc<AtomicBool>) -> Did {
    let mut did = Did::default();
    for unique in number << 32.. {
        if finish.load(Ordering::Acquire) {
            break;
        }
        if let Err(error) = round(&objects, unique, &mut did).await {
            did.failed = Some(error);
            break;
        }
    }
    did
}

async fn round(objects: &Objects, unique: u64, did: &mut Did) -> Result<(), Error> {
    did.sums.push(objects.counter.add(&1).await?);
    did.calls += 1;
    objects.list.append(&unique).await?;
    did.appended.push(unique);
    did.calls += 1;
    objects.queue.put(&unique).await?;
    did.put.push(unique);
    did.calls += 1;
    // Whoever gets has put before, so there is an item for everybody and nobody waits.
    did.got.push(objects.queue.get().await?);
    did.calls += 1;
    Ok(())
}

/// Compares what the objects are with what the tasks did.
async fn check(manager: &Manager, objects: &Objects, cutter: &Cutter, did: Vec<Did>) -> Result<Outcome> {
    let counts = cutter.counts();
    let mut outcome = Outcome { cuts: counts.cut_replies, repeated: counts.repeated, ..Outcome::default() };
    let Some(mut all) = did.into_iter().reduce(|mut all, one| {
        all.calls += one.calls;
        all.sums.extend(one.sums);
        all.appended.extend(one.appended);
        all.put.extend(one.put);
        all.got.extend(one.got);
        all.failed = all.failed.or(one.failed);
        all
    }) else {
        return Ok(outcome);
    };
    outcome.calls = all.calls;
    let violations = &mut outcome.violations;
    if counts.differing > 0 {
        let first = counts.first_differing.unwrap_or_default();
        violations.push(format!("{} replies came again otherwise than at first: {first}", counts.differing));
    }
    if let Some(error) = all.failed {
        // Nothing more can be asked in this session, and of what was in flight nobody knows.
        violations.push(format!("a call failed: {error}"));
        return Ok(outcome);
    }
    all.sums.sort_unstable();
    if all.sums != (1..=all.sums.len() as u64).collect::<Vec<_>>() {
        violations.push("increments were answered with other sums than each from 1 on, once".into());
    }
    let counter = objects.counter.get().await.context("the counter")?;
    if counter != all.sums.len() as u64 {
        violations.push(format!("the counter is {counter} after {} increments", all.sums.len()));
    }
    let mut items = objects.list.iter().await.context("the list")?;
    let mut listed = Vec::new();
    while let Some(item) = items.next().await? {
        listed.push(item);
    }
    same("the list", listed, "appended", all.appended, violations);
    let left = objects.queue.qsize().await.context("the queue")?;
    if left != 0 {
        violations.push(format!("{left} items are left in the queue"));
    }
    same("what was got", all.got, "put", all.put, violations);
    manager.ping().await.context("the session lives")?;
    Ok(outcome)
}

/// Notes a violation unless both hold the same items, each once.
fn same(is: &str, mut items: Vec<u64>, was: &str, mut wanted: Vec<u64>, violations: &mut Vec<String>) {
    items.sort_unstable();
    wanted.sort_unstable();
    if items == wanted {
        return;
    }
    let twice = items.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let missing = wanted.iter().filter(|item| items.binary_search(item).is_err()).count();
    violations.push(format!(
        "{is} has {} items where {} were {was}: {twice} twice, {missing} missing",
        items.len(),
        wanted.len()
    ));
}
