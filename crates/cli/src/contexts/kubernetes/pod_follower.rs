//! The pods of a session's target while it runs: looked at again, and joined one by one.

use std::fmt;
use std::time::Duration;

use model::{Namespace, TargetKind, TargetRef};
use operator::agents::{self, AgentError, PodId, SeenPod};
use wire::pump::{Inbox, Session};

use super::{ClusterError, ClusterSession, ClusterTargets};
use crate::error::CommandError;

/// How the pods of one target are found again.
#[derive(Clone)]
pub(crate) struct PodFollower {
    targets: ClusterTargets,
    namespace: Namespace,
    target: TargetRef,
    first: PodId,
    /// Whose operator tells of the pods and gives agents; none where the user does it himself.
    session: Option<ClusterSession>,
}

impl fmt::Debug for PodFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodFollower")
            .field("namespace", &self.namespace)
            .field("target", &self.target)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

impl PodFollower {
    /// For a session whose first pod is `first`.
    pub(super) fn new(
        targets: ClusterTargets,
        namespace: Namespace,
        target: TargetRef,
        first: PodId,
        session: Option<ClusterSession>,
    ) -> Self {
        Self {
            targets,
            namespace,
            target,
            first,
            session,
        }
    }

    /// The pod that the session was begun with.
    pub(crate) fn first(&self) -> &PodId {
        &self.first
    }

    /// Whether the target may have several pods at once.
    pub(crate) fn has_replicas(&self) -> bool {
        self.target.kind != TargetKind::Pod
    }

    /// The target.
    pub(crate) fn target(&self) -> &TargetRef {
        &self.target
    }

    /// The pods as they are, the best first; none where the target is not there at this moment.
    ///
    /// # Errors
    /// [`ClusterError`] when the API server does not say.
    pub(crate) async fn look(&self) -> Result<Vec<SeenPod>, ClusterError> {
        if let Some(session) = &self.session {
            return session.pods().await;
        }
        let seen = agents::look(&self.targets.client, &self.namespace, &self.target).await;
        match seen {
            Err(AgentError::NotFound { .. }) => Ok(Vec::new()),
            seen => Ok(seen?),
        }
    }

    /// Puts an agent beside the pod, or finds it there, and opens a session of `grace` with it.
    ///
    /// # Errors
    /// For a person: why there is none.
    pub(crate) async fn join(
        &self,
        pod: &PodId,
        grace: Duration,
    ) -> Result<(Session, Inbox), String> {
        let say = |error: ClusterError| CommandError::from(error).message();
        if let Some(session) = &self.session {
            let granted = session.join(pod).await.map_err(say)?;
            let way = granted.ways.into_iter().next();
            let way = way.ok_or("the agent invites nobody")?;
            let connected = way.connect(grace).await;
            return connected.map_err(|error| error.to_string());
        }
        let target = &self.target;
        let chosen = agents::find_pod(&self.targets.client, &self.namespace, target, pod).await;
        let chosen = chosen.map_err(|error| say(error.into()))?;
        let placed = self.targets.place_one(&self.namespace, &chosen).await;
        let agent = placed.map_err(say)?;
        let connected = agent.connect(grace).await;
        connected.map_err(|error| error.to_string())
    }
}
