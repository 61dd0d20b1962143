//! The engine itself: what it is, where it works, with which servers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ByteSize, PgMajor, Ttl, VolumeKind};

/// How long an engine takes at most to stop the servers of all branches, where it is asked to: longer than that of one.
pub const SERVERS_STOP_TIME_MAX: Duration = Duration::from_secs(85);

/// How long an engine's own end takes at most, from the word on.
pub const ENGINE_END_TIME_MAX: Duration = Duration::from_secs(70);

/// A better kind of volume, and why it does not work here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassedOverKind {
    /// The kind.
    pub kind: VolumeKind,
    /// Why not.
    pub reason: String,
}

/// The filesystem that holds the file that a volume is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackingView {
    /// The file.
    pub path: String,
    /// Free space on its filesystem. The floor holds there as well.
    pub free_bytes: ByteSize,
}

/// The volume that bases and branches live on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// How branches are made.
    pub kind: VolumeKind,
    /// What a branch costs here, in a line.
    pub description: String,
    /// Better kinds, best first.
    pub passed_over: Vec<PassedOverKind>,
    /// The file that the volume is in, where it is in one.
    pub backing: Option<BackingView>,
    /// The filesystem's name, as the kernel has it.
    pub filesystem: String,
    /// Free space.
    pub free_bytes: ByteSize,
    /// Free space below which no base is copied and no branch is made.
    pub floor_bytes: ByteSize,
}

/// One PostgreSQL that the engine found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallationView {
    /// Its major version.
    pub major: PgMajor,
    /// Its full version, as `postgres --version` says it; none where only clients are there.
    pub version: Option<String>,
    /// The folder of its programs.
    pub bin: String,
    /// Whether servers can be made and run from it.
    pub server: bool,
    /// Whether it has `pg_dump`.
    pub pg_dump: bool,
    /// Whether it has `psql`.
    pub psql: bool,
}

/// Everything told of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineView {
    /// The version of the program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Its data directory.
    pub data_dir: String,
    /// The account that servers run as; none: the engine's own.
    pub server_account: Option<String>,
    /// Why branches' servers cannot be kept from the network on this machine, for which none is started; none: they
    /// reach nothing but their clients.
    pub egress_open: Option<String>,
    /// The volume.
    pub volume: VolumeView,
    /// The servers found, oldest first.
    pub installations: Vec<InstallationView>,
    /// The longest TTL that is granted.
    pub ttl_max_seconds: Ttl,
    /// Branches by now.
    pub branches: u32,
    /// The most branches that may exist.
    pub branches_max: u32,
    /// Bases by now.
    pub bases: u32,
    /// Of these, those that are not the newest of what they are copies of: kept for the branches that stand on them, or until
    /// they are dropped.
    #[serde(default)]
    pub superseded_bases: u32,
    /// The sizes of their files together, of which the volume may share a part with others.
    #[serde(default)]
    pub superseded_bytes: ByteSize,
    /// Clones that run before anybody has asked for them.
    pub warm_clones: u32,
    /// Followers of sources that are being written, which wait for a request.
    #[serde(default)]
    pub followers: u32,
    /// Replication slots whose bases are gone and that could not be dropped yet, a sentence each.
    #[serde(default)]
    pub slots_left: Vec<String>,
}

/// Stops the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopEngine {
    /// Whether the branches' servers stop as well. They start again with the engine; their data stays.
    pub servers: bool,
}
