//! The workload that a branch or a session is about.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of workload that a target may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A single pod.
    Pod,
    /// A Deployment.
    Deployment,
    /// An Argo Rollout.
    Rollout,
    /// A Job.
    Job,
    /// A CronJob.
    CronJob,
    /// A StatefulSet.
    StatefulSet,
    /// A Service: the pods behind it.
    Service,
    /// A ReplicaSet.
    ReplicaSet,
}

/// A workload of the resource's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// One of its containers; without it the pod's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
}
