//! `bough operator manifests`: Bough's resources and their operator, as one list that `kubectl apply` takes.

use clap::Args;
use model::ExitCode;
use serde::Serialize;
use serde_json::Value;

use super::wall_word::WallWord;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, LogForm, Page, Report, Ui};

const EXAMPLES: &str = "\
Examples:
  bough operator manifests | kubectl apply --server-side -f -
  bough operator manifests | kubectl diff -f -

Where nobody is to have rights in the whole cluster:
  bough operator manifests --only-rules | kubectl apply --server-side -f -      by its administrator
  bough operator manifests --namespace shop --without-rules | kubectl apply --server-side -f -";

/// The operator's role in each namespace of branches, where the whole cluster is not granted.
pub(super) const ROLE: &str = "bough-branches";

/// Write the definitions of Bough's resources, the rules about them, and the operator that acts on them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManifestsArgs {
    /// The definitions alone
    #[arg(long, conflicts_with_all = ["only_rules", "without_rules"])]
    only_definitions: bool,

    /// The definitions and the admission policies alone, which belong to the cluster
    #[arg(long, conflicts_with = "without_rules")]
    only_rules: bool,

    /// The operator without them
    #[arg(long)]
    without_rules: bool,

    /// The namespace that the policies read the administrator's limits in: that of the operator, which a chart's release may
    /// have elsewhere
    #[arg(long, value_name = "NS", requires = "only_rules", default_value = operator::NAME)]
    operator_namespace: String,

    #[command(flatten)]
    wish: WishArgs,
}

/// What the operator is to be.
#[derive(Debug, Args)]
pub(super) struct WishArgs {
    /// The image that operator, branch hosts and agents run [default: BOUGH_AGENT_IMAGE, else this version's]
    #[arg(long)]
    image: Option<String>,

    /// Branches in this namespace alone, and others that are named: Roles there in place of a ClusterRole
    #[arg(long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,

    /// The PostgreSQL image without its tag
    #[arg(long, value_name = "IMAGE", default_value = "postgres")]
    postgres_image: String,

    /// The storage class of branch hosts [default: the cluster's own]
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,

    /// The size of each host's volume
    #[arg(long, value_name = "QUANTITY", default_value = "10Gi")]
    storage_size: String,

    /// What a network policy around branch hosts keeps off
    #[arg(long, value_enum, default_value_t)]
    network_policy: WallWord,

    /// What the pods of branch hosts are given, as JSON: resources (requests, limits), shmSize, nodeSelector, tolerations,
    /// imagePullSecrets (names), serviceAccountName; hosts that are there take it up with their next pod [default: requests of
    /// 50m and 128Mi]
    #[arg(long, value_name = "JSON", default_value_t, hide_default_value = true)]
    host_pod: operator::HostPod,

    /// Branches that one user may have at a time, in all namespaces together [default: any number]
    #[arg(long, value_name = "COUNT")]
    branches_per_user: Option<u32>,

    /// Branches that one namespace may have at a time [default: any number]
    #[arg(long, value_name = "COUNT")]
    branches_per_namespace: Option<u32>,

    /// The longest TTL of a branch; hosts that are there take a longer one up with their next pod [default: 900, and what a
    /// Source says of its own branches]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..=31_536_000))]
    ttl_max: Option<u32>,

    /// The major versions that branches may have [default: all]
    #[arg(long, value_name = "MAJOR", value_delimiter = ',')]
    versions: Vec<u16>,

    /// The images that agents may run from [default: any]
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    agent_images: Vec<String>,

    /// Have the operator place agents for sessions, so that users need no right to patch pods: it has that right then, in the
    /// same namespaces [default: sessions go on with their users' own rights]
    #[arg(long)]
    sessions: bool,

    /// How the records of the operator's log are written
    #[arg(long, value_enum, default_value_t)]
    log_format: LogForm,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Value>,
}

impl Report for List {
    fn text(&self, _: Page) -> String {
        String::new()
    }
}

impl WishArgs {
    /// The namespaces that may have branches; none for the whole cluster.
    pub(super) fn namespaces(&self) -> &[String] {
        &self.namespaces
    }
}

/// Definitions, and policies for an operator in that namespace.
pub(super) fn rules(operator_namespace: &str) -> Result<Vec<Value>, CommandError> {
    let mut rules = definitions()?;
    rules.extend(operator::policies(operator_namespace));
    Ok(rules)
}

/// The operator's own objects.
pub(super) fn own(args: &WishArgs, settings: &Settings) -> Vec<Value> {
    objects(args, &args.namespaces, settings)
}

/// What of them is in these namespaces, so that branches may be there: a role and its binding each.
pub(super) fn roles(args: &WishArgs, namespaces: &[String], settings: &Settings) -> Vec<Value> {
    let mut objects = objects(args, namespaces, settings);
    objects.retain(|object| object["metadata"]["name"] == ROLE);
    objects
}

fn objects(args: &WishArgs, namespaces: &[String], settings: &Settings) -> Vec<Value> {
    let image = args.image.as_ref().unwrap_or(&settings.agent_image);
    operator::manifests(&operator::Wish {
        image: image.clone(),
        namespaces: namespaces.to_vec(),
        postgres_image: args.postgres_image.clone(),
        storage_class: args.storage_class.clone(),
        storage_size: args.storage_size.clone(),
        wall: args.network_policy.into(),
        host_pod: args.host_pod.clone(),
        limits: operator::Limits {
            branches_per_user: args.branches_per_user,
            branches_per_namespace: args.branches_per_namespace,
            ttl_seconds_max: args.ttl_max,
            versions: args.versions.clone(),
            agent_images: args.agent_images.clone(),
        },
        sessions: args.sessions,
        logs_json: args.log_format == LogForm::Json,
    })
}

fn definitions() -> Result<Vec<Value>, CommandError> {
    let definitions = resources::definitions();
    let written: Result<_, _> = definitions.iter().map(serde_json::to_value).collect();
    written.map_err(|error| CommandError::new(ExitCode::Internal, error))
}

/// Writes them to standard output.
pub(super) fn run(args: &ManifestsArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let mut items = if args.only_definitions {
        definitions()?
    } else if args.without_rules {
        Vec::new()
    } else {
        rules(&args.operator_namespace)?
    };
    if !(args.only_definitions || args.only_rules) {
        items.extend(own(&args.wish, settings));
    }
    let list = List {
        api_version: "v1",
        kind: "List",
        items,
    };
    ui.report(&list, Format::Json)?;
    Ok(())
}
