//! The built-in types stepped by hand, and a running host.

use std::collections::{BTreeMap, BTreeSet};

use steward_client::{Args, Error, Item, Manager, Owner, Proxy};
use steward_objects::{Effect, Fault, Ident, Value, Why, builtin};
use steward_test_support::driver::{Driver, owner};
use steward_test_support::{PATIENCE, until};
use steward_wire::Token;
use tokio::task::JoinHandle;

use crate::literal::Arguments;
use crate::{Asked, World};

/// The built-in types, without a host, a clock, or a thread.
#[derive(Default)]
pub struct Stepped {
    cells: Vec<Driver>,
    /// Where an object lies: its cell and its facet.
    objects: BTreeMap<Ident, (usize, u32)>,
    waiting: BTreeMap<String, (usize, u64, Option<u64>)>,
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("objects", &self.objects).finish_non_exhaustive()
    }
}

fn borrowed(keywords: &[(String, Value)]) -> Vec<(&str, Value)> {
    keywords.iter().map(|(name, value)| (&**name, value.clone())).collect()
}

impl Stepped {
    fn place(&mut self, typeid: &str, cell: usize, facet: u32) -> Token {
        let ident = Ident(1_000 + self.objects.len() as u64);
        self.objects.insert(ident, (cell, facet));
        Token { typeid: typeid.to_owned(), ident, address: None }
    }

    /// Brings the call; returns its cell and number.
    fn ask(&mut self, call: &Asked<'_>) -> Result<(usize, u64), Fault> {
        let (cell, facet) = self.objects[&call.object.ident];
        let (mut places, keywords) = call.args.clone();
        let methods = builtin(&call.object.typeid).expect("a built-in type").methods;
        // As a host does it: a copy for each token that is itself an argument.
        if methods.iter().any(|method| method.name == call.method && method.snapshots) {
            for place in &mut places {
                if let Value::Token(token) = place {
                    let (cell, facet) = self.objects[&token.ident];
                    *place = self.cells[cell].now_facet(facet, owner(1), "#GETVALUE", &[])?;
                }
            }
        }
        let by = steward_objects::Owner { session: 1, thread: call.owner };
        let id = self.cells[cell].call_facet(facet, by, call.method, &places, &borrowed(&keywords));
        self.pump();
        Ok((cell, id))
    }

    /// Makes the calls that objects ask for.
    fn pump(&mut self) {
        for from in 0..self.cells.len() {
            for invocation in std::mem::take(&mut self.cells[from].invocations) {
                let (cell, facet) = self.objects[&invocation.ident];
                let Ok(Value::List(parts)) = Value::decode(&invocation.args) else { panic!("arguments are a list") };
                let [Value::List(places), Value::Map(_)] = &parts[..] else { panic!("arguments are two") };
                let outcome = self.cells[cell].now_facet(facet, owner(0), &invocation.method, places);
                self.cells[from].returned(invocation.tag, outcome);
            }
        }
    }

    fn outcome(&mut self, typeid: &str, method: &str, cell: usize, id: u64) -> Result<Value, Fault> {
        let answer = self.cells[cell].answer(id).expect("the call is answered").clone();
        match answer.facet {
            Some(facet) => {
                let methods = builtin(typeid).expect("a built-in type").methods;
                let method = methods.iter().find(|known| known.name == method).expect("a method of the type");
                let returns = method.returns.expect("the method returns objects");
                Ok(Value::Token(self.place(returns, cell, facet)))
            }
            None => answer.outcome,
        }
    }

    /// Lets time pass up to the call's deadline, unless it is answered before.
    fn pass(&mut self, cell: usize, id: u64, deadline_ms: Option<u64>) {
        let Some(deadline_ms) = deadline_ms else { return };
        let end_ms = self.cells[cell].now_ms + deadline_ms;
        while !self.cells[cell].is_answered(id) {
            if self.cells[cell].wake_at_ms.is_some_and(|at_ms| at_ms <= end_ms) {
                self.cells[cell].tick();
            } else {
                self.cells[cell].now_ms = end_ms;
                self.cells[cell].cancel(id, Why::Deadline);
            }
            self.pump();
        }
    }
}

