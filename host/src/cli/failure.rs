//! Why a command failed: what it means for the caller, what happened, and what would mend it.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use serde::Serialize;
use steward_client::{Effect, Error};

use super::format::say;
use super::repr::printable;

/// What a command ends with: its exit status, or why it failed.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// The exit status of a command that failed: the effect of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// The method ran and raised; a check has findings.
    Raised = 1,
    /// The command line is not one that can be run.
    Usage = 2,
    /// Nothing happened.
    Refused = 3,
    /// It cannot be told whether it happened.
    Unknown = 4,
    /// Nothing happened and never will: the object failed earlier.
    Poisoned = 5,
    /// No connection, or no sign-in.
    NotConnected = 6,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Status {
    fn effect(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Usage | Self::Refused | Self::NotConnected => "refused",
            Self::Unknown | Self::Interrupted => "unknown",
            Self::Poisoned => "poisoned",
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// For programs.
    pub(crate) kind: String,
    /// For people.
    pub(crate) message: String,
    /// What would mend it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(status: Status, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, kind: kind.into(), message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, "Usage", message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Status::Interrupted, "Interrupted", "interrupted")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Says on stderr why, and returns the status to end with.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if json {
            #[derive(Serialize)]
            struct Line<'a> {
                error: Fields<'a>,
            }
            #[derive(Serialize)]
            struct Fields<'a> {
                kind: &'a str,
                message: &'a str,
                effect: &'a str,
                hint: Option<&'a str>,
            }
            let Self { status, kind, message, hint } = self;
            let line = Line { error: Fields { kind, message, effect: status.effect(), hint: hint.as_deref() } };
            say(&serde_json::to_string(&line).expect("texts are JSON"));
        } else if self.status != Status::Interrupted {
            let label = if is_coloured() { "\x1b[1;31merror\x1b[0m" } else { "error" };
            // Lines of one's own are kept; each may carry text of somebody else.
            let message: Vec<_> = self.message.lines().map(printable).collect();
            match self.status {
                // `Empty` says it all.
                _ if message.is_empty() => say(&format!("{label}: {}", printable(&self.kind))),
                Status::Raised | Status::Poisoned => {
                    say(&format!("{label}: {}: {}", printable(&self.kind), message.join("\n")));
                }
                _ => say(&format!("{label}: {}", message.join("\n"))),
            }
            if let Some(hint) = &self.hint {
                say(&format!("  fix: {}", printable(hint)));
            }
        }
        ExitCode::from(self.status as u8)
    }
}

/// Whether stderr takes colours.
pub(crate) fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Connection { .. } | Error::SignIn { .. } | Error::Config(_) | Error::Start(_) => {
                Status::NotConnected
            }
            Error::Encode(_) => Status::Usage,
            // The call happened, but not what was asked for: to show its result.
            Error::Decode { .. } => Status::Raised,
            Error::Raised(_) | Error::Refused(_) | Error::Unknown(_) | Error::Poisoned(_) => match error.effect() {
                Effect::Raised | Effect::Returned => Status::Raised,
                Effect::Refused => Status::Refused,
                Effect::Unknown => Status::Unknown,
                Effect::Poisoned => Status::Poisoned,
            },
        };
        let failure = Self::new(status, error.kind(), error.message());
        match (&error, error.kind()) {
            (Error::Connection { .. }, _) => failure
                .hint("start a host with `steward serve`, or name another context with -c: `steward context list`"),
            (Error::SignIn { .. }, _) => {
                failure.hint("tenant, key id and key must be the host's: `steward context show` says which are used")
            }
            (Error::Refused(_), "Denied") => {
                failure.hint("use a key with the role admin, as the context of `steward serve`")
            }
            (Error::Refused(_), "OverQuota") => {
                failure.hint("let objects go, or start the host with a higher limit: `steward serve --help`")
            }
            (Error::Refused(_), "UnknownIdent") => failure.hint("`steward objects` lists the objects there are"),
            (Error::Refused(fault), _) if fault.retryable => failure.hint("run it again: nothing happened"),
            (Error::Poisoned(_), _) => failure.hint("the object is lost: create a new one"),
            (Error::Unknown(_), _) => failure.hint("look before repeating: it may have happened"),
            _ => failure,
        }
    }
}

/// `did you mean …?` for the known word nearest to `word`, if one is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let folded = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&folded, &known.to_lowercase()), known))
        .filter(|(edits, known)| *edits <= (known.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, known)| format!("did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_word_is_suggested_and_far_one_is_not() {
        let known = ["Queue", "Lock", "RLock", "dict"];
        assert_eq!(did_you_mean("queue", known).unwrap(), "did you mean `Queue`?");
        assert_eq!(did_you_mean("Qeue", known).unwrap(), "did you mean `Queue`?");
        assert_eq!(did_you_mean("Rlokc", known).unwrap(), "did you mean `RLock`?");
        assert_eq!(did_you_mean("Barrier", known), None);
        assert_eq!(did_you_mean("Di", known), None);
    }

    #[test]
    fn status_is_the_number_that_the_effect_has_on_the_wire() {
        for (status, effect) in [
            (Status::Raised, Effect::Raised),
            (Status::Refused, Effect::Refused),
            (Status::Unknown, Effect::Unknown),
            (Status::Poisoned, Effect::Poisoned),
        ] {
            assert_eq!(status as u8, effect as u8);
        }
    }
}
