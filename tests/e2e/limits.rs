//! The limits of `engine.toml`: each is set so low that a story comes to it, and sees it kept.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{LoopVolume, eventually, let_pass, sql};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::engine_api::{self, Watch, ensure_branch};
use crate::following::{follow, granting, sell_and_branch, standby, wait};
use crate::reuse::Stopped;
use crate::story::{PASSWORD, ROLE, Story, assert_says, stock};
use crate::traces::{entries, working_in};

/// What happens without anybody's request, on a busy machine; the pool looks around every 15 s.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(90);

/// Longer than what nobody asked for takes to be made, once the engine has begun.
const MAKING_TIME: Duration = Duration::from_secs(3);

pub(crate) fn limit(story: &Story, lines: &str) -> Result<()> {
    fs::create_dir_all(story.data())?;
    fs::write(story.data().join("engine.toml"), lines).context("write the limits")
}

fn count(story: &Story, key: &str) -> Result<u64> {
    let status = story.json(&["engine", "status"])?;
    let count = status["engine"][key].as_u64();
    count.with_context(|| format!("the engine counts {key}"))
}

/// Another database of the shop's server; its URL.
fn ledger(story: &Story) -> Result<String> {
    let make = format!("CREATE DATABASE ledger OWNER {ROLE}");
    story.source.execute("postgres", &make)?;
    Ok(story.source.url(ROLE, PASSWORD, "ledger"))
}

/// Rows of about 130 bytes.
fn ballast(story: &Story, table: &str, rows: u32) -> Result<()> {
    let make = format!(
        "CREATE TABLE {table} AS SELECT n, repeat(md5(n::text), 3) AS text FROM generate_series(1, {rows}) n"
    );
    sql::execute(&story.source_url(), &make)
}

fn add(story: &Story, flags: &[&str]) -> Result<()> {
    let words = ["source", "add", "--name", "shop"];
    story.bough(&[&words, flags].concat())?.success()?;
    Ok(())
}

#[test]
fn a_copy_above_the_limit_waits_for_another_and_says_so() -> Result<()> {
    let story = Story::begin()?;
    limit(&story, "copies_max = 1\nwarm_per_source_max = 0\n")?;
    ballast(&story, "ballast", 12_000)?;
    add(&story, &["--max-rate", "20kB"])?;
    let slow = ensure_branch(&story.data(), "slow", &story.source_url())?;
    Watch::open(&story.data(), &slow)?.until(|branch| branch["progress"]["phase"] == "copying")?;

    let next = ensure_branch(&story.data(), "next", &ledger(&story)?)?;
    let mut next = Watch::open(&story.data(), &next)?;
    let waiting = next.until(|branch| branch["progress"]["phase"] == "waiting")?;
    ensure!(waiting["progress"]["advice"] == "copies_max = 1");
    ensure!(story.branch("slow")?["phase"] == "copying");
    story
        .bough(&["db-branches", "destroy", "slow"])?
        .success()?;
    next.until(|branch| branch["phase"] == "ready")?;
    story.end()
}

#[test]
fn no_more_connections_read_rows_than_the_limit_says() -> Result<()> {
    let story = Story::begin()?;
    limit(&story, "copy_readers_max = 1\nwarm_per_source_max = 0\n")?;
    // Too large to be one reader's together.
    ballast(&story, "ballast", 70_000)?;
    ballast(&story, "more_ballast", 70_000)?;
    add(&story, &["--max-rate", "6MB"])?;
    let name = ensure_branch(&story.data(), "first", &story.source_url())?;
    let readers = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}' AND state = 'active' AND query LIKE 'COPY %'"
    );
    let mut most = 0;
    eventually("a branch", BACKGROUND_LIMIT, || {
        let reading: u32 = story.source.query_value("postgres", &readers)?.parse()?;
        most = reading.max(most);
        let path = format!("/v1/branches/{name}");
        let (_, branch) = engine_api::request(&story.data(), "GET", &path, &Value::Null)?;
        Ok((branch["phase"] == "ready").then_some(()))
    })?;
    ensure!(most == 1, "{most} read at once");
    story.end()
}

#[test]
fn what_nobody_asks_for_any_more_goes() -> Result<()> {
    let story = Story::begin()?;
    limit(&story, "warm_idle_seconds = 6\nbase_idle_seconds = 1\n")?;
    story.create("first", &[])?;
    let counts = |wanted: fn(u64) -> bool| Ok(wanted(count(&story, "warm_clones")?).then_some(()));
    eventually("a warm clone", BACKGROUND_LIMIT, || counts(|n| n > 0))?;
    eventually("its end", BACKGROUND_LIMIT, || counts(|n| n == 0))?;
    let snapshots = story.data().join("volume/snapshots");
    ensure!(entries(&snapshots)?.len() == 1, "the branch stands on it");
    story
        .bough(&["db-branches", "destroy", "first"])?
        .success()?;
    eventually("the copy's end", BACKGROUND_LIMIT, || {
        Ok(entries(&snapshots)?.is_empty().then_some(()))
    })?;
    ensure!(stock(&story.create("again", &[])?)?.0 == 100);
    story.end()
}

