//! Where the steps of a type run: on the thread that has the call, or on the pool for guests.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Learns from the steps of a type whether they are short enough to run where their calls arrive.
///
/// A type starts on the pool and moves inline after [`Placement::STEPS`] steps in a row that took less than
/// one epoch tick of CPU time. One longer step sends it back, and each time it has to prove itself with twice
/// as many. It is advice: whatever it says, a step is cut at its deadline.
#[derive(Debug)]
pub struct Placement {
    inline: AtomicBool,
    /// Short steps since the last long one.
    streak: AtomicU32,
    /// How many short steps in a row it takes.
    bar: AtomicU32,
}

impl Placement {
    /// Short steps in a row that a new type needs.
    pub const STEPS: u32 = 64;

    /// How high the bar rises.
    pub const STEPS_MAX: u32 = 1 << 20;

    pub(super) fn new() -> Self {
        Self { inline: AtomicBool::new(false), streak: AtomicU32::new(0), bar: AtomicU32::new(Self::STEPS) }
    }

    /// Whether steps of this type may run inline.
    pub fn inline(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
    }

    /// Notes a step that took so many whole ticks of CPU time. The steps of the type's objects do this
    /// themselves.
    pub fn record(&self, ticks: u32) {
        // Steps of several objects race here; a count that is off by a few is as good.
        if ticks > 0 {
            if self.inline.swap(false, Ordering::Relaxed) {
                let bar = self.bar.load(Ordering::Relaxed);
                self.bar.store((bar * 2).min(Self::STEPS_MAX), Ordering::Relaxed);
            }
            self.streak.store(0, Ordering::Relaxed);
        } else if !self.inline() && self.streak.fetch_add(1, Ordering::Relaxed) + 1 >= self.bar.load(Ordering::Relaxed)
        {
            self.streak.store(0, Ordering::Relaxed);
            self.inline.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short_steps_until_inline(placement: &Placement) -> u32 {
        let mut steps = 0;
        while !placement.inline() {
            placement.record(0);
            steps += 1;
        }
        steps
    }

    #[test]
    fn moves_inline_after_short_steps_and_the_bar_doubles_with_each_return() {
        let placement = Placement::new();
        for expected in [64, 128, 256] {
            assert_eq!(short_steps_until_inline(&placement), expected);
            placement.record(1);
            assert!(!placement.inline());
        }
    }

    #[test]
    fn long_step_on_the_pool_restarts_the_count_but_leaves_the_bar() {
        let placement = Placement::new();
        for _ in 0..Placement::STEPS - 1 {
            placement.record(0);
        }
        placement.record(3);
        assert_eq!(short_steps_until_inline(&placement), Placement::STEPS);
    }

    #[test]
    fn the_bar_has_an_end() {
        let placement = Placement::new();
        for _ in 0..40 {
            placement.inline.store(true, Ordering::Relaxed);
            placement.record(1);
        }
        assert_eq!(short_steps_until_inline(&placement), Placement::STEPS_MAX);
    }
}
