//! A branch host that goes: evicted, as a drained node does it, and killed without a word. Its branches come back.

use anyhow::{Result, ensure};
use fixtures::{Program, Signal, eventually};
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::stage::Stage;
use crate::walk_through::{product, session_file, start_session};

const POD: &str = "bough-host-16-0";

/// Which pod it is: another one of the same name has another.
fn identity(namespace: &Namespace<'_>, pod: &str) -> Result<String> {
    namespace.ask(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])
}

/// Asks for the end of a host's pod as `kubectl drain` does, which a budget may refuse; waits for the next one.
pub(crate) fn evict(cluster: &Cluster, namespace: &Namespace<'_>, pod: &str) -> Result<()> {
    let before = identity(namespace, pod)?;
    let name = namespace.name();
    let path = format!("/api/v1/namespaces/{name}/pods/{pod}/eviction");
    let wish = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": name},
    });
    let words = ["create", "--raw", &path, "-f", "-"];
    cluster.tell(&words, &wish.to_string())?;
    eventually("another pod of the host", LIMIT, || {
        let found = identity(namespace, pod).unwrap_or_default();
        Ok((!found.is_empty() && found != before).then_some(()))
    })?;
    namespace.wait_ready(pod)
}

/// Waits until the session's program has this many of the product again, and this many of them reserved.
pub(crate) fn wait_until_back(
    session: &mut Program,
    port: u16,
    (stock, reserved): (u32, u32),
) -> Result<()> {
    eventually("the session's program and its branch", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        Ok((product(port).ok() == Some((stock.into(), reserved.into()))).then_some(()))
    })
}

#[test]
fn branches_outlive_the_eviction_of_their_host_and_are_told_lost_when_it_is_killed() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(user, &file)?;
    let branch = ["db-branches", "-n", namespace.name(), "psql"];
    let sql = "UPDATE products SET stock_quantity = 31 WHERE product_id = '1'";
    let words = ["my-debug-session", "--", "-c", sql];
    user.run([branch.as_slice(), &words].concat(), LIMIT)?
        .success()?;
    ensure!(product(port)? == (31.into(), 0.into()));

    evict(&cluster, namespace, POD)?;
    wait_until_back(&mut session, port, (31, 0))?;

    // Killed without a word, servers leave behind what no recovery can tell from the whole.
    let kill = ["exec", POD, "-c", "engine", "--", "sh", "-c", "kill -9 -1"];
    // The shell is the container's as well, and may or may not live to say how it went.
    let _killed = namespace.ask(&kill);
    let said = session.finish(LIMIT)?.stderr;
    ensure!(said.contains("the branch was lost"), "{said}");
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()), "made anew");
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)
}
