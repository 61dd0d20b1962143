//! One step done: a session told of, deleted, or given an agent.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use model::{IncomingMode, Namespace, chain};
use resources::{PodName, Session, SessionAgent, SessionAsk, SessionStatus};
use serde_json::json;

use crate::agents::{
    self, AgentContainer, AgentError, AgentWish, ApiFailure, ChosenPod, PodId, Question, SeenPod,
};
use crate::step::StepError;

/// How long one agent may take, its image pulled: who waits for it waits no longer.
const PLACED_WITHIN: Duration = Duration::from_secs(90);

/// Most characters of a refusal.
const REFUSAL_CHARS_MAX: usize = 1024;

/// Most ports of a container that are told.
const PORTS_MAX: usize = 64;

/// What the session is told of is this.
///
/// # Errors
/// [`StepError::Agents`].
pub(super) async fn tell(
    client: &Client,
    session: &Session,
    status: &SessionStatus,
) -> Result<(), StepError> {
    let patch = Patch::Merge(json!({"status": whole(status)}));
    let told = api_of(client, session)
        .patch_status(&session.name_any(), &PatchParams::default(), &patch)
        .await;
    match told {
        // It ended meanwhile.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        told => told
            .map(drop)
            .map_err(|source| failed("tell of", session, source)),
    }
}

/// The session is deleted, unless it has changed meanwhile.
///
/// # Errors
/// [`StepError::Agents`].
pub(super) async fn forget(client: &Client, session: &Session) -> Result<(), StepError> {
    let params = DeleteParams::default().preconditions(Preconditions {
        resource_version: session.resource_version(),
        uid: session.uid(),
    });
    let deleted = api_of(client, session)
        .delete(&session.name_any(), &params)
        .await;
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 409 || status.is_not_found() => Ok(()),
        deleted => deleted
            .map(drop)
            .map_err(|source| failed("forget", session, source)),
    }
}