impl World for Stepped {
    async fn create(&mut self, typeid: &str, args: &Arguments) -> Result<Token, Fault> {
        let (places, keywords) = args;
        let kind = builtin(typeid).expect("a built-in type");
        if let Some(Value::Token(token)) = places.first()
            && kind.joins.contains(&&*token.typeid)
        {
            let (cell, facet) = self.objects[&token.ident];
            let facet = self.cells[cell].join(typeid, facet, &places[1..])?;
            return Ok(self.place(typeid, cell, facet));
        }
        let driver = Driver::try_new(typeid, places, &borrowed(keywords))?;
        self.cells.push(driver);
        Ok(self.place(typeid, self.cells.len() - 1, 0))
    }

    async fn call(&mut self, call: Asked<'_>) -> Result<Value, Fault> {
        let (cell, id) = self.ask(&call)?;
        self.pass(cell, id, call.deadline_ms);
        assert!(self.cells[cell].is_answered(id), "{} waits for ever", call.method);
        self.outcome(&call.object.typeid, call.method, cell, id)
    }

    async fn start(&mut self, label: &str, call: Asked<'_>) -> Option<Result<Value, Fault>> {
        let (cell, id) = match self.ask(&call) {
            Ok(asked) => asked,
            Err(fault) => return Some(Err(fault)),
        };
        if self.cells[cell].is_answered(id) {
            return Some(self.outcome(&call.object.typeid, call.method, cell, id));
        }
        self.waiting.insert(label.to_owned(), (cell, id, call.deadline_ms));
        None
    }

    async fn finish(&mut self, label: &str) -> Result<Value, Fault> {
        let (cell, id, deadline_ms) = self.waiting.remove(label).expect("the call waits");
        self.pass(cell, id, deadline_ms);
        self.cells[cell].outcome(id).expect("the call is answered by now")
    }

    async fn is_waiting(&mut self, label: &str) -> bool {
        let (cell, id, _) = self.waiting[label];
        !self.cells[cell].is_answered(id)
    }

