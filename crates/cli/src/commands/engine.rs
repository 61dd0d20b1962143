//! `bough engine`: the daemon that owns bases and branches.

mod borrow;
mod logs;
mod pipe;
mod repair;
mod run;
mod status;
mod stop;
mod volume;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough engine status
  bough engine logs -f
  bough engine stop --servers

Every command that needs the engine starts it.";

/// Look at the engine that owns the branches, or stop it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EngineArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(status::StatusArgs),
    Stop(stop::StopArgs),
    Logs(logs::LogsArgs),
    Repair(repair::RepairArgs),
    Volume(volume::VolumeArgs),
    #[command(hide = true)]
    Borrow(borrow::BorrowArgs),
    #[command(hide = true)]
    Pipe(pipe::PipeArgs),
    #[command(hide = true)]
    Run(run::RunArgs),
}

impl EngineArgs {
    /// Whether this process is to be the engine itself.
    pub(crate) fn is_engine(&self) -> bool {
        matches!(self.verb, Verb::Run(_))
    }
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &EngineArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    match &args.verb {
        Verb::Status(args) => status::run(args, settings, ui).await?,
        Verb::Stop(args) => stop::run(args, settings, ui).await?,
        Verb::Logs(args) => logs::run(args, settings, ui)?,
        Verb::Repair(args) => repair::run(args, settings, ui)?,
        Verb::Volume(args) => volume::run(args, settings, ui)?,
        Verb::Borrow(_) => borrow::run(settings).await?,
        Verb::Pipe(_) => pipe::run(settings).await?,
        Verb::Run(args) => return run::run(args, settings).await,
    }
    Ok(ExitCode::Success)
}
