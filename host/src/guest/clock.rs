//! The thread that moves the engines' epochs, so that running guests look up from their work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Ticks while guests run and sleeps while none do.
#[derive(Debug)]
pub(super) struct Clock {
    shared: Arc<Shared>,
    ticker: Thread,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests running now in the low [`RUNNING_BITS`], turns ever started above: one atomic operation at each
    /// end of a turn tells the ticker all that it needs.
    turns: AtomicU64,
    parked: AtomicBool,
    stop: AtomicBool,
}

const RUNNING_BITS: u32 = 16;
const RUNNING_MASK: u64 = (1 << RUNNING_BITS) - 1;
const TURN: u64 = (1 << RUNNING_BITS) | 1;

/// Ticks without a guest after which the thread parks. Waking it costs a system call, which steps that
/// follow each other closely should not pay each time.
const IDLE_TICKS: u32 = 20;

impl Clock {
    pub(super) fn start(engines: Vec<Engine>, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("steward-epoch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(&engines, tick)
        })?;
        Ok(Self { shared, ticker: thread.thread().clone(), thread: Some(thread) })
    }

    /// Keeps the epoch moving until the result is dropped.
    pub(super) fn turn(&self) -> Turn<'_> {
        // Either this load sees that the ticker is about to park, or the ticker's last look at `turns` sees
        // this turn: both sides write first and read then, sequentially consistent.
        self.shared.turns.fetch_add(TURN, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.ticker.unpark();
        }
        Turn(&self.shared.turns)
    }

    /// Whether the ticker sleeps, for tests.
    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn run(&self, engines: &[Engine], tick: Duration) {
        let mut seen = 0;
        let mut idle_ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let turns = self.turns.load(Ordering::SeqCst);
            if turns & RUNNING_MASK == 0 && turns == seen {
                idle_ticks += 1;
            } else {
                idle_ticks = 0;
            }
            seen = turns;
            if idle_ticks < IDLE_TICKS {
                std::thread::sleep(tick);
                engines.iter().for_each(Engine::increment_epoch);
            } else {
                self.parked.store(true, Ordering::SeqCst);
                // Spurious wake-ups only cost a look at `turns`.
                while self.turns.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                idle_ticks = 0;
            }
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.ticker.unpark();
        if let Some(thread) = self.thread.take() {
            // The ticker cannot panic, and there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

/// A guest's turn; see [`Clock::turn`].
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a AtomicU64);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The epoch moves while somebody runs; afterwards the thread parks, and the next turn wakes it.
    #[test]
    fn ticks_only_while_a_guest_runs() {
        let clock = Clock::start(vec![Engine::default()], Duration::from_millis(1)).unwrap();
        for _ in 0..3 {
            while !clock.is_parked() {
                std::thread::yield_now();
            }
            let turn = clock.turn();
            while clock.is_parked() {
                std::thread::yield_now();
            }
            drop(turn);
        }
    }

    #[test]
    fn a_running_turn_keeps_the_ticker_awake() {
        let clock = Clock::start(vec![Engine::default()], Duration::from_micros(1)).unwrap();
        let turn = clock.turn();
        let until = std::time::Instant::now() + Duration::from_micros(1) * IDLE_TICKS * 1_000;
        while std::time::Instant::now() < until {
            assert!(!clock.is_parked());
            std::thread::yield_now();
        }
        drop(turn);
        while !clock.is_parked() {
            std::thread::yield_now();
        }
    }
}
