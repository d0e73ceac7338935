//! A UDP proxy that does to packets what bad networks do, as a seed tells.
//!
//! It stands between QUIC clients and a host, on loopback. Each packet's lot is drawn from a seeded generator, one for
//! each direction, so that the same packets in the same order fare the same. It looks into no packet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{SendFlags, sendto};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

/// Packets that are held back at once; further ones are dropped, as by a router whose queue is full.
const HELD_PACKETS_MAX: usize = 4_096;
/// Client addresses that are known at once. Another one takes the place of the one that was silent longest.
const FLOWS_MAX: usize = 16;
/// Largest UDP packet.
const PACKET_BYTES_MAX: usize = 65_535;
/// How long a reordered packet is held back, at most; others overtake it meanwhile.
const REORDER_MAX: Duration = Duration::from_millis(10);

/// What befalls the packets of one direction. Shares lie between 0 and 1, and each packet draws for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Share that is lost.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplication: f64,
    /// Share that is held back, up to 10 ms, so that others overtake it.
    pub reordering: f64,
    /// Share of which one bit arrives changed.
    pub bit_flips: f64,
    /// How long every packet takes.
    pub delay: Duration,
    /// How much longer it may take; each packet draws.
    pub jitter: Duration,
    /// All are lost.
    pub blackout: bool,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// From clients.
    pub to_host: Link,
    /// From the host.
    pub to_client: Link,
}

impl Settings {
    /// The same for both directions.
    pub fn both(link: Link) -> Self {
        Self { to_host: link, to_client: link }
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lot {
    /// It never arrives.
    pub is_lost: bool,
    /// When it arrives.
    pub delay: Duration,
    /// It is held back beyond the link's own delay.
    pub is_reordered: bool,
    /// When it arrives for the second time, if it does.
    pub again: Option<Duration>,
    /// The bit that changes, if one does, as a share of its length.
    pub flip: Option<f64>,
}

/// Draws lots: the seeded part, without I/O and clock.
#[derive(Clone, Debug)]
pub struct Lots(fastrand::Rng);

impl Lots {
    /// The sequence of lots that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The next packet's lot.
    ///
    /// As many numbers are drawn for each packet whatever the link, so that a setting changes only what it is about.
    pub fn draw(&mut self, link: &Link) -> Lot {
        let mut hits = |share: f64| self.0.f64() < share;
        let (lost, twice) = (hits(link.loss), hits(link.duplication));
        let (is_reordered, flipped) = (hits(link.reordering), hits(link.bit_flips));
        let mut share = |of: Duration| of.mul_f64(self.0.f64());
        let (jitter, jitter_again, held_back) = (share(link.jitter), share(link.jitter), share(REORDER_MAX));
        let bit = self.0.f64();
        Lot {
            is_lost: lost || link.blackout,
            delay: link.delay + jitter + if is_reordered { held_back } else { Duration::ZERO },
            is_reordered,
            again: twice.then_some(link.delay + jitter_again),
            flip: flipped.then_some(bit),
        }
    }
}

/// What a proxy has done, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed on, copies included.
    pub forwarded: u64,
    /// Lost by lot.
    pub lost: u64,
    /// Lost in a blackout.
    pub blacked_out: u64,
    /// Passed on twice.
    pub duplicated: u64,
    /// Held back so that others may overtake.
    pub reordered: u64,
    /// Changed.
    pub flipped: u64,
    /// Passed on later than they came.
    pub delayed: u64,
    /// Dropped since too many were held, or a socket took no more.
    pub overflowed: u64,
    /// Source addresses that were given up for new ones.
    pub moved: u64,
}

/// What the handle and the task share.
#[derive(Debug, Default)]
struct Shared {
    /// Changed by the handle.
    settings: Settings,
    /// How often the clients' addresses are to have changed; raised by the handle.
    moves: u64,
    /// Changed by the task.
    counts: Counts,
}

/// A running proxy. It ends when this is dropped.
#[derive(Debug)]
pub struct UdpProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<Infallible>,
}

