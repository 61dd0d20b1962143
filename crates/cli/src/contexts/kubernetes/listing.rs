//! What `--target` could name in a namespace: its workloads, services and pods.
//!
//! Owns which kinds there are and how many pods stand behind each. A kind that the user may not list is left out, by the
//! name of the right. Leaves choosing one pod of a workload to `workload`.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ListMeta};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt as _};
use kube::{Api, Client, Resource, ResourceExt};
use model::{Namespace, TargetKind};
use operator::agents::{
    ApiFailure, PodState, newest_job, own_containers, rollouts, selector_of_service, state_of,
};

use super::error::ClusterError;
use crate::contexts::{Listing, TargetEntry};

/// Objects of one kind that are asked for; of a namespace with more the rest is told to be missing.
const OBJECTS_MAX: u32 = 1000;

/// The targets of a namespace, of these kinds.
///
/// # Errors
/// [`ClusterError`] when the pods cannot be listed: without them nothing can be said of the rest.
pub(crate) async fn list(
    client: &Client,
    namespace: &Namespace,
    kinds: &[TargetKind],
) -> Result<Listing, ClusterError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    let listed = pods.list(&ListParams::default().limit(OBJECTS_MAX)).await;
    let pods = listed.map_err(|error| failure(namespace, "pods", error.into()))?;
    let mut asking = Asking {
        client,
        namespace,
        pods: pods.items.iter().filter(|pod| is_there(pod)).collect(),
        listing: Listing::default(),
    };
    asking.note_rest("pods", &pods.metadata);
    for kind in kinds {
        asking.list(*kind).await?;
    }
    Ok(asking.listing)
}

/// A namespace that is being listed.
struct Asking<'a> {
    client: &'a Client,
    namespace: &'a Namespace,
    pods: Vec<&'a Pod>,
    listing: Listing,
}

