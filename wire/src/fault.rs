//! Errors as data: what kind, what message, and above all whether the call took effect.

use serde::{Deserialize, Serialize};

/// What an error means to its caller; `Returned` stands for success.
///
/// The numbers travel in replies and are the exit status of the command line, hence the gap at 2
/// (usage errors, which never travel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The method ran and returned.
    Returned = 0,
    /// The method ran and raised.
    Raised = 1,
    /// Nothing happened: unknown ident, not exposed, denied, over quota, malformed.
    Refused = 3,
    /// It cannot be told whether it happened: the session was lost with the call in flight.
    Unknown = 4,
    /// Nothing happened and never will: the referent failed earlier.
    Poisoned = 5,
}

impl Effect {
    /// The effect with this number on the wire.
    pub fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Returned,
            1 => Self::Raised,
            3 => Self::Refused,
            4 => Self::Unknown,
            5 => Self::Poisoned,
            _ => return None,
        })
    }
}

/// An error as it travels: `kind` is for programs, `message` for people.
///
/// `kind` is an exception's name for what a method raised (`KeyError`, `Empty`) and a name of
/// Steward's own for the rest (`NotExposed`, `UnknownIdent`). `data` is one CBOR item that belongs to
/// the kind, encoded: the key of a `KeyError`, for instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Fault {
    /// Whether it happened.
    pub effect: Effect,
    /// What went wrong, by name.
    pub kind: String,
    /// The same for people: lower-case, no final period.
    pub message: String,
    /// What belongs to the kind, as an encoded item.
    pub data: Option<Vec<u8>>,
    /// Whether the same call may succeed if it is simply sent again.
    pub retryable: bool,
}

impl Fault {
    /// A fault that the method raised.
    pub fn raised(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Effect::Raised, kind, message)
    }

    /// A fault that says that nothing happened.
    pub fn refused(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Effect::Refused, kind, message)
    }

    /// A fault of any effect.
    pub fn new(effect: Effect, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { effect, kind: kind.into(), message: message.into(), data: None, retryable: false }
    }

    /// The same fault, with an encoded item that belongs to its kind.
    #[must_use]
    pub fn with_data(mut self, data: Vec<u8>) -> Self {
        self.data = Some(data);
        self
    }

    /// The same fault, marked as worth sending again.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retryable = true;
        self
    }
}
