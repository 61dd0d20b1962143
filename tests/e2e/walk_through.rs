//! The walk-through: a session on the shared database is seen by everybody, one on a branch of it by nobody else.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TempDir, eventually, http};
use serde_json::Value;

use crate::story::{
    BRANCH, LIMIT, NAMESPACE, Story, TARGET, assert_says, free_port, shop_file, stock,
};

/// A service answers, or finishes its requests, within seconds.
const STEP: Duration = Duration::from_secs(60);

/// The stock of product 1 as a service tells it.
fn told(port: u16) -> Result<(i64, i64)> {
    let response = http::get(port, "/api/inventory/1")?;
    ensure!(response.status == 200, "{response:?}");
    let product: Value = serde_json::from_str(&response.body)?;
    let number = |key: &str| {
        product[key]
            .as_i64()
            .with_context(|| format!("{key} in {product}"))
    };
    ensure!(product["product_id"] == "1", "{product}");
    Ok((number("stock_quantity")?, number("reserved_quantity")?))
}

/// Reserves or releases; gives the answer's status and body.
fn order(port: u16, verb: &str, quantity: u32) -> Result<(u16, Value)> {
    let body = format!(r#"{{"items":[{{"productId":"1","quantity":{quantity}}}]}}"#);
    let response = http::post(port, &format!("/api/inventory/{verb}"), &body)?;
    Ok((response.status, serde_json::from_str(&response.body)?))
}

fn wait_healthy(port: u16) -> Result<()> {
    let healthy = || http::get(port, "/healthz").is_ok_and(|response| response.status == 200);
    eventually("a healthy service", STEP, || Ok(healthy().then_some(())))
}

/// The service in a session with one of the shop's files.
fn start(story: &Story, file: &Path, port: u16) -> Result<Program> {
    let mut session = story
        .env
        .start(story.exec(file, &["inventory", "--port", &port.to_string()]))?;
    // Its log tells; a program that ends meanwhile is shown with all it said.
    session.wait_for(LIMIT, |_, stderr| stderr.contains("listening"))?;
    wait_healthy(port)?;
    Ok(session)
}

/// Ctrl-C: the service's own end, with its own exit code. Gives what the session said.
fn end(mut session: Program) -> Result<String> {
    session.signal(Signal::INT)?;
    Ok(session.finish(STEP)?.exit_code(0)?.stderr)
}

/// A session on the shared database, which everybody sees.
fn first_half(story: &Story, deployed: u16) -> Result<()> {
    let port = free_port()?;
    let session = start(story, &shop_file("inventory.json"), port)?;
    assert_eq!(told(port)?, (100, 0));
    assert_eq!(order(port, "reserve", 50)?.0, 200);
    assert_eq!(told(port)?, (50, 50));
    assert_eq!(told(deployed)?, (50, 50), "everybody sees it");
    assert_eq!(
        stock(&story.source_url())?,
        (50, 50),
        "it is in the shared database itself"
    );
    end(session)?;
    ensure!(story.branches()?.is_empty(), "nobody asked for a branch");
    Ok(())
}

/// A session on a branch, which nobody else sees; `begins` is what the source holds.
fn second_half(story: &Story, deployed: u16, begins: (i64, i64)) -> Result<()> {
    let port = free_port()?;
    let session = start(story, &shop_file("inventory-db-branch.json"), port)?;
    assert_eq!(
        told(port)?,
        begins,
        "the branch holds what the source held when it was asked for"
    );
    let (status, answer) = order(port, "reserve", 99)?;
    let ends = if begins.0 >= 99 {
        assert_eq!(status, 200, "{answer}");
        (begins.0 - 99, begins.1 + 99)
    } else {
        assert_eq!(status, 409, "{answer}");
        assert_eq!(answer["shortfall"][0]["asked"], 99);
        assert_eq!(answer["shortfall"][0]["available"], begins.0);
        begins
    };
    assert_eq!(told(port)?, ends);
    let branch = story
        .bough(&[
            "db-branches",
            "-n",
            NAMESPACE,
            "url",
            BRANCH,
            "--show-password",
        ])?
        .success()?;
    assert_eq!(
        stock(branch.trim())?,
        ends,
        "it is in the branch's database itself"
    );
    assert_eq!(told(deployed)?, begins, "nobody else sees it");
    assert_eq!(
        stock(&story.source_url())?,
        begins,
        "the shared database is untouched"
    );
    let said = end(session)?;
    let address = format!("127.0.0.1:{}", story.source.port());
    assert_says(
        &said,
        &["local", NAMESPACE, TARGET, &address, BRANCH, "every row"],
    )?;
    story
        .bough(&["db-branches", "-n", NAMESPACE, "destroy", BRANCH])?
        .success()?;
    ensure!(story.branches()?.is_empty(), "it is gone");
    assert_eq!(stock(&story.source_url())?, begins);
    Ok(())
}

fn walk(restore: bool) -> Result<()> {
    walk_in(Story::begin()?, restore)
}

fn walk_in(story: Story, restore: bool) -> Result<()> {
    let deployed = free_port()?;
    let port = deployed.to_string();
    story.deploy(&["--port", &port, "--", "inventory", "--port", &port])?;
    wait_healthy(deployed)?;
    first_half(&story, deployed)?;
    let begins = if restore {
        assert_eq!(order(deployed, "release", 50)?.0, 200);
        (100, 0)
    } else {
        (50, 50)
    };
    assert_eq!(stock(&story.source_url())?, begins);
    second_half(&story, deployed, begins)?;
    story.end()
}

#[test]
fn a_branch_is_isolated() -> Result<()> {
    walk(true)
}

#[test]
fn a_branch_holds_what_the_source_held() -> Result<()> {
    walk(false)
}

/// Takes the right to any further namespace away, says so, and stays.
const WITHOUT_NAMESPACES: &str = "for kind in user net; do echo 0 > /proc/sys/user/max_${kind}_namespaces || exit; done; \
     echo ready; exec sleep 100000";

#[test]
fn all_of_it_works_on_a_machine_without_namespaces() -> Result<()> {
    let mut story = Story::begin()?;
    // An account of a user namespace in which there can be no other: to programs in it, the machine has none to give.
    let mut holder = Command::new("unshare");
    holder.args([
        "--user",
        "--map-user=1000",
        "--map-group=1000",
        "--keep-caps",
    ]);
    holder.args(["sh", "-c", WITHOUT_NAMESPACES]);
    let home = TempDir::new()?;
    let mut holder = Program::start(holder, home.path(), "holder")?;
    if let Err(why) = holder.wait_for(STEP, |stdout, _| stdout.contains("ready")) {
        writeln!(
            io::stderr(),
            "NOT RUN: no such machine can be made here: {why:#}"
        )?;
        return story.end();
    }
    let id = holder.id().to_string();
    let enter = [
        "nsenter",
        "--user",
        "--preserve-credentials",
        "--target",
        &id,
    ];
    // Within a namespace of users one has every capability, which ordinary accounts have not.
    story
        .env
        .run_under([&enter[..], &["setpriv", "--inh-caps=-all"]].concat());
    let idle = ["--", "sleep", "100000"];
    let start = ["local", "run", "deployment/other", "-n", NAMESPACE];
    let told = story.bough(&[&start[..], &idle].concat())?.success()?;
    assert_says(
        &told,
        &["the machine's, so that no session mirrors or steals"],
    )?;
    let publish = ["--publish", "18082:8082"];
    let start = ["local", "run", TARGET, "-n", NAMESPACE];
    let refused = story.bough(&[&start[..], &publish, &idle].concat())?;
    ensure!(!refused.status.success(), "{}", refused.stdout);
    assert_says(&refused.stderr, &["error:", "hint:"])?;
    walk_in(story, true)
}
