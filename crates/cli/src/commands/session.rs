//! `bough session`: who has sessions with branches, and their end by somebody else.

mod list;
mod stop;

use clap::{Args, Subcommand};
use model::ExitCode;

use super::engines::WhoseArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough session -n metalmart ls
  bough session -A ls -o json
  bough session -n metalmart stop 2f0c1a7b9e4d5863

A session without branches, of which no operator was told, is known to nobody but its own program: it is not listed.";

/// List sessions that hold branches, or that an operator was told of, or stop them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    whose: WhoseArgs,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(name = "ls", visible_alias = "list")]
    Ls(list::ListArgs),
    Stop(stop::StopArgs),
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &SessionArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let whose = args.whose.choose(settings)?;
    match &args.verb {
        Verb::Ls(args) => list::run(args, &whose, settings, ui)
            .await
            .map(|()| ExitCode::Success),
        Verb::Stop(args) => stop::run(args, &whose, settings, ui).await,
    }
}
