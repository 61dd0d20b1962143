//! `bough db-branches`: the branches of a namespace, or of all.

mod connections;
mod create;
mod destroy;
mod extend;
mod psql;
mod reset;
mod status;
mod url;

use clap::{Args, Subcommand};
use model::ExitCode;

use super::engines::WhoseArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough db-branches status                             the branches of namespace `default`
  bough db-branches -n metalmart destroy my-session    delete one
  bough db-branches -f .mirrord/x.json status          those of the namespace that a file names
  bough db-branches -A status -o json                  all, for a program
  bough db-branches create try-it --source inventory   a branch without target or file";

/// List, make and delete branches
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DbBranchesArgs {
    #[command(flatten)]
    whose: WhoseArgs,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(status::StatusArgs),
    Create(create::CreateArgs),
    Reset(reset::ResetArgs),
    Extend(extend::ExtendArgs),
    #[command(visible_alias = "stop")]
    Destroy(destroy::DestroyArgs),
    Connections(connections::ConnectionsArgs),
    Psql(psql::PsqlArgs),
    Url(url::UrlArgs),
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &DbBranchesArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let whose = args.whose.choose(settings)?;
    match &args.verb {
        Verb::Status(args) => status::run(args, &whose, settings, ui).await?,
        Verb::Create(args) => create::run(args, &whose, settings, ui).await?,
        Verb::Reset(args) => reset::run(args, &whose, settings, ui).await?,
        Verb::Extend(args) => extend::run(args, &whose, settings, ui).await?,
        Verb::Destroy(args) => destroy::run(args, &whose, settings, ui).await?,
        Verb::Connections(args) => connections::run(args, &whose, settings, ui).await?,
        Verb::Psql(args) => return psql::run(args, &whose, settings, ui).await,
        Verb::Url(args) => url::run(args, &whose, settings, ui).await?,
    }
    Ok(ExitCode::Success.into())
}
