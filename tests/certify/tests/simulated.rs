//! The real types, stepped as a host steps them, with many clients, some of which die: what they do must certify, and what is
//! changed in it afterwards must be found.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use steward_certify::{
    At, Grant, ObjectMade, Operation, Outcome, Record, Report, SessionEnd, certify, certify_plainly,
};
use steward_objects::{Args, Builtin, Call, CallId, Effect, Input, Outbox, Owner, Referent, Value, Why, builtin};
use steward_wire::{Fault, cbor};

const OBJECT: u64 = 1;
const SESSIONS: u64 = 4;

/// Types, the arguments of their constructors, and calls: methods with their arguments; `I` stands for a number that is
/// never used twice, `k` for one of a few. Those with a `*` may wait.
const TYPES: &[(&str, &str, Calls)] = &[
    ("Lock", "[]", &[("*acquire", "[]"), ("release", "[]"), ("locked", "[]")]),
    ("RLock", "[]", &[("*acquire", "[]"), ("release", "[]"), ("release", "[]"), ("locked", "[]")]),
    (
        "Condition",
        "[]",
        &[
            ("*acquire", "[]"),
            ("*acquire", "[]"),
            ("release", "[]"),
            ("*wait", "[]"),
            ("notify", "[]"),
            ("notify_all", "[]"),
        ],
    ),
    ("Semaphore", "[2]", &[("*acquire", "[]"), ("*acquire", "[]"), ("release", "[]"), ("get_value", "[]")]),
    ("BoundedSemaphore", "[1]", &[("*acquire", "[]"), ("release", "[]"), ("locked", "[]")]),
    ("Event", "[]", &[("*wait", "[]"), ("*wait", "[]"), ("set", "[]"), ("clear", "[]"), ("is_set", "[]")]),
    (
        "Barrier",
        "[3]",
        &[("*wait", "[]"), ("*wait", "[]"), ("*wait", "[]"), ("*wait", "[]"), ("reset", "[]"), ("broken", "[]")],
    ),
    ("Queue", "[]", QUEUE),
    ("JoinableQueue", "[2]", QUEUE),
    ("LifoQueue", "[3]", QUEUE),
    ("PriorityQueue", "[]", QUEUE),
    ("Value", r#"["i", 0]"#, &[("add", "[]"), ("get", "[]"), ("set", "[I]"), ("compare_and_set", "[k, I]")]),
    ("Array", r#"["q", [1, 2, 3]]"#, &[("incr", "[1, I]"), ("__getitem__", "[k]"), ("__setitem__", "[k, I]")]),
    (
        "list",
        "[]",
        &[
            ("append", "[I]"),
            ("pop", "[]"),
            ("pop", "[0]"),
            ("insert", "[k, I]"),
            ("__len__", "[]"),
            ("copy", "[]"),
            ("reverse", "[]"),
        ],
    ),
    (
        "dict",
        "[]",
        &[
            ("__setitem__", "[k, I]"),
            ("__getitem__", "[k]"),
            ("pop", "[k, null]"),
            ("setdefault", "[k, I]"),
            ("incr", "[k, I]"),
            ("popitem", "[]"),
            ("items", "[]"),
        ],
    ),
    ("set", "[]", &[("add", "[k]"), ("discard", "[k]"), ("pop", "[]"), ("__contains__", "[k]"), ("__len__", "[]")]),
    (
        "Namespace",
        "[]",
        &[
            ("__setattr__", r#"["x", I]"#),
            ("__getattribute__", r#"["x"]"#),
            ("incr", r#"["n", 1]"#),
            ("__delattr__", r#"["x"]"#),
        ],
    ),
];

/// Where the type stands of which the most happens unseen.
const CONDITION: usize = 2;

type Calls = &'static [(&'static str, &'static str)];

const QUEUE: Calls = &[
    ("*put", "[I]"),
    ("*put", "[I]"),
    ("*get", "[]"),
    ("*get", "[]"),
    ("put_nowait", "[I]"),
    ("get_nowait", "[]"),
    ("*put_many", "[[I, I]]"),
    ("*get_many", "[2]"),
    ("qsize", "[]"),
    ("task_done", "[]"),
];

/// An object, its host and its clients.
struct World {
    random: u64,
    now_ns: u64,
    unique: i64,
    kind: &'static Builtin,
    calls: Calls,
    referent: Box<dyn Referent>,
    out: Outbox,
    version: u64,
    wakes: bool,
    asked: BTreeMap<CallId, Asked>,
    ended: Vec<u64>,
    dying: Vec<u64>,
    records: Vec<Record>,
}

/// A call between its invocation and its record.
struct Asked {
    operation: Operation,
    method: u16,
    /// It has reached the object.
    arrived: bool,
    answer: Option<Answer>,
    /// The client has it, and has not acknowledged it.
    seen: bool,
}

struct Answer {
    outcome: Outcome,
    at: At,
    grant: Option<Grant>,
    payload: Vec<u8>,
    note: u64,
}

impl World {
    fn new(of: usize, seed: u64) -> Self {
        let (typeid, args, calls) = TYPES[of];
        let args: Vec<Json> = serde_json::from_str(args).unwrap();
        let kind = builtin(typeid).unwrap();
        let mut out = Outbox::new(1);
        let referent = (kind.create)(Args::new(&encoded(&args), false), &mut out).unwrap();
        let records = vec![Record::Object(ObjectMade { object: OBJECT, typeid: typeid.to_owned(), args })];
        Self {
            random: seed | 1,
            now_ns: 0,
            unique: 100,
            kind,
            calls,
            referent,
            out,
            version: 0,
            wakes: false,
            asked: BTreeMap::new(),
            ended: Vec::new(),
            dying: Vec::new(),
            records,
        }
    }

    fn pick(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % below
    }

    /// One thing happens, whichever.
    fn happen(&mut self, deaths: usize, waits_forever: bool) {
        self.now_ns += 10;
        match self.pick(12) {
            0..4 => self.invoke(waits_forever),
            4..7 => self.one(|asked| !asked.arrived, Self::arrive),
            7..10 => self.one(|asked| asked.answer.is_some() && !asked.seen, Self::deliver),
            10 => self.one(
                |asked| asked.arrived && asked.answer.is_none() && asked.operation.deadline_ms.is_some(),
                |world, call| world.step(|_| Input::Cancel { call, why: Why::Deadline, now_ms: 0 }),
            ),
            _ if self.wakes => self.wake(),
            _ if self.dying.len() + self.ended.len() < deaths && self.pick(4) == 0 => {
                let session = 1 + self.pick(SESSIONS as usize) as u64;
                if !self.ended.contains(&session) && !self.dying.contains(&session) {
                    self.die(session);
                }
            }
            _ if self.pick(3) == 0 => {
                if let Some(session) = self.dying.pop() {
                    self.end(session);
                }
            }
            _ => {}
        }
    }

    fn wake(&mut self) {
        self.wakes = false;
        self.step(|_| Input::Tick { now_ms: 0 });
    }

    /// Does something to one of the calls that are so.
    fn one(&mut self, is: impl Fn(&Asked) -> bool, mut then: impl FnMut(&mut Self, CallId)) {
        let all: Vec<_> = self.asked.iter().filter(|(_, asked)| is(asked)).map(|(call, _)| *call).collect();
        if !all.is_empty() {
            let call = all[self.pick(all.len())];
            then(self, call);
        }
    }

    fn is_gone(&self, session: u64) -> bool {
        self.ended.contains(&session) || self.dying.contains(&session)
    }

    /// A thread of a client calls, if it is idle.
    fn invoke(&mut self, waits_forever: bool) {
        let (session, owner) = (1 + self.pick(SESSIONS as usize) as u64, self.pick(2) as u64);
        let is_busy = |asked: &Asked| {
            let Operation { session: other, owner: thread, .. } = asked.operation;
            (other, thread) == (session, owner) && !asked.seen
        };
        if self.is_gone(session) || self.asked.values().any(is_busy) {
            return;
        }
        let (method, args) = self.calls[self.pick(self.calls.len())];
        let few = self.pick(3).to_string();
        let mut text = args.replace('k', &few);
        while text.contains('I') {
            self.unique += 1;
            text = text.replacen('I', &self.unique.to_string(), 1);
        }
        let parks = method.starts_with('*');
        let deadline_ms = (parks && (!waits_forever || self.pick(2) == 0)).then_some(5);
        let operation = Operation {
            client: session as u32,
            session,
            owner,
            object: OBJECT,
            method: method.trim_start_matches('*').to_owned(),
            args: serde_json::from_str(&text).unwrap(),
            deadline_ms,
            guard: None,
            invoked_ns: self.now_ns,
            returned_ns: None,
            outcome: Outcome::Unknown,
            at: None,
            grant: None,
        };
        let method = self.kind.methods.iter().position(|known| known.name == operation.method).unwrap() as u16;
        // A frame acknowledges all that came before it; one that is lost does not.
        let number = self.asked.last_key_value().map_or(1, |(last, _)| last + 1);
        self.asked.insert(number, Asked { operation, method, arrived: false, answer: None, seen: false });
    }

    /// Numbers of calls are those of their arrival, as in a host.
    fn arrive(&mut self, sent: CallId) {
        let mut asked = self.asked.remove(&sent).unwrap();
        let call = self.asked.last_key_value().map_or(sent, |(last, _)| (*last).max(sent)) + 1;
        asked.arrived = true;
        let (session, thread) = (asked.operation.session, asked.operation.owner);
        let (method, args) = (asked.method, encoded(&asked.operation.args));
        self.asked.retain(|_, other| other.operation.session != session || !other.seen);
        self.asked.insert(call, asked);
        let owner = Owner { session, thread };
        self.step(|_| {
            let args = Args::new(&args, false);
            Input::Call(Call { id: call, facet: 0, method, owner, now_ms: 0, seed: 0, args })
        });
    }

    fn step<'a>(&mut self, input: impl FnOnce(&()) -> Input<'a>) {
        let fence_next = self.out.fence_next();
        self.out.clear(fence_next, 1 << 16);
        self.referent.step(input(&()), &mut self.out);
        self.version += u64::from(self.out.is_changed());
        self.wakes |= self.out.wake_at_ms().is_some();
        let mut undelivered = Vec::new();
        for (index, reply) in self.out.replies().iter().enumerate() {
            let payload = self.out.payload(reply).to_vec();
            let outcome = match reply.effect {
                Effect::Returned => Outcome::Returned(json_of(&Value::decode(&payload).unwrap())),
                Effect::Raised => {
                    Outcome::Raised { kind: Fault::read(Effect::Raised, &payload).unwrap().kind.to_string() }
                }
                effect => Outcome::Refused { kind: Fault::read(effect, &payload).unwrap().kind.to_string() },
            };
            let asked = self.asked.get_mut(&reply.call).expect("only what was asked is answered");
            let grant = reply.grant.map(|grant| Grant { fence: grant.fence, abandoned: grant.abandoned });
            let at = At { epoch: 1, version: self.version, index: index as u64 };
            asked.answer = Some(Answer { outcome, at, grant, payload, note: reply.note });
            if self.ended.contains(&asked.operation.session) {
                undelivered.push(reply.call);
            }
        }
        for call in undelivered {
            self.bring_back(call, false);
        }
    }

    fn bring_back(&mut self, call: CallId, sent: bool) {
        let asked = self.asked.remove(&call).unwrap();
        let answer = asked.answer.unwrap();
        if matches!(answer.outcome, Outcome::Returned(_)) {
            let (method, note) = (asked.method, answer.note);
            let payload = &answer.payload[..];
            self.step(|_| Input::Undelivered { call, facet: 0, method, payload, note, sent, now_ms: 0 });
        }
    }

    /// The client sees a reply, unless it is dead.
    fn deliver(&mut self, call: CallId) {
        let asked = self.asked.get_mut(&call).unwrap();
        if self.dying.contains(&asked.operation.session) {
            return;
        }
        let Answer { outcome, at, grant, .. } = asked.answer.as_ref().unwrap();
        asked.seen = true;
        let mut operation = asked.operation.clone();
        (operation.outcome, operation.at, operation.grant) = (outcome.clone(), Some(*at), *grant);
        operation.returned_ns = Some(self.now_ns);
        self.records.push(Record::Call(operation));
    }

    /// A client is killed: of its calls nobody will know the end.
    fn die(&mut self, session: u64) {
        self.dying.push(session);
        for asked in self.asked.values().filter(|asked| asked.operation.session == session && !asked.seen) {
            self.records.push(Record::Call(asked.operation.clone()));
        }
        let (from_ns, until_ns) = (self.now_ns, None);
        self.records.push(Record::SessionEnd(SessionEnd { session, from_ns, until_ns, orderly: false }));
    }

    /// The host ends its session.
    fn end(&mut self, session: u64) {
        self.ended.push(session);
        let mine = |world: &Self, is: fn(&Asked) -> bool| -> Vec<CallId> {
            let asked = world.asked.iter().filter(|(_, asked)| asked.operation.session == session && is(asked));
            asked.map(|(call, _)| *call).collect()
        };
        for call in mine(self, |asked| !asked.arrived) {
            self.asked.remove(&call);
        }
        for call in mine(self, |asked| asked.answer.is_none()) {
            if self.asked.get(&call).is_some_and(|asked| asked.answer.is_none()) {
                self.step(|_| Input::Cancel { call, why: Why::SessionEnded, now_ms: 0 });
            }
        }
        self.step(|_| Input::OwnerLost { session, orderly: false, now_ms: 0 });
        let come_back = self.pick(2) == 0;
        for call in mine(self, |asked| asked.answer.is_some()).into_iter().rev() {
            if come_back && self.asked.contains_key(&call) {
                self.bring_back(call, true);
            }
            self.asked.remove(&call);
        }
        self.now_ns += 10;
        let (from_ns, until_ns) = (0, Some(self.now_ns));
        self.records.push(Record::SessionEnd(SessionEnd { session, from_ns, until_ns, orderly: false }));
        self.now_ns += 10;
    }

    /// All that is under way ends; what still waits comes to its deadline.
    fn finish(&mut self) {
        while let Some(session) = self.dying.pop() {
            self.end(session);
        }
        for _ in 0..3 {
            self.now_ns += 10;
            if self.wakes {
                self.wake();
            }
            let all: Vec<_> = self.asked.keys().copied().collect();
            for call in all {
                let Some(asked) = self.asked.get(&call) else { continue };
                if !asked.arrived {
                    self.arrive(call);
                } else if asked.answer.is_none() && asked.operation.deadline_ms.is_some() {
                    self.step(|_| Input::Cancel { call, why: Why::Deadline, now_ms: 0 });
                } else if asked.answer.is_some() && !asked.seen {
                    self.deliver(call);
                }
            }
        }
        let waits = self.asked.values().filter(|asked| asked.answer.is_none());
        self.records.extend(waits.map(|asked| Record::Call(asked.operation.clone())));
    }
}

fn run(of: usize, seed: u64, deaths: usize) -> Vec<Record> {
    run_for(400, of, seed, deaths)
}

fn run_for(steps: usize, of: usize, seed: u64, deaths: usize) -> Vec<Record> {
    let mut world = World::new(of, seed);
    for _ in 0..steps {
        world.happen(deaths, deaths > 0);
    }
    world.finish();
    world.records
}

/// A change to a history, which may make it a wrong one.
#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    /// A reply was lost with its client.
    Forget,
    /// A call is missing.
    LeaveOut,
    /// A result is another one.
    Alter,
    /// A call and all after it stand one version later.
    Delay,
    /// It stands one version earlier.
    Hasten,
}

fn change(records: &mut Vec<Record>, change: Change, which: prop::sample::Index) {
    let answered = |record: &Record| matches!(record, Record::Call(call) if call.at.is_some());
    let answered: Vec<_> = (0..records.len()).filter(|place| answered(&records[*place])).collect();
    if answered.is_empty() {
        return;
    }
    let place = answered[which.index(answered.len())];
    let Record::Call(call) = &mut records[place] else { unreachable!("only calls are chosen") };
    let version = call.at.map_or(0, |at| at.version);
    match change {
        Change::None => {}
        Change::Forget => {
            call.outcome = Outcome::Unknown;
            (call.at, call.grant, call.returned_ns) = (None, None, None);
        }
        Change::LeaveOut => drop(records.remove(place)),
        Change::Alter => match &mut call.outcome {
            Outcome::Returned(Json::Bool(result)) => *result = !*result,
            outcome => *outcome = Outcome::Returned(Json::Bool(true)),
        },
        Change::Delay => {
            let calls = records.iter_mut().filter_map(|record| match record {
                Record::Call(call) => call.at.as_mut(),
                _ => None,
            });
            calls.filter(|at| at.version >= version).for_each(|at| at.version += 1);
        }
        Change::Hasten => call.at.iter_mut().for_each(|at| at.version = at.version.saturating_sub(1)),
    }
}

fn changes() -> impl Strategy<Value = Vec<(Change, prop::sample::Index)>> {
    use Change::{Alter, Delay, Forget, Hasten, LeaveOut, None};
    let change = prop::sample::select(vec![None, Forget, Forget, LeaveOut, Alter, Delay, Hasten]);
    prop::collection::vec((change, any::<prop::sample::Index>()), 0..4)
}

fn encoded(positional: &[Json]) -> Vec<u8> {
    let mut item = Vec::new();
    cbor::put_array(&mut item, 2);
    Value::List(positional.iter().map(value_of).collect()).encode(&mut item);
    cbor::put_map(&mut item, 0);
    item
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Int(number.as_i64().unwrap()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value_of).collect()),
        Json::Object(_) => unreachable!("no call here has one"),
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::List(items) | Value::Tuple(items) => items.iter().map(json_of).collect(),
        other => unreachable!("no call here returns {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_types_do_certifies(of in 0..TYPES.len(), seed: u64) {
        let report = certify(run(of, seed, 0));
        prop_assert!(report.is_proof(), "{} {seed}: {report}", TYPES[of].0);
    }

    #[test]
    fn what_they_do_when_clients_die_certifies(of in 0..TYPES.len(), seed: u64, deaths in 1..3_usize) {
        let report = certify(run(of, seed, deaths));
        let clean = report.violations.is_empty() && report.errors.is_empty();
        prop_assert!(clean, "{} {seed}: {report}", TYPES[of].0);
    }

    /// Whatever is wrong or missing, the search that leaves open and drops what makes no difference comes to the same end as
    /// the one that follows every explanation.
    #[test]
    fn the_fast_search_finds_what_the_plain_one_does(
        of in prop_oneof![3 => Just(CONDITION), 1 => 0..TYPES.len()],
        seed: u64,
        steps in 20..200_usize,
        deaths in 0..3_usize,
        changes in changes(),
    ) {
        let mut records = run_for(steps, of, seed, deaths);
        for (what, which) in &changes {
            change(&mut records, *what, *which);
        }
        let plain = certify_plainly(records.clone());
        prop_assume!(plain.undecided.is_empty());
        let fast = certify(records);
        let found = |report: &Report| !report.violations.is_empty();
        let same = found(&fast) == found(&plain) && fast.undecided.is_empty();
        prop_assert!(same, "{} {seed} {changes:?}: {fast}, but plainly {plain}", TYPES[of].0);
    }

    #[test]
    fn a_changed_result_is_found(of in 0..TYPES.len(), seed: u64, which: prop::sample::Index) {
        let mut records = run(of, seed, 0);
        // Nobody sees a wait come to its deadline: where a `notify` is under way both results may be right.
        prop_assume!(TYPES[of].0 != "Condition");
        let changeable = |record: &&mut Record| {
            matches!(record, Record::Call(Operation { outcome: Outcome::Returned(Json::Number(_) | Json::Bool(_)), .. }))
        };
        let mut changeable: Vec<_> = records.iter_mut().filter(changeable).collect();
        prop_assume!(!changeable.is_empty());
        let place = which.index(changeable.len());
        let Record::Call(call) = &mut *changeable[place] else { unreachable!("only calls are chosen") };
        let Outcome::Returned(result) = &mut call.outcome else { unreachable!("it returned") };
        *result = match &*result {
            Json::Bool(value) => json!(!*value),
            number => json!(number.as_i64().unwrap() + 1),
        };
        let changed = format!("{call:?}");
        let report = certify(records);
        prop_assert!(!report.violations.is_empty(), "{} {seed}, {changed}: {report}", TYPES[of].0);
    }

    #[test]
    fn a_call_that_is_left_out_is_found(of in 0..TYPES.len(), seed: u64, which: prop::sample::Index) {
        let mut records = run(of, seed, 0);
        // Alone in its version, and not the last: nobody else accounts for it.
        let version = |record: &Record| match record {
            Record::Call(Operation { at: Some(at), .. }) => at.version,
            _ => 0,
        };
        let versions: Vec<_> = records.iter().map(version).collect();
        let last = versions.iter().copied().max().unwrap_or(0);
        let alone = |place: &usize| {
            let version = versions[*place];
            version > 0 && version < last && versions.iter().filter(|other| **other == version).count() == 1
        };
        let alone: Vec<_> = (0..records.len()).filter(alone).collect();
        prop_assume!(!alone.is_empty() && TYPES[of].0 != "Condition");
        let left_out = records.remove(alone[which.index(alone.len())]);
        let report = certify(records);
        prop_assert!(!report.violations.is_empty(), "{} {seed} without {left_out:?}: {report}", TYPES[of].0);
    }
}
