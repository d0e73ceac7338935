//! Barrier: a number of parties that wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use steward_wire::cbor;
use steward_wire::value::tokens;

use crate::{
    Args, Builtin, Call, CallId, Fault, Ident, Input, Invocation, Method, Outbox, Owner, Param, Referent, Value, Why,
    data,
};

use super::{cancelled, common_method, compared_integer, flag, unjoinable};

/// `threading.Barrier`.
pub static BARRIER: Builtin = Builtin {
    typeid: "Barrier",
    doc: "A number of parties that wait for each other.\n\nThe barrier breaks when a party that waits times out, is given up or \
          is lost, so nobody passes with the dead.\n\n`action` happens when all have arrived and before any may go: either \
          `(object, \"method\", arguments…)`, a call that the host makes, or `\"client\"`, which leaves it to the \
          party that arrived last: its `wait` returns `[\"action\", index]` at once, and the others go when it calls \
          `action_done`. If the action fails, or the party's session ends first, the barrier breaks.\n\n\
          `timeout` is what clients apply to a `wait` without one.",
    constructor: &[
        Param::required("parties", "int"),
        Param::optional("action", "tuple | str | None", "None"),
        Param::optional("timeout", "float | None", "None"),
    ],
    methods: METHODS,
    create: Barrier::create,
    joins: &[],
    snapshots: false,
    constructible: true,
};

methods! {
    /// Methods of Barrier.
    BarrierMethod, METHODS:
    Wait = Method::new(
        "wait",
        &[],
        "Parks until all parties have arrived; returns the order of arrival, from 0.\n\nRaises BrokenBarrierError if the barrier is \
         broken or breaks, as it does at the deadline. A deadline that passes while the action runs changes nothing: all have arrived.",
    ).acts_by_parking();
    Abort = Method::new("abort", &[], "Breaks the barrier: all that wait or come raise BrokenBarrierError.");
    Reset = Method::new("reset", &[], "Makes the barrier new: all that wait raise BrokenBarrierError.");
    Parties = Method::new("parties", &[], "How many must arrive.").read_only();
    NWaiting = Method::new("n_waiting", &[], "How many have arrived and wait.").read_only();
    Broken = Method::new("broken", &[], "Whether the barrier is broken.").read_only();
    Timeout = Method::new("timeout", &[], "The constructor's `timeout` in seconds, or None.").read_only();
    ActionDone = Method::new(
        "action_done",
        &[Param::optional("ok", "bool", "True")],
        "Says that the caller, whom `wait` told to act, has done so, or has failed, which breaks the barrier.\n\nRaises \
         BrokenBarrierError if the barrier broke meanwhile, RuntimeError if the caller was not told.",
    );
}

#[derive(Debug)]
struct Barrier {
    /// At least 1.
    parties: u64,
    /// An encoded number or `None`.
    timeout: Box<[u8]>,
    action: Option<Box<Action>>,
    state: State,
    /// Those who wait in this generation, in the order of arrival. Whoever leaves early breaks it, so a place is an index.
    waiting: BTreeSet<CallId>,
    /// Those who came while the action runs: the next generation, which has not begun.
    next: BTreeMap<CallId, Owner>,
    /// Rises with every action, and names it.
    action_number: u64,
}

