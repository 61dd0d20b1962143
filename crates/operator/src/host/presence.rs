//! Whether a host is there: its stateful set made where it is missing, and taken away.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};

use super::{DATA_CLAIM, Home};
use crate::step::StepError;

/// Whether a host is there.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Its stateful set.
    There(Box<StatefulSet>),
    /// There is none, and none can be or is to be made; why, for people.
    Gone(String),
}

/// Finds the host `home` of `namespace`; where it is missing and `needed`, it is made as `today`. It stays with its bases, for the
/// next branch, until somebody deletes it.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses or does not answer.
pub(crate) async fn have(
    client: &Client,
    namespace: &str,
    home: &Home,
    needed: bool,
    today: &StatefulSet,
) -> Result<Presence, StepError> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let name = home.name();
    let failed = |verb: &str, source| failed(verb, namespace, &name, source);
    let found = api.get_opt(&name).await;
    if let Some(found) = found.map_err(|source| failed("look at", source))? {
        return Ok(Presence::There(Box::new(found)));
    }
    if !needed {
        let why = format!("its host {name} is gone, with its data");
        return Ok(Presence::Gone(why));
    }
    match api.create(&PostParams::default(), today).await {
        Ok(made) => {
            tracing::info!(namespace, name, "a branch host was made");
            Ok(Presence::There(Box::new(made)))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Ok(Presence::There(Box::new(today.clone())))
        }
        Err(kube::Error::Api(status)) if is_of_a_namespace_that_goes(&status) => {
            let why =
                format!("its namespace {namespace} is being deleted, and its host {name} with it");
            Ok(Presence::Gone(why))
        }
        Err(source) => Err(failed("make", source)),
    }
}

/// Whether nothing can be made any more where it was tried
/// (<https://pkg.go.dev/k8s.io/api/core/v1#pkg-constants>, `NamespaceTerminatingCause`).
fn is_of_a_namespace_that_goes(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|it| &it.causes);
    causes
        .map(|it| it.reason.as_str())
        .any(|reason| reason == "NamespaceTerminating")
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

/// The uid of the claim of the volume that the host with this pod is on; none where it has none.
///
/// # Errors
/// [`StepError::Api`] when the API server refuses, as it does an operator whose rights are an earlier version's.
pub(crate) async fn volume(
    client: &Client,
    namespace: &str,
    pod: &str,
) -> Result<Option<String>, StepError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims.get_opt(&format!("{DATA_CLAIM}-{pod}")).await;
    let found = found.map_err(|source| failed("look at the volume of", namespace, pod, source))?;
    Ok(found.and_then(|it| it.uid()))
}

fn failed(verb: &str, namespace: &str, name: &str, source: kube::Error) -> StepError {
    StepError::Api {
        tried: format!("{verb} the branch host {name} in namespace {namespace}"),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_that_goes_is_known_by_the_cause_of_the_refusal() {
        let refused = |cause: &str| -> Status {
            serde_json::from_value(json!({
                "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": "unable to create new content in namespace shop because it is being terminated",
                "details": {
                    "name": "bough-host-16", "group": "apps", "kind": "statefulsets", "uid": "", "retryAfterSeconds": 0,
                    "causes": [{"reason": cause, "message": "namespace shop is being terminated", "field": "metadata.namespace"}],
                },
            }))
            .expect("a status")
        };
        assert!(is_of_a_namespace_that_goes(&refused(
            "NamespaceTerminating"
        )));
        assert!(!is_of_a_namespace_that_goes(&refused("FieldValueInvalid")));
    }
}
