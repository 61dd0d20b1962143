//! Which context a command works in, and who said so.
//!
//! In this order: the flag, the variable, the file, the kubeconfig's current one, `local`. The cluster that a pod runs in
//! is one where somebody names it.

use std::fmt;

use model::{ExitCode, Namespace};

use super::kubernetes::{
    Kubeconfig, KubeconfigError, KubeconfigFiles, PodAccount, PodAccountError,
};

/// The name of the embedded context.
pub(crate) const LOCAL: &str = "local";

/// The name of the cluster that a pod runs in, where no kubeconfig has a context of that name.
const IN_CLUSTER: &str = "in-cluster";

/// The context that a command works in, and why it is this one.
#[derive(Debug, Clone)]
pub(crate) struct ContextChoice {
    /// Its name.
    pub(crate) name: String,
    /// Who named it.
    pub(crate) reason: ContextReason,
    /// What leads to its cluster; none for `local`.
    pub(crate) kubeconfig: Option<Kubeconfig>,
}

impl ContextChoice {
    /// The namespace that it stands for, where it has one of its own.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        self.kubeconfig.as_ref().and_then(Kubeconfig::namespace)
    }
}

/// Who named a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextReason {
    /// `--context`.
    Flag,
    /// `MIRRORD_KUBE_CONTEXT`.
    Variable,
    /// The file's `kube_context`.
    File,
    /// The kubeconfig.
    Current,
    /// Nobody.
    Embedded,
}

impl fmt::Display for ContextReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--context",
            Self::Variable => "MIRRORD_KUBE_CONTEXT",
            Self::File => "kube_context of the file",
            Self::Current => "the kubeconfig's current one",
            Self::Embedded => "embedded default: no kubeconfig names one",
        })
    }
}

impl fmt::Display for ContextChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "context {} ({})", self.name, self.reason)
    }
}

/// A context that cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// The kubeconfig does not have it.
    #[error("no context {name:?} ({reason}) in {kubeconfig}")]
    Unknown {
        /// The context.
        name: String,
        /// Who named it.
        reason: ContextReason,
        /// Where it was looked for.
        kubeconfig: String,
        /// What is there instead.
        known: Vec<String>,
    },
    /// This is no pod with a service account.
    #[error(
        "no context {IN_CLUSTER:?} ({reason}): this program does not run in a pod with a service account"
    )]
    Outside {
        /// Who named it.
        reason: ContextReason,
        /// What is missing.
        #[source]
        source: PodAccountError,
    },
    /// The kubeconfig cannot be read.
    #[error("cannot tell where targets live")]
    Kubeconfig(#[source] KubeconfigError),
}

impl ContextError {
    /// The exit code of a command that fails by it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::Target
    }

    /// What can be done.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unknown { known, .. } => {
                let mut known = known.clone();
                known.push(LOCAL.to_owned());
                format!("there are {}; --context names one", known.join(", "))
            }
            Self::Outside { .. } => {
                "a pod has its account's token unless `automountServiceAccountToken` is false; elsewhere --context names \
                 one of a kubeconfig"
                    .to_owned()
            }
            Self::Kubeconfig(_) => {
                format!("`--context {LOCAL}` needs no kubeconfig; KUBECONFIG names another")
            }
        }
    }
}

/// Chooses the context: the one that `--context` names, else the `named` one, with who named it, else the kubeconfig's
/// current one, else `local`. `pod` is that of this program, if it runs in one.
///
/// # Errors
/// [`ContextError`] for a name that the kubeconfig does not have, and for a kubeconfig that cannot be read.
pub(crate) fn choose_context(
    flag: Option<&str>,
    named: Option<(&str, ContextReason)>,
    kubeconfig: &KubeconfigFiles,
    pod: &PodAccount,
) -> Result<ContextChoice, ContextError> {
    let named = flag.map(|name| (name, ContextReason::Flag)).or(named);
    if let Some((LOCAL, reason)) = named {
        return Ok(local(reason));
    }
    let contexts = kubeconfig.read().map_err(ContextError::Kubeconfig)?;
    let (name, reason) = match named {
        Some((name, reason)) => (name.to_owned(), reason),
        None => match contexts.current() {
            Some(name) if name != LOCAL => (name.to_owned(), ContextReason::Current),
            Some(_) | None => return Ok(local(ContextReason::Embedded)),
        },
    };
    let known: Vec<String> = contexts.names().map(str::to_owned).collect();
    if !known.contains(&name) {
        if name == IN_CLUSTER {
            let contexts = pod.contexts(IN_CLUSTER);
            let contexts = contexts.map_err(|source| ContextError::Outside { reason, source })?;
            return Ok(ContextChoice {
                kubeconfig: Some(contexts.at(IN_CLUSTER)),
                name,
                reason,
            });
        }
        return Err(ContextError::Unknown {
            name,
            reason,
            kubeconfig: kubeconfig.to_string(),
            known,
        });
    }
    Ok(ContextChoice {
        kubeconfig: Some(contexts.at(&name)),
        name,
        reason,
    })
}

