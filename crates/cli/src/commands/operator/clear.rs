//! `bough operator clear`: all sessions, branches and their hosts end, which is what goes before an operator does.

use clap::Args;
use model::ExitCode;
use operator::Cleared;

use super::choose_context;
use crate::contexts;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough operator clear
  bough operator clear --namespace shop --namespace bank

An operator has to run: it ends each branch in its engine. Sources go as well; the operator stays.";

/// End all sessions that an operator was told of and all branches, with the pods and volumes that these live on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClearArgs {
    /// Of this namespace alone, and others that are named [default: of the whole cluster]
    #[arg(long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,

    /// The kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else its current one; without a kubeconfig the cluster that this runs in]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

/// Ends them, and says how many.
pub(super) async fn run(
    args: &ClearArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let context = choose_context(args.context.as_deref(), settings)?;
    let client = contexts::client_of(&context).await?;
    tell(ui, end(&client, &args.namespaces).await?);
    Ok(())
}

/// Says how many ended.
pub(super) fn tell(ui: &Ui, cleared: Cleared) {
    let Cleared {
        sessions,
        branches,
        hosts,
        left_out,
    } = cleared;
    ui.note(&format!(
        "ended: {branches} branches, {hosts} branch hosts, {sessions} sessions"
    ));
    for namespace in left_out {
        ui.note(&format!(
            "namespace {namespace} may not be read, as one that is gone: what may be there is left"
        ));
    }
}

/// Ends them.
pub(super) async fn end(
    client: &kube::Client,
    namespaces: &[String],
) -> Result<Cleared, CommandError> {
    let cleared = operator::clear(client, namespaces).await;
    cleared.map_err(|error| {
        CommandError::new(ExitCode::Target, error).with_hint(
            "an operator has to run to end branches: `bough operator status` shows whether one does",
        )
    })
}
