//! One task of a client: it makes one call at a time, and writes each down before and after.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use serde_json::Value as Json;
use steward_certify::{At, Grant, ObjectMade, Operation, Outcome, Record, SessionEnd};
use steward_client::{Answer, AnyValue, Args, Effect, Manager, Proxy};

use crate::journal::{Journal, now_ns};
use crate::objects::{self, PLUGIN_TYPE, Shared};

/// What the tasks of a client process share.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u32,
    journal: Mutex<Journal>,
    /// Calls that came to an end which is known.
    calls: AtomicU64,
    /// Of values that no two calls share.
    unique: AtomicU64,
}

impl Client {
    /// A client of this number, which no other one of the run has, with files in `directory`.
    ///
    /// # Errors
    /// Those of the files.
    pub fn new(number: u32, directory: &Path) -> Result<Self> {
        let journal = Journal::open(directory, &format!("client-{number}"))?;
        Ok(Self(Arc::new(Inner {
            number,
            journal: Mutex::new(journal),
            calls: AtomicU64::new(0),
            unique: AtomicU64::new(0),
        })))
    }

    /// How many of its calls have ended.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// A number that nobody else of the run has, and that stays below 2^53.
    pub fn unique(&self) -> u64 {
        (u64::from(self.0.number) << 32) + self.0.unique.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes the end of a session.
    ///
    /// # Errors
    /// Those of the file.
    pub fn session_ended(&self, end: SessionEnd) -> Result<()> {
        self.0.journal.lock().end(&Record::SessionEnd(end))
    }

    /// Makes the shared objects and notes them. Types that the host does not have are left out.
    ///
    /// # Errors
    /// If the host makes one not, or the file cannot be written.
    pub async fn make_objects(&self, manager: &Manager) -> Result<()> {
        let types: Vec<String> = manager.types().await?.into_iter().map(|info| info.typeid).collect();
        for Shared { name, typeid, args } in objects::all() {
            if !types.iter().any(|known| known == typeid) {
                continue;
            }
            let proxy = manager.create_named(name, typeid, encoded(&args)).await.with_context(|| name.to_owned())?;
            if typeid != PLUGIN_TYPE {
                let made = ObjectMade { object: proxy.ident().0, typeid: typeid.to_owned(), args };
                self.0.journal.lock().end(&Record::Object(made))?;
            }
        }
        Ok(())
    }
}

/// Why a task goes no further.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Its session is lost: the client begins another one.
    #[error("the session is lost: {0}")]
    Gone(String),
    /// The run has failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// How a call is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// How long it may park; 0 unless it is said, so that a method that parks does not.
    pub deadline_ms: u64,
    /// The lock's name and the fence under which alone it may happen.
    pub guard: Option<(&'static str, u64)>,
}

impl How {
    /// With this deadline.
    pub fn within(deadline_ms: u64) -> Self {
        Self { deadline_ms, ..Self::default() }
    }
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Called {
    /// What it answered.
    pub outcome: Outcome,
    /// What it was granted.
    pub grant: Option<Grant>,
}

impl Called {
    /// The result, if there is one.
    pub fn result(&self) -> Option<&Json> {
        match &self.outcome {
            Outcome::Returned(result) => Some(result),
            _ => None,
        }
    }

    /// Whether it returned true.
    pub fn is_true(&self) -> bool {
        self.result() == Some(&Json::Bool(true))
    }

    /// Whether it returned anything.
    pub fn is_returned(&self) -> bool {
        self.result().is_some()
    }

