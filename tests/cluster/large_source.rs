//! A source of some size: copied once, for whoever is the first; everybody else's branch costs a moment and no room. The
//! times are printed, for `--only large_source`; `BOUGH_TEST_SOURCE_GB=5` has them for 5 GB.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Stopwatch, TestEnv, eventually};
use serde_json::Value;

use crate::evictions::evict;
use crate::kubernetes::{Cluster, LIMIT, Namespace};
use crate::sessions::{ids, json};
use crate::shop::sql;
use crate::stage::Stage;

/// How many GB the source has, in full ones.
const SIZE: &str = "BOUGH_TEST_SOURCE_GB";

/// Without it: enough to tell a copy from none.
const DEFAULT_MB: u64 = 200;

/// Rows of the table for each MB: eight of them fill a page of 8 kB.
const ROWS_A_MB: u64 = 1024;

/// Filling and copying: at least this many MB a second, on a busy machine.
const SLOWEST_MB_A_SECOND: u64 = 2;

const HOST: &str = "bough-host-16-0";

fn megabytes() -> Result<u64> {
    let Some(size) = std::env::var_os(SIZE) else {
        return Ok(DEFAULT_MB);
    };
    let size = size.to_str().and_then(|size| size.parse::<u64>().ok());
    Ok(size.with_context(|| format!("{SIZE} is no whole number"))? * 1024)
}

/// Fills the shop's database with a table of this many rows.
fn fill(namespace: &Namespace<'_>, rows: u64) -> Result<()> {
    let table =
        "CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, note text NOT NULL)";
    let rows = format!(
        "INSERT INTO orders SELECT n, 'new', repeat(md5(n::text), 30) FROM generate_series(1, {rows}) n"
    );
    for statement in [table, &rows, "ANALYZE orders", "CHECKPOINT"] {
        sql(namespace, statement)?;
    }
    Ok(())
}

/// The engine of the host.
fn engine(namespace: &Namespace<'_>) -> Result<Value> {
    let exec = ["exec", HOST, "-c", "engine", "--"];
    let status = ["/opt/bough/bough", "engine", "status", "-o", "json"];
    let status = namespace.ask(&[&exec[..], &status].concat())?;
    let status: Value = serde_json::from_str(&status).with_context(|| status.clone())?;
    Ok(status["engine"].clone())
}

fn wait_for_warm(namespace: &Namespace<'_>) -> Result<()> {
    eventually("a warm clone", LIMIT, || {
        let warm = engine(namespace)?["warm_clones"].as_u64();
        Ok(warm.is_some_and(|warm| warm > 0).then_some(()))
    })
}

/// Makes a branch; gives the time until it was there, as its user waits for it, and checks that its last row is there and
/// can be written.
fn create(
    user: &TestEnv,
    namespace: &str,
    id: &str,
    rows: u64,
    limit: Duration,
) -> Result<Duration> {
    let branches = ["db-branches", "-n", namespace];
    let wait = limit.as_secs().to_string();
    let create = ["create", id, "--version", "16", "--ttl", "900"];
    let asked = Stopwatch::start();
    let words = [&branches[..], &create, &["--wait-timeout", &wait]].concat();
    user.run(words, limit + LIMIT)?.success()?;
    let took = asked.elapsed();
    let last = format!("UPDATE orders SET status = '{id}' WHERE id = {rows} RETURNING status");
    let psql = ["psql", id, "--", "-qAtc", &last];
    let said = user
        .run([&branches[..], &psql].concat(), LIMIT)?
        .success()?;
    ensure!(said.trim() == id, "{said}");
    Ok(took)
}

#[test]
fn a_large_source_is_copied_once_and_its_branches_take_a_moment_and_no_room() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let (user, namespace) = (&stage.user, stage.namespace());
    let size = megabytes()?;
    let rows = size * ROWS_A_MB;
    fill(namespace, rows)?;

    let limit = LIMIT + Duration::from_secs(size / SLOWEST_MB_A_SECOND);
    let make = |id: &str| create(user, namespace.name(), id, rows, limit);
    let first = make("first")?;
    wait_for_warm(namespace)?;
    let warm = make("warm")?;
    // A host that has just come up keeps no clone: nobody has asked it for one.
    evict(&cluster, namespace, HOST)?;
    let status = engine(namespace)?;
    ensure!(status["warm_clones"] == 0, "{status}");
    let cold = make("cold")?;
    let status = engine(namespace)?;
    ensure!(status["bases"] == 1, "{status}");
    let branches = json(user, &["db-branches", "-n", namespace.name(), "status"])?;
    ensure!(ids(&branches).len() == 3, "{branches}");
    for branch in branches.as_array().into_iter().flatten() {
        let own = branch["disk_bytes"].as_u64().context("bytes of its own")?;
        ensure!(
            own >> 20 < size / 4,
            "of {size} MB its own are {own} bytes: {branch}"
        );
    }
    // What was written to one is in no other, nor in the source.
    let count = "SELECT count(*) FROM orders WHERE status <> 'new'";
    ensure!(sql(namespace, count)? == "0");

    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let (first, warm, cold) = (seconds(first), seconds(warm), seconds(cold));
    println!("a source of {size} MB: first branch {first}, warm {warm}, cold {cold}");
    Ok(())
}
