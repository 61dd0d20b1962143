//! `bough operator`: what a cluster's administrator applies.

mod copy_program;
mod manifests;
mod run;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough operator manifests | kubectl apply -f -

Sessions without branches need none of this: they work with their user's own rights.";

/// Write what a cluster's administrator applies
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Manifests(manifests::ManifestsArgs),
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
        Verb::Manifests(args) => manifests::run(args, settings, ui)?,
        Verb::Run(args) => run::run(args, settings).await?,
        Verb::CopyProgram(args) => copy_program::run(args)?,
    }
    Ok(ExitCode::Success)
}
