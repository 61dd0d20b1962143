//! A `Source`: its base is followed from inside the cluster, its branches come from that, and it goes without a trace.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::stage::{Branches, Stage};
use crate::walk_through::{product, session_file, start_session};

/// Has the shop's database take a standby of whoever knows its password, as an owner would who wants to be followed.
fn grant_replication(namespace: &Namespace<'_>) -> Result<()> {
    let line = "host replication all all scram-sha-256";
    let line = format!("echo '{line}' >>\"$PGDATA/pg_hba.conf\"");
    namespace.ask(&["exec", "postgres-0", "--", "sh", "-c", &line])?;
    sql(
        namespace,
        "ALTER SYSTEM SET max_slot_wal_keep_size = '256MB'",
    )?;
    sql(namespace, "SELECT pg_reload_conf()").map(drop)
}

/// What the shop's database says.
fn sql(namespace: &Namespace<'_>, statement: &str) -> Result<String> {
    let psql = ["psql", "-U", "inventory", "-Atc", statement];
    namespace.ask(&[&["exec", "postgres-0", "--"], psql.as_slice()].concat())
}

fn make(namespace: &Namespace<'_>, name: &str, secret: &str, host: &str) -> Result<()> {
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": name},
        "spec": {
            "connection": {"name": secret, "key": "url"}, "version": 16, "follow": "physical",
            "addresses": [{"host": host, "port": 5432}], "storage": {"size": "1Gi"},
        },
    }))
}

/// The source's status, once it is in `state`.
fn wait_until(namespace: &Namespace<'_>, name: &str, state: &str) -> Result<Value> {
    eventually(&format!("a source that is {state}"), LIMIT, || {
        let text = namespace.ask(&["get", "sources.bough.dev", name, "-o", "json"])?;
        let source: Value = serde_json::from_str(&text)?;
        let status = source["status"].clone();
        Ok((status["state"] == state).then_some(status))
    })
}

#[test]
fn a_source_is_followed_before_anybody_asks_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    grant_replication(namespace)?;
    // The name that its programs do not use, but mean.
    let host = format!("postgres.{}.svc.cluster.local", namespace.name());
    make(namespace, "inventory", "database", &host)?;
    let status = wait_until(namespace, "inventory", "following")?;
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

    // Its branches keep its host; the last one lets it go.
    namespace.ask(&["delete", "sources.bough.dev", "inventory"])?;
    ensure!(product(port)? == (77.into(), 0.into()));
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
    let status = wait_until(namespace, "inventory", "failed")?;
    let message = status["message"].as_str().context("a message")?;
    ensure!(
        message.contains("password") && !message.contains("not-this-one"),
        "{message}"
    );
    let events = namespace.ask(&["get", "pods,events", "-o", "json"])?;
    ensure!(!events.contains("not-this-one"), "in what anybody may read");
    namespace
        .ask(&["delete", "sources.bough.dev", "inventory"])
        .map(drop)
}
