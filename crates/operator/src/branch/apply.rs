//! One step done: a resource held, told of, released or deleted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use resources::{Branch, BranchStatus};
use serde_json::json;

use super::plan::{Action, FINALIZER};
use crate::host::ask;
use crate::note;
use crate::step::StepError;

/// Does one step about `branch`.
pub(crate) async fn action(
    client: &Client,
    branch: &Branch,
    action: Action,
    now: Timestamp,
) -> Result<(), StepError> {
    let namespace = branch.namespace().unwrap_or_default();
    let name = branch.name_any();
    let api: Api<Branch> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::default();
    let failed = |verb: &str, source: kube::Error| StepError::Api {
        tried: format!("{verb} the branch {name} in namespace {namespace}"),
        source: Box::new(source),
    };
    match action {
        Action::Hold => {
            let patch = Patch::Merge(held(branch));
            let held = api.patch(&name, &params, &patch).await;
            held.map(drop).map_err(|source| failed("hold", source))
        }
        Action::Tell(status) => {
            let patch = Patch::Merge(json!({"status": whole(&status)}));
            let told = api.patch_status(&name, &params, &patch).await;
            told.map(drop).map_err(|source| failed("tell of", source))
        }
        Action::Note(said) => {
            note::write(client, branch, said, now).await;
            Ok(())
        }
        Action::Destroy { pod } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let id = branch.spec.id.as_str();
            let words = [
                "db-branches",
                "destroy",
                "--namespace",
                &namespace,
                "--",
                id,
            ];
            ask(&pods, &pod, &words).await.map(drop)
        }
        Action::Release => {
            let patch = Patch::Merge(released(branch));
            match api.patch(&name, &params, &patch).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                released => released
                    .map(drop)
                    .map_err(|source| failed("release", source)),
            }
        }
        Action::Forget => {
            // Somebody who asks for it meanwhile changes it, and keeps it.
            let params = DeleteParams::default().preconditions(Preconditions {
                resource_version: branch.resource_version(),
                uid: branch.uid(),
            });
            match api.delete(&name, &params).await {
                Err(kube::Error::Api(status)) if status.code == 409 || status.is_not_found() => {
                    Ok(())
                }
                forgotten => forgotten
                    .map(drop)
                    .map_err(|source| failed("forget", source)),
            }
        }
    }
}

/// A status whose absent fields are `null`, which removes what an earlier one said; but for its home, which nothing removes.
fn whole(status: &BranchStatus) -> serde_json::Value {
    let mut whole = json!({
        "conditions": [], "message": null, "host": null, "port": null, "position": null, "expiresAt": null, "sizeBytes": null,
    });
    let told = json!(status);
    if let (Some(whole), Some(told)) = (whole.as_object_mut(), told.as_object()) {
        whole.extend(told.clone());
    }
    whole
}

/// The finalizers with ours, where nobody changed the resource meanwhile.
fn held(branch: &Branch) -> serde_json::Value {
    let mut names = others(branch);
    names.push(FINALIZER);
    let version = branch.resource_version();
    // The status of the same look comes after, so that only the first step may insist on the version.
    json!({"metadata": {"finalizers": names, "resourceVersion": version}})
}

/// The finalizers without ours, of this very object, whatever else was written about it meanwhile: it is being deleted, so
/// that the API server lets nobody add one, and refuses a list with one that somebody took away.
fn released(branch: &Branch) -> serde_json::Value {
    json!({"metadata": {"finalizers": others(branch), "uid": branch.uid()}})
}

fn others(branch: &Branch) -> Vec<&str> {
    let names = branch.finalizers().iter().map(String::as_str);
    names.filter(|name| *name != FINALIZER).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::agents::played_api::{play, refusal};

    /// Has the look's branch released where the cluster has it with this uid, and has written it since; whether it went.
    async fn release(uid: &str) -> (Result<(), StepError>, bool) {
        let metadata = json!({
            "name": "pg-0", "namespace": "shop", "uid": uid, "resourceVersion": "8",
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["other.dev/own", FINALIZER],
        });
        let mut branch = json!({
            "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": metadata,
            "spec": {"id": "x", "source": "db:5432/d", "version": 16},
        });
        let there: Arc<Mutex<serde_json::Value>> = Arc::new(Mutex::new(branch.clone()));
        let shared = Arc::clone(&there);
        let client = play(move |_, _, patch| {
            let mut there = shared.lock().expect("no panic");
            for field in ["uid", "resourceVersion"] {
                let wanted = &patch["metadata"][field];
                if !wanted.is_null() && *wanted != there["metadata"][field] {
                    return refusal(409, "the object has been modified");
                }
            }
            there["metadata"]["finalizers"] = patch["metadata"]["finalizers"].clone();
            (200, there.clone())
        });
        branch["metadata"]["uid"] = json!("ours");
        branch["metadata"]["resourceVersion"] = json!("7");
        let branch = serde_json::from_value(branch).expect("a branch");
        let released = action(&client, &branch, Action::Release, Timestamp::UNIX_EPOCH).await;
        let there = there.lock().expect("no panic");
        let is_gone = there["metadata"]["finalizers"] == json!(["other.dev/own"]);
        (released, is_gone)
    }

    #[tokio::test]
    async fn a_deleted_branch_goes_though_it_was_written_since_and_no_other_of_its_name_does() {
        let (released, is_gone) = release("ours").await;
        assert!(released.is_ok() && is_gone, "{released:?}");
        let (refused, is_gone) = release("another").await;
        assert!(refused.is_err() && !is_gone, "{refused:?}");
    }

    #[test]
    fn a_status_takes_back_what_it_does_not_say_any_more() {
        let written = whole(&BranchStatus {
            port: Some(20432),
            ..BranchStatus::default()
        });
        assert_eq!(
            (&written["port"], &written["host"]),
            (&json!(20432), &json!(null))
        );
        let mut fields: Vec<_> = written.as_object().expect("an object").keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "conditions",
                "expiresAt",
                "host",
                "message",
                "observedGeneration",
                "phase",
                "port",
                "position",
                "sessions",
                "sizeBytes"
            ]
        );
    }
}
