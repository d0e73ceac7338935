//! What the host keeps of a guest: the calls that wait, and the tokens it stores. By it every outcome is checked.

use std::collections::{BTreeMap, HashMap, HashSet};

use steward_objects::{Call, CallId, Ident, Input, Invocation, Outbox};

use super::GuestConfig;
use super::bindings::steward::plugin::types as wit;
use super::journal::{Waiting, Wish};
use super::rules::{Arrived, Broken, check_fault, check_item, raised};

/// Tokens, and how often each is stored. A tree, since most are empty: that takes next to nothing.
pub(super) type Held = BTreeMap<Ident, usize>;

/// The account of one guest.
#[derive(Default)]
pub(super) struct Ledger {
    /// Calls that it has not answered. Most are answered by their own step and never stand here.
    pub(super) waiting: BTreeMap<CallId, Waiting>,
    /// Tokens that it stores, and how often.
    pub(super) held: Held,
    held_total: u32,
    /// Calls that it asked for and that have not ended.
    pub(super) invoked: u32,
    /// When it wished to be woken.
    pub(super) wish: Wish,
}

impl Ledger {
    /// Of a guest that was just made and stores these. They must have come with `arrived`.
    pub(super) fn new(held: &[u64], arrived: &Arrived<'_>, config: &GuestConfig) -> Result<Self, Broken> {
        Self::of(held, |ident| arrived.brought(ident), config)
    }

    /// Of a guest that was just made and stores these, which must be `known`.
    pub(super) fn of(held: &[u64], known: impl Fn(Ident) -> bool, config: &GuestConfig) -> Result<Self, Broken> {
        let mut ledger = Self::default();
        if let Some(&foreign) = held.iter().find(|ident| !known(Ident(**ident))) {
            return Err(Broken::ForeignToken(Ident(foreign)));
        }
        let limit = config.tokens_held_max;
        if held.len() > limit {
            return Err(Broken::TooManyHeld { held: held.len(), limit });
        }
        ledger.hold(held);
        Ok(ledger)
    }

    /// Checks all that a step brought. `asking` is the call that the step was made for. Nothing changes: of a step that
    /// breaks the rules nothing is seen.
    pub(super) fn check(
        &self,
        outcome: &wit::Outcome,
        asking: Option<CallId>,
        arrived: &Arrived<'_>,
        config: &GuestConfig,
    ) -> Result<(), Broken> {
        // A token that a reply or a request carries may have been let go in this very step.
        let known = |ident| self.held.contains_key(&ident) || arrived.brought(ident);
        if !outcome.held.is_empty() || !outcome.let_go.is_empty() || !outcome.invokes.is_empty() {
            self.check_tokens(outcome, &known, config)?;
        }
        if let [_, _, ..] = &outcome.completions[..] {
            once_each(&outcome.completions)?;
        }
        for completion in &outcome.completions {
            let wit::Completion { call, outcome: result, grant } = completion;
            if asking != Some(*call) && !self.waiting.contains_key(call) {
                return Err(Broken::UnknownCall(*call));
            }
            match result {
                Ok(payload) => check_item(payload, config, known)?,
                Err(_) if *grant != wit::Grant::None => return Err(Broken::GrantedFault(*call)),
                Err(fault) => check_fault(fault, config, known)?,
            }
        }
        Ok(())
    }

