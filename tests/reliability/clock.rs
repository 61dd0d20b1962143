//! The one file of this binary that reads the time: moments since its start, for what may have expired by when.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// The time since this process first asked. Steady.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the time"
)]
pub(crate) fn now() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}
