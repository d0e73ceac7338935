//! Objects of a plugin, stepped by hand: what a host does, with a clock that only moves when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use steward_client::{AnyValue as Value, Ident, Token, TypeInfo};
use steward_host::guest::{self, Birth, Plugin, Releases, Saved};
use steward_objects::{
    Args, Call, CallId, Effect, Fault, Input, Invocation, Outbox, Owner, Referent as _, Why, common,
};
use steward_wire::frame::Grant;

use super::line::{Arguments, Line};
use crate::cli::failure::did_you_mean;
use crate::cli::repr::{printable, repr};
use crate::cli::types::{manual, signature};

/// A line that cannot be run.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Steps that one line may lead to: objects may wake themselves and call each other without end.
const STEPS_MAX: u32 = 100_000;

/// `[[], {}]`.
const NO_ARGS: &[u8] = &[0x82, 0x80, 0xa0];

/// Where the clock starts: not at zero, which could hide mistakes.
const START_MS: u64 = 1_000;

/// Objects, and who calls them.
pub(super) struct Stage {
    /// The types, through the builds that were loaded.
    types: Vec<Arc<Releases>>,
    objects: BTreeMap<Ident, Object>,
    /// What objects are called at the prompt.
    names: BTreeMap<String, Ident>,
    /// Sessions by their names, and which of them calls.
    sessions: BTreeMap<String, u64>,
    session: String,
    sessions_made: u64,
    now_ms: u64,
    /// Number of the latest step, which its seed is made of.
    steps: u64,
    /// Steps that the present line has led to.
    steps_of_line: u32,
    jobs_made: u32,
    /// Calls that objects have asked for, and who did.
    asked: VecDeque<(Ident, Invocation)>,
    said: Vec<String>,
}

struct Object {
    of: Arc<Releases>,
    /// Its type as it is now, methods by their numbers.
    info: TypeInfo,
    referent: guest::Object,
    outbox: Outbox,
    fence_next: u64,
    calls_made: CallId,
    waiting: BTreeMap<CallId, Waiting>,
    wake_at_ms: Option<u64>,
    poisoned: Option<Fault>,
}

/// A call without answer.
struct Waiting {
    method: u16,
    from: Caller,
}

#[derive(Clone)]
enum Caller {
    Prompt {
        session: u64,
        /// Its number at the prompt, once it waits.
        job: Option<u32>,
        /// The name that its result gets.
        name: Option<String>,
    },
    Object {
        ident: Ident,
        tag: u64,
    },
}

impl Stage {
    pub(super) fn new(plugin: &Plugin) -> Self {
        Self {
            types: plugin.types().iter().cloned().map(Releases::new).collect(),
            objects: BTreeMap::new(),
            names: BTreeMap::new(),
            sessions: BTreeMap::from([("s1".to_owned(), 1)]),
            session: "s1".to_owned(),
            sessions_made: 1,
            now_ms: START_MS,
            steps: 0,
            steps_of_line: 0,
            jobs_made: 0,
            asked: VecDeque::new(),
            said: Vec::new(),
        }
    }

    /// The object of a name.
    pub(super) fn token(&self, name: &str) -> Option<Token> {
        let ident = *self.names.get(name)?;
        Some(Token { typeid: self.objects[&ident].info.typeid.clone(), ident, address: None })
    }

