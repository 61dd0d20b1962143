//! `Branch`: fetched by namespace and version, planned purely, applied one by one.

mod apply;
mod fetch;
mod plan;
mod refusal;

use jiff::Timestamp;
use kube::Client;
use tokio::time::Instant;

use crate::Settings;
use crate::observed::{HostState, Loop, Observed, Seen};
use fetch::Group;
use plan::{Action, Host};
use resources::{Branch, BranchPhase};

pub(crate) use fetch::{ask, unready};
pub use plan::ASKED_ANNOTATION;

/// What went wrong with one step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The API server refused or did not answer.
    #[error("cannot {tried}")]
    Api {
        /// What was tried, with which object.
        tried: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A host's engine does not say what it has.
    #[error("the engine of {pod} does not answer: {words}")]
    Engine {
        /// The host's pod.
        pod: String,
        /// What it says instead.
        words: String,
    },
}

impl StepError {
    /// Whose answer was missing, in a word.
    fn of(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Engine { .. } => "engine",
        }
    }
}

/// Looks at everything once.
pub(crate) async fn look(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) {
    let began = Instant::now();
    observed.turns(Loop::Branches);
    let groups = match fetch::groups(client, &settings.namespaces).await {
        Ok(groups) => groups,
        Err(error) => return tell(observed, &error),
    };
    let allowed = match fetch::allowed(client, settings).await {
        Ok(allowed) => allowed,
        Err(error) => return tell(observed, &error),
    };
    observed.answered();
    let all = groups.iter().flat_map(|group| &group.branches);
    let refused = refusal::refusals(all, &allowed);
    let mut seen = Seen::default();
    for group in &groups {
        observed.turns(Loop::Branches);
        let branches = &group.branches;
        let (out, within): (Vec<&Branch>, Vec<&Branch>) = branches
            .iter()
            .partition(|branch| refused.contains_key(&refusal::key(branch)));
        for branch in out {
            seen.branch(&group.namespace, BranchPhase::Failed, 0);
            let why = &refused[&refusal::key(branch)];
            perform(
                client,
                observed,
                branch,
                plan::refuse(branch, why, now),
                now,
            )
            .await;
        }
        if !within.is_empty() {
            look_at(client, settings, observed, (group, &within), &mut seen, now).await;
        }
    }
    observed.figures.looked(&seen, began.elapsed());
}

/// Looks at the branches of one host, and at it.
async fn look_at(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
    (group, branches): (&Group, &[&Branch]),
    seen: &mut Seen,
    now: Timestamp,
) {
    for branch in branches {
        let status = branch.status.clone().unwrap_or_default();
        seen.branch(&group.namespace, status.phase, status.sessions);
    }
    let host = match apply::host(client, group, &settings.host).await {
        Ok(()) => fetch::host(client, group).await,
        Err(error) => Err(error),
    };
    let state = match &host {
        Ok(Host::Answers { .. }) => HostState::Answers,
        Ok(Host::Starting(_)) => HostState::Starting,
        Err(_) => HostState::Failing,
    };
    seen.host(&group.namespace, group.version, state);
    let host = match host {
        Ok(host) => host,
        Err(error) => return tell(observed, &error),
    };
    for branch in branches {
        perform(
            client,
            observed,
            branch,
            plan::plan(branch, &host, now),
            now,
        )
        .await;
    }
}

/// Does what is to be done about one branch, up to the first step that fails.
async fn perform(
    client: &Client,
    observed: &Observed,
    branch: &Branch,
    actions: Vec<Action>,
    now: Timestamp,
) {
    for action in actions {
        if let Err(error) = apply::action(client, branch, action, now).await {
            return tell(observed, &error);
        }
    }
}

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}
