//! Programs with their usual drivers: Node with `pg`, Python with `psycopg`, a static Go program with `pgx`. Under `exec`
//! each reaches the branch, though none was told of it but by its own `DATABASE_URL`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fixtures::built_binary;
use serde_json::Value;

use crate::story::{BRANCH, Story, stock};

/// What each client takes from the stock of 100.
const TAKEN: i64 = 7;

/// A place that `cargo xtask test` installed a driver at.
pub(crate) fn installed(variable: &str) -> Result<OsString> {
    std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// A client's file in the tree.
pub(crate) fn source_of(language: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("e2e/clients")
        .join(language)
        .join(file)
}

/// Runs a client in a session on the branch: it must see that the stock is what the clients before it left, less what
/// it takes itself; and nothing of it may be in the source.
fn run_client(story: &Story, program: &[&str], left: i64) -> Result<()> {
    let file = story.branch_file(|_| {})?;
    let said = story.run_session(&file, program)?.success()?;
    let said: Value =
        serde_json::from_str(&said).with_context(|| format!("read what it said: {said}"))?;
    let branch = story.branch(BRANCH)?;
    assert_eq!(said["stock"], left, "{program:?}");
    assert_eq!(
        said["cluster_name"], branch["identity"],
        "{program:?} talked to the branch"
    );
    assert_eq!(
        stock(&story.source_url())?,
        (100, 0),
        "the source is untouched"
    );
    Ok(())
}

#[test]
fn node_python_and_static_go_reach_the_branch() -> Result<()> {
    let mut story = Story::begin()?;
    story.deploy_idle()?;
    story
        .env
        .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    let node = source_of("node", "client.js");
    run_client(&story, &["node", text(&node)?], 100 - TAKEN)?;

    let python = PathBuf::from(installed("BOUGH_TEST_PYTHON")?);
    let script = source_of("python", "client.py");
    run_client(&story, &[text(&python)?, text(&script)?], 100 - 2 * TAKEN)?;

    let go = built_binary("BOUGH_TEST_GO_CLIENT")?;
    ensure!(!has_interpreter(&go)?, "{} is static", go.display());
    run_client(&story, &[text(&go)?], 100 - 3 * TAKEN)?;
    story.end()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is text")
}

/// Whether a 64-bit little-endian ELF file asks for a dynamic loader: a program header of type PT_INTERP (elf(5)).
fn has_interpreter(path: &Path) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let bytes = std::fs::read(path)?;
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "{} is such a file",
        path.display()
    );
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at + size).context("the file is cut")?;
        anyhow::Ok(
            field
                .iter()
                .rev()
                .fold(0_usize, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(table + index * size, 4)? == PT_INTERP as usize {
            return Ok(true);
        }
    }
    Ok(false)
}
