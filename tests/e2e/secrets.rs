//! Passwords are where they must be and nowhere else: no process list, log, message or open file has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use fixtures::sql;

use crate::story::{BRANCH, LIMIT, PASSWORD, ROLE, Story, assert_says, end_session};
use crate::traces::all_files;

/// The processes whose command line, which every account can read, holds the password.
fn leaking_processes() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if contains(&command_line, PASSWORD) {
            found.push(String::from_utf8_lossy(&command_line).replace('\0', " "));
        }
    }
    Ok(found)
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

/// Files below `directory` with the password that are a log, or that other accounts can read.
fn leaking_files(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in all_files(directory)? {
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        let is_log = file.extension().is_some_and(|extension| extension == "log");
        let is_open = metadata.permissions().mode() & 0o077 != 0;
        // Sockets cannot be read.
        let Ok(content) = fs::read(&file) else {
            continue;
        };
        if (is_log || is_open) && contains(&content, PASSWORD) {
            found.push(file.display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn nothing_shows_a_password_while_sessions_come_and_go() -> Result<()> {
    let mut story = Story::begin()?;
    story.env.set("RUST_LOG", "trace");
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        // Short-lived programs such as dumps are seen only by one who never stops looking.
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) && seen.is_empty() {
                seen = leaking_processes()?;
            }
            anyhow::Ok(seen)
        });
        let played = play(&story);
        over.store(true, Ordering::Relaxed);
        let seen = watcher.join().expect("no panic");
        played.and(seen)
    })?;
    ensure!(
        seen.is_empty(),
        "a process list shows the password: {seen:?}"
    );
    story.end()
}

fn play(story: &Story) -> Result<()> {
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let (session, url) = story.start_session(&file)?;
    sql::execute(&url, "UPDATE products SET stock_quantity = 3")?;
    let psql = story.bough(&["db-branches", "-A", "psql", BRANCH, "--", "-c", "SELECT 1"])?;
    ensure!(!psql.stderr.contains(PASSWORD), "{}", psql.stderr);
    psql.success()?;
    story
        .bough(&["db-branches", "-A", "reset", BRANCH])?
        .success()?;
    story.bough(&["source", "add"])?.success()?;
    let leaking = leaking_files(&story.data())?;
    ensure!(leaking.is_empty(), "these hold the password: {leaking:?}");
    let said = end_session(session)?;
    ensure!(
        !said.contains(PASSWORD),
        "a session says the password:\n{said}"
    );
    story
        .bough(&["db-branches", "-A", "destroy", BRANCH])?
        .success()?;
    let leaking = leaking_files(&story.data())?;
    ensure!(leaking.is_empty(), "these hold the password: {leaking:?}");
    let catalogue = fs::metadata(story.data().join("catalogue.redb"))?
        .permissions()
        .mode();
    ensure!(
        catalogue & 0o077 == 0,
        "the catalogue's mode is {catalogue:o}"
    );
    Ok(())
}

#[test]
fn errors_show_no_password() -> Result<()> {
    let story = Story::begin()?;
    let port = story.source.port();
    let urls = [
        // A user who does not exist, a port that nobody listens on, and texts that are no URL.
        format!("postgres://nobody:{PASSWORD}@127.0.0.1:{port}/inventory"),
        format!("postgres://inventory:{PASSWORD}@127.0.0.1:1/inventory"),
        format!("postgres://inventory:{PASSWORD}@127.0.0.1:port/inventory"),
        format!("postgres://inventory:{PASSWORD}@[::1/inventory"),
        format!("host=127.0.0.1 port={port} password={PASSWORD} user"),
        format!("mysql://inventory:{PASSWORD}@127.0.0.1/inventory"),
        format!("postgres://inventory:{PASSWORD}@127.0.0.1:{port}/inventory?sslmode=require"),
    ];
    for url in &urls {
        for words in [
            &["db-branches", "create", "x"][..],
            &["source", "add", "--name", "x"],
        ] {
            let mut command = story.env.command(words);
            command.env("BOUGH_SOURCE_URL", url);
            let refused = story.env.start(command)?.finish(LIMIT)?;
            ensure!(!refused.status.success(), "{words:?} took {url}");
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert_says(&said, &["error:"])?;
            ensure!(!said.contains(PASSWORD), "{words:?} says:\n{said}");
        }
    }
    let log = fs::read_to_string(story.data().join("engine.log"))?;
    ensure!(!log.contains(PASSWORD), "the engine's log says:\n{log}");
    story.end()
}

#[test]
fn a_password_among_arguments_is_warned_of() -> Result<()> {
    let story = Story::begin()?;
    // Another password: the story above looks for its own in every process of the machine.
    let word = "shown-by-mistake";
    story.source.execute(
        "postgres",
        &format!("CREATE ROLE careless LOGIN PASSWORD '{word}'"),
    )?;
    let url = story.source.url("careless", word, ROLE);
    let warned = story.bough(&["source", "add", &url, "--name", "careless"])?;
    assert_says(&warned.stderr, &["warning:", "hint:", "BOUGH_SOURCE_URL"])?;
    ensure!(!warned.stderr.contains(word), "{}", warned.stderr);
    warned.success()?;
    story.end()
}
