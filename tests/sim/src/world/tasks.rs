//! What the tasks of clients do, and what they are answered.

use steward_client::sim as client;
use steward_objects::builtin;
use steward_wire::value::token_of;
use steward_wire::{Effect, Ident, Token, Value};

use super::{AUDITOR, Moment, World};
use crate::client::{Held, Inherited, Life, Op, Target, Wait};
use crate::oracle::Verdict;
use crate::script::encoded;

impl World {
    pub(super) fn wake(&mut self, of: usize, task: usize, ms: u64) {
        let incarnation = self.clients[of].incarnation;
        self.clients[of].tasks[task].wakes += 1;
        let wake = self.clients[of].tasks[task].wakes;
        self.after(ms, Moment::Task { client: of, incarnation, task, wake });
    }

    /// A task takes the next step of its plan.
    pub(super) fn go_on(&mut self, of: usize, task: usize) -> Verdict {
        if self.clients[of].life != Life::Lives || self.clients[of].tasks[task].wait.is_some() {
            return Ok(());
        }
        if self.clients[of].tasks[task].plan.is_empty() {
            if of == AUDITOR {
                self.clients[of].tasks[task].is_done = true;
                return Ok(());
            }
            if !self.is_troubled() {
                let own = self.clients[of].tasks[task].own.take();
                own.into_iter().for_each(|own| self.clients[of].core.let_go(own));
                self.clients[of].tasks[task].is_done = true;
                self.send(of);
                return Ok(());
            }
            self.clients[of].tasks[task].plan = self.script.plan(&mut self.random);
        }
        let op = self.clients[of].tasks[task].plan.pop_front().expect("a plan has steps");
        self.take_step(of, task, op)
    }

