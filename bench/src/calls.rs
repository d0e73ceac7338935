//! What calls cost: latency, throughput, and what disturbs them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use steward_client::{AnyValue, ConnectOptions, Dict, Manager, Proxy};

use crate::echo::{self, QuicEcho, UnixEcho, median};
use crate::proc::Process;
use crate::report::{Limit, Report};
use crate::servers::{self, EchoReady, HostReady};

/// Calls of one round of a latency.
const CALLS: usize = 1_000;
/// Turns that they are made in.
const TURNS: usize = 20;
/// Calls of one round of a throughput.
const MANY: usize = 40_000;
const IN_FLIGHT: usize = 64;
const LARGE: usize = 1 << 20;
const PARKED: usize = 10_000;

/// A value whose reply is as long as an echo.
const PAYLOAD: &str = "thirty-eight bytes, as an echo has them";

/// A connection to the host with the objects that are called.
struct Target {
    manager: Manager,
    /// A built-in dict and a plugin's, which answer the same.
    builtin: Proxy,
    plugin: Proxy,
}

impl Target {
    async fn connect(address: &str) -> Result<Self> {
        let manager = connect(address).await?;
        let builtin = manager.create("dict", ()).await?;
        let plugin = manager.create("GuestDict", ()).await?;
        for dict in [&builtin, &plugin] {
            dict.call::<()>("__setitem__", ("key", PAYLOAD)).await?;
            // A guest's steps move to the caller's thread once they have shown to be quick.
            for _ in 0..200 {
                dict.call::<AnyValue>("get", ("key",)).await?;
            }
        }
        Ok(Self { manager, builtin, plugin })
    }
}

/// Signs in to the bench's host.
pub(crate) async fn connect(address: &str) -> Result<Manager> {
    Ok(ConnectOptions::new().authkey(servers::authkey()).connect(address).await?)
}

