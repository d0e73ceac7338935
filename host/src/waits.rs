//! Who waits for whom: owners that wait for locks, and the owners that hold those locks.
//!
//! Only locks that somebody waits for stand here, so a lock that is free when it is taken costs nothing. A cycle of owners each
//! of whom waits for a lock of the next will never end by itself: the call that closes one is reported, and refused if its
//! lock was made so.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;
use steward_objects::Owner;
use steward_wire::Ident;

/// An owner that waits, in a cycle: for a lock that the next one holds, the last for one of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Link {
    pub(crate) session: u64,
    pub(crate) owner: u64,
    /// The lock that it waits for.
    pub(crate) ident: u64,
}

/// The graph of one tenant.
#[derive(Default)]
pub(crate) struct Waits {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each owner waits for each lock.
    waits: BTreeMap<Owner, BTreeMap<Ident, u32>>,
    /// Who holds each lock that somebody waits for.
    holders: BTreeMap<Ident, Owner>,
}

impl Waits {
    /// An owner begins to wait for a lock; gives the cycle that this closes, beginning with this owner.
    pub(crate) fn begin(&self, owner: Owner, lock: Ident, holder: Owner) -> Option<Vec<Link>> {
        let mut state = self.state.lock();
        *state.waits.entry(owner).or_default().entry(lock).or_default() += 1;
        state.holders.insert(lock, holder);
        state.cycle(owner, lock)
    }

    /// An owner waits no more. `last`: nobody waits for the lock any more.
    pub(crate) fn end(&self, owner: Owner, lock: Ident, last: bool) {
        let mut state = self.state.lock();
        if last {
            state.holders.remove(&lock);
        }
        let Some(locks) = state.waits.get_mut(&owner) else { return };
        if let Some(times) = locks.get_mut(&lock) {
            *times -= 1;
            if *times == 0 {
                locks.remove(&lock);
            }
        }
        if locks.is_empty() {
            state.waits.remove(&owner);
        }
    }

    /// A lock that somebody waits for was granted to somebody else.
    pub(crate) fn hand_over(&self, lock: Ident, holder: Option<Owner>) {
        let mut state = self.state.lock();
        match holder {
            Some(holder) => state.holders.insert(lock, holder),
            None => state.holders.remove(&lock),
        };
    }

    /// Every cycle there is, each once, beginning with its least owner.
    pub(crate) fn cycles(&self) -> Vec<Vec<Link>> {
        let state = self.state.lock();
        let waits = state.waits.iter().flat_map(|(&owner, locks)| locks.keys().map(move |&lock| (owner, lock)));
        let mut cycles: Vec<_> = waits.filter_map(|(owner, lock)| state.cycle(owner, lock)).map(turned).collect();
        cycles.sort_unstable();
        cycles.dedup();
        cycles
    }
}

/// The same cycle, beginning with its least link.
fn turned(mut cycle: Vec<Link>) -> Vec<Link> {
    let least = (0..cycle.len()).min_by_key(|&at| cycle[at]).unwrap_or(0);
    cycle.rotate_left(least);
    cycle
}

impl State {
    /// The cycle that an owner's wait for a lock is in. An owner whose tasks wait for several locks is in one as soon as any of
    /// them is: that task waits for ever.
    fn cycle(&self, owner: Owner, lock: Ident) -> Option<Vec<Link>> {
        let link = |Owner { session, thread }: Owner, lock: Ident| Link { session, owner: thread, ident: lock.0 };
        // Depth first; a lock is looked at once, since what is behind it does not depend on the way to it.
        let mut seen = std::collections::BTreeSet::from([lock]);
        let mut path = vec![(link(owner, lock), self.next(lock).into_iter().collect::<Vec<_>>())];
        loop {
            let (_, next) = path.last_mut()?;
            let Some((holder, waits_for)) = next.pop() else {
                path.pop();
                continue;
            };
            if holder == owner {
                return Some(path.into_iter().map(|(link, _)| link).collect());
            }
            let Some(waits_for) = waits_for else { continue };
            if seen.insert(waits_for) {
                path.push((link(holder, waits_for), self.next(waits_for)));
            }
        }
    }

    /// The holder of a lock, once for each lock that it waits for itself; once with `None` if it waits for none.
    fn next(&self, lock: Ident) -> Vec<(Owner, Option<Ident>)> {
        let Some(&holder) = self.holders.get(&lock) else { return Vec::new() };
        match self.waits.get(&holder) {
            Some(locks) => locks.keys().map(|&waits_for| (holder, Some(waits_for))).collect(),
            None => vec![(holder, None)],
        }
    }
}

/// A cycle for people.
pub(crate) fn text(cycle: &[Link]) -> String {
    let links = cycle
        .iter()
        .map(|Link { session, owner, ident }| format!("owner {owner} of session {session} waits for object {ident}"));
    links.collect::<Vec<_>>().join(", held by: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(session: u64) -> Owner {
        Owner { session, thread: 1 }
    }

    fn sessions(cycle: Option<Vec<Link>>) -> Vec<u64> {
        cycle.into_iter().flatten().map(|link| link.session).collect()
    }

    #[test]
    fn wait_that_closes_a_cycle_is_seen() {
        let waits = Waits::default();
        assert_eq!(waits.begin(owner(1), Ident(12), owner(2)), None);
        assert_eq!(waits.begin(owner(2), Ident(13), owner(3)), None);
        assert_eq!(sessions(waits.begin(owner(3), Ident(11), owner(1))), [3, 1, 2]);
        assert_eq!(waits.cycles().len(), 1);
        waits.end(owner(3), Ident(11), true);
        assert!(waits.cycles().is_empty());
    }

    #[test]
    fn owner_that_waits_for_what_it_holds_is_a_cycle_of_its_own() {
        assert_eq!(sessions(Waits::default().begin(owner(1), Ident(5), owner(1))), [1]);
    }

    #[test]
    fn cycle_elsewhere_is_not_this_calls() {
        let waits = Waits::default();
        waits.begin(owner(1), Ident(12), owner(2));
        assert_eq!(sessions(waits.begin(owner(2), Ident(11), owner(1))), [2, 1]);
        assert_eq!(waits.begin(owner(3), Ident(12), owner(2)), None, "it waits for the cycle, and is not in it");
        assert_eq!(waits.cycles().len(), 1);
    }

    #[test]
    fn owner_with_several_waits_is_followed_along_each() {
        let waits = Waits::default();
        waits.begin(owner(2), Ident(20), owner(9));
        waits.begin(owner(2), Ident(11), owner(1));
        assert_eq!(sessions(waits.begin(owner(1), Ident(12), owner(2))), [1, 2]);
    }

    #[test]
    fn nothing_is_left_when_nobody_waits() {
        let waits = Waits::default();
        for _ in 0..2 {
            waits.begin(owner(1), Ident(12), owner(2));
        }
        waits.hand_over(Ident(12), Some(owner(3)));
        waits.end(owner(1), Ident(12), false);
        waits.end(owner(1), Ident(12), true);
        let state = waits.state.lock();
        assert!(state.waits.is_empty() && state.holders.is_empty());
    }
}
