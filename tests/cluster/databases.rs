//! Databases in pods: the images of every major version do what the stock images do, as their account.

use anyhow::{Result, ensure};
use fixtures::eventually;
use serde_json::json;

use crate::kubernetes::{Cluster, LIMIT, restricted_pod};

/// One version: a database of the asked name, that lets in who has the password, and nobody else.
fn serves(major: u16) -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace(&format!("postgres-{major}"))?;
    let data = "/var/lib/postgresql/data/pgdata";
    let container = json!({
        "env": [
            { "name": "POSTGRES_USER", "value": "shop" },
            { "name": "POSTGRES_DB", "value": "orders" },
            { "name": "POSTGRES_PASSWORD", "value": "it's secret" },
            { "name": "PGDATA", "value": data },
        ],
        "volumeMounts": [{ "name": "data", "mountPath": "/var/lib/postgresql/data" }],
    });
    let mut pod = restricted_pod("database", &format!("postgres:{major}"), &container);
    pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    namespace.create(&pod)?;
    namespace.wait_ready("database")?;
    let ask = |password: &str, sql: &str| {
        let command = format!(
            r#"PGPASSWORD="{password}" psql -h "$(hostname -i)" -U shop -d orders -Atc "{sql}""#
        );
        namespace.shell("database", &command)
    };
    let version = eventually("an answer of the server", LIMIT, || {
        Ok(ask("it's secret", "SHOW server_version").ok())
    })?;
    ensure!(version.starts_with(&format!("{major}.")), "{version}");
    let answer = ask(
        "it's secret",
        "SELECT current_setting('data_directory'), datcollate FROM pg_database WHERE datname = 'orders'",
    )?;
    ensure!(answer == format!("{data}|en_US.utf8"), "{answer}");
    let refused = ask("wrong", "SELECT 1");
    let refused = refused.expect_err("a wrong password").to_string();
    ensure!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
    let account = namespace.shell("database", "id -un; ps -o user= -p 1 2>/dev/null || id -un")?;
    ensure!(account.lines().all(|line| line == "postgres"), "{account}");
    Ok(())
}

#[test]
fn postgres_15_serves() -> Result<()> {
    serves(15)
}

#[test]
fn postgres_16_serves() -> Result<()> {
    serves(16)
}

#[test]
fn postgres_17_serves() -> Result<()> {
    serves(17)
}

#[test]
fn postgres_18_serves() -> Result<()> {
    serves(18)
}
