//! One object of the manifests brought into the cluster by server-side apply, or taken out of it.
//!
//! Owns how a single object is applied and what has become of it. Leaves which objects there are to `manifests`, their
//! order to the caller.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

/// As whom the API server remembers what was applied.
const FIELD_MANAGER: &str = "bough";

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It was there, and something of it is another now.
    Changed,
    /// It was there as it is to be.
    Unchanged,
    /// It was there, and is taken away.
    Removed,
    /// It was not there to be taken away.
    Absent,
}

/// Why an object is not as it is to be.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is no object of Kubernetes.
    #[error("the manifest of {0} is none")]
    Manifest(String),
    /// The API server refused or did not answer.
    #[error("cannot {verb} {object}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// With which object.
        object: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// An object's kind, namespace and name, as people say it.
pub fn title(object: &Value) -> String {
    let of = |key: &str| object["metadata"][key].as_str();
    let kind = object["kind"].as_str().unwrap_or("object");
    let name = of("name").unwrap_or_default();
    match of("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Applies an object; with `dry` only says what that would do.
///
/// # Errors
/// [`InstallError`] where the API server does not take it.
pub async fn apply(client: &Client, object: &Value, dry: bool) -> Result<Change, InstallError> {
    let (api, name) = api(client, object)?;
    let failed = |verb, source| failed(verb, object, source);
    let before = api
        .get_opt(&name)
        .await
        .map_err(|error| failed("look at", error))?;
    if dry && before.is_none() {
        return Ok(Change::Created);
    }
    let mut params = PatchParams::apply(FIELD_MANAGER).force();
    params.dry_run = dry;
    let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
    let after = applied.map_err(|error| failed("apply", error))?;
    Ok(match before {
        None => Change::Created,
        // Whose fields they are counts for nothing.
        Some(before) if is_same(&before, &after) => Change::Unchanged,
        Some(_) => Change::Changed,
    })
}

/// Takes an object away; with `dry` only says whether it is there.
///
/// # Errors
/// [`InstallError`] where the API server does not take it away.
pub async fn remove(client: &Client, object: &Value, dry: bool) -> Result<Change, InstallError> {
    let (api, name) = api(client, object)?;
    if dry {
        let found = api.get_opt(&name).await;
        let found = found.map_err(|error| failed("look at", object, error))?;
        return Ok(found.map_or(Change::Absent, |_| Change::Removed));
    }
    match api.delete(&name, &DeleteParams::background()).await {
        Ok(_) => Ok(Change::Removed),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Change::Absent),
        Err(error) => Err(failed("delete", object, error)),
    }
}

fn failed(verb: &'static str, object: &Value, source: kube::Error) -> InstallError {
    InstallError::Api {
        verb,
        object: title(object),
        source: Box::new(source),
    }
}

fn is_same(before: &DynamicObject, after: &DynamicObject) -> bool {
    let (mut one, mut other) = (before.clone(), after.clone());
    for object in [&mut one, &mut other] {
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        if let Some(data) = object.data.as_object_mut() {
            drop(data.remove("status"));
        }
    }
    one == other
}

/// Where the API server keeps an object, and its name there.
fn api(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, String), InstallError> {
    let typed: Result<DynamicObject, _> = serde_json::from_value(object.clone());
    let typed = typed.map_err(|_| InstallError::Manifest(title(object)))?;
    let kind = typed
        .types
        .as_ref()
        .and_then(|it| GroupVersionKind::try_from(it).ok());
    let kind = kind.ok_or_else(|| InstallError::Manifest(title(object)))?;
    let resource = ApiResource::from_gvk(&kind);
    let api = match typed.metadata.namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, typed.name_any()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_the_same_whoever_applied_it_and_however_it_stands() {
        let object = |replicas: u8, version: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "x", "resourceVersion": version},
                "spec": {"replicas": replicas}, "status": {"seen": version},
            }))
            .expect("an object")
        };
        assert!(is_same(&object(2, "1"), &object(2, "2")));
        assert!(!is_same(&object(1, "1"), &object(2, "1")));
    }

    #[test]
    fn titles_have_the_namespace_where_there_is_one() {
        let object = json!({"kind": "Role", "metadata": {"name": "a", "namespace": "shop"}});
        assert_eq!(title(&object), "Role shop/a");
        let object = json!({"kind": "ClusterRole", "metadata": {"name": "a"}});
        assert_eq!(title(&object), "ClusterRole a");
    }
}
