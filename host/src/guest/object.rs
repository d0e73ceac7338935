//! One object of a plugin: a guest behind the trait that built-in types have, which outlives its traps and its versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::{Args, Call, CallId, Effect, Fault, Ident, Input, Outbox, Referent, Why, common};

use super::bindings::steward::plugin::types as wit;
use super::instance::{Entry, Who};
use super::journal::{self, Base, JOURNAL_BYTES_MAX, Journal, Waiting, Wish, digest};
use super::ledger::{Held, Ledger, emit};
use super::releases::{Release, Releases};
use super::rules::{Arrived, Broken, check_fault, raised};
use super::shard::{Ended, Guest, NotMade, Seat, Trap, Where, Whose, place};
use super::traps::Traps;
use super::{Birth, Isolation, Runtime};
use crate::budget::Budget as TenantBudget;

/// Kind of the fault of a guest that trapped, was cut, or broke the rules.
const GUEST_TRAP: &str = "GuestTrap";

/// Bytes of a saved state.
const STATE_BYTES_MAX: usize = 4 << 20;

/// What is stepped once more in one go, to make an object again or to move it, may take the CPU time of so many steps.
const STEPS_AGAIN_MAX: u64 = 10;

/// An object of a plugin.
pub struct Object {
    releases: Arc<Releases>,
    release: Arc<Release>,
    /// The newest version that it has looked at: its own, or one that it cannot move to.
    seen: u64,
    ident: Ident,
    seed: u64,
    /// Or what poisoned it.
    guest: Result<Guest, Box<Fault>>,
    ledger: Ledger,
    /// By what it is made again, or why it cannot be.
    journal: Result<Journal, &'static str>,
    /// Bytes of the journal that the tally knows of, and the tenant is charged for.
    journal_bytes: usize,
    traps: Option<Box<Traps>>,
}

// A million of those that share are to fit into 1 GiB, with their cells, guests, tables and references.
const _: () = assert!(size_of::<Object>() <= 280);

/// What an object was when it was saved by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its type.
    pub typeid: String,
    /// The version that has saved it.
    pub version: String,
    /// What it gave. Calls that wait are no part of it.
    pub state: Vec<u8>,
}

/// What the host answers in place of the guest.
enum Instead {
    Fault(Fault),
    Text(String),
    /// There is nothing to answer.
    Nothing,
}

/// A guest of another version that has done all that its predecessor would have.
struct Moved {
    guest: Guest,
    ledger: Ledger,
    journal: Journal,
    outcomes: Vec<wit::Outcome>,
}

impl Object {
    /// `budget`: what its tenant may keep, if there is a limit to it.
    pub(super) fn create(
        releases: Arc<Releases>,
        args: Args<'_>,
        birth: Birth<'_>,
        budget: Option<&Arc<TenantBudget>>,
        out: &mut Outbox,
    ) -> Result<Self, Fault> {
        let release = releases.newest();
        let typeid = &release.kind.info.typeid;
        let Birth { tenant, ident, now_ms, seed } = birth;
        // Elsewhere a constructor that traps is its caller's affair alone.
        let shares = release.isolation == Isolation::Shared;
        if shares && let Some((traps, left_ms)) = release.shards.closed(now_ms) {
            let fault = format!(
                "constructors of `{typeid}` trapped {traps} times in a row: none is entered for another {left_ms} ms"
            );
            return Err(Fault::refused(GUEST_TRAP, fault).retry());
        }
        let context = wit::Context { now_ms, seed, tenant: tenant.to_owned() };
        let entry = Entry { ident, now_ms, muted: false, limited: true };
        let arrived = if args.has_tokens() { Arrived::with(args.item()) } else { Arrived::default() };
        let made = place(&release, Whose { tenant, budget }, Where::Anywhere, |seat| {
            Guest::create(seat, entry, args.item(), &context)
        });
        if shares {
            match &made {
                // Its tenant keeps too much.
                Err(NotMade::Trapped(Trap { over_quota: Some(_), .. })) => {}
                Err(NotMade::Trapped(_)) => release.shards.constructor_trapped(now_ms),
                _ => release.shards.constructor_went_well(),
            }
        }
        let (guest, held) = made.map_err(|error| not_made(&release, error, |ident| arrived.brought(ident)))?;
        let ledger = Ledger::new(&held, &arrived, &release.kind.who.runtime.config);
        let ledger = ledger.map_err(|broken| broke(&release, broken))?;
        let item = if args.item() == Args::none().item() { Box::default() } else { args.item().into() };
        let base = Base { saved_by: None, item, now_ms, seed, wish: Wish::default(), mark: 0 };
        held.into_iter().for_each(|ident| out.hold(Ident(ident)));
        Ok(Self::begin(releases, release, birth, (guest, ledger, base), out))
    }

