//! What happens to a session's connection, for those who want to know.

use std::time::Duration;

/// News of a session's connection. Calls in flight need none of it: they simply take longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The connection was lost; it is being made again.
    Lost {
        /// Why, for people.
        cause: String,
    },
    /// The session goes on by a new connection.
    Resumed {
        /// How long there was none.
        after: Duration,
        /// How many attempts it took.
        attempts: u32,
    },
    /// So much time has passed without a sign of life that the host may have ended the session: what is held can no longer be
    /// believed in. It may still be resumed.
    Doubted,
    /// The session is over. Calls in flight have failed as unknown.
    Ended {
        /// Why, for people.
        cause: String,
    },
}

/// Is told of events. Runs on the session's own task: it must not block.
pub(crate) type Listener = std::sync::Arc<dyn Fn(&SessionEvent) + Send + Sync>;
