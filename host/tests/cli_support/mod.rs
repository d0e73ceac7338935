//! A home directory for one test, and the real program in it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing that a test waits for takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A home directory of its own; whatever `steward` keeps lies below it.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        // Short, for the sake of the socket's path.
        Self(tempfile::Builder::new().prefix("st").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STEWARD_") || name.to_string_lossy().starts_with("XDG_") {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path()).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a command that must do what it says, and gives what it printed.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        ran.stdout
    }

    /// Runs a command that must end with `status` and say `what` on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], status: i32, what: &str) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, status, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(what), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "stdout is data");
        ran
    }

    /// A host with a port of its own, ready.
    pub(crate) fn serve(&self, args: &[&str]) -> Host {
        let mut all = vec!["serve", "--quic", "127.0.0.1:0"];
        all.extend(args);
        let host = Host::start(self.command(&all));
        host.wait_for("ready in");
        host
    }

    /// Looks, a round trip at a time, until a call waits in some object.
    pub(crate) fn wait_for_waiter(&self) {
        let started = Instant::now();
        while self.done(&["objects", "--waiting"]).is_empty() {
            assert!(started.elapsed() < PATIENCE, "no call waits");
        }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.path().join(".local/share/steward/keys/default.key")
    }
}

/// A running process, and what it says on stderr.
pub(crate) struct Host {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Host {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line on stderr that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("never said `{text}` ({error}): {before:#?}"),
            }
        }
    }

    /// The first line on stdout, which says that it is ready.
    pub(crate) fn ready(&mut self) -> serde_json::Value {
        let mut line = String::new();
        let mut stdout = BufReader::new(self.child.stdout.as_mut().unwrap());
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The status it ended with; none if a signal ended it.
    pub(crate) fn ended_status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
