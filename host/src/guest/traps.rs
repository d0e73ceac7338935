//! Traps in a row, and the pauses after them.
//!
//! Making an object again costs the host more than a call does, so one that does nothing but trap is slowed down. It
//! is never given up for that, and one that traps now and then is not even slowed down: what counts is how often it
//! traps in relation to what it gets done.

/// Traps in a row after which calls are refused for a while.
pub(super) const FREE: u32 = 5;

/// Good steps after which traps are forgotten.
const FORGOTTEN_AFTER_STEPS: u32 = 100;

/// Time without a trap after which earlier ones are forgotten.
const FORGOTTEN_AFTER_MS: u64 = 60_000;

/// The first pause. Each further trap doubles it.
const PAUSE_MS: u64 = 100;

/// The longest pause.
const PAUSE_MS_MAX: u64 = 30_000;

/// What is remembered of an object that has trapped lately.
#[derive(Debug, Default)]
pub(super) struct Traps {
    in_a_row: u32,
    good_steps: u32,
    last_ms: u64,
    closed_until_ms: u64,
}

impl Traps {
    /// Notes a trap.
    pub(super) fn trapped(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.last_ms) > FORGOTTEN_AFTER_MS {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        self.good_steps = 0;
        self.last_ms = now_ms;
        if let Some(doublings) = self.in_a_row.checked_sub(FREE + 1) {
            self.closed_until_ms = now_ms + (PAUSE_MS << doublings.min(16)).min(PAUSE_MS_MAX);
        }
    }

    /// Notes a step that went well. Whether the traps before it are now forgotten.
    pub(super) fn went_well(&mut self) -> bool {
        self.good_steps += 1;
        self.good_steps >= FORGOTTEN_AFTER_STEPS
    }

    /// How many traps in a row there were and for how many milliseconds calls are refused, if they are.
    pub(super) fn closed(&self, now_ms: u64) -> Option<(u32, u64)> {
        let left_ms = self.closed_until_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
        Some((self.in_a_row, left_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(traps: u32, now_ms: u64) -> Traps {
        let mut state = Traps::default();
        (0..traps).for_each(|_| state.trapped(now_ms));
        state
    }

    #[test]
    fn pauses_begin_after_five_traps_and_double_up_to_half_a_minute() {
        assert_eq!(after(5, 1_000).closed(1_000), None);
        assert_eq!(after(6, 1_000).closed(1_000), Some((6, 100)));
        assert_eq!(after(6, 1_000).closed(1_099), Some((6, 1)));
        assert_eq!(after(6, 1_000).closed(1_100), None);
        assert_eq!(after(8, 1_000).closed(1_000), Some((8, 400)));
        assert_eq!(after(1_000, 1_000).closed(1_000), Some((1_000, 30_000)));
    }

    #[test]
    fn traps_are_forgotten_after_good_steps_and_after_a_quiet_minute() {
        let mut traps = after(5, 1_000);
        assert!((1..FORGOTTEN_AFTER_STEPS).all(|_| !traps.went_well()));
        assert!(traps.went_well());

        let mut traps = after(5, 1_000);
        traps.trapped(61_001);
        assert_eq!(traps.closed(61_001), None);
        let mut traps = after(5, 1_000);
        traps.trapped(61_000);
        assert_eq!(traps.closed(61_000), Some((6, 100)));
    }
}
