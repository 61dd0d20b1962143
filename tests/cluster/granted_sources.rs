//! A `Source` for those alone who are granted it: who is not is refused, by whichever of its server's names he asks.

use anyhow::{Result, ensure};
use fixtures::eventually;
use serde_json::json;

use crate::doors::{BRANCHES, EXEC, PODS};
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::several_hosts::branches;
use crate::sources::{grant_replication, wait_until};
use crate::stage::Stage;
use crate::users::{Right, User};

const FORWARD: Right<'_> = ("", &["pods/portforward"], &["create", "get"]);
const SOURCES: Right<'_> = ("bough.dev", &["sources"], &["get", "list"]);

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

/// Somebody who may have branches here.
fn user<'a>(cluster: &'a Cluster, namespace: &Namespace<'_>, name: &str) -> Result<User<'a>> {
    let rights = [BRANCHES, EXEC, PODS, FORWARD, SOURCES];
    User::new(cluster, namespace, name, &rights)
}

/// Grants the source, and no other one, to a user.
fn grant(namespace: &Namespace<'_>, user: &str) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let api = format!("{group}/v1");
    let subject = json!({"kind": "ServiceAccount", "name": user, "namespace": namespace.name()});
    namespace.create(&json!({
        "apiVersion": api, "kind": "Role", "metadata": {"name": "use-inventory"},
        "rules": [{
            "apiGroups": ["bough.dev"], "resources": ["sources"], "verbs": ["use"], "resourceNames": ["inventory"],
        }],
    }))?;
    namespace.create(&json!({
        "apiVersion": api, "kind": "RoleBinding", "metadata": {"name": "use-inventory"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "use-inventory"}, "subjects": [subject],
    }))
}

/// Asks for a branch, and is refused in these words.
fn refused(user: &User<'_>, namespace: &Namespace<'_>, words: &[&str], told: &str) -> Result<()> {
    let branches = ["db-branches", "-n", namespace.name()];
    let refusal = user.env.run([&branches[..], words].concat(), LIMIT)?;
    let said = refusal.exit_code(4)?.stderr;
    ensure!(said.contains(told), "{said}\nhas no {told:?}");
    Ok(())
}

#[test]
fn a_source_that_is_granted_gives_branches_to_who_may_use_it_and_nobody_else() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let namespace = stage.namespace();
    let (alice, mut bob) = (
        user(&cluster, namespace, "alice")?,
        user(&cluster, namespace, "bob")?,
    );
    grant_replication(namespace)?;
    namespace.create(&json!({
        "apiVersion": "bough.dev/v1alpha1", "kind": "Source", "metadata": {"name": "inventory"},
        "spec": {
            "connection": {"name": "database", "key": "url"}, "version": 16, "follow": "physical",
            "addresses": [{"host": "postgres", "port": 5432}], "storage": {"size": "1Gi"},
            "access": "granted",
        },
    }))?;
    wait_until(namespace, "inventory", "following", LIMIT)?;

    let create = ["create", "hers", "--source", "inventory"];
    let told = format!("{} may not have branches of the source inventory", bob.name);
    // The API server takes a moment to see a new source.
    eventually("the policy's word", LIMIT, || {
        Ok(refused(&bob, namespace, &create, &told).ok())
    })?;
    let told_her = format!("{} may not have", alice.name);
    refused(&alice, namespace, &create, &told_her)?;
    grant(namespace, "alice")?;
    eventually("the role's effect", LIMIT, || {
        let branches = ["db-branches", "-n", namespace.name()];
        let made = alice.env.run([&branches[..], &create].concat(), LIMIT)?;
        Ok(made.status.success().then_some(()))
    })?;
    let stock = ["psql", "hers", "--", "-Atc", STOCK];
    let stock = branches(&alice.env, namespace, &stock)?;
    ensure!(stock.trim() == "100", "{stock}");
    let host = "jsonpath={.items[?(@.spec.id=='hers')].status.host}";
    let host = namespace.ask(&["get", "branches.bough.dev", "-o", host])?;
    ensure!(host == "bough-source-inventory-0", "{host}");

    // Neither hers, nor by a name that the API server does not know it by.
    refused(&bob, namespace, &create, &told)?;
    refused(&bob, namespace, &["extend", "hers", "--ttl", "400"], &told)?;
    let name = namespace.name();
    let url = format!("postgresql://inventory:change-me@postgres.{name}.svc:5432/inventory");
    bob.env.set("BOUGH_SOURCE_URL", url);
    let other = ["create", "his", "--version", "16"];
    let told = format!("postgres.{name}.svc:5432 is not among them");
    refused(&bob, namespace, &other, &told)?;
    namespace
        .ask(&["delete", "sources.bough.dev", "inventory"])
        .map(drop)
}
