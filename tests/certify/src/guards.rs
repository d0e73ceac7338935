//! Guards: a call under a fence happens only while the lock is held under it.
//!
//! Only what is certain counts: when a hold began and ended is known as far as calls of other clients bound it.

use std::collections::{BTreeMap, HashMap};

use crate::call::{Call, Seen};
use crate::certify::{History, Object, Promise, Report};
use crate::values::Val;

/// One time that somebody held a lock.
struct Hold {
    session: u64,
    owner: u64,
    depth: u64,
    /// It began no earlier.
    from_ns: u64,
    /// It had ended by then.
    until_ns: u64,
}

/// The holds of a lock and the fences that were granted in each.
#[derive(Default)]
struct Holds {
    all: Vec<Hold>,
    by_fence: HashMap<u64, usize>,
}

/// Checks all guarded calls that took effect.
pub(crate) fn check(history: &History, objects: &BTreeMap<u64, Object>, report: &mut Report) {
    let mut locks = HashMap::<u64, Holds>::new();
    for object in objects.values() {
        // Of each lock, the latest hold under which this object was called.
        let mut latest = HashMap::<u64, (u64, &Call)>::new();
        for call in object.known.iter().map(|call| &history.calls[*call as usize]) {
            let (Some((lock, fence)), Seen::Returned(_)) = (call.guard, call.seen) else { continue };
            let holds = locks.entry(lock).or_insert_with(|| holds(history, objects.get(&lock)));
            let text = match latest.get(&lock) {
                Some((later, by)) if holds.is_later(*later, fence) && by.version() < call.version() => Some((
                    format!("it took effect after {} under fence {later}", by.show(&history.values)),
                    vec![by.id, call.id],
                )),
                _ => holds.refutes(call, fence).map(|text| (text, vec![call.id])),
            };
            if let Some((text, calls)) = text {
                let text =
                    format!("{} was guarded by fence {fence} of lock {lock}, but {text}", call.show(&history.values));
                report.violation(history, Promise::R1, object.ident, text, calls);
            }
            let newest = latest.entry(lock).or_insert((fence, call));
            if fence > newest.0 {
                *newest = (fence, call);
            }
        }
    }
}

fn holds(history: &History, lock: Option<&Object>) -> Holds {
    let mut holds = Holds::default();
    let Some(lock) = lock.filter(|lock| matches!(&*lock.made.typeid, "Lock" | "RLock" | "Condition")) else {
        return holds;
    };
    let is_plain = lock.made.typeid == "Lock";
    let mut is_held = false;
    for call in lock.known.iter().map(|call| &history.calls[*call as usize]) {
        if let Some(grant) = call.grant {
            match holds.all.last_mut().filter(|_| is_held && !is_plain) {
                Some(hold) if (hold.session, hold.owner) == (call.session, call.owner) => hold.depth += 1,
                last => {
                    if let Some(last) = last {
                        last.until_ns = last.until_ns.min(call.returned());
                    }
                    let lost_ns = history.ends.get(&call.session).and_then(|end| end.until_ns);
                    holds.all.push(Hold {
                        session: call.session,
                        owner: call.owner,
                        depth: 1,
                        from_ns: call.invoked_ns,
                        until_ns: lost_ns.unwrap_or(u64::MAX),
                    });
                }
            }
            is_held = true;
            holds.by_fence.insert(grant.fence, holds.all.len() - 1);
        } else if &*history.values.text(call.method) == "release"
            && call.seen == Seen::Returned(Val::Null)
            && let Some(hold) = holds.all.last_mut()
        {
            hold.depth = hold.depth.saturating_sub(1);
            if is_plain || hold.depth == 0 {
                hold.until_ns = hold.until_ns.min(call.returned());
                is_held = false;
            }
        }
    }
    // When the next has it the one before has it no more.
    let mut next_ns = u64::MAX;
    for hold in holds.all.iter_mut().rev() {
        hold.until_ns = hold.until_ns.min(next_ns);
        next_ns = hold.until_ns;
    }
    holds
}

impl Holds {
    /// Whether `later` was granted in a hold after that of `fence`.
    fn is_later(&self, later: u64, fence: u64) -> bool {
        match (self.by_fence.get(&later), self.by_fence.get(&fence)) {
            (Some(later), Some(hold)) => later > hold,
            _ => false,
        }
    }

    /// Why a call cannot have been made under a fence.
    fn refutes(&self, call: &Call, fence: u64) -> Option<String> {
        let hold = &self.all[*self.by_fence.get(&fence)?];
        if call.invoked_ns > hold.until_ns {
            return Some(format!("was invoked after {} ns, when that hold had ended", hold.until_ns));
        }
        (call.returned() < hold.from_ns)
            .then(|| format!("had returned before {} ns, when the lock was asked for", hold.from_ns))
    }
}
