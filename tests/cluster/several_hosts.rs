//! Several hosts for one source: they share its branches, none goes with another, and one that is too many goes when it is
//! empty.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv, eventually};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::shop::sql;
use crate::sources::{grant_replication, wait_until};
use crate::stage::{Branches, Stage};
use crate::walk_through::{product, session_file, start_session};

/// The stateful set of the source's hosts, and the pods of them.
const SET: &str = "bough-source-inventory";
const FIRST: &str = "bough-source-inventory-0";
const SECOND: &str = "bough-source-inventory-1";

/// The image that hosts of the stories run.
const IMAGE_OF: &str = "jsonpath={.spec.template.spec.containers[0].image}";

/// The shop's database as a `Source`, followed by so many hosts; without a number, by as many as nobody asked for.
pub(crate) fn make(namespace: &Namespace<'_>, hosts: Option<u16>) -> Result<()> {
    let mut spec = json!({
        "connection": {"name": "database", "key": "url"}, "version": 16, "follow": "physical",
        "addresses": [{"host": "postgres", "port": 5432}], "storage": {"size": "1Gi"},
    });
    if let Some(hosts) = hosts {
        spec["hosts"] = json!(hosts);
    }
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": "inventory"}, "spec": spec,
    }))
}

/// Has the source have so many hosts from now on.
fn want(namespace: &Namespace<'_>, hosts: u16) -> Result<()> {
    let patch = json!({"spec": {"hosts": hosts}}).to_string();
    let words = ["patch", "sources.bough.dev", "inventory", "--type=merge"];
    namespace
        .ask(&[&words[..], &["-p", &patch]].concat())
        .map(drop)
}

/// The source's status, once so many of its hosts answer, and all of these follow.
fn wait_until_ready(namespace: &Namespace<'_>, ready: &str) -> Result<Value> {
    eventually(&format!("hosts that are ready: {ready}"), LIMIT, || {
        let text = namespace.ask(&["get", "sources.bough.dev", "inventory", "-o", "json"])?;
        let source: Value = serde_json::from_str(&text)?;
        let status = source["status"].clone();
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let mut answering = hosts.iter().filter(|it| it["answers"] == true);
        let follow = answering.all(|it| it["state"] == "following");
        Ok((status["ready"] == ready && follow).then_some(status))
    })
}

/// What `bough db-branches` says to these words.
pub(crate) fn branches(
    user: &TestEnv,
    namespace: &Namespace<'_>,
    words: &[&str],
) -> Result<String> {
    let branches = ["db-branches", "-n", namespace.name()];
    user.run([&branches[..], words].concat(), LIMIT)?.success()
}

/// Makes a branch of the source; the pod of its host.
pub(crate) fn create(user: &TestEnv, namespace: &Namespace<'_>, id: &str) -> Result<String> {
    let create = ["create", id, "--source", "inventory", "--ttl", "900"];
    branches(user, namespace, &create)?;
    host_of(namespace, id)
}

/// The pod of a branch's host, as its resource names it.
fn host_of(namespace: &Namespace<'_>, id: &str) -> Result<String> {
    let selector = format!("--field-selector=spec.id={id}");
    let host = "jsonpath={.items[*].status.host}";
    namespace.ask(&["get", "branches.bough.dev", &selector, "-o", host])
}

fn set_stock(user: &TestEnv, namespace: &Namespace<'_>, id: &str, stock: u32) -> Result<()> {
    let write = format!("UPDATE products SET stock_quantity = {stock} WHERE product_id = '1'");
    branches(user, namespace, &["psql", id, "--", "-c", &write]).map(drop)
}

fn stock(user: &TestEnv, namespace: &Namespace<'_>, id: &str) -> Result<String> {
    let read = "SELECT stock_quantity FROM products WHERE product_id = '1'";
    let told = branches(user, namespace, &["psql", id, "--", "-Atc", read])?;
    Ok(told.trim().to_owned())
}

/// The image of the hosts' engines, from their next pods on.
fn set_image(namespace: &Namespace<'_>, image: &str) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "engine", "image": image},
    ]}}}});
    let words = ["patch", "statefulset", SET, "-p", &patch.to_string()];
    namespace.ask(&words).map(drop)
}

