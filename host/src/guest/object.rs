//! One object of a plugin: a guest behind the trait that built-in types have, which outlives its traps and its versions.

mod again;
mod inputs;
mod moving;
mod saving;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use steward_objects::{Args, CallId, Effect, Fault, Ident, Input, Outbox, Referent, common};

use self::inputs::{arrived, asking, is_mere_answer, tell, time_of};
use super::bindings::steward::plugin::types as wit;
use super::instance::{Entry, Who};
use super::journal::{Base, Journal, Wish, digest};
use super::ledger::{Ledger, emit};
use super::releases::{Release, Releases};
use super::rules::{Arrived, Broken, check_fault, raised};
use super::shard::{Ended, Guest, NotMade, Trap, Where, Whose, place};
use super::traps::Traps;
use super::{Birth, Isolation};
use crate::budget::Budget;

/// Kind of the fault of a guest that trapped, was cut, or broke the rules.
const GUEST_TRAP: &str = "GuestTrap";

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

impl Instead {
    #[cold]
    fn answer(self, call: Option<CallId>, out: &mut Outbox) {
        match (self, call) {
            (Self::Fault(fault), Some(call)) => out.raises(call, &fault),
            (Self::Text(text), Some(call)) => out.returns_text(call, &text),
            _ => {}
        }
    }
}

impl Object {
    /// `budget`: what its tenant may keep, if there is a limit to it.
    pub(super) fn create(
        releases: Arc<Releases>,
        args: Args<'_>,
        birth: Birth<'_>,
        budget: Option<&Arc<Budget>>,
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
    #[cold]
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
        // Most inputs are calls of an object for which nobody waits.
        let is_plain = match input {
            Input::Call(call) => self.ledger.waiting.is_empty() && self.release.place_of(call.method).is_some(),
            _ => false,
        };
        if !is_plain && let Some(instead) = self.instead(&self.release, input) {
            return instead.answer(asking(input), out);
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
            (Ok(outcome), Ok(())) => self.accept(input, seed, outcome, out),
            (Err(Trap { what, over_quota, .. }), _) => {
                self.fail(input, format!("guest trapped in {}: {what}", self.place(input)), over_quota, out);
            }
            (_, Err(broken)) => {
                self.fail(input, format!("guest broke the rules in {}: {broken}", self.place(input)), None, out);
            }
        }
    }

    /// Enters what a checked step brought, and hands it on.
    fn accept(&mut self, input: &Input<'_>, seed: u64, outcome: wit::Outcome, out: &mut Outbox) {
        self.traps.take_if(|traps| traps.went_well());
        if is_mere_answer(input, &outcome) {
            return emit(outcome, out);
        }
        if let (Ok(journal), Ok(guest)) = (&mut self.journal, &self.guest) {
            journal.stepped(input, seed, digest(&outcome), guest.ticks());
        }
        let answered = self.ledger.settle(input, &outcome);
        if let Ok(journal) = &mut self.journal {
            let mark = journal.base.mark;
            answered.iter().filter(|(id, _)| *id <= mark).for_each(|(id, waiting)| journal.waited(*id, waiting));
        }
        outcome.held.iter().for_each(|ident| out.hold(Ident(*ident)));
        outcome.let_go.iter().for_each(|ident| out.let_go(Ident(*ident)));
        emit(outcome, out);
        self.save_if_due(time_of(input), out);
    }

    /// The guest failed in a step. A call is as if it had never come; everything else has happened whether or not the
    /// object can follow.
    #[cold]
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

    #[cold]
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
