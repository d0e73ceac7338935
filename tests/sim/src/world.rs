//! One run: a host, its clients, the network between them, and what goes wrong.
//!
//! Everything happens in one thread, in the order of a queue of moments; moments of the same millisecond follow in the order in
//! which they were foreseen. Whatever has a choice asks the seed.

use std::collections::{BTreeMap, VecDeque};

use steward_client::sim::{self as client, Session};
use steward_host::sim::{Host, Lane, events};
use steward_host::{Limits, Registration, Source};
use steward_objects::builtin;
use steward_wire::frame::{self, LENGTH_BYTES};
use steward_wire::value::token_of;
use steward_wire::{Effect, Value};

use crate::client::{Client, Held, Life, Op, Target, Task, Wait};
use crate::model::Model;
use crate::oracle::{Oracle, Verdict};
use crate::random::Random;
use crate::script::{Script, encoded};

/// How long a silent session lives here.
const LEASE_MS: u64 = 3_000;
const SWEEP_MS: u64 = 500;
const TICK_MS: u64 = LEASE_MS / 4;
/// What the client's lane takes as well.
const OWED_MS: u64 = 5;
const TASKS: usize = 3;
/// Everything is set right from then on.
const TROUBLE_MS: u64 = 12_000;
/// By then everybody must have had every answer.
const SETTLED_MS: u64 = TROUBLE_MS + 120_000;
/// The client that nothing happens to, and that sets right what waits at the end.
const AUDITOR: usize = 0;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Moment {
    /// Bytes reach the host.
    Up(usize),
    /// Bytes reach a client.
    Down(usize),
    /// A client's lane looks at its lease.
    Tick {
        client: usize,
        connection: usize,
    },
    /// A client says what it owes.
    Owed {
        client: usize,
        incarnation: u64,
    },
    /// A task goes on.
    Task {
        client: usize,
        incarnation: u64,
        task: usize,
        wake: u64,
    },
    /// Somebody gives up a call.
    Abandon {
        client: usize,
        incarnation: u64,
        task: usize,
        seq: u64,
    },
    /// A client begins to sign in.
    Join {
        client: usize,
    },
    /// A client signs in again.
    Dial {
        client: usize,
        incarnation: u64,
    },
    /// Its proof is there.
    Resume {
        client: usize,
        incarnation: u64,
        since_ms: u64,
    },
    /// The host's welcome, or its refusal, is there.
    Welcome {
        client: usize,
        incarnation: u64,
        since_ms: u64,
        connection: Option<usize>,
    },
    /// The host learns that a connection is lost.
    Lost(usize),
    Sweep {
        due_ms: u64,
    },
    /// Something wants to be ticked.
    Alarm,
    /// The pool does a job.
    Pool,
    Trouble,
    /// The auditor looks around.
    Audit,
}

struct Connection {
    client: usize,
    session: u64,
    lane: Option<Lane>,
    /// The client uses it.
    is_plugged: bool,
    /// The client has used it; what the host says before waits behind its welcome.
    was_plugged: bool,
    /// Nothing arrives any more, and nobody is told.
    is_silent: bool,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// What the oracle has not seen whole.
    seen: Vec<u8>,
    up_at_ms: u64,
    down_at_ms: u64,
    /// Pieces that still arrive after a cut.
    left: Option<usize>,
    held_until_ms: u64,
}

/// What may go wrong in this run, of a hundred each.
struct Troubles {
    cut: u64,
    silence: u64,
    freeze: u64,
    death: u64,
    goodbye: u64,
    pause: u64,
    abandon: u64,
    late: u64,
    every_ms: u64,
    delay_ms: u64,
}