impl Asking<'_> {
    async fn list(&mut self, kind: TargetKind) -> Result<(), ClusterError> {
        match kind {
            TargetKind::Deployment => {
                let found: Vec<Deployment> = self.all("deployments.apps").await?;
                self.add(kind, found, |it| {
                    it.spec.as_ref().map(|spec| &spec.selector)
                });
            }
            TargetKind::StatefulSet => {
                let found: Vec<StatefulSet> = self.all("statefulsets.apps").await?;
                self.add(kind, found, |it| {
                    it.spec.as_ref().map(|spec| &spec.selector)
                });
            }
            TargetKind::ReplicaSet => {
                let found: Vec<ReplicaSet> = self.all("replicasets.apps").await?;
                let found = found.into_iter().filter(stands_alone).collect();
                self.add(kind, found, |it| {
                    it.spec.as_ref().map(|spec| &spec.selector)
                });
            }
            TargetKind::Job => {
                let found: Vec<Job> = self.all("jobs.batch").await?;
                let found = found.into_iter().filter(stands_alone).collect();
                self.add(kind, found, |it| it.spec.as_ref()?.selector.as_ref());
            }
            TargetKind::CronJob => self.list_cron_jobs().await?,
            TargetKind::Service => {
                let found: Vec<Service> = self.all("services").await?;
                for service in found {
                    let selector = selector_of_service(&service);
                    self.put(kind, service.name_any(), selector.as_ref());
                }
            }
            TargetKind::Rollout => self.list_rollouts().await?,
            TargetKind::Pod => {
                for pod in &self.pods {
                    let entry = entry(kind, pod.name_any(), std::iter::once(*pod));
                    self.listing.targets.push(entry);
                }
            }
            TargetKind::Label => {}
        }
        Ok(())
    }

    fn add<K: Resource>(
        &mut self,
        kind: TargetKind,
        found: Vec<K>,
        selector: impl Fn(&K) -> Option<&LabelSelector>,
    ) {
        for object in found {
            self.put(kind, object.name_any(), selector(&object));
        }
    }

    /// Notes a workload with the pods behind it. One whose selector is missing or empty has none.
    fn put(&mut self, kind: TargetKind, name: String, selector: Option<&LabelSelector>) {
        let selector = selector
            .cloned()
            .and_then(|selector| Selector::try_from(selector).ok())
            .filter(|selector| !selector.to_string().is_empty());
        let own = self
            .pods
            .iter()
            .copied()
            .filter(|pod| selector.as_ref().is_some_and(|it| it.matches(pod.labels())));
        self.listing.targets.push(entry(kind, name, own));
    }

    /// A cron job is its newest job.
    async fn list_cron_jobs(&mut self) -> Result<(), ClusterError> {
        let found: Vec<CronJob> = self.all("cronjobs.batch").await?;
        if found.is_empty() {
            return Ok(());
        }
        let jobs: Vec<Job> = self.all("jobs.batch").await?;
        for cron in found {
            let newest = newest_job(&cron, &jobs);
            let selector = newest.and_then(|job| job.spec.as_ref()?.selector.as_ref());
            self.put(TargetKind::CronJob, cron.name_any(), selector);
        }
        Ok(())
    }

    /// Argo Rollouts; none where the cluster does not know them.
    async fn list_rollouts(&mut self) -> Result<(), ClusterError> {
        let api = rollouts(self.client, self.namespace);
        let found = self.ask(&api, "rollouts.argoproj.io").await?;
        for rollout in found {
            let selector = rollout.data["spec"]["selector"].clone();
            let selector = serde_json::from_value(selector).ok();
            self.put(TargetKind::Rollout, rollout.name_any(), selector.as_ref());
        }
        Ok(())
    }

    async fn all<K>(&mut self, resource: &str) -> Result<Vec<K>, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        self.ask(&api, resource).await
    }

    /// Those of one kind; none where the cluster does not know it, or the user may not list it.
    async fn ask<K>(&mut self, api: &Api<K>, resource: &str) -> Result<Vec<K>, ClusterError>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        match api.list(&ListParams::default().limit(OBJECTS_MAX)).await {
            Ok(list) => {
                self.note_rest(resource, &list.metadata);
                Ok(list.items)
            }
            Err(error) => {
                let error = ApiFailure::from(error);
                if error.is_forbidden() {
                    let right = format!("list {resource} -n {}", self.namespace);
                    self.listing.forbidden.push(right);
                    return Ok(Vec::new());
                }
                if error.is_not_found() {
                    return Ok(Vec::new());
                }
                Err(failure(self.namespace, resource, error))
            }
        }
    }

    fn note_rest(&mut self, resource: &str, of: &ListMeta) {
        if of.continue_.as_ref().is_some_and(|token| !token.is_empty()) {
            self.listing.cut.push(resource.to_owned());
        }
    }
}

fn failure(namespace: &Namespace, resource: &str, source: ApiFailure) -> ClusterError {
    ClusterError::Api {
        tried: format!("list {resource} in namespace {namespace}"),
        right: format!("list {resource} -n {namespace}"),
        source,
    }
}

/// What another object made is listed under that one.
fn stands_alone<K: Resource>(object: &K) -> bool {
    object.meta().owner_references.iter().flatten().count() == 0
}

fn is_there(pod: &Pod) -> bool {
    match state_of(pod) {
        PodState::Waits | PodState::Runs { .. } | PodState::Ending => true,
        PodState::Ended => false,
    }
}

fn entry<'a>(kind: TargetKind, name: String, pods: impl Iterator<Item = &'a Pod>) -> TargetEntry {
    let (mut running, mut all, mut containers) = (0, 0, Vec::new());
    for pod in pods {
        all += 1;
        if matches!(state_of(pod), PodState::Runs { .. }) {
            running += 1;
        }
        for container in own_containers(pod) {
            if !containers.contains(&container.name) {
                containers.push(container.name.clone());
            }
        }
    }
    TargetEntry {
        kind,
        name,
        running,
        all,
        containers,
    }
}
