//! How many hosts a stateful set has, which is its replicas: the last ones go first, with their volumes.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::Home;
use crate::step::StepError;

/// How many hosts there are or are being made.
pub(crate) fn count(there: &StatefulSet) -> u16 {
    let replicas = there.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
    u16::try_from(replicas).unwrap_or_default()
}

/// Has the set `home` of `namespace` have so many hosts.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses or does not answer.
pub(crate) async fn scale(
    client: &Client,
    namespace: &str,
    home: &Home,
    hosts: u16,
) -> Result<(), StepError> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let patch = Patch::Merge(json!({"spec": {"replicas": hosts}}));
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
