//! The cluster that this program runs in, as a pod of it: the API server's address and its service account's files, as
//! the kubelet gives both to every container.
//!
//! Owns the context that they amount to. Leaves the client, which reads the token anew while it is used, to `kubeconfig`.

use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Context, NamedAuthInfo, NamedCluster, NamedContext};

use super::kubeconfig::Contexts;

/// Where the kubelet puts a service account's files.
pub(crate) const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where a pod would find its cluster. Whether this is one shows when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodAccount {
    /// KUBERNETES_SERVICE_HOST, a name or an address.
    pub(crate) host: Option<String>,
    /// KUBERNETES_SERVICE_PORT.
    pub(crate) port: Option<String>,
    /// Where token, certificate and namespace lie.
    pub(crate) folder: PathBuf,
}

/// Why this program has no cluster by the place that it runs in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodAccountError {
    /// No pod's environment.
    #[error("{0} is not set, as it is in every pod")]
    Variable(&'static str),
    /// A pod without an account's files.
    #[error("cannot read {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl PodAccount {
    /// The kubeconfig that has this cluster as its one context, called `name`.
    ///
    /// # Errors
    /// [`PodAccountError`] where no pod with a service account is.
    pub(crate) fn contexts(&self, name: &str) -> Result<Contexts, PodAccountError> {
        let host = required(self.host.as_ref(), "KUBERNETES_SERVICE_HOST")?;
        let port = required(self.port.as_ref(), "KUBERNETES_SERVICE_PORT")?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let token = self.folder.join("token");
        read(&token)?;
        let namespace = read(&self.folder.join("namespace"))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let cluster = Cluster {
            server: Some(format!("https://{host}:{port}")),
            certificate_authority: Some(text(&self.folder.join("ca.crt"))),
            ..Cluster::default()
        };
        let account = AuthInfo {
            token_file: Some(text(&token)),
            ..AuthInfo::default()
        };
        let context = Context {
            cluster: name.to_owned(),
            user: Some(name.to_owned()),
            namespace: Some(namespace.trim().to_owned()),
            ..Context::default()
        };
        Ok(Contexts::new(kube::config::Kubeconfig {
            contexts: vec![NamedContext {
                name: name.to_owned(),
                context: Some(context),
                ..NamedContext::default()
            }],
            clusters: vec![NamedCluster {
                name: name.to_owned(),
                cluster: Some(cluster),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: name.to_owned(),
                auth_info: Some(account),
                ..NamedAuthInfo::default()
            }],
            ..kube::config::Kubeconfig::default()
        }))
    }
}

fn required<'a>(value: Option<&'a String>, name: &'static str) -> Result<&'a str, PodAccountError> {
    value
        .map(String::as_str)
        .ok_or(PodAccountError::Variable(name))
}

fn read(path: &Path) -> Result<String, PodAccountError> {
    std::fs::read_to_string(path).map_err(|source| PodAccountError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_cluster_by_its_service_account() {
        let folder = tempfile::tempdir().unwrap();
        let mut pod = PodAccount {
            host: Some("fd00::1".to_owned()),
            port: Some("443".to_owned()),
            folder: folder.path().to_owned(),
        };
        let error = pod.contexts("here").err().unwrap().to_string();
        assert!(error.contains("/token"), "{error}");
        std::fs::write(folder.path().join("token"), "hunter2").unwrap();
        std::fs::write(folder.path().join("namespace"), "ci\n").unwrap();
        let kubeconfig = pod.contexts("here").unwrap().at("here");
        assert_eq!(kubeconfig.namespace().unwrap().to_string(), "ci");
        assert_eq!(kubeconfig.server(), Some("https://[fd00::1]:443"));
        assert!(!format!("{kubeconfig:?}").contains("hunter2"));
        pod.host = Some("10.0.0.1".to_owned());
        let kubeconfig = pod.contexts("here").unwrap().at("here");
        assert_eq!(kubeconfig.server(), Some("https://10.0.0.1:443"));
        pod.port = None;
        let error = pod.contexts("here").err().unwrap().to_string();
        assert!(error.contains("KUBERNETES_SERVICE_PORT"), "{error}");
    }
}
