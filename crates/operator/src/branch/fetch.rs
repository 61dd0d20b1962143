//! What there is: branches by namespace and version, and how the host of each stands.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{AttachParams, ListParams};
use kube::{Api, Client, ResourceExt};
use model::engine_api::BranchView;
use resources::Branch;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::StepError;
use super::plan::Host;
use crate::limits::{Allowed, LIMITS_NAME, LimitError};
use crate::{Settings, host};

/// Most bytes of an engine's answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long an engine may take to answer: one host that hangs keeps the others waiting for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The branches of one namespace and version, which have a host together.
#[derive(Debug)]
pub(super) struct Group {
    /// The namespace.
    pub(super) namespace: String,
    /// The major version.
    pub(super) version: u16,
    /// The branches, deleted ones included.
    pub(super) branches: Vec<Branch>,
}

/// All branches of these namespaces, or of the cluster without any, by who shares a host.
pub(super) async fn groups(
    client: &Client,
    namespaces: &[String],
) -> Result<Vec<Group>, StepError> {
    let apis: Vec<Api<Branch>> = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some
            .iter()
            .map(|it| Api::namespaced(client.clone(), it))
            .collect(),
    };
    let mut branches = Vec::new();
    for api in apis {
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| StepError::Api {
            tried: match api.namespace() {
                Some(namespace) => format!("list branches in namespace {namespace}"),
                None => "list branches".to_owned(),
            },
            source: Box::new(source),
        })?;
        branches.extend(listed.items);
    }
    let mut groups: BTreeMap<(String, u16), Vec<Branch>> = BTreeMap::new();
    for branch in branches {
        let key = (branch.namespace().unwrap_or_default(), branch.spec.version);
        groups.entry(key).or_default().push(branch);
    }
    let groups = groups
        .into_iter()
        .map(|((namespace, version), branches)| Group {
            namespace,
            version,
            branches,
        });
    Ok(groups.collect())
}

/// The limits of the administrator; none where the operator stands for no lead, and so has no namespace of its own.
pub(super) async fn allowed(
    client: &Client,
    settings: &Settings,
) -> Result<Result<Allowed, LimitError>, StepError> {
    let Some(candidate) = &settings.candidate else {
        return Ok(Ok(Allowed::default()));
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &candidate.namespace);
    let found = api.get_opt(LIMITS_NAME).await;
    let found = found.map_err(|source| StepError::Api {
        tried: format!(
            "read the configmap {LIMITS_NAME} in namespace {}",
            candidate.namespace
        ),
        source: Box::new(source),
    })?;
    // Every way of installing makes one, an empty one where nothing is limited.
    Ok(match found {
        Some(found) => Allowed::read(&found.data.unwrap_or_default()),
        None => Err(LimitError::Gone {
            namespace: candidate.namespace.clone(),
        }),
    })
}

/// How the host of `group` stands.
pub(super) async fn host(client: &Client, group: &Group) -> Result<Host, StepError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &group.namespace);
    let name = host::pod_name(group.version);
    let found = pods.get_opt(&name).await.map_err(|source| StepError::Api {
        tried: format!("look at the pod {name} in namespace {}", group.namespace),
        source: Box::new(source),
    })?;
    let Some(pod) = found else {
        return Ok(Host::Starting(format!("its host {name} is not there yet")));
    };
    if let Some(why) = unready(&pod) {
        return Ok(Host::Starting(format!(
            "its host {name} is not ready: {why}"
        )));
    }
    let words = [
        "db-branches",
        "status",
        "--namespace",
        &group.namespace,
        "--output",
        "json",
    ];
    let text = ask(&pods, &name, &words).await?;
    match serde_json::from_str::<Vec<BranchView>>(&text) {
        Ok(branches) => Ok(Host::Answers {
            pod: name,
            branches,
        }),
        Err(error) => Err(StepError::Engine {
            pod: name,
            words: error.to_string(),
        }),
    }
}

/// Why a pod is not ready, in its own or the kubelet's words.
pub(crate) fn unready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = status.iter().flat_map(|it| it.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    if pod.metadata.deletion_timestamp.is_none() && ready.any(|it| it.status == "True") {
        return None;
    }
    let containers = status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    let mut waiting =
        containers.filter_map(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = status.and_then(|it| it.phase.clone());
    Some(
        waiting
            .next()
            .or(phase)
            .unwrap_or_else(|| "unknown".to_owned()),
    )
}

/// Has the host's own program ask its engine; answers with what it prints, within [`ANSWER_WITHIN`].
pub(crate) async fn ask(pods: &Api<Pod>, pod: &str, words: &[&str]) -> Result<String, StepError> {
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask_in(pods, pod, words));
    asked.await.unwrap_or_else(|_| {
        Err(StepError::Engine {
            pod: pod.to_owned(),
            words: format!("nothing within {} s", ANSWER_WITHIN.as_secs()),
        })
    })
}

async fn ask_in(pods: &Api<Pod>, pod: &str, words: &[&str]) -> Result<String, StepError> {
    let command = [&[host::PROGRAM], words].concat();
    let params = AttachParams::default().container(host::CONTAINER);
    let process = pods.exec(pod, command, &params).await;
    let mut process = process.map_err(|source| StepError::Api {
        tried: format!("run {} in the pod {pod}", words[..2].join(" ")),
        source: Box::new(source),
    })?;
    let status = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (answer, complaint) = tokio::join!(read(stdout), read(stderr));
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    if ended.is_some_and(|it| it.status.as_deref() == Some("Success")) {
        return Ok(answer);
    }
    Err(StepError::Engine {
        pod: pod.to_owned(),
        words: complaint.trim_end().to_owned(),
    })
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was cut is not understood, which is told.
        let _cut = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