impl UdpProxy {
    /// Starts a proxy to `host` at a free port of this machine, on the runtime that this is called on. It changes nothing
    /// until it is told to.
    ///
    /// # Errors
    /// If no socket is to be had.
    pub fn start(seed: u64, host: SocketAddr) -> io::Result<Self> {
        let listener = socket()?;
        let address = listener.local_addr()?;
        let shared = Arc::<Mutex<Shared>>::default();
        let mut path = Path {
            host,
            listener,
            flows: Vec::new(),
            flow_next: 0,
            held: BTreeMap::new(),
            held_next: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            moves: 0,
            // The directions draw apart: how their packets interleave is up to the scheduler.
            lots: [Lots::new(seed), Lots::new(!seed)],
            shared: Arc::clone(&shared),
            buffer: vec![0; PACKET_BYTES_MAX],
        };
        let task = tokio::spawn(async move { poll_fn(|cx| path.poll(cx)).await });
        Ok(Self { address, shared, task })
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what befalls packets that arrive from now on.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// Gives every client a new source address, as one that roams or whose router forgets it: the host goes on hearing
    /// from it, but from elsewhere, and what it sends to the old address is lost.
    pub fn move_addresses(&self) {
        // It is done when the next packet comes: until then nobody could tell.
        self.shared.lock().moves += 1;
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// A client's address, and the socket that stands for it at the host.
struct Flow {
    number: u64,
    client: SocketAddr,
    upstream: UdpSocket,
    heard_at: Instant,
}

#[derive(Clone, Copy)]
enum Direction {
    ToHost = 0,
    ToClient = 1,
}

/// A packet that is held back.
struct Held {
    direction: Direction,
    flow: u64,
    bytes: Vec<u8>,
}

/// What the task owns.
struct Path {
    host: SocketAddr,
    listener: UdpSocket,
    flows: Vec<Flow>,
    flow_next: u64,
    /// By when they are due, and in order of arrival.
    held: BTreeMap<(Instant, u64), Held>,
    held_next: u64,
    timer: Pin<Box<Sleep>>,
    /// How often the addresses have changed.
    moves: u64,
    /// By [`Direction`].
    lots: [Lots; 2],
    shared: Arc<Mutex<Shared>>,
    buffer: Vec<u8>,
}

impl Path {
    /// For ever: takes packets and deals with each in one go.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        self.move_flows();
        // Errors on sockets are a peer's absence (ICMP), which is a loss like any other.
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let mut is_idle = true;
            let mut packet = ReadBuf::new(&mut buffer);
            if let Poll::Ready(received) = self.listener.poll_recv_from(cx, &mut packet) {
                is_idle = false;
                if let Ok(client) = received
                    && let Some(flow) = self.flow(client)
                {
                    self.pass(Direction::ToHost, flow, packet.filled());
                }
            }
            for place in 0..self.flows.len() {
                let mut packet = ReadBuf::new(&mut buffer);
                let flow = &self.flows[place];
                if let Poll::Ready(received) = flow.upstream.poll_recv_from(cx, &mut packet) {
                    is_idle = false;
                    if received.is_ok_and(|from| from == self.host) {
                        self.pass(Direction::ToClient, flow.number, packet.filled());
                    }
                }
            }
            self.buffer = buffer;
            is_idle &= self.poll_held(cx).is_pending();
            if is_idle {
                return Poll::Pending;
            }
        }
    }

    fn move_flows(&mut self) {
        let mut shared = self.shared.lock();
        if shared.moves == self.moves {
            return;
        }
        self.moves = shared.moves;
        for flow in &mut self.flows {
            // Without a free socket the client stays where it is.
            if let Ok(upstream) = socket() {
                flow.upstream = upstream;
                shared.counts.moved += 1;
            }
        }
    }

    /// Sends what is due. Ready if the timer has to be asked again.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= now
        {
            let Held { direction, flow, bytes } = first.remove();
            self.send(direction, flow, &bytes);
        }
        match self.held.first_key_value() {
            None => Poll::Pending,
            Some((&(due, _), _)) => {
                if self.timer.deadline() != due {
                    self.timer.as_mut().reset(due);
                }
                self.timer.as_mut().poll(cx)
            }
        }
    }

    /// The flow of a client's address, a new one if need be; `None` if there is no socket for it.
    fn flow(&mut self, client: SocketAddr) -> Option<u64> {
        let now = Instant::now();
        if let Some(flow) = self.flows.iter_mut().find(|flow| flow.client == client) {
            flow.heard_at = now;
            return Some(flow.number);
        }
        let upstream = socket().ok()?;
        if self.flows.len() >= FLOWS_MAX {
            let silent = (0..self.flows.len()).min_by_key(|&place| self.flows[place].heard_at)?;
            self.flows.swap_remove(silent);
        }
        self.flow_next += 1;
        self.flows.push(Flow { number: self.flow_next, client, upstream, heard_at: now });
        Some(self.flow_next)
    }

