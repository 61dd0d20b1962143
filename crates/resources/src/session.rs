//! `Session`: one `exec` in the place of a workload, as the cluster is told of it.
//!
//! ```text
//!   user: spec.asks, each with the public half of a key of his     operator: status.answers, each sealed to that key
//! ```
//!
//! What opens a session with an agent stands in no resource but sealed: only the command that asked has the other half.

use kube::{CustomResource, KubeSchema};
use model::IncomingMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::workload::Workload;

/// Whose place is taken, what of its network is wanted, and by whom. Fixed once it is begun, but for what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bough.dev",
    version = "v1alpha1",
    kind = "Session",
    namespaced,
    status = "SessionStatus",
    category = "bough",
    derive = "PartialEq",
    doc = "A process somewhere else in the place of a workload",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = ("self.target == oldSelf.target", "a session keeps its target: begin another one"))]
#[x_kube(validation = ("self.network == oldSelf.network", "a session keeps its network wishes: begin another one"))]
#[x_kube(validation = (
    "has(self.requester) == has(oldSelf.requester) && (!has(self.requester) || self.requester == oldSelf.requester)",
    "who asked is written once"
))]
pub struct SessionSpec {
    /// Whose place is taken.
    pub target: Workload,
    /// What of its network is wanted.
    #[serde(default)]
    pub network: NetworkWish,
    /// Agents that are asked for, one each: the first for the best of its pods, others as its pods come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub asks: Vec<SessionAsk>,
    /// Who asked for it, as the API server knows him: the admission policy refuses anybody else's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requester: Option<String>,
}

/// One agent that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SessionAsk {
    /// The public half of an X25519 key of this ask alone, in hexadecimal digits: what the answer is sealed to.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub key: String,
    /// Beside which pod; without it the best one of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
}

/// One pod: another one of the same name has another uid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PodName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What of a workload's network is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct NetworkWish {
    /// Its incoming connections.
    #[serde(default)]
    #[schemars(schema_with = "crate::words::incoming_mode")]
    pub incoming: IncomingMode,
    /// Whether connections and names go through it.
    #[serde(default)]
    pub outgoing: bool,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionPhase {
    /// It has no agent yet.
    #[default]
    Pending,
    /// An agent takes it.
    Ready,
    /// It cannot be had; the message says why.
    Failed,
    /// The operator lacks the right to place its agent; whoever began it may have it himself.
    Declined,
}

impl SessionPhase {
    /// The phase in a word, as its resource has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
            Self::Declined => "Declined",
        }
    }
}

/// What became of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The generation of the spec that this is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where it is in its life.
    #[serde(default)]
    pub phase: SessionPhase,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is true of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// What became of what it asked for, and still asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub answers: Vec<SessionAnswer>,
    /// The pods of its target, the best first, as they were seen last; absent until they have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pods: Option<Vec<SessionPod>>,
    /// The heartbeat that was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<String>,
    /// When it was heard first, as RFC 3339 has times, by the operator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub heard_at: Option<String>,
}

/// What became of one ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SessionAnswer {
    /// The ask's key.
    pub key: String,
    /// The agent; none where there is none to be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SessionAgent>,
    /// Why there is none, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// An agent: a container of one of the workload's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAgent {
    /// The pod.
    pub pod: PodName,
    /// The agent's container.
    pub container: String,
    /// The container that it stands beside.
    pub beside: String,
    /// TCP ports that this one says it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ports: Vec<u16>,
    /// Whether the agent finds the target's process as the first of its process namespace.
    pub sees_process: bool,
    /// What a person should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub remarks: Vec<String>,
    /// Where it listens and credentials of sessions with it, sealed to the ask's key.
    #[schemars(length(max = 4096))]
    pub sealed: String,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodStanding {
    /// It does not run yet.
    Waits,
    /// It runs, and its services send it nothing.
    Runs,
    /// It runs, and its services send it what comes.
    Ready,
    /// It runs, and is asked to end.
    Ending,
    /// Its processes have ended.
    Ended,
}

/// A pod of the target at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SessionPod {
    /// Which.
    pub pod: PodName,
    /// How far it is.
    pub standing: PodStanding,
}
