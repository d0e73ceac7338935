//! `steward doctor`: what this machine has, lacks, and what would mend it.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use steward_build::{BuildError, Language};
use steward_host::guest::{Compiler, GuestConfig, MemoryProfile, Profile};

use super::connect::Connect;
use super::failure::{Outcome, Status};
use super::format::Format;
use super::{build, paths, plugins};

/// Looks at what a host and an author need: compilers, limits, folders, a host that answers. Changes nothing.
///
/// Exits with 1 if something is broken. What is merely missing, a compiler for a language that you may not use, is said, too.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  steward doctor\n  steward doctor -c prod --json")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    detail: String,
    fix: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Missing,
    Broken,
}

/// `vm.max_map_count` for as many objects of plugins as can be laid out fast. More are of no use: then address space ends.
const MAPS_WANTED: u64 = 105_000;

/// Files and sockets that a host with many clients opens.
const FILES_WANTED: u64 = 4_096;

impl Doctor {
    pub(crate) fn run(self) -> Outcome {
        let mut findings = vec![Finding {
            what: "steward",
            state: State::Ok,
            detail: format!("{}, world {}", env!("CARGO_PKG_VERSION"), steward_build::WORLD),
            fix: None,
        }];
        findings.extend(Language::ALL.map(compiler));
        findings.push(cache());
        findings.push(maps());
        findings.push(locked());
        findings.push(files());
        findings.push(guests());
        findings.push(self.host());

        let row = |finding: &Finding| {
            let state = match finding.state {
                State::Ok => "ok",
                State::Missing => "missing",
                State::Broken => "broken",
            };
            let fix = finding.fix.clone().unwrap_or_default();
            vec![finding.what.to_owned(), state.to_owned(), finding.detail.clone(), fix]
        };
        let rows: Vec<_> = findings.iter().map(row).collect();
        self.format.table(&["what", "state", "detail", "fix"], &rows, &findings)?;
        let broken = findings.iter().any(|finding| finding.state == State::Broken);
        Ok(ExitCode::from(if broken { Status::Raised as u8 } else { 0 }))
    }

    fn host(&self) -> Finding {
        let answer = self.connect.run(async |manager| {
            manager.ping().await?;
            Ok(manager.address().to_owned())
        });
        match answer {
            Ok(address) => {
                Finding { what: "host", state: State::Ok, detail: format!("answers at {address}"), fix: None }
            }
            Err(failure) => Finding { what: "host", state: State::Missing, detail: failure.message, fix: failure.hint },
        }
    }
}

fn compiler(language: Language) -> Finding {
    let what = match language {
        Language::Rust => "plugins in Rust",
        Language::C => "plugins in C",
        Language::Go => "plugins in Go",
    };
    let probed = build::toolchains(false).map_err(|failure| (failure.message, failure.hint)).and_then(|toolchains| {
        steward_build::probe(language, Path::new("."), &toolchains).map_err(|error| match error {
            BuildError::Missing { what, fix } => (format!("{what} not found"), Some(fix)),
            error => (error.to_string(), None),
        })
    });
    match probed {
        Ok(detail) => Finding { what, state: State::Ok, detail, fix: None },
        Err((detail, fix)) => Finding { what, state: State::Missing, detail, fix },
    }
}

fn cache() -> Finding {
    let what = "cache folder";
    let dir = match paths::cache_dir() {
        Ok(dir) => dir,
        Err(failure) => return Finding { what, state: State::Broken, detail: failure.message, fix: failure.hint },
    };
    // The one way to know whether it can be written.
    let probe = dir.join(format!("doctor.{}", std::process::id()));
    let written = std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&probe, ""))
        .and_then(|()| std::fs::remove_file(&probe));
    let shown = dir.display();
    match written {
        Ok(()) => Finding { what, state: State::Ok, detail: shown.to_string(), fix: None },
        Err(error) => {
            let fix = Some(format!("make {shown} yours, or set XDG_CACHE_HOME"));
            Finding { what, state: State::Broken, detail: format!("{shown}: {error}"), fix }
        }
    }
}

/// How many objects of plugins the kernel's limit of memory maps leaves room for, where each has maps of its own.
fn maps() -> Finding {
    let what = "vm.max_map_count";
    let MemoryProfile { objects_max, max_map_count, .. } = MemoryProfile::here(Profile::Fast, u32::MAX);
    let wanted = GuestConfig::new(Compiler::InProcess).objects_max;
    let detail = format!(
        "{max_map_count}: up to {objects_max} objects of plugins laid out fast; laid out dense they do not count on it"
    );
    if objects_max >= wanted {
        return Finding { what, state: State::Ok, detail, fix: None };
    }
    let fix = format!(
        "sudo sysctl -w vm.max_map_count={MAPS_WANTED}, and in /etc/sysctl.d to keep it; or steward serve --profile dense"
    );
    Finding { what, state: State::Missing, detail, fix: Some(fix) }
}

/// Memory that may be locked: a limit that people meet with other sandboxes, and here do not.
fn locked() -> Finding {
    let limit = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{} KiB", bytes >> 10),
        None => "no limit".to_owned(),
    };
    let detail = format!("{limit}: a host locks none, so any limit will do");
    Finding { what: "memlock", state: State::Ok, detail, fix: None }
}

fn files() -> Finding {
    let what = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(files) if files < FILES_WANTED => Finding {
            what,
            state: State::Missing,
            detail: format!("{files}: room for fewer connections than a host allows"),
            fix: Some(format!("ulimit -n {FILES_WANTED}")),
        },
        files => Finding {
            what,
            state: State::Ok,
            detail: files.map_or_else(|| "no limit".to_owned(), |files| files.to_string()),
            fix: None,
        },
    }
}

/// Whether guests can run at all: that takes address space, and a thread.
fn guests() -> Finding {
    let what = "sandbox";
    match plugins::guests(plugins::config()) {
        Ok(guests) => Finding { what, state: State::Ok, detail: guests.memory_profile().to_string(), fix: None },
        Err(failure) => Finding {
            what,
            state: State::Broken,
            detail: failure.message,
            fix: Some("ulimit -v unlimited; a container needs address space, not memory".to_owned()),
        },
    }
}
