//! From a workload to one of its pods and one of that pod's containers.
//!
//! The pod: one that runs and is not about to end; ready ones first, then the oldest, so that two sessions come to the
//! same. The container: the one that is asked for, else the pod's own default, else the first that is no helper of a
//! service mesh.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::core::Selector;
use kube::{Api, Client, Resource, ResourceExt};
use model::{Namespace, TargetKind, TargetRef};
use resources::{Workload, WorkloadKind};

use super::error::{AgentError, ApiFailure};
use crate::HOST_LABEL;

/// The annotation by which a pod names the container that people mean (kubectl's own).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Containers that service meshes put into pods.
const MESH_CONTAINERS: [&str; 7] = [
    "istio-proxy",
    "istio-init",
    "istio-validation",
    "linkerd-proxy",
    "linkerd-init",
    "kuma-sidecar",
    "cilium-envoy",
];

/// A pod whose place is taken, and which of its containers.
#[derive(Debug, Clone)]
pub struct ChosenPod {
    /// Its name.
    pub name: String,
    /// It, as the API server has it.
    pub pod: Pod,
    /// The container.
    pub container: Container,
}

/// One pod: another one of the same name has another `uid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// Its name.
    pub name: String,
    /// What the API server knows it by.
    pub uid: String,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// It does not run yet.
    Waits,
    /// It runs.
    Runs {
        /// Whether its services send it anything.
        is_ready: bool,
    },
    /// It runs, and is asked to end.
    Ending,
    /// Its processes have ended.
    Ended,
}

/// A pod at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPod {
    /// Which.
    pub id: PodId,
    /// How far it is.
    pub state: PodState,
}

impl ChosenPod {
    /// Which pod it is.
    pub fn id(&self) -> PodId {
        id_of(&self.pod)
    }

    /// TCP ports that the container says it listens on.
    pub fn ports(&self) -> Vec<u16> {
        let ports = self.container.ports.iter().flatten();
        let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        ports
            .filter_map(|port| u16::try_from(port.container_port).ok())
            .collect()
    }

    /// Whether an agent in the container's process namespace finds the target's process as its first.
    pub fn sees_process(&self) -> bool {
        let spec = self.pod.spec.as_ref();
        !spec.is_some_and(|spec| {
            spec.share_process_namespace == Some(true) || spec.host_pid == Some(true)
        })
    }
}

/// A target as resources name it; none for one by labels, which no resource has.
pub fn workload_of(target: &TargetRef) -> Option<Workload> {
    let kind = match target.kind {
        TargetKind::Pod => WorkloadKind::Pod,
        TargetKind::Deployment => WorkloadKind::Deployment,
        TargetKind::Rollout => WorkloadKind::Rollout,
        TargetKind::Job => WorkloadKind::Job,
        TargetKind::CronJob => WorkloadKind::CronJob,
        TargetKind::StatefulSet => WorkloadKind::StatefulSet,
        TargetKind::Service => WorkloadKind::Service,
        TargetKind::ReplicaSet => WorkloadKind::ReplicaSet,
        TargetKind::Label => return None,
    };
    Some(Workload {
        kind,
        name: target.name.clone(),
        container: target.container.clone(),
    })
}

/// A workload of a resource as a target.
pub fn target_of(workload: &Workload) -> TargetRef {
    TargetRef {
        kind: match workload.kind {
            WorkloadKind::Pod => TargetKind::Pod,
            WorkloadKind::Deployment => TargetKind::Deployment,
            WorkloadKind::Rollout => TargetKind::Rollout,
            WorkloadKind::Job => TargetKind::Job,
            WorkloadKind::CronJob => TargetKind::CronJob,
            WorkloadKind::StatefulSet => TargetKind::StatefulSet,
            WorkloadKind::Service => TargetKind::Service,
            WorkloadKind::ReplicaSet => TargetKind::ReplicaSet,
        },
        name: workload.name.clone(),
        container: workload.container.clone(),
    }
}

