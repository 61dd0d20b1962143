//! Bases: copies of sources that branches are cloned from, never served.
//!
//! `copy` makes one by a dump. `followed` is one that follows its source, by `physical` or `logical`; `living` knows those
//! that do. `store` knows every snapshot, finds a fresh one and drops the stale. `lsn` and `moment` say where a source
//! stands in its WAL, and what a copy must hold for nothing to be missing. `forgotten` is what no copy has of its source,
//! `libraries` what servers of copies load.

pub mod copy;
pub mod followed;
mod forgotten;
pub mod libraries;
pub mod living;
pub mod logical;
pub mod lsn;
pub mod moment;
pub mod physical;
pub mod store;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a snapshot: the key of what it is a copy of, and a number that grows with each copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotName {
    key: String,
    number: u64,
}

impl SnapshotName {
    /// The `number`th copy of what `key` stands for: 16 hexadecimal digits.
    pub fn new(key: &str, number: u64) -> Self {
        Self {
            key: key.to_owned(),
            number,
        }
    }

    /// What it is a copy of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which copy of that it is.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.number)
    }
}
