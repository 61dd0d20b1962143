//! A job of the cluster that is a user of Bough itself, by its service account alone: as a pipeline has it that runs there.

use anyhow::{Result, ensure};
use fixtures::eventually;
use serde_json::{Value, json};

use crate::doors::{BRANCHES, EXEC, PODS};
use crate::kubernetes::{Cluster, LIMIT, Namespace, restricted_pod};
use crate::least_rights::FORWARD;
use crate::operator::IMAGE;
use crate::sessions::json as json_of;
use crate::stage::Stage;
use crate::users::{Right, User};

/// What it takes to put an agent beside the shop's deployment.
const AGENTS: [Right<'_>; 2] = [
    ("", &["pods/ephemeralcontainers"], &["patch"]),
    ("apps", &["deployments"], &["get"]),
];

/// Breaks a branch of the shop's database, and says what the branch has and how the session came to it.
const SCRIPT: &str = r#"
set -eu
cd /tmp
cat >branch.json <<'END'
{"target": {"path": {"deployment": "inventory"}},
 "feature": {"network": {"incoming": "off", "outgoing": true}},
 "db_branches": [{"id": "of-a-job", "type": "pg", "version": "16", "ttl_secs": 300, "copy": {"mode": "all"},
                  "connection": {"url": {"type": "env", "variable": "DATABASE_URL"}}}]}
END
bough() { /opt/bough/bough "$@"; }
bough exec --context in-cluster -f branch.json -- bash -c '
    psql "$DATABASE_URL" -Atqc "UPDATE products SET stock_quantity = 1 WHERE product_id = '"'1'"' RETURNING stock_quantity"'
bough db-branches --context in-cluster status
bough db-branches --context in-cluster destroy of-a-job
"#;

/// A job whose pod has the program and runs [`SCRIPT`].
fn job(account: &str) -> Value {
    let mounts = json!([
        {"name": "program", "mountPath": "/opt/bough"}, {"name": "tmp", "mountPath": "/tmp"},
    ]);
    let container = json!({
        "command": ["bash", "-c", SCRIPT],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "BOUGH_AGENT_IMAGE", "value": IMAGE},
        ],
        "volumeMounts": mounts,
    });
    let mut spec = restricted_pod("pipeline", "postgres:16", &container)["spec"].take();
    let mut program = spec["containers"][0].clone();
    program["name"] = json!("program");
    program["image"] = json!(IMAGE);
    program["command"] = json!(["/bough", "operator", "copy-program", "/opt/bough/bough"]);
    spec["initContainers"] = json!([program]);
    spec["serviceAccountName"] = json!(account);
    spec["volumes"] = json!([
        {"name": "program", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
    ]);
    // The default profile keeps a session from looking into its own programs (docs/guide/containers.md).
    spec["securityContext"]["seccompProfile"] = json!({"type": "Unconfined"});
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "pipeline"},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"labels": {"app": "pipeline"}}, "spec": spec,
        }},
    })
}

/// What the job's pod said, once it has ended well.
fn run(namespace: &Namespace<'_>, job: &Value) -> Result<String> {
    namespace.create(job)?;
    let pod = "jsonpath={.items[0].metadata.name}";
    let pod = eventually("the job's pod", LIMIT, || {
        let found = namespace.ask(&["get", "pods", "-l", "app=pipeline", "-o", pod]);
        Ok(found.ok().filter(|name| !name.is_empty()))
    })?;
    namespace.wait_succeeded(&pod)?;
    namespace.ask(&["logs", &pod, "-c", "main"])
}

#[test]
fn a_job_has_its_branch_by_its_service_account_alone() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let namespace = stage.namespace();
    let rights = [&[BRANCHES, EXEC, PODS, FORWARD][..], &AGENTS].concat();
    User::new(&cluster, namespace, "pipeline", &rights)?;
    let said = run(namespace, &job("pipeline"))?;
    let place = format!(
        "context in-cluster (--context), namespace {}, target deployment/inventory",
        namespace.name()
    );
    for words in [&place, "\n1\n", "is deleted."] {
        ensure!(said.contains(words), "{said}\nhas no {words:?}");
    }
    ensure!(stage.shop.product("1")?["stock_quantity"] == 100);
    // Its resource goes when the operator has not heard of it for a while.
    let status = ["db-branches", "-n", namespace.name(), "status"];
    let left = json_of(&stage.user, &status)?;
    ensure!(left == json!([]), "{left}");
    Ok(())
}
