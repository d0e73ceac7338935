//! The lock of a Value or an Array: RLocks that share the object's cell.

use crate::sync::lock::call_lock;
use crate::sync::mutex::Mutex;
use crate::{Call, Facet, Fault, Input, Outbox, Owner};

/// For the method tables.
pub(crate) const GET_LOCK_DOC: &str = "Returns the object's RLock, the same lock at each call.\n\nNo method takes it by itself: it is for those who change \
     the object in several steps.";

/// One lock; each `get_lock` makes one more facet that stands for it.
#[derive(Debug)]
pub(crate) struct Lockable {
    /// Made when it is first asked for.
    lock: Option<Box<Mutex>>,
    /// Facet numbers are never used again.
    latest: Facet,
}

impl Lockable {
    pub(crate) fn new() -> Self {
        Self { lock: None, latest: 0 }
    }

    /// Answers `get_lock`.
    pub(crate) fn open(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        self.latest = self
            .latest
            .checked_add(1)
            .ok_or_else(|| Fault::raised("MemoryError", format!("get_lock was called {} times", Facet::MAX)))?;
        self.lock.get_or_insert_with(|| Box::new(Mutex::reentrant()));
        out.returns_facet(call.id, self.latest, "RLock");
        out.changed();
        Ok(())
    }

    /// Who holds the lock.
    pub(crate) fn holder(&self) -> Option<Owner> {
        self.lock.as_ref().and_then(|lock| lock.holder())
    }

    /// Takes every input but a call of facet 0, which is the object's own.
    pub(crate) fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        if let Input::Join { call, typeid, .. } = input {
            let message = format!("typeid `{typeid}` cannot share this object's cell");
            return out.raises(call, &Fault::refused("TypeError", message));
        }
        let Some(lock) = &mut self.lock else {
            if let Input::Call(call) = input {
                out.raises(call.id, &Fault::refused("UnknownFacet", "this object's lock was never asked for"));
            }
            return;
        };
        match input {
            Input::Call(call) => {
                if let Err(fault) = call_lock(lock, &call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => {
                let condition = lock.cancel(call, why, out);
                assert_eq!(condition, None, "this lock has no Conditions");
            }
            Input::OwnerLost { session, orderly, .. } => lock.owner_lost(session, orderly, out),
            Input::Undelivered { call, sent, .. } => lock.undelivered(call, sent, out),
            Input::Join { .. } | Input::Leave { .. } | Input::Returned { .. } | Input::Tick { .. } => {}
        }
    }
}
