//! `bough operator`: what a cluster's administrator applies.

mod manifests;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::error::CommandError;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough operator manifests | kubectl apply -f -

Sessions need none of this: they work with their user's own rights.";

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
}

/// Does what the arguments ask for.
pub(crate) fn run(args: &OperatorArgs, ui: &Ui) -> Result<ExitCode, CommandError> {
    match &args.verb {
        Verb::Manifests(args) => manifests::run(args, ui)?,
    }
    Ok(ExitCode::Success)
}
