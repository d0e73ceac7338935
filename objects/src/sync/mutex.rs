//! Mutual exclusion with a fair line: what Lock, RLock and Condition are made of, and the lock of a Value or an Array.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::{CallId, Facet, Fault, Outbox, Owner, Why};

use super::cancelled;

/// A lock: who holds it and who waits for it.
///
/// Plain as `threading.Lock`: no owner rule, anybody may release it. Reentrant as `threading.RLock`: its owner may
/// take it again and nobody else may release it. Beyond CPython: the line is first in, first out, and a lock
/// whose holder's session is lost goes to the next in line, who is told so by `abandoned` in the grant.
#[derive(Debug)]
pub struct Mutex {
    holder: Option<Holder>,
    /// Nobody waits for a lock that is free. `None` while nobody waits.
    line: Option<Box<Line>>,
    reentrant: bool,
    /// The next grant is to say that the last holder was lost.
    abandoned: bool,
}

#[derive(Debug)]
struct Holder {
    owner: Owner,
    /// The call whose grant made it the holder.
    call: CallId,
    /// How often it must release.
    depth: NonZeroU64,
    /// What the grant said.
    abandoned: bool,
}

/// A call that waits for the lock.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) call: CallId,
    pub(super) owner: Owner,
    /// How often its owner must release once it holds the lock.
    pub(super) depth: NonZeroU64,
    pub(super) kind: ParkedKind,
}

/// What a call in the line is.
#[derive(Clone, Copy, Debug)]
pub(super) enum ParkedKind {
    /// An `acquire`.
    Acquire,
    /// A `Condition.wait` that takes its lock again.
    Wait {
        /// The Condition.
        facet: Facet,
        /// What it will answer: it was notified, or it has timed out.
        notified: bool,
    },
}

/// Calls in the order in which they joined, which is not that of their numbers: a waiter of a Condition joins
/// when it is notified.
#[derive(Debug, Default)]
struct Line {
    parked: BTreeMap<u64, Parked>,
    places: BTreeMap<CallId, u64>,
    place_next: u64,
}

impl Mutex {
    /// A free lock without owner rule.
    pub fn plain() -> Self {
        Self { holder: None, line: None, reentrant: false, abandoned: false }
    }

    /// A free lock whose owner may take it repeatedly.
    pub fn reentrant() -> Self {
        Self { reentrant: true, ..Self::plain() }
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.holder.is_some()
    }

    /// Who took it.
    pub(crate) fn holder(&self) -> Option<Owner> {
        self.holder.as_ref().map(|holder| holder.owner)
    }

    /// Whether its owner may take it repeatedly.
    pub fn is_reentrant(&self) -> bool {
        self.reentrant
    }

    /// Whether `owner` may wait on and notify a Condition of this lock. As CPython's `Condition._is_owned`: of a
    /// plain lock it is known only that somebody holds it.
    pub(super) fn is_owned_by(&self, owner: Owner) -> bool {
        self.holder.as_ref().is_some_and(|holder| !self.reentrant || holder.owner == owner)
    }

    /// `acquire`: answers True with a grant, now or after those who came before.
    pub fn acquire(&mut self, call: CallId, owner: Owner, out: &mut Outbox) {
        match &mut self.holder {
            Some(holder) if self.reentrant && holder.owner == owner => {
                holder.depth = holder.depth.checked_add(1).expect("64 bits outlast any caller");
                out.returns_bool(call, true);
                out.grant(call, false);
                out.changed();
            }
            _ => self.join(Parked { call, owner, depth: NonZeroU64::MIN, kind: ParkedKind::Acquire }, out),
        }
    }

    /// `release`: answers None, and the next in line holds the lock.
    ///
    /// Raised: `RuntimeError` if the lock is free, or reentrant and somebody else's.
    pub fn release(&mut self, call: CallId, owner: Owner, out: &mut Outbox) {
        let holder = match &mut self.holder {
            Some(holder) if !self.reentrant || holder.owner == owner => holder,
            _ => {
                let text = if self.reentrant { "cannot release un-acquired lock" } else { "release unlocked lock" };
                return out.raises(call, &Fault::raised("RuntimeError", text));
            }
        };
        out.returns_null(call);
        out.changed();
        match NonZeroU64::new(holder.depth.get() - 1) {
            Some(depth) => holder.depth = depth,
            None => self.hand_over(out),
        }
    }

