//! A branch host on the storage that most clusters have, whose filesystem shares no blocks: the same branches, and told.

use anyhow::{Context, Result, ensure};
use fixtures::eventually;

use crate::kubernetes::{Cluster, LIMIT};
use crate::sessions::json;
use crate::stage::Stage;

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

/// A database that PostgreSQL has just made takes more, and no branch of the shop takes as much as the other.
const BRANCH_BYTES: std::ops::Range<u64> = 5_000_000..500_000_000;

#[test]
fn branches_on_a_volume_without_reflinks_are_apart_and_their_kind_and_size_are_told() -> Result<()>
{
    let cluster = Cluster::given()?;
    let mut stage = Stage::set(&cluster, &["--storage-class", "plain"])?;
    stage.shop.wait_until_it_answers()?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    let branches = |words: &[&str]| {
        let words = [&["db-branches", "-n", namespace.name()], words].concat();
        user.run(words, LIMIT)?.success()
    };
    branches(&["create", "one", "--version", "16"])?;
    branches(&["create", "two", "--version", "16"])?;
    let less = "UPDATE products SET stock_quantity = 7 WHERE product_id = '1'";
    branches(&["psql", "one", "--", "-c", less])?;
    let stock_of = |id: &str| branches(&["psql", id, "--", "-Atc", STOCK]);
    ensure!(stock_of("one")?.trim() == "7");
    ensure!(stock_of("two")?.trim() == "100");
    ensure!(shop.product("1")?["stock_quantity"] == 100);

    let standing = json(user, &["operator", "status", "-n", namespace.name()])?;
    let volume = &standing["hosts"][0]["engine"]["volume"];
    let kind = volume["kind"].as_str().context("a kind")?;
    // The latter where the node lets its pods make user namespaces.
    let is_of_copies = ["plain copy", "overlay with copies"].contains(&kind);
    ensure!(is_of_copies && volume["filesystem"] == "xfs", "{standing}");
    let table = ["operator", "status", "-n", namespace.name()];
    let table = user.run(table, LIMIT)?.success()?;
    let row = table.lines().find(|line| line.contains("bough-host-16-0"));
    ensure!(row.is_some_and(|row| row.ends_with(kind)), "{table}");

    // As everybody sees them who has kubectl alone; the size comes with a look of the operator.
    let table = eventually("the sizes of both", LIMIT, || {
        let table = namespace.ask(&["get", "branches.bough.dev", "--sort-by=.spec.id"])?;
        let are_sized = table.lines().skip(1).all(|row| {
            let size = row.split_whitespace().rev().nth(1).unwrap_or_default();
            size.parse().is_ok_and(|size| BRANCH_BYTES.contains(&size))
        });
        Ok(are_sized.then_some(table))
    })?;
    let mut rows = table.lines().map(|row| row.split_whitespace());
    let header: Vec<&str> = rows.next().context("a header")?.collect();
    let columns = ["NAME", "ID", "PHASE", "SESSIONS", "EXPIRES", "SIZE", "AGE"];
    ensure!(header == columns, "{table}");
    for (row, id) in rows.zip(["one", "two"]) {
        let row: Vec<&str> = row.collect();
        ensure!(
            row.len() == columns.len() && row[1..4] == [id, "Ready", "0"],
            "{table}"
        );
        // A moment, as RFC 3339 has it.
        ensure!(row[4].contains('T') && row[4].ends_with('Z'), "{table}");
    }
    Ok(())
}