pub(crate) struct World {
    random: Random,
    now_ms: u64,
    moments: BTreeMap<(u64, u64), Moment>,
    order: u64,
    host: Host,
    host_paused_until_ms: u64,
    alarm_at_ms: Option<u64>,
    pool_foreseen: bool,
    clients: Vec<Client>,
    connections: Vec<Connection>,
    script: Script,
    troubles: Troubles,
    /// Idents of the shared objects, by place.
    idents: BTreeMap<usize, u64>,
    /// All sessions.
    begun: Vec<u64>,
    /// Items that the auditor has put.
    fillers: i64,
    pub(crate) oracle: Oracle,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool, records: bool) -> Self {
        let mut random = Random::new(seed);
        let mut some = |at_most: u64| if random.percent(60) { random.between(1, at_most) } else { 0 };
        let troubles = Troubles {
            cut: some(60),
            silence: some(20),
            freeze: some(25),
            death: some(15),
            goodbye: some(15),
            pause: some(10),
            abandon: some(40),
            late: some(80),
            every_ms: 0,
            delay_ms: 0,
        };
        let every_ms = random.pick(&[100, 300, 1_000]);
        let troubles = Troubles { every_ms, delay_ms: random.pick(&[1, 10, 60]), ..troubles };
        let script = Script::new(&mut random);
        let limits = Limits { lease_ms: LEASE_MS, token_grace_ms: 1_000, ..Limits::shared() };
        let pooled = ["Lock", "Queue", "Value"];
        let types = pooled.map(|name| Registration::new(format!("{name}.pooled"), Source::Builtin(name)));
        let start_ms = 1_000_000;
        drop(events());
        let mut world = Self {
            host: Host::new(start_ms, limits, types.into()),
            random,
            now_ms: 0,
            moments: BTreeMap::new(),
            order: 0,
            host_paused_until_ms: 0,
            alarm_at_ms: None,
            pool_foreseen: false,
            clients: Vec::new(),
            connections: Vec::new(),
            script,
            troubles,
            idents: BTreeMap::new(),
            begun: Vec::new(),
            fillers: 0,
            oracle: Oracle::new(trace, records),
            steps: 0,
        };
        let clients = world.random.between(2, 5) as usize;
        for client in 0..=clients {
            let fresh = world.newcomer(client, 0);
            world.clients.push(fresh);
            world.after(client as u64, Moment::Join { client });
        }
        world.after(SWEEP_MS, Moment::Sweep { due_ms: SWEEP_MS });
        world.after(50, Moment::Trouble);
        world.after(TROUBLE_MS, Moment::Audit);
        world
    }

    fn newcomer(&mut self, client: usize, incarnation: u64) -> Client {
        let drift = if client == AUDITOR { 0 } else { self.random.between(0, 40) as i64 - 20 };
        Client {
            life: Life::Joining,
            session: 0,
            core: Session::new(LEASE_MS, 0),
            incarnation,
            connection: None,
            out: Vec::new(),
            is_dialling: false,
            frozen_until_ms: 0,
            drift,
            offset_ms: self.random.below(1_000_000) + 1_000_000,
            known: BTreeMap::new(),
            tasks: (0..TASKS).map(|_| Task::default()).collect(),
            is_owed_timed: false,
        }
    }

    fn at(&mut self, at_ms: u64, moment: Moment) {
        self.order += 1;
        self.moments.insert((at_ms.max(self.now_ms), self.order), moment);
    }

    fn after(&mut self, ms: u64, moment: Moment) {
        self.at(self.now_ms + ms, moment);
    }

    fn is_troubled(&self) -> bool {
        self.now_ms < TROUBLE_MS
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Verdict {
        while let Some(((at_ms, _), moment)) = self.moments.pop_first() {
            self.now_ms = at_ms;
            self.oracle.now_ms = at_ms;
            self.steps += 1;
            if at_ms > SETTLED_MS {
                return Err(self.unsettled());
            }
            self.happen(moment)?;
            self.one_believes()?;
            if self.is_settled() {
                return self.finish();
            }
        }
        Err(self.oracle.complain(None, "nothing happens any more"))
    }

    fn happen(&mut self, moment: Moment) -> Verdict {
        // Who is stopped does everything later, in the same order.
        let stopped_until_ms = match &moment {
            Moment::Up(_)
            | Moment::Resume { .. }
            | Moment::Lost(_)
            | Moment::Sweep { .. }
            | Moment::Alarm
            | Moment::Pool => self.host_paused_until_ms,
            Moment::Down(connection) => self.clients[self.connections[*connection].client].frozen_until_ms,
            Moment::Tick { client, .. }
            | Moment::Owed { client, .. }
            | Moment::Task { client, .. }
            | Moment::Abandon { client, .. }
            | Moment::Dial { client, .. }
            | Moment::Welcome { client, .. } => self.clients[*client].frozen_until_ms,
            Moment::Join { .. } | Moment::Trouble | Moment::Audit => 0,
        };
        if stopped_until_ms > self.now_ms {
            self.at(stopped_until_ms, moment);
            return Ok(());
        }
        self.host.set_ms(1_000_000 + self.now_ms);
        match moment {
            Moment::Up(connection) => self.up(connection),
            Moment::Down(connection) => self.down(connection),
            Moment::Tick { client, connection } => self.tick(client, connection),
            Moment::Owed { client, incarnation } => self.owed(client, incarnation),
            Moment::Task { client, incarnation, task, wake } => {
                let is_meant = {
                    let client = &self.clients[client];
                    client.incarnation == incarnation && client.tasks[task].wakes == wake
                };
                if is_meant { self.go_on(client, task) } else { Ok(()) }
            }
            Moment::Abandon { client, incarnation, task, seq } => self.abandon(client, incarnation, task, seq),
            Moment::Join { client } => self.join(client),
            Moment::Dial { client, incarnation } => self.dial(client, incarnation),
            Moment::Resume { client, incarnation, since_ms } => self.resume(client, incarnation, since_ms),
            Moment::Welcome { client, incarnation, since_ms, connection } => {
                self.welcome(client, incarnation, since_ms, connection)
            }
            Moment::Lost(connection) => {
                if let Some(mut lane) = self.connections[connection].lane.take() {
                    lane.lose();
                }
                Ok(())
            }
            Moment::Sweep { due_ms } => {
                self.host.sweep(self.now_ms - due_ms);
                let due_ms = self.now_ms + SWEEP_MS;
                self.at(due_ms, Moment::Sweep { due_ms });
                self.acted()
            }
            Moment::Alarm => {
                self.alarm_at_ms = None;
                self.host.tick_due();
                self.acted()
            }
            Moment::Pool => {
                self.pool_foreseen = false;
                // There may be others: the next is foreseen in any case.
                if self.host.work_once() {
                    self.foresee_pool();
                }
                self.acted()
            }
            Moment::Trouble => self.trouble(),
            Moment::Audit => self.audit(),
        }
    }

    fn foresee_pool(&mut self) {
        if !std::mem::replace(&mut self.pool_foreseen, true) {
            let ms = self.random.pick(&[0, 0, 1, 5, 30]);
            self.after(ms, Moment::Pool);
        }
    }

    /// The host has done something: what it sends is on its way, and what happened in it is looked at.
    fn acted(&mut self) -> Verdict {
        self.oracle.happened(events())?;
        for at in 0..self.connections.len() {
            let Some(lane) = &mut self.connections[at].lane else { continue };
            let bytes = lane.take();
            if bytes.is_empty() {
                continue;
            }
            self.oracle.leaves(self.connections[at].session, &bytes)?;
            for piece in self.pieces(bytes) {
                let ms = self.delay();
                let at_ms = self.connections[at].down_at_ms.max(self.now_ms + ms);
                self.connections[at].down_at_ms = at_ms;
                self.connections[at].down.push_back(piece);
                self.at(at_ms, Moment::Down(at));
            }
        }
        if self.host.has_work() {
            self.foresee_pool();
        }
        if let Some(next_ms) = self.host.next_ms().map(|ms| ms.saturating_sub(1_000_000))
            && self.alarm_at_ms.is_none_or(|at_ms| next_ms < at_ms)
        {
            self.alarm_at_ms = Some(next_ms);
            self.at(next_ms, Moment::Alarm);
        }
        let is_quiet = !self.host.has_work() && self.host.next_ms().is_none_or(|ms| ms > self.host.now_ms());
        if is_quiet { self.oracle.quiet() } else { Ok(()) }
    }

    fn delay(&mut self) -> u64 {
        let slow = self.troubles.delay_ms;
        if self.is_troubled() && self.random.percent(3) {
            self.random.below(20 * slow + 1)
        } else {
            self.random.below(slow + 1)
        }
    }

    /// A stream is cut anywhere, frames or not.
    fn pieces(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while bytes.len() > 1 && self.random.percent(30) {
            let rest = bytes.split_off(1 + self.random.below(bytes.len() as u64 - 1) as usize);
            pieces.push(std::mem::replace(&mut bytes, rest));
        }
        pieces.push(bytes);
        pieces
    }

    fn up(&mut self, at: usize) -> Verdict {
        let connection = &mut self.connections[at];
        if connection.held_until_ms > self.now_ms {
            let until_ms = connection.held_until_ms;
            self.at(until_ms, Moment::Up(at));
            return Ok(());
        }
        let Some(piece) = connection.up.pop_front() else { return Ok(()) };
        match &mut connection.left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None if connection.is_silent => return Ok(()),
            None => {}
        }
        let Some(lane) = &mut connection.lane else { return Ok(()) };
        connection.seen.extend_from_slice(&piece);
        let mut taken = 0;
        while let Some(length) = frame::length(&connection.seen[taken..]) {
            let start = taken + LENGTH_BYTES;
            let Some(body) = connection.seen.get(start..start + length) else { break };
            self.oracle.arrives(connection.session, body);
            taken = start + length;
        }
        connection.seen.drain(..taken);
        if !lane.feed(&piece) {
            let ms = self.random.below(20);
            self.after(ms, Moment::Lost(at));
        }
        self.acted()
    }

    fn down(&mut self, at: usize) -> Verdict {
        let connection = &mut self.connections[at];
        if !connection.was_plugged {
            return Ok(());
        }
        let Some(piece) = connection.down.pop_front() else { return Ok(()) };
        if !connection.is_plugged || connection.is_silent {
            return Ok(());
        }
        let of = connection.client;
        let client = &mut self.clients[of];
        let taken = client.core.take_in(&piece, Some(&mut client.out));
        match taken {
            Err(error) => return Err(self.oracle.complain(None, format!("client {of}: {error}"))),
            Ok(taken) if taken.goodbye => self.over(of, "the host says goodbye")?,
            Ok(_) => self.send(of),
        }
        for task in 0..TASKS {
            self.look(of, task)?;
        }
        Ok(())
    }

    /// Bytes that a client has appended go on their way, and what it owes is foreseen.
    fn send(&mut self, of: usize) {
        let client = &mut self.clients[of];
        let Some(at) = client.connection else { return };
        let bytes = std::mem::take(&mut client.out);
        if client.core.is_owing() && !std::mem::replace(&mut client.is_owed_timed, true) {
            let incarnation = client.incarnation;
            self.after(OWED_MS, Moment::Owed { client: of, incarnation });
        }
        if bytes.is_empty() {
            return;
        }
        for piece in self.pieces(bytes) {
            let ms = self.delay();
            let at_ms = self.connections[at].up_at_ms.max(self.now_ms + ms);
            self.connections[at].up_at_ms = at_ms;
            self.connections[at].up.push_back(piece);
            self.at(at_ms, Moment::Up(at));
        }
    }

    fn owed(&mut self, of: usize, incarnation: u64) -> Verdict {
        let client = &mut self.clients[of];
        if client.incarnation == incarnation {
            client.is_owed_timed = false;
            if client.connection.is_some() {
                client.core.put_owed(&mut client.out);
                self.send(of);
            }
        }
        Ok(())
    }

    fn tick(&mut self, of: usize, connection: usize) -> Verdict {
        let now_ms = self.now_ms;
        let client = &mut self.clients[of];
        if client.connection != Some(connection) {
            return Ok(());
        }
        let clock_ms = client.clock_ms(now_ms);
        if client.core.tick(clock_ms, &mut client.out) {
            self.cut(of);
        } else {
            self.send(of);
            self.after(TICK_MS, Moment::Tick { client: of, connection });
        }
        Ok(())
    }

    /// A new process: its session begins.
    fn join(&mut self, of: usize) -> Verdict {
        if of != AUDITOR && !self.is_troubled() {
            return Ok(());
        }
        let incarnation = self.clients[of].incarnation + 1;
        let mut client = self.newcomer(of, incarnation);
        client.session = self.host.begin();
        self.begun.push(client.session);
        client.core = Session::new(LEASE_MS, client.clock_ms(self.now_ms));
        client.life = Life::Lives;
        let session = client.session;
        self.clients[of] = client;
        self.oracle.note(None, || format!("client {of} begins session {session}"));
        let connection = self.connect(of).expect("the session has just begun");
        self.plug(of, connection);
        for task in 0..TASKS {
            let ms = self.random.below(50);
            self.wake(of, task, ms);
        }
        Ok(())
    }

    /// A connection at the host, unless the session is over.
    fn connect(&mut self, of: usize) -> Option<usize> {
        let session = self.clients[of].session;
        let lane = self.host.lane(session)?;
        self.connections.push(Connection {
            client: of,
            session,
            lane: Some(lane),
            is_plugged: false,
            was_plugged: false,
            is_silent: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            seen: Vec::new(),
            up_at_ms: 0,
            down_at_ms: 0,
            left: None,
            held_until_ms: 0,
        });
        Some(self.connections.len() - 1)
    }

    fn plug(&mut self, of: usize, connection: usize) {
        self.connections[connection].is_plugged = true;
        self.connections[connection].was_plugged = true;
        for _ in 0..self.connections[connection].down.len() {
            self.after(0, Moment::Down(connection));
        }
        self.clients[of].connection = Some(connection);
        self.after(TICK_MS, Moment::Tick { client: of, connection });
        self.send(of);
    }

    /// A connection is lost, as the client sees it. What it had sent may arrive yet.
    fn cut(&mut self, of: usize) {
        let Some(at) = self.clients[of].connection.take() else { return };
        self.oracle.note(None, || format!("client {of} loses connection {at}"));
        let is_late = self.random.percent(self.troubles.late);
        let late_ms = if is_late { self.random.pick(&[10, 100, 1_000]) } else { 0 };
        let (left, lost_ms) = (self.random.below(4), self.random.pick(&[0, 20, 300, 2_000]));
        let connection = &mut self.connections[at];
        connection.is_plugged = false;
        connection.left = Some(if is_late && !connection.is_silent { left as usize } else { 0 });
        connection.held_until_ms = self.now_ms + late_ms;
        let lost_ms = if is_late { late_ms + lost_ms } else { lost_ms };
        self.after(lost_ms, Moment::Lost(at));
        let client = &mut self.clients[of];
        client.core.unplugged();
        client.out.clear();
        if client.life == Life::Lives {
            client.is_dialling = true;
            let incarnation = client.incarnation;
            let ms = self.random.pick(&[0, 0, 10, 200, 1_000]);
            // Nothing is wrong with the auditor's network.
            let ms = if of == AUDITOR { 0 } else { ms };
            self.after(ms, Moment::Dial { client: of, incarnation });
        }
    }

    fn dial(&mut self, of: usize, incarnation: u64) -> Verdict {
        let now_ms = self.now_ms;
        let client = &self.clients[of];
        if client.incarnation != incarnation || client.life != Life::Lives || client.connection.is_some() {
            return Ok(());
        }
        let since_ms = client.clock_ms(now_ms);
        let ms = if of == AUDITOR { 0 } else { self.delay() };
        if of != AUDITOR && self.is_troubled() && self.random.percent(20) {
            self.after(100 + ms, Moment::Dial { client: of, incarnation });
        } else {
            self.after(ms, Moment::Resume { client: of, incarnation, since_ms });
        }
        Ok(())
    }

    fn resume(&mut self, of: usize, incarnation: u64, since_ms: u64) -> Verdict {
        if self.clients[of].incarnation != incarnation {
            return Ok(());
        }
        let is_held = self.host.resume(self.clients[of].session);
        let connection = if is_held { self.connect(of) } else { None };
        let ms = if of == AUDITOR { 0 } else { self.delay() };
        if of != AUDITOR && self.is_troubled() && self.random.percent(15) {
            // The welcome is lost on its way.
            if let Some(connection) = connection {
                self.after(500, Moment::Lost(connection));
            }
            self.after(100 + ms, Moment::Dial { client: of, incarnation });
        } else {
            self.after(ms, Moment::Welcome { client: of, incarnation, since_ms, connection });
        }
        Ok(())
    }

    fn welcome(&mut self, of: usize, incarnation: u64, since_ms: u64, connection: Option<usize>) -> Verdict {
        let client = &mut self.clients[of];
        if client.incarnation != incarnation || client.life != Life::Lives {
            return Ok(());
        }
        let Some(connection) = connection else { return self.over(of, "the session has ended") };
        client.is_dialling = false;
        client.out.clear();
        client.core.resume(since_ms, &mut client.out);
        self.oracle.note(None, || format!("client {of} resumes on connection {connection}"));
        self.plug(of, connection);
        Ok(())
    }

    /// A client learns that its session is over. After a while somebody else comes.
    fn over(&mut self, of: usize, cause: &str) -> Verdict {
        let client = &mut self.clients[of];
        if client.life != Life::Lives {
            return Ok(());
        }
        client.core.end(cause);
        client.life = Life::Over;
        let session = client.session;
        self.oracle.note(None, || format!("client {of} is told that session {session} is over: {cause}"));
        if !self.oracle.is_ended(session) {
            return Err(self.oracle.complain(None, format!("client {of} was told that its living session is over")));
        }
        if of == AUDITOR {
            return Err(self.oracle.complain(None, "the auditor's session has ended, with which nothing was wrong"));
        }
        self.cut(of);
        let client = &mut self.clients[of];
        for task in &mut client.tasks {
            // Whoever waits learns of it, and nobody believes in what it held.
            if let Some(wait) = task.wait.take()
                && !matches!(client.core.fetch(wait.seq), Some(Ok(_) | Err(_)))
            {
                let what = format!("call {session}:{} has no end although its session has", wait.seq);
                return Err(self.oracle.complain(Some(wait.ident), what));
            }
            task.held.clear();
        }
        self.replace(of);
        Ok(())
    }

    fn replace(&mut self, of: usize) {
        let ms = self.random.between(10, 3_000);
        self.after(ms, Moment::Join { client: of });
    }

    fn trouble(&mut self) -> Verdict {
        if !self.is_troubled() {
            for client in &mut self.clients {
                client.frozen_until_ms = client.frozen_until_ms.min(self.now_ms);
            }
            self.host_paused_until_ms = self.host_paused_until_ms.min(self.now_ms);
            for connection in &mut self.connections {
                connection.is_silent &= connection.is_plugged;
            }
            return Ok(());
        }
        let every_ms = self.troubles.every_ms;
        let ms = self.random.between(1, 2 * every_ms);
        self.after(ms, Moment::Trouble);
        let of = self.random.between(1, self.clients.len() as u64 - 1) as usize;
        let lives = self.clients[of].life == Life::Lives;
        let drawn = self.random.below(100);
        let Troubles { cut, silence, freeze, death, goodbye, pause, .. } = self.troubles;
        let mut until = 0;
        let mut is = |share: u64| {
            until += share;
            until > drawn && until - share <= drawn
        };
        if is(pause) {
            if self.random.percent(30) {
                let ms = self.random.pick(&[100, 500, 4_000]);
                self.oracle.note(None, || format!("the host stops for {ms} ms"));
                self.host_paused_until_ms = self.host_paused_until_ms.max(self.now_ms + ms);
            }
        } else if !lives {
        } else if is(cut) {
            self.cut(of);
        } else if is(silence) {
            if let Some(connection) = self.clients[of].connection {
                self.oracle.note(None, || format!("client {of} hears and says nothing more"));
                self.connections[connection].is_silent = true;
            }
        } else if is(freeze) {
            let ms = self.random.pick(&[200, 1_000, LEASE_MS, 2 * LEASE_MS]);
            self.oracle.note(None, || format!("client {of} stops for {ms} ms"));
            self.clients[of].frozen_until_ms = self.now_ms + ms;
        } else if is(death) {
            self.oracle.note(None, || format!("client {of} dies"));
            self.clients[of].life = Life::Over;
            self.cut(of);
            self.clients[of].tasks.iter_mut().for_each(|task| task.held.clear());
            self.replace(of);
        } else if is(goodbye) {
            self.say_goodbye(of)?;
        }
        Ok(())
    }

    /// A client leaves in good order, unless it has permits, which CPython leaves ownerless then.
    fn say_goodbye(&mut self, of: usize) -> Verdict {
        let client = &mut self.clients[of];
        let has_permits = client.tasks.iter().any(|task| task.held.iter().any(|held| !held.is_lock));
        if client.connection.is_none() || has_permits {
            return Ok(());
        }
        self.oracle.note(None, || format!("client {of} says goodbye"));
        client.core.put_owed(&mut client.out);
        steward_wire::frame::ClientFrame::Goodbye.put(None, &mut client.out);
        self.send(of);
        let client = &mut self.clients[of];
        client.life = Life::Over;
        client.tasks.iter_mut().for_each(|task| task.held.clear());
        // The connection stays until the host ends it.
        if let Some(connection) = client.connection.take() {
            self.connections[connection].is_plugged = false;
        }
        self.replace(of);
        Ok(())
    }

    fn wake(&mut self, of: usize, task: usize, ms: u64) {
        let incarnation = self.clients[of].incarnation;
        self.clients[of].tasks[task].wakes += 1;
        let wake = self.clients[of].tasks[task].wakes;
        self.after(ms, Moment::Task { client: of, incarnation, task, wake });
    }

    /// A task takes the next step of its plan.
    fn go_on(&mut self, of: usize, task: usize) -> Verdict {
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
                client.tasks[task].wait = Some(Wait { seq, ident: 0, op: None, naming: None, is_make: true });
                self.send(of);
            }
            Op::PutToken(shared) => {
                let Some(own) = self.clients[of].tasks[task].own else {
                    self.wake(of, task, 0);
                    return Ok(());
                };
                let token =
                    steward_wire::Token { typeid: "Value".to_owned(), ident: steward_wire::Ident(own), address: None };
                let (target, method, args) = (Target::Shared(shared), "put", vec![Value::Token(token)]);
                self.clients[of].tasks[task].plan.push_front(Op::DropOwn);
                let op = Op::Call { target, method, args, deadline_ms: None, is_guarded: false };
                return self.take_step(of, task, op);
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
                self.send(of);
                let client = &mut self.clients[of];
                let incarnation = client.incarnation;
                client.tasks[task].wait = Some(Wait { seq, ident, op: Some(op), naming: None, is_make: false });
                if may_park && of != AUDITOR && self.random.percent(self.troubles.abandon) {
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
        client.tasks[task].wait = Some(Wait { seq, ident: 0, op: None, naming: Some(shared), is_make: false });
        self.send(of);
        Ok(())
    }

    fn abandon(&mut self, of: usize, incarnation: u64, task: usize, seq: u64) -> Verdict {
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
    fn look(&mut self, of: usize, task: usize) -> Verdict {
        let client = &mut self.clients[of];
        if client.life != Life::Lives {
            return Ok(());
        }
        let Some(wait) = client.tasks[task].wait.clone() else { return Ok(()) };
        let Some(fetched) = client.core.fetch(wait.seq) else { return Ok(()) };
        let Ok(reply) = fetched else { return Ok(()) };
        client.tasks[task].wait = None;
        let key = (client.session, wait.seq);
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

    /// R1, as clients see it: at most one believes that it holds a lock.
    fn one_believes(&self) -> Verdict {
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
    fn audit(&mut self) -> Verdict {
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
    fn is_settled(&self) -> bool {
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
            && self.connections.iter().all(|connection| connection.up.is_empty() || !connection.is_plugged)
    }

    fn unsettled(&self) -> crate::oracle::Broken {
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
    fn finish(&mut self) -> Verdict {
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
        let sessions: Vec<_> = self.clients.iter().map(|client| client.session).collect();
        for session in sessions {
            let is_orderly = self.random.percent(50);
            self.host.end(session, is_orderly);
        }
        while self.host.work_once() {}
        // Tokens in queues keep their objects, and the queues have names.
        self.now_ms += 60_000;
        self.host.set_ms(1_000_000 + self.now_ms);
        self.host.tick_due();
        self.host.sweep(0);
        while self.host.work_once() {}
        self.oracle.happened(events())?;
        self.oracle.quiet()?;
        let counters = self.host.counters();
        let mut tokens = std::collections::BTreeSet::new();
        for &ident in self.idents.values() {
            if let Some(Model::Queue(queue)) = self.oracle.model(ident) {
                tokens.extend(queue.items.values().filter_map(|item| match item {
                    Value::Token(token) => Some(token.ident.0),
                    _ => None,
                }));
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
