//! An object on its way to another version of its type.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::{Input, Outbox};

use super::again::Budget;
use super::inputs::{arrived, asking, tell, time_of};
use super::saving::STATE_BYTES_MAX;
use super::{Object, wit};
use crate::guest::journal::{Base, Journal, digest};
use crate::guest::ledger::{Held, Ledger, emit};
use crate::guest::releases::Release;
use crate::guest::shard::{Ended, Guest, NotMade, Seat, Trap, Where, place};

/// A guest of another version that has done all that its predecessor would have.
struct Moved {
    guest: Guest,
    ledger: Ledger,
    journal: Journal,
    outcomes: Vec<wit::Outcome>,
}

impl Object {
    /// Moves to the newest version, and steps that with the input. False if the object stays as it is, and the input
    /// is still to be stepped with.
    #[cold]
    pub(super) fn moves(&mut self, input: &Input<'_>, out: &mut Outbox) -> bool {
        if self.releases.is_removed() {
            let typeid = &self.release.kind.info.typeid;
            self.poison(format!("typeid `{typeid}` was removed with its objects"), out);
            return true;
        }
        let newest = self.releases.newest();
        if newest.generation == self.release.generation || !self.release.kind.saves || !newest.kind.saves {
            self.seen = newest.generation;
            return false;
        }
        // What the guest does not see does not move it. Calls that it asked for come back to the version that asked.
        if self.ledger.invoked > 0 || self.instead(&newest, input).is_some() {
            return false;
        }
        let now_ms = time_of(input);
        let (load_seed, seed) = (self.next_seed(), self.seed_of(input));
        let entry = self.entry(now_ms);
        let saved = loop {
            let guest = self.guest.as_mut().expect("a poisoned object does not move");
            match guest.save(entry) {
                Ok(saved) => break Ok(saved),
                Err(Ended::Trapped(Trap { what, .. })) => break Err(what),
                Err(Ended::Before) => {
                    if let Err(what) = self.come_back(out) {
                        self.poison(what, out);
                        return true;
                    }
                }
            }
        };
        let moved = match saved {
            Ok(Ok(state)) if state.len() <= STATE_BYTES_MAX => self.moved(&newest, &state, input, (load_seed, seed)),
            Ok(Ok(state)) => Err(format!("its state is {} bytes, limit is {STATE_BYTES_MAX}", state.len())),
            Ok(Err(fault)) => Err(format!("`save` raised {}: {}", fault.kind, fault.message)),
            Err(trap) => {
                self.releases.tally.traps.fetch_add(1, Ordering::Relaxed);
                let what = format!("`save` trapped: {trap}");
                if let Err(why) = self.make_again(now_ms, out) {
                    self.poison(format!("{what}; it cannot be made again: {why}"), out);
                    return true;
                }
                Err(what)
            }
        };
        let (from, to) = (&self.release.kind.version, &newest.kind.version);
        match moved {
            Ok(moved) => {
                tracing::debug!(typeid = newest.kind.info.typeid, ident = self.ident.0, %from, %to, "object moved");
                self.releases.tally.moved.fetch_add(1, Ordering::Relaxed);
                self.release.objects.fetch_sub(1, Ordering::Relaxed);
                newest.objects.fetch_add(1, Ordering::Relaxed);
                self.seen = newest.generation;
                self.release = newest;
                self.arrive(moved, out);
                self.save_if_due(now_ms, out);
                true
            }
            Err(why) => {
                self.seen = newest.generation;
                let why = format!("object {} stays with {from}: {why}", self.ident);
                self.warn(&format!("not moved to {to}: {why}"));
                self.releases.tally.not_moved.fetch_add(1, Ordering::Relaxed);
                *self.releases.tally.not_moved_last.lock() = Some(why);
                false
            }
        }
    }

    /// A guest of the newest version that was loaded with `state`, was brought the calls that wait, and has taken the
    /// step. The object itself is as before. The error says why there is none.
    fn moved(
        &self,
        newest: &Arc<Release>,
        state: &[u8],
        input: &Input<'_>,
        seeds: (u64, u64),
    ) -> Result<Moved, String> {
        let guest = self.guest.as_ref().expect("a poisoned object does not move");
        let moved = place(newest, guest.whose(), Where::InPlaceOf(guest), |seat| {
            self.loaded(newest, seat, state, input, seeds)
        });
        moved.map_err(|error| error.to_string())
    }

