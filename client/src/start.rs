//! Starting a host of one's own.
//!
//! The program is run as `steward serve --private --lifeline stdin`. Its standard input is the lifeline: the key is
//! its first line, and when it closes, be it because this process was killed, the host ends. On its standard
//! output comes one line of JSON once it is ready. Its standard error is read for as long as it runs, and its end is kept
//! for error messages.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use steward_wire::auth::AuthKey;
use tokio::sync::{oneshot, watch};

use crate::connect::ConnectOptions;
use crate::error::{Error, StartError};
use crate::session::Session;

/// Time for a host to be ready, where the caller names none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host that was told to end may take before it is killed.
const END_MAX: Duration = Duration::from_secs(10);
/// Longest line that tells that a host is ready.
const READY_BYTES_MAX: u64 = 16 << 10;
/// What is kept of a host's standard error.
const STDERR_BYTES_MAX: usize = 4 << 10;

/// How a manager's own host is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    program: Option<PathBuf>,
    args: Vec<OsString>,
    timeout: Duration,
    quic: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { program: None, args: Vec::new(), timeout: TIMEOUT, quic: false }
    }
}

impl StartOptions {
    /// A host on a Unix socket, by the program that is found.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program, which must understand the arguments of `steward`. Otherwise `STEWARD_PROGRAM`, `steward` beside the running
    /// program, or `steward` on the path.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// One more argument for it.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Time for it to be ready; 10 s if left alone.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects over QUIC although the Unix socket is faster.
    #[must_use]
    pub fn quic(mut self, quic: bool) -> Self {
        self.quic = quic;
        self
    }

    pub(crate) async fn start(self) -> Result<(HostProcess, Arc<Session>), Error> {
        let program = self.program.clone().unwrap_or_else(find_program);
        let mut key = vec![0; AuthKey::BYTES_MIN];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut key)
            .map_err(|_| ended("the system gives no random bytes", ""))?;
        let key = AuthKey::new(key).map_err(|error| ended(&error.to_string(), ""))?;
        let (process, ready) = HostProcess::spawn(&program, &self.args, &key)?;
        // Dropping the process on any of these errors ends it.
        let line = match tokio::time::timeout(self.timeout, ready).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) => {
                process.end().await;
                return Err(ended(&process.exit_text(), &process.stderr()).into());
            }
            Err(_) => {
                let (timeout_ms, stderr) = (self.timeout.as_millis(), process.stderr());
                process.kill();
                return Err(StartError::Timeout { timeout_ms, stderr }.into());
            }
        };
        let Ok(Line { ready }) = serde_json::from_str::<Line>(&line) else {
            let cause = format!("it said `{}` where it should say that it is ready", line.trim_end());
            process.kill();
            return Err(ended(&cause, &process.stderr()).into());
        };
        let mut options = ConnectOptions::new().authkey(key).timeout(self.timeout);
        if let Some(pin) = ready.pin {
            options = options.pin(pin);
        }
        let (first, second) = if self.quic { (ready.quic, ready.unix) } else { (ready.unix, ready.quic) };
        let address = first.or(second).ok_or_else(|| ended("it listens nowhere", &process.stderr()))?;
        let session = options.session(&address).await?;
        tracing::info!(program = %program.display(), address, "started a host");
        Ok((process, session))
    }
}

fn ended(cause: &str, stderr: &str) -> StartError {
    StartError::Ended { cause: cause.to_owned(), stderr: stderr.to_owned() }
}

/// What a ready host prints.
#[derive(Deserialize)]
struct Line {
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    unix: Option<String>,
    quic: Option<String>,
    pin: Option<String>,
}

fn find_program() -> PathBuf {
    if let Some(program) = std::env::var_os("STEWARD_PROGRAM").filter(|program| !program.is_empty()) {
        return program.into();
    }
    let beside = std::env::current_exe().ok().and_then(|current| Some(current.parent()?.join("steward")));
    match beside {
        Some(beside) if beside.is_file() => beside,
        _ => PathBuf::from("steward"),
    }
}

/// A host that this process started. It is told to end when this is dropped.
#[derive(Debug)]
pub struct HostProcess {
    id: u32,
    child: Arc<Mutex<Child>>,
    lifeline: Mutex<Option<ChildStdin>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    exited: watch::Receiver<bool>,
}

impl HostProcess {
    /// Runs the program and gives it its key. The receiver gets its first line, or an error if it ends without one.
    fn spawn(
        program: &Path,
        args: &[OsString],
        key: &AuthKey,
    ) -> Result<(Self, oneshot::Receiver<String>), StartError> {
        let failed = |cause| StartError::Program { program: program.to_owned(), cause };
        let mut child = Command::new(program)
            .args(["serve", "--private", "--lifeline", "stdin"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(mut lifeline), Some(stdout), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let id = child.id();
        let child = Arc::new(Mutex::new(child));
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (ready_tx, ready) = oneshot::channel();
        let (exited_tx, exited) = watch::channel(false);
        // Two threads read until the pipes close, which is when the host has ended: they need nobody to join them.
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            if stdout.by_ref().take(READY_BYTES_MAX).read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let _ = ready_tx.send(line);
            } else {
                drop(ready_tx);
            }
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let (reaped, tail) = (Arc::clone(&child), Arc::clone(&stderr));
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = errors.read(&mut bytes) {
                let mut tail = tail.lock();
                tail.extend(&bytes[..read]);
                let surplus = tail.len().saturating_sub(STDERR_BYTES_MAX);
                tail.drain(..surplus);
            }
            // It may close its standard error and live on, and must stay killable: the lock is not held while it does.
            while reaped.lock().try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = exited_tx.send(true);
        });
        let process = Self { id, child, lifeline: Mutex::new(None), stderr, exited };
        // A program that does not read its key has ended: the other pipes tell.
        let _ = lifeline.write_all(key.to_hex().as_bytes()).and_then(|()| lifeline.write_all(b"\n"));
        *process.lifeline.lock() = Some(lifeline);
        Ok((process, ready))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its exit status, once it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().ok().flatten()
    }

    /// The end of what it wrote to its standard error, 4 KiB at most.
    pub fn stderr(&self) -> String {
        let bytes: Vec<u8> = self.stderr.lock().iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    fn exit_text(&self) -> String {
        match self.exit_status() {
            Some(status) => format!("it ended with {status}"),
            None => "it closed its output".into(),
        }
    }

    /// Tells it to end and waits for that; kills it after 10 s.
    pub(crate) async fn end(&self) {
        drop(self.lifeline.lock().take());
        let mut exited = self.exited.clone();
        if tokio::time::timeout(END_MAX, exited.wait_for(|exited| *exited)).await.is_err() {
            tracing::warn!(id = self.id, "host did not end in time and is killed");
            self.kill();
            let _ = exited.wait_for(|exited| *exited).await;
        }
    }

    fn kill(&self) {
        let _ = self.child.lock().kill();
    }
}