    /// Checks what it stores, lets go and calls of the tokens that are `known`.
    #[cold]
    fn check_tokens(
        &self,
        outcome: &wit::Outcome,
        known: &impl Fn(Ident) -> bool,
        config: &GuestConfig,
    ) -> Result<(), Broken> {
        if let Some(&foreign) = outcome.held.iter().find(|ident| !known(Ident(**ident))) {
            return Err(Broken::ForeignToken(Ident(foreign)));
        }
        let (held, limit) = (self.held_total as usize + outcome.held.len(), config.tokens_held_max);
        if held > limit {
            return Err(Broken::TooManyHeld { held, limit });
        }
        let mut added: HashMap<Ident, usize> = HashMap::new();
        outcome.held.iter().for_each(|ident| *added.entry(Ident(*ident)).or_default() += 1);
        let (invokes, limit) = (outcome.invokes.len(), config.invokes_max);
        if invokes > limit {
            return Err(Broken::TooManyInvokes { invokes, limit });
        }
        for invocation in &outcome.invokes {
            let ident = Ident(invocation.ident);
            if !self.held.contains_key(&ident) && !added.contains_key(&ident) {
                return Err(Broken::ForeignToken(ident));
            }
            check_item(&invocation.args, config, known)?;
        }
        let mut gone: HashMap<Ident, usize> = HashMap::new();
        for &ident in &outcome.let_go {
            let ident = Ident(ident);
            let gone = gone.entry(ident).or_default();
            *gone += 1;
            let held = self.held.get(&ident).copied().unwrap_or(0) + added.get(&ident).copied().unwrap_or(0);
            if *gone > held {
                return Err(Broken::ForeignToken(ident));
            }
        }
        Ok(())
    }

    /// Enters what a checked step brought; returns the calls that no longer wait.
    pub(super) fn settle(&mut self, input: &Input<'_>, outcome: &wit::Outcome) -> Vec<(CallId, Waiting)> {
        let mut asking = None;
        match input {
            Input::Call(call) => asking = Some(call),
            Input::Returned { .. } => self.invoked = self.invoked.saturating_sub(1),
            Input::Tick { .. } => self.wish = Wish::default(),
            _ => {}
        }
        let mut answered = Vec::new();
        for completion in &outcome.completions {
            if asking.take_if(|call| call.id == completion.call).is_none()
                && let Some(waiting) = self.waiting.remove(&completion.call)
            {
                answered.push((completion.call, waiting));
            }
        }
        if let Some(&Call { id, method, owner, seed, args, .. }) = asking {
            let (args, tokens) = (args.item().into(), args.has_tokens());
            self.waiting.insert(id, Waiting { method, owner, seed, args, tokens });
        }
        self.hold(&outcome.held);
        for &ident in &outcome.let_go {
            if let Some(count) = self.held.get_mut(&Ident(ident)) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(&Ident(ident));
                }
                self.held_total -= 1;
            }
        }
        self.invoked = self.invoked.saturating_add(few(&outcome.invokes));
        self.wish = Wish::new(outcome.wake_at.or(self.wish.at_ms()));
        answered
    }

    fn hold(&mut self, held: &[u64]) {
        for &ident in held {
            *self.held.entry(Ident(ident)).or_default() += 1;
        }
        self.held_total = self.held_total.saturating_add(few(held));
    }
}

/// Checks that no call is answered twice.
#[cold]
fn once_each(completions: &[wit::Completion]) -> Result<(), Broken> {
    let mut answered = HashSet::new();
    let twice = completions.iter().find(|completion| !answered.insert(completion.call));
    twice.map_or(Ok(()), |completion| Err(Broken::UnknownCall(completion.call)))
}

/// How many there are: what was checked is within its limit.
fn few<T>(checked: &[T]) -> u32 {
    u32::try_from(checked.len()).unwrap_or(u32::MAX)
}

/// Hands a checked outcome to the outbox, but for the tokens that it stores and lets go.
pub(super) fn emit(outcome: wit::Outcome, out: &mut Outbox) {
    if outcome.freed {
        out.freed();
    }
    for completion in outcome.completions {
        match completion.outcome {
            Ok(payload) => out.returns_item(completion.call, &payload),
            Err(fault) => out.raises(completion.call, &raised(fault)),
        }
        match completion.grant {
            wit::Grant::None => {}
            grant => drop(out.grant(completion.call, grant == wit::Grant::Abandoned)),
        }
    }
    for wit::Invocation { tag, ident, method, args } in outcome.invokes {
        out.invoke(Invocation { tag, ident: Ident(ident), method, args });
    }
    if outcome.changed {
        out.changed();
    }
    if let Some(at_ms) = outcome.wake_at {
        out.wake_at(at_ms);
    }
}
