//! `bough operator`: what a cluster's administrator applies, looks at, and takes away.

mod clear;
mod copy_program;
mod install;
mod manifests;
mod run;
mod status;
mod wall_word;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::contexts::ContextChoice;
use crate::error::CommandError;
use crate::session_file;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough operator install
  bough operator status

Sessions without branches need none of this: they work with their user's own rights.";

/// Install, watch and take away what makes branches in a cluster
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(install::InstallArgs),
    Status(status::StatusArgs),
    Manifests(manifests::ManifestsArgs),
    Clear(clear::ClearArgs),
    Uninstall(install::UninstallArgs),
    #[command(hide = true)]
    Run(run::RunArgs),
    #[command(hide = true)]
    CopyProgram(copy_program::CopyProgramArgs),
}

impl OperatorArgs {
    /// Whether this process is to be the operator, which keeps its own log.
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.verb, Verb::Run(_))
    }
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &OperatorArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    match &args.verb {
        Verb::Install(args) => install::install(args, settings, ui).await?,
        Verb::Uninstall(args) => install::uninstall(args, settings, ui).await?,
        Verb::Status(args) => status::run(args, settings, ui).await?,
        Verb::Manifests(args) => manifests::run(args, settings, ui)?,
        Verb::Run(args) => run::run(args, settings).await?,
        Verb::Clear(args) => clear::run(args, settings, ui).await?,
        Verb::CopyProgram(args) => copy_program::run(args)?,
    }
    Ok(ExitCode::Success)
}

/// The context of a verb of people, chosen as for a session: by the flag, else as the environment and its file say.
fn choose_context(flag: Option<&str>, settings: &Settings) -> Result<ContextChoice, CommandError> {
    let config = session_file::read_place(None, settings)?;
    session_file::choose_context(flag, &config, settings)
}