    /// What the lines since the last time have led to.
    pub(super) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// The words that may stand at the end of a line, and how many of its last characters they replace.
    pub(super) fn completions(&self, before: &str) -> (usize, Vec<String>) {
        let word_at = before.rfind(|char: char| !(char == '_' || char.is_ascii_alphanumeric())).map_or(0, |at| at + 1);
        // What stands before a word is ASCII, or a character of several bytes that is none of a name.
        let Some(word) = before.get(word_at..) else { return (0, Vec::new()) };
        let object = before[..word_at].strip_suffix('.').map(|before| {
            before.rsplit(|char: char| !(char == '_' || char.is_ascii_alphanumeric())).next().unwrap_or_default()
        });
        let mut words: Vec<String> = match object {
            Some(name) => {
                let info = self.names.get(name).map(|ident| &self.objects[ident].info);
                let methods = info.into_iter().flat_map(|info| &info.methods).filter(|method| method.exposed);
                methods.map(|method| format!("{}(", method.name)).collect()
            }
            None => {
                let mut words: Vec<_> = self.names.keys().cloned().collect();
                words.extend(self.types.iter().map(|offered| format!("{}(", offered.newest().info().typeid)));
                if word_at == 0 {
                    words.extend(COMMANDS.map(str::to_owned));
                }
                words
            }
        };
        words.retain(|candidate| candidate.starts_with(word) && candidate != word);
        words.sort();
        (word.len(), words)
    }

    /// Goes on with another build of the plugin: its objects move, as on a host when a type is replaced.
    pub(super) fn reload(&mut self, plugin: &Plugin) {
        for kind in plugin.types() {
            let typeid = kind.info().typeid.clone();
            let Some(index) = self.place_of(&typeid) else {
                self.types.push(Releases::new(Arc::clone(kind)));
                self.said.push(format!("{typeid} {} is new", kind.version()));
                continue;
            };
            let of = Arc::clone(&self.types[index]);
            let before = of.newest().kind().version().to_owned();
            let (moved, not_moved) = (of.report().moved, of.report().not_moved);
            if let Err(error) = of.replace(Arc::clone(kind), None) {
                self.said.push(format!("{typeid} {before} stays: {error}"));
                continue;
            }
            let idents: Vec<_> = self
                .objects
                .iter()
                .filter(|(_, object)| Arc::ptr_eq(&object.of, &of))
                .map(|(ident, _)| *ident)
                .collect();
            for ident in idents {
                // A step that the guest sees moves it: a session that never was has ended.
                self.step(ident, Input::OwnerLost { session: u64::MAX, orderly: true, now_ms: self.now_ms });
                self.objects.get_mut(&ident).expect("objects stay").info = of.newest().info().clone();
            }
            let report = of.report();
            let mut line = format!("{typeid} {before} → {}: {} moved", kind.version(), report.moved - moved);
            if report.not_moved > not_moved {
                let why = report.not_moved_last.unwrap_or_default();
                line.push_str(&format!(", {} stayed: {}", report.not_moved - not_moved, printable(&why)));
            }
            self.said.push(line);
        }
        self.ask();
        self.advance(0);
    }

    /// Runs a line.
    pub(super) fn run(&mut self, line: &Line) -> Result<(), Wrong> {
        self.steps_of_line = 0;
        match line {
            Line::Empty | Line::Quit | Line::Reload(_) => {}
            Line::Call { name, target, method: None, args, background: _ } => {
                self.create(name.as_deref(), target, args)?
            }
            Line::Call { name, target, method: Some(method), args, background } => {
                self.call_method(name.as_deref(), target, method, args, *background)?;
            }
            Line::Show(name) => {
                let ident = self.object(name)?;
                let from = Caller::Prompt { session: self.sessions[&self.session], job: None, name: None };
                self.call(ident, common::REPR, NO_ARGS, from);
            }
            Line::Advance(ms) => self.advance(*ms),
            Line::As(name) => {
                if !self.sessions.contains_key(name) {
                    self.sessions_made += 1;
                    self.sessions.insert(name.clone(), self.sessions_made);
                }
                self.session = name.clone();
            }
            Line::End { session, orderly } => self.end(session, *orderly)?,
            Line::GiveUp { job, deadline } => self.give_up(*job, *deadline)?,
            Line::Jobs => {
                let jobs: Vec<_> = self.objects.iter().flat_map(|(ident, object)| object.jobs(*ident)).collect();
                for (job, ident, call) in jobs {
                    let object = &self.objects[&ident];
                    let method = &object.info.methods[usize::from(object.waiting[&call].method)].name;
                    self.said.push(format!("[{job}] {}.{method}{}", self.called(ident), self.wakes(ident)));
                }
            }
            Line::Save { name, file } => self.save(name, file)?,
            Line::Load { name, file } => self.load(name, file)?,
            Line::Help(about) => self.help(about.as_deref())?,
        }
        // What is due now needs no waiting for it.
        self.advance(0);
        Ok(())
    }

