//! Steps a referent by hand, as a host would, and keeps everything that it answers.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part")]

use std::collections::BTreeMap;

use steward_objects::{
    Args, Builtin, Call, CallId, Effect, Facet, Fault, Grant, Ident, Input, Invocation, Outbox, Owner, Referent, Value,
    Why, builtin, common,
};
use steward_wire::value::tokens;
use steward_wire::{Token, cbor};

/// The owner of thread 1 of a session.
pub fn owner(session: u64) -> Owner {
    Owner { session, thread: 1 }
}

/// Encodes `[[positional…], {keyword: …}]`.
pub fn arguments(positional: &[Value], keywords: &[(&str, Value)]) -> Vec<u8> {
    let mut item = Vec::new();
    cbor::put_array(&mut item, 2);
    cbor::put_array(&mut item, positional.len());
    positional.iter().for_each(|value| value.encode(&mut item));
    cbor::put_map(&mut item, keywords.len());
    for (name, value) in keywords {
        cbor::put_text(&mut item, name);
        value.encode(&mut item);
    }
    item
}

/// A token of this host.
pub fn token(typeid: &str, ident: u64) -> Value {
    Value::Token(Token { typeid: typeid.to_owned(), ident: Ident(ident), address: None })
}

/// Text as a value.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// An answered call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result, or the fault.
    pub outcome: Result<Value, Fault>,
    /// With the result.
    pub grant: Option<Grant>,
    /// The result is a new facet.
    pub facet: Option<Facet>,
    /// Place among the answers of the driver's life, from 0.
    pub order: usize,
}

/// A call as the driver remembers it.
#[derive(Clone, Debug)]
struct Asked {
    owner: Owner,
    facet: Facet,
    method: u16,
    note: u64,
    payload: Vec<u8>,
    answer: Option<Answer>,
}

/// Steps one referent. Checks with every step what a host relies on: a call is answered once, fences rise, no
/// token is let go that is not held, and nothing is removed that was not stored.
pub struct Driver {
    referent: Box<dyn Referent>,
    types: BTreeMap<Facet, &'static Builtin>,
    out: Outbox,
    call_next: CallId,
    answers: usize,
    calls: BTreeMap<CallId, Asked>,
    /// How many tokens of each object the referent holds.
    pub held: BTreeMap<Ident, u64>,
    /// What the referent says that it stores.
    pub stored_bytes: i64,
    /// Rises with every step that changes the referent.
    pub version: u64,
    /// The clock that steps see.
    pub now_ms: u64,
    /// The latest request to be woken.
    pub wake_at_ms: Option<u64>,
    /// Calls that the referent asked for and nobody has taken yet.
    pub invocations: Vec<Invocation>,
    /// Nobody holds what this cell grants, as the referent says.
    pub is_free: bool,
    fence_last: u64,
}

impl Driver {
    /// Makes an object of a built-in type.
    pub fn new(typeid: &str, positional: &[Value]) -> Self {
        Self::try_new(typeid, positional, &[]).expect("the arguments are good")
    }

    /// Makes an object, or says why not.
    pub fn try_new(typeid: &str, positional: &[Value], keywords: &[(&str, Value)]) -> Result<Self, Fault> {
        let kind = builtin(typeid).expect("a built-in type");
        let item = arguments(positional, keywords);
        let mut out = Outbox::new(1);
        let mut has_tokens = false;
        tokens(&item, &mut |_| has_tokens = true);
        let referent = (kind.create)(Args::new(&item, has_tokens), &mut out)?;
        let mut driver = Self {
            referent,
            types: BTreeMap::from([(0, kind)]),
            out,
            call_next: 1,
            answers: 0,
            calls: BTreeMap::new(),
            held: BTreeMap::new(),
            stored_bytes: 0,
            version: 0,
            now_ms: 0,
            wake_at_ms: None,
            invocations: Vec::new(),
            is_free: true,
            fence_last: 0,
        };
        driver.collect();
        Ok(driver)
    }

