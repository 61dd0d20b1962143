//! Contexts of a kubeconfig: targets are workloads of a cluster, reached with the user's own rights and nothing else.
//!
//! ```text
//!   workload ──> its pods, the best of them, the container      (workload)
//!   pod ──> an agent as an ephemeral container, or one that is there already   (agent_container)
//!   agent ──exec──> credentials of two sessions                 (invitation)
//!   session one: the target process's own environment; where it is hidden, the pod's as it is written (pod_environment)
//!   session two: for whoever asked, through port-forward        (pod_agent)
//!   no target on purpose: a pod of the session's own            (own_pod)
//!   and again for every pod that the session goes on with       (pod_follower)
//! ```
//!
//! Branches are asked for by resources and had from their host's engine (branch_host).
//!
//! Owns these steps and what each fails by. Leaves to `bough agent pod` what an agent does, to `link` who speaks with it.

mod agent_container;
mod branch_host;
mod error;
mod invitation;
mod kubeconfig;
mod listing;
mod own_pod;
#[cfg(test)]
mod played_api;
mod pod_agent;
mod pod_environment;
mod pod_follower;
mod source_version;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use model::{Namespace, TargetRef};
use tokio::io::AsyncReadExt;
use wire::{CloseReason, OpenRequest};

use super::environ::{self, Environ};
use super::{AgentLink, FindError, FoundTarget, Targets};
use agent_container::AgentContainer;
use error::describe_errno;
use pod_environment::SpecEnvironment;
use workload::ChosenPod;

pub(crate) use agent_container::{AGENT_FOLDER, AgentWish};
pub(crate) use branch_host::{BranchHost, BranchWish, require_operator};
pub(crate) use error::ClusterError;
pub(crate) use invitation::{AgentPlace, Invitation, SessionCredential};
pub(crate) use kubeconfig::{Kubeconfig, KubeconfigError, KubeconfigFiles, own_cluster};
pub(crate) use listing::list as list_targets;
pub(crate) use own_pod::OwnPod;
pub(crate) use pod_agent::PodAgent;
pub(crate) use pod_follower::PodFollower;
pub(crate) use workload::{PodId, PodState, SeenPod};

/// For how long a session that reads an environment tries to come back.
const READING_GRACE: Duration = Duration::from_secs(10);

/// Most bytes of an environment: more than the kernel lets a process start with by default.
const ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;

/// The targets of one cluster.
#[derive(Clone)]
pub(crate) struct ClusterTargets {
    client: Client,
    wish: AgentWish,
}

impl ClusterTargets {
    /// The targets of the cluster that `kubeconfig` leads to. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ClusterError`] when the kubeconfig leads nowhere.
    pub(crate) async fn connect(
        kubeconfig: &Kubeconfig,
        wish: AgentWish,
    ) -> Result<Self, ClusterError> {
        let client = kubeconfig.client().await?;
        Ok(Self { client, wish })
    }

    async fn place(
        &self,
        namespace: &Namespace,
        chosen: &ChosenPod,
    ) -> Result<PlacedAgent, ClusterError> {
        let (container, mut sessions) = self.invite(namespace, chosen, 2).await?;
        let (Some(agent), Some(reader)) = (sessions.pop(), sessions.pop()) else {
            return Err(container.silent(&chosen.name));
        };
        Ok(PlacedAgent {
            remarks: container.remarks(),
            process_is_seen: chosen.sees_process(),
            reader,
            agent,
        })
    }

    /// An agent beside the pod, and one session that it waits for.
    async fn place_one(
        &self,
        namespace: &Namespace,
        chosen: &ChosenPod,
    ) -> Result<PodAgent, ClusterError> {
        let (container, mut sessions) = self.invite(namespace, chosen, 1).await?;
        sessions.pop().ok_or_else(|| container.silent(&chosen.name))
    }

    async fn invite(
        &self,
        namespace: &Namespace,
        chosen: &ChosenPod,
        sessions: u8,
    ) -> Result<(AgentContainer, Vec<PodAgent>), ClusterError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace.as_str());
        let (container, invitation) =
            AgentContainer::place_inviting(&pods, chosen, &self.wish, sessions).await?;
        let reach = |credential| {
            PodAgent::new(
                pods.clone(),
                &chosen.name,
                &container,
                invitation.port,
                credential,
            )
        };
        let sessions = invitation.sessions.into_iter().map(reach).collect();
        Ok((container, sessions))
    }

    /// The target's environment: its process's own, else what is written of it; with a remark in the second case.
    async fn environment(
        &self,
        namespace: &Namespace,
        chosen: &ChosenPod,
        placed: &mut PlacedAgent,
    ) -> Result<Environ, ClusterError> {
        let why = if placed.process_is_seen {
            match read_environ(&placed.reader).await {
                Ok(environ) => return Ok(environ),
                Err(why) => why,
            }
        } else {
            "the pod's containers share their processes, and nobody says which is the target's"
                .to_owned()
        };
        let written = SpecEnvironment::read(&self.client, namespace, chosen).await?;
        placed.remarks.push(format!(
            "the environment of the target's process cannot be read ({why}): it is taken from the pod as it is written"
        ));
        if !written.missing.is_empty() {
            let missing = written.missing.join(", ");
            placed.remarks.push(format!(
                "variables of the pod whose values cannot be told stay out: {missing}"
            ));
        }
        Ok(Environ {
            variables: written.variables,
            skipped: Vec::new(),
        })
    }
}

/// An agent beside a pod, and two sessions that it waits for.
struct PlacedAgent {
    reader: PodAgent,
    agent: PodAgent,
    process_is_seen: bool,
    remarks: Vec<String>,
}

impl Targets for ClusterTargets {
    async fn find(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<FoundTarget, FindError> {
        let chosen = workload::choose(&self.client, namespace, target).await?;
        let mut placed = self.place(namespace, &chosen).await?;
        let environ = self.environment(namespace, &chosen, &mut placed).await?;
        placed.remarks.push(format!(
            "pod {}, container {}: its agent is the ephemeral container {}",
            chosen.name,
            chosen.container.name,
            placed.agent.container()
        ));
        Ok(FoundTarget {
            reference: target.clone(),
            namespace: namespace.clone(),
            follower: Some(PodFollower::new(
                self.clone(),
                namespace.clone(),
                target.clone(),
                chosen.id(),
            )),
            ports: chosen.ports(),
            container: Some(chosen.container.name),
            environment: environ.variables,
            skipped: environ.skipped,
            remarks: placed.remarks,
            own_network: None,
            agent: Some(AgentLink::Pod(Box::new(placed.agent))),
        })
    }
}

/// The environment of the target's process as its agent sees it; or why it does not.
async fn read_environ(agent: &PodAgent) -> Result<Environ, String> {
    let connected = agent.connect(READING_GRACE).await;
    let (session, _inbox) = connected.map_err(|error| error.to_string())?;
    let opened = session.open(OpenRequest::Environ).await;
    let read = async {
        let (stream, _) = opened.map_err(|failure| describe_errno(&failure))?;
        let mut bytes = Vec::new();
        let read = stream
            .take(ENVIRONMENT_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await;
        read.map_err(|error| error.to_string())?;
        Ok(environ::parse(&bytes))
    };
    let environ = read.await;
    session.leave(CloseReason::Done).await;
    // A process that shows nothing at all hides what it has.
    environ.and_then(|environ| {
        if environ.variables == BTreeMap::new() {
            Err("it shows none".to_owned())
        } else {
            Ok(environ)
        }
    })
}
