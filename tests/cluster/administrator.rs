//! The operator without Helm: `bough operator install`, `status` and `uninstall`.

use anyhow::{Result, ensure};
use fixtures::{TestEnv, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT};
use crate::operator::{IMAGE, turn, wait_until_known};
use crate::taken_away::nothing_is_left;

/// What the story installs; gone with this, however far it came: the next story's would meet it.
struct Installed<'a>(&'a Cluster, &'a TestEnv);

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let _uninstalled = operator(self.1, &["uninstall", "--image", IMAGE]);
        let words = [
            "delete",
            "namespace",
            "bough-operator",
            "--ignore-not-found",
        ];
        let _deleted = self.0.ask(&words);
    }
}

/// What `bough operator` says to its words.
fn operator(user: &TestEnv, words: &[&str]) -> Result<(String, String)> {
    let outcome = user.run([&["operator"], words].concat(), LIMIT)?;
    ensure!(outcome.status.success(), "{words:?}: {}", outcome.stderr);
    Ok((outcome.stdout, outcome.stderr))
}

#[test]
fn an_administrator_installs_watches_and_takes_away_what_makes_branches() -> Result<()> {
    let cluster = Cluster::given()?;
    let _turn = turn(&cluster)?;
    let user = cluster.user()?;
    let _installed = Installed(&cluster, &user);
    let install = ["install", "--image", IMAGE];

    let (_, told) = operator(&user, &[&install[..], &["--dry-run"]].concat())?;
    let deployment = "Deployment bough-operator/bough-operator";
    ensure!(
        told.contains(&format!("{deployment}: would be created")),
        "{told}"
    );
    ensure!(cluster.ask(&["get", "crd", "-o", "name"])?.is_empty());
    let (_, told) = operator(&user, &install)?;
    ensure!(told.contains(&format!("{deployment}: created")), "{told}");
    let (_, told) = operator(&user, &install)?;
    ensure!(told.contains(&format!("{deployment}: as it was")), "{told}");
    ensure!(
        !told.contains(": created") && !told.contains(": changed"),
        "{told}"
    );

    let status = || -> Result<Value> {
        let (status, _) = operator(&user, &["status", "-o", "json"])?;
        Ok(serde_json::from_str(&status)?)
    };
    eventually("two operators of which one leads", LIMIT, || {
        let status = status()?;
        let operators = status["operators"].as_array().cloned().unwrap_or_default();
        let are_ready = operators.len() == 2 && operators.iter().all(|it| it["unready"].is_null());
        let leaders = operators.iter().filter(|it| it["leads"] == true).count();
        Ok((are_ready && leaders == 1).then_some(()))
    })?;
    for it in status()?["operators"].as_array().into_iter().flatten() {
        ensure!(it["namespace"] == "bough-operator", "{it}");
    }
    wait_until_known(&cluster)?;
    let namespace = cluster.namespace("administrator")?;
    let who = cluster.who()?;
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch", "metadata": {"name": "story"},
        "spec": {"id": "story", "source": "db:5432/x", "version": 16, "requester": who},
    }))?;
    eventually("the host in the status", LIMIT, || {
        let status = status()?;
        let host = &status["hosts"][0];
        let is_there = host["namespace"] == namespace.name() && host["branches"] == 1;
        let volume = &host["engine"]["volume"]["free_bytes"];
        Ok((is_there && !volume.is_null() && host["engine"]["bases"] == 0).then_some(()))
    })?;
    let (table, _) = operator(&user, &["status", "-n", namespace.name()])?;
    ensure!(table.contains("bough-host-16-0"), "{table}");
    ensure!(table.contains("0 of 1 ready"), "{table}");

    let (_, told) = operator(&user, &["uninstall", "--image", IMAGE])?;
    ensure!(told.contains("ended: 1 branches, 1 branch hosts"), "{told}");
    ensure!(told.contains(&format!("{deployment}: removed")), "{told}");
    nothing_is_left(&cluster, &namespace, &[])
}
