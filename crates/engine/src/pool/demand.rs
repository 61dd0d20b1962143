//! How many clones of one source are worth keeping warm. Pure: `now` is an argument.
//!
//! Owns the memory of recent requests and the size that follows from them. Leaves memory and disk to `shortage`.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Requests that are remembered: more in a minute are more than a pool should follow.
const REQUESTS_KEPT: usize = 16;

/// Requests of this long ago count as one burst: whoever starts one session is likely to start the next.
const BURST: SignedDuration = SignedDuration::from_secs(60);

/// The bounds of a pool's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizing {
    /// The most clones of one source.
    pub(super) clones_max: usize,
    /// How long after the last request clones are kept.
    pub(super) idle_max: SignedDuration,
}

/// The recent requests for one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demand {
    requests: VecDeque<Timestamp>,
}

impl Demand {
    /// A request came.
    pub(super) fn note(&mut self, now: Timestamp) {
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(now);
    }

    /// Clones to keep: none once the source is idle, else one more than the half of the last burst.
    pub(super) fn wanted(&self, now: Timestamp, sizing: Sizing) -> usize {
        let Some(last) = self.requests.back() else {
            return 0;
        };
        if now.duration_since(*last) > sizing.idle_max {
            return 0;
        }
        let in_burst = |at: &&Timestamp| now.duration_since(**at) <= BURST;
        let burst = self.requests.iter().filter(in_burst).count();
        (1 + burst / 2).min(sizing.clones_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZING: Sizing = Sizing {
        clones_max: 3,
        idle_max: SignedDuration::from_mins(30),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn after(requests: &[i64]) -> Demand {
        let mut demand = Demand::default();
        requests
            .iter()
            .for_each(|seconds| demand.note(at(*seconds)));
        demand
    }

    #[test]
    fn nobody_asking_wants_nothing() {
        assert_eq!(Demand::default().wanted(at(0), SIZING), 0);
        assert_eq!(after(&[0]).wanted(at(30 * 60), SIZING), 1);
        assert_eq!(after(&[0]).wanted(at(30 * 60 + 1), SIZING), 0);
    }

    #[test]
    fn a_burst_wants_more_up_to_the_bound() {
        assert_eq!(after(&[0]).wanted(at(1), SIZING), 1);
        assert_eq!(after(&[0, 1]).wanted(at(2), SIZING), 2);
        assert_eq!(after(&[0; 100]).wanted(at(2), SIZING), 3);
        assert_eq!(after(&[0; 100]).wanted(at(61), SIZING), 1);
    }
}