/// The pod and container that stand for `target`.
///
/// # Errors
/// [`AgentError`] when there is none, or when the user may not look.
pub async fn choose(
    client: &Client,
    namespace: &Namespace,
    target: &TargetRef,
) -> Result<ChosenPod, AgentError> {
    let pods = list_pods(client, namespace, target).await?;
    let states = pods.iter().map(describe).collect();
    let Some(pod) = choose_pod(pods) else {
        return Err(AgentError::NoPod {
            target: target.clone(),
            namespace: namespace.clone(),
            pods: states,
        });
    };
    with_container(pod, target.container.as_deref())
}

/// The pods of a target as they are, the best first.
///
/// # Errors
/// [`AgentError`] when the target is not there, or when the user may not look.
pub async fn look(
    client: &Client,
    namespace: &Namespace,
    target: &TargetRef,
) -> Result<Vec<SeenPod>, AgentError> {
    let mut pods = list_pods(client, namespace, target).await?;
    pods.sort_by_key(rank);
    let seen = pods.iter().map(|pod| SeenPod {
        id: id_of(pod),
        state: state_of(pod),
    });
    Ok(seen.collect())
}

/// One pod of a target again, with the container that stands for it.
///
/// # Errors
/// [`AgentError`] when it is gone, or when the user may not look.
pub async fn find_pod(
    client: &Client,
    namespace: &Namespace,
    target: &TargetRef,
    id: &PodId,
) -> Result<ChosenPod, AgentError> {
    let pods = list_pods(client, namespace, target).await?;
    let states = pods.iter().map(describe).collect();
    match pods.into_iter().find(|pod| id_of(pod) == *id) {
        Some(pod) => with_container(pod, target.container.as_deref()),
        None => Err(AgentError::NoPod {
            target: target.clone(),
            namespace: namespace.clone(),
            pods: states,
        }),
    }
}

/// A pod with the container that is asked for, or that stands for it.
///
/// # Errors
/// [`AgentError::Container`] when it has no such one, [`AgentError::BranchHost`] for a pod that is one.
pub fn with_container(pod: Pod, asked: Option<&str>) -> Result<ChosenPod, AgentError> {
    let name = pod.name_any();
    // In its network an agent would hear and answer for the branches of others.
    if pod.labels().contains_key(HOST_LABEL) {
        return Err(AgentError::BranchHost(name));
    }
    match choose_container(&pod, asked) {
        Some(container) => Ok(ChosenPod {
            name,
            container: container.clone(),
            pod,
        }),
        None => Err(AgentError::Container {
            asked: asked.unwrap_or_default().to_owned(),
            containers: containers(&pod).map(|it| it.name.clone()).collect(),
            pod: name,
        }),
    }
}

async fn list_pods(
    client: &Client,
    namespace: &Namespace,
    target: &TargetRef,
) -> Result<Vec<Pod>, AgentError> {
    let lookup = Lookup {
        client,
        namespace,
        target,
    };
    let selector = match target.kind {
        TargetKind::Pod => return Ok(vec![lookup.get::<Pod>("pods").await?]),
        TargetKind::Label => target.name.clone(),
        TargetKind::CronJob => return lookup.pods_of_cron_job().await,
        TargetKind::Deployment => {
            let found: Deployment = lookup.get("deployments.apps").await?;
            lookup.text(found.spec.map(|spec| spec.selector))?
        }
        TargetKind::ReplicaSet => {
            let found: ReplicaSet = lookup.get("replicasets.apps").await?;
            lookup.text(found.spec.map(|spec| spec.selector))?
        }
        TargetKind::StatefulSet => {
            let found: StatefulSet = lookup.get("statefulsets.apps").await?;
            lookup.text(found.spec.map(|spec| spec.selector))?
        }
        TargetKind::Job => {
            let found: Job = lookup.get("jobs.batch").await?;
            lookup.text(found.spec.and_then(|spec| spec.selector))?
        }
        TargetKind::Service => {
            let found: Service = lookup.get("services").await?;
            lookup.text(selector_of_service(&found))?
        }
        TargetKind::Rollout => lookup.selector_of_rollout().await?,
    };
    lookup.pods_by(&selector).await
}

/// Questions about one target.
struct Lookup<'a> {
    client: &'a Client,
    namespace: &'a Namespace,
    target: &'a TargetRef,
}

