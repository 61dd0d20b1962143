//! `db-branches psql`: the interactive terminal on a branch, in place of this program; below it where this program has to
//! lead there, which it has in a cluster.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use clap::Args;
use model::engine_api::{BranchConnection, BranchView, InstallationView};
use model::pg_url::Address;
use model::{ExitCode, PgMajor, PgUrl};
use tokio::signal::unix::{SignalKind, signal};

use crate::branch_door;
use crate::commands::engines::{self, Whose};
use crate::commands::select;
use crate::error::CommandError;
use crate::readiness::{self, CONNECT_WAIT_MAX};
use crate::session::SIGNAL_BASE;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough db-branches psql try-it
  bough db-branches -n metalmart psql my-session -- -c 'select * from inventory'";

/// Open psql on a branch
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PsqlArgs {
    /// Id or name of a branch
    name: String,

    /// Arguments of psql
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Why psql does not run.
#[derive(Debug, thiserror::Error)]
enum PsqlError {
    /// It is nowhere.
    #[error(
        "no psql was found: neither beside the PostgreSQL servers that the engine found nor on PATH"
    )]
    Absent,
    /// It is there and does not start.
    #[error("cannot run {0}")]
    Exec(PathBuf, #[source] io::Error),
    /// The engine told a connection string that is none.
    #[error("cannot read the connection string that the engine gave")]
    Url(#[source] model::pg_url::PgUrlError),
}

impl From<PsqlError> for CommandError {
    fn from(error: PsqlError) -> Self {
        match error {
            PsqlError::Absent => Self::new(ExitCode::Internal, error)
                .with_hint("install a client, such as Debian's postgresql-client"),
            PsqlError::Exec(..) => Self::new(ExitCode::NotExecutable, error),
            PsqlError::Url(_) => Self::new(ExitCode::Internal, error),
        }
    }
}

pub(super) async fn run(
    args: &PsqlArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let engines = engines::connect(whose, settings, ui).await?;
    let branch = select::select_one(&args.name, &whose.scope, &engines.branches)?;
    let engine = engines.of(branch);
    let host = engine.host.as_ref();
    let there = host.map_or(settings, |host| &host.settings);
    let waiting = readiness::wait_until_ready(there, ui, vec![branch.clone()], CONNECT_WAIT_MAX);
    waiting.await?;
    let way = branch_door::find_way(host, engine.client(), &branch.name, None).await?;
    // A host's are the pod's.
    let installations = match host {
        Some(_) => &[],
        None => engine.running().view.installations.as_slice(),
    };
    let program = find_psql(branch, installations, settings).ok_or(PsqlError::Absent)?;
    let mut command = build_command(&program, &way.connection, settings)?;
    command.args(&args.args);
    if way.is_led {
        return Ok(run_below(program, command).await?);
    }
    // Answers only when it fails.
    let error = command.exec();
    Err(PsqlError::Exec(program, error).into())
}

/// Runs psql while this program leads to the branch; answers with its exit code. Ctrl-C is psql's own.
async fn run_below(program: PathBuf, command: Command) -> Result<u8, PsqlError> {
    let interrupts = signal(SignalKind::interrupt());
    let _ours_is_ignored = interrupts.map_err(|error| PsqlError::Exec(program.clone(), error))?;
    let status = tokio::process::Command::from(command).status().await;
    let status = status.map_err(|error| PsqlError::Exec(program, error))?;
    Ok(code_of(status))
}

/// What a shell would have of it.
fn code_of(status: ExitStatus) -> u8 {
    let signalled = || SIGNAL_BASE + status.signal().unwrap_or_default();
    u8::try_from(status.code().unwrap_or_else(signalled)).unwrap_or(u8::MAX)
}

/// The psql that knows the branch's version best: the oldest that is as new, else the newest, else the one on PATH.
fn find_psql(
    branch: &BranchView,
    installations: &[InstallationView],
    settings: &Settings,
) -> Option<PathBuf> {
    let wanted = branch.version.unwrap_or(PgMajor(0));
    let mut known: Vec<_> = installations.iter().filter(|found| found.psql).collect();
    known.sort_by_key(|found| found.major);
    let best = known
        .iter()
        .find(|found| found.major >= wanted)
        .or(known.last());
    let beside = best.map(|found| Path::new(&found.bin).join("psql"));
    beside.or_else(|| {
        let mut folders = std::env::split_paths(settings.path()?);
        folders.find_map(|folder| Some(folder.join("psql")).filter(|path| path.is_file()))
    })
}

/// psql with the branch's address as its argument and the password in its environment alone.
fn build_command(
    program: &Path,
    connection: &BranchConnection,
    settings: &Settings,
) -> Result<Command, PsqlError> {
    let url = PgUrl::parse(connection.url.reveal()).map_err(PsqlError::Url)?;
    let address = Address {
        host: connection.host.clone(),
        port: connection.port,
    };
    // The way there does not leave this machine, or is encrypted.
    let target = PgUrl::from_parts(&address, &connection.user, None, &connection.database);
    let mut target = target.with_param("sslmode", "disable");
    // Other parameters of the application's URL are for its driver, or demand what a branch need not have.
    if let Some(options) = url.param("options") {
        target = target.with_param("options", &options);
    }
    let mut command = Command::new(program);
    command.arg(target.reveal()).env_clear();
    // The caller's PG* variables speak of another server.
    let inherited = settings
        .environment
        .iter()
        .filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"PG"));
    command.envs(inherited);
    if let Some(password) = url.password() {
        command.env("PGPASSWORD", password.reveal());
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_psql_is_its_own() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (9, 137)] {
            assert_eq!(code_of(ExitStatus::from_raw(raw)), code);
        }
    }
}
