//! How fast a copy may take rows from its source.
//!
//! Owns the wait that keeps a rate. `pg_dump` and the source wait with it: what is not read fills a pipe of some kilobytes.

use jiff::{SignedDuration, Timestamp};
use model::ByteSize;

use crate::clock::Clock;

/// Keeps a rate; none is kept without one.
#[derive(Debug)]
pub(super) struct Pace {
    rate_max: Option<ByteSize>,
    clock: Clock,
    begun_at: Option<Timestamp>,
    bytes: u64,
}

impl Pace {
    /// Bytes a second at most.
    pub(super) fn new(rate_max: Option<ByteSize>, clock: Clock) -> Self {
        Self {
            rate_max,
            clock,
            begun_at: None,
            bytes: 0,
        }
    }

    /// Counts what was taken, and waits until it may be.
    pub(super) async fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let Some(rate) = self.rate_max else { return };
        let begun_at = *self.begun_at.get_or_insert(self.clock.now());
        self.clock.wait_until(due(begun_at, self.bytes, rate)).await;
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
