//! A cluster that `KUBECONFIG` names and that is not ours: used as it is, never changed but by the stories themselves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::image::Archive;

/// The variable of all clients.
pub(super) const VARIABLE: &str = "KUBECONFIG";

/// Somebody's cluster.
#[derive(Debug)]
pub(super) struct Given {
    kubeconfig: OsString,
}

impl Given {
    /// The cluster of `kubeconfig`, unless that is empty or the file of our own node.
    pub(super) fn from(kubeconfig: Option<OsString>, ours: &std::path::Path) -> Option<Self> {
        let kubeconfig = kubeconfig.filter(|path| !path.is_empty() && *path != *ours)?;
        Some(Self { kubeconfig })
    }

    /// What clients are told.
    pub(super) fn kubeconfig(&self) -> &OsString {
        &self.kubeconfig
    }

    /// The client that its users have.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn kubectl(&self) -> Result<PathBuf> {
        let kubectl = PathBuf::from("kubectl");
        let runs = command::succeeds(Command::new(&kubectl).args(["version", "--client"]));
        ensure!(runs, "kubectl is not on PATH");
        Ok(kubectl)
    }

    /// Its version as its API server tells it, as JSON.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn version(&self) -> Result<serde_json::Value> {
        let mut ask = Command::new(self.kubectl()?);
        ask.args(["get", "--raw", "/version", "--request-timeout=10s"]);
        let answer = command::capture(ask.env(VARIABLE, &self.kubeconfig));
        let answer = answer.context("ask the cluster of KUBECONFIG")?;
        serde_json::from_str(&answer).context("read the version")
    }
}

/// How an archive comes into somebody's cluster, which we do not do ourselves: it may be any kind.
pub(super) fn loading(archives: &[Archive]) -> Vec<String> {
    let lines = archives.iter().map(|Archive { name, path }| {
        let path = path.display();
        format!("{name}: `kind load image-archive {path}`, `k3d image import {path}`, `ctr -n k8s.io images import {path}` on every node, or push it")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_another_clusters_file_is_somebodys() {
        let of = |path: Option<&str>| {
            Given::from(
                path.map(OsString::from),
                Path::new("/node/admin.kubeconfig"),
            )
        };
        assert!(of(None).is_none());
        assert!(of(Some("")).is_none());
        assert!(of(Some("/node/admin.kubeconfig")).is_none());
        let given = of(Some("/home/dev/.kube/config")).expect("somebody's");
        assert_eq!(given.kubeconfig(), "/home/dev/.kube/config");
    }

    #[test]
    fn every_image_is_named_with_its_file() {
        let archives = [Archive {
            name: "localhost/bough:dev".into(),
            path: "/images/bough.tar".into(),
        }];
        let lines = loading(&archives);
        let [line] = lines.as_slice() else {
            panic!("one image, one line");
        };
        assert!(line.starts_with("localhost/bough:dev: "), "{line}");
        assert!(
            line.contains("kind load image-archive /images/bough.tar"),
            "{line}"
        );
    }
}
