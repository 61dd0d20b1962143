//! `Source`: a shared database by name, whose base its host's engine keeps from before anybody asks for a branch.
//!
//! Owns what the engine of its host is told of it, and what the resource says. Leaves the host to `host`, following to the
//! engine, and which branches come from it to `look`.

mod address;
mod apply;
mod plan;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use resources::Source;

use crate::host::{self, Answering, Home};
use crate::step::StepError;
pub(crate) use address::is_of;
use plan::Kept;

/// Has the engine of a source's host keep its base, and the resource say how that stands.
///
/// # Errors
/// [`StepError`] with the first step that failed; what the engine says against it stands in the resource instead.
pub(crate) async fn look(
    client: &Client,
    source: &Source,
    answering: &Answering,
    now: Timestamp,
) -> Result<(), StepError> {
    let kept = match answering {
        Answering::Starting(why) => Kept::Starting(why.clone()),
        Answering::In { pod, laid } if *laid != host::wanted(&source.spec) => Kept::Outdated {
            pod: pod.clone(),
            laid: laid.clone(),
        },
        Answering::In { pod, .. } => {
            let pods: Api<Pod> =
                Api::namespaced(client.clone(), &source.namespace().unwrap_or_default());
            let known = apply::known(&pods, pod, source).await?;
            let kept = Kept::In {
                pod: pod.clone(),
                known,
            };
            if plan::is_due(source, &kept, now) {
                let added = apply::add(&pods, pod, source).await?;
                plan::after_adding(kept, added)
            } else {
                kept
            }
        }
    };
    match plan::status(source, &kept, now) {
        Some(status) => apply::tell(client, source, &status).await,
        None => Ok(()),
    }
}

/// Ends the host of a source that is gone.
///
/// # Errors
/// [`StepError`] when the host stays, for the next look.
pub(crate) async fn forget(client: &Client, namespace: &str, home: &Home) -> Result<(), StepError> {
    release(client, namespace, home).await?;
    host::delete(client, namespace, home).await
}

/// Has the engine of a source's host take back what it has on the source, a slot or a subscription. One that does not
/// answer keeps nothing there that the source does not bound itself.
///
/// # Errors
/// [`StepError::Api`] when the API server does not say how the host stands.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    home: &Home,
) -> Result<(), StepError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    if let (Answering::In { pod, .. }, Some(name)) = (host::look(&pods, home).await?, &home.source)
        && let Err(error) = host::ask(&pods, &pod, &["source", "rm", name]).await
    {
        tracing::warn!(namespace, name, "the source was not told: {error}");
    }
    Ok(())
}
