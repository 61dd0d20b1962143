//! The walk-through of the README, on a cluster: the shop's own file, and the shared database asked through the
//! cluster's service.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, built_binary, eventually, http, pick_port};
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::{Stage, count_branches};

/// The order that leaves one of the product.
pub(crate) const ORDER: &str = r#"{"items":[{"productId":"1","quantity":99}]}"#;

/// The shop's file of this name, byte for byte but for the namespace.
pub(crate) fn session_file(user: &TestEnv, name: &str, namespace: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let file = root.context("the tests are below the root")?;
    let file = file.join("demo/metalmart/.mirrord").join(name);
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.matches(r#""namespace": "metalmart""#).count() == 1);
    let path = user.home().join(name);
    std::fs::write(&path, text.replace("metalmart", namespace))?;
    Ok(path.to_str().context("UTF-8")?.to_owned())
}

/// The service as a session of `file`, answering on a port of this machine.
pub(crate) fn start_session(user: &TestEnv, file: &str) -> Result<(Program, u16)> {
    // Sessions that begin at once each have one of their own: a program whose port is taken is led to another one.
    let port = pick_port()?;
    let service = built_binary("INVENTORY_BIN")?;
    let service = service.to_str().context("UTF-8")?;
    let port_word = port.to_string();
    let words = ["exec", "-f", file, "--", service, "--port", &port_word];
    let mut session = user.start(user.command(words))?;
    eventually("a session that answers", LIMIT, || {
        if let Some(end) = session.ended()? {
            anyhow::bail!("it ended with {end}: {}", session.stderr()?);
        }
        Ok(http::get(port, "/healthz")
            .is_ok_and(|answer| answer.status == 200)
            .then_some(()))
    })?;
    Ok((session, port))
}

/// What of the product is in stock and reserved, as the service on a port says.
pub(crate) fn product(port: u16) -> Result<(Value, Value)> {
    let answer = http::get(port, "/api/inventory/1")?;
    let product: Value = serde_json::from_str(&answer.body)?;
    Ok((
        product["stock_quantity"].clone(),
        product["reserved_quantity"].clone(),
    ))
}

#[test]
fn a_branch_is_broken_and_the_shared_database_answers_what_it_answered_before() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace().name();

    let file = session_file(user, "inventory-db-branch.json", namespace)?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    ensure!(product(port)? == (1.into(), 99.into()));
    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    session.signal(Signal::TERM)?;
    let said = session.finish(LIMIT)?.stderr;
    ensure!(said.contains("my-debug-session"), "{said}");

    // The same id is the same branch.
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (1.into(), 99.into()));
    session.signal(Signal::TERM)?;
    drop(session.finish(LIMIT)?);
    ensure!(count_branches(shop.namespace())? == 1);
    let destroy = ["db-branches", "-n", namespace, "destroy"];
    user.run([&destroy[..], &["my-debug-session"]].concat(), LIMIT)?
        .success()?;
    eventually("the end of the branch's resource", LIMIT, || {
        Ok((count_branches(shop.namespace())? == 0).then_some(()))
    })
}
