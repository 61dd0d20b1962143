//! A `Source`: its base is followed from inside the cluster, its branches come from that, and it goes without a trace.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, eventually};
use serde_json::{Value, json};

use crate::evictions::{evict, wait_until_back};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::shop::sql;
use crate::stage::{Branches, Stage};
use crate::walk_through::{product, session_file, start_session};

/// Has the shop's database take a standby of whoever knows its password, as an owner would who wants to be followed.
pub(crate) fn grant_replication(namespace: &Namespace<'_>) -> Result<()> {
    let line = "host replication all all scram-sha-256";
    let line = format!("echo '{line}' >>\"$PGDATA/pg_hba.conf\"");
    namespace.ask(&["exec", "postgres-0", "--", "sh", "-c", &line])?;
    sql(
        namespace,
        "ALTER SYSTEM SET max_slot_wal_keep_size = '256MB'",
    )?;
    sql(namespace, "SELECT pg_reload_conf()").map(drop)
}

fn make(namespace: &Namespace<'_>, name: &str, secret: &str, host: &str) -> Result<()> {
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": name},
        "spec": {
            "connection": {"name": secret, "key": "url"}, "version": 16, "follow": "physical",
            "addresses": [{"host": host, "port": 5432}], "storage": {"size": "1Gi"},
            "ttlSecondsMax": 300,
        },
    }))
}

/// From a Secret's change to the source's: the kubelet lays it into a pod within some 90 s, and a source that waits is
/// tried every minute.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(300);

/// The source's status, once it is in `state`.
pub(crate) fn wait_until(
    namespace: &Namespace<'_>,
    name: &str,
    state: &str,
    limit: Duration,
) -> Result<Value> {
    eventually(&format!("a source that is {state}"), limit, || {
        let text = namespace.ask(&["get", "sources.bough.dev", name, "-o", "json"])?;
        let source: Value = serde_json::from_str(&text)?;
        let status = source["status"].clone();
        Ok((status["state"] == state).then_some(status))
    })
}

#[test]
fn a_source_is_followed_before_anybody_asks_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let (user, namespace) = (&stage.user, stage.namespace());
    grant_replication(namespace)?;
    // The name that its programs do not use, but mean.
    let host = format!("postgres.{}.svc.cluster.local", namespace.name());
    make(namespace, "inventory", "database", &host)?;
    let ready = ["wait", "--for=condition=Ready", "source/inventory"];
    namespace.ask(&[&ready[..], &["--timeout=120s"]].concat())?;
    let status = wait_until(namespace, "inventory", "following", LIMIT)?;
    ensure!(status["host"] == "bough-source-inventory-0", "{status}");
    ensure!(status["position"].is_string(), "{status}");
    sql(
        namespace,
        "UPDATE products SET stock_quantity = 77 WHERE product_id = '1'",
    )?;
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (77.into(), 0.into()));
    let host = "jsonpath={.items[*].status.host}";
    let host = namespace.ask(&["get", "branches.bough.dev", "-o", host])?;
    ensure!(host == "bough-source-inventory-0", "{host}");
    let hosts = namespace.ask(&["get", "statefulsets", "-l", "bough.dev/host", "-o", "name"])?;
    ensure!(
        hosts.trim() == "statefulset.apps/bough-source-inventory",
        "no other host was made: {hosts}"
    );
    let slots = "SELECT count(*) FROM pg_replication_slots";
    ensure!(sql(namespace, slots)? == "1");
    by_its_name(user, namespace)?;
    // The API server does not know that it is the same server; the operator does.
    let create = ["db-branches", "-n", namespace.name(), "create", "long"];
    let long = ["--version", "16", "--ttl", "301"];
    let told = user.run([&create[..], &long].concat(), LIMIT)?;
    let told = told.exit_code(4)?.stderr;
    let words = "refused: branches of the source inventory live for at most 300 s";
    ensure!(told.contains(words), "{told}");
    let refused = ["delete", "branches.bough.dev", "--field-selector"];
    namespace.ask(&[&refused[..], &["spec.id=long"]].concat())?;

    // Its branches keep its host, one that is away for a while as well; the last one lets it go.
    namespace.ask(&["delete", "sources.bough.dev", "inventory"])?;
    ensure!(product(port)? == (77.into(), 0.into()));
    goes_on_after_an_eviction(&cluster, &stage, &mut session, port)?;
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)?;
    drop(Branches(namespace));
    eventually("the end of the source's host", LIMIT, || {
        let hosts =
            namespace.ask(&["get", "statefulsets", "-l", "bough.dev/host", "-o", "name"])?;
        Ok(hosts.trim().is_empty().then_some(()))
    })?;
    let slots = sql(namespace, slots)?;
    ensure!(slots == "0", "{slots} slots are left on the source");
    Ok(())
}

/// A branch of a source that is gone is on its host, with what was written, when the host comes back.
fn goes_on_after_an_eviction(
    cluster: &Cluster,
    stage: &Stage<'_>,
    session: &mut Program,
    port: u16,
) -> Result<()> {
    let namespace = stage.namespace();
    let write = "UPDATE products SET stock_quantity = 78 WHERE product_id = '1'";
    let psql = ["db-branches", "-n", namespace.name(), "psql"];
    let words = ["my-debug-session", "--", "-c", write];
    stage
        .user
        .run([&psql[..], &words].concat(), LIMIT)?
        .success()?;
    evict(cluster, namespace, "bough-source-inventory-0")?;
    wait_until_back(session, port, (78, 0))
}

