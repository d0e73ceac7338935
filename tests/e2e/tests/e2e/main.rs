//! Whole programs against a host, and peers that are none.

mod bindings;
mod crowds;
mod deadlines;
mod deadlocks;
mod deaths;
mod delivery;
mod floors;
mod goodbyes;
mod guards;
mod hostile;
mod lifetimes;
mod limits;
mod moving;
mod own_host;
mod sessions;
mod sign_in;
mod stops;
mod types;
mod upgrades;
mod values;
mod waiting;

#[path = "../../load.rs"]
mod load;

use steward_test_support::{HostOptions, TestHost, role, spawn_host};

/// The other side of [`steward_test_support::ClientProcess`]: does nothing where there is no role.
#[test]
fn client_process() {
    let Some(role) = role() else { return };
    match role.name.as_str() {
        "start a host" => own_host::play(&role),
        "serve" | "serve short" | "serve hasty" | "serve brief" => stops::play_host(&role),
        "write late" => stops::play_writer(&role),
        name if name.starts_with("leave ") => goodbyes::play(&role),
        _ => deaths::play(&role),
    }
}

/// A host that notices silent clients within a second or two.
fn quick_host() -> TestHost {
    quick_host_with(&[])
}

fn quick_host_with(plugins: &'static [&'static str]) -> TestHost {
    let mut options = HostOptions { plugins, ..HostOptions::default() };
    options.limits.lease_ms = 1_000;
    spawn_host(options)
}

/// Runs a test on either transport.
macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident => $test:ident;)+) => { $(
        mod $name {
            #[tokio::test]
            async fn over_unix() {
                super::$test(false).await;
            }

            #[tokio::test]
            async fn over_quic() {
                super::$test(true).await;
            }
        }
    )+ };
}

pub(crate) use on_both;
