//! `Source`: a shared database that branches are made of, named by whoever looks after it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::pod::SourcePod;

/// The longest name of a source, in characters. Its branch host is the stateful set `bough-source-NAME`, and Kubernetes
/// labels the pods of one with its name and eleven characters more, of 63
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>).
pub const SOURCE_NAME_CHARS_MAX: usize = 39;

/// The most hosts that share the branches of one source. Each follows it by a connection and a slot of its own, of which
/// PostgreSQL has ten where nobody raised it (`max_wal_senders`, `max_replication_slots`), its owner's standbys included.
pub const SOURCE_HOSTS_MAX: u16 = 8;

/// How a shared database is reached, followed and handed out.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bough.dev",
    version = "v1alpha1",
    kind = "Source",
    namespaced,
    status = "SourceStatus",
    category = "bough",
    derive = "PartialEq",
    doc = "A shared database that branches are made of",
    validation = (
        "self.metadata.name.size() <= 39 && !self.metadata.name.contains('.')",
        "a source's name has at most 39 characters and no dot, for its host's pod is named after it: give it another name"
    ),
    printcolumn(name = "Version", type_ = "integer", json_path = ".spec.version"),
    printcolumn(name = "Hosts", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Position", type_ = "string", json_path = ".status.position"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.version == oldSelf.version", "a source keeps its version: delete it and make another one"))]
#[x_kube(validation = (
    "self.hosts >= 1 && self.hosts <= 8",
    "a source has 1 to 8 hosts: each holds a copy of it and follows it by a connection of its own"
))]
pub struct SourceSpec {
    /// The Secret with its connection string, which may read all that is to be copied.
    pub connection: SecretKey,
    /// The same for replication, where another role has that right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<SecretKey>,
    /// The major version of PostgreSQL that it runs, which says whose image its branch host does.
    #[schemars(range(min = 15, max = 18))]
    pub version: u16,
    /// The names by which programs of the namespace reach it: branches of these are made from its base.
    #[schemars(length(min = 1, max = 64))]
    pub addresses: Vec<SourceAddress>,
    /// Further ports that its host connects to where a network policy is on what goes out as well (`both`): those of its
    /// Secrets' connection strings that are not among `addresses`, and those of pods where a Service has others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65_535)))]
    pub egress_ports: Vec<u16>,
    /// How its base is kept fresh.
    #[serde(default)]
    pub follow: FollowMode,
    /// The image that its branch host runs instead of the operator's choice for the version, with the digest that says
    /// exactly which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^\s@]+@sha256:[0-9a-f]{64}$"))]
    pub image: Option<String>,
    /// Where its branch host keeps its data, instead of the operator's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<SourceStorage>,
    /// What the pods of its hosts are given, instead of the operator's choice; those that are there take it up with their
    /// next pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<SourcePod>,
    /// How many hosts share its branches, each with a copy of it on a volume of its own. One that is too many goes with
    /// its last branch.
    #[serde(default = "hosts_default")]
    pub hosts: u16,
    /// How many clones wait on each host for whoever comes next.
    #[serde(default)]
    pub warm_pool: WarmPool,
    /// Who may have branches of it, of those who may have branches in its namespace at all.
    #[serde(default)]
    pub access: SourceAccess,
    /// The longest TTL, in seconds, that a branch of it may have.
    #[serde(default = "ttl_max_default")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds_max: u32,
}

fn hosts_default() -> u16 {
    1
}

/// As the engine has it where nobody raised it.
fn ttl_max_default() -> u32 {
    900
}

/// One value of a Secret of the source's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The value's key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A name and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SourceAddress {
    /// A host name or an address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// How a base is kept fresh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FollowMode {
    /// The best that the source grants.
    #[default]
    Auto,
    /// By a standby, or not at all.
    Physical,
    /// By a subscription, or by copying again.
    Logical,
}

/// Who may have branches of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceAccess {
    /// Whoever may have branches in its namespace.
    #[default]
    Open,
    /// Of those, who has the right to `use` this source.
    Granted,
}

/// Where branch hosts keep their data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("quantity(self.size).isGreaterThan(quantity('0'))", "the size is not above zero"))]
pub struct SourceStorage {
    /// The storage class; without it the cluster's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class: Option<String>,
    /// The size, as Kubernetes writes quantities.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    pub size: String,
}

/// How many clones wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmPool {
    /// Clones of the newest snapshot.
    #[schemars(range(min = 0, max = 64))]
    pub clones: u16,
}

impl Default for WarmPool {
    fn default() -> Self {
        Self { clones: 1 }
    }
}

/// What became of a source. What stands here beside `hosts` is of the one that needs somebody's attention first, by its
/// state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The generation of the spec that all of its hosts know.
    #[serde(default)]
    pub observed_generation: i64,
    /// How many of the hosts that it is to have answer, as in `1/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// What its base is doing: looking, seeding, following, waiting, dumping; or starting and failed, of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The position that its base has, as it was told last: at most every 30 seconds while nothing else changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The pod of its branch host, once that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How it stands, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is true of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// When this was written, as RFC 3339 has times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Each of its hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub hosts: Vec<SourceHostStatus>,
}

/// How a source stands with one of its hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceHostStatus {
    /// The host's pod.
    #[schemars(length(min = 1, max = 253))]
    pub pod: String,
    /// The generation of the source's spec that its engine was told of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Whether its engine answers.
    #[serde(default)]
    pub answers: bool,
    /// As of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// As of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// As of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When this was written, as RFC 3339 has times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}
