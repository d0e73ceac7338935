//! Lock, RLock and Condition: one holder at a time, whose fences rise.

use std::num::NonZeroU64;

use super::line::{Line, WaitEnd};
use super::{Changes, Complaint, Hidden, Kind, Reply, answers, number};
use crate::Promise;
use crate::call::{Call, CallId, Seen};
use crate::values::{Val, Values};

pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        "acquire" => Kind::Parks,
        "release" => Kind::Steps,
        "locked" => Kind::Reads,
        _ => return None,
    })
}

pub(super) fn condition_kind(method: &str) -> Option<Kind> {
    Some(match method {
        "wait" => Kind::Parks,
        "notify" | "notify_all" => Kind::Steps,
        _ => return kind(method),
    })
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lock {
    reentrant: bool,
    pub(crate) holder: Option<Holder>,
    fence_last: u64,
    /// Who waits to be notified.
    pub(crate) line: Line,
    /// Who was notified, or timed out, and waits for the lock.
    pub(crate) woken: Vec<(Wait, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Holder {
    pub(crate) session: u64,
    pub(crate) owner: u64,
    depth: NonZeroU64,
    /// Its client learnt of the grant.
    is_known: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wait {
    pub(crate) call: CallId,
    pub(crate) end: WaitEnd,
    depth: NonZeroU64,
}

impl Lock {
    pub(super) fn new(reentrant: bool) -> Self {
        Self { reentrant, holder: None, fence_last: 0, line: Line::default(), woken: Vec::new() }
    }

    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        let text = values.text(call.method);
        match &*text {
            "acquire" => self.acquire(call, values),
            "release" => {
                let holder = match &mut self.holder {
                    Some(holder) if !self.reentrant || holder.is(call) => holder,
                    _ => {
                        answers(call, values, Reply::Raises("RuntimeError"))?;
                        return Ok(Changes::No);
                    }
                };
                answers(call, values, Reply::Value(Val::Null))?;
                match NonZeroU64::new(holder.depth.get() - 1) {
                    Some(depth) => holder.depth = depth,
                    None => self.holder = None,
                }
                Ok(Changes::Yes)
            }
            "locked" => {
                answers(call, values, Reply::Value(Val::Bool(self.holder.is_some())))?;
                Ok(Changes::No)
            }
            "wait" => self.wait(call, values),
            "notify" | "notify_all" => {
                if !self.is_held_by(call) {
                    answers(call, values, Reply::Raises("RuntimeError"))?;
                    return Ok(Changes::No);
                }
                let n = if &*text == "notify" { number(call, 0, 1)? } else { i64::MAX };
                answers(call, values, Reply::Value(Val::Null))?;
                let mut after = self.clone();
                let mut changes = Changes::No;
                for _ in 0..n {
                    let late =
                        || Complaint::of(Promise::R5, format!("{} woke one who timed out later", call.show(values)));
                    if !after.notify_next().map_err(|()| late())? {
                        break;
                    }
                    changes = Changes::Yes;
                }
                *self = after;
                Ok(changes)
            }
            method => Err(Complaint::not_modelled(format!("`{method}` of a lock"))),
        }
    }

    fn acquire(&mut self, call: &Call, values: &Values) -> Result<Changes, Complaint> {
        let again = self.reentrant && self.is_held_by(call);
        let holder = self.holder.as_ref().filter(|_| !again);
        if call.seen == Seen::Returned(Val::Bool(false)) {
            return match holder {
                Some(_) if call.deadline_ms.is_some() => Ok(Changes::No),
                Some(_) => Err(Complaint::new(format!("{} had no deadline to come to", call.show(values)))),
                None => Err(Complaint::new(format!("{} gave up a lock that was free", call.show(values)))),
            };
        }
        if let Some(holder) = holder {
            let text = format!("{}, but session {} holds the lock: two holders", call.show(values), holder.session);
            return Err(Complaint::of(Promise::R1, text));
        }
        answers(call, values, Reply::Value(Val::Bool(true)))?;
        self.new_fence(call, values)?;
        match &mut self.holder {
            Some(holder) => holder.depth = holder.depth.saturating_add(1),
            None => self.hold(call, NonZeroU64::MIN),
        }
        Ok(Changes::Yes)
    }

    /// Notifies the first in line. Those of whom it is known that they came to their deadlines have left it by then.
    ///
    /// Returns whether there was one. Errors: one who stands in its way cannot have left.
    fn notify_next(&mut self) -> Result<bool, ()> {
        while let Some(first) = self.line.first() {
            if first.end != WaitEnd::TimedOut {
                self.woken.push((self.line.leave(first.call)?, true));
                return Ok(true);
            }
            self.woken.push((self.line.settle(first.call)?, false));
        }
        Ok(false)
    }

    /// Whether all that may become of `other` may become of this one, too.
    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        let Self { reentrant, holder, fence_last, line, woken } = self;
        (reentrant, holder, fence_last, woken) == (&other.reentrant, &other.holder, &other.fence_last, &other.woken)
            && line.has_all_of(&other.line)
    }

    /// A wait has left the line at one of the deadlines there were.
    ///
    /// Errors: it cannot have, and nothing has changed.
    pub(crate) fn time_out(&mut self, call: CallId) -> Result<(), ()> {
        let wait = self.line.settle(call)?;
        self.woken.push((wait, false));
        Ok(())
    }

    /// The second half of a wait: it has the lock again.
    fn wait(&mut self, call: &Call, values: &Values) -> Result<Changes, Complaint> {
        let place = self.woken.iter().position(|(wait, _)| wait.call == call.id);
        let mut line = self.line.clone();
        let (wait, notified) = match place {
            Some(place) => self.woken[place],
            None if !self.line.has(call.id) && !self.is_held_by(call) => {
                answers(call, values, Reply::Raises("RuntimeError"))?;
                return Ok(Changes::No);
            }
            None => {
                let text = || format!("{} was neither notified nor came to its deadline", call.show(values));
                let wait = line.settle(call.id).map_err(|()| Complaint::of(Promise::R5, text()))?;
                (wait, false)
            }
        };
        if let Some(holder) = &self.holder {
            let text = format!("{}, but session {} holds the lock: two holders", call.show(values), holder.session);
            return Err(Complaint::of(Promise::R1, text));
        }
        answers(call, values, Reply::Value(Val::Bool(notified)))?;
        self.new_fence(call, values)?;
        self.line = line;
        if let Some(place) = place {
            self.woken.remove(place);
        }
        self.hold(call, wait.depth);
        Ok(Changes::Yes)
    }

    fn hold(&mut self, call: &Call, depth: NonZeroU64) {
        let (session, owner) = (call.session, call.owner);
        self.holder = Some(Holder { session, owner, depth, is_known: !call.is_unknown() });
    }

    fn new_fence(&mut self, call: &Call, values: &Values) -> Result<(), Complaint> {
        if call.is_unknown() {
            return Ok(());
        }
        let Some(grant) = call.grant else {
            return Err(Complaint::of(Promise::R1, format!("{} carries no fence", call.show(values))));
        };
        if grant.fence <= self.fence_last {
            let (fence, last) = (grant.fence, self.fence_last);
            let text = format!("{} has fence {fence}, not above that of the grant before, {last}", call.show(values));
            return Err(Complaint::of(Promise::R1, text));
        }
        self.fence_last = grant.fence;
        Ok(())
    }

    fn is_held_by(&self, call: &Call) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.is(call))
    }

    pub(super) fn hide(&mut self, hidden: Hidden) -> Result<(), ()> {
        match hidden {
            Hidden::Lost { session } => self.holder.take_if(|holder| holder.session == session).map(drop).ok_or(()),
            Hidden::WaitBegan { call, end } => {
                let Holder { depth, .. } = self.holder.take().ok_or(())?;
                self.line.begin(Wait { call, end, depth });
                Ok(())
            }
            Hidden::WaitTimedOut { call } => {
                self.line.time_out()?;
                call.map_or(Ok(()), |call| self.time_out(call))
            }
            Hidden::PassedOn { call } => {
                let place = self.woken.iter().position(|(wait, notified)| wait.call == call && *notified).ok_or(())?;
                self.woken.remove(place);
                self.notify_next()?.then_some(()).ok_or(())
            }
            Hidden::PermitBack { .. } | Hidden::ItemsBack { .. } => Err(()),
        }
    }

    /// Whether the end of its session frees it: a plain lock outlives an orderly goodbye, unless its holder never knew.
    pub(crate) fn is_freed_by(&self, orderly: bool) -> bool {
        self.reentrant || !orderly || self.holder.as_ref().is_some_and(|holder| !holder.is_known)
    }
}

impl Holder {
    fn is(&self, call: &Call) -> bool {
        self.session == call.session && self.owner == call.owner
    }
}
