//! Connections and what travels by them: delayed, cut, lost, made again; and the processes at their ends.

use std::collections::BTreeMap;

use steward_client::sim::Session;
use steward_host::sim::{Lane, Secret};
use steward_wire::frame::{self, LENGTH_BYTES};

use super::{
    AUDITOR, BULK_BYTES_MIN, Connection, FORKS_MAX, LEASE_MS, MAIN, Moment, OWED_MS, Stream, TASKS, TICK_MS, World,
};
use crate::client::{Client, Inherited, Life};
use crate::oracle::Verdict;

impl Connection {
    /// A further stream.
    pub(super) fn open(&mut self, stream: Stream) -> u64 {
        self.stream_last += 1;
        self.streams.insert(self.stream_last, stream);
        self.stream_last
    }
}

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        let slow = self.troubles.delay_ms;
        if self.is_troubled() && self.random.percent(3) {
            self.random.below(20 * slow + 1)
        } else {
            self.random.below(slow + 1)
        }
    }

    /// A stream is cut anywhere, frames or not.
    pub(super) fn pieces(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while bytes.len() > 1 && self.random.percent(30) {
            let rest = bytes.split_off(1 + self.random.below(bytes.len() as u64 - 1) as usize);
            pieces.push(std::mem::replace(&mut bytes, rest));
        }
        pieces.push(bytes);
        pieces
    }

    pub(super) fn up(&mut self, at: usize, number: u64) -> Verdict {
        let connection = &mut self.connections[at];
        if connection.held_until_ms > self.now_ms {
            let until_ms = connection.held_until_ms;
            self.at(until_ms, Moment::Up(at, number));
            return Ok(());
        }
        // One that was reset is gone.
        let Some(stream) = connection.streams.get_mut(&number) else { return Ok(()) };
        let Some(piece) = stream.up.pop_front() else { return Ok(()) };
        match &mut connection.left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None if connection.is_silent => return Ok(()),
            None => {}
        }
        if std::mem::take(&mut stream.unseen) {
            let main = connection.streams[&MAIN].lane.as_ref();
            let lane = main.map(Lane::stream);
            connection.streams.get_mut(&number).expect("it was just there").lane = lane;
        }
        let stream = connection.streams.get_mut(&number).expect("it was just there");
        let Some(lane) = &mut stream.lane else { return Ok(()) };
        stream.seen.extend_from_slice(&piece);
        let mut taken = 0;
        while let Some(length) = frame::length(&stream.seen[taken..]) {
            let start = taken + LENGTH_BYTES;
            let Some(body) = stream.seen.get(start..start + length) else { break };
            self.oracle.arrives(connection.session, body);
            taken = start + length;
        }
        stream.seen.drain(..taken);
        if !lane.feed(&piece) {
            let ms = self.random.below(20);
            self.after(ms, Moment::Lost(at));
        }
        self.acted()
    }

    pub(super) fn down(&mut self, at: usize, number: u64) -> Verdict {
        let connection = &mut self.connections[at];
        if !connection.was_plugged {
            return Ok(());
        }
        let Some(stream) = connection.streams.get_mut(&number) else { return Ok(()) };
        let Some(piece) = stream.down.pop_front() else { return Ok(()) };
        if !connection.is_plugged || connection.is_silent {
            return Ok(());
        }
        let of = connection.client;
        let client = &mut self.clients[of];
        let taken = client.core.take_in(&mut stream.received, &piece, Some(&mut client.out));
        if number != MAIN && stream.lane.is_none() && stream.up.is_empty() && stream.down.is_empty() {
            connection.streams.remove(&number);
        }
        match taken {
            Err(error) => return Err(self.oracle.complain(None, format!("client {of}: {error}"))),
            // The lane brings one, too, behind everything else.
            Ok(taken) if taken.goodbye && number == MAIN => self.over(of, "the host says goodbye")?,
            Ok(_) => self.send(of),
        }
        for task in 0..TASKS {
            self.look(of, task)?;
        }
        Ok(())
    }

    /// The host learns that a connection is lost. The tasks of its streams end with the lane's, and some do not come to say so.
    pub(super) fn lost(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.is_lost = true;
        for (&number, stream) in &mut connection.streams {
            stream.up.clear();
            if let Some(mut lane) = stream.lane.take()
                && (number == MAIN || self.random.percent(50))
            {
                lane.lose();
            }
        }
    }

    pub(super) fn made(&mut self, of: usize, incarnation: u64, seq: u64) {
        let client = &mut self.clients[of];
        if client.incarnation == incarnation
            && client.life == Life::Lives
            && let Some(frame) = client.core.make(seq)
        {
            let ms = self.random.pick(&[0, 0, 10, 100]);
            self.after(ms, Moment::Alone { client: of, incarnation, seq, frame });
        }
    }

    /// A large call goes on a stream of its own, if there is a connection; else the next one sends it. `seq`: it is reset if that
    /// call is given up.
    pub(super) fn send_alone(&mut self, of: usize, seq: Option<u64>, frame: Vec<u8>) {
        let Some(at) = self.clients[of].connection else { return };
        let number = self.connections[at].open(Stream { unseen: true, seq, ..Stream::default() });
        self.put_up(at, number, frame);
    }

    /// A large call was given up: if it is being sent, its stream is reset, unless all of it has left.
    pub(super) fn reset(&mut self, of: usize, seq: u64) {
        self.clients[of].given_up.insert(seq);
        let is_sent = self.random.percent(50);
        let Some(at) = self.clients[of].connection.filter(|_| !is_sent) else { return };
        let streams =
            self.connections[at].streams.extract_if(.., |_, stream| stream.seq == Some(seq) && !stream.up.is_empty());
        for (_, mut stream) in streams {
            stream.lane.iter_mut().for_each(Lane::lose);
        }
    }

    fn put_up(&mut self, at: usize, number: u64, bytes: Vec<u8>) {
        for piece in self.pieces(bytes) {
            let ms = self.delay();
            let now_ms = self.now_ms;
            let stream = self.connections[at].streams.get_mut(&number).expect("it is sent by a stream");
            let at_ms = stream.up_at_ms.max(now_ms + ms);
            stream.up_at_ms = at_ms;
            stream.up.push_back(piece);
            self.at(at_ms, Moment::Up(at, number));
        }
    }

    /// Bytes that a client has appended go on their way, and what it owes is foreseen.
    pub(super) fn send(&mut self, of: usize) {
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
        self.put_up(at, MAIN, bytes);
    }

    pub(super) fn owed(&mut self, of: usize, incarnation: u64) -> Verdict {
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

    pub(super) fn tick(&mut self, of: usize, connection: usize) -> Verdict {
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
    pub(super) fn join(&mut self, of: usize) -> Verdict {
        if of != AUDITOR && !self.is_troubled() {
            return Ok(());
        }
        let incarnation = self.clients[of].incarnation + 1;
        let mut client = self.newcomer(of, incarnation);
        (client.session, client.secret) = self.host.begin();
        self.begun.push(client.session);
        client.core = Session::new(LEASE_MS, BULK_BYTES_MIN, client.clock_ms(self.now_ms));
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
        self.live.push(self.connections.len());
        self.connections.push(Connection {
            client: of,
            session,
            streams: BTreeMap::from([(MAIN, Stream { lane: Some(lane), ..Stream::default() })]),
            stream_last: MAIN,
            is_plugged: false,
            was_plugged: false,
            is_silent: false,
            is_lost: false,
            left: None,
            held_until_ms: 0,
        });
        Some(self.connections.len() - 1)
    }

    fn plug(&mut self, of: usize, connection: usize) {
        self.connections[connection].is_plugged = true;
        self.connections[connection].was_plugged = true;
        let waiting = self.connections[connection].streams.iter();
        let waiting: Vec<_> = waiting.flat_map(|(&number, stream)| stream.down.iter().map(move |_| number)).collect();
        for number in waiting {
            self.after(0, Moment::Down(connection, number));
        }
        self.clients[of].connection = Some(connection);
        self.after(TICK_MS, Moment::Tick { client: of, connection });
        self.send(of);
    }

    /// A connection is lost, as the client sees it. What it had sent may arrive yet.
    pub(super) fn cut(&mut self, of: usize) {
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

    pub(super) fn dial(&mut self, of: usize, incarnation: u64) -> Verdict {
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

    pub(super) fn resume(&mut self, of: usize, incarnation: u64, since_ms: u64) -> Verdict {
        if self.clients[of].incarnation != incarnation {
            return Ok(());
        }
        let Client { session, secret, .. } = self.clients[of];
        let is_claim = self.clients[of].inherited.is_some();
        let next = self.host.resume(session, &secret);
        if is_claim && next.is_some() {
            self.begun.push(session);
            self.oracle.claimed(session)?;
            if self.host.resume(session, &secret).is_some() {
                return Err(self.oracle.complain(None, format!("session {session}, a fork, was claimed twice")));
            }
        }
        let connection = if next.is_some() { self.connect(of) } else { None };
        let welcomed = connection.zip(next);
        let ms = if of == AUDITOR { 0 } else { self.delay() };
        if of != AUDITOR && self.is_troubled() && self.random.percent(15) {
            // The welcome is lost on its way.
            if let Some((connection, _)) = welcomed {
                self.after(500, Moment::Lost(connection));
            }
            self.after(100 + ms, Moment::Dial { client: of, incarnation });
        } else {
            self.after(ms, Moment::Welcome { client: of, incarnation, since_ms, welcomed });
        }
        Ok(())
    }

    pub(super) fn welcome(
        &mut self,
        of: usize,
        incarnation: u64,
        since_ms: u64,
        welcomed: Option<(usize, Secret)>,
    ) -> Verdict {
        let client = &mut self.clients[of];
        if client.incarnation != incarnation || client.life != Life::Lives {
            return Ok(());
        }
        let Some((connection, secret)) = welcomed else { return self.over(of, "the session has ended") };
        client.secret = secret;
        client.is_dialling = false;
        client.out.clear();
        if let Some(inherited) = client.inherited.take() {
            client.begin(inherited, Session::new(LEASE_MS, BULK_BYTES_MIN, since_ms));
            self.oracle.note(None, || format!("client {of} begins, a fork, on connection {connection}"));
            self.plug(of, connection);
            for task in 0..TASKS {
                let ms = self.random.below(50);
                self.wake(of, task, ms);
            }
            return Ok(());
        }
        let large = client.core.resume(since_ms, &mut client.out);
        self.oracle.note(None, || format!("client {of} resumes on connection {connection}"));
        self.plug(of, connection);
        for frame in large {
            self.send_alone(of, None, frame);
        }
        Ok(())
    }

    /// A session was forked: whoever is handed the fork begins to sign in with it, or never does.
    pub(super) fn hand_on(&mut self, session: u64, secret: Secret, inherited: Inherited) {
        if self.forks == FORKS_MAX || self.random.percent(20) {
            return;
        }
        self.forks += 1;
        let of = self.clients.len();
        let mut child = self.newcomer(of, 0);
        (child.session, child.secret, child.inherited) = (session, secret, Some(inherited));
        (child.life, child.is_fork, child.is_dialling) = (Life::Lives, true, true);
        self.clients.push(child);
        let ms = self.random.pick(&[0, 10, 500, LEASE_MS, 3 * LEASE_MS]);
        self.after(ms, Moment::Dial { client: of, incarnation: 0 });
    }

    /// A client learns that its session is over. After a while somebody else comes.
    fn over(&mut self, of: usize, cause: &str) -> Verdict {
        let client = &mut self.clients[of];
        if client.life != Life::Lives {
            return Ok(());
        }
        client.core.end(cause);
        client.life = Life::Over;
        let (session, is_unclaimed) = (client.session, client.inherited.is_some());
        self.oracle.note(None, || format!("client {of} is told that session {session} is over: {cause}"));
        // A fork is claimed once, even if the welcome is lost.
        let is_lost_claim = is_unclaimed && self.oracle.is_claimed(session);
        if !self.oracle.is_ended(session) && !is_lost_claim {
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

    pub(super) fn replace(&mut self, of: usize) {
        if self.clients[of].is_fork {
            return;
        }
        let ms = self.random.between(10, 3_000);
        self.after(ms, Moment::Join { client: of });
    }
}
