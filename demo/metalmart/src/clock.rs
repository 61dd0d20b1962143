//! The one place that reads the time.

use std::time::Instant;

/// The present moment of the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