/// Whether this operator may put agents beside pods of a namespace.
///
/// # Errors
/// [`StepError::Agents`].
pub(super) async fn may_place(client: &Client, session: &Session) -> Result<bool, StepError> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let right = ResourceAttributes {
        namespace: session.namespace(),
        verb: Some("patch".to_owned()),
        resource: Some("pods".to_owned()),
        subresource: Some("ephemeralcontainers".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(right),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(|source| failed("ask what may be done for", session, source))?;
    Ok(answer.status.is_some_and(|it| it.allowed))
}

/// The pods of a session's target; none of one that is not there.
///
/// # Errors
/// [`StepError::Agents`].
pub(super) async fn pods(client: &Client, session: &Session) -> Result<Vec<SeenPod>, StepError> {
    let target = agents::target_of(&session.spec.target);
    let Some(namespace) = namespace_of(session) else {
        return Ok(Vec::new());
    };
    match agents::look(client, &namespace, &target).await {
        Ok(pods) => Ok(pods),
        Err(AgentError::Api { tried, source, .. }) => Err(StepError::Agents { tried, source }),
        Err(_) => Ok(Vec::new()),
    }
}

/// Puts an agent beside a pod of the target, or finds it there, and has it invite whoever has the other half of the ask's key.
///
/// # Errors
/// Why there is none, for a person.
pub(super) async fn place(
    client: &Client,
    image: &str,
    session: &Session,
    ask: &SessionAsk,
) -> Result<SessionAgent, String> {
    let placing = place_one(client, image, session, ask);
    let placed = tokio::time::timeout(PLACED_WITHIN, placing).await;
    let refusal = match placed {
        Ok(Ok(agent)) => return Ok(agent),
        Ok(Err(error)) => describe(&error),
        Err(_) => format!("no agent runs after {} s", PLACED_WITHIN.as_secs()),
    };
    Err(refusal.chars().take(REFUSAL_CHARS_MAX).collect())
}

async fn place_one(
    client: &Client,
    image: &str,
    session: &Session,
    ask: &SessionAsk,
) -> Result<SessionAgent, AgentError> {
    let target = agents::target_of(&session.spec.target);
    let namespace = namespace_of(session).expect("the API server takes no other names");
    let chosen = match &ask.pod {
        None => agents::choose(client, &namespace, &target).await?,
        Some(PodName { name, uid }) => {
            let (name, uid) = (name.clone(), uid.clone());
            agents::find_pod(client, &namespace, &target, &PodId { name, uid }).await?
        }
    };
    // Its own image, and nobody else's: the agent may have capabilities.
    let wish = AgentWish {
        incoming: session.spec.network.incoming != IncomingMode::Off,
        image: image.to_owned(),
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    // Two: one session reads the environment, the other is the program's.
    let question = Question {
        words: &["invite", "--sessions", "2", "--for", &ask.key],
        read: sealed,
    };
    let (container, sealed) =
        AgentContainer::place_asking(&pods, &chosen, &wish, &question).await?;
    Ok(describe_agent(&chosen, &container, sealed))
}

/// What an agent says that seals its answer: hexadecimal digits, and nothing else.
fn sealed(answer: &str) -> Option<String> {
    let line = answer.trim_end();
    let is_sealed = !line.is_empty() && line.bytes().all(|it| it.is_ascii_hexdigit());
    is_sealed.then(|| line.to_owned())
}

fn describe_agent(chosen: &ChosenPod, container: &AgentContainer, sealed: String) -> SessionAgent {
    let PodId { name, uid } = chosen.id();
    SessionAgent {
        pod: PodName { name, uid },
        container: container.name().to_owned(),
        beside: chosen.container.name.clone(),
        ports: chosen.ports().into_iter().take(PORTS_MAX).collect(),
        sees_process: chosen.sees_process(),
        remarks: container.remarks(),
        sealed,
    }
}

/// A failure with its causes, and what can be done where that is the user's to do.
fn describe(error: &AgentError) -> String {
    let told = chain(error);
    let is_users = match error {
        AgentError::Refused { incoming, .. } => *incoming,
        AgentError::Api { .. } => false,
        AgentError::NotFound { .. }
        | AgentError::NoPod { .. }
        | AgentError::NoSelector(_)
        | AgentError::Container { .. }
        | AgentError::BranchHost(_)
        | AgentError::NotStarted { .. }
        | AgentError::Ended { .. }
        | AgentError::Silent { .. } => true,
    };
    match error.hint().filter(|_| is_users) {
        Some(hint) => format!("{told} ({hint})"),
        None => told,
    }
}

fn api_of(client: &Client, session: &Session) -> Api<Session> {
    Api::namespaced(client.clone(), &session.namespace().unwrap_or_default())
}

fn namespace_of(session: &Session) -> Option<Namespace> {
    Namespace::new(session.namespace()?).ok()
}

fn failed(verb: &str, session: &Session, source: kube::Error) -> StepError {
    let (name, namespace) = (session.name_any(), session.namespace().unwrap_or_default());
    StepError::Agents {
        tried: format!("{verb} the session {name} in namespace {namespace}"),
        source: ApiFailure::from(source),
    }
}

/// A status whose absent fields are `null`, which removes what an earlier one said.
fn whole(status: &SessionStatus) -> serde_json::Value {
    let mut whole = json!({"message": null, "answers": [], "conditions": [], "pods": null, "beat": null, "heardAt": null});
    let told = json!(status);
    if let (Some(whole), Some(told)) = (whole.as_object_mut(), told.as_object()) {
        whole.extend(told.clone());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_takes_back_what_it_does_not_say_any_more() {
        let written = whole(&SessionStatus::default());
        let object = written.as_object().expect("an object");
        let mut fields: Vec<_> = object.keys().map(String::as_str).collect();
        fields.sort_unstable();
        let all = [
            "answers",
            "beat",
            "conditions",
            "heardAt",
            "message",
            "observedGeneration",
            "phase",
            "pods",
        ];
        assert_eq!(fields, all);
    }

    #[test]
    fn what_is_not_sealed_is_no_answer() {
        assert_eq!(sealed("0aff\n").as_deref(), Some("0aff"));
        for bad in ["", "\n", "error: no such file", r#"{"port": 1}"#] {
            assert_eq!(sealed(bad), None, "{bad}");
        }
    }
}
