//! The one file of this binary that reads the time: moments since its start, for what may have expired by when, and the
//! machine's clock, which engines are told to be off of.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

static START: OnceLock<Instant> = OnceLock::new();

/// The time since this process first asked. Steady.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the time"
)]
pub(crate) fn now() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// What the machine's clock tells, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the time"
)]
pub(crate) fn machine_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
