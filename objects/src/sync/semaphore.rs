//! Semaphore and BoundedSemaphore: permits, and an account of who holds them.

use std::collections::BTreeMap;

use steward_wire::cbor;

use crate::{Args, Builtin, Call, CallId, Fault, Input, Method, Outbox, Param, Referent, Why};

use super::{cancelled, common_method, compared_integer, unjoinable};

/// `threading.Semaphore`.
pub static SEMAPHORE: Builtin = Builtin {
    typeid: "Semaphore",
    doc: "A number of permits.\n\nThe line is first in, first out. When a session is lost (not when it says goodbye), \
          the permits that it surely held come back and their next grants say `abandoned`.",
    constructor: &[Param::optional("value", "int", "1")],
    methods: METHODS,
    create: |args, _| Semaphore::create(args, "Semaphore.__init__", false),
    joins: &[],
    snapshots: false,
    constructible: true,
};

/// `threading.BoundedSemaphore`.
pub static BOUNDED_SEMAPHORE: Builtin = Builtin {
    typeid: "BoundedSemaphore",
    doc: "A semaphore that refuses to be released more often than it was acquired.\n\nOtherwise as Semaphore.",
    constructor: &[Param::optional("value", "int", "1")],
    methods: METHODS,
    create: |args, _| Semaphore::create(args, "BoundedSemaphore.__init__", true),
    joins: &[],
    snapshots: false,
    constructible: true,
};

methods! {
    /// Methods of both types.
    SemaphoreMethod, METHODS:
    Acquire = Method::new(
        "acquire",
        &[],
        "Takes a permit, parking until there is one; returns True, or False at the deadline.",
    ).may_park();
    Release = Method::new(
        "release",
        &[Param::optional("n", "int", "1")],
        "Gives back `n` permits.\n\nAnybody may. Raises ValueError if `n` is below 1, or if a BoundedSemaphore would have more \
         than it started with.",
    );
    GetValue = Method::new("get_value", &[], "How many permits are free.").read_only();
    Locked = Method::new("locked", &[], "Whether no permit is free.").read_only();
}

/// Who holds which permits is known only as far as people release their own. A release by somebody who holds none
/// may stand for any permit that is out, so it is counted as `foreign`, and a lost session gives back what it
/// held less what `foreign` may already have given back: too few rather than one too many.
#[derive(Debug)]
struct Semaphore {
    /// Free permits; 0 while somebody waits.
    value: u64,
    /// What a BoundedSemaphore started with.
    bound: Option<u64>,
    /// The session of each parked `acquire`.
    waiting: BTreeMap<CallId, u64>,
    /// Permits that are out, by session; never 0.
    held: BTreeMap<u64, u64>,
    /// The sum of `held`, and of what sessions held that have said goodbye.
    out_total: u64,
    /// Releases that may stand for any of `out_total`, and are fewer, or else nothing is out.
    foreign: u64,
    /// Free permits that come from lost sessions; at most `value`.
    abandoned: u64,
}

impl Semaphore {
    fn create(args: Args<'_>, name: &str, bounded: bool) -> Result<Box<dyn Referent>, Fault> {
        let [value] = args.bind(name, SEMAPHORE.constructor)?;
        let value = value.map_or(Ok(1), |item| compared_integer(item, "<"))?;
        let value =
            u64::try_from(value).map_err(|_| Fault::raised("ValueError", "semaphore initial value must be >= 0"))?;
        Ok(Box::new(Self {
            value,
            bound: bounded.then_some(value),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            out_total: 0,
            foreign: 0,
            abandoned: 0,
        }))
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let Some(method) = SemaphoreMethod::of(call.method) else {
            common_method(call, out, "_thread.lock", || match self.bound {
                None => format!("<Semaphore: value={}>", self.value),
                Some(bound) => format!("<BoundedSemaphore: value={}/{bound}>", self.value),
            });
            return Ok(());
        };
        match method {
            SemaphoreMethod::Acquire => {
                let [] = call.args.bind("Semaphore.acquire", &[])?;
                match self.value {
                    0 => {
                        self.waiting.insert(call.id, call.owner.session);
                    }
                    _ => self.grant(call.id, call.owner.session, out),
                }
            }
            SemaphoreMethod::Release => {
                let [n] = call.args.bind("Semaphore.release", METHODS[SemaphoreMethod::Release as usize].params)?;
                let n = n.map_or(Ok(1), |item| compared_integer(item, "<"))?;
                let n = u64::try_from(n).ok().filter(|n| *n > 0);
                let n = n.ok_or_else(|| Fault::raised("ValueError", "n must be one or more"))?;
                let value = self.value.saturating_add(n);
                if self.bound.is_some_and(|bound| value > bound) {
                    return Err(Fault::raised("ValueError", "Semaphore released too many times"));
                }
                if value > i64::MAX as u64 {
                    return Err(Fault::raised("OverflowError", "semaphore value is limited to 63 bits"));
                }
                out.returns_null(call.id);
                self.release(call.owner.session, n, out);
            }
            SemaphoreMethod::GetValue => {
                let [] = call.args.bind("Semaphore.get_value", &[])?;
                out.returns(call.id, |bytes| cbor::put_u64(bytes, self.value));
            }
            SemaphoreMethod::Locked => {
                let [] = call.args.bind("Semaphore.locked", &[])?;
                out.returns_bool(call.id, self.value == 0);
            }
        }
        Ok(())
    }

