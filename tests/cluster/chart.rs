//! The chart: the same objects as `bough operator manifests`; installed, upgraded under a live branch, and gone again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv, built_binary, eventually, http};
use serde_json::Value;

use crate::evictions::{evict, wait_until_back};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::{IMAGE, NEXT_IMAGE, turn, wait_until_known};
use crate::shop::Shop;
use crate::stage::{Branches, count_branches};
use crate::taken_away::takes_all_away;
use crate::walk_through::{ORDER, product, session_file, start_session};

pub(crate) const NAMESPACE: &str = "bough-operator";

/// The chart as it was at commit da50a9b (`git archive da50a9b charts/bough`, `helm package --version 0.0.9`): before there
/// were sessions, with a part of today's rights, rules and fields of branches.
const EARLIER_CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/bough-0.0.9.tgz");

pub(crate) fn chart() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root
        .context("the tests are below the root")?
        .join("charts/bough"))
}

/// Helm, with nothing of this machine's.
pub(crate) struct Helm<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) user: &'a TestEnv,
    /// Whose rights it has.
    pub(crate) kubeconfig: OsString,
}

impl<'a> Helm<'a> {
    /// With the administrator's rights.
    fn of(cluster: &'a Cluster, user: &'a TestEnv) -> Self {
        let kubeconfig = cluster.kubeconfig().clone();
        Self {
            cluster,
            user,
            kubeconfig,
        }
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        let program = std::env::var_os("BOUGH_TEST_HELM")
            .context("BOUGH_TEST_HELM is not set: run `cargo xtask test --cluster`")?;
        let mut helm = Command::new(program);
        helm.env_clear().env("HOME", self.user.home());
        helm.env("KUBECONFIG", &self.kubeconfig);
        let output = helm.args(words).current_dir(self.user.home()).output()?;
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "helm {words:?}: {err}");
        Ok(String::from_utf8_lossy(out).into_owned())
    }
}

/// The objects of a manifest by kind, namespace and name, as kubectl reads them: `0.0` and `0` are one number.
fn read(cluster: &Cluster, manifest: &str) -> Result<BTreeMap<String, Value>> {
    let ask = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let read = cluster.tell(&ask, manifest)?;
    let objects = serde_json::Deserializer::from_str(&read).into_iter::<Value>();
    let named = objects.map(|object| {
        let object = object?;
        let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        Ok((format!("{kind} {}/{}", of("namespace"), of("name")), object))
    });
    named.collect()
}

/// Checks that these flags and these values are the same objects.
fn same(cluster: &Cluster, user: &TestEnv, flags: &[&str], values: &[&str]) -> Result<()> {
    let image = ["operator", "manifests", "--image", IMAGE];
    let written = user.run([&image[..], flags].concat(), LIMIT)?.success()?;
    let mut list: Value = serde_json::from_str(&written)?;
    let items = list["items"].as_array_mut().context("a list")?;
    // Helm makes the namespace itself.
    items.retain(|object| object["kind"] != "Namespace");
    let wanted = read(cluster, &list.to_string())?;
    let chart = chart()?;
    let image = format!("image={IMAGE}");
    let words = ["template", "bough", chart.to_str().context("UTF-8")?];
    let words = [
        &words[..],
        // Without a cluster it takes itself for an old one's.
        &["--kube-version", "1.33.0", "--no-hooks"],
        &["-n", NAMESPACE, "--set", &image],
        values,
    ]
    .concat();
    let rendered = Helm::of(cluster, user).run(&words)?;
    let mut rendered = read(cluster, &rendered)?;
    let definitions =
        |(name, _): &(&String, &mut Value)| name.starts_with("CustomResourceDefinition");
    for (name, object) in rendered.iter_mut().filter(definitions) {
        let told = object["metadata"].as_object_mut().context("metadata")?;
        let annotations = told.remove("annotations").unwrap_or_default();
        ensure!(
            annotations["helm.sh/resource-policy"] == "keep",
            "{name}: {annotations}"
        );
    }
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    ensure!(names(&rendered) == names(&wanted), "{:?}", names(&rendered));
    for (name, object) in &wanted {
        let other = &rendered[name];
        ensure!(other == object, "{name} is\n{other}\nand not\n{object}");
    }
    Ok(())
}

#[test]
fn the_chart_and_the_manifests_are_the_same_objects() -> Result<()> {
    let cluster = Cluster::given()?;
    let user = TestEnv::new(built_binary("BOUGH_BIN")?)?;
    same(&cluster, &user, &[], &[])?;
    let flags = [
        "--without-rules",
        "--namespace",
        "shop",
        "--storage-class",
        "fast",
        "--sessions",
    ];
    let values = [
        "--set",
        "rules=false,namespaces={shop},storageClass=fast,sessions=true",
    ];
    same(&cluster, &user, &flags, &values)?;
    let flags = [
        "--branches-per-user=2",
        "--branches-per-namespace=20",
        "--ttl-max=600",
        "--versions=16,17",
        "--agent-images=a:1,b:2",
        r#"--host-pod={"resources":{"requests":{"memory":"1Gi"}},"imagePullSecrets":["mirror"],"shmSize":"64Mi"}"#,
    ];
    let numbers = "branchesPerUser=2,limits.branchesPerNamespace=20,limits.ttlSecondsMax=600";
    let values = [
        "--set",
        &format!("limits.{numbers}"),
        "--set",
        "limits.versions={16,17},limits.agentImages={a:1,b:2}",
        "--set",
        "hosts.resources.requests.cpu=null,hosts.resources.requests.memory=1Gi,hosts.imagePullSecrets={mirror},hosts.shmSize=64Mi",
    ];
    same(&cluster, &user, &flags, &values)
}

