//! What several test crates need: a host to talk to, its types stepped by hand, a client that may misbehave, processes
//! that can be killed, and networks that lose what they carry.
//!
//! Nothing here sleeps so that something may happen. What cannot be awaited is asked for again until it is so, at most [`PATIENCE`]
//! long.

#[path = "../../../objects/tests/support/mod.rs"]
pub mod driver;
mod host;
mod process;
mod raw;
mod relay;
#[path = "../../guests/changeling/versions.rs"]
mod versions;

use std::time::{Duration, Instant};

pub use host::{HostOptions, TestHost, component, plugin, spawn_host};
pub use process::{ClientProcess, Role, role, steward_program};
pub use raw::{RawClient, RawReply, call_frame};
pub use relay::Relay;
use steward_client::{Manager, Proxy};
pub use versions::version;

/// How long a test waits for what must happen, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the processor is left to others between two looks.
pub(crate) const PACE: Duration = Duration::from_millis(1);

/// Asks again until `ask` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // Not for anything to happen meanwhile: whoever is to make it so needs the processor more than this does.
        tokio::time::sleep(PACE).await;
    }
}

/// Waits for `future`, at most [`PATIENCE`] long.
///
/// # Panics
/// After that, naming `what`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Waits until exactly `count` calls are parked in the object.
pub async fn parked(admin: &Manager, object: &Proxy, count: u64) {
    let ident = object.ident().0;
    until(&format!("{count} calls wait in object {ident}"), async || {
        let objects = admin.objects().await.expect("the host lists its objects");
        let line = objects.into_iter().find(|line| line.ident == ident).expect("the object is listed");
        (line.waiters == Some(count)).then_some(())
    })
    .await;
}