    /// Deals with a packet as its lot says.
    fn pass(&mut self, direction: Direction, flow: u64, packet: &[u8]) {
        let lot = {
            let Shared { settings, counts, .. } = &mut *self.shared.lock();
            let link = match direction {
                Direction::ToHost => settings.to_host,
                Direction::ToClient => settings.to_client,
            };
            let lot = self.lots[direction as usize].draw(&link);
            match lot.is_lost {
                true if link.blackout => counts.blacked_out += 1,
                true => counts.lost += 1,
                false => {
                    counts.duplicated += u64::from(lot.again.is_some());
                    counts.reordered += u64::from(lot.is_reordered);
                    counts.flipped += u64::from(lot.flip.is_some());
                    counts.delayed += u64::from(!lot.delay.is_zero());
                }
            }
            lot
        };
        if lot.is_lost {
            return;
        }
        let mut bytes = packet.to_vec();
        if let Some(share) = lot.flip
            && !bytes.is_empty()
        {
            let bit = ((bytes.len() * 8) as f64 * share) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        self.send_after(lot.delay, direction, flow, bytes);
        if let Some(again) = lot.again {
            self.send_after(again, direction, flow, packet.to_vec());
        }
    }

    fn send_after(&mut self, delay: Duration, direction: Direction, flow: u64, bytes: Vec<u8>) {
        if delay.is_zero() {
            return self.send(direction, flow, &bytes);
        }
        if self.held.len() >= HELD_PACKETS_MAX {
            self.shared.lock().counts.overflowed += 1;
            return;
        }
        self.held_next += 1;
        self.held.insert((Instant::now() + delay, self.held_next), Held { direction, flow, bytes });
    }

    fn send(&mut self, direction: Direction, flow: u64, bytes: &[u8]) {
        // A flow that made way for another takes its packets with it.
        let Some(flow) = self.flows.iter().find(|known| known.number == flow) else { return };
        let (socket, to) = match direction {
            Direction::ToHost => (&flow.upstream, self.host),
            Direction::ToClient => (&self.listener, flow.client),
        };
        // Not tokio's `try_send_to`, which refuses until its reactor has seen a new socket.
        let sent = sendto(socket, bytes, SendFlags::DONTWAIT, &to);
        let counts = &mut self.shared.lock().counts;
        match sent {
            Ok(_) => counts.forwarded += 1,
            Err(_) => counts.overflowed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn lossy(loss: f64) -> Link {
        Link { loss, ..Link::default() }
    }

    #[test]
    fn same_seed_draws_the_same_lots() {
        let link = Link {
            loss: 0.2,
            duplication: 0.2,
            reordering: 0.2,
            bit_flips: 0.2,
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(2),
            blackout: false,
        };
        let draw = |seed| {
            let mut lots = Lots::new(seed);
            std::iter::repeat_with(|| lots.draw(&link)).take(500).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let lost = draw(7).iter().filter(|lot| lot.is_lost).count();
        assert!((50..150).contains(&lost), "about a fifth of 500 packets, not {lost}");
    }

    #[test]
    fn one_setting_does_not_change_what_another_does() {
        let (mut plain, mut twice) = (Lots::new(1), Lots::new(1));
        let duplicating = Link { duplication: 0.5, ..lossy(0.3) };
        for _ in 0..500 {
            assert_eq!(plain.draw(&lossy(0.3)).is_lost, twice.draw(&duplicating).is_lost);
        }
    }

    /// A client, a host that only listens, and the proxy between them.
    struct Wire {
        proxy: UdpProxy,
        client: UdpSocket,
        host: UdpSocket,
    }

    impl Wire {
        async fn new(seed: u64) -> Self {
            let (host, client) = (socket().unwrap(), socket().unwrap());
            let proxy = UdpProxy::start(seed, host.local_addr().unwrap()).unwrap();
            client.connect(proxy.address()).await.unwrap();
            Self { proxy, client, host }
        }

        async fn receive(&self) -> (Vec<u8>, SocketAddr) {
            let mut bytes = [0; 64];
            let received = tokio::time::timeout(PATIENCE, self.host.recv_from(&mut bytes)).await;
            let (length, from) = received.expect("the packet comes").unwrap();
            (bytes[..length].to_vec(), from)
        }

        /// Sends numbered packets under `link`, then a last one without faults, and gives those that arrived before it.
        async fn arrived(&self, link: Link, packets: u8) -> Vec<Vec<u8>> {
            self.proxy.change(|settings| settings.to_host = link);
            let before = self.dealt_with();
            for number in 0..packets {
                self.client.send(&[number, 0x55, 0x55]).await.unwrap();
            }
            while self.dealt_with() < before + u64::from(packets) {
                tokio::task::yield_now().await;
            }
            self.proxy.change(|settings| settings.to_host = Link::default());
            self.client.send(b"last").await.unwrap();
            let mut arrived = Vec::new();
            loop {
                match self.receive().await.0 {
                    last if last == b"last" => return arrived,
                    packet => arrived.push(packet),
                }
            }
        }

        fn dealt_with(&self) -> u64 {
            let counts = self.proxy.counts();
            assert_eq!(counts.overflowed, 0);
            counts.forwarded - counts.duplicated + counts.lost + counts.blacked_out
        }
    }

    #[tokio::test]
    async fn same_seed_drops_the_same_packets() {
        let first = Wire::new(3).await.arrived(lossy(0.3), 200).await;
        assert_eq!(first, Wire::new(3).await.arrived(lossy(0.3), 200).await);
        assert!((100..180).contains(&first.len()), "about seven tenths of 200 packets, not {}", first.len());
        assert_ne!(first, Wire::new(4).await.arrived(lossy(0.3), 200).await);
    }

    #[tokio::test]
    async fn blackout_loses_all_and_ends() {
        let wire = Wire::new(0).await;
        let blackout = Link { blackout: true, ..Link::default() };
        assert_eq!(wire.arrived(blackout, 50).await, Vec::<Vec<u8>>::new());
        assert_eq!(wire.arrived(Link::default(), 50).await.len(), 50);
        assert_eq!(wire.proxy.counts().blacked_out, 50);
    }

    #[tokio::test]
    async fn packets_come_twice_and_with_one_wrong_bit() {
        let wire = Wire::new(0).await;
        let twice = wire.arrived(Link { duplication: 1.0, ..Link::default() }, 20).await;
        assert_eq!(twice, (0..40).map(|packet| vec![packet / 2, 0x55, 0x55]).collect::<Vec<_>>());

        let changed = wire.arrived(Link { bit_flips: 1.0, ..Link::default() }, 20).await;
        for (number, packet) in (0..).zip(changed) {
            let differing: u32 = packet.iter().zip([number, 0x55, 0x55]).map(|(is, was)| (is ^ was).count_ones()).sum();
            assert_eq!(differing, 1, "packet {number} came as {packet:x?}");
        }
    }

    #[tokio::test]
    async fn reordered_packets_all_come_but_in_another_order() {
        let wire = Wire::new(0).await;
        wire.proxy.change(|settings| settings.to_host.reordering = 0.5);
        let sent: Vec<_> = (0..100).map(|number| vec![number]).collect();
        for packet in &sent {
            wire.client.send(packet).await.unwrap();
        }
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.push(wire.receive().await.0);
        }
        assert_ne!(received, sent);
        received.sort();
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn moved_client_is_heard_from_another_address_and_hears() {
        let wire = Wire::new(0).await;
        wire.client.send(b"here").await.unwrap();
        let (_, before) = wire.receive().await;
        wire.proxy.move_addresses();
        wire.client.send(b"there").await.unwrap();
        let (packet, after) = wire.receive().await;
        assert_eq!(packet, b"there");
        assert_ne!(before, after);
        wire.host.send_to(b"answer", after).await.unwrap();
        let mut answer = [0; 16];
        let received = tokio::time::timeout(PATIENCE, wire.client.recv(&mut answer)).await;
        assert_eq!(&answer[..received.expect("the answer comes").unwrap()], b"answer");
        assert_eq!(wire.proxy.counts().moved, 1);
    }

    #[tokio::test]
    async fn clients_of_one_proxy_stay_apart() {
        let wire = Wire::new(0).await;
        let other = socket().unwrap();
        other.connect(wire.proxy.address()).await.unwrap();
        wire.client.send(b"one").await.unwrap();
        let (_, one) = wire.receive().await;
        other.send(b"other").await.unwrap();
        let (_, another) = wire.receive().await;
        assert_ne!(one, another);
        wire.host.send_to(b"to the other", another).await.unwrap();
        let mut answer = [0; 16];
        let received = tokio::time::timeout(PATIENCE, other.recv(&mut answer)).await;
        assert_eq!(&answer[..received.expect("the answer comes").unwrap()], b"to the other");
    }
}
