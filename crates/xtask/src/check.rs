//! `cargo xtask check`: what needs no server. Stops at the first stage that fails.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::Program;

use crate::places::{Places, workspace};
use crate::{command, console, tools};

/// Long enough to fetch the advisories over a slow line; a machine without a way out may not refuse but be silent.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(90);

/// One thing that is checked.
struct Stage {
    name: &'static str,
    run: fn(&Places) -> Result<()>,
}

/// Cheapest first.
const LINTS: [Stage; 5] = [
    Stage {
        name: "format",
        run: |_| cargo(&["fmt", "--all", "--check"]),
    },
    Stage {
        name: "spelling",
        run: spelling,
    },
    Stage {
        name: "licences, origins, bans, advisories",
        run: dependencies,
    },
    Stage {
        name: "clippy",
        run: |_| {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ])
        },
    },
    Stage {
        // `--all-targets` leaves out what a plain `cargo test` does not run.
        name: "clippy of the cluster's stories",
        run: |_| {
            cargo(&[
                "clippy",
                "--workspace",
                "--test",
                "cluster",
                "--",
                "--deny",
                "warnings",
            ])
        },
    },
];

/// Not a part of `check`: what it finds is seldom, and it takes as long as all lints.
const DOCUMENTATION: Stage = Stage {
    name: "documentation",
    run: |_| {
        let mut command = tools::cargo();
        command.args([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]);
        command.env("RUSTDOCFLAGS", "--deny warnings");
        command::run(command.current_dir(workspace()))
    },
};

/// What a module of unit tests is called that starts a PostgreSQL server: `test` runs them.
const ON_A_SERVER: &str = "::on_a_server::";

const UNIT_TESTS: Stage = Stage {
    name: "unit tests, repository rules",
    run: |_| {
        cargo(&[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--test",
            "tidy",
            "--",
            "--skip",
            ON_A_SERVER,
        ])
    },
};

/// The whole verb.
///
/// # Errors
/// When a stage fails: its name, after its own output.
pub(crate) fn run(places: &Places) -> Result<()> {
    lints(places)?;
    run_all(&[UNIT_TESTS], places)?;
    console::result("check: passed")?;
    Ok(())
}

/// The part that runs no test.
///
/// # Errors
/// When a stage fails: its name, after its own output.
pub(crate) fn lints(places: &Places) -> Result<()> {
    run_all(&LINTS, places)
}

/// Whether the documentation of every item is whole: no link in it leads nowhere.
///
/// # Errors
/// With what rustdoc warned of, after its own output.
pub(crate) fn documentation(places: &Places) -> Result<()> {
    run_all(&[DOCUMENTATION], places)
}

fn run_all(stages: &[Stage], places: &Places) -> Result<()> {
    for stage in stages {
        console::note(stage.name);
        (stage.run)(places).with_context(|| format!("{} failed", stage.name))?;
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    command::run(tools::cargo().args(arguments).current_dir(workspace()))
}

fn spelling(places: &Places) -> Result<()> {
    command::run(Command::new(tools::typos(places)?).current_dir(workspace()))
}

fn dependencies(places: &Places) -> Result<()> {
    let deny = tools::cargo_deny(places)?;
    let deny = || {
        let mut command = Command::new(&deny);
        command.current_dir(workspace());
        command
    };
    let mut check = deny();
    check.args(["--workspace", "check", "--hide-inclusion-graph"]);
    if fetch_advisories(deny())? {
        check.args(["--disable-fetch", "advisories"]);
    } else {
        console::note("advisories are not checked: their database cannot be reached from here");
    }
    command::run(check.args(["bans", "licenses", "sources"]))
}

/// Whether the advisory database could be fetched.
fn fetch_advisories(mut deny: Command) -> Result<bool> {
    deny.args(["--workspace", "fetch", "db"]);
    // No question about credentials may wait for an answer.
    deny.env("GIT_TERMINAL_PROMPT", "0");
    let work = tempfile::tempdir().context("create a temporary directory")?;
    let fetch = Program::start(deny, work.path(), "fetch")?;
    Ok(fetch
        .finish(ADVISORIES_LIMIT)
        .is_ok_and(|outcome| outcome.status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            data: "/nonexistent".into(),
            cache: "/nonexistent".into(),
        }
    }

    #[test]
    fn the_first_failing_stage_ends_the_run_by_name() {
        let stages = [
            Stage {
                name: "good",
                run: |_| Ok(()),
            },
            Stage {
                name: "bad",
                run: |_| anyhow::bail!("reason"),
            },
            Stage {
                name: "never",
                run: |_| unreachable!("a stage before it failed"),
            },
        ];
        let error = run_all(&stages, &places()).expect_err("the second fails");
        assert_eq!(format!("{error:#}"), "bad failed: reason");
        run_all(&stages[..1], &places()).expect("the first does not");
    }

    #[test]
    fn a_database_that_cannot_be_fetched_is_told() {
        assert!(!fetch_advisories(Command::new("false")).expect("it ran"));
        assert!(fetch_advisories(Command::new("true")).expect("it ran"));
    }
}
