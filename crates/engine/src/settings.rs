//! What an engine is told before it starts: by its caller, and by the administrator's `engine.toml`.
//!
//! Owns the limits with their names and defaults. Leaves the environment and the command line to `cli`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use model::ttl::TTL_MAX_DEFAULT;
use model::{ByteSize, Ttl};
use serde::Deserialize;

use crate::base::copy::Burden;

/// Everything an engine is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory, absolute. One engine serves it.
    pub data_dir: PathBuf,
    /// Folders in which PostgreSQL is looked for first: `DIR/MAJOR/bin` or `DIR` itself.
    pub postgres_path: Vec<PathBuf>,
    /// The caller's `PATH`, for `pg_config`.
    pub path: Option<OsString>,
    /// The account that servers run as when the engine is root.
    pub server_account: Option<String>,
    /// Who is let in at branches' doors.
    pub doors: Doors,
    /// The limits.
    pub limits: Limits,
}

/// Who is let in at branches' doors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doors {
    /// Whoever reaches them, which on a machine of one's own are one's own programs; their servers ask for passwords.
    #[default]
    Open,
    /// Whoever has been given a pass by the engine's API. A data directory whose doors were guarded once keeps that.
    Guarded,
}

/// What the engine never passes. `engine.toml` in the data directory sets them under these names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest TTL that is granted, in seconds.
    pub ttl_max_seconds: Ttl,
    /// Branches that may exist at once. Each is a server with its own memory.
    pub branches_max: u32,
    /// Connections that a branch's server takes, whatever the source takes: an idle branch's memory grows with it, about
    /// 30 kB for each.
    pub connections_per_branch_max: u32,
    /// Bases that are copied at once: two keep a small machine and a source responsive.
    pub copies_max: u32,
    /// Connections of one copy that read rows at once, beside three more; a machine with fewer cores uses fewer.
    pub copy_readers_max: u32,
    /// Free space that is never used: bases must be able to go on.
    pub free_floor_bytes: ByteSize,
    /// How long one copy may hold its snapshot open on the source, in seconds: an old snapshot keeps the source
    /// from removing dead rows.
    pub copy_seconds_max: u64,
    /// How long somebody on a source may wait for a table that a copy reads, in seconds, before the copy gives way.
    pub copy_waited_seconds_max: u64,
    /// How long an administrator's SQL may take in a copy of a source that is followed, in seconds; a dump's is part of the dump.
    pub prepare_seconds_max: u64,
    /// The size of a source above which a request must say what age of data it accepts, so that nobody copies for an
    /// hour by accident; none: no source is too large.
    pub copy_on_request_bytes_max: Option<ByteSize>,
    /// How long a snapshot without branches is kept for the next request, in seconds.
    pub base_idle_seconds: u64,
    /// Clones of one source that run before anybody asks for them; 0: none.
    pub warm_per_source_max: u32,
    /// How long after its last request a source has such clones, in seconds.
    pub warm_idle_seconds: u64,
    /// How long nobody connects to a branch until its server sleeps, in seconds, to start again for the next client;
    /// 0: never.
    pub sleep_after_seconds: u64,
    /// Snapshots of a base that follows its source that are kept without a branch.
    pub snapshots_per_source_max: u32,
    /// Followers of one source that is being written that wait for a request; 0: none.
    pub followers_per_source_max: u32,
    /// How long a follower waits for a request at most, in seconds: what its source writes is written there again.
    pub follower_seconds_max: u64,
    /// How long a request waits at most until a base has everything that its source had, in seconds.
    pub replay_wait_seconds_max: u64,
    /// Available memory below which none of them is kept.
    pub memory_floor_bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ttl_max_seconds: TTL_MAX_DEFAULT,
            branches_max: 500,
            connections_per_branch_max: 50,
            copies_max: 2,
            copy_readers_max: 4,
            free_floor_bytes: ByteSize(256 << 20),
            copy_seconds_max: 6 * 3600,
            copy_waited_seconds_max: 10,
            prepare_seconds_max: 3600,
            copy_on_request_bytes_max: None,
            base_idle_seconds: 24 * 3600,
            warm_per_source_max: 2,
            warm_idle_seconds: 1800,
            sleep_after_seconds: 900,
            snapshots_per_source_max: 2,
            followers_per_source_max: 2,
            follower_seconds_max: 1800,
            replay_wait_seconds_max: 30,
            memory_floor_bytes: ByteSize(512 << 20),
        }
    }
}

impl Limits {
    /// For how long a copy may burden its source.
    pub fn copy_burden(&self) -> Burden {
        Burden {
            held_max: Duration::from_secs(self.copy_seconds_max),
            waited_max: Duration::from_secs(self.copy_waited_seconds_max),
        }
    }

    /// The longest that a copy is prepared.
    pub fn prepare_time_max(&self) -> Duration {
        Duration::from_secs(self.prepare_seconds_max)
    }

    /// How long nobody connects until a server sleeps; none: never.
    pub fn sleep_after(&self) -> Option<SignedDuration> {
        let seconds = i64::try_from(self.sleep_after_seconds).unwrap_or(i64::MAX);
        (seconds > 0).then(|| SignedDuration::from_secs(seconds))
    }

    /// The largest source that is copied for a request that accepts this age of data.
    pub fn unasked_copy_bytes_max(&self, max_age_seconds: Option<u64>) -> Option<ByteSize> {
        match max_age_seconds {
            None => self.copy_on_request_bytes_max,
            Some(_) => None,
        }
    }
}

/// Why `engine.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or has a key that is none.
    #[error("cannot understand {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Limits {
    /// The limits in `DATA_DIR/engine.toml`; the defaults where there is no such file.
    ///
    /// # Errors
    /// [`SettingsError`] names the file: a limit that an administrator wrote is never ignored.
    pub fn read(data_dir: &Path) -> Result<Self, SettingsError> {
        let path = data_dir.join("engine.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| SettingsError::Parse {
                path,
                source: Box::new(source),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_from_the_file_and_unknown_ones_are_refused() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Limits::read(root.path()).unwrap(), Limits::default());
        std::fs::write(root.path().join("engine.toml"), "ttl_max_seconds = 3600\n").unwrap();
        let limits = Limits::read(root.path()).unwrap();
        assert_eq!(
            limits,
            Limits {
                ttl_max_seconds: Ttl(3600),
                ..Limits::default()
            }
        );
        std::fs::write(root.path().join("engine.toml"), "ttl_max = 3600\n").unwrap();
        let refused = Limits::read(root.path()).unwrap_err();
        assert!(matches!(refused, SettingsError::Parse { .. }));
    }
}
