//! One look at everything: what there is, by who shares hosts that are alike, then these side by side, each with its source
//! and its branches.
//!
//! Owns the order. Leaves what is to be done to `branch` and `source`, which say it as pure functions, and the hosts of one
//! group to `hosts`.

mod fetch;
mod group;
mod hosts;
mod share;

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use resources::{Branch, BranchPhase, Source};
use tokio::time::Instant;

use crate::branch::{self, Action};
use crate::limits::{Allowed, LimitError};
use crate::observed::{HostState, Loop, Observed, Seen};
use crate::step::StepError;
use crate::{Settings, source};
pub(crate) use fetch::places;
use group::Group;

/// Groups of hosts that are looked at side by side: one that hangs takes half a minute for each question, and holds few
/// others up. Those of one group are at most as many as a source may have.
const GROUPS_AT_ONCE: usize = 16;

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
    let states: Vec<_> = looks.buffer_unordered(GROUPS_AT_ONCE).collect().await;
    for (group, states) in states {
        for state in states {
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

/// What a look at hosts goes by.
struct Turn<'a> {
    client: &'a Client,
    settings: &'a Settings,
    observed: &'a Observed,
    refused: BTreeMap<branch::Key, String>,
    now: Timestamp,
}

impl Turn<'_> {
    /// Looks at one group of hosts, its source, and its branches; gives how each host stands.
    async fn take<'g>(&self, group: &'g Group) -> (&'g Group, Vec<HostState>) {
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
            return (group, Vec::new());
        }
        if within.is_empty() && group.source.is_none() {
            return (group, Vec::new());
        }
        (group, self.look_at(group, &within).await)
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

fn tell(observed: &Observed, error: &StepError) {
    observed.figures.failed(error.of());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(cause, "{error}");
}
