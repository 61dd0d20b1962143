//! Why a cluster does not give a target, and what can be done about it.

use std::error::Error;
use std::fmt;

use model::{Namespace, TargetRef};
use wire::pump::OpenFailure;

use super::kubeconfig::KubeconfigError;

/// What the API server said, without the client's own words around it.
#[derive(Debug)]
pub(crate) struct ApiFailure(pub(super) kube::Error);

impl ApiFailure {
    /// Whether the API server answers 403.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether an admission policy refuses it, whose message says why.
    fn is_denied_by_policy(&self) -> bool {
        matches!(&self.0, kube::Error::Api(status) if status.message.contains("ValidatingAdmissionPolicy"))
    }

    /// Whether there is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether there is such an object already, or another one meanwhile.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the object is not as it was thought to be: changed meanwhile, or with what cannot be changed any more.
    pub(super) fn is_contested(&self) -> bool {
        matches!(self.code(), Some(409 | 422))
    }

    fn code(&self) -> Option<u16> {
        if let kube::Error::Api(status) = &self.0 {
            Some(status.code)
        } else {
            None
        }
    }
}

impl From<kube::Error> for ApiFailure {
    fn from(error: kube::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let kube::Error::Api(status) = &self.0 {
            return f.write_str(&status.message);
        }
        // The client has its own name before what happened.
        let text = self.0.to_string();
        f.write_str(text.strip_prefix("ServiceError: ").unwrap_or(&text))
    }
}

impl Error for ApiFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if matches!(self.0, kube::Error::Api(_)) {
            return None;
        }
        // The error itself is in the text already.
        self.0.source().and_then(Error::source)
    }
}

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
    /// The cluster does not know branches.
    #[error("branches in a cluster are made by its operator, and this one has none")]
    NoOperator,
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
    /// There is no such workload.
    #[error("no target {target} in namespace {namespace}")]
    NotFound {
        /// What was asked for.
        target: TargetRef,
        /// Where.
        namespace: Namespace,
    },
    /// It has no pods that run.
    #[error("the target {target} in namespace {namespace} has no pod that runs{}", pods_in_brackets(.pods))]
    NoPod {
        /// What was asked for.
        target: TargetRef,
        /// Where.
        namespace: Namespace,
        /// Those that it has, with their state.
        pods: Vec<String>,
    },
    /// The workload selects pods by something that a list cannot ask for.
    #[error("the target {0} says no labels that its pods are found by")]
    NoSelector(TargetRef),
    /// The pod has no such container.
    #[error("the pod {pod} has no container {asked:?}")]
    Container {
        /// The pod.
        pod: String,
        /// What was asked for.
        asked: String,
        /// Those that it has.
        containers: Vec<String>,
    },
    /// No agent may stand beside the pod.
    #[error("cannot put an agent beside the pod {pod}")]
    Refused {
        /// The pod.
        pod: String,
        /// Whether that was for mirror or steal.
        incoming: bool,
        /// The API server's words.
        #[source]
        source: ApiFailure,
    },
    /// The agent's container does not come up.
    #[error("the agent {container} in the pod {pod} does not start: {why}")]
    NotStarted {
        /// The pod.
        pod: String,
        /// The ephemeral container.
        container: String,
        /// Its image.
        image: String,
        /// What the kubelet says.
        why: String,
    },
    /// The agent went while it was asked.
    #[error("the agent {container} in the pod {pod} has ended meanwhile")]
    Ended {
        /// The pod.
        pod: String,
        /// The ephemeral container.
        container: String,
    },
    /// The agent does not say what it should.
    #[error("the agent {container} in the pod {pod} does not answer: {why}")]
    Silent {
        /// The pod.
        pod: String,
        /// The ephemeral container.
        container: String,
        /// What was heard instead.
        why: String,
    },
}

fn pods_in_brackets(pods: &[String]) -> String {
    if pods.is_empty() {
        String::new()
    } else {
        format!(" ({})", pods.join(", "))
    }
}

