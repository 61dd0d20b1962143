//! A pod of the session's own, where it has no target on purpose: nothing but an agent, by which connections and names are
//! the cluster's.
//!
//! It fits Pod Security `restricted`: no capability, no token, a root that nothing writes to. It goes with its session. One
//! whose session was killed ends by itself, since its agent does, and what is left of it goes with the next one that this
//! command makes in the namespace.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use model::Namespace;
use operator::OWN_POD_LABEL;
use operator::agents::{AgentContainer, PROGRAM};
use serde_json::json;

use super::error::ClusterError;
use super::invitation::Invitation;
use super::kubeconfig::Kubeconfig;
use super::leftovers::Leftovers;
use super::pod_agent::PodAgent;

/// The name of its one container.
const CONTAINER: &str = "agent";

/// Why the agent takes no ports: nobody sends anything to such a pod.
const HANDS_OFF: &str = "a target, and this pod is the session's own";

/// The pod.
pub(crate) struct OwnPod {
    pods: Api<Pod>,
    name: String,
    agent: PodAgent,
}

impl fmt::Debug for OwnPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnPod")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl OwnPod {
    /// Makes the pod, and waits until its agent answers.
    ///
    /// # Errors
    /// [`ClusterError`] when it may not be there or does not start; what is left of it then is noted in `leftovers`.
    pub(crate) async fn make(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        image: &str,
        leftovers: &Leftovers,
    ) -> Result<Self, ClusterError> {
        let client = kubeconfig.client().await?;
        let pods: Api<Pod> = Api::namespaced(client, namespace.as_str());
        remove_ended(&pods).await;
        let name = format!("bough-session-{:06x}", rand::random::<u32>() >> 8);
        Self::make_named(pods, namespace, &name, image, leftovers).await
    }

    async fn make_named(
        pods: Api<Pod>,
        namespace: &Namespace,
        name: &str,
        image: &str,
        leftovers: &Leftovers,
    ) -> Result<Self, ClusterError> {
        // Before it is asked for: an answer that nobody waits for any more may have made it.
        let (theirs, its_name) = (pods.clone(), name.to_owned());
        leftovers.note(async move {
            if let Err(error) = remove(&theirs, &its_name).await {
                tracing::info!(%error, its_name, "a pod that nobody waits for is not deleted");
            }
        });
        let made = pods
            .create(&PostParams::default(), &build(name, image))
            .await;
        made.map_err(|error| ClusterError::Api {
            tried: format!("make a pod for the session in namespace {namespace}"),
            right: format!("create pods -n {namespace}"),
            source: error.into(),
        })?;
        let agent = reach(&pods, name, image).await?;
        Ok(Self {
            pods,
            name: name.to_owned(),
            agent,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How its agent is reached.
    pub(crate) fn agent(&self) -> &PodAgent {
        &self.agent
    }

    /// Removes it; whether that was said in time.
    pub(crate) async fn remove(&self) -> bool {
        let removed = remove(&self.pods, &self.name).await;
        if let Err(error) = &removed {
            tracing::warn!(%error, name = self.name, "the session's pod is not deleted");
        }
        removed.is_ok()
    }
}

async fn reach(pods: &Api<Pod>, name: &str, image: &str) -> Result<PodAgent, ClusterError> {
    let container = AgentContainer::of_own_pod(pods, name, CONTAINER, image).await?;
    let invitation = container.ask(pods, name, &Invitation::TO_ONE).await?;
    let credential = invitation.sessions.into_iter().next();
    let credential = credential.ok_or_else(|| container.silent(name))?;
    Ok(PodAgent::new(
        pods.clone(),
        name,
        container.name(),
        invitation.port,
        credential,
    ))
}

async fn remove(pods: &Api<Pod>, name: &str) -> Result<(), kube::Error> {
    // Nothing in it needs time to end.
    let params = DeleteParams::default().grace_period(1);
    match pods.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what killed sessions left: such pods that have ended. Whoever may not list them leaves them.
async fn remove_ended(pods: &Api<Pod>) {
    let ended = ListParams::default()
        .labels(OWN_POD_LABEL)
        .fields("status.phase!=Running,status.phase!=Pending");
    let Ok(listed) = pods.list(&ended).await else {
        return;
    };
    for pod in listed.items {
        if let Err(error) = remove(pods, &pod.name_any()).await {
            tracing::info!(%error, "what a killed session left is not deleted");
        }
    }
}

fn build(name: &str, image: &str) -> Pod {
    let written = json!({
        "metadata": {
            "name": name,
            "labels": {OWN_POD_LABEL: "true", "app.kubernetes.io/managed-by": "bough"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": [PROGRAM, "agent", "pod", "--hands-off", HANDS_OFF],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    });
    serde_json::from_value(written).expect("what stands above is a pod")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::super::played_api::play;
    use super::*;

    /// As with Ctrl-C while no node has room for it.
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_nobody_waits_for_any_more_is_taken_back() {
        let deleted = Arc::new(Notify::new());
        let seen = Arc::clone(&deleted);
        let client = play(move |method, path, _| {
            if method == "DELETE" && path.ends_with("/pods/bough-session-1") {
                seen.notify_one();
            }
            let mut pod = build("bough-session-1", "bough:1");
            pod.status = Some(serde_json::from_value(json!({"phase": "Pending"})).expect("one"));
            (200, serde_json::to_value(pod).expect("JSON"))
        });
        let pods: Api<Pod> = Api::namespaced(client, "shop");
        let namespace = Namespace::new("shop").expect("a name");
        let leftovers = Leftovers::default();
        let name = "bough-session-1";
        let made = OwnPod::make_named(pods, &namespace, name, "bough:1", &leftovers);
        let given_up = tokio::time::timeout(Duration::from_secs(10), made).await;
        assert!(given_up.is_err(), "it waits");
        leftovers.take_back().await;
        tokio::time::timeout(Duration::from_secs(1), deleted.notified())
            .await
            .expect("it is deleted");
    }

    #[test]
    fn it_has_no_right_that_it_does_not_need() {
        let spec = build("bough-session-1", "bough:1").spec.expect("a spec");
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        let [container] = spec.containers.as_slice() else {
            panic!("one container");
        };
        let context = container.security_context.as_ref().expect("a context");
        let capabilities = context.capabilities.as_ref().expect("some are dropped");
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(capabilities.add, None);
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let pod = spec.security_context.expect("a context");
        assert_eq!(pod.run_as_non_root, Some(true));
    }
}