    fn loaded(
        &self,
        newest: &Release,
        seat: Seat,
        state: &[u8],
        input: &Input<'_>,
        (load_seed, seed): (u64, u64),
    ) -> Result<Moved, NotMade> {
        let now_ms = time_of(input);
        let from = &self.release.kind.version;
        let runtime = &*newest.kind.who.runtime;
        let tenant = self.guest.as_ref().map_or("", |guest| guest.whose().tenant).to_owned();
        let context = wit::Context { now_ms, seed: load_seed, tenant };
        let entry = self.entry(now_ms);
        let (mut guest, stored) = Guest::load(seat, entry, state, from, &context).map_err(|error| match error {
            NotMade::Raised(fault) => NotMade::Differs(format!("`load` raised {}: {}", fault.kind, fault.message)),
            NotMade::Trapped(trap) => NotMade::Trapped(Trap { what: format!("`load` trapped: {}", trap.what), ..trap }),
            other => other,
        })?;
        let mut budget = Budget::new(runtime);
        budget.take(&guest)?;
        let known = |ident| self.ledger.held.contains_key(&ident);
        let differs = NotMade::Differs;
        let mut ledger = Ledger::of(&stored, known, &runtime.config).map_err(|broken| differs(broken.to_string()))?;
        ledger.wish = self.ledger.wish;
        // The calls that wait stand in the journal and not below its mark: with this version some may be answered.
        let wish = self.ledger.wish;
        let base =
            Base { saved_by: Some(Arc::clone(from)), item: state.into(), now_ms, seed: load_seed, wish, mark: 0 };
        let mut journal = Journal::new(base, newest.isolation);
        let mut outcomes = Vec::new();
        let waiting = self.ledger.waiting.iter().map(|(id, waiting)| {
            let input = Input::Call(waiting.call(*id, now_ms));
            (input, waiting.seed, Some((id, waiting)))
        });
        for (input, seed, waits) in waiting.chain([(*input, seed, None)]) {
            let name_of =
                |method: u16| self.release.info().methods.get(usize::from(method)).map(|method| &*method.name);
            if let Some((id, waiting)) = waits
                && newest.place_of(waiting.method).is_none()
            {
                let name = name_of(waiting.method).unwrap_or("");
                return Err(differs(format!("call {id} waits in `{name}`, which is gone")));
            }
            // It was answered just now.
            if let Input::Cancel { call, .. } = input
                && !ledger.waiting.contains_key(&call)
            {
                continue;
            }
            let when = || match waits {
                Some((id, _)) => format!("call {id}, which waits"),
                None => format!("its first step, {}", self.place(&input)),
            };
            let stepped = guest.step(entry, seed, &tell(newest, &input));
            let outcome = stepped.map_err(|ended| ended.not_made(|trap| format!("{} trapped: {trap}", when())))?;
            budget.take(&guest)?;
            let checked = ledger.check(&outcome, asking(&input), &arrived(&input), &runtime.config);
            checked.map_err(|broken| differs(format!("{} broke the rules: {broken}", when())))?;
            journal.stepped(&input, seed, digest(&outcome), guest.ticks());
            ledger.settle(&input, &outcome);
            outcomes.push(outcome);
        }
        Ok(Moved { guest, ledger, journal, outcomes })
    }

    /// Takes over from the former version.
    fn arrive(&mut self, moved: Moved, out: &mut Outbox) {
        let Moved { guest, ledger, journal, outcomes } = moved;
        let former = std::mem::replace(&mut self.ledger, ledger);
        let of = |held: &Held, ident| held.get(ident).copied().unwrap_or(0);
        for (ident, count) in &self.ledger.held {
            (of(&former.held, ident)..*count).for_each(|_| out.hold(*ident));
        }
        for (ident, count) in &former.held {
            (of(&self.ledger.held, ident)..*count).for_each(|_| out.let_go(*ident));
        }
        for mut outcome in outcomes {
            // The last wish counts, as it would over several steps.
            outcome.wake_at = None;
            emit(outcome, out);
        }
        if let Some(wish_ms) = self.ledger.wish.at_ms() {
            out.wake_at(wish_ms);
        }
        if let Ok(former) = &self.guest {
            guest.take_room_of(former);
        }
        self.guest = Ok(guest);
        self.journal = Ok(journal);
        self.traps = None;
    }
}
