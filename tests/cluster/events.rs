//! What becomes of a branch, as a person reads it with kubectl alone: a condition that can be waited for, and events.

use anyhow::{Result, ensure};
use fixtures::eventually;
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::Stage;

#[test]
fn what_becomes_of_a_branch_is_read_and_waited_for_with_kubectl() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let (user, namespace) = (&stage.user, stage.namespace());
    let create = ["db-branches", "-n", namespace.name(), "create", "try-it"];
    let create = [&create[..], &["--version", "16"]].concat();
    user.run(create, LIMIT)?.success()?;

    let name = namespace.ask(&["get", "branches.bough.dev", "-o", "name"])?;
    let wait = ["wait", "--for=condition=Ready", "--timeout=60s", &name];
    namespace.ask(&wait)?;
    let described = namespace.ask(&["describe", &name])?;
    let who = cluster.who()?;
    for words in [
        &format!("{who} asked for a branch of postgres."),
        "it takes connections in bough-host-16-0",
        "Last Transition Time",
    ] {
        ensure!(described.contains(words), "{described}\nhas no {words:?}");
    }
    ensure!(!described.contains("change-me"), "{described}");

    namespace.ask(&["delete", &name, "--timeout=60s"])?;
    let events = eventually("the event of its end", LIMIT, || {
        let events = namespace.ask(&["get", "events", "-o", "json"])?;
        let events: Value = serde_json::from_str(&events)?;
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let ours = all
            .iter()
            .filter(|it| it["involvedObject"]["kind"] == "Branch");
        let reasons: Vec<String> = ours
            .map(|it| it["reason"].as_str().unwrap_or_default().to_owned())
            .collect();
        Ok(reasons
            .iter()
            .any(|reason| reason == "Deleted")
            .then_some(reasons))
    })?;
    for reason in ["Asked", "Making", "Ready"] {
        let count = events.iter().filter(|it| *it == reason).count();
        ensure!(count >= 1, "{events:?} has no {reason}");
    }
    Ok(())
}
