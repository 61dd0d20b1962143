//! One look at everything: what there is, by who shares a host, then each host, its source and its branches in turn.
//!
//! Owns the order. Leaves what is to be done to `branch` and `source`, which say it as pure functions.

mod fetch;
mod group;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use model::engine_api::BranchView;
use resources::{Branch, BranchPhase, Source};
use tokio::time::Instant;

use crate::branch::{self, Action, Host};
use crate::host::{self, Answering, Presence};
use crate::observed::{HostState, Loop, Observed, Seen};
use crate::step::StepError;
use crate::{Settings, source};
use group::Group;

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
    let sources: Vec<&Source> = groups.iter().filter_map(|it| it.source.as_ref()).collect();
    let refused = branch::refusals(all, &sources, &allowed);
    let mut seen = Seen::default();
    for group in &groups {
        observed.turns(Loop::Branches);
        let branches = &group.branches;
        let (out, within): (Vec<&Branch>, Vec<&Branch>) = branches
            .iter()
            .partition(|it| refused.contains_key(&branch::key(it)));
        for it in out {
            seen.branch(&group.namespace, BranchPhase::Failed, 0);
            let actions = branch::plan_refused(it, &refused[&branch::key(it)], now);
            perform(client, observed, it, actions, now).await;
        }
        if group.is_left() {
            if let Err(error) = source::forget(client, &group.namespace, &group.home).await {
                tell(observed, &error);
            }
        } else if !within.is_empty() || group.source.is_some() {
            look_at(client, settings, observed, (group, &within), &mut seen, now).await;
        }
    }
    observed.figures.looked(&seen, began.elapsed());
}

/// Looks at one host, its source, and its branches.
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
    let standing = stand(client, settings, group).await;
    let state = match &standing {
        Ok((_, Host::Answers { .. })) => Some(HostState::Answers),
        Ok((_, Host::Starting(_))) => Some(HostState::Starting),
        Ok((_, Host::Gone(_))) => None,
        Err(_) => Some(HostState::Failing),
    };
    if let Some(state) = state {
        seen.host(&group.namespace, group.home.version, state);
    }
    let (answering, host) = match standing {
        Ok(standing) => standing,
        Err(error) => return tell(observed, &error),
    };
    if let Some(source) = &group.source
        && let Err(error) = source::look(client, source, &answering, now).await
    {
        tell(observed, &error);
    }
    for branch in branches {
        let actions = branch::plan(branch, &host, now);
        perform(client, observed, branch, actions, now).await;
    }
}

/// Makes the host of `group` where it is missing and needed; how it stands, and what its engine has.
async fn stand(
    client: &Client,
    settings: &Settings,
    group: &Group,
) -> Result<(Answering, Host), StepError> {
    let (namespace, home) = (&group.namespace, &group.home);
    let spec = group.source.as_ref().map(|it| &it.spec);
    let build = || host::build(namespace, home, spec, &settings.host);
    let needed = group.needs_host();
    if let Presence::Gone(why) = host::have(client, namespace, home, needed, build).await? {
        return Ok((Answering::Starting(why.clone()), Host::Gone(why)));
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &group.namespace);
    let answering = host::look(&pods, &group.home).await?;
    let host = ask(&pods, group, &answering).await?;
    Ok((answering, host))
}

/// Asks the engine of `group` for its branches.
async fn ask(pods: &Api<Pod>, group: &Group, answering: &Answering) -> Result<Host, StepError> {
    let pod = match answering {
        Answering::Starting(why) => return Ok(Host::Starting(why.clone())),
        Answering::In(pod) => pod.clone(),
    };
    let words = [
        "db-branches",
        "status",
        "--namespace",
        &group.namespace,
        "--output",
        "json",
    ];
    let text = host::ask(pods, &pod, &words).await?;
    match serde_json::from_str::<Vec<BranchView>>(&text) {
        Ok(branches) => Ok(Host::Answers { pod, branches }),
        Err(error) => Err(StepError::Engine {
            pod,
            words: error.to_string(),
        }),
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
        if let Err(error) = branch::action(client, branch, action, now).await {
            return tell(observed, &error);
        }
    }
}

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}
