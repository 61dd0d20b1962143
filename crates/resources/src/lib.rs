//! Bough's custom resources of Kubernetes (`bough.dev/v1alpha1`), as types, and the definitions that are made of them.
//!
//! Owns the resources' shape and the rules that the API server enforces: those that one field decides stand beside it,
//! those over several fields and over time are CEL. Leaves what is done about a resource to `operator` and `cli`. Types
//! only: no client, no I/O.
//!
//! No resource of ours holds a secret: a `Source` names the Secret that does.
#![expect(
    unreachable_pub,
    reason = "kube's derive repeats each type, as public as it is, inside of a function"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type are no duplicates of each other"
)]

mod branch;
mod condition;
mod pod;
mod session;
mod source;
mod words;
mod workload;

pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use branch::{Branch, BranchCopy, BranchPhase, BranchSpec, BranchStatus, RowsOf};
pub use condition::Condition;
pub use pod::{PodResources, SourcePod, TaintEffect, Toleration, TolerationOperator};
pub use session::{
    NetworkWish, PodName, PodStanding, Session, SessionAgent, SessionAnswer, SessionAsk,
    SessionPhase, SessionPod, SessionSpec, SessionStatus,
};
pub use source::{
    FollowMode, SOURCE_HOSTS_MAX, SOURCE_NAME_CHARS_MAX, SecretKey, Source, SourceAccess,
    SourceAddress, SourceHostStatus, SourceSpec, SourceStatus, SourceStorage, WarmPool,
};
pub use workload::{Workload, WorkloadKind};

/// The group of all of them.
pub const GROUP: &str = "bough.dev";

/// The version of all of them.
pub const VERSION: &str = "v1alpha1";

/// The definitions that an administrator applies, in the order of their names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Branch::crd(), Session::crd(), Source::crd()]
}

#[cfg(test)]
mod tests;
