//! Targets of the `local` context: processes that stay when the command that started them is gone, and that sessions find.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{eventually, http};

use crate::story::{NAMESPACE, Story, TARGET, assert_says, free_port};

/// A service starts or stops within seconds.
const STEP: Duration = Duration::from_secs(60);

#[test]
fn a_target_survives_its_starter_and_is_listed_logged_and_stopped() -> Result<()> {
    let story = Story::begin()?;
    let none = story.bough(&["local", "ls"])?.success()?;
    ensure!(!none.contains(TARGET), "{none}");
    let port = free_port()?;
    let port_word = port.to_string();
    story.deploy(&[
        "--port",
        &port_word,
        "--env",
        "GREETING=hello",
        "--",
        "inventory",
        "--port",
        &port_word,
    ])?;
    // The command has ended; what it started serves.
    let healthy = || http::get(port, "/healthz").is_ok_and(|answer| answer.status == 200);
    eventually("a healthy target", STEP, || Ok(healthy().then_some(())))?;
    let listed = story.bough(&["local", "ls"])?.success()?;
    assert_says(&listed, &[TARGET, NAMESPACE, &port_word])?;
    let logs = story
        .bough(&["local", "logs", TARGET, "-n", NAMESPACE])?
        .success()?;
    assert_says(&logs, &["listening"])?;

    let seen = story.bough(&[
        "exec",
        "-t",
        TARGET,
        "-n",
        NAMESPACE,
        "--",
        "sh",
        "-c",
        "echo $GREETING $DATABASE_URL",
    ])?;
    let seen = seen.success()?;
    assert_eq!(
        seen.trim(),
        format!("hello {}", story.source_url()),
        "a session has its environment"
    );

    let twice = story.bough(&["local", "run", TARGET, "-n", NAMESPACE, "--", "sleep", "1"])?;
    ensure!(
        !twice.status.success(),
        "one name, one target: {}",
        twice.stdout
    );
    assert_says(&twice.stderr, &["error:", TARGET])?;

    story
        .bough(&["local", "stop", TARGET, "-n", NAMESPACE])?
        .success()?;
    ensure!(!healthy(), "it has stopped");
    let after = story.bough(&["local", "ls"])?.success()?;
    ensure!(!after.contains(TARGET), "{after}");
    let gone = story
        .bough(&["exec", "-t", TARGET, "-n", NAMESPACE, "--", "true"])?
        .exit_code(3)?;
    assert_says(&gone.stderr, &["error:", "hint:", TARGET])?;
    story.end()
}

#[test]
fn the_same_name_in_two_namespaces_is_two_targets() -> Result<()> {
    let story = Story::begin()?;
    for namespace in ["one", "two"] {
        let place = format!("PLACE={namespace}");
        let words = [
            "local", "run", TARGET, "-n", namespace, "--env", &place, "--", "sleep", "100000",
        ];
        story.bough(&words)?.success()?;
    }
    for namespace in ["one", "two"] {
        let seen = story
            .bough(&[
                "exec",
                "-t",
                TARGET,
                "-n",
                namespace,
                "--",
                "sh",
                "-c",
                "echo $PLACE",
            ])?
            .success()?;
        assert_eq!(seen.trim(), namespace);
    }
    story
        .bough(&["local", "stop", TARGET, "-n", "one"])?
        .success()?;
    let left = story.bough(&["local", "ls"])?.success()?;
    ensure!(left.contains("two") && !left.contains("one"), "{left}");
    story.end()
}

#[test]
fn unknown_targets_are_told_with_what_exists() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    for words in [
        &["local", "stop", "deployment/nobody", "-n", NAMESPACE],
        &["local", "logs", "deployment/nobody", "-n", NAMESPACE],
    ] {
        let unknown = story.bough(words)?;
        let code = unknown.status.code().context("it exited")?;
        ensure!(code == 1 || code == 3, "{words:?} exits with {code}");
        assert_says(&unknown.stderr, &["error:", "nobody", TARGET])?;
    }
    story.end()
}

#[test]
fn a_program_that_cannot_start_is_told_at_once() -> Result<()> {
    let story = Story::begin()?;
    let refused = story.bough(&[
        "local",
        "run",
        TARGET,
        "-n",
        NAMESPACE,
        "--",
        "no-such-program",
    ])?;
    ensure!(!refused.status.success(), "{}", refused.stdout);
    assert_says(&refused.stderr, &["error:", "no-such-program"])?;
    let listed = story.bough(&["local", "ls"])?.success()?;
    ensure!(!listed.contains(TARGET), "{listed}");
    story.end()
}

#[test]
fn a_session_starts_no_target() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let bough = fixtures::built_binary("BOUGH_BIN")?;
    let bough = bough.to_str().context("a path is text")?;
    let inner = format!("{bough} local run deployment/second -n {NAMESPACE} -- sleep 100000");
    let file = story.branch_file(|_| {})?;
    let session = story
        .run_session(&file, &["sh", "-c", &inner])?
        .exit_code(3)?;
    assert_says(
        &session.stderr,
        &[
            "error: a target is not started from within a session",
            "hint: start it outside of the session",
        ],
    )?;
    let listed = story.bough(&["local", "ls"])?.success()?;
    ensure!(!listed.contains("deployment/second"), "{listed}");
    story.end()
}
