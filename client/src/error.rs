//! Why a call failed, sorted by what that means for the caller.

use std::io;
use std::path::PathBuf;

use steward_wire::{Effect, Fault, Malformed};

/// Why an operation failed.
///
/// Ask [`Error::effect`] first: it says whether the call happened. [`Error::kind`] is the name for
/// programs (`KeyError`, `Empty`, `Full`), the text is for people.
///
/// ```no_run
/// # async fn example(jobs: steward_client::Queue<u32>) -> Result<(), steward_client::Error> {
/// use std::time::Duration;
/// match jobs.get().timeout(Duration::from_secs(5)).await {
///     Ok(job) => println!("job {job}"),
///     Err(error) if error.is("Empty") => println!("nothing to do"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The method ran and raised.
    #[error("{0}")]
    Raised(Fault),
    /// The host did not run the call: nothing happened.
    #[error("{0}")]
    Refused(Fault),
    /// It cannot be told whether the call happened.
    #[error("{0}")]
    Unknown(Fault),
    /// The object failed earlier: the call did not happen and never will.
    #[error("{0}")]
    Poisoned(Fault),
    /// The host could not be reached, or the connection had ended before the call was sent: nothing happened.
    #[error("not connected to `{address}`: {cause}")]
    Connection {
        /// The host's address as it was dialled.
        address: String,
        /// What went wrong.
        cause: String,
    },
    /// The host was reached, but one of the two did not prove that it knows the key: nothing happened.
    #[error("sign-in at `{address}` failed: {cause}")]
    SignIn {
        /// The host's address as it was dialled.
        address: String,
        /// What went wrong.
        cause: String,
    },
    /// The arguments have no encoding, or too large a one: nothing was sent.
    #[error("arguments cannot be encoded: {0}")]
    Encode(String),
    /// The call happened and returned, but its result is not of the type asked for.
    #[error("result is not a `{wanted}`: {cause}")]
    Decode {
        /// The type asked for.
        wanted: &'static str,
        /// What is wrong with the result.
        cause: String,
    },
    /// The contexts file, a key file or an address is not usable: nothing was tried.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A host could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Error {
    /// Whether it happened: [`Effect::Returned`] for a result that could not be decoded,
    /// [`Effect::Refused`] for whatever never reached a referent.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Raised(_) => Effect::Raised,
            Self::Unknown(_) => Effect::Unknown,
            Self::Poisoned(_) => Effect::Poisoned,
            Self::Decode { .. } => Effect::Returned,
            Self::Refused(_)
            | Self::Connection { .. }
            | Self::SignIn { .. }
            | Self::Encode(_)
            | Self::Config(_)
            | Self::Start(_) => Effect::Refused,
        }
    }

    /// What went wrong, by name: an exception's name for what a method raised, a name of Steward's own
    /// for the rest.
    pub fn kind(&self) -> &str {
        match self {
            Self::Raised(fault) | Self::Refused(fault) | Self::Unknown(fault) | Self::Poisoned(fault) => &fault.kind,
            Self::Connection { .. } => "NotConnected",
            Self::SignIn { .. } => "SignInFailed",
            Self::Encode(_) => "NotEncodable",
            Self::Decode { .. } => "NotDecodable",
            Self::Config(_) => "BadConfig",
            Self::Start(_) => "NotStarted",
        }
    }

    /// The same for people.
    pub fn message(&self) -> String {
        match self.fault() {
            Some(fault) => fault.message.clone(),
            None => self.to_string(),
        }
    }

    /// Whether [`Error::kind`] is `kind`.
    pub fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    /// Whether the same call, simply sent again, may succeed and cannot happen twice. What was called with a
    /// [`timeout`](crate::Call::timeout) was sent again already, as long as that lasted.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(fault) => fault.retryable,
            Self::Connection { .. } => true,
            _ => false,
        }
    }

    /// The fault that the host answered with, if it answered.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Raised(fault) | Self::Refused(fault) | Self::Unknown(fault) | Self::Poisoned(fault) => Some(fault),
            _ => None,
        }
    }

    /// The error for a reply that is not a result.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        match fault.effect {
            Effect::Raised => Self::Raised(fault),
            Effect::Unknown => Self::Unknown(fault),
            Effect::Poisoned => Self::Poisoned(fault),
            // A fault whose effect is `Returned` cannot be built from a reply; it would say nothing.
            Effect::Refused | Effect::Returned => Self::Refused(fault),
        }
    }

    /// The error for a reply whose result has another shape than the protocol says.
    pub(crate) fn malformed<T>(malformed: Malformed) -> Self {
        Self::Decode { wanted: std::any::type_name::<T>(), cause: malformed.to_string() }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read or written.
    #[error("`{}`: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{}`: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with a way to mend it.
        message: String,
    },
    /// There is no such context.
    #[error("no context `{name}` in `{}`{hint}", path.display())]
    NoContext {
        /// The name asked for.
        name: String,
        /// The contexts file.
        path: PathBuf,
        /// Names that it has, for people.
        hint: String,
    },
    /// An address, pin or option cannot be used.
    #[error("{0}")]
    Option(String),
}

/// Why a host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be run.
    #[error("cannot run `{}`: {cause}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The program ended, or said something else than that it is ready.
    #[error("host did not start: {cause}{}", tail(stderr))]
    Ended {
        /// What happened.
        cause: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// The program was not ready in time and was ended.
    #[error("host was not ready within {timeout_ms} ms{}", tail(stderr))]
    Timeout {
        /// How long it was given.
        timeout_ms: u128,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("\n{stderr}") }
}
