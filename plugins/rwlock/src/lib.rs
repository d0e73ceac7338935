//! `RWLock`: many readers or one writer.

use steward_guest::prelude::*;

/// Who holds the lock, and the two ways to hold it.
///
/// Who waits is not in here: parked calls are the host's to keep. That readers and writers wait in *one* line is all that fairness takes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RWLock {
    /// In the order of grants; a reader stands here as often as it holds the lock.
    readers: Vec<Grant>,
    writer: Option<Grant>,
    /// A writer was lost while writing, and the next to get in is to know.
    abandoned: bool,
}

/// Who was granted the lock, by which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    owner: Owner,
    call: CallId,
}

/// Many readers or one writer.
///
/// Everybody waits in one line, first come, first served: a reader that comes after a waiting writer waits behind it, so neither kind
/// can starve the other, and readers next to each other in the line get in together. Every grant carries a fence, and the first
/// after a writer was lost while writing says `abandoned`.
///
/// It is not reentrant: as with a Lock, a caller that asks for what it keeps others from waits for itself, until its deadline. What a session
/// holds when it ends is released.
#[object(version = "1.0.0")]
impl RWLock {
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the lock to read, waiting in turn while somebody writes. False at the deadline.
    #[method(fifo, line = "turn", timeout = Ok(false))]
    pub fn acquire_read(&mut self, cx: &Context) -> Result<bool> {
        if self.writer.is_some() {
            return pending();
        }
        let grant = self.grant(cx);
        self.readers.push(grant);
        Ok(true)
    }

    /// Takes the lock to write, waiting in turn while somebody holds it. False at the deadline.
    #[method(fifo, line = "turn", timeout = Ok(false))]
    pub fn acquire_write(&mut self, cx: &Context) -> Result<bool> {
        if self.writer.is_some() || !self.readers.is_empty() {
            return pending();
        }
        self.writer = Some(self.grant(cx));
        Ok(true)
    }

    /// Gives back what the caller holds: the lock to write, or one of its grants to read.
    pub fn release(&mut self, cx: &Context) -> Result<()> {
        if self.let_go(cx, |grant| grant.owner == cx.owner()) {
            return Ok(());
        }
        raise("RuntimeError", "cannot release un-acquired lock")
    }

    /// How many grants to read are out.
    pub fn readers(&self) -> usize {
        self.readers.len()
    }

    /// Whether somebody holds the lock to write.
    pub fn writing(&self) -> bool {
        self.writer.is_some()
    }

    /// What a session held is released, whether it said goodbye or died: a grant belongs to its owner.
    #[on(owner_lost)]
    fn owner_lost(&mut self, cx: &Context, lost: OwnerLost) -> bool {
        self.abandoned |= !lost.orderly && self.writer.is_some_and(|writer| writer.owner.session == lost.session);
        let mut changed = false;
        while self.let_go(cx, |grant| grant.owner.session == lost.session) {
            changed = true;
        }
        changed
    }

    /// A grant that nobody learnt of is nobody's; of one that was sent its client may have learnt.
    #[on(undelivered)]
    fn undelivered(&mut self, cx: &Context, lost: Undelivered) -> bool {
        self.abandoned |= lost.sent && self.writer.is_some_and(|writer| writer.call == cx.call_id());
        self.let_go(cx, |grant| grant.call == cx.call_id())
    }

    /// Grants the call, saying so if a writer was lost before it.
    fn grant(&mut self, cx: &Context) -> Grant {
        if std::mem::take(&mut self.abandoned) {
            cx.grant_abandoned();
        } else {
            cx.grant();
        }
        Grant { owner: cx.owner(), call: cx.call_id() }
    }

    /// Takes back the latest grant of this kind; says whether there was one.
    fn let_go(&mut self, cx: &Context, is_meant: impl Fn(Grant) -> bool) -> bool {
        let lets_go = match self.readers.iter().rposition(|grant| is_meant(*grant)) {
            Some(at) => {
                self.readers.remove(at);
                true
            }
            None => self.writer.take_if(|writer| is_meant(*writer)).is_some(),
        };
        if lets_go && self.readers.is_empty() && self.writer.is_none() {
            cx.freed();
        }
        lets_go
    }
}

steward_guest::export!(RWLock);

#[cfg(test)]
mod tests;
