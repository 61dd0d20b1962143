//! Branch hosts as a session and `db-branches` see them: asked for by `Branch` resources, met through a socket here.
//!
//! ```text
//!   Branch resources ──operator──> a host's pod ──> the engine in it
//!   <data dir>/hosts/XXXXXX/engine.sock ──exec──> that engine     (tunnel)
//!   127.0.0.1:PORT ──port-forward──> a branch's door in the pod   (door)
//! ```
//!
//! The socket stands where the engine of this machine would have its own, so that whoever speaks to an engine speaks to
//! either. Owns the resources' wording and the wait for a host. Leaves branches to the engine.

mod door;
mod tunnel;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use model::engine_api::SourceName;
use model::{
    BranchId, BranchName, CopyMode, CopySpec, Namespace, PgMajor, PgUrl, TargetKind, TargetRef, Ttl,
};
use resources::{
    Branch, BranchCopy, BranchPhase, BranchSpec, CopyModeName, RowsOf, Workload, WorkloadKind,
};
use serde_json::json;
use tokio::time::Instant;

use super::error::{ApiFailure, ClusterError};
use super::kubeconfig::Kubeconfig;
use super::source_version;
use crate::clock;
use crate::settings::Settings;
use tunnel::EngineTunnel;

/// How long a branch's host may take to answer: its images may have to be pulled.
const HOST_WITHIN: Duration = Duration::from_secs(180);

/// How often the resource is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long a refusal may be an earlier one: the operator looks again every two seconds.
const REFUSAL_STALE: Duration = Duration::from_secs(6);

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
    /// How long it outlives its last session.
    pub(crate) ttl: Ttl,
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
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not ask, or no operator gives a host in time.
    pub(crate) async fn request(
        kubeconfig: &Kubeconfig,
        namespace: &Namespace,
        wishes: &[BranchWish],
        settings: &Settings,
    ) -> Result<Vec<(Self, Vec<usize>)>, ClusterError> {
        let client = kubeconfig.client().await?;
        let asking = Asking {
            api: Api::namespaced(client.clone(), namespace.as_str()),
            namespace,
            requester: who_asks(&client).await?,
        };
        let waited = tokio::time::timeout(HOST_WITHIN, async {
            let mut believed_from = Vec::with_capacity(wishes.len());
            for wish in wishes {
                let is_new = asking.ask(wish).await?;
                let after = if is_new {
                    Duration::ZERO
                } else {
                    REFUSAL_STALE
                };
                believed_from.push(Instant::now() + after);
            }
            let mut pods: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (index, (wish, from)) in wishes.iter().zip(believed_from).enumerate() {
                let pod = asking.wait_for_host(wish, from).await?;
                pods.entry(pod).or_default().push(index);
            }
            Ok(pods)
        });
        let pods = waited.await.unwrap_or_else(|_| {
            Err(ClusterError::NoHost {
                namespace: namespace.clone(),
                why: format!("none answers after {} s", HOST_WITHIN.as_secs()),
            })
        })?;
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
    ) -> Result<Self, ClusterError> {
        let hosts = Self::request(kubeconfig, namespace, &[wish], settings).await?;
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

    /// The host that follows the `Source` of this name.
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
                known: found.into_iter().filter_map(|host| host.source).collect(),
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

    /// A port of this machine's loopback that leads to a branch's door, for as long as this program runs.
    ///
    /// # Errors
    /// [`ClusterError`] when there is none.
    pub(crate) async fn lead_to_door(&self, port: u16) -> Result<SocketAddr, ClusterError> {
        let led = door::lead(self.pods.clone(), self.pod.clone(), port).await;
        led.map_err(|source| ClusterError::Tunnel {
            pod: self.pod.clone(),
            source,
        })
    }
}

/// A branch host that is there.
struct Found {
    namespace: Namespace,
    pod: String,
    /// The `Source` that it follows.
    source: Option<String>,
}

