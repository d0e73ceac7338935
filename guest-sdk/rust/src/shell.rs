//! What stands between the host and an object: it turns inputs into calls of methods and hooks, and keeps the lines of
//! parked calls.

use std::collections::VecDeque;

use steward_wire::cbor::{self, Reader};

use crate::context::{Standing, Turn};
use crate::item::held;
use crate::object::{Line, Method, ObjectType, TypeInfo};
use crate::{CallId, Context, Fault, Item, Object, Owner, OwnerLost, Result, Returned, Stop, Undelivered, Why, raise};

/// An object with what it has to do with the host.
pub(crate) struct Shell {
    object: Box<dyn Object>,
    info: &'static TypeInfo,
    tenant: String,
    /// The parked calls. A line belongs to one method or to several that share it.
    lines: Vec<VecDeque<Waiting>>,
    standing: Standing,
    /// What the host was last asked to wake the object at; `None` once it has.
    told_wake_ms: Option<u64>,
    /// Calls that were asked for when the object was made, which the host hears of with the first step.
    early: Vec<Invocation>,
    /// Check with each call that parks that it changed nothing: for tests.
    pub(crate) checks_parking: bool,
}

/// What the host says when an object is made.
pub(crate) struct Birth {
    pub(crate) now_ms: u64,
    pub(crate) seed: u64,
    pub(crate) tenant: String,
}

/// A call that has no answer yet.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: CallId,
    pub(crate) method: u32,
    pub(crate) owner: Owner,
    /// An item, so that tokens among the arguments are held while the call waits.
    pub(crate) args: Item,
    /// Tried again at this time.
    until_ms: Option<u64>,
}

/// What the host steps an object with.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Call(Call<'a>),
    Other(Event<'a>),
}

/// What is no new call.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Cancel { call: CallId, why: Why },
    OwnerLost(OwnerLost),
    Undelivered { call: CallId, method: u32, payload: &'a [u8], sent: bool },
    Returned { tag: u64, outcome: std::result::Result<&'a [u8], Fault> },
    Tick,
}

/// A call, new or tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) id: CallId,
    pub(crate) method: u32,
    pub(crate) owner: Owner,
    pub(crate) args: &'a [u8],
}

impl Call<'_> {
    /// The same, to wait.
    fn parked(self, until_ms: Option<u64>) -> Waiting {
        let Self { id, method, owner, args } = self;
        Waiting { id, method, owner, args: Item::from_bytes(args), until_ms }
    }
}

impl Waiting {
    /// The same, to be tried again.
    fn call(&self) -> Call<'_> {
        Call { id: self.id, method: self.method, owner: self.owner, args: self.args.as_bytes() }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) call: CallId,
    pub(crate) outcome: std::result::Result<Vec<u8>, Fault>,
    pub(crate) grant: Grant,
}

/// Whether a call was granted something that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Grant {
    #[default]
    None,
    Clean,
    /// By somebody who was lost while holding it.
    Abandoned,
}

/// A call on another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) tag: u64,
    pub(crate) ident: u64,
    pub(crate) method: String,
    pub(crate) args: Vec<u8>,
}

/// What became of a try.
enum Tried {
    /// It was answered; whether the object changed.
    Answered { changed: bool },
    /// It parks.
    Parks { until_ms: Option<u64> },
    /// The object answers it some day.
    ByHand,
}

/// Which parked calls to try again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Those whose time has come.
    Due,
    /// All that are to be tried after a change.
    All,
}

impl Shell {
    /// Makes an object. Beside it, the tokens that it stores.
    pub(crate) fn create<T: ObjectType>(birth: Birth, args: &[u8]) -> std::result::Result<(Self, Vec<u64>), Fault> {
        Self::make(&const { T::INFO }, birth, None, |cx| T::create(cx, args))
    }

