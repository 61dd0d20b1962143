//! How fast a copy may take rows from its source.
//!
//! Owns the wait that keeps a rate. `pg_dump` and the source wait with it: what is not read fills a pipe of some kilobytes.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use model::ByteSize;

use crate::clock::Clock;

/// Keeps a rate, that of all connections together; none is kept without one.
#[derive(Debug)]
pub(super) struct Pace {
    rate_max: Option<ByteSize>,
    clock: Clock,
    taken: Mutex<Taken>,
}

/// Since when, and how many bytes.
#[derive(Debug, Default)]
struct Taken {
    begun_at: Option<Timestamp>,
    bytes: u64,
}

impl Pace {
    /// Bytes a second at most.
    pub(super) fn new(rate_max: Option<ByteSize>, clock: Clock) -> Self {
        Self {
            rate_max,
            clock,
            taken: Mutex::default(),
        }
    }

    /// Counts what was taken, and waits until it may be.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate_max else { return };
        let due = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.bytes = taken.bytes.saturating_add(bytes as u64);
            let begun_at = *taken.begun_at.get_or_insert(self.clock.now());
            due(begun_at, taken.bytes, rate)
        };
        self.clock.wait_until(due).await;
    }
}

/// When `bytes` may have been taken.
fn due(begun_at: Timestamp, bytes: u64, rate: ByteSize) -> Option<Timestamp> {
    let milliseconds = u128::from(bytes) * 1000 / u128::from(rate.0.max(1));
    let after = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    begun_at.checked_add(after).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_at_their_rate() {
        let begun_at = Timestamp::from_second(100).unwrap();
        let at = |bytes, rate| due(begun_at, bytes, ByteSize(rate)).unwrap();
        assert_eq!(at(0, 1000), begun_at);
        assert_eq!(
            at(2500, 1000),
            Timestamp::from_millisecond(102_500).unwrap()
        );
        assert_eq!(at(1, 0), Timestamp::from_second(101).unwrap());
    }
}
