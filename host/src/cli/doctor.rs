//! `steward doctor`: what this machine has, lacks, and what would mend it.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use steward_build::{BuildError, Language};

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

/// Memory maps that a hundred thousand objects or so need, in the profile that is fast: the kernel's default is for fewer.
const MAPS_WANTED: u64 = 262_144;

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

fn maps() -> Finding {
    let what = "vm.max_map_count";
    let maps =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match maps {
        Some(maps) if maps < MAPS_WANTED => Finding {
            what,
            state: State::Missing,
            detail: format!("{maps}: room for fewer objects of plugins than memory would allow"),
            fix: Some(format!("sudo sysctl -w vm.max_map_count={MAPS_WANTED}")),
        },
        Some(maps) => Finding { what, state: State::Ok, detail: maps.to_string(), fix: None },
        None => Finding { what, state: State::Ok, detail: "this kernel does not tell".to_owned(), fix: None },
    }
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
