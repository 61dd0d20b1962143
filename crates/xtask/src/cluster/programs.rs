//! The programs of the node that are built from Go modules: Kubernetes itself, and CoreDNS; and Helm, for stories.
//!
//! Kept under a name made of everything that decides what they are, so that another version is another file. The first
//! build takes some minutes; every later one of the same version none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::toolchain;
use crate::image::key;
use crate::places::{create_public_dir, workspace};
use crate::{command, console};

/// The version of Kubernetes that `tests/cluster/node/go.mod` requires, as its programs tell it.
const KUBERNETES_MINOR: &str = "33";
const KUBERNETES_VERSION: &str = "v1.33.13";

/// The name server of the cluster.
const COREDNS: &str = "github.com/coredns/coredns@v1.12.4";

/// What installs the chart.
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.18.6";

/// The built programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// Every component of Kubernetes, by its first argument.
    pub(super) node: PathBuf,
    /// Its client, a link to the same file.
    pub(super) kubectl: PathBuf,
    /// The name server.
    pub(super) coredns: PathBuf,
}

/// Builds what is missing.
///
/// # Errors
/// When a module cannot be got, or does not build.
pub(super) fn ensure(root: &Path) -> Result<Programs> {
    let node = ensure_node(root)?;
    Ok(Programs {
        kubectl: node.with_file_name("kubectl"),
        node,
        coredns: ensure_module(root, "coredns", COREDNS)?,
    })
}

/// Builds Helm, unless it is there.
///
/// # Errors
/// When its module cannot be got, or does not build.
pub(super) fn ensure_helm(root: &Path) -> Result<PathBuf> {
    ensure_module(root, "helm", HELM)
}

fn ensure_node(root: &Path) -> Result<PathBuf> {
    let source = workspace().join("tests/cluster/node");
    let mut inputs = vec![KUBERNETES_VERSION.as_bytes().to_vec()];
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(name);
        inputs.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    let directory = root.join(format!("kubernetes-{}", key(&inputs)));
    let program = directory.join("node");
    if program.is_file() {
        return Ok(program);
    }
    console::note(&format!(
        "building Kubernetes {KUBERNETES_VERSION}, once: this takes some minutes"
    ));
    create_public_dir(&directory)?;
    let unfinished = directory.join("node.unfinished");
    let stamp = "-X k8s.io/component-base/version.";
    let flags = format!(
        "-s -w {stamp}gitVersion={KUBERNETES_VERSION} {stamp}gitMajor=1 {stamp}gitMinor={KUBERNETES_MINOR}"
    );
    let mut go = toolchain::go(root)?;
    go.args(["build", "-trimpath", "-ldflags", &flags, "-o"]);
    go.arg(&unfinished).arg(".").current_dir(&source);
    // Without cgo the one file runs in any image.
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    command::run(&mut go)?;
    let kubectl = directory.join("kubectl");
    let _removed = fs::remove_file(&kubectl);
    symlink("node", &kubectl).with_context(|| format!("create {}", kubectl.display()))?;
    keep(&unfinished, &program)?;
    Ok(program)
}

/// Builds the program `name` of a module at its version, unless it is there.
fn ensure_module(root: &Path, name: &str, module: &str) -> Result<PathBuf> {
    let directory = root.join(format!("{name}-{}", key(&[module.as_bytes().to_vec()])));
    let program = directory.join(name);
    if program.is_file() {
        return Ok(program);
    }
    console::note(&format!("building {name}, once: this takes some minutes"));
    let unfinished = directory.join("unfinished");
    create_public_dir(&unfinished)?;
    let mut go = toolchain::go(root)?;
    go.args(["install", "-trimpath", "-ldflags", "-s -w", module]);
    go.env("GOBIN", &unfinished).env("CGO_ENABLED", "0");
    // A module of its own: ours is not to be looked for.
    command::run(go.current_dir(&directory))?;
    keep(&unfinished.join(name), &program)?;
    Ok(program)
}

/// Gives a whole file its name.
fn keep(unfinished: &Path, program: &Path) -> Result<()> {
    fs::rename(unfinished, program)
        .with_context(|| format!("rename {} to {}", unfinished.display(), program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_the_module_requires() {
        let path = workspace().join("tests/cluster/node/go.mod");
        let module = fs::read_to_string(path).expect("it is in the tree");
        let requirement = format!("k8s.io/kubernetes {KUBERNETES_VERSION}");
        assert!(module.contains(&requirement), "{requirement}");
        assert!(KUBERNETES_VERSION.starts_with(&format!("v1.{KUBERNETES_MINOR}.")));
    }
}
