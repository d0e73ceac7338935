//! What the kernel knows of a server's process.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// A server: this program run again. It ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// With `STEWARD_BENCH_PIN` set, keeps this process, and what it starts from now on, to one of two cores: servers share
/// one, the client has the other. Steadier from run to run, and harsher: every wake-up then crosses cores.
pub(crate) fn pin(server: bool) -> Result<()> {
    if std::env::var_os("STEWARD_BENCH_PIN").is_none() {
        return Ok(());
    }
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let cores: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if let [first, .., last] = cores[..] {
        let mut one = rustix::thread::CpuSet::new();
        one.set(if server { first } else { last });
        rustix::thread::sched_setaffinity(None, &one)?;
    }
    Ok(())
}

impl Process {
    /// Starts a server and reads the line of JSON that it says when it is ready.
    pub(crate) fn start<T: DeserializeOwned>(args: &[&std::ffi::OsStr]) -> Result<(Self, T)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
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
