//! The one file of this crate that reads the time, for `pump` alone.

use std::time::Duration;

use tokio::time::Instant;

/// Tells for how long a session has been there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock at zero.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends at `deadline`, at once where it has passed; never without one.
    pub(crate) async fn wait_until(&self, deadline: Option<Duration>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(self.start + deadline).await,
            None => std::future::pending().await,
        }
    }
}