#[test]
fn two_hosts_share_a_source_s_branches_and_one_that_dies_takes_nothing_of_the_other() -> Result<()>
{
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    grant_replication(namespace)?;
    make(namespace, Some(2))?;
    wait_until_ready(namespace, "2/2")?;
    let listed = namespace.ask(&["get", "sources.bough.dev", "inventory"])?;
    ensure!(listed.contains("2/2"), "{listed}");

    // Each new branch goes where the fewest are.
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(host_of(namespace, "my-debug-session")? == FIRST);
    set_stock(user, namespace, "my-debug-session", 31)?;
    let host = create(user, namespace, "second")?;
    ensure!(host == SECOND, "{host}");
    set_stock(user, namespace, "second", 41)?;
    eventually("what an administrator sees of it", LIMIT, || {
        let status = ["operator", "status", "-n", namespace.name()];
        let status = user.run(status, LIMIT)?.success()?;
        let each_has_one = status.matches("1 of 1 ready").count() == 2;
        Ok((status.contains("2/2") && each_has_one).then_some(()))
    })?;

    // One goes, and does not come back for a while.
    let image = namespace.ask(&["get", "statefulset", SET, "-o", IMAGE_OF])?;
    set_image(namespace, "localhost/nothing:16")?;
    namespace.ask(&["delete", "pod", SECOND])?;
    let told = wait_until_ready(namespace, "1/2")?;
    let message = told["message"].as_str().context("a message")?;
    ensure!(message.starts_with(&format!("{SECOND}: ")), "{message}");
    ensure!(product(port)? == (31.into(), 0.into()));
    ensure!(session.ended()?.is_none(), "{}", session.stderr()?);
    let host = create(user, namespace, "third")?;
    ensure!(host == FIRST, "{host}");
    ensure!(stock(user, namespace, "third")? == "100");

    // It comes back with its branches, and takes new ones again.
    set_image(namespace, &image)?;
    namespace.ask(&["delete", "pod", SECOND])?;
    wait_until_ready(namespace, "2/2")?;
    ensure!(stock(user, namespace, "second")? == "41");
    let host = create(user, namespace, "fourth")?;
    ensure!(host == SECOND, "{host}");
    ensure!(product(port)? == (31.into(), 0.into()));
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    ensure!(!said.contains("lost"), "{said}");
    Ok(())
}

#[test]
fn a_source_is_given_another_host_and_takes_it_back_once_the_last_branch_there_has_gone()
-> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    grant_replication(namespace)?;
    make(namespace, None)?;
    wait_until(namespace, "inventory", "following", LIMIT)?;
    wait_until_ready(namespace, "1/1")?;
    ensure!(create(user, namespace, "first")? == FIRST);
    set_stock(user, namespace, "first", 11)?;

    want(namespace, 2)?;
    wait_until_ready(namespace, "2/2")?;
    ensure!(create(user, namespace, "second")? == SECOND);
    set_stock(user, namespace, "second", 22)?;
    ensure!(create(user, namespace, "third")? == FIRST);

    // Nobody is put out: the host that is too many has the fewest branches, and gets no other.
    want(namespace, 1)?;
    eventually("what becomes of the second host", LIMIT, || {
        let message = "jsonpath={.status.ready} {.status.message}";
        let told = namespace.ask(&["get", "sources.bough.dev", "inventory", "-o", message])?;
        let words = format!("{SECOND} goes with its last branch");
        Ok((told.starts_with("1/1 ") && told.contains(&words)).then_some(()))
    })?;
    ensure!(create(user, namespace, "fourth")? == FIRST);
    ensure!(stock(user, namespace, "second")? == "22");
    let slots = "SELECT count(*) FROM pg_replication_slots";
    ensure!(sql(namespace, slots)? == "2");

    let delete = [
        "delete",
        "branches.bough.dev",
        "--field-selector",
        "spec.id=second",
    ];
    namespace.ask(&delete)?;
    eventually("the end of the second host, with its volume", LIMIT, || {
        let left = ["get", "pods,pvc", "-l", "bough.dev/source", "-o", "name"];
        let left = namespace.ask(&left)?;
        Ok((!left.contains(SECOND) && left.lines().count() == 2).then_some(()))
    })?;
    ensure!(sql(namespace, slots)? == "1", "it follows no more");
    ensure!(stock(user, namespace, "first")? == "11");

    let refused = want(namespace, 9).err().context("nine hosts were taken")?;
    let words = "a source has 1 to 8 hosts";
    ensure!(refused.to_string().contains(words), "{refused}");
    namespace.ask(&["delete", "sources.bough.dev", "inventory"])?;
    drop(Branches(namespace));
    eventually("the end of the source's host", LIMIT, || {
        let left = ["get", "statefulsets", "-l", "bough.dev/host", "-o", "name"];
        Ok(namespace.ask(&left)?.trim().is_empty().then_some(()))
    })
}
