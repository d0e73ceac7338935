//! `steward check`: what a plugin offers, and what is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use steward_client::TypeInfo;
use steward_host::guest::{Birth, GuestConfig, Plugin};
use steward_objects::{Args, Outbox};
use steward_wire::{Effect, Ident};

use super::failure::{Outcome, Status};
use super::format::{Format, print};
use super::plugins;
use super::repr::printable;
use super::types::manual;

/// Loads a plugin in the sandbox and prints what it offers. Exits with 1 if there are findings.
///
/// Nothing of it runs outside the sandbox, and no host is needed.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward check limiter.wasm\n  steward check limiter.wasm --json")]
pub(crate) struct Check {
    /// The component.
    plugin: PathBuf,

    #[command(flatten)]
    pub(crate) format: Format,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    plugin: String,
    bytes: usize,
    load_ms: u128,
    types: Vec<Offered>,
    limits: Limits,
    findings: Vec<String>,
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
        let component = std::fs::read(&self.plugin).map_err(|error| plugins::unreadable(&self.plugin, &error))?;
        let mut config = plugins::config();
        // An author wants to know how long compiling takes, too.
        config.cache = None;
        let GuestConfig { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max, .. } = config;
        let limits = Limits { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max };
        let guests = plugins::guests(config)?;
        let name = self.plugin.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let started = Instant::now();
        let loaded = guests.load(&name, &component);
        let load_ms = started.elapsed().as_millis();
        let (types, findings) = match &loaded {
            Ok(plugin) => (offered(plugin), findings(plugin)),
            Err(error) => (Vec::new(), vec![error.to_string()]),
        };
        let plugin = self.plugin.display().to_string();
        let report = Report { plugin, bytes: component.len(), load_ms, types, limits, findings };
        if self.format.json {
            self.format.data(&report)?
        } else {
            print(&text(&report))?
        }
        Ok(ExitCode::from(if report.findings.is_empty() { 0 } else { Status::Raised as u8 }))
    }
}

fn offered(plugin: &Plugin) -> Vec<Offered> {
    let offered = plugin.types().iter().map(|offered| Offered {
        version: offered.version().to_owned(),
        saves: offered.saves(),
        info: offered.info().clone(),
    });
    offered.collect()
}

/// What its author should mend.
fn findings(plugin: &Plugin) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, offered) in plugin.types().iter().enumerate() {
        let info = offered.info();
        let typeid = &info.typeid;
        if steward_objects::builtin(typeid).is_some() {
            findings.push(format!(
                "type `{typeid}` has the name of a built-in type: a host registers it only under another"
            ));
        }
        if info.doc.trim().is_empty() {
            findings.push(format!("type `{typeid}` has no documentation"));
        }
        for method in info.methods.iter().filter(|method| method.exposed && method.doc.trim().is_empty()) {
            // Python's own names explain themselves.
            if !method.name.starts_with("__") && !method.name.starts_with('#') {
                findings.push(format!("method `{}` of `{typeid}` has no documentation", method.name));
            }
        }
        // Without arguments it may well raise, but never trap.
        let birth = Birth { tenant: "check", ident: Ident(1), now_ms: 1_000, seed: 1 };
        if let Err(fault) = plugin.create(index, Args::none(), birth, &mut Outbox::new(1))
            && fault.effect != Effect::Raised
        {
            findings.push(format!("creating a `{typeid}` without arguments: {}", fault.message));
        }
    }
    findings
}

fn text(report: &Report) -> String {
    let Report { plugin, bytes, load_ms, types, limits, findings } = report;
    let mut text = format!("{plugin}  {bytes} bytes, compiled and described in {load_ms} ms\n");
    for Offered { version, saves, info } in types {
        let saves = if *saves { "can be saved" } else { "cannot be saved: an upgrade loses its objects" };
        text.push_str(&format!("\n{} {version}, {saves}\n{}", printable(&info.typeid), manual(info)));
    }
    let Limits { step_cpu_ms, memory_bytes_max, wasm_stack_bytes, parked_max } = limits;
    text.push_str(&format!(
        "\nlimits of each object  {step_cpu_ms} ms of CPU a step, {} MiB of memory, {} KiB of stack, {parked_max} waiting calls\n",
        memory_bytes_max >> 20,
        wasm_stack_bytes >> 10,
    ));
    for finding in findings {
        text.push_str(&format!("finding: {}\n", printable(finding)));
    }
    if findings.is_empty() {
        text.push_str("no findings\n");
    }
    text
}
