//! Turns `Branch` and `Source` resources into branch hosts, and keeps what the resources say in step with what the hosts'
//! engines say.
//!
//! ```text
//!   every LOOK_EVERY:  fetch     branches and sources, by the host that they share, and what its engine has   (look)
//!                      plan      what is missing or wrong, as pure functions   (branch::plan, source::plan)
//!                      apply     the host made or removed, the resource's status, finalizer, end
//! ```
//!
//! Of several operators one works (`leader`); the others wait for its end.
//!
//! Owns hosts and resources. Leaves making, keeping and expiring branches to the engine of each host, and asking it for
//! them to whoever wants one. Nothing is remembered between two looks: killed anywhere, the next one goes on.

pub mod agents;
mod branch;
mod clear;
mod host;
mod install;
#[cfg(test)]
mod killed;
mod leader;
mod limits;
mod look;
mod manifests;
mod note;
mod observed;
mod session;
mod source;
mod standing;
mod step;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

pub use branch::ASKED_ANNOTATION;
pub use clear::{ClearError, Cleared, clear};
pub use host::{
    CONTAINER as HOST_CONTAINER, DATA_DIR, HOST_LABEL, HostPod, HostPodError, HostSettings,
    PROGRAM, SOURCE_LABEL, TTL_MAX_VARIABLE, Wall,
};
pub use install::{Change, InstallError, apply, remove, title};
pub use leader::{Candidate, LEASE_NAME};
pub use limits::{LIMITS_NAME, Limits};
pub use manifests::{NAME, OWN_POD_LABEL, Wish, manifests, policies};
use observed::{Loop, Observed};
pub use session::{BEAT_ANNOTATION, SILENCE_MAX, STOPPED_ANNOTATION};
pub use source::{CLUSTER_DOMAIN, cluster_domain};
pub use standing::{
    AgentStanding, HostStanding, OperatorStanding, SessionStanding, SourceStanding, Standing,
    StandingError, standing,
};

/// How often everything is looked at. A branch's first host takes seconds to start, so that this is not what is waited
/// for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What an operator looks after.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces; none for all of them.
    pub namespaces: Vec<String>,
    /// As whom it stands for the lead; none where it is the only one.
    pub candidate: Option<Candidate>,
    /// The port that probes and metrics are answered on; none where nobody asks.
    pub port: Option<u16>,
    /// The domain of the names of the cluster's services.
    pub cluster_domain: String,
    /// How branch hosts look.
    pub host: HostSettings,
}

/// The port of probes and metrics cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port} for probes and metrics")]
pub struct ListenError {
    /// The port.
    pub port: u16,
    #[source]
    source: io::Error,
}

/// How long a lead may take to be given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(3);

/// Looks after branches until `shutdown` ends, while it leads. What fails is logged and tried again at the next look.
///
/// # Errors
/// [`ListenError`] when the port is not to be had, before anything is looked at.
pub async fn run(
    client: Client,
    settings: Settings,
    now: fn() -> Timestamp,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ListenError> {
    let observed = Arc::new(Observed::default());
    let answers = match settings.port {
        Some(port) => {
            let listener = observed::listen(port).await;
            let listener = listener.map_err(|source| ListenError { port, source })?;
            tracing::info!(port, "probes and metrics are answered");
            Some(observed::serve(listener, Arc::clone(&observed)))
        }
        None => None,
    };
    let work = work(client, &settings, now, &observed, shutdown);
    match answers {
        Some(answers) => tokio::select! {
            () = work => {}
            () = async { answers.await; std::future::pending().await } => {}
        },
        None => work.await,
    }
    Ok(())
}

async fn work(
    client: Client,
    settings: &Settings,
    now: fn() -> Timestamp,
    observed: &Observed,
    shutdown: impl Future<Output = ()>,
) {
    let Some(candidate) = &settings.candidate else {
        tokio::select! {
            () = shutdown => {}
            () = look_after(&client, settings, now, observed) => {}
        }
        return;
    };
    let (tell, mut leads) = watch::channel(None);
    let lead = async {
        loop {
            while !is_ahead(*leads.borrow_and_update()) {
                if leads.changed().await.is_err() {
                    return;
                }
            }
            tracing::info!("this operator leads");
            // Cut off anywhere, the next operator goes on.
            tokio::select! {
                () = lost(&mut leads) => tracing::warn!("this operator does not lead any more"),
                () = look_after(&client, settings, now, observed) => {}
            }
            observed.rests(Loop::Branches);
            observed.rests(Loop::Sessions);
            observed.figures.leads(false);
        }
    };
    tracing::info!(name = candidate.name, "standing for the lead");
    tokio::select! {
        () = shutdown => {}
        () = leader::keep(client.clone(), candidate.clone(), now, tell, observed) => {}
        () = lead => {}
    }
    let released = leader::release(client.clone(), candidate);
    if tokio::time::timeout(RELEASE_WITHIN, released)
        .await
        .is_err()
    {
        tracing::warn!("no answer when the lead was given back");
    }
}

fn is_ahead(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until > Instant::now())
}

/// Waits until the time has come that nothing has put off.
async fn lost(leads: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *leads.borrow_and_update();
        let Some(until) = until.filter(|until| is_ahead(Some(*until))) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}

async fn look_after(
    client: &Client,
    settings: &Settings,
    now: fn() -> Timestamp,
    observed: &Observed,
) {
    observed.figures.leads(true);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tracing::info!(namespaces = ?settings.namespaces, "looking after branches and sessions");
    let branches = async {
        let mut strays = look::Strays::default();
        loop {
            looks.tick().await;
            look::look(client, settings, observed, &mut strays, now()).await;
        }
    };
    tokio::select! {
        () = branches => {}
        () = session::look_after(client, settings, now, observed) => {}
    }
}
