//! The one place of this crate that reads the time. Everything else is told.

use jiff::Timestamp;
use tokio::time::Instant;

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the crate's one reading of the calendar clock"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The monotonic time, for bounds on waiting.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
