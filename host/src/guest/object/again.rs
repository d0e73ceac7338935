//! An object made again: a new guest that is as the former one was, by its journal.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use steward_objects::{Args, CallId, Ident, Input, Outbox};

use super::inputs::{tell, time_of};
use super::{Object, wit};
use crate::guest::Runtime;
use crate::guest::instance::Entry;
use crate::guest::journal::{self, Base, Waiting, Wish, digest};
use crate::guest::ledger::Held;
use crate::guest::shard::{Guest, NotMade, Seat, Where, place};

/// What is stepped once more in one go, to make an object again or to move it, may take the CPU time of so many steps.
const STEPS_AGAIN_MAX: u64 = 10;

impl Object {
    /// Puts a new guest, which is as the one that has trapped was before, in its place.
    pub(super) fn make_again(&mut self, now_ms: u64, out: &mut Outbox) -> Result<(), String> {
        let guest = self.guest.as_ref().expect("a poisoned object is not made again");
        // It may have broken the rules and be alive.
        guest.end();
        let (guest, wish_ms) = self.remade(Where::Again(guest)).map_err(|error| error.to_string())?;
        self.go_on_as(guest, wish_ms, out);
        self.traps.get_or_insert_default().trapped(now_ms);
        Ok(())
    }

    /// As [`Object::make_again`], after another object's guest has ended the life of the shard.
    #[cold]
    pub(super) fn come_back(&mut self, out: &mut Outbox) -> Result<(), String> {
        let guest = self.guest.as_ref().expect("a poisoned object does not come back");
        let (guest, wish_ms) = self.remade(Where::Again(guest)).map_err(|error| {
            let typeid = &self.release.kind.info.typeid;
            format!("another `{typeid}` of its shard trapped; it cannot be made again: {error}")
        })?;
        self.go_on_as(guest, wish_ms, out);
        Ok(())
    }

    /// Goes on in a shard of its own, as it was before the step that wanted more memory than others leave. False if there is no
    /// other shard: then that step has trapped.
    #[cold]
    pub(super) fn leaves_the_crowd(&mut self, out: &mut Outbox) -> bool {
        let Ok((guest, wish_ms)) = self.remade(Where::Alone) else { return false };
        self.go_on_as(guest, wish_ms, out);
        true
    }

    fn go_on_as(&mut self, guest: Guest, wish_ms: Option<u64>, out: &mut Outbox) {
        self.guest = Ok(guest);
        // A wish that the former guest has told the host stands; being woken too early does no harm.
        if let Some(wish_ms) = wish_ms
            && self.ledger.wish.at_ms().is_none_or(|told_ms| wish_ms < told_ms)
        {
            out.wake_at(wish_ms);
            self.ledger.wish = Wish::new(Some(wish_ms));
        }
        self.releases.tally.recovered.fetch_add(1, Ordering::Relaxed);
    }

    /// A guest made from the journal, and its wish to be woken.
    fn remade(&self, wanted: Where<'_>) -> Result<(Guest, Option<u64>), NotMade> {
        let whose = self.guest.as_ref().expect("a poisoned object is not made again").whose();
        place(&self.release, whose, wanted, |seat| self.replayed(seat, whose.tenant))
    }

