//! `bough operator install` and `uninstall`: the manifests brought into a cluster and taken out of it, without `kubectl`.

use clap::Args;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use model::ExitCode;
use operator::{Change, InstallError};
use serde_json::Value;

use super::choose_context;
use super::manifests::{self, ROLE, WishArgs};
use crate::contexts::{self, ClusterError};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  bough operator install --dry-run
  bough operator install --image registry.example/bough:0.1.0
  bough operator install --without-rules --namespace shop";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  bough operator uninstall --dry-run
  bough operator uninstall

Sessions and branches end first, with the hosts and volumes that these live on. Roles in single namespaces are found by themselves;
`--namespace shop` looks nowhere else.";

/// Install the operator in a cluster, or bring an installed one up to date
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    what: What,
}

/// Take the operator out of a cluster, and all sessions and branches before it
#[derive(Debug, Args)]
#[command(after_help = UNINSTALL_EXAMPLES)]
pub(super) struct UninstallArgs {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct What {
    /// Leave definitions and admission policies, which belong to the cluster, to its administrator
    #[arg(long)]
    without_rules: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// The kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else its current one]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    #[command(flatten)]
    wish: WishArgs,
}

impl What {
    /// The objects, in the order in which they are applied, and who brings them.
    async fn prepare(
        &self,
        settings: &Settings,
        ui: &Ui,
    ) -> Result<(Vec<Value>, Client), CommandError> {
        let objects = self.objects(settings)?;
        Ok((objects, self.client(settings, ui).await?))
    }

    fn objects(&self, settings: &Settings) -> Result<Vec<Value>, CommandError> {
        let mut objects = if self.without_rules {
            Vec::new()
        } else {
            manifests::rules(operator::NAME)?
        };
        objects.extend(manifests::own(&self.wish, settings));
        Ok(objects)
    }

    async fn client(&self, settings: &Settings, ui: &Ui) -> Result<Client, CommandError> {
        let context = choose_context(self.context.as_deref(), settings)?;
        ui.note(&format!("context {context}"));
        Ok(contexts::client_of(&context).await?)
    }

    fn tell(&self, ui: &Ui, object: &Value, change: Change) {
        let done = match change {
            Change::Created => "created",
            Change::Changed => "changed",
            Change::Unchanged => "as it was",
            Change::Removed => "removed",
            Change::Absent => "not there",
        };
        let would = if self.dry_run { "would be " } else { "" };
        ui.note(&format!("{}: {would}{done}", operator::title(object)));
    }
}

/// Applies everything.
pub(super) async fn install(
    args: &InstallArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let what = &args.what;
    let (objects, client) = what.prepare(settings, ui).await?;
    for object in &objects {
        let applied = operator::apply(&client, object, what.dry_run).await;
        what.tell(ui, object, applied.map_err(refused)?);
    }
    Ok(())
}

/// Ends all sessions and branches, then takes everything away, the operator first.
pub(super) async fn uninstall(
    args: &UninstallArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let what = &args.what;
    let (mut objects, client) = what.prepare(settings, ui).await?;
    if what.wish.namespaces().is_empty() {
        let namespaces = namespaces_with_roles(&client).await?;
        // Taken away in reverse, so that the operator keeps its rights until it is gone.
        objects.splice(..0, manifests::roles(&what.wish, &namespaces, settings));
    }
    if what.dry_run {
        ui.note("all sessions, branches and their hosts would end");
    } else {
        let cleared = super::clear::end(&client, what.wish.namespaces()).await?;
        super::clear::tell(ui, cleared);
    }
    for object in objects.iter().rev() {
        let removed = operator::remove(&client, object, what.dry_run).await;
        what.tell(ui, object, removed.map_err(refused)?);
    }
    Ok(())
}

/// The namespaces that an operator may have branches in by a role there.
async fn namespaces_with_roles(client: &Client) -> Result<Vec<String>, CommandError> {
    let api: Api<Role> = Api::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={ROLE}"));
    let listed = api.list(&named).await.map_err(|error| ClusterError::Api {
        tried: "look for the namespaces in which the operator has a role".to_owned(),
        right: "list roles.rbac.authorization.k8s.io -A".to_owned(),
        source: error.into(),
    })?;
    let namespaces = listed.items.iter().filter_map(ResourceExt::namespace);
    Ok(namespaces.collect())
}

fn refused(error: InstallError) -> CommandError {
    CommandError::new(ExitCode::Target, error).with_hint(
        "this takes an administrator's rights: `bough operator manifests` writes what he would apply",
    )
}
