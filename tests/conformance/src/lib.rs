//! Cases of what every type answers, written once and run against whatever claims to be that type.
//!
//! A case is a few lines of `cases/*.txt`, in the words of a Python session:
//!
//! ```text
//! [a name]
//! x = Lock()                     makes an object
//! x.acquire() -> True            a call and its result, as `repr` shows it
//! @2 x.acquire() within 0 -> False      another owner, a deadline in ms
//! @2 a: x.acquire() waits        a call that parks
//! x.release() -> None
//! a -> True                      what became of it
//! x.release() ! RuntimeError: release unlocked lock
//! b is given up                  its client cancels it
//! b waits                        it still has no reply
//! i = x.__iter__()               a result that is an object
//! x.pop() -> y                   a result that is an object which has a name already
//! Queue('a') ! TypeError: …      a constructor that raises
//! ```
//!
//! A name that ends with `(built in)` says that the case shows what plugins do otherwise: an argument of a wrong type is
//! refused by the words of their SDK, for instance. `?` in place of an outcome is a case half written: `STEWARD_REWRITE=1` puts in what the built-in type answers.

pub mod literal;
pub mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use literal::Arguments;
use steward_objects::data::repr::repr;
use steward_objects::{Effect, Fault, Value, builtin};
use steward_wire::Token;

/// What cases run against.
pub trait World {
    /// Makes an object.
    fn create(&mut self, typeid: &str, args: &Arguments) -> impl Future<Output = Result<Token, Fault>>;

    /// Calls a method and waits for the reply.
    fn call(&mut self, call: Asked<'_>) -> impl Future<Output = Result<Value, Fault>>;

    /// Calls a method and returns once the call waits, or with its reply.
    fn start(&mut self, label: &str, call: Asked<'_>) -> impl Future<Output = Option<Result<Value, Fault>>>;

    /// The reply of a call that waits.
    fn finish(&mut self, label: &str) -> impl Future<Output = Result<Value, Fault>>;

    /// Whether a call has no reply yet, nor will get one by what has happened so far.
    fn is_waiting(&mut self, label: &str) -> impl Future<Output = bool>;

    /// Gives up a call that waits; when this returns it is gone.
    fn give_up(&mut self, label: &str) -> impl Future<Output = ()>;

    /// Forgets all objects and calls of the case.
    fn forget(&mut self);

    /// Whether there is such a method here, or for an empty name such a type. Cases with others are not for this world.
    fn has(&self, _typeid: &str, _method: &str) -> bool {
        true
    }
}

/// A call of a case.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of which object.
    pub object: &'a Token,
    /// Whose: a number of the case's own.
    pub owner: u64,
    /// What is called.
    pub method: &'a str,
    /// With what.
    pub args: &'a Arguments,
    /// How long it may wait.
    pub deadline_ms: Option<u64>,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// For people.
    pub name: String,
    /// Where it is written.
    pub file: PathBuf,
    /// Number of its first line after the name, from 0.
    pub start: usize,
    /// Its lines; comments are empty.
    pub lines: Vec<String>,
}

/// One line of a case.
#[derive(Clone, Debug)]
enum Line<'a> {
    Create { name: Option<&'a str>, typeid: &'a str, rest: &'a str },
    Call { owner: u64, label: Option<&'a str>, bind: Option<&'a str>, object: &'a str, method: &'a str, rest: &'a str },
    Label { label: &'a str, rest: &'a str },
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Result<Self, String> {
        let mut text = line.trim();
        let mut owner = 1;
        if let Some(rest) = text.strip_prefix('@') {
            let (number, rest) = rest.split_once(' ').ok_or("an owner calls something")?;
            owner = number.parse().map_err(|_| format!("`{number}` is no owner"))?;
            text = rest;
        }
        let mut label = None;
        if let Some((word, rest)) = text.split_once(": ").filter(|(word, _)| is_name(word)) {
            (label, text) = (Some(word), rest);
        }
        let mut bind = None;
        if let Some((word, rest)) = text.split_once(" = ").filter(|(word, _)| is_name(word)) {
            (bind, text) = (Some(word), rest);
        }
        let Some((called, _)) = text.split_once('(').filter(|(called, _)| !called.contains(' ')) else {
            let (label, rest) = text.split_once(' ').ok_or_else(|| format!("`{text}` is no line of a case"))?;
            return Ok(Self::Label { label, rest });
        };
        let rest = &text[called.len()..];
        Ok(match called.split_once('.') {
            Some((object, method)) => Self::Call { owner, label, bind, object, method, rest },
            None => Self::Create { name: bind, typeid: called, rest },
        })
    }
}

/// What follows a call's parentheses.
fn ending(rest: &str) -> Result<(Option<u64>, &str), String> {
    let rest = rest.trim();
    let Some(rest) = rest.strip_prefix("within ") else { return Ok((None, rest)) };
    let (number, rest) = rest.split_once(' ').ok_or("a deadline is followed by an outcome")?;
    Ok((Some(number.parse().map_err(|_| format!("`{number}` is no deadline"))?), rest.trim()))
}

/// An outcome as cases write it.
fn written(outcome: &Result<Value, Fault>, names: &BTreeMap<String, Token>) -> String {
    match outcome {
        Ok(Value::Token(token)) => match names.iter().find(|(_, known)| known.ident == token.ident) {
            Some((name, _)) => format!("-> {name}"),
            None => "-> a new object".to_owned(),
        },
        Ok(value) => format!("-> {}", repr(&value.to_vec()).unwrap_or_else(|fault| fault.to_string())),
        Err(fault) => {
            let mark = match fault.effect {
                Effect::Raised => "!".to_owned(),
                effect => format!("! ({effect:?})"),
            };
            format!("{mark} {}: {}", fault.kind, fault.message.replace('\n', "\\n")).trim_end().to_owned()
        }
    }
}

/// All cases, in the order of their files.
///
/// # Panics
/// If they cannot be read.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the cases are part of the sources")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the cases are part of the sources");
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                cases.push(Case { name: name.to_owned(), file: file.clone(), start: number + 1, lines: Vec::new() });
            } else if let Some(case) = cases.last_mut().filter(|case: &&mut Case| case.file == file) {
                case.lines.push(if line.starts_with('#') { String::new() } else { line.to_owned() });
            }
        }
    }
    cases
}

