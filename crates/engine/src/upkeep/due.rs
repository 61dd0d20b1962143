//! When a snapshot of a base is due. Pure: `now` is an argument.
//!
//! Owns the balance: a request wants the newest snapshot to be what its source is, and each snapshot costs the machine
//! what it takes. So one is taken when the source has just become still, or when the newest is old while it never does;
//! and never more often than a fraction of the time that taking them costs.

use jiff::{SignedDuration, Timestamp};

use crate::base::living::Seen;
use crate::base::store::Newest;

/// How long nothing must have arrived for a source to count as still.
const STILL: SignedDuration = SignedDuration::from_secs(2);

/// How old the newest snapshot of a source that is never still may become, where its owner said nothing.
const AGE_DEFAULT: SignedDuration = SignedDuration::from_mins(15);

/// The pause between two snapshots, at least.
const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(10);

/// The pause in terms of what the last one took.
const PAUSE_FACTOR: i32 = 10;

/// The pause after one that failed.
const PAUSE_AFTER_FAILURE: SignedDuration = SignedDuration::from_mins(2);

/// What is known of a base.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// Its newest snapshot.
    pub(super) newest: Option<Newest>,
    /// What was seen of it.
    pub(super) seen: Seen,
}

/// Remembers what the last snapshot took.
#[derive(Debug)]
pub(super) struct Due {
    always: bool,
    age_max: SignedDuration,
    idle_max: SignedDuration,
    not_before: Option<Timestamp>,
}

impl Due {
    /// `always`: whether or not anybody has asked within `idle_max`. The newest is replaced after `age_max`.
    pub(super) fn new(
        always: bool,
        age_max: Option<SignedDuration>,
        idle_max: SignedDuration,
    ) -> Self {
        Self {
            always,
            age_max: age_max.unwrap_or(AGE_DEFAULT),
            idle_max,
            not_before: None,
        }
    }

    /// Whether one is to be taken now.
    pub(super) fn is_due(&self, need: &Need, now: Timestamp) -> bool {
        let Need { newest, seen } = need;
        if !seen.follows || self.not_before.is_some_and(|then| now < then) {
            return false;
        }
        let (Some(newest), Some(position)) = (newest, seen.position) else {
            return newest.is_none();
        };
        let is_asked = seen
            .asked_at
            .is_some_and(|at| now.duration_since(at) <= self.idle_max);
        if position <= newest.lsn || !(self.always || is_asked) {
            return false;
        }
        let is_still = now.duration_since(seen.still_since) >= STILL;
        is_still || now.duration_since(newest.taken_at) >= self.age_max
    }

    /// One was taken, or found to be the newest still.
    pub(super) fn took(&mut self, time: SignedDuration, now: Timestamp) {
        let pause = time
            .checked_mul(PAUSE_FACTOR)
            .unwrap_or(SignedDuration::MAX);
        self.not_before = now.checked_add(pause.max(PAUSE_MIN)).ok();
    }

    /// One could not be taken.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.not_before = now.checked_add(PAUSE_AFTER_FAILURE).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lsn::Lsn;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn need(
        newest: Option<(i64, u64)>,
        position: u64,
        still_since: i64,
        asked: Option<i64>,
    ) -> Need {
        Need {
            newest: newest.map(|(taken_at, lsn)| Newest {
                taken_at: at(taken_at),
                lsn: Lsn(lsn),
            }),
            seen: Seen {
                position: Some(Lsn(position)),
                still_since: at(still_since),
                waiting_since: None,
                follows: true,
                follows_since: None,
                said: None,
                asked_at: asked.map(at),
            },
        }
    }

    fn due() -> Due {
        Due::new(false, None, SignedDuration::from_secs(100))
    }

    #[test]
    fn a_new_base_gets_one_at_once_and_only_while_its_source_is_heard() {
        let mut first = need(None, 5, 0, None);
        assert!(due().is_due(&first, at(0)));
        first.seen.follows = false;
        assert!(!due().is_due(&first, at(0)));
    }

    #[test]
    fn one_is_taken_when_the_source_has_become_still_and_somebody_asks() {
        let asked = Some(90);
        assert!(
            !due().is_due(&need(Some((0, 5)), 5, 0, asked), at(100)),
            "nothing new"
        );
        assert!(
            !due().is_due(&need(Some((0, 5)), 6, 99, asked), at(100)),
            "it moves"
        );
        assert!(due().is_due(&need(Some((0, 5)), 6, 98, asked), at(100)));
        assert!(
            !due().is_due(&need(Some((0, 5)), 6, 98, None), at(100)),
            "nobody asks"
        );
        let always = Due::new(true, None, SignedDuration::from_secs(100));
        assert!(always.is_due(&need(Some((0, 5)), 6, 98, None), at(100)));
    }

    #[test]
    fn one_that_is_old_is_replaced_though_the_source_is_never_still() {
        let moving = |now| need(Some((0, 5)), 6, now, Some(now));
        assert!(!due().is_due(&moving(899), at(899)));
        assert!(due().is_due(&moving(900), at(900)));
    }

    #[test]
    fn what_takes_long_is_taken_seldom() {
        let mut due = due();
        let still = |now| need(Some((0, 5)), 6, 0, Some(now));
        due.took(SignedDuration::from_secs(3), at(100));
        assert!(!due.is_due(&still(129), at(129)));
        assert!(due.is_due(&still(130), at(130)));
        due.took(SignedDuration::ZERO, at(200));
        assert!(!due.is_due(&still(209), at(209)));
        due.failed(at(300));
        assert!(!due.is_due(&still(419), at(419)));
        assert!(due.is_due(&still(420), at(420)));
    }
}
