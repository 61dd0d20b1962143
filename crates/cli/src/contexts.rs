//! Contexts: where targets live, and how one is found there.
//!
//! Owns the wall that every context stands behind ([`Targets`]). `choice` says which context it is, `local` is the
//! embedded one, processes of this machine, `kubernetes` those of a kubeconfig; `link` is the way to an agent in any of
//! them. Leaves the words on the screen to the commands.

mod choice;
mod environ;
pub(crate) mod hex;
mod kubernetes;
mod link;
pub(crate) mod local;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use model::{ExitCode, Namespace, TargetKind, TargetRef};

use crate::settings::Settings;
use kubernetes::ClusterTargets;
use local::{LocalTargets, OwnNetwork, RegistryError, TargetState};

pub(crate) use choice::{ContextChoice, ContextError, ContextReason, LOCAL, choose_context};
pub(crate) use kubernetes::{
    ACCOUNT_FOLDER, AgentPlace, BranchHost, BranchWish, ClusterError, ClusterSession, Invitation,
    Kubeconfig, KubeconfigFiles, LOAN_GRACE, Leftovers, Loan, LoanAnswer, LoanWish, OwnPod,
    PodAccount, PodFollower, SessionCredential, SessionList, TargetWish, require_operator, seal,
};
pub(crate) use link::AgentLink;
pub(crate) use operator::agents::{AGENT_FOLDER, PodId, PodState, SeenPod};

/// How targets of one context are found.
pub(crate) trait Targets {
    /// Finds a running target, and reads its environment as it is at this moment.
    ///
    /// # Errors
    /// [`FindError`] when it is not there, does not run, or cannot be read.
    async fn find(
        &self,
        namespace: &Namespace,
        target: &TargetRef,
    ) -> Result<FoundTarget, FindError>;
}

/// Finds a target of the chosen context; in a cluster an agent is put beside it, which `wish` says what it must be able
/// to.
///
/// # Errors
/// [`FindError`] when it is not there, does not run, or cannot be read.
pub(crate) async fn find(
    context: &ContextChoice,
    namespace: &Namespace,
    target: &TargetRef,
    wish: TargetWish,
    settings: &Settings,
) -> Result<FoundTarget, FindError> {
    match &context.kubeconfig {
        None => {
            let targets = LocalTargets::new(&settings.data_dir);
            targets.find(namespace, target).await
        }
        Some(kubeconfig) => {
            let targets = ClusterTargets::connect(kubeconfig, wish).await?;
            targets.find(namespace, target).await
        }
    }
}

/// Lists what a session could take the place of.
///
/// # Errors
/// [`FindError`] when the context cannot be asked.
pub(crate) async fn list(
    context: &ContextChoice,
    namespace: &Namespace,
    kinds: &[TargetKind],
    settings: &Settings,
) -> Result<Listing, FindError> {
    match &context.kubeconfig {
        None => {
            let found = local::list(&settings.data_dir, Some(namespace))?;
            let found = found.into_iter().map(TargetEntry::from);
            let targets = found.filter(|entry| kinds.contains(&entry.kind)).collect();
            Ok(Listing {
                targets,
                ..Listing::default()
            })
        }
        Some(kubeconfig) => {
            let client = kubeconfig.client().await.map_err(ClusterError::from)?;
            Ok(kubernetes::list_targets(&client, namespace, kinds).await?)
        }
    }
}

/// The targets of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By kind in the order that was asked for.
    pub(crate) targets: Vec<TargetEntry>,
    /// Rights that the user lacks, as `kubectl auth can-i` names them: what they are for is not listed.
    pub(crate) forbidden: Vec<String>,
    /// Kinds of which there are more than were listed.
    pub(crate) cut: Vec<String>,
}

/// One target as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetEntry {
    /// Its kind.
    pub(crate) kind: TargetKind,
    /// Its name.
    pub(crate) name: String,
    /// Pods of it that run, or 1 for a process that does.
    pub(crate) running: u32,
    /// Pods of it that have not ended, or 1 for a process.
    pub(crate) all: u32,
    /// Containers that a session may name, the first pod's first.
    pub(crate) containers: Vec<String>,
}

impl From<local::TargetReport> for TargetEntry {
    fn from(report: local::TargetReport) -> Self {
        let kind = TargetKind::from_word(report.kind);
        let kind = kind.expect("a report has a kind's own word");
        Self {
            kind,
            name: report.name,
            running: u32::from(report.state.runs()),
            all: 1,
            containers: report.container.into_iter().collect(),
        }
    }
}

/// A client of the cluster of `context`; of the one that this program runs in where the context is none of a kubeconfig.
///
/// # Errors
/// [`ClusterError`] when there is none.
pub(crate) async fn client_of(context: &ContextChoice) -> Result<kube::Client, ClusterError> {
    match &context.kubeconfig {
        Some(kubeconfig) => Ok(kubeconfig.client().await?),
        None => Ok(kubernetes::own_cluster()?),
    }
}

