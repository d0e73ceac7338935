//! The client's side of the kit: a process that works with the shared objects until it is told to finish, through lost
//! connections, pauses and lost sessions.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use steward_certify::SessionEnd;
use steward_client::{AuthKey, ConnectOptions, Manager};
use tokio::task::JoinSet;

use crate::caller::{Caller, Client, Stop};
use crate::journal::now_ns;
use crate::work;

/// The variable with the key, which must not stand in a command line.
pub const KEY: &str = "STEWARD_KEY";
/// How often a client says how far it is.
const TELL: Duration = Duration::from_millis(200);
/// How long one attempt to reach the host may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A client process. The kit starts it.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientRole {
    /// Where the host is, or the proxy before it.
    #[arg(long)]
    address: String,
    /// Which client it is.
    #[arg(long)]
    number: u32,
    /// How many tasks work at once.
    #[arg(long)]
    tasks: u64,
    /// What its tasks draw from.
    #[arg(long)]
    seed: u64,
    /// Where it writes down what it does.
    #[arg(long)]
    directory: PathBuf,
}

impl ClientRole {
    /// Its arguments in a command line.
    pub fn new(address: String, number: u32, tasks: u64, seed: u64, directory: PathBuf) -> Self {
        Self { address, number, tasks, seed, directory }
    }

    /// Which client it is.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The command line that plays it.
    pub fn to_args(&self) -> Vec<std::ffi::OsString> {
        let Self { address, number, tasks, seed, directory } = self;
        let (number, tasks, seed) = (number.to_string(), tasks.to_string(), seed.to_string());
        let texts = ["--address", address, "--number", &number, "--tasks", &tasks, "--seed", &seed, "--directory"]
            .map(Into::into);
        texts.into_iter().chain([directory.into()]).collect()
    }

    /// Works until standard input closes.
    ///
    /// # Errors
    /// If anything happens that no fault explains.
    pub fn run(&self) -> Result<()> {
        // A client that is stopped when its parent dies would stay for ever.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.work())
    }

    async fn work(&self) -> Result<()> {
        let authkey = AuthKey::from_hex(&std::env::var(KEY).context(KEY)?)?;
        let client = Client::new(self.number, &self.directory)?;
        let finish = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finish);
        // It ends with the process.
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            told.store(true, Ordering::Release);
        });
        let telling = tokio::spawn(tell(client.clone()));
        let mut rng = fastrand::Rng::with_seed(self.seed);
        while !finish.load(Ordering::Acquire) {
            let options = ConnectOptions::new().authkey(authkey.clone()).timeout(CONNECT);
            match options.connect(&self.address).await {
                Ok(manager) => self.session(&client, manager, &mut rng, &finish).await?,
                // In a blackout, or while the host is paused. It is another attempt's turn.
                Err(steward_client::Error::Connection { .. }) => tokio::time::sleep(TELL).await,
                Err(error) => return Err(error.into()),
            }
        }
        telling.abort();
        println!("{}", client.calls());
        Ok(())
    }

    /// Works in one session, until it is lost or the work is finished.
    async fn session(
        &self,
        client: &Client,
        manager: Manager,
        rng: &mut fastrand::Rng,
        finish: &Arc<AtomicBool>,
    ) -> Result<()> {
        let session = manager.session_number();
        let mut tasks = JoinSet::new();
        let mut is_lost = false;
        for owner in 1..=self.tasks {
            let Ok(mut task) = Caller::new(client, &manager, owner, rng.fork()).await else {
                is_lost = true;
                break;
            };
            let finish = Arc::clone(finish);
            tasks.spawn(async move {
                while !finish.load(Ordering::Acquire) {
                    work::play(&mut task).await?;
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            match ended? {
                Ok(()) => {}
                Err(Stop::Gone(_)) => is_lost = true,
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        // What a lost session did last, and so when it may have ended, stands in the records of its calls.
        let from_ns = now_ns();
        manager.close().await;
        if !is_lost {
            let end = SessionEnd { session, from_ns, until_ns: Some(now_ns()), orderly: true };
            client.session_ended(end)?;
        }
        Ok(())
    }
}

async fn tell(client: Client) {
    loop {
        println!("{}", client.calls());
        tokio::time::sleep(TELL).await;
    }
}
