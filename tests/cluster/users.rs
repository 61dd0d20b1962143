//! People who use the cluster with few rights: service accounts, each of a namespace, with a kubeconfig of their own.

use anyhow::{Context, Result};
use fixtures::{Program, TestEnv, built_binary};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, Namespace};

/// One of them, with a home of his own on this machine.
pub(crate) struct User<'a> {
    cluster: &'a Cluster,
    /// His name, as the API server knows him.
    pub(crate) name: String,
    /// Where his commands run.
    pub(crate) env: TestEnv,
    /// Where his kubeconfig lies.
    pub(crate) kubeconfig: String,
}

/// What a rule grants: the group, its resources, the verbs.
pub(crate) type Right<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

impl<'a> User<'a> {
    /// Somebody with these rights in `namespace` and no others.
    pub(crate) fn new(
        cluster: &'a Cluster,
        namespace: &Namespace<'_>,
        name: &str,
        rights: &[Right<'_>],
    ) -> Result<Self> {
        let rules: Value = rights
            .iter()
            .map(|(group, resources, verbs)| {
                json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
            })
            .collect();
        let subject =
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace.name()});
        let group = "rbac.authorization.k8s.io";
        let api = format!("{group}/v1");
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
            json!({"apiVersion": api, "kind": "Role", "metadata": {"name": name}, "rules": rules}),
            json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name}, "subjects": [subject],
            }),
        ] {
            namespace.create(&object)?;
        }
        let token = namespace.ask(&["create", "token", name])?;
        let view = cluster.ask(&["config", "view", "--raw", "--minify", "-o", "json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        config["users"][0]["user"] = json!({"token": token});
        let mut env = TestEnv::new(built_binary("BOUGH_BIN")?)?;
        let path = env.home().join("kubeconfig");
        std::fs::write(&path, config.to_string())?;
        env.set("KUBECONFIG", &path);
        Ok(Self {
            cluster,
            name: format!("system:serviceaccount:{}:{name}", namespace.name()),
            kubeconfig: path.to_str().context("UTF-8")?.to_owned(),
            env,
        })
    }

    /// kubectl with his words, which goes on.
    pub(crate) fn start(&self, words: &[&str]) -> Result<Program> {
        let mut kubectl = self.cluster.command();
        kubectl.args(["--kubeconfig", &self.kubeconfig]).args(words);
        self.env.start(kubectl)
    }

    /// What kubectl prints for his words.
    pub(crate) fn ask(&self, words: &[&str], input: &str) -> Result<String> {
        let words = [&["--kubeconfig", &self.kubeconfig], words].concat();
        self.cluster.tell(&words, input)
    }
}
