//! Claims on the node's storage classes, and what their filesystems can do, as an account without rights.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::kubernetes::{Cluster, restricted_pod};

/// A pod with a claim of a class tells whether a copy there shares its blocks.
fn shares_blocks(class: &str) -> Result<bool> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace(class)?;
    namespace.create(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    }))?;
    let container = json!({
        "command": ["sleep", "infinity"],
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    let mut pod = restricted_pod("writer", "postgres:16", &container);
    let claim = json!({ "claimName": "data" });
    pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
    namespace.create(&pod)?;
    namespace.wait_ready("writer")?;
    let written = namespace.shell("writer", "head -c 100000 /dev/zero >/data/one && id -u")?;
    ensure!(written == "999", "{written}");
    let copied = namespace.shell("writer", "cp --reflink=always /data/one /data/two");
    match copied {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("failed to clone") => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn the_class_reflink_shares_blocks() -> Result<()> {
    ensure!(shares_blocks("reflink")?);
    Ok(())
}

#[test]
fn the_class_plain_does_not() -> Result<()> {
    ensure!(!shares_blocks("plain")?);
    Ok(())
}
