//! A database that only the target reaches, beside it in its pod: the branch host copies it through the target.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv, eventually, http};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace, restricted_pod};
use crate::stage::Stage;
use crate::walk_through::{ORDER, product, start_session};

/// The target, which is one pod.
const POD: &str = "ledger";

/// The branches' host, which is there for whoever asks for a branch of version 16.
const HOST: &str = "bough-host-16-0";

/// The service with its database beside it, which listens on the pod's loopback alone.
fn start_pod(namespace: &Namespace<'_>) -> Result<()> {
    let url = |host: &str| format!("postgresql://inventory:change-me@{host}:5432/inventory");
    let service = json!({
        "args": ["--host=0.0.0.0", "--port=8082"],
        "env": [
            {"name": "DATABASE_URL", "value": url("127.0.0.1")},
            {"name": "LEDGER_URL", "value": url("ledger-database")},
            {"name": "DATABASE_WAIT_SECS", "value": "120"},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8082}, "periodSeconds": 2},
    });
    let mut pod = restricted_pod(POD, "localhost/metalmart/inventory:dev", &service);
    let data = "/var/lib/postgresql/data";
    let database = json!({
        // One prepared transaction keeps a lock for as long as a story wants.
        "args": ["-c", "listen_addresses=127.0.0.1", "-c", "max_prepared_transactions=1"],
        "env": [
            {"name": "POSTGRES_USER", "value": "inventory"},
            {"name": "POSTGRES_DB", "value": "inventory"},
            {"name": "POSTGRES_PASSWORD", "value": "change-me"},
            {"name": "PGDATA", "value": format!("{data}/pgdata")},
        ],
        "volumeMounts": [{"name": "data", "mountPath": data}],
    });
    let mut database =
        restricted_pod(POD, "postgres:16", &database)["spec"]["containers"][0].take();
    database["name"] = json!("database");
    let spec = &mut pod["spec"];
    spec["containers"]
        .as_array_mut()
        .context("a pod has containers")?
        .push(database);
    spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    // A name that nobody but the pod knows.
    spec["hostAliases"] = json!([{"ip": "127.0.0.1", "hostnames": ["ledger-database"]}]);
    namespace.create(&pod)
}

/// What the database says.
fn ask(namespace: &Namespace<'_>, sql: &str) -> Result<String> {
    let psql = ["psql", "-U", "inventory", "-Atc", sql];
    namespace.ask(&[&["exec", POD, "-c", "database", "--"], psql.as_slice()].concat())
}

/// A session's file in the target's place: the branch `id` of what `variable` names.
fn write_file(home: &Path, namespace: &str, id: &str, variable: &str) -> Result<String> {
    let file = json!({
        "target": {"path": format!("pod/{POD}"), "namespace": namespace},
        "feature": {"network": {"incoming": "off", "outgoing": true}},
        "db_branches": [{
            "id": id, "type": "pg", "version": "16", "name": "inventory", "ttl_secs": 300,
            "connection": {"url": {"type": "env", "variable": variable}},
            "copy": {"mode": "all"},
        }],
    });
    let path = home.join(format!("{id}.json"));
    std::fs::write(&path, file.to_string())?;
    Ok(path.to_str().context("UTF-8")?.to_owned())
}

/// In which phase the branch is; none where there is none.
fn phase(user: &TestEnv, namespace: &str) -> Result<Option<String>> {
    let words = ["db-branches", "-n", namespace, "status", "-o", "json"];
    let outcome = user.run(words, LIMIT)?;
    let all: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap_or_default();
    let first = all.into_iter().next();
    Ok(first.and_then(|branch| branch["phase"].as_str().map(str::to_owned)))
}

/// Waits until nothing in the host is a way any more.
fn wait_until_no_way_is_left(namespace: &Namespace<'_>) -> Result<()> {
    eventually("the end of the way", LIMIT, || {
        let left = namespace.shell(HOST, "ls /var/lib/bough/engine/run")?;
        Ok((!left.contains("lent-")).then_some(()))
    })
}

/// A session is killed while its branch is copied.
fn kill_during_the_copy(user: &TestEnv, namespace: &Namespace<'_>, file: &str) -> Result<()> {
    let held = "BEGIN; LOCK TABLE products IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'held'";
    ask(namespace, held)?;
    let mut session = user.start(user.command(["exec", "-f", file, "--", "true"]))?;
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let copies = eventually("a copy that waits for the table", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}");
        }
        Ok((ask(namespace, waiting)? == "t").then_some(()))
    });
    copies.with_context(|| session.stderr().unwrap_or_default())?;
    ensure!(phase(user, namespace.name())?.as_deref() == Some("copying"));
    session.signal(Signal::KILL)?;
    drop(session.finish(LIMIT)?);
    eventually("a branch that is told failed", LIMIT, || {
        let phase = phase(user, namespace.name())?;
        ensure!(phase.as_deref() != Some("ready"), "half a branch is ready");
        Ok((phase.as_deref() == Some("failed")).then_some(()))
    })?;
    wait_until_no_way_is_left(namespace)?;
    ask(namespace, "ROLLBACK PREPARED 'held'").map(drop)
}

#[test]
fn a_database_beside_the_target_is_branched_through_it_and_stays_as_it_was() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::set(&cluster, &[])?;
    let (user, namespace) = (&stage.user, stage.namespace());
    start_pod(namespace)?;
    namespace.wait_ready(POD)?;
    namespace.wait_ready("postgres-0")?;
    let address = ["get", "pod", POD, "-o", "jsonpath={.status.podIP}"];
    let address = namespace.ask(&address)?;
    let refused = namespace.shell("postgres-0", &format!("pg_isready -h {address}"));
    refused.expect_err("another pod reaches it");
    let file = write_file(&user.home(), namespace.name(), POD, "DATABASE_URL")?;

    kill_during_the_copy(user, namespace, &file)?;

    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    ensure!(product(port)? == (1.into(), 99.into()));
    let stored = "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = '1'";
    ensure!(ask(namespace, stored)? == "100|0");
    wait_until_no_way_is_left(namespace)?;
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    let network = format!("in the network of pod/{POD} -n {}", namespace.name());
    ensure!(said.contains(&network) && said.contains(": new"), "{said}");

    // The same id is the same branch, whatever its source says by now.
    ask(namespace, "UPDATE products SET stock_quantity = 7")?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (1.into(), 99.into()));
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    ensure!(said.contains("reused"), "{said}");

    let words = ["db-branches", "-n", namespace.name(), "reset", POD];
    let refused = user.run(words, LIMIT)?;
    ensure!(refused.status.code() == Some(4), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("nothing was reset"),
        "{}",
        refused.stderr
    );
    ensure!(phase(user, namespace.name())?.as_deref() == Some("ready"));

    // By a name that the host does not know, and the target does.
    let named = write_file(&user.home(), namespace.name(), "named", "LEDGER_URL")?;
    let psql = fixtures::tool(15, "psql")?;
    let psql = psql.to_str().context("UTF-8")?;
    let read = "\"$0\" -XAtc 'SELECT stock_quantity FROM products LIMIT 1' \"$LEDGER_URL\"";
    let words = ["exec", "-f", &named, "--", "sh", "-c", read, psql];
    let outcome = user.run(words, LIMIT)?;
    ensure!(outcome.stderr.contains(&network), "{}", outcome.stderr);
    ensure!(outcome.success()?.trim() == "7");
    Ok(())
}
