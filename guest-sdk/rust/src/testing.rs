//! Runs a type as a host would, natively, with a clock that the test turns: for the tests of plugins.
//!
//! The harness plays by the host's rules and checks the guest's. It panics, naming what happened, when a call that parks has changed the
//! object, when a call is answered that does not wait, when a token is let go that is not held, or when a wake-up is asked for that was just had.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::context::Turn;
use crate::object::ObjectType;
use crate::shell::{self, Birth, Event, Grant, Input, Invocation, Shell};
use crate::{CallId, Fault, Item, Owner, OwnerLost, Why, codec};

/// An object of type `T` and the host around it.
pub struct Harness<T> {
    shell: Shell,
    now_ms: u64,
    seed: u64,
    calls: CallId,
    /// Calls without answer, and who made them.
    waiting: BTreeMap<CallId, Call>,
    /// Answers to calls that waited.
    answers: BTreeMap<CallId, Answer>,
    wake_at_ms: Option<u64>,
    /// How often each token is held.
    held: BTreeMap<u64, usize>,
    version: u64,
    is_free: bool,
    invocations: Vec<Invocation>,
    object: PhantomData<T>,
}

struct Call {
    method: u32,
    owner: Owner,
    args: Vec<u8>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a call may have raised or parked"]
pub enum Answer {
    /// It returned this.
    Returned(Item),
    /// It returned this, and was granted something that is held.
    Granted(Item),
    /// As [`Answer::Granted`], and the former holder was lost while holding it.
    GrantedAbandoned(Item),
    /// It raised this.
    Raised(Fault),
    /// It waits. [`Harness::answer`] gives its answer when there is one.
    Parked(CallId),
}

impl Answer {
    /// The value that was returned.
    ///
    /// # Panics
    /// If the call did not return, or returned no `V`.
    #[track_caller]
    pub fn value<V: DeserializeOwned>(self) -> V {
        match &self {
            Self::Returned(item) | Self::Granted(item) | Self::GrantedAbandoned(item) => {
                item.decode().unwrap_or_else(|error| panic!("{item:?}: {error}"))
            }
            other => panic!("expected a value, found {other:?}"),
        }
    }

    /// The value that was returned with a grant.
    ///
    /// # Panics
    /// If there was no grant, or no `V`.
    #[track_caller]
    pub fn granted<V: DeserializeOwned>(self) -> V {
        assert!(matches!(self, Self::Granted(_) | Self::GrantedAbandoned(_)), "expected a grant, found {self:?}");
        self.value()
    }

    /// Kind and message of what was raised.
    ///
    /// # Panics
    /// If nothing was raised.
    #[track_caller]
    pub fn raised(self) -> (String, String) {
        match self {
            Self::Raised(fault) => (fault.kind.into_owned(), fault.message.into_owned()),
            other => panic!("expected a fault, found {other:?}"),
        }
    }

    /// The number of the call that waits.
    ///
    /// # Panics
    /// If it does not wait.
    #[track_caller]
    pub fn parked(self) -> CallId {
        match self {
            Self::Parked(call) => call,
            other => panic!("expected a parked call, found {other:?}"),
        }
    }
}

impl<T: ObjectType> Harness<T> {
    /// Makes an object at time 0. `args` comes from [`crate::args!`].
    ///
    /// # Errors
    /// What the constructor raises.
    pub fn new(args: Vec<u8>) -> Result<Self, Fault> {
        Self::at(0, args)
    }

    /// Makes an object at a time of the virtual clock.
    ///
    /// # Errors
    /// What the constructor raises.
    pub fn at(now_ms: u64, args: Vec<u8>) -> Result<Self, Fault> {
        let (mut shell, stored) = Shell::create::<T>(Birth { now_ms, seed: 0, tenant: "test".into() }, &args)?;
        shell.checks_parking = T::INFO.saves;
        Ok(Self {
            shell,
            now_ms,
            seed: 0,
            calls: 0,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            wake_at_ms: None,
            held: count(stored),
            version: 0,
            is_free: true,
            invocations: Vec::new(),
            object: PhantomData,
        })
    }

    /// Calls a method, as thread 1 of session 1.
    ///
    /// # Panics
    /// If the type has no such method, or the object breaks a rule.
    #[track_caller]
    pub fn call(&mut self, method: &str, args: Vec<u8>) -> Answer {
        self.call_as(Owner { session: 1, thread: 1 }, method, args)
    }