    async fn give_up(&mut self, label: &str) {
        let (cell, id, _) = self.waiting.remove(label).expect("the call waits");
        self.cells[cell].cancel(id, Why::Client);
        self.pump();
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// A host, through the client's proxies.
#[derive(Debug)]
pub struct Hosted {
    manager: Manager,
    owners: BTreeMap<u64, Owner>,
    objects: BTreeMap<Ident, Proxy>,
    waiting: BTreeMap<String, (Ident, JoinHandle<Result<Item, Error>>)>,
    /// The methods of the types that plugins replace, by the replaced type; `None`: the built-in types serve.
    replaced: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl Hosted {
    /// The built-in types of a host.
    pub fn new(manager: Manager) -> Self {
        Self { manager, owners: BTreeMap::new(), objects: BTreeMap::new(), waiting: BTreeMap::new(), replaced: None }
    }

    /// Types called `Guest…` in place of the built-in ones.
    ///
    /// # Panics
    /// If the host does not tell its types.
    pub async fn guests(manager: Manager) -> Self {
        let types = manager.types().await.expect("the host tells its types");
        let mut replaced = BTreeMap::new();
        for kind in types.iter().filter_map(|kind| Some((kind.typeid.strip_prefix("Guest")?, kind))) {
            let methods = kind.1.methods.iter().map(|method| method.name.clone()).collect();
            let name = if kind.0 == "Dict" { "dict" } else { kind.0 };
            replaced.insert(name.to_owned(), methods);
        }
        Self { replaced: Some(replaced), ..Self::new(manager) }
    }

    /// How many calls wait in the object's cell.
    async fn waiters(&self, ident: Ident) -> u64 {
        until("the object is at rest", async || {
            let objects = self.manager.objects().await.expect("the host lists its objects");
            objects.into_iter().find(|line| line.ident == ident.0).expect("the object is listed").waiters
        })
        .await
    }

    fn outcome(&mut self, outcome: Result<Item, Error>) -> Result<Value, Fault> {
        match outcome {
            Ok(item) => {
                let value = Value::decode(item.bytes()).expect("a result is one item");
                if let Value::Token(token) = &value {
                    self.objects.insert(token.ident, item.decode().expect("a token is a proxy"));
                }
                Ok(value)
            }
            Err(error) => Err(fault(error)),
        }
    }

    fn ask(&mut self, call: &Asked<'_>) -> steward_client::Call<Item> {
        let owner = *self.owners.entry(call.owner).or_insert_with(Owner::new);
        let proxy = self.objects[&call.object.ident].with_owner(owner);
        let asked = proxy.call_item(call.method, arguments(call.args));
        match call.deadline_ms {
            Some(deadline_ms) => asked.deadline_ms(deadline_ms),
            None => asked,
        }
    }
}

/// Stands for a reply that does not come, so that the difference names its line.
fn no_reply() -> Fault {
    Fault::new(Effect::Unknown, "NoReply", format!("none within {PATIENCE:?}"))
}

fn fault(error: Error) -> Fault {
    error.fault().cloned().unwrap_or_else(|| Fault::new(Effect::Refused, error.kind(), error.message()))
}

fn arguments((places, keywords): &Arguments) -> Args {
    let args = places.iter().fold(Args::new(), |args, value| args.item(&value.to_vec()));
    keywords.iter().fold(args, |args, (name, value)| args.keyword(name, value))
}

impl World for Hosted {
    async fn create(&mut self, typeid: &str, args: &Arguments) -> Result<Token, Fault> {
        let name = match (&self.replaced, typeid) {
            (None, typeid) => typeid.to_owned(),
            (Some(_), "dict") => "GuestDict".to_owned(),
            (Some(_), typeid) => format!("Guest{typeid}"),
        };
        let proxy = self.manager.create(&name, arguments(args)).await.map_err(fault)?;
        let ident = proxy.ident();
        self.objects.insert(ident, proxy);
        Ok(Token { typeid: name, ident, address: None })
    }

    async fn call(&mut self, call: Asked<'_>) -> Result<Value, Fault> {
        let asked = self.ask(&call);
        match tokio::time::timeout(PATIENCE, asked.into_future()).await {
            Ok(outcome) => self.outcome(outcome),
            Err(_) => Err(no_reply()),
        }
    }

    async fn start(&mut self, label: &str, call: Asked<'_>) -> Option<Result<Value, Fault>> {
        let ident = call.object.ident;
        let before = self.waiters(ident).await;
        let task = tokio::spawn(self.ask(&call).into_future());
        let waits = until("the call waits, or is answered", async || {
            if task.is_finished() {
                return Some(false);
            }
            (self.waiters(ident).await == before + 1).then_some(true)
        })
        .await;
        if waits {
            self.waiting.insert(label.to_owned(), (ident, task));
            return None;
        }
        let outcome = task.await.expect("the call ends");
        Some(self.outcome(outcome))
    }

    async fn finish(&mut self, label: &str) -> Result<Value, Fault> {
        let (_, task) = self.waiting.remove(label).expect("the call waits");
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(outcome) => self.outcome(outcome.expect("the call ends")),
            Err(_) => Err(no_reply()),
        }
    }

    async fn is_waiting(&mut self, label: &str) -> bool {
        // What was sent before the answer to this has arrived with it.
        self.manager.ping().await.expect("the host answers");
        tokio::task::yield_now().await;
        !self.waiting[label].1.is_finished()
    }

    async fn give_up(&mut self, label: &str) {
        let (ident, task) = self.waiting.remove(label).expect("the call waits");
        let before = self.waiters(ident).await;
        task.abort();
        until("the call is gone", async || (self.waiters(ident).await < before).then_some(())).await;
    }

    fn forget(&mut self) {
        self.waiting.clear();
        self.objects.clear();
        self.owners.clear();
    }

    fn has(&self, typeid: &str, method: &str) -> bool {
        self.replaced
            .as_ref()
            .is_none_or(|types| types.get(typeid).is_some_and(|methods| method.is_empty() || methods.contains(method)))
    }
}
