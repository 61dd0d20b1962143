//! One run of the program: an environment of its own, a played engine, output with what differs from run to run masked.

use std::process::Command;
use std::time::Duration;

use fixtures::{Outcome, TestEnv};

use crate::fake_engine::FakeEngine;

/// Longer than any command of these tests may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A user with a played engine.
pub(crate) struct Harness {
    pub(crate) env: TestEnv,
    pub(crate) engine: FakeEngine,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let env = environment();
        let engine = FakeEngine::start(&env.data_directory());
        Self { env, engine }
    }

    /// Runs `bough` with words that spaces keep apart.
    pub(crate) fn run(&self, line: &str) -> Outcome {
        run(&self.env, line)
    }

    /// Runs a command of [`Harness::command`].
    pub(crate) fn finish(&self, command: Command) -> Outcome {
        self.env.start(command).unwrap().finish(LONG).unwrap()
    }

    /// `bough` with words that spaces keep apart, to be changed further.
    pub(crate) fn command(&self, line: &str) -> Command {
        self.env.command(line.split_whitespace())
    }

    /// What a run printed, as one text for snapshots.
    pub(crate) fn show(&self, outcome: &Outcome) -> String {
        show(&self.env, outcome)
    }
}

/// A user without an engine.
pub(crate) fn environment() -> TestEnv {
    let mut env = TestEnv::new(env!("CARGO_BIN_EXE_bough")).unwrap();
    env.set("USER", "ada");
    env
}

/// Runs `bough` in `env`.
pub(crate) fn run(env: &TestEnv, line: &str) -> Outcome {
    env.run(line.split_whitespace(), LONG).unwrap()
}

/// What a run printed, with the environment's paths masked.
pub(crate) fn show(env: &TestEnv, outcome: &Outcome) -> String {
    let Outcome {
        status,
        stdout,
        stderr,
        ..
    } = outcome;
    let code = status
        .code()
        .map_or_else(|| status.to_string(), |code| code.to_string());
    let text = format!("exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}");
    let text = text.replace(&env.root().display().to_string(), "[ROOT]");
    mask_times(&text)
}

/// Spans before `ago` and after `in`, which depend on when the test runs.
fn mask_times(text: &str) -> String {
    let span = r"\d+ (?:d|h|min|s)(?: \d+ (?:h|min|s))?";
    let ago = regex::Regex::new(&format!("{span} ago")).unwrap();
    let ahead = regex::Regex::new(&format!("in {span}")).unwrap();
    let masked = ago.replace_all(text, "[TIME] ago");
    let masked = ahead.replace_all(&masked, "in [TIME]");
    // Where a span stands within a table, it is a column's width that depends on it.
    let gap = regex::Regex::new(r"(\S) {2,}").unwrap();
    match masked.contains("[TIME] ago  ") {
        true => gap.replace_all(&masked, "$1  ").into_owned(),
        false => masked.into_owned(),
    }
}
