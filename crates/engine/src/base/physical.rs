//! Physical bases: a source followed file by file, by a standby of ours, and what is made of it.
//!
//! ```text
//!              fitness ── unfit: sentences ──▶ (a logical base instead)
//!                 │ fit
//!                 ▼
//!   source ──▶  seed  ──▶ STANDBY ◀── tend: look ▶ tending::step ▶ wait, reconnect, restart, seed again
//!      │    pg_basebackup   │  │ replays what the source writes, never serves
//!      │                    │  │
//!      │                    │  ├─ snapshot: clone alive ▶ recover once ▶ neutral ▶ stopped cleanly
//!      │                    │  │             (branches are clones of it and never recover)
//!      │                    │  └─ follower: clone alive ▶ stays in recovery, streams from the standby
//!      │                    │                   │
//!      └─ Moment: where it stands ──▶ wait until replayed ──▶ promoted ▶ neutral ▶ a fresh branch
//! ```
//!
//! Who uses it asks `fitness`, has a base by `seed` (or `Standby::start` and `Standby::adopt` for one that is there), calls
//! `Keeper::tend` every second or so, and has snapshots and followers made in the background. A request reads the
//! source's `Moment`: a snapshot that `Held::covers` it will do; else a follower waits for it and is promoted.
//!
//! Reading order: `base::moment` (what "nothing is missing" means), `fitness`, `seed`, `standby`, `tending` (the pure machine),
//! `backup` (a clone of a living standby), `neutral`, `snapshot`, `follower`.
//!
//! Owns everything between a source that grants replication and a directory or a server that a branch can be made of.
//! Leaves names, journal, room on the disk and when to do what to `store` and `branch`; how files are cloned is
//! handed in. *Promises:*
//!
//! - On the source nothing is made but connections and, where it is safe, a slot that ends with its connection.
//! - What is handed out holds nothing of ours that opens a door: no login without a password, no socket but its own.
//! - A dropped future leaves nothing running but a server that is ending, which [`sweep`] finds.
//!
//! [`sweep`]: crate::postgres::server::sweep

pub mod backup;
pub mod collations;
mod contents;
mod control;
pub mod fitness;
pub mod follower;
pub mod neutral;
pub mod prepare;
pub mod replication;
pub mod seed;
pub mod snapshot;
pub mod standby;
pub mod tending;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::PgUrl;

use super::logical::stillness::Stillnesses;
use crate::clock::Clock;
use crate::postgres::account::ServerAccount;
use crate::postgres::binaries::Installations;
use crate::source::SourceAccess;
use crate::volume::{Cancel, VolumeError};

/// A source that is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// How it is asked.
    pub access: SourceAccess,
    /// How it is replicated, where that is by another user or another way.
    pub replication_url: Option<PgUrl>,
}

impl Upstream {
    /// The URL of the replication connection.
    pub fn replication_url(&self) -> &PgUrl {
        self.replication_url.as_ref().unwrap_or(&self.access.url)
    }
}

/// Makes its second directory a copy of its first, in which a server works: files that vanish meanwhile are left out,
/// owners and modes are kept. Blocks; ends early when cancelled.
pub type CloneLive = Arc<dyn Fn(&Path, &Path, &Cancel) -> Result<(), VolumeError> + Send + Sync>;

/// What this machine has.
#[derive(Clone)]
pub struct Host {
    /// The programs.
    pub installations: Arc<Installations>,
    /// Who servers run as.
    pub account: ServerAccount,
    /// Tells the time.
    pub clock: Clock,
    /// How a living standby is cloned.
    pub clone_live: CloneLive,
    /// How long an administrator's SQL may take in a copy.
    pub prepare_time_max: Duration,
    /// Who may stop the servers of bases that follow by a subscription.
    pub stillnesses: Arc<Stillnesses>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Where one server of ours lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its directory: `data`, `server.log`, and a standby's `replication.pass` are in it.
    pub directory: PathBuf,
    /// The directory of its socket, made with mode 0700 at its start.
    pub socket_dir: PathBuf,
}

impl Place {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Whether no database is there. Where that cannot be found out, one may be.
    pub fn is_empty(&self) -> bool {
        matches!(self.data().join("PG_VERSION").try_exists(), Ok(false))
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// The password of a standby's replication connection: beside the data directory, so that no clone has it.
    pub fn passfile(&self) -> PathBuf {
        self.directory.join("replication.pass")
    }
}