    /// An object from what one of its type was. It may hold tokens of idents that are `known`.
    pub(super) fn load(
        releases: Arc<Releases>,
        saved: &Saved,
        birth: Birth<'_>,
        known: impl Fn(Ident) -> bool + Copy,
        out: &mut Outbox,
    ) -> Result<Self, Fault> {
        let release = releases.newest();
        let Birth { tenant, ident, now_ms, seed } = birth;
        let context = wit::Context { now_ms, seed, tenant: tenant.to_owned() };
        let entry = Entry { ident, now_ms, muted: false, limited: false };
        let made = place(&release, Whose { tenant, budget: None }, Where::Anywhere, |seat| {
            Guest::load(seat, entry, &saved.state, &saved.version, &context)
        });
        let (guest, held) = made.map_err(|error| not_made(&release, error, known))?;
        let ledger = Ledger::of(&held, known, &release.kind.who.runtime.config);
        let ledger = ledger.map_err(|broken| broke(&release, broken))?;
        let saved_by = Some(saved.version.as_str().into());
        let item = saved.state.as_slice().into();
        let base = Base { saved_by, item, now_ms, seed, wish: Wish::default(), mark: 0 };
        held.into_iter().for_each(|ident| out.hold(Ident(ident)));
        Ok(Self::begin(releases, release, birth, (guest, ledger, base), out))
    }

    /// Of a guest that was just made.
    fn begin(
        releases: Arc<Releases>,
        release: Arc<Release>,
        Birth { ident, seed, .. }: Birth<'_>,
        (guest, ledger, base): (Guest, Ledger, Base),
        out: &mut Outbox,
    ) -> Self {
        release.objects.fetch_add(1, Ordering::Relaxed);
        let mut object = Self {
            seen: release.generation,
            releases,
            ident,
            seed,
            guest: Ok(guest),
            ledger,
            journal: Ok(Journal::new(base, release.isolation)),
            journal_bytes: 0,
            traps: None,
            release,
        };
        object.count_journal(out);
        object
    }

    /// Saves the object by hand. Nothing changes by it.
    ///
    /// # Errors
    /// Raised: what `save` raises, and `TypeError` if the type does not save. Refused: `GuestTrap` if it traps. Poisoned, if the
    /// object was, or if it cannot be made again after that trap.
    pub fn save(&mut self, now_ms: u64, out: &mut Outbox) -> Result<Saved, Fault> {
        let kind = Arc::clone(&self.release.kind);
        let typeid = kind.info.typeid.clone();
        if !kind.saves {
            return Err(Fault::raised("TypeError", format!("objects of type `{typeid}` are not saved")));
        }
        let entry = self.entry(now_ms);
        loop {
            let guest = self.guest.as_mut().map_err(|fault| (**fault).clone())?;
            let made_again = match guest.save(entry) {
                Ok(Ok(state)) => return Ok(Saved { typeid, version: kind.version.to_string(), state }),
                Ok(Err(fault)) => return Err(raised(fault)),
                Err(Ended::Before) => self.come_back(out),
                Err(Ended::Trapped(Trap { what: trap, .. })) => {
                    self.releases.tally.traps.fetch_add(1, Ordering::Relaxed);
                    let what = format!("guest trapped in `{typeid}` while it was saved: {trap}");
                    match self.make_again(now_ms, out) {
                        Ok(()) => return Err(Fault::refused(GUEST_TRAP, what)),
                        Err(why) => Err(format!("{what}; it cannot be made again: {why}")),
                    }
                }
            };
            if let Err(what) = made_again {
                self.poison(what, out);
            }
        }
    }

