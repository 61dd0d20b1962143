//! `bough operator clear`: all sessions, branches and their hosts end, which is what goes before an operator does.

use clap::Args;
use model::ExitCode;
use operator::{Change, Cleared};

use super::choose_context;
use crate::contexts;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

/// The kind of what says that there are branches at all.
const DEFINITION: &str = "CustomResourceDefinition";

const EXAMPLES: &str = "\
Examples:
  bough operator clear
  bough operator clear --namespace shop --namespace bank
  bough operator clear --definitions

An operator has to run: it ends each branch in its engine. Sources go as well; the operator stays.
The definitions go with nothing left of them, and with them what branches of other operators there may be.";

/// End all sessions that an operator was told of and all branches, with the pods and volumes that these live on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClearArgs {
    /// Of this namespace alone, and others that are named [default: of the whole cluster]
    #[arg(long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,

    /// Then delete the definitions of Branch, Source and Session as well, which takes a right of its own
    #[arg(long)]
    definitions: bool,

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
    if args.definitions {
        remove_definitions(&client, ui).await?;
    }
    Ok(())
}

async fn remove_definitions(client: &kube::Client, ui: &Ui) -> Result<(), CommandError> {
    let rules = super::manifests::rules(operator::NAME)?;
    let definitions = rules.iter().filter(|object| object["kind"] == DEFINITION);
    for object in definitions {
        let removed = operator::remove(client, object, false).await;
        let change = removed.map_err(|error| CommandError::new(ExitCode::Target, error))?;
        let done = if change == Change::Absent {
            "not there"
        } else {
            "removed"
        };
        ui.note(&format!("{}: {done}", operator::title(object)));
    }
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
