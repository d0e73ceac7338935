//! `steward run`: a prompt to create and call a plugin's objects, without a host.

mod line;
mod stage;

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::{Failure, Outcome};
use super::format::{line as print_line, print};
use super::plugins;
use super::repr::printable;
use line::Line;
use stage::{Stage, Wrong};

/// Creates and calls objects of a plugin at a prompt. No host is needed.
///
/// Time stands still until `+1s` moves it, and nobody calls but you, so the same lines give the same answers. Lines that do not come from
/// a terminal are shown with what they do: a transcript.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The component.
    plugin: PathBuf,

    /// File of lines to run. [default: those typed, or standard input]
    script: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  steward run limiter.wasm
  steward run limiter.wasm script.txt
  echo 'l = Limiter()' | steward run limiter.wasm

At the prompt:
  > r = RateLimiter(rate=1)
  > r.acquire()
  > r.acquire() &
  [1] parked, wakes in 1.000 s
  > +1s
  [1] done
`help` lists what else there is.";

/// A line that cannot be run ends a script, and only that.
const WRONG: &str = "BadLine";

impl Run {
    pub(crate) fn run(self) -> Outcome {
        let guests = plugins::guests(plugins::config())?;
        let plugin = plugins::load(&guests, &self.plugin)?;
        let mut stage = Stage::new(&plugin);
        let reload = |stage: &mut Stage, file: Option<&str>| {
            let plugin = plugins::load(&guests, file.map_or(&*self.plugin, |file| file.as_ref()))?;
            stage.reload(&plugin);
            Ok(())
        };
        match &self.script {
            Some(script) => {
                let file = std::fs::File::open(script)
                    .map_err(|error| Failure::usage(format!("cannot read {}: {error}", script.display())))?;
                transcript(&mut stage, file, &reload)?;
            }
            None if !std::io::stdin().is_terminal() => transcript(&mut stage, std::io::stdin(), &reload)?,
            None => prompt(&mut stage, &reload)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Loads a build, this one's file again if none is named, and moves the objects.
type Reload<'a> = dyn Fn(&mut Stage, Option<&str>) -> Result<(), Failure> + 'a;

/// Runs lines that nobody types, and shows them with what they do.
fn transcript(stage: &mut Stage, lines: impl Read, reload: &Reload<'_>) -> Result<(), Failure> {
    for (place, line) in BufReader::new(lines).lines().enumerate() {
        let line = line.map_err(|error| Failure::usage(format!("line {}: {error}", place + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        print_line(&format!("> {}", printable(line.trim())))?;
        match one(stage, &line, reload) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(failure) if failure.is(WRONG) => {
                let Failure { message, hint, .. } = failure;
                return Err(Failure { hint, ..Failure::usage(format!("line {}: {message}", place + 1)) });
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Runs lines as they are typed.
fn prompt(stage: &mut Stage, reload: &Reload<'_>) -> Result<(), Failure> {
    let mut stdin = std::io::stdin().lock();
    loop {
        print("> ")?;
        let mut line = String::new();
        let read = stdin.read_line(&mut line).map_err(|error| Failure::usage(format!("cannot read: {error}")))?;
        if read == 0 {
            return print_line("");
        }
        match one(stage, &line, reload) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Whoever types can type it again.
            Err(failure) => {
                failure.report(false);
            }
        }
    }
}

/// Runs one line and prints what it does; false if it was the last.
fn one(stage: &mut Stage, text: &str, reload: &Reload<'_>) -> Result<bool, Failure> {
    let line = line::parse(text, |name| stage.token(name)).map_err(wrong)?;
    match &line {
        Line::Quit => return Ok(false),
        Line::Reload(file) => reload(stage, file.as_deref())?,
        line => stage.run(line).map_err(wrong)?,
    }
    for said in stage.said() {
        print_line(&said)?;
    }
    Ok(true)
}

fn wrong(wrong: Wrong) -> Failure {
    let failure = Failure { kind: WRONG.into(), ..Failure::usage(wrong.message) };
    match wrong.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
