//! `steward-sim`: runs many seeds, or shows one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use steward_sim::Run;

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

/// What all threads have done.
#[derive(Default)]
struct Sum {
    done: u64,
    violations: u64,
    steps: u64,
    answers: u64,
    told: Option<Instant>,
}

impl Sum {
    fn add(&mut self, seed: u64, seeds: u64, run: &Run) {
        self.done += 1;
        (self.steps, self.answers) = (self.steps + run.steps, self.answers + run.answers);
        if let Some(broken) = &run.broken {
            self.violations += 1;
            println!("seed {seed}, step {}: {}", run.steps, broken.what);
            broken.events.iter().for_each(|event| println!("    {event}"));
            println!("  again: cargo xtask sim --seed {seed} --trace");
        }
        if self.told.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(5) {
            self.told = Some(Instant::now());
            eprintln!("{} of {seeds} seeds, {} violations", self.done, self.violations);
        }
    }
}

fn main() -> ExitCode {
    let Arguments { seeds, from, seed, trace } = Arguments::parse();
    let (from, seeds) = seed.map_or((from, seeds), |seed| (seed, 1));
    let start = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(0);
    // A run has a thread to itself, so runs do not see one another.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds {
                        return;
                    }
                    let seed = from + at;
                    let run = if trace { steward_sim::trace(seed) } else { steward_sim::run(seed) };
                    if trace {
                        println!("seed {seed}: {} steps, state {:016x}", run.steps, run.hash);
                    }
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(seed, seeds, &run);
                }
            });
        }
    });
    let Sum { violations, steps, answers, .. } = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{steps} steps, {answers} answers in {:.1} s", start.elapsed().as_secs_f64());
    println!("{seeds} seeds, {violations} violations");
    ExitCode::from(u8::from(violations > 0))
}
