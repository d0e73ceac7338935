//! A host in a process of its own, which the kit stops and continues.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use steward_client::{AuthKey, ConnectOptions, Manager};
use tempfile::TempDir;

use crate::process::Signals;

/// A directory of one's own, which a host's socket may lie in.
///
/// # Errors
/// If the system refuses.
pub fn scratch(name: &str) -> std::io::Result<TempDir> {
    // A host takes none that others may enter.
    tempfile::Builder::new().prefix(name).permissions(Permissions::from_mode(0o700)).tempdir()
}

/// How a host is started.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The program `steward`.
    pub program: PathBuf,
    /// Components whose types it is to have.
    pub plugins: Vec<PathBuf>,
    /// How long a silent session lives.
    pub lease_ms: u64,
}

/// A host process. Dropping it ends it.
#[derive(Debug)]
pub struct HostProcess {
    child: Child,
    /// The host ends when this closes.
    _lifeline: ChildStdin,
    /// Where QUIC listens.
    pub quic: SocketAddr,
    /// The Unix socket.
    pub unix: PathBuf,
    /// The admin's key.
    pub authkey: AuthKey,
}

#[derive(Deserialize)]
struct Line {
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    unix: String,
    quic: String,
}

impl HostProcess {
    /// Starts a host with a socket in `directory`, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start, or says something else.
    pub fn start(options: &HostOptions, directory: &Path) -> Result<Self> {
        let mut key = vec![0; AuthKey::BYTES_MIN];
        getrandom::fill(&mut key).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
        let authkey = AuthKey::new(key).context("the key is long enough")?;
        let mut command = Command::new(&options.program);
        command.args(["serve", "--lifeline", "stdin", "--json", "--quic", "127.0.0.1:0", "--drain-ms", "500"]);
        // All clients come from one address, and those that reconnect leave their last connection behind for a while.
        command.args(["--connections-per-source-max", "20000", "--lease-ms", &options.lease_ms.to_string()]);
        command.arg("--unix").arg(directory.join("host.sock"));
        for plugin in &options.plugins {
            command.arg("--plugin").arg(plugin);
        }
        let program = options.program.display();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let (Some(mut lifeline), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut line = String::new();
        let started = (|| {
            lifeline.write_all(authkey.to_hex().as_bytes())?;
            lifeline.write_all(b"\n")?;
            BufReader::new(stdout).read_line(&mut line)
        })();
        let ready = started.map_err(anyhow::Error::from).and_then(|_| Ok(serde_json::from_str::<Line>(&line)?.ready));
        let mut host = match ready.with_context(|| format!("{program} is not ready, it said `{}`", line.trim_end())) {
            Ok(ready) => Self {
                child,
                _lifeline: lifeline,
                quic: ready.quic.trim_start_matches("steward://").parse().context("the host's QUIC address")?,
                unix: ready.unix.trim_start_matches("steward+unix://").into(),
                authkey,
            },
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        ensure!(host.exit_status().is_none(), "the host has ended");
        Ok(host)
    }

    /// How its admin signs in.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new().authkey(self.authkey.clone())
    }

    /// Signs in over its Unix socket, without any fault between.
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`].
    pub async fn connect(&self) -> Result<Manager> {
        Ok(self.options().connect(&format!("steward+unix://{}", self.unix.display())).await?)
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Signals for HostProcess {
    fn child(&self) -> &Child {
        &self.child
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
