//! `steward check`: what a plugin offers, what is wrong with it, and whether it can take the place of an earlier one.

mod against;
mod findings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use steward_build::Made;
use steward_client::TypeInfo;
use steward_host::guest::{GuestConfig, Guests, Plugin};

use super::failure::{Failure, Outcome, Status};
use super::format::{Format, print};
use super::plugins;
use super::repr::printable;
use super::types::manual;
use against::Upgrade;

/// Loads a plugin in the sandbox and prints what it offers. Exits with 1 if there are findings.
///
/// Nothing of it runs outside the sandbox, and no host is needed. Findings keep it from being used; warnings do not.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// The component.
    plugin: PathBuf,

    /// Earlier component that this one is to replace. Exits with 1 unless that is safe.
    #[arg(long, value_name = "OLD.wasm")]
    against: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: Format,
}

const EXAMPLES: &str = "\
Examples:
  steward check limiter.wasm
  steward check limiter.wasm --against released/limiter.wasm
  steward check limiter.wasm --json

What --against says of each type:
  safe         clients notice nothing but what is new
  breaking     objects move, but some calls that were right no longer are
  impossible   objects cannot move";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    plugin: String,
    bytes: usize,
    load_ms: u128,
    #[serde(flatten)]
    made: Made,
    types: Vec<Offered>,
    limits: Limits,
    findings: Vec<String>,
    warnings: Vec<String>,
    /// One for each type of the earlier plugin, if there is one to compare with.
    upgrades: Option<Vec<Upgrade>>,
}

#[derive(Serialize)]
struct Offered {
    version: String,
    /// Whether its objects can be saved, so that they survive an upgrade and a trap.
    saves: bool,
    #[serde(flatten)]
    info: TypeInfo,
}

/// What each object may use in this program's hosts.
#[derive(Serialize)]
struct Limits {
    step_cpu_ms: u64,
    memory_bytes_max: usize,
    wasm_stack_bytes: usize,
    parked_max: usize,
}

impl Check {
    pub(crate) fn run(self) -> Outcome {
        let component = read(&self.plugin)?;
        let mut config = plugins::authors_config();
        // An author wants to know how long compiling takes, too.
        config.cache = None;
        let GuestConfig { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max, .. } = config;
        let limits = Limits { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max };
        let guests = plugins::guests(config)?;
        let started = Instant::now();
        let loaded = load(&guests, &self.plugin, &component);
        let load_ms = started.elapsed().as_millis();
        let made = steward_build::inspect(&component).unwrap_or_default();
        let (mut findings, warnings) =
            (findings::of_component(&made, memory_bytes_max), findings::warnings(&made, &loaded));
        let types = match &loaded {
            Ok(plugin) => {
                findings.extend(findings::of_types(plugin));
                offered(plugin)
            }
            Err(error) => {
                // Of another world both say the same.
                if !findings.contains(error) {
                    findings.push(error.clone());
                }
                Vec::new()
            }
        };
        let upgrades = match (&self.against, &loaded) {
            (Some(old), Ok(new)) => {
                let old = load(&guests, old, &read(old)?).map_err(|error| {
                    Failure::new(Status::Refused, "BadPlugin", format!("{}: {error}", old.display()))
                })?;
                Some(against::compare(&old, new))
            }
            _ => None,
        };
        let is_safe = upgrades.iter().flatten().all(Upgrade::is_safe);
        let plugin = self.plugin.display().to_string();
        let bytes = component.len();
        let report = Report { plugin, bytes, load_ms, made, types, limits, findings, warnings, upgrades };
        if self.format.json {
            self.format.data(&report)?
        } else {
            print(&text(&report))?
        }
        Ok(ExitCode::from(if report.findings.is_empty() && is_safe { 0 } else { Status::Raised as u8 }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| plugins::unreadable(file, &error))
}

fn load(guests: &Guests, file: &Path, component: &[u8]) -> Result<Arc<Plugin>, String> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    guests.load(&name, component).map_err(|error| error.to_string())
}

fn offered(plugin: &Plugin) -> Vec<Offered> {
    let offered = plugin.types().iter().map(|offered| Offered {
        version: offered.version().to_owned(),
        saves: offered.saves(),
        info: offered.info().clone(),
    });
    offered.collect()
}

fn text(report: &Report) -> String {
    let Report { plugin, bytes, load_ms, made, types, limits, findings, warnings, upgrades } = report;
    let mut text = format!("{plugin}  {bytes} bytes, compiled and described in {load_ms} ms\n");
    let unknown = || "unknown".to_owned();
    text.push_str(&format!(
        "SDK {}, world {}  imports {}\ncode {} KiB, data {} KiB, memory from {} KiB\n",
        printable(&made.sdk.clone().unwrap_or_else(unknown)),
        printable(made.exported_world().or(made.world.as_deref()).unwrap_or("unknown")),
        if made.imports.is_empty() { "nothing".to_owned() } else { printable(&made.imports.join(", ")) },
        made.code_bytes.div_ceil(1 << 10),
        made.data_bytes.div_ceil(1 << 10),
        made.memory_bytes_min >> 10,
    ));
    for Offered { version, saves, info } in types {
        let saves = if *saves { "can be saved" } else { "cannot be saved" };
        text.push_str(&format!("\n{} {version}, {saves}\n{}", printable(&info.typeid), manual(info)));
    }
    let Limits { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max } = limits;
    text.push_str(&format!(
        "\nlimits of each object  {step_cpu_ms} ms of CPU a step, {} MiB of memory, {} KiB of stack, {parked_max} waiting calls\n",
        memory_bytes_max >> 20,
        wasm_stack_bytes >> 10,
    ));
    for upgrade in upgrades.iter().flatten() {
        text.push_str(&upgrade.text());
    }
    for warning in warnings {
        text.push_str(&format!("warning: {}\n", printable(warning)));
    }
    for finding in findings {
        text.push_str(&format!("finding: {}\n", printable(finding)));
    }
    if findings.is_empty() {
        text.push_str("no findings\n");
    }
    text
}
