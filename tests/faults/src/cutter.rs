//! A proxy between clients and a host's Unix socket that cuts connections in the midst of what the host sends.
//!
//! A cut is chosen in bytes of one message: some part of it is passed on, then the connection ends on both sides. So the
//! host has done what the client never hears of. Where to cut is drawn from a seeded generator, for each connection as it
//! comes. What the host sent, cut or not, is remembered: a reply that comes again for the same call must be the same.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use steward_wire::auth::{ServerAnswer, Welcome};
use steward_wire::frame::{self, HostFrame, LENGTH_BYTES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Connections at once; a further one waits until another ends.
const CONNECTIONS_MAX: usize = 64;
/// Largest message that is passed on; one that claims to be larger ends its connection.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Replies that are remembered; the oldest are forgotten first.
const REPLIES_MAX: usize = 1 << 20;
/// A connection that is cut in a reply is cut in one of the first so many.
const REPLIES_BEFORE_CUT_MAX: u64 = 8;
/// Share of cuts that fall into the sign-in.
const SIGN_IN_CUTS: f64 = 0.1;

/// What a cutter has done and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients made.
    pub connections: u64,
    /// Connections that were cut within a reply, so that it did not arrive.
    pub cut_replies: u64,
    /// Connections that were cut while signing in.
    pub cut_sign_ins: u64,
    /// Replies that came again.
    pub repeated: u64,
    /// Those of them that were not what the host had sent first. Rightly so for methods that only read, which
    /// read again.
    pub differing: u64,
    /// The first reply that differed, for people.
    pub first_differing: Option<String>,
}

/// What the host sent, by session and seq.
#[derive(Debug, Default)]
struct Sent {
    counts: Counts,
    replies: BTreeMap<(u64, u64), Box<[u8]>>,
}

impl Sent {
    fn reply(&mut self, session: u64, seq: u64, body: &[u8]) {
        let Some(first) = self.replies.get(&(session, seq)) else {
            if self.replies.len() >= REPLIES_MAX {
                self.replies.pop_first();
            }
            self.replies.insert((session, seq), body.into());
            return;
        };
        self.counts.repeated += 1;
        if **first != *body {
            self.counts.differing += 1;
            self.counts.first_differing.get_or_insert_with(|| {
                format!(
                    "session {session}, seq {seq}: {:?}, and again {:?}",
                    HostFrame::read(first),
                    HostFrame::read(body)
                )
            });
        }
    }
}

/// What the handle tells connections.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// Every new connection is to be cut.
    cuts_all: bool,
    /// How many cuts of whatever is open were asked for.
    asked: u64,
}

/// A running cutter. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Cutter {
    path: PathBuf,
    orders: watch::Sender<Orders>,
    sent: Arc<Mutex<Sent>>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Listens at `path`, which must be free, for clients of the host at `host`, on the runtime that this is called on. It
    /// cuts nothing until it is told to.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(seed: u64, path: impl Into<PathBuf>, host: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let listener = UnixListener::bind(&path)?;
        let (orders, told) = watch::channel(Orders::default());
        let sent = Arc::<Mutex<Sent>>::default();
        let task = tokio::spawn(accept(listener, host.into(), Plans::new(seed), told, Arc::clone(&sent)));
        Ok(Self { path, orders, sent, task })
    }

    /// Where clients find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether each new connection is cut, in its sign-in or in one of its first replies.
    pub fn cut_all(&self, cuts_all: bool) {
        self.orders.send_modify(|orders| orders.cuts_all = cuts_all);
    }

    /// Cuts every connection that is open, within the next reply that it carries.
    pub fn cut_open(&self) {
        self.orders.send_modify(|orders| orders.asked += 1);
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.sent.lock().counts.clone()
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        // Its connections belong to it.
        self.task.abort();
    }
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// In the host's message of sign-in of this number, from 0; `share` of its bytes are passed on.
    SignIn {
        /// Which message.
        message: u64,
        /// From 0 to below 1.
        share: f64,
    },
    /// In the reply of this number on the connection, from 0.
    Reply {
        /// Which reply.
        reply: u64,
        /// From 0 to below 1.
        share: f64,
    },
}

/// Draws where connections are cut: the seeded part, without I/O.
#[derive(Clone, Debug)]
pub struct Plans(fastrand::Rng);

impl Plans {
    /// The sequence of cuts that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Where the next connection is cut.
    pub fn draw(&mut self) -> Cut {
        let (kind, share) = (self.0.f64(), self.0.f64());
        let (message, reply) = (self.0.u64(..2), self.0.u64(..REPLIES_BEFORE_CUT_MAX));
        if kind < SIGN_IN_CUTS { Cut::SignIn { message, share } } else { Cut::Reply { reply, share } }
    }
}