    /// What the host answers to an input that the guest of this version is not entered with.
    fn instead(&self, release: &Release, input: &Input<'_>) -> Option<Instead> {
        let typeid = &release.kind.info.typeid;
        let call = match input {
            Input::Call(call) => call,
            Input::Cancel { call, .. } => {
                return (!self.ledger.waiting.contains_key(call)).then_some(Instead::Nothing);
            }
            Input::Join { .. } => {
                let fault = format!("nothing can share the state of a `{typeid}`");
                return Some(Instead::Fault(Fault::refused("TypeError", fault)));
            }
            // No facet but the first was ever given.
            Input::Leave { .. } => return Some(Instead::Nothing),
            _ => return None,
        };
        let limit = release.kind.who.runtime.config.parked_max;
        Some(match (release.place_of(call.method), call.method) {
            (Some(_), _) if self.ledger.waiting.len() >= limit => {
                let fault = Fault::refused("OverQuota", format!("{limit} calls wait for this object, its limit"));
                Instead::Fault(fault.retry())
            }
            (Some(_), _) => return None,
            (None, common::STR | common::REPR) => Instead::Text(format!("<{typeid} object {}>", self.ident)),
            (None, common::GET_VALUE) => {
                let fault = format!("type `{typeid}` offers no copy of its value");
                Instead::Fault(Fault::raised("TypeError", fault))
            }
            (None, index) => {
                let method = match release.info().methods.get(usize::from(index)) {
                    Some(method) => format!("method `{}`", method.name),
                    None => format!("method {index}"),
                };
                let version = &release.kind.version;
                let fault = format!("typeid `{typeid}` has no {method} in version {version}, of which this object is");
                Instead::Fault(Fault::refused("NotExposed", fault))
            }
        })
    }

    /// Steps the guest of the object's own version.
    fn turn(&mut self, input: &Input<'_>, out: &mut Outbox) {
        if let Some(instead) = self.instead(&self.release, input) {
            match (instead, asking(input)) {
                (Instead::Fault(fault), Some(call)) => out.raises(call, &fault),
                (Instead::Text(text), Some(call)) => out.returns_text(call, &text),
                _ => {}
            }
            return;
        }
        if let (Input::Call(call), Some(traps)) = (input, &self.traps)
            && let Some((traps, left_ms)) = traps.closed(call.now_ms)
        {
            let typeid = &self.release.kind.info.typeid;
            let fault =
                format!("`{typeid}` trapped {traps} times in a row: calls are refused for another {left_ms} ms");
            return out.raises(call.id, &Fault::refused(GUEST_TRAP, fault).retry());
        }

        let now_ms = time_of(input);
        let seed = self.seed_of(input);
        let told = tell(&self.release, input);
        // What is no call has happened, whatever the tenant keeps.
        let entry = Entry { limited: matches!(input, Input::Call(_)), ..self.entry(now_ms) };
        let mut by_itself = false;
        let stepped = loop {
            let guest = self.guest.as_mut().expect("a poisoned object was answered for above");
            let stepped = guest.step(entry, seed, &told);
            let made_again = match stepped {
                Err(Ended::Before) => self.come_back(out),
                // What it lacks, others have; so it is tried once more where there are none. They come back when they are called.
                Err(Ended::Trapped(Trap { crowded: true, .. })) if !by_itself && self.leaves_the_crowd(out) => {
                    by_itself = true;
                    Ok(())
                }
                Ok(outcome) => break Ok(outcome),
                Err(Ended::Trapped(trap)) => break Err(trap),
            };
            if let Err(what) = made_again {
                return self.poison(what, out);
            }
        };
        let ticks = self.guest.as_ref().map_or(0, Guest::ticks);
        self.release.kind.placement.record(ticks);
        let runtime = &*self.release.kind.who.runtime;
        let checked = match &stepped {
            Ok(outcome) => self.ledger.check(outcome, asking(input), &arrived(input), &runtime.config),
            Err(_) => Ok(()),
        };
        match (stepped, checked) {
            (Ok(outcome), Ok(())) => {
                if let Ok(journal) = &mut self.journal
                    && !is_mere_answer(input, &outcome)
                {
                    journal.stepped(input, seed, digest(&outcome), ticks);
                }
                let answered = self.ledger.settle(input, &outcome);
                if let Ok(journal) = &mut self.journal {
                    let mark = journal.base.mark;
                    answered
                        .iter()
                        .filter(|(id, _)| *id <= mark)
                        .for_each(|(id, waiting)| journal.waited(*id, waiting));
                }
                outcome.held.iter().for_each(|ident| out.hold(Ident(*ident)));
                outcome.let_go.iter().for_each(|ident| out.let_go(Ident(*ident)));
                emit(outcome, out);
                self.traps.take_if(|traps| traps.went_well());
                self.save_if_due(now_ms, out);
            }
            (Err(Trap { what, over_quota, .. }), _) => {
                self.fail(input, format!("guest trapped in {}: {what}", self.place(input)), over_quota, out);
            }
            (_, Err(broken)) => {
                self.fail(input, format!("guest broke the rules in {}: {broken}", self.place(input)), None, out);
            }
        }
    }

