//! From a command to a session: which host, as whom, and what happens on the way out.

use std::path::PathBuf;

use clap::Args;
use steward_client::{AuthKey, ConnectOptions, Error, Manager};
use steward_wire::Address;

use super::failure::{Failure, Status};
use super::format::say;

/// Which host a command talks to. A flag wins over the environment, which wins over the context.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// Context to use, or an address: `steward://host:port`, `steward+unix:///path`. [default: the current context]
    #[arg(short, long, env = "STEWARD_CONTEXT", value_name = "NAME|ADDRESS")]
    context: Option<String>,

    /// Tenant to sign in to.
    #[arg(long, env = "STEWARD_TENANT", value_name = "NAME", hide_short_help = true)]
    tenant: Option<String>,

    /// Which of the tenant's keys to sign in with.
    #[arg(long, env = "STEWARD_KEY_ID", value_name = "NAME", hide_short_help = true)]
    key_id: Option<String>,

    /// File with the key in hex. The key itself may be in STEWARD_KEY, but never in an argument.
    #[arg(long, env = "STEWARD_KEY_FILE", value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    /// The host's certificate, as `sha256:…`.
    #[arg(long, env = "STEWARD_PIN", value_name = "PIN", hide_short_help = true)]
    pin: Option<String>,
}

impl Connect {
    /// Connects, does the work and says goodbye. An interrupt gives the work up, its call in the host included.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(Manager) -> Result<T, Failure>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        runtime.block_on(async {
            // Each branch may be dropped: connecting leaves nothing behind, and a dropped call is cancelled in the host.
            let manager = tokio::select! {
                connected = self.connect() => connected?,
                _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
            };
            if is_remote(manager.address()) {
                say(&format!("at {}", manager.address()));
            }
            let outcome = tokio::select! {
                outcome = work(manager.clone()) => outcome,
                _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            };
            manager.close().await;
            outcome
        })
    }

    async fn connect(&self) -> Result<Manager, Failure> {
        let mut options = ConnectOptions::new();
        if let Some(tenant) = &self.tenant {
            options = options.tenant(tenant);
        }
        if let Some(key_id) = &self.key_id {
            options = options.key_id(key_id);
        }
        if let Some(pin) = &self.pin {
            options = options.pin(pin);
        }
        let in_environment = std::env::var("STEWARD_KEY").ok().filter(|key| !key.is_empty());
        match (&self.key_file, in_environment) {
            (Some(file), _) => options = options.key_file(file),
            (None, Some(key)) => {
                let key = AuthKey::from_hex(&key).map_err(|error| {
                    Failure::new(Status::NotConnected, "BadConfig", format!("STEWARD_KEY: {error}"))
                        .hint("a key is 64 hex digits or more: `steward serve` makes one")
                })?;
                options = options.authkey(key);
            }
            (None, None) => {}
        }
        let target = self.context.as_deref().unwrap_or_default();
        options.connect(target).await.map_err(|error| match &error {
            Error::Config(_) if error.to_string().starts_with("no key for") => {
                Failure::from(error).hint("name its file with --key-file, or put the key into STEWARD_KEY")
            }
            Error::Config(steward_client::ConfigError::NoContext { .. }) => {
                Failure::from(error).hint("`steward serve` makes the context `local`, `steward context add` any other")
            }
            _ => error.into(),
        })
    }
}

/// Whether a mistake would be made on another machine.
fn is_remote(address: &str) -> bool {
    match address.parse() {
        Ok(Address::Quic { host, .. }) => {
            let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
            !loopback && host != "localhost"
        }
        _ => false,
    }
}

/// The system gave no means to wait for anything.
pub(crate) fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(Status::Refused, "NotStarted", format!("cannot start: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_machine_is_remote() {
        assert!(is_remote("steward://10.0.0.7:7777"));
        assert!(is_remote("steward://prod:7777"));
        assert!(!is_remote("steward://127.0.0.1:7777"));
        assert!(!is_remote("steward://[::1]:7777"));
        assert!(!is_remote("steward://localhost:7777"));
        assert!(!is_remote("steward+unix:///run/steward.sock"));
    }
}
