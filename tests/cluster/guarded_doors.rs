//! The door of a branch, tried by somebody who knows the application's password and where the host's pod is, and has no
//! right to run programs there. The stories' node keeps no network policy: what holds here are the doors themselves.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually, sql};

use crate::doors::PODS;
use crate::kubernetes::{Cluster, LIMIT};
use crate::several_hosts::branches;
use crate::stage::Stage;
use crate::users::{Right, User};

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

const FORWARD: Right<'_> = ("", &["pods/portforward"], &["create", "get"]);

#[test]
fn nobody_reaches_a_branch_by_another_way_than_its_session_s_or_a_command_s() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let (user, namespace) = (&stage.user, stage.namespace());
    let create = ["create", "guarded", "--version", "16"];
    branches(user, namespace, &create)?;
    let (host, port) = eventually("the branch's port", LIMIT, || {
        let both = "jsonpath={.items[0].status.host} {.items[0].status.port}";
        let told = namespace.ask(&["get", "branches.bough.dev", "-o", both])?;
        let (host, port) = told.split_once(' ').unwrap_or_default();
        Ok((!port.is_empty()).then(|| (host.to_owned(), port.to_owned())))
    })?;
    let address = ["get", "pod", &host, "-o", "jsonpath={.status.podIP}"];
    let address = namespace.ask(&address)?;

    // Over the network nothing of the host answers; the same program reaches what does.
    let ready = |host: &str, port: &str| {
        let command = format!("pg_isready -t 10 -h {host} -p {port}");
        namespace.shell("postgres-0", &command)
    };
    ready("postgres", "5432")?;
    ready(&address, &port).expect_err("another pod reaches a branch");

    // Who may forward to the pod's loopback gets to the door, with the right password, and no further.
    let neighbour = User::new(&cluster, namespace, "neighbour", &[PODS, FORWARD])?;
    let way = [
        "-n",
        namespace.name(),
        "port-forward",
        &format!("pod/{host}"),
        &format!(":{port}"),
    ];
    let mut forwarded = neighbour.start(&way)?;
    let local = eventually("the forwarded port", LIMIT, || {
        if let Some(end) = forwarded.ended()? {
            anyhow::bail!("it ended with {end}: {}", forwarded.stderr()?);
        }
        let said = forwarded.stdout()?;
        let port = said.lines().find_map(|line| {
            let (_, rest) = line.split_once("from 127.0.0.1:")?;
            rest.split_once(' ').map(|(port, _)| port.to_owned())
        });
        Ok(port)
    })?;
    let url = format!("postgresql://inventory:change-me@127.0.0.1:{local}/inventory");
    let refused = sql::query_value(&url, STOCK).err();
    let refused = format!("{:#}", refused.context("a neighbour reads a branch")?);
    ensure!(
        refused.contains("nobody without a credential of Bough's"),
        "{refused}"
    );
    forwarded.signal(Signal::INT)?;
    drop(forwarded.finish(LIMIT)?);

    let stock = branches(user, namespace, &["psql", "guarded", "--", "-Atc", STOCK])?;
    ensure!(stock.trim() == "100", "{stock}");
    Ok(())
}
