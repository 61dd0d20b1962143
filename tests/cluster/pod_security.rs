//! What works where Pod Security is enforced, by the name of the standard, and what is refused by name before anything
//! starts.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv, http};
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::shop::Shop;
use crate::stage::Stage;
use crate::walk_through::{ORDER, product, session_file, start_session};

/// A session with connections, names and a branch; ephemeral containers there are none before.
fn outgoing_and_branches_work(
    user: &TestEnv,
    shop: &Shop<'_>,
    namespace: &Namespace<'_>,
) -> Result<()> {
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let text = std::fs::read_to_string(&file)?;
    let off = text.replace(r#""incoming": "mirror""#, r#""incoming": "off""#);
    ensure!(off != text, "the shop's file mirrors");
    std::fs::write(&file, off)?;
    let (mut session, port) = start_session(user, &file)?;
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    ensure!(product(port)? == (1.into(), 99.into()));
    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    ensure!(said.contains("through the target's network"), "{said}");
    // By the target: nobody but the cluster's resolver knows the name.
    let reach = "exec 3<>/dev/tcp/kubernetes.default.svc.cluster.local/443";
    let out = json!({"feature": {"network": {"incoming": "off", "outgoing": true}}});
    run(user, namespace, &out, reach)?.success().map(drop)
}

/// Runs a shell's command in the place of the shop's deployment.
fn run(
    user: &TestEnv,
    namespace: &Namespace<'_>,
    file: &serde_json::Value,
    command: &str,
) -> Result<fixtures::Outcome> {
    let path = user.home().join("run.json");
    std::fs::write(&path, file.to_string())?;
    let path = path.to_str().context("UTF-8")?;
    let target = ["exec", "-t", "deployment/inventory", "-n", namespace.name()];
    let program = ["-f", path, "--", "bash", "-c", command];
    user.run([&target[..], &program].concat(), LIMIT)
}

fn ephemeral_containers(namespace: &Namespace<'_>) -> Result<usize> {
    let field = "jsonpath={.items[*].spec.ephemeralContainers[*].name}";
    let words = ["get", "pods", "-l", "app=inventory", "-o", field];
    Ok(namespace.ask(&words)?.split_whitespace().count())
}

fn incoming_is_refused(user: &TestEnv, namespace: &Namespace<'_>, mode: &str) -> Result<()> {
    let before = ephemeral_containers(namespace)?;
    let file = json!({"feature": {"network": {"incoming": mode}}});
    let mark = user.home().join("started");
    let outcome = run(user, namespace, &file, &format!("touch {}", mark.display()))?;
    let said = outcome.exit_code(3)?.stderr;
    ensure!(said.contains("NET_ADMIN"), "{said}");
    ensure!(said.contains(r#""incoming": "off""#), "{said}");
    ensure!(!mark.exists(), "the program ran all the same");
    ensure!(ephemeral_containers(namespace)? == before);
    Ok(())
}

fn under(standard: &str) -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::set(&cluster, &[])?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    let label = format!("pod-security.kubernetes.io/enforce={standard}");
    cluster.ask(&["label", "namespace", namespace.name(), &label])?;
    shop.wait_until_it_answers()?;
    for mode in ["mirror", "steal"] {
        incoming_is_refused(user, namespace, mode)?;
    }
    outgoing_and_branches_work(user, shop, namespace)
}

#[test]
fn restricted_has_connections_and_branches_and_refuses_mirror_and_steal() -> Result<()> {
    under("restricted")
}

#[test]
fn baseline_has_connections_and_branches_and_refuses_mirror_and_steal() -> Result<()> {
    under("baseline")
}