/// Who has no connection string asks by the name of the `Source`.
fn by_its_name(user: &TestEnv, namespace: &Namespace<'_>) -> Result<()> {
    let branches = ["db-branches", "-n", namespace.name()];
    let create = [&branches[..], &["create", "by-name", "--source"]].concat();
    let told = user.run([&create[..], &["nothing"]].concat(), LIMIT)?;
    let told = told.exit_code(3)?.stderr;
    for words in ["has the source nothing", "there is inventory"] {
        ensure!(told.contains(words), "{told}\nhas no {words:?}");
    }
    let other = [&create[..], &["inventory", "--version", "17"]].concat();
    let told = user.run(other, LIMIT)?.exit_code(2)?.stderr;
    ensure!(told.contains("inventory has version 16"), "{told}");
    user.run([&create[..], &["inventory"]].concat(), LIMIT)?
        .success()?;
    let stock = "SELECT stock_quantity FROM products WHERE product_id = '1'";
    let psql = ["psql", "by-name", "--", "-Atc", stock];
    let stock = user.run([&branches[..], &psql].concat(), LIMIT)?;
    ensure!(stock.success()?.trim() == "77");
    let ours = "jsonpath={.items[*].status.host}";
    let hosts = namespace.ask(&["get", "branches.bough.dev", "-o", ours])?;
    ensure!(
        hosts == "bough-source-inventory-0 bough-source-inventory-0",
        "{hosts}"
    );
    user.run([&branches[..], &["destroy", "by-name"]].concat(), LIMIT)?
        .success()
        .map(drop)
}

#[test]
fn a_followed_source_s_new_password_is_taken_up_without_anybody_s_doing() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let namespace = stage.namespace();
    grant_replication(namespace)?;
    make(namespace, "inventory", "database", "postgres")?;
    wait_until(namespace, "inventory", "following", LIMIT)?;
    sql(namespace, "ALTER ROLE inventory PASSWORD 'another-one'")?;
    // A connection that stands goes on with the old one.
    let part = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    sql(namespace, part)?;
    let status = wait_until(namespace, "inventory", "waiting", LIMIT)?;
    let message = status["message"].as_str().context("a message")?;
    ensure!(message.contains("password"), "{message}");
    let secret = json!({"stringData": {
        "url": "postgresql://inventory:another-one@postgres:5432/inventory",
    }});
    namespace.ask(&["patch", "secret", "database", "-p", &secret.to_string()])?;
    wait_until(namespace, "inventory", "following", TAKEN_UP_WITHIN)?;
    let replayed = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    ensure!(sql(namespace, replayed)? == "1");
    namespace
        .ask(&["delete", "sources.bough.dev", "inventory"])
        .map(drop)
}

#[test]
fn a_source_that_refuses_says_so_and_no_password() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let namespace = stage.namespace();
    namespace.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"},
        "stringData": {"url": "postgresql://inventory:not-this-one@postgres:5432/inventory"},
    }))?;
    make(namespace, "inventory", "wrong", "postgres")?;
    let status = wait_until(namespace, "inventory", "failed", LIMIT)?;
    let message = status["message"].as_str().context("a message")?;
    ensure!(
        message.contains("password") && !message.contains("not-this-one"),
        "{message}"
    );
    let events = namespace.ask(&["get", "pods,events", "-o", "json"])?;
    ensure!(!events.contains("not-this-one"), "in what anybody may read");

    takes_up_another_secret_with_its_next_pod(namespace)?;
    namespace
        .ask(&["delete", "sources.bough.dev", "inventory"])
        .map(drop)
}

/// An engine is not told of a Secret that its pod has not, whatever the resource says.
fn takes_up_another_secret_with_its_next_pod(namespace: &Namespace<'_>) -> Result<()> {
    let other = json!({"spec": {"connection": {"name": "database", "key": "url"}}}).to_string();
    let patch = ["patch", "sources.bough.dev", "inventory", "--type=merge"];
    namespace.ask(&[&patch[..], &["-p", &other]].concat())?;
    let pod = "bough-source-inventory-0";
    let words = format!("still has the key url of the Secret wrong: `kubectl delete pod {pod}`");
    eventually("what the host still has", LIMIT, || {
        let text = namespace.ask(&["get", "sources.bough.dev", "inventory", "-o", "json"])?;
        let source: Value = serde_json::from_str(&text)?;
        let status = &source["status"];
        ensure!(status["state"] == "failed", "{status}");
        let told = status["message"].as_str().unwrap_or_default();
        let is_seen = status["observedGeneration"] == source["metadata"]["generation"];
        Ok((told.contains(&words) && !is_seen).then_some(()))
    })?;
    grant_replication(namespace)?;
    namespace.ask(&["delete", "pod", pod])?;
    wait_until(namespace, "inventory", "following", LIMIT)?;
    let other = json!({"spec": {"version": 17}}).to_string();
    let refused = namespace.ask(&[&patch[..], &["-p", &other]].concat());
    let refused = refused.err().context("another version was taken")?;
    let words = "a source keeps its version";
    ensure!(refused.to_string().contains(words), "{refused}");
    Ok(())
}
