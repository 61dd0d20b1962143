//! Contexts of a kubeconfig: targets are workloads of a cluster, reached with the user's own rights and nothing else.
//!
//! ```text
//!   where an operator serves sessions, it does this and the next, for a Session resource   (cluster_session, sealed)
//!   workload ──> its pods, the best of them, the container      (operator::agents)
//!   pod ──> an agent as an ephemeral container, or one that is there already   (operator::agents)
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

mod answer_limit;
mod branch_host;
mod cluster_session;
mod error;
mod invitation;
mod kubeconfig;
mod leftovers;
mod listing;
mod own_pod;
#[cfg(test)]
#[path = "../../../operator/src/agents/played_api.rs"]
mod played_api;
mod pod_account;
mod pod_agent;
mod pod_environment;
mod pod_follower;
mod sealed;
mod session_list;
mod source_version;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use model::{IncomingMode, Namespace, TargetRef};
use operator::agents::{self, AgentContainer, AgentError, AgentWish, ChosenPod, PodId, Question};
use resources::NetworkWish;
use tokio::io::AsyncReadExt;
use wire::{CloseReason, OpenRequest};

use super::environ::{self, Environ};
use super::{AgentLink, FindError, FoundTarget, Targets};
use cluster_session::{Begun, Granted};
use error::describe_errno;
use pod_environment::SpecEnvironment;

pub(crate) use branch_host::{
    BranchHost, BranchWish, LOAN_GRACE, Loan, LoanAnswer, LoanWish, require_operator,
};
pub(crate) use cluster_session::ClusterSession;
pub(crate) use error::ClusterError;
pub(crate) use invitation::{AgentPlace, Invitation, SessionCredential};
pub(crate) use kubeconfig::{Kubeconfig, KubeconfigError, KubeconfigFiles, own_cluster};
pub(crate) use leftovers::Leftovers;
pub(crate) use listing::list as list_targets;
pub(crate) use own_pod::OwnPod;
pub(crate) use pod_account::{ACCOUNT_FOLDER, PodAccount, PodAccountError};
pub(crate) use pod_agent::PodAgent;
pub(crate) use pod_follower::PodFollower;
pub(crate) use sealed::seal;
pub(crate) use session_list::SessionList;

/// For how long a session that reads an environment tries to come back.
const READING_GRACE: Duration = Duration::from_secs(10);

/// Most bytes of an environment: more than the kernel lets a process start with by default.
const ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;

/// What a session wants of its target.
#[derive(Debug, Clone)]
pub(crate) struct TargetWish {
    /// By which name a cluster knows the session.
    pub(crate) session: String,
    /// What of the target's network.
    pub(crate) network: NetworkWish,
    /// The image that an agent runs from which is placed with the user's own rights.
    pub(crate) image: String,
    /// Whether an operator may be asked for the agent.
    pub(crate) by_operator: bool,
    /// What is to be taken back where nothing comes of it.
    pub(crate) leftovers: Leftovers,
}

impl TargetWish {
    fn agent(&self) -> AgentWish {
        AgentWish {
            incoming: self.network.incoming != IncomingMode::Off,
            image: self.image.clone(),
        }
    }
}

/// The targets of one cluster.
#[derive(Clone)]
pub(crate) struct ClusterTargets {
    client: Client,
    wish: TargetWish,
}

impl ClusterTargets {
    /// The targets of the cluster that `kubeconfig` leads to. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ClusterError`] when the kubeconfig leads nowhere.
    pub(crate) async fn connect(
        kubeconfig: &Kubeconfig,
        wish: TargetWish,
    ) -> Result<Self, ClusterError> {
        let client = kubeconfig.client().await?;
        Ok(Self { client, wish })
    }

