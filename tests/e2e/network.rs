//! The target's network: what a session's program connects to, looks up and listens on is the target's.

mod clients;
mod families;
mod incoming;
mod last_bytes;
mod load;
mod matrix;
mod own_source;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixtures::Outcome;
use serde_json::{Value, json};

use crate::story::{LIMIT, NAMESPACE, Story, TARGET, assert_says};

/// What a session said, and its report.
struct Session {
    outcome: Outcome,
    report: Value,
}

impl Session {
    /// Connections that were made at the target.
    fn through_target(&self) -> u64 {
        let others = self.report["others"].as_array();
        let counts = others.into_iter().flatten();
        counts
            .filter_map(|one| one["through_target"].as_u64())
            .sum()
    }

    /// Connections to `address` that were begun, and those of them that were made at the target.
    fn reached(&self, address: &str) -> (u64, u64) {
        let others = self.report["others"].as_array();
        let mut others = others.into_iter().flatten();
        let found = others.find(|one| one["address"] == address);
        let count = |key: &str| found.and_then(|one| one[key].as_u64()).unwrap_or(0);
        (count("connections"), count("through_target"))
    }
}

/// A session's file with `network`; its path.
fn network_file(story: &Story, network: &Value) -> Result<PathBuf> {
    let path = story.env.home().join("network.json");
    let (kind, name) = TARGET.split_once('/').context("a target has a kind")?;
    let file = json!({
        "target": {"path": {kind: name}, "namespace": NAMESPACE},
        "feature": {"network": network, "fs": "local"},
    });
    fs::write(&path, file.to_string())?;
    Ok(path)
}

/// Whether a target that was to have a network of its own got none by this machine's fault, which is said loudly.
fn is_not_possible(started: &Outcome) -> Result<bool> {
    let is_refused = started.stderr.contains("a network of its own");
    if is_refused {
        writeln!(io::stderr(), "NOT RUN: {}", started.stderr)?;
    }
    Ok(is_refused)
}

/// Runs a session to its end.
fn run(story: &Story, file: &Path, program: &[&str]) -> Result<Session> {
    run_with(story, file, &[], program)
}

/// The same with these flags.
fn run_with(story: &Story, file: &Path, flags: &[&str], program: &[&str]) -> Result<Session> {
    let report = story.env.home().join("report.json");
    let mut command = story.env.command(["exec", "-f"]);
    command.arg(file).arg("--report").arg(&report);
    command.args(flags).arg("--").args(program);
    let outcome = story.env.start(command)?.finish(LIMIT)?;
    let written = fs::read(&report).with_context(|| format!("a report of {outcome:?}"))?;
    Ok(Session {
        outcome,
        report: serde_json::from_slice(&written)?,
    })
}

#[test]
fn connections_are_made_at_the_target_and_counted_as_the_filter_says() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let server = clients::serve()?;
    let address = server.to_string();
    let url = format!("http://{address}/");
    for (network, through) in [
        (json!({"incoming": "off"}), 1),
        (
            json!({"incoming": "off", "outgoing": {"filter": {"local": [address]}}}),
            0,
        ),
        (
            json!({"incoming": "off", "outgoing": {"filter": {"remote": [address]}}}),
            1,
        ),
        (
            json!({"incoming": "off", "outgoing": {"ignore_localhost": true}}),
            0,
        ),
        (json!({"incoming": "off", "outgoing": false}), 0),
    ] {
        let file = network_file(&story, &network)?;
        let session = run(&story, &file, &["curl", "-sS", &url])?;
        assert_eq!(session.reached(&address), (1, through), "{network}");
        assert_eq!(session.outcome.success()?, clients::PAGE, "{network}");
    }
    story.end()
}

#[test]
fn the_opening_line_says_what_is_in_force_and_that_copies_do_things_twice() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let said = |network: Value| -> Result<String> {
        let file = network_file(&story, &network)?;
        Ok(run(&story, &file, &["true"])?.outcome.exit_code(0)?.stderr)
    };
    assert_says(
        &said(json!(true))?,
        &[
            "TCP, UDP, names through the target's network",
            "mirror: the program gets copies",
            "happens twice",
        ],
    )?;
    let stolen = said(json!({"incoming": "steal", "outgoing": {"udp": false}}))?;
    assert_says(&stolen, &["TCP, names through", "steal: connections"])?;
    ensure!(!stolen.contains("twice"), "{stolen}");
    let off = said(json!(false))?;
    ensure!(!off.contains("through the target"), "{off}");
    story.end()
}

#[test]
fn a_session_whose_target_ends_is_ended_loudly() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let file = network_file(&story, &json!(true))?;
    let script = "echo ready; exec sleep 100000";
    let mut session = story.env.start(story.exec(&file, &["sh", "-c", script]))?;
    session.wait_for(LIMIT, |stdout, _| stdout.contains("ready"))?;
    story
        .bough(&["local", "stop", TARGET, "-n", NAMESPACE])?
        .success()?;
    let ended = session.finish(LIMIT)?.exit_code(3)?;
    assert_says(&ended.stderr, &["the target's network is lost"])?;
    story.end()
}
