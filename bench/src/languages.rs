//! What a call of a plugin costs in each language, against the same call of the built-in type that the plugins are modelled on.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use steward_client::{AnyValue, Proxy};

use crate::calls::connect;
use crate::echo::median;
use crate::proc::Process;
use crate::report::{Limit, Report, middle, ratio_in_turns};
use crate::servers::HostReady;

/// Calls of one turn, and turns of a round: short, so that a noisy moment falls on all languages.
const CALLS: usize = 50;
const TURNS: usize = 40;

/// Calls before anything is measured: steps of a guest move to the caller's thread once they have shown to be quick.
const CALLS_BEFORE: usize = 2_000;

const METHOD: &str = "__getitem__";
const KEY: (i64,) = (7,);

/// The built-in type, and the metric of its calls.
const BUILTIN: (&str, &str) = ("dict", "quic_int_builtin_us");

/// Type, the metrics of its calls, and how much longer than the built-in's they may take.
const GUESTS: [(&str, &str, &str, f64); 3] = [
    ("GuestDict", "quic_int_plugin_rust_us", "quic_plugin_rust_over_builtin", 1.05),
    ("GuestDictC", "quic_int_plugin_c_us", "quic_plugin_c_over_builtin", 1.05),
    ("GuestDictGo", "quic_int_plugin_go_us", "quic_plugin_go_over_builtin", 1.12),
];

/// A host of its own, with the same types in each language.
pub(crate) struct Languages {
    /// Ends when it is dropped.
    _host: Process,
    ready: HostReady,
}

impl Languages {
    /// Starts the host, if there is something to measure.
    pub(crate) fn start(report: &Report, plugins: &Path) -> Result<Option<Self>> {
        if !report.wants(&[BUILTIN.1]) && !GUESTS.iter().any(|(_, us, ratio, _)| report.wants(&[us, ratio])) {
            return Ok(None);
        }
        let arguments = ["host".as_ref(), "--plugins".as_ref(), plugins.as_os_str(), "--languages".as_ref()];
        let (_host, ready) = Process::start(&arguments)?;
        Ok(Some(Self { _host, ready }))
    }

    /// Measures a method with one integer, over QUIC.
    pub(crate) async fn measure(self, report: &mut Report) -> Result<()> {
        let manager = connect(&self.ready.quic).await?;
        let mut dicts = Vec::new();
        for typeid in [BUILTIN.0].into_iter().chain(GUESTS.map(|(typeid, ..)| typeid)) {
            let dict = manager.create(typeid, ()).await?;
            dict.call::<()>("__setitem__", (KEY.0, "seven")).await?;
            for _ in 0..CALLS_BEFORE {
                let answer = dict.call::<AnyValue>(METHOD, KEY).await?;
                ensure!(answer == AnyValue::Text("seven".into()), "{typeid} answers as the others do");
            }
            dicts.push(dict);
        }
        let mut columns: [Vec<f64>; GUESTS.len() + 1] = Default::default();
        let mut ratios: [Vec<f64>; GUESTS.len()] = Default::default();
        for _ in 0..report.rounds {
            let mut round: [Vec<f64>; GUESTS.len() + 1] = Default::default();
            for _ in 0..TURNS {
                for (turns, dict) in round.iter_mut().zip(&dicts) {
                    turns.push(median(CALLS, async || call(dict).await).await?);
                }
            }
            for (ratios, guest) in ratios.iter_mut().zip(&round[1..]) {
                ratios.push(ratio_in_turns(guest, &round[0]));
            }
            for (column, mut turns) in columns.iter_mut().zip(round) {
                turns.sort_by(f64::total_cmp);
                column.push(middle(&turns));
            }
        }
        let [builtin, guests @ ..] = columns;
        for (((_, us, ratio, limit), column), ratios) in GUESTS.into_iter().zip(guests).zip(ratios) {
            report.add(ratio, "x", Limit::AtMost(limit), ratios);
            report.add(us, "us", Limit::None, column);
        }
        report.add(BUILTIN.1, "us", Limit::None, builtin);
        Ok(())
    }
}

/// Microseconds of one call.
async fn call(dict: &Proxy) -> Result<f64> {
    let started = Instant::now();
    dict.call_item(METHOD, KEY).await?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}
