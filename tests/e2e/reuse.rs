//! A branch lives under its id: found again with its data, refused with another spec, deleted when its time is over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Options, Signal, eventually, let_pass, sql};
use rustix::process::{Pid, kill_process};
use serde_json::json;

use crate::engine_api;
use crate::story::{BRANCH, LIMIT, NAMESPACE, ROLE, Story, assert_says, end_session, said, stock};
use crate::traces::working_in;

/// A session that ends is told at once; the engine acts on it within a moment.
const MOMENT: Duration = Duration::from_secs(20);

/// A crashed session is seen within this time.
const CRASH_SEEN: Duration = Duration::from_secs(15);

#[test]
fn an_id_comes_back_to_its_data() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (session, first_url) = story.start_session(&file)?;
    sql::execute(
        &first_url,
        "UPDATE products SET stock_quantity = 7 WHERE product_id = '1'",
    )?;
    let first = end_session(session)?;
    // The source moves on meanwhile, and that is no reason to lose what the branch holds.
    sql::execute(
        &story.source_url(),
        "UPDATE products SET stock_quantity = 55 WHERE product_id = '1'",
    )?;
    let (session, second_url) = story.start_session(&file)?;
    assert_eq!(
        second_url, first_url,
        "the same address, user, password and database"
    );
    assert_eq!(stock(&second_url)?.0, 7, "the same data");
    let second = end_session(session)?;
    assert_says(&first, &["new"])?;
    assert_says(&second, &["reused"])?;
    assert_eq!(story.branches()?.len(), 1);
    story.end()
}

#[test]
fn another_spec_under_the_same_id_is_refused_showing_both() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    story.run_session(&file, &["true"])?.success()?;
    let schema =
        story.branch_file(|file| file["db_branches"][0]["copy"] = json!({"mode": "schema"}))?;
    let refused = story
        .run_session(&schema, &["touch", "ran"])?
        .exit_code(4)?;
    assert_says(
        &refused.stderr,
        &[
            "error:",
            "hint:",
            BRANCH,
            "ASKED FOR",
            "LIVING",
            "schema",
            "all",
            "differs",
        ],
    )?;
    assert!(!story.env.home().join("ran").exists(), "nothing ran");
    // The same id of another namespace is another branch.
    let elsewhere = story.create(BRANCH, &["--copy", "schema"])?;
    assert_eq!(
        sql::query_value(&elsewhere, "SELECT count(*) FROM products")?,
        "0"
    );
    assert_eq!(story.branches()?.len(), 2);
    story.end()
}

#[test]
fn a_ttl_above_the_maximum_is_refused_naming_it() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|file| file["db_branches"][0]["ttl_secs"] = json!(901))?;
    let refused = story.run_session(&file, &["touch", "ran"])?.exit_code(4)?;
    assert_says(
        &refused.stderr,
        &["error:", "hint:", "900", "ttl_max_seconds"],
    )?;
    assert!(!story.env.home().join("ran").exists(), "nothing ran");
    assert!(story.branches()?.is_empty());
    let most = story.branch_file(|file| file["db_branches"][0]["ttl_secs"] = json!(900))?;
    story.run_session(&most, &["true"])?.success()?;
    story.end()
}

#[test]
fn a_branch_ends_its_ttl_after_its_last_session() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|file| file["db_branches"][0]["ttl_secs"] = json!(2))?;
    let (first, url) = story.start_session(&file)?;
    let (second, _) = story.start_session(&file)?;
    // Longer than the TTL: sessions hold it.
    let_pass(Duration::from_secs(3));
    assert_eq!(stock(&url)?, (100, 0));
    let branch = story.branch(BRANCH)?;
    assert!(branch["expires_at"].is_null(), "{branch}");
    assert_eq!(branch["sessions"].as_array().context("sessions")?.len(), 2);
    end_session(first)?;
    let_pass(Duration::from_secs(3));
    assert_eq!(stock(&url)?, (100, 0), "the other session still holds it");
    let closing = end_session(second)?;
    assert_says(&closing, &["until", BRANCH])?;
    story.wait_gone(BRANCH, MOMENT)?;
    assert!(sql::query(&url, "SELECT 1").is_err(), "its door is closed");
    story.end()
}

#[test]
fn a_killed_session_is_seen() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (mut session, url) = story.start_session(&file)?;
    let program: i32 = said(&session, "pid=")?.parse()?;
    session.signal(Signal::KILL)?;
    let _ = session.finish(MOMENT)?;
    eventually("a branch without sessions", CRASH_SEEN, || {
        let branch = story.branch(BRANCH)?;
        let sessions = branch["sessions"].as_array().context("sessions")?.len();
        Ok((sessions == 0 && branch["expires_at"].is_string()).then_some(()))
    })?;
    assert_eq!(stock(&url)?, (100, 0), "the branch itself is well");
    let extended = [
        "db-branches",
        "-n",
        NAMESPACE,
        "extend",
        BRANCH,
        "--ttl",
        "600",
    ];
    story.bough(&extended)?.success()?;
    // Nobody is left to end the session's program, where it did not end with its parent.
    if let Some(pid) = Pid::from_raw(program) {
        let _ = kill_process(pid, Signal::KILL);
    }
    story.end()
}

