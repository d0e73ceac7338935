//! How long a client may believe that its session lives: counted from when it *sent* what the host has surely had, less a margin.
//!
//! Calls carry no times. At each tick the next seq is noted: a reply to that call or a later one proves that the host
//! heard from this client after the tick. A session that has no such reply sends heartbeats, which the host answers in order.

use std::collections::VecDeque;

/// Share of the lease that is left out of what is believed: clocks drift apart, and what is believed takes time to
/// have an effect.
const MARGIN: u64 = 10;
/// Share of the lease after which an unanswered heartbeat means that the connection is lost.
const SUSPICION: u64 = 3;

/// The belief of one session. All times are milliseconds of one clock of the client's that goes on while it sleeps.
#[derive(Debug)]
pub(crate) struct Lease {
    lease_ms: u64,
    /// When the latest frame was sent that the host has surely had.
    confirmed_ms: u64,
    /// A time, and the first seq that was sent after it.
    probe: Option<(u64, u64)>,
    /// Whether anything was confirmed since the last tick.
    fresh: bool,
    /// When the heartbeats were sent that have no answer.
    beats: VecDeque<u64>,
    /// When it was last seen that something arrives.
    arriving_ms: u64,
}

impl Lease {
    /// A session whose sign-in was begun at `now_ms`.
    pub(crate) fn new(lease_ms: u64, now_ms: u64) -> Self {
        Self { lease_ms, confirmed_ms: now_ms, probe: None, fresh: false, beats: VecDeque::new(), arriving_ms: 0 }
    }

    /// Until when the session surely lives, unless the host itself is gone.
    pub(crate) fn believed_until_ms(&self) -> u64 {
        self.confirmed_ms.saturating_add(self.lease_ms - self.lease_ms / MARGIN)
    }

    /// A reply to `seq` is there.
    pub(crate) fn replied(&mut self, seq: u64) {
        if let Some((at_ms, first)) = self.probe
            && seq >= first
        {
            self.probe = None;
            self.confirm(at_ms);
        }
    }

    /// An answer to a heartbeat is there.
    pub(crate) fn answered(&mut self) {
        if let Some(at_ms) = self.beats.pop_front() {
            self.confirm(at_ms);
        }
    }

    fn confirm(&mut self, at_ms: u64) {
        self.confirmed_ms = self.confirmed_ms.max(at_ms);
        self.fresh = true;
    }

    /// Something has arrived, be it a part of a reply that is large: it proves nothing of when the host heard from here, but that
    /// the connection is not lost.
    pub(crate) fn arriving(&mut self, now_ms: u64) {
        self.arriving_ms = now_ms;
    }

    /// Time passes; says whether to send a heartbeat. `seq_next` is the seq of the next call.
    pub(crate) fn tick(&mut self, now_ms: u64, seq_next: u64) -> bool {
        let beats = !std::mem::take(&mut self.fresh);
        self.probe = Some((now_ms, seq_next));
        if beats {
            self.beats.push_back(now_ms);
        }
        beats
    }

    /// Whether a heartbeat has had no answer, and nothing else has arrived, for so long that the connection must be lost.
    pub(crate) fn is_suspect(&self, now_ms: u64) -> bool {
        self.suspect_at_ms().is_some_and(|at_ms| now_ms >= at_ms)
    }

    /// When it will be, unless an answer comes.
    pub(crate) fn suspect_at_ms(&self) -> Option<u64> {
        self.beats.front().map(|&sent_ms| sent_ms.max(self.arriving_ms) + (self.lease_ms / SUSPICION).max(1) + 1)
    }

    /// The session goes on by another connection, whose sign-in was begun at `since_ms`.
    pub(crate) fn resumed(&mut self, since_ms: u64) {
        self.beats.clear();
        self.probe = None;
        self.confirm(since_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_counts_from_when_it_was_sent() {
        let mut lease = Lease::new(10_000, 1_000);
        assert_eq!(lease.believed_until_ms(), 10_000);
        assert!(lease.tick(2_000, 5));
        lease.replied(4);
        assert_eq!(lease.believed_until_ms(), 10_000, "sent before the tick, so it proves nothing of it");
        lease.replied(7);
        assert_eq!(lease.believed_until_ms(), 11_000);
        lease.replied(8);
        assert_eq!(lease.believed_until_ms(), 11_000, "however late the reply");
    }

    #[test]
    fn silent_session_beats_and_a_busy_one_does_not() {
        let mut lease = Lease::new(10_000, 0);
        assert!(lease.tick(1_000, 1));
        lease.answered();
        assert_eq!(lease.believed_until_ms(), 10_000);
        assert!(!lease.tick(2_000, 1), "there was an answer since the last tick");
        lease.replied(1);
        assert!(!lease.tick(3_000, 2));
        assert!(lease.tick(4_000, 2));
    }

    #[test]
    fn unanswered_heartbeat_makes_the_connection_suspect() {
        let mut lease = Lease::new(9_000, 0);
        assert!(lease.tick(1_000, 1));
        assert!(!lease.is_suspect(4_000));
        assert!(lease.is_suspect(4_001));
        assert_eq!(lease.suspect_at_ms(), Some(4_001));
        lease.resumed(4_500);
        assert!(!lease.is_suspect(20_000));
        assert_eq!(lease.believed_until_ms(), 4_500 + 8_100);
    }

    /// A large reply over a slow network keeps an answer waiting.
    #[test]
    fn connection_on_which_something_arrives_is_not_suspect() {
        let mut lease = Lease::new(9_000, 0);
        assert!(lease.tick(1_000, 1));
        lease.arriving(3_000);
        assert!(!lease.is_suspect(6_000));
        assert_eq!(lease.believed_until_ms(), 8_100, "the host may not have heard the heartbeat");
        assert!(lease.is_suspect(6_001));
    }
}
