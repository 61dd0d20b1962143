//! The node's kubelet and container runtime die under a session and are started again: pods run on, and the session comes
//! back to the branch as it was.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, http};

use crate::evictions::wait_until_back;
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::stage::Stage;
use crate::walk_through::{ORDER, product, session_file, start_session};

/// Kills a component of the node and waits until it answers again.
fn restart(component: &str) -> Result<()> {
    let xtask = std::env::var_os("BOUGH_TEST_XTASK")
        .context("BOUGH_TEST_XTASK is not set: run `cargo xtask test --cluster`")?;
    let mut restart = Command::new(xtask);
    let output = restart.args(["cluster", "restart", component]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "restart {component}: {said}");
    Ok(())
}

/// Every container of the namespace with how often it was started: what runs on is never started again.
fn containers(namespace: &Namespace<'_>) -> Result<String> {
    let of = "jsonpath={range .items[*].status.containerStatuses[*]}{.containerID} {.restartCount}{\"\\n\"}{end}";
    namespace.ask(&["get", "pods", "-o", of])
}

/// Waits until the session's program has its branch again, and the target's clients have their answers.
fn wait_until_whole(stage: &Stage<'_>, session: &mut Program, port: u16) -> Result<()> {
    wait_until_back(session, port, (1, 99))?;
    let shared = stage.shop.wait_until_it_answers()?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    Ok(())
}

#[test]
fn a_session_outlives_the_node_s_kubelet_and_container_runtime() -> Result<()> {
    let cluster = Cluster::given_alone()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(user, &file)?;
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    let before = containers(namespace)?;

    for component in ["kubelet", "containerd"] {
        restart(component)?;
        wait_until_whole(&stage, &mut session, port)
            .with_context(|| session.stderr().unwrap_or_default())
            .with_context(|| format!("after the end of {component}"))?;
    }
    ensure!(containers(namespace)? == before, "{before}");

    // Who comes by the id finds the branch, as does who comes once the first session is over.
    let (mut joined, other) = start_session(user, &file)?;
    ensure!(product(other)? == (1.into(), 99.into()));
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    ensure!(said.contains("nothing got past the fence"), "{said}");
    ensure!(product(other)? == (1.into(), 99.into()));
    joined.signal(Signal::TERM)?;
    joined.finish(LIMIT).map(drop)
}
