//! One session's way to the agent of a pod: the API server's port-forward, dialled anew for every link.

use std::fmt;
use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use model::{PgMajor, PgUrl};
use operator::agents::{ApiFailure, PROGRAM};
use tokio::io::DuplexStream;
use wire::pump::{self, ConnectError, Inbox, Session};
use wire::{SessionId, SessionKey};

use super::error::ClusterError;
use super::invitation::SessionCredential;
use super::source_version;

/// How one session comes to an agent.
#[derive(Clone)]
pub(crate) struct PodAgent {
    pods: Api<Pod>,
    pod: String,
    container: String,
    port: u16,
    id: SessionId,
    key: SessionKey,
}

impl PodAgent {
    /// The way of one session to the agent that listens on `port` of `pod`'s loopback.
    pub(super) fn new(
        pods: Api<Pod>,
        pod: &str,
        container: &str,
        port: u16,
        credential: SessionCredential,
    ) -> Self {
        Self {
            pods,
            pod: pod.to_owned(),
            container: container.to_owned(),
            port,
            id: credential.id,
            key: credential.key,
        }
    }

    /// The ephemeral container's name.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// What shows the agent's own words.
    pub(crate) fn logs_command(&self) -> String {
        let (pod, container) = (&self.pod, &self.container);
        let namespace = self.pods.namespace().unwrap_or("default");
        format!("kubectl -n {namespace} logs {pod} -c {container}")
    }

    /// Which PostgreSQL the target reaches by `url`.
    ///
    /// # Errors
    /// [`ClusterError`] when nobody there tells.
    pub(crate) async fn source_version(&self, url: &PgUrl) -> Result<PgMajor, ClusterError> {
        source_version::ask(&self.pods, &self.pod, &self.container, PROGRAM, url).await
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`ConnectError`] if the first link does not come about.
    pub(crate) async fn connect(&self, grace: Duration) -> Result<(Session, Inbox), ConnectError> {
        let (pods, pod, port) = (self.pods.clone(), self.pod.clone(), self.port);
        let dial = move || forward(pods.clone(), pod.clone(), port);
        pump::connect(dial, self.id, self.key.clone(), grace).await
    }
}

impl fmt::Debug for PodAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodAgent")
            .field("pod", &self.pod)
            .field("container", &self.container)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A stream to a port of a pod. It ends with the task that carries it, which ends with the stream.
pub(super) async fn forward(pods: Api<Pod>, pod: String, port: u16) -> io::Result<DuplexStream> {
    let forwarder = pods.portforward(&pod, &[port]).await;
    let mut forwarder = forwarder.map_err(|error| io::Error::other(ApiFailure::from(error)))?;
    let stream = forwarder.take_stream(port);
    stream.ok_or_else(|| io::Error::other("the port is not forwarded"))
}
