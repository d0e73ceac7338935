//! Which faults happen, and when: the seeded part of a run, without I/O and clock.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Packets are lost.
    Loss,
    /// Packets come twice.
    Duplication,
    /// Packets overtake each other.
    Reordering,
    /// Packets come with a wrong bit.
    BitFlips,
    /// Packets come late.
    Delay,
    /// No packet comes.
    Blackout,
    /// A client's address changes.
    Move,
    /// A connection is cut within a reply.
    Cut,
    /// A client process is stopped, and continued.
    Pause,
    /// A client process is killed, and another one takes its place.
    Kill,
    /// The host process is stopped, and continued.
    HostPause,
}

/// Whom it befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The client at this place.
    Client(usize),
    /// All clients, or the host.
    Everybody,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// How long after the last one it begins.
    pub after: Duration,
    /// What it is.
    pub kind: Kind,
    /// Whom it befalls.
    pub whom: Whom,
    /// The share of packets, where that matters.
    pub share: f64,
    /// How late packets are, at least and at most, where that matters.
    pub delay: (Duration, Duration),
    /// How long it lasts, where it does.
    pub lasts: Duration,
}

/// How a client reaches the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Through a UDP proxy.
    Quic,
    /// Through a cutter.
    Unix,
}

/// The kinds, with how often each comes.
const WEIGHTS: [(Kind, u32); 11] = [
    (Kind::Loss, 6),
    (Kind::Duplication, 4),
    (Kind::Reordering, 4),
    (Kind::BitFlips, 4),
    (Kind::Delay, 6),
    (Kind::Blackout, 5),
    (Kind::Move, 6),
    (Kind::Cut, 8),
    (Kind::Pause, 5),
    (Kind::Kill, 3),
    (Kind::HostPause, 1),
];

/// A run's faults, without end. The same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Schedule {
    rng: fastrand::Rng,
    clients: Vec<Transport>,
    /// How long after each other faults come, on average.
    pace: Duration,
    lease: Duration,
}

impl Schedule {
    /// The faults that `seed` stands for.
    ///
    /// # Panics
    /// Without clients.
    pub fn new(seed: u64, clients: Vec<Transport>, pace: Duration, lease: Duration) -> Self {
        assert!(!clients.is_empty(), "faults befall clients");
        Self { rng: fastrand::Rng::with_seed(seed), clients, pace, lease }
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most - least).mul_f64(self.rng.f64())
    }

    fn kind(&mut self) -> Kind {
        let mut lot = self.rng.u32(..WEIGHTS.iter().map(|(_, weight)| weight).sum::<u32>());
        for (kind, weight) in WEIGHTS {
            match lot.checked_sub(weight) {
                Some(left) => lot = left,
                None => return kind,
            }
        }
        unreachable!("the lot is below the sum")
    }

    /// A client by this transport, if there is one.
    fn client(&mut self, transport: Option<Transport>) -> Option<Whom> {
        let clients: Vec<usize> = (0..self.clients.len())
            .filter(|&client| transport.is_none_or(|transport| self.clients[client] == transport))
            .collect();
        self.rng.choice(clients).map(Whom::Client)
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let ms = Duration::from_millis;
        loop {
            let after = self.pace.mul_f64(2.0 * self.rng.f64());
            let kind = self.kind();
            let share = 0.05 + 0.25 * self.rng.f64();
            let (least, most) = (self.between(ms(1), ms(25)), self.between(ms(25), ms(50)));
            let lasts = match kind {
                Kind::Blackout => self.between(ms(200), ms(4_000)),
                Kind::HostPause => self.between(ms(100), ms(3_000)),
                // One in four outlives the client's session.
                Kind::Pause if self.rng.u8(..4) == 0 => self.between(self.lease, self.lease.mul_f64(1.2)),
                Kind::Pause => self.between(ms(100), self.lease / 2),
                _ => self.between(ms(500), ms(5_000)),
            };
            let whom = match kind {
                Kind::HostPause => Some(Whom::Everybody),
                Kind::Blackout if self.rng.u8(..4) == 0 => Some(Whom::Everybody),
                Kind::Kill | Kind::Pause => self.client(None),
                Kind::Cut => self.client(Some(Transport::Unix)),
                _ => self.client(Some(Transport::Quic)),
            };
            // Without such a client there is no such fault.
            if let Some(whom) = whom {
                return Some(Fault { after, kind, whom, share, delay: (least, most), lasts });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn faults(seed: u64) -> Vec<Fault> {
        let clients = [Transport::Quic, Transport::Unix].repeat(2);
        Schedule::new(seed, clients, Duration::from_millis(100), Duration::from_secs(10)).take(1_000).collect()
    }

    #[test]
    fn same_seed_plans_the_same_faults() {
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn every_kind_befalls_whom_it_can() {
        let faults = faults(1);
        assert_eq!(faults.iter().map(|fault| fault.kind).collect::<BTreeSet<_>>().len(), WEIGHTS.len());
        for fault in &faults {
            match (fault.kind, fault.whom) {
                (Kind::Cut, Whom::Client(client)) => assert_eq!(client % 2, 1, "only sockets are cut"),
                (Kind::HostPause, whom) => assert_eq!(whom, Whom::Everybody),
                (Kind::Pause | Kind::Kill, Whom::Client(_)) | (Kind::Blackout, Whom::Everybody) => {}
                (_, Whom::Client(client)) => assert_eq!(client % 2, 0, "only packets are lost"),
                (kind, whom) => panic!("{kind:?} of {whom:?}"),
            }
        }
        assert!(faults.iter().any(|fault| fault.kind == Kind::Pause && fault.lasts > Duration::from_secs(10)));
    }
}