    fn replayed(&self, seat: Seat, tenant: &str) -> Result<(Guest, Option<u64>), NotMade> {
        let differs = NotMade::Differs;
        let journal = self.journal.as_ref().map_err(|why| differs((*why).to_owned()))?;
        let Base { ref saved_by, ref item, now_ms, seed, wish, mark } = journal.base;
        let mut wish_ms = wish.at_ms();
        let kind = &self.release.kind;
        let context = wit::Context { now_ms, seed, tenant: tenant.to_owned() };
        let entry = Entry { muted: true, ..self.entry(now_ms) };
        let (mut guest, stored) = match saved_by {
            None if item.is_empty() => Guest::create(seat, entry, Args::none().item(), &context),
            None => Guest::create(seat, entry, item, &context),
            Some(version) => Guest::load(seat, entry, item, version, &context),
        }?;
        let mut budget = Budget::new(&kind.who.runtime);
        budget.take(&guest)?;
        let mut held = Held::new();
        count(&mut held, &stored, &[]);

        let mut waited: BTreeMap<CallId, Waiting> = BTreeMap::new();
        waited.extend(self.ledger.waiting.range(..=mark).map(|(id, waiting)| (*id, waiting.clone())));
        waited.extend(journal.entries().filter_map(|entry| match entry {
            journal::Entry::Waited(id, waiting) => Some((id, waiting)),
            journal::Entry::Stepped { .. } => None,
        }));
        for (id, waiting) in waited {
            let outcome = self.again(&mut guest, &mut budget, &Input::Call(waiting.call(id, now_ms)), waiting.seed)?;
            if !parks(&outcome) {
                return Err(differs(format!("call {id}, which waited, does not wait again")));
            }
            count(&mut held, &outcome.held, &outcome.let_go);
            wish_ms = outcome.wake_at.or(wish_ms);
        }

        for entry in journal.entries() {
            let journal::Entry::Stepped { input, seed, digest: expected } = entry else { continue };
            let input = input.input();
            let outcome = self.again(&mut guest, &mut budget, &input, seed)?;
            if digest(&outcome) != expected {
                return Err(differs(format!("its outcome differs the second time in {}", self.place(&input))));
            }
            count(&mut held, &outcome.held, &outcome.let_go);
            wish_ms = outcome.wake_at.or(wish_ms.filter(|_| !matches!(input, Input::Tick { .. })));
        }
        if held != self.ledger.held {
            return Err(differs("it stores other tokens the second time".to_owned()));
        }
        Ok((guest, wish_ms))
    }

    /// Steps a guest with what the one before it was stepped with.
    fn again(
        &self,
        guest: &mut Guest,
        budget: &mut Budget,
        input: &Input<'_>,
        seed: u64,
    ) -> Result<wit::Outcome, NotMade> {
        let told = tell(&self.release, input);
        let stepped = guest.step(Entry { muted: true, ..self.entry(time_of(input)) }, seed, &told);
        let place = |trap: &str| format!("it trapped the second time in {}: {trap}", self.place(input));
        let outcome = stepped.map_err(|ended| ended.not_made(place))?;
        budget.take(guest)?;
        Ok(outcome)
    }
}

/// CPU time for steps that are taken once more, in ticks.
pub(super) struct Budget {
    left: u64,
    cpu_ms: u64,
}

impl Budget {
    pub(super) fn new(runtime: &Runtime) -> Self {
        let left = STEPS_AGAIN_MAX * u64::from(runtime.step_ticks_max());
        Self { left, cpu_ms: STEPS_AGAIN_MAX * runtime.config.step_cpu_ms }
    }

    /// Takes what the latest entry of the guest took.
    pub(super) fn take(&mut self, guest: &Guest) -> Result<(), NotMade> {
        let left = self.left.checked_sub(u64::from(guest.ticks()));
        let too_long = || NotMade::Differs(format!("that takes more than {} ms of CPU time", self.cpu_ms));
        self.left = left.ok_or_else(too_long)?;
        Ok(())
    }
}

/// Whether a step that was made for a call has done nothing but let it wait.
fn parks(outcome: &wit::Outcome) -> bool {
    let wit::Outcome { completions, freed, changed, wake_at: _, held: _, let_go: _, invokes } = outcome;
    completions.is_empty() && !freed && !changed && invokes.is_empty()
}

/// Counts tokens that are stored and let go.
fn count(counts: &mut Held, held: &[u64], let_go: &[u64]) {
    for &ident in held {
        *counts.entry(Ident(ident)).or_default() += 1;
    }
    for &ident in let_go {
        let count = counts.entry(Ident(ident)).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&Ident(ident));
        }
    }
}
