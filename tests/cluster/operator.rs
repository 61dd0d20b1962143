//! The operator in the cluster of the stories, from its manifests.
//!
//! What it consists of belongs to the cluster and not to a namespace, so that one story at a time has it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use fixtures::TestEnv;
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT};

/// Our image, as `cargo xtask test --cluster` loads it.
pub(crate) const IMAGE: &str = "localhost/bough:dev";

/// Held by the story that has the operator.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits for the turn of this story. One that failed before left nothing that the next one does not make anew.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn apply(
        cluster: &'a Cluster,
        user: &TestEnv,
        flags: &[&str],
        which: fn(&Value) -> bool,
    ) -> Result<Self> {
        let turn = turn();
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
        Ok(operator)
    }
}

/// The policy about agents' images is about one story's namespace: others have agents meanwhile, without an operator.
fn spare_other_stories(object: &mut Value) {
    let is_binding = object["kind"] == "ValidatingAdmissionPolicyBinding";
    if is_binding && object["metadata"]["name"] == "bough-agents" {
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
