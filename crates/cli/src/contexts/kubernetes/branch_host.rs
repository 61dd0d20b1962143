//! Branch hosts as a session and `db-branches` see them: asked for by `Branch` resources, met through a socket here.
//!
//! ```text
//!   Branch resources ──operator──> a host's pod ──> the engine in it
//!   <data dir>/hosts/XXXXXX/engine.sock ──exec──> that engine     (tunnel)
//!   that engine ──exec──> what only the session's target reaches  (loan)
//! ```
//!
//! The socket stands where the engine of this machine would have its own, so that whoever speaks to an engine speaks to
//! either. Owns which pods hosts are, and the ways there. Leaves how branches are asked for to `asking`, the way to their
//! doors to `branch_door`, branches themselves to the engine.

mod asking;
mod loan;
mod tunnel;

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use model::engine_api::SourceName;
use model::pg_url::Address;
use model::{BranchId, BranchName, CopySpec, Namespace, PgMajor, PgUrl, TargetRef, Ttl};
use operator::agents::{ApiFailure, is_ready};
use resources::Branch;
use tokio::io::DuplexStream;

use super::error::ClusterError;
use super::kubeconfig::Kubeconfig;
use super::pod_agent::forward;
use super::source_version;
use crate::settings::Settings;
pub(super) use asking::who_asks;
use asking::{Asking, Tell};
pub(crate) use loan::{Borrower, LOAN_GRACE, Loan, LoanAnswer, LoanWish};
use tunnel::EngineTunnel;

/// A branch as its resource asks for it.
pub(crate) struct BranchWish {
    /// The id.
    pub(crate) id: BranchId,
    /// Server and database that it comes from, for people.
    pub(crate) source: String,
    /// The major version.
    pub(crate) version: PgMajor,
    /// What it holds.
    pub(crate) copy: CopySpec,
    /// How long it outlives its last session; none for that of the one that is there, or the default of a new one.
    pub(crate) ttl: Option<Ttl>,
    /// In whose environment its connection was found.
    pub(crate) target: Option<TargetRef>,
}

/// The host of a namespace's branches, with its engine's socket here.
pub(crate) struct BranchHost {
    pods: Api<Pod>,
    pod: String,
    /// The caller's settings, with the host's engine in the place of this machine's.
    pub(crate) settings: Settings,
    _tunnel: EngineTunnel,
}

impl fmt::Debug for BranchHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchHost")
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

/// Whether the cluster knows branches at all.
///
/// # Errors
/// [`ClusterError`] when it does not, or when the user may not look.
pub(crate) async fn require_operator(
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
) -> Result<(), ClusterError> {
    let client = kubeconfig.client().await?;
    let api: Api<Branch> = Api::namespaced(client, namespace.as_str());
    match api
        .list(&ListParams::default().limit(1))
        .await
        .map_err(ApiFailure::from)
    {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_not_found() => Err(ClusterError::NoOperator),
        Err(source) => Err(ClusterError::Api {
            tried: format!("look for branches in namespace {namespace}"),
            right: format!("list branches.bough.dev -n {namespace}"),
            source,
        }),
    }
}

impl BranchHost {
    /// Asks for branches, and waits until the host of each answers; gives each host once, with which of the wishes are its.
    /// `tell` is told what is waited for beside the hosts.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not ask, or no operator gives a host in time.
    pub(crate) async fn request(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        wishes: &[BranchWish],
        settings: &Settings,
        tell: Tell<'_>,
    ) -> Result<Vec<(Self, Vec<usize>)>, ClusterError> {
        let client = kubeconfig.client().await?;
        let asking = Asking::new(&client, namespace, tell).await?;
        let pods = asking.hosts(wishes).await?;
        let opened = pods.into_iter().map(|(pod, indexes)| {
            Ok((
                Self::open(client.clone(), namespace, pod, settings)?,
                indexes,
            ))
        });
        opened.collect()
    }

    /// The same for one branch.
    ///
    /// # Errors
    /// As [`BranchHost::request`].
    pub(crate) async fn request_one(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        wish: BranchWish,
        settings: &Settings,
        tell: Tell<'_>,
    ) -> Result<Self, ClusterError> {
        let hosts = Self::request(kubeconfig, namespace, &[wish], settings, tell).await?;
        let (host, _) = hosts.into_iter().next().expect("a wish has a host");
        Ok(host)
    }

    /// The hosts that are there already: those of a namespace, or of all where the user may look.
    ///
    /// # Errors
    /// [`ClusterError`] when that namespace has none, or when the user may not look.
    pub(crate) async fn find(
        kubeconfig: &Kubeconfig,
        namespace: Option<&Namespace>,
        settings: &Settings,
    ) -> Result<Vec<Self>, ClusterError> {
        let client = kubeconfig.client().await?;
        let found = hosts(&client, namespace, operator::HOST_LABEL).await?;
        if let ([], Some(namespace)) = (found.as_slice(), namespace) {
            return Err(ClusterError::NoHost {
                namespace: namespace.clone(),
                why: "nobody has asked for a branch there yet".to_owned(),
            });
        }
        let opened = found
            .into_iter()
            .map(|host| Self::open(client.clone(), &host.namespace, host.pod, settings));
        opened.collect()
    }

