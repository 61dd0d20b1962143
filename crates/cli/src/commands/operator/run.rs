//! `bough operator run`: this process is the operator of a cluster.

use std::io;

use clap::Args;
use model::ExitCode;
use operator::{Candidate, HostSettings};
use tokio::signal::unix::{SignalKind, signal};

use super::wall_word::WallWord;
use crate::contexts;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::LogForm;
use crate::{clock, ui};

/// Records of the operator's log unless RUST_LOG says otherwise.
const LOG_FILTER: &str = "info,kube_client=warn";

/// Where the kubelet tells a pod in which domains names are looked for.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Be the operator
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Our own image, which branch hosts take the program from
    #[arg(long)]
    image: String,

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

    /// The domain of the names of the cluster's services [default: what /etc/resolv.conf of its pod says, else cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,

    /// Look after this namespace alone, and others that are named [default: all of the cluster]
    #[arg(long = "namespace", value_name = "NS")]
    namespaces: Vec<String>,

    /// The name, its own among several operators, by which it stands for their lead [default: it is the only one]
    #[arg(long, value_name = "NAME", requires = "lease_namespace")]
    identity: Option<String>,

    /// The namespace whose lease says who leads
    #[arg(long, value_name = "NS", requires = "identity")]
    lease_namespace: Option<String>,

    /// The port of /livez, /readyz and /metrics, on every address of the pod [default: none is open]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// How the records of the log are written
    #[arg(long, value_enum, default_value_t)]
    log_format: LogForm,

    /// The kubeconfig's context [default: its current one; without a kubeconfig the cluster that this runs in]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

/// It cannot be told to end.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for signals")]
struct SignalError(#[source] io::Error);

/// Looks after branches until TERM.
pub(super) async fn run(args: &RunArgs, settings: &Settings) -> Result<(), CommandError> {
    ui::start_log_of(
        settings.rust_log.as_deref().unwrap_or(LOG_FILTER),
        args.log_format,
    );
    let (files, pod) = (&settings.kubeconfig, &settings.pod_account);
    let context = contexts::choose_context(args.context.as_deref(), None, files, pod)?;
    let client = contexts::client_of(&context).await?;
    let signals = |error| CommandError::new(ExitCode::Internal, SignalError(error));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let candidate = args.identity.clone().zip(args.lease_namespace.clone());
    let wanted = operator::Settings {
        candidate: candidate.map(|(name, namespace)| Candidate { name, namespace }),
        namespaces: args.namespaces.clone(),
        port: args.port,
        cluster_domain: cluster_domain(args.cluster_domain.as_deref()),
        host: HostSettings {
            image: args.image.clone(),
            postgres_image: args.postgres_image.clone(),
            storage_class: args.storage_class.clone(),
            storage_size: args.storage_size.clone(),
            wall: args.network_policy.into(),
            pod: args.host_pod.clone(),
        },
    };
    let end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let ended = operator::run(client, wanted, clock::now, end).await;
    ended.map_err(|error| CommandError::new(ExitCode::Usage, error))
}

/// The one that was asked for, else that of this pod.
fn cluster_domain(asked: Option<&str>) -> String {
    let told = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let domain = asked.or_else(|| operator::cluster_domain(&told));
    domain.unwrap_or(operator::CLUSTER_DOMAIN).to_owned()
}
