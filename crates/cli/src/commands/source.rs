//! `bough source`: databases by name, for branches without a target.

mod add;
mod list;
mod refresh;
mod remove;

use clap::{Args, Subcommand};
use model::ExitCode;

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough source add - --name inventory < url.txt
  bough source ls
  bough source refresh inventory
  bough source rm inventory";

/// Name databases that branches are made of
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SourceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(add::AddArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    Refresh(refresh::RefreshArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &SourceArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    match &args.verb {
        Verb::Add(args) => add::run(args, settings, ui).await?,
        Verb::List(args) => list::run(args, settings, ui).await?,
        Verb::Refresh(args) => refresh::run(args, settings, ui).await?,
        Verb::Remove(args) => remove::run(args, settings, ui).await?,
    }
    Ok(ExitCode::Success)
}