    fn grant(&mut self, call: CallId, session: u64, out: &mut Outbox) {
        self.value -= 1;
        *self.held.entry(session).or_default() += 1;
        self.out_total += 1;
        let abandoned = self.abandoned > 0;
        self.abandoned -= u64::from(abandoned);
        out.returns_bool(call, true);
        out.grant(call, abandoned);
        out.note(call, session);
        out.changed();
    }

    fn release(&mut self, session: u64, n: u64, out: &mut Outbox) {
        let own = n.min(self.held_by(session));
        self.take_from(session, own);
        // Beyond what is out, a release makes new permits, as CPython's does.
        self.foreign = (self.foreign + (n - own)).min(self.out_total);
        self.add(n, out);
    }

    /// Frees `n` permits for those who wait, then for those who come.
    fn add(&mut self, n: u64, out: &mut Outbox) {
        self.value += n;
        if self.foreign == self.out_total {
            // Every permit that was out may have been given back: nothing is left that a lost session surely holds.
            self.held.clear();
            self.out_total = 0;
            self.foreign = 0;
            out.freed();
        }
        out.changed();
        while self.value > 0
            && let Some((call, session)) = self.waiting.pop_first()
        {
            self.grant(call, session, out);
        }
    }

    fn held_by(&self, session: u64) -> u64 {
        self.held.get(&session).copied().unwrap_or(0)
    }

    fn take_from(&mut self, session: u64, n: u64) {
        if n == 0 {
            return;
        }
        let held = self.held.get_mut(&session).expect("it holds as many as are taken");
        *held -= n;
        if *held == 0 {
            self.held.remove(&session);
        }
        self.out_total -= n;
    }

    fn owner_lost(&mut self, session: u64, orderly: bool, out: &mut Outbox) {
        if orderly {
            // They stay out, and nobody's end frees them any more.
            self.held.remove(&session);
            return;
        }
        let held = self.held_by(session);
        if held == 0 {
            return;
        }
        let given_back = held.min(self.foreign);
        self.take_from(session, held);
        self.foreign -= given_back;
        self.abandoned += held - given_back;
        self.add(held - given_back, out);
    }
}

impl Referent for Semaphore {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => {
                if self.waiting.remove(&call).is_some() {
                    match why {
                        Why::Deadline => out.returns_bool(call, false),
                        Why::Client | Why::SessionEnded => out.raises(call, &cancelled()),
                    }
                }
            }
            Input::OwnerLost { session, orderly, .. } => self.owner_lost(session, orderly, out),
            Input::Undelivered { method, payload, note: session, sent, .. } => {
                let was_granted =
                    SemaphoreMethod::of(method) == Some(SemaphoreMethod::Acquire) && payload == [cbor::TRUE];
                // If the session's end came first, its permits came back with it.
                if was_granted && self.held_by(session) > 0 {
                    self.take_from(session, 1);
                    self.abandoned += u64::from(sent);
                    self.add(1, out);
                }
            }
            Input::Join { call, typeid, .. } => out.raises(call, &unjoinable(typeid)),
            Input::Returned { .. } | Input::Tick { .. } | Input::Leave { .. } => {}
        }
    }
}