    /// Calls a method as somebody.
    ///
    /// # Panics
    /// If the type has no such method, or the object breaks a rule.
    #[track_caller]
    pub fn call_as(&mut self, owner: Owner, method: &str, args: Vec<u8>) -> Answer {
        let found = const { T::INFO }.methods.iter().position(|info| info.name == method);
        let method = found.unwrap_or_else(|| panic!("{} has no method `{method}`", T::INFO.typeid));
        let method = u32::try_from(method).expect("there are few methods");
        self.calls += 1;
        self.issue(self.calls, Call { method, owner, args })
    }

    #[track_caller]
    fn issue(&mut self, id: CallId, call: Call) -> Answer {
        let args = call.args.clone();
        let (method, owner) = (call.method, call.owner);
        self.waiting.insert(id, call);
        self.step(Input::Call(shell::Call { id, method, owner, args: &args }));
        self.answers.remove(&id).unwrap_or(Answer::Parked(id))
    }

    /// The answer to a call that waited, once; [`Answer::Parked`] while it waits.
    ///
    /// # Panics
    /// If there is no such call, or its answer was taken.
    #[track_caller]
    pub fn answer(&mut self, call: CallId) -> Answer {
        match self.answers.remove(&call) {
            Some(answer) => answer,
            None => {
                assert!(self.waiting.contains_key(&call), "call {call} was answered before, or never made");
                Answer::Parked(call)
            }
        }
    }

    /// Lets time pass, waking the object whenever it asked for it.
    ///
    /// # Panics
    /// If the object breaks a rule.
    #[track_caller]
    pub fn advance(&mut self, by_ms: u64) {
        let end_ms = self.now_ms + by_ms;
        while let Some(at_ms) = self.wake_at_ms.filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.wake_at_ms = None;
            self.step(Input::Other(Event::Tick));
            assert!(
                self.wake_at_ms.is_none_or(|next_ms| next_ms > at_ms),
                "{} asks again for the wake-up at {at_ms} ms that it just had",
                T::INFO.typeid
            );
        }
        self.now_ms = end_ms;
    }

    /// Gives up a call that waits. For [`Why::Deadline`], [`Harness::answer`] has what the method answers to that.
    ///
    /// # Panics
    /// If it does not wait, or is not answered.
    #[track_caller]
    pub fn cancel(&mut self, call: CallId, why: Why) {
        assert!(self.waiting.contains_key(&call), "call {call} does not wait");
        self.step(Input::Other(Event::Cancel { call, why }));
        assert!(!self.waiting.contains_key(&call), "call {call} still waits after it was given up");
        if why != Why::Deadline {
            self.answers.remove(&call);
        }
    }

    /// Ends a session as a host does: its waiting calls are given up, then the object learns of it.
    ///
    /// # Panics
    /// If the object breaks a rule.
    #[track_caller]
    pub fn owner_lost(&mut self, session: u64, orderly: bool) {
        let lost = |(id, call): (&CallId, &Call)| (call.owner.session == session).then_some(*id);
        for call in self.waiting.iter().filter_map(lost).collect::<Vec<_>>() {
            self.cancel(call, Why::SessionEnded);
        }
        self.step(Input::Other(Event::OwnerLost(OwnerLost { session, orderly })));
    }

    /// Tells the object that a result never reached its client, or may not have if it was `sent`. Calls are numbered from 1, in the order they were made.
    ///
    /// # Panics
    /// If the type has no such method, or the object breaks a rule.
    #[track_caller]
    pub fn undelivered(&mut self, call: CallId, method: &str, result: &Item, sent: bool) {
        let found = const { T::INFO }.methods.iter().position(|info| info.name == method);
        let method = found.unwrap_or_else(|| panic!("{} has no method `{method}`", T::INFO.typeid));
        let method = u32::try_from(method).expect("there are few methods");
        self.step(Input::Other(Event::Undelivered { call, method, payload: result.as_bytes(), sent }));
    }

    /// Tells the object how a call that it asked for ended.
    ///
    /// # Panics
    /// If the object breaks a rule.
    #[track_caller]
    pub fn returned(&mut self, tag: u64, outcome: Result<Item, Fault>) {
        let outcome = outcome.as_ref().map(Item::as_bytes).map_err(Clone::clone);
        self.step(Input::Other(Event::Returned { tag, outcome }));
    }

    /// Moves the object to a new instance as an upgrade does: saves, loads, calls again what waits.
    ///
    /// # Panics
    /// If it does not save or load, or breaks a rule.
    #[track_caller]
    pub fn reload(&mut self) {
        let saved = self.save();
        self.load(&saved, T::INFO.version);
    }

