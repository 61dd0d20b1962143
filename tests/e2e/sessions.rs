//! Sessions as others see them: listed with what they hold, stopped by somebody else, never back after that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually};
use serde_json::Value;

use crate::story::{BRANCH, LIMIT, NAMESPACE, Story, assert_says, end_session, stock};

/// From the word to the end of a program that heeds SIGTERM: a heartbeat, and some for a busy machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

fn listed(story: &Story) -> Result<Vec<Value>> {
    let sessions = story.json(&["session", "-n", NAMESPACE, "ls"])?;
    Ok(sessions.as_array().context("ls is a list")?.clone())
}

fn id_of(session: &Value) -> Result<String> {
    let id = session["id"].as_str().context("a session has an id")?;
    Ok(id.to_owned())
}

#[test]
fn one_of_two_sessions_is_stopped_and_the_other_goes_on() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let none = story.bough(&["session", "-A", "ls"])?.success()?;
    assert_says(&none, &["No session"])?;
    let file = story.branch_file(|_| {})?;
    let (doomed, _) = story.start_session(&file)?;
    let first = id_of(&listed(&story)?[0])?;
    let (other, url) = story.start_session(&file)?;

    let sessions = listed(&story)?;
    ensure!(sessions.len() == 2, "{sessions:?}");
    for session in &sessions {
        ensure!(session["branches"][0]["id"] == BRANCH, "{session}");
        ensure!(session["program"] == "sh", "{session}");
    }
    let unknown = story.bough(&["session", "stop", &first])?.exit_code(1)?;
    assert_says(
        &unknown.stderr,
        &[&first, "namespace default", "bough session ls"],
    )?;

    let stop = ["session", "-n", NAMESPACE, "stop", &first[..12]];
    let told = story.env.run(stop, STOPPED_WITHIN)?.success()?;
    assert_says(&told, &[&first, "has ended"])?;
    let said = doomed.finish(LIMIT)?.exit_code(4)?.stderr;
    assert_says(&said, &["stopped the session", &first, "TTL"])?;

    let sessions = listed(&story)?;
    ensure!(
        sessions.len() == 1 && sessions[0]["id"] != *first,
        "{sessions:?}"
    );
    ensure!(stock(&url)? == (100, 0), "the other one has its branch");
    end_session(other)?;
    story.end()
}

#[test]
fn a_stopped_session_that_slept_does_not_come_back_even_to_another_engine() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (mut session, _) = story.start_session(&file)?;
    let id = id_of(&listed(&story)?[0])?;
    // As a laptop does that was closed.
    session.signal(Signal::STOP)?;
    let told = story.json(&["session", "-n", NAMESPACE, "stop", "--all"])?;
    ensure!(told[0]["id"] == *id, "{told}");
    // It answers nobody: it was given up, as any that falls silent.
    ensure!(told[0]["has_ended"] == true, "{told}");
    story.bough(&["engine", "stop"])?.success()?;
    ensure!(listed(&story)?.is_empty());

    session.signal(Signal::CONT)?;
    let said = session.finish(LIMIT)?.exit_code(4)?.stderr;
    assert_says(&said, &["stopped the session", &id])?;
    ensure!(listed(&story)?.is_empty());
    eventually("the branch under the next engine", LIMIT, || {
        Ok((story.branch(BRANCH)?["phase"] == "ready").then_some(()))
    })?;
    story.end()
}
