//! The record of the leader: a `coordination.k8s.io/Lease`, read and written with its version.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::observed::{Loop, Observed};

use super::{Action, Event, LEASE, LOOK_EVERY, RENEW_WITHIN, Record, State, step};

/// The name of the record.
pub const LEASE_NAME: &str = "bough-operator";

/// An operator that would lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name, its own among all of them: its pod's.
    pub name: String,
    /// The namespace that the record is in.
    pub namespace: String,
}

/// Says for as long as it is polled until when this operator leads; none: it does not.
pub(crate) async fn keep(
    client: Client,
    candidate: Candidate,
    now: fn() -> Timestamp,
    leads: watch::Sender<Option<Instant>>,
    observed: &Observed,
) {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let start = Instant::now();
    let mut state = State::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        observed.turns(Loop::Lead);
        // An answer that does not come is none, long before a leader has to stop.
        let found = tokio::time::timeout(LOOK_EVERY, api.get_opt(LEASE_NAME)).await;
        let (event, found) = match found {
            Ok(Ok(found)) => {
                observed.answered();
                (Event::Looked(found.as_ref().map(record)), found)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look at the lease {LEASE_NAME}");
                (Event::Failed, None)
            }
            Err(_) => (Event::Failed, None),
        };
        let (next, action) = step(state, event, &candidate.name, start.elapsed());
        state = next;
        if let Some(wanted) = wanted(&action, found, &candidate, now()) {
            let sent = start.elapsed();
            let event = match write(&api, &wanted, &action).await {
                true => Event::Wrote { sent },
                false => Event::Failed,
            };
            state = step(state, event, &candidate.name, start.elapsed()).0;
        }
        let until = match &state {
            State::Leading { until } => Some(start + *until),
            State::Unknown | State::Following { .. } => None,
        };
        leads.send_replace(until);
    }
}

/// Gives the record back, so that the next one need not wait. A failure costs it [`LEASE`].
pub(crate) async fn release(client: Client, candidate: &Candidate) {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let Ok(Some(mut found)) = api.get_opt(LEASE_NAME).await else {
        return;
    };
    if record(&found).holder.as_deref() != Some(&candidate.name) {
        return;
    }
    found.spec.get_or_insert_default().holder_identity = None;
    let given = api
        .replace(LEASE_NAME, &PostParams::default(), &found)
        .await;
    if let Err(error) = given {
        tracing::warn!(%error, "cannot give the lease {LEASE_NAME} back");
    }
}

fn record(lease: &Lease) -> Record {
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.clone());
    Record {
        holder: holder.filter(|holder| !holder.is_empty()),
        version: lease.resource_version().unwrap_or_default(),
    }
}

/// The record as it is to be, if it is to be written.
fn wanted(
    action: &Action,
    found: Option<Lease>,
    candidate: &Candidate,
    now: Timestamp,
) -> Option<Lease> {
    let taken = match action {
        Action::Wait => return None,
        Action::Create => true,
        Action::Write { taken, .. } => *taken,
    };
    let mut lease = found.unwrap_or_default();
    lease.metadata.name = Some(LEASE_NAME.to_owned());
    let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(candidate.name.clone());
    spec.lease_duration_seconds = i32::try_from(LEASE.as_secs()).ok();
    // For people and other tools: nobody here compares clocks.
    spec.renew_time = Some(MicroTime(now));
    if taken {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |it| it + 1));
    }
    Some(lease)
}

/// Whether the record was taken as it was written. The version in it is what the API server compares.
async fn write(api: &Api<Lease>, wanted: &Lease, action: &Action) -> bool {
    let params = PostParams::default();
    let written = tokio::time::timeout(RENEW_WITHIN / 2, async {
        match action {
            Action::Create => api.create(&params, wanted).await,
            Action::Wait | Action::Write { .. } => api.replace(LEASE_NAME, &params, wanted).await,
        }
    });
    match written.await {
        Ok(Ok(_)) => true,
        // Another one was first.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => false,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot write the lease {LEASE_NAME}");
            false
        }
        Err(_) => {
            let within: Duration = RENEW_WITHIN / 2;
            tracing::warn!(
                seconds = within.as_secs(),
                "no answer about the lease {LEASE_NAME}"
            );
            false
        }
    }
}