    /// Puts a saved state in the object's place, as an upgrade from `from_version` does, and calls again what waits.
    ///
    /// # Panics
    /// If it does not load, or breaks a rule.
    #[track_caller]
    pub fn load(&mut self, saved: &[u8], from_version: &str) {
        let birth = Birth { now_ms: self.now_ms, seed: self.seed, tenant: "test".into() };
        let loaded = Shell::load::<T>(birth, saved, from_version);
        let (shell, stored) = loaded.unwrap_or_else(|fault| panic!("{} does not load: {fault:?}", T::INFO.typeid));
        (self.shell, self.held) = (shell, count(stored));
        self.shell.checks_parking = T::INFO.saves;
        for (id, call) in std::mem::take(&mut self.waiting) {
            match self.issue(id, call) {
                Answer::Parked(_) => {}
                answer => drop(self.answers.insert(id, answer)),
            }
        }
    }

    /// The saved state.
    ///
    /// # Panics
    /// If the type does not save.
    #[track_caller]
    pub fn save(&self) -> Vec<u8> {
        self.shell.save().unwrap_or_else(|fault| panic!("{} does not save: {fault:?}", T::INFO.typeid))
    }

    /// The object's fields, by way of its saved state.
    ///
    /// # Panics
    /// If the type does not save.
    #[track_caller]
    pub fn object(&self) -> T
    where
        T: DeserializeOwned,
    {
        let (_, state): (Option<u64>, crate::Bytes) =
            codec::from_slice(&self.save()).expect("what was saved is an item");
        codec::from_slice(&state.0).expect("what was saved loads")
    }

    /// The calls that wait, in the order they were made.
    pub fn parked(&self) -> Vec<CallId> {
        self.waiting.keys().copied().collect()
    }

    /// The virtual clock.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// How many steps have changed the object.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The idents of the tokens that the object stores, waiting calls' arguments included.
    pub fn held(&self) -> BTreeSet<u64> {
        self.held.keys().copied().collect()
    }

    /// Takes the calls that the object asked for: tag, ident, method, arguments.
    pub fn invoked(&mut self) -> Vec<(u64, u64, String, Vec<u8>)> {
        self.invocations.drain(..).map(|call| (call.tag, call.ident, call.method, call.args)).collect()
    }

    /// Whether no call can be guarded by a grant of this object: it has granted nothing yet, or has said
    /// [`crate::Context::freed`] since it last did.
    pub fn is_free(&self) -> bool {
        self.is_free
    }

    #[track_caller]
    fn step(&mut self, input: Input<'_>) {
        self.seed += 1;
        let typeid = T::INFO.typeid;
        let mut turn = Turn::default();
        self.shell.step(&mut turn, self.now_ms, self.seed, input);
        for ident in turn.held {
            *self.held.entry(ident).or_default() += 1;
        }
        for ident in turn.let_go {
            match self.held.get_mut(&ident) {
                Some(1) => drop(self.held.remove(&ident)),
                Some(times) => *times -= 1,
                None => panic!("{typeid} let go of token {ident}, which it does not hold"),
            }
        }
        // As a host does it: what a step grants is held after what it freed.
        self.is_free |= turn.freed.get();
        for completion in turn.completions.take() {
            let waited = self.waiting.remove(&completion.call);
            assert!(waited.is_some(), "{typeid} answered call {}, which does not wait", completion.call);
            let answer = match completion.outcome {
                Ok(bytes) => {
                    self.is_free &= completion.grant == Grant::None;
                    let item = Item::from_bytes(&bytes);
                    match completion.grant {
                        Grant::None => Answer::Returned(item),
                        Grant::Clean => Answer::Granted(item),
                        Grant::Abandoned => Answer::GrantedAbandoned(item),
                    }
                }
                Err(fault) => Answer::Raised(fault),
            };
            self.answers.insert(completion.call, answer);
        }
        self.version += u64::from(turn.changed);
        self.wake_at_ms = turn.wake_at_ms.or(self.wake_at_ms);
        self.invocations.extend(turn.invocations.take());
        let known: Vec<CallId> = self.shell.waiting().iter().map(|waiting| waiting.id).collect();
        assert!(known.iter().eq(self.waiting.keys()), "{typeid} lost a call: {known:?} of {:?} wait", self.parked());
    }
}

/// How often each token stands there.
fn count(tokens: Vec<u64>) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for token in tokens {
        *counts.entry(token).or_default() += 1;
    }
    counts
}

impl<T> std::fmt::Debug for Harness<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { now_ms, waiting, wake_at_ms, version, .. } = self;
        f.debug_struct("Harness")
            .field("now_ms", now_ms)
            .field("waiting", &waiting.keys())
            .field("wake_at_ms", wake_at_ms)
            .field("version", version)
            .finish_non_exhaustive()
    }
}
