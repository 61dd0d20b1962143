//! The commands, one file each, and the one place that chooses among them.
//!
//! A command's file has its arguments and its words; the work is in the module that it calls. A new one is a file here,
//! a variant in `args`, a line in `tests/it/help.rs`, and where mirrord has the verb one in `habits`.

pub(crate) mod agent;
pub(crate) mod alias;
pub(crate) mod completions;
pub(crate) mod db_branches;
pub(crate) mod doctor;
pub(crate) mod engine;
mod engines;
pub(crate) mod exec;
pub(crate) mod local;
pub(crate) mod ls;
pub(crate) mod operator;
pub(crate) mod port_forward;
pub(crate) mod probe;
pub(crate) mod schema;
mod select;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod verify_config;
pub(crate) mod watch_session;

use model::ExitCode;

use crate::args::Command;
use crate::engine_start::{self, RunningEngine};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

/// The engine, started where none runs; says so where it is of another version.
async fn connect_engine(settings: &Settings, ui: &Ui) -> Result<RunningEngine, CommandError> {
    let engine = engine_start::connect(settings).await?;
    if let Some(notice) = engine.version_notice() {
        ui.warn(&notice);
    }
    Ok(engine)
}

/// Runs a command to its end; answers with the program's exit code, which for `exec` is the child's.
pub(crate) async fn run(
    command: &Command,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let exit: ExitCode = match command {
        Command::Exec(args) => return exec::run(args, settings, ui).await,
        Command::DbBranches(args) => return db_branches::run(args, settings, ui).await,
        Command::Session(args) => session::run(args, settings, ui).await?,
        Command::Source(args) => source::run(args, settings, ui).await?,
        Command::Local(args) => local::run(args, settings, ui).await?,
        Command::Ls(args) => {
            ls::run(args, settings, ui).await?;
            ExitCode::Success
        }
        Command::PortForward(args) => port_forward::run(args, settings, ui).await?,
        Command::Operator(args) => operator::run(args, settings, ui).await?,
        Command::Engine(args) => engine::run(args, settings, ui).await?,
        Command::VerifyConfig(args) => verify_config::run(args, settings, ui)?,
        Command::Schema(args) => schema::run(args, ui)?,
        Command::Alias(args) => alias::run(args, settings, ui)?,
        Command::Doctor(args) => doctor::run(args, settings, ui).await?,
        Command::Completions(args) => completions::run(args, settings, ui)?,
        Command::Agent(args) => agent::run(args)?,
        Command::Probe(args) => probe::run(args)?,
        Command::WatchSession(args) => watch_session::run(args)?,
    };
    Ok(exit.into())
}
