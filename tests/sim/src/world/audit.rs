//! What must hold at every step, when all is set right, and when everybody has left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steward_host::sim::events;
use steward_wire::{Value, value};

use super::{AUDITOR, Moment, TROUBLE_MS, World};
use crate::client::{Client, Life, Op, Target};
use crate::model::Model;
use crate::oracle::Verdict;

impl World {
    /// R1, as clients see it: at most one believes that it holds a lock.
    pub(super) fn one_believes(&self) -> Verdict {
        let mut believers: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for (of, client) in self.clients.iter().enumerate() {
            if !client.tasks.iter().any(|task| !task.held.is_empty()) || !client.believes(self.now_ms) {
                continue;
            }
            for (task, state) in client.tasks.iter().enumerate() {
                for held in state.held.iter().filter(|held| held.is_lock) {
                    if let Some(other) = believers.insert(held.ident, (of, task))
                        && other != (of, task)
                    {
                        let what = format!("R1: tasks {other:?} and {:?} both believe to hold it", (of, task));
                        return Err(self.oracle.complain(Some(held.ident), what));
                    }
                }
            }
        }
        Ok(())
    }

    /// The auditor sees to it that nobody waits for what nobody would bring.
    pub(super) fn audit(&mut self) -> Verdict {
        self.after(100, Moment::Audit);
        let is_idle = self.clients[AUDITOR].tasks.iter().all(|task| task.wait.is_none() && task.plan.is_empty());
        if !is_idle || self.clients[AUDITOR].life != Life::Lives {
            return Ok(());
        }
        let call = |shared: usize, method: &'static str, args: Vec<Value>, deadline_ms: Option<u64>| {
            let target = Target::Shared(shared);
            Op::Call { target, method, args, deadline_ms, is_guarded: false }
        };
        let mut plan = VecDeque::new();
        for (&shared, &ident) in &self.idents {
            let parked = self.oracle.parked(ident);
            let gone = match self.oracle.model(ident) {
                Some(Model::Lock(lock)) => {
                    lock.holder.as_ref().is_some_and(|holder| self.oracle.is_ended(holder.owner.0))
                }
                _ => false,
            };
            if gone {
                // Its holder has left in good order: the lock stays as it is, and anybody may release it.
                plan.push_back(call(shared, "release", vec![], Some(0)));
            }
            let Some(waits) = parked.first() else { continue };
            match (self.script.shared[shared].typeid, *waits) {
                ("Event", _) => plan.push_back(call(shared, "set", vec![], Some(0))),
                ("Barrier", _) => plan.push_back(call(shared, "reset", vec![], Some(0))),
                ("Condition", _) if parked.contains(&"wait") => {
                    plan.push_back(call(shared, "acquire", vec![], Some(1_000)));
                    plan.push_back(call(shared, "notify_all", vec![], Some(0)));
                    plan.push_back(call(shared, "release", vec![], Some(0)));
                }
                (_, "get" | "get_many") => {
                    self.fillers += 1;
                    plan.push_back(call(shared, "put", vec![Value::Int(-self.fillers)], Some(0)));
                }
                (_, "put" | "put_many") => plan.push_back(call(shared, "get_nowait", vec![], Some(0))),
                _ => {}
            }
        }
        self.clients[AUDITOR].tasks[0].plan = plan;
        self.wake(AUDITOR, 0, 0);
        Ok(())
    }

    /// Whether every client that lives has had every answer, and every other session is over.
    pub(super) fn is_settled(&self) -> bool {
        let is_done = |client: &Client| match client.life {
            Life::Joining => client.incarnation == 0 || !self.is_troubled(),
            Life::Lives => {
                client.connection.is_some()
                    && client.out.is_empty()
                    && client.core.waiting() == 0
                    && !client.core.is_owing()
                    && client.tasks.iter().all(|task| task.is_done && task.wait.is_none() && task.plan.is_empty())
            }
            Life::Over => true,
        };
        self.now_ms > TROUBLE_MS + 1_000
            && !self.host.has_work()
            && self.clients.iter().all(is_done)
            && self.begun.iter().all(|&session| {
                let lives = |client: &Client| client.session == session && client.life == Life::Lives;
                self.oracle.is_ended(session) || self.clients.iter().any(lives)
            })
            && self.oracle.unclaimed().all(|(parent, _)| !self.oracle.is_ended(parent))
            && self.connections.iter().all(|connection| {
                !connection.is_plugged || connection.streams.values().all(|stream| stream.up.is_empty())
            })
    }

    pub(super) fn unsettled(&self) -> crate::oracle::Broken {
        for (of, client) in self.clients.iter().enumerate() {
            for (at, task) in client.tasks.iter().enumerate() {
                if let (Life::Lives, Some(wait)) = (client.life, &task.wait) {
                    let (session, seq) = (client.session, wait.seq);
                    let what = format!("call {session}:{seq} of client {of}, task {at}, is never answered: {wait:?}");
                    return self.oracle.complain(Some(wait.ident), what);
                }
            }
        }
        let waiting: Vec<_> = self
            .clients
            .iter()
            .map(|client| {
                let owing = client.core.is_owing();
                (client.life, client.session, client.core.waiting(), owing, client.connection, client.out.len())
            })
            .collect();
        self.oracle.complain(None, format!("what clients wait for never comes: {waiting:?}"))
    }

    /// Everybody leaves, and nothing may stay but what has a name.
    pub(super) fn finish(&mut self) -> Verdict {
        for (&shared, &ident) in &self.idents {
            let (parked, name) = (self.oracle.parked(ident), self.script.shared[shared].name);
            if !parked.is_empty() {
                return Err(self
                    .oracle
                    .complain(Some(ident), format!("at the end calls wait for `{name}`: {parked:?}")));
            }
            let is_held = match self.oracle.model(ident) {
                Some(Model::Lock(lock)) => {
                    lock.holder.as_ref().is_some_and(|holder| !self.oracle.is_ended(holder.owner.0))
                }
                // What its owner has left behind in good order stays taken.
                Some(Model::Semaphore(semaphore)) => semaphore.is_out(|session| self.oracle.is_ended(session)),
                _ => false,
            };
            if is_held {
                let what = format!("`{name}` is held by nobody who knows of it: {:?}", self.oracle.model(ident));
                return Err(self.oracle.complain(Some(ident), what));
            }
        }
        let welcomed = self.clients.iter().filter(|client| client.inherited.is_none());
        let sessions: Vec<_> = welcomed.map(|client| client.session).collect();
        for session in sessions {
            let is_orderly = self.random.percent(50);
            self.host.end(session, is_orderly);
        }
        while self.host.work_once() {}
        self.oracle.happened(events())?;
        // Forks that nobody has claimed live on for a lease.
        self.now_ms += 60_000;
        self.oracle.now_ms = self.now_ms;
        self.host.set_ms(1_000_000 + self.now_ms);
        self.host.tick_due();
        self.host.sweep(0);
        while self.host.work_once() {}
        self.oracle.happened(events())?;
        self.oracle.quiet()?;
        let counters = self.host.counters();
        // Tokens in queues keep their objects, and the queues have names.
        let mut tokens = BTreeSet::new();
        for &ident in self.idents.values() {
            if let Some(Model::Queue(queue)) = self.oracle.model(ident) {
                for item in queue.items.values() {
                    value::tokens(&item.to_vec(), &mut |ident| {
                        tokens.insert(ident);
                    });
                }
            }
        }
        self.oracle.mix(format!("{counters:?}"));
        let left = (counters.sessions, counters.references, counters.waiters, counters.rows, counters.lingering);
        if left != (0, 0, 0, 0, 0) || counters.timers > 0 || counters.objects != counters.names + tokens.len() {
            let what = format!("when all had left there were {counters:?}, and {} tokens in queues", tokens.len());
            return Err(self.oracle.complain(None, what));
        }
        Ok(())
    }
}
