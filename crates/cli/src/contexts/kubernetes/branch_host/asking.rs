//! Branches asked for by their resources: made or wanted again, kept wanted while their hosts are waited for, more time.
//!
//! ```text
//!   patch asked-at and TTL ──not there──> create ──> get, until status.host names a pod ──> that pod
//!        │     └── it is being deleted ──> get, until it is gone ──> create
//!        └── and asked-at of all of them every RENEW_EVERY, for as long as any is waited for
//! ```
//!
//! What is asked first has to be answered; while hosts are waited for an API server may be away, within HOST_WITHIN.
//!
//! A TTL goes through the resource whoever wants which: the API server has rules about it, the engine only a maximum.
//!
//! Owns the resources' wording and the wait for hosts. Leaves making branches to their hosts' engines.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use model::{BranchName, Namespace, Ttl};
use operator::agents::{ApiFailure, workload_of};
use resources::{Branch, BranchCopy, BranchPhase, BranchSpec, RowsOf};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::BranchWish;
use crate::clock;
use crate::contexts::kubernetes::error::ClusterError;

/// How long a branch's host may take to answer: its images may have to be pulled.
const HOST_WITHIN: Duration = Duration::from_secs(180);

/// How often the resource is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often it is said meanwhile that branches are still wanted: what nobody has asked for in 120 s the operator forgets.
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// How long the API server's policies may take to know what they are about: it looks that up every 30 s.
const POLICIES_WITHIN: Duration = Duration::from_secs(60);

/// How long nothing is said of that.
const POLICIES_TOLD_AFTER: Duration = Duration::from_secs(1);

/// How long a refusal may be an earlier one: the operator looks again every two seconds.
const REFUSAL_STALE: Duration = Duration::from_secs(6);

/// Requests of one namespace.
pub(super) struct Asking<'a> {
    api: Api<Branch>,
    namespace: &'a Namespace,
    /// Who asks, as the API server knows him; none where it does not say.
    requester: Option<String>,
    /// Says why it takes long.
    tell: Tell<'a>,
}

/// Shows a line.
pub(super) type Tell<'a> = &'a (dyn Fn(&str) + Sync);

impl<'a> Asking<'a> {
    /// In the name of whoever `client` is.
    ///
    /// # Errors
    /// [`ClusterError`] when the API server does not say who that is.
    pub(super) async fn new(
        client: &Client,
        namespace: &'a Namespace,
        tell: Tell<'a>,
    ) -> Result<Self, ClusterError> {
        Ok(Self {
            api: Api::namespaced(client.clone(), namespace.as_str()),
            namespace,
            requester: who_asks(client).await?,
            tell,
        })
    }

    /// Asks for branches and waits until each has a host; the hosts' pods, each with which of the wishes are its.
    ///
    /// # Errors
    /// [`ClusterError`] when the user may not ask, the operator refuses, or one has no host in time.
    pub(super) async fn hosts(
        &self,
        wishes: &[BranchWish],
    ) -> Result<BTreeMap<String, Vec<usize>>, ClusterError> {
        let mut heard = None;
        let hosts = self.ask_and_wait(wishes, &mut heard);
        let waited = tokio::time::timeout(HOST_WITHIN, hosts).await;
        waited.unwrap_or_else(|_| {
            let seconds = HOST_WITHIN.as_secs();
            let heard = heard.map_or_else(String::new, |why| format!(": {why}"));
            Err(ClusterError::NoHost {
                namespace: self.namespace.clone(),
                why: format!("none answers after {seconds} s{heard}"),
            })
        })
    }

