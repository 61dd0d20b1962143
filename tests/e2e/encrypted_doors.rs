//! Branches of a source whose URL demands TLS, met outside a session: their doors speak it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::{Outcome, TempDir};
use serde_json::Value;

use crate::clients::{installed, source_of};
use crate::fence::encrypted::with_tls;
use crate::fence::matrix::encrypting;
use crate::story::{LIMIT, Story, stock};

/// A program that is told a URL, and knows nothing of Bough.
fn run(story: &Story, url: &str, program: &[String]) -> Result<Outcome> {
    let (first, rest) = program.split_first().context("a program has a name")?;
    let mut command = Command::new(first);
    command.args(rest).env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    command
        .env("HOME", story.env.home())
        .env("DATABASE_URL", url);
    story.env.start(command)?.finish(LIMIT)
}

#[test]
fn a_branch_of_a_source_that_wants_tls_speaks_it_to_every_driver() -> Result<()> {
    let home = TempDir::new()?;
    let mut story = Story::over(with_tls(&home)?)?;
    story.env.set(
        "BOUGH_SOURCE_URL",
        format!("{}?sslmode=require", story.source_url()),
    );
    let url = story.create("own", &[])?;
    ensure!(url.ends_with("?sslmode=require"), "{url}");
    let plain = url.trim_end_matches("?sslmode=require");

    let mut left = 100;
    let python = installed("BOUGH_TEST_PYTHON")?;
    let python = python.to_str().context("a path is text")?.to_owned();
    let libpq = vec![
        python,
        source_of("python", "client.py").display().to_string(),
    ];
    let mut clients = encrypting()?;
    clients.push((
        "without a question",
        libpq,
        "sslmode=require&sslnegotiation=direct",
    ));
    for (name, program, demand) in clients {
        let ran = run(&story, &format!("{plain}?{demand}"), &program)?;
        let said = ran.success().with_context(|| name.to_owned())?;
        let said: Value = serde_json::from_str(&said).with_context(|| format!("{name}: {said}"))?;
        left -= 7;
        assert_eq!(said["stock"], left, "{name}");
        let place = said["cluster_name"].as_str().context("it says where")?;
        ensure!(place.starts_with("bough-"), "{name} is in {place:?}");
    }
    // Whoever asks for nothing is let in as well.
    assert_eq!(stock(plain)?.0, left);
    assert_eq!(stock(&story.source_url())?.0, 100, "the source stays");
    story.end()
}
