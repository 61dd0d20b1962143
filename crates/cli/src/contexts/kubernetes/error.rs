//! Why a cluster does not give a target, and what can be done about it.

use model::Namespace;
use operator::agents::{AgentError, ApiFailure};
use wire::pump::OpenFailure;

use super::kubeconfig::KubeconfigError;

/// Why a cluster does not give a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The kubeconfig leads nowhere.
    #[error("cannot reach the cluster")]
    Kubeconfig(#[from] KubeconfigError),
    /// The API server does not answer as it should.
    #[error("cannot {tried}")]
    Api {
        /// What was tried, with which object.
        tried: String,
        /// The user's right that this takes, as `kubectl auth can-i` names it.
        right: String,
        /// Why.
        #[source]
        source: ApiFailure,
    },
    /// There is no such target, or no agent beside it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The cluster does not know branches.
    #[error("branches in a cluster are made by its operator, and this one has none")]
    NoOperator,
    /// The operator gives a session no agent.
    #[error("no agent for session {session} in namespace {namespace}: {why}")]
    Unserved {
        /// The session.
        session: String,
        /// Its namespace.
        namespace: String,
        /// The operator's words, or ours about it.
        why: String,
    },
    /// Nobody gave the session an agent, and the user's own rights do not either.
    #[error("no agent by an operator ({why}), nor with your own rights")]
    Alone {
        /// Why the operator gave none.
        why: String,
        /// Why the user has none.
        #[source]
        source: Box<ClusterError>,
    },
    /// The system gives no randomness.
    #[error("cannot draw a key for an agent's answer")]
    NoRandomness,
    /// No branch host is to be had.
    #[error("no branch host in namespace {namespace}: {why}")]
    NoHost {
        /// The namespace.
        namespace: Namespace,
        /// Why.
        why: String,
    },
    /// No host follows a source of this name.
    #[error("no branch host in namespace {namespace} has the source {name}")]
    NoSource {
        /// The name.
        name: String,
        /// The namespace.
        namespace: Namespace,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The source does not say which PostgreSQL it is.
    #[error("cannot ask the source for its version from the pod {pod}: {why}")]
    NoVersion {
        /// The pod.
        pod: String,
        /// Why.
        why: String,
    },
    /// A branch host does not take a way to a source that only the target reaches.
    #[error("cannot lend the pod {pod} a way to the source, which only the target reaches: {why}")]
    NoLoan {
        /// The pod.
        pod: String,
        /// Its words, or ours about it.
        why: String,
    },
    /// The operator does not make this branch.
    #[error("no branch {id} in namespace {namespace}: {why}")]
    NoRoom {
        /// The branch.
        id: String,
        /// Its namespace.
        namespace: Namespace,
        /// The operator's words.
        why: String,
    },
    /// Nothing of this machine leads to a pod.
    #[error("cannot lead to the pod {pod}")]
    Tunnel {
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ClusterError {
    /// Whether it is the user's rights that are missing, and not the cluster's answer.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api { source, .. } if source.is_forbidden())
    }

    /// What there is instead, a line each.
    pub(crate) fn details(&self) -> Vec<String> {
        match self {
            Self::Agent(error) => error.details(),
            Self::Alone { source, .. } => source.details(),
            Self::Kubeconfig(_)
            | Self::Api { .. }
            | Self::Unserved { .. }
            | Self::NoRandomness
            | Self::NoOperator
            | Self::NoHost { .. }
            | Self::NoRoom { .. }
            | Self::NoSource { .. }
            | Self::NoVersion { .. }
            | Self::NoLoan { .. }
            | Self::Tunnel { .. } => Vec::new(),
        }
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig(_) => Some("`--context` names another one".to_owned()),
            Self::Api { right, source, .. } => Some(source.hint(right)),
            Self::Unserved { namespace, .. } => Some(format!(
                "`kubectl -n {namespace} get pods` shows the target's; `bough operator status` the operator, which placed it; \
                 \"operator\": false in the file has you place it with your own rights"
            )),
            Self::Alone { source, .. } => source.hint(),
            Self::NoRandomness => None,
            Self::NoOperator => Some(
                "`bough operator install` installs it; without \"db_branches\" the session runs, on \
                 the shared databases"
                    .to_owned(),
            ),
            Self::NoHost { namespace, .. } => Some(format!(
                "`kubectl -n {namespace} get branches,pods -l {}` and `kubectl -n bough-operator logs deploy/bough-operator` \
                 show what there is",
                operator::HOST_LABEL
            )),
            Self::NoSource {
                namespace, known, ..
            } if known.is_empty() => Some(format!(
                "`kubectl -n {namespace} get sources.bough.dev` shows what is to be followed, and how that stands"
            )),
            Self::NoSource { known, .. } => Some(format!("there is {}", known.join(", "))),
            Self::NoVersion { .. } => Some(
                "a version that is named is not asked for: \"version\": \"16\" in the file, --version 16 for `create`"
                    .to_owned(),
            ),
            Self::NoLoan { pod, .. } => Some(format!(
                "a host whose pod is older than this program knows no loans: `kubectl delete pod {pod}` in its namespace \
                 brings the operator's program, and its branches come back"
            )),
            Self::NoRoom { namespace, .. } => Some(format!(
                "`bough db-branches -n {namespace} destroy ID` makes room; how much there is the cluster's \
                 administrator says"
            )),
            Self::Tunnel { .. } => Some(
                "that takes a folder below the data directory, of a path that is short enough for a socket: \
                 BOUGH_DATA_DIR names another one"
                    .to_owned(),
            ),
            Self::Agent(error) => error.hint(),
        }
    }
}

/// Why an agent does not open a stream, in the system's own words.
pub(super) fn describe_errno(failure: &OpenFailure) -> String {
    match failure {
        OpenFailure::Refused { errno } => std::io::Error::from(*errno).to_string(),
        OpenFailure::NotAsked { source } => source.to_string(),
    }
}
