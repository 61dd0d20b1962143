//! The one file of the engine that reads the time.
//!
//! Wall time at the start plus steady time since: a jump of the machine's clock neither expires a branch nor keeps one.
//! Time that the machine sleeps counts (`CLOCK_BOOTTIME`, clock_gettime(2)): what it holds is older by then.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// How long is waited between two looks at the clock: timers stand still while the machine sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Tells the time for one run of the engine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started_at: Timestamp,
    /// Since the machine's start.
    started: SignedDuration,
}

impl Clock {
    /// A clock set by the machine's.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the file that reads the time"
    )]
    pub fn start() -> Self {
        Self {
            started_at: Timestamp::now(),
            started: since_boot(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed = since_boot().saturating_sub(self.started);
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

fn since_boot() -> SignedDuration {
    let time = clock_gettime(ClockId::Boottime);
    let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or_default();
    SignedDuration::new(time.tv_sec, nanoseconds)
}