    /// A host that follows the `Source` of this name; of several one that is ready.
    ///
    /// # Errors
    /// [`ClusterError`] when there is none, or when the user may not look.
    pub(crate) async fn of_source(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        name: &SourceName,
        settings: &Settings,
    ) -> Result<Self, ClusterError> {
        let client = kubeconfig.client().await?;
        let found = hosts(&client, Some(namespace), operator::SOURCE_LABEL).await?;
        let is_its = |host: &&Found| host.source.as_deref() == Some(name.as_str());
        let Some(host) = found.iter().find(is_its) else {
            return Err(ClusterError::NoSource {
                name: name.to_string(),
                namespace: namespace.clone(),
                known: sources(&found),
            });
        };
        Self::open(client, namespace, host.pod.clone(), settings)
    }

    /// Which PostgreSQL the branch hosts of a namespace reach by `url`; none where it has no host that could be asked.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not ask, or the source does not answer.
    pub(crate) async fn source_version(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        url: &PgUrl,
    ) -> Result<Option<PgMajor>, ClusterError> {
        let client = kubeconfig.client().await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
        let hosts = hosts(&client, Some(namespace), operator::HOST_LABEL).await?;
        let Some(host) = hosts.first() else {
            return Ok(None);
        };
        let (container, program) = (operator::HOST_CONTAINER, operator::PROGRAM);
        let asked = source_version::ask(&pods, &host.pod, container, program, url).await;
        asked.map(Some)
    }

    fn open(
        client: Client,
        namespace: &Namespace,
        pod: String,
        settings: &Settings,
    ) -> Result<Self, ClusterError> {
        let pods: Api<Pod> = Api::namespaced(client, namespace.as_str());
        let tunnel = EngineTunnel::open(pods.clone(), pod.clone(), &settings.data_dir);
        let tunnel = tunnel.map_err(|source| ClusterError::Tunnel {
            pod: pod.clone(),
            source,
        })?;
        let settings = Settings {
            data_dir: tunnel.folder().to_owned(),
            engine_elsewhere: Some(format!("the pod {pod} of namespace {namespace}")),
            ..settings.clone()
        };
        Ok(Self {
            pods,
            pod,
            settings,
            _tunnel: tunnel,
        })
    }

    /// Asks for another TTL of a branch here, before its engine is asked: the cluster's rules about TTLs hold for its
    /// resource.
    ///
    /// # Errors
    /// [`ClusterError`] when that is refused.
    pub(crate) async fn ask_for_time(
        &self,
        name: &BranchName,
        ttl: Ttl,
    ) -> Result<(), ClusterError> {
        let namespace = self.pods.namespace().unwrap_or("default");
        let api: Api<Branch> = Api::namespaced(self.pods.clone().into_client(), namespace);
        asking::ask_for_time(&api, name, ttl).await
    }

    /// The host as one that waits for a way to `address`; none where it reaches that by itself, which it tries with
    /// `tries_itself`.
    ///
    /// # Errors
    /// [`ClusterError`] when it cannot be lent one.
    pub(crate) async fn borrower(
        &self,
        address: &Address,
        tries_itself: bool,
    ) -> Result<Option<Borrower>, ClusterError> {
        Borrower::ask(&self.pods, &self.pod, address, tries_itself).await
    }

    /// Dials a port of the pod's loopback, a port-forward each time.
    pub(crate) fn dial_port(
        &self,
        port: u16,
    ) -> impl Fn() -> BoxFuture<'static, io::Result<DuplexStream>> + Send + Sync + use<> {
        let (pods, pod) = (self.pods.clone(), self.pod.clone());
        move || forward(pods.clone(), pod.clone(), port).boxed()
    }
}

/// A branch host that is there.
struct Found {
    namespace: Namespace,
    pod: String,
    /// The `Source` that it follows.
    source: Option<String>,
}

/// The sources that hosts follow, each once.
fn sources(hosts: &[Found]) -> Vec<String> {
    let names = hosts.iter().filter_map(|host| host.source.clone());
    let names: BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

/// The pods of branch hosts that have this label; those that are ready come first.
async fn hosts(
    client: &Client,
    namespace: Option<&Namespace>,
    label: &str,
) -> Result<Vec<Found>, ClusterError> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace.as_str()),
        None => Api::all(client.clone()),
    };
    let which = ListParams::default().labels(label);
    let listed = pods.list(&which).await;
    let listed = listed.map_err(|error| {
        let (place, flag) = match namespace {
            Some(namespace) => (format!("namespace {namespace}"), format!("-n {namespace}")),
            None => ("all namespaces".to_owned(), "-A".to_owned()),
        };
        ClusterError::Api {
            tried: format!("look for branch hosts in {place}"),
            right: format!("list pods {flag}"),
            source: error.into(),
        }
    })?;
    let mut pods = listed.items;
    let goes = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    pods.sort_by_key(|pod| goes(pod) || !is_ready(pod));
    let named = pods.iter().filter_map(|pod| {
        // The API server takes no other names.
        let namespace = Namespace::new(pod.namespace()?).ok()?;
        Some(Found {
            namespace,
            pod: pod.name_any(),
            source: pod.labels().get(operator::SOURCE_LABEL).cloned(),
        })
    });
    Ok(named.collect())
}