/// How long a server may take to be stopped once nobody has connected for a second.
const SLEEP_LIMIT: Duration = Duration::from_secs(30);

fn wait_asleep(story: &Story) -> Result<()> {
    eventually("a branch that sleeps", SLEEP_LIMIT, || {
        let is_asleep = story.branch("sleeper")?["asleep"] == true;
        Ok((is_asleep && working_in(&story.data())?.is_empty()).then_some(()))
    })
}

#[test]
fn a_branch_nobody_connects_to_sleeps_and_wakes_for_the_next_client() -> Result<()> {
    let story = Story::begin()?;
    std::fs::create_dir_all(story.data())?;
    std::fs::write(
        story.data().join("engine.toml"),
        "sleep_after_seconds = 1\nwarm_per_source_max = 0\n",
    )?;
    let url = story.create("sleeper", &[])?;
    sql::execute(&url, "UPDATE products SET stock_quantity = 7")?;
    wait_asleep(&story)?;
    assert_eq!(stock(&url)?.0, 7, "the same data at the same address");
    wait_asleep(&story)?;
    engine_api::kill_engine(&story.data())?;
    story.branches()?;
    assert_eq!(stock(&url)?.0, 7, "another engine wakes it as well");
    wait_asleep(&story)?;
    story
        .bough(&["db-branches", "reset", "sleeper"])?
        .success()?;
    assert_eq!(stock(&url)?.0, 100, "fresh data");
    story
        .bough(&["db-branches", "destroy", "sleeper"])?
        .success()?;
    story.end()
}

/// A process that does nothing until this is dropped.
pub(crate) struct Stopped(Pid);

impl Stopped {
    pub(crate) fn stop(pid: i32) -> Result<Self> {
        let pid = Pid::from_raw(pid).context("a pid of 0")?;
        kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Where it has ended meanwhile, nothing is left to go on.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn a_session_does_not_move_into_a_branch_that_was_made_anew_under_its_id() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (mut session, _) = story.start_session(&file)?;
    story
        .bough(&["db-branches", "-A", "reset", BRANCH])?
        .success()?;
    // A reset is meant: whoever holds the branch goes on with fresh data, heartbeat after heartbeat.
    let_pass(Duration::from_secs(8));
    ensure!(session.ended()?.is_none(), "{}", session.stderr()?);
    // Asleep, it does not notice that its branch is gone before the other one is there.
    let asleep = Stopped::stop(session.id().cast_signed())?;
    story
        .bough(&["db-branches", "-A", "destroy", BRANCH])?
        .success()?;
    let (other, _) = story.start_session(&file)?;
    drop(asleep);
    let said = session.finish(LIMIT)?.exit_code(4)?.stderr;
    assert_says(&said, &["another branch was made under its id"])?;
    end_session(other)?;
    story.end()
}

#[test]
fn a_password_that_changes_while_a_branch_is_made_opens_it() -> Result<()> {
    const NEWER: &str = "n3wer";
    // A source that takes any password: which one is right is the branch's to say.
    let story = Story::over(Options::new(16).auth("trust"))?;
    story.create("first", &[])?;
    // Asks whether the source has moved, by a connection that is then kept for the next question.
    story.create("second", &[])?;
    eventually("a warm clone", LIMIT, || {
        let status = story.json(&["engine", "status"])?;
        Ok((status["engine"]["warm_clones"].as_u64() > Some(0)).then_some(()))
    })?;
    let asker = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}'");
    let asker = story.source.query_value("postgres", &asker)?.parse()?;
    let asker = Stopped::stop(asker)?;
    let (data, older) = (story.data(), story.source_url());
    let made = std::thread::spawn(move || engine_api::ensure_branch(&data, "rotated", &older));
    eventually("a branch that is being made", LIMIT, || {
        let branches = engine_api::branches(&story.data())?;
        Ok(branches
            .iter()
            .any(|branch| branch["id"] == "rotated")
            .then_some(()))
    })?;
    let newer = story.source.url(ROLE, NEWER, ROLE);
    engine_api::ensure_branch(&story.data(), "rotated", &newer)?;
    drop(asker);
    made.join().expect("a request does not panic")?;
    eventually("a branch that is ready", LIMIT, || {
        let ready = story.branch("rotated")?["phase"] == "ready";
        Ok(ready.then_some(()))
    })?;
    let url = story.bough(&["db-branches", "url", "rotated", "--show-password"])?;
    let url = url.success()?;
    assert_says(&url, &[NEWER])?;
    assert_eq!(stock(url.trim())?.0, 100);
    story.end()
}
