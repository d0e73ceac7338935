//! Metrics: their rounds, their limits, their printing.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;

/// One metric over all rounds.
#[derive(Serialize)]
struct Metric {
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    unit: &'static str,
    limit: Option<f64>,
    #[serde(skip)]
    least: bool,
}

/// What was measured.
pub(crate) struct Report {
    pub(crate) rounds: usize,
    only: String,
    metrics: BTreeMap<&'static str, Metric>,
}

/// Which side of a limit is good.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    pub(crate) fn new(rounds: usize, only: &str) -> Self {
        Self { rounds, only: only.to_owned(), metrics: BTreeMap::new() }
    }

    /// Whether any of these metrics was asked for.
    pub(crate) fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| name.contains(&self.only))
    }

    /// Takes a metric's rounds.
    pub(crate) fn add(&mut self, name: &'static str, unit: &'static str, limit: Limit, mut runs: Vec<f64>) {
        if !name.contains(&self.only) || runs.is_empty() {
            return;
        }
        runs.sort_by(f64::total_cmp);
        let (limit, least) = match limit {
            Limit::None => (None, false),
            Limit::AtMost(limit) => (Some(limit), false),
            Limit::AtLeast(limit) => (Some(limit), true),
        };
        let (median, min, max) = (middle(&runs), runs[0], runs[runs.len() - 1]);
        let metric = Metric { median, min, max, runs: runs.len(), unit, limit, least };
        eprintln!("{}", line(name, &metric));
        self.metrics.insert(name, metric);
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.metrics)?);
        } else {
            for (name, metric) in &self.metrics {
                println!("{}", line(name, metric));
            }
        }
        Ok(())
    }

    /// Fails if a median is beyond its limit.
    pub(crate) fn check(&self) -> Result<()> {
        let missed: Vec<_> = self.metrics.iter().filter(|(_, metric)| metric.missed()).map(|(name, _)| *name).collect();
        if !missed.is_empty() {
            bail!("beyond their limits: {}", missed.join(", "));
        }
        Ok(())
    }
}

impl Metric {
    fn missed(&self) -> bool {
        self.limit.is_some_and(|limit| if self.least { self.median < limit } else { self.median > limit })
    }
}

/// How many times as much the one takes as the other, of both measured in turns: each turn is compared with the other's beside it, so that
/// what changes on the machine meanwhile falls on both.
pub(crate) fn ratio_in_turns(one: &[f64], other: &[f64]) -> f64 {
    let mut ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    ratios.sort_by(f64::total_cmp);
    middle(&ratios)
}

/// The median of sorted numbers.
pub(crate) fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

fn line(name: &str, metric: &Metric) -> String {
    let limit = match metric.limit {
        Some(limit) => {
            let (side, met) =
                (if metric.least { "at least" } else { "at most" }, if metric.missed() { "MISSED" } else { "met" });
            format!("  {side} {limit}: {met}")
        }
        None => String::new(),
    };
    let Metric { median, min, max, runs, unit, .. } = metric;
    format!("{name:42} {median:>12.3} {unit:6} [{min:.3} … {max:.3}] {runs} runs{limit}")
}
