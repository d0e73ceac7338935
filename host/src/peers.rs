//! Who is connected, from where, and who failed to sign in: the bounds that hold before anybody is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::Limits;
use crate::quic::source;

/// Span over which failed sign-ins are counted, and the longest wait that they cause.
const FAILURES_MS: u64 = 60_000;
/// Entries of the table of failures; when it is full the oldest are forgotten.
const FAILURES_MAX: usize = 10_000;

/// Counts connections and failed sign-ins.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    state: Mutex<State>,
    limits: Bounds,
}

#[derive(Debug, Default)]
struct Bounds {
    connections_max: usize,
    per_source_max: usize,
    half_open_max: usize,
    failures_max: u32,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    half_open: usize,
    sources: HashMap<IpAddr, usize>,
    /// By tenant, key and source: never by key alone, or anybody could lock a tenant out.
    failures: HashMap<(String, String, Option<IpAddr>), Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    first_ms: u64,
}

/// One admitted connection; dropping it gives its place back.
#[must_use]
pub(crate) struct Admission {
    peers: Arc<Peers>,
    source: Option<IpAddr>,
    half_open: bool,
}

impl Peers {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let limits = Bounds {
            connections_max: limits.connections_max,
            per_source_max: limits.connections_per_source_max,
            half_open_max: limits.half_open_max,
            failures_max: limits.sign_in_failures_max,
        };
        Arc::new(Self { state: Mutex::default(), limits })
    }

    /// Connections that have not signed in.
    pub(crate) fn half_open(&self) -> usize {
        self.state.lock().half_open
    }

    /// Takes a place for a connection; `None` if a bound is reached. `address` is `None` on the Unix socket, where only
    /// the user itself can connect.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Admission> {
        let source = address.map(source);
        let mut state = self.state.lock();
        if state.connections >= self.limits.connections_max || state.half_open >= self.limits.half_open_max {
            return None;
        }
        if let Some(source) = source {
            let count = state.sources.entry(source).or_default();
            if *count >= self.limits.per_source_max {
                return None;
            }
            *count += 1;
        }
        state.connections += 1;
        state.half_open += 1;
        drop(state);
        Some(Admission { peers: self.clone(), source, half_open: true })
    }

    /// Whether a peer with so many recent failures must wait before it may try again.
    pub(crate) fn is_throttled(&self, tenant: &str, key_id: &str, address: Option<IpAddr>, now_ms: u64) -> bool {
        let state = self.state.lock();
        let key = (tenant.to_owned(), key_id.to_owned(), address.map(source));
        state.failures.get(&key).is_some_and(|failures| {
            failures.count >= self.limits.failures_max && now_ms.saturating_sub(failures.first_ms) < FAILURES_MS
        })
    }

    /// Notes a failed sign-in.
    pub(crate) fn failed(&self, tenant: &str, key_id: &str, address: Option<IpAddr>, now_ms: u64) {
        let mut state = self.state.lock();
        if state.failures.len() >= FAILURES_MAX {
            state.failures.retain(|_, failures| now_ms.saturating_sub(failures.first_ms) < FAILURES_MS);
            if state.failures.len() >= FAILURES_MAX {
                state.failures.clear();
            }
        }
        let key = (tenant.to_owned(), key_id.to_owned(), address.map(source));
        let failures = state.failures.entry(key).or_default();
        if now_ms.saturating_sub(failures.first_ms) >= FAILURES_MS {
            *failures = Failures { count: 0, first_ms: now_ms };
        }
        failures.count += 1;
    }
}

impl Admission {
    /// The peer has proven who it is.
    pub(crate) fn signed_in(&mut self) {
        if std::mem::take(&mut self.half_open) {
            self.peers.state.lock().half_open -= 1;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.signed_in();
        let mut state = self.peers.state.lock();
        state.connections -= 1;
        if let Some(source) = self.source
            && let Some(count) = state.sources.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                state.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_does_not_take_the_places_of_another() {
        let limits = Limits { connections_per_source_max: 2, ..Limits::shared() };
        let peers = Peers::new(&limits);
        let near = |last| Some(IpAddr::from([192, 0, 2, last]));
        let first = peers.admit(near(1)).expect("first place");
        let _second = peers.admit(near(2)).expect("second place");
        assert!(peers.admit(near(3)).is_none(), "the network is full");
        let _far = peers.admit(Some(IpAddr::from([198, 51, 100, 1]))).expect("another network has its own places");
        drop(first);
        assert!(peers.admit(near(3)).is_some(), "a place was given back");
    }

    #[test]
    fn half_open_places_are_given_back_by_signing_in() {
        let limits = Limits { half_open_max: 1, ..Limits::shared() };
        let peers = Peers::new(&limits);
        let mut first = peers.admit(None).expect("first place");
        assert!(peers.admit(None).is_none());
        first.signed_in();
        assert!(peers.admit(None).is_some());
    }

    #[test]
    fn failures_throttle_one_source_and_never_the_key() {
        let peers = Peers::new(&Limits::shared());
        let (here, there) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([198, 51, 100, 1])));
        for _ in 0..5 {
            assert!(!peers.is_throttled("t", "k", here, 1_000));
            peers.failed("t", "k", here, 1_000);
        }
        assert!(peers.is_throttled("t", "k", here, 1_000));
        assert!(!peers.is_throttled("t", "k", there, 1_000));
        assert!(!peers.is_throttled("t", "k", here, 1_000 + FAILURES_MS));
    }

    #[test]
    fn sources_are_networks() {
        assert_eq!(source(IpAddr::from([192, 0, 2, 77])), IpAddr::from([192, 0, 2, 0]));
        let (a, b): (IpAddr, IpAddr) = ("2001:db8:0:12ff::1".parse().unwrap(), "2001:db8:0:1200::2".parse().unwrap());
        assert_eq!(source(a), source(b));
        let mapped: IpAddr = "::ffff:192.0.2.77".parse().unwrap();
        assert_eq!(source(mapped), IpAddr::from([192, 0, 2, 0]));
    }
}
