//! `bough db-branches`: the branches of a namespace, or of all.

mod connections;
mod create;
mod destroy;
mod extend;
mod psql;
mod reset;
mod select;
mod status;
mod url;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::engine_api::BranchView;
use model::{ExitCode, Namespace};

use crate::diagnostics;
use crate::engine_start::RunningEngine;
use crate::error::CommandError;
use crate::session::surroundings;
use crate::settings::Settings;
use crate::ui::Ui;
use select::Scope;

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
    /// Namespace of the branches [default: MIRRORD_TARGET_NAMESPACE, else the file's, else `default`]
    #[arg(short, long, value_name = "NS", global = true)]
    namespace: Option<Namespace>,

    /// A session's configuration file: its namespace is meant [default: BOUGH_CONFIG_FILE, else MIRRORD_CONFIG_FILE]
    #[arg(short = 'f', long, value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    /// Branches of every namespace
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,

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
) -> Result<ExitCode, CommandError> {
    let scope = choose_scope(args, settings)?;
    match &args.verb {
        Verb::Status(args) => status::run(args, &scope, settings, ui).await?,
        Verb::Create(args) => create::run(args, &scope, settings, ui).await?,
        Verb::Reset(args) => reset::run(args, &scope, settings, ui).await?,
        Verb::Extend(args) => extend::run(args, &scope, settings, ui).await?,
        Verb::Destroy(args) => destroy::run(args, &scope, settings, ui).await?,
        Verb::Connections(args) => connections::run(args, &scope, settings, ui).await?,
        Verb::Psql(args) => psql::run(args, &scope, settings, ui).await?,
        Verb::Url(args) => url::run(args, &scope, settings, ui).await?,
    }
    Ok(ExitCode::Success)
}

fn choose_scope(args: &DbBranchesArgs, settings: &Settings) -> Result<Scope, CommandError> {
    if args.all_namespaces {
        return Ok(Scope::All);
    }
    let named = match &args.namespace {
        Some(namespace) => Some(namespace.clone()),
        None => read_namespace(args, settings)?,
    };
    Ok(Scope::Namespace(settings.choose_namespace(named.as_ref())?))
}

/// The namespace that `exec` would choose with this file; none where no file is named.
fn read_namespace(
    args: &DbBranchesArgs,
    settings: &Settings,
) -> Result<Option<Namespace>, CommandError> {
    let named = args.config_file.as_ref();
    let Some(file) = named.or(settings.session.config_file.as_ref()) else {
        return Ok(None);
    };
    let mut surroundings = surroundings(settings)?;
    surroundings.is_target_final = false;
    let config =
        config::read(file, &surroundings).map_err(|error| diagnostics::rejection(file, error))?;
    Ok(config.target.namespace)
}

/// The engine, and every branch that it has, by namespace and id: names that exist elsewhere make better errors.
async fn connect(
    settings: &Settings,
    ui: &Ui,
) -> Result<(RunningEngine, Vec<BranchView>), CommandError> {
    let engine = super::connect_engine(settings, ui).await?;
    let mut branches = engine.client.branches(None).await?;
    branches.sort_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
    Ok((engine, branches))
}