    /// The guest failed in a step. A call is as if it had never come; everything else has happened whether or not the
    /// object can follow.
    fn fail(&mut self, input: &Input<'_>, what: String, over_quota: Option<Box<Fault>>, out: &mut Outbox) {
        self.releases.tally.traps.fetch_add(1, Ordering::Relaxed);
        let Input::Call(call) = input else { return self.poison(what, out) };
        if let Err(why) = self.make_again(call.now_ms, out) {
            return self.poison(format!("{what}; it cannot be made again: {why}"), out);
        }
        self.warn(&format!("{what}; made again"));
        let trapped = || Fault::refused(GUEST_TRAP, format!("{what}; the call had no effect"));
        out.raises(call.id, &over_quota.map_or_else(trapped, |fault| *fault));
    }

    /// Puts a new guest, which is as the one that has trapped was before, in its place.
    fn make_again(&mut self, now_ms: u64, out: &mut Outbox) -> Result<(), String> {
        let guest = self.guest.as_ref().expect("a poisoned object is not made again");
        // It may have broken the rules and be alive.
        guest.end();
        let (guest, wish_ms) = self.remade(Where::Again(guest)).map_err(|error| error.to_string())?;
        self.go_on_as(guest, wish_ms, out);
        self.traps.get_or_insert_default().trapped(now_ms);
        Ok(())
    }

