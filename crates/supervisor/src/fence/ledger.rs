//! What the session connected to, counted while it runs and told at its end.
//!
//! Owns the counts and their bounds. Counts what was asked for, not what came of it, unless it went through the proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::network::Side;
use crate::remote::Destination;

/// Other destinations that are told one by one; a crawler's are only counted beyond that.
const DESTINATIONS_MAX: usize = 256;

/// Databases and programs that are told one by one.
const NAMES_MAX: usize = 256;

/// A branch's share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BranchCount {
    /// Its id.
    pub branch: String,
    /// Connections that were made to its door.
    pub direct: u64,
    /// Connections that had aimed at the source, and were led to the branch.
    pub redirected: u64,
    /// Connections that had aimed at the source, and were refused.
    pub refused: u64,
}

/// A database that no branch stands in for, on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseCount {
    /// The server's address, as the program had it.
    pub address: String,
    /// The database.
    pub database: String,
    /// Connections.
    pub connections: u64,
}

/// Another destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestinationCount {
    /// Address and port.
    pub address: String,
    /// Connections that were begun; of UDP: sockets that sent there.
    pub connections: u64,
    /// Those of them that were made at the target.
    pub through_target: u64,
}

/// A program that could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramCount {
    /// Its name.
    pub program: String,
    /// Its connections, each of which was refused for that.
    pub refused: u64,
}

/// Everything that was counted, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The branches.
    pub branches: Vec<BranchCount>,
    /// Connections to a source's address that went on without being looked into, as `allow` has it.
    pub allowed: u64,
    /// Connections to a source's address that ended before they said what they wanted.
    pub silent: u64,
    /// Databases of a source that no branch stands in for, which were reached.
    pub passed: Vec<DatabaseCount>,
    /// Databases that no branch stands in for, which were refused.
    pub refused: Vec<DatabaseCount>,
    /// Other destinations.
    pub others: Vec<DestinationCount>,
    /// Connections to destinations that are not in that list.
    pub others_untold: u64,
    /// Destinations of UDP, which the fence does not look into, as far as they were seen: in a target's network.
    pub datagrams: Vec<DestinationCount>,
    /// Sockets that sent to destinations that are not in that list.
    pub datagrams_untold: u64,
    /// Connections from network namespaces of the session's own, which are not looked into.
    pub unseen: u64,
    /// Programs that could not be looked into.
    pub unreadable: Vec<ProgramCount>,
}

impl Report {
    /// Whether the session's connections to PostgreSQL ended in its branches, as far as they were looked into.
    pub fn is_isolated(&self) -> bool {
        self.allowed == 0
            && self.passed.is_empty()
            && self.refused.is_empty()
            && self.branches.iter().all(|branch| branch.refused == 0)
    }

    /// Connections that had aimed at a source's address.
    pub fn aimed_at_source(&self) -> u64 {
        let branches = self.branches.iter().map(|b| b.redirected + b.refused);
        let databases = self.passed.iter().map(|d| d.connections);
        branches.sum::<u64>() + databases.sum::<u64>() + self.allowed + self.silent
    }
}

#[derive(Debug, Default)]
struct Counts {
    report: Report,
    passed: BTreeMap<(Destination, String), u64>,
    refused: BTreeMap<(Destination, String), u64>,
    others: BTreeMap<SocketAddr, Reached>,
    datagrams: BTreeMap<SocketAddr, Reached>,
    unreadable: BTreeMap<String, u64>,
}

/// How often a destination was reached, and how often of it through the target.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    all: u64,
    through_target: u64,
}

/// The counts of one session.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
}

