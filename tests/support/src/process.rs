//! Clients in processes of their own, which tests kill.
//!
//! Such a process is the test binary once more. Its test `client_process` finds in the environment which role it has, and
//! plays it; anywhere else that test does nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use steward_host::AuthKey;

use crate::PATIENCE;
use crate::host::{TestHost, target};

const ROLE: &str = "STEWARD_TEST_ROLE";
const ADDRESS: &str = "STEWARD_TEST_ADDRESS";
const KEY: &str = "STEWARD_TEST_KEY";
/// Distinguishes what a role says from what the test harness prints.
const MARK: &str = "::";

/// What a client process is to do.
#[derive(Debug)]
pub struct Role {
    /// Its name, and an argument.
    pub name: String,
    /// Where the host is.
    pub address: String,
    /// The admin's key.
    pub authkey: AuthKey,
}

impl Role {
    /// Tells the parent something: one line.
    ///
    /// # Panics
    /// If the parent is gone.
    pub fn say(&self, line: &str) {
        // Not `println!`, which the test harness keeps for itself.
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{MARK}{line}").and_then(|()| stdout.flush()).expect("the parent listens");
    }

    /// Waits until the parent says something, or is gone.
    pub fn wait(&self) {
        let mut line = String::new();
        // Its end means the same as a line: nobody wants anything more of this process.
        let _ = std::io::stdin().read_line(&mut line);
    }
}

/// The role of this process, if it has one.
pub fn role() -> Option<Role> {
    let name = std::env::var(ROLE).ok()?;
    let address = std::env::var(ADDRESS).expect("whoever gives a role gives an address");
    let key = std::env::var(KEY).expect("whoever gives a role gives a key");
    Some(Role { name, address, authkey: AuthKey::from_hex(&key).expect("a key in hex") })
}

/// A client in a process of its own. Dropping it kills it.
#[derive(Debug)]
pub struct ClientProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl ClientProcess {
    /// Starts one that plays `role` with the host at `address`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(host: &TestHost, address: &str, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
        command.env(ADDRESS, address).env(KEY, &**host.authkey.to_hex());
        Self::run(command, role)
    }

    /// Starts one that needs no host.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_alone(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
        command.env(ADDRESS, "").env(KEY, "00".repeat(AuthKey::BYTES_MIN));
        Self::run(command, role)
    }

    fn run(mut command: Command, role: &str) -> Self {
        command.args(["--exact", "client_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the test binary runs once more");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("asked for"));
        let (tx, lines) = channel();
        // Ends with the process, whose output it reads.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The harness may leave its own words on the line before.
                if let Some((_, said)) = line.split_once(MARK)
                    && tx.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, stdin, lines }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// If none comes.
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the client process says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the client process ended without a word"),
        }
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            stdin.write_all(b"\n").expect("the client process listens");
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Lets it go on and waits for its good end.
    ///
    /// # Panics
    /// If it fails.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "the client process failed: {status}");
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// The program `steward` of this checkout.
///
/// # Panics
/// If it is not built, naming the command that does.
pub fn steward_program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
    assert!(profile.starts_with(target()));
    let program = profile.join("steward");
    assert!(
        program.is_file(),
        "{} is not built: run `cargo build -p steward-host --bin steward` first",
        program.display()
    );
    program
}
