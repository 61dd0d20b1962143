//! `bough local`: targets of this machine, for those without a cluster.

mod keep;
mod list;
mod logs;
mod run;
mod stop;

use clap::{Args, Subcommand};
use model::{ExitCode, Namespace};

use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough local run deployment/inventory -n metalmart --port 18082 -- inventory --port 18082
  bough local ls
  bough local logs deployment/inventory -n metalmart -f
  bough local stop deployment/inventory -n metalmart

`bough exec` finds these targets in the context `local`, as it finds workloads in a cluster.";

/// Run targets on this machine, for sessions without a cluster
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LocalArgs {
    /// Namespace of the targets [default: MIRRORD_TARGET_NAMESPACE, else `default`; `ls`: all]
    #[arg(short, long, value_name = "NS", global = true)]
    namespace: Option<Namespace>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::RunArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    Logs(logs::LogsArgs),
    Stop(stop::StopArgs),
    #[command(hide = true)]
    Keep(keep::KeepArgs),
}

/// Does what the arguments ask for.
pub(crate) async fn run(
    args: &LocalArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let flag = args.namespace.as_ref();
    let namespace = settings.choose_namespace(flag)?;
    match &args.verb {
        Verb::Run(args) => run::run(args, namespace, settings, ui).await?,
        Verb::List(args) => list::run(args, flag, settings, ui)?,
        Verb::Logs(args) => logs::run(args, &namespace, settings, ui)?,
        Verb::Stop(args) => return stop::run(args, &namespace, settings, ui).await,
        Verb::Keep(args) => keep::run(args).await?,
    }
    Ok(ExitCode::Success)
}
