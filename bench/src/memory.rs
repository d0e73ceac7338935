//! What things cost the host while nothing happens: sessions, locks, plugin objects.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use steward_client::Manager;

use crate::calls::connect;
use crate::proc::Process;
use crate::report::{Limit, Report};
use crate::servers::HostReady;

const SESSIONS: usize = 500;
const LOCKS: usize = 100_000;
const PLUGIN_OBJECTS: usize = 1_000;
const GIB: f64 = (1 << 30) as f64;
/// Calls under way while objects are made.
const AT_ONCE: usize = 64;

pub(crate) async fn measure(report: &mut Report, plugins: &Path, shared_objects: usize) -> Result<()> {
    let rounds = report.rounds.clamp(1, 3);
    let (mut shared, mut shared_us) = (Vec::new(), Vec::new());
    let wants_shared = report.wants(&["shared_object_bytes", "shared_objects_per_gib", "create_shared_us"]);
    let (mut sessions, mut locks, mut objects, mut dense) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut lock_us, mut object_us) = (Vec::new(), Vec::new());
    let wants_sessions = report.wants(&["idle_session_bytes"]);
    let wants_objects = report.wants(&[
        "lock_bytes",
        "plugin_object_bytes",
        "create_lock_us",
        "create_plugin_us",
        "locks_per_gib",
        "plugin_objects_per_gib",
        "dense_object_bytes",
        "dense_objects_per_gib",
    ]);
    if !wants_sessions && !wants_objects && !wants_shared {
        return Ok(());
    }
    // A host of its own for each measurement: memory that was used and freed before would not be seen again.
    for _ in 0..rounds {
        if wants_sessions {
            let (host, manager, address) = fresh(plugins, "fast").await?;
            let before = host.memory_bytes()?;
            let mut open = vec![manager];
            for _ in 0..SESSIONS {
                let session = connect(&address).await?;
                session.ping().await?;
                open.push(session);
            }
            sessions.push((host.memory_bytes()? - before) as f64 / SESSIONS as f64);
        }
        if wants_objects {
            let (host, manager, _) = fresh(plugins, "fast").await?;
            let (bytes, us) = create(&host, &manager, "Lock", LOCKS, false).await?;
            locks.push(bytes);
            lock_us.push(us);
            let (host, manager, _) = fresh(plugins, "fast").await?;
            let (bytes, us) = create(&host, &manager, "Leaderboard", PLUGIN_OBJECTS, true).await?;
            objects.push(bytes);
            object_us.push(us);
            let (host, manager, _) = fresh(plugins, "dense").await?;
            let (bytes, _) = create(&host, &manager, "Leaderboard", PLUGIN_OBJECTS, true).await?;
            dense.push(bytes);
        }
        if wants_shared {
            let (host, manager, _) = fresh_with(plugins, "fast", "shared").await?;
            let (bytes, us) = create(&host, &manager, "Leaderboard", shared_objects, true).await?;
            shared.push(bytes);
            shared_us.push(us);
        }
    }
    report.add("idle_session_bytes", "B", Limit::AtMost(80.0 * 1024.0), sessions);
    report.add("locks_per_gib", "", Limit::None, locks.iter().map(|bytes| GIB / bytes).collect());
    report.add("lock_bytes", "B", Limit::AtMost(360.0), locks);
    report.add("plugin_objects_per_gib", "", Limit::None, objects.iter().map(|bytes| GIB / bytes).collect());
    report.add("plugin_object_bytes", "B", Limit::AtMost(48.0 * 1024.0), objects);
    report.add("dense_objects_per_gib", "", Limit::None, dense.iter().map(|bytes| GIB / bytes).collect());
    // 100,000 in 3 GiB.
    report.add("dense_object_bytes", "B", Limit::AtMost(32_212.0), dense);
    report.add("shared_objects_per_gib", "", Limit::None, shared.iter().map(|bytes| GIB / bytes).collect());
    // A million in 1 GiB.
    report.add("shared_object_bytes", "B", Limit::AtMost(1_073.0), shared);
    report.add("create_shared_us", "us", Limit::None, shared_us);
    report.add("create_lock_us", "us", Limit::None, lock_us);
    report.add("create_plugin_us", "us", Limit::None, object_us);
    Ok(())
}

/// A new host, and a session with it in which one of everything was made: what the first costs is not what one costs.
async fn fresh(plugins: &Path, profile: &str) -> Result<(Process, Manager, String)> {
    fresh_with(plugins, profile, "object").await
}

async fn fresh_with(plugins: &Path, profile: &str, isolation: &str) -> Result<(Process, Manager, String)> {
    let [profile, isolation] = [format!("--profile={profile}"), format!("--isolation={isolation}")];
    let args = ["host".as_ref(), profile.as_ref(), isolation.as_ref(), "--plugins".as_ref(), plugins.as_os_str()];
    let (host, ready): (_, HostReady) = Process::start(&args)?;
    let manager = connect(&ready.quic).await?;
    manager.create("Lock", ()).await?;
    manager.create("Leaderboard", ()).await?.call_item("__len__", ()).await?;
    Ok((host, manager, ready.quic))
}

/// Makes `count` objects, keeps them, and says what one costs: the host's bytes, and microseconds with 64 under way.
async fn create(
    host: &Process,
    manager: &Manager,
    typeid: &'static str,
    count: usize,
    call: bool,
) -> Result<(f64, f64)> {
    let before = host.memory_bytes()?;
    let started = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                let mut made = Vec::new();
                for _ in 0..count / AT_ONCE {
                    let proxy = manager.create(typeid, ()).await?;
                    if call {
                        proxy.call_item("__len__", ()).await?;
                    }
                    made.push(proxy);
                }
                anyhow::Ok(made)
            })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        made.extend(task.await??);
    }
    let us = started.elapsed().as_secs_f64() * 1e6 / made.len() as f64;
    let bytes = host.memory_bytes()?.saturating_sub(before) as f64 / made.len() as f64;
    Ok((bytes, us))
}