    async fn ask_and_wait(
        &self,
        wishes: &[BranchWish],
        heard: &mut Option<String>,
    ) -> Result<BTreeMap<String, Vec<usize>>, ClusterError> {
        let mut believed_from = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let after = if self.ask(wish, heard).await? {
                Duration::ZERO
            } else {
                REFUSAL_STALE
            };
            believed_from.push(Instant::now() + after);
        }
        let waiting = async {
            let mut pods: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (index, (wish, from)) in wishes.iter().zip(believed_from).enumerate() {
                let pod = self.wait_for_host(wish, from, heard).await?;
                pods.entry(pod).or_default().push(index);
            }
            Ok(pods)
        };
        tokio::select! {
            pods = waiting => pods,
            error = self.keep_asking(wishes) => Err(error),
        }
    }

    /// Makes the resource, or says on the one that is there that it is wanted, and for how long. Whether it was made.
    /// `heard` is what one said last that goes.
    async fn ask(
        &self,
        wish: &BranchWish,
        heard: &mut Option<String>,
    ) -> Result<bool, ClusterError> {
        let name = BranchName::of(self.namespace, &wish.id);
        loop {
            let wanted = wanted_for(wish.ttl, clock::now());
            let patched = self.once_policies_know(|| patch(&self.api, &name, &wanted));
            match patched.await {
                // It goes, and is made anew then.
                Ok(branch) if branch.metadata.deletion_timestamp.is_some() => {
                    self.wait_until_gone(wish, &name, heard).await?;
                }
                Ok(_) => return Ok(false),
                Err(failure) if failure.is_not_found() => {
                    let requester = self.requester.clone();
                    let branch = resource(self.namespace, wish, requester, clock::now());
                    let made = self.once_policies_know(|| create(&self.api, &branch));
                    match made.await {
                        Ok(_) => return Ok(true),
                        Err(failure) if failure.is_conflict() => {}
                        Err(source) => return Err(self.failure("create", wish, source)),
                    }
                }
                Err(source) => return Err(self.failure("patch", wish, source)),
            }
        }
    }

    /// Tries for as long as policies refuse it because they do not know yet what they are about.
    async fn once_policies_know<F: Future<Output = Result<Branch, ApiFailure>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<Branch, ApiFailure> {
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            let failure = match attempt().await {
                Err(failure) if failure.is_of_new_policy() => failure,
                done => return done,
            };
            let waited = begun.elapsed();
            if waited >= POLICIES_WITHIN {
                return Err(failure);
            }
            if !is_told && waited >= POLICIES_TOLD_AFTER {
                is_told = true;
                let within = POLICIES_WITHIN.as_secs();
                (self.tell)(&format!(
                    "the cluster's policies do not know yet what they are about, as when they are new: waiting for up to {within} s"
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until one that is being deleted is gone, or another one has its name. Only looks: it has nothing to be asked for.
    async fn wait_until_gone(
        &self,
        wish: &BranchWish,
        name: &BranchName,
        heard: &mut Option<String>,
    ) -> Result<(), ClusterError> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = self.api.get(name.as_str()).await;
            match found.map_err(ApiFailure::from) {
                Ok(branch) if branch.metadata.deletion_timestamp.is_some() => {
                    *heard = branch.status.and_then(|status| status.message);
                }
                Ok(_) => return Ok(()),
                Err(failure) if failure.is_not_found() => return Ok(()),
                Err(failure) if failure.is_passing() => *heard = Some(failure.to_string()),
                Err(source) => return Err(self.failure("get", wish, source)),
            }
        }
    }

    /// Says again and again that all of them are wanted. Ends by an error alone.
    async fn keep_asking(&self, wishes: &[BranchWish]) -> ClusterError {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            for wish in wishes {
                let name = BranchName::of(self.namespace, &wish.id);
                let asked = json!({"metadata": {"annotations": asked_at(clock::now())}});
                match patch(&self.api, &name, &asked).await {
                    Ok(_) => {}
                    // It is said again before anybody forgets it.
                    Err(failure) if failure.is_passing() || failure.is_conflict() => {
                        tracing::info!(%failure, %name, "a branch is not asked for again just now");
                    }
                    Err(source) => return self.failure("patch", wish, source),
                }
            }
        }
    }

    /// The pod that the operator names. A refusal is one from `believed_from` on; `heard` is what the resource said last.
    async fn wait_for_host(
        &self,
        wish: &BranchWish,
        believed_from: Instant,
        heard: &mut Option<String>,
    ) -> Result<String, ClusterError> {
        let name = BranchName::of(self.namespace, &wish.id);
        loop {
            let found = self.api.get(name.as_str()).await;
            let found = match found.map_err(ApiFailure::from) {
                Ok(found) => found,
                Err(failure) if failure.is_passing() => {
                    *heard = Some(failure.to_string());
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(source) => return Err(self.failure("get", wish, source)),
            };
            let status = found.status.unwrap_or_default();
            if let Some(pod) = status.host {
                return Ok(pod);
            }
            heard.clone_from(&status.message);
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

/// Asks for another TTL of a branch that is there.
///
/// # Errors
/// [`ClusterError`] when the user may not ask, the cluster's rules refuse, or the branch has no resource.
pub(super) async fn ask_for_time(
    api: &Api<Branch>,
    name: &BranchName,
    ttl: Ttl,
) -> Result<(), ClusterError> {
    let namespace = api.namespace().unwrap_or("default");
    let patched = patch(api, name, &wanted_for(Some(ttl), clock::now())).await;
    patched.map(drop).map_err(|source| ClusterError::Api {
        tried: format!("ask for more time for branch {name} in namespace {namespace}"),
        right: format!("patch branches.bough.dev -n {namespace}"),
        source,
    })
}

async fn patch(api: &Api<Branch>, name: &BranchName, what: &Value) -> Result<Branch, ApiFailure> {
    let (params, merged) = (PatchParams::default(), Patch::Merge(what));
    let patched = api.patch(name.as_str(), &params, &merged).await;
    patched.map_err(ApiFailure::from)
}

async fn create(api: &Api<Branch>, branch: &Branch) -> Result<Branch, ApiFailure> {
    let made = api.create(&PostParams::default(), branch).await;
    made.map_err(ApiFailure::from)
}

/// What is said of a resource that is wanted: when, and of the one field of its spec that may change what is asked for.
fn wanted_for(ttl: Option<Ttl>, now: Timestamp) -> Value {
    let mut wanted = json!({"metadata": {"annotations": asked_at(now)}});
    if let Some(ttl) = ttl {
        wanted["spec"] = json!({"ttlSeconds": seconds(ttl)});
    }
    wanted
}

fn seconds(ttl: Ttl) -> u32 {
    u32::try_from(ttl.0).unwrap_or(u32::MAX)
}

/// The caller's name, which the admission policy compares with the resource's.
///
/// # Errors
/// [`ClusterError`] when the API server does not say.
pub(in crate::contexts::kubernetes) async fn who_asks(
    client: &Client,
) -> Result<Option<String>, ClusterError> {
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

fn asked_at(now: Timestamp) -> Value {
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
            mode: wish.copy.mode,
            tables: tables.collect(),
            dump_args: wish.copy.dump_args.clone(),
        },
        version: wish.version.0,
        ttl_seconds: seconds(wish.ttl.unwrap_or_default()),
        target: wish.target.as_ref().and_then(workload_of),
        requester,
    };
    let name = BranchName::of(namespace, &wish.id);
    let mut branch = Branch::new(name.as_str(), spec);
    let time = (operator::ASKED_ANNOTATION.to_owned(), now.to_string());
    branch.metadata.annotations = Some([time].into());
    branch
}

#[cfg(test)]
mod tests;
