//! The second wall around branch hosts: a network policy that is there, is about the hosts, leaves open what they need, and
//! goes with them. Whether a policy is kept is the cluster's network's to do: the stories' node has a bridge, which keeps none.

use anyhow::{Result, ensure};
use fixtures::eventually;
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::several_hosts::{branches, create, make};
use crate::shop::sql;
use crate::sources::{grant_replication, wait_until};
use crate::stage::{Branches, Stage};

/// The stateful set of the source's hosts, and its policy.
const SET: &str = "bough-source-inventory";

fn policy(namespace: &Namespace<'_>) -> Result<Value> {
    let text = namespace.ask(&["get", "networkpolicy", SET, "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn hosts_stand_behind_a_wall_with_a_door_to_their_source_which_goes_with_them() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::set(&cluster, &["--network-policy", "both"])?;
    stage.shop.wait_until_it_answers()?;
    let (user, namespace) = (&stage.user, stage.namespace());
    grant_replication(namespace)?;
    make(namespace, Some(2))?;
    wait_until(namespace, "inventory", "following", LIMIT)?;
    let spec = policy(namespace)?["spec"].clone();
    ensure!(
        spec["policyTypes"] == json!(["Ingress", "Egress"]),
        "{spec}"
    );
    ensure!(spec["ingress"].is_null(), "{spec}");
    let ports = json!([
        {"ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"},
            {"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"},
        ]},
        {"ports": [{"port": 5432, "protocol": "TCP"}]},
    ]);
    ensure!(spec["egress"] == ports, "{spec}");
    let labels = spec["podSelector"]["matchLabels"].as_object().cloned();
    let labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let within = namespace.ask(&["get", "pods", "-l", &labels.join(","), "-o", "name"])?;
    let hosts = [format!("pod/{SET}-0"), format!("pod/{SET}-1")];
    ensure!(within.lines().eq(hosts), "{within}");

    // What somebody takes down stands again, and what the source says is what stands.
    namespace.ask(&["delete", "networkpolicy", SET])?;
    let other = json!({"spec": {"addresses": [
        {"host": "postgres", "port": 5432}, {"host": "postgres", "port": 6432},
    ]}});
    let patch = [
        "patch",
        "sources.bough.dev",
        "inventory",
        "--type=merge",
        "-p",
    ];
    namespace.ask(&[&patch[..], &[&other.to_string()]].concat())?;
    eventually("the wall with another door", LIMIT, || {
        let found = policy(namespace).unwrap_or_default();
        Ok((found["spec"]["egress"][1]["ports"][1]["port"] == 6432).then_some(()))
    })?;
    create(user, namespace, "within")?;
    let words = ["psql", "within", "--", "-Atc", "SELECT 1"];
    ensure!(branches(user, namespace, &words)?.trim() == "1");

    namespace.ask(&["delete", "sources.bough.dev", "inventory"])?;
    drop(Branches(namespace));
    eventually("the end of the wall", LIMIT, || {
        let left = namespace.ask(&["get", "networkpolicies,statefulsets", "-o", "name"])?;
        Ok((!left.contains(SET)).then_some(()))
    })?;
    let slots = sql(namespace, "SELECT count(*) FROM pg_replication_slots")?;
    ensure!(slots == "0", "{slots} slots are left on the source");
    Ok(())
}