#[test]
fn of_a_source_that_moves_the_newest_snapshots_are_kept() -> Result<()> {
    const KEPT: usize = 3;
    let story = granting()?;
    limit(&story, &format!("snapshots_per_source_max = {KEPT}\n"))?;
    follow(&story, &[])?;
    for left in 0..=KEPT {
        let sale = format!("UPDATE products SET stock_quantity = {left} WHERE product_id = '1'");
        sql::execute(&story.source_url(), &sale)?;
        story.bough(&["source", "refresh", "shop"])?.success()?;
    }
    let snapshots = story.data().join("volume/snapshots");
    wait(&story, "the end of the older ones", || {
        Ok((entries(&snapshots)?.len() == KEPT).then_some(()))
    })?;
    // One more may have been on its way out.
    let_pass(MAKING_TIME);
    ensure!(entries(&snapshots)?.len() == KEPT, "fewer are kept");
    ensure!(stock(&story.create("newest", &[])?)?.0 == i64::try_from(KEPT)?);
    story.end()
}

#[test]
fn no_more_followers_wait_than_the_limit_says_and_none_for_longer() -> Result<()> {
    let story = granting()?;
    limit(
        &story,
        "followers_per_source_max = 1\nfollower_seconds_max = 8\n",
    )?;
    follow(&story, &[])?;
    // Enough requests for several to be worth while.
    for round in 0..4 {
        sell_and_branch(&story, &format!("sold-{round}"), 50 - round, "")?;
    }
    let one_waits = || Ok((count(&story, "followers")? == 1).then_some(()));
    wait(&story, "a follower that waits", one_waits)?;
    let first = entries(&story.data().join("volume/clones"))?;
    let_pass(MAKING_TIME);
    ensure!(count(&story, "followers")? <= 1, "one more waits");
    wait(&story, "another in its place", || {
        let now = entries(&story.data().join("volume/clones"))?;
        let is_another = !now.is_empty() && now.iter().all(|name| !first.contains(name));
        Ok(is_another.then_some(()))
    })?;
    story.end()
}

#[test]
fn a_request_waits_for_a_base_that_is_behind_no_longer_than_the_limit_says() -> Result<()> {
    let story = granting()?;
    limit(&story, "replay_wait_seconds_max = 2\n")?;
    follow(&story, &[])?;
    let replay = Stopped::stop(replayer(standby(&story)?)?)?;
    let sale = "UPDATE products SET stock_quantity = 7 WHERE product_id = '1'";
    sql::execute(&story.source_url(), sale)?;
    let refused = story
        .bough(&["db-branches", "create", "behind"])?
        .exit_code(4)?;
    assert_says(&refused.stderr, &["within 2.0 s", "hint:", "--max-age"])?;
    drop(replay);
    story
        .bough(&["db-branches", "destroy", "behind"])?
        .success()?;
    ensure!(stock(&story.create("caught-up", &[])?)?.0 == 7);
    story.end()
}

#[test]
fn what_prepares_a_copy_of_a_followed_source_takes_no_longer_than_the_limit_says() -> Result<()> {
    let story = granting()?;
    limit(&story, "prepare_seconds_max = 2\n")?;
    let file = story.env.home().join("endless.sql");
    fs::write(&file, "SELECT pg_sleep(600)")?;
    let file = file.to_str().context("UTF-8")?;
    let words = ["source", "add", "--name", "shop", "--mode", "physical"];
    story
        .bough(&[&words[..], &["--prepare", file]].concat())?
        .success()?;
    let refused = story
        .bough(&["db-branches", "create", "endless"])?
        .exit_code(4)?;
    let told = ["within 2 s", "hint:", "prepare_seconds_max"];
    assert_says(&refused.stderr, &told)?;
    story.end()
}

/// The process of a standby that replays WAL.
fn replayer(standby: u32) -> Result<i32> {
    let children = fs::read_to_string(format!("/proc/{standby}/task/{standby}/children"))?;
    let found = children.split_whitespace().find(|pid| {
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        title.is_ok_and(|title| title.contains("startup"))
    });
    Ok(found.context("a standby replays")?.parse()?)
}

