//! What `global/pg_control` says about a cluster at rest.
//!
//! Owns reading the state and the limits out of the file: `pg_controldata` is not part of every installation, and
//! these fields have lain at the same place since PostgreSQL 13. Source: `src/include/catalog/pg_control.h`,
//! `ControlFileData` on 64-bit machines (`system_identifier` 8 bytes, `pg_control_version` 4, `catalog_version_no` 4,
//! `state` 4; `MaxConnections` and its kin from byte 180 on), in the machine's byte order.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `pg_control_version` of PostgreSQL 15, and of the newest that this was checked with (18).
const VERSIONS_KNOWN: std::ops::RangeInclusive<u32> = 1300..=1800;

/// `DB_SHUTDOWNED` of the enum `DBState`.
const SHUT_DOWN: u32 = 1;

const HEAD_BYTES: usize = 200;

/// Where `MaxConnections` lies; the four limits after it follow in words of 4 bytes.
const LIMITS_AT: usize = 180;

/// What a cluster says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlData {
    /// Tells clusters apart; a copy made file by file keeps it.
    pub system_identifier: u64,
    /// Whether it was shut down cleanly, so that the next start needs no recovery.
    pub is_shut_down: bool,
    /// What a server in recovery must at least have; a standby learns of changes by replaying them.
    pub limits: RecoveryLimits,
}

/// The settings that a server with `hot_standby` must have at least as large as the server whose WAL it replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryLimits {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

impl RecoveryLimits {
    /// Whether a server with these limits can replay the WAL of one with `needed`.
    pub fn suffice_for(&self, needed: &Self) -> bool {
        let mut pairs = self.named().into_iter().zip(needed.named());
        pairs.all(|((_, has), (_, needs))| has >= needs)
    }

    /// Each setting with its value.
    pub fn named(&self) -> [(&'static str, u32); 5] {
        [
            ("max_connections", self.max_connections),
            ("max_worker_processes", self.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders),
            ("max_prepared_transactions", self.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction),
        ]
    }
}

/// Why a cluster's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum ControlDataError {
    /// The file is not there, too short or unreadable.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layout that this program does not know.
    #[error("{path} has the format {version}, and {known:?} are known", known = VERSIONS_KNOWN)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its `pg_control_version`.
        version: u32,
    },
}

/// Reads the control file of a data directory.
///
/// # Errors
/// [`ControlDataError`] when it cannot be read or its format is unknown.
pub fn read(data: &Path) -> Result<ControlData, ControlDataError> {
    let path = data.join("global/pg_control");
    let mut head = [0; HEAD_BYTES];
    let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
    if let Err(source) = read {
        return Err(ControlDataError::Read { path, source });
    }
    parse(&head).map_err(|version| ControlDataError::Version { path, version })
}

fn parse(head: &[u8; HEAD_BYTES]) -> Result<ControlData, u32> {
    let word = |at: usize| {
        let bytes = head[at..at + 4].try_into().expect("four bytes were cut");
        u32::from_ne_bytes(bytes)
    };
    let version = word(8);
    if !VERSIONS_KNOWN.contains(&version) {
        return Err(version);
    }
    let identifier = head[..8].try_into().expect("eight bytes were cut");
    let limit = |number: usize| word(LIMITS_AT + 4 * number);
    Ok(ControlData {
        system_identifier: u64::from_ne_bytes(identifier),
        is_shut_down: word(16) == SHUT_DOWN,
        limits: RecoveryLimits {
            max_connections: limit(0),
            max_worker_processes: limit(1),
            max_wal_senders: limit(2),
            max_prepared_transactions: limit(3),
            max_locks_per_transaction: limit(4),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u32, state: u32) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&7_u64.to_ne_bytes());
        head[8..12].copy_from_slice(&version.to_ne_bytes());
        head[16..20].copy_from_slice(&state.to_ne_bytes());
        for (number, value) in [100_u32, 8, 10, 0, 64].into_iter().enumerate() {
            let at = LIMITS_AT + 4 * number;
            head[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        head
    }

    #[test]
    fn only_a_clean_shutdown_counts() {
        assert!(parse(&head(1300, SHUT_DOWN)).unwrap().is_shut_down);
        for other in [0, 2, 3, 4, 5, 6, u32::MAX] {
            assert!(!parse(&head(1300, other)).unwrap().is_shut_down);
        }
        assert_eq!(parse(&head(1300, 1)).unwrap().system_identifier, 7);
    }

    #[test]
    fn limits_suffice_only_when_none_is_smaller() {
        let limits = parse(&head(1300, SHUT_DOWN)).unwrap().limits;
        assert_eq!(limits.max_locks_per_transaction, 64);
        assert!(limits.suffice_for(&limits));
        let more = RecoveryLimits {
            max_connections: 101,
            ..limits
        };
        assert!(more.suffice_for(&limits));
        assert!(!limits.suffice_for(&more));
    }

    #[test]
    fn an_unknown_or_truncated_file_is_an_error() {
        assert_eq!(parse(&head(1299, SHUT_DOWN)), Err(1299));
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            read(root.path()),
            Err(ControlDataError::Read { .. })
        ));
        std::fs::create_dir(root.path().join("global")).unwrap();
        std::fs::write(root.path().join("global/pg_control"), [0; HEAD_BYTES - 1]).unwrap();
        assert!(matches!(
            read(root.path()),
            Err(ControlDataError::Read { .. })
        ));
    }
}
