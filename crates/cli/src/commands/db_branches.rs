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
use config::Config;
use model::engine_api::BranchView;
use model::{ExitCode, Namespace};

use crate::contexts::{self, BranchHost, ContextChoice, Kubeconfig};
use crate::engine_start::RunningEngine;
use crate::error::CommandError;
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

    /// Where the branches live: `local` or a kubeconfig's context [default: the file's kube_context, else the kubeconfig's
    /// current one, else `local`]
    #[arg(long, value_name = "CONTEXT", global = true)]
    context: Option<String>,

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
    let file = super::read_file(args.config_file.as_ref(), settings)?;
    let named = file
        .as_ref()
        .and_then(|config| config.kube_context.as_deref());
    let context = contexts::choose_context(args.context.as_deref(), named, &settings.kubeconfig)?;
    let scope = choose_scope(args, file.as_ref(), &context, settings)?;
    if let Verb::Create(args) = &args.verb {
        create::run(args, &context, &scope, settings, ui).await?;
        return Ok(ExitCode::Success);
    }
    let host = match &context.kubeconfig {
        Some(kubeconfig) => Some(find_host(&context, kubeconfig, &scope, settings).await?),
        None => None,
    };
    // In a cluster the engine is the host's, behind a socket of this command's own.
    let settings = host.as_ref().map_or(settings, |host| &host.settings);
    match &args.verb {
        Verb::Status(args) => status::run(args, &scope, settings, ui).await?,
        Verb::Create(_) => {}
        Verb::Reset(args) => reset::run(args, &scope, settings, ui).await?,
        Verb::Extend(args) => extend::run(args, &scope, settings, ui).await?,
        Verb::Destroy(args) => destroy::run(args, &scope, settings, ui).await?,
        Verb::Connections(args) => connections::run(args, &scope, settings, ui).await?,
        Verb::Psql(args) => psql::run(args, &scope, settings, host.as_ref(), ui).await?,
        Verb::Url(args) => url::run(args, &scope, settings, host.as_ref(), ui).await?,
    }
    Ok(ExitCode::Success)
}

fn choose_scope(
    args: &DbBranchesArgs,
    file: Option<&Config>,
    context: &ContextChoice,
    settings: &Settings,
) -> Result<Scope, CommandError> {
    if args.all_namespaces {
        return Ok(Scope::All);
    }
    let named = file.and_then(|config| config.target.namespace.clone());
    let named = args.namespace.clone().or(named);
    let namespace = settings.choose_namespace_of(named.as_ref(), context.namespace())?;
    Ok(Scope::Namespace(namespace))
}

/// What a cluster's branches cannot be asked yet.
#[derive(Debug, thiserror::Error)]
#[error("`db-branches -A` is not supported in {context} yet")]
struct UnsupportedThere {
    context: String,
}

/// The branch host that a verb speaks to.
async fn find_host(
    context: &ContextChoice,
    kubeconfig: &Kubeconfig,
    scope: &Scope,
    settings: &Settings,
) -> Result<BranchHost, CommandError> {
    match scope {
        Scope::All => {
            let context = context.to_string();
            let failure = CommandError::new(ExitCode::Target, UnsupportedThere { context });
            Err(failure
                .with_hint("-n names one; --context local means the branches of this machine"))
        }
        Scope::Namespace(namespace) => Ok(BranchHost::find(kubeconfig, namespace, settings).await?),
    }
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
