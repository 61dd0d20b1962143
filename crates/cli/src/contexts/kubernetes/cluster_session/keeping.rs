//! Heartbeats of a session's resource, and what their answers say of its end.
//!
//! ```text
//!   beat ──> it is there: somebody stopped it, who stands in it, or nothing happened
//!        ├── another one has its name: over; unless it is the one that was made again, whose answer was lost
//!        ├── it is gone, and we were heard since less than the operator's patience ──> somebody deleted it: over
//!        ├── it is gone after a longer silence of ours, as of a machine that slept ──> begun anew under its name
//!        └── no answer ──> the next beat
//! ```

use std::sync::Weak;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use operator::agents::ApiFailure;
use operator::{BEAT_ANNOTATION, SILENCE_MAX, STOPPED_ANNOTATION};
use resources::{Session, SessionSpec};
use serde_json::json;

use super::{Inner, REPLACED, lock, resource, uid_of};
use crate::clock;

/// Between two heartbeats: what stops the session is read from their answers as well.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// How long one, or a renewal, may take: a link that went away says nothing, and the next one makes another.
const BEAT_WITHIN: Duration = Duration::from_secs(10);

/// By what whoever makes the resource again knows it, should its answer be lost: drawn for that, and told nobody before.
const RENEWAL_ANNOTATION: &str = "bough.dev/renewal";

/// What follows from the answer to a heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next one.
    Go,
    /// The resource is made again.
    Renew,
    /// It is over, and why.
    Over(String),
}

/// Beats until the session is over, or gone with its last copy.
pub(super) async fn keep(session: Weak<Inner>) {
    let mut heard_at = clock::now();
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        let Some(session) = session.upgrade() else {
            return;
        };
        let now = clock::now();
        let Ok(answer) = tokio::time::timeout(BEAT_WITHIN, beat(&session, now)).await else {
            tracing::info!("a heartbeat has no answer");
            continue;
        };
        let is_heard = answer.is_ok();
        match follows(answer, &session.uid(), heard_at, now) {
            After::Go => {}
            After::Renew => {
                // Without an answer the next beat finds it missing once more.
                let renewal = tokio::time::timeout(BEAT_WITHIN, renew(&session)).await;
                if renewal.is_err() {
                    tracing::info!("the session's renewal has no answer");
                }
            }
            After::Over(why) => {
                session.over.send_replace(Some(why));
                return;
            }
        }
        if is_heard {
            heard_at = now;
        }
    }
}

pub(super) async fn beat(session: &Inner, now: Timestamp) -> Result<Session, ApiFailure> {
    let annotations = json!({BEAT_ANNOTATION: now.to_string()});
    // The API server refuses it where another object has the name.
    let patch = json!({"metadata": {"uid": session.uid(), "annotations": annotations}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = session.api.patch(&session.name, &params, &patch).await;
    match answer.map_err(ApiFailure::from) {
        // Another object has the name, or several wrote to this one at once: it says itself which.
        Err(failure) if failure.is_contested() => {
            let found = session.api.get(&session.name).await;
            found
                .inspect(|found| session.recognize(found))
                .map_err(ApiFailure::from)
        }
        answer => answer,
    }
}

/// Whether an object is the one that is being made again under this sign. Who read that since, and took the name, stands
/// in his object as who asked, by the API server's word.
pub(super) fn is_renewed(found: &Session, renewal: Option<&str>, spec: &SessionSpec) -> bool {
    let told = found.annotations().get(RENEWAL_ANNOTATION);
    renewal.is_some()
        && told.map(String::as_str) == renewal
        && found.spec.requester == spec.requester
        && found.spec.target == spec.target
}

/// What follows for the object of this uid, where we were last heard at `heard_at`, by the clock of the wall: that of a
/// machine stands still while it sleeps.
pub(super) fn follows(
    answer: Result<Session, ApiFailure>,
    uid: &str,
    heard_at: Timestamp,
    now: Timestamp,
) -> After {
    match answer {
        Ok(session) if uid_of(&session) != uid => After::Over(REPLACED.to_owned()),
        Ok(session) => match session.annotations().get(STOPPED_ANNOTATION) {
            Some(who) => After::Over(format!("{who} stopped the session")),
            None => After::Go,
        },
        Err(failure) if failure.is_not_found() => {
            if now.duration_since(heard_at) >= SILENCE_MAX {
                After::Renew
            } else {
                After::Over("somebody deleted the session's resource".to_owned())
            }
        }
        Err(failure) => {
            tracing::info!(%failure, "a heartbeat was not heard");
            After::Go
        }
    }
}

/// The resource made again, without what was asked for: who still waits asks again.
pub(super) async fn renew(session: &Inner) {
    let mut again = resource(&session.name, &session.spec);
    // The same until it is found: an earlier try may be on its way yet.
    let sign = lock(&session.renewal)
        .get_or_insert_with(|| format!("{:032x}", rand::random::<u128>()))
        .clone();
    let annotations = again.annotations_mut();
    annotations.insert(RENEWAL_ANNOTATION.to_owned(), sign);
    let made = session.api.create(&PostParams::default(), &again).await;
    match made {
        Ok(made) => session.recognize(&made),
        // An earlier one may have come through: the next beat looks.
        Err(error) => tracing::info!(%error, "the session's resource is not made again"),
    }
}