    /// An agent beside the target's best pod, which the operator places, or where none does the user.
    async fn place(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<(PlacedAgent, Option<ClusterSession>), ClusterError> {
        let mut unserved = None;
        if self.wish.by_operator {
            let begun = ClusterSession::begin(&self.client, namespace, target, &self.wish);
            match begun.await? {
                Begun::Served(session, granted) => {
                    let placed = PlacedAgent::granted(granted);
                    if placed.is_err() {
                        session.end().await;
                    }
                    return Ok((placed?, Some(session)));
                }
                Begun::Unserved(why) => unserved = why,
            }
        }
        let placed = self.place_alone(namespace, target).await;
        let placed = match (placed, unserved) {
            (Ok(mut placed), Some(why)) => {
                placed.remarks.push(format!(
                    "the agent is placed with your own rights, as without an operator: {why}"
                ));
                placed
            }
            (Err(source), Some(why)) => {
                let source = Box::new(source);
                return Err(ClusterError::Alone { why, source });
            }
            (placed, None) => placed?,
        };
        Ok((placed, None))
    }

    /// The same with the user's own rights.
    async fn place_alone(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<PlacedAgent, ClusterError> {
        let chosen = agents::choose(&self.client, namespace, target).await?;
        let (container, mut sessions) = self.invite(namespace, &chosen, Invitation::TO_TWO).await?;
        let (Some(agent), Some(reader)) = (sessions.pop(), sessions.pop()) else {
            return Err(container.silent(&chosen.name).into());
        };
        Ok(PlacedAgent {
            pod: chosen.id(),
            beside: chosen.container.name.clone(),
            ports: chosen.ports(),
            process_is_seen: chosen.sees_process(),
            chosen: Some(chosen),
            remarks: container.remarks(),
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
        let (container, mut sessions) = self.invite(namespace, chosen, Invitation::TO_ONE).await?;
        let session = sessions.pop();
        Ok(session.ok_or_else(|| container.silent(&chosen.name))?)
    }

    async fn invite(
        &self,
        namespace: &Namespace,
        chosen: &ChosenPod,
        question: Question<'static, Invitation>,
    ) -> Result<(AgentContainer, Vec<PodAgent>), ClusterError> {
        let pods = self.pods(namespace);
        let (container, invitation) =
            AgentContainer::place_asking(&pods, chosen, &self.wish.agent(), &question).await?;
        let reach = |credential| {
            PodAgent::new(
                pods.clone(),
                &chosen.name,
                container.name(),
                invitation.port,
                credential,
            )
        };
        let sessions = invitation.sessions.into_iter().map(reach).collect();
        Ok((container, sessions))
    }

    fn pods(&self, namespace: &Namespace) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace.as_str())
    }

    /// The target's environment: its process's own, else what is written of it; with a remark in the second case.
    async fn environment(
        &self,
        namespace: &Namespace,
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
        let looked_at;
        let chosen = match &placed.chosen {
            Some(chosen) => chosen,
            None => {
                looked_at = self.look_at(namespace, placed).await?;
                &looked_at
            }
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

    /// The pod that the operator chose, with the user's own rights.
    async fn look_at(
        &self,
        namespace: &Namespace,
        placed: &PlacedAgent,
    ) -> Result<ChosenPod, ClusterError> {
        let found = self.pods(namespace).get(&placed.pod.name).await;
        let found = found.map_err(|error| AgentError::Api {
            tried: format!(
                "read what is written of the environment of the pod {}, whose process hides it",
                placed.pod.name
            ),
            right: format!("get pods -n {namespace}"),
            source: error.into(),
        })?;
        Ok(agents::with_container(found, Some(&placed.beside))?)
    }

    async fn find_by(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
        mut placed: PlacedAgent,
        session: Option<ClusterSession>,
    ) -> Result<FoundTarget, ClusterError> {
        let environ = self.environment(namespace, &mut placed).await?;
        placed.remarks.push(format!(
            "pod {}, container {}: its agent is the ephemeral container {}{}",
            placed.pod.name,
            placed.beside,
            placed.agent.container(),
            match session {
                Some(_) => ", which the operator gave",
                None => "",
            }
        ));
        Ok(FoundTarget {
            reference: target.clone(),
            namespace: namespace.clone(),
            follower: Some(PodFollower::new(
                self.clone(),
                namespace.clone(),
                target.clone(),
                placed.pod,
                session.clone(),
            )),
            ports: placed.ports,
            container: Some(placed.beside),
            environment: environ.variables,
            skipped: environ.skipped,
            remarks: placed.remarks,
            own_network: None,
            agent: Some(AgentLink::Pod(Box::new(placed.agent))),
            session,
        })
    }
}

/// An agent beside a pod, and two sessions that it waits for.
struct PlacedAgent {
    reader: PodAgent,
    agent: PodAgent,
    pod: PodId,
    /// The target's container.
    beside: String,
    ports: Vec<u16>,
    process_is_seen: bool,
    /// The pod itself, where the user looked at it.
    chosen: Option<ChosenPod>,
    remarks: Vec<String>,
}

impl PlacedAgent {
    /// One that the operator placed.
    fn granted(granted: Granted) -> Result<Self, ClusterError> {
        let Granted { agent, mut ways } = granted;
        let (Some(program), Some(reader)) = (ways.pop(), ways.pop()) else {
            return Err(ClusterError::from(AgentError::Silent {
                pod: agent.pod.name,
                container: agent.container,
                why: "it invites too few sessions".to_owned(),
            }));
        };
        Ok(Self {
            reader,
            agent: program,
            pod: PodId {
                name: agent.pod.name,
                uid: agent.pod.uid,
            },
            beside: agent.beside,
            ports: agent.ports,
            process_is_seen: agent.sees_process,
            chosen: None,
            remarks: agent.remarks,
        })
    }
}

impl Targets for ClusterTargets {
    async fn find(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<FoundTarget, FindError> {
        let (placed, session) = self.place(namespace, target).await?;
        let found = self.find_by(namespace, target, placed, session.clone());
        let found = found.await;
        if let (Err(_), Some(session)) = (&found, session) {
            session.end().await;
        }
        Ok(found?)
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
