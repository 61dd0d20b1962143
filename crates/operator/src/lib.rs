//! Turns `Branch` resources into branch hosts, and keeps what the resources say in step with what the hosts' engines say.
//!
//! ```text
//!   every LOOK_EVERY:  fetch     the branches, and of each namespace and version the host and what its engine has
//!                      plan      what is missing or wrong, as a pure function   (branch::plan)
//!                      apply     the host made or removed, the resource's status, finalizer, end
//! ```
//!
//! Owns hosts and resources. Leaves making, keeping and expiring branches to the engine of each host, and asking it for
//! them to whoever wants one. Nothing is remembered between two looks: killed anywhere, the next one goes on.

mod branch;
mod host;
mod manifests;

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;

pub use branch::ASKED_ANNOTATION;
pub use host::{DATA_DIR, HOST_LABEL, HostSettings, PROGRAM};
pub use manifests::manifests;

/// How often everything is looked at. A branch's first host takes seconds to start, so that this is not what is waited
/// for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What an operator looks after.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The one namespace; none for all of them.
    pub namespace: Option<String>,
    /// How branch hosts look.
    pub host: HostSettings,
}

/// Looks after branches until `shutdown` ends. What fails is logged and tried again at the next look.
pub async fn run(
    client: Client,
    settings: Settings,
    now: fn() -> Timestamp,
    shutdown: impl Future<Output = ()>,
) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    tracing::info!(
        namespace = settings.namespace.as_deref(),
        "looking after branches"
    );
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = looks.tick() => {}
        }
        // Cut off anywhere, the next operator goes on.
        tokio::select! {
            () = &mut shutdown => return,
            () = branch::look(&client, &settings, now()) => {}
        }
    }
}