    fn take_step(&mut self, of: usize, task: usize, op: Op) -> Verdict {
        let owner = task as u64 + 1;
        match op {
            Op::Sleep(ms) => self.wake(of, task, ms),
            Op::Drop(shared) => {
                let client = &mut self.clients[of];
                if let Some(&ident) = client.known.get(&shared)
                    && !client.uses(shared, ident)
                {
                    client.known.remove(&shared);
                    client.core.let_go(ident);
                    self.send(of);
                }
                self.wake(of, task, 0);
            }
            Op::DropOwn => {
                let client = &mut self.clients[of];
                if let Some(own) = client.tasks[task].own.take() {
                    client.core.let_go(own);
                    self.send(of);
                }
                self.wake(of, task, 0);
            }
            Op::Make => {
                let client = &mut self.clients[of];
                if let Some(own) = client.tasks[task].own.take() {
                    client.core.let_go(own);
                }
                let args = encoded(&[Value::Int(0), Value::Int(0)]);
                let out = client.connection.is_some().then_some(&mut client.out);
                let seq = client.core.create(out, owner, "Value", args, None);
                client.tasks[task].wait = Some(Wait { seq, is_make: true, ..Wait::default() });
                self.send(of);
            }
            Op::Fork => {
                let is_room = self.is_troubled();
                let client = &mut self.clients[of];
                if !is_room {
                    self.wake(of, task, 0);
                    return Ok(());
                }
                let (known, owns) = (client.known.clone(), client.tasks.iter().map(|task| task.own).collect());
                let inherited = Inherited { idents: Vec::new(), known, owns };
                let out = client.connection.is_some().then_some(&mut client.out);
                let seq = client.core.fork(out);
                self.oracle.forks((client.session, seq), inherited.held());
                client.tasks[task].wait = Some(Wait { seq, fork: Some(inherited), ..Wait::default() });
                self.send(of);
            }
            Op::PutToken { shared, is_large, is_let_go } => {
                let client = &mut self.clients[of];
                let Some(own) = client.tasks[task].own else {
                    self.wake(of, task, 0);
                    return Ok(());
                };
                if !client.known.contains_key(&shared) {
                    return self.name(of, task, shared, op);
                }
                let token = Token { typeid: "Value".to_owned(), ident: Ident(own), address: None };
                let item = match is_large {
                    true => Value::Tuple(vec![Value::Token(token), Value::Bytes(vec![7; 900])]),
                    false => Value::Token(token),
                };
                if !is_let_go {
                    client.tasks[task].plan.push_front(Op::DropOwn);
                }
                let (target, method, args) = (Target::Shared(shared), "put", vec![item]);
                self.take_step(of, task, Op::Call { target, method, args, deadline_ms: None, is_guarded: false })?;
                if is_let_go {
                    // The call that names it is on its way.
                    let client = &mut self.clients[of];
                    client.tasks[task].own = None;
                    client.core.let_go(own);
                    self.send(of);
                }
            }
            Op::Call { target, method, ref args, deadline_ms, is_guarded } => {
                let (ident, typeid) = match target {
                    Target::Own => match self.clients[of].tasks[task].own {
                        Some(own) => (own, "Value"),
                        None => {
                            self.wake(of, task, 0);
                            return Ok(());
                        }
                    },
                    Target::Shared(shared) => match self.clients[of].known.get(&shared) {
                        Some(&ident) => (ident, self.script.shared[shared].typeid),
                        None => return self.name(of, task, shared, op),
                    },
                };
                // Its own lock, or one of another task, which may release it while this call waits.
                let client = &mut self.clients[of];
                let own = client.tasks[task].held.iter().rev();
                let mut locks = own.chain(client.tasks.iter().flat_map(|task| &task.held)).filter(|held| held.is_lock);
                let guard = locks.next().map(|held| (held.ident, held.fence));
                let state = &mut client.tasks[task];
                let guard = guard.filter(|_| is_guarded);
                // From here on nobody believes in what is being let go.
                if method == "release"
                    && let Some(at) = state.held.iter().rposition(|held| held.ident == ident)
                {
                    state.held.remove(at);
                }
                if method == "wait" && typeid == "Condition" {
                    state.held.retain(|held| held.ident != ident);
                }
                let table = builtin(typeid.trim_end_matches(".pooled")).expect("objects are of built-in types").methods;
                let may_park = table.iter().any(|known| known.name == method && known.may_park);
                let args = encoded(args);
                let call = client::Call { ident, owner, method, args, deadline_ms, guard, may_park };
                let out = client.connection.is_some().then_some(&mut client.out);
                let seq = client.core.call(out, call);
                let is_large = client.core.is_unmade(seq);
                self.send(of);
                let client = &mut self.clients[of];
                let incarnation = client.incarnation;
                client.tasks[task].wait = Some(Wait { seq, ident, op: Some(op), ..Wait::default() });
                if is_large {
                    let ms = self.random.pick(&[0, 0, 1, 20]);
                    self.after(ms, Moment::Made { client: of, incarnation, seq });
                }
                if (may_park || is_large) && of != AUDITOR && self.random.percent(self.troubles.abandon) {
                    let ms = self.random.pick(&[1, 10, 100, 1_000, 4_000]);
                    self.after(ms, Moment::Abandon { client: of, incarnation, task, seq });
                }
            }
        }
        Ok(())
    }

    /// Asks for a shared object, and for what comes then.
    fn name(&mut self, of: usize, task: usize, shared: usize, then: Op) -> Verdict {
        let object = self.script.shared[shared];
        let args: Vec<_> = object.args.iter().map(|number| Value::Int(*number)).collect();
        let client = &mut self.clients[of];
        client.tasks[task].plan.push_front(then);
        let out = client.connection.is_some().then_some(&mut client.out);
        let seq = client.core.create(out, task as u64 + 1, object.typeid, encoded(&args), Some(object.name));
        client.tasks[task].wait = Some(Wait { seq, naming: Some(shared), ..Wait::default() });
        self.send(of);
        Ok(())
    }

    pub(super) fn abandon(&mut self, of: usize, incarnation: u64, task: usize, seq: u64) -> Verdict {
        let client = &mut self.clients[of];
        if client.incarnation != incarnation || client.life != Life::Lives {
            return Ok(());
        }
        let Some(wait) = client.tasks[task].wait.take_if(|wait| wait.seq == seq) else { return Ok(()) };
        let session = client.session;
        self.oracle.note(Some(wait.ident), || format!("client {of} gives up {session}:{seq}"));
        let out = client.connection.is_some().then_some(&mut client.out);
        client.core.abandon(seq, wait.ident, task as u64 + 1, out);
        self.send(of);
        self.reset(of, seq);
        self.wind_up(of, task);
        Ok(())
    }