#[derive(Debug)]
enum Action {
    /// The party that arrives last does it.
    Client,
    /// A call on another object, which is held as are those among the arguments.
    Invoke {
        ident: Ident,
        method: String,
        /// Encoded as for any call.
        args: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Filling,
    /// All have arrived and the action runs.
    Acting {
        /// The party that does it, if one does; it is not among `waiting`.
        actor: Option<Owner>,
        /// Somebody left the next generation, which will not begin.
        next_is_broken: bool,
    },
    Broken,
}

impl Barrier {
    fn create(args: Args<'_>, out: &mut Outbox) -> Result<Box<dyn Referent>, Fault> {
        let [parties, action, timeout] = args.bind("Barrier.__init__", BARRIER.constructor)?;
        let parties = compared_integer(parties.expect("a required argument"), "<")?;
        let parties = u64::try_from(parties).ok().filter(|parties| *parties > 0);
        let parties = parties.ok_or_else(|| Fault::raised("ValueError", "parties must be > 0"))?;
        let timeout = timeout.unwrap_or(&[cbor::NULL]);
        match data::decode(timeout)? {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
            other => {
                let text = format!("timeout must be a number or None, not {}", data::type_name(&other));
                return Err(Fault::raised("TypeError", text));
            }
        }
        let stored = action;
        let action = stored.map_or(Ok(None), Action::read)?;
        if let (Some(Action::Invoke { .. }), Some(stored)) = (&action, stored) {
            tokens(stored, &mut |ident| out.hold(ident));
        }
        Ok(Box::new(Self {
            parties,
            timeout: timeout.into(),
            action: action.map(Box::new),
            state: State::Filling,
            waiting: BTreeSet::new(),
            next: BTreeMap::new(),
            action_number: 0,
        }))
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let Some(method) = BarrierMethod::of(call.method) else {
            common_method(call, out, "_thread.lock", || match self.state {
                State::Broken => "<Barrier: broken>".to_owned(),
                _ => format!("<Barrier: waiters={}/{}>", self.arrived(), self.parties),
            });
            return Ok(());
        };
        match method {
            BarrierMethod::Wait => {
                let [] = call.args.bind("Barrier.wait", &[])?;
                self.arrive(call.id, call.owner, out);
            }
            BarrierMethod::Abort => {
                let [] = call.args.bind("Barrier.abort", &[])?;
                out.returns_null(call.id);
                self.break_now(out);
            }
            BarrierMethod::Reset => {
                let [] = call.args.bind("Barrier.reset", &[])?;
                out.returns_null(call.id);
                if self.state != State::Filling || !self.waiting.is_empty() {
                    self.break_now(out);
                    self.state = State::Filling;
                    // Also of one that was broken already.
                    out.changed();
                }
            }
            BarrierMethod::Parties => {
                let [] = call.args.bind("Barrier.parties", &[])?;
                out.returns(call.id, |bytes| cbor::put_u64(bytes, self.parties));
            }
            BarrierMethod::NWaiting => {
                let [] = call.args.bind("Barrier.n_waiting", &[])?;
                out.returns(call.id, |bytes| cbor::put_u64(bytes, self.arrived()));
            }
            BarrierMethod::Broken => {
                let [] = call.args.bind("Barrier.broken", &[])?;
                out.returns_bool(call.id, self.state == State::Broken);
            }
            BarrierMethod::Timeout => {
                let [] = call.args.bind("Barrier.timeout", &[])?;
                out.returns_item(call.id, &self.timeout);
            }
            BarrierMethod::ActionDone => {
                let params = METHODS[BarrierMethod::ActionDone as usize].params;
                let [ok] = call.args.bind("Barrier.action_done", params)?;
                let ok = flag(ok, true)?;
                match self.state {
                    State::Acting { actor: Some(actor), .. } if actor == call.owner => {
                        out.returns_null(call.id);
                        if ok { self.let_go(out) } else { self.break_now(out) }
                    }
                    State::Broken => return Err(broken()),
                    _ => return Err(Fault::raised("RuntimeError", "no action of this caller is pending")),
                }
            }
        }
        Ok(())
    }

    fn arrive(&mut self, call: CallId, owner: Owner, out: &mut Outbox) {
        match self.state {
            State::Broken | State::Acting { next_is_broken: true, .. } => return out.raises(call, &broken()),
            State::Acting { .. } => {
                self.next.insert(call, owner);
                return;
            }
            State::Filling => {}
        }
        self.waiting.insert(call);
        if self.arrived() < self.parties {
            return;
        }
        match self.action.as_deref() {
            None => return self.let_go(out),
            Some(Action::Invoke { ident, method, args }) => {
                self.action_number += 1;
                let (method, args) = (method.clone(), args.clone());
                out.invoke(Invocation { tag: self.action_number, ident: *ident, method, args });
                self.state = State::Acting { actor: None, next_is_broken: false };
            }
            Some(Action::Client) => {
                self.action_number += 1;
                self.waiting.remove(&call);
                out.returns(call, |bytes| {
                    cbor::put_array(bytes, 2);
                    cbor::put_text(bytes, "action");
                    cbor::put_u64(bytes, self.parties - 1);
                });
                out.note(call, self.action_number);
                self.state = State::Acting { actor: Some(owner), next_is_broken: false };
            }
        }
        out.changed();
    }