    /// Makes an object from what [`Shell::save`] gave. Beside it, the tokens that it stores, of those that the former one did.
    pub(crate) fn load<T: ObjectType>(
        birth: Birth,
        saved: &[u8],
        from_version: &str,
    ) -> std::result::Result<(Self, Vec<u64>), Fault> {
        let mut reader = Reader::new(saved);
        let mut open = || {
            reader.array()?;
            let wake_at_ms = if reader.null() { None } else { Some(reader.u64()?) };
            Ok::<_, steward_wire::Malformed>((wake_at_ms, reader.bytes()?))
        };
        let (wake_at_ms, state) = open().map_err(|_| Fault::new("ValueError", "state is malformed"))?;
        Self::make(&const { T::INFO }, birth, wake_at_ms, |cx| T::load(cx, state, from_version))
    }

    fn make<T: ObjectType>(
        info: &'static TypeInfo,
        birth: Birth,
        wake_at_ms: Option<u64>,
        make: impl FnOnce(&Context<'_>) -> Result<T>,
    ) -> std::result::Result<(Self, Vec<u64>), Fault> {
        let Birth { now_ms, seed, tenant } = birth;
        let (turn, standing) = (Turn::default(), Standing::default());
        turn.seed.set(seed);
        standing.wake_at_ms.set(wake_at_ms);
        // What the last step's values let go when they were freed belongs to nobody.
        held::take();
        let cx =
            Context { now_ms, tenant: &tenant, owner: Owner::default(), call: 0, turn: &turn, standing: &standing };
        let object = make(&cx).map_err(|stop| match stop {
            Stop::Raised(fault) => fault,
            Stop::Pending { .. } | Stop::ByHand => Fault::new("RuntimeError", "a constructor cannot wait"),
        })?;
        let lines = (0..info.lines).map(|_| VecDeque::new()).collect();
        let object = Box::new(object);
        let (held, _) = held::take().unwrap_or_default();
        let early = turn.invocations.into_inner();
        Ok((Self { object, info, tenant, lines, standing, told_wake_ms: None, early, checks_parking: false }, held))
    }

    /// The object's state and its wish to be woken: `[wake-at or null, state]`.
    pub(crate) fn save(&self) -> std::result::Result<Vec<u8>, Fault> {
        let state = self.object.save().map_err(|stop| match stop {
            Stop::Raised(fault) => fault,
            Stop::Pending { .. } | Stop::ByHand => Fault::new("RuntimeError", "saving cannot wait"),
        })?;
        let mut saved = Vec::with_capacity(state.len() + 16);
        cbor::put_array(&mut saved, 2);
        match self.standing.wake_at_ms.get() {
            Some(at_ms) => cbor::put_u64(&mut saved, at_ms),
            None => cbor::put_null(&mut saved),
        }
        cbor::put_bytes(&mut saved, &state);
        Ok(saved)
    }

    /// Takes one turn, of which `turn` then tells.
    pub(crate) fn step(&mut self, turn: &mut Turn, now_ms: u64, seed: u64, input: Input<'_>) {
        held::take();
        turn.begin(seed);
        if !self.early.is_empty() {
            *turn.invocations.get_mut() = std::mem::take(&mut self.early);
        }
        let changed = match input {
            Input::Call(call) => {
                self.call(turn, now_ms, call) && {
                    self.retry(turn, now_ms, Retry::All);
                    true
                }
            }
            Input::Other(event) => self.event(turn, now_ms, event),
        };
        if let Some(changes) = held::take() {
            (turn.held, turn.let_go) = changes;
        }
        turn.changed = changed;
        turn.wake_at_ms = self.wake_at_ms();
    }

    /// What is no new call. Returns whether the object changed.
    #[cold]
    fn event(&mut self, turn: &Turn, now_ms: u64, event: Event<'_>) -> bool {
        let cx = context(turn, &self.standing, &self.tenant, now_ms, 0, Owner::default());
        let mut retry = Retry::All;
        let changed = match event {
            Event::Cancel { call, why } => match self.cancel(turn, now_ms, call, why) {
                Some(by_hook) => by_hook,
                None => return false,
            },
            Event::OwnerLost(lost) => self.object.owner_lost(&cx, lost),
            Event::Undelivered { call, method, payload, sent } => {
                let name = self.info.methods.get(method as usize).map_or("", |method| method.name);
                self.object.undelivered(&Context { call, ..cx }, Undelivered { method: name, sent, payload })
            }
            Event::Returned { tag, outcome } => {
                self.object.returned(&cx, Returned { tag, outcome: outcome.as_ref().copied() })
            }
            Event::Tick => {
                self.told_wake_ms = None;
                match self.standing.wake_at_ms.get() {
                    Some(at_ms) if at_ms <= now_ms => {
                        self.standing.wake_at_ms.set(None);
                        self.object.tick(&cx)
                    }
                    _ => {
                        retry = Retry::Due;
                        false
                    }
                }
            }
        };
        self.retry(turn, now_ms, retry) | changed
    }

    /// A new call: behind those of its line that wait, or tried at once. Returns whether the object changed.
    fn call(&mut self, turn: &Turn, now_ms: u64, call: Call<'_>) -> bool {
        let Some(method) = self.info.methods.get(call.method as usize) else {
            let fault = Fault::new("AttributeError", format!("there is no method number {}", call.method));
            turn.completions.borrow_mut().push(Completion { call: call.id, outcome: Err(fault), grant: Grant::None });
            return false;
        };
        if let Some(Line::Fifo(line)) = method.line
            && !self.lines[line].is_empty()
        {
            self.lines[line].push_back(call.parked(None));
            return false;
        }
        let cx = context(turn, &self.standing, &self.tenant, now_ms, call.id, call.owner);
        match attempt(&mut *self.object, self.info, method, &cx, call, self.checks_parking) {
            Tried::Answered { changed } => return changed,
            Tried::Parks { until_ms } => {
                let (Line::Fifo(line) | Line::All(line)) = method.line.expect("attempt lets only these park");
                self.lines[line].push_back(call.parked(until_ms));
            }
            Tried::ByHand => self.standing.by_hand.get_mut().push(call.parked(None)),
        }
        false
    }

    /// Gives a parked call up. `None` if there is no such call, else whether the object changed.
    fn cancel(&mut self, turn: &Turn, now_ms: u64, id: CallId, why: Why) -> Option<bool> {
        let by_hand = self.standing.by_hand.get_mut();
        let waiting = match by_hand.iter().position(|waiting| waiting.id == id) {
            Some(at) => by_hand.remove(at),
            None => self.lines.iter_mut().find_map(|line| {
                // Calls arrive in the order of their numbers.
                let at = line.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
                line.remove(at)
            })?,
        };
        let cx = context(turn, &self.standing, &self.tenant, now_ms, id, waiting.owner);
        let changed = self.object.cancelled(&cx, why);
        let mut out = Vec::new();
        let outcome = if why == Why::Deadline {
            match self.object.timed_out(waiting.method, &cx, &mut out) {
                Ok(()) => Ok(out),
                Err(Stop::Raised(fault)) => Err(fault),
                Err(Stop::Pending { .. } | Stop::ByHand) => {
                    Err(Fault::new("RuntimeError", "the answer at the deadline cannot wait"))
                }
            }
        } else {
            // Nobody reads it, but the host counts the call as waiting until it has an answer.
            Err(Fault::new("Cancelled", "the call was given up"))
        };
        turn.completions.borrow_mut().push(Completion { call: id, outcome, grant: Grant::None });
        Some(changed)
    }

    /// Tries parked calls again, until no more of them is answered. Returns whether the object changed.
    fn retry(&mut self, turn: &Turn, now_ms: u64, which: Retry) -> bool {
        let mut changed = false;
        // After a change everything is worth a try; it ends because each change took a call out of its line.
        let mut which = which;
        loop {
            let mut changed_now = false;
            for line in 0..self.lines.len() {
                let mut at = 0;
                while at < self.lines[line].len() {
                    let Some(call) = self.lines[line].get_mut(at) else { break };
                    let method = &self.info.methods[call.method as usize];
                    let is_fifo = matches!(method.line, Some(Line::Fifo(_)));
                    if which == Retry::Due && !changed_now && call.until_ms.is_none_or(|until_ms| until_ms > now_ms) {
                        if is_fifo {
                            break;
                        }
                        at += 1;
                        continue;
                    }
                    let cx = context(turn, &self.standing, &self.tenant, now_ms, call.id, call.owner);
                    match attempt(&mut *self.object, self.info, method, &cx, call.call(), self.checks_parking) {
                        Tried::Answered { changed } => {
                            self.lines[line].remove(at);
                            changed_now |= changed;
                        }
                        Tried::Parks { until_ms } => {
                            call.until_ms = until_ms;
                            if is_fifo {
                                break;
                            }
                            at += 1;
                        }
                        Tried::ByHand => {
                            let call = self.lines[line].remove(at).expect("it was just there");
                            self.standing.by_hand.get_mut().push(call);
                        }
                    }
                }
            }
            changed |= changed_now;
            if !changed_now {
                return changed;
            }
            which = Retry::All;
        }
    }

    /// When to be woken, if that is not what the host was last told.
    fn wake_at_ms(&mut self) -> Option<u64> {
        let mut earliest = self.standing.wake_at_ms.get();
        for line in &self.lines {
            for call in line {
                earliest = match (earliest, call.until_ms) {
                    (Some(earliest), Some(until_ms)) => Some(earliest.min(until_ms)),
                    (earliest, until_ms) => earliest.or(until_ms),
                };
                // Behind the head of a fifo line nobody has been tried, so nobody has a wish.
                if matches!(self.info.methods[call.method as usize].line, Some(Line::Fifo(_))) {
                    break;
                }
            }
        }
        if earliest.is_none() || earliest == self.told_wake_ms {
            return None;
        }
        self.told_wake_ms = earliest;
        earliest
    }

    /// The parked calls in the order of their numbers.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn waiting(&mut self) -> Vec<Waiting> {
        let by_hand = self.standing.by_hand.get_mut().iter();
        let mut waiting: Vec<Waiting> = self.lines.iter().flatten().chain(by_hand).cloned().collect();
        waiting.sort_by_key(|waiting| waiting.id);
        waiting
    }
}