    /// The plan failed: what the task holds is released.
    fn wind_up(&mut self, of: usize, task: usize) {
        let state = &mut self.clients[of].tasks[task];
        state.plan.clear();
        for held in state.held.iter().rev() {
            let (target, method) = (Target::Shared(held.shared), "release");
            state.plan.push_back(Op::Call { target, method, args: vec![], deadline_ms: Some(0), is_guarded: false });
        }
        self.wake(of, task, 0);
    }

    /// Looks whether the reply is there that a task waits for.
    pub(super) fn look(&mut self, of: usize, task: usize) -> Verdict {
        let client = &mut self.clients[of];
        if client.life != Life::Lives {
            return Ok(());
        }
        let Some(wait) = &client.tasks[task].wait else { return Ok(()) };
        let Some(Ok(reply)) = client.core.fetch(wait.seq) else { return Ok(()) };
        let Some(wait) = client.tasks[task].wait.take() else { return Ok(()) };
        let key = (client.session, wait.seq);
        if let Some(mut inherited) = wait.fork {
            let forked = client::forked(&reply.payload).ok().filter(|_| reply.effect == Effect::Returned);
            let Some((child, secret, idents)) = forked else {
                let what = format!("a session was not forked: {:?} {:?}", reply.effect, Value::decode(&reply.payload));
                return Err(self.oracle.complain(None, what));
            };
            self.oracle.forked(key, child, &idents)?;
            inherited.idents = idents;
            self.hand_on(child, secret, inherited);
            self.send(of);
            self.wake(of, task, 0);
            return Ok(());
        }
        if wait.naming.is_some() || wait.is_make {
            let token = token_of(&reply.payload).filter(|_| reply.effect == Effect::Returned);
            let Some(ident) = token.map(|token| token.ident.0) else {
                let what = format!("an object was not made: {:?} {:?}", reply.effect, Value::decode(&reply.payload));
                return Err(self.oracle.complain(None, what));
            };
            // The reply's own hold on it becomes the handle.
            match wait.naming {
                Some(shared) => {
                    let object = self.script.shared[shared];
                    let args: Vec<_> = object.args.iter().map(|number| Value::Int(*number)).collect();
                    self.oracle.made(ident, object.typeid, &args);
                    self.idents.insert(shared, ident);
                    if client.known.insert(shared, ident).is_some() {
                        client.core.let_go(ident);
                    }
                }
                None => {
                    self.oracle.made(ident, "Value", &[Value::Int(0), Value::Int(0)]);
                    client.tasks[task].own = Some(ident);
                }
            }
            self.oracle.mix((key, ident));
            self.send(of);
            self.wake(of, task, 0);
            return Ok(());
        }
        self.oracle.fetched(key, wait.ident, reply.effect, &reply.payload)?;
        let Some(Op::Call { target, method, .. }) = wait.op else { return Ok(()) };
        let client = &mut self.clients[of];
        if let Some(&ident) = reply.pins.first() {
            // The reply's own hold on it becomes the task's.
            if let Some(own) = client.tasks[task].own.replace(ident) {
                client.core.let_go(own);
            }
        }
        let is_granted = reply.effect == Effect::Returned && reply.grant.is_some();
        if let (Target::Shared(shared), Some(grant)) = (target, reply.grant.filter(|_| is_granted)) {
            let typeid = self.script.shared[shared].typeid;
            let is_lock = !typeid.ends_with("Semaphore");
            let (ident, fence) = (wait.ident, grant.fence);
            client.tasks[task].held.push(Held { shared, ident, fence, is_lock });
        }
        let failed = match method {
            "acquire" => !is_granted,
            "wait" => false,
            _ => reply.effect != Effect::Returned,
        };
        self.send(of);
        if failed {
            self.wind_up(of, task);
        } else {
            let ms = self.random.below(3);
            self.wake(of, task, ms);
        }
        Ok(())
    }
}
