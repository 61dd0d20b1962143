//! What `global/pg_control` says about a cluster at rest.
//!
//! Owns reading the state out of the file: `pg_controldata` is not part of every installation, and these first
//! fields have lain at the same place since PostgreSQL 9. Source: `src/include/catalog/pg_control.h`,
//! `ControlFileData` (`system_identifier` 8 bytes, `pg_control_version` 4, `catalog_version_no` 4, `state` 4), in
//! the machine's byte order.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// `pg_control_version` of PostgreSQL 15, and of the newest that this was checked with (18).
const VERSIONS_KNOWN: std::ops::RangeInclusive<u32> = 1300..=1800;

/// `DB_SHUTDOWNED` of the enum `DBState`.
const SHUT_DOWN: u32 = 1;

const HEAD_BYTES: usize = 20;

/// What a cluster says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlData {
    /// Tells clusters apart; a copy made file by file keeps it.
    pub system_identifier: u64,
    /// Whether it was shut down cleanly, so that the next start needs no recovery.
    pub is_shut_down: bool,
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
    Ok(ControlData {
        system_identifier: u64::from_ne_bytes(identifier),
        is_shut_down: word(16) == SHUT_DOWN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u32, state: u32) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&7_u64.to_ne_bytes());
        head[8..12].copy_from_slice(&version.to_ne_bytes());
        head[16..].copy_from_slice(&state.to_ne_bytes());
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
