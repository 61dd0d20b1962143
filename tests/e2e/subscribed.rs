//! A source whose owner publishes everything is followed by a subscription: its branches hold what was committed before
//! they were asked for, a changed definition is in the next branch, and nothing is left on the source.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Options, eventually, sql};
use serde_json::Value;

use crate::story::{ROLE, Story, assert_says, stock};

/// A copy and a snapshot on a busy machine.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(180);

/// A shop whose owner publishes it, and whose role may replicate.
fn published() -> Result<Story> {
    let options = Options::new(16)
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB");
    let story = Story::over(options)?;
    story.source.execute(
        "postgres",
        &format!(
            "ALTER ROLE {ROLE} REPLICATION; GRANT EXECUTE ON FUNCTION pg_control_system() TO {ROLE}"
        ),
    )?;
    story.source.execute(
        ROLE,
        &format!(
            "CREATE PUBLICATION everything FOR ALL TABLES; \
             GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {ROLE}"
        ),
    )?;
    Ok(story)
}

fn base(story: &Story) -> Result<Value> {
    let sources = story.json(&["source", "ls"])?;
    let found = sources.as_array().and_then(|sources| sources.first());
    Ok(found.context("the shop is named")?["base"].clone())
}

/// Waits until the shop's changes arrive.
fn follows(story: &Story) -> Result<()> {
    eventually("a base that follows", BACKGROUND_LIMIT, || {
        let base = base(story)?;
        Ok((base["mode"] == "logical" && base["activity"] == "following").then_some(()))
    })
}

fn slots(story: &Story) -> Result<String> {
    let counted = "SELECT count(*) FROM pg_replication_slots";
    story.source.query_value("postgres", counted)
}

#[test]
fn a_published_source_is_followed_and_nothing_of_ours_stays_there() -> Result<()> {
    let story = published()?;
    let words = ["source", "add", "--name", "shop", "--mode", "logical"];
    story.bough(&words)?.success()?;
    follows(&story)?;
    ensure!(slots(&story)? == "1", "a base has one slot");
    for left in [7, 8] {
        let sale = format!("UPDATE products SET stock_quantity = {left} WHERE product_id = '1'");
        sql::execute(&story.source_url(), &sale)?;
        let id = format!("sold-{left}");
        let url = story.create(&id, &[])?;
        ensure!(stock(&url)?.0 == left, "{id} lacks the sale");
        story.bough(&["db-branches", "destroy", &id])?.success()?;
    }
    // A subscription carries no definitions: the next branch has the column all the same.
    sql::execute(
        &story.source_url(),
        "ALTER TABLE products ADD COLUMN colour text DEFAULT 'red'",
    )?;
    let url = story.create("coloured", &[])?;
    let colour = "SELECT colour FROM products WHERE product_id = '1'";
    let rows = sql::query(&url, colour)?;
    ensure!(rows.len() == 1, "the branch lacks the column");
    eventually("the base is copied again", BACKGROUND_LIMIT, || {
        let base = base(&story)?;
        let told = base["told"].as_str().unwrap_or_default();
        let is_told = told.contains("definitions have changed");
        Ok((is_told && base["activity"] == "following").then_some(()))
    })?;
    ensure!(slots(&story)? == "1", "the slot of the base before is gone");
    story.bough(&["source", "rm", "shop"])?.success()?;
    ensure!(slots(&story)? == "0", "the slot is gone with the source");
    story.end()
}

#[test]
fn a_table_that_nobody_publishes_is_named_and_the_source_is_dumped() -> Result<()> {
    let story = published()?;
    story.source.execute(
        ROLE,
        "DROP PUBLICATION everything; CREATE TABLE apart (id int PRIMARY KEY); \
         CREATE PUBLICATION some_of_it FOR TABLE products",
    )?;
    let words = ["source", "add", "--name", "shop", "--mode", "logical"];
    let added = story.bough(&words)?.success()?;
    ensure!(base(&story)?["activity"] == "dumping");
    assert_says(&added, &["dumped and not followed", "public.apart"])?;
    story.end()
}
