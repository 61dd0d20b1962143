//! The sessions of a cluster as their resources have them: listed, and stopped by somebody else.

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use model::Namespace;
use model::engine_api::SessionId;
use operator::agents::ApiFailure;
use operator::{STOPPED_ANNOTATION, SessionStanding};
use resources::Session;
use serde_json::json;

use super::branch_host::who_asks;
use super::error::ClusterError;
use super::kubeconfig::Kubeconfig;

/// The sessions of a namespace, or of all.
pub(crate) struct SessionList {
    client: Client,
    /// How they stand, by namespace and name.
    sessions: Vec<SessionStanding>,
}

impl SessionList {
    /// Each with its id: what names a resource names a session.
    pub(crate) fn by_id(&self) -> impl Iterator<Item = (SessionId, &SessionStanding)> {
        self.sessions.iter().filter_map(|standing| {
            let id = standing.session.clone().try_into().ok()?;
            Some((id, standing))
        })
    }

    /// Lists them; none where the cluster does not know them.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not look.
    pub(crate) async fn read(
        kubeconfig: &Kubeconfig,
        namespace: Option<&Namespace>,
    ) -> Result<Self, ClusterError> {
        let client = kubeconfig.client().await?;
        let (api, place): (Api<Session>, _) = match namespace {
            Some(namespace) => (
                Api::namespaced(client.clone(), namespace.as_str()),
                format!("-n {namespace}"),
            ),
            None => (Api::all(client.clone()), "-A".to_owned()),
        };
        let listed = api.list(&ListParams::default()).await;
        let sessions = match listed.map_err(ApiFailure::from) {
            Ok(listed) => listed.items.iter().map(SessionStanding::of).collect(),
            Err(failure) if failure.is_not_found() => Vec::new(),
            Err(source) => {
                return Err(ClusterError::Api {
                    tried: "list sessions".to_owned(),
                    right: format!("list sessions.bough.dev {place}"),
                    source,
                });
            }
        };
        Ok(Self { client, sessions })
    }

    /// Has a session end by its next heartbeat, in the name that the API server knows us by; `otherwise` where it tells
    /// none. Whether it was there.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not do that.
    pub(crate) async fn stop(
        &self,
        namespace: &str,
        session: &str,
        otherwise: &str,
    ) -> Result<bool, ClusterError> {
        let by = who_asks(&self.client).await?;
        let by = by.as_deref().unwrap_or(otherwise);
        let api: Api<Session> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {STOPPED_ANNOTATION: by}}}));
        let stopped = api.patch(session, &PatchParams::default(), &patch).await;
        match stopped.map_err(ApiFailure::from) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_not_found() => Ok(false),
            Err(source) => Err(ClusterError::Api {
                tried: format!("stop the session {session} in namespace {namespace}"),
                right: format!("patch sessions.bough.dev -n {namespace}"),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::contexts::kubernetes::played_api::{play, refusal};

    /// Stops a session where the API server knows us so; what was asked of it.
    async fn stopped_by(known: Option<&'static str>) -> serde_json::Value {
        let patched = Arc::new(Mutex::new(json!(null)));
        let shared = Arc::clone(&patched);
        let client = play(move |method, path, body| {
            if path.ends_with("/selfsubjectreviews") {
                return match known {
                    Some(name) => {
                        let user = json!({"userInfo": {"username": name}});
                        (201, json!({"metadata": {}, "status": user}))
                    }
                    None => refusal(404, "the server could not find the requested resource"),
                };
            }
            assert_eq!(method, "PATCH", "{path}");
            *shared.lock().expect("no panic") = body;
            let spec = json!({"target": {"kind": "Deployment", "name": "inventory"}});
            (200, json!({"metadata": {"name": "s"}, "spec": spec}))
        });
        let list = SessionList {
            client,
            sessions: Vec::new(),
        };
        let was_there = list.stop("shop", "s", "alice@laptop").await;
        assert!(was_there.expect("it may be stopped"));
        let patched = patched.lock().expect("no panic");
        patched["metadata"]["annotations"][STOPPED_ANNOTATION].clone()
    }

    #[tokio::test]
    async fn who_stops_a_session_says_the_name_that_the_cluster_knows() {
        assert_eq!(stopped_by(Some("alice")).await, "alice");
        assert_eq!(stopped_by(None).await, "alice@laptop");
    }
}