    /// The type of facet 0.
    pub fn typeid(&self) -> &'static str {
        self.types[&0].typeid
    }

    /// Calls a method of facet 0 and returns the call's number.
    pub fn call(&mut self, owner: Owner, method: &str, positional: &[Value]) -> CallId {
        self.call_facet(0, owner, method, positional, &[])
    }

    /// Calls a method of any facet; `#GETVALUE`, `__str__` and `__repr__` are the common ones.
    pub fn call_facet(
        &mut self,
        facet: Facet,
        owner: Owner,
        method: &str,
        positional: &[Value],
        keywords: &[(&str, Value)],
    ) -> CallId {
        let methods = self.types[&facet].methods;
        let index = match method {
            "#GETVALUE" => common::GET_VALUE,
            "__str__" => common::STR,
            "__repr__" => common::REPR,
            name => methods.iter().position(|method| method.name == name).expect("a method of the type") as u16,
        };
        let id = self.ask(owner, facet, index);
        let item = arguments(positional, keywords);
        let mut has_tokens = false;
        tokens(&item, &mut |_| has_tokens = true);
        let args = Args::new(&item, has_tokens);
        let now_ms = self.now_ms;
        self.step(Input::Call(Call { id, facet, method: index, owner, now_ms, seed: id, args }));
        let may_park = methods.get(usize::from(index)).is_some_and(|method| method.may_park);
        assert!(may_park || self.is_answered(id), "{method} parked and must not");
        let read_only = methods.get(usize::from(index)).is_some_and(|method| method.read_only);
        assert!(!read_only || !self.out.is_changed(), "{method} changed something and must not");
        let stores = methods.get(usize::from(index)).is_some_and(|method| method.stores);
        assert!(stores || self.out.stored_bytes() <= 0, "{method} stored more and does not say so");
        id
    }

    /// Calls a method of facet 0 that answers at once, and returns the answer.
    pub fn now(&mut self, owner: Owner, method: &str, positional: &[Value]) -> Result<Value, Fault> {
        let id = self.call(owner, method, positional);
        self.outcome(id).expect("the call is answered at once")
    }

    /// As [`Self::now`], at any facet.
    pub fn now_facet(
        &mut self,
        facet: Facet,
        owner: Owner,
        method: &str,
        positional: &[Value],
    ) -> Result<Value, Fault> {
        let id = self.call_facet(facet, owner, method, positional, &[]);
        self.outcome(id).expect("the call is answered at once")
    }

    /// Lets an object join the cell; the constructor's first argument names `to`.
    pub fn join(&mut self, typeid: &str, to: Facet, more: &[Value]) -> Result<Facet, Fault> {
        let id = self.ask(owner(0), 0, u16::MAX);
        let mut positional = vec![token(self.types[&to].typeid, 7)];
        positional.extend_from_slice(more);
        let item = arguments(&positional, &[]);
        self.step(Input::Join { call: id, typeid, to, args: Args::new(&item, true) });
        let answer = self.answer(id).expect("a join is answered at once").clone();
        answer.outcome?;
        Ok(answer.facet.expect("a join makes a facet"))
    }

    /// Gives up a call.
    pub fn cancel(&mut self, call: CallId, why: Why) {
        self.step(Input::Cancel { call, why, now_ms: self.now_ms });
    }

    /// Ends a session: its parked calls are cancelled, then the referent is told.
    pub fn lose(&mut self, session: u64, orderly: bool) {
        for call in self.parked() {
            if self.calls[&call].owner.session == session {
                self.cancel(call, Why::SessionEnded);
            }
        }
        self.step(Input::OwnerLost { session, orderly, now_ms: self.now_ms });
    }

    /// Says that the reply to a call was lost.
    pub fn undelivered(&mut self, call: CallId) {
        let Asked { facet, method, note, payload, .. } = self.calls[&call].clone();
        self.step(Input::Undelivered {
            call,
            facet,
            method,
            payload: &payload,
            note,
            sent: false,
            now_ms: self.now_ms,
        });
    }

    /// Wakes the referent if it asked for that.
    pub fn tick(&mut self) {
        if let Some(at_ms) = self.wake_at_ms.take() {
            self.now_ms = self.now_ms.max(at_ms);
            self.step(Input::Tick { now_ms: self.now_ms });
        }
    }

    /// Ends a call that the referent asked for.
    pub fn returned(&mut self, tag: u64, outcome: Result<Value, Fault>) {
        let outcome = outcome.map(|value| value.to_vec());
        let outcome = match &outcome {
            Ok(item) => Ok(&item[..]),
            Err(fault) => Err(fault),
        };
        self.step(Input::Returned { tag, outcome, now_ms: self.now_ms });
    }

    /// Lets a facet go.
    pub fn leave(&mut self, facet: Facet) {
        self.types.remove(&facet);
        self.step(Input::Leave { facet });
    }

    /// A call's answer, once it has one.
    pub fn answer(&self, call: CallId) -> Option<&Answer> {
        self.calls[&call].answer.as_ref()
    }

    /// A call's result or fault, once it is answered.
    pub fn outcome(&self, call: CallId) -> Option<Result<Value, Fault>> {
        self.answer(call).map(|answer| answer.outcome.clone())
    }

    /// A call's result.
    pub fn value(&self, call: CallId) -> Option<Value> {
        self.answer(call).map(|answer| answer.outcome.clone().expect("the call returns"))
    }

    /// The grant that came with a call's answer.
    pub fn grant(&self, call: CallId) -> Option<Grant> {
        self.answer(call).and_then(|answer| answer.grant)
    }

    /// Whether a call is answered.
    pub fn is_answered(&self, call: CallId) -> bool {
        self.answer(call).is_some()
    }

    /// Whose call it is.
    pub fn owner_of(&self, call: CallId) -> Owner {
        self.calls[&call].owner
    }

    /// The calls that wait, oldest first.
    pub fn parked(&self) -> Vec<CallId> {
        self.calls.iter().filter(|(_, asked)| asked.answer.is_none()).map(|(id, _)| *id).collect()
    }

    fn ask(&mut self, owner: Owner, facet: Facet, method: u16) -> CallId {
        let id = self.call_next;
        self.call_next += 1;
        self.calls.insert(id, Asked { owner, facet, method, note: 0, payload: Vec::new(), answer: None });
        id
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear(self.out.fence_next(), 1 << 16);
        self.referent.step(input, &mut self.out);
        self.collect();
    }

    fn collect(&mut self) {
        for reply in self.out.replies() {
            let payload = self.out.payload(reply).to_vec();
            let outcome = match reply.effect {
                Effect::Returned if reply.facet.is_some() => Ok(Value::Null),
                Effect::Returned => Ok(Value::decode(&payload).expect("a result is one item")),
                effect => Err(Fault::read(effect, &payload).expect("a fault reads as one")),
            };
            if let Some(Grant { fence, .. }) = reply.grant {
                assert!(fence > self.fence_last, "fences rise");
                self.fence_last = fence;
                self.is_free = false;
            }
            if let Some((facet, typeid)) = reply.facet {
                let earlier = self.types.insert(facet, builtin(typeid).expect("a built-in type"));
                assert!(earlier.is_none(), "facet {facet} is used again");
            }
            let asked = self.calls.get_mut(&reply.call).expect("only calls are answered");
            assert!(asked.answer.is_none(), "call {} is answered twice", reply.call);
            asked.note = reply.note;
            asked.payload = payload;
            let facet = reply.facet.map(|(facet, _)| facet);
            asked.answer = Some(Answer { outcome, grant: reply.grant, facet, order: self.answers });
            self.answers += 1;
        }
        for ident in self.out.held() {
            *self.held.entry(*ident).or_default() += 1;
        }
        for ident in self.out.let_go_of() {
            let count = self.held.get_mut(ident).expect("only what is held is let go");
            *count -= 1;
            if *count == 0 {
                self.held.remove(ident);
            }
        }
        self.stored_bytes += self.out.stored_bytes();
        assert!(self.stored_bytes >= 0, "no more is removed than was stored");
        self.version += u64::from(self.out.is_changed());
        self.is_free |= self.out.hold_change() == steward_objects::HoldChange::Freed;
        if self.out.wake_at_ms().is_some() {
            self.wake_at_ms = self.out.wake_at_ms();
        }
        self.invocations.extend(self.out.take_invocations());
    }
}
