//! The way to a target's agent: a Unix socket of this machine, or a port of a pod.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use wire::pump::{self, ConnectError, Inbox, Session};
use wire::{AgentKey, SessionId};

use super::kubernetes::PodAgent;

/// How a session comes to the agent of a target.
#[derive(Clone)]
pub(crate) enum AgentLink {
    /// On this machine.
    Socket {
        /// The Unix socket that the agent listens on.
        socket: PathBuf,
        /// What sessions' keys are made from.
        key: AgentKey,
    },
    /// In a pod. Its credential is of one session: only one is ever opened through it.
    Pod(Box<PodAgent>),
}

impl AgentLink {
    /// Opens a session; after `grace` without a link it is closed.
    ///
    /// # Errors
    /// [`ConnectError`] if the first link does not come about.
    pub(crate) async fn connect(&self, grace: Duration) -> Result<(Session, Inbox), ConnectError> {
        match self {
            Self::Socket { socket, key } => {
                let id = SessionId::draw();
                let socket = socket.clone();
                let dial = move || UnixStream::connect(socket.clone());
                pump::connect(dial, id, key.session_key(&id), grace).await
            }
            Self::Pod(agent) => agent.connect(grace).await,
        }
    }

    /// Where to look when the agent is not reached.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Socket { .. } => "`bough local ls` shows whether it runs".to_owned(),
            Self::Pod(agent) => format!("`{}` shows what it says", agent.logs_command()),
        }
    }
}

impl fmt::Debug for AgentLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { socket, .. } => f.debug_tuple("Socket").field(socket).finish(),
            Self::Pod(agent) => f.debug_tuple("Pod").field(agent).finish(),
        }
    }
}
