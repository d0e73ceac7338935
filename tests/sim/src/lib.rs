//! A simulation of a host and its clients: sessions, leases, retries, references, objects, all of it the real code, driven in one
//! thread by a seed. Time is virtual, and the network loses, delays, cuts and lets late what it can; clients die, freeze, leave and
//! come back, and the host stops now and then. What happens is held against the promises R1 to R5 at every step.
//!
//! Large calls and replies travel on streams of their own, which overtake the lane, are reset, and are lost with their connections.
//! Sessions are forked, and forks claimed early, late, twice or never.
//!
//! The same seed gives the same run, to the last byte but for the secrets of forks, on which nothing depends. What it does not do:
//! threads, sockets, TLS; other tests have those. Nor guests: their way through the pool, from being made to each step, is that of
//! the types whose names end in `.pooled`, and what their runtime adds has no part in calls, sessions and references.
#![forbid(unsafe_code)]

mod client;
mod model;
mod oracle;
mod random;
mod script;
mod world;

pub use oracle::Broken;

use world::World;

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Of all that clients saw and of what was left at the end: the same seed gives the same.
    pub hash: u64,
    /// Moments, in virtual time.
    pub steps: u64,
    /// Calls that were answered.
    pub answers: u64,
    /// The broken promise, if one was.
    pub broken: Option<Broken>,
}

/// Runs a seed. A run that breaks a promise is repeated to learn what led there.
pub fn run(seed: u64) -> Run {
    let once = run_once(seed, false, false);
    if once.broken.is_some() { run_once(seed, false, true) } else { once }
}

/// Runs a seed and prints every event.
pub fn trace(seed: u64) -> Run {
    run_once(seed, true, true)
}

fn run_once(seed: u64, trace: bool, records: bool) -> Run {
    let mut world = World::new(seed, trace, records);
    let broken = world.run().err();
    Run { hash: world.oracle.hash(), steps: world.steps, answers: world.oracle.answers, broken }
}