/// A release; taken away again with this.
pub(crate) struct Release<'a> {
    pub(crate) helm: Helm<'a>,
    _turn: MutexGuard<'static, ()>,
}

impl<'a> Release<'a> {
    /// Nothing is installed yet.
    pub(crate) fn begin(cluster: &'a Cluster, user: &'a TestEnv) -> Result<Self> {
        let _turn = turn(cluster)?;
        let helm = Helm::of(cluster, user);
        Ok(Self { helm, _turn })
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let words = ["uninstall", "bough", "-n", NAMESPACE, "--ignore-not-found"];
        let _uninstalled = self.helm.run(&[&words[..], &["--no-hooks"]].concat());
        let kinds = ["branches", "sources", "sessions"].map(|kind| format!("{kind}.bough.dev"));
        let [branches, sources, sessions] = kinds.each_ref().map(String::as_str);
        let words = ["delete", "crd", "--ignore-not-found", "--wait=false"];
        let kept = [&words[..], &[branches, sources, sessions]].concat();
        let _deleted = self.helm.cluster.ask(&kept);
        let words = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
        let _deleted = self.helm.cluster.ask(&words);
    }
}

#[test]
fn an_upgrade_from_an_earlier_chart_leaves_a_live_branch_alone_and_the_chart_takes_all_away()
-> Result<()> {
    let cluster = Cluster::given()?;
    let mut user = cluster.user()?;
    user.set("BOUGH_AGENT_IMAGE", IMAGE);
    let release = Release::begin(&cluster, &user)?;
    let helm = &release.helm;
    let chart = chart()?;
    let chart = chart.to_str().context("UTF-8")?;
    let image = format!("image={IMAGE}");
    let all = [
        "-n",
        NAMESPACE,
        "--set",
        &image,
        "--wait",
        "--timeout",
        "180s",
    ];
    let words = ["install", "bough", EARLIER_CHART, "--create-namespace"];
    helm.run(&[&words[..], &["--set", "replicas=1"], &all].concat())?;
    wait_until_known(&cluster)?;
    let rights = ["get", "clusterrole", "bough-operator", "-o", "json"];
    let knows_sessions = || anyhow::Ok(cluster.ask(&rights)?.contains("sessions/status"));
    ensure!(!knows_sessions()?, "the chart is no earlier one");

    let shop = Shop::open(&cluster)?;
    let namespace = shop.namespace();
    shop.wait_until_it_answers()?;
    let _branches = Branches(namespace);
    let file = session_file(&user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(&user, &file)?;
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);

    let image = format!("image={NEXT_IMAGE}");
    let next = ["upgrade", "bough", chart];
    helm.run(&[&next[..], &all, &["--set", &image]].concat())?;
    let ready = "jsonpath={.status.readyReplicas}";
    let ready = cluster.ask(&["-n", NAMESPACE, "get", "deployment", NAMESPACE, "-o", ready])?;
    ensure!(ready == "2", "{ready}");
    ensure!(knows_sessions()?, "its rights came along");
    ensure!(product(port)? == (1.into(), 99.into()));
    reaches_hosts_with_their_next_pod(&cluster, namespace)?;
    wait_until_back(&mut session, port, (1, 99))?;
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    // The new operator knows the branch, and another session finds it as it was.
    let (mut session, port) = start_session(&user, &file)?;
    ensure!(product(port)? == (1.into(), 99.into()));
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    ensure!(count_branches(namespace)? == 1);

    // The rules may become somebody else's: what stands by them stays.
    helm.run(&[&next[..], &all, &["--set", &image, "--set", "rules=false"]].concat())?;
    ensure!(
        count_branches(namespace)? == 1,
        "the branch went with the rules"
    );
    helm.run(&[&next[..], &all, &["--set", &image, "--set", "rules=true"]].concat())?;
    takes_all_away(&release.helm, namespace)
}

/// A host has the new program with its next pod, and until then the old one.
fn reaches_hosts_with_their_next_pod(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<()> {
    let image = |of: &[&str], below: &str| {
        let field = format!("jsonpath={{{below}.initContainers[0].image}}");
        namespace.ask(&[&["get"], of, &["-o", &field]].concat())
    };
    eventually("what the host's next pod is to have", LIMIT, || {
        let next = image(&["statefulset", "bough-host-16"], ".spec.template.spec")?;
        Ok((next == NEXT_IMAGE).then_some(()))
    })?;
    let pod = ["pod", "bough-host-16-0"];
    let now = image(&pod, ".spec")?;
    ensure!(
        now == IMAGE,
        "the host was replaced under its sessions: {now}"
    );
    evict(cluster, namespace, pod[1])?;
    let now = image(&pod, ".spec")?;
    ensure!(now == NEXT_IMAGE, "{now}");
    Ok(())
}
