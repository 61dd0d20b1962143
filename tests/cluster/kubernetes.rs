//! The cluster of the stories, asked through kubectl, which every cluster's users have.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{TestEnv, built_binary, eventually};

/// From an object's making to its being ready: seconds on an idle machine, with a busy one more.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// The variables by which `cargo xtask test --cluster` names the cluster and a client of it.
const KUBECONFIG: &str = "KUBECONFIG";
const KUBECTL: &str = "BOUGH_TEST_KUBECTL";

/// What all stories have at once; one that breaks the node under all others has it alone.
static NODE: RwLock<()> = RwLock::new(());

/// A story's hold on the node.
#[derive(Debug)]
enum Hold {
    With(#[expect(dead_code, reason = "the guard is the hold")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "the guard is the hold")] RwLockWriteGuard<'static, ()>),
}

/// A cluster that answers. A story asks for it once.
#[derive(Debug)]
pub(crate) struct Cluster {
    kubectl: PathBuf,
    kubeconfig: OsString,
    _hold: Hold,
}

impl Cluster {
    /// The one that this run was given.
    pub(crate) fn given() -> Result<Self> {
        let hold = NODE.read().unwrap_or_else(PoisonError::into_inner);
        Self::held(Hold::With(hold))
    }

    /// The same, while no other story runs.
    pub(crate) fn given_alone() -> Result<Self> {
        let hold = NODE.write().unwrap_or_else(PoisonError::into_inner);
        Self::held(Hold::Alone(hold))
    }

    fn held(hold: Hold) -> Result<Self> {
        let variable = |name| {
            std::env::var_os(name)
                .with_context(|| format!("{name} is not set: run `cargo xtask test --cluster`"))
        };
        Ok(Self {
            kubectl: variable(KUBECTL)?.into(),
            kubeconfig: variable(KUBECONFIG)?,
            _hold: hold,
        })
    }

    /// Somebody at this machine, with the program and the rights of the kubeconfig.
    pub(crate) fn user(&self) -> Result<TestEnv> {
        let mut user = TestEnv::new(built_binary("BOUGH_BIN")?)?;
        user.set("KUBECONFIG", self.kubeconfig());
        Ok(user)
    }

    /// Where its kubeconfig lies.
    pub(crate) fn kubeconfig(&self) -> &OsString {
        &self.kubeconfig
    }

    /// What kubectl prints for these words.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        self.tell(words, "")
    }

    /// The same, with text for its standard input.
    pub(crate) fn tell(&self, words: &[&str], input: &str) -> Result<String> {
        let mut kubectl = self.command();
        kubectl.args(words);
        let mut child = kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.kubectl.display()))?;
        let mut stdin = child.stdin.take().context("it is piped")?;
        // One that ends without reading says why itself.
        let _written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("wait for kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "kubectl {words:?}: {out}\n{err}");
        Ok(out)
    }

    /// kubectl as somebody whom nobody knows, at another server.
    pub(crate) fn ask_as_nobody(&self, server: &str, path: &str) -> Result<String> {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env(KUBECONFIG, "/dev/null");
        // Without any token it would ask for a name and a password.
        kubectl.args(["--token=nobody", "--insecure-skip-tls-verify"]);
        kubectl.args(["--server", server]);
        let output = kubectl.args(["get", "--raw", path]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Who the administrator's kubeconfig is, as the API server knows him.
    pub(crate) fn who(&self) -> Result<String> {
        let name = "jsonpath={.status.userInfo.username}";
        self.ask(&["auth", "whoami", "-o", name])
    }

    /// A new namespace, gone with what this gives.
    pub(crate) fn namespace(&self, story: &str) -> Result<Namespace<'_>> {
        let name = format!("story-{story}-{:08x}", rand::random::<u32>());
        self.ask(&["create", "namespace", &name])?;
        let namespace = Namespace {
            cluster: self,
            name,
        };
        // Pods are refused until the controller has made it.
        eventually("the namespace's service account", LIMIT, || {
            let words = ["get", "serviceaccount", "default"];
            Ok(namespace.ask(&words).is_ok().then_some(()))
        })?;
        Ok(namespace)
    }

    pub(crate) fn command(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env(KUBECONFIG, &self.kubeconfig);
        kubectl
    }
}

/// A namespace of a story.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Namespace<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As [`Cluster::ask`], in it.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        self.tell(words, "")
    }

    /// As [`Cluster::tell`], in it.
    pub(crate) fn tell(&self, words: &[&str], input: &str) -> Result<String> {
        let words = [&["--namespace", &self.name], words].concat();
        self.cluster.tell(&words, input)
    }

    /// Makes the objects of a manifest.
    pub(crate) fn create(&self, manifest: &serde_json::Value) -> Result<()> {
        self.tell(&["create", "-f", "-"], &manifest.to_string())
            .map(drop)
    }

    /// Waits until a pod is ready.
    pub(crate) fn wait_ready(&self, pod: &str) -> Result<()> {
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        self.wait(pod, ready, "True")
    }

    /// Waits until a pod has ended well.
    pub(crate) fn wait_succeeded(&self, pod: &str) -> Result<()> {
        self.wait(pod, "jsonpath={.status.phase}", "Succeeded")
    }

    fn wait(&self, pod: &str, field: &str, wanted: &str) -> Result<()> {
        let waited = eventually(&format!("{wanted} of pod {pod}"), LIMIT, || {
            let found = self.ask(&["get", "pod", pod, "-o", field])?;
            Ok((found == wanted).then_some(()))
        });
        waited.with_context(|| {
            let of = |words: &[&str]| self.ask(words).unwrap_or_else(|error| error.to_string());
            let described = of(&["describe", "pod", pod]);
            format!("{described}\n{}", of(&["logs", pod, "--all-containers"]))
        })
    }

    /// Runs a shell's command in a pod.
    pub(crate) fn shell(&self, pod: &str, command: &str) -> Result<String> {
        self.ask(&["exec", pod, "--", "bash", "-c", command])
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // What is left of it goes with the cluster.
        let words = ["delete", "namespace", &self.name, "--wait=false"];
        let _deleted = self.cluster.ask(&words);
    }
}

/// A pod of one container that the strictest of the Pod Security Standards admits, run by the account of PostgreSQL's
/// images.
pub(crate) fn restricted_pod(
    name: &str,
    image: &str,
    container: &serde_json::Value,
) -> serde_json::Value {
    let mut made = serde_json::json!({
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    let more = container.as_object().into_iter().flatten();
    for (key, value) in more {
        made[key] = value.clone();
    }
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "containers": [made],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 999,
                "runAsGroup": 999,
                "fsGroup": 999,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
        },
    })
}
