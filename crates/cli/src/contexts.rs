//! Contexts: where targets live, and how one is found there.
//!
//! Owns the choice of a context and the wall that every context stands behind ([`Targets`]). `local` is the embedded
//! one, processes of this machine; Kubernetes contexts join it as modules beside it. Leaves the words on the screen
//! to the commands.

pub(crate) mod local;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use model::{ExitCode, Namespace, TargetKind, TargetRef};
use wire::AgentKey;

use local::{LocalTargets, RegistryError, TargetNetwork, TargetState};

/// The name of the embedded context.
pub(crate) const LOCAL: &str = "local";

/// The context that a command works in, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextChoice {
    /// Its name.
    pub(crate) name: String,
    /// Who named it.
    pub(crate) reason: ContextReason,
}

/// Who named a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextReason {
    /// `--context`.
    Flag,
    /// The file's `kube_context`.
    File,
    /// Nobody.
    Embedded,
}

impl fmt::Display for ContextReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--context",
            Self::File => "kube_context of the file",
            Self::Embedded => "embedded default; Kubernetes contexts come later",
        })
    }
}

impl fmt::Display for ContextChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "context {} ({})", self.name, self.reason)
    }
}

/// A context that cannot be worked in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContextError {
    /// It is not `local`, so it would be a kubeconfig's.
    #[error(
        "cannot use the context {name:?} ({reason}): Kubernetes contexts are not supported by this version, only `{LOCAL}`"
    )]
    Kubernetes {
        /// The context.
        name: String,
        /// Who named it.
        reason: ContextReason,
    },
}

impl ContextError {
    /// The exit code of a command that fails by it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::Target
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Kubernetes { .. } => format!(
                "`--context {LOCAL}` overrides the file; `bough local run KIND/NAME -n NS -- COMMAND` registers a \
                 process of this machine as a target"
            ),
        }
    }
}

/// Chooses the context: the one that `--context` names, else the `file`'s, else `local`. A kubeconfig's current context is
/// never taken: nobody would be told that its cluster was left out.
///
/// # Errors
/// [`ContextError::Kubernetes`] for any name but `local`.
pub(crate) fn choose_context(
    flag: Option<&str>,
    file: Option<&str>,
) -> Result<ContextChoice, ContextError> {
    let (name, reason) = match (flag, file) {
        (Some(name), _) => (name, ContextReason::Flag),
        (None, Some(name)) => (name, ContextReason::File),
        (None, None) => (LOCAL, ContextReason::Embedded),
    };
    let name = name.to_owned();
    if name == LOCAL {
        Ok(ContextChoice { name, reason })
    } else {
        Err(ContextError::Kubernetes { name, reason })
    }
}

/// How targets of one context are found.
pub(crate) trait Targets {
    /// Finds a running target, and reads its environment as it is at this moment.
    ///
    /// # Errors
    /// [`FindError`] when it is not there, does not run, or cannot be read.
    fn find(&self, namespace: &Namespace, target: &TargetRef) -> Result<FoundTarget, FindError>;
}

/// Finds a target of the context `local` whose data is kept in `data_dir`.
///
/// # Errors
/// [`FindError`] when it is not there, does not run, or cannot be read.
pub(crate) fn find(
    namespace: &Namespace,
    target: &TargetRef,
    data_dir: &Path,
) -> Result<FoundTarget, FindError> {
    LocalTargets::new(data_dir).find(namespace, target)
}

/// A running target.
#[derive(Clone, PartialEq, Eq)]
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
    /// TCP ports that it is known to listen on.
    pub(crate) ports: Vec<u16>,
    /// Its network.
    pub(crate) network: TargetNetwork,
    /// How its agent is reached; none where it has none.
    pub(crate) agent: Option<AgentLink>,
}

/// How a session comes to the agent of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentLink {
    /// The Unix socket that the agent listens on.
    pub(crate) socket: PathBuf,
    /// What sessions' keys are made from.
    pub(crate) key: AgentKey,
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
                "{} starts it anew; `bough local logs {target} -n {namespace}` shows what it wrote",
                register(target, namespace)
            )),
            Self::Container {
                target, namespace, ..
            } => Some(match &target.container {
                Some(container) => format!("its one container is {container:?}"),
                None => format!("it was registered without one: name none, or register it anew in namespace {namespace}"),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_file_and_local_is_the_default() {
        let choice = |flag, file| choose_context(flag, file).map(|choice| choice.reason);
        assert_eq!(choice(None, None), Ok(ContextReason::Embedded));
        assert_eq!(choice(None, Some("local")), Ok(ContextReason::File));
        assert_eq!(choice(Some("local"), None), Ok(ContextReason::Flag));
        assert_eq!(choice(Some("local"), Some("prod")), Ok(ContextReason::Flag));
        assert_eq!(
            choose_context(None, None).map(|choice| choice.to_string()),
            Ok("context local (embedded default; Kubernetes contexts come later)".to_owned())
        );
    }

    #[test]
    fn a_kubernetes_context_is_refused_by_name() {
        for (flag, file, reason) in [
            (Some("prod"), None, ContextReason::Flag),
            (Some("prod"), Some("local"), ContextReason::Flag),
            (None, Some("prod"), ContextReason::File),
        ] {
            let error = choose_context(flag, file).unwrap_err();
            let name = "prod".to_owned();
            assert_eq!(error, ContextError::Kubernetes { name, reason });
            assert_eq!(error.exit_code(), ExitCode::Target);
        }
        assert!(choose_context(Some(""), None).is_err());
    }
}
