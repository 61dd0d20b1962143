//! A branch host whose volume is full: who comes next is refused with the numbers, and who is there goes on.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually, http};
use serde_json::Value;

use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::shop::sql;
use crate::stage::Stage;
use crate::walk_through::{ORDER, product, session_file, start_session};

/// A command in the host's pod.
fn in_host(namespace: &Namespace<'_>, script: &str) -> Result<String> {
    let exec = ["exec", "bough-host-16-0", "-c", "engine", "--"];
    namespace.ask(&[&exec[..], &["sh", "-euc", script]].concat())
}

/// The resource of the branch of this id.
fn resource(namespace: &Namespace<'_>, id: &str) -> Result<Value> {
    let selector = format!("--field-selector=spec.id={id}");
    let found = namespace.ask(&["get", "branches.bough.dev", &selector, "-o", "json"])?;
    let found: Value = serde_json::from_str(&found)?;
    Ok(found["items"][0].clone())
}

#[test]
fn a_full_host_refuses_with_the_numbers_and_the_branches_that_run_go_on() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::set(
        &cluster,
        &["--storage-class", "small", "--storage-size", "1Gi"],
    )?;
    stage.shop.wait_until_it_answers()?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let (user, namespace) = (&stage.user, stage.namespace());
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));

    let create = |id: &str, more: &[&str]| {
        let create = ["db-branches", "-n", namespace.name(), "create", id];
        user.run([&create[..], &["--version", "16"], more].concat(), LIMIT)
    };
    create("first", &[])?.success()?;

    // Below the floor of 256 MB, by what somebody else wrote.
    let fill = "free=$(df --output=avail -B1 /var/lib/bough | tail -1); \
                fallocate -l $((free - 200000000)) /var/lib/bough/filler";
    in_host(namespace, fill)?;
    // The snapshot that is there will do, and clones of it are kept warm.
    let any_age = ["--max-age", "600"];
    let told = create("of-snapshot", &any_age)?.exit_code(4)?.stderr;
    for words in ["no room for the branch", "268 MB stay free", "MB free"] {
        ensure!(told.contains(words), "{told}\nhas no {words:?}");
    }
    let status = eventually("the refusal in the status", LIMIT, || {
        let status = resource(namespace, "of-snapshot")?["status"].clone();
        Ok((status["phase"] == "Failed").then_some(status))
    })?;
    let message = status["message"].as_str().context("a message")?;
    ensure!(message.contains("no room for the branch"), "{message}");
    // A source that has moved would be copied.
    let moved = "UPDATE products SET stock_quantity = 77 WHERE product_id = '1'";
    sql(namespace, moved)?;
    let told = create("of-copy", &[])?.exit_code(4)?.stderr;
    let words = "are free above the floor of 268 MB";
    ensure!(told.contains(words), "{told}\nhas no {words:?}");
    let reserved = http::post(port, "/api/inventory/reserve", ORDER)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    ensure!(product(port)? == (1.into(), 99.into()));

    // As soon as there is room again, whoever asks has it.
    in_host(namespace, "rm /var/lib/bough/filler")?;
    create("of-copy", &[])?.success()?;
    ensure!(product(port)? == (1.into(), 99.into()));
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)
}