/// Microseconds of one call.
async fn call(proxy: &Proxy) -> Result<f64> {
    let started = Instant::now();
    proxy.call_item("get", ("key",)).await?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

pub(crate) async fn measure(report: &mut Report, plugins: &Path) -> Result<()> {
    let (echo_process, echo): (_, EchoReady) = Process::start(&["echo".as_ref()])?;
    let (host, ready): (_, HostReady) = Process::start(&["host".as_ref(), "--plugins".as_ref(), plugins.as_os_str()])?;
    let quic = Target::connect(&ready.quic).await?;
    let unix = Target::connect(&ready.unix).await?;
    let mut quic_echo = QuicEcho::connect(echo.quic).await?;
    let mut unix_echo = UnixEcho::connect(&echo.unix).await?;
    latency(report, &quic, &unix, &mut quic_echo, &mut unix_echo, [&echo_process, &host]).await?;
    throughput(report, &quic, &mut quic_echo, &echo_process, &host).await?;
    beside_bulk(report, &quic, &mut quic_echo).await?;
    parked(report, &quic).await
}

async fn latency(
    report: &mut Report,
    quic: &Target,
    unix: &Target,
    quic_echo: &mut QuicEcho,
    unix_echo: &mut UnixEcho,
    [echo_process, host]: [&Process; 2],
) -> Result<()> {
    let names =
        ["quic_echo_us", "quic_builtin_us", "quic_plugin_us", "unix_echo_us", "unix_builtin_us", "unix_plugin_us"];
    let ratios =
        ["quic_builtin_over_echo", "unix_builtin_over_echo", "quic_plugin_over_builtin", "unix_plugin_over_builtin"];
    if !report.wants(&names) && !report.wants(&ratios) {
        return Ok(());
    }
    let cpus = [
        "quic_echo_server_cpu_us",
        "quic_builtin_server_cpu_us",
        "quic_plugin_server_cpu_us",
        "unix_echo_server_cpu_us",
        "unix_builtin_server_cpu_us",
        "unix_plugin_server_cpu_us",
    ];
    let mut columns: [Vec<f64>; 6] = Default::default();
    // What is compared with what.
    let pairs = [(1, 0), (4, 3), (2, 1), (5, 4)];
    let mut ratio_columns: [Vec<f64>; 4] = Default::default();
    let mut cpu_us: [Vec<f64>; 6] = Default::default();
    for _ in 0..report.rounds {
        // In short turns, so that a noisy moment falls on all of them.
        let mut round: [Vec<f64>; 6] = Default::default();
        for _ in 0..TURNS {
            for target in 0..round.len() {
                let process = if target % 3 == 0 { echo_process } else { host };
                let before = process.cpu_ns()?;
                let turn = CALLS / TURNS;
                round[target].push(match target {
                    0 => median(turn, async || quic_echo.round_trip(echo::BYTES).await).await?,
                    1 => median(turn, async || call(&quic.builtin).await).await?,
                    2 => median(turn, async || call(&quic.plugin).await).await?,
                    3 => median(turn, async || unix_echo.round_trip().await).await?,
                    4 => median(turn, async || call(&unix.builtin).await).await?,
                    _ => median(turn, async || call(&unix.plugin).await).await?,
                });
                cpu_us[target].push((process.cpu_ns()? - before) as f64 / 1e3 / turn as f64);
            }
        }
        for (column, (a, b)) in ratio_columns.iter_mut().zip(pairs) {
            column.push(crate::report::ratio_in_turns(&round[a], &round[b]));
        }
        for (column, mut turns) in columns.iter_mut().zip(round) {
            turns.sort_by(f64::total_cmp);
            column.push(crate::report::middle(&turns));
        }
    }
    let limits = [Limit::AtMost(1.15), Limit::AtMost(1.3), Limit::AtMost(1.05), Limit::None];
    for ((name, limit), column) in ratios.into_iter().zip(limits).zip(ratio_columns) {
        report.add(name, "x", limit, column);
    }
    for (name, column) in names.into_iter().zip(columns).chain(cpus.into_iter().zip(cpu_us)) {
        report.add(name, "us", Limit::None, column);
    }
    Ok(())
}

/// Calls per second with 64 under way: as many tasks, each with one call at a time.
async fn calls_per_s(proxy: &Proxy) -> Result<f64> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for _ in 0..MANY / IN_FLIGHT {
                    proxy.call_item("get", ("key",)).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(MANY as f64 / started.elapsed().as_secs_f64())
}

async fn throughput(
    report: &mut Report,
    quic: &Target,
    quic_echo: &mut QuicEcho,
    echo_process: &Process,
    host: &Process,
) -> Result<()> {
    let names = ["quic_echo_inflight64_per_s", "quic_inflight64_per_s", "quic_plugin_inflight64_per_s"];
    let cpus =
        ["quic_echo_inflight64_server_cpu_us", "quic_inflight64_server_cpu_us", "quic_plugin_inflight64_server_cpu_us"];
    let ratios = ["quic_inflight64_over_echo", "quic_plugin_inflight64_over_echo"];
    if ![&names[..], &cpus, &ratios].iter().any(|names| report.wants(names)) {
        return Ok(());
    }
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut cpu_us: [Vec<f64>; 3] = Default::default();
    for _ in 0..report.rounds {
        for target in 0..3 {
            let process = if target == 0 { echo_process } else { host };
            let before = process.cpu_ns()?;
            rates[target].push(match target {
                0 => quic_echo.throughput(IN_FLIGHT, MANY).await?,
                1 => calls_per_s(&quic.builtin).await?,
                _ => calls_per_s(&quic.plugin).await?,
            });
            cpu_us[target].push((process.cpu_ns()? - before) as f64 / 1e3 / MANY as f64);
        }
    }
    let ratio = |a: usize| rates[a].iter().zip(&rates[0]).map(|(a, b)| a / b).collect();
    report.add(ratios[0], "x", Limit::AtLeast(0.7), ratio(1));
    report.add(ratios[1], "x", Limit::AtLeast(0.5), ratio(2));
    for (name, column) in names.into_iter().zip(rates) {
        report.add(name, "1/s", Limit::None, column);
    }
    for (name, column) in cpus.into_iter().zip(cpu_us) {
        report.add(name, "us", Limit::None, column);
    }
    Ok(())
}

/// A small call while others of the same connection move a mebibyte, against a small echo behind a mebibyte on its stream.
async fn beside_bulk(report: &mut Report, quic: &Target, quic_echo: &mut QuicEcho) -> Result<()> {
    let names = ["small_behind_bulk_same_stream_us", "small_beside_bulk_us"];
    let ratio = "small_beside_bulk_over_same_stream";
    if !report.wants(&names) && !report.wants(&[ratio]) {
        return Ok(());
    }
    let large: Dict<String, String> = quic.manager.dict().await?;
    large.insert(&"large".to_owned(), &"x".repeat(LARGE)).await?;
    let large = large.proxy().clone();
    let (mut same, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..report.rounds {
        let on_same = median(20, async || quic_echo.behind(LARGE).await).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let mover = tokio::spawn({
            let (large, stop) = (large.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let moved = large.call_item("get", ("large",)).await?;
                    anyhow::ensure!(moved.bytes().len() > LARGE, "a mebibyte was moved");
                }
                anyhow::Ok(())
            }
        });
        let on_other = median(50, async || call(&quic.builtin).await).await?;
        stop.store(true, Ordering::Relaxed);
        mover.await??;
        same.push(on_same);
        beside.push(on_other);
        ratios.push(on_other / on_same);
    }
    report.add(ratio, "x", Limit::AtMost(0.2), ratios);
    for (name, column) in names.into_iter().zip([same, beside]) {
        report.add(name, "us", Limit::None, column);
    }
    Ok(())
}

/// A call while 10,000 others are parked in the same session, against the same call when none are.
async fn parked(report: &mut Report, quic: &Target) -> Result<()> {
    let name = "parked10k_over_idle";
    if !report.wants(&[name]) {
        return Ok(());
    }
    let queue = quic.manager.queue::<u64>(0).await?;
    let mut ratios = Vec::new();
    for _ in 0..report.rounds.min(7) {
        let idle = median(CALLS, async || call(&quic.builtin).await).await?;
        let mut waiting = tokio::task::JoinSet::new();
        // A few fewer than the session may park, which are left for the calls that are measured.
        for _ in 0..PARKED - 1 {
            let queue = queue.clone();
            waiting.spawn(async move { queue.get().await });
        }
        let mut waiters = 0;
        for _ in 0..1_000 {
            // The others send in their turns; how many are parked the host says.
            tokio::task::yield_now().await;
            waiters = quic.manager.objects().await?.iter().filter_map(|object| object.waiters).sum::<u64>();
            if waiters == PARKED as u64 - 1 {
                break;
            }
        }
        anyhow::ensure!(waiters == PARKED as u64 - 1, "{waiters} calls are parked");
        let parked = median(CALLS, async || call(&quic.builtin).await).await?;
        ratios.push(parked / idle);
        queue.put_many(&(0..PARKED as u64 - 1).collect::<Vec<_>>()).await?;
        while let Some(got) = waiting.join_next().await {
            got??;
        }
    }
    report.add(name, "x", Limit::AtMost(1.2), ratios);
    Ok(())
}
