//! What there is of Bough in a cluster, for people: operators and who leads, sources with how many of their hosts answer,
//! branch hosts with what their engines say, agents beside targets, sessions that have resources.
//!
//! Read with the caller's own rights, which need not be the operator's. A host that does not answer is told and hides none
//! of the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use model::engine_api::EngineView;
use resources::{Branch, BranchPhase, Session, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agents::target_of;
use crate::branch;
use crate::host::{OneHost, ask, unready};
use crate::leader::LEASE_NAME;
use crate::session::STOPPED_ANNOTATION;
use crate::{HOST_LABEL, NAME};

/// How the names of agents' containers begin.
const AGENT_PREFIX: &str = "bough-agent-";

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The operators.
    pub operators: Vec<OperatorStanding>,
    /// The sources.
    pub sources: Vec<SourceStanding>,
    /// The branch hosts.
    pub hosts: Vec<HostStanding>,
    /// The agents that run.
    pub agents: Vec<AgentStanding>,
    /// The sessions that an operator was told of.
    pub sessions: Vec<SessionStanding>,
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorStanding {
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Whether it is the one that works.
    pub leads: bool,
    /// Why it is not ready; none where it is.
    pub unready: Option<String>,
    /// What it runs from.
    pub image: Option<String>,
}

/// One source, as its resource has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStanding {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many of the hosts that it is to have answer, as in `1/2`; none before the operator has said so.
    pub ready: Option<String>,
    /// What its base is doing, on the host that needs attention first.
    pub state: Option<String>,
    /// How it stands, for a person.
    pub message: Option<String>,
}

/// One branch host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStanding {
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// The major version that it is for.
    pub version: Option<u16>,
    /// The branches that resources have there.
    pub branches: usize,
    /// Those of them that take connections.
    pub branches_ready: usize,
    /// What its engine says; none where it does not answer.
    pub engine: Option<EngineView>,
    /// Why it is not to be had; none where it is.
    pub unready: Option<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentStanding {
    /// Its namespace.
    pub namespace: String,
    /// The pod that it stands beside.
    pub pod: String,
    /// Its container.
    pub container: String,
    /// The container that it stands beside.
    pub target: Option<String>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionStanding {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub session: String,
    /// Whose place it takes: KIND/NAME.
    pub target: String,
    /// Who began it, as the API server knows him.
    pub requester: Option<String>,
    /// When.
    pub begun_at: Option<Timestamp>,
    /// Who stopped it, while it has not ended yet.
    pub stopped_by: Option<String>,
    /// How far it is, in a word.
    pub phase: &'static str,
    /// Why, for a person.
    pub message: Option<String>,
    /// The pods whose agents it has.
    pub pods: Vec<String>,
}

impl SessionStanding {
    /// How a session stands.
    pub fn of(session: &Session) -> Self {
        let status = session.status.clone().unwrap_or_default();
        let agents = status.answers.into_iter().filter_map(|it| it.agent);
        Self {
            namespace: session.namespace().unwrap_or_default(),
            session: session.name_any(),
            target: target_of(&session.spec.target).to_string(),
            requester: session.spec.requester.clone(),
            begun_at: session.creation_timestamp().map(|time| time.0),
            stopped_by: session.annotations().get(STOPPED_ANNOTATION).cloned(),
            phase: status.phase.word(),
            message: status.message,
            pods: agents.map(|agent| agent.pod.name).collect(),
        }
    }
}

/// What may not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried}")]
pub struct StandingError {
    /// What was tried.
    pub tried: String,
    /// The right that this takes, as `kubectl auth can-i` names it.
    pub right: String,
    /// Why.
    #[source]
    source: Box<kube::Error>,
}

/// What `bough engine status` prints.
#[derive(serde::Deserialize)]
struct EngineStatus {
    engine: Option<EngineView>,
}

/// Looks at all of it; at hosts and agents of one namespace where one is named.
///
/// # Errors
/// [`StandingError`] with what may not be read.
pub async fn standing(client: &Client, namespace: Option<&str>) -> Result<Standing, StandingError> {
    let operators = operators(client).await?;
    let pods: Vec<Pod> = list(client, namespace, ListParams::default(), "pods").await?;
    let branches: Vec<Branch> = list(
        client,
        namespace,
        ListParams::default(),
        "branches.bough.dev",
    )
    .await?;
    let sources: Vec<Source> = list(
        client,
        namespace,
        ListParams::default(),
        "sources.bough.dev",
    )
    .await?;
    let mut hosts = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| pod.labels().contains_key(HOST_LABEL))
    {
        hosts.push(host(client, pod, &branches).await);
    }
    let agents = pods.iter().flat_map(agents).collect();
    let sessions: Vec<Session> = list(
        client,
        namespace,
        ListParams::default(),
        "sessions.bough.dev",
    )
    .await?;
    Ok(Standing {
        operators,
        sources: sources.iter().map(source).collect(),
        hosts,
        agents,
        sessions: sessions.iter().map(SessionStanding::of).collect(),
    })
}

async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    which: ListParams,
    kind: &str,
) -> Result<Vec<K>, StandingError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let place = namespace.map_or("-A".to_owned(), |it| format!("-n {it}"));
    match api.list(&which).await {
        Ok(listed) => Ok(listed.items),
        // What is not defined is not there.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(source) => Err(StandingError {
            tried: format!("list {kind}"),
            right: format!("list {kind} {place}"),
            source: Box::new(source),
        }),
    }
}