/// Every method that a case calls, with its type, and whether the case shows that it raises. A constructor has an empty
/// name.
///
/// # Panics
/// If a case cannot be read.
pub fn called(case: &Case) -> BTreeSet<(String, String, bool)> {
    let (mut types, mut called) = (BTreeMap::new(), BTreeSet::new());
    let mut labels = BTreeMap::new();
    for line in case.lines.iter().filter(|line| !line.trim().is_empty()) {
        match Line::read(line).unwrap_or_else(|error| panic!("{}: {error}", case.name)) {
            Line::Create { name, typeid, rest } => {
                called.insert((typeid.to_owned(), String::new(), rest.contains(") ! ")));
                types.extend(name.map(|name| (name.to_owned(), typeid.to_owned())));
            }
            Line::Call { label, bind, object, method, rest, .. } => {
                let Some(typeid) = types.get(object).cloned() else { panic!("{}: no `{object}`", case.name) };
                called.insert((typeid.clone(), method.to_owned(), rest.contains(") ! ") || rest.contains(" ! ")));
                let methods = builtin(&typeid).map_or(&[][..], |builtin| builtin.methods);
                let returns = methods.iter().find(|known| known.name == method).and_then(|known| known.returns);
                let returns = returns.map_or_else(|| typeid.clone(), str::to_owned);
                types.extend(bind.map(|bind| (bind.to_owned(), returns)));
                labels.extend(label.map(|label| (label.to_owned(), (typeid, method.to_owned()))));
            }
            Line::Label { label, rest } => {
                let (typeid, method) = &labels[label];
                called.insert((typeid.clone(), method.clone(), rest.starts_with("! ")));
            }
        }
    }
    called
}

