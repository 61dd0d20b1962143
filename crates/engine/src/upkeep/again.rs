//! When a base is taken up again, and when its source is copied again: never in a circle that keeps the source busy, and
//! never because of what is wrong with this machine just now. Pure.
//!
//! ```text
//!   a base is here ─▶ resume ─┬─ fails for this machine's sake ─▶ after a pause, once more; as long as it takes
//!                             └─ its files are at fault ─▶ after a pause, RESUMES_MAX times; then copied again
//!   none is here ─▶ seed ─┬─ fails ─▶ after a pause
//!                         └─ lives, and is lost ─┬─ after long, or for the first time ─▶ at once
//!                                                └─ after a short life again ─▶ after a pause
//! ```
//!
//! Pauses double from one time to the next.

use std::time::Duration;

/// How long a source that cannot be followed, or whose seed failed, is left alone: at first, and at most.
const SEED_PAUSE_MIN: Duration = Duration::from_secs(60);
const SEED_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How long a base that could not be taken up is left alone: at first, and at most.
const RESUME_PAUSE_MIN: Duration = Duration::from_secs(2);
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How often a base is tried whose files seem to be at fault, before they are.
const RESUMES_MAX: u32 = 3;

/// A life is short that did not last so many times as long as its seed took: a source that is never followed for long is
/// read for a tenth of the time at most.
const LIFE_FACTOR: u32 = 10;

/// What came of it so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Again {
    seeds_failed: u32,
    resumes_failed: u32,
    files_failed: u32,
    short_lives: u32,
}

/// What to do about a base that could not be taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotResumed {
    /// Try once more after this time.
    Wait(Duration),
    /// Copy the source again.
    Seed,
}

impl Again {
    /// The source cannot be followed, or its seed failed: how long it is left alone.
    pub(super) fn not_seeded(&mut self) -> Duration {
        self.seeds_failed += 1;
        doubled(SEED_PAUSE_MIN, self.seeds_failed, SEED_PAUSE_MAX)
    }

    /// A base that is here could not be taken up. `files`: its files seem to be at fault.
    pub(super) fn not_resumed(&mut self, files: bool) -> NotResumed {
        self.resumes_failed += 1;
        self.files_failed = if files { self.files_failed + 1 } else { 0 };
        if self.files_failed >= RESUMES_MAX {
            (self.resumes_failed, self.files_failed) = (0, 0);
            return NotResumed::Seed;
        }
        NotResumed::Wait(doubled(
            RESUME_PAUSE_MIN,
            self.resumes_failed,
            RESUME_PAUSE_MAX,
        ))
    }

    /// A base follows.
    pub(super) fn follows(&mut self) {
        (self.seeds_failed, self.resumes_failed, self.files_failed) = (0, 0, 0);
    }

    /// A base that took `seeding` to copy was of no more use after `lived`: how long the source is left alone.
    pub(super) fn lost(&mut self, seeding: Duration, lived: Duration) -> Duration {
        if lived >= seeding.saturating_mul(LIFE_FACTOR) {
            self.short_lives = 0;
            return Duration::ZERO;
        }
        self.short_lives += 1;
        // Once is an event of the source's; twice begins to be a habit.
        let habit = self.short_lives - 1;
        if habit == 0 {
            return Duration::ZERO;
        }
        doubled(SEED_PAUSE_MIN, habit, SEED_PAUSE_MAX).max(seeding)
    }
}

/// The pause before the `time`-th try, counted from 1.
fn doubled(first: Duration, time: u32, most: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(time.saturating_sub(1));
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_base_outlives_whatever_is_wrong_with_this_machine() {
        let mut again = Again::default();
        let pauses: Vec<_> = (0..50).map(|_| again.not_resumed(false)).collect();
        assert_eq!(pauses[0], NotResumed::Wait(2 * SECOND));
        assert_eq!(pauses[1], NotResumed::Wait(4 * SECOND));
        assert_eq!(pauses[49], NotResumed::Wait(RESUME_PAUSE_MAX));
    }

    #[test]
    fn files_are_at_fault_when_they_were_so_in_a_row() {
        let mut again = Again::default();
        assert!(matches!(again.not_resumed(true), NotResumed::Wait(_)));
        assert!(matches!(again.not_resumed(true), NotResumed::Wait(_)));
        assert!(matches!(again.not_resumed(false), NotResumed::Wait(_)));
        assert!(matches!(again.not_resumed(true), NotResumed::Wait(_)));
        assert!(matches!(again.not_resumed(true), NotResumed::Wait(_)));
        assert_eq!(again.not_resumed(true), NotResumed::Seed);
        assert_eq!(again.not_resumed(true), NotResumed::Wait(2 * SECOND));
    }

    #[test]
    fn a_source_that_is_lost_again_and_again_is_left_alone_for_longer_and_longer() {
        let mut again = Again::default();
        let mut lost = || again.lost(20 * SECOND, 60 * SECOND);
        assert_eq!(lost(), Duration::ZERO);
        assert_eq!(lost(), 60 * SECOND);
        assert_eq!(lost(), 120 * SECOND);
        let last = (0..20).map(|_| lost()).last();
        assert_eq!(last, Some(SEED_PAUSE_MAX));
        assert_eq!(again.lost(20 * SECOND, 200 * SECOND), Duration::ZERO);
        assert_eq!(again.lost(20 * SECOND, 60 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_seed_that_failed_is_no_short_life() {
        let mut again = Again::default();
        assert_eq!(again.not_seeded(), 60 * SECOND);
        assert_eq!(again.not_seeded(), 120 * SECOND);
        again.follows();
        assert_eq!(again.lost(20 * SECOND, SECOND), Duration::ZERO);
        assert_eq!(again.not_seeded(), 60 * SECOND);
    }

    #[test]
    fn a_copy_that_takes_long_is_paused_for_as_long() {
        let mut again = Again::default();
        let hours = 3600 * SECOND;
        again.lost(2 * hours, SECOND);
        assert_eq!(again.lost(2 * hours, SECOND), 2 * hours);
    }
}
