//! Branches: what is asked for, and what is told of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Holder, SessionView, SourceName};
use crate::{BranchId, BranchName, ByteSize, CopySpec, Namespace, PgMajor, Secret, Ttl};

/// Where the data comes from: a source that was added by name, or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceRef {
    /// A source that `source add` named.
    Name(SourceName),
    /// A connection string with its password.
    Url(Secret),
}

/// A way to a source that only somebody else's network reaches. The same address there is another server than here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceProxy {
    /// Whose network it is, such as `deployment/inventory -n shop`: tells it from others, and is told to people.
    pub network: String,
    /// The Unix socket of a SOCKS5 proxy in it (RFC 1928, CONNECT without authentication).
    #[schema(value_type = String)]
    pub socket: PathBuf,
}

/// Asks for a branch: the living one of this id, or a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsureBranch {
    /// Finds the branch again.
    pub id: BranchId,
    /// Where the id counts.
    pub namespace: Namespace,
    /// Where the data comes from.
    pub source: SourceRef,
    /// The way to a source that is given by its URL; none: as this machine reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<SourceProxy>,
    /// The database within the source; none: the one that the source's URL names.
    #[serde(default)]
    pub database: Option<String>,
    /// What is copied.
    pub copy: CopySpec,
    /// The branch's major version; none: the source's.
    #[serde(default)]
    pub version: Option<PgMajor>,
    /// Settings for every connection to the source, such as `app.tenant` for its row security.
    #[serde(default)]
    pub connection_settings: BTreeMap<String, String>,
    /// How long the branch outlives its last session.
    #[serde(default)]
    pub ttl: Ttl,
    /// Accepts data of up to this age, in seconds, without asking whether the source has moved since; none: everything
    /// that was committed before the request.
    #[serde(default)]
    pub max_age_seconds: Option<u64>,
    /// The session that asks, as if it joined in the same moment; none: nobody holds the branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// What makes a branch what it is: another of these under the same id is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpecView {
    /// The source's address, `host:port`.
    pub source: String,
    /// Whose network that address is in; none: this machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The source's database.
    pub database: String,
    /// The user that copies.
    pub user: String,
    /// What is copied.
    pub copy: CopySpec,
    /// The branch's major version, where one was asked for.
    pub version: Option<PgMajor>,
    /// Settings for every connection to the source.
    pub connection_settings: BTreeMap<String, String>,
}

/// Where a branch stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BranchPhase {
    /// Its base is being checked against the source, or copied.
    Copying,
    /// Its files are being cloned from the base.
    Cloning,
    /// Its server is starting.
    Starting,
    /// It answers.
    Ready,
    /// It could not be made, or its server is gone; the next request makes it anew.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl BranchPhase {
    /// The phase's word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Cloning => "cloning",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

/// What the copy of a base is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CopyPhase {
    /// Waiting until another copy is done: so many as `copies_max` says are made at once.
    Waiting,
    /// Asking the source what it is and what may be read.
    Inspecting,
    /// Making an empty server.
    Preparing,
    /// Waiting for the source's checkpoint, which a copy of its files begins with.
    Checkpoint,
    /// Copying structure and rows.
    Copying,
    /// Building indexes and constraints.
    Indexing,
    /// Running the SQL that the source's administrator wants run in every copy.
    Adapting,
    /// Stopping the server cleanly and sealing its files.
    Sealing,
}

/// How far the copy of a base is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyProgress {
    /// What it is doing.
    pub phase: CopyPhase,
    /// The source's database on its disk; none before it was asked.
    pub source_size_bytes: Option<ByteSize>,
    /// Disk that the base will need here, free space asked for included.
    pub disk_needed_bytes: Option<ByteSize>,
    /// Free space on the volume.
    pub disk_free_bytes: Option<ByteSize>,
    /// How long the whole copy is thought to take, with what it has waited for the source.
    pub estimate_seconds: Option<u64>,
    /// Bytes of rows copied.
    pub copied_bytes: ByteSize,
    /// Rows copied.
    pub copied_rows: u64,
    /// The table that is being copied; of several, the largest.
    pub table: Option<String>,
    /// How long a wait for the source lasts at most, and what ends it sooner.
    #[serde(default)]
    pub advice: Option<String>,
    /// When the copy began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
}

