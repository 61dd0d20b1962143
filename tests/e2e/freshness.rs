//! A branch holds everything that was committed before it was asked for, or says that it does not; one that runs already
//! is given only where that is so.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::{eventually, sql};

use crate::story::{Story, assert_says, stock};
use crate::traces::entries;

/// A warm clone is made after a quiet moment, on a busy machine.
const WARM_LIMIT: Duration = Duration::from_secs(60);

fn sell(story: &Story, stock: u32) -> Result<()> {
    sql::execute(
        &story.source_url(),
        &format!("UPDATE products SET stock_quantity = {stock} WHERE product_id = '1'"),
    )
}

/// Waits for clones that nobody has asked for; gives the names of all clones.
fn warm(story: &Story) -> Result<BTreeSet<String>> {
    eventually("a warm clone", WARM_LIMIT, || {
        let status = story.json(&["engine", "status"])?;
        let warm = status["engine"]["warm_clones"].as_u64();
        Ok((warm.context("a count")? > 0).then_some(()))
    })?;
    Ok(entries(&story.data().join("volume/clones"))?
        .into_iter()
        .collect())
}

fn clone_of(story: &Story, id: &str) -> Result<String> {
    let branch = story.branch(id)?;
    let identity = branch["identity"].as_str().context("an identity")?;
    let clone = identity.strip_prefix("bough-");
    Ok(clone.context("a clone's identity")?.to_owned())
}

#[test]
fn a_clone_that_runs_already_is_given_where_the_source_has_not_moved() -> Result<()> {
    let story = Story::begin()?;
    story.create("first", &[])?;
    let before = warm(&story)?;
    let url = story.create("second", &[])?;
    assert!(before.contains(&clone_of(&story, "second")?), "it was warm");
    assert_eq!(stock(&url)?, (100, 0));
    sql::execute(&url, "UPDATE products SET stock_quantity = 3")?;

    // What runs already holds the old row.
    let before = warm(&story)?;
    sell(&story, 55)?;
    let url = story.create("third", &[])?;
    assert!(!before.contains(&clone_of(&story, "third")?), "it is new");
    assert_eq!(stock(&url)?.0, 55, "the row that was committed last");
    story
        .bough(&["db-branches", "destroy", "first", "second", "third"])?
        .success()?;
    story.end()
}

#[test]
fn an_older_copy_is_given_only_to_whoever_accepts_its_age() -> Result<()> {
    let story = Story::begin()?;
    story.create("first", &[])?;
    sell(&story, 55)?;
    let old = story.create("old", &["--max-age", "3600"])?;
    assert_eq!(stock(&old)?.0, 100);
    let status = story.bough(&["db-branches", "status", "old"])?.success()?;
    assert_says(&status, &["may have moved"])?;
    assert_eq!(stock(&story.create("young", &["--max-age", "0"])?)?.0, 55);
    assert_eq!(stock(&story.create("fresh", &[])?)?.0, 55);
    story.end()
}

#[test]
fn a_large_source_is_not_copied_by_accident() -> Result<()> {
    let story = Story::begin()?;
    std::fs::create_dir_all(story.data())?;
    std::fs::write(
        story.data().join("engine.toml"),
        "copy_on_request_bytes_max = 1048576\n",
    )?;
    let refused = story
        .bough(&["db-branches", "create", "careless"])?
        .exit_code(4)?;
    assert_says(&refused.stderr, &["error:", "about", "hint:", "--max-age"])?;
    let url = story.create("careful", &["--max-age", "3600"])?;
    assert_eq!(stock(&url)?, (100, 0));
    // It has not moved, so nothing is copied.
    assert_eq!(stock(&story.create("unmoved", &[])?)?, (100, 0));
    story.end()
}
