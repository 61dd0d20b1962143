//! What sessions need of pods: names, a container beside the target's, a kubelet that asks who comes.

use anyhow::{Context, Result, ensure};
use fixtures::eventually;
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, restricted_pod};

#[test]
fn a_pod_finds_services_by_name() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("names")?;
    let sleeping = json!({ "command": ["sleep", "infinity"] });
    namespace.create(&restricted_pod("asker", "postgres:16", &sleeping))?;
    namespace.wait_ready("asker")?;
    let address = "jsonpath={.spec.clusterIP}";
    let service = [
        "get",
        "service",
        "kubernetes",
        "-n",
        "default",
        "-o",
        address,
    ];
    let expected = cluster.ask(&service)?;
    for name in ["kubernetes.default", "kubernetes.default.svc.cluster.local"] {
        let found = namespace.shell("asker", &format!("getent ahostsv4 {name}"))?;
        let found = found.split_whitespace().next();
        ensure!(found == Some(expected.as_str()), "{name}: {found:?}");
    }
    let unknown = namespace.shell("asker", "getent hosts nobody.default");
    unknown.expect_err("there is no such service");
    Ok(())
}

/// As agents are placed: in the target's network and beside its processes.
#[test]
fn an_ephemeral_container_sees_its_target() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("ephemeral")?;
    let target = json!({ "command": ["sleep", "infinity"] });
    namespace.create(&restricted_pod("target", "postgres:16", &target))?;
    namespace.wait_ready("target")?;
    namespace.ask(&[
        "debug",
        "target",
        "--image=postgres:16",
        "--image-pull-policy=IfNotPresent",
        "--target=main",
        "--profile=restricted",
        "--container=agent",
        "--",
        "bash",
        "-c",
        "tr '\\0' ' ' </proc/1/cmdline; hostname -i",
    ])?;
    let address = namespace.ask(&["get", "pod", "target", "-o", "jsonpath={.status.podIP}"])?;
    let said = eventually("the container's words", LIMIT, || {
        let log = namespace.ask(&["logs", "target", "-c", "agent"]);
        Ok(log.ok().filter(|log| log.contains(&address)))
    })?;
    ensure!(said.starts_with("sleep infinity"), "{said}");
    Ok(())
}

/// Whoever may speak to a kubelet as anybody runs commands in any pod.
#[test]
fn the_kubelet_answers_nobody_unknown() -> Result<()> {
    let cluster = Cluster::given()?;
    let field = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
    let address = cluster.ask(&["get", "nodes", "-o", field])?;
    let node = format!("https://{address}:10250");
    let refused = cluster.ask_as_nobody(&node, "/pods");
    let refused = refused.err().context("the kubelet answered")?.to_string();
    ensure!(refused.contains("provide credentials"), "{refused}");
    Ok(())
}
