//! `steward-sim`: runs many seeds, or shows one.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

/// Simulates hosts and clients with faults, each seed another run.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Prints every event.
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, seed, trace } = Arguments::parse();
    let (from, seeds) = seed.map_or((from, seeds), |seed| (seed, 1));
    let (mut violations, mut steps, mut answers) = (0, 0, 0);
    let start = Instant::now();
    let mut told = start;
    for seed in from..from.saturating_add(seeds) {
        let run = if trace { steward_sim::trace(seed) } else { steward_sim::run(seed) };
        (steps, answers) = (steps + run.steps, answers + run.answers);
        if let Some(broken) = run.broken {
            violations += 1;
            println!("seed {seed}, step {}: {}", run.steps, broken.what);
            broken.events.iter().for_each(|event| println!("    {event}"));
            println!("  again: cargo xtask sim --seed {seed} --trace");
        } else if trace {
            println!("seed {seed}: {} steps, state {:016x}", run.steps, run.hash);
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            eprintln!("{} of {seeds} seeds, {violations} violations", seed - from + 1);
        }
    }
    eprintln!("{steps} steps, {answers} answers in {:.1} s", start.elapsed().as_secs_f64());
    println!("{seeds} seeds, {violations} violations");
    ExitCode::from(u8::from(violations > 0))
}