impl ClusterError {
    /// What there is instead, a line each.
    pub(crate) fn details(&self) -> Vec<String> {
        match self {
            Self::Container { containers, .. } => {
                vec![format!("it has {}", containers.join(", "))]
            }
            Self::Kubeconfig(_)
            | Self::Api { .. }
            | Self::NoOperator
            | Self::NoHost { .. }
            | Self::NoRoom { .. }
            | Self::NoSource { .. }
            | Self::NoVersion { .. }
            | Self::Tunnel { .. }
            | Self::NotFound { .. }
            | Self::NoPod { .. }
            | Self::NoSelector(_)
            | Self::Refused { .. }
            | Self::NotStarted { .. }
            | Self::Ended { .. }
            | Self::Silent { .. } => Vec::new(),
        }
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig(_) => Some("`--context` names another one".to_owned()),
            Self::Api { source, .. } if source.is_denied_by_policy() => Some(
                "that is a rule of the cluster's administrator: `kubectl get validatingadmissionpolicies` shows them all"
                    .to_owned(),
            ),
            Self::Api { right, source, .. } if source.is_forbidden() => {
                Some(format!("you need the right to {right} there: `kubectl auth can-i {right}`"))
            }
            Self::Api { .. } => {
                Some("`kubectl get pods` shows whether the cluster is there at all".to_owned())
            }
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
            Self::NoRoom { namespace, .. } => Some(format!(
                "`bough db-branches -n {namespace} destroy ID` makes room; how much there is the cluster's \
                 administrator says"
            )),
            Self::Tunnel { .. } => Some(
                "that takes a folder below the data directory, of a path that is short enough for a socket: \
                 BOUGH_DATA_DIR names another one"
                    .to_owned(),
            ),
            Self::NotFound { namespace, .. } => Some(format!(
                "`kubectl -n {namespace} get deployments,statefulsets,pods` shows what there is; -n names another \
                 namespace, --context another cluster or `local`"
            )),
            Self::NoPod { namespace, .. } => {
                Some(format!("`kubectl -n {namespace} describe pods` says why"))
            }
            Self::NoSelector(_) => Some("name one of its pods: pod/NAME".to_owned()),
            Self::Container { .. } => Some("KIND/NAME/container/CONTAINER names one".to_owned()),
            Self::Refused { .. }
            | Self::NotStarted { .. }
            | Self::Ended { .. }
            | Self::Silent { .. } => self.hint_about_agent(),
        }
    }

    /// What can be done about an agent that is not there.
    fn hint_about_agent(&self) -> Option<String> {
        match self {
            Self::Refused {
                incoming: true,
                source,
                ..
            } if source.is_forbidden() => Some(
                "mirror and steal need NET_ADMIN, which Pod Security below `privileged` refuses: \"incoming\": \"off\" \
                 does without; the right itself is to patch pods/ephemeralcontainers"
                    .to_owned(),
            ),
            Self::Refused { source, .. } if source.is_forbidden() => Some(
                "you need the right to patch pods/ephemeralcontainers there, and to create pods/exec and \
                 pods/portforward"
                    .to_owned(),
            ),
            Self::Refused { pod, .. } => Some(format!(
                "`kubectl describe pod {pod}` shows whether it is there and what it has: an agent is an ephemeral \
                 container, which takes Kubernetes 1.25 and no static pod"
            )),
            Self::NotStarted { image, .. } => Some(format!(
                "the image {image} has to be where the cluster's nodes pull from, or on them: BOUGH_AGENT_IMAGE names \
                 another one"
            )),
            Self::Ended { pod, container } => Some(format!(
                "whoever comes next has another one; `kubectl logs {pod} -c {container}` shows what it said"
            )),
            Self::Silent { pod, container, .. } => {
                Some(format!("`kubectl logs {pod} -c {container}` shows what it says"))
            }
            Self::Kubeconfig(_)
            | Self::Api { .. }
            | Self::NoOperator
            | Self::NoHost { .. }
            | Self::NoSource { .. }
            | Self::NoVersion { .. }
            | Self::NoRoom { .. }
            | Self::Tunnel { .. }
            | Self::NotFound { .. }
            | Self::NoPod { .. }
            | Self::NoSelector(_)
            | Self::Container { .. } => None,
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
