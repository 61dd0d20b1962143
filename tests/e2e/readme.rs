//! The README's commands for one's own database, as they stand there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::built_binary;

use crate::story::{LIMIT, Story, assert_says, stock};

const README: &str = include_str!("../../README.md");

/// The heading over the block.
const HEADING: &str = "## On your own database";

/// What installs the program; here it is built already.
const INSTALL: &str = "cargo install --locked --path crates/cli";

/// The line that a reader changes: its variable.
const URL_LINE: &str = "export BOUGH_SOURCE_URL=";

/// The lines of the first fenced block after a heading.
fn block<'a>(text: &'a str, heading: &str) -> Result<Vec<&'a str>> {
    let (_, after) = text
        .split_once(heading)
        .with_context(|| format!("{heading} is in the README"))?;
    let mut parts = after.split("```");
    parts.next();
    let fenced = parts.next().context("a fenced block follows")?;
    // The first line names the language.
    Ok(fenced.lines().skip(1).collect())
}

#[test]
fn the_block_works_as_it_stands() -> Result<()> {
    let story = Story::begin()?;
    let lines = block(README, HEADING)?;
    assert_eq!(lines.first(), Some(&INSTALL));
    ensure!(
        lines
            .iter()
            .filter(|line| line.starts_with(URL_LINE))
            .count()
            == 1,
        "one line is the reader's own"
    );
    for verb in [
        "bough source add",
        "bough db-branches create",
        "bough db-branches psql",
        "bough db-branches destroy",
    ] {
        ensure!(
            lines.iter().any(|line| line.starts_with(verb)),
            "{verb} is in the block"
        );
    }
    // As a reader types it: line by line in one shell that stops at the first failure.
    let own = lines
        .iter()
        .filter(|line| **line != INSTALL && !line.starts_with(URL_LINE));
    let script = own.fold(String::from("set -ex\n"), |script, line| {
        script + line + "\n"
    });
    let bough = built_binary("BOUGH_BIN")?;
    let directory = bough.parent().context("a program is in a directory")?;
    let shell = shell(&story, directory, &script);
    let outcome = story.env.start(shell)?.finish(LIMIT)?;
    let (stdout, stderr) = (outcome.stdout.clone(), outcome.stderr.clone());
    outcome.success()?;
    assert_says(&stdout, &["is ready", "is deleted"]).with_context(|| stderr)?;
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "whatever psql did, the source is untouched"
    );
    ensure!(
        story.branches()?.is_empty(),
        "the last line took the branch away"
    );
    story.end()
}

fn shell(story: &Story, directory: &Path, script: &str) -> Command {
    let environment = story.env.command::<&str>([]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script])
        .env_clear()
        .current_dir(story.env.home());
    shell.envs(
        environment
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    shell
}

#[test]
fn a_block_is_what_stands_between_its_fences() -> Result<()> {
    let text = "# A\n```sh\nno\n```\n## B\nwords\n```sh\none\ntwo\n```\n";
    assert_eq!(block(text, "## B")?, ["one", "two"]);
    assert!(block(text, "## C").is_err());
    Ok(())
}
