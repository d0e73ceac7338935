//! One run: a host, its clients, the network between them, and what goes wrong.
//!
//! Everything happens in one thread, in the order of a queue of moments; moments of the same millisecond follow in the order in
//! which they were foreseen. Whatever has a choice asks the seed.

mod audit;
mod network;
mod tasks;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steward_client::sim::{Received, Session};
use steward_host::sim::{Host, Lane, Secret, events};
use steward_host::{Limits, Registration, Source};

use crate::client::{Client, Life, Task};
use crate::oracle::{Oracle, Verdict};
use crate::random::Random;
use crate::script::Script;

/// How long a silent session lives here.
pub(crate) const LEASE_MS: u64 = 3_000;
const SWEEP_MS: u64 = 500;
const TICK_MS: u64 = LEASE_MS / 4;
/// What the client's lane takes as well.
const OWED_MS: u64 = 5;
const TASKS: usize = 3;
/// Larger frames go on streams of their own.
const BULK_BYTES_MIN: usize = 512;
/// The stream of a connection that is its lane.
const MAIN: u64 = 0;
/// Forks that become clients.
const FORKS_MAX: usize = 2;
/// Everything is set right from then on.
const TROUBLE_MS: u64 = 11_000;
/// By then everybody must have had every answer.
const SETTLED_MS: u64 = TROUBLE_MS + 120_000;
/// The client that nothing happens to, and that sets right what waits at the end.
const AUDITOR: usize = 0;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Moment {
    /// Bytes reach the host, by a stream of a connection.
    Up(usize, u64),
    /// Bytes reach a client.
    Down(usize, u64),
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
    /// The frame of a large call is made.
    Made {
        client: usize,
        incarnation: u64,
        seq: u64,
    },
    /// The frame of a large call is sent, by whichever connection there is.
    Alone {
        client: usize,
        incarnation: u64,
        seq: u64,
        frame: Vec<u8>,
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
        welcomed: Option<(usize, Secret)>,
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

/// One ordered stream of bytes in each direction.
#[derive(Default)]
struct Stream {
    /// The host's end. A large reply comes by a stream that has none.
    lane: Option<Lane>,
    /// A client has opened it, and the host has seen nothing of it yet.
    unseen: bool,
    /// The large call that it is for, if it is reset with that.
    seq: Option<u64>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// What the oracle has not seen whole.
    seen: Vec<u8>,
    received: Received,
    up_at_ms: u64,
    down_at_ms: u64,
}

struct Connection {
    client: usize,
    session: u64,
    /// By number; [`MAIN`] is the lane.
    streams: BTreeMap<u64, Stream>,
    stream_last: u64,
    /// The client uses it.
    is_plugged: bool,
    /// The client has used it; what the host says before waits behind its welcome.
    was_plugged: bool,
    /// Nothing arrives any more, and nobody is told.
    is_silent: bool,
    /// The host knows that it is lost.
    is_lost: bool,
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
    /// Those that the host does not know to be lost, in their order.
    live: Vec<usize>,
    script: Script,
    troubles: Troubles,
    /// Idents of the shared objects, by place.
    idents: BTreeMap<usize, u64>,
    /// All sessions.
    begun: Vec<u64>,
    /// Forks that have become clients.
    forks: usize,
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
        let limits =
            Limits { lease_ms: LEASE_MS, token_grace_ms: 1_000, bulk_bytes_min: BULK_BYTES_MIN, ..Limits::shared() };
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
            live: Vec::new(),
            script,
            troubles,
            idents: BTreeMap::new(),
            begun: Vec::new(),
            forks: 0,
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
            secret: [0; 32],
            inherited: None,
            is_fork: false,
            core: Session::new(LEASE_MS, BULK_BYTES_MIN, 0),
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
            given_up: BTreeSet::new(),
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
            Moment::Up(..)
            | Moment::Resume { .. }
            | Moment::Lost(_)
            | Moment::Sweep { .. }
            | Moment::Alarm
            | Moment::Pool => self.host_paused_until_ms,
            Moment::Down(connection, _) => self.clients[self.connections[*connection].client].frozen_until_ms,
            Moment::Tick { client, .. }
            | Moment::Owed { client, .. }
            | Moment::Task { client, .. }
            | Moment::Made { client, .. }
            | Moment::Alone { client, .. }
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
            Moment::Up(connection, stream) => self.up(connection, stream),
            Moment::Down(connection, stream) => self.down(connection, stream),
            Moment::Tick { client, connection } => self.tick(client, connection),
            Moment::Owed { client, incarnation } => self.owed(client, incarnation),
            Moment::Task { client, incarnation, task, wake } => {
                let is_meant = {
                    let client = &self.clients[client];
                    client.incarnation == incarnation && client.tasks[task].wakes == wake
                };
                if is_meant { self.go_on(client, task) } else { Ok(()) }
            }
            Moment::Made { client, incarnation, seq } => {
                self.made(client, incarnation, seq);
                Ok(())
            }
            Moment::Alone { client, incarnation, seq, frame } => {
                let state = &self.clients[client];
                if state.incarnation == incarnation && !state.given_up.contains(&seq) {
                    self.send_alone(client, Some(seq), frame);
                }
                Ok(())
            }
            Moment::Abandon { client, incarnation, task, seq } => self.abandon(client, incarnation, task, seq),
            Moment::Join { client } => self.join(client),
            Moment::Dial { client, incarnation } => self.dial(client, incarnation),
            Moment::Resume { client, incarnation, since_ms } => self.resume(client, incarnation, since_ms),
            Moment::Welcome { client, incarnation, since_ms, welcomed } => {
                self.welcome(client, incarnation, since_ms, welcomed)
            }
            Moment::Lost(connection) => {
                self.lost(connection);
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
        self.live.retain(|&at| !self.connections[at].is_lost);
        for live in 0..self.live.len() {
            let at = self.live[live];
            let connection = &mut self.connections[at];
            let session = connection.session;
            let mut leaving = Vec::new();
            for (&number, stream) in &mut connection.streams {
                let Some(lane) = &mut stream.lane else { continue };
                let bytes = lane.take();
                if !bytes.is_empty() {
                    leaving.push((Some(number), bytes));
                }
                if number == MAIN {
                    leaving.extend(lane.take_bulk().into_iter().map(|frame| (None, frame)));
                } else if stream.up.is_empty() && lane.is_over() {
                    stream.lane = None;
                }
            }
            for (number, bytes) in leaving {
                self.oracle.leaves(session, &bytes)?;
                let number = number.unwrap_or_else(|| self.connections[at].open(Stream::default()));
                for piece in self.pieces(bytes) {
                    let ms = self.delay();
                    let now_ms = self.now_ms;
                    let stream = self.connections[at].streams.get_mut(&number).expect("it is sent by a stream");
                    let at_ms = stream.down_at_ms.max(now_ms + ms);
                    stream.down_at_ms = at_ms;
                    stream.down.push_back(piece);
                    self.at(at_ms, Moment::Down(at, number));
                }
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
}
