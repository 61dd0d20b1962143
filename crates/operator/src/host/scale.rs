//! How many hosts a stateful set has, which is its replicas: the last ones go first, with their volumes where it is the
//! operator that lets them go. They have no branches left then, and what they have of a source the next one copies again.
//! Volumes stay where somebody else scales it: `renewal` sets that back once the pods are gone.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::Home;
use crate::step::StepError;

/// How many hosts there are or are being made.
pub(crate) fn count(there: &StatefulSet) -> u16 {
    let replicas = there.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
    u16::try_from(replicas).unwrap_or_default()
}

/// Whether pods of it are yet to go.
pub(super) fn is_shrinking(there: &StatefulSet) -> bool {
    let pods = there.status.as_ref().map_or(0, |it| it.replicas);
    pods > i32::from(count(there))
}

/// Which way the number of hosts goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// More.
    Up,
    /// Fewer, and their volumes go with them.
    Down,
}

/// The patch that has a set have so many hosts.
fn scaling(way: Way, hosts: u16) -> Value {
    match way {
        Way::Up => json!({"spec": {"replicas": hosts}}),
        Way::Down => json!({"spec": {
            "replicas": hosts,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        }}),
    }
}

/// Has the set `home` of `namespace` have so many hosts, which are more or fewer than there are.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses or does not answer.
pub(crate) async fn scale(
    client: &Client,
    namespace: &str,
    home: &Home,
    way: Way,
    hosts: u16,
) -> Result<(), StepError> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let patch = Patch::Merge(scaling(way, hosts));
    let scaled = api.patch(&name, &PatchParams::default(), &patch).await;
    scaled.map_err(|source| StepError::Api {
        tried: format!("have {hosts} of the branch host {name} in namespace {namespace}"),
        source: Box::new(source),
    })?;
    tracing::info!(
        namespace,
        name,
        hosts,
        "a source has another number of branch hosts"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32, pods: i32) -> StatefulSet {
        let written = json!({
            "metadata": {"name": "bough-host-16"},
            "spec": {"replicas": replicas, "serviceName": "it", "selector": {}, "template": {}},
            "status": {"replicas": pods},
        });
        serde_json::from_value(written).expect("a stateful set")
    }

    #[test]
    fn only_a_host_that_the_operator_lets_go_loses_its_volume() {
        let policy = "/spec/persistentVolumeClaimRetentionPolicy/whenScaled";
        let shrunk = scaling(Way::Down, 2);
        assert_eq!(shrunk.pointer(policy), Some(&json!("Delete")));
        assert_eq!(shrunk["spec"]["replicas"], 2);
        assert_eq!(scaling(Way::Up, 3), json!({"spec": {"replicas": 3}}));
    }

    #[test]
    fn it_shrinks_until_its_pods_are_gone() {
        assert!(is_shrinking(&set(2, 3)));
        assert!(!is_shrinking(&set(2, 2)));
        assert!(!is_shrinking(&set(3, 2)));
    }
}
