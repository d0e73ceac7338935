//! Guards: calls that take effect only while a lock is held.
//!
//! What is held the lock's cell tells everybody after each of its steps; whom it guards looks in its own turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::{CallId, HoldChange, Outbox};
use steward_wire::Fault;

use super::{Cell, Core, Work};

/// No fence is as high.
pub(super) const FREE: u64 = u64::MAX;

/// The condition of a call: it takes effect only while a lock is held under a fence.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) lock: Arc<Cell>,
    pub(crate) fence: u64,
}

impl Guard {
    /// Whether it stands. Read in the turn in which the effect happens, so that what the former holder does there comes before
    /// all that the next one does there.
    pub(super) fn stands(&self) -> bool {
        let Cell { held_from, fence_next, .. } = &*self.lock;
        held_from.load(Ordering::Acquire) <= self.fence && self.fence < fence_next.load(Ordering::Acquire)
    }

    pub(super) fn stale(&self) -> Fault {
        let (fence, lock) = (self.fence, self.lock.ident);
        Fault::refused("StaleFence", format!("fence {fence} of object {lock} is no longer held"))
    }
}

impl Cell {
    /// Tells everybody under which fences the cell's grants are held after a step.
    pub(super) fn publish(&self, out: &Outbox) {
        self.fence_next.store(out.fence_next(), Ordering::Release);
        match out.hold_change() {
            HoldChange::None => {}
            HoldChange::Granted(fence) if self.held_from.load(Ordering::Relaxed) == FREE => {
                self.held_from.store(fence, Ordering::Release);
            }
            HoldChange::Granted(_) => {}
            change @ (HoldChange::Freed | HoldChange::HandedOver(_)) => {
                let from = if let HoldChange::HandedOver(fence) = change { fence } else { FREE };
                self.held_from.store(from, Ordering::Release);
                let watchers = self.inbox.lock().others.as_mut().map(|others| std::mem::take(&mut others.watchers));
                for cell in watchers.into_iter().flatten() {
                    if let Some(cell) = cell.upgrade() {
                        cell.bring(Work::Recheck);
                    }
                }
            }
        }
    }

    /// `cell` is told, once, when the lock is freed or handed over.
    pub(super) fn watch(&self, cell: &Arc<Cell>) {
        let mut inbox = self.inbox.lock();
        let watchers = &mut inbox.others.get_or_insert_default().watchers;
        if watchers.len() == watchers.capacity() {
            watchers.retain(|watcher| watcher.strong_count() > 0);
        }
        if !watchers.iter().any(|watcher| watcher.as_ptr() == Arc::as_ptr(cell)) {
            watchers.push(Arc::downgrade(cell));
        }
    }

    /// Refuses parked calls whose guard no longer stands. Comes before every step, so that none of them takes effect in it.
    pub(super) fn recheck(self: &Arc<Self>, core: &mut Core, now_ms: u64, out: &mut Outbox) {
        let Some(waiting) = &core.waiting else { return };
        let guarded = waiting.guarded.iter().filter(|(_, guard)| !guard.stands());
        let stale: Vec<(CallId, Fault)> = guarded.map(|(&call, guard)| (call, guard.stale())).collect();
        for (call, fault) in stale {
            self.refuse(core, call, fault, now_ms, out);
        }
    }
}