    /// As [`Object::make_again`], after another object's guest has ended the life of the shard.
    fn come_back(&mut self, out: &mut Outbox) -> Result<(), String> {
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
    fn leaves_the_crowd(&mut self, out: &mut Outbox) -> bool {
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

    /// Saves the object when its journal has become long, and begins a new one.
    fn save_if_due(&mut self, now_ms: u64, out: &mut Outbox) {
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

    /// Moves to the newest version, and steps that with the input. False if the object stays as it is, and the input
    /// is still to be stepped with.
    fn moves(&mut self, input: &Input<'_>, out: &mut Outbox) -> bool {
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

    /// An entry on this object's behalf.
    fn entry(&self, now_ms: u64) -> Entry {
        Entry { ident: self.ident, now_ms, muted: false, limited: false }
    }

    /// The seed of a step: the call's own, or one of the object's.
    fn seed_of(&mut self, input: &Input<'_>) -> u64 {
        if let Input::Call(call) = input { call.seed } else { self.next_seed() }
    }

    /// A seed for a step whose input brings none: deterministic, different each time (SplitMix64).
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Where a guest was when it failed, for people.
    fn place(&self, input: &Input<'_>) -> String {
        let kind = &self.release.kind;
        let typeid = &kind.info.typeid;
        match input {
            Input::Call(call) => match self.release.place_of(call.method) {
                Some(place) => format!("`{typeid}.{}`", kind.info.methods[place as usize].name),
                None => format!("`{typeid}`"),
            },
            Input::Cancel { .. } => format!("`{typeid}` when a call was given up"),
            Input::OwnerLost { .. } => format!("`{typeid}` when an owner was lost"),
            Input::Undelivered { .. } => format!("`{typeid}` when a reply was not delivered"),
            Input::Returned { .. } => format!("`{typeid}` when a call of its own returned"),
            Input::Tick { .. } => format!("`{typeid}` when it was woken"),
            Input::Join { .. } | Input::Leave { .. } => format!("`{typeid}`"),
        }
    }

    fn poison(&mut self, what: String, out: &mut Outbox) {
        self.warn(&what);
        let fault = Fault::new(Effect::Poisoned, GUEST_TRAP, what);
        self.releases.tally.poisoned.fetch_add(1, Ordering::Relaxed);
        // Frees the memory now, not when the last proxy goes.
        self.guest = Err(Box::new(fault.clone()));
        self.ledger = Ledger::default();
        self.journal = Err("it is poisoned");
        self.count_journal(out);
        out.poison(fault);
    }

    fn warn(&self, message: &str) {
        let Who { plugin, typeid, .. } = &*self.release.kind.who;
        tracing::warn!(plugin, typeid, ident = self.ident.0, "{message}");
    }

    /// Tells the tally how large the journal is, and the tenant.
    fn count_journal(&mut self, out: &mut Outbox) {
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

impl Drop for Object {
    fn drop(&mut self) {
        self.release.objects.fetch_sub(1, Ordering::Relaxed);
        self.releases.tally.journal_bytes.fetch_sub(self.journal_bytes, Ordering::Relaxed);
    }
}

impl Referent for Object {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        if let Err(fault) = &self.guest {
            out.poison((**fault).clone());
            return;
        }
        if self.releases.generation() != self.seen && self.moves(&input, out) {
            return;
        }
        self.turn(&input, out);
    }

    fn is_busy(&self) -> bool {
        self.guest.as_ref().is_ok_and(Guest::is_busy)
    }
}

fn broke(release: &Release, broken: Broken) -> Fault {
    let typeid = &release.kind.info.typeid;
    Fault::refused(GUEST_TRAP, format!("guest broke the rules in `{typeid}`: {broken}"))
}

/// Why there is no object. What its constructor raised may name the tokens that are `known`.
fn not_made(release: &Release, error: NotMade, known: impl Fn(Ident) -> bool + Copy) -> Fault {
    let runtime = &release.kind.who.runtime;
    match error {
        NotMade::Raised(fault) => match check_fault(&fault, &runtime.config, known) {
            Ok(()) => raised(fault),
            Err(broken) => broke(release, broken),
        },
        NotMade::NoRoom => {
            let limit = runtime.profile.objects_max;
            Fault::refused("OverQuota", format!("no room for another guest, limit is {limit}")).retry()
        }
        NotMade::Trapped(Trap { over_quota: Some(fault), .. }) => *fault,
        NotMade::Trapped(_) | NotMade::Interrupted | NotMade::Differs(_) => {
            Fault::refused(GUEST_TRAP, format!("guest trapped in `{}`: {error}", release.kind.info.typeid))
        }
    }
}

/// CPU time for steps that are taken once more, in ticks.
struct Budget {
    left: u64,
    cpu_ms: u64,
}

impl Budget {
    fn new(runtime: &Runtime) -> Self {
        let left = STEPS_AGAIN_MAX * u64::from(runtime.step_ticks_max());
        Self { left, cpu_ms: STEPS_AGAIN_MAX * runtime.config.step_cpu_ms }
    }

    /// Takes what the latest entry of the guest took.
    fn take(&mut self, guest: &Guest) -> Result<(), NotMade> {
        let left = self.left.checked_sub(u64::from(guest.ticks()));
        let too_long = || NotMade::Differs(format!("that takes more than {} ms of CPU time", self.cpu_ms));
        self.left = left.ok_or_else(too_long)?;
        Ok(())
    }
}

/// The call that an input asks to be answered.
fn asking(input: &Input<'_>) -> Option<CallId> {
    match input {
        Input::Call(Call { id, .. }) => Some(*id),
        Input::Join { call, .. } => Some(*call),
        _ => None,
    }
}

/// The host's clock when an input came. Those without a time reach no guest.
fn time_of(input: &Input<'_>) -> u64 {
    match *input {
        Input::Call(Call { now_ms, .. })
        | Input::Cancel { now_ms, .. }
        | Input::OwnerLost { now_ms, .. }
        | Input::Undelivered { now_ms, .. }
        | Input::Returned { now_ms, .. }
        | Input::Tick { now_ms } => now_ms,
        Input::Join { .. } | Input::Leave { .. } => 0,
    }
}

/// The item that came with an input.
fn arrived<'a>(input: &Input<'a>) -> Arrived<'a> {
    match *input {
        Input::Call(Call { args, .. }) if args.has_tokens() => Arrived::with(args.item()),
        Input::Undelivered { payload, .. } | Input::Returned { outcome: Ok(payload), .. } => Arrived::with(payload),
        _ => Arrived::default(),
    }
}

/// An input as the guest of this version is told. [`Object::instead`] has kept back those that no guest is told.
fn tell(release: &Release, input: &Input<'_>) -> wit::Input {
    // The number of a method that is gone is one that no method has.
    let place = |method| release.place_of(method).unwrap_or(release.kind.info.methods.len() as u32);
    match input {
        Input::Call(call) => wit::Input::Call(wit::Call {
            id: call.id,
            method: place(call.method),
            owner: wit::Owner { session: call.owner.session, thread: call.owner.thread },
            args: call.args.item().to_vec(),
        }),
        Input::Cancel { call, why, .. } => {
            let why = match why {
                Why::Deadline => wit::Why::Deadline,
                Why::Client => wit::Why::Client,
                Why::SessionEnded => wit::Why::SessionEnded,
            };
            wit::Input::Cancel(wit::Cancel { call: *call, why })
        }
        Input::OwnerLost { session, orderly, .. } => {
            wit::Input::OwnerLost(wit::OwnerLost { session: *session, orderly: *orderly })
        }
        Input::Undelivered { call, method, payload, sent, .. } => wit::Input::Undelivered(wit::Undelivered {
            call: *call,
            method: place(*method),
            payload: payload.to_vec(),
            sent: *sent,
        }),
        Input::Returned { tag, outcome, .. } => {
            let outcome = outcome.map(<[u8]>::to_vec).map_err(|fault| wit::Fault {
                kind: fault.kind.clone(),
                message: fault.message.clone(),
                data: fault.data.clone(),
            });
            wit::Input::Returned(wit::Returned { tag: *tag, outcome })
        }
        Input::Tick { .. } | Input::Join { .. } | Input::Leave { .. } => wit::Input::Tick,
    }
}

/// Whether all that a step did was to answer its own call: then it need not be taken again.
fn is_mere_answer(input: &Input<'_>, outcome: &wit::Outcome) -> bool {
    let wit::Outcome { completions, freed, changed, wake_at, held, let_go, invokes } = outcome;
    let [wit::Completion { call, grant: wit::Grant::None, .. }] = &completions[..] else { return false };
    let is_own = matches!(input, Input::Call(own) if own.id == *call);
    is_own && !freed && !changed && wake_at.is_none() && held.is_empty() && let_go.is_empty() && invokes.is_empty()
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
