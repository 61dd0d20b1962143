//! Every kind of workload that a session may take the place of, as its pods are found: with the user's own rights, and by an
//! operator that serves sessions.

use anyhow::{Context, Result, ensure};
use fixtures::{TestEnv, eventually};
use serde_json::{Value, json};

use crate::doors::{EXEC, PODS, SESSIONS, TARGETS};
use crate::kubernetes::{Cluster, LIMIT, Namespace, restricted_pod};
use crate::least_rights::{FORWARD, wait_for_leader};
use crate::operator::IMAGE;
use crate::stage::Stage;
use crate::users::{Right, User};

/// The kinds as a session names them, with the name of the object.
const KINDS: [&str; 5] = [
    "statefulset/set",
    "replicaset/copies",
    "job/once",
    "cronjob/nightly",
    "service/front",
];

/// The set's, the replica set's, the job's, and two of the cron job's.
const PODS_OF_ALL: usize = 5;

/// A pod's template; the variable tells whose it is.
fn template(name: &str, restarts: &str) -> Value {
    let container = json!({
        "command": ["sleep", "infinity"],
        "env": [{"name": "WHOSE", "value": name}],
    });
    let mut pod = restricted_pod(name, "postgres:16", &container);
    pod["spec"]["restartPolicy"] = json!(restarts);
    json!({"metadata": {"labels": {"app": name}}, "spec": pod["spec"]})
}

/// One of each kind. The cron job's own time never comes: somebody begins its job by hand, twice.
fn make(namespace: &Namespace<'_>) -> Result<()> {
    let of = |name: &str| json!({"matchLabels": {"app": name}});
    let nightly = json!({"template": template("nightly", "Never")});
    for object in [
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "set"},
            "spec": {"serviceName": "set", "selector": of("set"), "template": template("set", "Always")},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "copies"},
            "spec": {"selector": of("copies"), "template": template("copies", "Always")},
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
            "spec": {"template": template("once", "Never")},
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
            "spec": {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": nightly}},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
            "spec": {"selector": {"app": "copies"}, "ports": [{"port": 80}]},
        }),
    ] {
        namespace.create(&object)?;
    }
    namespace.ask(&["create", "job", "--from=cronjob/nightly", "nightly-1"])?;
    // Times of creation are whole seconds.
    let made = "jsonpath={.metadata.creationTimestamp}";
    let made_at = |job: &str| namespace.ask(&["get", "job", job, "-o", made]);
    let first = made_at("nightly-1")?;
    eventually("a job that is newer", LIMIT, || {
        namespace.ask(&["create", "job", "--from=cronjob/nightly", "nightly-2"])?;
        let is_newer = made_at("nightly-2")? > first;
        if !is_newer {
            namespace.ask(&["delete", "job", "nightly-2"])?;
        }
        Ok(is_newer.then_some(()))
    })
}

/// Waits until each has a pod that runs.
fn wait_for_pods(namespace: &Namespace<'_>) -> Result<()> {
    eventually("pods of all kinds", LIMIT, || {
        let phases = "jsonpath={range .items[*]}{.status.phase}{'\\n'}{end}";
        let phases = namespace.ask(&["get", "pods", "-o", phases])?;
        Ok(
            (phases.lines().count() == PODS_OF_ALL && phases.lines().all(|it| it == "Running"))
                .then_some(()),
        )
    })
}

/// What a session in the place of `target` has for the variable; and what it was told.
fn whose(user: &TestEnv, namespace: &Namespace<'_>, target: &str) -> Result<(String, String)> {
    let words = ["exec", "-t", target, "-n", namespace.name()];
    let network = ["--", "printenv", "WHOSE"];
    let outcome = user.run([&words[..], &network].concat(), LIMIT)?;
    let told = outcome.stderr.clone();
    let said = outcome.success().with_context(|| target.to_owned())?;
    Ok((said.trim().to_owned(), told))
}

/// Whose pod answers for a target.
fn owner(target: &str) -> &str {
    match target.split_once('/') {
        // Its selector is the replica set's.
        Some(("service", _)) => "copies",
        Some((_, name)) => name,
        None => target,
    }
}

/// The rights by which somebody puts an agent beside a pod himself.
const OWN: [Right<'_>; 6] = [
    PODS,
    EXEC,
    FORWARD,
    ("", &["pods/ephemeralcontainers"], &["patch"]),
    ("", &["services"], &["get"]),
    ("apps", &["statefulsets", "replicasets"], &["get"]),
];

/// Those for kinds that make jobs.
const OF_JOBS: [Right<'_>; 2] = [
    ("batch", &["jobs"], &["get", "list"]),
    ("batch", &["cronjobs"], &["get"]),
];

#[test]
fn sessions_take_the_place_of_every_kind_of_workload_by_anybody_s_rights() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("kinds")?;
    make(&namespace)?;
    let stage = Stage::set(&cluster, &["--sessions"])?;
    wait_for_leader(&stage)?;
    wait_for_pods(&namespace)?;
    let newest = "jsonpath={.items[0].metadata.name}";
    let of_job = [
        "get",
        "pods",
        "-l",
        "batch.kubernetes.io/job-name=nightly-2",
    ];
    let newest = namespace.ask(&[&of_job[..], &["-o", newest]].concat())?;

    let by_operator = [SESSIONS, TARGETS, FORWARD];
    let alice = User::new(&cluster, &namespace, "alice", &by_operator)?;
    // Whoever may not begin a session has his own rights.
    let bob = [&OWN[..], &OF_JOBS].concat();
    let mut bob = User::new(&cluster, &namespace, "bob", &bob)?;
    bob.env.set("BOUGH_AGENT_IMAGE", IMAGE);
    for (user, is_served) in [(&alice, true), (&bob, false)] {
        for target in KINDS {
            let (said, told) = whose(&user.env, &namespace, target)?;
            ensure!(said == owner(target), "{target}: {said}");
            ensure!(
                told.contains("which the operator gave") == is_served,
                "{target}: {told}"
            );
            let is_newest = told.contains(&format!("pod {newest},"));
            ensure!(
                is_newest == (target == "cronjob/nightly"),
                "{target}: {told}"
            );
        }
    }
    Ok(())
}
