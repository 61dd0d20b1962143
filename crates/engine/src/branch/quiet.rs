//! How long nobody has connected to a branch. Pure: `now` is an argument.
//!
//! Owns when a server may be put to sleep. Leaves doing it to `driver`.

use jiff::{SignedDuration, Timestamp};

use crate::door::Counts;

/// A watch for quiet; by default none is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quiet(Option<Watch>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watch {
    /// Connections that there had been when the quiet began.
    total: u64,
    since: Timestamp,
    sleep_after: SignedDuration,
}

impl Quiet {
    /// Begins to watch; none without a time after which a server sleeps.
    pub(super) fn begin(
        counts: &Counts,
        now: Timestamp,
        sleep_after: Option<SignedDuration>,
    ) -> Self {
        Self(sleep_after.map(|sleep_after| Watch {
            total: counts.total(),
            since: now,
            sleep_after,
        }))
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let watch = self.0?;
        watch.since.checked_add(watch.sleep_after).ok()
    }

    /// Whether it has been quiet for long enough. A connection now or since the last look begins it anew.
    pub(super) fn look(&mut self, counts: &Counts, now: Timestamp) -> bool {
        let Some(watch) = &mut self.0 else {
            return false;
        };
        if counts.active() > 0 || counts.total() != watch.total {
            (watch.total, watch.since) = (counts.total(), now);
        }
        now.duration_since(watch.since) >= watch.sleep_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLEEP_AFTER: SignedDuration = SignedDuration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn quiet_is_counted_from_the_last_connection_on() {
        let counts = Counts::default();
        let mut quiet = Quiet::begin(&counts, at(0), Some(SLEEP_AFTER));
        assert_eq!(quiet.deadline(), Some(at(60)));
        assert!(!quiet.look(&counts, at(59)));
        assert!(quiet.look(&counts, at(60)));
        counts.note_one_that_came_and_went();
        assert!(!quiet.look(&counts, at(70)));
        assert_eq!(quiet.deadline(), Some(at(130)));
        assert!(quiet.look(&counts, at(130)));
    }

    #[test]
    fn a_branch_stays_awake_for_as_long_as_somebody_is_connected() {
        let counts = Counts::default();
        counts.note_one_that_stays();
        let mut quiet = Quiet::begin(&counts, at(0), Some(SLEEP_AFTER));
        assert!(!quiet.look(&counts, at(60)));
        assert!(!quiet.look(&counts, at(10_000)));
    }

    #[test]
    fn nothing_sleeps_where_it_is_not_wanted() {
        let counts = Counts::default();
        let mut quiet = Quiet::begin(&counts, at(0), None);
        assert_eq!(quiet.deadline(), None);
        assert!(!quiet.look(&counts, at(1_000_000)));
    }
}
