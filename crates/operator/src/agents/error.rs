//! Why a target has no agent to be had, and what can be done about it.

use std::error::Error;
use std::fmt;

use kube::client::AuthError;
use model::{Namespace, TargetRef};

/// What the API server said, without the client's own words around it.
#[derive(Debug)]
pub struct ApiFailure(kube::Error);

impl ApiFailure {
    /// Whether the API server answers 403.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether somebody's rule refuses it: one of rights, or of what may be there. A webhook's refusal is a 400 unless it
    /// says otherwise (k8s.io/apiserver, `admission/plugin/webhook/errors`).
    pub fn is_denied(&self) -> bool {
        self.is_forbidden() || self.is_denied_by_webhook()
    }

    /// Whether an admission webhook refuses it, whose message says why.
    pub fn is_denied_by_webhook(&self) -> bool {
        matches!(&self.0, kube::Error::Api(status)
            if status.message.starts_with("admission webhook") && status.message.contains("denied the request"))
    }

    /// Whether an admission policy refuses it, whose message says why.
    pub fn is_denied_by_policy(&self) -> bool {
        matches!(&self.0, kube::Error::Api(status) if status.message.contains("ValidatingAdmissionPolicy"))
    }

    /// Whether an admission policy refuses it that does not know yet what it is about, as on an API server that has just
    /// started or was just given its definitions: it looks these up again every 30 s.
    pub fn is_of_new_policy(&self) -> bool {
        let not_yet = [
            "failed to find resource referenced by paramKind",
            "not yet synced to use for admission",
        ];
        let told = self.to_string();
        self.is_denied_by_policy() && not_yet.iter().any(|it| told.contains(it))
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether there is such an object already, or another one meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the object is not as it was thought to be: changed meanwhile, or with what cannot be changed any more.
    pub fn is_contested(&self) -> bool {
        matches!(self.code(), Some(409 | 422))
    }

    /// Whether it may be gone with the next try: nobody answered, or the API server said that it was not able to. One that is
    /// replaced by its next version does both for a while.
    pub fn is_passing(&self) -> bool {
        let is_unable = |code| code == 429 || code >= 500;
        self.code().is_some_and(is_unable)
            || matches!(
                &self.0,
                kube::Error::HyperError(_) | kube::Error::Service(_)
            )
    }

    /// What can be done where it said no to something that takes `right`.
    pub fn hint(&self, right: &str) -> String {
        if self.is_denied_by_policy() {
            "that is a rule of the cluster's administrator: `kubectl get validatingadmissionpolicies` shows them all"
                .to_owned()
        } else if self.is_forbidden() {
            format!("you need the right to {right} there: `kubectl auth can-i {right}`")
        } else {
            "`kubectl get pods` shows whether the cluster is there at all".to_owned()
        }
    }

    /// What a kubeconfig's own way to credentials failed by, at the first request or a later one.
    fn credentials(&self) -> Option<&AuthError> {
        let first = self.0.source();
        std::iter::successors(first, |&error| error.source()).find_map(|it| it.downcast_ref())
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
        // The client shows the plugin's environment and all that it printed: there may be a token in it.
        match self.credentials() {
            Some(AuthError::AuthExecRun { out, .. }) => {
                let told = String::from_utf8_lossy(&out.stderr);
                let (status, told) = (out.status, told.trim());
                return write!(
                    f,
                    "the exec plugin of the kubeconfig's user failed with {status}: {told}"
                );
            }
            Some(AuthError::AuthExecParse(_)) => {
                return f.write_str(
                    "the exec plugin of the kubeconfig's user did not print an ExecCredential",
                );
            }
            Some(_) | None => {}
        }
        // The client has its own name before what happened.
        let text = self.0.to_string();
        f.write_str(text.strip_prefix("ServiceError: ").unwrap_or(&text))
    }
}

impl Error for ApiFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let is_told = match self.credentials() {
            Some(AuthError::AuthExecRun { .. } | AuthError::AuthExecParse(_)) => true,
            Some(_) | None => matches!(self.0, kube::Error::Api(_)),
        };
        if is_told {
            return None;
        }
        // The error itself is in the text already.
        self.0.source().and_then(Error::source)
    }
}

/// Why there is no such target, or no agent beside it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The API server does not answer as it should.
    #[error("cannot {tried}")]
    Api {
        /// What was tried, with which object.
        tried: String,
        /// The right that this takes, as `kubectl auth can-i` names it.
        right: String,
        /// Why.
        #[source]
        source: ApiFailure,
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
    /// The pod is a branch host, whose network is that of other people's branches.
    #[error("the pod {0} is a branch host, which is nobody's target")]
    BranchHost(String),
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

impl AgentError {
    /// What there is instead, a line each.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Container { containers, .. } => {
                vec![format!("it has {}", containers.join(", "))]
            }
            Self::Api { .. }
            | Self::NotFound { .. }
            | Self::NoPod { .. }
            | Self::NoSelector(_)
            | Self::BranchHost(_)
            | Self::Refused { .. }
            | Self::NotStarted { .. }
            | Self::Ended { .. }
            | Self::Silent { .. } => Vec::new(),
        }
    }

    /// What can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Api { right, source, .. } => Some(source.hint(right)),
            Self::NotFound { namespace, .. } => Some(format!(
                "`kubectl -n {namespace} get deployments,statefulsets,pods` shows what there is; -n names another \
                 namespace, --context another cluster or `local`"
            )),
            Self::NoPod { namespace, .. } => {
                Some(format!("`kubectl -n {namespace} describe pods` says why"))
            }
            Self::NoSelector(_) => Some("name one of its pods: pod/NAME".to_owned()),
            Self::BranchHost(_) => {
                Some("`bough db-branches` leads to the branches there".to_owned())
            }
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
            } if source.is_denied() => Some(
                "mirror and steal need NET_ADMIN, which Pod Security below `privileged` and like policies refuse: \
                 \"incoming\": \"off\" does without; the right itself is to patch pods/ephemeralcontainers"
                    .to_owned(),
            ),
            Self::Refused { source, .. } if source.is_denied_by_webhook() => Some(
                "a policy of the cluster refuses agents, its words are above: whoever keeps it may let ephemeral \
                 containers of this image by"
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
            Self::Api { .. }
            | Self::NotFound { .. }
            | Self::NoPod { .. }
            | Self::NoSelector(_)
            | Self::Container { .. }
            | Self::BranchHost(_) => None,
        }
    }
}
