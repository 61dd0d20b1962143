//! Whether a host is there: its stateful set made where it is missing, and taken away.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use resources::SourceSpec;

use super::{Home, HostSettings, build};
use crate::step::StepError;

/// Makes the host `home` of `namespace`. It stays with its bases, for the next branch, until somebody deletes it.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses or does not answer.
pub(crate) async fn make(
    client: &Client,
    namespace: &str,
    home: &Home,
    source: Option<&SourceSpec>,
    settings: &HostSettings,
) -> Result<(), StepError> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let found = api
        .get_opt(&name)
        .await
        .map_err(|source| failed("look at", namespace, &name, source))?;
    if found.is_some() {
        return Ok(());
    }
    let built = build(namespace, home, source, settings);
    match api.create(&PostParams::default(), &built).await {
        Ok(_) => {
            tracing::info!(namespace, name, "a branch host was made");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(failed("make", namespace, &name, source)),
    }
}

/// Deletes the host `home` of `namespace`, with its volume.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses or does not answer.
pub(crate) async fn delete(client: &Client, namespace: &str, home: &Home) -> Result<(), StepError> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    match api.delete(&name, &DeleteParams::default()).await {
        Ok(_) => {
            tracing::info!(
                namespace,
                name,
                "the host of a source that is gone was deleted"
            );
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(failed("delete", namespace, &name, source)),
    }
}

fn failed(verb: &str, namespace: &str, name: &str, source: kube::Error) -> StepError {
    StepError::Api {
        tried: format!("{verb} the branch host {name} in namespace {namespace}"),
        source: Box::new(source),
    }
}
