//! Heartbeats of a session's resource, and what their answers say of its end.
//!
//! ```text
//!   beat ──> it is there: somebody stopped it, who stands in it, or nothing happened
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
use resources::Session;
use serde_json::json;

use super::{Inner, resource};
use crate::clock;

/// Between two heartbeats: what stops the session is read from their answers as well.
const BEAT_EVERY: Duration = Duration::from_secs(5);

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
        let answer = beat(&session, now).await;
        let is_heard = answer.is_ok();
        match follows(answer, heard_at, now) {
            After::Go => {}
            After::Renew => renew(&session).await,
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

async fn beat(session: &Inner, now: Timestamp) -> Result<Session, ApiFailure> {
    let patch = json!({"metadata": {"annotations": {BEAT_ANNOTATION: now.to_string()}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = session.api.patch(&session.name, &params, &patch).await;
    answer.map_err(ApiFailure::from)
}

/// What follows, where we were last heard at `heard_at`, by the clock of the wall: that of a machine stands still while it
/// sleeps.
pub(super) fn follows(
    answer: Result<Session, ApiFailure>,
    heard_at: Timestamp,
    now: Timestamp,
) -> After {
    match answer {
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
async fn renew(session: &Inner) {
    let again = resource(&session.name, &session.spec);
    let made = session.api.create(&PostParams::default(), &again).await;
    if let Err(error) = made {
        tracing::info!(%error, "the session's resource is not made again");
    }
}