impl Lookup<'_> {
    async fn get<K>(&self, resource: &str) -> Result<K, AgentError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        let found = api.get(&self.target.name).await;
        found.map_err(|error| self.failure("get", resource, error))
    }

    fn failure(&self, verb: &str, resource: &str, error: kube::Error) -> AgentError {
        let source = ApiFailure::from(error);
        if source.is_not_found() {
            return AgentError::NotFound {
                target: self.target.clone(),
                namespace: self.namespace.clone(),
            };
        }
        AgentError::Api {
            tried: format!("look up {} in namespace {}", self.target, self.namespace),
            right: format!("{verb} {resource} -n {}", self.namespace),
            source,
        }
    }

    /// A selector as lists take it.
    fn text(&self, selector: Option<LabelSelector>) -> Result<String, AgentError> {
        let none = || AgentError::NoSelector(self.target.clone());
        let selector: Selector = selector
            .ok_or_else(none)?
            .try_into()
            .map_err(|_unreadable| none())?;
        let text = selector.to_string();
        if text.is_empty() {
            // It would be every pod of the namespace.
            return Err(none());
        }
        Ok(text)
    }

    async fn pods_by(&self, selector: &str) -> Result<Vec<Pod>, AgentError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        let listed = pods.list(&ListParams::default().labels(selector)).await;
        let listed = listed.map_err(|error| self.failure("list", "pods", error))?;
        Ok(listed.items)
    }

    /// The pods of the newest job that a cron job began.
    async fn pods_of_cron_job(&self) -> Result<Vec<Pod>, AgentError> {
        let cron: CronJob = self.get("cronjobs.batch").await?;
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        let listed = jobs.list(&ListParams::default()).await;
        let listed = listed.map_err(|error| self.failure("list", "jobs.batch", error))?;
        match newest_job(&cron, &listed.items) {
            Some(job) => {
                let selector = job.spec.as_ref().and_then(|spec| spec.selector.clone());
                let selector = self.text(selector)?;
                self.pods_by(&selector).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// The selector of an Argo Rollout.
    async fn selector_of_rollout(&self) -> Result<String, AgentError> {
        let api = rollouts(self.client, self.namespace);
        let found = api.get(&self.target.name).await;
        let found = found.map_err(|error| self.failure("get", "rollouts.argoproj.io", error))?;
        let selector = found.data["spec"]["selector"].clone();
        self.text(serde_json::from_value(selector).ok())
    }
}

/// The pods behind a service; none where it has no selector.
pub fn selector_of_service(service: &Service) -> Option<LabelSelector> {
    let labels = service.spec.as_ref()?.selector.clone()?;
    Some(LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    })
}

/// The newest of `jobs` that a cron job began.
pub fn newest_job<'a>(cron: &CronJob, jobs: &'a [Job]) -> Option<&'a Job> {
    let owner = cron.uid().unwrap_or_default();
    let own = jobs.iter().filter(|job| {
        let mut owners = job.owner_references().iter();
        owners.any(|reference| reference.uid == owner)
    });
    own.max_by_key(|job| job.creation_timestamp().map(|time| time.0))
}

/// Argo Rollouts, whose types no client library has.
pub fn rollouts(client: &Client, namespace: &Namespace) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(client.clone(), namespace.as_str(), &resource)
}

/// The best of them; none where none runs.
fn choose_pod(pods: Vec<Pod>) -> Option<Pod> {
    let runs = |pod: &Pod| matches!(state_of(pod), PodState::Runs { .. });
    pods.into_iter().filter(runs).min_by_key(rank)
}

/// The least is the best.
fn rank(pod: &Pod) -> impl Ord + use<> {
    (
        !is_ready(pod),
        pod.creation_timestamp().map(|time| time.0),
        pod.name_any(),
    )
}

fn id_of(pod: &Pod) -> PodId {
    PodId {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    }
}

/// How far a pod is.
pub fn state_of(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Succeeded" | "Failed") => PodState::Ended,
        _ if pod.metadata.deletion_timestamp.is_some() => PodState::Ending,
        Some("Running") => PodState::Runs {
            is_ready: is_ready(pod),
        },
        _ => PodState::Waits,
    }
}

/// Whether a pod takes part: the kubelet says so.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

fn describe(pod: &Pod) -> String {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let phase = match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating",
        None => phase.unwrap_or("Unknown"),
    };
    format!("{} {phase}", pod.name_any())
}

/// Its containers, and those of its init containers that stay beside them.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    })
}

