//! Who plays the demo: a user with nothing configured, whose commands are started in an environment of their own and whose
//! waits an interrupt ends.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use fixtures::{Outcome, Program, TestEnv, eventually};

use super::interrupt::Interrupt;
use super::stage::Programs;
use super::transcript::Transcript;
use crate::places::workspace;

/// A command that asks the engine for something small.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// From the end of the commands that end everything to the end of every process.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// The user.
#[derive(Debug)]
pub(super) struct User {
    pub(super) interrupt: Interrupt,
    pub(super) env: TestEnv,
}

impl User {
    /// A user whose `PATH` has the inventory service.
    ///
    /// # Errors
    /// When a home cannot be made.
    pub(super) fn new(programs: &Programs, interrupt: Interrupt) -> Result<Self> {
        let mut env = TestEnv::new(&programs.bough)?;
        let bin = programs.inventory.parent();
        let mut path: OsString = bin.context("a program is in a directory")?.into();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        env.set("PATH", path);
        Ok(Self { interrupt, env })
    }

    /// The directory that names all of it.
    pub(super) fn directory(&self) -> &Path {
        self.env.root()
    }

    /// `bough` with arguments, from the root of the repository.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.env.command(words);
        command.current_dir(workspace());
        apart(&mut command);
        command
    }

    /// Starts a program; its output goes to files.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(&self, command: Command) -> Result<Program> {
        self.env.start(command)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it does not end soon, or an end was asked for.
    pub(super) fn run(&self, command: Command) -> Result<Outcome> {
        self.run_within(command, COMMAND_LIMIT)
    }

    /// As [`User::run`], for what may take longer.
    pub(super) fn run_within(&self, command: Command, limit: Duration) -> Result<Outcome> {
        self.interrupt.finish(self.start(command)?, limit)
    }

    /// Runs `bough` with these arguments, visibly.
    pub(super) fn bough(&self, words: &[&str], transcript: &Transcript) -> Result<Outcome> {
        transcript.command(&format!("bough {}", words.join(" ")))?;
        let outcome = self.run(self.command(words))?;
        transcript.said(&outcome.stdout)?;
        transcript.said(&outcome.stderr)?;
        Ok(outcome)
    }

    /// Checks that no process stays.
    ///
    /// # Errors
    /// With those that do; they are killed when this is dropped.
    pub(super) fn end(self) -> Result<()> {
        // A daemon that has said good-bye may still be on its way out of the kernel.
        let none_left = || Ok(self.env.processes().is_empty().then_some(()));
        eventually("the end of every process", EXIT_LIMIT, none_left)
            .with_context(|| format!("these still run: {:?}", self.env.processes()))
    }
}

/// Out of reach of the terminal's Ctrl-C: who gets that is this program, which ends what it started in order.
pub(super) fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}
