//! What the kernel knows of a server's process.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::de::DeserializeOwned;

/// A server: this program run again. It ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// Which cores servers and client run on. Left to itself the system puts them on one or on two, and changes its mind between an echo
/// and a call: then a ratio says more about that than about either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cores {
    /// All servers on one, the client on another: every message wakes a core.
    Apart,
    /// All on one: times are CPU times.
    Together,
    /// As the system likes.
    Any,
}

/// Cores of the servers and of the client.
static PLACES: OnceLock<[CpuSet; 2]> = OnceLock::new();

/// Chooses the cores of the servers that are started from now on, and of this thread once there is one.
pub(crate) fn choose(cores: Cores) -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let one = |core: Option<usize>| {
        let mut one = CpuSet::new();
        one.set(core.context("a process has a core")?);
        anyhow::Ok(one)
    };
    let mut known = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = one(known.next())?;
    let places = match cores {
        Cores::Apart => [first, one(known.next_back()).unwrap_or(first)],
        Cores::Together => [first, first],
        Cores::Any => [allowed, allowed],
    };
    PLACES.set(places).map_err(|_| anyhow::anyhow!("cores are chosen once"))
}

impl Process {
    /// Starts a server and reads the line of JSON that it says when it is ready.
    pub(crate) fn start<T: DeserializeOwned>(args: &[&std::ffi::OsStr]) -> Result<(Self, T)> {
        let mut command = Command::new(std::env::current_exe()?);
        let [servers, client] = PLACES.get().context("cores were chosen")?;
        // A process begins where its parent is.
        sched_setaffinity(None, servers)?;
        let child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        sched_setaffinity(None, client)?;
        let mut child = child?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let process = Self { child, stdin };
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let ready = serde_json::from_str(&line).with_context(|| format!("the server said `{}`", line.trim_end()))?;
        Ok((process, ready))
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Memory that it has: resident pages and page tables.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(self.file("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).context("a field of status")
        };
        Ok((field("VmRSS")? + field("VmPTE")?) * 1024)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(self.file("task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split_whitespace().next().context("schedstat")?.parse::<u64>()?;
        }
        Ok(sum)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
