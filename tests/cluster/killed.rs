//! A session that is killed: its branch stays for its TTL and no longer, the target never notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, Stopwatch, TestEnv, eventually};
use model::engine_api::HEARTBEAT_INTERVAL;
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::{Stage, count_branches};
use crate::walk_through::{product, session_file, start_session};

/// The TTL of the story's branch.
const TTL: Duration = Duration::from_secs(20);

/// From a branch's expiry to its end, on a busy machine.
const DELETED_WITHIN: Duration = Duration::from_secs(40);

/// The branch as its host's engine has it; none once it is gone.
fn branch(user: &TestEnv, namespace: &str) -> Result<Option<Value>> {
    let words = ["db-branches", "-n", namespace, "status", "-o", "json"];
    let status = user.run(words, LIMIT)?.success()?;
    let all: Vec<Value> = serde_json::from_str(&status).context(status)?;
    Ok(all.into_iter().next())
}

#[test]
fn a_killed_session_leaves_its_branch_for_its_ttl_and_nothing_else() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let text = std::fs::read_to_string(&file)?;
    let short = text.replace(
        r#""ttl_secs": 300"#,
        &format!(r#""ttl_secs": {}"#, TTL.as_secs()),
    );
    ensure!(short != text, "{text}");
    std::fs::write(&file, short)?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));

    let killed = Stopwatch::start();
    session.signal(Signal::KILL)?;
    drop(session.finish(LIMIT)?);
    ensure!(product(port).is_err(), "its program goes on");
    ensure!(shop.product("1")?["stock_quantity"] == 100);
    let mut seen = false;
    eventually("the end of the branch", TTL + DELETED_WITHIN, || {
        let left = branch(user, namespace.name())?;
        let Some(left) = left else {
            return Ok(Some(()));
        };
        seen |= left["phase"] == "ready";
        Ok(None)
    })?;
    let stayed = killed.elapsed();
    ensure!(seen, "the branch was gone at once");
    // Its last heartbeat may have been an interval before, and as long as that on its way on a busy machine.
    ensure!(
        stayed >= TTL - 2 * HEARTBEAT_INTERVAL,
        "gone before its TTL, after {stayed:?}"
    );
    eventually("the end of the branch's resource", LIMIT, || {
        Ok((count_branches(namespace)? == 0).then_some(()))
    })?;
    ensure!(shop.product("1")?["stock_quantity"] == 100);
    Ok(())
}
