//! The engine of a host as the operator asks it: by its own program, in its pod.
//!
//! Owns the way there, and whether a pod can be asked. Leaves what an answer means to who asks.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{CONTAINER, Home, PROGRAM};
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
    /// In this pod.
    In(String),
}

/// How the pod of a host stands.
///
/// # Errors
/// [`StepError::Api`] when the API server does not say.
pub(crate) async fn look(pods: &Api<Pod>, home: &Home) -> Result<Answering, StepError> {
    let name = home.pod();
    let found = pods.get_opt(&name).await.map_err(|source| StepError::Api {
        tried: format!("look at the pod {name}"),
        source: Box::new(source),
    })?;
    Ok(match found.as_ref().map(unready) {
        None => Answering::Starting(format!("its host {name} is not there yet")),
        Some(Some(why)) => Answering::Starting(format!("its host {name} is not ready: {why}")),
        Some(None) => Answering::In(name),
    })
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