    /// Ends the generation well; those who came meanwhile arrive now.
    fn let_go(&mut self, out: &mut Outbox) {
        for (index, call) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            out.returns(call, |bytes| cbor::put_u64(bytes, index as u64));
        }
        let next_is_broken = matches!(self.state, State::Acting { next_is_broken: true, .. });
        self.state = if next_is_broken { State::Broken } else { State::Filling };
        out.changed();
        // Each may be the last of another generation, whose action the rest then wait for.
        for (call, owner) in std::mem::take(&mut self.next) {
            self.arrive(call, owner, out);
        }
    }

    fn break_now(&mut self, out: &mut Outbox) {
        if self.state != State::Broken {
            out.changed();
        }
        self.state = State::Broken;
        for call in std::mem::take(&mut self.waiting) {
            out.raises(call, &broken());
        }
        self.break_next(out);
    }

    fn break_next(&mut self, out: &mut Outbox) {
        for (call, _) in std::mem::take(&mut self.next) {
            out.raises(call, &broken());
        }
    }

    fn cancel(&mut self, call: CallId, why: Why, out: &mut Outbox) {
        let fault = match why {
            Why::Deadline => broken(),
            Why::Client | Why::SessionEnded => cancelled(),
        };
        if self.next.remove(&call).is_some() {
            out.raises(call, &fault);
            self.break_next(out);
            // The generation that is complete goes on: generations never mix.
            if let State::Acting { next_is_broken, .. } = &mut self.state {
                *next_is_broken = true;
            }
            return;
        }
        let is_late = why == Why::Deadline && matches!(self.state, State::Acting { .. });
        if !is_late && self.waiting.remove(&call) {
            out.raises(call, &fault);
            self.break_now(out);
        }
    }

    fn action_returned(&mut self, outcome: Result<&[u8], &Fault>, out: &mut Outbox) {
        match outcome {
            Ok(_) => self.let_go(out),
            Err(fault) => {
                if let Some(last) = self.waiting.pop_last() {
                    // For this call it did happen: the barrier is broken.
                    out.raises(last, &Fault { effect: crate::Effect::Raised, retryable: false, ..fault.clone() });
                }
                self.break_now(out);
            }
        }
    }

    fn arrived(&self) -> u64 {
        let acts = matches!(self.state, State::Acting { actor: Some(_), .. });
        self.waiting.len() as u64 + u64::from(acts)
    }
}

impl Action {
    fn read(item: &[u8]) -> Result<Option<Self>, Fault> {
        match data::decode(item)? {
            Value::Null => return Ok(None),
            Value::Text(text) if text == "client" => return Ok(Some(Self::Client)),
            Value::Tuple(parts) | Value::List(parts) => {
                if let [Value::Token(token), Value::Text(method), arguments @ ..] = &parts[..]
                    && token.address.is_none()
                {
                    let mut args = Vec::new();
                    cbor::put_array(&mut args, 2);
                    cbor::put_array(&mut args, arguments.len());
                    arguments.iter().for_each(|argument| argument.encode(&mut args));
                    cbor::put_map(&mut args, 0);
                    return Ok(Some(Self::Invoke { ident: token.ident, method: method.clone(), args }));
                }
            }
            _ => {}
        }
        Err(Fault::raised("TypeError", "action must be None, \"client\" or (object, \"method\", arguments…)"))
    }
}

/// `threading.BrokenBarrierError`, which has no message.
fn broken() -> Fault {
    Fault::raised("BrokenBarrierError", "")
}

impl Referent for Barrier {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => self.cancel(call, why, out),
            Input::OwnerLost { session, .. } => {
                if matches!(self.state, State::Acting { actor: Some(actor), .. } if actor.session == session) {
                    self.break_now(out);
                }
            }
            Input::Undelivered { note, .. } => {
                // Only the reply that tells a party to act has a note.
                let acts = matches!(self.state, State::Acting { actor: Some(_), .. });
                if acts && note == self.action_number {
                    self.break_now(out);
                }
            }
            Input::Returned { tag, outcome, .. } => {
                // It may have broken, and even filled again, meanwhile.
                let acts = matches!(self.state, State::Acting { actor: None, .. });
                if acts && tag == self.action_number {
                    self.action_returned(outcome, out);
                }
            }
            Input::Join { call, typeid, .. } => out.raises(call, &unjoinable(typeid)),
            Input::Tick { .. } | Input::Leave { .. } => {}
        }
    }
}
