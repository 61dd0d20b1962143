//! The operator in the cluster of the stories, from its manifests.
//!
//! What it consists of belongs to the cluster and not to a namespace, so that one story at a time has it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use fixtures::{TestEnv, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT};

/// Our image, as `cargo xtask test --cluster` loads it.
pub(crate) const IMAGE: &str = "localhost/bough:dev";

/// The same under another name, as an upgrade has one.
pub(crate) const NEXT_IMAGE: &str = "localhost/bough:next";

/// Held by the story that has the operator.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits for the turn of this story. One that failed before left nothing that the next one does not make anew.
pub(crate) fn turn(cluster: &Cluster) -> Result<MutexGuard<'static, ()>> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    keep_configmaps_watched(cluster)?;
    Ok(turn)
}

/// A policy of no effect that stays for the run. When the last binding with ConfigMaps for parameters goes, an API server
/// stops watching them until it is started again, so that the next story's limits would be the first one's
/// (<https://github.com/kubernetes/kubernetes/issues/130887>).
fn keep_configmaps_watched(cluster: &Cluster) -> Result<()> {
    let (api, name) = (
        "admissionregistration.k8s.io/v1",
        "stories-keep-configmaps-watched",
    );
    let nothing = json!([{
        "apiGroups": ["nothing.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothing"],
    }]);
    let policy = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": nothing},
            "validations": [{"expression": "true"}],
        },
    });
    let param = json!({"name": name, "namespace": "default", "parameterNotFoundAction": "Allow"});
    let binding = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "paramRef": param, "validationActions": ["Deny"]},
    });
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]});
    let words = ["apply", "--server-side", "-f", "-"];
    cluster.tell(&words, &both.to_string()).map(drop)
}

/// Waits until branches can be asked for: policies that came with the definitions take a moment until they know these, on a
/// new API server the longest.
pub(crate) fn wait_until_known(cluster: &Cluster) -> Result<()> {
    let branch = json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
        "metadata": {"name": "known", "namespace": "default"},
        "spec": {"id": "known", "source": "db:5432/x", "version": 16, "requester": cluster.who()?},
    });
    let words = ["create", "--dry-run=server", "-f", "-"];
    eventually("policies that know the definitions", LIMIT, || {
        let tried = cluster.tell(&words, &branch.to_string());
        let told = tried.err().map(|error| error.to_string());
        // Who is refused for another reason was looked at by all of them.
        let unknown = ["paramKind", "no matches for kind", "could not find"];
        let is_unknown = told.is_some_and(|told| unknown.iter().any(|it| told.contains(it)));
        Ok((!is_unknown).then_some(()))
    })
}

/// The operator; taken away again with this.
pub(crate) struct Operator<'a> {
    cluster: &'a Cluster,
    manifests: String,
    _turn: MutexGuard<'static, ()>,
}

impl<'a> Operator<'a> {
    /// All of it, with these flags of `manifests`.
    pub(crate) fn install(cluster: &'a Cluster, user: &TestEnv, flags: &[&str]) -> Result<Self> {
        Self::apply(cluster, user, flags, |_| true)
    }

    /// What the API server holds by itself: definitions and policies, and nobody who acts on them.
    pub(crate) fn install_rules(cluster: &'a Cluster, user: &TestEnv) -> Result<Self> {
        Self::apply(cluster, user, &[], |object| object["kind"] != "Deployment")
    }

    /// What an administrator applies before others install the operator in their namespaces.
    pub(crate) fn install_only_rules(cluster: &'a Cluster, user: &TestEnv) -> Result<Self> {
        Self::apply(cluster, user, &["--only-rules"], |_| true)
    }

    /// What it consists of, as `KIND NAME`.
    pub(crate) fn objects(&self) -> Result<Vec<String>> {
        let list: Value = serde_json::from_str(&self.manifests)?;
        let items = list["items"].as_array().context("a list")?;
        let named = items.iter().map(|object| {
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            let both = kind.as_str().zip(name.as_str());
            both.map(|(kind, name)| format!("{kind} {name}"))
        });
        named.collect::<Option<_>>().context("kinds and names")
    }

    fn apply(
        cluster: &'a Cluster,
        user: &TestEnv,
        flags: &[&str],
        which: fn(&Value) -> bool,
    ) -> Result<Self> {
        let turn = turn(cluster)?;
        let words = ["operator", "manifests", "--image", IMAGE];
        let written = user.run([&words[..], flags].concat(), LIMIT)?;
        let mut list: Value = serde_json::from_str(&written.success()?)?;
        let items = list["items"].as_array_mut().context("a list")?;
        items.retain(which);
        items.iter_mut().for_each(spare_other_stories);
        // Told first, so that what a failure leaves half made goes as well.
        let operator = Self {
            cluster,
            manifests: list.to_string(),
            _turn: turn,
        };
        let words = ["apply", "--server-side", "-f", "-"];
        cluster.tell(&words, &operator.manifests)?;
        wait_until_known(cluster)?;
        Ok(operator)
    }
}

/// The policies about agents' images are about one story's namespace: others have agents meanwhile, without an operator.
fn spare_other_stories(object: &mut Value) {
    let is_binding = object["kind"] == "ValidatingAdmissionPolicyBinding";
    let of_images = ["bough-agents", "bough-own-pods"];
    if is_binding && of_images.iter().any(|it| object["metadata"]["name"] == *it) {
        let marked = json!({"matchLabels": {"bough.dev/story": "limits"}});
        object["spec"]["matchResources"] = json!({"namespaceSelector": marked});
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let words = ["delete", "--ignore-not-found", "--timeout=90s", "-f", "-"];
        let _deleted = self.cluster.tell(&words, &self.manifests);
    }
}
