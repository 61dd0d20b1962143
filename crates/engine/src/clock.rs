//! The one file of the engine that reads the time.
//!
//! Wall time at the start plus steady time since: a jump of the machine's clock neither expires a branch nor keeps one.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Tells the time for one run of the engine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
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
            started: Instant::now(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed =
            SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.started_at
            .checked_add(elapsed)
            .unwrap_or(Timestamp::MAX)
    }

    /// Ends at `deadline`, at once where it has passed; never without one.
    pub async fn wait_until(&self, deadline: Option<Timestamp>) {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        let wait = deadline.duration_since(self.now());
        tokio::time::sleep(std::time::Duration::try_from(wait).unwrap_or_default()).await;
    }
}