    fn object(&self, name: &str) -> Result<Ident, Wrong> {
        self.names.get(name).copied().ok_or_else(|| {
            let wrong = Wrong::new(format!("no object is called `{name}`"));
            match did_you_mean(name, self.names.keys().map(String::as_str)) {
                Some(hint) => wrong.hint(hint),
                None => wrong.hint(format!("create one: `{name} = {}(…)`", self.types[0].newest().info().typeid)),
            }
        })
    }

    fn place_of(&self, typeid: &str) -> Option<usize> {
        self.types.iter().position(|offered| offered.newest().info().typeid == typeid)
    }

    fn create(&mut self, name: Option<&str>, typeid: &str, args: &Arguments) -> Result<(), Wrong> {
        let Some(index) = self.place_of(typeid) else {
            let wrong = Wrong::new(format!("the plugin has no type `{typeid}`"));
            let typeids: Vec<_> = self.types.iter().map(|offered| offered.newest().info().typeid.clone()).collect();
            let hint = did_you_mean(typeid, typeids.iter().map(String::as_str));
            return Err(wrong.hint(hint.unwrap_or_else(|| format!("it has {}", typeids.join(", ")))));
        };
        match self.make(index, &encoded(args)) {
            Ok(ident) => self.give_name(name, ident),
            Err(fault) => self.said.push(fault_text(&fault)),
        }
        Ok(())
    }

    fn make(&mut self, index: usize, args: &[u8]) -> Result<Ident, Fault> {
        let ident = Ident(self.objects.len() as u64 + 1);
        let seed = self.seed();
        let birth = Birth { tenant: "run", ident, now_ms: self.now_ms, seed };
        let mut outbox = Outbox::new(1);
        let referent = self.types[index].make(Args::new(args, true), birth, &mut outbox)?;
        Ok(self.take(index, ident, referent, outbox))
    }

    /// Writes an object's state to a file.
    fn save(&mut self, name: &str, file: &str) -> Result<(), Wrong> {
        let ident = self.object(name)?;
        let object = self.objects.get_mut(&ident).expect("objects stay");
        object.outbox.clear(object.fence_next, 1 << 16);
        let Saved { typeid, version, state } = match object.referent.save(self.now_ms, &mut object.outbox) {
            Ok(saved) => saved,
            Err(fault) => {
                self.said.push(fault_text(&fault));
                return Ok(());
            }
        };
        let item = Value::List(vec![Value::Text(typeid.clone()), Value::Text(version.clone()), Value::Bytes(state)]);
        std::fs::write(file, item.to_vec()).map_err(|error| Wrong::new(format!("cannot write {file}: {error}")))?;
        let waiting = match object.waiting.len() {
            0 => String::new(),
            1 => ", without the call that waits".to_owned(),
            calls => format!(", without the {calls} calls that wait"),
        };
        self.said.push(format!("{typeid} {version} in {file}{waiting}"));
        Ok(())
    }

