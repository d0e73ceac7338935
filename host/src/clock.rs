//! The host's clock, and the one thread that wakes what waits for a time.
//!
//! Cells ask to be ticked. A request is a hint: a cell that is ticked early, or twice, looks at its own
//! deadlines and finds nothing due. So requests are not taken back, and a cell asks again only
//! for an earlier time than it asked for before; what became needless is forgotten now and then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::cell::Cell;

/// Milliseconds since 1970 when the host started, counted on from there by the monotonic clock: never goes back.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: u64,
    alarms: Mutex<Alarms>,
    changed: Condvar,
    /// The time, where a simulation advances it.
    #[cfg(feature = "sim")]
    by_hand_ms: Option<std::sync::atomic::AtomicU64>,
}

#[derive(Debug, Default)]
struct Alarms {
    heap: BinaryHeap<Reverse<Alarm>>,
    stopped: bool,
}

#[derive(Debug)]
struct Alarm {
    at_ms: u64,
    cell: Weak<Cell>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms
    }
}
impl Eq for Alarm {}
impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at_ms.cmp(&other.at_ms)
    }
}

/// How long the machine was suspended since it was started: what separates the clock that counts that from the one that
/// does not.
fn suspended_ms() -> u64 {
    let ms = |clock| {
        let now = rustix::time::clock_gettime(clock);
        now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
    };
    ms(rustix::time::ClockId::Boottime).saturating_sub(ms(rustix::time::ClockId::Monotonic))
}

impl Clock {
    pub(crate) fn new() -> Self {
        let started_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self {
            started: Instant::now(),
            started_ms,
            alarms: Mutex::default(),
            changed: Condvar::new(),
            #[cfg(feature = "sim")]
            by_hand_ms: None,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        #[cfg(feature = "sim")]
        if let Some(now_ms) = &self.by_hand_ms {
            return now_ms.load(std::sync::atomic::Ordering::Relaxed);
        }
        self.started_ms + self.started.elapsed().as_millis() as u64
    }

    /// When a wait of `ms` that begins now is over: at once if it is 0, otherwise never too early, although [`Clock::now_ms`]
    /// has dropped what this millisecond is past its start.
    pub(crate) fn deadline_ms(&self, ms: u64) -> u64 {
        self.now_ms().saturating_add(ms).saturating_add(u64::from(ms > 0))
    }

    /// Asks for `cell` to be ticked at `at_ms`.
    pub(crate) fn alarm(&self, at_ms: u64, cell: &Arc<Cell>) {
        let mut alarms = self.alarms.lock();
        let first = alarms.heap.peek().is_none_or(|Reverse(first)| at_ms < first.at_ms);
        alarms.heap.push(Reverse(Alarm { at_ms, cell: Arc::downgrade(cell) }));
        if first {
            self.changed.notify_one();
        }
    }

    /// Ticks cells, and calls `sweep` every `sweep_ms`, until [`Clock::stop`]. `sweep` gets the time and how late it
    /// is: much, if the host itself was paused, or its machine suspended, which the clock does not count.
    pub(crate) fn run(&self, sweep_ms: u64, mut sweep: impl FnMut(u64, u64)) {
        let mut sweep_at_ms = self.now_ms() + sweep_ms;
        let mut suspended_before_ms = suspended_ms();
        let mut due = Vec::new();
        loop {
            {
                let mut alarms = self.alarms.lock();
                if alarms.stopped {
                    return;
                }
                let now_ms = self.now_ms();
                while alarms.heap.peek().is_some_and(|Reverse(first)| first.at_ms <= now_ms) {
                    due.extend(alarms.heap.pop().and_then(|Reverse(alarm)| alarm.cell.upgrade()));
                }
                if due.is_empty() && now_ms < sweep_at_ms {
                    let next_ms = alarms.heap.peek().map_or(sweep_at_ms, |Reverse(first)| first.at_ms.min(sweep_at_ms));
                    let until = self.started + Duration::from_millis(next_ms - self.started_ms);
                    self.changed.wait_until(&mut alarms, until);
                    continue;
                }
            }
            for cell in due.drain(..) {
                cell.tick();
            }
            let now_ms = self.now_ms();
            if now_ms >= sweep_at_ms {
                let suspended_now_ms = suspended_ms();
                let missed_ms = suspended_now_ms.saturating_sub(suspended_before_ms);
                suspended_before_ms = suspended_now_ms;
                sweep(now_ms, now_ms - sweep_at_ms + missed_ms);
                sweep_at_ms = self.now_ms() + sweep_ms;
            }
        }
    }

    /// How many alarms there are for cells that `counts`.
    pub(crate) fn alarms(&self, counts: impl Fn(&Cell) -> bool) -> usize {
        let cells: Vec<_> = self.alarms.lock().heap.iter().filter_map(|Reverse(alarm)| alarm.cell.upgrade()).collect();
        cells.iter().filter(|cell| counts(cell)).count()
    }

    /// Forgets alarms that no cell waits for any more: without this a client could fill the memory with calls that have ever
    /// earlier deadlines, none of which ever comes.
    pub(crate) fn tidy(&self) {
        // Dropped after the lock: one may be a cell's last.
        let mut cells = Vec::new();
        let mut alarms = self.alarms.lock();
        alarms.heap.retain(|Reverse(alarm)| {
            let Some(cell) = alarm.cell.upgrade() else { return false };
            let is_wanted = cell.wants(alarm.at_ms);
            cells.push(cell);
            is_wanted
        });
        alarms.heap.shrink_to(1_024);
    }

    pub(crate) fn stop(&self) {
        self.alarms.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// A clock without a thread: whoever simulates a host advances it and has what is due ticked.
#[cfg(feature = "sim")]
impl Clock {
    pub(crate) fn by_hand(now_ms: u64) -> Self {
        Self { by_hand_ms: Some(now_ms.into()), ..Self::new() }
    }

    pub(crate) fn is_by_hand(&self) -> bool {
        self.by_hand_ms.is_some()
    }

    pub(crate) fn set_ms(&self, now_ms: u64) {
        let time = self.by_hand_ms.as_ref().expect("only a clock that goes by hand is set");
        time.store(now_ms, std::sync::atomic::Ordering::Relaxed);
    }

    /// When the next cell wants to be ticked.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.alarms.lock().heap.peek().map(|Reverse(first)| first.at_ms)
    }

    /// Ticks the cells that are due, by time and then by ident.
    pub(crate) fn tick_due(&self) {
        let mut due = Vec::new();
        {
            let (mut alarms, now_ms) = (self.alarms.lock(), self.now_ms());
            while alarms.heap.peek().is_some_and(|Reverse(first)| first.at_ms <= now_ms) {
                due.extend(alarms.heap.pop().and_then(|Reverse(alarm)| Some((alarm.at_ms, alarm.cell.upgrade()?))));
            }
        }
        due.sort_by_key(|(at_ms, cell)| (*at_ms, cell.ident()));
        due.into_iter().for_each(|(_, cell)| cell.tick());
    }
}