#[test]
fn nothing_is_kept_warm_where_memory_is_short() -> Result<()> {
    let story = Story::begin()?;
    limit(&story, "memory_floor_bytes = 1000000000000000\n")?;
    add(&story, &["--warm", "2"])?;
    story.bough(&["source", "refresh", "shop"])?.success()?;
    story.create("first", &[])?;
    let_pass(MAKING_TIME);
    ensure!(count(&story, "warm_clones")? == 0);
    ensure!(entries(&story.data().join("volume/clones"))?.len() == 1);
    story.end()
}

/// 64 MB: the filesystem in the file is smaller than what is kept free of a real one.
const FLOOR_BYTES: u64 = 64 << 20;

/// A volume of the story's own, which can be filled.
#[expect(clippy::print_stdout, reason = "a test that is not run says so")]
fn volume(story: &Story, lines: &str) -> Result<Option<LoopVolume>> {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can mount a filesystem in a file");
        return Ok(None);
    }
    limit(story, &format!("free_floor_bytes = {FLOOR_BYTES}\n{lines}"))?;
    let mount_point = story.data().join("volume");
    fs::create_dir_all(&mount_point)?;
    LoopVolume::xfs_on(&mount_point).map(Some)
}

/// Fills a volume until so much is free.
fn fill(volume: &LoopVolume, free_bytes: u64) -> Result<()> {
    let found = statvfs(volume.path())?;
    let free = found.f_bavail * found.f_frsize;
    let taken = free.checked_sub(free_bytes).context("there is less")?;
    let file = fs::File::create(volume.path().join("filler"))?;
    fallocate(file, FallocateFlags::empty(), 0, taken).context("fill the volume")
}

#[test]
fn what_is_kept_warm_goes_first_when_the_disk_is_short() -> Result<()> {
    let story = Story::begin()?;
    let Some(volume) = volume(&story, "")? else {
        return Ok(());
    };
    let url = story.create("first", &[])?;
    let counts = |wanted: fn(u64) -> bool| Ok(wanted(count(&story, "warm_clones")?).then_some(()));
    eventually("a warm clone", BACKGROUND_LIMIT, || counts(|n| n > 0))?;
    // Whoever asks has what is between once and twice the floor.
    fill(&volume, FLOOR_BYTES * 3 / 2)?;
    eventually("its end", BACKGROUND_LIMIT, || counts(|n| n == 0))?;
    ensure!(stock(&url)?.0 == 100, "the branch is none of it");
    story.create("second", &[])?;
    story.end()
}

#[test]
fn a_server_that_waits_for_room_says_so_and_comes_back_with_its_data() -> Result<()> {
    let story = Story::begin()?;
    let Some(volume) = volume(&story, "warm_per_source_max = 0\n")? else {
        return Ok(());
    };
    let url = story.create("first", &[])?;
    sql::execute(&url, "UPDATE products SET stock_quantity = 7")?;
    fill(&volume, 1 << 20)?;
    for (pid, _) in working_in(&volume.path().join("clones"))? {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Some end by themselves when the first one does.
        let _ = kill_process(pid.context("a pid")?, Signal::KILL);
    }
    eventually("a word of it", BACKGROUND_LIMIT, || {
        let told = story
            .bough(&["db-branches", "status", "first"])?
            .success()?;
        Ok(told.contains("waits for room").then_some(()))
    })?;
    fs::remove_file(volume.path().join("filler"))?;
    eventually("its server", BACKGROUND_LIMIT, || {
        let branch = story.branch("first")?;
        Ok((branch["phase"] == "ready" && branch["message"].is_null()).then_some(()))
    })?;
    ensure!(stock(&url)?.0 == 7);
    story.end()
}

#[test]
fn a_copy_that_finds_no_room_has_those_dropped_that_nobody_uses() -> Result<()> {
    let story = Story::begin()?;
    let Some(volume) = volume(&story, "warm_per_source_max = 0\n")? else {
        return Ok(());
    };
    ballast(&story, "ballast", 600_000)?;
    let other = ledger(&story)?;
    story.create("unused", &[])?;
    story
        .bough(&["db-branches", "destroy", "unused"])?
        .success()?;
    let snapshots = story.data().join("volume/snapshots");
    let unused = entries(&snapshots)?;
    ensure!(unused.len() == 1);
    // An empty database alone takes more.
    fill(&volume, FLOOR_BYTES + (32 << 20))?;
    let url = story.create("ledger", &["--source", &other])?;
    ensure!(sql::query_value(&url, "SELECT current_database()")? == "ledger");
    let left = entries(&snapshots)?;
    ensure!(left.len() == 1 && left != unused, "{left:?}");
    story.end()
}
