//! Connections and what travels by them: delayed, cut, lost, made again; and the processes at their ends.

use std::collections::VecDeque;

use steward_client::sim::Session;
use steward_wire::frame::{self, LENGTH_BYTES};

use super::{AUDITOR, Connection, LEASE_MS, Moment, OWED_MS, TASKS, TICK_MS, World};
use crate::client::Life;
use crate::oracle::Verdict;

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

    pub(super) fn up(&mut self, at: usize) -> Verdict {
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

    pub(super) fn down(&mut self, at: usize) -> Verdict {
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
        for piece in self.pieces(bytes) {
            let ms = self.delay();
            let at_ms = self.connections[at].up_at_ms.max(self.now_ms + ms);
            self.connections[at].up_at_ms = at_ms;
            self.connections[at].up.push_back(piece);
            self.at(at_ms, Moment::Up(at));
        }
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

    pub(super) fn welcome(&mut self, of: usize, incarnation: u64, since_ms: u64, connection: Option<usize>) -> Verdict {
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

    pub(super) fn replace(&mut self, of: usize) {
        let ms = self.random.between(10, 3_000);
        self.after(ms, Moment::Join { client: of });
    }
}
