//! One `exec`, start to end: prepared, its branches had and proven, its program run, its end told.
//!
//! Owns the order of the steps and that nothing runs unless each has succeeded. `prepare` reads file, context and
//! target; `branches` asks for what the file names and waits; `environment` makes the program's; `proof` logs in by
//! it; `membership` holds the branches meanwhile; `lines` says it all. Leaves the program to `supervisor`.

mod branches;
mod environment;
mod lines;
mod membership;
mod prepare;
mod proof;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Environment, TargetChoice};
use model::{ExitCode, Namespace};
use supervisor::{
    Child, Command, Output, STOP_GRACE, Signals, SignalsError, SpawnError, StopReason,
};

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;
use branches::ReadyBranch;
use membership::{Membership, SessionLoss};
use prepare::Plan;

pub(crate) use prepare::surroundings;
pub(crate) use proof::ProofError;

/// What shells add to a signal's number (POSIX, Shell Command Language, 2.8.2).
const SIGNAL_BASE: i32 = 128;

/// What the command line says of a session.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// The target, in place of the file's.
    pub(crate) target: Option<TargetChoice>,
    /// The namespace, in place of the file's.
    pub(crate) namespace: Option<Namespace>,
    /// The context, in place of the file's.
    pub(crate) context: Option<String>,
    /// The session's key, in place of the file's.
    pub(crate) key: Option<String>,
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
}

/// The program could not be started or stood in for.
#[derive(Debug, thiserror::Error)]
#[error("cannot stand between the program and its signals")]
struct SignalsFailure(#[source] SignalsError);

impl From<SpawnError> for CommandError {
    fn from(error: SpawnError) -> Self {
        let exit = error.exit_code();
        Self::new(exit, error)
    }
}

/// Runs a session to its end; answers with the exit code, which is the program's own.
///
/// # Errors
/// [`CommandError`] when nothing ran, or when the session lost a branch and ended the program for it.
pub(crate) async fn run(
    request: &Request<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let plan = prepare::prepare(request, settings, ui)?;
    let mut signals = Signals::install()
        .map_err(|error| CommandError::new(ExitCode::Internal, SignalsFailure(error)))?;
    let mut membership = Membership::new(settings, program_name(request.command));
    let result = live(&plan, request, &mut membership, &mut signals, settings, ui).await;
    // Whatever happened, the session is over: its branches' TTL starts.
    let left = membership.leave().await;
    if result.is_ok() {
        lines::closing(&plan, left.as_deref(), crate::clock::now())
            .iter()
            .for_each(|line| ui.note(line));
    }
    result
}

async fn live(
    plan: &Plan,
    request: &Request<'_>,
    membership: &mut Membership<'_>,
    signals: &mut Signals,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let made = tokio::select! {
        made = make(plan, membership, settings, ui) => made?,
        signal = signals.interrupted() => {
            return Ok(u8::try_from(SIGNAL_BASE + signal).unwrap_or(u8::MAX));
        }
    };
    lines::opening(plan, &made.branches, crate::clock::now())
        .iter()
        .for_each(|line| ui.note(line));
    let command = Command {
        program: request.command[0].clone(),
        args: request.command[1..].to_vec(),
        env: made.environment,
        cwd: plan.directory.clone(),
        output: Output::Inherit,
    };
    let holds = !made.branches.is_empty();
    supervise(command, holds, membership, signals, ui).await
}

/// What a program needs to run: its branches, and an environment that is proven to lead to them.
struct Made {
    branches: Vec<ReadyBranch>,
    environment: Environment,
}

async fn make(
    plan: &Plan,
    membership: &mut Membership<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<Made, CommandError> {
    let branches = branches::obtain(plan, membership, settings, ui).await?;
    let environment = environment::make(plan, &branches)?;
    for branch in &branches {
        let id = branch.view.id.as_str();
        let connection = &branch.planned.wanted.connection;
        let identity = &branch.connection.identity;
        proof::prove(id, identity, connection, &environment).await?;
    }
    Ok(Made {
        branches,
        environment,
    })
}

async fn supervise(
    command: Command,
    holds: bool,
    membership: &Membership<'_>,
    signals: &mut Signals,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let mut child = Child::spawn(command, signals)?;
    let loss = tokio::select! {
        end = child.wait(signals) => return Ok(end.exit_code()),
        loss = membership.keep(), if holds => loss,
    };
    ui.warn(&format!("{loss}; ending the program"));
    child
        .stop_handle()
        .stop(StopReason::SessionLost, STOP_GRACE);
    child.wait(signals).await;
    Err(loss.into())
}

impl From<SessionLoss> for CommandError {
    fn from(loss: SessionLoss) -> Self {
        let hint = match &loss {
            SessionLoss::Deleted(_) => "the same command makes it anew",
            SessionLoss::Failed { .. } | SessionLoss::Engine(_) => {
                "`bough engine logs` shows what the engine did"
            }
        };
        Self::new(ExitCode::Branch, loss).with_hint(hint)
    }
}

/// The program's own name, without its folder and arguments, which may hold secrets.
fn program_name(command: &[OsString]) -> String {
    let program = command.first().map(Path::new);
    let name = program.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}
