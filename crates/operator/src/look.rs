//! One look at everything: what there is, by who shares a host, then the hosts side by side, each with its source and its
//! branches.
//!
//! Owns the order. Leaves what is to be done to `branch` and `source`, which say it as pure functions.

mod fetch;
mod group;

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use model::engine_api::BranchView;
use resources::{Branch, BranchPhase, Source};
use tokio::time::Instant;

use crate::branch::{self, Action, Host};
use crate::host::{self, Answering, Home, Presence};
use crate::limits::{Allowed, LimitError};
use crate::observed::{HostState, Loop, Observed, Seen};
use crate::step::StepError;
use crate::{Settings, source};
pub(crate) use fetch::places;
use group::Group;

/// Hosts that are looked at side by side: one that hangs takes half a minute for each question, and holds few others up.
const HOSTS_AT_ONCE: usize = 16;

/// Looks at everything once.
pub(crate) async fn look(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
    now: Timestamp,
) {
    let began = Instant::now();
    observed.turns(Loop::Branches);
    let (groups, allowed) = match read(client, settings, observed).await {
        Ok(read) => read,
        Err(error) => {
            tell(observed, &error);
            return observed.looked(Some(error.told()));
        }
    };
    observed.answered();
    observed.looked(None);
    let all = groups.iter().flat_map(|group| &group.branches);
    let sources: Vec<&Source> = groups.iter().filter_map(|it| it.source.as_ref()).collect();
    let turn = Turn {
        client,
        settings,
        observed,
        refused: branch::refusals(all, &sources, &allowed),
        now,
    };
    let mut seen = Seen::default();
    for group in &groups {
        for branch in &group.branches {
            let status = branch.status.clone().unwrap_or_default();
            let (phase, sessions) = match turn.refused.get(&branch::key(branch)) {
                Some(_) => (BranchPhase::Failed, 0),
                None => (status.phase, status.sessions),
            };
            seen.branch(&group.namespace, phase, sessions);
        }
    }
    let looks = stream::iter(&groups).map(|group| turn.take(group));
    let states: Vec<_> = looks.buffer_unordered(HOSTS_AT_ONCE).collect().await;
    for (group, state) in states {
        if let Some(state) = state {
            seen.host(&group.namespace, group.home.version, state);
        }
    }
    observed.figures.looked(&seen, began.elapsed());
}

/// What there is, and what is allowed. A namespace that cannot be read, as one that is gone, is told and left out whole: the
/// others have an operator all the same.
async fn read(
    client: &Client,
    settings: &Settings,
    observed: &Observed,
) -> Result<(Vec<Group>, Result<Allowed, LimitError>), StepError> {
    let (mut groups, mut has_read, mut failed) = (Vec::new(), false, None);
    for place in places(&settings.namespaces) {
        match fetch::groups(client, place).await {
            Ok(found) => {
                has_read = true;
                groups.extend(found);
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    tell(observed, &earlier);
                }
            }
        }
    }
    match failed {
        Some(error) if !has_read => return Err(error),
        Some(error) => tell(observed, &error),
        None => {}
    }
    let allowed = fetch::allowed(client, settings).await?;
    Ok((groups, allowed))
}

/// What a look at one host goes by.
struct Turn<'a> {
    client: &'a Client,
    settings: &'a Settings,
    observed: &'a Observed,
    refused: BTreeMap<branch::Key, String>,
    now: Timestamp,
}

impl Turn<'_> {
    /// Looks at one host, its source, and its branches; gives how the host stands, where there is one.
    async fn take<'g>(&self, group: &'g Group) -> (&'g Group, Option<HostState>) {
        self.observed.turns(Loop::Branches);
        let mut within = Vec::new();
        for branch in &group.branches {
            match self.refused.get(&branch::key(branch)) {
                Some(why) => {
                    let actions = branch::plan_refused(branch, why, self.now);
                    self.perform(branch, actions).await;
                }
                None => within.push(branch),
            }
        }
        if group.is_left() {
            let forgotten = source::forget(self.client, &group.namespace, &group.home).await;
            if let Err(error) = forgotten {
                tell(self.observed, &error);
            }
            return (group, None);
        }
        if within.is_empty() && group.source.is_none() {
            return (group, None);
        }
        (group, self.look_at(group, &within).await)
    }

    async fn look_at(&self, group: &Group, branches: &[&Branch]) -> Option<HostState> {
        let standing = stand(self, group).await;
        let (answering, host) = match standing {
            Ok(standing) => standing,
            Err(error) => {
                tell(self.observed, &error);
                return Some(HostState::Failing);
            }
        };
        if let Some(source) = &group.source
            && let Err(error) = source::look(self.client, source, &answering, self.now).await
        {
            tell(self.observed, &error);
        }
        for branch in branches {
            let actions = branch::plan(branch, &host, self.now);
            self.perform(branch, actions).await;
        }
        match host {
            Host::Answers { .. } => Some(HostState::Answers),
            Host::Starting(_) => Some(HostState::Starting),
            Host::Gone(_) => None,
        }
    }

    /// Does what is to be done about one branch, up to the first step that fails.
    async fn perform(&self, branch: &Branch, actions: Vec<Action>) {
        for action in actions {
            if let Err(error) = branch::action(self.client, branch, action, self.now).await {
                return tell(self.observed, &error);
            }
        }
    }
}

/// Makes the host of `group` where it is missing and needed, renews one that is there; how it stands, and what its engine
/// has.
async fn stand(turn: &Turn<'_>, group: &Group) -> Result<(Answering, Host), StepError> {
    let client = turn.client;
    let (namespace, home) = (&group.namespace, &group.home);
    let spec = group.source.as_ref().map(|it| &it.spec);
    let today = host::build(namespace, home, spec, &turn.settings.host);
    let needed = group.needs_host();
    let there = match host::have(client, namespace, home, needed, &today).await? {
        Presence::There(there) => there,
        Presence::Gone(why) => return Ok((Answering::Starting(why.clone()), Host::Gone(why))),
    };
    if let Some(other) = Home::of(&there).filter(|it| it != home) {
        let (name, version) = (home.name(), other.version);
        let why =
            format!("its host {name} is version {version}'s until the last branch there is gone");
        return Ok((Answering::Starting(why.clone()), Host::Starting(why)));
    }
    // One that is as it was serves all the same.
    if let Err(error) = host::renew(client, namespace, home, &there, &today).await {
        tell(turn.observed, &error);
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
        Answering::In { pod, .. } => pod.clone(),
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

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}
