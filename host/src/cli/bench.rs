//! `steward bench`: how long a call takes and how many fit into a second, against the current host.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use steward_client::{Manager, Proxy};

use super::call::seconds;
use super::connect::Connect;
use super::failure::{Failure, Outcome};
use super::format::Format;

/// Measures calls of `Value.get`: latency one by one, then throughput with many in flight.
///
/// It uses an object of its own and leaves nothing behind. What is measured includes this program.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward bench\n  steward bench -c prod --in-flight 256 --seconds 5")]
pub(crate) struct Bench {
    /// Calls in flight while throughput is measured.
    #[arg(long, default_value = "64", value_name = "N")]
    in_flight: NonZeroUsize,

    /// Seconds for each of the two.
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    seconds: Duration,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

/// Latencies that are kept; longer measuring keeps the first ones.
const SAMPLES_MAX: usize = 1_000_000;

#[derive(Serialize)]
struct Report {
    address: String,
    calls: usize,
    p50_us: f64,
    p99_us: f64,
    in_flight: usize,
    calls_per_s: f64,
}

impl Bench {
    pub(crate) fn run(self) -> Outcome {
        let Self { in_flight, seconds, format, connect } = self;
        let in_flight = in_flight.get();
        let report = connect.run(async |manager| measure(&manager, in_flight, seconds).await)?;
        let Report { address, calls, p50_us, p99_us, calls_per_s, .. } = &report;
        let row = [
            address.clone(),
            calls.to_string(),
            format!("{p50_us:.1}"),
            format!("{p99_us:.1}"),
            in_flight.to_string(),
            format!("{calls_per_s:.0}"),
        ];
        let columns = ["address", "calls", "p50 µs", "p99 µs", "in flight", "calls/s"];
        format.table(&columns, &[row.to_vec()], &report)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn measure(manager: &Manager, in_flight: usize, duration: Duration) -> Result<Report, Failure> {
    let value = manager.create("Value", ("i", 0)).await?;
    // The first call asks for the type's methods, too.
    get(&value).await?;

    let mut latencies_us = Vec::new();
    let started = Instant::now();
    while latencies_us.is_empty() || started.elapsed() < duration && latencies_us.len() < SAMPLES_MAX {
        let sent = Instant::now();
        get(&value).await?;
        latencies_us.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    latencies_us.sort_by(f64::total_cmp);
    let percentile = |hundredth: usize| latencies_us[(latencies_us.len() - 1) * hundredth / 100];

    let started = Instant::now();
    let mut lines = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let value = value.clone();
        lines.spawn(async move {
            let mut calls: u64 = 0;
            while started.elapsed() < duration {
                get(&value).await?;
                calls += 1;
            }
            Ok::<_, Failure>(calls)
        });
    }
    let mut calls = 0;
    while let Some(line) = lines.join_next().await {
        calls += line.expect("a line neither panics nor is aborted")?;
    }
    Ok(Report {
        address: manager.address().to_owned(),
        calls: latencies_us.len(),
        p50_us: percentile(50),
        p99_us: percentile(99),
        in_flight,
        calls_per_s: calls as f64 / started.elapsed().as_secs_f64(),
    })
}

async fn get(value: &Proxy) -> Result<(), Failure> {
    value.call_item("get", ()).await?;
    Ok(())
}
