//! The demo's shop, from its plain manifests (`demo/metalmart/k8s`), asked through its service.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::eventually;
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT, Namespace};

/// The shop in a namespace of the story's own.
pub(crate) struct Shop<'a> {
    cluster: &'a Cluster,
    namespace: Namespace<'a>,
}

impl<'a> Shop<'a> {
    pub(crate) fn open(cluster: &'a Cluster) -> Result<Self> {
        let namespace = cluster.namespace("shop")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let manifests = root.context("the tests are below the root")?;
        let manifests = manifests.join("demo/metalmart/k8s");
        // The namespace's rules first.
        for (file, named) in [
            ("namespace.yaml", "name: metalmart"),
            ("database.yaml", "namespace: metalmart"),
            ("inventory.yaml", "namespace: metalmart"),
        ] {
            let text = fs::read_to_string(manifests.join(file))?;
            ensure!(text.contains(named), "{file} has no {named:?}");
            let key = named.trim_end_matches("metalmart");
            let text = text.replace(named, &format!("{key}{}", namespace.name()));
            cluster.tell(&["apply", "-f", "-"], &text)?;
        }
        Ok(Self { cluster, namespace })
    }

    /// Waits until it answers; tells of its first product.
    pub(crate) fn wait_until_it_answers(&self) -> Result<Value> {
        eventually("an answer of the shop", LIMIT, || {
            Ok(self.product("1").ok())
        })
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &Namespace<'a> {
        &self.namespace
    }

    /// Its database, as pods of the cluster reach it; the file with the shop's Secret says so.
    pub(crate) fn source(&self) -> String {
        let namespace = self.namespace.name();
        format!("postgresql://inventory:change-me@postgres.{namespace}:5432/inventory")
    }

    /// Where the API server passes requests on to the shop's service.
    fn path(&self, of: &str) -> String {
        let namespace = self.namespace.name();
        format!("/api/v1/namespaces/{namespace}/services/inventory:http/proxy/api/inventory/{of}")
    }

    /// A product, as the service answers.
    pub(crate) fn product(&self, id: &str) -> Result<Value> {
        let answer = self.cluster.ask(&["get", "--raw", &self.path(id)])?;
        serde_json::from_str(&answer).context("read the answer")
    }
}

/// What the shop's database says.
pub(crate) fn sql(namespace: &Namespace<'_>, statement: &str) -> Result<String> {
    let psql = ["psql", "-U", "inventory", "-Atc", statement];
    namespace.ask(&[&["exec", "postgres-0", "--"], psql.as_slice()].concat())
}

#[test]
fn the_shop_answers_through_its_service() -> Result<()> {
    let cluster = Cluster::given()?;
    let shop = Shop::open(&cluster)?;
    let product = shop.wait_until_it_answers()?;
    ensure!(product["product_id"] == "1", "{product}");
    ensure!(product["stock_quantity"] == 100, "{product}");
    ensure!(product["reserved_quantity"] == 0, "{product}");
    let order = r#"{"items":[{"productId":"1","quantity":50}]}"#;
    let reserve = shop.path("reserve");
    cluster.tell(&["create", "--raw", &reserve, "-f", "-"], order)?;
    let product = shop.product("1")?;
    ensure!(product["stock_quantity"] == 50, "{product}");
    // What the service says stands in the database.
    let stored = "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = '1'";
    let stored = sql(&shop.namespace, stored)?;
    ensure!(stored == "50|50", "{stored}");
    Ok(())
}
