//! Who has left the line of a Condition before a notification came: those who timed out, and those who are gone.
//!
//! Nobody sees it, and it matters only to who is notified, so it is asked no earlier than a notification comes.

use super::{Branch, Replay, Search, Stop, TRIES_MAX};
use crate::call::CallId;
use crate::model::{Model, WaitEnd};
use crate::values::Val;

/// Whom notifications of one version may reach in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    /// So many from its head.
    first: u64,
    /// All, which is one notification.
    all: bool,
}

impl Reach {
    const NOBODY: Self = Self { first: 0, all: false };
    const EVERYBODY: Self = Self { first: u64::MAX, all: true };
}

impl Replay<'_> {
    /// The branches, without those in line whose sessions are surely over, and such in which others have left it who may
    /// have: without a trace, or at a deadline. It matters to notifications alone.
    pub(super) fn with_leavers(
        &self,
        branches: Vec<Branch>,
        version: u64,
        members: &[CallId],
    ) -> Result<Vec<Branch>, Stop> {
        let active = self.active.iter().map(|candidate| candidate.call);
        let reach = self.reach(members.iter().copied().chain(active));
        let mut all = Vec::new();
        for mut branch in branches {
            let Model::Lock(lock) = &mut branch.model else {
                all.push(branch);
                continue;
            };
            lock.woken.retain(|(wait, _)| !self.is_over(self.call(wait.call), version));
            // Another one may be notified in the place of one who is gone.
            let passed_on = lock.woken.iter().any(|(wait, _)| self.may_leave(wait.call, version));
            let reach = Reach { first: reach.first.saturating_add(u64::from(passed_on)), ..reach };
            self.leave(branch, 0, version, reach, &mut all)?;
        }
        Ok(all)
    }

    /// The same of a branch after a version, before others look at it.
    pub(super) fn with_leavers_after(
        &self,
        branch: Branch,
        version: u64,
        others: impl Iterator<Item = CallId>,
    ) -> Result<Vec<Branch>, Stop> {
        if !matches!(branch.model, Model::Lock(_)) || self.reach(others) == Reach::NOBODY {
            return Ok(vec![branch]);
        }
        // A notification that changed nothing found nobody.
        let mut all = Vec::new();
        self.leave(branch, 0, version + 1, Reach::EVERYBODY, &mut all)?;
        Ok(all)
    }

    /// Whom some calls may notify.
    fn reach(&self, calls: impl Iterator<Item = CallId>) -> Reach {
        if self.search == Search::Plain {
            return Reach::EVERYBODY;
        }
        let mut reach = Reach::NOBODY;
        for call in calls.map(|call| self.call(call)) {
            match (&*self.values.text(call.method), call.args.first()) {
                ("notify_all", _) => reach.all = true,
                ("notify", Some(Val::Int(n))) => reach.first = reach.first.saturating_add_signed((*n).max(0)),
                ("notify", _) => reach.first = reach.first.saturating_add(1),
                _ => {}
            }
        }
        reach
    }

    /// All ways in which those in line from `place` on may have left it, as far as that makes a difference to those in reach.
    fn leave(
        &self,
        branch: Branch,
        place: usize,
        version: u64,
        mut reach: Reach,
        all: &mut Vec<Branch>,
    ) -> Result<(), Stop> {
        if all.len() > TRIES_MAX {
            return Err(Stop::Undecided(format!(
                "at version {version} more than {TRIES_MAX} ways to have left a line"
            )));
        }
        let Model::Lock(lock) = &branch.model else { unreachable!("only a Condition has a line") };
        for (place, wait) in lock.line.waits().enumerate().skip(place) {
            let call = self.call(wait.call);
            if call.is_answered() {
                reach.first -= u64::from(wait.end == WaitEnd::Notified && reach.first > 0);
                continue;
            }
            let is_over = self.is_over(call, version);
            if is_over || reach != Reach::NOBODY {
                let mut settled = branch.clone();
                if settled.lock().time_out(wait.call).is_ok() {
                    self.leave(settled, place, version, reach, all)?;
                }
            }
            // Where all in line are notified nobody minds one more.
            if is_over || (reach.first > 0 && self.may_leave(wait.call, version)) {
                let mut left = branch.clone();
                if left.lock().line.leave(wait.call).is_ok() {
                    left.uses(wait.call);
                    self.leave(left, place, version, reach, all)?;
                }
            }
            if is_over {
                return Ok(());
            }
            reach.first = reach.first.saturating_sub(1);
        }
        all.push(branch);
        Ok(())
    }
}
