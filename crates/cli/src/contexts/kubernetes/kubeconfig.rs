//! Kubeconfigs: which files, which contexts they have, and the client of one of them.
//!
//! Exec plugins, token files, client certificates and proxies are the client library's. Owns where files are looked for
//! and that none of their secrets is shown. How long a call may take is `answer_limit`'s.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use model::Namespace;

use super::answer_limit::limited;

/// The longest that a connection to the API server may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    /// A file cannot be read, or is none.
    #[error("cannot read the kubeconfig {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// Two files contradict each other.
    #[error("cannot merge the kubeconfigs {0}")]
    Merge(String, #[source] kube::config::KubeconfigError),
    /// The context has a cluster or user that is not there, or unreadable.
    #[error("cannot use the context {context:?} of the kubeconfig")]
    Context {
        /// The context.
        context: String,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// There is no kubeconfig, and this is no pod.
    #[error("no kubeconfig names a cluster, and this program runs in none")]
    Outside(#[source] kube::config::InClusterError),
    /// Its certificates or its proxy cannot be used.
    #[error("cannot make a client for the context {context:?}")]
    Client {
        /// The context.
        context: String,
        /// Why.
        #[source]
        source: operator::agents::ApiFailure,
    },
}

/// A client of the cluster that this program runs in, by its service account.
///
/// # Errors
/// [`KubeconfigError`] when it runs in none.
pub(crate) fn own_cluster() -> Result<Client, KubeconfigError> {
    let config = Config::incluster().map_err(KubeconfigError::Outside)?;
    let client = Client::try_from(config).map_err(|source| KubeconfigError::Client {
        context: "of this pod".to_owned(),
        source: source.into(),
    })?;
    Ok(limited(client))
}

/// The files that make up the kubeconfig, first ones first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KubeconfigFiles {
    paths: Vec<PathBuf>,
    /// Whether somebody named them: then one must be there. kubectl passes over those of KUBECONFIG that are not.
    is_named: bool,
}

impl KubeconfigFiles {
    /// Files that somebody named.
    pub(crate) fn named(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            is_named: true,
        }
    }

    /// The one that is there or not.
    pub(crate) fn habitual(path: &Path) -> Self {
        Self {
            paths: vec![path.to_owned()],
            is_named: false,
        }
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self {
            paths: Vec::new(),
            is_named: false,
        }
    }

    /// What they say together; nothing where there are none.
    ///
    /// # Errors
    /// [`KubeconfigError`] for a file that cannot be read.
    pub(crate) fn read(&self) -> Result<Contexts, KubeconfigError> {
        let mut merged = kube::config::Kubeconfig::default();
        let is_there = |path: &&PathBuf| path.try_exists().unwrap_or(true);
        let mut paths: Vec<_> = self.paths.iter().filter(is_there).collect();
        if paths.is_empty() && self.is_named {
            paths.extend(self.paths.first());
        }
        for path in paths {
            let read = kube::config::Kubeconfig::read_from(path);
            let read = read.map_err(|source| KubeconfigError::Read {
                path: path.clone(),
                source,
            })?;
            merged = merged
                .merge(read)
                .map_err(|source| KubeconfigError::Merge(self.to_string(), source))?;
        }
        Ok(Contexts(merged))
    }
}

impl fmt::Display for KubeconfigFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self
            .paths
            .iter()
            .map(|path| path.to_string_lossy())
            .collect();
        if paths.is_empty() {
            f.write_str("the kubeconfig, which is not there")
        } else {
            f.write_str(&paths.join(", "))
        }
    }
}

/// The contexts of a kubeconfig.
pub(crate) struct Contexts(kube::config::Kubeconfig);

impl Contexts {
    /// Those of a kubeconfig that no file has.
    pub(super) fn new(whole: kube::config::Kubeconfig) -> Self {
        Self(whole)
    }

    /// The current one.
    pub(crate) fn current(&self) -> Option<&str> {
        self.0
            .current_context
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// All of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.contexts.iter().map(|context| context.name.as_str())
    }

    /// One of them.
    pub(crate) fn at(self, name: &str) -> Kubeconfig {
        Kubeconfig {
            context: name.to_owned(),
            whole: self.0,
        }
    }
}

/// A kubeconfig at one of its contexts.
#[derive(Clone)]
pub(crate) struct Kubeconfig {
    context: String,
    whole: kube::config::Kubeconfig,
}

impl Kubeconfig {
    /// The namespace that the context stands for.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        let mut contexts = self.whole.contexts.iter();
        let named = contexts.find(|named| named.name == self.context)?;
        let namespace = named.context.as_ref()?.namespace.clone()?;
        Namespace::new(namespace).ok()
    }

    /// The URL of its cluster's API server.
    #[cfg(test)]
    pub(super) fn server(&self) -> Option<&str> {
        self.whole
            .clusters
            .first()?
            .cluster
            .as_ref()?
            .server
            .as_deref()
    }

    /// A client of its cluster.
    ///
    /// # Errors
    /// [`KubeconfigError`] when the context leads nowhere.
    pub(crate) async fn client(&self) -> Result<Client, KubeconfigError> {
        let options = KubeConfigOptions {
            context: Some(self.context.clone()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(self.whole.clone(), &options).await;
        let mut config = config.map_err(|source| KubeconfigError::Context {
            context: self.context.clone(),
            source,
        })?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let client = Client::try_from(config).map_err(|source| KubeconfigError::Client {
            context: self.context.clone(),
            source: source.into(),
        })?;
        Ok(limited(client))
    }
}

impl fmt::Debug for Kubeconfig {
    /// Without tokens and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
