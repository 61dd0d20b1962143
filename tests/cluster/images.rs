//! Our own image, as a strict cluster runs it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::kubernetes::{Cluster, restricted_pod};

#[test]
fn bough_runs_without_rights_on_a_root_that_nothing_writes_to() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("image")?;
    let container = json!({
        "args": ["--version"],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
    });
    let mut pod = restricted_pod("bough", "localhost/bough:dev", &container);
    // As the image's own account.
    pod["spec"]["securityContext"] = json!({
        "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    namespace.create(&pod)?;
    namespace.wait_succeeded("bough")?;
    let said = namespace.ask(&["logs", "bough"])?;
    ensure!(said.starts_with("bough "), "{said}");
    Ok(())
}