/// A running target.
pub(crate) struct FoundTarget {
    /// What it was found by.
    pub(crate) reference: TargetRef,
    /// Where it was found.
    pub(crate) namespace: Namespace,
    /// Its container, where it has a name.
    pub(crate) container: Option<String>,
    /// Its process's own environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Variables that were left out because name or value is not UTF-8; the names, with what is not replaced.
    pub(crate) skipped: Vec<String>,
    /// What else must be told of how it was found, a line each.
    pub(crate) remarks: Vec<String>,
    /// TCP ports that it is known to listen on.
    pub(crate) ports: Vec<u16>,
    /// Its network, where it has one of its own that can be dialled into.
    pub(crate) own_network: Option<OwnNetwork>,
    /// How its agent is reached; none where it has none.
    pub(crate) agent: Option<AgentLink>,
    /// How its pods are found again while a session runs; none where it is one process.
    pub(crate) follower: Option<PodFollower>,
    /// The session as its cluster knows it, whose end is to be told; none where nobody was told of its begin.
    pub(crate) session: Option<ClusterSession>,
}

impl fmt::Debug for FoundTarget {
    /// Without the environment's values: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundTarget")
            .field("reference", &self.reference)
            .field("namespace", &self.namespace)
            .field("container", &self.container)
            .field("environment", &self.environment.keys())
            .field("skipped", &self.skipped)
            .field("ports", &self.ports)
            .finish()
    }
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// Nothing of that name is registered.
    #[error("no target {target} in namespace {namespace}")]
    NotFound {
        /// What was asked for.
        target: TargetRef,
        /// Where.
        namespace: Namespace,
        /// What is registered instead.
        others: Box<OtherTargets>,
    },
    /// It is registered, and its process has ended.
    #[error("the target {target} in namespace {namespace} does not run: {state}")]
    NotRunning {
        /// What was asked for.
        target: TargetRef,
        /// Where.
        namespace: Namespace,
        /// What became of it.
        state: TargetState,
    },
    /// It has another container, or none with a name.
    #[error("the target {target} in namespace {namespace} has no container {asked:?}")]
    Container {
        /// The target, as it is registered.
        target: TargetRef,
        /// Where.
        namespace: Namespace,
        /// The container that was asked for.
        asked: String,
    },
    /// Labels select workloads of a cluster.
    #[error("cannot find {0} in the context `{LOCAL}`: its targets have no labels")]
    Label(TargetRef),
    /// Its process hides its environment.
    #[error("cannot read the environment of {target} (process {pid})")]
    Environment {
        /// What was asked for.
        target: TargetRef,
        /// Its process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The register cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The cluster does not have it, or does not give it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// What is registered beside a target that is not.
#[derive(Debug, Default)]
pub(crate) struct OtherTargets {
    /// What its namespace has, as text.
    pub(crate) here: Vec<String>,
    /// What the other namespaces have, each with its namespace.
    pub(crate) elsewhere: Vec<String>,
}

impl FindError {
    /// The exit code of a command that fails by it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::Target
    }

    /// What there is instead, a line each.
    pub(crate) fn details(&self) -> Vec<String> {
        match self {
            Self::NotFound {
                namespace, others, ..
            } => [
                (format!("namespace {namespace} has "), &others.here),
                ("other namespaces have ".to_owned(), &others.elsewhere),
            ]
            .into_iter()
            .filter(|(_, targets)| !targets.is_empty())
            .map(|(lead, targets)| lead + &targets.join(", "))
            .collect(),
            Self::NotRunning { .. }
            | Self::Container { .. }
            | Self::Label(_)
            | Self::Environment { .. }
            | Self::Registry(_) => Vec::new(),
            Self::Cluster(error) => error.details(),
        }
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> Option<String> {
        let register = |target: &TargetRef, namespace: &Namespace| {
            format!("`bough local run {target} -n {namespace} -- COMMAND`")
        };
        match self {
            Self::NotFound {
                target, namespace, ..
            } => Some(format!(
                "{} registers a process as that target",
                register(target, namespace)
            )),
            Self::NotRunning {
                target, namespace, ..
            } => Some(format!(
                "{} starts it again; `bough local logs {target} -n {namespace}` shows what it wrote",
                register(target, namespace)
            )),
            Self::Container {
                target, namespace, ..
            } => Some(match &target.container {
                Some(container) => format!("its one container is {container:?}"),
                None => format!("it was registered without one: name none, or register it again in namespace {namespace}"),
            }),
            Self::Label(_) => {
                let kinds: Vec<_> = TargetKind::words().filter(|kind| *kind != "label").collect();
                Some(format!("name it as KIND/NAME, with KIND one of {}", kinds.join(", ")))
            }
            Self::Environment { .. } => Some(
                "a process shows its environment to its own account and to root; one that changed its account hides it"
                    .to_owned(),
            ),
            Self::Registry(_) => None,
            Self::Cluster(error) => error.hint(),
        }
    }
}