/// Runs one case. Returns its differences, and its lines as they should be.
pub async fn run(world: &mut impl World, case: &Case) -> (Vec<String>, Vec<String>) {
    let (mut differences, mut corrected) = (Vec::new(), case.lines.clone());
    let mut names = BTreeMap::new();
    let mut calls = BTreeSet::new();
    for (index, line) in case.lines.iter().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", case.file.file_name().unwrap_or_default().display(), case.start + index + 1);
        match step(world, line, &mut names, &mut calls).await {
            Ok((expected, found)) if expected != found => {
                differences.push(format!("{place}: {line}\n    found {found}"));
                let kept = line.strip_suffix(&*expected).expect("a line ends with its outcome");
                corrected[index] = format!("{kept}{found}");
            }
            Ok(_) => {}
            Err(error) => {
                differences.push(format!("{place}: {line}\n    {error}"));
                break;
            }
        }
    }
    for label in calls {
        differences.push(format!("[{}]: nobody waits for `{label}`", case.name));
    }
    world.forget();
    (differences, corrected)
}

/// Does what a line says. Returns the outcome that it expects, and the one that came.
async fn step(
    world: &mut impl World,
    line: &str,
    names: &mut BTreeMap<String, Token>,
    calls: &mut BTreeSet<String>,
) -> Result<(String, String), String> {
    match Line::read(line)? {
        Line::Create { name, typeid, rest } => {
            let (args, rest) = literal::arguments(rest, names)?;
            let made = world.create(typeid, &args).await;
            match (name, made) {
                (Some(name), Ok(token)) => {
                    names.insert(name.to_owned(), token);
                    Ok((rest.trim().to_owned(), String::new()))
                }
                (_, made) => Ok((rest.trim().to_owned(), written(&made.map(Value::Token), names))),
            }
        }
        Line::Call { owner, label, bind, object, method, rest } => {
            let (args, rest) = literal::arguments(rest, names)?;
            let (deadline_ms, expected) = ending(rest)?;
            let object = names.get(object).ok_or_else(|| format!("no object is called `{object}`"))?.clone();
            let call = Asked { object: &object, owner, method, args: &args, deadline_ms };
            if let Some(label) = label {
                let found = match world.start(label, call).await {
                    None => {
                        calls.insert(label.to_owned());
                        "waits".to_owned()
                    }
                    Some(outcome) => written(&outcome, names),
                };
                return Ok((expected.to_owned(), found));
            }
            let outcome = world.call(call).await;
            match (bind, outcome) {
                (Some(bind), Ok(Value::Token(token))) => {
                    names.insert(bind.to_owned(), token);
                    Ok((expected.to_owned(), String::new()))
                }
                (_, outcome) => Ok((expected.to_owned(), written(&outcome, names))),
            }
        }
        Line::Label { label, rest } => {
            if !calls.contains(label) {
                return Err(format!("no call is labelled `{label}`"));
            }
            match rest {
                "waits" => {
                    let found = if world.is_waiting(label).await { "waits" } else { "has a reply" };
                    Ok((rest.to_owned(), found.to_owned()))
                }
                "is given up" => {
                    calls.remove(label);
                    world.give_up(label).await;
                    Ok((String::new(), String::new()))
                }
                expected => {
                    calls.remove(label);
                    Ok((expected.to_owned(), written(&world.finish(label).await, names)))
                }
            }
        }
    }
}

/// Runs every case that is for this world; returns how many those were.
///
/// # Panics
/// With all differences, if there are any.
pub async fn run_all(world: &mut impl World) -> usize {
    let (mut differences, mut ran) = (Vec::new(), 0);
    for case in cases() {
        let is_built_in = world.has("RLock", "");
        if case.name.ends_with("(built in)") && !is_built_in {
            continue;
        }
        if !called(&case).iter().all(|(typeid, method, _)| world.has(typeid, method)) {
            continue;
        }
        ran += 1;
        differences.extend(run(world, &case).await.0);
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    ran
}
