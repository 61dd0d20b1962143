//! Branches of a cluster without any session: made of a URL that only the cluster knows, opened here, gone again.

use std::time::Duration;

use anyhow::{Result, ensure};
use fixtures::{Signal, eventually, sql};

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::Stage;

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

/// How long one that is asked for while it is being deleted may take: a few looks of the operator, on a busy machine.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_branch_in_a_cluster_is_made_and_opened_from_here() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let source = stage.shop.source();
    stage.user.set("BOUGH_SOURCE_URL", source);
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace().name();
    let branches = |words: &[&str]| {
        let words = [&["db-branches", "-n", namespace], words].concat();
        user.run(words, LIMIT)
    };

    let said = branches(&["create", "try-it"])?.exit_code(2)?.stderr;
    ensure!(said.contains("--version"), "{said}");
    let created = branches(&["create", "try-it", "--version", "16"])?.success()?;
    ensure!(created.contains("psql try-it"), "{created}");
    ensure!(!created.contains("127.0.0.1"), "{created}");

    // The host asks the source from now on.
    branches(&["create", "second"])?.success()?;
    branches(&["destroy", "second"])?.success()?;

    let less = "UPDATE products SET stock_quantity = 7 WHERE product_id = '1'";
    branches(&["psql", "try-it", "--", "-c", less])?.success()?;
    let stock = branches(&["psql", "try-it", "--", "-Atc", STOCK])?.success()?;
    ensure!(stock.trim() == "7", "{stock}");
    let failed = branches(&["psql", "try-it", "--", "-c", "SELECT nonsense"])?;
    ensure!(failed.exit_code(1)?.stderr.contains("nonsense"));

    let words = [
        "db-branches",
        "-n",
        namespace,
        "url",
        "try-it",
        "--show-password",
    ];
    let mut leading = user.start(user.command(words))?;
    let url = eventually("the branch's URL", LIMIT, || {
        if let Some(end) = leading.ended()? {
            anyhow::bail!("it ended with {end}: {}", leading.stderr()?);
        }
        let said = leading.stdout()?;
        Ok(said.ends_with('\n').then(|| said.trim().to_owned()))
    })?;
    ensure!(sql::query_value(&url, STOCK)? == "7");
    leading.signal(Signal::INT)?;
    leading.finish(LIMIT)?.success()?;
    ensure!(
        sql::query_value(&url, STOCK).is_err(),
        "it still leads there"
    );

    // Asked for again while it is being deleted, it is made anew.
    let delete = ["delete", "branches.bough.dev", "--all", "--wait=false"];
    shop.namespace().ask(&delete)?;
    let again = ["db-branches", "-n", namespace, "create", "try-it"];
    user.run(again, AGAIN_WITHIN)?.success()?;
    let stock = branches(&["psql", "try-it", "--", "-Atc", STOCK])?.success()?;
    ensure!(stock.trim() == "100", "{stock}");

    let shared = shop.product("1")?;
    ensure!(shared["stock_quantity"] == 100, "{shared}");
    branches(&["destroy", "try-it"])?.success().map(drop)
}