    /// Makes an object of the state in a file.
    fn load(&mut self, name: &str, file: &str) -> Result<(), Wrong> {
        let bytes = std::fs::read(file).map_err(|error| Wrong::new(format!("cannot read {file}: {error}")))?;
        let saved = match Value::decode(&bytes) {
            Ok(Value::List(parts)) => match <[Value; 3]>::try_from(parts) {
                Ok([Value::Text(typeid), Value::Text(version), Value::Bytes(state)]) => {
                    Some(Saved { typeid, version, state })
                }
                _ => None,
            },
            _ => None,
        };
        let saved = saved.ok_or_else(|| Wrong::new(format!("{file} is nothing that `save` has written")))?;
        let index = self
            .place_of(&saved.typeid)
            .ok_or_else(|| Wrong::new(format!("{file} is a {}, which the plugin has not", saved.typeid)))?;
        let ident = Ident(self.objects.len() as u64 + 1);
        let seed = self.seed();
        let birth = Birth { tenant: "run", ident, now_ms: self.now_ms, seed };
        let mut outbox = Outbox::new(1);
        let known = |ident| self.objects.contains_key(&ident);
        match self.types[index].load(&saved, birth, known, &mut outbox) {
            Ok(referent) => {
                self.take(index, ident, referent, outbox);
                self.give_name(Some(name), ident);
            }
            Err(fault) => self.said.push(fault_text(&fault)),
        }
        Ok(())
    }

    /// Takes an object that was just made.
    fn take(&mut self, index: usize, ident: Ident, referent: guest::Object, outbox: Outbox) -> Ident {
        let object = Object {
            of: Arc::clone(&self.types[index]),
            info: self.types[index].newest().info().clone(),
            referent,
            wake_at_ms: outbox.wake_at_ms(),
            outbox,
            fence_next: 1,
            calls_made: 0,
            waiting: BTreeMap::new(),
            poisoned: None,
        };
        self.objects.insert(ident, object);
        ident
    }

    /// Without a name an object goes as soon as it has come, as a proxy that nobody keeps.
    fn give_name(&mut self, name: Option<&str>, ident: Ident) {
        match name {
            Some(name) => drop(self.names.insert(name.to_owned(), ident)),
            None => self.said.push(format!("<{} {ident}>", self.objects[&ident].info.typeid)),
        }
    }

    fn call_method(
        &mut self,
        name: Option<&str>,
        target: &str,
        method: &str,
        args: &Arguments,
        background: bool,
    ) -> Result<(), Wrong> {
        let ident = self.object(target)?;
        let info = &self.objects[&ident].info;
        let Some(place) = info.methods.iter().position(|offered| offered.exposed && offered.name == method) else {
            let wrong = Wrong::new(format!("type `{}` has no method `{method}`", info.typeid));
            let hint = did_you_mean(
                method,
                info.methods.iter().filter(|method| method.exposed).map(|method| method.name.as_str()),
            );
            return Err(wrong.hint(hint.unwrap_or_else(|| format!("`help {target}` lists its methods"))));
        };
        let job = background.then(|| self.next_job());
        let from = Caller::Prompt { session: self.sessions[&self.session], job, name: name.map(str::to_owned) };
        let call = self.call(ident, place as u16, &encoded(args), from);
        // It waits: then it goes on beside what comes next, whether that was asked for or not.
        if let Some(Waiting { from: Caller::Prompt { job, .. }, .. }) =
            self.objects.get_mut(&ident).expect("objects stay").waiting.get_mut(&call)
        {
            let job = *job.get_or_insert_with(|| {
                self.jobs_made += 1;
                self.jobs_made
            });
            self.said.push(format!("[{job}] parked{}", self.wakes(ident)));
        }
        Ok(())
    }

    fn next_job(&mut self) -> u32 {
        self.jobs_made += 1;
        self.jobs_made
    }

