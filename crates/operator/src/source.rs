//! `Source`: a shared database by name, whose base the engine of each of its hosts keeps from before anybody asks for a
//! branch.
//!
//! Owns what the engines of its hosts are told of it, and what the resource says. Leaves hosts to `host`, following to the
//! engine, and which branches come from it, on which host, to `look`.

mod address;
mod apply;
mod plan;
mod summary;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use resources::{SOURCE_HOSTS_MAX, Source};

use crate::host::{self, Answering, Home};
use crate::note;
use crate::step::StepError;
pub use address::{CLUSTER_DOMAIN, cluster_domain};
pub(crate) use address::{is_of, is_written};
pub(crate) use plan::Kept;

/// Has the engine of one of a source's hosts, `pod`, keep its base; how that stands.
///
/// # Errors
/// [`StepError`] with the first step that failed; what the engine says against it is given instead.
pub(crate) async fn look(
    client: &Client,
    source: &Source,
    pod: &str,
    answering: &Answering,
    now: Timestamp,
) -> Result<Kept, StepError> {
    match answering {
        Answering::Starting(why) => Ok(Kept::Starting(why.clone())),
        Answering::In { laid, .. } if *laid != host::wanted(&source.spec) => {
            Ok(Kept::Outdated(laid.clone()))
        }
        Answering::In { .. } => {
            let pods: Api<Pod> =
                Api::namespaced(client.clone(), &source.namespace().unwrap_or_default());
            let kept = Kept::In(apply::known(&pods, pod, source).await?);
            if plan::is_due(source, pod, &kept, now) {
                let added = apply::add(&pods, pod, source).await?;
                Ok(plan::after_adding(kept, added))
            } else {
                Ok(kept)
            }
        }
    }
}

/// Has the resource say how the source stands with its hosts, those that were looked at: each with its pod, in their order.
///
/// # Errors
/// [`StepError`] when the API server refuses or does not answer.
pub(crate) async fn tell(
    client: &Client,
    source: &Source,
    hosts: &[(String, Option<Kept>)],
    now: Timestamp,
) -> Result<(), StepError> {
    match summary::status(source, hosts, now) {
        Some(status) => {
            apply::tell(client, source, &status).await?;
            if let Some(said) = summary::note(source, &status) {
                note::write(client, source, said, now).await;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Ends the hosts of a source that is gone.
///
/// # Errors
/// [`StepError`] when they stay, for the next look.
pub(crate) async fn forget(client: &Client, namespace: &str, home: &Home) -> Result<(), StepError> {
    release(client, namespace, home).await?;
    host::delete(client, namespace, home).await
}

/// Has the engines of a source's hosts take back what they have on the source, side by side, as [`release_one`] does.
///
/// # Errors
/// [`StepError::Api`] when the API server does not say how a host stands.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    home: &Home,
) -> Result<(), StepError> {
    let all = (0..SOURCE_HOSTS_MAX).map(|ordinal| release_one(client, namespace, home, ordinal));
    try_join_all(all).await.map(drop)
}

/// Has the engine of one host take back what it has on its source, a slot or a subscription. One that does not answer
/// keeps nothing there that the source does not bound itself.
///
/// # Errors
/// [`StepError::Api`] when the API server does not say how the host stands.
pub(crate) async fn release_one(
    client: &Client,
    namespace: &str,
    home: &Home,
    ordinal: u16,
) -> Result<(), StepError> {
    let Some(name) = &home.source else {
        return Ok(());
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    if let Answering::In { pod, .. } = host::look(&pods, &home.pod(ordinal)).await?
        && let Err(error) = host::ask(&pods, &pod, &["source", "rm", name]).await
    {
        tracing::warn!(namespace, name, pod, "the source was not told: {error}");
    }
    Ok(())
}
