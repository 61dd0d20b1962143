//! What ends under branches, or never begins: a namespace, the operator's rights in one of several, a host whose image
//! nobody has. Nothing of it holds anybody up.

use anyhow::{Result, ensure};
use fixtures::{TestEnv, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::Operator;
use crate::users::{Right, User};

/// The branch host of a story's branches.
const SET: &str = "bough-host-16";

/// Somebody's wish for a branch, who never stops asking for it: what nobody asks for goes by itself.
fn ask(cluster: &Cluster, namespace: &Namespace<'_>, id: &str) -> Result<()> {
    let branch = json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
        "metadata": {"name": id, "annotations": {"bough.dev/asked-at": "2099-01-01T00:00:00Z"}},
        "spec": {"id": id, "source": "db:5432/x", "version": 16, "requester": cluster.who()?},
    });
    // Policies about definitions that are new take a moment until they know these.
    eventually("a branch that is let in", LIMIT, || {
        let made = namespace.create(&branch);
        match made {
            Err(error) if error.to_string().contains("paramKind") => Ok(None),
            made => made.map(Some),
        }
    })
}

/// Waits until a branch's status is as wanted.
fn wait_until(
    namespace: &Namespace<'_>,
    id: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<()> {
    eventually(what, LIMIT, || {
        let found = namespace.ask(&["get", "branches.bough.dev", id, "-o", "json"])?;
        let found: Value = serde_json::from_str(&found)?;
        Ok(is(&found["status"]).then_some(()))
    })
}

/// Whether what a status says for people has all of these words.
fn says(status: &Value, words: &[&str]) -> bool {
    let message = status["message"].as_str().unwrap_or_default();
    words.iter().all(|it| message.contains(it))
}

fn clear(user: &TestEnv, namespaces: &[&Namespace<'_>]) -> Result<String> {
    let places = namespaces.iter().flat_map(|it| ["--namespace", it.name()]);
    let words: Vec<&str> = ["operator", "clear"].into_iter().chain(places).collect();
    let outcome = user.run(words, LIMIT)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    Ok(outcome.stderr)
}

#[test]
fn a_namespace_goes_with_its_branches_and_a_host_that_is_broken_for_good_holds_nobody_up()
-> Result<()> {
    let cluster = Cluster::given()?;
    let user = cluster.user()?;
    let _operator = Operator::install(&cluster, &user, &[])?;
    let goes = cluster.namespace("goes")?;
    let stays = cluster.namespace("stays")?;
    for namespace in [&goes, &stays] {
        ask(&cluster, namespace, "story")?;
    }
    for namespace in [&goes, &stays] {
        let home = |status: &Value| status["home"] == SET && !status["host"].is_null();
        wait_until(namespace, "story", "the branch's home", home)?;
    }
    cluster.ask(&["delete", "namespace", goes.name(), "--timeout=120s"])?;

    let broken = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "engine", "image": "localhost/nothing:16"},
    ]}}}});
    stays.ask(&["patch", "statefulset", SET, "-p", &broken.to_string()])?;
    let pod = format!("{SET}-0");
    stays.ask(&["delete", "pod", &pod, "--ignore-not-found"])?;
    stays.ask(&["delete", "branches.bough.dev", "story", "--wait=false"])?;
    wait_until(&stays, "story", "why it is still there", |status| {
        status["phase"] == "Deleting" && says(status, &["once its host answers", "Image"])
    })?;
    let told = clear(&user, &[&stays])?;
    ensure!(told.contains("ended: 1 branches, 1 branch hosts"), "{told}");
    let left = stays.ask(&["get", "branches.bough.dev,statefulsets", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn a_host_that_never_starts_holds_no_deletion_up_and_says_why_it_does_not() -> Result<()> {
    let cluster = Cluster::given()?;
    let user = cluster.user()?;
    let flags = ["--postgres-image", "localhost/nothing"];
    let _operator = Operator::install(&cluster, &user, &flags)?;
    let namespace = cluster.namespace("nothing")?;
    for id in ["deleted", "cleared"] {
        ask(&cluster, &namespace, id)?;
        wait_until(&namespace, id, "why there is no host", |status| {
            status["home"].is_null() && says(status, &["is not ready", "Image"])
        })?;
    }
    let delete = ["delete", "branches.bough.dev", "deleted", "--timeout=30s"];
    namespace.ask(&delete)?;
    let told = clear(&user, &[&namespace])?;
    ensure!(told.contains("ended: 1 branches, 1 branch hosts"), "{told}");
    let left = namespace.ask(&["get", "branches.bough.dev,statefulsets", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    // Who goes at once needs no host.
    ask(&cluster, &namespace, "brief")?;
    namespace.ask(&["delete", "branches.bough.dev", "brief", "--timeout=30s"])?;
    Ok(())
}

/// What ending everything of a namespace takes.
const CLEARING: [Right<'_>; 2] = [
    (
        "bough.dev",
        &["sessions", "branches", "sources"],
        &["list", "delete"],
    ),
    ("apps", &["statefulsets"], &["list", "delete"]),
];

#[test]
fn a_namespace_that_may_not_be_read_costs_the_others_nothing() -> Result<()> {
    let cluster = Cluster::given()?;
    let user = cluster.user()?;
    let (bank, shop) = (cluster.namespace("bank")?, cluster.namespace("shop")?);
    let flags = ["--namespace", bank.name(), "--namespace", shop.name()];
    let _operator = Operator::install(&cluster, &user, &flags)?;
    // As it goes with its namespace.
    bank.ask(&["delete", "rolebinding", "bough-branches"])?;
    ask(&cluster, &shop, "story")?;
    let home = |status: &Value| status["home"] == SET && !status["host"].is_null();
    wait_until(&shop, "story", "the branch's home", home)?;

    // As a command leaves it that was killed.
    shop.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Session", "metadata": {"name": "killed"},
        "spec": {
            "target": {"kind": "Deployment", "name": "inventory"}, "requester": cluster.who()?,
        },
    }))?;

    let somebody = User::new(&cluster, &shop, "somebody", &CLEARING)?;
    let told = clear(&somebody.env, &[&bank, &shop])?;
    let all = "ended: 1 branches, 1 branch hosts, 1 sessions";
    ensure!(told.contains(all), "{told}");
    let words = format!("namespace {} may not be read", bank.name());
    ensure!(told.contains(&words), "{told}");
    let kinds = "sessions.bough.dev,branches.bough.dev,statefulsets";
    let left = shop.ask(&["get", kinds, "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    let words = ["operator", "clear", "--namespace", bank.name()];
    let told = somebody.env.run(words, LIMIT)?.exit_code(3)?.stderr;
    ensure!(told.contains("cannot list branches"), "{told}");
    Ok(())
}