fn context<'a>(
    turn: &'a Turn,
    standing: &'a Standing,
    tenant: &'a str,
    now_ms: u64,
    call: CallId,
    owner: Owner,
) -> Context<'a> {
    Context { now_ms, tenant, owner, call, turn, standing }
}

/// Calls a method and notes its answer, if it has one.
#[inline]
fn attempt(
    object: &mut dyn Object,
    info: &TypeInfo,
    method: &Method,
    cx: &Context<'_>,
    call: Call<'_>,
    checks_parking: bool,
) -> Tried {
    let before = checks_parking.then(|| object.save());
    let mut out = cx.turn.payload.take();
    cx.turn.granted.set(Grant::None);
    let result = match object.call(call.method, cx, call.args, &mut out) {
        Err(Stop::Pending { .. } | Stop::ByHand) if method.line.is_none() => raise(
            "RuntimeError",
            format!("{}.{} waits, but is not declared #[method(fifo)] or #[method(all)]", info.typeid, method.name),
        ),
        result => result,
    };
    let grant = cx.turn.granted.take();
    let (outcome, grant) = match result {
        Ok(()) => (Ok(out), grant),
        Err(Stop::Raised(fault)) => (Err(fault), Grant::None),
        Err(stop) => {
            if let Some(before) = before {
                assert!(
                    before == object.save(),
                    "{}.{} changed the object and then parked: a call that parks must be safe to call again",
                    info.typeid,
                    method.name
                );
            }
            return match stop {
                Stop::Pending { until_ms } => Tried::Parks { until_ms },
                _ => Tried::ByHand,
            };
        }
    };
    cx.turn.completions.borrow_mut().push(Completion { call: call.id, outcome, grant });
    // One that raised may have changed something first.
    Tried::Answered { changed: !method.read_only }
}