    /// A call was given up. One that is not in line is ignored.
    ///
    /// Returns the Condition of a notified `wait` that left without its lock: its wake-up must not be lost.
    pub fn cancel(&mut self, call: CallId, why: Why, out: &mut Outbox) -> Option<Facet> {
        let line = self.line.as_mut()?;
        let place = *line.places.get(&call)?;
        let kind = line.parked[&place].kind;
        match (why, kind) {
            // It answers when it has its lock again, and not before.
            (Why::Deadline, ParkedKind::Wait { .. }) => return None,
            (Why::Deadline, ParkedKind::Acquire) => out.returns_bool(call, false),
            (Why::Client | Why::SessionEnded, _) => out.raises(call, &cancelled()),
        }
        line.parked.remove(&place);
        line.places.remove(&call);
        self.drop_empty_line();
        match kind {
            ParkedKind::Wait { facet, notified: true } => Some(facet),
            _ => None,
        }
    }

    /// A session has ended. What it held is released, but that a plain lock outlives an orderly goodbye, as CPython's do.
    pub fn owner_lost(&mut self, session: u64, orderly: bool, out: &mut Outbox) {
        let is_released = self.reentrant || !orderly;
        if is_released && self.holder.as_ref().is_some_and(|holder| holder.owner.session == session) {
            self.abandoned |= !orderly;
            out.changed();
            self.hand_over(out);
        }
    }

    /// The reply to an `acquire` or a `wait` was lost: if its grant still stands, it is undone as if it had never been,
    /// unless it was `sent`: then the holder may have known, and begun.
    pub fn undelivered(&mut self, call: CallId, sent: bool, out: &mut Outbox) {
        if let Some(holder) = self.holder.as_ref().filter(|holder| holder.call == call) {
            self.abandoned |= holder.abandoned || sent;
            out.changed();
            self.hand_over(out);
        }
    }

    /// Takes the lock away from its holder, whatever its depth, and gives it to the next in line. Returns the depth.
    pub(super) fn release_all(&mut self, out: &mut Outbox) -> NonZeroU64 {
        let depth = self.holder.as_ref().expect("only who owns the lock waits on its condition").depth;
        out.changed();
        self.hand_over(out);
        depth
    }

    /// Takes the lock for a call, or lets it wait at the end of the line.
    pub(super) fn join(&mut self, parked: Parked, out: &mut Outbox) {
        if self.holder.is_none() {
            return self.grant(parked, out);
        }
        let line = self.line.get_or_insert_default();
        let place = line.place_next;
        line.place_next += 1;
        let earlier = line.places.insert(parked.call, place);
        assert!(earlier.is_none(), "call {} stands in line already", parked.call);
        line.parked.insert(place, parked);
    }

    fn grant(&mut self, parked: Parked, out: &mut Outbox) {
        let Parked { call, owner, depth, kind } = parked;
        let abandoned = std::mem::take(&mut self.abandoned);
        self.holder = Some(Holder { owner, call, depth, abandoned });
        out.returns_bool(call, !matches!(kind, ParkedKind::Wait { notified: false, .. }));
        out.grant(call, abandoned);
        out.changed();
    }

    /// The holder holds it no more.
    fn hand_over(&mut self, out: &mut Outbox) {
        self.holder = None;
        out.freed();
        if let Some(line) = &mut self.line
            && let Some((_, parked)) = line.parked.pop_first()
        {
            line.places.remove(&parked.call);
            self.drop_empty_line();
            self.grant(parked, out);
        }
    }

    fn drop_empty_line(&mut self) {
        self.line.take_if(|line| line.parked.is_empty());
    }

    /// For people: `<unlocked Lock>`, `<locked RLock owner=3.1 count=2>`.
    pub(super) fn text(&self) -> String {
        match (&self.holder, self.reentrant) {
            (None, false) => "<unlocked Lock>".to_owned(),
            (None, true) => "<unlocked RLock>".to_owned(),
            (Some(_), false) => "<locked Lock>".to_owned(),
            (Some(Holder { owner, depth, .. }), true) => {
                format!("<locked RLock owner={}.{} count={depth}>", owner.session, owner.thread)
            }
        }
    }
}