/// The pods of branch hosts that have this label.
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
    let named = listed.items.iter().filter_map(|pod| {
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

/// Requests of one namespace.
struct Asking<'a> {
    api: Api<Branch>,
    namespace: &'a Namespace,
    /// Who asks, as the API server knows him; none where it does not say.
    requester: Option<String>,
}

impl Asking<'_> {
    /// Makes the resource, or says on the one that is there that it is wanted. Whether it was made.
    async fn ask(&self, wish: &BranchWish) -> Result<bool, ClusterError> {
        let name = BranchName::of(self.namespace, &wish.id);
        loop {
            let asked = json!({"metadata": {"annotations": asked_at(clock::now())}});
            let patched = self
                .api
                .patch(name.as_str(), &PatchParams::default(), &Patch::Merge(asked))
                .await;
            match patched.map_err(ApiFailure::from) {
                // It goes, and is made anew then.
                Ok(branch) if branch.metadata.deletion_timestamp.is_some() => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(_) => return Ok(false),
                Err(failure) if failure.is_not_found() => {
                    let requester = self.requester.clone();
                    let branch = resource(self.namespace, wish, requester, clock::now());
                    let made = self.api.create(&PostParams::default(), &branch).await;
                    match made.map_err(ApiFailure::from) {
                        Ok(_) => return Ok(true),
                        Err(failure) if failure.is_conflict() => {}
                        Err(source) => return Err(self.failure("create", wish, source)),
                    }
                }
                Err(source) => return Err(self.failure("patch", wish, source)),
            }
        }
    }

    /// The pod that the operator names. A refusal is one from `believed_from` on.
    async fn wait_for_host(
        &self,
        wish: &BranchWish,
        believed_from: Instant,
    ) -> Result<String, ClusterError> {
        let name = BranchName::of(self.namespace, &wish.id);
        loop {
            let found = self.api.get(name.as_str()).await;
            let found = found.map_err(|error| self.failure("get", wish, error.into()))?;
            let status = found.status.unwrap_or_default();
            if let Some(pod) = status.host {
                return Ok(pod);
            }
            if let (BranchPhase::Failed, Some(why)) = (status.phase, status.message)
                && Instant::now() >= believed_from
            {
                return Err(ClusterError::NoRoom {
                    id: wish.id.to_string(),
                    namespace: self.namespace.clone(),
                    why,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn failure(&self, verb: &str, wish: &BranchWish, source: ApiFailure) -> ClusterError {
        ClusterError::Api {
            tried: format!("ask for branch {} in namespace {}", wish.id, self.namespace),
            right: format!("{verb} branches.bough.dev -n {}", self.namespace),
            source,
        }
    }
}

/// The caller's name, which the admission policy compares with the resource's.
async fn who_asks(client: &Client) -> Result<Option<String>, ClusterError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = SelfSubjectReview::default();
    match api
        .create(&PostParams::default(), &review)
        .await
        .map_err(ApiFailure::from)
    {
        Ok(answer) => Ok(answer
            .status
            .and_then(|status| status.user_info)
            .and_then(|user| user.username)),
        // Before Kubernetes 1.28 nobody is told, and no policy asks.
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(source) => Err(ClusterError::Api {
            tried: "ask the cluster as whom it knows you".to_owned(),
            right: "create selfsubjectreviews.authentication.k8s.io".to_owned(),
            source,
        }),
    }
}

fn asked_at(now: Timestamp) -> serde_json::Value {
    json!({ operator::ASKED_ANNOTATION: now.to_string() })
}

fn resource(
    namespace: &Namespace,
    wish: &BranchWish,
    requester: Option<String>,
    now: Timestamp,
) -> Branch {
    let tables = wish.copy.tables.iter().map(|(table, rows)| {
        let filter = rows.filter.clone();
        (table.clone(), RowsOf { filter })
    });
    let spec = BranchSpec {
        id: wish.id.to_string(),
        source: wish.source.clone(),
        copy: BranchCopy {
            mode: match wish.copy.mode {
                CopyMode::Empty => CopyModeName::Empty,
                CopyMode::Schema => CopyModeName::Schema,
                CopyMode::All => CopyModeName::All,
            },
            tables: tables.collect(),
            dump_args: wish.copy.dump_args.clone(),
        },
        version: wish.version.0,
        ttl_seconds: u32::try_from(wish.ttl.0).unwrap_or(u32::MAX),
        target: wish.target.as_ref().and_then(workload),
        requester,
    };
    let name = BranchName::of(namespace, &wish.id);
    let mut branch = Branch::new(name.as_str(), spec);
    let time = (operator::ASKED_ANNOTATION.to_owned(), now.to_string());
    branch.metadata.annotations = Some([time].into());
    branch
}

fn workload(target: &TargetRef) -> Option<Workload> {
    let kind = match target.kind {
        TargetKind::Pod => WorkloadKind::Pod,
        TargetKind::Deployment => WorkloadKind::Deployment,
        TargetKind::Rollout => WorkloadKind::Rollout,
        TargetKind::Job => WorkloadKind::Job,
        TargetKind::CronJob => WorkloadKind::CronJob,
        TargetKind::StatefulSet => WorkloadKind::StatefulSet,
        TargetKind::Service => WorkloadKind::Service,
        TargetKind::ReplicaSet => WorkloadKind::ReplicaSet,
        TargetKind::Label => return None,
    };
    Some(Workload {
        kind,
        name: target.name.clone(),
        container: target.container.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_says_what_is_wanted_and_no_secret() {
        let namespace = Namespace::new("metalmart").expect("a namespace");
        let wish = BranchWish {
            id: BranchId::new("my debug/session").expect("an id"),
            source: "db:5432/inventory".to_owned(),
            version: PgMajor(16),
            copy: CopySpec::all(),
            ttl: Ttl(300),
            target: Some("deployment/inventory".parse().expect("a target")),
        };
        let now = "2026-01-02T12:00:00Z".parse().expect("a time");
        let written = resource(&namespace, &wish, Some("alice".to_owned()), now);
        let written = serde_json::to_value(written).expect("JSON");
        let name = BranchName::of(&namespace, &wish.id);
        assert_eq!(
            written,
            json!({
                "apiVersion": "bough.dev/v1alpha1", "kind": "Branch",
                "metadata": {
                    "name": name.as_str(),
                    "annotations": {"bough.dev/asked-at": "2026-01-02T12:00:00Z"},
                },
                "spec": {
                    "id": "my debug/session", "source": "db:5432/inventory", "version": 16,
                    "copy": {"mode": "all"}, "ttlSeconds": 300,
                    "target": {"kind": "Deployment", "name": "inventory"},
                    "requester": "alice",
                },
            })
        );
    }
}
