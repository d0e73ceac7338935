//! What goes wrong, and who leaves in good order.

use super::{LEASE_MS, Moment, Troubles, World};
use crate::client::Life;
use crate::oracle::Verdict;

impl World {
    pub(super) fn trouble(&mut self) -> Verdict {
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
}
