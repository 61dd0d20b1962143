//! The one file of the engine that reads the time.
//!
//! Wall time at the start plus steady time since: a jump of the machine's clock neither expires a branch nor keeps one.
//! Time that the machine sleeps counts (`CLOCK_BOOTTIME`, clock_gettime(2)): what it holds is older by then. A jump
//! between two engines of one boot is told by [`Reckoning`]; what it means to times that were kept, `clock_jump` knows.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::catalogue::Record;

/// How long is waited between two looks at the clock: timers stand still while the machine sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A file in the data directory that moves the wall clock of an engine that is built for tests: seconds, as text.
#[cfg(debug_assertions)]
const MOVED_BY_FILE: &str = "clock-moved-by-seconds";

/// Tells the time for one run of the engine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started_at: Timestamp,
    /// Since the machine's start.
    started: SignedDuration,
}

/// What a clock told when: by it a later clock of the same boot knows how far the machine's has jumped since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reckoning {
    boot_id: String,
    told: Timestamp,
    /// Since the machine's start.
    at: SignedDuration,
}

impl Record for Reckoning {
    const TABLE: &'static str = "clock";

    fn key(&self) -> String {
        // There is one.
        "reckoning".to_owned()
    }
}

impl Clock {
    /// A clock set by the machine's.
    pub fn start() -> Self {
        Self {
            started_at: machine_time(),
            started: since_boot(),
        }
    }

    /// The clock of the engine of a data directory. In a build for tests a file there moves it.
    pub fn of_engine(data_dir: &Path) -> Self {
        let clock = Self::start();
        Self {
            started_at: moved(clock.started_at, moved_by(data_dir)),
            ..clock
        }
    }

    /// What it told at its start.
    pub fn reckoning(&self, boot_id: &str) -> Reckoning {
        Reckoning {
            boot_id: boot_id.to_owned(),
            told: self.started_at,
            at: self.started,
        }
    }

    /// How much later it tells the same moment than the clock of `earlier` did; none where that was in another boot, of
    /// which nobody knows how long ago it was.
    pub fn jump_since(&self, earlier: &Reckoning, boot_id: &str) -> Option<SignedDuration> {
        let passed = self.started.checked_sub(earlier.at)?;
        if earlier.boot_id != boot_id || passed.is_negative() {
            return None;
        }
        let told = self.started_at.duration_since(earlier.told);
        told.checked_sub(passed)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.at(since_boot())
    }

    fn at(&self, since_boot: SignedDuration) -> Timestamp {
        let elapsed = since_boot.saturating_sub(self.started);
        self.started_at
            .checked_add(elapsed)
            .unwrap_or(Timestamp::MAX)
    }

    /// Ends at `deadline`, at once where it has passed; never without one.
    pub async fn wait_until(&self, deadline: Option<Timestamp>) {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        loop {
            let left = deadline.duration_since(self.now());
            let left = Duration::try_from(left).unwrap_or_default();
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
            if left <= LOOK_INTERVAL {
                return;
            }
        }
    }
}

/// The same moment by a clock that has jumped.
pub fn moved(time: Timestamp, jump: SignedDuration) -> Timestamp {
    let end = if jump.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    time.checked_add(jump).unwrap_or(end)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the time"
)]
fn machine_time() -> Timestamp {
    Timestamp::now()
}

#[cfg(debug_assertions)]
fn moved_by(data_dir: &Path) -> SignedDuration {
    let text = std::fs::read_to_string(data_dir.join(MOVED_BY_FILE));
    let seconds = text.ok().and_then(|text| text.trim().parse().ok());
    SignedDuration::from_secs(seconds.unwrap_or_default())
}

#[cfg(not(debug_assertions))]
fn moved_by(_: &Path) -> SignedDuration {
    SignedDuration::ZERO
}

fn since_boot() -> SignedDuration {
    let time = clock_gettime(ClockId::Boottime);
    let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or_default();
    SignedDuration::new(time.tv_sec, nanoseconds)
}

#[cfg(test)]
impl Clock {
    /// One that told this so many seconds after the machine's start.
    pub(crate) fn told(told: Timestamp, since_boot: i64) -> Self {
        Self {
            started_at: told,
            started: SignedDuration::from_secs(since_boot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "one boot";

    fn clock(told: i64, since_boot: i64) -> Clock {
        Clock::told(Timestamp::from_second(told).unwrap(), since_boot)
    }

    #[test]
    fn a_running_clock_goes_by_steady_time_alone() {
        let clock = clock(1000, 50);
        let at = |since_boot| clock.at(SignedDuration::from_secs(since_boot)).as_second();
        assert_eq!((at(50), at(51), at(4050)), (1000, 1001, 5000));
        // What cannot be told is never earlier than any deadline.
        assert_eq!(clock.at(SignedDuration::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_jump_of_the_machines_clock_is_not_seen_by_a_clock_that_runs() {
        let home = tempfile::tempdir().unwrap();
        let moved_to = |seconds: &str| {
            std::fs::write(home.path().join(MOVED_BY_FILE), seconds).unwrap();
            Clock::of_engine(home.path())
        };
        let running = Clock::of_engine(home.path());
        let begun = running.now();
        let ahead = moved_to("7200");
        let behind = moved_to("-7200");
        let passed = running.now().duration_since(begun);
        assert!(passed < SignedDuration::from_mins(30), "{passed}");
        // The next ones tell what the machine tells.
        assert!(ahead.now().duration_since(begun) >= SignedDuration::from_hours(2));
        assert!(behind.now() < begun);
        for (next, hours) in [(ahead, 2), (behind, -2)] {
            let jump = next.jump_since(&running.reckoning(BOOT), BOOT).unwrap();
            let of_it = jump - SignedDuration::from_hours(hours);
            assert!(of_it.abs() < SignedDuration::from_mins(30), "{jump}");
        }
    }

    #[test]
    fn a_jump_is_what_steady_time_does_not_explain() {
        let earlier = clock(1000, 50).reckoning(BOOT);
        let jump = |told, since_boot| {
            let jump = clock(told, since_boot).jump_since(&earlier, BOOT);
            jump.map(|jump| jump.as_secs())
        };
        assert_eq!(jump(1010, 60), Some(0));
        assert_eq!(jump(4610, 60), Some(3600));
        assert_eq!(jump(10, 60), Some(-1000));
        assert_eq!(jump(1010, 40), None, "before itself");
        let later = clock(4610, 60);
        assert_eq!(later.jump_since(&earlier, "another boot"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_is_not_waited_for_and_no_deadline_never_comes() {
        let clock = Clock::start();
        clock.wait_until(Some(Timestamp::MIN)).await;
        let now = clock.now();
        clock.wait_until(Some(now)).await;
        let soon = now + SignedDuration::from_secs(2);
        let waited = tokio::time::Instant::now();
        clock.wait_until(Some(soon)).await;
        assert!(waited.elapsed() > Duration::from_secs(1));
        let never = tokio::time::timeout(Duration::from_hours(1), clock.wait_until(None));
        assert!(never.await.is_err());
    }
}