/// Its containers but for those of a service mesh.
pub fn own_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    containers(pod).filter(|container| !MESH_CONTAINERS.contains(&container.name.as_str()))
}

fn choose_container<'a>(pod: &'a Pod, asked: Option<&str>) -> Option<&'a Container> {
    let named = |name: &str| containers(pod).find(|container| container.name == name);
    if let Some(asked) = asked {
        return named(asked);
    }
    let annotated = pod.annotations().get(DEFAULT_CONTAINER);
    annotated.and_then(|name| named(name)).or_else(|| {
        let own = |container: &&Container| !MESH_CONTAINERS.contains(&container.name.as_str());
        containers(pod).find(own).or_else(|| containers(pod).next())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready: bool, created: &str) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"containers": [{"name": "app"}]},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("it is a pod")
    }

    #[test]
    fn the_oldest_ready_pod_stands_for_its_workload() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let mut ending = pod("ending", "Running", true, old);
        ending.metadata.deletion_timestamp = ending.metadata.creation_timestamp.clone();
        let mut pods = vec![
            ending,
            pod("pending", "Pending", false, old),
            pod("done", "Succeeded", false, old),
            pod("sick", "Running", false, old),
            pod("new", "Running", true, new),
            pod("old", "Running", true, old),
            pod("old-too", "Running", true, old),
        ];
        assert_eq!(describe(&pods[0]), "ending Terminating");
        for expected in ["old", "old-too", "new", "sick"] {
            let chosen = choose_pod(pods.clone()).map(|pod| pod.name_any());
            assert_eq!(chosen.as_deref(), Some(expected));
            pods.retain(|pod| pod.name_any() != expected);
        }
        assert!(choose_pod(pods).is_none());
    }

    #[test]
    fn a_branch_host_is_nobody_s_target() {
        let mut host = pod("bough-host-16-0", "Running", true, "2026-01-01T00:00:00Z");
        let mut other = host.clone();
        host.labels_mut()
            .insert(HOST_LABEL.to_owned(), "16".to_owned());
        other
            .labels_mut()
            .insert("app".to_owned(), "shop".to_owned());
        let refused = with_container(host, None);
        assert!(matches!(refused, Err(AgentError::BranchHost(name)) if name == "bough-host-16-0"));
        assert!(with_container(other, None).is_ok());
    }

    fn container_of(annotation: Option<&str>, asked: Option<&str>) -> Option<String> {
        let annotations = annotation.map(|name| json!({ DEFAULT_CONTAINER: name }));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {
                "initContainers": [{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "istio-proxy"}, {"name": "app"}, {"name": "worker"}],
            },
        }))
        .expect("it is a pod");
        choose_container(&pod, asked).map(|container| container.name.clone())
    }

    #[test]
    fn the_container_is_asked_for_or_annotated_or_the_first_that_is_no_mesh() {
        let chosen = |annotation, asked| container_of(annotation, asked).unwrap_or_default();
        assert_eq!(chosen(None, None), "app");
        assert_eq!(chosen(Some("worker"), None), "worker");
        assert_eq!(chosen(Some("gone"), None), "app");
        assert_eq!(chosen(Some("worker"), Some("istio-proxy")), "istio-proxy");
        assert_eq!(chosen(None, Some("proxy")), "proxy");
        assert_eq!(container_of(None, Some("migrate")), None);
        assert_eq!(container_of(None, Some("nobody")), None);
    }

    #[test]
    fn ports_are_those_of_tcp_and_processes_are_seen_unless_they_are_shared() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"shareProcessNamespace": true, "containers": [{"name": "app", "ports": [
                {"containerPort": 8082}, {"containerPort": 53, "protocol": "UDP"},
                {"containerPort": 9090, "protocol": "TCP"},
            ]}]},
        }))
        .expect("it is a pod");
        let container = choose_container(&pod, None).expect("it has one").clone();
        let mut chosen = ChosenPod {
            name: "p".to_owned(),
            pod,
            container,
        };
        assert_eq!(chosen.ports(), [8082, 9090]);
        assert!(!chosen.sees_process());
        chosen
            .pod
            .spec
            .as_mut()
            .expect("it has one")
            .share_process_namespace = None;
        assert!(chosen.sees_process());
    }
}
