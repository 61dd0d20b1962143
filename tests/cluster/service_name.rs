//! A program that has the database's service name written into it, and asks no variable: it reaches its branch too.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, TestEnv};
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::Stage;
use crate::walk_through::{product, session_file, start_session};

/// Takes one of the product, and tells which server did.
const TAKE: &str = "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE product_id = '1'; \
                    SELECT 'in ' || current_setting('cluster_name')";

/// A session of a program that has `host` as a word of its own; gives what it printed, and the session's report.
fn take_at(user: &TestEnv, file: &str, host: &str) -> Result<(String, Value)> {
    let report = user.home().join("report.json");
    let url = format!("postgresql://inventory:change-me@{host}:5432/inventory");
    let psql = fixtures::tool(15, "psql")?;
    let mut session = user.command(["exec", "-f", file, "--report"]);
    session.arg(&report).arg("--").arg(psql);
    session.args(["-XAtq", "-c", TAKE, &url]);
    let said = user.start(session)?.finish(LIMIT)?.success()?;
    let report = std::fs::read(&report).with_context(|| format!("the report of {said}"))?;
    Ok((said, serde_json::from_slice(&report)?))
}

#[test]
fn a_program_with_the_service_s_name_written_into_it_reaches_its_branch() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let name = namespace.name();
    let address = "jsonpath={.spec.clusterIP}";
    let address = namespace.ask(&["get", "service", "postgres", "-o", address])?;
    let hosts = [
        format!("postgres.{name}.svc"),
        "postgres".to_owned(),
        format!("postgres.{name}"),
        format!("postgres.{name}.svc.cluster.local"),
        // What whoever looked the name up once has written down.
        address,
    ];
    let mut servers = Vec::new();
    for host in &hosts {
        let (said, report) = take_at(user, &file, host)?;
        let redirected = &report["branches"][0]["redirected"];
        ensure!(*redirected == 1, "{host}: {report}");
        ensure!(report["branched_databases_untouched"] == true, "{report}");
        servers.push(said);
    }
    servers.dedup();
    let [server] = servers.as_slice() else {
        anyhow::bail!("{hosts:?} are one branch, and not {servers:?}");
    };
    ensure!(
        server.starts_with("in ") && server.trim() != "in",
        "{server}"
    );

    // All of them wrote to the branch, and the shared database has what it had.
    let (mut session, port) = start_session(user, &file)?;
    ensure!(
        product(port)? == (95.into(), 0.into()),
        "{:?}",
        product(port)?
    );
    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)
}
