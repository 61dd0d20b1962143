//! `Session`: one `exec` in the place of a workload, as the cluster is told of it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// Whose place is taken, and what of its network is wanted.
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
#[x_kube(validation = ("self == oldSelf", "a session is what it was begun as: begin another one"))]
pub struct SessionSpec {
    /// Whose place is taken.
    pub target: Workload,
    /// What of its network is wanted.
    #[serde(default)]
    pub network: NetworkWish,
    /// Who asked for it, as the API server knows him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requester: Option<String>,
}

/// What becomes of a workload's incoming connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IncomingWish {
    /// They stay its own.
    #[default]
    Off,
    /// The session gets copies.
    Mirror,
    /// The session gets them.
    Steal,
}

/// What of a workload's network is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct NetworkWish {
    /// Its incoming connections.
    #[serde(default)]
    pub incoming: IncomingWish,
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
    /// Its agent takes it.
    Ready,
    /// It cannot be had; the message says why.
    Failed,
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
    /// Its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SessionAgent>,
}

/// An agent: a container of one of the workload's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SessionAgent {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
}
