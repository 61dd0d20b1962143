//! What is done for a named source: its copies are prepared before anybody has them, kept fresh, and kept running.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{eventually, sql};

use crate::story::{Story, assert_says, stock};
use crate::traces::entries;

/// A copy and two servers, on a busy machine, which nobody waits for.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_copy_is_prepared_before_anybody_has_a_branch_of_it() -> Result<()> {
    let story = Story::begin()?;
    let masks = story.env.home().join("masks.sql");
    fs::write(
        &masks,
        "UPDATE products SET stock_quantity = 1; CREATE TABLE masked (at text); \
         GRANT SELECT ON masked TO PUBLIC",
    )?;
    let file = masks.to_str().context("UTF-8")?;
    story
        .bough(&["source", "add", "--name", "shop", "--prepare", file])?
        .success()?;
    let by_name = story.create("by-name", &["--source", "shop"])?;
    assert_eq!(stock(&by_name)?.0, 1);
    // A URL that leads to the same database means the same source.
    let by_url = story.create("by-url", &[])?;
    assert_eq!(stock(&by_url)?.0, 1);
    assert_eq!(
        sql::query_value(&by_url, "SELECT count(*) FROM masked")?,
        "0"
    );
    assert_eq!(
        stock(&story.source_url())?.0,
        100,
        "the source is as it was"
    );

    fs::write(&masks, "UPDATE products SET no_such_column = 1")?;
    story
        .bough(&["source", "add", "--name", "shop", "--prepare", file])?
        .success()?;
    let refused = story
        .bough(&["db-branches", "create", "late"])?
        .exit_code(4)?;
    assert_says(
        &refused.stderr,
        &["error:", "prepares", "no_such_column", "hint:", "--prepare"],
    )?;
    story
        .bough(&["db-branches", "destroy", "by-name", "by-url", "late"])?
        .success()?;
    story.end()
}

#[test]
fn a_source_is_kept_warm_and_copied_again_before_anybody_asks() -> Result<()> {
    let story = Story::begin()?;
    story
        .bough(&["source", "add", "--name", "shop", "--warm", "2"])?
        .success()?;
    warm(&story, 2)?;
    sql::execute(
        &story.source_url(),
        "UPDATE products SET stock_quantity = 55 WHERE product_id = '1'",
    )?;
    let refreshed = story.bough(&["source", "refresh", "shop"])?.success()?;
    assert_says(&refreshed, &["shop", "2 warm"])?;
    // The clones of the older copy go, those of the new one come.
    let clones = story.data().join("volume/clones");
    let url = eventually("a branch that ran already", BACKGROUND_LIMIT, || {
        warm(&story, 2)?;
        let before = entries(&clones)?;
        let url = story.create("first", &["--source", "shop"])?;
        let branch = story.branch("first")?;
        let identity = branch["identity"].as_str().context("an identity")?;
        let was_warm = before
            .iter()
            .any(|clone| identity.ends_with(clone.as_str()));
        if !was_warm {
            story
                .bough(&["db-branches", "destroy", "first"])?
                .success()?;
        }
        Ok(was_warm.then_some(url))
    })?;
    assert_eq!(stock(&url)?.0, 55, "of the newest copy");
    let refused = story.bough(&["source", "refresh", "none"])?.exit_code(1)?;
    assert_says(&refused.stderr, &["none", "hint:"])?;
    story.end()
}

#[test]
fn a_copy_takes_no_more_than_its_rate() -> Result<()> {
    let story = Story::begin()?;
    sql::execute(
        &story.source_url(),
        "CREATE TABLE ballast AS SELECT n, repeat(md5(n::text), 4) AS text FROM generate_series(1, 12000) n",
    )?;
    story
        .bough(&["source", "add", "--name", "shop", "--max-rate", "400kB"])?
        .success()?;
    let url = story.create("slow", &["--wait-timeout", "120"])?;
    let branch = story.branch("slow")?;
    let at = |key: &str| -> Result<jiff::Timestamp> {
        Ok(branch[key].as_str().context("a time")?.parse()?)
    };
    let seconds = at("ready_at")?.duration_since(at("created_at")?).as_secs();
    // 1.6 MB of rows.
    ensure!(seconds >= 3, "it took {seconds} s");
    assert_eq!(
        sql::query_value(&url, "SELECT count(*) FROM ballast")?,
        "12000"
    );
    story.end()
}

/// Waits until so many clones run that nobody has asked for.
fn warm(story: &Story, count: u64) -> Result<()> {
    eventually("warm clones", BACKGROUND_LIMIT, || {
        let status = story.json(&["engine", "status"])?;
        let warm = status["engine"]["warm_clones"].as_u64();
        Ok((warm.context("a count")? >= count).then_some(()))
    })
}
