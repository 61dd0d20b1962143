//! The sessions of a cluster as their resources have them: listed, and stopped by somebody else.

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use model::Namespace;
use operator::agents::ApiFailure;
use operator::{STOPPED_ANNOTATION, SessionStanding};
use resources::Session;
use serde_json::json;

use super::error::ClusterError;
use super::kubeconfig::Kubeconfig;

/// The sessions of a namespace, or of all.
pub(crate) struct SessionList {
    client: Client,
    /// How they stand, by namespace and name.
    pub(crate) sessions: Vec<SessionStanding>,
}

impl SessionList {
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

    /// Has a session end by its next heartbeat. Whether it was there.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not do that.
    pub(crate) async fn stop(
        &self,
        namespace: &str,
        session: &str,
        by: &str,
    ) -> Result<bool, ClusterError> {
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