fn local(reason: ContextReason) -> ContextChoice {
    ContextChoice {
        name: LOCAL.to_owned(),
        reason,
        kubeconfig: None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TWO: &str = "\
apiVersion: v1
kind: Config
current-context: kind-shop
contexts:
- name: kind-shop
  context: {cluster: shop, user: me, namespace: metalmart}
- name: prod
  context: {cluster: shop, user: me}
clusters:
- name: shop
  cluster: {server: 'https://127.0.0.1:6443'}
users:
- name: me
  user: {token: hunter2}
";

    fn files(text: Option<&str>) -> (tempfile::TempDir, KubeconfigFiles) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let files = KubeconfigFiles::habitual(&path);
        (dir, files)
    }

    /// A pod's account, or what a machine has that is none.
    fn pod(folder: &std::path::Path) -> PodAccount {
        PodAccount {
            host: Some("10.0.0.1".to_owned()),
            port: Some("443".to_owned()),
            folder: folder.to_owned(),
        }
    }

    fn no_pod() -> PodAccount {
        pod(std::path::Path::new("/nonexistent"))
    }

    #[test]
    fn the_cluster_of_a_pod_is_there_by_name_unless_a_kubeconfig_has_one_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hunter2").unwrap();
        fs::write(folder.path().join("namespace"), "ci").unwrap();
        let here = pod(folder.path());
        let (_dir, none) = files(None);
        let named = |kubeconfig, pod| choose_context(Some(IN_CLUSTER), None, kubeconfig, pod);
        let chosen = named(&none, &here).unwrap();
        assert_eq!(chosen.to_string(), "context in-cluster (--context)");
        assert_eq!(chosen.namespace().unwrap().to_string(), "ci");
        let unnamed = choose_context(None, None, &none, &here).unwrap();
        assert_eq!(unnamed.name, LOCAL);
        let (_dir, own) = files(Some(&TWO.replace("kind-shop", IN_CLUSTER)));
        let chosen = named(&own, &here).unwrap();
        assert_eq!(chosen.namespace().unwrap().to_string(), "metalmart");
        let (_dir, two) = files(Some(TWO));
        assert!(named(&two, &here).is_ok());
        let error = named(&two, &no_pod()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Target);
        assert!(error.hint().contains("automountServiceAccountToken"));
    }

    #[test]
    fn the_flag_goes_before_the_file_before_the_current_one_before_local() {
        let (_dir, two) = files(Some(TWO));
        let (_dir, none) = files(None);
        let choice = |flag, file, kubeconfig| {
            let file = Option::map(file, |name| (name, ContextReason::File));
            let choice = choose_context(flag, file, kubeconfig, &no_pod()).unwrap();
            (choice.name, choice.reason)
        };
        let local = |reason| (LOCAL.to_owned(), reason);
        assert_eq!(choice(None, None, &none), local(ContextReason::Embedded));
        assert_eq!(
            choice(None, Some("local"), &two),
            local(ContextReason::File)
        );
        assert_eq!(
            choice(Some("local"), Some("prod"), &two),
            local(ContextReason::Flag)
        );
        let shop = || "kind-shop".to_owned();
        assert_eq!(choice(None, None, &two), (shop(), ContextReason::Current));
        assert_eq!(choice(None, Some("prod"), &two).0, "prod");
        assert_eq!(
            choice(Some("kind-shop"), Some("prod"), &two),
            (shop(), ContextReason::Flag)
        );
        let chosen = choose_context(None, None, &two, &no_pod()).unwrap();
        assert_eq!(
            chosen.to_string(),
            "context kind-shop (the kubeconfig's current one)"
        );
        assert_eq!(
            chosen.namespace().map(|it| it.to_string()).as_deref(),
            Some("metalmart")
        );
        assert!(!format!("{chosen:?}").contains("hunter2"));
    }

    #[test]
    fn a_context_that_is_not_there_is_refused_with_those_that_are() {
        let (_dir, two) = files(Some(TWO));
        let error = choose_context(Some("stage"), None, &two, &no_pod()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Target);
        assert_eq!(
            error.hint(),
            "there are kind-shop, prod, local; --context names one"
        );
        let (_dir, none) = files(None);
        assert!(choose_context(Some("stage"), None, &none, &no_pod()).is_err());
        let (_dir, broken) = files(Some("contexts: 3"));
        let error = choose_context(None, None, &broken, &no_pod()).unwrap_err();
        assert!(matches!(error, ContextError::Kubeconfig(_)), "{error:?}");
        assert!(choose_context(Some("local"), None, &broken, &no_pod()).is_ok());
    }
}
