//! `threading.Lock`.

use steward_guest::prelude::*;

use crate::not_picklable;

/// Who holds the lock, and by which call, if anybody does.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Lock {
    holder: Option<Holder>,
    /// The last holder was lost while holding it, and the next one is to know.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Holder {
    /// `None` once it has said goodbye: then nobody's end frees the lock.
    session: Option<u64>,
    call: CallId,
    /// Its grant said so.
    abandoned: bool,
}

/// A lock without owner: whoever has a proxy may release it.
#[object(version = "1.0.0", name = "GuestLock")]
impl Lock {
    /// A free lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the lock, parking until it is free; returns True, or False at the deadline.
    #[method(fifo, timeout = Ok(false))]
    pub fn acquire(&mut self, cx: &Context) -> Result<bool> {
        if self.holder.is_some() {
            return pending();
        }
        let abandoned = std::mem::take(&mut self.abandoned);
        self.holder = Some(Holder { session: Some(cx.owner().session), call: cx.call_id(), abandoned });
        if abandoned {
            cx.grant_abandoned();
        } else {
            cx.grant();
        }
        Ok(true)
    }

    /// Frees the lock. Raises RuntimeError if nobody holds it.
    pub fn release(&mut self, cx: &Context) -> Result<()> {
        match self.holder.take() {
            Some(_) => {
                cx.freed();
                Ok(())
            }
            None => raise("RuntimeError", "release unlocked lock"),
        }
    }

    /// Whether somebody holds the lock.
    pub fn locked(&self) -> bool {
        self.holder.is_some()
    }

    /// A lock has no value to copy.
    #[method(name = "#GETVALUE")]
    pub fn value(&self) -> Result<()> {
        not_picklable()
    }

    #[on(owner_lost)]
    fn owner_lost(&mut self, cx: &Context, lost: OwnerLost) -> bool {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.session == Some(lost.session)) else {
            return false;
        };
        if lost.orderly {
            holder.session = None;
        } else {
            self.holder = None;
            self.abandoned = true;
            cx.freed();
        }
        true
    }

    #[on(undelivered)]
    fn undelivered(&mut self, cx: &Context, lost: Undelivered) -> bool {
        let Some(holder) = self.holder.take_if(|holder| holder.call == cx.call_id()) else { return false };
        self.abandoned |= holder.abandoned || lost.sent;
        cx.freed();
        true
    }
}
