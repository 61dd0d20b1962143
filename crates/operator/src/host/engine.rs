//! The engine of a host as the operator asks it: by its own program, in its pod.
//!
//! Owns the way there, and whether a pod can be asked. Leaves what an answer means to who asks.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::connections::{Laid, laid};
use super::{CONTAINER, PROGRAM};
use crate::step::StepError;

/// Most bytes of an engine's answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long an engine may take to answer: one host that hangs keeps the others waiting for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Whether a host can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answering {
    /// Not yet; why, for people.
    Starting(String),
    /// Yes.
    In {
        /// In this pod.
        pod: String,
        /// What of its source's Secrets it has.
        laid: Vec<Laid>,
    },
}

/// How the pod of a host stands.
///
/// # Errors
/// [`StepError::Api`] when the API server does not say.
pub(crate) async fn look(pods: &Api<Pod>, name: &str) -> Result<Answering, StepError> {
    let found = pods.get_opt(name).await.map_err(|source| StepError::Api {
        tried: format!("look at the pod {name}"),
        source: Box::new(source),
    })?;
    let Some(found) = found else {
        return Ok(Answering::Starting(format!(
            "its host {name} is not there yet"
        )));
    };
    Ok(match unready(&found) {
        Some(why) => Answering::Starting(format!("its host {name} is not ready: {why}")),
        None => Answering::In {
            pod: name.to_owned(),
            laid: laid(found.spec.as_ref().and_then(|it| it.volumes.as_ref())),
        },
    })
}

/// Why a pod is not ready, in its own or the kubelet's words.
pub(crate) fn unready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = status.iter().flat_map(|it| it.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being stopped".to_owned());
    }
    if ready.any(|it| it.status == "True") {
        return None;
    }
    let of = |statuses: Option<&Vec<ContainerStatus>>| {
        let mut all = statuses.into_iter().flatten();
        all.find_map(hindrance)
    };
    let outer = || {
        let status = status?;
        let mut conditions = status.conditions.iter().flatten();
        let unplaced = conditions.find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
        let message = unplaced.message.clone();
        message.or_else(|| unplaced.reason.clone())
    };
    Some(
        status
            .and_then(|it| of(it.init_container_statuses.as_ref()))
            .or_else(outer)
            .or_else(|| of(status?.container_statuses.as_ref()))
            .or_else(|| status?.phase.clone())
            .unwrap_or_else(|| "unknown".to_owned()),
    )
}

/// What a container is held up by: not that it waits for its turn, which others are held up by.
fn hindrance(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone()?;
        let is_turn = reason == "PodInitializing" || reason == "ContainerCreating";
        return Some(reason).filter(|_| !is_turn);
    }
    let ended = state.terminated.as_ref().filter(|it| it.exit_code != 0)?;
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    Some(format!("{} ended: {reason}", container.name))
}

/// Has the host's own program ask its engine; answers with what it prints, within [`ANSWER_WITHIN`].
pub(crate) async fn ask(pods: &Api<Pod>, pod: &str, words: &[&str]) -> Result<String, StepError> {
    ask_with(pods, pod, &[&[PROGRAM], words].concat()).await
}

/// As [`ask`], with a command that has the program ask in the end.
pub(crate) async fn ask_with(
    pods: &Api<Pod>,
    pod: &str,
    command: &[&str],
) -> Result<String, StepError> {
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask_in(pods, pod, command));
    asked.await.unwrap_or_else(|_| {
        Err(StepError::Engine {
            pod: pod.to_owned(),
            words: format!("nothing within {} s", ANSWER_WITHIN.as_secs()),
        })
    })
}

async fn ask_in(pods: &Api<Pod>, pod: &str, command: &[&str]) -> Result<String, StepError> {
    let params = AttachParams::default().container(CONTAINER);
    let process = pods.exec(pod, command.iter().copied(), &params).await;
    let mut process = process.map_err(|source| StepError::Api {
        tried: format!("ask the engine in the pod {pod}"),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_holds_a_pod_up_is_told_by_whoever_knows_it() {
        let told = |status: Value| {
            let pod = json!({"metadata": {"name": "p"}, "status": status});
            unready(&serde_json::from_value(pod).expect("a pod"))
        };
        let one = |name: &str, state: Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let of_init = told(json!({
            "phase": "Pending",
            "initContainerStatuses": [one("program", waits("ImagePullBackOff"))],
            "containerStatuses": [one("engine", waits("PodInitializing"))],
        }));
        assert_eq!(of_init.as_deref(), Some("ImagePullBackOff"));
        let ended = told(json!({
            "phase": "Pending",
            "initContainerStatuses": [one("program", json!({"terminated": {"exitCode": 1, "reason": "Error"}}))],
            "containerStatuses": [one("engine", waits("PodInitializing"))],
        }));
        assert_eq!(ended.as_deref(), Some("program ended: Error"));
        let words = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        let unplaced = told(json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}],
        }));
        assert_eq!(unplaced.as_deref(), Some(words));
        let engine = told(json!({
            "phase": "Running",
            "initContainerStatuses": [one("program", json!({"terminated": {"exitCode": 0}}))],
            "containerStatuses": [one("engine", waits("CrashLoopBackOff"))],
        }));
        assert_eq!(engine.as_deref(), Some("CrashLoopBackOff"));
        let turn = told(
            json!({"phase": "Pending", "containerStatuses": [one("engine", waits("ContainerCreating"))]}),
        );
        assert_eq!(turn.as_deref(), Some("Pending"));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(told(json!({"phase": "Running", "conditions": ready})), None);
    }
}