    fn seed(&mut self) -> u64 {
        self.steps += 1;
        // Spread, as guests may take the low bits for dice (SplitMix64's increment).
        self.steps.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn call(&mut self, ident: Ident, method: u16, args: &[u8], from: Caller) -> CallId {
        let owner = Owner { session: if let Caller::Prompt { session, .. } = from { session } else { 0 }, thread: 1 };
        let (now_ms, seed) = (self.now_ms, self.seed());
        let object = self.objects.get_mut(&ident).expect("objects stay");
        object.calls_made += 1;
        let id = object.calls_made;
        object.waiting.insert(id, Waiting { method, from });
        let args = Args::new(args, true);
        self.step(ident, Input::Call(Call { id, facet: 0, method, owner, now_ms, seed, args }));
        self.ask();
        id
    }

    /// Steps an object and does what it wants.
    fn step(&mut self, ident: Ident, input: Input<'_>) {
        self.steps_of_line += 1;
        let object = self.objects.get_mut(&ident).expect("objects stay");
        if object.poisoned.is_none() {
            object.outbox.clear(object.fence_next, 1 << 16);
            object.referent.step(input, &mut object.outbox);
            object.fence_next = object.outbox.fence_next();
        }
        if let Some(at_ms) = object.outbox.wake_at_ms() {
            object.wake_at_ms = Some(at_ms);
        }
        let mut answers = Vec::new();
        for reply in object.outbox.replies() {
            if let Some(waiting) = object.waiting.remove(&reply.call) {
                let payload = object.outbox.payload(reply);
                let outcome = match reply.effect {
                    Effect::Returned => Ok((payload.to_vec(), reply.grant)),
                    effect => Err(Fault::read(effect, payload)
                        .unwrap_or_else(|_| Fault::new(effect, "Malformed", "the fault cannot be read"))),
                };
                answers.push((waiting, outcome));
            }
        }
        self.asked.extend(object.outbox.take_invocations().into_iter().map(|invocation| (ident, invocation)));
        if let Some(fault) = object.outbox.poisoned().cloned() {
            object.poisoned = Some(fault);
        }
        if let Some(fault) = object.poisoned.clone() {
            object.wake_at_ms = None;
            let lost = std::mem::take(&mut object.waiting);
            answers.extend(lost.into_values().map(|waiting| (waiting, Err(fault.clone()))));
        }
        for (Waiting { method, from }, outcome) in answers {
            self.answer(ident, method, from, outcome);
        }
    }

    fn answer(&mut self, ident: Ident, method: u16, from: Caller, outcome: Result<(Vec<u8>, Option<Grant>), Fault>) {
        let returns = self.objects[&ident].info.methods.get(usize::from(method)).and_then(|info| info.returns.clone());
        let outcome = match (outcome, returns) {
            // The result becomes the argument of that type's constructor.
            (Ok((payload, grant)), Some(typeid)) => match self.place_of(&typeid) {
                Some(index) => {
                    let args = [&[0x82, 0x81], &payload[..], &[0xa0]].concat();
                    self.make(index, &args)
                        .map(|ident| (Value::Token(Token { typeid, ident, address: None }).to_vec(), grant))
                }
                None => {
                    let message = format!("there are only the plugin's types here: a host would make a `{typeid}`");
                    Err(Fault::refused("UnknownType", message))
                }
            },
            (outcome, _) => outcome,
        };
        let (job, name) = match from {
            Caller::Object { ident, tag } => {
                let now_ms = self.now_ms;
                let outcome = outcome.as_ref().map(|(payload, _)| &payload[..]);
                return self.step(ident, Input::Returned { tag, outcome, now_ms });
            }
            Caller::Prompt { job, name, .. } => (job, name),
        };
        let job = job.map(|job| format!("[{job}] "));
        let (payload, grant) = match outcome {
            Ok(returned) => returned,
            Err(fault) => return self.said.push(format!("{}{}", job.unwrap_or_default(), fault_text(&fault))),
        };
        let value = Value::decode(&payload).unwrap_or(Value::Null);
        if let (Value::Token(token), Some(name)) = (&value, name) {
            self.names.insert(name, token.ident);
        }
        let grant = grant.map(|Grant { fence, abandoned }| {
            format!("granted, fence {fence}{}", if abandoned { ", abandoned" } else { "" })
        });
        // `repr` has no name in a table, and its text is what is shown.
        let shown = match value {
            Value::Null => None,
            Value::Text(text) if method == common::REPR => Some(printable(&text)),
            value => Some(repr(&value)),
        };
        let line = match (job, shown, grant) {
            (None, None, None) => return,
            (job, shown, grant) => {
                let done = job.map(|job| format!("{job}done"));
                let parts: Vec<_> = [shown, grant].into_iter().flatten().collect();
                match done {
                    Some(done) if parts.is_empty() => done,
                    Some(done) => format!("{done}: {}", parts.join("  ")),
                    None => parts.join("  "),
                }
            }
        };
        self.said.push(line);
    }

    /// Makes the calls that objects have asked for.
    fn ask(&mut self) {
        while let Some((from, Invocation { tag, ident, method, args })) = self.asked.pop_front() {
            if self.is_endless() {
                return self.asked.clear();
            }
            let place = self
                .objects
                .get(&ident)
                .and_then(|object| object.info.methods.iter().position(|offered| offered.name == method));
            match place {
                Some(place) => {
                    self.call(ident, place as u16, &args, Caller::Object { ident: from, tag });
                }
                None => {
                    let fault = Fault::refused("NotExposed", format!("object {ident} has no method `{method}`"));
                    let now_ms = self.now_ms;
                    self.step(from, Input::Returned { tag, outcome: Err(&fault), now_ms });
                }
            }
        }
    }

    fn is_endless(&mut self) -> bool {
        let endless = self.steps_of_line >= STEPS_MAX;
        if endless {
            self.said.push(format!("stopped after {STEPS_MAX} steps: it does not come to rest"));
        }
        endless
    }

    fn advance(&mut self, ms: u64) {
        let until_ms = self.now_ms.saturating_add(ms);
        loop {
            let next = self.objects.iter().filter_map(|(ident, object)| Some((object.wake_at_ms?, *ident))).min();
            match next {
                Some((at_ms, ident)) if at_ms <= until_ms => {
                    if self.is_endless() {
                        break;
                    }
                    self.now_ms = self.now_ms.max(at_ms);
                    self.objects.get_mut(&ident).expect("objects stay").wake_at_ms = None;
                    self.step(ident, Input::Tick { now_ms: self.now_ms });
                    self.ask();
                }
                _ => break,
            }
        }
        self.now_ms = until_ms;
    }

    /// Ends a session as a host does: its waiting calls first, then what it holds.
    fn end(&mut self, name: &str, orderly: bool) -> Result<(), Wrong> {
        let session = self.sessions.remove(name).ok_or_else(|| {
            let sessions = self.sessions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Wrong::new(format!("no session is called `{name}`"))
                .hint(format!("there are {sessions}; `as {name}` begins one"))
        })?;
        let now_ms = self.now_ms;
        for ident in self.objects.keys().copied().collect::<Vec<_>>() {
            let calls: Vec<_> = self.objects[&ident].of_session(session).collect();
            for call in calls {
                self.step(ident, Input::Cancel { call, why: Why::SessionEnded, now_ms });
            }
            self.step(ident, Input::OwnerLost { session, orderly, now_ms });
            self.ask();
        }
        if self.session == name {
            // Somebody calls at all times.
            self.run(&Line::As("s1".into()))?;
        }
        Ok(())
    }

    fn give_up(&mut self, job: u32, deadline: bool) -> Result<(), Wrong> {
        let found =
            self.objects.iter().flat_map(|(ident, object)| object.jobs(*ident)).find(|(number, ..)| *number == job);
        let Some((_, ident, call)) = found else {
            return Err(Wrong::new(format!("no call [{job}] waits")).hint("`jobs` lists them"));
        };
        let why = if deadline { Why::Deadline } else { Why::Client };
        self.step(ident, Input::Cancel { call, why, now_ms: self.now_ms });
        self.ask();
        Ok(())
    }

    /// `, wakes in 1.000 s` if the object is to be woken.
    fn wakes(&self, ident: Ident) -> String {
        match self.objects[&ident].wake_at_ms {
            Some(at_ms) => format!(", wakes in {:.3} s", at_ms.saturating_sub(self.now_ms) as f64 / 1e3),
            None => String::new(),
        }
    }

    /// What an object is called at the prompt.
    fn called(&self, ident: Ident) -> String {
        let named = self.names.iter().find(|(_, named)| **named == ident);
        named.map_or_else(|| ident.to_string(), |(name, _)| name.clone())
    }

    fn help(&mut self, about: Option<&str>) -> Result<(), Wrong> {
        let Some(about) = about else {
            self.said.extend(HELP.lines().map(str::to_owned));
            self.said.push("Types:".to_owned());
            for offered in &self.types {
                let release = offered.newest();
                let TypeInfo { typeid, doc, .. } = release.info();
                self.said.push(format!("  {typeid}: {}", printable(doc.trim().lines().next().unwrap_or_default())));
            }
            return Ok(());
        };
        let (about, method) = match about.split_once('.') {
            Some((about, method)) => (about, Some(method)),
            None => (about, None),
        };
        let info = match self.place_of(about) {
            Some(index) => self.types[index].newest().info().clone(),
            None => self.objects[&self.object(about)?].info.clone(),
        };
        let text = match method {
            None => manual(&info),
            Some(name) => match info.methods.iter().find(|method| method.name == name) {
                Some(method) => format!("{}\n{}", printable(&signature(method)), method.doc.trim()),
                None => return Err(Wrong::new(format!("type `{}` has no method `{name}`", info.typeid))),
            },
        };
        self.said.extend(text.lines().map(str::to_owned));
        Ok(())
    }
}

const COMMANDS: [&str; 11] =
    ["as ", "bye ", "cancel ", "deadline ", "drop ", "help ", "jobs", "load ", "quit", "reload", "save "];

const HELP: &str = "\
x = Type(1, n=2)   creates an object            x                 shows it
x.method(…)        calls a method               help x, help Type lists methods
x.method(…) &      goes on if the call waits    jobs              lists calls that wait
+1s                lets time pass               deadline 1        its time is over
as s2              calls from another session   cancel 1          its client gives it up
drop s2            it is lost; bye s2: it ends  reload [FILE]     moves objects to another build
save x FILE        writes its state             load x FILE       creates an object of that state
quit               ends";

impl Object {
    /// Calls of the prompt that wait.
    fn jobs(&self, ident: Ident) -> impl Iterator<Item = (u32, Ident, CallId)> {
        self.waiting.iter().filter_map(move |(call, waiting)| match waiting.from {
            Caller::Prompt { job: Some(job), .. } => Some((job, ident, *call)),
            _ => None,
        })
    }

    fn of_session(&self, of: u64) -> impl Iterator<Item = CallId> {
        self.waiting.iter().filter_map(move |(call, waiting)| match waiting.from {
            Caller::Prompt { session, .. } if session == of => Some(*call),
            _ => None,
        })
    }
}

fn encoded(args: &Arguments) -> Vec<u8> {
    use steward_wire::cbor;
    let mut item = Vec::new();
    cbor::put_array(&mut item, 2);
    cbor::put_array(&mut item, args.places.len());
    args.places.iter().for_each(|value| value.encode(&mut item));
    cbor::put_map(&mut item, args.keywords.len());
    for (name, value) in &args.keywords {
        cbor::put_text(&mut item, name);
        value.encode(&mut item);
    }
    item
}

/// As Python ends a traceback; what is no exception of a method says what it is.
fn fault_text(fault: &Fault) -> String {
    let text = match fault.message.as_str() {
        "" => fault.kind.clone(),
        message => format!("{}: {message}", fault.kind),
    };
    let effect = match fault.effect {
        Effect::Returned | Effect::Raised => "",
        Effect::Refused => "refused: ",
        Effect::Unknown => "unknown: ",
        Effect::Poisoned => "poisoned: ",
    };
    format!("{effect}{}", printable(&text))
}