async fn accept(
    listener: UnixListener,
    host: PathBuf,
    mut plans: Plans,
    orders: watch::Receiver<Orders>,
    sent: Arc<Mutex<Sent>>,
) {
    // Dropping it ends them.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else { continue };
        // A host that is gone closes what came.
        let Ok(host) = UnixStream::connect(&host).await else { continue };
        sent.lock().counts.connections += 1;
        let plan = plans.draw();
        let asked = orders.borrow().asked;
        let cut = orders.borrow().cuts_all.then_some(plan);
        let share = match plan {
            Cut::SignIn { share, .. } | Cut::Reply { share, .. } => share,
        };
        let ((from_client, to_client), (from_host, to_host)) = (client.into_split(), host.into_split());
        let down = Down {
            from_host,
            received: Vec::new(),
            messages: 0,
            replies: 0,
            session: None,
            cut,
            asked,
            share,
            orders: orders.clone(),
            sent: Arc::clone(&sent),
        };
        connections.spawn(connection(from_client, to_host, down, to_client));
    }
}

/// Serves one connection to its end.
async fn connection(
    mut from_client: OwnedReadHalf,
    mut to_host: OwnedWriteHalf,
    mut down: Down,
    to_client: OwnedWriteHalf,
) {
    tokio::select! {
        // The other direction goes on alone below.
        _ = tokio::io::copy(&mut from_client, &mut to_host) => {}
        // Cut, or the host has closed: what the client still says does not matter.
        () = down.forward(to_client) => {}
    }
    drop(from_client);
    // The host sees the end and closes in turn. Until then it may answer calls that came before.
    let _ = to_host.shutdown().await;
    down.drain().await;
}

/// The host's messages on one connection.
struct Down {
    from_host: OwnedReadHalf,
    received: Vec<u8>,
    /// Of sign-in.
    messages: u64,
    replies: u64,
    /// Once the host has welcomed it.
    session: Option<u64>,
    cut: Option<Cut>,
    /// How many cuts had been asked for when it began.
    asked: u64,
    /// Where a cut that is asked for falls within its message.
    share: f64,
    orders: watch::Receiver<Orders>,
    sent: Arc<Mutex<Sent>>,
}

impl Down {
    /// Passes on what the host sends, until the cut or the end. Dropping the client's half closes it.
    async fn forward(&mut self, mut to_client: OwnedWriteHalf) {
        while let Ok(Some(message)) = self.message().await {
            let passed = match self.look(&message) {
                Some(share) => &message[..(message.len() as f64 * share) as usize],
                None => &message[..],
            };
            let is_cut = passed.len() < message.len();
            if to_client.write_all(passed).await.is_err() || is_cut {
                return;
            }
        }
    }

    /// Takes note of what else the host sends.
    async fn drain(&mut self) {
        while let Ok(Some(message)) = self.message().await {
            self.cut = None;
            self.asked = u64::MAX;
            let _ = self.look(&message);
        }
    }

    /// The next message, its length before it; `None` at the end. Dropping the future loses nothing.
    async fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = frame::length(&self.received) {
                if length > MESSAGE_BYTES_MAX {
                    return Err(io::Error::other(format!("message is {length} bytes, limit is {MESSAGE_BYTES_MAX}")));
                }
                if self.received.len() >= LENGTH_BYTES + length {
                    let rest = self.received.split_off(LENGTH_BYTES + length);
                    return Ok(Some(std::mem::replace(&mut self.received, rest)));
                }
            }
            if self.from_host.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes note of a message, and says how much of it to pass on if it is to be cut.
    fn look(&mut self, message: &[u8]) -> Option<f64> {
        let body = &message[LENGTH_BYTES..];
        let Some(session) = self.session else {
            if let Ok(ServerAnswer::Welcome(welcome)) = ServerAnswer::decode(body) {
                self.session = Welcome::decode(&welcome.body).ok().map(|welcome| welcome.session);
            }
            let here = self.messages;
            self.messages += 1;
            return match self.cut {
                Some(Cut::SignIn { message, share }) if message == here => {
                    self.sent.lock().counts.cut_sign_ins += 1;
                    Some(share)
                }
                _ => None,
            };
        };
        // What is no frame is for the client to refuse.
        let Ok(HostFrame::Reply(reply)) = HostFrame::read(body) else { return None };
        let here = self.replies;
        self.replies += 1;
        let share = match self.cut {
            Some(Cut::Reply { reply, share }) if reply == here => Some(share),
            _ => (self.orders.borrow().asked > self.asked).then_some(self.share),
        };
        let mut sent = self.sent.lock();
        sent.reply(session, reply.seq, body);
        sent.counts.cut_replies += u64::from(share.is_some());
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_the_same_cuts() {
        let draw = |seed| {
            let mut plans = Plans::new(seed);
            std::iter::repeat_with(|| plans.draw()).take(200).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().any(|cut| matches!(cut, Cut::SignIn { .. })));
    }
}