impl Ledger {
    /// Counts for these branches, by number.
    pub(crate) fn new<'a>(branches: impl Iterator<Item = &'a str>) -> Self {
        let branches = branches.map(|branch| BranchCount {
            branch: branch.to_owned(),
            ..BranchCount::default()
        });
        let ledger = Self::default();
        ledger.lock().report.branches = branches.collect();
        ledger
    }

    pub(crate) fn count_direct(&self, branch: usize) {
        self.lock().report.branches[branch].direct += 1;
    }

    pub(crate) fn count_redirected(&self, branch: usize) {
        self.lock().report.branches[branch].redirected += 1;
    }

    pub(crate) fn count_refused_branch(&self, branch: usize) {
        self.lock().report.branches[branch].refused += 1;
    }

    pub(crate) fn count_allowed(&self) {
        self.lock().report.allowed += 1;
    }

    pub(crate) fn count_silent(&self) {
        self.lock().report.silent += 1;
    }

    pub(crate) fn count_unseen(&self) {
        self.lock().report.unseen += 1;
    }

    pub(crate) fn count_passed(&self, server: &Destination, database: &str) {
        add(
            &mut self.lock().passed,
            (server.clone(), database.to_owned()),
            NAMES_MAX,
        );
    }

    pub(crate) fn count_refused(&self, server: &Destination, database: &str) {
        add(
            &mut self.lock().refused,
            (server.clone(), database.to_owned()),
            NAMES_MAX,
        );
    }

    pub(crate) fn count_unreadable(&self, program: String) {
        add(&mut self.lock().unreadable, program, NAMES_MAX);
    }

    pub(crate) fn count_other(&self, address: SocketAddr, side: Side) {
        let mut counts = self.lock();
        if !reach(&mut counts.others, address, side) {
            counts.report.others_untold += 1;
        }
    }

    pub(crate) fn count_datagrams(&self, address: SocketAddr, side: Side) {
        let mut counts = self.lock();
        if !reach(&mut counts.datagrams, address, side) {
            counts.report.datagrams_untold += 1;
        }
    }

    /// Everything so far.
    pub(crate) fn report(&self) -> Report {
        let counts = self.lock();
        let databases = |map: &BTreeMap<(Destination, String), u64>| {
            let told = map
                .iter()
                .map(|((server, database), connections)| DatabaseCount {
                    address: server.to_string(),
                    database: database.clone(),
                    connections: *connections,
                });
            told.collect()
        };
        let destinations = |map: &BTreeMap<SocketAddr, Reached>| {
            let told = map.iter().map(|(address, reached)| DestinationCount {
                address: address.to_string(),
                connections: reached.all,
                through_target: reached.through_target,
            });
            told.collect()
        };
        let unreadable = counts
            .unreadable
            .iter()
            .map(|(program, refused)| ProgramCount {
                program: program.clone(),
                refused: *refused,
            });
        Report {
            passed: databases(&counts.passed),
            refused: databases(&counts.refused),
            others: destinations(&counts.others),
            datagrams: destinations(&counts.datagrams),
            unreadable: unreadable.collect(),
            ..counts.report.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one more way to `address`; false where the map is full and does not have it.
fn reach(map: &mut BTreeMap<SocketAddr, Reached>, address: SocketAddr, side: Side) -> bool {
    if map.len() >= DESTINATIONS_MAX && !map.contains_key(&address) {
        return false;
    }
    let reached = map.entry(address).or_default();
    reached.all += 1;
    reached.through_target += u64::from(side == Side::Target);
    true
}

/// Counts one of `key`; false where the map is full and does not have it.
fn add<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, max: usize) -> bool {
    if map.len() >= max && !map.contains_key(&key) {
        return false;
    }
    *map.entry(key).or_default() += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_without_end_are_counted_in_one() {
        let ledger = Ledger::default();
        for port in 0..300 {
            ledger.count_other(SocketAddr::from(([192, 0, 2, 1], port)), Side::Here);
        }
        ledger.count_other(SocketAddr::from(([192, 0, 2, 1], 0)), Side::Target);
        let report = ledger.report();
        assert_eq!(report.others.len(), DESTINATIONS_MAX);
        assert_eq!(report.others[0].connections, 2);
        assert_eq!(report.others[0].through_target, 1);
        assert_eq!(report.others_untold, 300 - 256);
    }

    #[test]
    fn isolation_is_what_was_counted() {
        let ledger = Ledger::new(["a"].into_iter());
        ledger.count_direct(0);
        ledger.count_redirected(0);
        ledger.count_silent();
        assert!(ledger.report().is_isolated());
        assert_eq!(ledger.report().aimed_at_source(), 2);
        let server = Destination::Tcp(SocketAddr::from(([192, 0, 2, 1], 5432)));
        ledger.count_passed(&server, "other");
        assert!(!ledger.report().is_isolated());
        assert_eq!(ledger.report().aimed_at_source(), 3);
        assert_eq!(ledger.report().passed[0].database, "other");
    }
}
