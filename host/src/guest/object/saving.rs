//! What an object saves by itself, so that its journal stays short, and what that takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::Outbox;

use super::Object;
use crate::guest::journal::{Base, JOURNAL_BYTES_MAX, Journal};
use crate::guest::shard::{Ended, Trap};

/// Bytes of a saved state.
pub(super) const STATE_BYTES_MAX: usize = 4 << 20;

impl Object {
    /// Saves the object when its journal has become long, and begins a new one.
    pub(super) fn save_if_due(&mut self, now_ms: u64, out: &mut Outbox) {
        self.count_journal(out);
        let kind = &self.release.kind;
        let runtime = &*kind.who.runtime;
        let entry = self.entry(now_ms);
        let (Ok(journal), Ok(guest)) = (&mut self.journal, &mut self.guest) else { return };
        if !journal.is_due(runtime.step_ticks_max()) {
            return;
        }
        if !kind.saves {
            if journal.len() > JOURNAL_BYTES_MAX {
                self.give_up("its type does not save, and it was made too many calls ago", out);
            }
            return;
        }
        // What waits for this very moment would be answered, when it is brought again, and not wait: the tick comes first.
        // One that is always late is no reason to wait for ever.
        if self.ledger.wish.at_ms().is_some_and(|wish_ms| wish_ms <= now_ms) && journal.len() < 2 * JOURNAL_BYTES_MAX {
            return;
        }
        let saved = guest.save(entry);
        kind.placement.record(guest.ticks());
        let why_not = match saved {
            Ok(Ok(state)) if state.len() <= STATE_BYTES_MAX => {
                let version = Arc::clone(&kind.version);
                let mark = self.ledger.waiting.last_key_value().map_or(0, |(id, _)| *id);
                let seed = self.next_seed();
                let wish = self.ledger.wish;
                let base = Base { saved_by: Some(version), item: state.into(), now_ms, seed, wish, mark };
                self.journal = Ok(Journal::new(base, self.release.isolation));
                return self.count_journal(out);
            }
            Ok(Ok(state)) => format!("its state is {} bytes, limit is {STATE_BYTES_MAX}", state.len()),
            Ok(Err(fault)) => format!("{}: {}", fault.kind, fault.message),
            // It is still due when it has come back.
            Err(Ended::Before) => return,
            Err(Ended::Trapped(Trap { what: trap, .. })) => {
                self.releases.tally.traps.fetch_add(1, Ordering::Relaxed);
                if let Err(why) = self.make_again(now_ms, out) {
                    let typeid = &self.release.kind.info.typeid;
                    let what = format!("guest trapped in `{typeid}` while it was saved: {trap}");
                    return self.poison(format!("{what}; it cannot be made again: {why}"), out);
                }
                trap
            }
        };
        self.warn(&format!("not saved: {why_not}"));
        let Ok(journal) = &mut self.journal else { return };
        journal.put_off();
        if journal.len() > JOURNAL_BYTES_MAX {
            self.give_up("it could not be saved", out);
        }
    }

    /// From now on a trap poisons the object.
    fn give_up(&mut self, why: &'static str, out: &mut Outbox) {
        self.warn(&format!("it cannot be made again after a trap: {why}"));
        self.journal = Err(why);
        self.count_journal(out);
    }

    /// Tells the tally how large the journal is, and the tenant.
    pub(super) fn count_journal(&mut self, out: &mut Outbox) {
        let bytes = self.journal.as_ref().map_or(0, Journal::memory_bytes);
        if bytes != self.journal_bytes {
            let counter = &self.releases.tally.journal_bytes;
            counter.fetch_add(bytes.wrapping_sub(self.journal_bytes), Ordering::Relaxed);
            out.store_items(0, bytes);
            out.remove_items(0, self.journal_bytes);
            self.journal_bytes = bytes;
        }
    }
}
