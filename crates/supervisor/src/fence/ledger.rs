//! What the session connected to, counted while it runs and told at its end.
//!
//! Owns the counts and their bounds. Counts what was asked for, not what came of it, unless it went through the proxy.

use std::collections::BTreeMap;
use std::fmt::Display;
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

/// A connection that stood before the session, and that its program inherited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InheritedSocket {
    /// Its descriptor in the program.
    pub descriptor: i32,
    /// Where it leads.
    pub address: String,
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
    /// Connections to such databases that are not in that list.
    pub passed_untold: u64,
    /// Databases that no branch stands in for, which were refused.
    pub refused: Vec<DatabaseCount>,
    /// Connections to such databases that are not in that list.
    pub refused_untold: u64,
    /// Other destinations.
    pub others: Vec<DestinationCount>,
    /// Connections to destinations that are not in that list.
    pub others_untold: u64,
    /// Unix sockets of programs outside the session.
    pub sockets: Vec<DestinationCount>,
    /// Connections to Unix sockets that are not in that list.
    pub sockets_untold: u64,
    /// Connections to Unix sockets of which nothing was looked into.
    pub sockets_unseen: u64,
    /// Destinations of UDP, which the fence does not look into, as far as they were seen: in a target's network.
    pub datagrams: Vec<DestinationCount>,
    /// Sockets that sent to destinations that are not in that list.
    pub datagrams_untold: u64,
    /// Connections from network namespaces of the session's own, which are not looked into.
    pub unseen: u64,
    /// Connections that stood before the session, and were not looked into.
    pub inherited: Vec<InheritedSocket>,
    /// Programs that could not be looked into.
    pub unreadable: Vec<ProgramCount>,
    /// Refused connections of programs that are not in that list.
    pub unreadable_untold: u64,
}

/// How far a connection to a Unix socket was looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Its first bytes were: it does not begin as PostgreSQL does.
    Beginning,
    /// Not at all.
    Never,
}

impl Report {
    /// Whether the session's connections to PostgreSQL ended in its branches, as far as they were looked into.
    pub fn is_isolated(&self) -> bool {
        self.allowed == 0
            && self.passed.is_empty()
            && self.refused.is_empty()
            && self.branches.iter().all(|branch| branch.refused == 0)
    }

    /// Sessions with databases of a source's server that no branch stands in for.
    pub fn passed_to_others(&self) -> u64 {
        let databases = self.passed.iter().map(|d| d.connections);
        databases.sum::<u64>() + self.passed_untold
    }

    /// Connections that had aimed at a source's address.
    pub fn aimed_at_source(&self) -> u64 {
        let branches = self.branches.iter().map(|b| b.redirected + b.refused);
        branches.sum::<u64>() + self.passed_to_others() + self.allowed + self.silent
    }
}

#[derive(Debug, Default)]
struct Counts {
    report: Report,
    passed: BTreeMap<(Destination, String), u64>,
    refused: BTreeMap<(Destination, String), u64>,
    others: BTreeMap<SocketAddr, Reached>,
    sockets: BTreeMap<Destination, Reached>,
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

    pub(crate) fn note_inherited(&self, inherited: Vec<InheritedSocket>) {
        self.lock().report.inherited = inherited;
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
        let (key, mut counts) = ((server.clone(), database.to_owned()), self.lock());
        counts.report.passed_untold += untold(add(&mut counts.passed, key, NAMES_MAX));
    }

    pub(crate) fn count_refused(&self, server: &Destination, database: &str) {
        let (key, mut counts) = ((server.clone(), database.to_owned()), self.lock());
        counts.report.refused_untold += untold(add(&mut counts.refused, key, NAMES_MAX));
    }

    pub(crate) fn count_unreadable(&self, program: String) {
        let mut counts = self.lock();
        counts.report.unreadable_untold += untold(add(&mut counts.unreadable, program, NAMES_MAX));
    }

    pub(crate) fn count_socket(&self, socket: &Destination, side: Side, look: Look) {
        let mut counts = self.lock();
        counts.report.sockets_untold += untold(reach(&mut counts.sockets, socket.clone(), side));
        counts.report.sockets_unseen += u64::from(look == Look::Never);
    }

    pub(crate) fn count_other(&self, address: SocketAddr, side: Side) {
        let mut counts = self.lock();
        counts.report.others_untold += untold(reach(&mut counts.others, address, side));
    }

    pub(crate) fn count_datagrams(&self, address: SocketAddr, side: Side) {
        let mut counts = self.lock();
        counts.report.datagrams_untold += untold(reach(&mut counts.datagrams, address, side));
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
            sockets: destinations(&counts.sockets),
            datagrams: destinations(&counts.datagrams),
            unreadable: unreadable.collect(),
            ..counts.report.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn destinations<K: Display>(map: &BTreeMap<K, Reached>) -> Vec<DestinationCount> {
    let told = map.iter().map(|(address, reached)| DestinationCount {
        address: address.to_string(),
        connections: reached.all,
        through_target: reached.through_target,
    });
    told.collect()
}

/// What one connection adds to those that are in no list.
fn untold(is_told: bool) -> u64 {
    u64::from(!is_told)
}

/// Counts one more way to `place`; false where the map is full and does not have it.
fn reach<K: Ord>(map: &mut BTreeMap<K, Reached>, place: K, side: Side) -> bool {
    if map.len() >= DESTINATIONS_MAX && !map.contains_key(&place) {
        return false;
    }
    let reached = map.entry(place).or_default();
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
    fn names_without_end_are_counted_too() {
        let ledger = Ledger::default();
        let server = Destination::Tcp(SocketAddr::from(([192, 0, 2, 1], 5432)));
        for number in 0..300 {
            ledger.count_passed(&server, &format!("d{number}"));
            ledger.count_refused(&server, &format!("d{number}"));
            ledger.count_unreadable(format!("p{number}"));
            let socket = Destination::Unix(format!("/s{number}").into());
            ledger.count_socket(&socket, Side::Here, Look::Never);
        }
        ledger.count_passed(&server, "d1");
        let report = ledger.report();
        assert_eq!(report.passed.len(), NAMES_MAX);
        let untold = [report.passed_untold, report.refused_untold];
        assert_eq!(untold, [300 - 256; 2]);
        assert_eq!(report.unreadable_untold, 300 - 256);
        assert_eq!(report.sockets_untold, 300 - 256);
        assert_eq!(report.sockets_unseen, 300);
        assert_eq!(report.passed_to_others(), 301);
        assert_eq!(report.aimed_at_source(), 301);
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
