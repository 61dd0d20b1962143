//! Sessions without target: a pod of their own in the namespace, for connections and names, gone with the session.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually};
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::operator::IMAGE;

/// The pods of the namespace that are sessions' own.
fn own_pods(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let words = ["get", "pods", "-l", "bough.dev/own-pod", "-o", "name"];
    Ok(namespace.ask(&words)?.lines().map(str::to_owned).collect())
}

#[test]
fn a_session_without_target_goes_out_by_a_pod_of_its_own_which_goes_with_it() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut user = cluster.user()?;
    user.set("BOUGH_AGENT_IMAGE", IMAGE);
    let namespace = cluster.namespace("targetless")?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.ask(&["label", "namespace", namespace.name(), label])?;
    let file = user.home().join("targetless.json");
    let target = json!({"path": "targetless", "namespace": namespace.name()});
    std::fs::write(&file, json!({ "target": target }).to_string())?;
    let file = file.to_str().context("UTF-8")?;

    // A name of the cluster alone, and an address of its network alone.
    let reach = "exec 3<>/dev/tcp/kubernetes.default.svc.cluster.local/443 && echo reached && exec sleep 600";
    let words = ["exec", "-f", file, "--", "bash", "-c", reach];
    let mut session = user.start(user.command(words))?;
    let reached = eventually("a connection by the pod", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        Ok(session.stdout()?.contains("reached").then_some(()))
    });
    reached.with_context(|| session.stderr().unwrap_or_default())?;
    ensure!(own_pods(&namespace)?.len() == 1);
    let said = session.stderr()?;
    ensure!(said.contains("this session's own"), "{said}");

    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    eventually("the end of the pod", LIMIT, || {
        Ok(own_pods(&namespace)?.is_empty().then_some(()))
    })?;

    // Who gives up while no node has room for the pod leaves none behind.
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "nowhere"},
        "spec": {"limits": [{"type": "Container", "defaultRequest": {"ephemeral-storage": "1000Ti"}}]},
    });
    namespace.tell(&["create", "-f", "-"], &range.to_string())?;
    let mut session = user.start(user.command(words))?;
    eventually("a pod that waits for a node", LIMIT, || {
        Ok((own_pods(&namespace)?.len() == 1).then_some(()))
    })?;
    session.signal(Signal::INT)?;
    drop(session.finish(LIMIT)?.exit_code(130)?);
    eventually("the end of that pod", LIMIT, || {
        Ok(own_pods(&namespace)?.is_empty().then_some(()))
    })?;
    namespace.ask(&["delete", "limitrange", "nowhere"])?;

    // Nothing to go out by where nothing goes out.
    let quiet = json!({"target": target, "feature": {"network": false}});
    std::fs::write(file, quiet.to_string())?;
    let outcome = user.run(["exec", "-f", file, "--", "true"], LIMIT)?;
    outcome.success()?;
    ensure!(own_pods(&namespace)?.is_empty());
    Ok(())
}