/// The operators of every namespace: a release may be in any. Who may not look further sees those of the usual one.
async fn operators(client: &Client) -> Result<Vec<OperatorStanding>, StandingError> {
    let which = || ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
    let pods: Vec<Pod> = match list(client, None, which(), "pods").await {
        Ok(pods) => pods,
        Err(_) => list(client, Some(NAME), which(), "pods").await?,
    };
    let mut leaders = BTreeMap::new();
    for namespace in pods.iter().filter_map(ResourceExt::namespace) {
        if let Entry::Vacant(untold) = leaders.entry(namespace) {
            let leader = leader(client, untold.key()).await?;
            untold.insert(leader);
        }
    }
    let told = pods.iter().map(|pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let leader = leaders.get(&namespace).cloned().flatten();
        OperatorStanding {
            pod: pod.name_any(),
            leads: leader.as_deref() == Some(pod.name_any().as_str()),
            unready: unready(pod),
            image: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.containers.first()?.image.clone()),
            namespace,
        }
    });
    Ok(told.collect())
}

/// The pod that leads the operators of a namespace.
async fn leader(client: &Client, namespace: &str) -> Result<Option<String>, StandingError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = leases.get_opt(LEASE_NAME).await;
    let lease = lease.map_err(|source| StandingError {
        tried: format!("see who leads in namespace {namespace}"),
        right: format!("get leases.coordination.k8s.io -n {namespace}"),
        source: Box::new(source),
    })?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity))
}

fn source(source: &Source) -> SourceStanding {
    let status = source.status.clone().unwrap_or_default();
    SourceStanding {
        namespace: source.namespace().unwrap_or_default(),
        name: source.name_any(),
        ready: status.ready,
        state: status.state,
        message: status.message,
    }
}

async fn host(client: &Client, pod: &Pod, branches: &[Branch]) -> HostStanding {
    let namespace = pod.namespace().unwrap_or_default();
    let version = pod.labels().get(HOST_LABEL).and_then(|it| it.parse().ok());
    let name = pod.name_any();
    let this = OneHost::of_pod(&name);
    let own: Vec<&Branch> = branches
        .iter()
        .filter(|it| it.namespace().as_deref() == Some(&namespace))
        .filter(|it| branch::home(it).as_ref() == Some(&this))
        .collect();
    let is_ready = |it: &&&Branch| {
        let phase = it.status.as_ref().map(|status| status.phase);
        phase == Some(BranchPhase::Ready)
    };
    let mut told = HostStanding {
        pod: pod.name_any(),
        version,
        branches: own.len(),
        branches_ready: own.iter().filter(is_ready).count(),
        engine: None,
        unready: unready(pod),
        namespace,
    };
    if told.unready.is_none() {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &told.namespace);
        let words = ["engine", "status", "--output", "json"];
        match ask(&pods, &told.pod, &words).await {
            Ok(text) => match serde_json::from_str::<EngineStatus>(&text) {
                Ok(status) => told.engine = status.engine,
                Err(error) => told.unready = Some(error.to_string()),
            },
            Err(error) => told.unready = Some(whole(&error)),
        }
    }
    told
}

/// An error with what caused it, in a line.
fn whole(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", whole(source)),
        None => error.to_string(),
    }
}

/// The agents that run beside a pod's containers.
fn agents(pod: &Pod) -> Vec<AgentStanding> {
    let status = pod.status.as_ref();
    let statuses = status
        .iter()
        .flat_map(|it| it.ephemeral_container_statuses.iter().flatten());
    let running: BTreeMap<&str, bool> = statuses
        .map(|it| {
            let state = it.state.as_ref();
            let runs = state.is_some_and(|state| state.running.is_some());
            (it.name.as_str(), runs)
        })
        .collect();
    let spec = pod.spec.as_ref();
    let containers = spec
        .iter()
        .flat_map(|it| it.ephemeral_containers.iter().flatten());
    containers
        .filter(|it| it.name.starts_with(AGENT_PREFIX))
        .filter(|it| running.get(it.name.as_str()) == Some(&true))
        .map(|it| AgentStanding {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            container: it.name.clone(),
            target: it.target_container_name.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agents_are_those_of_ours_that_run() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {
                "containers": [{"name": "app"}],
                "ephemeralContainers": [
                    {"name": "bough-agent-0a", "targetContainerName": "app"},
                    {"name": "bough-agent-0b", "targetContainerName": "app"},
                    {"name": "debugger-1", "targetContainerName": "app"},
                    {"name": "bough-agent-0c"},
                ],
            },
            "status": {"ephemeralContainerStatuses": [
                {"name": "bough-agent-0a", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 0}}},
                {"name": "bough-agent-0b", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                 "state": {"running": {}}},
                {"name": "debugger-1", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                 "state": {"running": {}}},
            ]},
        }))
        .expect("a pod");
        let found = agents(&pod);
        let names: Vec<_> = found.iter().map(|it| it.container.as_str()).collect();
        assert_eq!(names, ["bough-agent-0b"]);
        assert_eq!(found[0].target.as_deref(), Some("app"));
    }
}
