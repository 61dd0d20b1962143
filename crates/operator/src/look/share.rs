//! How hosts that are alike share their branches, as pure functions: which of them a new branch goes to, and how many of
//! them there are to be.
//!
//! ```text
//!   new branch ──> of the wanted hosts that answer, those with a base first, the one with the fewest branches
//!   hosts      ──> as many as are wanted; those above that take no new branch, and go from the last one on when empty
//! ```

use std::collections::BTreeSet;

use resources::SOURCE_HOSTS_MAX;

/// How good a host is for a new branch; the better is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    /// It does not answer, and may have what it says of nobody.
    Away,
    /// It answers, and has no base that follows: who asks waits for one.
    Bare,
    /// It answers, with a base.
    Stocked,
}

/// A host as far as new branches go.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// Which of its set it is.
    pub(super) ordinal: u16,
    /// Whether it takes branches.
    pub(super) readiness: Readiness,
    /// The branches that are at home there.
    pub(super) load: usize,
    /// The ids that its engine has.
    pub(super) has: BTreeSet<&'a str>,
}

/// The host of each new branch, by its id and in this order; none while no host answers that it may go to. One that an
/// engine has already is there.
pub(super) fn place(ids: &[&str], hosts: &[Candidate<'_>], wanted: u16) -> Vec<Option<u16>> {
    let mut loads: Vec<usize> = hosts.iter().map(|it| it.load).collect();
    let placed = ids.iter().map(|id| {
        let known = hosts.iter().position(|it| it.has.contains(id));
        let chosen = known.or_else(|| {
            let mut open: Vec<usize> = (0..hosts.len())
                .filter(|&at| hosts[at].ordinal < wanted && hosts[at].readiness > Readiness::Away)
                .collect();
            open.sort_by_key(|&at| {
                let best = std::cmp::Reverse(hosts[at].readiness);
                (best, loads[at], hosts[at].ordinal)
            });
            open.first().copied()
        })?;
        loads[chosen] += 1;
        Some(hosts[chosen].ordinal)
    });
    placed.collect()
}

/// How many hosts there are to be at least, whatever their engines have: the wanted ones, and every one up to the last
/// that a branch's resource names as its home.
pub(super) fn least(wanted: u16, homes: impl Iterator<Item = u16>) -> u16 {
    let last = homes.map(|ordinal| ordinal.saturating_add(1)).max();
    wanted.max(last.unwrap_or_default()).min(SOURCE_HOSTS_MAX)
}

/// How many of `there` hosts stay: a set loses its last ones first, so that one with branches keeps those before it.
pub(super) fn stay(there: u16, wanted: u16, occupied: impl Iterator<Item = u16>) -> u16 {
    least(wanted, occupied).min(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(ordinal: u16, readiness: Readiness, load: usize) -> Candidate<'static> {
        Candidate {
            ordinal,
            readiness,
            load,
            has: BTreeSet::new(),
        }
    }

    fn occupied(all: &[u16]) -> impl Iterator<Item = u16> {
        all.iter().copied()
    }

    #[test]
    fn new_branches_go_to_the_host_with_the_fewest_and_of_equals_to_the_first() {
        use Readiness::Stocked;
        let hosts = [
            host(0, Stocked, 2),
            host(1, Stocked, 0),
            host(2, Stocked, 1),
        ];
        let ids = ["a", "b", "c", "d", "e"];
        let placed = place(&ids, &hosts, 3);
        assert_eq!(placed, [1, 1, 2, 0, 1].map(Some));
    }

    #[test]
    fn a_host_that_is_away_gets_nothing_and_one_without_a_base_only_what_no_other_takes() {
        use Readiness::{Away, Bare, Stocked};
        let hosts = [host(0, Stocked, 9), host(1, Away, 0), host(2, Bare, 0)];
        assert_eq!(place(&["a", "b"], &hosts, 3), [Some(0), Some(0)]);
        assert_eq!(place(&["a"], &hosts[1..], 3), [Some(2)]);
        assert_eq!(place(&["a"], &hosts[1..2], 3), [None]);
    }

    #[test]
    fn a_host_above_the_wanted_number_gets_nothing_new_and_keeps_what_its_engine_has() {
        use Readiness::{Away, Stocked};
        let mut above = host(1, Stocked, 0);
        let hosts = [host(0, Stocked, 9), above.clone()];
        assert_eq!(place(&["a"], &hosts, 1), [Some(0)]);
        above.has = ["a"].into();
        assert_eq!(
            place(&["a"], &[host(0, Stocked, 9), above.clone()], 1),
            [Some(1)]
        );
        // It waits for none of the others either.
        assert_eq!(place(&["b"], &[host(0, Away, 0), above], 1), [None]);
    }

    #[test]
    fn a_host_with_branches_stays_whatever_is_wanted_and_keeps_those_before_it() {
        assert_eq!(stay(3, 1, occupied(&[2])), 3);
        assert_eq!(stay(3, 1, occupied(&[1])), 2);
        assert_eq!(stay(3, 1, occupied(&[])), 1);
        assert_eq!(stay(3, 3, occupied(&[])), 3);
        // None is made by it.
        assert_eq!(stay(1, 3, occupied(&[])), 1);
        assert_eq!(least(3, occupied(&[0])), 3);
        assert_eq!(least(1, occupied(&[3, 0])), 4);
        assert_eq!(least(1, occupied(&[u16::MAX])), SOURCE_HOSTS_MAX);
    }
}
