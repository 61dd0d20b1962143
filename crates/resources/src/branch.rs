//! `Branch`: a writable copy of a source's database, asked for by somebody of its namespace.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use model::CopyMode;
use model::ttl::TTL_DEFAULT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::workload::Workload;

/// What somebody wants of a branch. Fixed once it is asked for, but for its TTL: each field has a rule of its own, so that
/// who is refused reads which one it was.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bough.dev",
    version = "v1alpha1",
    kind = "Branch",
    namespaced,
    status = "BranchStatus",
    shortname = "br",
    category = "bough",
    derive = "PartialEq",
    doc = "A writable, isolated copy of a shared database",
    selectable = ".spec.id",
    printcolumn(name = "Id", type_ = "string", json_path = ".spec.id"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Sessions", type_ = "integer", json_path = ".status.sessions"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.sizeBytes"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.id == oldSelf.id", "a branch keeps its id: ask for another one"))]
#[x_kube(validation = ("self.source == oldSelf.source", "a branch keeps its source: ask for another one"))]
#[x_kube(validation = ("self.version == oldSelf.version", "a branch keeps its version: ask for another one"))]
#[x_kube(validation = ("self.copy == oldSelf.copy", "a branch keeps what it holds: ask for another one"))]
#[x_kube(validation = (
    "has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target)",
    "a branch keeps its target: ask for another one"
))]
#[x_kube(validation = (
    "has(self.requester) == has(oldSelf.requester) && (!has(self.requester) || self.requester == oldSelf.requester)",
    "who asked is written once"
))]
pub struct BranchSpec {
    /// The id that it is found again by: any text, unlike the resource's name.
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// The server and database that it comes from, for people. Whoever asks brings the connection string to the engine of
    /// the branch's host himself, so that no resource holds it.
    #[schemars(length(min = 1, max = 512))]
    pub source: String,
    /// What of the source it holds.
    #[serde(default)]
    pub copy: BranchCopy,
    /// The major version of PostgreSQL, which says whose image its host runs.
    #[schemars(range(min = 15, max = 18))]
    pub version: u16,
    /// Seconds that it outlives its last session. The administrator's maximum is the operator's to enforce.
    #[serde(default = "ttl_default")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds: u32,
    /// The workload in whose environment its connection was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Workload>,
    /// Who asked for it, as the API server knows him: the admission policy refuses anybody else's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requester: Option<String>,
}

/// As files have it.
fn ttl_default() -> u32 {
    u32::try_from(TTL_DEFAULT.0).unwrap_or(u32::MAX)
}

/// What of the source a branch holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.mode != 'all' || !has(self.tables) || self.tables.size() == 0",
    "mode all has every table already: tables go with schema and empty"
))]
pub struct BranchCopy {
    /// How much.
    #[schemars(schema_with = "crate::words::copy_mode")]
    pub mode: CopyMode,
    /// Tables whose rows come along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub tables: BTreeMap<String, RowsOf>,
    /// Further arguments of the dump.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    pub dump_args: Vec<String>,
}

/// Which rows of a table come along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct RowsOf {
    /// A condition in SQL, as after WHERE; without it every row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub filter: Option<String>,
}

/// Where a branch is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BranchPhase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// Its host, its base or itself is being made.
    Making,
    /// It takes connections.
    Ready,
    /// It cannot be had; the message says why.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl BranchPhase {
    /// The phase in a word, as its resource has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Making => "Making",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
            Self::Deleting => "Deleting",
        }
    }
}

/// What became of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BranchStatus {
    /// The generation of the spec that this is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where it is in its life.
    #[serde(default)]
    pub phase: BranchPhase,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The pod of its namespace whose engine has it, once that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The stateful set of its host, from the host's first answer on and never another one: its data is there, whether
    /// the host answers or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Which of that set's pods its host is, as `home`; none for the first, which is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 7))]
    pub home_ordinal: Option<u16>,
    /// The uid of the volume claim that its data is on: a host of the same name with another one lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub volume: Option<String>,
    /// The port of that pod's loopback where it takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The source's position that it holds everything up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// When it ends, as RFC 3339 has times; none while somebody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: Option<String>,
    /// Sessions that hold it.
    #[serde(default)]
    pub sessions: u32,
    /// What is true of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Bytes that are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
}