/// How a branch is known to hold what was committed before it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// The base was copied for this request.
    Copied,
    /// The source had not moved since the base was copied: snapshot, identifier, timeline and sequences are the same.
    Unmoved,
    /// The data was young enough for `max_age_seconds`; whether the source has moved since was not asked.
    Accepted,
    /// The base follows its source, and had replayed everything up to the source's position at the request.
    Replayed,
}

/// The base that a branch was cloned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BaseView {
    /// The source's position (LSN) when the copy's snapshot was taken.
    pub position: String,
    /// When that was.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// How the branch was known to be fresh when it was made.
    pub freshness: Freshness,
    /// How far the base was behind its source when it was asked, as the time that it took to have everything, in
    /// milliseconds; none where it was not waited for.
    #[serde(default)]
    pub lag_milliseconds: Option<u64>,
    /// The source's major version.
    pub source_version: PgMajor,
    /// Login roles of the source that cannot log in here: their passwords cannot be read.
    pub roles_without_password: Vec<String>,
    /// What the branch does not have as the source has it, a sentence each.
    pub notes: Vec<String>,
}

/// Everything told of a branch; no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BranchView {
    /// The resource name, `pg-` and sixteen hexadecimal digits.
    pub name: BranchName,
    /// The id that its owner chose.
    pub id: BranchId,
    /// Where the id counts.
    pub namespace: Namespace,
    /// Where it stands.
    pub phase: BranchPhase,
    /// What it was made from.
    pub spec: SpecView,
    /// How long it outlives its last session.
    pub ttl_seconds: Ttl,
    /// When it was first asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last became ready.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ready_at: Option<Timestamp>,
    /// When it is deleted; none while a session holds it or before it was ready.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The sessions that hold it.
    pub sessions: Vec<SessionView>,
    /// Its door, `host:port`; none before it was ready.
    pub endpoint: Option<String>,
    /// Whether its server is stopped until the next client connects.
    pub asleep: bool,
    /// What its server answers to `SHOW cluster_name`: proof that a connection ended here; none before it was cloned.
    pub identity: Option<String>,
    /// The major version of its server.
    pub version: Option<PgMajor>,
    /// The base that it was cloned from.
    pub base: Option<BaseView>,
    /// The base's copy, while the branch waits for it.
    pub progress: Option<CopyProgress>,
    /// Connections through its door at this moment.
    pub connections: u32,
    /// Connections through its door since the engine started.
    pub connections_total: u64,
    /// What it has of its own on disk, as it was at most two seconds ago; none before it was cloned.
    pub disk_bytes: Option<ByteSize>,
    /// What it shares with its snapshot and other branches, and would not be free without it; none before it was cloned.
    #[serde(default)]
    pub shared_bytes: Option<ByteSize>,
    /// Why it failed, or what its owner should know.
    pub message: Option<String>,
    /// What its owner can do about the message.
    pub hint: Option<String>,
    /// Grows with every change of this view, for those who wait for one.
    pub generation: u64,
}

/// Answers [`EnsureBranch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnsuredBranch {
    /// Whether the branch lived already.
    pub reused: bool,
    /// The branch as it stands.
    pub branch: BranchView,
}

/// How to connect to a branch: the one answer that holds a password, and what its door asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BranchConnection {
    /// The source's own connection string with the branch's address; where it has the source prove who it is, encryption is left of that.
    pub url: Secret,
    /// The door's host.
    pub host: String,
    /// The door's port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// What the server answers to `SHOW cluster_name`.
    pub identity: String,
    /// What is to be said at the door before PostgreSQL's first byte, two hexadecimal digits a byte; none where the door is
    /// not guarded. A session's is good while it holds the branch, any other for 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Secret>,
    /// Every address of the source, `host:port`, where it has a name; whoever connects to one of them means the branch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_addresses: Vec<String>,
}

/// Gives a branch more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendBranch {
    /// The new TTL, counted from now where no session holds the branch.
    pub ttl: Ttl,
}