    /// Whether it raised this.
    pub fn raised(&self, wanted: &str) -> bool {
        matches!(&self.outcome, Outcome::Raised { kind } if kind == wanted)
    }
}

/// A task with an owner of its own.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    session: u64,
    owner: u64,
    proxies: HashMap<&'static str, Proxy>,
    /// Draws what it does.
    pub rng: fastrand::Rng,
}

impl Caller {
    /// The task of this number in the manager's session.
    ///
    /// # Errors
    /// If the objects cannot be found.
    pub async fn new(
        client: &Client,
        manager: &Manager,
        owner: u64,
        rng: fastrand::Rng,
    ) -> Result<Self, steward_client::Error> {
        let manager = manager.with_owner(manager.owner());
        let mut proxies = HashMap::new();
        for object in objects::all() {
            match manager.find(object.name).await {
                Ok(proxy) => drop(proxies.insert(object.name, proxy)),
                // The host may lack the plugin.
                Err(error) if error.is("KeyError") && object.typeid == PLUGIN_TYPE => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { client: client.clone(), session: manager.session_number(), owner, proxies, rng })
    }

    /// Whether the run has this object.
    pub fn has(&self, object: &str) -> bool {
        self.proxies.contains_key(object)
    }

    /// As [`Client::unique`].
    pub fn unique(&self) -> Json {
        self.client.unique().into()
    }

    /// Calls a method.
    ///
    /// # Errors
    /// If the session is lost, the files cannot be written, or the object was poisoned.
    pub async fn call(&mut self, object: &'static str, method: &str, args: &[Json], how: How) -> Result<Called, Stop> {
        let proxy = self.proxies.get(object).with_context(|| format!("no object `{object}`"))?;
        let mut call = proxy.call_answer(method, encoded(args)).deadline_ms(how.deadline_ms);
        let mut guard = None;
        if let Some((lock, fence)) = how.guard {
            let lock = &self.proxies[lock];
            call = call.guard_by(lock, fence);
            guard = Some((lock.ident().0, fence));
        }
        let mut operation = Operation {
            client: self.client.0.number,
            session: self.session,
            owner: self.owner,
            object: proxy.ident().0,
            method: method.to_owned(),
            args: args.to_vec(),
            deadline_ms: Some(how.deadline_ms),
            guard,
            invoked_ns: now_ns(),
            returned_ns: None,
            outcome: Outcome::Unknown,
            at: None,
            grant: None,
        };
        // No certificate is asked of what a plugin answers.
        let is_noted = proxy.typeid() != PLUGIN_TYPE;
        if is_noted {
            self.client.0.journal.lock().begin(&operation)?;
        }
        let answered = call.await;
        operation.returned_ns = Some(now_ns());
        let mut gone = None;
        let error = match answered {
            Ok(Answer { result, version }) => {
                operation.at = Some(At { epoch: version.epoch, version: version.version, index: version.index });
                match result {
                    Ok(item) => {
                        let value: AnyValue = item.decode().context("a result is a value")?;
                        operation.outcome = Outcome::Returned(json(value));
                        operation.grant =
                            item.grant().map(|grant| Grant { fence: grant.fence, abandoned: grant.abandoned });
                        None
                    }
                    Err(error) => Some(error),
                }
            }
            Err(error) => {
                gone = Some(error.to_string());
                Some(error)
            }
        };
        if let Some(error) = error {
            let kind = error.kind().to_owned();
            operation.outcome = match error.effect() {
                Effect::Raised => Outcome::Raised { kind },
                Effect::Refused => {
                    operation.at = None;
                    Outcome::Refused { kind }
                }
                Effect::Unknown => {
                    (operation.at, operation.returned_ns) = (None, None);
                    gone = Some(error.to_string());
                    Outcome::Unknown
                }
                Effect::Poisoned => return Err(anyhow::anyhow!("`{object}` is poisoned: {error}").into()),
                Effect::Returned => return Err(anyhow::Error::from(error).into()),
            };
        }
        let called = Called { outcome: operation.outcome.clone(), grant: operation.grant };
        if is_noted {
            self.client.0.journal.lock().end(&Record::Call(operation))?;
            self.client.0.calls.fetch_add(1, Ordering::Relaxed);
        }
        match gone {
            Some(cause) => Err(Stop::Gone(cause)),
            None => Ok(called),
        }
    }
}

/// Positional arguments.
fn encoded(args: &[Json]) -> Args {
    args.iter().fold(Args::new(), |all, arg| all.item(&value(arg).to_vec()))
}

fn value(json: &Json) -> AnyValue {
    match json {
        Json::Null => AnyValue::Null,
        Json::Bool(value) => AnyValue::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => AnyValue::Text(text.clone()),
        Json::Array(items) => AnyValue::List(items.iter().map(value).collect()),
        Json::Object(fields) => {
            AnyValue::Map(fields.iter().map(|(name, field)| (AnyValue::Text(name.clone()), value(field))).collect())
        }
    }
}

/// A result as histories have it: sequences are arrays, whatever their type.
fn json(value: AnyValue) -> Json {
    match value {
        AnyValue::Null => Json::Null,
        AnyValue::Bool(value) => value.into(),
        AnyValue::Int(number) => number.into(),
        AnyValue::Float(number) => number.into(),
        AnyValue::Text(text) => text.into(),
        AnyValue::List(items) | AnyValue::Tuple(items) | AnyValue::Set(items) | AnyValue::FrozenSet(items) => {
            items.into_iter().map(json).collect()
        }
        AnyValue::Array(_, items) => items.into_iter().map(json).collect(),
        AnyValue::Map(pairs) => pairs.into_iter().map(|(key, value)| (key_text(key), json(value))).collect(),
        other => format!("{other:?}").into(),
    }
}

fn key_text(key: AnyValue) -> String {
    match key {
        AnyValue::Text(text) => text,
        other => json(other).to_string(),
    }
}
